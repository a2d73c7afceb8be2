"""The loads, one table: `tests/bench/run --list` shows it.

A load is a class with its numbers; `run(contestant, scale, scratch)` puts it on one contestant and
returns {figure: value}. Each makes a topic of its own and removes it, so that no load finds what
another one left. acks=all throughout.
"""

import itertools
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from harness import wire

from . import clients, measuring
from .contestants import Contestant, drop_cached
from .measuring import MIB, Meter

NUMBERS = itertools.count(1)
IDLE_SECONDS = 10
STARTS = 3


class Load:
    needs_librdkafka = False
    # The figure by which a server that is warm is told from one that gets warm; None where there is
    # nothing to warm up.
    cost = "server CPU ms/MB"
    # Whether a server that keeps nothing can serve it.
    suits_sink = False
    # A load with a rate or with a thing to count is not made smaller below this.
    records_min = 200

    def count(self, scale):
        return max(int(self.records * scale), self.records_min)


class Topic:
    """A topic for one load on one contestant."""

    def __init__(self, contestant, partitions):
        self.contestant, self.name = contestant, f"bench-{next(NUMBERS)}"
        contestant.create_topic(self.name, partitions)

    def __enter__(self):
        return self.name

    def __exit__(self, kind, *_):
        # Whoever is told to end does not wait for servers that may have been told the same.
        if kind is None or issubclass(kind, Exception):
            self.contestant.delete_topic(self.name)


@dataclass
class Produce(Load):
    """kafka-producer-perf-test, or with several producers rdkafka_performance, as fast as it goes
    or at a rate."""

    records: int
    record_bytes: int
    partitions: int
    producers: int = 1
    rate: int = -1
    batch_bytes: int = 0
    suits_sink = True

    @property
    def needs_librdkafka(self):
        return self.producers > 1

    @property
    def what(self):
        many = "1 producer (Java)" if self.producers == 1 else f"{self.producers} (librdkafka)"
        speed = "full speed" if self.rate < 0 else f"{self.rate:,} a second"
        batches = f", batches of {self.batch_bytes:,} bytes" if self.batch_bytes else ""
        return (f"records of {size(self.record_bytes)}, {counted(self.partitions, 'partition')}, "
                f"{many}, {speed}{batches}")

    def run(self, contestant, scale, scratch):
        records = self.count(scale)
        with Topic(contestant, self.partitions) as topic:
            meter = Meter(contestant)
            if self.producers == 1:
                batches = [f"batch.size={self.batch_bytes}"] if self.batch_bytes else []
                found = clients.java_produce(contestant.bootstrap, topic, records,
                                             self.record_bytes, self.rate, batches)
            else:
                found = clients.native_produce(contestant.bootstrap, topic, records,
                                               self.record_bytes, self.producers, scratch)
            return found | meter.figures(records * self.record_bytes)


@dataclass
class CatchUp(Load):
    """kafka-consumer-perf-test reads what a producer wrote before: from the page cache, or from
    the disk, the system having been asked to forget these files."""

    records: int
    record_bytes: int
    partitions: int
    cold: bool

    @property
    def what(self):
        place = "the disk (files dropped from the page cache)" if self.cold else "the page cache"
        return (f"one consumer (Java) reads records of {size(self.record_bytes)} of "
                f"{counted(self.partitions, 'partition')} from {place}")

    def run(self, contestant, scale, scratch):
        records = self.count(scale)
        with Topic(contestant, self.partitions) as topic:
            clients.java_produce(contestant.bootstrap, topic, records, self.record_bytes)
            contestant.settle()
            if self.cold:
                drop_cached(contestant.broker.data)
            meter = Meter(contestant)
            found = clients.java_consume(contestant.bootstrap, topic, records)
            return found | meter.figures(records * self.record_bytes)


@dataclass
class FromTail(Load):
    """Several rdkafka_performance read what was written last, as much as fits into a tail cache."""

    records: int
    record_bytes: int
    partitions: int
    consumers: int
    needs_librdkafka = True
    suits_sink = True

    @property
    def what(self):
        return (f"{self.consumers} consumers (librdkafka) each read the last {self.records:,} "
                f"records of {size(self.record_bytes)}, {counted(self.partitions, 'partition')}")

    def run(self, contestant, scale, scratch):
        records = self.count(scale)
        with Topic(contestant, self.partitions) as topic:
            clients.native_produce(contestant.bootstrap, topic, records, self.record_bytes, 1,
                                   scratch)
            meter = Meter(contestant)
            running = clients.native_consumers(contestant.bootstrap, topic, records,
                                               self.consumers, self.partitions)
            found = clients.natively_consumed(clients.finished(running))
            return found | meter.figures(self.consumers * records * self.record_bytes)


