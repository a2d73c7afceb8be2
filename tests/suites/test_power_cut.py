"""The power goes under the real binary: its disk keeps what a sync covered, and of the rest what a
seed chooses (tests/powercut). What was acknowledged is there, what a reader was shown stays, and
every start works, also of a start that was itself cut.

`odradek.durability=interval` answers before the flush; the same run must catch that.
"""

import os
import random
import subprocess
import sys
import threading
import time

import confluent_kafka
import confluent_kafka.admin
import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from harness.broker import wait_for
from harness.load import PARTITIONS, QUIET, Load
from harness.power import Machine, PoweredBroker, Unavailable

pytestmark = pytest.mark.odradek_only

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
ROUNDS = 60 if FULL else 5
BROKEN_ROUNDS_MAX = 8
LOAD_SECONDS_MAX = 8 if FULL else 1
REQUESTS_MAX = 500
CUT_SECONDS_MAX = 90
# Of each producer after a hundred records: what is looked at must first be read.
PAUSE_SECONDS = 0.05
TOPICS_MAX = 6
SEED = int(os.environ.get("ODRADEK_TEST_SEED") or 20261127)
LOADS = {
    "idempotent": (True, "lz4", "all"), "one": (False, "none", "1"), "all": (False, "zstd", "all"),
}
# Segments that are sealed often; compaction and deletion at work meanwhile.
PROPERTIES = {
    "auto.create.topics.enable": "false",
    "log.segment.bytes": "1048576", "log.cleaner.backoff.ms": "500",
    "log.retention.check.interval.ms": "1000",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "200",
}


class Worker:
    """Does one thing over and over, whatever becomes of the broker, until it is told to stop."""

    def __init__(self, broker):
        self.broker, self.stopping, self.done = broker, False, 0
        self.running, self.turning = threading.Event(), threading.Lock()
        self.running.set()
        self.failure = None
        self.thread = threading.Thread(target=self.go, daemon=True)
        self.thread.start()

    def go(self):
        try:
            while not self.stopping:
                if self.running.wait(0.05):
                    with self.turning:
                        self.turn()
        except BaseException as error:  # a thread's exception would otherwise be lost
            self.failure = error

    def pause(self):
        """Returns when nothing is under way."""
        self.running.clear()
        with self.turning:
            pass

    def stop(self):
        self.stopping = True
        self.thread.join()


class Reader(Worker):
    """A reader of uncommitted records that remembers all it was shown."""

    def __init__(self, broker, topics):
        self.shown, self.problems = {}, []
        self.consumer = confluent_kafka.Consumer({
            **QUIET, "bootstrap.servers": broker.bootstrap, "group.id": "reader",
            "enable.auto.commit": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 20,
            "isolation.level": "read_uncommitted", "fetch.error.backoff.ms": 50,
        })
        self.consumer.assign([
            TopicPartition(topic, index, 0) for topic in topics for index in range(PARTITIONS)])
        super().__init__(broker)

    def turn(self):
        for message in self.consumer.consume(5000, timeout=0.2):
            if message.error() is None:
                where = (message.topic(), message.partition(), message.offset())
                former = self.shown.setdefault(where, message.value())
                if former != message.value():
                    self.problems.append(f"{where} was shown as {former}, now {message.value()}")
                self.done += 1
            elif message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                self.problems.append(f"what was shown is gone: {message.error()}")

    def stop(self):
        super().stop()
        self.consumer.close()


class Transactions(Worker):
    """Transactions of a few numbers, committed or aborted in turn. No group's offsets with them:
    librdkafka 2.12 waits for ever in `send_offsets_to_transaction` if its broker goes then."""

    TOPIC, RECORDS = "transactions", 4

    def __init__(self, broker):
        # number: "committed", "aborted", or "unknown" where no answer came
        self.outcomes, self.producer = {}, None
        super().__init__(broker)

    def turn(self):
        number = len(self.outcomes)
        try:
            if self.producer is None:
                fresh = confluent_kafka.Producer({
                    **QUIET, "bootstrap.servers": self.broker.bootstrap, "linger.ms": 0,
                    "transactional.id": "power", "transaction.timeout.ms": 60000})
                fresh.init_transactions(10)
                self.producer = fresh
            self.outcomes[number] = "unknown"
            self.producer.begin_transaction()
            for index in range(self.RECORDS):
                self.producer.produce(self.TOPIC, f"{number} {index}".encode(),
                                      partition=index % PARTITIONS)
            if number % 4 == 3:
                self.producer.abort_transaction(10)
                self.outcomes[number] = "aborted"
            else:
                self.producer.commit_transaction(10)
                self.outcomes[number] = "committed"
            self.done += 1
        except (KafkaException, BufferError):
            # A new one of the same name aborts what this one left open.
            self.producer = None


