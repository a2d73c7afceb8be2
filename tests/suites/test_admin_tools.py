"""Kafka 4.3's tools for topics, configurations and partitions, each with its verbs.

Runs against Apache Kafka too (ODRADEK_TEST_TARGET=apache): the texts that are expected were read
from its output there.
"""

import json
import re
import uuid

import pytest
from harness import java
from harness.broker import Broker, wait_for

pytestmark = pytest.mark.needs("kafka-4.3.0")

VERSION = "4.3.0"


@pytest.fixture(scope="module")
def broker(folders):
    with Broker(folder=folders()) as broker:
        yield broker


@pytest.fixture
def topic():
    return f"admin-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def run(broker):
    """Runs a tool against the broker; what it printed, without the client library's log lines."""

    def run(name, *arguments, check=True, **options):
        where = ("--bootstrap-server", broker.bootstrap)
        # Of tools with sub-commands, these two take it before the command and the other behind.
        first = name in ("features", "metadata-quorum")
        arguments = where + arguments if first else arguments + where
        done = java.tool(VERSION, name, *arguments, check=check, **options)
        text = done.stdout if check else done.stdout + done.stderr
        return "\n".join(line for line in text.splitlines() if not line.startswith("[2"))

    return run


@pytest.fixture
def plan(broker):
    """Writes a JSON file for a tool."""

    def plan(value):
        path = broker.folder / f"{uuid.uuid4().hex[:8]}.json"
        path.write_text(json.dumps(value))
        return path

    return plan


def filled(run, topic, records, partitions=1):
    run("topics", "--create", "--topic", topic, "--partitions", partitions)
    printed = run("verifiable-producer", "--topic", topic, "--max-messages", records,
                  "--acks", "-1")
    sent = [json.loads(line) for line in printed.splitlines()]
    assert sum(line["name"] == "producer_send_success" for line in sent) == records
    assert sent[-1]["name"] == "tool_data" and sent[-1]["acked"] == records


# kafka-topics


def test_topics_are_created_with_configurations_and_assignments(run, topic):
    created = run("topics", "--create", "--topic", topic, "--replica-assignment", "1,1,1",
                  "--config", "retention.ms=3600000", "--config", "cleanup.policy=compact")
    assert created == f"Created topic {topic}."
    described = run("topics", "--describe", "--topic", topic)
    found = re.search(rf"Topic: {topic}\tTopicId: (\S+)\tPartitionCount: 3\tReplicationFactor: 1",
                      described)
    assert "retention.ms=3600000" in described and "cleanup.policy=compact" in described
    assert described.count("Leader: 1\tReplicas: 1\tIsr: 1") == 3
    # By id the tool asks another API, which knows nothing of eligible leaders.
    by_id = run("topics", "--describe", "--topic-id", found[1])
    assert by_id.replace("N/A", "") == described
    again = run("topics", "--create", "--topic", topic, check=False)
    assert f"Topic '{topic}' already exists." in again
    assert run("topics", "--create", "--topic", topic, "--if-not-exists") == ""


def test_topics_are_listed_grown_filtered_and_deleted(run, topic):
    run("topics", "--create", "--topic", topic, "--partitions", "2")
    assert topic in run("topics", "--list", "--exclude-internal").split()
    run("topics", "--alter", "--topic", topic, "--partitions", "4")
    assert "PartitionCount: 4" in run("topics", "--describe", "--topic", topic)
    smaller = run("topics", "--alter", "--topic", topic, "--partitions", "1", check=False)
    assert "currently has 4 partition(s); 1 would not be an increase." in smaller
    for filter in ("--under-replicated-partitions", "--unavailable-partitions",
                   "--under-min-isr-partitions"):
        assert run("topics", "--describe", filter) == ""
    assert run("topics", "--describe", "--topic", topic, "--exclude-internal",
               "--at-min-isr-partitions")
    run("topics", "--delete", "--topic", topic)
    assert topic not in run("topics", "--list").split()
    for verb in ("--describe", "--delete"):
        missing = run("topics", verb, "--topic", topic, check=False)
        assert f"Topic '{topic}' does not exist as expected" in missing
        assert run("topics", verb, "--topic", topic, "--if-exists") == ""


