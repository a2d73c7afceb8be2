"""DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, ListConfigResources."""

from differential import messages
from differential.batches import batch
from differential.cases import case
from differential.talk import produce

TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP = 2, 4, 8, 16, 32
SET, DELETE, APPEND, SUBTRACT = 0, 1, 2, 3


def describe(talk, kind, name, *keys, version=4, until=None, **more):
    return talk.call("DescribeConfigs", version, {**more, "Resources": [
        {"ResourceType": kind, "ResourceName": name,
         "ConfigurationKeys": list(keys) or None}]}, until=until)


def has(name, value):
    """The condition that a described configuration has this value: Kafka changes it behind."""
    def condition(reply):
        told = {one["Name"]: one["Value"] for one in reply["Results"][0]["Configs"]}
        return told.get(name) == value
    return condition


def change(talk, kind, name, *operations, version=1, validate_only=False):
    """`operations`: (key, operation, value)."""
    return talk.call("IncrementalAlterConfigs", version, {
        "ValidateOnly": validate_only, "Resources": [
            {"ResourceType": kind, "ResourceName": name, "Configs": [
                {"Name": key, "ConfigOperation": operation, "Value": value}
                for key, operation, value in operations]}]})


def replace(talk, kind, name, version=2, validate_only=False, **configs):
    return talk.call("AlterConfigs", version, {
        "ValidateOnly": validate_only, "Resources": [
            {"ResourceType": kind, "ResourceName": name, "Configs": [
                {"Name": key.replace("_", "."), "Value": value}
                for key, value in configs.items()]}]})


@case
def topic_in_every_version(talk):
    topic = talk.topic(retention_ms=1000, cleanup_policy="compact")
    for version in messages.versions("DescribeConfigs"):
        describe(talk, TOPIC, topic.name, version=version)
        describe(talk, TOPIC, topic.name, "retention.ms", "cleanup.policy", "segment.bytes",
                 version=version, IncludeSynonyms=True, IncludeDocumentation=True)


@case
def synonyms_of_topic_keys(talk):
    topic = talk.topic(retention_ms=1000)
    describe(talk, TOPIC, topic.name, IncludeSynonyms=True, IncludeDocumentation=True)


@case
def broker_keys(talk):
    keys = [
        "node.id", "num.partitions", "log.retention.ms", "log.retention.hours",
        "auto.create.topics.enable", "message.max.bytes", "log.cleanup.policy",
        "log.segment.bytes", "compression.type", "min.insync.replicas",
        "group.initial.rebalance.delay.ms", "offsets.retention.minutes",
        "sasl.enabled.mechanisms", "super.users", "authorizer.class.name",
        "log.message.timestamp.type", "unclean.leader.election.enable",
        "transaction.max.timeout.ms", "max.connections", "ssl.keystore.password",
    ]
    for key in keys:
        describe(talk, BROKER, "1", key, IncludeSynonyms=True, IncludeDocumentation=True)
    describe(talk, BROKER, "", "log.retention.ms")
    describe(talk, BROKER, "1", "no.such.key")


@case
def describe_with_mistakes(talk):
    topic = talk.topic()
    describe(talk, TOPIC, f"{talk.name}-nowhere")
    describe(talk, TOPIC, "a b")
    describe(talk, TOPIC, "")
    describe(talk, TOPIC, topic.name, "no.such.key")
    describe(talk, BROKER, "7")
    describe(talk, BROKER, "one")
    describe(talk, 1, "x")
    describe(talk, 0, "x")
    describe(talk, 99, "x")
    describe(talk, BROKER_LOGGER, "7")
    describe(talk, GROUP, "")
    describe(talk, CLIENT_METRICS, "")
    talk.call("DescribeConfigs", 4, {"Resources": []})
    twice = {"ResourceType": TOPIC, "ResourceName": topic.name,
             "ConfigurationKeys": ["retention.ms"]}
    talk.call("DescribeConfigs", 4, {"Resources": [twice, twice]})


@case
def change_a_topic(talk):
    topic = talk.topic()
    for version in messages.versions("IncrementalAlterConfigs"):
        change(talk, TOPIC, topic.name, ("retention.ms", SET, f"{version + 1}000"),
               version=version)
        describe(talk, TOPIC, topic.name, "retention.ms",
                 until=has("retention.ms", f"{version + 1}000"))
    change(talk, TOPIC, topic.name, ("cleanup.policy", APPEND, "compact"))
    describe(talk, TOPIC, topic.name, "cleanup.policy",
             until=has("cleanup.policy", "delete,compact"))
    change(talk, TOPIC, topic.name, ("cleanup.policy", APPEND, "compact"))
    change(talk, TOPIC, topic.name, ("cleanup.policy", SUBTRACT, "delete"))
    describe(talk, TOPIC, topic.name, "cleanup.policy", until=has("cleanup.policy", "compact"))
    change(talk, TOPIC, topic.name, ("cleanup.policy", SUBTRACT, "never-there"))
    change(talk, TOPIC, topic.name, ("retention.ms", DELETE, None))
    describe(talk, TOPIC, topic.name, "retention.ms", until=has("retention.ms", "-1"))
    change(talk, TOPIC, topic.name, ("retention.ms", DELETE, None))
    change(talk, TOPIC, topic.name)
    change(talk, TOPIC, topic.name, ("max.message.bytes", SET, "500"),
           ("segment.ms", SET, "60000"))
    describe(talk, TOPIC, topic.name, "max.message.bytes", "segment.ms",
             until=has("segment.ms", "60000"))


