"""Share groups (KIP-932) with Java's KafkaShareConsumer and Kafka's own tools, 4.3.0.

What is expected is what Apache Kafka does: all but the marked tests run against it too
(ODRADEK_TEST_TARGET=apache).
"""

import re
import subprocess
import threading
import uuid
from queue import Queue

import pytest
from harness import java
from harness.broker import Broker, die_with_parent, wait_for

pytestmark = pytest.mark.needs("kafka-4.3.0")

ANSWER_SECONDS_MAX = 60
# Short locks, so that a test can wait for one to run out. The last two are Kafka's own needs.
PROPERTIES = {
    "group.share.record.lock.duration.ms": "3000",
    "group.share.min.record.lock.duration.ms": "1000",
    "group.share.heartbeat.interval.ms": "500",
    "group.share.min.heartbeat.interval.ms": "100",
    "group.share.session.timeout.ms": "6000",
    "group.share.min.session.timeout.ms": "1000",
    "auto.create.topics.enable": "false",
    "transaction.max.timeout.ms": "900000",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}


class Members:
    """Share consumers in one Java process: see ../java/Share.java."""

    def __init__(self, bootstrap):
        command = java.java_command("4.3.0", str(java.HERE / "Share.java"), heap="512m")
        self.process = subprocess.Popen(
            command + [bootstrap], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, preexec_fn=die_with_parent,
        )
        self.answers = Queue()
        self.errors = []
        for stream, take in (
            (self.process.stdout, self.answers.put), (self.process.stderr, self.errors.append)
        ):
            threading.Thread(target=self.read, args=(stream, take), daemon=True).start()

    @staticmethod
    def read(stream, take):
        for line in stream:
            take(line.rstrip("\n"))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.process.kill()
        self.process.wait()
        if error is not None:
            print("\n".join(self.errors[-40:]))

    def ask(self, *words):
        """The fields of the answer; an answer that is a failure, as a text."""
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.answers.get(timeout=ANSWER_SECONDS_MAX).split("\t")
        return answer[1:] if answer[0] == "ok" else " ".join(answer)

    def do(self, *words):
        answer = self.ask(*words)
        assert isinstance(answer, list), f"{words}: {answer}"
        return answer

    def open(self, name, group, topic, mode="explicit", **settings):
        pairs = [f"{key.replace('_', '.')}={value}" for key, value in settings.items()]
        self.do("open", name, group, topic, mode, *pairs)

    def poll(self, name, milliseconds=500):
        """[(partition, offset, deliveries, value)]"""
        records = [field.split(":") for field in self.do("poll", name, milliseconds)]
        return [(int(p), int(o), int(d), value) for p, o, d, value in records]

    def poll_some(self, name, seconds=30):
        return wait_for(f"records for {name}", lambda: self.poll(name), seconds)

    def acknowledge(self, name, records, kind="ACCEPT"):
        for partition, offset, _, _ in records:
            self.do("ack", name, partition, offset, kind)

    def commit(self, name):
        return self.do("commit", name)


@pytest.fixture(scope="module")
def broker(folders):
    with Broker(folder=folders(), properties=PROPERTIES) as broker:
        yield broker


@pytest.fixture(scope="module")
def members(broker):
    with Members(broker.bootstrap) as members:
        yield members


@pytest.fixture
def name(request):
    return f"share-{uuid.uuid4().hex[:8]}"


def make_topic(broker, name, partitions=1, *more):
    java.tool("4.3.0", "topics", "--bootstrap-server", broker.bootstrap, "--create", "--topic",
              name, "--partitions", partitions, *more)


@pytest.fixture
def topic(broker, members, name):
    """A topic of one partition; the group of this name reads it from its beginning."""
    make_topic(broker, name)
    members.do("config", name, "share.auto.offset.reset", "earliest")
    return name


def offsets(records):
    return [offset for _, offset, _, _ in records]


def counts(records):
    return {offset: deliveries for _, offset, deliveries, _ in records}


