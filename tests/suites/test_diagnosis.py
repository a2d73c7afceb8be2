"""Every mistake at logins, listeners and TLS that people write about, made on purpose with the
clients they made it with: which diagnosis comes out at the broker, and what does the client say?

All clients of the first table run at the same time, each against a listener of its own, so that
what the broker notes has its author. The table of the manual, broker/DIAGNOSES.md, is made from
what is found here, and the last test fails when the two differ.
"""

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import confluent_kafka
import pytest
from conftest import MISSING
from harness import certificates, java, network, wrong_clients
from harness.broker import Broker, free_port, wait_for
from harness.diagnosis_table import PAGE, Table
from harness.wrong_clients import LIBRARIES, Settings
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

pytestmark = [pytest.mark.odradek_only, pytest.mark.needs("openssl")]

JAAS = ("org.apache.kafka.common.security.plain.PlainLoginModule required "
        'user_admin="password" user_carol="carol-secret";')
PYTHON, OLD, RDKAFKA, KCAT, JAVA = (
    "kafka-python", "kafka-python 2.0.2", "librdkafka", "kcat", "Java")
SMALL = "kafka-topics with a heap of 48 MB"

# Why, by the row's key; the order of the manual's table.
WHY = {
    "no-login": "the client has no login, the listener wants one",
    "login-unwanted": "the client logs in, the listener has no login",
    "tls-unwanted": "the client speaks TLS, the port does not",
    "http": "an HTTP client on a Kafka port",
    "http-reply": "something took the Kafka port for a client of its own and sent an HTTP reply",
    "ssh": "an SSH client on a Kafka port",
    "no-tls": "the client does not speak TLS, the port does",
    "mechanism": "the client's `sasl.mechanism` is not enabled on the listener",
    "password": "wrong user name or password",
    "no-user": "no JAAS file, no JAAS line and no user: the broker starts all the same",
    "own-login": "the keys of the broker's login to itself are pasted, its user is not in the list",
    "authority": "the client does not trust the authority that signed the broker's certificate",
    "host": "the broker's certificate does not name the host that the client dials",
    "certificate": "the listener wants a client certificate (`ssl.client.auth=required`)",
    "unreachable": "the client is told an address, by `advertised.listeners`, that it cannot reach",
    "outside": "it works on the broker's machine and not from others: `advertised.listeners` says "
               "`localhost`",
    "near-miss": "a blank behind the topic's name, or another slip in it",
    "no-rule": "logged in, but no access rule allows it",
    "start-address": "`advertised.listeners` has an address that nobody can dial",
    "start-names": "`advertised.listeners` has a listener that is not in `listeners`",
    "start-protocol": "a listener is not in `listener.security.protocol.map`",
    "start-port": "two listeners on one port",
}


@dataclass(frozen=True)
class Case:
    """One client's mistake."""

    why: str
    client: str
    # What the client says, word for word, and what the broker notes of it. Where a client says one
    # of several things, as chance has it, all of them.
    sees: tuple
    diagnosis: str
    notes: str
    protocol: str = "PLAINTEXT"
    settings: Settings = Settings()
    verb: str = "list"
    topic: str = None
    # Programs: a command in which {port} and the names of files are filled in.
    command: tuple = ()
    # No program: what is sent instead.
    first_bytes: bytes = b""
    # Whether the broker has users.
    users: bool = True
    # How long a client tries; 0: as long as the others.
    seconds: int = 0
    # What the listener advertises, where it does; {closed} is a port of nobody.
    advertised: str = ""
    # Keys of this listener alone; {ca} and the like are files of the fixture.
    extra: dict = field(default_factory=dict, hash=False)

    @property
    def listener(self):
        return re.sub(r"\W", "_", f"{self.why}-{self.client}").upper()

    @property
    def home(self):
        """The broker that has its listener. Failed logins slow down an address, and all clients
        here have the same one, so these have a broker of their own."""
        return self.listener if self.why in ("password", "no-user") else "common"

    def needs(self):
        if self.command:
            return [self.command[0]]
        things = {JAVA: "kafka-4.3.0", SMALL: "kafka-4.3.0", OLD: "kafka-python-2.0.2",
                  KCAT: "kcat"}
        return [things[self.client]] if self.client in things else []


