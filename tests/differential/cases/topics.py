"""Metadata, DescribeTopicPartitions, CreateTopics, DeleteTopics, CreatePartitions."""

from differential import messages
from differential.cases import case

LONG = "n" * 250
BAD_NAMES = {"empty": "", "dot": ".", "dots": "..", "blank": "a b", "slash": "a/b", "long": LONG}


def wanted(name, partitions=1, factor=1, assignments=(), **configs):
    return {
        "Name": name, "NumPartitions": partitions, "ReplicationFactor": factor,
        "Assignments": [{"PartitionIndex": index, "BrokerIds": list(brokers)}
                        for index, brokers in assignments],
        "Configs": [{"Name": key.replace("_", "."), "Value": value}
                    for key, value in configs.items()],
    }


def create(talk, *topics, version=7, validate_only=False):
    return talk.call("CreateTopics", version, {
        "Topics": list(topics), "timeoutMs": 10000, "validateOnly": validate_only})


# Metadata


@case
def metadata_of_a_topic_in_every_version(talk):
    topic = talk.topic(partitions=3)
    for version in messages.versions("Metadata"):
        talk.call("Metadata", version, {
            "Topics": [{"Name": topic.name}], "IncludeTopicAuthorizedOperations": True,
            "IncludeClusterAuthorizedOperations": True})


@case
def metadata_of_an_unknown_topic(talk):
    # Before version 4 a request cannot say that the topic must not be made.
    for version in messages.versions("Metadata"):
        if version >= 4:
            talk.call("Metadata", version, {
                "Topics": [{"Name": talk.name}], "AllowAutoTopicCreation": False,
                "IncludeTopicAuthorizedOperations": True})


@case
def metadata_makes_topics(talk):
    for version in (3, 4, 9, 12):
        name = f"{talk.name}-{version}"
        asked = {"Topics": [{"Name": name}], "AllowAutoTopicCreation": True}
        talk.call("Metadata", version, asked,
                  until=lambda reply: reply["Topics"][0]["ErrorCode"] == 0)


@case
def metadata_of_bad_names(talk):
    for name in BAD_NAMES.values():
        for allowed in (False, True):
            talk.call("Metadata", 12, {
                "Topics": [{"Name": name}], "AllowAutoTopicCreation": allowed})


@case
def metadata_by_id(talk):
    topic = talk.topic(partitions=2)
    unknown = "00000000-0000-4000-8000-000000000001"
    for version in (10, 11, 12, 13):
        talk.call("Metadata", version, {"Topics": [{"TopicId": topic.id, "Name": None}]})
    talk.call("Metadata", 12, {"Topics": [{"TopicId": unknown, "Name": None}]})
    talk.call("Metadata", 12, {"Topics": [{"TopicId": unknown, "Name": topic.name}]})
    talk.call("Metadata", 12, {"Topics": [{"TopicId": messages.NO_UUID, "Name": None}]})


@case
def metadata_of_the_same_topic_twice(talk):
    topic = talk.topic()
    talk.call("Metadata", 9, {"Topics": [{"Name": topic.name}, {"Name": topic.name}]})


@case
def describe_topic_partitions(talk):
    topic = talk.topic(partitions=5)
    other = talk.topic(partitions=2, suffix="-other")
    both = [{"Name": topic.name}, {"Name": other.name}]
    talk.call("DescribeTopicPartitions", 0, {"Topics": both, "ResponsePartitionLimit": 2000})
    talk.call("DescribeTopicPartitions", 0, {"Topics": both, "ResponsePartitionLimit": 3})
    talk.call("DescribeTopicPartitions", 0, {
        "Topics": both, "ResponsePartitionLimit": 3,
        "Cursor": {"TopicName": topic.name, "PartitionIndex": 3}})
    talk.call("DescribeTopicPartitions", 0, {
        "Topics": [{"Name": f"{talk.name}-nowhere"}], "ResponsePartitionLimit": 10})
    talk.call("DescribeTopicPartitions", 0, {
        "Topics": [{"Name": "a b"}], "ResponsePartitionLimit": 10})
    talk.call("DescribeTopicPartitions", 0, {
        "Topics": both, "ResponsePartitionLimit": 10,
        "Cursor": {"TopicName": topic.name, "PartitionIndex": -1}})
    talk.call("DescribeTopicPartitions", 0, {
        "Topics": both, "ResponsePartitionLimit": 10,
        "Cursor": {"TopicName": other.name, "PartitionIndex": 1}})


# CreateTopics


