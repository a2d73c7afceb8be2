"""Consumer groups of both protocols with Java's consumer, librdkafka's and Kafka's own tool, 4.3.0.

What is expected is what Apache Kafka does: all but the marked tests run against it too
(ODRADEK_TEST_TARGET=apache).
"""

import datetime
import os
import random
import re
import subprocess
import threading
import time
import uuid
from queue import Queue

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from harness import java
from harness.broker import Broker, die_with_parent, wait_for

pytestmark = pytest.mark.needs("kafka-4.3.0")

ANSWER_SECONDS_MAX = 60
# Short sessions, so that a test can wait for one to run out.
PROPERTIES = {
    "group.consumer.session.timeout.ms": "8000",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "100",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
}


class Members:
    """Consumers in one Java process: see ../java/Groups.java."""

    def __init__(self, bootstrap):
        command = java.java_command("4.3.0", str(java.HERE / "Groups.java"), heap="512m")
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
        self.seen = []

    @staticmethod
    def read(stream, take):
        for line in stream:
            take(line.rstrip("\n"))

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.kill()
        if error is not None:
            print("\n".join(self.errors[-40:]))

    def kill(self):
        self.process.kill()
        self.process.wait()

    def do(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        answer = self.answers.get(timeout=ANSWER_SECONDS_MAX).split("\t")
        assert answer[0] == "ok", f"{words}: {answer}"
        return answer[1:]

    def open(self, name, group, topic, protocol="consumer", **settings):
        pairs = [f"{key.replace('_', '.')}={value}" for key, value in settings.items()]
        self.do("open", name, group, protocol, topic, *pairs)

    def poll(self, *names, ms=100):
        """Each polls once, and commits what it got; what came is kept."""
        for name in names:
            got = [place(text) for text in self.do("poll", name, ms)]
            self.seen += got
            if got:
                self.do("commit", name)

    def assignment(self, name):
        places = [text.rsplit(" ", 1) for text in self.do("assignment", name)]
        return {(topic, int(partition)) for topic, partition in places}

    def settle(self, topics, *names, also=()):
        """Polls until the named members, and `also`, read all partitions, and each reads some."""

        def settled():
            self.poll(*names)
            shares = [sorted(self.assignment(name)) for name in names]
            for consumer in also:
                shares.append([(it.topic, it.partition) for it in consumer.assignment()])
            return all(shares) and sorted(sum(shares, [])) == sorted(topics)

        wait_for(f"{names} to read {len(topics)} partitions", settled, 45)


def place(text):
    topic, partition, offset = text.rsplit(" ", 2)
    return topic, int(partition), int(offset)


@pytest.fixture(scope="module")
def broker(folders):
    with Broker(folder=folders(), properties=PROPERTIES) as broker:
        yield broker


@pytest.fixture(scope="module")
def members(broker):
    with Members(broker.bootstrap) as members:
        yield members


@pytest.fixture
def name(members):
    members.seen.clear()
    return f"groups-{uuid.uuid4().hex[:8]}"


def admin(broker):
    return AdminClient({"bootstrap.servers": broker.bootstrap})


def create(broker, topic, partitions):
    client = admin(broker)
    client.create_topics([NewTopic(topic, partitions, 1)])[topic].result()
    wait_for(f"topic {topic}", lambda: topic in client.list_topics().topics)
    return [(topic, partition) for partition in range(partitions)]


def produce(broker, topic, partitions, count, first=0):
    """`count` records in each partition."""
    producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5})
    for partition in range(partitions):
        for number in range(first, first + count):
            producer.produce(topic, str(number).encode(), partition=partition)
    assert producer.flush(60) == 0


def records(topic, partitions, count):
    return sorted((topic, p, offset) for p in range(partitions) for offset in range(count))


