"""kill -9 under load: every acknowledged record is there, in order, once if idempotent.

The same script runs against Apache Kafka too, which keeps its page cache over a kill -9, as we do;
what only a power cut takes is the business of test_power_cut.py and of broker/log's simulation.
"""

import os
import random
import time

import confluent_kafka
import confluent_kafka.admin
import pytest
from harness import wire
from harness.broker import wait_for
from harness.load import PARTITIONS, Load
from kafka import KafkaConsumer, TopicPartition

ROUNDS = 30 if os.environ.get("ODRADEK_TEST_FULL") else 6
CODECS = ["none", "lz4", "zstd"]


def read(broker, topic):
    """{partition: [(offset, number)]}, everything in the topic."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False)
    partitions = [TopicPartition(topic, index) for index in range(PARTITIONS)]
    ends = consumer.end_offsets(partitions)
    got = {}
    for partition in partitions:
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        got[partition.partition] = found = []
        deadline = time.monotonic() + 60
        while consumer.position(partition) < ends[partition]:
            assert time.monotonic() < deadline, "the topic cannot be read to its end"
            for messages in consumer.poll(timeout_ms=500).values():
                found += [(one.offset, int(one.value.split(b".")[0])) for one in messages]
    consumer.close()
    return got


def create(broker, *topics):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.bootstrap})
    futures = admin.create_topics([
        confluent_kafka.admin.NewTopic(topic, PARTITIONS, 1) for topic in topics])
    for future in futures.values():
        future.result(20)


def test_acknowledged_records_survive_kill_9_in_order_and_once(make_broker):
    broker = make_broker().start()
    kill_under_load(broker, ROUNDS)


@pytest.mark.odradek_only
def test_acknowledged_records_survive_kill_9_in_the_second_store_too(make_broker):
    broker = make_broker(properties={"odradek.log.store": "sled"}).start()
    kill_under_load(broker, ROUNDS // 3)
    assert not list(broker.data.glob("crash-*")), "records are in the database alone"


@pytest.mark.odradek_only
def test_a_folder_of_one_store_is_refused_with_the_other(make_broker):
    broker = make_broker(properties={"odradek.log.store": "segments"}).start()
    broker.stop()
    broker.properties["odradek.log.store"] = "sled"
    broker.spawn()
    assert broker.process.wait(30) != 0
    assert "Set odradek.log.store=segments" in broker.log()
    broker.properties["odradek.log.store"] = "segments"
    broker.start()


def kill_under_load(broker, rounds):
    chance = random.Random(20260807)
    topics = {f"crash-{codec}-{kind}": (kind == "idempotent", codec)
              for codec, kind in zip(CODECS, ("idempotent", "idempotent", "plain"))}
    create(broker, *topics)
    loads = {topic: Load(broker, topic, *how) for topic, how in topics.items()}
    try:
        for _ in range(rounds):
            before = {topic: len(load.acknowledged) for topic, load in loads.items()}
            wait_for("every producer to get on", lambda: all(
                len(load.acknowledged) > before[topic] + 300 for topic, load in loads.items()), 60)
            time.sleep(chance.random() * 0.5)  # where in its work the kill finds the broker
            broker.kill()
            broker.start()
    finally:
        for load in loads.values():
            load.stop = True
    for topic, load in loads.items():
        load.finish()
        assert load.errors == []
        check(topic, load, read(broker, topic), exactly=topics[topic][0])
    assert broker.stop() in (0, 143)


def check(topic, load, stored, exactly):
    for partition in range(PARTITIONS):
        offsets = [offset for offset, _ in stored[partition]]
        assert offsets == list(range(len(offsets))), f"{topic}-{partition}: offsets have holes"
        by_offset = dict(stored[partition])
        for where, offset, number in load.acknowledged:
            if where == partition:
                assert by_offset.get(offset) == number, (
                    f"{topic}-{partition}: record {number} was acknowledged at {offset}, "
                    f"there is {by_offset.get(offset)}")
        numbers = [number for _, number in stored[partition]]
        if exactly:
            wanted = list(range(partition, load.next, PARTITIONS))
            assert numbers == wanted, f"{topic}-{partition}: doubled, lost or out of order"
        else:
            assert set(numbers) >= set(range(partition, load.next, PARTITIONS))


def test_committed_group_offsets_survive_kill_9(make_broker):
    broker = make_broker().start()
    create(broker, "offsets")
    with wire.Connection(broker.bootstrap) as connection:
        batch = wire.batch([b"x"] * 100, 1)
        wait_for("a leader", lambda: connection.produce("offsets", 0, batch)[0] == 0)
    options = {"bootstrap.servers": broker.bootstrap, "group.id": "g",
               "enable.auto.commit": False}
    for committed in (10, 50, 99):
        consumer = confluent_kafka.Consumer(options)
        at = confluent_kafka.TopicPartition("offsets", 0, committed, f"metadata {committed}")
        consumer.commit(offsets=[at], asynchronous=False)
        broker.kill()
        broker.start()
        consumer.close()
        consumer = confluent_kafka.Consumer(options)
        found = consumer.committed([confluent_kafka.TopicPartition("offsets", 0)], timeout=30)[0]
        consumer.close()
        assert (found.offset, found.metadata) == (committed, f"metadata {committed}")


@pytest.mark.odradek_only
def test_deleted_topics_stay_deleted_and_created_ones_stay_after_kill_9(make_broker):
    broker = make_broker().start()
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.bootstrap})
    create(broker, *(f"topic-{index}" for index in range(20)))
    deleted = admin.delete_topics([f"topic-{index}" for index in range(0, 20, 2)])
    for future in deleted.values():
        future.result(20)
    broker.kill()
    broker.start()
    listed = [name for name in admin.list_topics(timeout=20).topics if name.startswith("topic-")]
    assert sorted(listed) == sorted(f"topic-{index}" for index in range(1, 20, 2))
    folders = [path.name for path in broker.data.rglob("topic-*") if path.is_dir()]
    assert not [name for name in folders if int(name.split("-")[1]) % 2 == 0], folders
