import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.*;

/**
 * Copies one topic to another, each batch of records with the consumer's offsets in one transaction,
 * as Kafka's documentation describes it: {@code ExactlyOnce BOOTSTRAP FROM TO GROUP ID DONE}. Ends
 * when the file DONE names a count and so many records are copied. Prints how often it began anew.
 */
public class ExactlyOnce {
    static final Map<TopicPartition, Long> copied = new HashMap<>();

    public static void main(String[] args) throws Exception {
        Path done = Path.of(args[5]);
        int starts = 0;
        int aborts = 0;
        while (true) {
            starts++;
            try (KafkaConsumer<byte[], byte[]> consumer = consumer(args[0], args[3]);
                    KafkaProducer<byte[], byte[]> producer = producer(args[0], args[4])) {
                producer.initTransactions();
                consumer.subscribe(List.of(args[1]));
                while (true) {
                    try {
                        if (copy(consumer, producer, args[2]) == 0 && finished(done)) {
                            System.out.println("starts " + starts + " aborts " + aborts);
                            return;
                        }
                    } catch (ProducerFencedException
                            | OutOfOrderSequenceException
                            | InvalidProducerEpochException
                            | AuthorizationException e) {
                        throw e;
                    } catch (KafkaException e) {
                        System.err.println("aborts after " + e);
                        aborts++;
                        producer.abortTransaction();
                        backToCommitted(consumer);
                    }
                }
            } catch (KafkaException | IllegalStateException e) {
                System.err.println("begins anew after " + e);
            }
        }
    }

    static int copy(
            KafkaConsumer<byte[], byte[]> consumer,
            KafkaProducer<byte[], byte[]> producer,
            String to) {
        ConsumerRecords<byte[], byte[]> records = consumer.poll(Duration.ofMillis(200));
        if (records.isEmpty()) {
            return 0;
        }
        producer.beginTransaction();
        Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
        Map<TopicPartition, Long> next = new HashMap<>();
        for (ConsumerRecord<byte[], byte[]> record : records) {
            producer.send(new ProducerRecord<>(to, record.key(), record.value()));
            TopicPartition partition = new TopicPartition(record.topic(), record.partition());
            offsets.put(partition, new OffsetAndMetadata(record.offset() + 1));
            next.put(partition, record.offset() + 1);
        }
        producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
        producer.commitTransaction();
        copied.putAll(next);
        return records.count();
    }

    static void backToCommitted(KafkaConsumer<byte[], byte[]> consumer) {
        Map<TopicPartition, OffsetAndMetadata> committed = consumer.committed(consumer.assignment());
        for (TopicPartition partition : consumer.assignment()) {
            OffsetAndMetadata offset = committed.get(partition);
            if (offset == null) {
                consumer.seekToBeginning(List.of(partition));
            } else {
                consumer.seek(partition, offset.offset());
            }
        }
    }

    /** The input has no markers and begins at 0, so offsets count its records. */
    static boolean finished(Path done) throws Exception {
        if (!Files.exists(done)) {
            return false;
        }
        String text = Files.readString(done).trim();
        long sum = copied.values().stream().mapToLong(Long::longValue).sum();
        return !text.isEmpty() && sum >= Long.parseLong(text);
    }

    static KafkaConsumer<byte[], byte[]> consumer(String bootstrap, String group) {
        Properties properties = common(bootstrap);
        properties.put("group.id", group);
        properties.put("auto.offset.reset", "earliest");
        properties.put("enable.auto.commit", "false");
        properties.put("isolation.level", "read_committed");
        properties.put("max.poll.records", "20");
        properties.put("session.timeout.ms", "6000");
        properties.put("heartbeat.interval.ms", "1000");
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        return new KafkaConsumer<>(properties, bytes, bytes);
    }

    static KafkaProducer<byte[], byte[]> producer(String bootstrap, String id) {
        Properties properties = common(bootstrap);
        properties.put("transactional.id", id);
        properties.put("linger.ms", "0");
        ByteArraySerializer bytes = new ByteArraySerializer();
        return new KafkaProducer<>(properties, bytes, bytes);
    }

    static Properties common(String bootstrap) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("reconnect.backoff.max.ms", "200");
        properties.put("retry.backoff.max.ms", "200");
        return properties;
    }
}
