"""Log compaction: the latest value of each key stays, the rest goes, whatever is killed meanwhile.

What must be left is Kafka's promise (its documentation of log compaction), so the same tests run
against Apache Kafka, but for the one that kills: its cleaner is not asked for that.
"""

import contextlib
import os
import random
import shutil
import threading
import time

import confluent_kafka
import confluent_kafka.admin
import pytest
from harness import java
from harness.broker import Broker, wait_for
from kafka import KafkaConsumer, TopicPartition

KEYS = 100
VALUE_BYTES = 500
# Kafka 4 takes no smaller segments.
SEGMENT_BYTES = 1 << 20
COMPACTED = {
    "cleanup.policy": "compact", "segment.bytes": str(SEGMENT_BYTES),
    "min.cleanable.dirty.ratio": "0.01",
}
EAGER = {"log.cleaner.backoff.ms": "50"}


@pytest.fixture(scope="module")
def broker(folders):
    with Broker(folder=folders(), properties=EAGER) as broker:
        yield broker


def create(broker, topic, **configs):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.bootstrap})
    config = {**COMPACTED, **{name.replace("_", "."): value for name, value in configs.items()}}
    new = confluent_kafka.admin.NewTopic(topic, 1, 1, config=config)
    admin.create_topics([new])[topic].result(20)


class Writer:
    """A producer that knows the last acknowledged value of each key."""

    def __init__(self, broker, topic, codec="none"):
        self.topic, self.latest, self.errors = topic, {}, []
        self.producer = confluent_kafka.Producer({
            "bootstrap.servers": broker.bootstrap, "compression.type": codec,
            "enable.idempotence": True, "message.timeout.ms": 120000,
            "reconnect.backoff.max.ms": 300, "retry.backoff.max.ms": 300,
            "queue.buffering.max.messages": 2000, "log_level": 0,
            "error_cb": lambda error: None,
        })

    def put(self, key, value):
        def note(error, message):
            if error is None:
                self.latest[key] = value
            else:
                self.errors.append(error)
        while True:
            try:
                self.producer.produce(self.topic, value, key, on_delivery=note)
                break
            except BufferError:
                self.producer.poll(0.01)
        self.producer.poll(0)

    def fill(self, count, chance):
        """So many records of random keys and bytes, which no codec makes smaller."""
        for number in range(count):
            self.put(b"key %d" % chance.randrange(KEYS), b"%d." % number + chance.randbytes(
                VALUE_BYTES))

    def finish(self):
        assert self.producer.flush(90) == 0, "the last records were never acknowledged"
        assert self.errors == []


def read(broker, topic):
    """[(offset, key, value)] of all that a consumer gets from the beginning."""
    at = TopicPartition(topic, 0)
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False)
    end = consumer.end_offsets([at])[at]
    consumer.assign([at])
    consumer.seek_to_beginning(at)
    found = []
    deadline = time.monotonic() + 60
    while consumer.position(at) < end:
        assert time.monotonic() < deadline, "the topic cannot be read to its end"
        for messages in consumer.poll(timeout_ms=500).values():
            found += [(one.offset, one.key, one.value) for one in messages]
    consumer.close()
    return found


def latest_of(records):
    return {key: value for _, key, value in records}


def log_bytes(broker, topic):
    """Of the files that are there: one that the cleaner takes away meanwhile counts nothing."""
    found = 0
    for path in broker.data.glob(f"{topic}-0/*.log"):
        with contextlib.suppress(FileNotFoundError):
            found += path.stat().st_size
    return found


@pytest.mark.parametrize("codec", ["none", "zstd"])
def test_the_latest_value_of_each_key_is_left_and_the_disk_shrinks(broker, codec):
    topic = f"latest-{codec}"
    create(broker, topic)
    writer = Writer(broker, topic, codec)
    writer.fill(12_000, random.Random(20261127))
    writer.finish()
    written = 12_000 * VALUE_BYTES
    # 100 keys of 500 bytes are 50 kB; beside them there is the newest segment, and one more that
    # was sealed behind the last cleaning.
    wait_for("the old values to go", lambda: log_bytes(broker, topic) < 2.5 * SEGMENT_BYTES, 60)
    records = read(broker, topic)
    assert latest_of(records) == writer.latest
    offsets = [offset for offset, _, _ in records]
    assert offsets == sorted(set(offsets)) and len(records) * VALUE_BYTES < written / 2
    if not broker.apache:
        metrics = broker.get("/metrics")[2].decode()
        rounds = [line for line in metrics.splitlines()
                  if line.startswith("odradek_compaction_rounds ")]
        assert float(rounds[0].split()[1]) > 0