@dataclass(frozen=True)
class Start:
    """A configuration with which neither Kafka's broker nor this one starts."""

    why: str
    # Kafka's sentence, as far as it is the same here.
    sees: str
    notes: str
    lines: tuple
    # The line of the file, from 1, at which the broker points.
    at: int

    needs = staticmethod(lambda: ["kafka-4.3.0"])

    @property
    def listener(self):
        return re.sub(r"\W", "_", self.sees).upper()


def each(why, diagnosis, notes, sees, **more):
    """A case for each client of `sees`."""
    return [Case(why, client, some(texts), diagnosis, notes, **more)
            for client, texts in sees.items()]


def some(texts):
    return (texts,) if isinstance(texts, str) else texts


PLAIN_LOGIN = Settings("SASL_PLAINTEXT")
CHROMIUM = ("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
            "http://127.0.0.1:{port}/")
HTTP_HINT = "This port speaks Apache Kafka's protocol, not HTTP."
UNTRUSTED = "the client does not trust this broker's certificate"
REFUSED = "the client refused this broker's certificate"
CASES = [
    *each("no-login", "no-sasl-on-sasl-listener", "came before a SASL login was complete", {
        PYTHON: "KafkaTimeoutError: Unable to bootstrap from",
        OLD: ("NoBrokersAvailable", "UnrecognizedBrokerVersion",
              "KafkaTimeoutError: Failed to update metadata after"),
        RDKAFKA: "Disconnected: connection closed by peer: receive 0 after POLLIN",
        KCAT: "Disconnected: verify that security.protocol is correctly configured, broker might "
              "require SASL authentication",
        JAVA: "TimeoutException: Timed out waiting for a node assignment",
    }, protocol="SASL_PLAINTEXT"),
    *each("login-unwanted", "sasl-on-plain-listener", "SaslHandshake for PLAIN came", {
        PYTHON: "SaslHandshake failed: IllegalSaslStateError",
        OLD: "NoBrokersAvailable",
        RDKAFKA: "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL "
                 "state: broker's supported mechanisms:",
        KCAT: "SASL PLAIN mechanism handshake failed: Broker: Request not valid in current SASL "
              "state: broker's supported mechanisms:",
        JAVA: "IllegalSaslStateException: Unexpected handshake request with client mechanism "
              "PLAIN, enabled mechanisms are []",
    }, settings=PLAIN_LOGIN),
    *each("tls-unwanted", "tls-on-plain-port", "the first bytes are a TLS ClientHello: 16 03", {
        PYTHON: "KafkaTimeoutError: Unable to bootstrap from",
        RDKAFKA: "Disconnected: SSL connection closed by peer",
        KCAT: "SSL routines::unexpected eof while reading",
        JAVA: "terminated during authentication. This may happen due to any of the following "
              "reasons: (1) Firewall blocking Kafka TLS traffic",
    }, settings=Settings("SSL", ca="{ca}")),
    Case("tls-unwanted", "openssl s_client", ("unexpected eof while reading",), "tls-on-plain-port",
         "the first bytes are a TLS ClientHello: 16 03",
         command=("openssl", "s_client", "-connect", "127.0.0.1:{port}")),
    Case("http", "a browser", (HTTP_HINT,), "http-on-kafka-port", 'the first bytes are "GET',
         command=CHROMIUM),
    Case("http", "curl", (HTTP_HINT,), "http-on-kafka-port", 'the first bytes are "POST',
         command=("curl", "-sS", "-d", "x=1", "http://127.0.0.1:{port}/topics")),
    Case("http", "curl on a port with TLS", (HTTP_HINT,), "http-on-kafka-port",
         'the first bytes are "GET', protocol="SSL",
         command=("curl", "-sS", "http://127.0.0.1:{port}/topics")),
    Case("http-reply", "its first bytes, which no program sends", ("*the connection is closed",),
         "other-protocol", 'the first bytes are "HTTP/1.1 200 OK',
         first_bytes=b"HTTP/1.1 200 OK\r\n"),
    Case("ssh", "ssh", ("kex_exchange_identification: Connection closed by remote host",),
         "ssh-on-kafka-port", 'the first bytes are "SSH-2.0',
         command=("ssh", "-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no",
                  "-o", "UserKnownHostsFile=/dev/null", "-p", "{port}", "nobody@127.0.0.1")),
    *each("no-tls", "plain-on-tls-port", "the first bytes are a Kafka request without TLS", {
        PYTHON: "KafkaTimeoutError: Unable to bootstrap from",
        RDKAFKA: "Disconnected: connection closed by peer: receive 0 after POLLIN",
        KCAT: "Disconnected while requesting ApiVersion: might be caused by incorrect "
              "security.protocol configuration (connecting to a SSL listener?)",
        JAVA: "TimeoutException: Timed out waiting for a node assignment",
    }, protocol="SSL"),
    Case("no-tls", SMALL, ("Timed out waiting for a node assignment",), "plain-on-tls-port",
         "the first bytes are a Kafka request without TLS", protocol="SSL"),
    *each("mechanism", "mechanism-not-enabled", "SCRAM-SHA-512 was asked for; offered: PLAIN", {
        PYTHON: "SaslHandshake failed: UnsupportedSaslMechanismError",
        RDKAFKA: "SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL "
                 "mechanism: broker's supported mechanisms: PLAIN",
        KCAT: "SASL SCRAM-SHA-512 mechanism handshake failed: Broker: Unsupported SASL "
              "mechanism: broker's supported mechanisms: PLAIN",
        JAVA: "Client SASL mechanism 'SCRAM-SHA-512' not enabled in the server, enabled mechanisms "
              "are [PLAIN]",
    }, protocol="SASL_PLAINTEXT", settings=Settings("SASL_PLAINTEXT", mechanism="SCRAM-SHA-512")),
    *each("password", "wrong-password", 'PLAIN for the user "admin"', {
        PYTHON: "SaslAuthenticationFailedError: Authentication failed: Invalid username or "
                "password",
        OLD: "NoBrokersAvailable",
        RDKAFKA: "SASL authentication error: Authentication failed: Invalid username or password",
        KCAT: "SASL authentication error: Authentication failed: Invalid username or password",
        JAVA: "SaslAuthenticationException: Authentication failed: Invalid username or password",
    }, protocol="SASL_PLAINTEXT", settings=Settings("SASL_PLAINTEXT", password="pasword")),
    *each("no-user", "no-users", 'PLAIN for the user "admin"', {
        PYTHON: "SaslAuthenticationFailedError: Authentication failed: Invalid username or "
                "password",
        RDKAFKA: "SASL authentication error: Authentication failed: Invalid username or password",
        JAVA: "SaslAuthenticationException: Authentication failed: Invalid username or password",
    }, protocol="SASL_PLAINTEXT", settings=PLAIN_LOGIN, users=False),
    *each("authority", "tls-authority-not-trusted", UNTRUSTED, {
        PYTHON: "KafkaTimeoutError: Unable to bootstrap from",
        RDKAFKA: "SSL routines::certificate verify failed",
        KCAT: "SSL routines::certificate verify failed",
    }, protocol="SSL", settings=Settings("SSL", ca="{other}")),
    # Java sends one alert for both, an unknown authority and a wrong name.
    *each("authority", "tls-certificate-refused", REFUSED, {
        JAVA: "SSLHandshakeException: PKIX path building failed",
    }, protocol="SSL", settings=Settings("SSL", ca="{other}")),
    Case("authority", "openssl s_client", ("unable to get local issuer certificate",),
         "tls-authority-not-trusted", UNTRUSTED, protocol="SSL",
         command=("openssl", "s_client", "-verify_return_error", "-CAfile", "{other}", "-connect",
                  "127.0.0.1:{port}")),
    *each("host", "tls-certificate-refused", REFUSED, {
        PYTHON: "KafkaTimeoutError: Unable to bootstrap from",
        RDKAFKA: "SSL routines::certificate verify failed",
        JAVA: "SSLHandshakeException: No subject alternative names matching IP address 127.0.0.1 "
              "found",
    }, protocol="SSL", settings=Settings("SSL", ca="{ca}"),
        extra={"ssl.keystore.location": "{elsewhere}"}),
    *each("certificate", "tls-client-certificate-missing",
          "the client showed no certificate, and ssl.client.auth=required", {
              PYTHON: "tlsv13 alert certificate required",
              RDKAFKA: "tlsv13 alert certificate required",
              KCAT: "tlsv13 alert certificate required",
              JAVA: "SSLHandshakeException: Received fatal alert: certificate_required",
          }, protocol="SSL", settings=Settings("SSL", ca="{ca}"),
          extra={"ssl.client.auth": "required"}),
    # kafka-python 3 says so itself ("111 ECONNREFUSED"), or asks once and then does nothing more
    # that the broker could see.
    *each("unreachable", "advertised-address-never-dialled",
          "asks again without ever having arrived by it", {
              RDKAFKA: "failed: Connection refused",
              KCAT: "failed: Connection refused",
              JAVA: "could not be established. Node may not be available.",
          }, verb="send", topic="quotes", seconds=12, advertised="127.0.0.1:{closed}"),
    *[Case("near-miss", client, some(sees), "near-miss-topic-name",
           "which differs by blanks at its ends", verb="read", topic=f"ds04_{client.lower()} ")
      for client, sees in {
          RDKAFKA: "Broker: Unknown topic or partition",
          KCAT: "Broker: Invalid topic",
          JAVA: "InvalidTopicException: Invalid topics: [ds04_java ]",
      }.items()],
    Case("near-miss", PYTHON, ("*it waits for records that do not come",), "near-miss-topic-name",
         "which differs by dashes, dots or underscores", verb="read",
         topic="ds04-kafka_python"),
    *each("no-rule", "not-authorised", 'User:carol may not Describe topic "quotes"', {
        PYTHON: "TopicAuthorizationFailedError: quotes",
        RDKAFKA: "TOPIC_AUTHORIZATION_FAILED: Broker: Topic authorization failed",
        # The second when it has heard of the topic before it has read its input.
        KCAT: ("Delivery failed for message: Broker: Topic authorization failed",
               "Failed to produce message (1 bytes): Broker: Topic authorization failed"),
        JAVA: "TopicAuthorizationException: Not authorized to access topics: [quotes]",
    }, protocol="SASL_PLAINTEXT", verb="send", topic="quotes",
        settings=Settings("SASL_PLAINTEXT", user="carol", password="carol-secret")),
]
# A listener without login and TLS, for what is not a mistake.
PLAIN = next(case for case in CASES if case.why == "near-miss")
STARTS = [
    Start("start-address", "advertised.listeners cannot use the nonroutable meta-address 0.0.0.0. "
          "Use a routable IP address", "write the address clients reach",
          ("listeners=PLAINTEXT://0.0.0.0:9092", "advertised.listeners=PLAINTEXT://0.0.0.0:9092"),
          2),
    Start("start-names", "advertised.listeners listener names must be equal to or a subset of the "
          "ones defined in listeners", "add EXTERNAL://:9093 to listeners, or rename it",
          ("listener.security.protocol.map=PLAINTEXT:PLAINTEXT,EXTERNAL:PLAINTEXT",
           "listeners=PLAINTEXT://127.0.0.1:9092",
           "advertised.listeners=PLAINTEXT://localhost:9092,EXTERNAL://localhost:9093"), 3),
    Start("start-protocol", "No security protocol defined for listener EXTERNAL",
          "write listener.security.protocol.map=PLAINTEXT:PLAINTEXT,EXTERNAL:SASL_PLAINTEXT",
          ("listeners=PLAINTEXT://127.0.0.1:9092,EXTERNAL://127.0.0.1:9093",
           "listener.security.protocol.map=PLAINTEXT:PLAINTEXT"), 2),
    Start("start-port", "Each listener must have a different port",
          "give each one a port of its own",
          ("listeners=PLAINTEXT://:9092,SASL_PLAINTEXT://:9092",), 1),
]


