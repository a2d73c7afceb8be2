"""Access rules, SCRAM users, client quotas and sessions that end, as Kafka's own tools set them and
as clients of three libraries meet them."""

import json
import os
import re
import subprocess
import time
import uuid

import pytest
from confluent_kafka import Consumer, KafkaError, Producer
from confluent_kafka import TopicPartition as Place
from harness import java
from harness.broker import Broker, free_port, wait_for
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import (
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)
from kafka.errors import KafkaError as PythonError

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.needs("kafka-4.3.0")]

MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
STANDARD = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
JAAS = ("org.apache.kafka.common.security.plain.PlainLoginModule required "
        'user_admin="admin-secret" user_carol="carol-secret";')


def guarded(folder, **more):
    """An open listener, whose anonymous users are administrators, and one with login."""
    sasl = free_port()
    broker = Broker(folder=folder, properties={
        "listeners": f"PLAINTEXT://127.0.0.1:{free_port()},SASL_PLAINTEXT://127.0.0.1:{sasl}",
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": JAAS,
        "authorizer.class.name": STANDARD,
        "super.users": "User:admin;User:ANONYMOUS",
        **more,
    })
    broker.sasl = f"127.0.0.1:{sasl}"
    return broker


@pytest.fixture(scope="module")
def broker(folders):
    with guarded(folders()) as broker:
        yield broker


@pytest.fixture
def names():
    """A topic, a group and a user that no other test has."""
    end = uuid.uuid4().hex[:8]
    return f"topic-{end}", f"group-{end}", f"user-{end}"


def acls(broker, *arguments, **options):
    return java.tool("4.3.0", "acls", "--bootstrap-server", broker.bootstrap, *arguments, **options)


def configs(broker, *arguments, **options):
    return java.tool(
        "4.3.0", "configs", "--bootstrap-server", broker.bootstrap, *arguments, **options)


def create(broker, topic, partitions=1):
    java.tool("4.3.0", "topics", "--bootstrap-server", broker.bootstrap, "--create", "--topic",
              topic, "--partitions", partitions)


def login(user, password, mechanism="PLAIN"):
    """For librdkafka."""
    return {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": mechanism,
            "sasl.username": user, "sasl.password": password}


def python_login(broker, user, password, mechanism="PLAIN"):
    return {"bootstrap_servers": broker.sasl, "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": mechanism, "sasl_plain_username": user,
            "sasl_plain_password": password}


def java_login(broker, folder, user, password, mechanism="PLAIN", **more):
    module = "plain.PlainLoginModule" if mechanism == "PLAIN" else "scram.ScramLoginModule"
    lines = {
        "bootstrap.servers": broker.sasl, "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": mechanism, **more,
        "sasl.jaas.config": f"org.apache.kafka.common.security.{module} required "
                            f'username="{user}" password="{password}";',
    }
    path = folder / f"{uuid.uuid4().hex}.properties"
    path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
    return path


def send(options, topic, value=b"x"):
    """The error of one record sent by librdkafka, or None."""
    errors = []
    producer = Producer({**options, "message.timeout.ms": 20000})
    producer.produce(topic, value, on_delivery=lambda error, message: errors.append(error))
    assert producer.flush(30) == 0
    return errors[0]


def carol(broker):
    return {"bootstrap.servers": broker.sasl, **login("carol", "carol-secret")}


