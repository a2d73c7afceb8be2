"""Kafka's own tools, of 4.3.0 and of 3.4.0 (the users' version), as the old set-up called them."""

import re
import uuid

import pytest
from harness import java
from harness.broker import Broker, free_port
from test_clients import sasl_properties

pytestmark = pytest.mark.filterwarnings("ignore")

VERSIONS = [
    pytest.param(version, marks=pytest.mark.needs(f"kafka-{version}"), id=version)
    for version in ("4.3.0", "3.4.0")
]
LINES = ["This is my first event", "This is my second event"]
ADMIN_PROPERTIES = """security.protocol=SASL_PLAINTEXT
sasl.mechanism=PLAIN
sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \\
    username="admin" password="password";
"""


@pytest.fixture(scope="module")
def broker(folders):
    folder = folders()
    (folder / "admin.properties").write_text(ADMIN_PROPERTIES)
    sasl = free_port()
    with Broker(folder=folder, properties=sasl_properties(sasl)) as broker:
        broker.sasl = f"127.0.0.1:{sasl}"
        broker.admin = str(folder / "admin.properties")
        yield broker


def topics(version, broker, *arguments, **options):
    return java.tool(
        version, "topics", "--bootstrap-server", broker.bootstrap, *arguments, **options
    )


@pytest.fixture
def topic(request):
    return f"tools-{uuid.uuid4().hex[:8]}"


@pytest.mark.parametrize("version", VERSIONS)
def test_topics_are_created_listed_described_and_deleted(broker, version, topic):
    created = topics(version, broker, "--create", "--replication-factor", "1", "--partitions", "3",
                     "--topic", topic, "--config", "retention.ms=3600000")
    assert f"Created topic {topic}" in created.stdout
    assert topic in topics(version, broker, "--list").stdout.split()
    described = topics(version, broker, "--describe", "--topic", topic).stdout
    assert re.search(rf"Topic: {topic}\s+TopicId: \S{{22}}\s+PartitionCount: 3", described)
    assert "retention.ms=3600000" in described
    assert re.search(r"Partition: 2\s+Leader: 1\s+Replicas: 1\s+Isr: 1", described)
    topics(version, broker, "--alter", "--topic", topic, "--partitions", "5")
    assert "PartitionCount: 5" in topics(version, broker, "--describe", "--topic", topic).stdout
    again = topics(version, broker, "--create", "--topic", topic, check=False)
    assert again.returncode != 0 and "already exists" in again.stdout + again.stderr
    topics(version, broker, "--delete", "--topic", topic)
    assert topic not in topics(version, broker, "--list").stdout.split()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_console_producer_and_consumer_pass_lines(broker, version, topic):
    topics(version, broker, "--create", "--topic", topic)
    java.tool(version, "console-producer", "--topic", topic, "--bootstrap-server",
              broker.bootstrap, stdin="\n".join(LINES) + "\n")
    consumed = java.tool(
        version, "console-consumer", "--topic", topic, "--from-beginning", "--bootstrap-server",
        broker.bootstrap, "--max-messages", "2", "--timeout-ms", "30000")
    assert consumed.stdout.splitlines() == LINES


@pytest.mark.parametrize("version", VERSIONS)
def test_the_console_tools_log_in_with_admin_properties(broker, version, topic):
    """`--consumer.config .\\config\\admin.properties`, which 4.3 warns about and still takes."""
    topics(version, broker, "--create", "--topic", topic)
    java.tool(version, "console-producer", "--topic", topic, "--bootstrap-server", broker.sasl,
              "--producer.config", broker.admin, stdin="\n".join(LINES) + "\n")
    consumed = java.tool(
        version, "console-consumer", "--bootstrap-server", broker.sasl, "--topic", topic,
        "--consumer.config", broker.admin, "--from-beginning", "--max-messages", "2",
        "--timeout-ms", "30000")
    assert consumed.stdout.splitlines()[-2:] == LINES
    listed = java.tool(version, "topics", "--bootstrap-server", broker.sasl, "--command-config",
                       broker.admin, "--list")
    assert topic in listed.stdout.split()


