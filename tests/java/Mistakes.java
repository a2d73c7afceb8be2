import java.io.*;
import java.nio.file.*;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.*;

/**
 * Clients that are set up wrongly, all at the same time in one process: what does each one say?
 *
 * <p>Mistakes FILE; one client a line, fields separated by tabs: NAME VERB TOPIC SECONDS
 * [KEY=VALUE...]. VERB is list (an admin client lists the topics), send (a producer), read (a
 * consumer) or start (no client: Kafka's broker reads its configuration). One line on standard
 * output for each: NAME and the exception with its causes, or "fine". The client's log lines, on
 * standard error, carry NAME as their client id.
 */
public class Mistakes {
    public static void main(String[] args) throws Exception {
        List<String> lines = Files.readAllLines(Path.of(args[0]));
        ExecutorService threads = Executors.newFixedThreadPool(lines.size(), task -> {
            Thread thread = new Thread(task);
            thread.setDaemon(true);
            return thread;
        });
        List<Future<?>> all = new ArrayList<>();
        for (String line : lines) {
            all.add(threads.submit(() -> say(line.split("\t"))));
        }
        for (Future<?> one : all) {
            one.get();
        }
        System.out.flush();
        // The clients' own threads would otherwise go on dialling.
        Runtime.getRuntime().halt(0);
    }

    static void say(String[] words) {
        String said = "fine";
        try {
            go(words);
        } catch (Throwable problem) {
            StringBuilder text = new StringBuilder();
            for (Throwable at = problem; at != null; at = at.getCause()) {
                text.append(at == problem ? "" : " / caused by ").append(at);
            }
            said = text.toString();
        }
        synchronized (System.out) {
            System.out.println(words[0] + "\t" + said.replace('\n', ' '));
        }
    }

    static void go(String[] words) throws Exception {
        Properties config = new Properties();
        for (int at = 4; at < words.length; at++) {
            int equals = words[at].indexOf('=');
            config.put(words[at].substring(0, equals), words[at].substring(equals + 1));
        }
        if (words[1].equals("start")) {
            kafka.server.KafkaConfig.fromProps(config);
            return;
        }
        int seconds = Integer.parseInt(words[3]);
        String wait_ms = String.valueOf(seconds * 1000);
        config.put("client.id", words[0]);
        config.put("default.api.timeout.ms", wait_ms);
        config.put("request.timeout.ms", wait_ms);
        switch (words[1]) {
            case "list":
                try (Admin admin = Admin.create(config)) {
                    admin.listTopics().names().get(seconds + 2, TimeUnit.SECONDS);
                }
                break;
            case "send":
                config.put("max.block.ms", wait_ms);
                config.put("delivery.timeout.ms", wait_ms);
                config.put("linger.ms", "0");
                try (Producer<byte[], byte[]> producer = new KafkaProducer<>(
                        config, new ByteArraySerializer(), new ByteArraySerializer())) {
                    producer.send(new ProducerRecord<>(words[2], new byte[] {1})).get();
                }
                break;
            case "read":
                config.put("group.id", words[0]);
                try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(
                        config, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
                    consumer.subscribe(List.of(words[2]));
                    consumer.poll(Duration.ofSeconds(seconds));
                }
                break;
            default:
                throw new IllegalArgumentException(words[1]);
        }
    }
}
