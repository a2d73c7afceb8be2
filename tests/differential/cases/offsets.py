"""Committed offsets: OffsetCommit, OffsetFetch, OffsetDelete."""

from differential import messages
from differential.cases import case
from differential.cases.groups import stable, subscription
from differential.talk import Topic

UNKNOWN_ID = "00000000-0000-4000-8000-000000000001"


def commit(talk, group, topic, offset=5, version=9, partition=0, generation=-1, member="",
           instance=None, metadata="note", epoch=-1):
    return talk.call("OffsetCommit", version, {
        "GroupId": group, "GenerationIdOrMemberEpoch": generation, "MemberId": member,
        "GroupInstanceId": instance, "RetentionTimeMs": -1,
        "Topics": [{"Name": topic.name, "TopicId": topic.id, "Partitions": [
            {"PartitionIndex": partition, "CommittedOffset": offset,
             "CommittedLeaderEpoch": epoch, "CommittedMetadata": metadata}]}]})


def fetch(talk, group, *topics, version=9, partitions=(0, 1), everything=False, member=None,
          epoch=-1, stable_only=False):
    by_name = None if everything else [
        {"Name": topic.name, "PartitionIndexes": list(partitions)} for topic in topics]
    by_either = None if everything else [
        {"Name": topic.name, "TopicId": topic.id, "PartitionIndexes": list(partitions)}
        for topic in topics]
    return talk.call("OffsetFetch", version, {
        "GroupId": group, "Topics": by_name, "RequireStable": stable_only,
        "Groups": [{"GroupId": group, "MemberId": member, "MemberEpoch": epoch,
                    "Topics": by_either}]})


@case
def commit_and_fetch_in_every_version(talk):
    topic = talk.topic(partitions=2)
    for version in messages.versions("OffsetCommit"):
        commit(talk, talk.name, topic, version=version, epoch=0)
    for version in messages.versions("OffsetFetch"):
        fetch(talk, talk.name, topic, version=version)
        if version >= 2:
            fetch(talk, talk.name, version=version, everything=True)


@case
def commit_with_mistakes(talk):
    topic = talk.topic(partitions=2)
    group = talk.name
    nowhere = Topic(f"{group}-nowhere", UNKNOWN_ID)
    for version in (2, 9, 10):
        commit(talk, group, nowhere, version=version)
        commit(talk, group, topic, version=version, partition=7)
        commit(talk, "", topic, version=version)
        commit(talk, f"{group}-new", topic, version=version, generation=3, member="stranger")
        commit(talk, f"{group}-new", topic, version=version, generation=3)
        commit(talk, f"{group}-new", topic, version=version, member="stranger")
        commit(talk, group, topic, version=version, metadata="x" * 5000)
        commit(talk, group, topic, version=version, metadata=None)
        commit(talk, group, topic, version=version, offset=-1)
        commit(talk, group, topic, version=version, offset=-7)
    fetch(talk, group, topic)
    talk.call("OffsetCommit", 9, {"GroupId": group, "GenerationIdOrMemberEpoch": -1})
    twice = {"Name": topic.name, "Partitions": [
        {"PartitionIndex": 0, "CommittedOffset": 1}, {"PartitionIndex": 0, "CommittedOffset": 2}]}
    talk.call("OffsetCommit", 8, {
        "GroupId": group, "GenerationIdOrMemberEpoch": -1, "Topics": [twice]})
    several = {"GroupId": group, "GenerationIdOrMemberEpoch": -1, "Topics": [
        {"Name": topic.name, "Partitions": [
            {"PartitionIndex": 1, "CommittedOffset": 4, "CommittedMetadata": ""},
            {"PartitionIndex": 9, "CommittedOffset": 4, "CommittedMetadata": ""}]},
        {"Name": nowhere.name, "Partitions": [
            {"PartitionIndex": 0, "CommittedOffset": 4, "CommittedMetadata": ""}]}]}
    talk.call("OffsetCommit", 9, several)
    fetch(talk, group, topic)


@case
def commit_as_a_member(talk):
    topic = talk.topic(partitions=2)
    group = talk.name
    member, generation = stable(talk, group)
    for version in (2, 7, 9):
        commit(talk, group, topic, version=version, generation=generation, member=member)
        commit(talk, group, topic, version=version, generation=generation + 1, member=member)
        commit(talk, group, topic, version=version, generation=generation - 1, member=member)
        commit(talk, group, topic, version=version, generation=generation, member="stranger")
        commit(talk, group, topic, version=version)
        commit(talk, group, topic, version=version, member=member)
        commit(talk, group, topic, version=version, generation=generation)
    commit(talk, group, topic, generation=generation, member=member, instance="nobody")
    fetch(talk, group, topic)