def parameters(cases, name):
    return [pytest.param(case, id=name(case).replace(" ", "-"),
                         marks=[pytest.mark.needs(thing) for thing in case.needs()])
            for case in cases]


@pytest.fixture(scope="module")
def table():
    return Table(WHY)


@pytest.fixture(scope="module")
def files(folders):
    """Names of files that cases have in braces."""
    folder = folders()
    for name in ("ca", "other"):
        certificates.authority(folder, name)
    certificates.server(folder, "ca")
    shutil.copy(folder / "server.pem", folder / "good.pem")
    certificates.server(folder, "ca", hosts="DNS:elsewhere.example")
    shutil.copy(folder / "server.pem", folder / "elsewhere.pem")
    return {name: str(folder / f"{name}.pem") for name in ("ca", "other", "good", "elsewhere")}


@pytest.fixture(scope="module")
def brokers(folders, files):
    """Brokers by their names, each with a listener for each of its cases."""
    ports = {case.listener: free_port() for case in CASES}
    brokers = {}
    try:
        for home in dict.fromkeys(case.home for case in CASES):
            cases = [case for case in CASES if case.home == home]
            brokers[home] = Broker(folder=folders(), properties=properties(cases, ports, files))
            brokers[home].ports = ports
            brokers[home].spawn()
        for broker in brokers.values():
            broker.wait_ready()
        make_topics(f"127.0.0.1:{ports[PLAIN.listener]}")
        yield brokers
    finally:
        for broker in brokers.values():
            broker.stop()


