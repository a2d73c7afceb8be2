"""What clients rely on beyond the plain case: codecs, idempotence, retention, groups, admin."""

import collections
import json
import os
import re
import socket
import struct
import subprocess
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import confluent_kafka
import confluent_kafka.admin
import pytest
from bench import slow_flush
from harness import java, records, wire
from harness.broker import Broker, wait_for
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, NewPartitions, NewTopic

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
AWKWARD = records.awkward(600)


@pytest.fixture(scope="module")
def broker(folders):
    properties = {"log.retention.check.interval.ms": "500", "log.retention.ms": "-1"}
    if os.environ.get("ODRADEK_TEST_TARGET") == "apache":
        properties["log.initial.task.delay.ms"] = "500"
    with Broker(folder=folders(), properties=properties) as broker:
        yield broker


@pytest.fixture
def topic():
    return f"protocol-{uuid.uuid4().hex[:8]}"


def create(broker, topic, partitions=1, configs=None):
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_topics([
        NewTopic(topic, num_partitions=partitions, replication_factor=1,
                 topic_configs=configs or {})
    ])
    admin.close()


def start_and_end(broker, topic, partition=0):
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    at = TopicPartition(topic, partition)
    found = consumer.beginning_offsets([at])[at], consumer.end_offsets([at])[at]
    consumer.close()
    return found


# Codecs


def read_by_kafka_python(broker, topic, count):
    consumer = KafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, auto_offset_reset="earliest",
        consumer_timeout_ms=30000,
    )
    got = []
    for message in consumer:
        got.append((message.key, message.value, list(message.headers)))
        if len(got) == count:
            break
    consumer.close()
    return got


def read_by_librdkafka(broker, topic, count):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.bootstrap, "group.id": f"codecs-{topic}",
        "auto.offset.reset": "earliest", "enable.auto.commit": False, "check.crcs": True,
    })
    consumer.assign([confluent_kafka.TopicPartition(topic, 0, 0)])
    got = []
    deadline = time.monotonic() + 30
    while len(got) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(got), timeout=0.2):
            assert message.error() is None
            got.append((message.key(), message.value(), message.headers() or []))
    consumer.close()
    return got


def read_by_java(broker, folder, count, topics):
    properties = folder / "client.properties"
    properties.write_text(f"bootstrap.servers={broker.bootstrap}\ncheck.crcs=true\n")
    java.program("4.3.0", "Roundtrip.java", properties, "consume", folder, count, *topics)
    return {topic: (folder / topic).read_bytes() for topic in topics}


@pytest.mark.needs("kafka-4.3.0")
def test_each_codec_from_java_comes_back_byte_equal_everywhere(broker, topic, tmp_path):
    (tmp_path / "records").write_bytes(records.encode(AWKWARD))
    (tmp_path / "client.properties").write_text(f"bootstrap.servers={broker.bootstrap}\n")
    topics = {f"{topic}-{codec}": codec for codec in CODECS}
    java.program(
        "4.3.0", "Roundtrip.java", tmp_path / "client.properties", "produce",
        tmp_path / "records", *(f"{name}={codec}" for name, codec in topics.items()))
    by_java = read_by_java(broker, tmp_path, len(AWKWARD), topics)
    for name in topics:
        assert by_java[name] == records.encode(AWKWARD), name
        assert read_by_librdkafka(broker, name, len(AWKWARD)) == AWKWARD, name
        assert read_by_kafka_python(broker, name, len(AWKWARD)) == AWKWARD, name