@case
def create_in_every_version(talk):
    for version in messages.versions("CreateTopics"):
        create(talk, wanted(f"{talk.name}-{version}", 2, retention_ms="60000"), version=version)


@case
def create_what_is_there(talk):
    topic = talk.topic()
    for version in messages.versions("CreateTopics"):
        create(talk, wanted(topic.name), version=version)
    create(talk, wanted(topic.name), validate_only=True)


@case
def create_with_defaults(talk):
    create(talk, wanted(f"{talk.name}-both", -1, -1))
    create(talk, wanted(f"{talk.name}-partitions", -1, 1))
    create(talk, wanted(f"{talk.name}-factor", 3, -1))
    # Before version 4 the broker's defaults could not be asked for.
    create(talk, wanted(f"{talk.name}-old", -1, -1), version=3)
    create(talk, wanted(f"{talk.name}-old-factor", 1, -1), version=2)


@case
def create_with_a_bad_partition_count(talk):
    for version in (2, 5, 7):
        for count in (0, -2, -1000):
            create(talk, wanted(f"{talk.name}{version}{count}", count), version=version)


@case
def create_with_a_bad_replication_factor(talk):
    for factor in (0, 2, 3, -2, 32767):
        create(talk, wanted(f"{talk.name}{factor}", 1, factor))


@case
def create_with_a_bad_name(talk):
    for name in BAD_NAMES.values():
        create(talk, wanted(name))
        create(talk, wanted(name), validate_only=True)


@case
def create_with_colliding_names(talk):
    create(talk, wanted(f"{talk.name}.x"))
    create(talk, wanted(f"{talk.name}_x"))


@case
def create_validates_only(talk):
    for version in messages.versions("CreateTopics"):
        create(talk, wanted(talk.name, 3), version=version, validate_only=True)
    talk.call("Metadata", 12, {
        "Topics": [{"Name": talk.name}], "AllowAutoTopicCreation": False})


@case
def create_the_same_topic_twice(talk):
    create(talk, wanted(talk.name), wanted(talk.name, 2))
    create(talk, wanted(talk.name), wanted(f"{talk.name}-other"), wanted(talk.name))
    create(talk)


@case
def create_with_assignments(talk):
    def assigned(name, *assignments, partitions=-1, factor=-1):
        create(talk, wanted(f"{talk.name}-{name}", partitions, factor, assignments))

    assigned("good", (0, [1]), (1, [1]))
    assigned("reversed", (1, [1]), (0, [1]))
    assigned("stranger", (0, [7]))
    assigned("stranger-too", (0, [1, 7]))
    assigned("twice", (0, [1, 1]))
    assigned("nobody", (0, []))
    assigned("gap", (0, [1]), (2, [1]))
    assigned("not-from-zero", (1, [1]))
    assigned("same-partition", (0, [1]), (0, [1]))
    assigned("negative", (-1, [1]))
    assigned("with-count", (0, [1]), partitions=1)
    assigned("with-factor", (0, [1]), factor=1)
    assigned("with-both", (0, [1]), partitions=1, factor=1)
    assigned("uneven", (0, [1]), (1, []))


@case
def create_with_configs(talk):
    good = {
        "cleanup_policy": "compact,delete", "compression_type": "gzip", "retention_ms": "-1",
        "retention_bytes": "1000000", "segment_bytes": "1048576", "segment_ms": "60000",
        "max_message_bytes": "2000", "min_insync_replicas": "1",
        "message_timestamp_type": "LogAppendTime", "delete_retention_ms": "5",
        "min_compaction_lag_ms": "7", "max_compaction_lag_ms": "9000000",
        "min_cleanable_dirty_ratio": "0.25", "unclean_leader_election_enable": "true",
        "flush_messages": "10", "flush_ms": "1000", "index_interval_bytes": "100",
        "segment_index_bytes": "1000", "segment_jitter_ms": "3", "preallocate": "false",
        "file_delete_delay_ms": "60000", "message_timestamp_before_max_ms": "100",
        "message_timestamp_after_max_ms": "100",
    }
    for name, value in good.items():
        create(talk, wanted(f"{talk.name}-{name}", **{name: value}))