def make_topics(bootstrap):
    """Those whose names are nearly what some cases ask for."""
    names = {case.topic.strip().replace("-", "_") for case in CASES if case.why == "near-miss"}
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    admin.create_topics([NewTopic(name, 1, 1) for name in names])
    admin.close()


def properties(cases, ports, files):
    advertised = [f"{case.listener}://{case.advertised.format(closed=free_port())}"
                  for case in cases if case.advertised]
    lines = {
        **({"advertised.listeners": ",".join(advertised)} if advertised else {}),
        "listeners": ",".join(f"{case.listener}://127.0.0.1:{ports[case.listener]}"
                              for case in cases),
        "listener.security.protocol.map":
            ",".join(f"{case.listener}:{case.protocol}" for case in cases),
        "ssl.keystore.type": "PEM", "ssl.keystore.location": files["good"],
        "ssl.truststore.type": "PEM", "ssl.truststore.location": files["ca"],
        "sasl.enabled.mechanisms": "PLAIN",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:admin;User:ANONYMOUS",
    }
    if cases[0].users:
        lines[f"listener.name.{cases[0].listener.lower()}.plain.sasl.jaas.config"] = JAAS
    for case in cases:
        for key, value in case.extra.items():
            lines[f"listener.name.{case.listener.lower()}.{key}"] = value.format(**files)
    return lines