class Commits(Worker):
    """A group's offset, one higher each time."""

    GROUP = "commits"

    def __init__(self, broker):
        self.tried = self.acknowledged = -1
        self.consumer = confluent_kafka.Consumer({
            **QUIET, "bootstrap.servers": broker.bootstrap, "group.id": self.GROUP,
            "enable.auto.commit": False})
        super().__init__(broker)

    def turn(self):
        self.tried += 1
        at = TopicPartition("all", 0, self.tried, f"metadata {self.tried}")
        try:
            self.consumer.commit(offsets=[at], asynchronous=False)
            self.acknowledged = self.tried
            self.done += 1
        except KafkaException:
            pass

    def stop(self):
        super().stop()
        self.consumer.close()


class Topics(Worker):
    """Topics that come and go."""

    def __init__(self, broker):
        # name: True if it was made, False if it was deleted, None where no answer came
        self.there = {}
        self.admin = confluent_kafka.admin.AdminClient({
            **QUIET, "bootstrap.servers": broker.bootstrap})
        super().__init__(broker)

    def turn(self):
        name = f"topic-{len(self.there)}"
        made = [name for name, there in self.there.items() if there]
        if len(made) > TOPICS_MAX:
            self.change(made[0], False, self.admin.delete_topics)
        new = confluent_kafka.admin.NewTopic(name, 2, 1)
        self.change(name, True, lambda _, **options: self.admin.create_topics([new], **options))

    def change(self, name, there, call):
        self.there[name] = None
        try:
            call([name], request_timeout=10)[name].result(15)
            self.there[name] = there
            self.done += 1
        except KafkaException:
            pass
        time.sleep(0.05)  # a few a second are enough


