"""Disk space comes back: by retention, compaction, DeleteRecords and the deletion of topics.

Days of traffic, a day being seconds long, and what is kept for a day is kept for these seconds.
After each day the room that each topic takes on the disk is compared with what arithmetic leaves
it: what of the day's records has to be there, whole segments being what goes (Kafka's rule), and
one segment a partition that is being written. What is not topics (journal, sled, the broker's own
topics) may take 256 MiB, however long it runs: together the bound of broker/log/README.md.

In the middle come a kill -9 and a clean restart. Without --full it is three short days.
ODRADEK_TEST_SPACE_DAYS sets how many.
"""

import collections
import os
import random
import time
from pathlib import Path

import confluent_kafka
import confluent_kafka.admin
import pytest
from harness import usage
from harness.broker import Broker, wait_for
from harness.load import QUIET

pytestmark = pytest.mark.odradek_only
FULL = os.environ.get("ODRADEK_TEST_FULL")
DAYS = int(os.environ.get("ODRADEK_TEST_SPACE_DAYS") or (24 if FULL else 3))
DAY_SECONDS = 10 if FULL else 1
KILL_ON, RESTART_ON = DAYS // 3, 2 * DAYS // 3
MIB = 1 << 20
SEGMENT = MIB  # bytes; Kafka takes no smaller one
VALUE_BYTES, KEYS = 1000, 200
RECORDS_A_DAY = 8_000  # in each topic: eight segments
COMMITS_A_DAY = 5_000 if FULL else 500
OTHER_MAX = 256 * MIB
# Headers of batches and records, side files, and blocks that are not full.
ROUNDING = 1.1
# What a partition takes that holds nothing: its metadata, and a side file for its producers.
EMPTY = 64 << 10

