import java.io.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.*;

/**
 * Share consumers on a leash: one command a line on standard input, one answer a line on standard
 * output, fields separated by tabs. So a test says what each member does, and when.
 *
 * <p>Share BOOTSTRAP, then: open NAME GROUP TOPIC implicit|explicit [KEY=VALUE...]; poll NAME MS;
 * ack NAME PARTITION OFFSET ACCEPT|RELEASE|REJECT; commit NAME; close NAME; produce TOPIC
 * PARTITION FIRST COUNT; config GROUP KEY VALUE; transaction TOPIC FIRST COUNT commit|abort; quit.
 */
public class Share {
    static final Map<String, KafkaShareConsumer<byte[], String>> CONSUMERS = new HashMap<>();
    static final Map<String, Map<String, ConsumerRecord<byte[], String>>> POLLED = new HashMap<>();
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] words = line.split(" ");
            if (words[0].equals("quit")) {
                return;
            }
            String answer;
            try {
                answer = "ok" + command(words);
            } catch (Exception problem) {
                boolean wrapped = problem instanceof ExecutionException;
                Throwable cause = wrapped ? problem.getCause() : problem;
                answer = "failed\t" + cause.getClass().getSimpleName() + "\t" + cause.getMessage();
            }
            System.out.println(answer.replace('\n', ' '));
        }
    }

    static String command(String[] words) throws Exception {
        switch (words[0]) {
            case "open":
                return open(words);
            case "poll":
                return poll(words[1], Long.parseLong(words[2]));
            case "ack":
                CONSUMERS.get(words[1]).acknowledge(
                        POLLED.get(words[1]).get(words[2] + "-" + words[3]),
                        AcknowledgeType.valueOf(words[4]));
                return "";
            case "commit":
                return commit(words[1]);
            case "close":
                CONSUMERS.remove(words[1]).close(Duration.ofSeconds(20));
                return "";
            case "produce":
                return produce(words, null);
            case "transaction":
                return produce(
                        new String[] {"", words[1], "0", words[2], words[3]}, words[4]);
            case "config":
                return config(words[1], words[2], words[3]);
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    static String open(String[] words) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("group.id", words[2]);
        properties.put("client.id", words[1]);
        properties.put("share.acknowledgement.mode", words[4]);
        for (String pair : Arrays.copyOfRange(words, 5, words.length)) {
            String[] parts = pair.split("=", 2);
            properties.put(parts[0], parts[1]);
        }
        KafkaShareConsumer<byte[], String> consumer =
                new KafkaShareConsumer<>(
                        properties, new ByteArrayDeserializer(), new StringDeserializer());
        consumer.subscribe(List.of(words[3].split(",")));
        CONSUMERS.put(words[1], consumer);
        POLLED.put(words[1], new HashMap<>());
        return "";
    }

    /** Each record as partition:offset:deliveries:value. */
    static String poll(String name, long ms) {
        Map<String, ConsumerRecord<byte[], String>> polled = POLLED.get(name);
        polled.clear();
        StringBuilder answer = new StringBuilder();
        for (ConsumerRecord<byte[], String> record :
                CONSUMERS.get(name).poll(Duration.ofMillis(ms))) {
            polled.put(record.partition() + "-" + record.offset(), record);
            answer.append('\t').append(record.partition()).append(':').append(record.offset());
            answer.append(':').append(record.deliveryCount().map(n -> (int) n).orElse(-1));
            answer.append(':').append(record.value());
        }
        return answer.toString();
    }

    /** Each partition as partition:error, or partition:none. */
    static String commit(String name) {
        StringBuilder answer = new StringBuilder();
        CONSUMERS.get(name).commitSync(Duration.ofSeconds(20)).forEach((partition, error) -> {
            String what = error.map(e -> e.getClass().getSimpleName()).orElse("none");
            answer.append('\t').append(partition.partition()).append(':').append(what);
        });
        return answer.toString();
    }

    static String produce(String[] words, String end) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("linger.ms", "5");
        if (end != null) {
            properties.put("transactional.id", UUID.randomUUID().toString());
        }
        int first = Integer.parseInt(words[3]);
        try (KafkaProducer<byte[], String> producer = new KafkaProducer<>(
                properties, new ByteArraySerializer(), new StringSerializer())) {
            if (end != null) {
                producer.initTransactions();
                producer.beginTransaction();
            }
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int i = first; i < first + Integer.parseInt(words[4]); i++) {
                sent.add(producer.send(new ProducerRecord<>(
                        words[1], Integer.parseInt(words[2]), null, "v" + i)));
            }
            for (Future<RecordMetadata> future : sent) {
                future.get();
            }
            if ("commit".equals(end)) {
                producer.commitTransaction();
            } else if (end != null) {
                producer.abortTransaction();
            }
        }
        return "";
    }

    /** Sets a configuration of a group. */
    static String config(String group, String key, String value) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        try (Admin admin = Admin.create(properties)) {
            ConfigResource resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            AlterConfigOp set =
                    new AlterConfigOp(new ConfigEntry(key, value), AlterConfigOp.OpType.SET);
            admin.incrementalAlterConfigs(Map.of(resource, List.of(set))).all().get();
        }
        return "";
    }
}
