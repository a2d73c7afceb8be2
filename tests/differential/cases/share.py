"""KIP-932 share groups: heartbeat, fetch, acknowledge, offsets."""

import time

from differential import messages
from differential.cases import case
from differential.cases.configs import GROUP, SET, change, describe as describe_config, has
from differential.cases.consumer_groups import join_new
from differential.cases.groups import joining
from differential.talk import SECONDS_MAX

MEMBER = "BAAAAAAAAAAAAAAAAAAAAA"
ACCEPT, RELEASE, REJECT, RENEW = 1, 2, 3, 4


def beat(talk, group, epoch, *topics, member=MEMBER, until=None):
    return talk.call("ShareGroupHeartbeat", 1, {
        "GroupId": group, "MemberId": member, "MemberEpoch": epoch,
        "SubscribedTopicNames": [topic.name for topic in topics] or None}, until=until)


def assigned(reply):
    return bool(reply["Assignment"] and reply["Assignment"]["TopicPartitions"])


def from_the_start(talk, group):
    """A share group begins at the end of its partitions otherwise."""
    change(talk, GROUP, group, ("share.auto.offset.reset", SET, "earliest"))
    describe_config(talk, GROUP, group, "share.auto.offset.reset",
                    until=has("share.auto.offset.reset", "earliest"))


def acknowledging(*batches):
    return [{"FirstOffset": first, "LastOffset": last, "AcknowledgeTypes": types}
            for first, last, types in batches]


def fetch(talk, group, epoch, topic, partition=0, batches=(), version=1, until=None,
          member=MEMBER, **more):
    fields = {
        "GroupId": group, "MemberId": member, "ShareSessionEpoch": epoch, "MaxWaitMs": 300,
        "MinBytes": 0, "MaxBytes": 1 << 20, "MaxRecords": 100, "BatchSize": 100, "Topics": [
            {"TopicId": topic.id, "Partitions": [
                {"PartitionIndex": partition, "PartitionMaxBytes": 1 << 20,
                 "AcknowledgementBatches": acknowledging(*batches)}]}], **more}
    return talk.call("ShareFetch", version, fields, on=member, until=until)


def acknowledge(talk, group, epoch, topic, *batches, partition=0, version=1, member=MEMBER,
                **more):
    return talk.call("ShareAcknowledge", version, {
        "GroupId": group, "MemberId": member, "ShareSessionEpoch": epoch, "Topics": [
            {"TopicId": topic.id, "Partitions": [
                {"PartitionIndex": partition,
                 "AcknowledgementBatches": acknowledging(*batches)}]}], **more}, on=member)


def acquired(reply):
    return any(part["AcquiredRecords"] for topic in reply["Responses"]
               for part in topic["Partitions"])


def joined(talk, group, topic, member=MEMBER):
    """A member with its assignment. Kafka gives it behind the first heartbeat, which another case
    compares."""
    from_the_start(talk, group)
    epoch, deadline = 0, time.monotonic() + SECONDS_MAX
    while True:
        told = talk.ask("ShareGroupHeartbeat", 1, {
            "GroupId": group, "MemberId": member, "MemberEpoch": epoch,
            "SubscribedTopicNames": None if epoch else [topic.name]})
        if isinstance(told, str) or assigned(told) or time.monotonic() > deadline:
            return None if isinstance(told, str) else told["MemberEpoch"]
        epoch = told["MemberEpoch"]
        time.sleep(0.02)


def first_fetch(talk, group, topic, member=MEMBER, version=1):
    """Opens the session, and goes on until records come: Kafka initialises the partition behind.
    The epoch that is next. What comes before the records is not compared."""
    deadline = time.monotonic() + SECONDS_MAX
    epoch = 0
    while True:
        fields = {
            "GroupId": group, "MemberId": member, "ShareSessionEpoch": epoch, "MaxWaitMs": 200,
            "MinBytes": 1, "MaxBytes": 1 << 20, "MaxRecords": 100, "BatchSize": 100, "Topics": [
                {"TopicId": topic.id, "Partitions": [{"PartitionIndex": 0}]}] if not epoch else []}
        reply = talk.ask("ShareFetch", version, fields, on=member)
        epoch += 1
        if isinstance(reply, str) or acquired(reply) or time.monotonic() > deadline:
            talk.note("ShareFetch", version, fields, reply, member)
            return epoch