def librdkafka(broker, group, **settings):
    return Consumer({
        "bootstrap.servers": broker.bootstrap, "group.id": group, "group.protocol": "consumer",
        "auto.offset.reset": "earliest", "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 1000, **settings,
    })


def groups(broker, *arguments, **options):
    done = java.tool("4.3.0", "consumer-groups", "--bootstrap-server", broker.bootstrap,
                     *arguments, **options)
    return done.stdout


def rows(table):
    """The lines of a tool's table, without its head and what stands before."""
    lines = [line.split() for line in table.splitlines() if line.strip()]
    heads = [at for at, line in enumerate(lines) if line[0] == "GROUP"]
    return lines[heads[0] + 1:] if heads else []


def state(broker, group):
    row = rows(groups(broker, "--describe", "--state", "--group", group))[0]
    return row[-2], int(row[-1])


# Java and librdkafka as members.


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_members_share_a_topic_and_each_record_is_read_once(broker, members, name, assignor):
    places = create(broker, name, 4)
    produce(broker, name, 4, 50)
    members.open("a", name, name, group_remote_assignor=assignor)
    members.settle(places, "a")
    members.open("b", name, name, group_remote_assignor=assignor)
    members.settle(places, "a", "b")
    assert len(members.assignment("a")) == 2
    produce(broker, name, 4, 50, first=50)
    wait_for("all records", lambda: members.poll("a", "b") or len(members.seen) >= 400)
    # A clean hand-over: what a had is read by b from where a was.
    members.do("close", "a")
    produce(broker, name, 4, 50, first=100)
    members.settle(places, "b")
    wait_for("all records", lambda: members.poll("b") or len(members.seen) >= 600)
    assert sorted(members.seen) == records(name, 4, 150)
    for partition in range(4):
        assert members.do("committed", "b", name, partition) == ["150"]
    members.do("close", "b")


def test_java_and_librdkafka_are_in_one_group(broker, members, name):
    places = create(broker, name, 4)
    produce(broker, name, 4, 100)
    other = librdkafka(broker, name)
    other.subscribe([name])
    members.open("a", name, name)
    seen = []

    def poll():
        members.poll("a", ms=50)
        message = other.poll(0.05)
        while message is not None and not message.error():
            seen.append((message.topic(), message.partition(), message.offset()))
            other.commit(message, asynchronous=False)
            message = other.poll(0)
        held = members.assignment("a") | {(it.topic, it.partition) for it in other.assignment()}
        return len(held) == 4 and len(members.assignment("a")) == 2

    wait_for("both to have two partitions", poll, 45)
    wait_for("all records", lambda: poll() and len(members.seen) + len(seen) >= 400, 45)
    assert sorted(members.seen + seen) == records(name, 4, 100)
    other.close()
    members.settle(places, "a")
    members.do("close", "a")


def test_an_expression_is_matched_by_the_broker_and_follows_new_topics(broker, members, name):
    first = create(broker, f"{name}-1", 2)
    create(broker, f"x{name}-1", 1)
    members.open("a", name, f"~{name}-[0-9]+")
    other = librdkafka(broker, name)
    other.subscribe([f"^{name}-[0-9]+"])

    def both():
        other.poll(0.05)
        members.poll("a", ms=50)
        held = members.assignment("a") | {(it.topic, it.partition) for it in other.assignment()}
        return held == set(first) and len(members.assignment("a")) == 1

    wait_for("both to have one partition", both, 45)
    other.close()
    members.settle(first, "a")
    second = create(broker, f"{name}-22", 1)
    members.settle(first + second, "a")
    client = admin(broker)
    client.create_partitions([NewPartitions(f"{name}-22", 3)])[f"{name}-22"].result()
    second = [(f"{name}-22", partition) for partition in range(3)]
    members.settle(first + second, "a")
    client.delete_topics([f"{name}-1"])[f"{name}-1"].result()
    members.settle(second, "a")
    members.do("close", "a")


