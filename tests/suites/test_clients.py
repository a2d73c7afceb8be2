"""The old producer and consumer programs' calls, unchanged, with the clients of then and of now."""

import json
import os
import subprocess
import threading
import time
import uuid

import confluent_kafka
import pytest
from harness.broker import Broker, free_port
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import KafkaError

RECORDS = 1000


def json_serializer(data):
    return json.dumps(data).encode("utf-8")


def old_producer(bootstrap, topic, count):
    """As in the stocks program: addresses and a serializer, nothing else."""
    producer = KafkaProducer(bootstrap_servers=[bootstrap], value_serializer=json_serializer)
    for index in range(count):
        producer.send(topic, {"id": "GM", "price": 33.91999816894531, "index": index})
    producer.flush()
    producer.close()


def test_the_old_producer_and_consumer_programs_work_unchanged(module_broker):
    topic = f"stocks-{uuid.uuid4().hex[:8]}"
    old_producer(module_broker.bootstrap, topic, RECORDS)
    consumer = KafkaConsumer(
        topic, bootstrap_servers=[module_broker.bootstrap], auto_offset_reset="earliest",
        consumer_timeout_ms=20000,
    )
    indexes = []
    for message in consumer:
        indexes.append(json.loads(message.value)["index"])
        if len(indexes) == RECORDS:
            break
    consumer.close()
    assert indexes == list(range(RECORDS))


def test_a_consumer_that_starts_at_the_end_gets_what_comes_after(module_broker):
    """`KafkaConsumer(TOPIC_NAME, bootstrap_servers=[...])`, as the first document has it."""
    topic = f"inventory-{uuid.uuid4().hex[:8]}"
    admin = KafkaAdminClient(bootstrap_servers=module_broker.bootstrap)
    admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    admin.close()
    consumer = KafkaConsumer(
        topic, bootstrap_servers=[module_broker.bootstrap], consumer_timeout_ms=20000
    )
    assert consumer.poll(timeout_ms=1000) == {}
    assert consumer.position(TopicPartition(topic, 0)) == 0
    old_producer(module_broker.bootstrap, topic, 3)
    received = []
    for message in consumer:
        received.append(json.loads(message.value)["index"])
        if len(received) == 3:
            break
    consumer.close()
    assert received == [0, 1, 2]


# The consumer of the second server: SASL_PLAINTEXT, user admin.

JAAS = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required "
    'username="admin" password="password" user_admin="password" user_alice="alice-secret";'
)


def sasl_properties(sasl):
    return {
        "listeners": f"PLAINTEXT://127.0.0.1:{free_port()},SASL_PLAINTEXT://127.0.0.1:{sasl}",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": JAAS,
    }


@pytest.fixture(scope="module")
def sasl_broker(folders):
    sasl = free_port()
    with Broker(folder=folders(), properties=sasl_properties(sasl)) as broker:
        broker.sasl = f"127.0.0.1:{sasl}"
        old_producer(broker.bootstrap, "ds04_messages_2", RECORDS)
        yield broker


def test_the_consumer_of_ds04_messages_2_logs_in_and_reads_everything(sasl_broker):
    consumer = KafkaConsumer(
        'ds04_messages_2',
        bootstrap_servers=sasl_broker.sasl,
        auto_offset_reset='earliest',
        sasl_mechanism="PLAIN",
        sasl_plain_username="admin",
        sasl_plain_password="password",
        security_protocol="SASL_PLAINTEXT"
    )
    received = []
    for message in consumer:
        received.append(json.loads(message.value)["index"])
        if len(received) == RECORDS:
            break
    consumer.close()
    assert received == list(range(RECORDS))


def test_a_wrong_password_is_refused(sasl_broker):
    errors = []
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": sasl_broker.sasl, "group.id": "wrong",
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN",
        "sasl.username": "admin", "sasl.password": "not the password",
        "error_cb": errors.append,
    })
    consumer.subscribe(["ds04_messages_2"])
    for _ in range(100):
        assert consumer.poll(0.1) is None
        if errors:
            break
    consumer.close()
    assert errors and errors[0].code() == confluent_kafka.KafkaError._AUTHENTICATION, errors
    with pytest.raises(KafkaError):
        KafkaConsumer(
            "ds04_messages_2", bootstrap_servers=sasl_broker.sasl, sasl_mechanism="PLAIN",
            sasl_plain_username="admin", sasl_plain_password="not the password",
            security_protocol="SASL_PLAINTEXT", bootstrap_timeout_ms=5000,
        )


# The same programs with kafka-python 2.0.2, in an interpreter of their own.

