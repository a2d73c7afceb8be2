"""server.properties as users have them: the old server's listeners, JAAS lines, mistakes."""

import json
import os
import subprocess
import uuid

import pytest
from harness.broker import free_port
from kafka import KafkaConsumer, KafkaProducer


def works(bootstrap, **options):
    topic = f"configs-{uuid.uuid4().hex[:8]}"
    producer = KafkaProducer(bootstrap_servers=[bootstrap], acks="all", **options,
                             value_serializer=lambda data: json.dumps(data).encode())
    for index in range(20):
        producer.send(topic, index)
    producer.close()
    consumer = KafkaConsumer(topic, bootstrap_servers=[bootstrap], auto_offset_reset="earliest",
                             consumer_timeout_ms=20000, **options)
    got = [json.loads(next(consumer).value) for _ in range(20)]
    consumer.close()
    return got == list(range(20))


def advertised(bootstrap):
    """Host and port of each broker that a client is told of."""
    from kafka import KafkaAdminClient

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    brokers = admin.describe_cluster()["brokers"]
    admin.close()
    return [(broker["host"], broker["port"]) for broker in brokers]


def test_the_internal_and_external_pair_of_the_old_server_serves_both(make_broker):
    """`listeners=INTERNAL://0.0.0.0:19092,EXTERNAL://0.0.0.0:9092` with a map and advertised
    addresses; here on the loopback, with 127.0.0.1 and localhost in place of the two addresses."""
    internal, external = free_port(), free_port()
    broker = make_broker(properties={
        "listeners": f"INTERNAL://0.0.0.0:{internal},EXTERNAL://0.0.0.0:{external}",
        "listener.security.protocol.map": "INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT",
        "advertised.listeners":
            f"INTERNAL://127.0.0.1:{internal},EXTERNAL://localhost:{external}",
        "inter.broker.listener.name": "INTERNAL",
    }).start()
    assert works(f"127.0.0.1:{internal}")
    assert works(f"127.0.0.1:{external}")
    assert advertised(f"127.0.0.1:{internal}") == [("127.0.0.1", internal)]
    assert advertised(f"127.0.0.1:{external}") == [("localhost", external)]


@pytest.mark.odradek_only
def test_a_listener_beyond_the_loopback_without_a_login_is_warned_about(make_broker):
    port = free_port()
    properties = {"listeners": f"PLAINTEXT://0.0.0.0:{port}"}
    broker = make_broker(properties=properties).start()
    warned = [line for line in broker.log().splitlines() if "WARN" in line]
    assert any("there is no login" in line and f"0.0.0.0:{port}" in line for line in warned)
    broker.stop()
    meant = make_broker(properties={**properties, "odradek.allow.unauthenticated.network": "true"})
    meant.start()
    assert "WARN" not in meant.log()


SASL = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "admin", "sasl_plain_password": "password"}
JAAS_LINE = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required \\\n"
    '    username="admin" \\\n    password="password" \\\n    user_admin="password" \\\n'
    '    user_alice="alice-secret";'
)


def test_a_pasted_sasl_plaintext_jaas_line_starts_and_logs_in(make_broker):
    port = free_port()
    broker = make_broker(properties={
        "listeners": f"SASL_PLAINTEXT://127.0.0.1:{port}",
        "advertised.listeners": f"SASL_PLAINTEXT://127.0.0.1:{port}",
        "security.inter.broker.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": JAAS_LINE,
    }).start()
    assert works(f"127.0.0.1:{port}", **SASL)
    broker.restart()
    assert works(f"127.0.0.1:{port}", **SASL)


def test_a_named_listener_may_be_sasl_by_the_map(make_broker):
    internal, external = free_port(), free_port()
    make_broker(properties={
        "listeners": f"INTERNAL://127.0.0.1:{internal},EXTERNAL://127.0.0.1:{external}",
        "listener.security.protocol.map": "INTERNAL:PLAINTEXT,EXTERNAL:SASL_PLAINTEXT",
        "inter.broker.listener.name": "INTERNAL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.external.plain.sasl.jaas.config": JAAS_LINE,
    }).start()
    assert works(f"127.0.0.1:{internal}")
    assert works(f"127.0.0.1:{external}", **SASL)


@pytest.mark.odradek_only
def test_a_stock_server_properties_of_kafka_3_4_starts(make_broker):
    """The keys of Kafka 3.4's own file, ZooKeeper's among them; those that mean nothing here are
    accepted and named at the start."""
    port = free_port()
    broker = make_broker(properties={
        "broker.id": "0", "listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "num.network.threads": "3", "num.io.threads": "8",
        "socket.send.buffer.bytes": "102400", "socket.receive.buffer.bytes": "102400",
        "socket.request.max.bytes": "104857600", "num.partitions": "1",
        "num.recovery.threads.per.data.dir": "1", "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1", "transaction.state.log.min.isr": "1",
        "log.retention.hours": "168", "log.segment.bytes": "1073741824",
        "log.retention.check.interval.ms": "300000", "zookeeper.connect": "localhost:2181",
        "zookeeper.connection.timeout.ms": "18000", "group.initial.rebalance.delay.ms": "0",
    }).start()
    assert works(f"127.0.0.1:{port}")
    assert "zookeeper.connect" in broker.log()


def refused(broker):
    """What a start that must fail says."""
    path = broker.write_configuration()
    done = subprocess.run(
        [os.environ["ODRADEK_BIN"], "serve", "--config", str(path)], text=True, timeout=30,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        cwd=broker.folder,
    )
    assert done.returncode != 0, done.stdout
    return done.stdout


@pytest.mark.odradek_only
@pytest.mark.parametrize("key, value, words", [
    ("advertised.listners", "PLAINTEXT://localhost:9092",
     ["server.properties", "advertised.listeners"]),
    ("num.partitions", "many", ["num.partitions", "many"]),
    ("listener.security.protocol.map", "EXTERNAL:PLAINTEXT", ["PLAINTEXT"]),
    ("ssl.keystore.type", "JKS", ["PEM"]),
])
def test_a_configuration_that_cannot_be_honoured_stops_the_start(make_broker, key, value, words):
    """An unknown key is refused with the file, the line and the nearest name."""
    properties = {key: value}
    if key == "ssl.keystore.type":
        properties |= {"listeners": f"SSL://127.0.0.1:{free_port()}",
                       "ssl.keystore.location": "/tmp/none.jks"}
    text = refused(make_broker(properties=properties))
    for word in words:
        assert word in text, text


@pytest.mark.odradek_only
def test_one_data_folder_belongs_to_one_process(make_broker):
    first = make_broker().start()
    second = make_broker(folder=first.folder, properties={
        "listeners": f"PLAINTEXT://127.0.0.1:{free_port()}"})
    text = refused(second)
    assert str(first.data) in text
    assert works(first.bootstrap)


@pytest.mark.odradek_only
def test_a_clean_stop_ends_with_zero_and_keeps_everything(make_broker):
    broker = make_broker().start()
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, acks="all")
    for index in range(100):
        producer.send("kept", b"%d" % index)
    producer.close()
    assert broker.stop() == 0
    broker.start()
    consumer = KafkaConsumer("kept", bootstrap_servers=broker.bootstrap,
                             auto_offset_reset="earliest", consumer_timeout_ms=20000)
    assert [int(next(consumer).value) for _ in range(100)] == list(range(100))
    consumer.close()