def test_a_deleted_key_goes_with_its_tombstone_after_delete_retention_ms(broker):
    chance = random.Random(1)
    create(broker, "short", delete_retention_ms="100")
    create(broker, "long", delete_retention_ms="86400000")
    writers = {topic: Writer(broker, topic) for topic in ("short", "long")}
    for writer in writers.values():
        writer.put(b"gone", b"value")
        writer.put(b"gone", None)
    tombstones = {}

    def short_one_is_gone():
        for topic, writer in writers.items():
            writer.fill(3_000, chance)
            writer.finish()
            tombstones[topic] = [v for _, key, v in read(broker, topic) if key == b"gone"]
        return tombstones["short"] == []

    # Kafka takes a tombstone at a cleaning behind its horizon: each round of writing brings one.
    wait_for("the tombstone to go", short_one_is_gone, 60)
    wait_for("the value to go", lambda: [
        value for _, key, value in read(broker, "long") if key == b"gone"] == [None], 60)


@pytest.mark.needs("kafka-4.3.0")
def test_the_cleaner_follows_its_configuration_at_once(make_broker):
    broker = make_broker(properties={"log.cleaner.backoff.ms": "3600000"}).start()
    create(broker, "later")
    writer = Writer(broker, "later")
    writer.fill(8_000, random.Random(5))
    writer.finish()
    before = log_bytes(broker, "later")
    java.tool("4.3.0", "configs", "--bootstrap-server", broker.bootstrap, "--alter",
              "--entity-type", "brokers", "--entity-default",
              "--add-config", "log.cleaner.backoff.ms=50")
    wait_for("the old values to go", lambda: log_bytes(broker, "later") < before / 2, 60)
    assert latest_of(read(broker, "later")) == writer.latest


@pytest.mark.odradek_only
def test_kill_9_while_it_cleans_loses_nothing(make_broker):
    chance = random.Random(9)
    # Slowly, so that kills find cleanings half done; and no more is written than can be cleaned, as
    # a round maps all that is dirty before it rewrites anything.
    slow = {**EAGER, "log.cleaner.io.max.bytes.per.second": str(4 << 20)}
    broker = make_broker(properties=slow).start()
    create(broker, "killed")
    writer = Writer(broker, "killed")
    stop = threading.Event()

    def write():
        while not stop.is_set():
            if log_bytes(broker, "killed") < 8 * SEGMENT_BYTES:
                writer.fill(200, chance)
            else:
                stop.wait(0.05)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(20 if os.environ.get("ODRADEK_TEST_FULL") else 5):
            unfinished = lambda: any(  # noqa: E731
                not path.with_suffix(".side").exists()
                for path in broker.data.glob("killed-0/*.*.log"))
            wait_for("a segment to be half rewritten", unfinished, 60, pause=0.002)
            broker.kill()
            broker.start()
    finally:
        stop.set()
        thread.join()
    writer.finish()
    assert latest_of(read(broker, "killed")) == writer.latest
    wait_for("a cleaning to be finished", lambda: "compacted" in broker.log(), 60)
    assert broker.stop() in (0, 143)
    # A clean stop leaves nothing half done.
    logs = list(broker.data.glob("killed-0/*.*.log"))
    assert logs and all(path.with_suffix(".side").exists() for path in logs), logs
    broker.start()
    assert latest_of(read(broker, "killed")) == writer.latest


@pytest.mark.odradek_only
@pytest.mark.needs("kafka-4.3.0")
def test_kafkas_dump_log_reads_a_rewritten_segment(broker, tmp_path):
    create(broker, "dumped")
    writer = Writer(broker, "dumped")
    writer.fill(6_000, random.Random(3))
    writer.finish()
    copies = []

    def rewritten():
        # The next cleaning may take the file away: what is looked at is a copy.
        for path in broker.data.glob("dumped-0/*.*.log"):
            try:
                if path.with_suffix(".side").exists() and path.stat().st_size > 0:
                    copies.append(shutil.copy(path, tmp_path))
            except FileNotFoundError:
                pass
        return copies

    wait_for("a rewritten segment", rewritten, 60)
    done = java.tool(
        "4.3.0", "dump-log", "--files", copies[0], "--deep-iteration", "--skip-record-metadata")
    text = done.stdout
    assert "baseOffset: " in text and "isvalid: true" in text, text[-2000:]
    assert "isvalid: false" not in text, text[-2000:]