@pytest.mark.needs("kafka-4.3.0")
def test_each_codec_from_librdkafka_comes_back_byte_equal_everywhere(broker, topic, tmp_path):
    topics = {f"{topic}-{codec}": codec for codec in CODECS}
    for name, codec in topics.items():
        producer = confluent_kafka.Producer({
            "bootstrap.servers": broker.bootstrap, "compression.type": codec, "linger.ms": 20})
        failed = []
        for key, value, headers in AWKWARD:
            producer.produce(name, key=key, value=value, headers=headers, partition=0,
                             on_delivery=lambda error, _: error and failed.append(error))
        assert producer.flush(30) == 0 and failed == []
        assert CODECS.index(codec) in codecs_of(broker, name), "compression was lost"
    by_java = read_by_java(broker, tmp_path, len(AWKWARD), topics)
    for name in topics:
        assert by_java[name] == records.encode(AWKWARD), name
        assert read_by_librdkafka(broker, name, len(AWKWARD)) == AWKWARD, name
        assert read_by_kafka_python(broker, name, len(AWKWARD)) == AWKWARD, name


def codecs_of(broker, topic):
    """The codecs of the topic's stored batches; librdkafka leaves alone what does not shrink."""
    with wire.Connection(broker.bootstrap) as connection:
        error, _, stored = connection.fetch(topic, 0, 0)
    assert error == 0
    return {struct.unpack_from(">h", batch, 21)[0] & 7 for batch in wire.batches(stored)}


# Batches by hand


def test_a_batch_is_served_byte_for_byte_as_it_was_sent(broker, topic):
    create(broker, topic)
    sent = [wire.batch([b"one", b"two"], 1_700_000_000_000), wire.batch([b"three"], 1_600_000_000)]
    with wire.Connection(broker.bootstrap) as connection:
        offsets = [connection.produce(topic, 0, batch) for batch in sent]
        error, high_watermark, stored = connection.fetch(topic, 0, 0)
        assert offsets == [(0, 0), (0, 2)] and (error, high_watermark) == (0, 3)
        # Only the base offset (8 bytes) and the leader epoch (4 bytes, at 12) may differ.
        at = 0
        for (_, base), batch in zip(offsets, sent):
            assert struct.unpack_from(">q", stored, at)[0] == base
            assert stored[at + 8:at + 12] == batch[8:12]
            assert stored[at + 16:at + len(batch)] == batch[16:]
            at += len(batch)
        assert at == len(stored)
        error, _, middle = connection.fetch(topic, 0, 1)
        assert error == 0 and middle[:8] == struct.pack(">q", 0), "the whole batch is returned"


def test_a_resent_idempotent_batch_appears_once(broker, topic):
    create(broker, topic)
    with wire.Connection(broker.bootstrap) as connection:
        producer_id, epoch = connection.init_producer_id()
        batches = [
            wire.batch([b"%d" % index, b"b"], 1_700_000_000_000, producer_id, epoch, index * 2)
            for index in range(4)
        ]
        first = [connection.produce(topic, 0, batch) for batch in batches]
        again = [connection.produce(topic, 0, batch) for batch in batches]
        assert first == [(0, 0), (0, 2), (0, 4), (0, 6)]
        assert again == first, "a duplicate gets the answer of the first"
        assert connection.fetch(topic, 0, 0)[1] == 8
        gap = wire.batch([b"gap"], 1_700_000_000_000, producer_id, epoch, 100)
        assert connection.produce(topic, 0, gap)[0] == 45, "OUT_OF_ORDER_SEQUENCE_NUMBER"
        assert connection.fetch(topic, 0, 0)[1] == 8


def test_a_resent_idempotent_batch_appears_once_after_kill_9(make_broker, topic):
    broker = make_broker().start()
    create(broker, topic)
    # A producer silent for a day is forgotten, so the time has to be today's.
    now_ms = int(time.time() * 1000)
    with wire.Connection(broker.bootstrap) as connection:
        producer_id, epoch = connection.init_producer_id()
        batch = wire.batch([b"a", b"b"], now_ms, producer_id, epoch, 0)
        assert connection.produce(topic, 0, batch) == (0, 0)
    broker.kill()
    broker.start()
    with wire.Connection(broker.bootstrap) as connection:
        assert connection.produce(topic, 0, batch) == (0, 0)
        after = wire.batch([b"c"], now_ms, producer_id, epoch, 2)
        assert connection.produce(topic, 0, after) == (0, 2)
        assert connection.fetch(topic, 0, 0)[1] == 3
        assert connection.init_producer_id()[0] != producer_id