@case
def change_a_topic_with_mistakes(talk):
    topic = talk.topic()
    for key, operation, value in (
        ("no.such.key", SET, "1"), ("retention.ms", SET, "soon"), ("retention.ms", SET, None),
        ("retention.ms", SET, "-2"), ("cleanup.policy", SET, "burn"),
        ("cleanup.policy", APPEND, "burn"), ("retention.ms", APPEND, "5"),
        ("retention.ms", SUBTRACT, "5"), ("retention.ms", 9, "5"), ("no.such.key", DELETE, None),
        ("", SET, "1"), ("cleanup.policy", SET, ""), ("min.insync.replicas", SET, "0"),
        ("segment.bytes", SET, "1"), ("compression.type", SET, "rar"),
    ):
        change(talk, TOPIC, topic.name, (key, operation, value))
        change(talk, TOPIC, topic.name, (key, operation, value), validate_only=True)
    change(talk, TOPIC, topic.name, ("retention.ms", SET, "5"), ("retention.ms", SET, "6"))
    change(talk, TOPIC, topic.name, ("retention.ms", SET, "5"), ("segment.ms", SET, "x"))
    change(talk, TOPIC, f"{talk.name}-nowhere", ("retention.ms", SET, "5"))
    change(talk, TOPIC, "", ("retention.ms", SET, "5"))
    change(talk, 1, "x", ("retention.ms", SET, "5"))
    change(talk, 0, "x", ("retention.ms", SET, "5"))
    twice = {"ResourceType": TOPIC, "ResourceName": topic.name,
             "Configs": [{"Name": "retention.ms", "ConfigOperation": SET, "Value": "5"}]}
    talk.call("IncrementalAlterConfigs", 1, {"Resources": [twice, twice]})
    talk.call("IncrementalAlterConfigs", 1, {"Resources": []})
    describe(talk, TOPIC, topic.name, "retention.ms")


@case
def validates_only(talk):
    topic = talk.topic()
    change(talk, TOPIC, topic.name, ("retention.ms", SET, "77"), validate_only=True)
    replace(talk, TOPIC, topic.name, retention_ms="77", validate_only=True)
    describe(talk, TOPIC, topic.name, "retention.ms")


@case
def replace_a_topic(talk):
    topic = talk.topic(retention_ms=5, segment_ms=60000)
    for version in messages.versions("AlterConfigs"):
        replace(talk, TOPIC, topic.name, version, retention_ms=f"{version + 1}00")
        describe(talk, TOPIC, topic.name, "retention.ms", "segment.ms",
                 until=has("retention.ms", f"{version + 1}00"))
    replace(talk, TOPIC, topic.name)
    describe(talk, TOPIC, topic.name, "retention.ms", until=has("retention.ms", "-1"))
    replace(talk, TOPIC, topic.name, no_such_key="1")
    replace(talk, TOPIC, topic.name, retention_ms="x")
    replace(talk, TOPIC, topic.name, retention_ms=None)
    replace(talk, TOPIC, f"{talk.name}-nowhere", retention_ms="1")
    replace(talk, 1, "x", retention_ms="1")


@case
def change_the_broker(talk):
    for name in ("1", ""):
        change(talk, BROKER, name, ("log.retention.bytes", SET, "123456789"))
        describe(talk, BROKER, name, "log.retention.bytes", IncludeSynonyms=True,
                 until=has("log.retention.bytes", "123456789"))
    topic = talk.topic()
    describe(talk, TOPIC, topic.name, "retention.bytes", IncludeSynonyms=True)
    for name in ("1", ""):
        change(talk, BROKER, name, ("log.retention.bytes", DELETE, None))
    describe(talk, BROKER, "1", "log.retention.bytes", IncludeSynonyms=True,
             until=has("log.retention.bytes", "-1"))
    describe(talk, BROKER, "", "log.retention.bytes")


