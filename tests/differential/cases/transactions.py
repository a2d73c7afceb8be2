"""Transactions: version 1 (explicit partitions) and KIP-890's version 2, fencing, markers, lists.

InitProducerId up to version 5, EndTxn up to 4 and AddPartitionsToTxn up to 3 are version 1.
"""

from differential import batches, messages
from differential.batches import CONTROL, TRANSACTIONAL, batch
from differential.cases import case
from differential.cases.groups import stable
from differential.talk import NOT_YET, Topic, error_codes, produce

CONCURRENT = 51


def settled(reply):
    """Kafka ends a transaction behind its answer; until then it says CONCURRENT_TRANSACTIONS."""
    codes = set(error_codes(reply))
    for result in reply.get("ResultsByTopicV3AndBelow", []):
        codes |= {one["PartitionErrorCode"] for one in result["ResultsByPartition"]}
    return not codes & (NOT_YET | {CONCURRENT})


def init(talk, name, version=4, timeout_ms=60000, producer=(-1, -1), **more):
    """The producer id and epoch."""
    told = talk.need("InitProducerId", version, {
        "TransactionalId": name, "TransactionTimeoutMs": timeout_ms, "ProducerId": producer[0],
        "ProducerEpoch": producer[1], **more}, until=settled)
    return told["ProducerId"], told["ProducerEpoch"]


def add(talk, name, producer, topic, *partitions, version=3, until=settled):
    topics = [{"Name": topic.name, "Partitions": list(partitions)}]
    return talk.call("AddPartitionsToTxn", version, {
        "V3AndBelowTransactionalId": name, "V3AndBelowProducerId": producer[0],
        "V3AndBelowProducerEpoch": producer[1], "V3AndBelowTopics": topics,
        "Transactions": [{"TransactionalId": name, "ProducerId": producer[0],
                          "ProducerEpoch": producer[1], "Topics": topics}]}, until=until)


def end(talk, name, producer, commit=True, version=3, until=settled):
    return talk.call("EndTxn", version, {
        "TransactionalId": name, "ProducerId": producer[0], "ProducerEpoch": producer[1],
        "Committed": commit}, until=until)


def put(talk, name, producer, topic, sequence, *values, version=11, partition=0):
    """Produce up to version 11 is version 1: the partition must have been added."""
    records = batch(*values, producer=producer, sequence=sequence, attributes=TRANSACTIONAL)
    return talk.call("Produce", version, produce(topic, records, partition, name))


def add_offsets(talk, name, producer, group, version=3):
    return talk.call("AddOffsetsToTxn", version, {
        "TransactionalId": name, "ProducerId": producer[0], "ProducerEpoch": producer[1],
        "GroupId": group}, until=settled)


def commit_offset(talk, name, producer, group, topic, offset, version=3, partition=0,
                  generation=-1, member=""):
    return talk.call("TxnOffsetCommit", version, {
        "TransactionalId": name, "GroupId": group, "ProducerId": producer[0],
        "ProducerEpoch": producer[1], "GenerationId": generation, "MemberId": member,
        "Topics": [{"Name": topic.name, "Partitions": [
            {"PartitionIndex": partition, "CommittedOffset": offset,
             "CommittedMetadata": "note"}]}]}, until=settled)


def read(talk, topic, committed, partition=0, until=None, offset=0):
    return talk.call("Fetch", 11, {
        "MaxWaitMs": 0, "MinBytes": 0, "IsolationLevel": int(committed), "Topics": [
            {"Topic": topic.name, "Partitions": [
                {"Partition": partition, "FetchOffset": offset,
                 "PartitionMaxBytes": 1 << 20}]}]}, until=until)


def ends_at(offset):
    """Every marker is written, which Kafka does behind its answer: the log is so long."""
    def condition(reply):
        told = reply["Responses"][0]["Partitions"][0]
        last = (batches.read(told["Records"]) or [{"BaseOffset": -1, "LastOffsetDelta": 0}])[-1]
        end = last["BaseOffset"] + last["LastOffsetDelta"] + 1
        return told["HighWatermark"] == offset and end == offset
    return condition


def offsets_of(talk, group, topic, stable=False, until=None):
    return talk.call("OffsetFetch", 7, {
        "GroupId": group, "RequireStable": stable,
        "Topics": [{"Name": topic.name, "PartitionIndexes": [0]}]}, until=until)