# kafka-configs


def described(text):
    """{key: (value, synonyms)} of what kafka-configs --describe printed."""
    line = re.compile(r"  (\S+?)=(.*) sensitive=(?:true|false) synonyms=\{(.*)\}$")
    found = (line.match(one) for one in text.splitlines())
    return {one[1]: (one[2], one[3]) for one in found if one}


def test_configurations_of_a_topic_are_set_grown_and_taken_back(run, topic):
    run("topics", "--create", "--topic", topic)
    of = ("--entity-type", "topics", "--entity-name", topic)
    changed = run("configs", "--alter", *of, "--add-config",
                  "retention.ms=1000,cleanup.policy=[compact,delete]")
    assert changed == f"Completed updating config for topic {topic}."
    text = run("configs", "--describe", *of)
    assert text.splitlines()[0] == f"Dynamic configs for topic {topic} are:"
    assert described(text) == {
        "cleanup.policy": (
            "compact,delete",
            "DYNAMIC_TOPIC_CONFIG:cleanup.policy=compact,delete, "
            "DEFAULT_CONFIG:log.cleanup.policy=delete",
        ),
        "retention.ms": ("1000", "DYNAMIC_TOPIC_CONFIG:retention.ms=1000"),
    }
    run("configs", "--alter", *of, "--delete-config", "cleanup.policy")
    assert list(described(run("configs", "--describe", *of))) == ["retention.ms"]
    wrong = run("configs", "--alter", *of, "--add-config", "retention.mss=1", check=False)
    assert "Unknown topic config name: retention.mss" in wrong


# What Kafka 4.3.0 prints for a topic without configurations: keys, defaults and synonyms.
TOPIC_KEYS = {
    "cleanup.policy": ("delete", "log.cleanup.policy=delete"),
    "compression.gzip.level": ("-1", "compression.gzip.level=-1"),
    "compression.lz4.level": ("9", "compression.lz4.level=9"),
    "compression.type": ("producer", "compression.type=producer"),
    "compression.zstd.level": ("3", "compression.zstd.level=3"),
    "delete.retention.ms": ("86400000", "log.cleaner.delete.retention.ms=86400000"),
    "file.delete.delay.ms": ("60000", "log.segment.delete.delay.ms=60000"),
    "flush.messages": ("9223372036854775807", "log.flush.interval.messages=9223372036854775807"),
    "flush.ms": ("9223372036854775807", ""),
    "follower.replication.throttled.replicas": ("", ""),
    "index.interval.bytes": ("4096", "log.index.interval.bytes=4096"),
    "leader.replication.throttled.replicas": ("", ""),
    "local.retention.bytes": ("-2", "log.local.retention.bytes=-2"),
    "local.retention.ms": ("-2", "log.local.retention.ms=-2"),
    "max.compaction.lag.ms": (
        "9223372036854775807", "log.cleaner.max.compaction.lag.ms=9223372036854775807"),
    "max.message.bytes": ("1048588", "message.max.bytes=1048588"),
    "message.timestamp.before.max.ms": (
        "9223372036854775807", "log.message.timestamp.before.max.ms=9223372036854775807"),
    "message.timestamp.type": ("CreateTime", "log.message.timestamp.type=CreateTime"),
    "min.cleanable.dirty.ratio": ("0.5", "log.cleaner.min.cleanable.ratio=0.5"),
    "min.compaction.lag.ms": ("0", "log.cleaner.min.compaction.lag.ms=0"),
    "preallocate": ("false", "log.preallocate=false"),
    "remote.log.copy.disable": ("false", ""),
    "remote.log.delete.on.disable": ("false", ""),
    "remote.storage.enable": ("false", ""),
    "retention.bytes": ("-1", "log.retention.bytes=-1"),
    "retention.ms": ("604800000", ""),
    "segment.bytes": ("1073741824", "log.segment.bytes=1073741824"),
    "segment.index.bytes": ("10485760", "log.index.size.max.bytes=10485760"),
    "segment.jitter.ms": ("0", ""),
    "segment.ms": ("604800000", ""),
    "unclean.leader.election.enable": ("false", "unclean.leader.election.enable=false"),
}
# Another default here (any time is taken), and set for all brokers there.
OTHERS = {"message.timestamp.after.max.ms", "min.insync.replicas"}