@case
def change_the_broker_with_mistakes(talk):
    for key, operation, value in (
        ("no.such.key", SET, "1"), ("node.id", SET, "5"), ("log.dirs", SET, "/nowhere"),
        ("log.retention.ms", SET, "soon"), ("num.partitions", SET, "4"),
        ("listeners", SET, "PLAINTEXT://:1"), ("log.cleaner.threads", SET, "0"),
        ("message.max.bytes", SET, "-5"), ("log.retention.ms", APPEND, "4"),
    ):
        for name in ("1", ""):
            change(talk, BROKER, name, (key, operation, value), validate_only=True)
    change(talk, BROKER, "7", ("log.retention.bytes", SET, "5"))
    change(talk, BROKER, "one", ("log.retention.bytes", SET, "5"))


@case
def groups(talk):
    group = talk.name
    describe(talk, GROUP, group, IncludeSynonyms=True)
    change(talk, GROUP, group, ("consumer.session.timeout.ms", SET, "50000"))
    describe(talk, GROUP, group, "consumer.session.timeout.ms",
             until=has("consumer.session.timeout.ms", "50000"))
    for key, value in (("no.such.key", "1"), ("consumer.session.timeout.ms", "1"),
                       ("consumer.session.timeout.ms", "999999999"),
                       ("consumer.heartbeat.interval.ms", "x"),
                       ("share.auto.offset.reset", "sometime"),
                       ("share.isolation.level", "none"),
                       ("share.record.lock.duration.ms", "1")):
        change(talk, GROUP, group, (key, SET, value))
    change(talk, GROUP, "", ("consumer.session.timeout.ms", SET, "50000"))
    change(talk, GROUP, group, ("consumer.session.timeout.ms", DELETE, None))
    describe(talk, GROUP, group, "consumer.session.timeout.ms",
             until=has("consumer.session.timeout.ms", "45000"))


@case
def client_metrics(talk):
    name = talk.name
    describe(talk, CLIENT_METRICS, name)
    change(talk, CLIENT_METRICS, name, ("interval.ms", SET, "60000"),
           ("metrics", SET, "org.apache.kafka.producer."), ("match", SET, "client_id=nobody"))
    describe(talk, CLIENT_METRICS, name, until=has("interval.ms", "60000"))
    for key, value in (("no.such.key", "1"), ("interval.ms", "1"), ("interval.ms", "x"),
                       ("interval.ms", "99999999"), ("match", "nonsense"),
                       ("match", "client_id=("), ("match", "no_such=x")):
        change(talk, CLIENT_METRICS, name, (key, SET, value))

    def listed(version, **filters):
        reply = talk.ask("ListConfigResources", version, filters)
        if isinstance(reply, dict):
            reply["ConfigResources"] = [one for one in reply["ConfigResources"]
                                        if one["ResourceName"].startswith(name)]
        talk.note("ListConfigResources", version, filters, reply)

    listed(0)
    listed(1)
    listed(1, ResourceTypes=[CLIENT_METRICS])
    listed(1, ResourceTypes=[TOPIC])
    talk.call("ListConfigResources", 1, {"ResourceTypes": [BROKER]})
    talk.call("ListConfigResources", 1, {"ResourceTypes": [BROKER_LOGGER]})
    talk.call("ListConfigResources", 1, {"ResourceTypes": [99]})
    change(talk, CLIENT_METRICS, name, ("interval.ms", DELETE, None), ("metrics", DELETE, None),
           ("match", DELETE, None))
    change(talk, CLIENT_METRICS, "", ("interval.ms", SET, "60000"))


@case
def loggers(talk):
    change(talk, BROKER_LOGGER, "1", ("no.such.Logger", SET, "DEBUG"))
    change(talk, BROKER_LOGGER, "1", ("kafka.server.KafkaApis", SET, "SHOUTING"))
    change(talk, BROKER_LOGGER, "7", ("root", SET, "DEBUG"))
    change(talk, BROKER_LOGGER, "", ("root", SET, "DEBUG"))
    change(talk, BROKER_LOGGER, "1", ("root", SET, "SHOUTING"))
    change(talk, BROKER_LOGGER, "1", ("root", DELETE, None))
    change(talk, BROKER_LOGGER, "1", ("root", APPEND, "DEBUG"))
    change(talk, BROKER_LOGGER, "1", ("root", SET, "WARN"))
    describe(talk, BROKER_LOGGER, "1", "root")
    change(talk, BROKER_LOGGER, "1", ("root", SET, "INFO"))
    describe(talk, BROKER_LOGGER, "1", "root")
    describe(talk, BROKER_LOGGER, "7", "root")


@case
def a_limit_takes_effect(talk):
    topic = talk.topic()
    talk.call("Produce", 12, produce(topic, batch(b"x" * 400)))
    change(talk, TOPIC, topic.name, ("max.message.bytes", SET, "300"))
    talk.call("Produce", 12, produce(topic, batch(b"x" * 400)),
              until=lambda reply:
              reply["Responses"][0]["PartitionResponses"][0]["ErrorCode"] == 10)