@dataclass
class Tail(Load):
    """rdkafka_performance reads what kafka-producer-perf-test writes meanwhile at full speed."""

    records: int
    record_bytes: int
    partitions: int
    consumers: int
    needs_librdkafka = True
    suits_sink = True

    @property
    def what(self):
        return (f"{self.consumers} consumers (librdkafka) read along while 1 producer (Java) "
                f"writes records of {size(self.record_bytes)} at full speed, "
                f"{counted(self.partitions, 'partition')}")

    def run(self, contestant, scale, scratch):
        records = self.count(scale)
        with Topic(contestant, self.partitions) as topic:
            meter = Meter(contestant)
            running = clients.native_consumers(contestant.bootstrap, topic, records,
                                               self.consumers, self.partitions)
            try:
                wrote = clients.java_produce(contestant.bootstrap, topic, records,
                                             self.record_bytes)
            except BaseException:
                for program in running:
                    program.kill()
                raise
            read = clients.natively_consumed(clients.finished(running))
            wrote |= {"consumed records/s": read["records/s"], "consumed MB/s": read["MB/s"]}
            return wrote | meter.figures(records * self.record_bytes)


@dataclass
class EndToEnd(Load):
    """Kafka's EndToEndLatency."""

    records: int
    record_bytes: int
    cost = "server CPU ms/record"

    @property
    def what(self):
        return (f"EndToEndLatency (Java): {self.records:,} records of {size(self.record_bytes)}, "
                "one at a time, from producer to consumer")

    def run(self, contestant, scale, scratch):
        records = self.count(scale)
        with Topic(contestant, 1) as topic:
            meter = Meter(contestant)
            found = clients.end_to_end(contestant.bootstrap, topic, records, self.record_bytes)
            cost = meter.figures(records * self.record_bytes)
            # A record at a time pays for the waiting, not for the megabytes.
            return found | {"peak memory MiB": cost["peak memory MiB"],
                            "server CPU ms/record": cost["server CPU ms/MB"]
                            * self.record_bytes / 1e6}


@dataclass
class Connections(Load):
    """Connections that said who they are and then nothing."""

    records: int
    cost = None

    @property
    def what(self):
        return f"{self.records:,} connections, idle after their first request"

    def run(self, contestant, scale, scratch):
        count = self.count(scale)
        pid = contestant.broker.process.pid
        before = measuring.resident_bytes(pid)
        opened = []
        try:
            for _ in range(count):
                connection = wire.Connection(contestant.bootstrap, timeout=30)
                opened.append(connection)
                connection.api_versions()
            grown = measuring.resident_bytes(pid) - before
        finally:
            for connection in opened:
                connection.socket.close()
        return {"grown MiB": grown / MIB, "KiB each": grown / 1024 / count}


@dataclass
class Start(Load):
    """A server of its own, on an empty folder, until it answers; then left alone."""

    records: int = STARTS
    records_min = 1
    cost = None

    @property
    def what(self):
        return "start on an empty folder until the first answer; memory when idle"

    def run(self, contestant, scale, scratch):
        seconds, resident = [], 0
        starts = self.count(scale)
        for number in range(starts):
            folder = Path(tempfile.mkdtemp(prefix="start-", dir=scratch))
            other = Contestant(contestant.key, folder)
            try:
                seconds.append(other.start())
                if number == starts - 1:
                    time.sleep(IDLE_SECONDS * min(scale, 1))  # what follows is called idle
                    resident = measuring.resident_bytes(other.broker.process.pid)
            finally:
                other.stop()
                shutil.rmtree(folder, ignore_errors=True)
        return {"start ms": 1000 * measuring.percentile(sorted(seconds), 50),
                "idle memory MiB": resident / MIB}


def size(record_bytes):
    return f"{record_bytes // 1024} KiB" if record_bytes % 1024 == 0 else f"{record_bytes} B"


def counted(number, noun):
    return f"{number} {noun}" + ("" if number == 1 else "s")


def produce_table():
    """1 KiB and 100 B, in 1, 12 and 64 partitions, by 1 and by 8 producers."""
    sizes = [("1k", 1024, 400_000), ("100b", 100, 2_500_000)]
    for (name, record_bytes, records), partitions, producers in itertools.product(
            sizes, (1, 12, 64), (1, 8)):
        many = "" if producers == 1 else f"-by{producers}"
        yield (f"produce-{name}-{partitions}{many}",
               Produce(records, record_bytes, partitions, producers))


LOADS = {
    **dict(produce_table()),
    "small-batches-64": Produce(400_000, 100, 64, batch_bytes=1024),
    "steady-20000": Produce(300_000, 1024, 12, rate=20_000),
    "steady-2000": Produce(30_000, 100, 12, rate=2_000),
    "end-to-end": EndToEnd(10_000, 100),
    "from-tail-cache": FromTail(24_000, 1024, 12, consumers=8),
    "catch-up": CatchUp(400_000, 1024, 12, cold=False),
    "catch-up-disk": CatchUp(400_000, 1024, 12, cold=True),
    "tail": Tail(300_000, 1024, 12, consumers=4),
    "connections": Connections(1_000),
    "start": Start(),
}