def test_a_batch_with_a_wrong_checksum_is_refused(broker, topic):
    create(broker, topic)
    batch = bytearray(wire.batch([b"value"], 1_700_000_000_000))
    batch[-2] ^= 1
    with wire.Connection(broker.bootstrap) as connection:
        assert connection.produce(topic, 0, bytes(batch))[0] == 2, "CORRUPT_MESSAGE"
        assert connection.fetch(topic, 0, 0)[1] == 0


# Retention


def test_retention_by_size_shrinks_the_disk(broker, topic):
    create(broker, topic, configs={"retention.bytes": str(2 << 20), "segment.bytes": str(1 << 20)})
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", linger_ms=20)
    for _ in range(2000):
        producer.send(topic, os.urandom(10240))
    producer.close()
    wait_for("old segments to go", lambda: start_and_end(broker, topic)[0] > 1000, 40)
    start, end = start_and_end(broker, topic)
    assert end == 2000 and (end - start) * 10240 >= 2 << 20, "not more than retention.bytes says"
    # The second store has one file for all topics, which keeps the room for what comes next.
    second_store = "odradek.log.store=sled" in os.environ.get("ODRADEK_TEST_OVERRIDES", "")
    if os.environ.get("ODRADEK_TEST_TARGET") != "apache" and not second_store:
        folder = broker.data / f"{topic}-0"
        wait_for("files to go", lambda: size_of(folder) < 5 << 20, 40)

    def what_is_left_is_readable():
        # A pass of retention may come between the two looks at the log start.
        start, end = start_and_end(broker, topic)
        got = read_by_kafka_python(broker, topic, end - start)
        return start_and_end(broker, topic) == (start, end) and len(got) == end - start

    wait_for("all that is left to be read", what_is_left_is_readable, 60)


def size_of(folder):
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


def test_retention_by_time_removes_what_is_old(broker, topic):
    create(broker, topic, configs={"retention.ms": "1500"})
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    for _ in range(100):
        producer.send(topic, b"soon gone")
    producer.close()
    wait_for("all records to go", lambda: start_and_end(broker, topic) == (100, 100), 40)


# Administration


def test_partitions_are_added_and_configurations_described(broker, topic):
    create(broker, topic, 2, {"retention.ms": "86400000"})
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    admin.create_partitions({topic: NewPartitions(5)})

    def partitions():
        return len(admin.describe_topics([topic])[0]["partitions"])

    wait_for("five partitions", lambda: partitions() == 5, 10)
    described = admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
    found = str(described)
    assert "retention.ms" in found and "86400000" in found, found[:2000]
    assert "segment.bytes" in found and "cleanup.policy" in found
    of_broker = admin.describe_configs([ConfigResource("BROKER", "1")], config_filter="all")
    broker_configs = str(of_broker)
    assert "log.retention.check.interval.ms" in broker_configs, broker_configs[:2000]
    admin.close()


def test_groups_are_listed_described_and_deleted(broker, topic):
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    producer.send(topic, b"x").get(10)
    producer.close()
    group = f"group-{topic}"
    consumer = KafkaConsumer(topic, bootstrap_servers=broker.bootstrap, group_id=group,
                             auto_offset_reset="earliest", consumer_timeout_ms=20000)
    next(consumer)
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.bootstrap})
    described = admin.describe_consumer_groups([group])[group].result(10)
    assert described.state == confluent_kafka.ConsumerGroupState.STABLE
    assert [len(member.assignment.topic_partitions) for member in described.members] == [1]
    consumer.close()
    listed = admin.list_consumer_groups().result(10).valid
    assert group in [one.group_id for one in listed]

    def delete():
        try:
            return admin.delete_consumer_groups([group])[group].result(10) is None
        except confluent_kafka.KafkaException:
            return False

    wait_for("the group to be deletable", delete, 20)
    listed = admin.list_consumer_groups().result(10).valid
    assert group not in [one.group_id for one in listed]