def test_rules_are_added_listed_and_removed_by_kafka_acls(broker, names):
    topic, group, user = names
    alice = f"User:{user}"
    acls(broker, "--add", "--allow-principal", alice, "--producer", "--topic", topic)
    acls(broker, "--add", "--allow-principal", alice, "--consumer", "--topic", topic, "--group",
         group)
    acls(broker, "--add", "--allow-principal", alice, "--operation", "Read", "--topic", "logs-",
         "--resource-pattern-type", "prefixed")
    acls(broker, "--add", "--deny-principal", alice, "--deny-host", "192.0.2.7", "--operation",
         "All", "--topic", topic)
    listed = acls(broker, "--list", "--principal", alice).stdout
    rows = set(re.findall(
        r"\(principal=User:\S+, host=(\S+), operation=(\w+), permissionType=(\w+)\)", listed))
    assert rows == {
        ("*", "WRITE", "ALLOW"), ("*", "CREATE", "ALLOW"), ("*", "DESCRIBE", "ALLOW"),
        ("*", "READ", "ALLOW"), ("192.0.2.7", "ALL", "DENY"),
    }, listed
    assert re.search(r"resourceType=TOPIC, name=logs-, patternType=PREFIXED", listed), listed
    assert re.search(rf"resourceType=GROUP, name={group}, patternType=LITERAL", listed), listed
    # What would apply to a topic of this name: the prefix alone.
    matching = acls(broker, "--list", "--topic", "logs-today", "--resource-pattern-type",
                    "match").stdout
    assert "name=logs-, patternType=PREFIXED" in matching and topic not in matching
    acls(broker, "--remove", "--force", "--allow-principal", alice, "--consumer", "--topic", topic,
         "--group", group)
    listed = acls(broker, "--list", "--principal", alice).stdout
    assert "GROUP" not in listed and "operation=WRITE" in listed, listed
    acls(broker, "--remove", "--force", "--topic", topic)
    acls(broker, "--remove", "--force", "--topic", "logs-", "--resource-pattern-type", "prefixed")
    assert alice not in acls(broker, "--list").stdout


