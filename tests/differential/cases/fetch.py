"""Fetch, ListOffsets, OffsetForLeaderEpoch and DeleteRecords."""

import time

from differential import messages
from differential.batches import GZIP, TIME_MS, batch
from differential.cases import case
from differential.talk import Topic

EARLIEST, LATEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED = -2, -1, -3, -4, -5
UNKNOWN_ID = "00000000-0000-4000-8000-000000000001"


def asked(topic, offset=0, partition=0, bytes_max=1 << 20, **more):
    """A Fetch request's topic with one partition."""
    return {"Topic": topic.name, "TopicId": topic.id, "Partitions": [
        {"Partition": partition, "FetchOffset": offset, "PartitionMaxBytes": bytes_max, **more}]}


def fetch(talk, *topics, version=12, until=None, **more):
    """In a request, fields of a session are left out: epoch -1 is a fetch without one."""
    return talk.call("Fetch", version, {
        "MaxWaitMs": 0, "MinBytes": 0, "Topics": list(topics), **more}, until=until)


def three_batches(talk, **options):
    """Offsets 0-1, 2-4, 5."""
    topic = talk.topic(**options)
    talk.produce(topic, b"a", b"b")
    talk.produce(topic, b"c", b"d", b"e", timestamp=TIME_MS + 5000)
    talk.produce(topic, b"f", timestamp=TIME_MS + 2000)
    return topic


@case
def in_every_version(talk):
    topic = three_batches(talk)
    for version in messages.versions("Fetch"):
        fetch(talk, asked(topic), version=version)
        fetch(talk, asked(topic, 6), version=version)


@case
def in_the_middle_of_a_batch(talk):
    topic = three_batches(talk)
    for offset in (1, 3, 4, 5):
        fetch(talk, asked(topic, offset))


@case
def out_of_range(talk):
    topic = three_batches(talk)
    for version in (4, 11, 12, 17):
        for offset in (7, -1, -2, 1 << 40):
            fetch(talk, asked(topic, offset), version=version)


@case
def unknown_topics_and_partitions(talk):
    topic = three_batches(talk)
    nowhere = Topic(f"{talk.name}-nowhere", UNKNOWN_ID)
    for version in (4, 11, 12, 13, 17):
        fetch(talk, asked(topic, partition=3), version=version)
        fetch(talk, asked(nowhere), version=version)
        fetch(talk, asked(topic), asked(nowhere), version=version)
    fetch(talk, asked(Topic("", messages.NO_UUID)), version=13)
    fetch(talk, asked(Topic("a b", "")), version=12)


@case
def bytes_at_most(talk):
    topic = three_batches(talk, partitions=2)
    talk.produce(topic, b"g" * 100, partition=1)
    for size in (1, 0, 100, 150, 200, 300):
        fetch(talk, asked(topic, bytes_max=size))
    # At least one batch, but of one partition only.
    fetch(talk, asked(topic), asked(topic, partition=1), MaxBytes=1)
    fetch(talk, asked(topic), MaxBytes=150)
    fetch(talk, asked(topic), MaxBytes=0)
    fetch(talk, asked(topic, bytes_max=-1))


@case
def waits_for_bytes(talk):
    topic = three_batches(talk)
    started = time.monotonic()
    fetch(talk, asked(topic, 6), MaxWaitMs=300, MinBytes=1)
    assert time.monotonic() - started >= 0.3, "the reply came before its time"
    # Enough is there, an error is there: no waiting.
    started = time.monotonic()
    fetch(talk, asked(topic), MaxWaitMs=4000, MinBytes=1)
    fetch(talk, asked(topic, 99), MaxWaitMs=4000, MinBytes=1)
    assert time.monotonic() - started < 3, "the reply waited for nothing"
    talk.send("Fetch", 12, {"MaxWaitMs": 4000, "MinBytes": 1, "Topics": [asked(topic, 6)]})
    talk.produce(topic, b"late")
    talk.receive()


@case
def leader_epochs(talk):
    topic = three_batches(talk)
    for version in (9, 12, 17):
        for epoch in (-1, 0, 1, 7):
            fetch(talk, asked(topic, CurrentLeaderEpoch=epoch), version=version)
    for last in (-1, 0, 1, 5):
        fetch(talk, asked(topic, 2, LastFetchedEpoch=last), version=12)
    fetch(talk, asked(topic, 6, LastFetchedEpoch=0), version=12)
    fetch(talk, asked(topic, 7, LastFetchedEpoch=0), version=12)
    fetch(talk, asked(topic, 2, LastFetchedEpoch=0, CurrentLeaderEpoch=0), version=12)


