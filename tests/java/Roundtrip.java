import java.io.*;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.header.*;
import org.apache.kafka.common.serialization.*;

/**
 * Sends records from a file, or writes the records of topics to files, byte for byte.
 *
 * <p>Roundtrip PROPERTIES produce FILE TOPIC=CODEC... ; Roundtrip PROPERTIES consume FOLDER COUNT
 * TOPIC... The file: a count, then key, value and a list of headers each; sizes and counts are
 * 32 bit, -1 is null.
 */
public class Roundtrip {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        try (Reader reader = new FileReader(args[0])) {
            properties.load(reader);
        }
        if (args[1].equals("produce")) {
            for (String pair : Arrays.copyOfRange(args, 3, args.length)) {
                String[] parts = pair.split("=");
                produce(properties, new File(args[2]), parts[0], parts[1]);
            }
        } else {
            int count = Integer.parseInt(args[3]);
            for (String topic : Arrays.copyOfRange(args, 4, args.length)) {
                consume(properties, new File(args[2], topic), topic, count);
            }
        }
    }

    static void produce(Properties base, File file, String topic, String codec) throws Exception {
        Properties properties = new Properties();
        properties.putAll(base);
        properties.put("compression.type", codec);
        properties.put("linger.ms", "20");
        properties.put("acks", "all");
        ByteArraySerializer bytes = new ByteArraySerializer();
        try (DataInputStream in =
                        new DataInputStream(new BufferedInputStream(new FileInputStream(file)));
                KafkaProducer<byte[], byte[]> producer =
                        new KafkaProducer<>(properties, bytes, bytes)) {
            int count = in.readInt();
            List<java.util.concurrent.Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = 0; i < count; i++) {
                ProducerRecord<byte[], byte[]> record =
                        new ProducerRecord<>(topic, 0, read(in), read(in));
                int headers = in.readInt();
                for (int h = 0; h < headers; h++) {
                    String name = new String(read(in), "UTF-8");
                    record.headers().add(name, read(in));
                }
                sent.add(producer.send(record));
            }
            for (var future : sent) {
                future.get();
            }
        }
    }

    static void consume(Properties base, File file, String topic, int count) throws Exception {
        Properties properties = new Properties();
        properties.putAll(base);
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        try (DataOutputStream out =
                        new DataOutputStream(new BufferedOutputStream(new FileOutputStream(file)));
                KafkaConsumer<byte[], byte[]> consumer =
                        new KafkaConsumer<>(properties, bytes, bytes)) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            out.writeInt(count);
            long deadline = System.nanoTime() + 60_000_000_000L;
            for (int got = 0; got < count; ) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(topic + ": only " + got + " of " + count);
                }
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                    got++;
                    write(out, record.key());
                    write(out, record.value());
                    Header[] headers = record.headers().toArray();
                    out.writeInt(headers.length);
                    for (Header header : headers) {
                        write(out, header.key().getBytes("UTF-8"));
                        write(out, header.value());
                    }
                }
            }
        }
    }

    static byte[] read(DataInputStream in) throws IOException {
        int size = in.readInt();
        return size < 0 ? null : in.readNBytes(size);
    }

    static void write(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes == null ? -1 : bytes.length);
        if (bytes != null) {
            out.write(bytes);
        }
    }
}