class Cuts:
    """A broker under load that goes through one power cut after another on one growing folder."""

    def __init__(self, folder, seed, **properties):
        self.random = random.Random(seed)
        self.broker = PoweredBroker(folder=folder, properties={**PROPERTIES, **properties})
        self.broken = "odradek.durability" in properties
        self.workers, self.loads, self.checked = [], {}, {}
        self.cuts = self.torn = self.lost = 0

    def begin(self):
        """Everybody at work on new topics."""
        self.broker.on().start()
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.broker.bootstrap})
        new = [confluent_kafka.admin.NewTopic(name, PARTITIONS, 1)
               for name in [*LOADS, Transactions.TOPIC]]
        for future in admin.create_topics(new).values():
            future.result(20)
        if self.broken:
            # Else the topics would go with the first cut, and nobody would be left to look.
            self.broker.stop()
            self.broker.on().start()
        self.loads = {
            name: Load(self.broker, name, idempotent, codec, acks, PAUSE_SECONDS)
            for name, (idempotent, codec, acks) in LOADS.items()}
        self.reader = Reader(self.broker, [*LOADS, Transactions.TOPIC])
        self.transactions = Transactions(self.broker)
        self.commits, self.topics = Commits(self.broker), Topics(self.broker)
        self.workers = [self.reader, self.transactions, self.commits, self.topics]

    def round(self):
        """Load, a cut, perhaps a start that is cut too, and a start that must work."""
        self.go_on()
        self.wait_for_all()
        time.sleep(self.random.random() * LOAD_SECONDS_MAX)  # where in its work the cut finds it
        self.cut()
        while self.random.random() < 0.4:
            self.broker.on().spawn()
            self.cut()
        self.broker.on().start()
        said = self.broker.log_since_start()
        assert "machine_went_down=true" in said, said
        self.torn += "ended in an unfinished write" in said

    def wait_for_all(self):
        """Until everybody has got on."""
        before = {worker: worker.done for worker in self.workers}
        acknowledged = {load: len(load.acknowledged) for load in self.loads.values()}
        for worker, count in before.items():
            name = type(worker).__name__
            wait_for(f"{name} to get on", lambda: worker.failure or worker.done > count, 60)
            assert not worker.failure, worker.failure
        for load, count in acknowledged.items():
            wait_for(f"{load.topic} to get on", lambda: len(load.acknowledged) > count + 100, 60)

    def cut(self):
        seed, machine = self.random.getrandbits(32), self.broker.machine
        afterwards = self.random.choice(["fail", "hang"])
        requests = self.random.choice([0, self.random.randrange(REQUESTS_MAX)])
        print(f"cut {self.cuts}: seed {seed}, {afterwards} after {requests} requests", flush=True)
        watchdog = threading.Timer(CUT_SECONDS_MAX, machine.layer.kill)
        watchdog.start()
        lost = machine.cut(seed, afterwards, requests)
        watchdog.cancel()
        for line in lost:
            print(f"  {line}")
        self.cuts, self.lost = self.cuts + 1, self.lost + len(lost)
        self.broker.off()

    def go_on(self):
        for one in [*self.loads.values(), *self.workers]:
            one.running.set()

    def pause(self):
        for one in [*self.loads.values(), *self.workers]:
            one.running.clear()
        for worker in self.workers:
            worker.pause()
        # One that was answered wrongly may wait for an answer for ever.
        for load in [] if self.broken else self.loads.values():
            wait_for("answers to what is under way", lambda load=load: not len(load.producer), 120)

    def problems(self, everything=False):
        """What is not as it was promised: of records those since the last look, or all."""
        self.pause()
        found, shown = list(self.reader.problems), dict(self.reader.shown)
        for topic, load in self.loads.items():
            starts = {} if everything else {
                index: self.checked.get((topic, index), 0) for index in range(PARTITIONS)}
            acknowledged = list(load.acknowledged)
            stored = read(self.broker, topic, starts)
            found += not_as_acknowledged(topic, acknowledged, stored, starts)
            found += not_as_shown(topic, shown, stored, starts)
            for index, records in stored.items():
                self.checked[topic, index] = max(records, default=starts.get(index, 0) - 1) + 1
            if everything and LOADS[topic][0]:
                found += not_once(topic, load, stored)
        # An open transaction is nobody's mistake where its producer was answered wrongly.
        if not self.broken:
            found += self.transaction_problems(shown)
            found += self.offset_problems() + self.topic_problems()
        return found

    def transaction_problems(self, shown):
        outcomes = dict(self.transactions.outcomes)
        seen = {}
        for isolation in ("read_committed", "read_uncommitted"):
            stored = read(self.broker, Transactions.TOPIC, {}, isolation)
            if isolation == "read_committed":
                for records in stored.values():
                    for value in records.values():
                        number, index = map(int, value.split())
                        seen.setdefault(number, []).append(index)
        found = not_as_shown(Transactions.TOPIC, shown, stored, {})
        for number, outcome in outcomes.items():
            indexes = sorted(seen.get(number, []))
            whole = indexes == list(range(Transactions.RECORDS))
            right = {"committed": whole, "aborted": not indexes,
                     "unknown": whole or not indexes}[outcome]
            if not right:
                found.append(f"transaction {number}, {outcome}: {indexes} are visible")
        return found

    def offset_problems(self):
        consumer = confluent_kafka.Consumer({
            **QUIET, "bootstrap.servers": self.broker.bootstrap, "group.id": Commits.GROUP})
        at = consumer.committed([TopicPartition("all", 0)], timeout=30)[0]
        consumer.close()
        acknowledged, tried = self.commits.acknowledged, self.commits.tried
        if not acknowledged <= max(at.offset, -1) <= tried:
            return [f"commit {acknowledged} was acknowledged, there is {at.offset}"]
        if at.offset >= 0 and at.metadata != f"metadata {at.offset}":
            return [f"{at.metadata!r} is stored with commit {at.offset}"]
        return []

    def topic_problems(self):
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.broker.bootstrap})
        listed = set(admin.list_topics(timeout=20).topics)
        return [f"{name} was {'made' if there else 'deleted'}, which is no longer so"
                for name, there in self.topics.there.items()
                if there is not None and there != (name in listed)]

    def finish(self):
        """Everybody ends; what is under way is answered first."""
        self.go_on()
        self.wait_for_all()
        self.pause()
        for load in self.loads.values():
            load.stop = True
        for worker in self.workers:
            worker.stop()
        failed = [worker.failure for worker in self.workers if worker.failure]
        assert not failed, failed

    def end(self):
        """The power goes for good; whoever waits for an answer need not."""
        for load in self.loads.values():
            load.stop = True
        for worker in self.workers:
            worker.stopping = True
        self.broker.off()