def drain(members, who, seconds=30, count=None):
    """Polls, accepting implicitly, until so many records came."""
    taken = []

    def more():
        taken.extend(members.poll(who))
        return len(taken) >= count

    wait_for(f"{count} records for {who}, of which came {len(taken)}", more, seconds)
    return taken


def share_groups(broker, *arguments, **options):
    return java.tool("4.3.0", "share-groups", "--bootstrap-server", broker.bootstrap, *arguments,
                     **options)


def test_implicit_acknowledgement_delivers_each_record_once(broker, members, topic):
    members.do("produce", topic, 0, 0, 100)
    members.open("once", topic, topic, "implicit")
    taken = drain(members, "once", count=100)
    assert sorted(offsets(taken)) == list(range(100))
    assert set(counts(taken).values()) == {1}
    assert [value for _, _, _, value in sorted(taken)] == [f"v{i}" for i in range(100)]
    # What the last poll gave is accepted by the next one, or by a commit; not by a close.
    assert members.commit("once") == ["0:none"]
    members.do("close", "once")
    # Another member of the group finds nothing left, and goes on with what comes.
    members.open("next", topic, topic, "implicit")
    members.do("produce", topic, 0, 100, 10)
    assert sorted(offsets(drain(members, "next", count=10))) == list(range(100, 110))
    members.do("close", "next")


def test_a_group_begins_at_the_end_unless_it_is_told_otherwise(broker, members, name):
    make_topic(broker, name)
    members.do("produce", name, 0, 0, 5)
    members.open("late", name, name, "implicit")
    # Its place is known as soon as it has polled with an assignment.
    members.do("poll", "late", 8000)
    members.do("produce", name, 0, 5, 5)
    assert offsets(drain(members, "late", count=5)) == list(range(5, 10))
    members.do("close", "late")


def test_released_records_come_back_with_a_higher_count_and_rejected_ones_never(
        broker, members, topic):
    members.do("produce", topic, 0, 0, 6)
    members.open("one", topic, topic)
    first = members.poll_some("one")
    assert offsets(first) == list(range(6))
    members.acknowledge("one", first[:2], "ACCEPT")
    members.acknowledge("one", first[2:4], "RELEASE")
    members.acknowledge("one", first[4:], "REJECT")
    assert members.commit("one") == ["0:none"]
    again = members.poll_some("one")
    assert counts(again) == {2: 2, 3: 2}
    members.acknowledge("one", again)
    assert members.commit("one") == ["0:none"]
    assert members.poll("one", 1500) == []
    members.do("close", "one")


def test_a_record_is_given_up_after_five_deliveries(broker, members, topic):
    members.do("produce", topic, 0, 0, 1)
    members.open("five", topic, topic)
    for delivery in range(1, 6):
        records = members.poll_some("five")
        assert counts(records) == {0: delivery}
        members.acknowledge("five", records, "RELEASE")
        members.commit("five")
    members.do("produce", topic, 0, 1, 1)
    assert counts(members.poll_some("five")) == {1: 1}, "the first one is gone for good"
    members.do("close", "five")


def test_two_members_of_one_partition_get_different_records(broker, members, topic):
    # Nothing comes back while the test runs, however slow the machine is.
    members.do("config", topic, "share.record.lock.duration.ms", 60000)
    members.open("a", topic, topic, "explicit", max_poll_records=10)
    members.open("b", topic, topic, "explicit", max_poll_records=10)
    members.poll("a", 2000)
    members.poll("b", 2000)
    taken = {"a": [], "b": []}
    for first in range(0, 200, 20):
        members.do("produce", topic, 0, first, 20)

    def all_taken():
        for who in taken:
            records = members.poll(who, 200)
            taken[who] += offsets(records)
            members.acknowledge(who, records)
            members.commit(who)
        return len(taken["a"]) + len(taken["b"]) >= 200

    wait_for("200 records for two", all_taken)
    assert sorted(taken["a"] + taken["b"]) == list(range(200))
    assert taken["a"] and taken["b"], "both had a share"
    members.do("close", "a")
    members.do("close", "b")