@case
def create_with_bad_configs(talk):
    bad = [
        ("no_such_key", "1"), ("cleanup_policy", "burn"), ("cleanup_policy", ""),
        ("compression_type", "rar"), ("retention_ms", "-2"), ("retention_ms", "soon"),
        ("retention_bytes", "x"), ("segment_bytes", "1"), ("segment_ms", "0"),
        ("max_message_bytes", "-1"), ("min_insync_replicas", "0"),
        ("message_timestamp_type", "Yesterday"), ("min_cleanable_dirty_ratio", "1.5"),
        ("unclean_leader_election_enable", "maybe"), ("flush_messages", "0"),
        ("retention_ms", None), ("max_message_bytes", "99999999999"), ("retention_ms", " 100 "),
        ("segment_index_bytes", "3"), ("preallocate", "yes"), ("min_compaction_lag_ms", "-1"),
        ("max_compaction_lag_ms", "0"), ("delete_retention_ms", "-1"),
        ("message_timestamp_before_max_ms", "-1"), ("message_format_version", "2.0"),
    ]
    for index, (name, value) in enumerate(bad):
        create(talk, wanted(f"{talk.name}-{index}", **{name: value}))
    both = {"min_compaction_lag_ms": "1000", "max_compaction_lag_ms": "100"}
    create(talk, wanted(f"{talk.name}-contradiction", **both))
    for version in (2, 5):
        create(talk, wanted(f"{talk.name}-{version}", cleanup_policy="burn"), version=version)
    twice = wanted(f"{talk.name}-twice", retention_ms="1000")
    twice["Configs"].append({"Name": "retention.ms", "Value": "2000"})
    create(talk, twice)


@case
def create_internal_topics(talk):
    create(talk, wanted("__consumer_offsets"))
    create(talk, wanted("__consumer_offsets", 5), validate_only=True)


# DeleteTopics


def delete(talk, version, *names, ids=()):
    return talk.call("DeleteTopics", version, {
        "TopicNames": list(names), "TimeoutMs": 10000,
        "Topics": [{"Name": name} for name in names] +
                  [{"Name": None, "TopicId": one} for one in ids]})


@case
def delete_in_every_version(talk):
    for version in messages.versions("DeleteTopics"):
        topic = talk.topic(suffix=f"-{version}")
        delete(talk, version, topic.name)
        delete(talk, version, topic.name)


@case
def delete_by_id(talk):
    topic = talk.topic()
    delete(talk, 6, ids=[topic.id])
    delete(talk, 6, ids=[topic.id])
    delete(talk, 6, ids=[messages.NO_UUID])


@case
def delete_with_mistakes(talk):
    topic = talk.topic()
    delete(talk, 6, f"{talk.name}-nowhere")
    delete(talk, 6, "a b")
    delete(talk, 6, "")
    delete(talk, 4)
    delete(talk, 4, topic.name, topic.name)
    twice = talk.topic(suffix="-twice")
    delete(talk, 6, twice.name, ids=[twice.id])
    delete(talk, 6, twice.name, twice.name)
    delete(talk, 6, ids=[twice.id, twice.id])
    talk.call("DeleteTopics", 6, {
        "Topics": [{"Name": twice.name, "TopicId": twice.id}], "TimeoutMs": 10000})


# CreatePartitions


def grow(talk, *topics, version=3, validate_only=False):
    return talk.call("CreatePartitions", version, {
        "Topics": list(topics), "TimeoutMs": 10000, "ValidateOnly": validate_only})


def to(name, count, *brokers):
    assignments = [{"BrokerIds": list(one)} for one in brokers] if brokers else None
    return {"Name": name, "Count": count, "Assignments": assignments}


@case
def grow_in_every_version(talk):
    topic = talk.topic()
    for version in messages.versions("CreatePartitions"):
        grow(talk, to(topic.name, version + 2), version=version)
    talk.call("Metadata", 9, {"Topics": [{"Name": topic.name}]},
              until=lambda reply: len(reply["Topics"][0]["Partitions"]) == 5)


@case
def grow_with_mistakes(talk):
    topic = talk.topic(partitions=3)
    for count in (3, 2, 0, -1):
        grow(talk, to(topic.name, count))
    grow(talk, to(f"{talk.name}-nowhere", 3))
    grow(talk, to("a b", 3))
    grow(talk, to(topic.name, 4), to(topic.name, 5))
    grow(talk, to(topic.name, 4, [7]))
    grow(talk, to(topic.name, 4, [1], [1]))
    grow(talk, to(topic.name, 5, [1]))
    grow(talk, to(topic.name, 4, []))
    grow(talk, to(topic.name, 4, [1, 1]))
    grow(talk, to(topic.name, 9), validate_only=True)
    grow(talk, to(topic.name, 2), validate_only=True)
    grow(talk, to(topic.name, 4, [1]))
    grow(talk)
    talk.call("Metadata", 9, {"Topics": [{"Name": topic.name}]},
              until=lambda reply: len(reply["Topics"][0]["Partitions"]) == 4)