# Groups

WORKER = {
    "kafka-python": """
import sys
from kafka import KafkaConsumer
bootstrap, topic, group, path = sys.argv[1:]
consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=group,
    auto_offset_reset="earliest", session_timeout_ms=6000, heartbeat_interval_ms=1000,
    auto_commit_interval_ms=200)
with open(path, "a", buffering=1) as out:
    for message in consumer:
        out.write(f"{message.partition} {message.offset} {message.value.decode()}\\n")
""",
    "librdkafka": """
import sys
from confluent_kafka import Consumer
bootstrap, topic, group, path = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group,
    "auto.offset.reset": "earliest", "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 1000, "auto.commit.interval.ms": 200,
    "enable.auto.offset.store": False})
consumer.subscribe([topic])
with open(path, "a", buffering=1) as out:
    while True:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            out.write(f"{message.partition()} {message.offset()} {message.value().decode()}\\n")
            consumer.store_offsets(message)
""",
}


@pytest.mark.parametrize("client", WORKER)
def test_no_record_is_lost_when_one_of_two_consumers_is_killed(broker, topic, tmp_path, client):
    create(broker, topic, partitions=12)
    paths = [tmp_path / "first", tmp_path / "second"]
    workers = []
    for path in paths:
        path.touch()
        workers.append(subprocess.Popen(
            [os.environ["ODRADEK_TEST_PYTHON"], "-W", "ignore", "-c", WORKER[client],
             broker.bootstrap, topic, f"group-{topic}", str(path)],
            stderr=open(str(path) + ".err", "w")))
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", linger_ms=5)
    sent = 0

    def send(count):
        nonlocal sent
        for _ in range(count):
            producer.send(topic, b"%d" % sent, partition=sent % 12)
            sent += 1
        producer.flush()

    def partitions_of(path):
        return {line.split()[0] for line in path.read_text().splitlines()[-200:]}

    def both_read():
        send(120)
        first, second = map(partitions_of, paths)
        return len(first) >= 6 and len(second) >= 6

    try:
        wait_for("both consumers to have partitions", both_read, 60, 0.2)
        workers[0].kill()
        workers[0].wait()
        send(2400)
        wanted = set(range(sent))
        wait_for("every record to be read", lambda: wanted == set(values(paths)), 60, 0.2)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        producer.close()
    orders = collections.defaultdict(list)
    for line in paths[1].read_text().splitlines():
        partition, offset, _ = line.split()
        orders[partition].append(int(offset))
    assert len(orders) == 12
    # The survivor may read again what the dead one had not committed. It skips nothing but what
    # that one read of a partition which the survivor had had before it.
    text = paths[0].read_text()
    lines = [line.split() for line in text[:text.rfind("\n") + 1].splitlines()]
    of_the_dead = {(partition, int(offset)) for partition, offset, _ in lines}
    for partition, offsets in orders.items():
        for before, after in zip(offsets, offsets[1:]):
            skipped = {(partition, offset) for offset in range(before + 1, after)}
            assert skipped <= of_the_dead, (partition, offsets)


def values(paths):
    for path in paths:
        text = path.read_text()
        for line in text[:text.rfind("\n") + 1].splitlines():
            yield int(line.split()[2])