def test_what_is_not_acknowledged_in_time_goes_to_somebody_else(broker, members, topic):
    members.do("produce", topic, 0, 0, 4)
    members.open("slow", topic, topic)
    taken = members.poll_some("slow")
    assert offsets(taken) == [0, 1, 2, 3]
    members.open("quick", topic, topic)
    again = members.poll_some("quick")
    assert counts(again) == {0: 2, 1: 2, 2: 2, 3: 2}
    members.acknowledge("quick", again)
    assert members.commit("quick") == ["0:none"]
    # Too late: Java's consumer knows that by itself, and does not even ask.
    members.acknowledge("slow", taken)
    members.commit("slow")
    assert members.poll("quick", 1000) == members.poll("slow", 1000) == []
    members.do("close", "slow")
    members.do("close", "quick")


def test_a_member_that_closes_gives_back_what_it_has(broker, members, topic):
    members.do("produce", topic, 0, 0, 4)
    members.open("leaves", topic, topic)
    taken = members.poll_some("leaves")
    members.acknowledge("leaves", taken[:1])
    members.do("close", "leaves")
    members.open("stays", topic, topic)
    # Well before the lock of three seconds could have run out, were it not given back.
    again = members.poll_some("stays")
    assert set(counts(again)) == {1, 2, 3}
    members.acknowledge("stays", again)
    members.commit("stays")
    members.do("close", "stays")


def test_members_share_partitions_and_every_partition_is_read(broker, members, name):
    make_topic(broker, name, 3)
    members.do("config", name, "share.auto.offset.reset", "earliest")
    for who in ("a", "b"):
        members.open(who, name, name, "implicit")
        members.poll(who, 1000)
    for partition in range(3):
        members.do("produce", name, partition, 100 * partition, 10)
    taken = []

    def all_taken():
        taken.extend(members.poll("a", 200) + members.poll("b", 200))
        return len(taken) >= 30

    wait_for("30 records of three partitions", all_taken)
    places = sorted((partition, offset) for partition, offset, _, _ in taken)
    assert places == [(partition, offset) for partition in range(3) for offset in range(10)]
    members.do("close", "a")
    members.do("close", "b")


def test_records_that_are_deleted_from_the_log_are_passed_over(broker, members, topic):
    members.do("produce", topic, 0, 0, 10)
    members.open("r", topic, topic)
    taken = members.poll_some("r")
    assert len(taken) == 10
    path = broker.folder / f"delete-{topic}.json"
    path.write_text('{"version": 1, "partitions": [{"topic": "%s", "partition": 0, '
                    '"offset": 10}]}' % topic)
    java.tool("4.3.0", "delete-records", "--bootstrap-server", broker.bootstrap,
              "--offset-json-file", path)
    members.do("produce", topic, 0, 10, 2)
    members.do("close", "r")
    members.open("s", topic, topic)
    assert offsets(members.poll_some("s")) == [10, 11]
    members.do("close", "s")


@pytest.mark.parametrize("end, seen", [("commit", True), ("abort", False)])
def test_read_committed_shows_what_was_committed_only(broker, members, topic, end, seen):
    members.do("config", topic, "share.isolation.level", "read_committed")
    members.do("transaction", topic, 0, 5, end)
    members.do("produce", topic, 0, 5, 1)
    members.open("rc", topic, topic, "implicit")
    expected = [f"v{i}" for i in range(0 if seen else 5, 6)]
    taken = drain(members, "rc", count=len(expected))
    assert [value for _, _, _, value in sorted(taken)] == expected
    members.do("close", "rc")


# Kafka's tools.