def test_a_static_member_comes_back_to_what_it_had(broker, members, name):
    places = create(broker, name, 4)
    for one in "ab":
        members.open(one, name, name, group_instance_id=f"instance-{one}")
    members.settle(places, "a", "b")
    before = members.assignment("a"), members.assignment("b")
    epoch = rows(groups(broker, "--describe", "--state", "--verbose", "--group", name))[0]
    members.do("close", "a")
    members.open("a", name, name, group_instance_id="instance-a")
    members.settle(places, "a", "b")
    assert (members.assignment("a"), members.assignment("b")) == before
    # Nobody else was disturbed: the group is in the same epoch.
    assert rows(groups(broker, "--describe", "--state", "--verbose", "--group", name))[0] == epoch
    # Away for longer than its session: the other takes over.
    members.do("close", "a")
    members.settle(places, "b")
    members.do("leave", "b")
    wait_for("an empty group", lambda: state(broker, name) == ("Empty", 0))


# Both protocols in one group.


def listed(broker, group):
    """Type, protocol and state."""
    for row in rows_of_list(groups(broker, "--list", "--type", "--state")):
        if row[0] == group:
            return row[1:]
    return None


def rows_of_list(table):
    return [line.split() for line in table.splitlines()[1:] if line.strip()]


def test_a_group_goes_to_the_new_protocol_and_back_while_it_is_read(broker, members, name):
    places = create(broker, name, 4)
    produce(broker, name, 4, 50)
    strategy = "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"
    members.open("old-1", name, name, "classic", partition_assignment_strategy=strategy)
    members.open("old-2", name, name, "classic", partition_assignment_strategy=strategy)
    members.settle(places, "old-1", "old-2")
    assert listed(broker, name) == ["Classic", "Stable"]
    # The first member of the new protocol takes the whole group along.
    members.open("new-1", name, name)
    members.settle(places, "old-1", "old-2", "new-1")
    assert listed(broker, name)[0] == "Consumer"
    produce(broker, name, 4, 50, first=50)
    members.do("close", "old-1")
    members.settle(places, "old-2", "new-1")
    produce(broker, name, 4, 50, first=100)
    # The last one takes it back.
    members.do("close", "new-1")
    members.settle(places, "old-2")
    assert listed(broker, name) == ["Classic", "Stable"]
    wait_for("all records", lambda: members.poll("old-2") or len(members.seen) >= 600)
    assert sorted(members.seen) == records(name, 4, 150)
    members.do("close", "old-2")


def test_a_group_of_java_members_of_both_protocols_shares_its_partitions(broker, members, name):
    places = create(broker, name, 6)
    members.open("new", name, name)
    members.open("range", name, name, "classic")
    members.settle(places, "new", "range")
    assert len(members.assignment("new")) == 3
    described = groups(broker, "--describe", "--members", "--group", name)
    assert len(rows(described)) == 2
    members.do("close", "range")
    members.settle(places, "new")
    members.do("close", "new")


# kafka-consumer-groups.sh