def test_all_keys_of_a_topic_are_those_of_kafka_with_its_defaults(run, topic):
    run("topics", "--create", "--topic", topic)
    text = run("configs", "--describe", "--entity-type", "topics", "--entity-name", topic, "--all")
    assert text.splitlines()[0] == f"All configs for topic {topic} are:"
    shown = described(text)
    assert shown.keys() == TOPIC_KEYS.keys() | OTHERS
    for key, (value, synonym) in TOPIC_KEYS.items():
        assert shown[key] == (value, f"DEFAULT_CONFIG:{synonym}" if synonym else ""), key


def test_configurations_of_brokers_are_set_for_one_and_for_all(run, topic):
    run("topics", "--create", "--topic", topic)
    all, one = ("--entity-type", "brokers", "--entity-default"), (
        "--entity-type", "brokers", "--entity-name", "1")
    changed = run("configs", "--alter", *all, "--add-config", "log.retention.bytes=5000")
    assert changed == "Completed updating default config for brokers in the cluster."
    changed = run("configs", "--alter", *one, "--add-config", "log.retention.bytes=6000")
    assert changed == "Completed updating config for broker 1."
    text = run("configs", "--describe", *all)
    assert text.splitlines()[0] == "Default configs for brokers in the cluster are:"
    of_all = "DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.bytes=5000"
    assert described(text)["log.retention.bytes"] == ("5000", of_all)
    text = run("configs", "--describe", *one)
    assert text.splitlines()[0] == "Dynamic configs for broker 1 are:"
    synonyms = ", ".join([
        "DYNAMIC_BROKER_CONFIG:log.retention.bytes=6000", of_all,
        "DEFAULT_CONFIG:log.retention.bytes=-1",
    ])
    assert described(text)["log.retention.bytes"] == ("6000", synonyms)
    text = run("configs", "--describe", "--entity-type", "topics", "--entity-name", topic, "--all")
    assert described(text)["retention.bytes"] == ("6000", synonyms)
    text = run("configs", "--describe", *one, "--all")
    assert "num.partitions" in described(text)
    for of in (all, one):
        run("configs", "--alter", *of, "--delete-config", "log.retention.bytes")
    assert "log.retention.bytes" not in described(run("configs", "--describe", *one))
    fixed = run("configs", "--alter", *one, "--add-config", "log.dirs=/x", check=False)
    assert "InvalidRequestException: Cannot update these configs dynamically: [log.dirs]" in fixed


def test_levels_of_loggers_are_changed_while_the_broker_runs(run):
    one = ("--entity-type", "broker-loggers", "--entity-name", "1")

    def level():
        text = run("configs", "--describe", *one)
        assert text.splitlines()[0] == "Dynamic configs for broker-logger 1 are:"
        return described(text)["root"][0]

    before = level()
    for wanted in ("ERROR", before):
        changed = run("configs", "--alter", *one, "--add-config", f"root={wanted}")
        assert changed == "Completed updating config for broker-logger 1."
        assert level() == wanted
    shouted = run("configs", "--alter", *one, "--add-config", "root=SHOUTING", check=False)
    assert "InvalidConfigurationException" in shouted or "InvalidRequestException" in shouted
    taken = run("configs", "--alter", *one, "--delete-config", "root", check=False)
    assert "InvalidRequestException" in taken
    nobody = run("configs", "--alter", *one, "--add-config", "no.such=INFO", check=False)
    assert "Invalid broker logger(s): no.such" in nobody
    assert level() == before


def test_configurations_of_groups_are_set_and_taken_back(run):
    group = f"group-{uuid.uuid4().hex[:8]}"
    of = ("--entity-type", "groups", "--entity-name", group)
    key = "consumer.session.timeout.ms"
    changed = run("configs", "--alter", *of, "--add-config", f"{key}=50000")
    assert changed == f"Completed updating config for group {group}."
    text = run("configs", "--describe", "--entity-type", "groups")
    assert f"Dynamic configs for group {group} are:" in text.splitlines()
    assert described(text)[key] == (
        "50000", f"DYNAMIC_GROUP_CONFIG:{key}=50000, DEFAULT_CONFIG:group.{key}=45000")
    low = run("configs", "--alter", *of, "--add-config", f"{key}=1", check=False)
    assert f"{key} must be greater than or equal to group.consumer.min.session.timeout.ms" in low
    run("configs", "--alter", *of, "--delete-config", key)
    assert key not in described(run("configs", "--describe", *of))


