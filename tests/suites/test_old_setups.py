"""The old set-ups as their users wrote them: the Windows server with its JAAS file, then
admin.properties for 23 of Kafka's tools, the Ubuntu server step by step at its own addresses, and
Spark on Databricks."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from harness import java, network
from harness.broker import Broker, free_port
from kafka import KafkaConsumer, KafkaProducer
from test_java_tools import ADMIN_PROPERTIES

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.odradek_only]

VERSIONS = ("4.3.0", "3.4.0")
PLAIN_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"

# The two files of the Windows server. KafkaServer is what the broker reads; Client was for its
# login to ZooKeeper.
JAAS_FILE = """KafkaServer {
    org.apache.kafka.common.security.plain.PlainLoginModule required
    username="admin"
    password="password"
    user_admin="password";
};

Client {
    org.apache.kafka.common.security.plain.PlainLoginModule required
    username="admin"
    password="password";
};
"""
WINDOWS_PROPERTIES = r"""# für ds04
broker.id=0
listeners=SASL_PLAINTEXT://0.0.0.0:{port}
advertised.listeners=SASL_PLAINTEXT://{host}:{port}
security.inter.broker.protocol=SASL_PLAINTEXT
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.enabled.mechanisms=PLAIN
authorizer.class.name=kafka.security.authorizer.AclAuthorizer
super.users=User:admin
allow.everyone.if.no.acl.found=true
num.network.threads=3
num.io.threads=8
log.dirs={folder}
num.partitions=1
offsets.topic.replication.factor=1
log.retention.hours=168
zookeeper.connect=localhost:2181
zookeeper.connection.timeout.ms=18000
group.initial.rebalance.delay.ms=0
"""


class Pasted(Broker):
    """A broker whose server.properties is a text, byte for byte, and which gets a JAAS file as the
    old start script gave it."""

    def __init__(self, folder, text, port, jaas=None):
        environment = {}
        if jaas is not None:
            path = folder / "kafka_server_jaas.conf"
            path.write_bytes(jaas.replace("\n", "\r\n").encode())
            environment["KAFKA_OPTS"] = f"-Djava.security.auth.login.config={path}"
        super().__init__(folder, properties={"listeners": f"X://127.0.0.1:{port}"},
                         environment=environment)
        self.text = text
        self.environment["ODRADEK_HTTP_LISTEN"] = f"127.0.0.1:{self.http_port}"

    def write_configuration(self):
        path = self.folder / "server.properties"
        path.write_bytes(self.text)
        return path


def windows(folder, port, log_dirs, host="127.0.0.1", encoding="utf-8", jaas=JAAS_FILE):
    text = WINDOWS_PROPERTIES.format(port=port, host=host, folder=log_dirs)
    return Pasted(folder, text.replace("\n", "\r\n").encode(encoding), port, jaas)


# The Windows server


def old_consumer(address):
    """Word for word, but for the address."""
    return KafkaConsumer(
        'ds04_messages_2',
        bootstrap_servers=address,
        auto_offset_reset='earliest',
        sasl_mechanism = "PLAIN",
        sasl_plain_username = "admin",
        sasl_plain_password = "password",
        security_protocol = "SASL_PLAINTEXT"
    )


def filled(address, topic="ds04_messages_2", records=20):
    producer = KafkaProducer(
        bootstrap_servers=address, security_protocol="SASL_PLAINTEXT", sasl_mechanism="PLAIN",
        sasl_plain_username="admin", sasl_plain_password="password")
    values = [b"%d" % index for index in range(records)]
    for value in values:
        producer.send(topic, value)
    producer.close()
    return values


@pytest.mark.parametrize("encoding", ["cp1252", "utf-8", "utf-8-sig"])
def test_the_files_of_the_windows_server_start_and_its_consumer_reads(folders, encoding):
    """Lines end as on Windows; the data lies where Kafka would have put it on this machine, in a
    folder whose name is the path, and the broker says so."""
    folder, port = folders(), free_port()
    with windows(folder, port, r"E:\\Apps\\kafka_2.13-3.4.0\\kafka-logs",
                 encoding=encoding) as broker:
        values = filled(broker.bootstrap)
        consumer = old_consumer(broker.bootstrap)
        assert [next(consumer).value for _ in values] == values
        consumer.close()
        assert (folder / r"E:\Apps\kafka_2.13-3.4.0\kafka-logs").is_dir()
        warned = [line for line in broker.log().splitlines() if "WARN" in line]
        assert any("is a path of Windows" in line for line in warned), broker.log()
        for key in ("zookeeper.connect", "security.inter.broker.protocol"):
            assert key in broker.log(), f"{key} means nothing here, and that is not said"
        broker.restart()
        consumer = old_consumer(broker.bootstrap)
        assert [next(consumer).value for _ in values] == values
        consumer.close()


def test_a_path_with_single_backslashes_is_what_java_makes_of_it_and_is_explained(folders):
    folder, port = folders(), free_port()
    with windows(folder, port, r"E:\Apps\kafka_2.13-3.4.0\kafka-logs") as broker:
        assert (folder / "E:Appskafka_2.13-3.4.0kafka-logs").is_dir()
        assert "has lost its backslashes" in broker.log()


def test_a_path_in_kafka_opts_that_is_not_there_stops_the_start_and_is_named(folders):
    folder = folders()
    broker = windows(folder, free_port(), "data", jaas=None)
    wrong = r"E:\Apps\kafka_2.13-3.4.0\config\kafka_server_jaas.conf"
    broker.environment["KAFKA_OPTS"] = f"-Djava.security.auth.login.config={wrong}"
    with pytest.raises(AssertionError, match="ended with"):
        broker.start()
    assert f"{wrong}: cannot be read" in broker.log() and "KAFKA_OPTS" in broker.log()


def test_a_jaas_file_pasted_into_server_properties_is_one_problem_with_its_line(folders):
    folder = folders()
    broker = windows(folder, free_port(), "data", jaas=None)
    lines = broker.text.count(b"\n")
    broker.text += JAAS_FILE.replace("\n", "\r\n").encode()
    with pytest.raises(AssertionError, match="ended with"):
        broker.start()
    said = [line for line in broker.log().splitlines() if "server.properties:" in line]
    assert len(said) == 1 and f"server.properties:{lines + 1}: KafkaServer" in said[0], said
    assert "odradek.jaas.file=" in said[0], said


# admin.properties for Kafka's tools


@dataclass(frozen=True)
class Call:
    key: str
    tool: str
    # {at}, {admin}, {topic}, {group} and the files of `tool_files` are filled in.
    arguments: str
    # A pattern that its output has.
    expected: str
    versions: tuple = VERSIONS
    stdin: str = ""
    # In a process of its own, because it says what it did while that ends.
    alone: bool = False


AT = "--bootstrap-server {at} "
BOTH = AT + "--command-config {admin} "
NEW, OLD = ("4.3.0",), ("3.4.0",)
# In this order, on one topic a version. Options are those of 3.4.0, the users' version, which 4.3.0
# still takes; its own new ones stand beside them.
CALLS = [
    Call("create", "topics", BOTH + "--create --replication-factor 1 --partitions 1 --topic "
         "{topic}", r"Created topic {topic}\."),
    Call("list", "topics", BOTH + "--list", r"(?m)^{topic}$"),
    Call("describe", "topics", BOTH + "--describe --topic {topic}", r"Leader: 0\tReplicas: 0"),
    Call("configs-alter", "configs", BOTH + "--alter --entity-type topics --entity-name {topic} "
         "--add-config retention.ms=3600000", r"Completed updating config for topic {topic}\."),
    Call("configs", "configs", BOTH + "--describe --entity-type topics --entity-name {topic}",
         r"retention\.ms=3600000 sensitive=false"),
    Call("acls-add", "acls", BOTH + "--add --allow-principal User:alice --producer --topic {topic}",
         r"principal=User:alice, host=\*, operation=WRITE, permissionType=ALLOW"),
    Call("acls", "acls", BOTH + "--list --topic {topic}", r"principal=User:alice"),
    Call("console-producer", "console-producer", AT + "--topic {topic} --producer.config {admin}",
         r"", stdin="one\ntwo\nthree\n"),
    Call("console-producer-new", "console-producer", AT + "--topic {topic} --command-config "
         "{admin}", r"", NEW, stdin="four\n"),
    Call("console-consumer", "console-consumer", AT + "--topic {topic} --consumer.config {admin} "
         "--from-beginning --max-messages 3 --timeout-ms 20000 --group {group}",
         r"(?m)^one\ntwo\nthree$"),
    Call("consumer-groups", "consumer-groups", BOTH + "--describe --group {group}",
         r"{group}\s+{topic}\s+0\s+3\s+[34]\s+[01]\s"),
    Call("get-offsets", "get-offsets", AT + "--topic {topic} --command-config {admin}",
         r"{topic}:0:[34]"),
    Call("delete-records", "delete-records", BOTH + "--offset-json-file {trim}",
         r"partition: {topic}-0\tlow_watermark: 1"),
    Call("log-dirs", "log-dirs", BOTH + "--describe --topic-list {topic}", r'"{topic}-0"'),
    Call("transactions", "transactions", BOTH + "describe-producers --topic {topic} --partition 0",
         r"ProducerId\s+ProducerEpoch"),
    Call("broker-api-versions", "broker-api-versions", BOTH, r"Produce\(0\): 0 to 13"),
    Call("cluster", "cluster", "cluster-id " + AT + "--config {admin}", r"Cluster ID: \S+"),
    # That of 3.4.0 reads the file and then logs in without it, to whichever broker.
    Call("metadata-quorum", "metadata-quorum", BOTH + "describe --status", r"LeaderId:\s+0", NEW),
    Call("producer-perf-test", "producer-perf-test", "--topic {topic} --num-records 100 "
         "--record-size 100 --throughput -1 --producer.config {admin} --producer-props "
         "bootstrap.servers={at}", r"100 records sent"),
    Call("consumer-perf-test", "consumer-perf-test", AT + "--topic {topic} --messages 100 "
         "--consumer.config {admin} --timeout 20000", r"(?m)^20.*, 10\d, "),
    Call("verifiable-producer", "verifiable-producer", AT + "--topic {topic}_alone --max-messages "
         "10 --producer.config {admin}", r'"sent":10,"acked":10', alone=True),
    Call("verifiable-consumer", "verifiable-consumer", AT + "--topic {topic} --group-id {group}-v "
         "--max-messages 10 --reset-policy earliest --consumer.config {admin}",
         r'"name":"records_consumed"'),
    Call("leader-election", "leader-election", AT + "--admin.config {admin} --election-type "
         "preferred --path-to-json-file {elect}", r"Valid replica already elected .*{topic}-0"),
    Call("reassign-partitions", "reassign-partitions", BOTH + "--reassignment-json-file {plan} "
         "--execute", r"Successfully started partition reassignment for {topic}-0"),
    # To a client of before KIP-1004 no feature is named whose lowest version is 0.
    Call("features", "features", BOTH + "describe", r"group\.version", NEW),
    Call("features-old", "features", BOTH + "describe", r"^\s*$", OLD),
    Call("client-metrics", "client-metrics", BOTH + "--alter --name of-{topic} --metrics "
         "org.apache.kafka.consumer. --interval 60000", r"Altered client metrics config", NEW),
    Call("share-groups", "share-groups", BOTH + "--list", r"", NEW),
    Call("groups", "groups", BOTH + "--list", r"{group}\s+Classic\s+consumer", NEW),
    Call("delete", "topics", BOTH + "--delete --topic {topic}", r""),
]


def tool_files(folder, topic):
    place = {"topic": topic, "partition": 0}
    contents = {
        "trim": {"version": 1, "partitions": [{**place, "offset": 1}]},
        "elect": {"partitions": [place]},
        "plan": {"version": 1, "partitions": [{**place, "replicas": [0]}]},
    }
    for name, content in contents.items():
        (folder / f"{topic}-{name}.json").write_text(json.dumps(content))
    return {name: folder / f"{topic}-{name}.json" for name in contents}


@pytest.fixture(scope="module")
def secured(folders):
    """The Windows server, on a path of this machine."""
    folder = folders()
    (folder / "admin.properties").write_bytes(ADMIN_PROPERTIES.replace("\n", "\r\n").encode())
    with windows(folder, free_port(), folder / "data") as broker:
        yield broker


def words(broker, version):
    topic = f"tools_{version.replace('.', '_')}"
    return {"at": broker.bootstrap, "admin": broker.folder / "admin.properties", "topic": topic,
            "group": f"group_{topic}", **tool_files(broker.folder, topic)}


@pytest.fixture(scope="module")
def called(request, secured):
    """What each chosen tool printed; one process a version, both at the same time."""
    chosen = {item.callspec.params["version"] for item in request.session.items
              if hasattr(item, "callspec") and "call" in item.callspec.params}

    def arguments(version, call):
        return call.arguments.format(**words(secured, version)).split()

    def together(version):
        calls = [(call.key, call.tool, arguments(version, call), call.stdin)
                 for call in CALLS if version in call.versions and not call.alone]
        return java.tools(version, secured.folder / f"calls-{version}.txt", calls)

    def alone(version, call):
        done = java.tool(version, call.tool, *arguments(version, call), check=False)
        return done.returncode, done.stdout + done.stderr

    with ThreadPoolExecutor() as pool:
        jobs = {version: pool.submit(together, version) for version in chosen}
        others = {(version, call.key): pool.submit(alone, version, call)
                  for version in chosen for call in CALLS if call.alone}

    def called(version, call):
        if call.alone:
            return others[version, call.key].result()
        return jobs[version].result()[call.key]

    return called


@pytest.mark.parametrize("version, call", [
    pytest.param(version, call, id=f"{call.key}-{version}",
                 marks=pytest.mark.needs(f"kafka-{version}"))
    for version in VERSIONS for call in CALLS if version in call.versions
])
def test_admin_properties_is_taken_by_every_tool(secured, called, version, call):
    code, text = called(version, call)
    assert code == 0, text
    values = {name: re.escape(str(value)) for name, value in words(secured, version).items()}
    pattern = re.sub(r"\{(topic|group)\}", lambda found: values[found[1]], call.expected)
    assert re.search(pattern, text), text


# The Ubuntu server, at its own addresses

UBUNTU_PROPERTIES = b"""listeners=INTERNAL://0.0.0.0:19092,EXTERNAL://0.0.0.0:9092
listener.security.protocol.map=INTERNAL:PLAINTEXT,EXTERNAL:PLAINTEXT
advertised.listeners=INTERNAL://192.168.2.149:19092,EXTERNAL://203.0.113.7:9092
inter.broker.listener.name=INTERNAL
"""
FIRST_EVENTS = "This is my first event\nThis is my second event\n"
# `bin/kafka-NAME.sh` and what was written behind it, the slip in the first line included.
UBUNTU_STEPS = [
    ("create", "topics", "--create --bootstrap-server 192.168.2.149:9092 :9092 "
     "--replication-factor 1 --partitions 1 --topic testTopic", ""),
    ("list", "topics", "--list --bootstrap-server 192.168.2.149:9092", ""),
    ("produce", "console-producer", "--topic testTopic --bootstrap-server localhost:9092",
     FIRST_EVENTS),
    ("consume", "console-consumer", "--topic testTopic --from-beginning --bootstrap-server "
     "192.168.2.149:9092 --max-messages 2 --timeout-ms 20000", ""),
]


def json_serializer(data):
    return json.dumps(data).encode("utf-8")


def ubuntu(folder):
    """The steps of the document in their order."""
    with Pasted(folder, UBUNTU_PROPERTIES, 19092) as broker:
        calls = [(key, tool, arguments.split(), stdin)
                 for key, tool, arguments, stdin in UBUNTU_STEPS]
        printed = java.tools("3.4.0", folder / "calls.txt", calls)
        producer = KafkaProducer(
            bootstrap_servers=["192.168.2.149:19092"],
            value_serializer=json_serializer
        )
        producer.send("stocks", {"id": "GM", "price": 33.92})
        producer.close()
        read = {}
        for topic, at in (("testTopic", "192.168.2.149:9092"), ("stocks", "203.0.113.7:9092")):
            consumer = KafkaConsumer(topic, bootstrap_servers=[at], auto_offset_reset="earliest",
                                     consumer_timeout_ms=20000)
            read[topic] = next(consumer).value
            consumer.close()
        deleted = java.tools("3.4.0", folder / "calls.txt", [
            ("delete", "topics",
             "--bootstrap-server 192.168.2.149:9092 --delete --topic testTopic".split(), ""),
            ("list", "topics", "--list --bootstrap-server 192.168.2.149:9092".split(), "")])
        return printed | {"gone": deleted["list"], "delete": deleted["delete"]}, read, broker.log()


@pytest.mark.needs("kafka-3.4.0", "a network of its own", "ip")
def test_the_steps_of_the_ubuntu_server_work_at_its_own_addresses(folders):
    """The INTERNAL and EXTERNAL pair with the LAN's and the router's address, both of this machine
    as with a router that leads its own address back (NAT loopback)."""
    printed, read, log = network.inside(
        ["192.168.2.149", "203.0.113.7"], {}, lambda: ubuntu(folders()))
    assert {code for code, _ in printed.values()} == {0}, printed
    assert "Created topic testTopic." in printed["create"][1]
    assert "testTopic" in printed["list"][1].split()
    assert FIRST_EVENTS in printed["consume"][1]
    assert "testTopic" not in printed["gone"][1].split() and "stocks" in printed["gone"][1].split()
    assert read == {"testTopic": b"This is my first event",
                    "stocks": b'{"id": "GM", "price": 33.92}'}
    assert "INTERNAL://0.0.0.0:19092 and EXTERNAL://0.0.0.0:9092" in log, "no login: a warning"


# The second server under its own name, and Spark on Databricks

# `.option("kafka.sasl.jaas.config", '…')` of the advanced reader, with the line's break and all.
SPARK_OPTIONS = {
    "kafka.sasl.mechanism": "PLAIN",
    "kafka.security.protocol": "SASL_PLAINTEXT",
    "kafka.sasl.jaas.config": f"kafkashaded.{PLAIN_MODULE} required\n"
                              'username="admin" password="password";',
    "kafka.bootstrap.servers": "ds04.dnsdojo.org:9092",
    "subscribe": "ds04_messages_2 ",
    "startingOffsets": "earliest",
}


def spark(version, folder, jaas_prefix):
    """Spark's reads, with Kafka's client as it is or relocated."""
    source = (java.HERE / "Spark.java").read_text()
    options = dict(SPARK_OPTIONS)
    if version == "relocated":
        source = source.replace("import org.apache.kafka.", "import kafkashaded.org.apache.kafka.")
    else:
        options = {key: value.replace("kafkashaded.", "") for key, value in options.items()}
    (folder / "Spark.java").write_text(source)
    jaas = JAAS_FILE.replace("org.apache", f"{jaas_prefix}org.apache")
    with windows(folder, 9092, folder / "data", host="ds04.dnsdojo.org", jaas=jaas) as broker:
        address = "ds04.dnsdojo.org:9092"
        values = filled(address)
        consumer = old_consumer(address)
        assert [next(consumer).value for _ in values] == values
        consumer.close()
        done = java.program(version, folder / "Spark.java",
                            *(f"{key}={value}" for key, value in options.items()))
        assert done.stdout.splitlines() == [value.decode() for value in values]
        return done.stderr


@pytest.mark.needs("a network of its own", "ip")
@pytest.mark.parametrize("version, jaas_prefix", [
    pytest.param("relocated", "", marks=pytest.mark.needs("kafka-relocated")),
    pytest.param("relocated", "kafkashaded.", marks=pytest.mark.needs("kafka-relocated")),
    pytest.param("3.4.0", "", marks=pytest.mark.needs("kafka-3.4.0")),
])
def test_spark_reads_with_its_jaas_line_from_the_server_under_its_name(
        folders, version, jaas_prefix):
    """The topic's name has a blank at its end there, which Spark takes away. The relocated class is
    taken in the server's file, too, where users paste the line that works in their notebook."""
    network.inside(["192.0.2.30"], {"ds04.dnsdojo.org": "192.0.2.30"},
                   lambda: spark(version, folders(), jaas_prefix))