def describe(talk, *names, until=None):
    return talk.call("DescribeTransactions", 0, {"TransactionalIds": list(names)}, until=until)


def in_state(state):
    return lambda reply: reply["TransactionStates"][0]["TransactionState"] == state


# InitProducerId


@case
def init_in_every_version(talk):
    for version in messages.versions("InitProducerId"):
        init(talk, f"{talk.name}-{version}", version)
        init(talk, f"{talk.name}-{version}", version)


@case
def init_with_mistakes(talk):
    for version in (0, 4, 5):
        for timeout_ms in (0, -1, 900_001):
            init(talk, talk.name, version, timeout_ms)
        init(talk, "", version)
    first = init(talk, talk.name)
    # KIP-360: the epoch is bumped for the producer that has it, and for no other.
    second = init(talk, talk.name, producer=first)
    init(talk, talk.name, producer=first)
    init(talk, talk.name, producer=(first[0] + 1, second[1]))
    init(talk, talk.name, producer=(second[0], second[1] + 5))
    init(talk, f"{talk.name}-new", producer=(4242, 3))


@case
def init_fences_the_one_before(talk):
    topic = talk.topic()
    name = talk.name
    old = init(talk, name)
    add(talk, name, old, topic, 0)
    put(talk, name, old, topic, 0, b"of the old one")
    init(talk, name)
    read(talk, topic, committed=True, until=ends_at(2))
    put(talk, name, old, topic, 1, b"late")
    add(talk, name, old, topic, 0)
    add_offsets(talk, name, old, f"{name}-group")
    end(talk, name, old)
    for version in (0, 1, 2):
        end(talk, name, old, version=version)
    commit_offset(talk, name, old, f"{name}-group", topic, 1)
    describe(talk, name)


# Version 1


@case
def committed(talk):
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name)
    for version in (0, 1, 2, 3):
        add(talk, name, producer, topic, 0, version=version)
    put(talk, name, producer, topic, 0, b"a", b"b")
    describe(talk, name)
    read(talk, topic, committed=True)
    read(talk, topic, committed=False)
    for timestamp in (-1, -2, -3):
        talk.call("ListOffsets", 7, {
            "ReplicaId": -1, "IsolationLevel": 1, "Topics": [{"Name": topic.name, "Partitions": [
                {"PartitionIndex": 0, "Timestamp": timestamp}]}]})
    talk.call("DescribeProducers", 0, {"Topics": [
        {"Name": topic.name, "PartitionIndexes": [0]}]})
    end(talk, name, producer)
    read(talk, topic, committed=False, until=ends_at(3))
    read(talk, topic, committed=True)
    describe(talk, name, until=in_state("CompleteCommit"))
    talk.call("DescribeProducers", 0, {"Topics": [
        {"Name": topic.name, "PartitionIndexes": [0]}]})
    # Once more: Kafka takes it for a repetition.
    end(talk, name, producer)
    end(talk, name, producer, commit=False)


@case
def aborted(talk):
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name)
    talk.produce(topic, b"before")
    add(talk, name, producer, topic, 0)
    put(talk, name, producer, topic, 0, b"a", b"b")
    talk.produce(topic, b"between")
    end(talk, name, producer, commit=False)
    read(talk, topic, committed=True, until=ends_at(5))
    read(talk, topic, committed=False)
    read(talk, topic, committed=True, offset=3)
    read(talk, topic, committed=True, offset=4)
    describe(talk, name, until=in_state("CompleteAbort"))
    end(talk, name, producer, commit=False)
    end(talk, name, producer)
    # The next transaction of the same producer is another one.
    add(talk, name, producer, topic, 0)
    put(talk, name, producer, topic, 2, b"c")
    end(talk, name, producer)
    read(talk, topic, committed=True, until=ends_at(7))


@case
def two_at_a_time(talk):
    topic = talk.topic()
    one, two = f"{talk.name}-1", f"{talk.name}-2"
    first, second = init(talk, one), init(talk, two)
    add(talk, one, first, topic, 0)
    add(talk, two, second, topic, 0)
    put(talk, one, first, topic, 0, b"a")
    put(talk, two, second, topic, 0, b"b")
    end(talk, two, second, commit=False)
    read(talk, topic, committed=False, until=ends_at(3))
    read(talk, topic, committed=True)
    put(talk, one, first, topic, 1, b"c")
    end(talk, one, first)
    read(talk, topic, committed=True, until=ends_at(5))


