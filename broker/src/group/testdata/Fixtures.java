// Writes broker/src/group/testdata/records.txt: bytes as Kafka 4.3.0's own classes write them.
// Run with a class path of org.apache.kafka:kafka-group-coordinator:4.3.0 and its dependencies:
//   java -cp 'lib/*' Fixtures.java > records.txt
import java.util.*;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.message.ConsumerProtocolAssignment;
import org.apache.kafka.common.message.ConsumerProtocolSubscription;
import org.apache.kafka.common.protocol.*;
import org.apache.kafka.coordinator.group.*;
import org.apache.kafka.coordinator.group.generated.*;
import org.apache.kafka.coordinator.group.modern.MemberState;
import org.apache.kafka.coordinator.group.modern.consumer.*;
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

        consumerGroups();

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

    // Groups of the consumer protocol, as Kafka's coordinator writes them.
    static void consumerGroups() {
        Uuid topic = new Uuid(5, 6);
        ConsumerGroupMember member = new ConsumerGroupMember.Builder("member-1")
            .setInstanceId("instance-1").setRackId("rack-1").setClientId("client")
            .setClientHost("/10.0.0.1").setSubscribedTopicNames(List.of("flights", "ticks"))
            .setSubscribedTopicRegex("fl.*").setRebalanceTimeoutMs(300000)
            .setServerAssignorName("range").setMemberEpoch(7).setPreviousMemberEpoch(6)
            .setState(MemberState.UNREVOKED_PARTITIONS)
            .setAssignedPartitions(Map.of(topic, new TreeMap<>(Map.of(0, 7, 300, 6))))
            .setPartitionsPendingRevocation(Map.of(topic, Map.of(1, 5))).build();
        ConsumerGroupMember plain = new ConsumerGroupMember.Builder("member-2")
            .setClientId("client").setClientHost("/10.0.0.2")
            .setSubscribedTopicNames(List.of("flights")).setRebalanceTimeoutMs(60000)
            .setMemberEpoch(7).setPreviousMemberEpoch(6).setState(MemberState.STABLE).build();
        ConsumerGroupMember classic = new ConsumerGroupMember.Builder("member-3")
            .setClientId("client").setClientHost("/10.0.0.3")
            .setSubscribedTopicNames(List.of("flights")).setRebalanceTimeoutMs(60000)
            .setClassicMemberMetadata(new ConsumerGroupMemberMetadataValue.ClassicMemberMetadata()
                .setSessionTimeoutMs(45000).setSupportedProtocols(List.of(
                    new ConsumerGroupMemberMetadataValue.ClassicProtocol().setName("range")
                        .setMetadata(new byte[] {0, 1, 2, 3})))).build();
        record("consumer-group", GroupCoordinatorRecordHelpers.newConsumerGroupEpochRecord(
            "grüppe", 7, 0x0123456789abcdefL));
        record("consumer-group-hashless",
            GroupCoordinatorRecordHelpers.newConsumerGroupEpochRecord("grüppe", 7, 0L));
        for (ConsumerGroupMember it : List.of(member, plain, classic)) {
            record("consumer-" + it.memberId(), GroupCoordinatorRecordHelpers
                .newConsumerGroupMemberSubscriptionRecord("grüppe", it));
        }
        record("consumer-target",
            GroupCoordinatorRecordHelpers.newConsumerGroupTargetAssignmentRecord("grüppe",
                "member-1", Map.<Uuid, Set<Integer>>of(topic, new TreeSet<>(List.of(0, 300)))));
        // 4.3 adds the epoch of each partition; before, the same record was without it.
        record("consumer-current-4.3", GroupCoordinatorRecordHelpers
            .newConsumerGroupCurrentAssignmentRecord("grüppe", member));
        line("consumer-current-value", new ConsumerGroupCurrentMemberAssignmentValue()
            .setMemberEpoch(7).setPreviousMemberEpoch(6)
            .setState(MemberState.UNREVOKED_PARTITIONS.value())
            .setAssignedPartitions(List.of(owned(topic, 0, 300)))
            .setPartitionsPendingRevocation(List.of(owned(topic, 1))), (short) 0);
        record("consumer-current-empty", GroupCoordinatorRecordHelpers
            .newConsumerGroupCurrentAssignmentRecord("grüppe", plain));
        record("consumer-pattern",
            GroupCoordinatorRecordHelpers.newConsumerGroupRegularExpressionRecord("grüppe", "fl.*",
                new ResolvedRegularExpression(Set.of("flights"), 12L, 1700000000000L)));
        line("consumer-target-epoch-key", new ConsumerGroupTargetAssignmentMetadataKey()
            .setGroupId("grüppe"), (short) 6);
        line("consumer-target-epoch-value", new ConsumerGroupTargetAssignmentMetadataValue()
            .setAssignmentEpoch(7), (short) 0);
        line("consumer-target-epoch-4.3-value", new ConsumerGroupTargetAssignmentMetadataValue()
            .setAssignmentEpoch(7).setAssignmentTimestamp(1700000000000L), (short) 0);
        line("consumer-partition-metadata-key", new ConsumerGroupPartitionMetadataKey()
            .setGroupId("grüppe"), (short) 4);
        line("consumer-partition-metadata-value", new ConsumerGroupPartitionMetadataValue()
            .setTopics(List.of(new ConsumerGroupPartitionMetadataValue.TopicMetadata()
                .setTopicId(topic).setTopicName("flights").setNumPartitions(3))), (short) 0);
        line("subscription-0", subscription(), (short) 0);
        line("subscription-3", subscription().setOwnedPartitions(new ConsumerProtocolSubscription
            .TopicPartitionCollection(List.of(new ConsumerProtocolSubscription.TopicPartition()
                .setTopic("flights").setPartitions(List.of(0, 300))).iterator()))
            .setGenerationId(9).setRackId("rack-1"), (short) 3);
        ConsumerProtocolAssignment assigned = new ConsumerProtocolAssignment()
            .setAssignedPartitions(new ConsumerProtocolAssignment.TopicPartitionCollection(
                List.of(new ConsumerProtocolAssignment.TopicPartition().setTopic("flights")
                    .setPartitions(List.of(0, 300))).iterator())).setUserData(null);
        line("assignment-0", assigned, (short) 0);
        line("assignment-3", assigned, (short) 3);
        line("assignment-custom", assigned.duplicate()
            .setUserData(java.nio.ByteBuffer.wrap(new byte[] {1})), (short) 1);
    }

    static ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions owned(
        Uuid topic, Integer... partitions) {
        return new ConsumerGroupCurrentMemberAssignmentValue.TopicPartitions()
            .setTopicId(topic).setPartitions(List.of(partitions));
    }

    static ConsumerProtocolSubscription subscription() {
        return new ConsumerProtocolSubscription().setTopics(List.of("flights", "ticks"))
            .setUserData(null);
    }

    static void record(String name, CoordinatorRecord record) {
        line(name + "-key", record.key(), record.key().apiKey());
        line(name + "-value", record.value().message(), record.value().version());
    }
}
