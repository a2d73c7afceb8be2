"""Who is measured: Odradek as it is, Apache Kafka as it is, and Kafka told to sync. On request also
a server that does nothing, against which the clients show what they can do themselves."""

import os
import shutil
import time

from harness import wire
from harness.broker import Broker, wait_for

from . import slow_flush
from .sink import Sink

TITLES = {
    "odradek": "Odradek",
    "kafka": "Kafka 4.3",
    "syncing": "Kafka 4.3, flush.messages=1",
    "sink": "a server that does nothing",
}
SINK = "sink"
# Who takes part without being named.
UNASKED = [key for key in TITLES if key != SINK]
CREATE_TOPICS, DELETE_TOPICS, METADATA = (19, 2), (20, 1), (3, 1)
NO_ERROR, UNKNOWN_TOPIC = 0, 3
CONNECTIONS_MAX = "2000"
# A server that writes less than this in this time has settled; Kafka's controller writes an empty
# record twice a second, whatever else there is to do.
SETTLED_BYTES, SETTLED_SECONDS, SETTLED_SECONDS_MAX = 128 * 1024, 0.5, 20


class Contestant:
    def __init__(self, key, folder, flush_ms=0):
        self.key, self.title, self.folder = key, TITLES[key], folder
        self.flush_ms = flush_ms
        self.broker = self.made(folder)

    def made(self, folder):
        if self.key == SINK:
            return Sink(folder)
        properties = {}
        if self.key == "odradek":
            # Its bounds are for a home; all of the benchmark's clients have one address.
            properties |= {"max.connections": CONNECTIONS_MAX,
                           "max.connections.per.ip": CONNECTIONS_MAX}
        if self.key == "syncing":
            properties["log.flush.interval.messages"] = "1"
        if self.key != "odradek":
            # Deleted topics of one load shall not lie about for a minute of the next one.
            properties["log.segment.delete.delay.ms"] = "1000"
        return Broker(folder, properties, environment=slow_flush.environment(self.flush_ms),
                      apache=self.key != "odradek")

    @property
    def bootstrap(self):
        return self.broker.bootstrap

    def start(self):
        """Seconds from the start of the process to its first answer to ApiVersions."""
        return first_answer(self.broker)

    def stop(self):
        self.broker.kill()

    def takes(self, load):
        return self.key != SINK or load.suits_sink

    def start_anew(self):
        """Another process on an empty folder: cold, whatever went before."""
        self.stop()
        shutil.rmtree(self.folder)
        self.broker = self.made(self.folder)
        self.start()

    def create_topic(self, name, partitions):
        body = wire.struct.pack(">i", 1) + wire.string(name) + wire.struct.pack(
            ">ihiiib", partitions, 1, 0, 0, 30_000, 0)
        with wire.Connection(self.bootstrap, timeout=60) as connection:
            reader = connection.call(CREATE_TOPICS[0], body, CREATE_TOPICS[1])
            reader.i32()
            assert reader.i32() == 1 and reader.string() == name
            error = reader.i16()
            assert error == NO_ERROR, f"{self.title} made no topic {name}: error {error}"
            wait_for(f"{name} to have leaders",
                     lambda: leaders(connection, name) == partitions, 30, 0.02)

    def delete_topic(self, name):
        body = wire.struct.pack(">i", 1) + wire.string(name) + wire.struct.pack(">i", 30_000)
        with wire.Connection(self.bootstrap, timeout=60) as connection:
            reader = connection.call(DELETE_TOPICS[0], body, DELETE_TOPICS[1])
            reader.i32()
            assert reader.i32() == 1 and reader.string() == name
            error = reader.i16()
            assert error in (NO_ERROR, UNKNOWN_TOPIC), f"{self.title} kept {name}: error {error}"

    def settle(self):
        """Waits until the server writes nothing more of what it has taken."""
        deadline = time.monotonic() + SETTLED_SECONDS_MAX
        written = -SETTLED_BYTES
        while time.monotonic() < deadline:
            now = io_bytes(self.broker.process.pid)["write_bytes"]
            if now - written < SETTLED_BYTES:
                return
            written = now
            time.sleep(SETTLED_SECONDS)


def first_answer(broker):
    broker.command()  # formats Kafka's folder, which is no part of its start
    begun = time.monotonic()
    broker.spawn()
    while True:
        try:
            with wire.Connection(broker.bootstrap, timeout=5) as connection:
                connection.api_versions()
            break
        except OSError:
            assert time.monotonic() - begun < 90 and broker.process.poll() is None, broker.log()
            time.sleep(0.001)
    seconds = time.monotonic() - begun
    broker.wait_ready()
    return seconds


def leaders(connection, topic):
    """How many of the topic's partitions have one."""
    reader = connection.call(METADATA[0], wire.struct.pack(">i", 1) + wire.string(topic),
                             METADATA[1])
    for _ in range(reader.i32()):
        reader.i32(), reader.string(), reader.i32(), nullable(reader)
    reader.i32()
    found = 0
    for _ in range(reader.i32()):
        reader.i16(), reader.string(), reader.take(1)
        for _ in range(reader.i32()):
            error, _, leader = reader.i16(), reader.i32(), reader.i32()
            for _ in range(2):
                for _ in range(reader.i32()):
                    reader.i32()
            found += error == NO_ERROR and leader >= 0
    return found


def nullable(reader):
    size = reader.i16()
    return reader.take(size) if size > 0 else None


def io_bytes(pid):
    with open(f"/proc/{pid}/io") as counts:
        return {name: int(count) for name, count in (line.split(": ") for line in counts)}


def drop_cached(folder):
    """Asks the system to forget what it holds of these files in memory. Needs no privileges, and
    disturbs nobody else on the machine; what is not written yet is written first."""
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        try:
            handle = os.open(path, os.O_RDONLY)
        except OSError:
            continue  # a segment that was removed meanwhile
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
