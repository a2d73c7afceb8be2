"""Produce and InitProducerId for idempotence: what is taken, and every refusal."""

import struct

from differential import messages
from differential.batches import (
    CONTROL, GZIP, LOG_APPEND_TIME, LZ4, SNAPPY, TIME_MS, TRANSACTIONAL, ZSTD, batch, message_set,
)
from differential.cases import case
from differential.talk import Topic, produce
from harness.wire import crc32c


def put(talk, topic, records, version=12, **options):
    return talk.call("Produce", version, produce(topic, records, **options))


def producer(talk, on="main"):
    """The id and epoch of a new idempotent producer."""
    told = talk.ask("InitProducerId", 4, {
        "TransactionalId": None, "TransactionTimeoutMs": 60000}, on)
    return told["ProducerId"], told["ProducerEpoch"]


def stored(talk, topic, partition=0, until=None):
    """Everything that the partition holds."""
    talk.call("Fetch", 11, {
        "MaxWaitMs": 0, "MinBytes": 0, "Topics": [{"Topic": topic.name, "Partitions": [
            {"Partition": partition, "FetchOffset": 0, "PartitionMaxBytes": 1 << 20}]}]},
        until=until)


@case
def in_every_version(talk):
    topic = talk.topic()
    for version in messages.versions("Produce"):
        put(talk, topic, batch(b"one", b"two"), version)
    stored(talk, topic)


@case
def acks(talk):
    topic = talk.topic()
    for count in (1, -1, 2, -2):
        put(talk, topic, batch(b"x"), acks=count)
    # Nothing is answered to acks=0; the next reply on the connection is the next request's.
    connection = talk.connection("main")
    connection.send("Produce", 9, produce(topic, batch(b"silent"), acks=0))
    talk.call("ApiVersions", 0)
    stored(talk, topic, until=lambda reply:
           reply["Responses"][0]["Partitions"][0]["HighWatermark"] == 3)


@case
def a_mistake_without_acks_closes(talk):
    topic = talk.topic()
    connection = talk.connection("main")
    connection.send("Produce", 9, produce(topic, batch(b"x", crc=1), acks=0))
    talk.call("Metadata", 9, {"Topics": []})


@case
def unknown_topics_and_partitions(talk):
    topic = talk.topic(partitions=2)
    for version in (3, 9, 12):
        put(talk, f"{talk.name}-nowhere", batch(b"x"), version)
        put(talk, topic, batch(b"x"), version, partition=2)
        put(talk, topic, batch(b"x"), version, partition=-1)
    put(talk, Topic("", "00000000-0000-4000-8000-000000000001"), batch(b"x"), 13)
    put(talk, Topic("", messages.NO_UUID), batch(b"x"), 13)
    put(talk, topic, batch(b"x"), 13, partition=7)
    put(talk, "a b", batch(b"x"))
    put(talk, "", batch(b"x"))


@case
def broken_batches(talk):
    topic = talk.topic()
    good = batch(b"one", b"two")
    for version in (3, 8, 12):
        put(talk, topic, batch(b"x", crc=1), version)
    for records in (
        b"", b"\0" * 11, good[:-1], good[:30], good + b"\0\0\0",
        batch(b"x", magic=3), batch(b"x", magic=-1),
        batch(b"x", count=2), batch(b"x", b"y", count=1), batch(count=0, last_offset_delta=0),
        batch(), batch(b"x", last_offset_delta=5), batch(b"x", last_offset_delta=-1),
        batch(b"x", base_offset=17), good + good,
        good[:8] + struct.pack(">i", 1 << 30) + good[12:],
        good[:8] + struct.pack(">i", -5) + good[12:],
        batch(b"x", attributes=5), batch(b"x", attributes=CONTROL),
        batch(b"x", attributes=LOG_APPEND_TIME), batch(b"x", attributes=TRANSACTIONAL),
    ):
        put(talk, topic, records)
    put(talk, topic, good)


@case
def old_formats(talk):
    topic = talk.topic()
    for version in (3, 7, 12):
        for magic in (0, 1):
            put(talk, topic, message_set(b"old", magic), version)


@case
def bad_records_inside_a_good_batch(talk):
    topic = talk.topic()
    # A count that does not fit, behind a right checksum; garbage that claims to be compressed.
    garbage = bytearray(batch(b"x" * 20, attributes=GZIP))
    put(talk, topic, remade(garbage, b"this is no gzip"))
    put(talk, topic, remade(bytearray(batch(b"x")), b"\x7f"))
    put(talk, topic, remade(bytearray(batch(b"x")), b""))