@case
def isolation_without_transactions(talk):
    topic = three_batches(talk)
    for version in (4, 12, 17):
        fetch(talk, asked(topic), version=version, IsolationLevel=1)


@case
def sessions(talk):
    topic = three_batches(talk, partitions=3)
    for version in (7, 12, 15):
        session = fetch(talk, asked(topic), asked(topic, partition=1), version=version,
                        SessionId=0, SessionEpoch=0)["SessionId"]

        def next_one(epoch, *topics, **more):
            fetch(talk, *topics, version=version, SessionId=session, SessionEpoch=epoch, **more)

        next_one(1)                                   # nothing new: nothing told
        talk.produce(topic, b"new", partition=1)
        next_one(2)
        next_one(3, asked(topic, 1))                  # another position
        next_one(4, asked(topic, 99))                 # an error is told each time
        next_one(5)
        next_one(6, asked(topic, partition=2))        # one more partition
        forgotten = {"Topic": topic.name, "TopicId": topic.id, "Partitions": [0]}
        next_one(7, ForgottenTopicsData=[forgotten])
        next_one(7)                                   # that epoch is over
        next_one(99)
        next_one(8)
        fetch(talk, version=version, SessionId=session + 1, SessionEpoch=1)
        next_one(-1)                                  # the session ends with this one
        next_one(9)


@case
def sessions_of_unknown_topics(talk):
    topic = three_batches(talk)
    nowhere = Topic(f"{talk.name}-nowhere", UNKNOWN_ID)
    for version in (12, 13):
        session = fetch(talk, asked(topic), asked(nowhere), version=version,
                        SessionId=0, SessionEpoch=0)["SessionId"]
        fetch(talk, version=version, SessionId=session, SessionEpoch=1)
    # A session that began with names goes on with ids, or the other way round.
    session = fetch(talk, asked(topic), version=12, SessionId=0, SessionEpoch=0)["SessionId"]
    fetch(talk, version=13, SessionId=session, SessionEpoch=1)


@case
def an_empty_request(talk):
    fetch(talk)
    fetch(talk, version=4)
    fetch(talk, SessionId=0, SessionEpoch=0)


@case
def as_a_replica(talk):
    topic = three_batches(talk)
    fetch(talk, asked(topic), version=11, ReplicaId=7)
    fetch(talk, asked(topic), version=15, ReplicaState={"ReplicaId": 7, "ReplicaEpoch": -1})
    fetch(talk, asked(topic), version=11, ReplicaId=-2)


@case
def with_another_cluster_id(talk):
    topic = three_batches(talk)
    fetch(talk, asked(topic), ClusterId="somewhere-else")


# ListOffsets


def offsets(talk, topic, *timestamps, version=10, partition=0, **more):
    for timestamp in timestamps:
        talk.call("ListOffsets", version, {
            "ReplicaId": -1, "TimeoutMs": 5000, **more,
            "Topics": [{"Name": topic.name, "Partitions": [
                {"PartitionIndex": partition, "Timestamp": timestamp}]}]})


@case
def offsets_in_every_version(talk):
    topic = three_batches(talk)
    for version in messages.versions("ListOffsets"):
        offsets(talk, topic, EARLIEST, LATEST, TIME_MS, version=version)


@case
def special_offsets(talk):
    topic = three_batches(talk)
    for version in (7, 8, 9, 10, 11):
        offsets(talk, topic, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, -6, -7,
                version=version)
    for version in (1, 6):
        offsets(talk, topic, MAX_TIMESTAMP, EARLIEST_LOCAL, version=version)


@case
def offsets_of_an_empty_partition(talk):
    topic = talk.topic()
    offsets(talk, topic, EARLIEST, LATEST, MAX_TIMESTAMP, EARLIEST_LOCAL, LATEST_TIERED, 0,
            TIME_MS, -6)


@case
def offsets_by_time(talk):
    topic = three_batches(talk)
    for step in (-1, 0, 1, 2, 2000, 2001, 5000, 5001, 5002, 5003):
        offsets(talk, topic, TIME_MS + step)
    offsets(talk, topic, 0, 1 << 60)
    compressed = talk.topic(suffix="-compressed")
    talk.produce(compressed, b"a", b"b", b"c", attributes=GZIP)
    offsets(talk, compressed, TIME_MS, TIME_MS + 1, TIME_MS + 2, TIME_MS + 3, MAX_TIMESTAMP)
    by_broker = talk.topic(suffix="-append", message_timestamp_type="LogAppendTime")
    talk.produce(by_broker, b"a", b"b", b"c")
    offsets(talk, by_broker, TIME_MS, MAX_TIMESTAMP)