OLD_PROGRAM = """
import json, sys
bootstrap, sasl, topic, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
import kafka
assert kafka.__version__ == "2.0.2", kafka.__version__
from kafka import KafkaConsumer, KafkaProducer
producer = KafkaProducer(
    bootstrap_servers=[bootstrap], value_serializer=lambda data: json.dumps(data).encode("utf-8"))
for index in range(count):
    producer.send(topic, {"id": "GM", "index": index})
producer.flush()
producer.close()
plain = KafkaConsumer(topic, bootstrap_servers=[bootstrap], auto_offset_reset="earliest",
                      group_id="old-" + topic, consumer_timeout_ms=20000)
secured = KafkaConsumer(
    topic,
    bootstrap_servers=sasl,
    auto_offset_reset='earliest',
    sasl_mechanism = "PLAIN",
    sasl_plain_username = "admin",
    sasl_plain_password = "password",
    security_protocol = "SASL_PLAINTEXT"
)
for consumer in (plain, secured):
    received = []
    for message in consumer:
        received.append(json.loads(message.value)["index"])
        if len(received) == count:
            break
    consumer.close()
    assert received == list(range(count)), received[:5]
try:
    KafkaConsumer(topic, bootstrap_servers=sasl, sasl_mechanism="PLAIN",
                  sasl_plain_username="admin", sasl_plain_password="wrong",
                  security_protocol="SASL_PLAINTEXT", api_version_auto_timeout_ms=4000)
except kafka.errors.KafkaError as error:
    print("refused:", repr(error))
else:
    raise SystemExit("a wrong password was let in")
"""


@pytest.mark.needs("kafka-python-2.0.2")
def test_the_same_programs_work_with_kafka_python_2_0_2(sasl_broker):
    topic = f"ds04-{uuid.uuid4().hex[:8]}"
    done = subprocess.run(
        [os.environ["ODRADEK_TEST_PYTHON_OLD"], "-c", OLD_PROGRAM, sasl_broker.bootstrap,
         sasl_broker.sasl, topic, str(RECORDS)],
        text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "refused:" in done.stdout


def consumer_reads(consumer, count, seconds=60):
    messages = []
    deadline = time.monotonic() + seconds
    while len(messages) < count and time.monotonic() < deadline:
        for message in consumer.consume(count - len(messages), timeout=0.2):
            assert message.error() is None
            messages.append(message)
    return messages


def test_confluent_kafka_produces_and_consumes_in_a_group(module_broker):
    topic = f"librdkafka-{uuid.uuid4().hex[:8]}"
    producer = confluent_kafka.Producer({"bootstrap.servers": module_broker.bootstrap})
    failed = []
    for index in range(RECORDS):
        producer.produce(
            topic, key=str(index), value=f"value {index}", headers=[("a", b"1"), ("a", b"2")],
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert producer.flush(30) == 0
    assert failed == []
    group = {"bootstrap.servers": module_broker.bootstrap, "group.id": f"group-{topic}",
             "auto.offset.reset": "earliest", "enable.auto.commit": False}
    consumer = confluent_kafka.Consumer(group)
    consumer.subscribe([topic])
    messages = consumer_reads(consumer, RECORDS)
    consumer.commit(asynchronous=False)
    consumer.close()
    assert [message.value().decode() for message in messages] == [
        f"value {index}" for index in range(RECORDS)
    ]
    assert messages[7].headers() == [("a", b"1"), ("a", b"2")]
    again = confluent_kafka.Consumer(group)
    committed = again.committed([confluent_kafka.TopicPartition(topic, 0)], timeout=10)
    again.close()
    assert committed[0].offset == RECORDS


def test_a_blocked_consumer_gets_a_record_without_waiting_for_its_whole_fetch_time(module_broker):
    """Long poll: a fetch that waits for data is answered when data comes, not when it times out."""
    topic = f"waiting-{uuid.uuid4().hex[:8]}"
    old_producer(module_broker.bootstrap, topic, 1)
    consumer = KafkaConsumer(
        topic, bootstrap_servers=module_broker.bootstrap, auto_offset_reset="earliest",
        fetch_max_wait_ms=25000, request_timeout_ms=40000,
    )
    first = consumer.poll(timeout_ms=20000)
    assert sum(map(len, first.values())) == 1
    got = []
    reader = threading.Thread(target=lambda: got.append(consumer.poll(timeout_ms=20000)))
    reader.start()
    old_producer(module_broker.bootstrap, topic, 1)
    reader.join(timeout=15)
    assert not reader.is_alive() and sum(map(len, got[0].values())) == 1
    consumer.close()
