"""A server of ours that has grown: what a start, a look-up, its memory and its files cost then.

Figures are of two kinds. Times depend on the machine and are only printed. Bytes that the process
asked the system for, its open files and its memory do not, and are what the suite `growth` judges.
"""

import os
import random
import selectors
import socket
import struct
import threading
import time
from dataclasses import dataclass

from harness import wire
from harness.broker import Broker

from .contestants import Contestant, drop_cached, io_bytes
from .measuring import MIB, peak_bytes, percentile, resident_bytes

# Stands in the data folder while the server runs, with the boot id (broker/log/src/log.rs).
MARK = "unclean"
# The ways in which the former run ended.
STOPPED, KILLED, POWER_CUT = "clean stop", "kill -9 under load", "power cut under load"
REQUESTS_AHEAD = 32
PARTITIONS_PER_REQUEST = 64
LOOK_SECONDS = 0.02


class Limited(Broker):
    """A broker that may have so many files open and no more, whatever it asks for."""

    def __init__(self, folder, open_files_max, properties):
        super().__init__(folder, properties)
        self.open_files_max = open_files_max

    def command(self):
        limit = self.open_files_max
        return ([] if limit is None else ["prlimit", f"--nofile={limit}:{limit}"]) + \
            super().command()


class Grown(Contestant):
    """Our server on a folder that grows."""

    def __init__(self, folder, open_files_max=None, **properties):
        self.open_files_max = open_files_max
        self.properties = {key.replace("_", "."): value for key, value in properties.items()}
        super().__init__("odradek", folder)

    def made(self, folder):
        return Limited(folder, self.open_files_max, self.properties)

    @property
    def pid(self):
        return self.broker.process.pid

    def sled_bytes(self):
        return allocated_bytes(self.broker.data / "sled")

    def log_bytes(self):
        """Of all segments."""
        return sum(path.stat().st_size for path in self.broker.data.glob("*/*.log"))

    def unsealed_bytes(self):
        """Of the segments that have no side file: the newest of each partition."""
        paths = self.broker.data.glob("*/*.log")
        return sum(path.stat().st_size for path in paths if not path.with_suffix(".side").exists())

    def ends(self, topic, partitions):
        """{partition: end offset}"""
        with wire.Connection(self.bootstrap) as connection:
            asked = list_offsets(connection, topic, [(index, -1) for index in range(partitions)])
        return {partition: offset for partition, _, offset in asked}


