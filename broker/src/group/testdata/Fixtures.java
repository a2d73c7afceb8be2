// Writes broker/src/group/testdata/records.txt: bytes as Kafka 4.3.0's own classes write them.
// Run with a class path of org.apache.kafka:kafka-group-coordinator:4.3.0 and its dependencies:
//   java -cp 'lib/*' Fixtures.java > records.txt
import java.util.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.coordinator.group.*;
import org.apache.kafka.coordinator.group.generated.*;
import org.apache.kafka.coordinator.common.runtime.CoordinatorRecord;

public class Fixtures {
    static void line(String name, Message message, short version) {
        line(name, MessageUtil.toVersionPrefixedBytes(version, message));
    }

    static void line(String name, byte[] bytes) {
        System.out.println(name + " " + HexFormat.of().formatHex(bytes));
    }

    static OffsetCommitValue offset() {
        return new OffsetCommitValue().setOffset(1234567890123L).setLeaderEpoch(7)
            .setMetadata("naïve note").setCommitTimestamp(1700000000000L);
    }

    static GroupMetadataValue group() {
        return new GroupMetadataValue().setProtocolType("consumer").setGeneration(42)
            .setProtocol("range").setLeader("client-1").setCurrentStateTimestamp(1700000000123L)
            .setMembers(List.of(
                new GroupMetadataValue.MemberMetadata().setMemberId("client-1")
                    .setGroupInstanceId(null).setClientId("client").setClientHost("/10.0.0.1")
                    .setRebalanceTimeout(300000).setSessionTimeout(45000)
                    .setSubscription(new byte[] {0, 1, 2, 3}).setAssignment(new byte[] {9, 8}),
                new GroupMetadataValue.MemberMetadata().setMemberId("static-2")
                    .setGroupInstanceId("instance-2").setClientId("client")
                    .setClientHost("/10.0.0.2").setRebalanceTimeout(60000).setSessionTimeout(10000)
                    .setSubscription(new byte[0]).setAssignment(new byte[0])));
    }

    public static void main(String[] args) {
        for (short v = 0; v <= 1; v++) {
            line("offset-key-" + v, new OffsetCommitKey().setGroup("grüppe").setTopic("flights")
                .setPartition(11), v);
        }
        for (short v = 0; v <= 4; v++) {
            OffsetCommitValue value = offset();
            if (v == 1) value.setExpireTimestamp(1700000099999L);
            line("offset-value-" + v, value, v);
        }
        line("offset-value-4-with-topic-id", offset().setTopicId(new Uuid(5, 6)), (short) 4);
        line("group-key-2", new GroupMetadataKey().setGroup("grüppe"), (short) 2);
        for (short v = 0; v <= 4; v++) line("group-value-" + v, group(), v);
        line("group-value-3-empty", new GroupMetadataValue().setProtocolType("").setGeneration(0)
            .setProtocol(null).setLeader(null).setCurrentStateTimestamp(1700000000123L)
            .setMembers(List.of()), (short) 3);

        kafkaWrites("kafka-writes-offset", OptionalLong.empty());
        kafkaWrites("kafka-writes-expiring-offset", OptionalLong.of(1700000099999L));
    }

    static void kafkaWrites(String name, OptionalLong expireTimestampMs) {
        OffsetAndMetadata committed = new OffsetAndMetadata(1234567890123L, OptionalInt.of(7),
            "naïve note", 1700000000000L, expireTimestampMs, Uuid.ZERO_UUID);
        CoordinatorRecord record = GroupCoordinatorRecordHelpers.newOffsetCommitRecord(
            "grüppe", "flights", 11, committed);
        line(name, record.value().message(), record.value().version());
    }
}
