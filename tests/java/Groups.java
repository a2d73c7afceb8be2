import java.io.*;
import java.time.Duration;
import java.util.*;
import java.util.stream.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.*;

/**
 * Consumers on a leash: one command a line on standard input, one answer a line on standard output,
 * fields separated by tabs. So a test says what each member does, and when.
 *
 * <p>Groups BOOTSTRAP, then: open NAME GROUP consumer|classic TOPIC|~EXPRESSION [KEY=VALUE...];
 * poll NAME MS; assignment NAME; commit NAME; committed NAME TOPIC PARTITION; close NAME;
 * leave NAME; quit. An expression is the broker's to match; close keeps a static member, leave
 * takes it out of its group.
 */
public class Groups {
    static final Map<String, KafkaConsumer<byte[], String>> CONSUMERS = new HashMap<>();
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
                answer = "failed\t" + problem.getClass().getSimpleName() + "\t"
                    + problem.getMessage();
            }
            System.out.println(answer.replace('\n', ' '));
            System.out.flush();
        }
    }

    static String command(String[] words) {
        KafkaConsumer<byte[], String> consumer = CONSUMERS.get(words[1]);
        switch (words[0]) {
            case "open":
                open(words);
                return "";
            case "poll": {
                StringBuilder out = new StringBuilder();
                consumer.poll(Duration.ofMillis(Long.parseLong(words[2]))).forEach(record ->
                    out.append('\t').append(record.topic()).append(' ').append(record.partition())
                        .append(' ').append(record.offset()));
                return out.toString();
            }
            case "assignment":
                return consumer.assignment().stream().map(Groups::text).sorted()
                    .map(it -> "\t" + it).collect(Collectors.joining());
            case "commit":
                consumer.commitSync();
                return "";
            case "committed": {
                TopicPartition place = new TopicPartition(words[2], Integer.parseInt(words[3]));
                OffsetAndMetadata found = consumer.committed(Set.of(place)).get(place);
                return "\t" + (found == null ? -1 : found.offset());
            }
            case "close":
                CONSUMERS.remove(words[1]).close();
                return "";
            case "leave":
                CONSUMERS.remove(words[1]).close(CloseOptions.groupMembershipOperation(
                    CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
                return "";
            default:
                throw new IllegalArgumentException(words[0]);
        }
    }

    static void open(String[] words) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("group.id", words[2]);
        config.put("group.protocol", words[3]);
        config.put("enable.auto.commit", "false");
        config.put("auto.offset.reset", "earliest");
        config.put("max.poll.records", "50");
        config.put("metadata.max.age.ms", "1000");
        for (int at = 5; at < words.length; at++) {
            String[] pair = words[at].split("=", 2);
            config.put(pair[0], pair[1]);
        }
        KafkaConsumer<byte[], String> consumer = new KafkaConsumer<>(
            config, new ByteArrayDeserializer(), new StringDeserializer());
        if (words[4].startsWith("~")) {
            consumer.subscribe(new SubscriptionPattern(words[4].substring(1)));
        } else {
            consumer.subscribe(List.of(words[4].split(",")));
        }
        CONSUMERS.put(words[1], consumer);
    }

    static String text(TopicPartition place) {
        return place.topic() + " " + place.partition();
    }
}