def test_client_metrics_are_subscribed_to_described_and_deleted(run):
    name = f"metrics-{uuid.uuid4().hex[:8]}"
    altered = run("client-metrics", "--alter", "--name", name, "--metrics", "a.,b.",
                  "--interval", "1000", "--match", "client_id=x.*")
    assert altered == f"Altered client metrics config for {name}."
    assert name in run("client-metrics", "--list").split()
    assert run("client-metrics", "--describe", "--name", name).splitlines() == [
        f"Client metrics configs for {name} are:",
        "  interval.ms=1000", "  match=client_id=x.*", "  metrics=a.,b.",
    ]
    text = run("configs", "--describe", "--entity-type", "client-metrics", "--entity-name", name)
    assert text.splitlines()[0] == f"Dynamic configs for client-metric {name} are:"
    assert described(text)["interval.ms"][0] == "1000"
    changed = run("configs", "--alter", "--entity-type", "client-metrics", "--entity-name", name,
                  "--add-config", "interval.ms=99", check=False)
    assert "interval must be between 100 and 3600000 (1 hour)" in changed
    run("client-metrics", "--delete", "--name", name)
    assert name not in run("client-metrics", "--list").split()


# Records, folders, offsets


def test_records_are_deleted_up_to_an_offset(run, plan, topic):
    filled(run, topic, 5)
    at = lambda offset: plan({"version": 1, "partitions": [  # noqa: E731
        {"topic": topic, "partition": 0, "offset": offset}]})
    deleted = run("delete-records", "--offset-json-file", at(3))
    assert deleted.splitlines() == [
        "Executing records delete operation", "Records delete operation completed:",
        f"partition: {topic}-0\tlow_watermark: 3",
    ]
    beyond = run("delete-records", "--offset-json-file", at(6), check=False)
    assert f"partition: {topic}-0\terror:" in beyond and "OffsetOutOfRangeException" in beyond
    run("delete-records", "--offset-json-file", at(-1))
    times = {time: run("get-offsets", "--topic", topic, "--time", time)
             for time in ("earliest", "latest")}
    assert times == {time: f"{topic}:0:5" for time in times}
    run("configs", "--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config",
        "cleanup.policy=compact")
    refused = run("delete-records", "--offset-json-file", at(-1), check=False)
    assert "PolicyViolationException" in refused


def test_offsets_are_found_by_every_form_of_time(run, topic):
    filled(run, topic, 4)
    for time, offset in [
        ("-1", 4), ("-2", 0), ("latest", 4), ("earliest", 0), ("earliest-local", 0),
        ("0", 0),
    ]:
        found = run("get-offsets", "--topic", topic, "--time", time)
        assert found == f"{topic}:0:{offset}", time
    for time in ("9223372036854775807", "latest-tiered"):
        assert run("get-offsets", "--topic", topic, "--time", time) == "", time
    largest = run("get-offsets", "--topic", topic, "--time", "max-timestamp")
    assert re.fullmatch(rf"{topic}:0:[0-3]", largest)
    parts = run("get-offsets", "--topic-partitions", f"{topic}:0", "--exclude-internal-topics")
    assert parts == f"{topic}:0:4"


def test_folders_tell_the_bytes_of_partitions(run, topic):
    filled(run, topic, 3, partitions=2)

    def sizes():
        text = run("log-dirs", "--describe", "--topic-list", topic, "--broker-list", "1")
        lines = text.splitlines()
        assert lines[:2] == ["Querying brokers for log directories information",
                             "Received log directory information from brokers 1"]
        [folder] = json.loads(lines[2])["brokers"][0]["logDirs"]
        assert folder["error"] is None
        assert all(part["offsetLag"] == 0 and not part["isFuture"] for part in folder["partitions"])
        return {part["partition"]: part["size"] for part in folder["partitions"]}

    found = wait_for("the records to be counted", lambda: sum(sizes().values()) > 0 and sizes())
    assert found.keys() == {f"{topic}-0", f"{topic}-1"}


