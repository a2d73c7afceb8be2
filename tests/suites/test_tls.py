"""SSL and SASL_SSL with PEM files, for Python, librdkafka and Java; a wrong CA is refused."""

import ssl
import socket
import uuid

import confluent_kafka
import pytest
from harness import certificates, java
from harness.broker import APACHE, Broker, free_port, wait_for
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError
from test_clients import JAAS

pytestmark = pytest.mark.needs("openssl")
VALUES = [b"value %d" % index for index in range(200)]


@pytest.fixture(scope="module")
def broker(folders):
    folder = folders()
    certificates.authority(folder, "ca")
    certificates.authority(folder, "other")
    pem = certificates.server(folder, "ca")
    plain, tls, sasl_tls = free_port(), free_port(), free_port()
    properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SSL://127.0.0.1:{tls},"
                     f"SASL_SSL://127.0.0.1:{sasl_tls}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(pem),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": JAAS,
    }
    with Broker(folder=folder, properties=properties) as broker:
        broker.tls, broker.sasl_tls = f"127.0.0.1:{tls}", f"127.0.0.1:{sasl_tls}"
        yield broker


def python_options(broker, protocol, ca="ca"):
    options = {
        "bootstrap_servers": broker.tls if protocol == "SSL" else broker.sasl_tls,
        "security_protocol": protocol,
        "ssl_cafile": str(broker.folder / f"{ca}.pem"),
    }
    if protocol == "SASL_SSL":
        options |= {"sasl_mechanism": "PLAIN", "sasl_plain_username": "alice",
                    "sasl_plain_password": "alice-secret"}
    return options


def librdkafka_options(broker, protocol, ca="ca"):
    options = {
        "bootstrap.servers": broker.tls if protocol == "SSL" else broker.sasl_tls,
        "security.protocol": protocol,
        "ssl.ca.location": str(broker.folder / f"{ca}.pem"),
    }
    if protocol == "SASL_SSL":
        options |= {"sasl.mechanism": "PLAIN", "sasl.username": "alice",
                    "sasl.password": "alice-secret"}
    return options


def java_options(broker, protocol, ca="ca"):
    lines = [
        f"security.protocol={protocol}",
        "ssl.truststore.type=PEM",
        f"ssl.truststore.location={broker.folder / ca}.pem",
    ]
    if protocol == "SASL_SSL":
        lines += [
            "sasl.mechanism=PLAIN",
            "sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required "
            'username="alice" password="alice-secret";',
        ]
    path = broker.folder / f"{protocol}-{ca}.properties"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_kafka_python_produces_and_consumes(broker, protocol):
    topic = f"tls-{uuid.uuid4().hex[:8]}"
    producer = KafkaProducer(**python_options(broker, protocol))
    for value in VALUES:
        producer.send(topic, value)
    producer.close()
    consumer = KafkaConsumer(topic, auto_offset_reset="earliest", consumer_timeout_ms=20000,
                             **python_options(broker, protocol))
    got = [next(consumer).value for _ in VALUES]
    consumer.close()
    assert got == VALUES


@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_librdkafka_produces(broker, protocol):
    producer = confluent_kafka.Producer(librdkafka_options(broker, protocol))
    delivered = []
    for value in VALUES:
        producer.produce(f"tls-{protocol}", value,
                         on_delivery=lambda error, _: delivered.append(error))
    assert producer.flush(30) == 0
    assert delivered == [None] * len(VALUES)


@pytest.mark.needs("kafka-4.3.0")
@pytest.mark.parametrize("protocol", ["SSL", "SASL_SSL"])
def test_java_produces_and_consumes(broker, protocol):
    topic = f"tls-{uuid.uuid4().hex[:8]}"
    bootstrap = broker.tls if protocol == "SSL" else broker.sasl_tls
    options = java_options(broker, protocol)
    java.tool("4.3.0", "console-producer", "--bootstrap-server", bootstrap, "--topic", topic,
              "--command-config", options, stdin="one\ntwo\n")
    got = java.tool("4.3.0", "console-consumer", "--bootstrap-server", bootstrap, "--topic", topic,
                    "--command-config", options, "--from-beginning", "--max-messages", "2",
                    "--timeout-ms", "30000")
    assert got.stdout.splitlines() == ["one", "two"]


def mistakes(broker):
    """How often each diagnosis was made, by the diary of odd connections."""
    if APACHE:
        return {}
    counts = {}
    for entry in broker.get_json("/api/v1/diagnostics/connections")["connections"]:
        counts[entry["diagnosis"]] = counts.get(entry["diagnosis"], 0) + entry["count"]
    return counts


def broker_says(broker, before, diagnosis, words):
    """The diary has a new entry of this kind, and the log a line with the words. (A line is written
    for a peer's first mistake, and each time their number has doubled.)"""
    if APACHE:
        return
    wait_for(f"a new {diagnosis} in the diary",
             lambda: mistakes(broker).get(diagnosis, 0) > before.get(diagnosis, 0), 10)
    lines = [line for line in broker.log().splitlines() if diagnosis in line]
    assert any(words in line for line in lines), lines


NOT_TRUSTED = ("tls-authority-not-trusted", "does not trust this broker's certificate")
# Java's alert does not tell an unknown authority from a wrong name.
REFUSED = ("tls-certificate-refused", "refused this broker's certificate")