@pytest.fixture(scope="module")
def said(request, brokers, files):
    """What the clients of the chosen cases said; all ran at the same time."""
    ports = brokers["common"].ports
    chosen = [item.callspec.params["case"] for item in request.session.items
              if hasattr(item, "callspec") and "case" in item.callspec.params]
    chosen = [case for case in chosen if not MISSING.keys() & set(case.needs())]
    java_file = brokers["common"].folder / "clients.txt"
    together = {
        JAVA: lambda clients: wrong_clients.java_clients(java_file, clients),
        OLD: wrong_clients.old_kafka_python,
    }
    mine = {client: [case for case in chosen if who(case) == client] for client in together}
    with ThreadPoolExecutor(max_workers=len(chosen) + 2) as pool:
        jobs = {case: pool.submit(alone, case, ports, files)
                for case in chosen if who(case) not in together}
        for client, run in together.items():
            if mine[client]:
                job = pool.submit(run, [arguments(case, ports, files) for case in mine[client]])
                jobs |= {case: job for case in mine[client]}

    def said(case):
        result = jobs[case].result()
        return result if isinstance(result, str) else result[case.listener.lower()]

    return said


def who(case):
    return JAVA if isinstance(case, Start) else case.client


def arguments(case, ports, files):
    """Of a client in `wrong_clients`; for a start, the line that Java's program reads."""
    if isinstance(case, Start):
        return [case.listener.lower(), "start", "-", "0", *quorum(case.lines)]
    settings = Settings(**{**vars(case.settings), "ca": case.settings.ca.format(**files)})
    bootstrap = f"127.0.0.1:{ports[case.listener]}"
    usual = wrong_clients.JAVA_SECONDS if case.client == JAVA else wrong_clients.SECONDS
    return (case.listener.lower(), bootstrap, settings, case.verb, case.topic,
            case.seconds or usual)


def quorum(lines):
    """With what Kafka's broker also wants to have, so that the mistake is the only one."""
    lines = dict(line.split("=", 1) for line in lines)
    protocols = lines.get("listener.security.protocol.map",
                          "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT")
    lines |= {
        "process.roles": "broker,controller", "node.id": "1",
        "controller.listener.names": "CONTROLLER", "controller.quorum.voters": "1@localhost:9990",
        "listeners": lines["listeners"] + ",CONTROLLER://localhost:9990",
        "listener.security.protocol.map": protocols + ",CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
    }
    lines.setdefault("advertised.listeners", "PLAINTEXT://localhost:9092")
    return [f"{key}={value}" for key, value in lines.items()]