def not_as_acknowledged(topic, acknowledged, stored, starts):
    found = []
    for partition, offset, number in acknowledged:
        if offset >= starts.get(partition, 0):
            there = stored[partition].get(offset)
            if there is None or there.split(b".")[0] != b"%d" % number:
                found.append(f"{topic}-{partition}: record {number} was acknowledged at "
                             f"{offset}, there is {there}")
    return found


def not_as_shown(topic, shown, stored, starts):
    return [
        f"{name}-{partition}: {value} was shown at {offset}, there is "
        f"{stored[partition].get(offset)}"
        for (name, partition, offset), value in shown.items()
        if name == topic and offset >= starts.get(partition, 0)
        and stored[partition].get(offset) != value]


def not_once(topic, load, stored):
    found = []
    for partition, records in stored.items():
        numbers = [int(value.split(b".")[0]) for _, value in sorted(records.items())]
        if numbers != list(range(partition, load.next, PARTITIONS)):
            found.append(f"{topic}-{partition}: doubled, lost or out of order")
    return found


def read(broker, topic, starts, isolation="read_uncommitted"):
    """{partition: {offset: value}} from where each starts to the end of now."""
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": broker.bootstrap, "group.id": "check", "enable.auto.commit": False,
        "auto.offset.reset": "error", "isolation.level": isolation, "enable.partition.eof": True,
        "fetch.wait.max.ms": 20,
    })
    got = {index: {} for index in range(PARTITIONS)}
    consumer.assign([TopicPartition(topic, index, starts.get(index, 0)) for index in got])
    ends, deadline = set(), time.monotonic() + 60
    while len(ends) < PARTITIONS:
        assert time.monotonic() < deadline, f"{topic} cannot be read to its end"
        for message in consumer.consume(10000, timeout=0.2):
            error = message.error()
            if error is None:
                got[message.partition()][message.offset()] = message.value()
            elif error.code() in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
                # Beyond the end is an end too: what is missing shows itself by comparison.
                ends.add(message.partition())
            else:
                raise KafkaException(error)
    consumer.close()
    return got


@pytest.fixture(scope="module", autouse=True)
def allowed(folders):
    """This machine lets us mount a disk of our own."""
    folder = folders()
    try:
        with Machine(folder / "disk", folder / "mount"):
            pass
    except Unavailable as error:
        pytest.skip(str(error))


@pytest.fixture
def cuts(folders):
    made = []

    def make(seed, **properties):
        made.append(Cuts(folders(), seed, **properties))
        return made[-1]

    yield make
    for one in made:
        one.end()


WRITE_THINGS = """
import os
root = os.open(".", os.O_RDONLY)
def write(name, synced, unsynced, at=0):
    file = os.open(name, os.O_CREAT | os.O_RDWR)
    if synced:
        os.pwrite(file, synced, 0)
        os.fsync(file)
    for number, bytes in enumerate(unsynced):
        os.pwrite(file, bytes, at + number * len(bytes))
write("durable", b"d" * 3000, [])
write("changed", b"o" * 8192, [b"n" * 2048] * 4)
write("renamed", b"r", [])
os.mkdir("folder")
write("folder/nameless", b"n", [])
os.fsync(root)
write("new", b"n" * 100, [])
os.rename("renamed", "moved")
assert os.pread(os.open("changed", os.O_RDONLY), 9000, 0) == b"n" * 8192
"""