def test_the_share_groups_tool_lists_describes_resets_and_deletes(broker, members, topic):
    members.do("produce", topic, 0, 0, 10)
    members.open("t", topic, topic, "implicit")
    drain(members, "t", count=10)
    assert topic in share_groups(broker, "--list").stdout.split()
    state = share_groups(broker, "--describe", "--group", topic, "--state").stdout
    assert re.search(rf"{topic}\s+\S+\s+\(1\)\s+Stable\s+1", state), state
    described = share_groups(broker, "--describe", "--group", topic, "--members").stdout
    assert re.search(rf"{topic}\s+\S+\s+/127.0.0.1\s+t\s+1\s+{topic}:0", described), described
    running = share_groups(broker, "--delete", "--group", topic, check=False)
    assert "is not EMPTY" in running.stdout + running.stderr
    members.do("close", "t")
    assert re.search(r"Empty\s+0", share_groups(
        broker, "--describe", "--group", topic, "--state").stdout)
    share_groups(broker, "--reset-offsets", "--group", topic, "--topic", topic, "--to-earliest",
                 "--execute")
    where = share_groups(broker, "--describe", "--group", topic, "--offsets").stdout
    assert re.search(rf"{topic}\s+{topic}\s+0\s+0\s", where), where
    members.open("u", topic, topic, "implicit")
    assert offsets(drain(members, "u", count=10)) == list(range(10)), "all of it again"
    members.do("close", "u")
    share_groups(broker, "--delete-offsets", "--group", topic, "--topic", topic)
    gone = share_groups(broker, "--describe", "--group", topic, "--offsets").stdout
    assert not re.search(rf"{topic}\s+{topic}\s+0", gone), gone
    share_groups(broker, "--delete", "--group", topic)
    assert topic not in share_groups(broker, "--list").stdout.split()


def test_the_consumer_groups_tool_lists_share_groups_by_their_type(broker, members, topic):
    members.open("l", topic, topic)
    members.poll("l", 1500)
    listed = java.tool("4.3.0", "groups", "--bootstrap-server", broker.bootstrap, "--list").stdout
    assert re.search(rf"{topic}\s+Share\s+share", listed), listed
    members.do("close", "l")


def test_the_console_share_consumer_prints_lines(broker, members, topic):
    members.do("produce", topic, 0, 0, 3)
    consumed = java.tool(
        "4.3.0", "console-share-consumer", "--bootstrap-server", broker.bootstrap, "--topic",
        topic, "--group", topic, "--max-messages", "3", "--timeout-ms", "30000")
    assert consumed.stdout.splitlines() == ["v0", "v1", "v2"]


# Crashes.


@pytest.mark.odradek_only
def test_accepted_records_stay_accepted_and_nothing_is_lost_when_the_broker_is_killed(folders):
    rounds, records = 4, 40
    accepted = set()
    with Broker(folder=folders(), properties=PROPERTIES) as broker:
        make_topic(broker, "crash")
        with Members(broker.bootstrap) as members:
            members.do("config", "crash", "share.auto.offset.reset", "earliest")
            members.do("produce", "crash", 0, 0, rounds * records)
            for kill in range(rounds):
                who = f"m{kill}"
                members.open(who, "crash", "crash", "explicit", max_poll_records=25)
                taken = members.poll_some(who)
                assert not accepted & set(offsets(taken)), "an accepted record came back"
                half = taken[: len(taken) // 2]
                members.acknowledge(who, half)
                # An explicit member says something about every record before it goes on.
                members.acknowledge(who, taken[len(half):], "RELEASE")
                assert members.commit(who) == ["0:none"]
                accepted |= set(offsets(half))
                # These are out when the broker dies.
                members.poll(who, 500)
                broker.kill()
                broker.start()
                members.do("close", who)
            members.open("last", "crash", "crash", "implicit")
            taken = drain(members, "last", seconds=60, count=rounds * records - len(accepted))
    assert not accepted & set(offsets(taken)), "an accepted record came back"
    assert accepted | set(offsets(taken)) == set(range(rounds * records)), "one is lost"