def alone(case, ports, files):
    """What a client says that has a process or a thread of its own."""
    port = ports[case.listener]
    if case.first_bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(case.first_bytes)
            return "the connection is closed" if connection.recv(100) == b"" else "it answered"
    if case.client == SMALL:
        return small_topics(port, files)
    if case.command:
        words = {"port": port, **files}
        return wrong_clients.program(*(word.format(**words) for word in case.command))
    return LIBRARIES[case.client](*arguments(case, ports, files))


def small_topics(port, files):
    """Kafka's own tool in a small heap: a TLS alert, read as a reply, would ask for 352 MB."""
    impatient = Path(files["ca"]).with_name("impatient.properties")
    impatient.write_text("default.api.timeout.ms=4000\nrequest.timeout.ms=4000\n")
    command = java.java_command("4.3.0", java.TOOLS["4.3.0"]["topics"], heap="48m")
    return wrong_clients.program(*command, "--bootstrap-server", f"127.0.0.1:{port}", "--list",
                                 "--command-config", impatient)


def diary(broker, listener):
    """What the diary has of this listener."""
    entries = broker.get_json("/api/v1/diagnostics/connections")["connections"]
    return [entry for entry in entries if entry["listener"] == listener]


def lines_of(broker, listener):
    """The broker's log lines about this listener, quotes as in the evidence."""
    lines = [line for line in broker.log().splitlines() if f'listener="{listener}"' in line]
    return [line.replace('\\"', '"') for line in lines]


@pytest.mark.parametrize("case", parameters(CASES, lambda case: f"{case.why}-{case.client}"))
def test_the_broker_names_the_mistake_and_the_client_sees_it(brokers, said, table, case):
    broker, text = brokers[case.home], said(case)
    assert any(words.lstrip("*") in text for words in case.sees), text
    assert "OutOfMemory" not in text
    entries = wait_for("an entry of the diary", lambda: diary(broker, case.listener), 10)
    assert {entry["diagnosis"] for entry in entries} - besides(case) == {case.diagnosis}, entries
    if case.why == "no-rule":
        # What else the client needs and may not is an entry, too. A line of the log names who, what
        # and which in fields.
        assert any(case.notes in entry["evidence"] for entry in entries), entries
        denied = 'principal="User:carol" operation="Describe" resource="topic \\"quotes\\""'
        assert denied in broker.log()
    else:
        lines = [line for line in lines_of(broker, case.listener)
                 if f'diagnosis="{case.diagnosis}"' in line]
        assert any(case.notes in line for line in lines), lines
    table.add(case.why, case.client, case.sees, case.diagnosis, case.notes, text)


def besides(case):
    """What may be noted of the same client, too."""
    if case.why in ("password", "no-user"):
        # Many wrong passwords from one address are a mistake of that address.
        return {"logins-slowed"}
    if case.why in ("authority", "host", "certificate"):
        # A program that ends may do so in the middle of a handshake. kcat takes OpenSSL down under
        # it: of 200 that ran 30 at a time, 3 sent `bad_certificate` then.
        at_its_end = {"tls-certificate-refused"} if case.client == KCAT else set()
        return {"tls-handshake-failed"} | at_its_end
    if case.why == "no-login" and case.client == OLD:
        # It tries requests of several versions to find out what it speaks to.
        return {"unsupported-version"}
    return set()


