"""Transactions: what a reader of committed records sees, whoever is killed and whenever.

A consume-transform-produce loop with Kafka's Java client under kill -9, librdkafka's transactional
producer, fencing, time-outs, and Kafka's tools. The expected values are counted: every record is a
number, and each must be there once, or not at all.
"""

import os
import random
import re
import subprocess
import time

import confluent_kafka
import confluent_kafka.admin
import pytest
from confluent_kafka import KafkaException, TopicPartition
from harness import java
from harness.broker import wait_for

ROUNDS = 30 if os.environ.get("ODRADEK_TEST_FULL") else 3
RECORDS_A_ROUND = 1500


@pytest.fixture
def broker(make_broker):
    return make_broker(
        properties={"transaction.abort.timed.out.transaction.cleanup.interval.ms": "200"}).start()


def create(broker, topic, partitions=1):
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.bootstrap})
    new = confluent_kafka.admin.NewTopic(topic, partitions, 1)
    admin.create_topics([new])[topic].result(20)


def producer(broker, transactional_id=None, **more):
    options = {"bootstrap.servers": broker.bootstrap, "linger.ms": 0, "log_level": 0,
               "reconnect.backoff.max.ms": 200, "error_cb": lambda error: None}
    if transactional_id:
        options["transactional.id"] = transactional_id
    options.update({name.replace("_", "."): value for name, value in more.items()})
    made = confluent_kafka.Producer(options)
    if transactional_id:
        made.init_transactions(30)
    return made


def send(one, topic, *values, partition=0):
    for value in values:
        one.produce(topic, str(value).encode(), partition=partition)
    assert one.flush(30) == 0