def test_a_rule_opens_what_it_names_to_all_three_libraries(broker, names, tmp_path):
    topic, group, _ = names
    create(broker, topic)
    options = carol(broker)
    assert send(options, topic).code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
    properties = java_login(broker, tmp_path, "carol", "carol-secret")
    refused = java.tool("4.3.0", "console-producer", "--topic", topic, "--bootstrap-server",
                        broker.sasl, "--command-config", properties, stdin="x\n", check=False)
    assert "TopicAuthorizationException" in refused.stdout + refused.stderr
    python = python_login(broker, "carol", "carol-secret")
    producer = KafkaProducer(**python)
    with pytest.raises(TopicAuthorizationFailedError):
        producer.send(topic, b"x").get(timeout=20)
    producer.close()

    acls(broker, "--add", "--allow-principal", "User:carol", "--producer", "--topic", topic)
    assert send(options, topic) is None
    java.tool("4.3.0", "console-producer", "--topic", topic, "--bootstrap-server", broker.sasl,
              "--command-config", properties, stdin="y\n")
    producer = KafkaProducer(**python)
    producer.send(topic, b"z").get(timeout=20)
    producer.close()

    consumer = Consumer({**options, "group.id": group, "auto.offset.reset": "earliest"})
    consumer.assign([Place(topic, 0, 0)])
    # The group is refused too; which of the two librdkafka tells first is its own affair.
    refusals = set()
    while KafkaError.TOPIC_AUTHORIZATION_FAILED not in refusals:
        refusals.add(wait_for("an answer", lambda: consumer.poll(1.0)).error().code())
    assert refusals <= {KafkaError.TOPIC_AUTHORIZATION_FAILED,
                        KafkaError.GROUP_AUTHORIZATION_FAILED}
    consumer.close()
    acls(broker, "--add", "--allow-principal", "User:carol", "--operation", "Read", "--topic",
         topic)
    # The topic may be read now, the group not yet.
    with pytest.raises(GroupAuthorizationFailedError):
        reader = KafkaConsumer(topic, group_id=group, auto_offset_reset="earliest", **python)
        wait_for("the group to be refused", lambda: reader.poll(1000), 30)
    acls(broker, "--add", "--allow-principal", "User:carol", "--operation", "Read", "--group",
         group)
    consumer = Consumer({**options, "group.id": group, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    values = set()
    while len(values) < 3:
        message = wait_for("a record", lambda: consumer.poll(1.0))
        assert message.error() is None, message.error()
        values.add(message.value())
    consumer.close()
    assert values == {b"x", b"y", b"z"}


def test_denials_hosts_and_prefixes_decide_as_kafka_says(broker, names):
    topic, _, _ = names
    options = carol(broker)
    for name in (topic, f"{topic}-secret"):
        create(broker, name)
    acls(broker, "--add", "--allow-principal", "User:*", "--producer", "--topic", topic,
         "--resource-pattern-type", "prefixed")
    assert send(options, topic) is None
    assert send(options, f"{topic}-secret") is None
    acls(broker, "--add", "--deny-principal", "User:carol", "--operation", "Write", "--topic",
         f"{topic}-s", "--resource-pattern-type", "prefixed")
    assert send(options, topic) is None
    denied = KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert send(options, f"{topic}-secret").code() == denied
    acls(broker, "--add", "--deny-principal", "User:carol", "--deny-host", "192.0.2.7",
         "--operation", "Write", "--topic", topic)
    assert send(options, topic) is None
    acls(broker, "--add", "--deny-principal", "User:carol", "--deny-host", "127.0.0.1",
         "--operation", "Write", "--topic", topic)
    assert send(options, topic).code() == denied


def test_who_may_nothing_sees_nothing_and_administers_nothing(broker, names, tmp_path):
    topic, group, _ = names
    create(broker, topic)
    admin = KafkaAdminClient(**python_login(broker, "carol", "carol-secret"))
    assert topic not in admin.list_topics()
    admin.close()
    properties = java_login(broker, tmp_path, "carol", "carol-secret")
    for tool, arguments, exception in [
        ("topics", ["--create", "--topic", f"{topic}-2"], "TopicAuthorizationException"),
        ("topics", ["--delete", "--topic", topic], "does not exist"),
        ("acls", ["--list"], "ClusterAuthorizationException"),
        ("acls", ["--add", "--allow-principal", "User:carol", "--operation", "All", "--cluster"],
         "ClusterAuthorizationException"),
        ("configs", ["--describe", "--entity-type", "brokers", "--entity-name", "1"],
         "ClusterAuthorizationException"),
        ("consumer-groups", ["--describe", "--group", group], "GroupAuthorizationException"),
    ]:
        done = java.tool("4.3.0", tool, "--bootstrap-server", broker.sasl, "--command-config",
                         properties, *arguments, check=False)
        assert exception in done.stdout + done.stderr, (tool, arguments, done.stdout, done.stderr)
    assert topic in java.tool("4.3.0", "topics", "--bootstrap-server", broker.bootstrap,
                              "--list").stdout.split()
    assert re.search(r"not authorised.*User:carol", broker.log())


@pytest.mark.odradek_only
def test_rules_hold_over_http_and_after_a_restart(make_broker, folders, names):
    topic, _, _ = names
    with guarded(folders()) as broker:
        create(broker, topic)
        assert send({"bootstrap.servers": broker.bootstrap}, topic) is None
        acls(broker, "--add", "--allow-principal", "User:carol", "--operation", "Describe",
             "--topic", topic)
        broker.restart()
        assert "User:carol" in acls(broker, "--list").stdout
        headers = {"Authorization": "Basic Y2Fyb2w6Y2Fyb2wtc2VjcmV0"}
        status, _, body = broker.get("/api/v1/topics", headers)
        assert status == 200 and [t["name"] for t in json.loads(body)["topics"]] == [topic]
        status, _, body = broker.get(f"/api/v1/topics/{topic}/records?from=-1h", headers)
        assert status == 403, body


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_every_mechanism_logs_in_by_all_three_libraries(broker, names, tmp_path, mechanism):
    topic, group, user = names
    create(broker, topic)
    acls(broker, "--add", "--allow-principal", f"User:{user}", "--producer", "--topic", topic)
    made = mechanism if mechanism != "PLAIN" else "SCRAM-SHA-512"
    configs(broker, "--alter", "--add-config", f"{made}=[iterations=8192,password=right]",
            "--entity-type", "users", "--entity-name", user)
    described = configs(broker, "--describe", "--entity-type", "users", "--entity-name",
                        user).stdout
    assert f"SCRAM credential configs for user-principal '{user}' are {made}=iterations=8192" \
        in described
    options = {"bootstrap.servers": broker.sasl, **login(user, "right", mechanism)}
    assert send(options, topic) is None
    producer = KafkaProducer(**python_login(broker, user, "right", mechanism))
    producer.send(topic, b"x").get(timeout=20)
    producer.close()
    properties = java_login(broker, tmp_path, user, "right", mechanism)
    java.tool("4.3.0", "console-producer", "--topic", topic, "--bootstrap-server", broker.sasl,
              "--command-config", properties, stdin="y\n")
    cannot_log_in(broker, user, "wrong", mechanism)
    configs(broker, "--alter", "--delete-config", made, "--entity-type", "users", "--entity-name",
            user)
    cannot_log_in(broker, user, "right", mechanism)


def cannot_log_in(broker, user, password, mechanism):
    before = refused_logins(broker)
    with pytest.raises(PythonError):
        KafkaProducer(**python_login(broker, user, password, mechanism), bootstrap_timeout_ms=3000)
    assert refused_logins(broker) > before


def refused_logins(broker):
    """By HTTP, because the log has repeated ones of one address only now and then."""
    _, _, body = broker.get("/metrics")
    counts = re.findall(rb'odradek_odd_connections{diagnosis="wrong-password"} (\d+)', body)
    return int(counts[0])


def test_quotas_are_set_described_and_removed_by_kafka_configs(broker, names):
    _, _, user = names
    both = ["--entity-type", "users", "--entity-name", user, "--entity-type", "clients",
            "--entity-default"]
    configs(broker, "--alter", "--add-config", "producer_byte_rate=1024,consumer_byte_rate=2048",
            "--entity-type", "users", "--entity-name", user)
    configs(broker, "--alter", "--add-config", "request_percentage=50", *both)
    configs(broker, "--alter", "--add-config", "connection_creation_rate=9", "--entity-type", "ips",
            "--entity-name", "192.0.2.9")
    described = configs(broker, "--describe", "--entity-type", "users", "--entity-name",
                        user).stdout
    assert "consumer_byte_rate=2048.0" in described and "producer_byte_rate=1024.0" in described
    described = configs(broker, "--describe", *both).stdout
    assert "request_percentage=50.0" in described, described
    described = configs(broker, "--describe", "--entity-type", "ips").stdout
    assert "192.0.2.9" in described and "connection_creation_rate=9.0" in described
    refused = configs(broker, "--alter", "--add-config", "producer_byte_rate=-5", "--entity-type",
                      "users", "--entity-name", user, check=False)
    assert refused.returncode != 0
    configs(broker, "--alter", "--delete-config", "producer_byte_rate,consumer_byte_rate",
            "--entity-type", "users", "--entity-name", user)
    described = configs(broker, "--describe", "--entity-type", "users", "--entity-name",
                        user).stdout
    assert "byte_rate" not in described, described


def test_a_producer_and_a_consumer_beyond_their_rates_are_throttled(broker, names, tmp_path):
    topic, group, _ = names
    create(broker, topic)
    properties = tmp_path / "steady.properties"
    properties.write_text(f"bootstrap.servers={broker.bootstrap}\nclient.id={group}\n")
    configs(broker, "--alter", "--add-config", "producer_byte_rate=20000,consumer_byte_rate=20000",
            "--entity-type", "clients", "--entity-name", group)
    told = steady(properties, topic, 6, 20000, 10, "produce-throttle-time-max")
    assert told["produce-throttle-time-max"] > 0 and told["acknowledged"] > 0, told
    # 20,000 bytes a second over ten windows: without the quota all of it would come at once.
    for _ in range(20):
        assert send({"bootstrap.servers": broker.bootstrap}, topic, b"y" * 20000) is None
    waits = []
    consumer = Consumer({
        "bootstrap.servers": broker.bootstrap, "group.id": group, "client.id": group,
        "auto.offset.reset": "earliest", "statistics.interval.ms": 0,
        "fetch.message.max.bytes": 50000,
        "throttle_cb": lambda event: waits.append(event.throttle_time),
    })
    consumer.assign([Place(topic, 0, 0)])
    deadline = time.monotonic() + 60
    while not waits and time.monotonic() < deadline:
        consumer.poll(0.5)
    consumer.close()
    assert waits and max(waits) > 0
    configs(broker, "--alter", "--delete-config", "producer_byte_rate,consumer_byte_rate",
            "--entity-type", "clients", "--entity-name", group)


def steady(properties, topic, seconds, size, pause_ms, *metrics):
    done = java.program("4.3.0", "Steady.java", properties, topic, seconds, size, pause_ms,
                        *metrics)
    return {name: float(number) for name, number in
            (line.rsplit(" ", 1) for line in done.stdout.splitlines())}


SESSION_MS = 3000


@pytest.fixture(scope="module")
def short_sessions(folders):
    with guarded(folders(), **{"connections.max.reauth.ms": SESSION_MS}) as broker:
        create(broker, "steady")
        acls(broker, "--add", "--allow-principal", "User:carol", "--operation", "All", "--topic",
             "steady")
        yield broker


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_javas_client_logs_in_again_and_keeps_its_connection(short_sessions, tmp_path, mechanism):
    properties = java_login(short_sessions, tmp_path, "carol", "carol-secret", mechanism,
                            retries=0)
    told = steady(properties, "steady", 12, 10, 100, "successful-reauthentication-total",
                  "failed-reauthentication-total")
    assert told["successful-reauthentication-total"] >= 3, told
    assert told["failed-reauthentication-total"] == 0, told
    assert not [name for name in told if name.startswith("failed:")], told


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_librdkafka_logs_in_again_and_keeps_its_connection(short_sessions, mechanism):
    broker, disconnects, failures, statistics = short_sessions, [], [], []
    producer = Producer({
        "bootstrap.servers": broker.sasl, **login("carol", "carol-secret", mechanism),
        "error_cb": disconnects.append, "statistics.interval.ms": 500,
        "stats_cb": lambda text: statistics.append(json.loads(text)), "retries": 0,
    })
    before = broker.log().count("session-expired")
    deadline = time.monotonic() + 4 * SESSION_MS / 1000
    while time.monotonic() < deadline:
        producer.produce("steady", b"x", on_delivery=lambda e, m: e and failures.append(e))
        producer.poll(0.1)
    assert producer.flush(20) == 0
    assert not failures and not disconnects
    connects = [broker["connects"] for broker in statistics[-1]["brokers"].values()
                if broker["nodeid"] == 1]
    assert connects == [1], "one connection for four sessions"
    assert broker.log().count("session-expired") == before


def test_kafka_python_logs_in_again_and_keeps_its_connection(short_sessions):
    producer = KafkaProducer(**python_login(short_sessions, "carol", "carol-secret"), retries=0)
    before = short_sessions.log().count("session-expired")
    keep_sending(producer)
    assert short_sessions.log().count("session-expired") == before


def keep_sending(producer):
    deadline = time.monotonic() + 3 * SESSION_MS / 1000
    while time.monotonic() < deadline:
        producer.send("steady", b"x").get(timeout=20)
    producer.close()


OLD_PROGRAM = """
import sys, time
from kafka import KafkaProducer
producer = KafkaProducer(
    bootstrap_servers=sys.argv[1], security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN",
    sasl_plain_username="carol", sasl_plain_password="carol-secret", retries=20)
deadline = time.monotonic() + float(sys.argv[2])
while time.monotonic() < deadline:
    producer.send("steady", b"x").get(timeout=20)
producer.close()
"""


def test_a_client_that_does_not_log_in_again_is_sent_away_and_comes_back(short_sessions):
    """kafka-python 2.0.2 does not know KIP-368."""
    done = subprocess.run(
        [os.environ["ODRADEK_TEST_PYTHON_OLD"], "-c", OLD_PROGRAM, short_sessions.sasl,
         str(3 * SESSION_MS / 1000)],
        timeout=120, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout
    assert "session-expired" in short_sessions.log()


@pytest.mark.odradek_only
def test_metrics_that_javas_client_pushes_are_shown_while_somebody_subscribes(make_broker,
                                                                             tmp_path):
    broker = make_broker().start()
    create(broker, "steady")
    properties = tmp_path / "steady.properties"
    properties.write_text(f"bootstrap.servers={broker.bootstrap}\nclient.id=pushing\n")
    steady(properties, "steady", 2, 10, 100)
    assert b"odradek_client_producer" not in broker.get("/metrics")[2], "nobody asked for it"
    java.tool("4.3.0", "client-metrics", "--bootstrap-server", broker.bootstrap, "--alter",
              "--name", "all", "--metrics", "org.apache.kafka.producer.connection.",
              "--interval", "1000", "--match", "client_software_name=apache-kafka-java")
    described = java.tool("4.3.0", "client-metrics", "--bootstrap-server", broker.bootstrap,
                          "--describe").stdout
    assert "interval.ms=1000" in described, described
    steady(properties, "steady", 6, 10, 100)
    shown = broker.get("/metrics")[2].decode()
    rows = re.findall(r'odradek_client_producer_(\w+){.*client_id="pushing".*} (\S+)', shown)
    values = {name: float(value) for name, value in rows}
    assert values.get("connection_creation_total", 0) >= 1, shown
    assert all(name.startswith("connection") for name in values), values
