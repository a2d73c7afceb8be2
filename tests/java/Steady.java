import java.io.*;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.serialization.*;

/**
 * A producer that sends a record of some bytes now and then, and at its end tells how many were
 * acknowledged, what went wrong, and its own metrics of some names, all their tags together.
 *
 * <p>Steady PROPERTIES TOPIC SECONDS BYTES PAUSE_MS METRIC...
 */
public class Steady {
    public static void main(String[] args) throws Exception {
        Properties properties = new Properties();
        try (Reader reader = new FileReader(args[0])) {
            properties.load(reader);
        }
        properties.putIfAbsent("delivery.timeout.ms", "60000");
        byte[] value = new byte[Integer.parseInt(args[3])];
        long pauseMs = Long.parseLong(args[4]);
        long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(Long.parseLong(args[2]));
        long acknowledged = 0;
        Map<String, Integer> failures = new TreeMap<>();
        Map<String, Double> metrics = new TreeMap<>();
        ByteArraySerializer bytes = new ByteArraySerializer();
        KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(properties, bytes, bytes);
        while (System.nanoTime() < end) {
            try {
                producer.send(new ProducerRecord<>(args[1], value)).get();
                acknowledged++;
            } catch (ExecutionException problem) {
                failures.merge(problem.getCause().getClass().getSimpleName(), 1, Integer::sum);
            } catch (KafkaException problem) {
                failures.merge(problem.getClass().getSimpleName(), 1, Integer::sum);
            }
            Thread.sleep(pauseMs);
        }
        for (Map.Entry<MetricName, ? extends Metric> entry : producer.metrics().entrySet()) {
            String name = entry.getKey().name();
            boolean wanted = Arrays.asList(args).subList(5, args.length).contains(name);
            if (wanted && entry.getValue().metricValue() instanceof Double number) {
                metrics.merge(name, Double.isNaN(number) ? 0 : number, Math::max);
            }
        }
        producer.close();
        System.out.println("acknowledged " + acknowledged);
        failures.forEach((name, count) -> System.out.println("failed:" + name + " " + count));
        metrics.forEach((name, number) -> System.out.println(name + " " + number));
    }
}