def test_the_tool_lists_and_describes_groups_of_both_kinds(broker, members, name):
    places = create(broker, name, 2)
    produce(broker, name, 2, 10)
    members.open("c", f"{name}-new", name, client_id="client-c")
    members.open("o", f"{name}-old", name, "classic", client_id="client-o")
    members.settle(places, "c")
    members.settle(places, "o")
    wait_for("all records", lambda: members.poll("c", "o") or len(members.seen) >= 40)
    new, old = f"{name}-new", f"{name}-old"
    assert {new, old} <= set(groups(broker, "--list").split())
    assert listed(broker, new) == ["Consumer", "Stable"]
    assert listed(broker, old) == ["Classic", "Stable"]
    by_type = [row[0] for row in rows_of_list(groups(broker, "--list", "--type", "consumer"))]
    assert new in by_type and old not in by_type
    by_state = [row[0] for row in rows_of_list(groups(broker, "--list", "--state", "stable"))]
    assert {new, old} <= set(by_state)
    assert new not in groups(broker, "--list", "--state", "Empty,Dead")
    for group, client in ((new, "client-c"), (old, "client-o")):
        offsets = rows(groups(broker, "--describe", "--group", group))
        assert [row[1:6] for row in sorted(offsets)] == [
            [name, "0", "10", "10", "0"], [name, "1", "10", "10", "0"]]
        assert all(client in row for row in offsets)
        described = rows(groups(broker, "--describe", "--members", "--group", group))
        assert len(described) == 1 and client in described[0] and described[0][-1] == "2"
        verbose = groups(broker, "--describe", "--members", "--verbose", "--group", group)
        assert re.search(rf"{name}\S*0,\s?1|{name}:0,1|{name}\(0,1\)", verbose), verbose
        assert state(broker, group) == ("Stable", 1)
    epochs = rows(groups(broker, "--describe", "--members", "--verbose", "--group", new))[0]
    assert "-" not in epochs, "a member of the consumer protocol has epochs"
    everything = groups(broker, "--describe", "--all-groups")
    assert new in everything and old in everything
    members.do("close", "c")
    members.do("close", "o")
    wait_for("an empty group", lambda: state(broker, new) == ("Empty", 0))


def reset(broker, group, *arguments):
    """The new offsets, by partition, as the tool prints them."""
    table = groups(broker, "--reset-offsets", "--group", group, *arguments)
    return {int(row[2]): int(row[3]) for row in rows(table)}


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_the_tool_resets_offsets_in_every_form(broker, members, name, protocol, tmp_path):
    places = create(broker, name, 2)
    produce(broker, name, 2, 10)
    # The clock of the records has to move on before the second half.
    middle = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(milliseconds=5)
    wait_for("the middle", lambda: datetime.datetime.now(datetime.timezone.utc) > middle)
    produce(broker, name, 2, 10, first=10)
    members.open("a", name, name, protocol)
    members.settle(places, "a")
    wait_for("all records", lambda: members.poll("a") or len(members.seen) >= 40)
    active = groups(broker, "--reset-offsets", "--group", name, "--topic", name, "--to-earliest",
                    "--execute", check=False)
    assert rows(active) == [], "a group with members is refused"
    members.do("close", "a")
    wait_for("an empty group", lambda: state(broker, name) == ("Empty", 0))

    def committed():
        offsets = rows(groups(broker, "--describe", "--offsets", "--group", name))
        return {int(row[2]): int(row[3]) for row in offsets}

    both = ("--topic", name)
    assert reset(broker, name, *both, "--to-earliest", "--dry-run") == {0: 0, 1: 0}
    assert committed() == {0: 20, 1: 20}
    assert reset(broker, name, *both, "--to-earliest", "--execute") == {0: 0, 1: 0}
    assert committed() == {0: 0, 1: 0}
    execute = ("--execute",)
    assert reset(broker, name, *both, "--to-offset", "7", *execute) == {0: 7, 1: 7}
    assert reset(broker, name, *both, "--shift-by", "3", *execute) == {0: 10, 1: 10}
    assert reset(broker, name, *both, "--shift-by", "-4", *execute) == {0: 6, 1: 6}
    only = ("--topic", f"{name}:1")
    assert reset(broker, name, *only, "--to-latest", *execute) == {1: 20}
    assert committed() == {0: 6, 1: 20}
    assert reset(broker, name, *both, "--by-duration", "PT1H", *execute) == {0: 0, 1: 0}
    stamp = middle.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    assert reset(broker, name, *both, "--to-datetime", stamp, *execute) == {0: 10, 1: 10}
    assert reset(broker, name, "--all-topics", "--to-current", *execute) == {0: 10, 1: 10}
    plan = groups(broker, "--reset-offsets", "--group", name, *both, "--to-offset", "3",
                  "--export", "--dry-run")
    lines = [line for line in plan.splitlines() if name in line]
    assert sorted(line.replace('"', "").split(",")[-1] for line in lines) == ["3", "3"]
    path = tmp_path / "plan.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    assert reset(broker, name, "--from-file", path, *execute) == {0: 3, 1: 3}
    assert committed() == {0: 3, 1: 3}


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_the_tool_deletes_offsets_and_groups(broker, members, name, protocol):
    places = create(broker, name, 2)
    produce(broker, name, 2, 5)
    members.open("a", name, name, protocol)
    members.settle(places, "a")
    wait_for("all records", lambda: members.poll("a") or len(members.seen) >= 10)
    delete = ("--delete-offsets", "--group", name, "--topic", name)
    refused = java.tool("4.3.0", "consumer-groups", "--bootstrap-server", broker.bootstrap,
                        *delete, check=False)
    assert "subscribed" in (refused.stdout + refused.stderr).lower()
    used = java.tool("4.3.0", "consumer-groups", "--bootstrap-server", broker.bootstrap,
                     "--delete", "--group", name, check=False)
    assert "not empty" in (used.stdout + used.stderr).lower()
    members.do("close", "a")
    wait_for("an empty group", lambda: state(broker, name) == ("Empty", 0))
    assert "Successful" in groups(broker, *delete[:-1], f"{name}:0")
    offsets = rows(groups(broker, "--describe", "--offsets", "--group", name))
    assert [row[2] for row in offsets] == ["1"]
    assert "successful" in groups(broker, "--delete", "--group", name)
    assert name not in groups(broker, "--list").split()