@case
def several_partitions(talk):
    topic = talk.topic(partitions=3)
    name = talk.name
    producer = init(talk, name)
    add(talk, name, producer, topic, 0, 1)
    add(talk, name, producer, topic, 2)
    add(talk, name, producer, topic, 2)
    for partition in range(3):
        put(talk, name, producer, topic, 0, b"x", partition=partition)
    describe(talk, name)
    end(talk, name, producer)
    for partition in range(3):
        read(talk, topic, committed=True, partition=partition, until=ends_at(2))


@case
def nothing_in_it(talk):
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name)
    end(talk, name, producer)
    end(talk, name, producer, commit=False)
    add(talk, name, producer, topic, 0)
    end(talk, name, producer)
    read(talk, topic, committed=False, until=ends_at(1))


@case
def add_with_mistakes(talk):
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name)
    ident, epoch = producer
    for version in (0, 3):
        add(talk, name, producer, topic, 7, version=version)
        add(talk, name, producer, topic, 0, 7, version=version)
        add(talk, f"{name}-nowhere", producer, topic, 0, version=version)
        add(talk, name, (ident + 1, epoch), topic, 0, version=version)
        add(talk, name, (ident, epoch + 1), topic, 0, version=version)
        add(talk, name, (ident, epoch - 1), topic, 0, version=version)
        add(talk, "", producer, topic, 0, version=version)
    talk.call("AddPartitionsToTxn", 3, {
        "V3AndBelowTransactionalId": name, "V3AndBelowProducerId": ident,
        "V3AndBelowProducerEpoch": epoch, "V3AndBelowTopics": [
            {"Name": f"{name}-nowhere", "Partitions": [0]},
            {"Name": topic.name, "Partitions": [0]}]})
    describe(talk, name)


@case
def add_for_brokers(talk):
    """Versions 4 and 5 are for brokers: many transactions, and a check only."""
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name)
    for version in (4, 5):
        add(talk, name, producer, topic, 0, version=version)
        talk.call("AddPartitionsToTxn", version, {"Transactions": [
            {"TransactionalId": name, "ProducerId": producer[0], "ProducerEpoch": producer[1],
             "VerifyOnly": True, "Topics": [{"Name": topic.name, "Partitions": [0]}]},
            {"TransactionalId": f"{name}-nowhere", "ProducerId": 1, "ProducerEpoch": 0,
             "VerifyOnly": True, "Topics": [{"Name": topic.name, "Partitions": [0]}]}]})


@case
def end_with_mistakes(talk):
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name)
    ident, epoch = producer
    for version in (0, 4):
        end(talk, f"{name}-nowhere", producer, version=version)
        end(talk, "", producer, version=version)
        end(talk, name, (ident + 1, epoch), version=version)
        end(talk, name, (ident, epoch + 1), version=version)
        end(talk, name, (ident, epoch - 1), version=version)
    add(talk, name, producer, topic, 0)
    end(talk, name, (ident, epoch + 1))
    end(talk, name, producer)


@case
def produce_with_mistakes(talk):
    topic = talk.topic(partitions=2)
    name = talk.name
    producer = init(talk, name)
    # Not added, then added but another one; no transactional id; not transactional.
    put(talk, name, producer, topic, 0, b"x")
    add(talk, name, producer, topic, 0)
    put(talk, name, producer, topic, 0, b"x", partition=1)
    put(talk, f"{name}-nowhere", producer, topic, 0, b"x")
    put(talk, None, producer, topic, 0, b"x")
    plain = batch(b"x", producer=producer, sequence=0)
    talk.call("Produce", 11, produce(topic, plain, 0, name))
    put(talk, name, (producer[0], producer[1] + 1), topic, 0, b"x")
    put(talk, name, (producer[0] + 1, producer[1]), topic, 0, b"x")
    put(talk, name, producer, topic, 5, b"x")
    put(talk, name, producer, topic, 0, b"x")
    put(talk, name, producer, topic, 0, b"x")
    put(talk, name, producer, topic, 3, b"x")
    marker = batch(b"\0\0\0\0\0\0", keys=[b"\0\0\0\1"], producer=producer,
                   attributes=TRANSACTIONAL | CONTROL)
    talk.call("Produce", 11, produce(topic, marker, 0, name))
    end(talk, name, producer)