# Leaders, assignments, the quorum, the cluster


def test_no_election_is_needed(run, topic):
    run("topics", "--create", "--topic", topic, "--partitions", "2")
    one = run("leader-election", "--election-type", "preferred", "--topic", topic,
              "--partition", "0")
    assert one == f"Valid replica already elected for partitions {topic}-0"
    unclean = run("leader-election", "--election-type", "unclean", "--topic", topic,
                  "--partition", "1")
    assert unclean == f"Valid replica already elected for partitions {topic}-1"
    run("leader-election", "--election-type", "preferred", "--all-topic-partitions")
    missing = run("leader-election", "--election-type", "preferred", "--topic", "no-" + topic,
                  "--partition", "0", check=False)
    assert "UnknownTopicOrPartitionException" in missing


def test_partitions_are_assigned_where_they_are(run, plan, topic):
    run("topics", "--create", "--topic", topic)
    here = plan({"version": 1, "partitions": [
        {"topic": topic, "partition": 0, "replicas": [1]}]})
    executed = run("reassign-partitions", "--reassignment-json-file", here, "--execute")
    assert f"Successfully started partition reassignment for {topic}-0" in executed
    verified = run("reassign-partitions", "--reassignment-json-file", here, "--verify")
    assert f"Reassignment of partition {topic}-0 is completed." in verified
    assert run("reassign-partitions", "--list") == "No partition reassignments found."
    moved = plan({"version": 1, "topics": [{"topic": topic}]})
    proposed = run("reassign-partitions", "--topics-to-move-json-file", moved, "--broker-list",
                   "1", "--generate")
    assert "Proposed partition reassignment configuration" in proposed
    there = plan({"version": 1, "partitions": [
        {"topic": topic, "partition": 0, "replicas": [2]}]})
    refused = run("reassign-partitions", "--reassignment-json-file", there, "--execute",
                  check=False)
    assert "Unknown broker id 2" in refused
    cancelled = run("reassign-partitions", "--reassignment-json-file", here, "--cancel")
    assert "None of the specified partition reassignments are active." in cancelled


def test_the_quorum_is_one_node(run):
    status = dict(line.split(":", 1)
                  for line in run("metadata-quorum", "describe", "--status").splitlines())
    assert status["LeaderId"].strip() == "1"
    assert status["MaxFollowerLag"].strip() == "0"
    assert '"id": 1' in status["CurrentVoters"] and status["CurrentObservers"].strip() == "[]"
    lines = run("metadata-quorum", "describe", "--replication").splitlines()
    assert lines[0].split()[:3] == ["NodeId", "DirectoryId", "LogEndOffset"]
    assert lines[1].split()[0] == "1" and lines[1].split()[-1] == "Leader"


def test_the_cluster_tells_its_id_endpoints_and_features(run, broker):
    identity = run("cluster", "cluster-id")
    assert re.fullmatch(r"Cluster ID: \S{22}", identity)
    endpoints = run("cluster", "list-endpoints").splitlines()
    assert endpoints[0].split() == ["ID", "HOST", "PORT", "RACK", "STATE", "ENDPOINT_TYPE"]
    host, port = broker.bootstrap.split(":")
    assert endpoints[1].split() == ["1", host, port, "null", "unfenced", "broker"]
    run("features", "describe")


def test_what_the_verifiable_producer_sent_the_verifiable_consumer_gets(run, topic):
    filled(run, topic, 20)
    printed = run("verifiable-consumer", "--topic", topic, "--group-id", f"group-{topic}",
                  "--max-messages", "20", "--reset-policy", "earliest")
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    consumed = sum(line["count"] for line in lines if line["name"] == "records_consumed")
    committed = [line for line in lines if line["name"] == "offsets_committed"]
    assert consumed == 20
    assert committed[-1]["success"] and committed[-1]["offsets"][0]["offset"] == 20