@pytest.mark.odradek_only
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_kill_9_while_members_come_and_go_loses_no_record(make_broker, protocol):
    chance = random.Random(848)
    broker = make_broker(properties=PROPERTIES).start()
    create(broker, "killed", 6)
    seen, errors = set(), []
    sent = 0
    settings = {"group.protocol": protocol, "enable.auto.commit": True,
                "auto.commit.interval.ms": 500, "reconnect.backoff.max.ms": 300,
                "retry.backoff.max.ms": 300}
    if protocol == "classic":
        settings["session.timeout.ms"] = 6000
    load = Producer({"bootstrap.servers": broker.bootstrap, "message.timeout.ms": 60000,
                     "reconnect.backoff.max.ms": 300})

    class Member(threading.Thread):
        """Reads and commits until it is told to leave."""

        def __init__(self):
            super().__init__()
            self.leave = threading.Event()
            self.consumer = librdkafka(broker, "killed", **settings)
            self.consumer.subscribe(["killed"])

        def run(self):
            while not self.leave.is_set():
                for message in self.consumer.consume(200, timeout=0.2):
                    if message.error() is None:
                        seen.add(int(message.value()))
                    elif message.error().fatal():
                        errors.append(message.error())
            self.consumer.close()

    present = [Member() for _ in range(2)]
    for member in present:
        member.start()
    try:
        for _ in range(30 if os.environ.get("ODRADEK_TEST_FULL") else 4):
            # One comes or goes, so that the kill finds the group in the middle of a rebalance.
            if len(present) == 1 or len(present) < 4 and chance.random() < 0.5:
                present.append(Member())
                present[-1].start()
            else:
                present.pop(0).leave.set()
            for number in range(sent, sent + 300):
                load.produce("killed", b"%d" % number, partition=number % 6)
            assert load.flush(60) == 0
            sent += 300
            time.sleep(chance.random() * 1.5)  # where in its work the kill finds the group
            broker.kill()
            broker.start()
        wait_for(f"{sent} records to be read", lambda: len(seen) == sent, 90)
        wait_for("the group to be stable",
                 lambda: state(broker, "killed") == ("Stable", len(present)), 60)
    finally:
        for member in present:
            member.leave.set()
        for member in present:
            member.join()
    assert errors == []