def read(broker, topic, partitions=1, isolation="read_committed"):
    """The numbers of each partition, in order, up to where such a reader gets now."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.bootstrap, "group.id": f"read-{time.monotonic_ns()}",
        "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "isolation.level": isolation, "enable.partition.eof": True, "fetch.wait.max.ms": 50,
    })
    got = {index: [] for index in range(partitions)}
    consumer.assign([TopicPartition(topic, index, 0) for index in got])
    ends = set()
    deadline = time.monotonic() + 60
    while len(ends) < partitions:
        assert time.monotonic() < deadline, f"{topic} cannot be read to its end: {got}"
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error():
            assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF
            ends.add(message.partition())
        else:
            got[message.partition()].append(int(message.value()))
    consumer.close()
    return got


def test_readers_of_committed_records_see_whole_transactions_and_wait_for_open_ones(broker):
    create(broker, "mixed", 2)
    one = producer(broker, "one")
    one.begin_transaction()
    send(one, "mixed", 1, 2)
    send(one, "mixed", 3, partition=1)
    one.commit_transaction(30)
    one.begin_transaction()
    send(one, "mixed", 4)
    one.abort_transaction(30)
    one.begin_transaction()
    send(one, "mixed", 5)
    send(producer(broker), "mixed", 6)
    assert read(broker, "mixed", 2) == {0: [1, 2], 1: [3]}
    everything = {0: [1, 2, 4, 5, 6], 1: [3]}
    assert read(broker, "mixed", 2, "read_uncommitted") == everything
    one.commit_transaction(30)
    assert read(broker, "mixed", 2) == {0: [1, 2, 5, 6], 1: [3]}


@pytest.mark.odradek_only
def test_http_readers_see_committed_records_only(broker):
    create(broker, "http")
    one = producer(broker, "http-1")
    for value, end in ((1, one.commit_transaction), (2, one.abort_transaction),
                       (3, one.commit_transaction)):
        one.begin_transaction()
        send(one, "http", value)
        end(30)
    one.begin_transaction()
    send(one, "http", 4)
    path = "/api/v1/topics/http/records"

    def values():
        status, _, body = broker.get(path)
        assert status == 200, body
        return [int(text) for text in re.findall(r'"value":\s*"?(\d+)', body.decode())]

    assert values() == [1, 3]
    one.commit_transaction(30)
    assert values() == [1, 3, 4]


def test_a_producer_whose_id_another_one_takes_is_fenced(broker):
    create(broker, "fenced")
    old = producer(broker, "same")
    old.begin_transaction()
    send(old, "fenced", 1)
    new = producer(broker, "same")
    new.begin_transaction()
    send(new, "fenced", 2)
    with pytest.raises(KafkaException) as refused:
        old.commit_transaction(30)
    assert refused.value.args[0].code() in (
        confluent_kafka.KafkaError._FENCED, confluent_kafka.KafkaError.INVALID_PRODUCER_EPOCH)
    new.commit_transaction(30)
    assert read(broker, "fenced") == {0: [2]}


def test_a_transaction_past_its_time_out_is_aborted_and_holds_nobody_up(broker):
    create(broker, "late")
    slow = producer(broker, "slow", transaction_timeout_ms=1500, message_timeout_ms=1500)
    slow.begin_transaction()
    send(slow, "late", 1)
    send(producer(broker), "late", 2)
    assert read(broker, "late") == {0: []}
    wait_for("the transaction to be aborted", lambda: read(broker, "late") == {0: [2]}, 30)
    with pytest.raises(KafkaException):
        slow.commit_transaction(10)
    assert read(broker, "late") == {0: [2]}


def test_offsets_of_a_transaction_are_the_groups_with_its_commit(broker):
    create(broker, "in")
    create(broker, "out")
    send(producer(broker), "in", *range(10))
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.bootstrap, "group.id": "offsets",
        "auto.offset.reset": "earliest", "enable.auto.commit": False})
    consumer.subscribe(["in"])
    wait_for("a record", lambda: consumer.poll(1))

    def committed():
        return consumer.committed([TopicPartition("in", 0)], timeout=20)[0].offset

    one = producer(broker, "offsets-1")
    for offset, end, expected in ((3, one.commit_transaction, 3), (5, one.abort_transaction, 3),
                                  (7, one.commit_transaction, 7)):
        one.begin_transaction()
        send(one, "out", offset)
        metadata = consumer.consumer_group_metadata()
        one.send_offsets_to_transaction([TopicPartition("in", 0, offset)], metadata, 30)
        end(30)
        assert committed() == expected
    consumer.close()
    assert read(broker, "out") == {0: [3, 7]}


def test_an_open_transaction_outlives_a_kill_9(broker):
    create(broker, "kept", 2)
    one = producer(broker, "kept-1")
    one.begin_transaction()
    send(one, "kept", 1)
    broker.kill()
    broker.start()
    send(one, "kept", 2, partition=1)
    assert read(broker, "kept", 2) == {0: [], 1: []}
    one.commit_transaction(60)
    broker.kill()
    broker.start()
    assert read(broker, "kept", 2) == {0: [1], 1: [2]}


@pytest.mark.needs("kafka-4.3.0")
def test_the_console_consumer_shows_committed_records(broker):
    create(broker, "console")
    one = producer(broker, "console-1")
    for value, end in ((1, one.commit_transaction), (2, one.abort_transaction),
                       (3, one.commit_transaction)):
        one.begin_transaction()
        send(one, "console", value)
        end(30)
    shown = java.tool(
        "4.3.0", "console-consumer", "--bootstrap-server", broker.bootstrap, "--topic", "console",
        "--from-beginning", "--isolation-level", "read_committed", "--max-messages", "2")
    assert shown.stdout.split() == ["1", "3"]


@pytest.mark.needs("kafka-4.3.0")
def test_the_transactions_tool_lists_describes_and_aborts(broker):
    create(broker, "tool")

    def tool(*arguments):
        return java.tool("4.3.0", "transactions", "--bootstrap-server", broker.bootstrap,
                         *arguments).stdout

    one = producer(broker, "tool-1")
    one.begin_transaction()
    send(one, "tool", 1)
    listed = tool("list").splitlines()
    row = next(line for line in listed if line.startswith("tool-1")).split()
    assert row[3] == "Ongoing", listed
    producer_id = row[2]
    described = tool("describe", "--transactional-id", "tool-1")
    assert re.search(rf"\b{producer_id}\b.*\bOngoing\b.*\btool-0\b", described), described
    producers = tool("describe-producers", "--topic", "tool", "--partition", "0").splitlines()
    # Producer, epoch, coordinator's epoch, last sequence, last timestamp, start offset.
    state = next(line for line in producers if line.startswith(producer_id)).split()
    assert state[-1] == "0", producers
    hanging = tool("find-hanging", "--broker-id", "1", "--max-transaction-timeout", "0")
    assert "tool" not in hanging.splitlines()[1:], hanging
    send(producer(broker), "tool", 2)
    assert read(broker, "tool") == {0: []}
    tool("abort", "--topic", "tool", "--partition", "0", "--start-offset", "0")
    assert read(broker, "tool") == {0: [2]}


@pytest.mark.needs("kafka-4.3.0")
def test_a_loop_of_transactions_copies_each_record_once_under_kill_9(make_broker, tmp_path):
    chance = random.Random(20260811)
    broker = make_broker().start()
    create(broker, "from", 3)
    create(broker, "to", 2)
    done = tmp_path / "done"
    command = java.java_command("4.3.0", str(java.HERE / "ExactlyOnce.java"), heap="256m")
    arguments = [broker.bootstrap, "from", "to", "loop", "loop-1", str(done)]
    load = producer(broker, enable_idempotence=True, message_timeout_ms=120000)
    sent = 0

    def more():
        nonlocal sent
        for _ in range(RECORDS_A_ROUND):
            load.produce("from", b"%d" % sent, partition=sent % 3)
            sent += 1
        assert load.flush(60) == 0

    with open(tmp_path / "loop.log", "wb") as log:
        loop = subprocess.Popen(command + arguments, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=log)
        try:
            for _ in range(ROUNDS):
                # Looked up before there is more to copy: the loop may be done with that at once.
                before = end_offset(broker, "to", 2)
                more()
                wait_for("the loop to get on",
                         lambda before=before: end_offset(broker, "to", 2) > before + 100, 120)
                time.sleep(chance.random() * 0.4)  # where in its work the kill finds the broker
                broker.kill()
                broker.start()
            more()
            done.write_text(str(sent))
            output, _ = loop.communicate(timeout=300)
        finally:
            loop.kill()
            print((tmp_path / "loop.log").read_text()[-3000:])
    assert loop.returncode == 0, output
    print(f"{sent} records, {ROUNDS} kills, {output.decode().strip()}")
    numbers = sorted(sum(read(broker, "to", 2).values(), []))
    assert numbers == list(range(sent)), difference(numbers, sent)


def end_offset(broker, topic, partitions):
    """The sum of high watermarks, by a client of its own; 0 while the broker is down."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.bootstrap, "group.id": "ends", "log_level": 0})
    try:
        return sum(consumer.get_watermark_offsets(TopicPartition(topic, index), timeout=10)[1]
                   for index in range(partitions))
    finally:
        consumer.close()


def difference(numbers, sent):
    doubled = [one for one, two in zip(numbers, numbers[1:]) if one == two]
    lost = sorted(set(range(sent)) - set(numbers))
    return f"{len(doubled)} twice, such as {doubled[:5]}; {len(lost)} lost, such as {lost[:5]}"