def remade(whole, records):
    """The batch with other record bytes, and the length and checksum that fit them."""
    whole = whole[:61] + records
    whole[8:12] = struct.pack(">i", len(whole) - 12)
    whole[17:21] = struct.pack(">I", crc32c(bytes(whole[21:])))
    return bytes(whole)


@case
def too_large(talk):
    topic = talk.topic(max_message_bytes=1000)
    for version in (3, 9, 12):
        put(talk, topic, batch(b"x" * 2000), version)
    fits = 1000 - len(batch(b"")) - 2
    put(talk, topic, batch(b"x" * (fits + 1)))
    put(talk, topic, batch(b"x" * fits))
    put(talk, topic, batch(b"x" * 600) + batch(b"y" * 600))
    # Compressed it fits.
    put(talk, topic, batch(b"x" * 5000, attributes=GZIP))
    stored(talk, topic)
    default = talk.topic(suffix="-default")
    put(talk, default, batch(b"x" * 1_048_588))


@case
def compressed(talk):
    topic = talk.topic()
    for codec in (GZIP, SNAPPY, LZ4, ZSTD):
        put(talk, topic, batch(b"a" * 100, b"b" * 100, attributes=codec))
    put(talk, topic, batch(b"a" * 100, attributes=ZSTD), 6)
    put(talk, topic, batch(b"a" * 100, attributes=ZSTD), 7)
    stored(talk, topic)


@case
def compressed_by_the_topic(talk):
    for name in ("gzip", "snappy", "lz4", "zstd", "uncompressed", "producer"):
        topic = talk.topic(suffix=f"-{name}", compression_type=name)
        put(talk, topic, batch(b"a" * 100, b"b" * 100))
        put(talk, topic, batch(b"c" * 100, b"d" * 100, attributes=GZIP))
        stored(talk, topic)


@case
def several_partitions_and_topics(talk):
    topic = talk.topic(partitions=3)
    other = talk.topic(suffix="-other")
    good = {"Records": batch(b"x")}
    bad = {"Records": batch(b"x", crc=1)}
    for version in (3, 9, 12, 13):
        talk.call("Produce", version, {
            "Acks": -1, "TimeoutMs": 5000, "TopicData": [
                {"Name": topic.name, "TopicId": topic.id, "PartitionData": [
                    {"Index": 0, **good}, {"Index": 2, **bad}, {"Index": 7, **good},
                    {"Index": 1, **good}]},
                {"Name": other.name, "TopicId": other.id, "PartitionData": [
                    {"Index": 0, **good}]},
            ]})


@case
def nothing_in_the_request(talk):
    topic = talk.topic()
    talk.call("Produce", 9, {"Acks": 1, "TimeoutMs": 1000})
    talk.call("Produce", 9, {"Acks": 1, "TimeoutMs": 1000, "TopicData": [
        {"Name": topic.name, "PartitionData": []}]})


@case
def null_keys_on_a_compacted_topic(talk):
    topic = talk.topic(cleanup_policy="compact")
    for version in (7, 12):
        put(talk, topic, batch(b"no key"), version)
        put(talk, topic, batch(b"a", b"b", b"c", keys=[b"k", None, None]), version)
    put(talk, topic, batch(b"a", keys=[b"k"]))
    put(talk, topic, batch(b"a", b"b", keys=[b"k", None], attributes=GZIP))
    stored(talk, topic)


@case
def timestamps(talk):
    by_broker = talk.topic(suffix="-append", message_timestamp_type="LogAppendTime")
    for version in (3, 12):
        put(talk, by_broker, batch(b"x", b"y"), version)
    stored(talk, by_broker)
    bounded = talk.topic(suffix="-bounded", message_timestamp_before_max_ms=1000)
    for version in (3, 8, 12):
        put(talk, bounded, batch(b"x", b"y"), version)
    put(talk, bounded, batch(b"x", b"y", attributes=GZIP))
    ahead = talk.topic(suffix="-ahead", message_timestamp_after_max_ms=3_600_000)
    put(talk, ahead, batch(b"x", timestamp=4_000_000_000_000))
    put(talk, ahead, batch(b"x", timestamp=-1))
    put(talk, ahead, batch(b"x", timestamp=0))
    stored(talk, ahead)