def test_offsets_are_found_by_time(broker, topic):
    create(broker, topic)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all", linger_ms=50)
    base = 1_700_000_000_000
    for index in range(1000):
        producer.send(topic, json.dumps(index).encode(), timestamp_ms=base + index * 1000)
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap)
    at = TopicPartition(topic, 0)

    def offset_at(milliseconds):
        found = consumer.offsets_for_times({at: milliseconds})[at]
        return found and (found.offset, found.timestamp)

    assert offset_at(0) == (0, base)
    assert offset_at(base + 499_001) == (500, base + 500_000)
    assert offset_at(base + 999_000) == (999, base + 999_000)
    assert offset_at(base + 999_001) is None
    consumer.close()


# Memory

SMALLEST_BUDGET = 64 << 20


def parts_of_memory(broker, name):
    text = broker.get("/metrics")[2].decode()
    return {part: float(value) for part, value in
            re.findall(rf'^odradek_memory_part_{name}{{part="(\w+)"}} (\S+)$', text, re.M)}


@pytest.mark.odradek_only
def test_a_produce_request_holds_memory_until_a_group_has_its_records_not_until_the_sync(
        make_broker, topic):
    broker = make_broker(environment=slow_flush.environment(500)).start()
    create(broker, topic)
    batch = wire.batch([b"v" * 900_000], 1)
    with wire.Connection(broker.bootstrap) as connection, ThreadPoolExecutor(1) as other:
        answer = other.submit(connection.produce, topic, 0, batch)
        seen = []
        while not answer.done():
            seen.append((parts_of_memory(broker, "bytes"), answer.done()))
        assert answer.result() == (0, 0)
    waiting = [parts for parts, done in seen if parts["commit_groups"] > 900_000 and not done]
    assert waiting and all(parts["requests"] == 0 for parts in waiting)


@pytest.mark.odradek_only
def test_with_the_smallest_budget_all_comes_and_goes_and_the_peak_stays_below_it(make_broker,
                                                                                  topic):
    """Twice the budget in records of every size, written and read by clients that do not spare the
    broker; then every part is within its bound, and so was the process."""
    broker = make_broker(properties={"odradek.memory.max.bytes": str(SMALLEST_BUDGET)}).start()
    create(broker, topic, partitions=12)
    sent = collections.Counter()
    producers = [confluent_kafka.Producer({"bootstrap.servers": broker.bootstrap, "acks": "all",
                                           "queue.buffering.max.kbytes": 64 << 10})
                 for _ in range(3)]
    for number in range(3000):
        value = bytes([number % 251]) * (900_000 if number % 25 == 0 else 8_000)
        producer = producers[number % 3]
        sent[len(value)] += 1
        producer.produce(topic, value, partition=number % 12)
        producer.poll(0)
    assert [producer.flush(60) for producer in producers] == [0, 0, 0]
    consumers = [confluent_kafka.Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group,
                                           "auto.offset.reset": "earliest"})
                 for group in ("one", "two")]
    for consumer in consumers:
        consumer.subscribe([topic])
        found, deadline = collections.Counter(), time.monotonic() + 60
        while found.total() < sent.total() and time.monotonic() < deadline:
            found.update(len(message.value()) for message in consumer.consume(500, 1))
        assert found == sent
        consumer.close()
    parts = [parts_of_memory(broker, name) for name in ("bytes", "max_bytes")]
    assert len(parts[0]) == 13 and parts[0].keys() == parts[1].keys()
    assert sum(parts[1].values()) <= SMALLEST_BUDGET
    assert all(parts[0][part] <= parts[1][part] for part in parts[0]), parts
    status = open(f"/proc/{broker.process.pid}/status").read()
    peak = 1024 * int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.M)[1])
    assert peak <= SMALLEST_BUDGET, f"{peak / (1 << 20):.0f} MiB"
    with socket.create_connection(("127.0.0.1", broker.port), timeout=20) as greedy:
        # A Produce request, version 9, of one byte more than half the budget.
        greedy.sendall(struct.pack(">ihhih", SMALLEST_BUDGET // 2 + 1, 0, 9, 1, -1))
        assert greedy.recv(1) == b""
    assert "half of odradek.memory.max.bytes=33554432" in broker.log()