@case
def commit_as_a_static_member(talk):
    topic = talk.topic()
    group = talk.name
    member, generation = stable(talk, group, instance="one")
    commit(talk, group, topic, generation=generation, member=member, instance="one")
    commit(talk, group, topic, generation=generation, member="stranger", instance="one")
    commit(talk, group, topic, generation=generation, member=member, instance="two")


@case
def fetch_what_is_not_there(talk):
    topic = talk.topic(partitions=2)
    nowhere = Topic(f"{talk.name}-nowhere", UNKNOWN_ID)
    for version in (1, 5, 7, 8, 9, 10):
        fetch(talk, talk.name, topic, version=version)
        fetch(talk, talk.name, nowhere, version=version)
        fetch(talk, talk.name, topic, version=version, partitions=(5,))
        fetch(talk, "", topic, version=version)
        fetch(talk, talk.name, version=version)
    fetch(talk, talk.name, version=9, everything=True)
    fetch(talk, talk.name, topic, version=9, member="stranger", epoch=3)
    fetch(talk, talk.name, topic, version=9, stable_only=True)


@case
def fetch_of_many_groups(talk):
    topic = talk.topic(partitions=2)
    for name in ("a", "b"):
        commit(talk, f"{talk.name}-{name}", topic)
    asked = [{"Name": topic.name, "TopicId": topic.id, "PartitionIndexes": [0]}]
    for version in (8, 9, 10):
        talk.call("OffsetFetch", version, {"Groups": [
            {"GroupId": f"{talk.name}-a", "Topics": asked},
            {"GroupId": f"{talk.name}-b", "Topics": None},
            {"GroupId": f"{talk.name}-nowhere", "Topics": asked}]})
    talk.call("OffsetFetch", 9, {"Groups": []})


@case
def fetch_as_a_member(talk):
    topic = talk.topic()
    member, generation = stable(talk, talk.name)
    commit(talk, talk.name, topic, generation=generation, member=member)
    fetch(talk, talk.name, topic, member=member, epoch=generation, partitions=(0,))
    fetch(talk, talk.name, topic, member=member, epoch=generation + 1, partitions=(0,))
    fetch(talk, talk.name, topic, member="stranger", epoch=generation, partitions=(0,))


@case
def delete(talk):
    topic = talk.topic(partitions=2)
    group = talk.name

    def drop(*partitions, of=group, name=topic.name):
        talk.call("OffsetDelete", 0, {"GroupId": of, "Topics": [
            {"Name": name, "Partitions": [{"PartitionIndex": one} for one in partitions]}]})

    drop(0, of=f"{group}-nowhere")
    commit(talk, group, topic)
    commit(talk, group, topic, partition=1)
    drop(0)
    drop(0)
    drop(7)
    drop(0, name=f"{group}-nowhere")
    drop(0, of="")
    fetch(talk, group, topic)
    talk.call("OffsetDelete", 0, {"GroupId": group, "Topics": []})


@case
def delete_while_members_read(talk):
    topic = talk.topic()
    other = talk.topic(suffix="-other")
    group = talk.name
    protocols = [{"Name": "range", "Metadata": subscription(topic.name)}]
    member, generation = stable(talk, group, protocols=protocols)
    commit(talk, group, topic, generation=generation, member=member)
    commit(talk, group, other, generation=generation, member=member)
    talk.call("OffsetDelete", 0, {"GroupId": group, "Topics": [
        {"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]},
        {"Name": other.name, "Partitions": [{"PartitionIndex": 0}]}]})
    fetch(talk, group, topic, other, partitions=(0,))


@case
def offsets_go_with_their_topic(talk):
    topic = talk.topic()
    commit(talk, talk.name, topic)
    talk.ask("DeleteTopics", 5, {"TopicNames": [topic.name], "TimeoutMs": 5000})
    talk.call("Metadata", 12, {
        "Topics": [{"Name": topic.name}], "AllowAutoTopicCreation": False},
              until=lambda reply: reply["Topics"][0]["ErrorCode"] == 3)
    talk.call("OffsetFetch", 8, {"Groups": [{"GroupId": talk.name, "Topics": None}]},
              until=lambda reply: not reply["Groups"][0]["Topics"])