# Offsets


@case
def offsets_committed(talk):
    topic = talk.topic()
    name, group = talk.name, f"{talk.name}-group"
    producer = init(talk, name)
    for version in (0, 1, 2, 3):
        add_offsets(talk, name, producer, group, version)
    for version in (0, 1, 2, 3):
        commit_offset(talk, name, producer, group, topic, 5 + version, version)
    describe(talk, name)
    offsets_of(talk, group, topic)
    offsets_of(talk, group, topic, stable=True)
    end(talk, name, producer)
    offsets_of(talk, group, topic, stable=True,
               until=lambda reply: reply["Topics"][0]["Partitions"][0]["CommittedOffset"] == 8)


@case
def offsets_aborted(talk):
    topic = talk.topic()
    name, group = talk.name, f"{talk.name}-group"
    talk.call("OffsetCommit", 5, {
        "GroupId": group, "GenerationIdOrMemberEpoch": -1, "Topics": [
            {"Name": topic.name, "Partitions": [
                {"PartitionIndex": 0, "CommittedOffset": 3, "CommittedMetadata": ""}]}]})
    producer = init(talk, name)
    add_offsets(talk, name, producer, group)
    commit_offset(talk, name, producer, group, topic, 7)
    offsets_of(talk, group, topic)
    end(talk, name, producer, commit=False)
    offsets_of(talk, group, topic, stable=True,
               until=lambda reply: reply["Topics"][0]["Partitions"][0]["ErrorCode"] == 0)


@case
def offsets_with_mistakes(talk):
    topic = talk.topic()
    name, group = talk.name, f"{talk.name}-group"
    producer = init(talk, name)
    ident, epoch = producer
    add_offsets(talk, f"{name}-nowhere", producer, group)
    add_offsets(talk, name, (ident + 1, epoch), group)
    add_offsets(talk, name, (ident, epoch + 1), group)
    add_offsets(talk, "", producer, group)
    add_offsets(talk, name, producer, "")
    add_offsets(talk, name, producer, group)
    commit_offset(talk, name, (ident, epoch + 1), group, topic, 5)
    commit_offset(talk, name, producer, group, topic, 5, partition=7)
    commit_offset(talk, name, producer, group, Topic(f"{name}-nowhere", ""), 5)
    commit_offset(talk, name, producer, "", topic, 5)
    commit_offset(talk, name, producer, group, topic, 5, generation=3, member="stranger")
    commit_offset(talk, name, producer, group, topic, -1)
    end(talk, name, producer, commit=False)
    member, generation = stable(talk, f"{group}-stable")
    producer = init(talk, name)
    add_offsets(talk, name, producer, f"{group}-stable")
    for generation, member in ((generation, member), (generation + 1, member),
                               (generation, "stranger"), (-1, "")):
        commit_offset(talk, name, producer, f"{group}-stable", topic, 5,
                      generation=generation, member=member)
    end(talk, name, producer)


# Version 2


@case
def version_two_committed(talk):
    topic = talk.topic(partitions=2)
    name, group = talk.name, f"{talk.name}-group"
    producer = init(talk, name, 5)
    # The partition is added by the batch, the group by its offsets.
    put(talk, name, producer, topic, 0, b"a", version=12)
    put(talk, name, producer, topic, 0, b"b", version=12, partition=1)
    commit_offset(talk, name, producer, group, topic, 5, version=5)
    describe(talk, name)
    read(talk, topic, committed=True)
    told = end(talk, name, producer, version=5)
    read(talk, topic, committed=True, until=ends_at(2))
    # The same epoch is over: each transaction has its own.
    put(talk, name, producer, topic, 1, b"old epoch", version=12)
    end(talk, name, producer, version=5)
    producer = told["ProducerId"], told["ProducerEpoch"]
    put(talk, name, producer, topic, 0, b"c", version=12)
    end(talk, name, producer, commit=False, version=5)
    read(talk, topic, committed=True, until=ends_at(4))
    offsets_of(talk, group, topic, stable=True)


