"""The foreign clients: Kafka's perf tools and librdkafka's rdkafka_performance, run and read.

The Java tools get the heap that Kafka's own scripts give them, and the JVM's own choice of all
else; only log levels are set. A producer's first tenth of records is for warming up and not in its
latencies and rate.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from harness import java

from .measuring import percentile

SECONDS_MAX = 900
HEAP = "512m"
WARM_UP_SHARE = 0.1
LATENCIES = re.compile(
    r"([\d.]+) records/sec .*?([\d.]+) ms avg latency, ([\d.]+) ms max latency, (\d+) ms 50th, "
    r"(\d+) ms 95th, (\d+) ms 99th, (\d+) ms 99\.9th")
DELIVERED = re.compile(r"(\d+) delivered \(offset -?\d+, (\d+) failed\) in (\d+)ms")
CONSUMED = re.compile(r"% (\d+) messages \((\d+) bytes\) consumed in (\d+)ms")
# Of the program, 1000 ms; of librdkafka, and so of its users, this.
LINGER_MS = 5
FETCH_WAIT_MS = 10


def tool(main_class, *arguments):
    """A tool of Kafka's, its standard output as text."""
    command = java.java_command("4.3.0", main_class, HEAP)
    command.remove("-XX:+UseSerialGC")
    command.remove("-XX:TieredStopAtLevel=1")
    return output(command + [str(one) for one in arguments])


def output(command):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=SECONDS_MAX)
    if done.returncode:
        raise AssertionError(f"{command[-1]} ended with {done.returncode}\n"
                             f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def java_produce(bootstrap, topic, records, record_bytes, rate=-1, settings=()):
    """kafka-producer-perf-test, acks=all; `rate` is records a second, -1 all that goes."""
    text = tool(
        java.TOOLS["4.3.0"]["producer-perf-test"], "--topic", topic, "--num-records", records,
        "--record-size", record_bytes, "--throughput", rate, "--warmup-records",
        int(records * WARM_UP_SHARE), "--bootstrap-server", bootstrap, "--command-property",
        "acks=all", *settings)
    return produced(text, record_bytes)


def produced(text, record_bytes):
    """The last summary of the tool is that of what followed the warming up."""
    found = LATENCIES.findall(text)
    if not found:
        raise AssertionError(f"no summary in: {text[-2000:]}")
    rate, average, _, p50, _, p99, p999 = found[-1]
    return {
        "records/s": float(rate), "MB/s": float(rate) * record_bytes / 1e6,
        "mean ms": float(average), "p50 ms": float(p50), "p99 ms": float(p99),
        "p99.9 ms": float(p999),
    }


def java_consume(bootstrap, topic, records):
    """kafka-consumer-perf-test; its rate without the time to join the group."""
    text = tool(
        java.TOOLS["4.3.0"]["consumer-perf-test"], "--topic", topic, "--num-records", records,
        "--bootstrap-server", bootstrap, "--timeout", "60000")
    return consumed(text)


def consumed(text):
    head, row = [line.split(", ") for line in text.strip().splitlines()[-2:]]
    columns = dict(zip(head, row))
    return {"records/s": float(columns["fetch.nMsg.sec"]),
            "MB/s": float(columns["fetch.MB.sec"]) * (1 << 20) / 1e6}


def end_to_end(bootstrap, topic, records, record_bytes):
    """Kafka's EndToEndLatency: one record at a time, from producer to consumer, acks=all."""
    return end_to_end_latency(tool("org.apache.kafka.tools.EndToEndLatency", bootstrap, topic,
                                   records, "all", record_bytes))


def end_to_end_latency(text):
    average = re.search(r"Avg latency: ([\d.]+) ms", text)
    row = re.search(r"50th = (\d+), 99th = (\d+), 99\.9th = (\d+)", text)
    if not average or not row:
        raise AssertionError(f"no latencies in: {text[-2000:]}")
    return {"mean ms": float(average[1]), "p50 ms": float(row[1]), "p99 ms": float(row[2]),
            "p99.9 ms": float(row[3])}


class Program:
    """A running rdkafka_performance. What it says goes into a file: a consumer has a line for each
    time that it reaches a partition's end, and a pipe that is full would hold it up until somebody
    reads, the one that keeps up best before all others."""

    def __init__(self, *arguments):
        command = [os.environ["ODRADEK_TEST_RDKAFKA_PERFORMANCE"], *map(str, arguments)]
        self.said = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=self.said, stderr=subprocess.STDOUT)

    def output(self):
        self.process.wait(timeout=SECONDS_MAX)
        with self.said:
            self.said.seek(0)
            text = self.said.read()
        if self.process.returncode:
            raise AssertionError(f"rdkafka_performance ended with {self.process.returncode}\n"
                                 f"{text[-2000:]}")
        return text

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.said.close()


def native_produce(bootstrap, topic, records, record_bytes, producers, scratch):
    """So many rdkafka_performance at once, acks=all, the records divided among them."""
    paths = [Path(scratch) / f"latencies-{number}" for number in range(producers)]
    each = records // producers
    running = [
        Program("-P", "-t", topic, "-b", bootstrap, "-s", record_bytes, "-c", each, "-a", "-1",
                "-l", "-A", path, "-i", 3_600_000, "-X", f"linger.ms={LINGER_MS}")
        for path in paths
    ]
    texts = finished(running)
    times = sorted(int(line) / 1000 for path in paths for line in path.read_text().split())
    for path in paths:
        path.unlink()
    return natively_produced(texts, times, record_bytes)


def finished(programs):
    """What all of them said; none is left running if one fails."""
    try:
        return [program.output() for program in programs]
    finally:
        for program in programs:
            if program.process.poll() is None:
                program.kill()


def natively_produced(texts, times_ms, record_bytes):
    """They begin together, so the longest of them took as long as all."""
    rows = [DELIVERED.findall(text)[-1] for text in texts]
    assert not any(int(failed) for _, failed, _ in rows), rows
    rate = 1000 * sum(int(count) for count, _, _ in rows) / max(int(ms) for _, _, ms in rows)
    return {
        "records/s": rate, "MB/s": rate * record_bytes / 1e6,
        "mean ms": sum(times_ms) / len(times_ms), "p50 ms": percentile(times_ms, 50),
        "p99 ms": percentile(times_ms, 99), "p99.9 ms": percentile(times_ms, 99.9),
    }


def native_consumers(bootstrap, topic, records, consumers, partitions):
    """So many rdkafka_performance that each read the whole topic; started, not waited for."""
    ask = [argument for number in range(partitions) for argument in ("-p", number)]
    # It has one fetch on its way at a time, so one that waits at the end of some partitions would
    # hold up the others: half a second, of reading that takes a tenth.
    ask += ["-X", f"fetch.wait.max.ms={FETCH_WAIT_MS}"]
    return [
        Program("-C", "-t", topic, "-b", bootstrap, *ask, "-o", "beginning", "-c", records, "-i",
                3_600_000)
        for _ in range(consumers)
    ]


def natively_consumed(texts):
    """All of them together; each counts from its first record on."""
    rows = [CONSUMED.findall(text)[-1] for text in texts]
    seconds = max(int(ms) for _, _, ms in rows) / 1000 or 0.001
    return {"records/s": sum(int(count) for count, _, _ in rows) / seconds,
            "MB/s": sum(int(size) for _, size, _ in rows) / 1e6 / seconds}
