import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import org.apache.kafka.common.utils.Exit;

/**
 * Kafka's command line tools, one after the other in one process: starting a JVM for each costs ten
 * times as much as what they do.
 *
 * <p>Tools FILE; one tool a line, fields separated by tabs: NAME CLASS STDIN [ARGUMENT...], where
 * \n in STDIN is the end of a line. What each printed goes to standard output, after a line
 * "=== NAME CODE"; its code is what it would have ended its process with. A tool that does not come back in
 * time has the code -1.
 */
public class Tools {
    static final int SECONDS_MAX = 30;

    /** The code of the tool to which a thread belongs; its threads inherit it. */
    static final InheritableThreadLocal<CompletableFuture<Integer>> CODE =
        new InheritableThreadLocal<>();
    /** What a tool wants to have done at the end of its process: a producer is closed so. */
    static final Queue<Runnable> HOOKS = new ConcurrentLinkedQueue<>();

    /** A tool has called exit; it must not go on. */
    static class Ended extends RuntimeException {
        Ended() {
            super("a tool has ended", null, false, false);
        }
    }

    /** Standard output and error, for good: some tools keep the stream that they find first. */
    static class Switch extends OutputStream {
        volatile ByteArrayOutputStream to = new ByteArrayOutputStream();

        @Override
        public void write(int one) {
            to.write(one);
        }

        @Override
        public void write(byte[] bytes, int from, int count) {
            to.write(bytes, from, count);
        }
    }

    public static void main(String[] args) throws Exception {
        PrintStream out = System.out;
        Switch printed = new Switch();
        System.setOut(new PrintStream(printed, true));
        System.setErr(new PrintStream(printed, true));
        // Some tools catch what is thrown here and exit once more: the first code counts.
        Exit.setExitProcedure((code, message) -> {
            CODE.get().complete(code);
            throw new Ended();
        });
        Exit.setHaltProcedure((code, message) -> {
            CODE.get().complete(code);
            throw new Ended();
        });
        Exit.setShutdownHookAdder((name, action) -> HOOKS.add(action));
        for (String line : Files.readAllLines(Path.of(args[0]))) {
            String[] words = line.split("\t", -1);
            printed.to = new ByteArrayOutputStream();
            String input = words[2].replace("\\n", "\n");
            System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
            int code = run(words[1], Arrays.copyOfRange(words, 3, words.length));
            out.println("=== " + words[0] + " " + code);
            out.println(printed.to.toString(StandardCharsets.UTF_8));
        }
        out.flush();
        Runtime.getRuntime().halt(0);
    }

    static int run(String name, String[] arguments) throws Exception {
        CompletableFuture<Integer> ended = new CompletableFuture<>();
        Thread thread = new Thread(() -> {
            CODE.set(ended);
            try {
                Class.forName(name).getMethod("main", String[].class)
                    .invoke(null, (Object) arguments);
                ended.complete(0);
            } catch (Throwable problem) {
                if (ended.complete(-2)) {
                    problem.printStackTrace();
                }
            }
        });
        thread.setDaemon(true);
        thread.start();
        try {
            int code = ended.get(SECONDS_MAX, TimeUnit.SECONDS);
            thread.join(SECONDS_MAX * 1000);
            for (Runnable hook = HOOKS.poll(); hook != null; hook = HOOKS.poll()) {
                Thread last = new Thread(hook);
                last.setDaemon(true);
                last.start();
                last.join(SECONDS_MAX * 1000);
            }
            return code;
        } catch (TimeoutException late) {
            return -1;
        }
    }
}