@case
def headers_and_keys_are_kept(talk):
    topic = talk.topic()
    put(talk, topic, batch(b"", b"v", b"w", keys=[None, b"", b"key"],
                           headers=[(b"same", b"1"), (b"same", b"2"), (b"null", None)]))
    stored(talk, topic)


# Idempotence


@case
def producer_ids(talk):
    def init(version, timeout_ms=60000, ident=-1, epoch=-1):
        talk.call("InitProducerId", version, {
            "TransactionalId": None, "TransactionTimeoutMs": timeout_ms, "ProducerId": ident,
            "ProducerEpoch": epoch})

    for version in messages.versions("InitProducerId"):
        init(version)
    ident, epoch = producer(talk)
    init(4, ident=ident, epoch=epoch)
    init(4, ident=ident)
    init(4, epoch=3)
    init(4, timeout_ms=-5)


@case
def sequences(talk):
    topic = talk.topic()
    one = producer(talk)

    def numbered(sequence, *values, version=12, of=one):
        put(talk, topic, batch(*values, producer=of, sequence=sequence), version)

    numbered(0, b"a", b"b")
    numbered(2, b"c")
    numbered(0, b"a", b"b")          # a duplicate of the first
    numbered(2, b"c")                # of the last
    numbered(4, b"e")                # a gap
    numbered(4, b"e", version=3)
    numbered(3, b"d")
    for sequence in range(4, 10):
        numbered(sequence, b"x")
    numbered(0, b"a", b"b")          # too old to be known
    numbered(9, b"x", b"y")          # the last one, but longer
    numbered(-1, b"no sequence")
    numbered(-2, b"no sequence")
    stored(talk, topic)


@case
def first_sequences(talk):
    topic = talk.topic(partitions=2)
    one = producer(talk)
    put(talk, topic, batch(b"x", producer=one, sequence=5))
    put(talk, topic, batch(b"x", producer=one, sequence=0))
    put(talk, topic, batch(b"x", producer=one, sequence=0), partition=1)
    # An id that the broker never gave out.
    put(talk, topic, batch(b"x", producer=(987654, 0), sequence=0), partition=1)
    put(talk, topic, batch(b"x", producer=(987655, 3), sequence=0), partition=1)
    put(talk, topic, batch(b"x", producer=(987656, -1), sequence=0), partition=1)


@case
def epochs_of_producers(talk):
    topic = talk.topic()
    ident, epoch = producer(talk)
    put(talk, topic, batch(b"x", producer=(ident, epoch), sequence=0))
    put(talk, topic, batch(b"y", producer=(ident, epoch + 1), sequence=1))
    put(talk, topic, batch(b"y", producer=(ident, epoch + 1), sequence=0))
    for version in (3, 9, 12):
        put(talk, topic, batch(b"z", producer=(ident, epoch), sequence=1), version)
    put(talk, topic, batch(b"z", producer=(ident, epoch + 1), sequence=1))


@case
def sequences_wrap_around(talk):
    topic = talk.topic()
    one = producer(talk)
    last = (1 << 31) - 1
    put(talk, topic, batch(b"x", producer=one, sequence=last))
    put(talk, topic, batch(b"x", b"y", producer=one, sequence=0))


@case
def several_batches_of_one_producer(talk):
    topic = talk.topic()
    one = producer(talk)
    put(talk, topic, batch(b"x", producer=one, sequence=0) + batch(b"y", producer=one, sequence=1))
    put(talk, topic, batch(b"x", producer=one, sequence=1))
    put(talk, topic, batch(b"x", producer=one, sequence=0) + batch(b"y"))
    put(talk, topic, batch(b"y") + batch(b"x", timestamp=TIME_MS + 1))


@case
def active_producers_are_described(talk):
    topic = talk.topic(partitions=2)
    one, two = producer(talk), producer(talk)
    talk.produce(topic, b"a", b"b", producer=one, sequence=0)
    talk.produce(topic, b"c", producer=two, sequence=0)
    talk.produce(topic, b"d", producer=two, sequence=0, partition=1)
    talk.call("DescribeProducers", 0, {"Topics": [
        {"Name": topic.name, "PartitionIndexes": [0, 1, 2]},
        {"Name": f"{talk.name}-nowhere", "PartitionIndexes": [0]},
        {"Name": "a b", "PartitionIndexes": [0]}]})
    talk.call("DescribeProducers", 0, {"Topics": []})