def test_a_wrong_ca_is_refused_by_python_with_a_clear_message(broker):
    before = mistakes(broker)
    with pytest.raises(KafkaError):
        KafkaProducer(bootstrap_timeout_ms=4000, **python_options(broker, "SSL", ca="other"))
    broker_says(broker, before, *NOT_TRUSTED)
    context = ssl.create_default_context(cafile=str(broker.folder / "other.pem"))
    host, port = broker.tls.split(":")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        with socket.create_connection((host, int(port)), timeout=10) as plain:
            context.wrap_socket(plain, server_hostname="localhost")


def test_a_wrong_ca_is_refused_by_librdkafka_with_a_clear_message(broker):
    errors = []
    before = mistakes(broker)
    producer = confluent_kafka.Producer({
        **librdkafka_options(broker, "SASL_SSL", ca="other"), "error_cb": errors.append})
    wait_for("an error", lambda: producer.poll(0.1) or errors, 20)
    assert "certificate verify failed" in errors[0].str(), errors
    broker_says(broker, before, *NOT_TRUSTED)


@pytest.mark.needs("kafka-4.3.0")
def test_a_wrong_ca_is_refused_by_java_with_a_clear_message(broker):
    before = mistakes(broker)
    done = java.tool("4.3.0", "topics", "--bootstrap-server", broker.tls, "--list",
                     "--command-config", java_options(broker, "SSL", ca="other"), check=False)
    assert done.returncode != 0
    assert "SSL handshake failed" in done.stdout + done.stderr
    broker_says(broker, before, *REFUSED)


def test_a_plain_client_on_the_tls_port_fails_and_others_go_on(broker):
    before = mistakes(broker)
    errors = []
    producer = confluent_kafka.Producer({"bootstrap.servers": broker.tls,
                                         "error_cb": errors.append})
    wait_for("an error", lambda: producer.poll(0.1) or errors, 20)
    broker_says(broker, before, "plain-on-tls-port", "TLS")
    producer = KafkaProducer(**python_options(broker, "SSL"))
    assert producer.send("tls-others", b"x").get(10).offset >= 0
    producer.close()


def certificate_number(address, ca):
    """The serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(ca))
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as tls:
            return tls.getpeercert()["serialNumber"]


@pytest.mark.skipif(APACHE, reason="Kafka looks at a file again only when it is named again")
def test_a_renewed_certificate_is_served_without_a_restart(broker):
    ca = broker.folder / "ca.pem"
    producer = KafkaProducer(**python_options(broker, "SSL"))
    producer.send("tls-renewed", b"before").get(10)
    before = certificate_number(broker.tls, ca)
    pem = broker.folder / "server.pem"
    pem.write_text("half written")
    wait_for("the broker says that it keeps what it has",
             lambda: "cannot be used; what was read before stays in force" in broker.log(), 20)
    assert certificate_number(broker.tls, ca) == before
    certificates.server(broker.folder, "ca")
    wait_for("the new certificate", lambda: certificate_number(broker.tls, ca) != before, 20)
    assert producer.send("tls-renewed", b"after").get(10).offset == 1
    producer.close()


@pytest.mark.skipif(APACHE, reason="Kafka's list of listeners holds its controller's, too")
@pytest.mark.needs("kafka-4.3.0")
def test_kafka_configs_opens_a_tls_listener_and_closes_it_again(broker):
    late, plain = free_port(), broker.bootstrap
    kept = broker.properties["listeners"]

    def change(*arguments):
        java.tool("4.3.0", "configs", "--bootstrap-server", plain, "--alter", "--entity-type",
                  "brokers", "--entity-name", "1", *arguments)

    changes = broker.folder / "late.properties"
    changes.write_text(
        f"listeners={kept},LATE://127.0.0.1:{late}\n"
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,LATE:SSL\n"
        f"listener.name.late.ssl.keystore.location={broker.folder / 'server.pem'}\n")
    change("--add-config-file", str(changes))
    producer = KafkaProducer(bootstrap_servers=f"127.0.0.1:{late}", security_protocol="SSL",
                             ssl_cafile=str(broker.folder / "ca.pem"))
    assert producer.send("tls-late", b"x").get(10).offset >= 0
    producer.close()
    change("--delete-config",
           "listeners,listener.security.protocol.map,listener.name.late.ssl.keystore.location")
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", late), timeout=5)


@pytest.mark.skipif(APACHE, reason="there is no Java class X for Kafka to load")
@pytest.mark.needs("kafka-4.3.0")
def test_kafka_configs_sets_the_users_of_a_jaas_line(broker):
    key = "listener.name.sasl_ssl.plain.sasl.jaas.config"

    def change(*arguments):
        java.tool("4.3.0", "configs", "--bootstrap-server", broker.bootstrap, "--alter",
                  "--entity-type", "brokers", "--entity-name", "1", *arguments)

    def logs_in(user):
        options = python_options(broker, "SASL_SSL") | {
            "sasl_plain_username": user, "sasl_plain_password": f"{user}-secret"}
        producer = KafkaProducer(bootstrap_timeout_ms=10000, **options)
        assert producer.send("tls-users", b"x").get(10).offset >= 0
        producer.close()

    change("--add-config", f'{key}=[X required user_late="late-secret";]')
    logs_in("late")
    with pytest.raises(KafkaError):
        logs_in("alice")
    change("--delete-config", key)
    logs_in("alice")