def test_a_cut_keeps_what_was_synced_and_of_the_rest_what_its_seed_chooses(folders):
    seen = set()
    for seed in [*range(24), 0]:
        folder = folders()
        with Machine(folder / "disk", folder / "mount") as machine:
            subprocess.run([*machine.inside(folder / "mount"), sys.executable, "-c", WRITE_THINGS],
                           check=True)
            lost = machine.cut(seed)
            alive = subprocess.run([*machine.inside(), "stat", folder / "mount" / "new"],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            assert "Input/output error" in alive.stderr
        disk = folder / "disk"
        assert (disk / "durable").read_bytes() == b"d" * 3000
        assert (disk / "renamed").exists() or (disk / "moved").exists()
        changed = (disk / "changed").read_bytes()
        sectors = [changed[at:at + 512] for at in range(0, 8192, 512)]
        assert set(sectors) <= {b"o" * 512, b"n" * 512}
        left = "".join("n" if sector[0] == ord("n") else "o" for sector in sectors)
        state = (left, (disk / "new").exists(), (disk / "folder" / "nameless").exists(),
                 (disk / "moved").exists(), tuple(lost))
        if seed == 0 and seen:
            assert state in seen, "the same seed chooses the same"
        seen.add(state)
    kinds = {left for left, *_ in seen}
    assert {"o" * 16, "n" * 16} <= kinds
    assert any("on" in left for left in kinds), "later writes without earlier ones"
    assert any(left[:4] not in ("oooo", "nnnn") for left in kinds), "torn at a sector"
    for index in (1, 2, 3):
        assert {state[index] for state in seen} == {True, False}


def test_without_a_cut_everything_is_there_and_a_journal_of_names_keeps_a_synced_file(folders):
    folder = folders()
    with Machine(folder / "disk", folder / "mount", "--sync-delay-ms", "1") as machine:
        inside = [*machine.inside(folder / "mount"), sys.executable, "-c"]
        subprocess.run([*inside, WRITE_THINGS], check=True)
    assert (folder / "disk" / "changed").read_bytes() == b"n" * 8192
    assert (folder / "disk" / "moved").read_bytes() == b"r"
    for seed in range(8):
        folder = folders()
        with Machine(folder / "disk", folder / "mount", "--names", "journal") as machine:
            inside = [*machine.inside(folder / "mount"), sys.executable, "-c"]
            subprocess.run([*inside, WRITE_THINGS], check=True)
            machine.cut(seed)
        assert (folder / "disk" / "new").read_bytes() == b"n" * 100


def test_what_was_acknowledged_or_shown_outlives_power_cuts_and_every_start_works(cuts):
    power = cuts(SEED)
    power.begin()
    for _ in range(ROUNDS):
        power.round()
        power.wait_for_all()
        assert power.problems() == []
    power.finish()
    assert [error for load in power.loads.values() for error in load.errors] == []
    assert power.problems(everything=True) == []
    said = f"{power.cuts} cuts, {power.lost} losses, {power.torn} starts that cut a torn write"
    counts = {name: len(load.acknowledged) for name, load in power.loads.items()}
    print(f"{said}; {counts} acknowledged, {len(power.reader.shown)} shown, "
          f"{len(power.transactions.outcomes)} transactions, {power.commits.tried} commits, "
          f"{len(power.topics.there)} topics")
    assert power.lost > 0, "the cuts took nothing, and prove nothing"


def test_a_broker_that_answers_before_the_flush_is_caught(cuts):
    power = cuts(SEED, **{"odradek.durability": "interval", "log.flush.interval.ms": "60000"})
    power.begin()
    problems = []
    for _ in range(BROKEN_ROUNDS_MAX):
        # Of the producers some may have come to their end with what they were answered for.
        power.go_on()
        wait_for("a producer to get on", lambda: any(
            len(load.acknowledged) > 500 for load in power.loads.values()))
        power.cut()
        power.broker.on().start()
        problems += power.problems()
        if any("was acknowledged" in one for one in problems) and any(
                "was shown" in one for one in problems):
            return
    raise AssertionError(f"nothing that was acknowledged and shown was missed: {problems}")