@pytest.mark.needs("kafka-4.3.0")
def test_the_console_consumer_of_4_3_takes_its_new_option_too(broker, topic):
    topics("4.3.0", broker, "--create", "--topic", topic)
    java.tool("4.3.0", "console-producer", "--topic", topic, "--bootstrap-server", broker.sasl,
              "--command-config", broker.admin, stdin="\n".join(LINES) + "\n")
    consumed = java.tool(
        "4.3.0", "console-consumer", "--bootstrap-server", broker.sasl, "--topic", topic,
        "--command-config", broker.admin, "--from-beginning", "--max-messages", "2",
        "--timeout-ms", "30000")
    assert consumed.stdout.splitlines() == LINES


@pytest.mark.parametrize("version", VERSIONS)
def test_perf_tests_produce_consume_and_the_group_is_described(broker, version, topic):
    topics(version, broker, "--create", "--topic", topic, "--partitions", "3")
    records = 20000
    produced = java.tool(
        version, "producer-perf-test", "--topic", topic, "--num-records", records,
        "--record-size", "1024", "--throughput", "-1", "--producer-props",
        f"bootstrap.servers={broker.bootstrap}", "acks=all")
    assert f"{records} records sent" in produced.stdout
    group = f"perf-{topic}"
    many = "--num-records" if version == "4.3.0" else "--messages"
    consumed = java.tool(
        version, "consumer-perf-test", "--topic", topic, many, records, "--bootstrap-server",
        broker.bootstrap, "--group", group, "--timeout", "30000")
    row = consumed.stdout.strip().splitlines()[-1].split(", ")
    assert int(row[4]) == records, consumed.stdout
    described = java.tool(version, "consumer-groups", "--bootstrap-server", broker.bootstrap,
                          "--describe", "--group", group).stdout
    rows = [line.split() for line in described.splitlines() if line.startswith(group)]
    assert sorted(row[2] for row in rows) == ["0", "1", "2"]
    assert sum(int(row[3]) for row in rows) == records, described
    assert {row[5] for row in rows} == {"0"}, described
    listed = java.tool(version, "consumer-groups", "--bootstrap-server", broker.bootstrap, "--list")
    assert group in listed.stdout.split()


@pytest.mark.parametrize("version", VERSIONS)
def test_broker_api_versions_lists_what_the_broker_serves(broker, version):
    listed = java.tool(
        version, "broker-api-versions", "--bootstrap-server", broker.bootstrap).stdout
    assert re.search(r"^127\.0\.0\.1:\d+ \(id: 1 rack: null", listed, re.M), listed
    served = dict(re.findall(r"^\s+(\w+)\((\d+)\):", listed, re.M))
    for name in ("Produce", "Fetch", "ListOffsets", "Metadata", "OffsetCommit", "OffsetFetch",
                 "FindCoordinator", "JoinGroup", "Heartbeat", "LeaveGroup", "SyncGroup",
                 "DescribeGroups", "ListGroups", "SaslHandshake", "ApiVersions", "CreateTopics",
                 "DeleteTopics", "InitProducerId", "DescribeConfigs", "SaslAuthenticate",
                 "CreatePartitions", "DeleteGroups", "DescribeCluster"):
        assert name in served, f"{name} is not listed:\n{listed}"
    assert not re.search(r"UNSUPPORTED.*", "".join(
        line for line in listed.splitlines() if re.match(r"\s+(Produce|Fetch|Metadata)\(", line)))


@pytest.mark.parametrize("version", VERSIONS)
def test_offsets_are_told_by_the_tools(broker, version, topic):
    topics(version, broker, "--create", "--topic", topic)
    java.tool(version, "console-producer", "--topic", topic, "--bootstrap-server",
              broker.bootstrap, stdin="\n".join(LINES) + "\n")
    latest = java.tool(version, "get-offsets", "--bootstrap-server", broker.bootstrap,
                       "--topic", topic).stdout.split()
    earliest = java.tool(version, "get-offsets", "--bootstrap-server", broker.bootstrap,
                         "--topic", topic, "--time", "-2").stdout.split()
    assert (latest, earliest) == ([f"{topic}:0:2"], [f"{topic}:0:0"])