@case
def heartbeats(talk):
    topic = talk.topic(partitions=2)
    group = talk.name
    told = beat(talk, group, 0, topic)
    if isinstance(told, str):
        return
    beat(talk, group, told["MemberEpoch"], until=None if assigned(told) else assigned)
    beat(talk, group, told["MemberEpoch"] + 5)
    beat(talk, group, told["MemberEpoch"], member="stranger")
    beat(talk, group, -1, member="stranger")
    beat(talk, "", 0, topic)
    beat(talk, group, 0, topic, member="")
    beat(talk, group, 0)
    beat(talk, group, -2)
    talk.call("ShareGroupDescribe", 1, {
        "GroupIds": [group], "IncludeAuthorizedOperations": True})
    beat(talk, group, -1)
    talk.call("ShareGroupDescribe", 1, {"GroupIds": [group, f"{group}-nowhere", ""]})
    talk.call("ShareGroupDescribe", 1, {"GroupIds": []})


@case
def two_members(talk):
    topic = talk.topic(partitions=2)
    group = talk.name
    other = "CAAAAAAAAAAAAAAAAAAAAA"
    told = beat(talk, group, 0, topic)
    if isinstance(told, str):
        return
    beat(talk, group, told["MemberEpoch"], until=None if assigned(told) else assigned)
    told = beat(talk, group, 0, topic, member=other)
    beat(talk, group, told["MemberEpoch"], member=other,
         until=None if assigned(told) else assigned)
    talk.call("ShareGroupDescribe", 1, {"GroupIds": [group]})


@case
def records_are_taken_and_acknowledged(talk):
    topic = talk.topic()
    talk.produce(topic, b"a", b"b", b"c")
    talk.produce(topic, b"d")
    group = talk.name
    if joined(talk, group, topic) is None:
        return
    epoch = first_fetch(talk, group, topic)
    acknowledge(talk, group, epoch, topic, (0, 0, [ACCEPT]), (1, 1, [RELEASE]), (2, 2, [REJECT]))
    # The released one comes again, counted.
    fetch(talk, group, epoch + 1, topic, until=None)
    fetch(talk, group, epoch + 2, topic, batches=[(1, 1, [ACCEPT])])
    acknowledge(talk, group, epoch + 3, topic, (3, 3, [ACCEPT]))
    acknowledge(talk, group, epoch + 4, topic, (3, 3, [ACCEPT]))
    acknowledge(talk, group, epoch + 5, topic, (50, 51, [ACCEPT]))
    acknowledge(talk, group, epoch + 6, topic, (2, 1, [ACCEPT]))
    acknowledge(talk, group, epoch + 7, topic, (0, 0, [9]))
    acknowledge(talk, group, epoch + 8, topic, (0, 2, [ACCEPT, ACCEPT]))
    acknowledge(talk, group, -1, topic)
    acknowledge(talk, group, epoch + 9, topic)
    for version in messages.versions("DescribeShareGroupOffsets"):
        talk.call("DescribeShareGroupOffsets", version, {"Groups": [
            {"GroupId": group, "Topics": [{"TopicName": topic.name, "Partitions": [0]}]}]},
            until=lambda reply: reply["Groups"][0]["Topics"][0]["Partitions"][0][
                "StartOffset"] >= 3)