@pytest.mark.parametrize("case", parameters(STARTS, lambda case: case.why))
def test_a_configuration_that_kafka_refuses_is_refused_in_its_words(said, table, folders, case):
    """By `check` and by `serve`, both with the file and the line, and with what to write."""
    assert case.sees in said(case)
    path = folders() / "server.properties"
    path.write_text("".join(f"{line}\n" for line in case.lines))
    for verb in ("check", "serve"):
        done = subprocess.run([os.environ["ODRADEK_BIN"], verb, "--config", str(path)], text=True,
                              cwd=path.parent, timeout=30, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode != 0, done.stdout
        line = next(line for line in done.stdout.splitlines() if case.sees in line)
        assert f"{path}:{case.at}:" in line and case.notes in line, done.stdout
    assert not (path.parent / "odradek-data").exists()
    table.add(case.why, "Kafka's broker and this one", (case.sees,),
              "*the start is refused, also by `odradek check`, with file and line", case.notes,
              done.stdout.replace(f"{path.parent}/", ""))


def test_a_broker_cannot_fail_to_log_in_to_itself(make_broker, table):
    """There is no such login: its keys are accepted, and its user need not be in the list."""
    port = free_port()
    broker = make_broker(properties={
        "listeners": f"SASL_PLAINTEXT://127.0.0.1:{port}",
        "security.inter.broker.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config":
            "org.apache.kafka.common.security.plain.PlainLoginModule required "
            'username="broker" password="not in the list" user_admin="password";',
    }).start()
    text = LIBRARIES[PYTHON]("own-login", f"127.0.0.1:{port}", PLAIN_LOGIN)
    assert text.splitlines()[0] == "fine", text
    assert diary(broker, "SASL_PLAINTEXT") == []
    table.add("own-login", "Kafka's broker", ("*cannot occur here",), "*none",
              "*nothing: it starts", text)


def outside_and_inside(folder):
    """One client on the broker's machine, one on a neighbour's: what they say, and the diary."""
    with network.neighbour("192.168.2.149", "192.168.2.77") as there:
        properties = {"listeners": "LAN://0.0.0.0:9092", "advertised.listeners":
                      "LAN://localhost:9092", "listener.security.protocol.map": "LAN:PLAINTEXT"}
        with Broker(folder=folder, properties=properties) as broker:
            send = ("-P", "-t", "quotes", "-X", "message.timeout.ms=10000")
            inside = wrong_clients.program("kcat", "-b", "localhost:9092", *send, stdin="x\n")
            outside = wrong_clients.program(
                *there, "kcat", "-b", "192.168.2.149:9092", "-X", "client.id=neighbour", *send,
                stdin="x\n")
            return inside, outside, diary(broker, "LAN")


@pytest.mark.needs("kcat", "a network of its own", "ip")
def test_what_works_inside_and_fails_outside_is_named_for_those_outside(folders, table):
    inside, outside, entries = network.inside([], {}, lambda: outside_and_inside(folders()))
    assert inside == ""
    sees = "localhost:9092/1: Connect to ipv4#127.0.0.1:9092 failed: Connection refused"
    assert sees in outside, outside
    expected = ("192.168.2.77", "advertised-address-never-dialled")
    assert [(entry["peer"], entry["diagnosis"]) for entry in entries] == [expected]
    notes = 'the client "neighbour" was told to connect to localhost:9092'
    assert notes in entries[0]["evidence"]
    table.add("outside", KCAT, (sees,), expected[1], notes, outside)


def versions():
    """Of the clients whose words are in the table and whose versions are pinned."""
    return [f"kafka-python {importlib.metadata.version('kafka-python')} and 2.0.2",
            f"confluent-kafka {importlib.metadata.version('confluent-kafka')} "
            f"(librdkafka {confluent_kafka.libversion()[0]})",
            "Apache Kafka's Java client and tools 4.3.0"]


def test_the_manual_says_what_these_clients_and_brokers_said(table):
    """All of this run stands in the page; a whole run makes exactly the page."""
    whole = len(table.found) == len(CASES) + len(STARTS) + 2
    if os.environ.get("ODRADEK_TEST_UPDATE"):
        assert whole, "only a whole run can make the page"
        table.write(versions())
    page = PAGE.read_text()
    how = f"{PAGE.name} is not what was seen; ODRADEK_TEST_UPDATE=1 tests/run diagnosis makes it"
    missing = list(table.missing(page))
    assert not missing, f"{how}: {missing}"
    assert not whole or page == table.page(versions()), how


def test_every_diagnosis_of_the_table_is_explained(table):
    """By the command that the page names."""
    ids = {row["diagnosis"] for row in table.found if not row["diagnosis"].startswith("*")}
    for id in ids:
        done = subprocess.run([os.environ["ODRADEK_BIN"], "explain", id], text=True, timeout=30,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert done.returncode == 0 and id in done.stdout, done.stdout