Kind = collections.namedtuple("Kind", "partitions config")
DAY_MS = str(DAY_SECONDS * 1000)
KINDS = {
    "timed": Kind(2, {"retention.ms": DAY_MS}),
    "sized": Kind(2, {"retention.ms": "-1", "retention.bytes": str(2 * SEGMENT)}),
    "newest": Kind(1, {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01"}),
    "dated": Kind(1, {"cleanup.policy": "compact,delete", "retention.ms": DAY_MS,
                             "min.cleanable.dirty.ratio": "0.01"}),
    "emptied": Kind(2, {"retention.ms": "-1"}),
}
PROPERTIES = {
    "log.retention.check.interval.ms": "100", "log.cleaner.backoff.ms": "100",
    "log.cleaner.delete.retention.ms": DAY_MS,
    # librdkafka goes on asking for topics that it has written to, and so makes them again.
    "auto.create.topics.enable": "false",
}


class Days:
    def __init__(self, folder):
        self.broker = Broker(folder=folder, properties=PROPERTIES)
        self.chance = random.Random(20261128)
        self.written = collections.Counter()  # bytes of keys and values, by topic
        self.recent = collections.deque()  # (time of the acknowledgement, bytes) of `timed`
        self.samples, self.errors = [], []

    def begin(self):
        self.broker.start()
        at = {**QUIET, "bootstrap.servers": self.broker.bootstrap}
        self.admin = confluent_kafka.admin.AdminClient(at)
        self.producer = confluent_kafka.Producer({
            **at, "enable.idempotence": True, "message.timeout.ms": 120_000, "linger.ms": 5,
        })
        self.committer = confluent_kafka.Consumer({
            **at, "group.id": "committer", "enable.auto.commit": False})
        for name, kind in KINDS.items():
            self.create(name, kind.partitions, kind.config)

    def create(self, name, partitions, config):
        config = {**config, "segment.bytes": str(SEGMENT)}
        new = confluent_kafka.admin.NewTopic(name, partitions, 1, config=config)
        self.admin.create_topics([new])[name].result(30)

    def put(self, topic, number):
        def note(error, message):
            if error is not None:
                self.errors.append(error)
                return
            size = len(message.key()) + len(message.value())
            self.written[topic] += size
            if topic == "timed":
                self.recent.append((time.monotonic(), size))

        key = b"key-%d" % self.chance.randrange(KEYS)
        while True:
            try:
                self.producer.produce(topic, self.chance.randbytes(VALUE_BYTES), key,
                                      partition=number % self.partitions(topic), on_delivery=note)
                break
            except BufferError:
                self.producer.poll(0.01)
        self.producer.poll(0)

    @staticmethod
    def partitions(topic):
        return KINDS[topic].partitions if topic in KINDS else 2

    def day(self, day):
        """Its traffic, in ten parts; the fifth is when somebody kills or restarts."""
        fleeting, ends = f"fleeting-{day}", time.monotonic() + DAY_SECONDS
        self.create(fleeting, 2, {})
        for part in range(10):
            if part == 5 and day == KILL_ON:
                self.broker.kill()
                self.broker.start()
            elif part == 5 and day == RESTART_ON:
                self.broker.restart()
            for number in range(RECORDS_A_DAY // 10):
                for topic in (*KINDS, fleeting):
                    self.put(topic, number)
            self.commit(COMMITS_A_DAY // 10)
            self.sample(day)
            due = ends - DAY_SECONDS * (9 - part) / 10
            wait_for("the next part of the day", lambda: self.producer.poll(0.02) is not None
                     and time.monotonic() >= due, DAY_SECONDS + 60, pause=0)
        assert self.producer.flush(90) == 0 and self.errors == [], self.errors
        self.empty()
        if day > 0:
            self.remove(f"fleeting-{day - 1}")

    def commit(self, count):
        """Each of them is a record in the broker's own topic of offsets."""
        for number in range(count):
            at = confluent_kafka.TopicPartition("sized", number % 2, number)
            self.committer.commit(offsets=[at], asynchronous=number + 1 < count)
            # Takes the answers, over whose heap librdkafka sat for over ten minutes in the end.
            assert self.committer.poll(0) is None

    def empty(self):
        """Up to the end, by DeleteRecords."""
        places = [confluent_kafka.TopicPartition("emptied", index, confluent_kafka.OFFSET_END)
                  for index in range(2)]
        for future in self.admin.delete_records(places).values():
            future.result(30)

    def remove(self, *names):
        for future in self.admin.delete_topics(list(names)).values():
            future.result(30)

    def bounds(self):
        """{topic: bytes on the disk that it may take now}. A topic that is cut by whole segments
        keeps up to one a partition whose records are gone in part, and the one being written."""
        while self.recent and self.recent[0][0] < time.monotonic() - DAY_SECONDS:
            self.recent.popleft()
        kept = {
            "timed": sum(size for _, size in self.recent) + 2 * 2 * SEGMENT,
            # Kafka's rule: a segment goes if what is left without it still has the size.
            "sized": 2 * (2 * SEGMENT + SEGMENT),
            # The last segment is never cleaned, and of those before it one may be new.
            "newest": KEYS * VALUE_BYTES + 2 * SEGMENT,
            "dated": KEYS * VALUE_BYTES + 2 * SEGMENT,
            "emptied": 0,
        }
        return {name: kept[name] * ROUNDING + EMPTY * KINDS[name].partitions for name in kept}

    def taken(self):
        return {name: usage.of_topic(self.broker.data, name) for name in KINDS}

    def sample(self, day):
        kinds = usage.disk(self.broker.data)
        topics = kinds["records"] + kinds["side"]
        self.samples.append({"day": day, "topics": topics, **kinds, **self.taken()})
        assert self.other(kinds) <= OTHER_MAX, kinds

    @staticmethod
    def other(kinds):
        return sum(kinds[name] for name in ("own", "journal", "sled", "other"))

    def too_large(self, day):
        """Topics that take more than they may, and what of deleted ones is left."""
        taken, bounds = self.taken(), self.bounds()
        found = {name: (size, bounds[name]) for name, size in taken.items() if size > bounds[name]}
        for old in range(day):
            left = usage.of_topic(self.broker.data, f"fleeting-{old}")
            found |= {f"fleeting-{old}": (left, 0)} if left else {}
        return found


def wait_until_small(days, day):
    try:
        wait_for("space to come back", lambda: not days.too_large(day), 60, 0.1)
    except AssertionError:
        raise AssertionError(f"day {day}: (bytes taken, at most): {days.too_large(day)}") from None
    wait_for("deleted files to be closed", lambda: not usage.held(days.broker.process.pid), 30, 0.1)


@pytest.fixture
def days(folders):
    days = Days(folders())
    yield days
    days.broker.stop()


def test_every_way_of_letting_records_go_gives_their_room_back(days):
    days.begin()
    largest = dict.fromkeys(KINDS, (0, 0))
    for day in range(DAYS):
        days.day(day)
        wait_until_small(days, day)
        bounds = days.bounds()
        for name, size in days.taken().items():
            largest[name] = max(largest[name], (size, bounds[name]))
    # The traffic was more than what may stay: otherwise the bounds would prove nothing.
    for name, bound in days.bounds().items():
        assert days.written[name] > 1.5 * bound, f"{name}: {days.written[name]} and {bound}"
    last = usage.disk(days.broker.data)
    keep(days, largest, last)
    # What is kept for a day is gone after one more without traffic, with its last segment.
    wait_for("the last day to pass", lambda: days.taken()["timed"] <= 2 * EMPTY, 60, 0.2)
    days.remove(*KINDS, f"fleeting-{DAYS - 1}")
    nothing_left(days)
    days.broker.restart()
    nothing_left(days)


def nothing_left(days):
    wait_for("all topics to be gone", lambda: not any(
        usage.disk(days.broker.data)[kind] for kind in ("records", "side")), 60, 0.1)
    assert days.other(usage.disk(days.broker.data)) <= OTHER_MAX
    topics = days.broker.get_json("/api/v1/topics")["topics"]
    assert [one["name"] for one in topics if not one["name"].startswith("__")] == []


def keep(days, largest, last):
    """The long run's table goes to tests/results/."""
    mib = lambda size: f"{size / MIB:.1f}"  # noqa: E731
    lines = ["| topic | written, MiB | most at a day's end | at most |",
             "| --- | ---: | ---: | ---: |"]
    lines += [f"| {name} | {mib(days.written[name])} | {mib(size)} | {mib(bound)} |"
              for name, (size, bound) in largest.items()]
    for name in ("own", "journal", "sled"):
        most = max(one[name] for one in days.samples)
        lines.append(f"| {name} | | {mib(last[name])}, at any time {mib(most)} | |")
    text = "\n".join(lines)
    print(text)
    if FULL:
        results = Path(__file__).resolve().parent.parent / "results"
        results.mkdir(exist_ok=True)
        (results / f"{time.strftime('%Y-%m-%d')}-space.md").write_text(text + "\n")