@case
def version_two(talk):
    topic = talk.topic()
    talk.produce(topic, b"a", b"b", b"c")
    group = talk.name
    if joined(talk, group, topic) is None:
        return
    epoch = first_fetch(talk, group, topic, version=2)
    acknowledge(talk, group, epoch, topic, (0, 0, [RENEW]), version=2, IsRenewAck=True)
    acknowledge(talk, group, epoch + 1, topic, (1, 1, [RENEW]), version=2)
    acknowledge(talk, group, epoch + 2, topic, (2, 2, [RENEW]))
    acknowledge(talk, group, epoch + 3, topic, (0, 2, [ACCEPT]), version=2)
    fetch(talk, group, -1, topic, version=2)


@case
def sessions_with_mistakes(talk):
    topic = talk.topic()
    talk.produce(topic, b"a")
    group = talk.name
    if joined(talk, group, topic) is None:
        return
    fetch(talk, group, 3, topic)
    fetch(talk, f"{group}-strange", 0, topic, member="stranger")
    fetch(talk, "", 0, topic)
    fetch(talk, f"{group}-nowhere", 0, topic)
    acknowledge(talk, group, 0, topic, (0, 0, [ACCEPT]))
    acknowledge(talk, group, 4, topic, (0, 0, [ACCEPT]))
    epoch = first_fetch(talk, group, topic)
    fetch(talk, group, epoch + 7, topic)
    fetch(talk, group, epoch, topic, partition=9)
    fetch(talk, group, -1, topic)
    fetch(talk, group, epoch + 1, topic)


@case
def offsets(talk):
    topic = talk.topic(partitions=2)
    talk.produce(topic, b"a", b"b", b"c")
    group = talk.name
    if joined(talk, group, topic) is None:
        return
    first_fetch(talk, group, topic)

    def alter(offset, name=topic.name, partition=0, of=group):
        talk.call("AlterShareGroupOffsets", 0, {"GroupId": of, "Topics": [
            {"TopicName": name, "Partitions": [
                {"PartitionIndex": partition, "StartOffset": offset}]}]})

    def delete(name=topic.name, of=group):
        talk.call("DeleteShareGroupOffsets", 0, {"GroupId": of, "Topics": [
            {"TopicName": name}]})

    def describe(*topics, of=group):
        for version in messages.versions("DescribeShareGroupOffsets"):
            talk.call("DescribeShareGroupOffsets", version, {"Groups": [
                {"GroupId": of, "Topics": [
                    {"TopicName": name, "Partitions": [0]} for name in topics] or None}]})

    alter(1)
    delete()
    beat(talk, group, -1)
    describe(topic.name)
    describe(f"{group}-nowhere")
    describe(topic.name, of=f"{group}-nowhere")
    alter(1)
    alter(1, partition=7)
    alter(1, name=f"{group}-nowhere")
    alter(1, of=f"{group}-nowhere")
    alter(-5)
    describe(topic.name)
    delete(name=f"{group}-nowhere")
    delete(of=f"{group}-nowhere")
    delete()
    describe(topic.name)
    talk.call("DeleteGroups", 2, {"GroupsNames": [group]})


@case
def kinds_do_not_mix(talk):
    topic = talk.topic()
    group = talk.name
    told = beat(talk, group, 0, topic)
    if isinstance(told, str):
        return
    talk.call("JoinGroup", 9, joining(group))
    join_new(talk, group, MEMBER, topic)
    talk.call("DescribeGroups", 6, {"Groups": [group]})
    talk.call("ConsumerGroupDescribe", 1, {"GroupIds": [group]})
    talk.call("DeleteGroups", 2, {"GroupsNames": [group]})
    for filters in ({}, {"TypesFilter": ["share"]}, {"TypesFilter": ["consumer"]}):
        reply = talk.ask("ListGroups", 5, filters)
        reply["Groups"] = [one for one in reply["Groups"] if one["GroupId"] == group]
        talk.note("ListGroups", 5, filters, reply)
    classic = f"{group}-classic"
    talk.call("JoinGroup", 3, joining(classic))
    beat(talk, classic, 0, topic)
    talk.call("ShareGroupDescribe", 1, {"GroupIds": [classic]})