@case
def offsets_with_mistakes(talk):
    topic = three_batches(talk)
    nowhere = Topic(f"{talk.name}-nowhere", "")
    for version in (1, 5, 10):
        offsets(talk, topic, LATEST, version=version, partition=4)
        offsets(talk, nowhere, LATEST, version=version)
    offsets(talk, topic, LATEST, partition=-1)
    offsets(talk, topic, LATEST, IsolationLevel=1)
    offsets(talk, topic, EARLIEST, TIME_MS, IsolationLevel=1)
    offsets(talk, topic, LATEST, ReplicaId=-2)
    offsets(talk, topic, LATEST, ReplicaId=5)
    for epoch in (-1, 0, 1, 7):
        talk.call("ListOffsets", 10, {
            "ReplicaId": -1, "TimeoutMs": 5000, "Topics": [{"Name": topic.name, "Partitions": [
                {"PartitionIndex": 0, "Timestamp": LATEST, "CurrentLeaderEpoch": epoch}]}]})
    twice = {"PartitionIndex": 0, "Timestamp": LATEST}
    for version in (1, 10):
        talk.call("ListOffsets", version, {
            "ReplicaId": -1, "TimeoutMs": 5000,
            "Topics": [{"Name": topic.name, "Partitions": [twice, twice]}]})
    talk.call("ListOffsets", 10, {"ReplicaId": -1, "Topics": []})


# OffsetForLeaderEpoch


@case
def ends_of_leader_epochs(talk):
    topic = three_batches(talk)

    def end(version, epoch, current=-1, name=topic.name, partition=0, **more):
        talk.call("OffsetForLeaderEpoch", version, {**more, "Topics": [
            {"Topic": name, "Partitions": [
                {"Partition": partition, "LeaderEpoch": epoch, "CurrentLeaderEpoch": current}]}]})

    for version in messages.versions("OffsetForLeaderEpoch"):
        for epoch in (0, 1, -1, 9):
            end(version, epoch)
        end(version, 0, current=0)
        end(version, 0, current=5)
        end(version, 0, partition=3)
        end(version, 0, name=f"{talk.name}-nowhere")
    end(4, 0, ReplicaId=-1)
    end(4, 0, ReplicaId=-2)
    end(4, 0, ReplicaId=3)
    empty = talk.topic(suffix="-empty")
    end(4, 0, name=empty.name)
    end(4, -1, name=empty.name)


# DeleteRecords


def trim(talk, name, offset, version=2, partition=0):
    talk.call("DeleteRecords", version, {
        "TimeoutMs": 5000, "Topics": [{"Name": name, "Partitions": [
            {"PartitionIndex": partition, "Offset": offset}]}]})


@case
def records_are_deleted(talk):
    for version in messages.versions("DeleteRecords"):
        topic = three_batches(talk, suffix=f"-{version}")
        trim(talk, topic.name, 2, version)
        fetch(talk, asked(topic, 0))
        fetch(talk, asked(topic, 2))
        offsets(talk, topic, EARLIEST, LATEST, TIME_MS, MAX_TIMESTAMP)
        trim(talk, topic.name, 3, version)
        fetch(talk, asked(topic, 3))
        trim(talk, topic.name, 1, version)
        trim(talk, topic.name, 7, version)
        trim(talk, topic.name, -1, version)
        fetch(talk, asked(topic, 6))
        offsets(talk, topic, EARLIEST, LATEST, TIME_MS, MAX_TIMESTAMP)
        talk.produce(topic, b"after")
        fetch(talk, asked(topic, 6))


@case
def records_are_deleted_with_mistakes(talk):
    topic = three_batches(talk)
    trim(talk, topic.name, 0)
    trim(talk, topic.name, -2)
    trim(talk, topic.name, 1, partition=5)
    trim(talk, f"{talk.name}-nowhere", 0)
    trim(talk, "__consumer_offsets", 0)
    talk.call("DeleteRecords", 2, {"TimeoutMs": 1000, "Topics": []})
    compacted = talk.topic(suffix="-compacted", cleanup_policy="compact")
    talk.put(compacted, batch(b"v", keys=[b"k"]))
    trim(talk, compacted.name, 1)
    both = talk.topic(suffix="-both", cleanup_policy="compact,delete")
    talk.put(both, batch(b"v", keys=[b"k"]))
    trim(talk, both.name, 1)