@case
def version_two_with_nothing_in_it(talk):
    name = talk.name
    producer = init(talk, name, 5)
    end(talk, name, producer, version=5)
    producer = init(talk, f"{name}-abort", 5)
    end(talk, f"{name}-abort", producer, commit=False, version=5)


@case
def version_two_with_mistakes(talk):
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name, 5)
    ident, epoch = producer
    put(talk, f"{name}-nowhere", producer, topic, 0, b"x", version=12)
    put(talk, name, (ident, epoch + 1), topic, 0, b"x", version=12)
    put(talk, name, (ident + 1, epoch), topic, 0, b"x", version=12)
    put(talk, name, producer, topic, 4, b"x", version=12)
    put(talk, name, producer, topic, 0, b"x", version=12, partition=7)
    end(talk, name, (ident, epoch + 1), version=5)
    end(talk, f"{name}-nowhere", producer, version=5)
    put(talk, name, producer, topic, 0, b"x", version=12)
    end(talk, name, (ident, epoch + 1), version=5)
    end(talk, name, producer, version=5)
    end(talk, name, producer, commit=False, version=5)


# What is told of transactions


@case
def described(talk):
    topic = talk.topic(partitions=2)
    name = talk.name
    describe(talk, f"{name}-nowhere")
    describe(talk, "")
    describe(talk)
    producer = init(talk, name)
    describe(talk, name)
    add(talk, name, producer, topic, 0, 1)
    describe(talk, name, name, f"{name}-nowhere")
    end(talk, name, producer)
    describe(talk, name, until=in_state("CompleteCommit"))


@case
def listed(talk):
    topic = talk.topic()
    name = talk.name
    init(talk, f"{name}-empty")
    producer = init(talk, f"{name}-ongoing")
    add(talk, f"{name}-ongoing", producer, topic, 0)

    def of_case(version, **filters):
        reply = talk.ask("ListTransactions", version, filters)
        if isinstance(reply, dict):
            reply["TransactionStates"] = [
                one for one in reply["TransactionStates"]
                if one["TransactionalId"].startswith(name)]
        talk.note("ListTransactions", version, filters, reply)

    for version in messages.versions("ListTransactions"):
        of_case(version)
        of_case(version, StateFilters=["Ongoing"])
    of_case(0, StateFilters=["Ongoing", "NoSuchState"])
    of_case(0, StateFilters=["ongoing"])
    of_case(0, ProducerIdFilters=[producer[0]])
    of_case(0, ProducerIdFilters=[99_999_999])
    of_case(1, DurationFilter=1_000_000)
    of_case(1, DurationFilter=0)
    of_case(2, TransactionalIdPattern=".*empty")
    of_case(2, TransactionalIdPattern="nothing-like-it")
    of_case(2, TransactionalIdPattern="(")
    end(talk, f"{name}-ongoing", producer)


@case
def a_time_out_aborts(talk):
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name, timeout_ms=100)
    add(talk, name, producer, topic, 0)
    put(talk, name, producer, topic, 0, b"x")
    describe(talk, name, until=in_state("CompleteAbort"))
    read(talk, topic, committed=True, until=ends_at(2))
    put(talk, name, producer, topic, 1, b"late")
    add(talk, name, producer, topic, 0)
    end(talk, name, producer)
    init(talk, name)
    init(talk, name, producer=producer)


@case
def markers(talk):
    """WriteTxnMarkers is a broker's request; ANONYMOUS may send it here."""
    topic = talk.topic()
    name = talk.name
    producer = init(talk, name)
    add(talk, name, producer, topic, 0)
    put(talk, name, producer, topic, 0, b"a")

    def mark(topic_name, *partitions, version=1, epoch=producer[1], coordinator=0):
        talk.call("WriteTxnMarkers", version, {"Markers": [
            {"ProducerId": producer[0], "ProducerEpoch": epoch, "TransactionResult": True,
             "CoordinatorEpoch": coordinator,
             "Topics": [{"Name": topic_name, "PartitionIndexes": list(partitions)}]}]})

    mark(f"{name}-nowhere", 0)
    mark(topic.name, 7)
    mark(topic.name, 0, epoch=producer[1] - 1)
    mark(topic.name, 0)
    read(talk, topic, committed=True, until=ends_at(2))
    end(talk, name, producer)
    talk.call("WriteTxnMarkers", 1, {"Markers": []})
