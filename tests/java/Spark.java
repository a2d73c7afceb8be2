import java.time.Duration;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/**
 * Reads a topic as Spark's source does, with the options of a DataFrame reader: what begins with
 * "kafka." goes to the client, names in "subscribe" are trimmed (KafkaSourceProvider), an admin
 * client asks for partitions and offsets, and a consumer without a subscription reads the range.
 *
 * <p>Spark OPTION=VALUE...; the values that were there at the start go to standard output.
 */
public class Spark {
    public static void main(String[] args) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (String arg : args) {
            int equals = arg.indexOf('=');
            options.put(arg.substring(0, equals), arg.substring(equals + 1));
        }
        Map<String, Object> client = new HashMap<>();
        options.forEach((key, value) -> {
            if (key.startsWith("kafka.")) {
                client.put(key.substring("kafka.".length()), value);
            }
        });
        List<String> topics = Stream.of(options.get("subscribe").split(",")).map(String::trim)
            .filter(name -> !name.isEmpty()).collect(Collectors.toList());
        Map<TopicPartition, Long> from;
        Map<TopicPartition, Long> until;
        try (Admin admin = Admin.create(client)) {
            List<TopicPartition> places = admin.describeTopics(topics).allTopicNames().get()
                .values().stream().flatMap(topic -> topic.partitions().stream()
                    .map(partition -> new TopicPartition(topic.name(), partition.partition())))
                .collect(Collectors.toList());
            from = offsets(admin, places, OffsetSpec.earliest());
            until = offsets(admin, places, OffsetSpec.latest());
        }
        client.put("group.id", "spark-kafka-source-" + UUID.randomUUID() + "-executor");
        client.put("auto.offset.reset", "none");
        client.put("enable.auto.commit", "false");
        client.put("receive.buffer.bytes", 65536);
        client.put("key.deserializer", ByteArrayDeserializer.class.getName());
        client.put("value.deserializer", ByteArrayDeserializer.class.getName());
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(client)) {
            consumer.assign(from.keySet());
            from.forEach(consumer::seek);
            while (from.keySet().stream().anyMatch(at -> consumer.position(at) < until.get(at))) {
                consumer.poll(Duration.ofMillis(500)).forEach(
                    record -> System.out.println(new String(record.value())));
            }
        }
    }

    static Map<TopicPartition, Long> offsets(Admin admin, List<TopicPartition> places,
            OffsetSpec spec) throws Exception {
        Map<TopicPartition, OffsetSpec> asked =
            places.stream().collect(Collectors.toMap(place -> place, place -> spec));
        return admin.listOffsets(asked).all().get().entrySet().stream()
            .collect(Collectors.toMap(Map.Entry::getKey, found -> found.getValue().offset()));
    }
}