def allocated_bytes(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


class Watch:
    """Looks how many files a broker has open, again and again: the most there were."""

    def __init__(self, broker):
        self.broker, self.open_files, self.over = broker, 0, threading.Event()
        self.thread = threading.Thread(target=self.go, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def go(self):
        while not self.over.wait(LOOK_SECONDS):
            try:
                found = len(os.listdir(f"/proc/{self.broker.process.pid}/fd"))
            except OSError:  # it begins or ends just now
                continue
            self.open_files = max(self.open_files, found)


@dataclass
class Started:
    """What one start cost, up to the first answer and readiness."""

    after: str
    sled_bytes: int  # as the start found it
    unsealed_bytes: int
    seconds: float
    read_bytes: int  # asked of the system, whether they were in the page cache or not
    open_files: int
    peak_bytes: int
    resident_bytes: int


def start_after(store, how, topic, partitions, load_seconds):
    """Ends the running server in one of three ways, empties the page cache, starts it again.

    A power cut is a kill, and another boot id in the mark: the server then trusts nothing that may
    not have been synced. What the system wrote stays; tests/powercut loses it."""
    if how == STOPPED:
        code = store.broker.stop()
        assert code == 0, f"the stop ended with {code}:\n{store.broker.log()[-2000:]}"
    else:
        with Press(store.bootstrap, topic, partitions) as press:
            press.wait(load_seconds)
            store.broker.kill()
    if how == POWER_CUT:
        (store.broker.data / MARK).write_text("another boot\n")
    drop_cached(store.broker.data)
    found = how, store.sled_bytes(), store.unsealed_bytes()
    with Watch(store.broker) as watch:
        seconds = store.start()
        read_bytes = io_bytes(store.pid)["rchar"]
    return Started(*found, seconds, read_bytes, watch.open_files, peak_bytes(store.pid),
                   resident_bytes(store.pid))


# Writing by hand.

def produce_body(topic, entries):
    """Produce 7 with acks=all: a batch for each of some partitions."""
    body = wire.string(None) + struct.pack(">hii", -1, 30_000, 1) + wire.string(topic)
    body += struct.pack(">i", len(entries))
    return body + b"".join(
        struct.pack(">ii", partition, len(batch)) + batch for partition, batch in entries)


def produced(reader):
    """{partition: base offset} of a reply to the above."""
    assert reader.i32() == 1
    reader.string()
    found = {}
    for _ in range(reader.i32()):
        partition, error, offset = reader.i32(), reader.i16(), reader.i64()
        assert error == 0, f"partition {partition} answered with error {error}"
        reader.i64(), reader.i64()
        found[partition] = offset
    return found


def fill(bootstrap, topic, partitions, batches):
    """Each of the batches once to each of the partitions, in order."""
    with wire.Connection(bootstrap, timeout=60) as connection:
        ahead = 0
        for batch in batches:
            for first in range(0, partitions, PARTITIONS_PER_REQUEST):
                last = min(first + PARTITIONS_PER_REQUEST, partitions)
                entries = [(index, batch) for index in range(first, last)]
                connection.send(wire.PRODUCE, produce_body(topic, entries))
                ahead += 1
                if ahead == REQUESTS_AHEAD:
                    produced(connection.receive()[1])
                    ahead -= 1
        for _ in range(ahead):
            produced(connection.receive()[1])


class Press:
    """Writes batches of 16 KiB to random partitions, many requests ahead, until its server goes."""

    def __init__(self, bootstrap, topic, partitions):
        self.bootstrap, self.topic, self.partitions = bootstrap, topic, partitions
        self.acknowledged, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.go, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def wait(self, seconds):
        """So long, and until something was acknowledged."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline or not self.acknowledged:
            assert time.monotonic() < deadline + 60, "nothing was acknowledged"
            time.sleep(0.01)

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()

    def go(self):
        batch = wire.batch([os.urandom(100)] * 150, int(time.time() * 1000))
        try:
            with wire.Connection(self.bootstrap) as connection:
                ahead = 0
                while not self.over.is_set():
                    entries = [(random.randrange(self.partitions), batch)]
                    connection.send(wire.PRODUCE, produce_body(self.topic, entries))
                    ahead += 1
                    if ahead == REQUESTS_AHEAD:
                        produced(connection.receive()[1])
                        self.acknowledged += 1
                        ahead -= 1
        except (OSError, ConnectionError):
            pass  # it was killed, as it was to be


# Looking things up.

@dataclass
class Looked:
    count: int
    p50_ms: float
    p99_ms: float
    read_bytes: float  # asked of the system for one of them

    def __str__(self):
        return f"{self.p50_ms:.1f} / {self.p99_ms:.1f}"


def list_offsets(connection, topic, places):
    """ListOffsets 1: [(partition, timestamp, offset)] for each (partition, timestamp)."""
    body = struct.pack(">ii", -1, 1) + wire.string(topic) + struct.pack(">i", len(places))
    body += b"".join(struct.pack(">iq", *place) for place in places)
    reader = connection.call(wire.LIST_OFFSETS, body)
    assert reader.i32() == 1 and reader.string() == topic
    found = []
    for _ in range(reader.i32()):
        partition, error, timestamp, offset = reader.i32(), reader.i16(), reader.i64(), reader.i64()
        assert error == 0, f"partition {partition} answered with error {error}"
        found.append((partition, timestamp, offset))
    return found


def timed(store, questions, ask):
    """How long each question took, and what the server read for them."""
    times, before = [], io_bytes(store.pid)["rchar"]
    for question in questions:
        begun = time.perf_counter()
        ask(question)
        times.append(1000 * (time.perf_counter() - begun))
    read_bytes = (io_bytes(store.pid)["rchar"] - before) / len(times)
    times.sort()
    return Looked(len(times), percentile(times, 50), percentile(times, 99), read_bytes)


def look_up_times(store, topic, questions):
    """ListOffsets for each (partition, timestamp); checks what must hold whatever is stored: the
    record found is not older than asked for, and a later time is not found further in front."""
    found = []
    with wire.Connection(store.bootstrap, timeout=60) as connection:
        looked = timed(store, questions,
                       lambda one: found.extend(list_offsets(connection, topic, [one])))
    last = {}
    for (partition, asked), (_, timestamp, offset) in sorted(zip(questions, found)):
        assert offset == -1 or timestamp >= asked, (partition, asked, timestamp, offset)
        if offset == -1:
            offset = 1 << 62
        assert offset >= last.get(partition, 0), f"partition {partition} at {asked}: {offset}"
        last[partition] = offset
    return looked, [offset for _, _, offset in found]


def look_up_offsets(store, topic, questions):
    """Fetch for each (partition, offset): the batch that holds it, and little more."""
    with wire.Connection(store.bootstrap, timeout=60) as connection:
        def ask(question):
            partition, offset = question
            error, _, stored = connection.fetch(topic, partition, offset, wait_ms=0, bytes_max=1)
            assert error == 0, (partition, offset, error)
            base, last_delta = struct.unpack_from(">q", stored)[0], struct.unpack_from(
                ">i", stored, 23)[0]
            assert base <= offset <= base + last_delta, (partition, offset, base, last_delta)
        return timed(store, questions, ask)


# Many connections.

class Many:
    """So many connections, each of which has said who it is."""

    def __init__(self, bootstrap, count):
        self.open = []
        try:
            for _ in range(count):
                connection = wire.Connection(bootstrap, timeout=60)
                self.open.append(connection)
                connection.api_versions()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        for connection in self.open:
            connection.socket.close()

    def produce(self, topic, partitions, each):
        """All of them at once, one record of 100 bytes at a time: (records a second, sorted
        milliseconds to the acknowledgement)."""
        batch = wire.batch([bytes(100)], int(time.time() * 1000))
        frames = []
        for partition in range(partitions):
            head = struct.pack(">hhi", wire.PRODUCE, wire.VERSION[wire.PRODUCE], partition)
            frame = head + wire.string("many") + produce_body(topic, [(partition, batch)])
            frames.append(struct.pack(">i", len(frame)) + frame)
        talks, times, begun = selectors.DefaultSelector(), [], time.perf_counter()
        for number, connection in enumerate(self.open):
            connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            talks.register(connection.socket, selectors.EVENT_READ,
                           Talk(connection, frames[number % partitions], each))
        for key in list(talks.get_map().values()):
            key.data.say()
        while talks.get_map():
            ready = talks.select(60)
            assert ready, f"{len(talks.get_map())} connections got no answer for a minute"
            for key, _ in ready:
                times.append(key.data.hear())
                if not key.data.left:
                    talks.unregister(key.fileobj)
        seconds = time.perf_counter() - begun
        talks.close()
        return len(times) / seconds, sorted(times)


class Talk:
    """One connection's requests, one at a time."""

    def __init__(self, connection, frame, count):
        self.connection, self.frame, self.left, self.said = connection, frame, count, 0.0

    def say(self):
        self.said = time.perf_counter()
        self.connection.socket.sendall(self.frame)

    def hear(self):
        """Takes the reply and goes on; the milliseconds it took."""
        produced(self.connection.receive()[1])
        took_ms = 1000 * (time.perf_counter() - self.said)
        self.left -= 1
        if self.left:
            self.say()
        return took_ms


def mib(count):
    return f"{count / MIB:,.0f}" if count >= 10 * MIB else f"{count / MIB:.1f}"
