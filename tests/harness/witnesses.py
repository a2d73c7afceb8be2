"""Clients of every kind at work, who remember what they were told and shown, whatever becomes of
the broker meanwhile, and the checker that holds it to that:

1. A record that was acknowledged is where it was acknowledged; an idempotent producer's is there
   once and in order, any other's at least once, and no offset is left out.
2. What a reader was shown stays as it was. A reader of committed records is shown all that was
   committed and nothing else; a transaction is visible as a whole or not at all.
3. Of a compacted topic's records every key's last one is there (one without a value may go with
   its key), and the others only as they were written.
4. A group's offset is the last that was acknowledged, or a later one that was tried.
5. A topic that was made is there, one that was deleted is not.

Who cuts the power or kills the broker is somebody else: suites power_cut and crash.
"""

import concurrent.futures
import random
import threading
import time
import zlib

import confluent_kafka
import confluent_kafka.admin
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import NewTopic

from .broker import wait_for
from .load import PARTITIONS, QUIET, Load, value_of

SETTLE_SECONDS_MAX = 120
# librdkafka's own limit is ten; on a machine that hardly turns it comes to that later.
ANSWER_SECONDS_MAX = 15
# Long runs leave millions of records, which take as long as they take.
STANDSTILL_SECONDS = 60
# Of each producer: whether it is idempotent, its codec, acks, and whether its records are large.
LOADS = {
    "idempotent": (True, "lz4", "all", False), "one": (False, "none", "1", False),
    "all": (False, "zstd", "all", False), "unpacked": (True, "none", "all", False),
    "large": (True, "none", "all", True),
}
# Of a topic's own; else two large records would fill a segment.
CONFIGS = {"large": {"segment.bytes": str(8 << 20)}}
# Segments that are sealed often; compaction and deletion at work meanwhile.
PROPERTIES = {
    "auto.create.topics.enable": "false",
    "log.segment.bytes": "1048576", "log.cleaner.backoff.ms": "100",
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

    def settle(self):
        """While it pauses: whatever it began is brought to an end."""

    def stop(self):
        self.stopping = True
        self.thread.join()


class Reader(Worker):
    """A reader that remembers all it was shown."""

    def __init__(self, broker, topics, isolation):
        self.partitions = [(topic, index) for topic in topics for index in range(PARTITIONS)]
        self.shown = {at: {} for at in self.partitions}  # of each partition {offset: mark}
        self.problems = []
        self.consumer = confluent_kafka.Consumer({
            **QUIET, "bootstrap.servers": broker.bootstrap, "group.id": f"reader-{isolation}",
            "enable.auto.commit": False, "auto.offset.reset": "error", "fetch.wait.max.ms": 20,
            "isolation.level": isolation, "fetch.error.backoff.ms": 50,
        })
        self.consumer.assign([TopicPartition(*at, 0) for at in self.partitions])
        super().__init__(broker)

    def turn(self):
        for message in self.consumer.consume(1000, timeout=0.02):
            if message.error() is None:
                shown = self.shown[message.topic(), message.partition()]
                now = mark_of(message)
                former = shown.setdefault(message.offset(), now)
                if former != now:
                    self.problems.append(
                        f"{message.topic()}-{message.partition()}: at {message.offset()} {former} "
                        f"was shown, now {now}")
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

    def __init__(self, broker, name):
        # number: "committed", "aborted", or "unknown" where no answer came
        self.name, self.outcomes, self.checked, self.producer = name, {}, 0, None
        super().__init__(broker)

    def turn(self):
        number = len(self.outcomes)
        try:
            self.begin()
            self.outcomes[number] = "unknown"
            self.producer.begin_transaction()
            for index in range(self.RECORDS):
                self.producer.produce(self.TOPIC, f"{self.name} {number} {index}".encode(),
                                      partition=index % PARTITIONS)
            if number % 4 == 3:
                self.producer.abort_transaction(10)
                self.outcomes[number] = "aborted"
            else:
                self.producer.commit_transaction(10)
                self.outcomes[number] = "committed"
            self.done += 1
        except (KafkaException, BufferError):
            self.producer = None

    def begin(self):
        """A producer; a new one of the same name ends what the last one left open."""
        if self.producer is None:
            fresh = confluent_kafka.Producer({
                **QUIET, "bootstrap.servers": self.broker.bootstrap, "linger.ms": 0,
                "transactional.id": self.name, "transaction.timeout.ms": 60000})
            fresh.init_transactions(10)
            self.producer = fresh

    def settle(self):
        """Else an open one would hide committed ones of others."""
        def ended():
            try:
                self.begin()
                return True
            except KafkaException:
                return False
        wait_for(f"the last transaction of {self.name} to end", ended, SETTLE_SECONDS_MAX)


class Keyed(Worker):
    """A producer to a compacted topic: numbers under a few keys, and now and then a key's end."""

    TOPIC, KEYS_EACH, BURST = "compacted", 20, 40
    DELETE_RETENTION_SECONDS = 5
    CONFIG = {
        "cleanup.policy": "compact", "segment.bytes": str(1 << 20),
        "min.cleanable.dirty.ratio": "0.01",
        "delete.retention.ms": str(DELETE_RETENTION_SECONDS * 1000),
    }

    def __init__(self, broker, seed, pause_seconds):
        self.random, self.pause_seconds = random.Random(seed), pause_seconds
        self.number, self.errors = 0, []
        # Of each partition {offset: mark}, and {key: mark} of the last that was acknowledged.
        self.acknowledged = {index: {} for index in range(PARTITIONS)}
        self.latest = {index: {} for index in range(PARTITIONS)}
        self.producer = confluent_kafka.Producer({
            **QUIET, "bootstrap.servers": broker.bootstrap, "linger.ms": 2,
            "enable.idempotence": True, "compression.type": "lz4",
            "message.timeout.ms": 120000, "queue.buffering.max.messages": 2000,
        })
        super().__init__(broker)

    def turn(self):
        for _ in range(self.BURST):
            partition = self.random.randrange(PARTITIONS)
            key = b"key %d" % self.random.randrange(self.KEYS_EACH)
            value = b"%d." % self.number + self.random.randbytes(1200)
            self.number += 1
            try:
                self.producer.produce(
                    self.TOPIC, None if self.random.random() < 0.1 else value, key, partition,
                    on_delivery=self.note)
            except BufferError:
                break  # nobody answers at the moment
        self.producer.poll(0)
        time.sleep(self.pause_seconds or 0.001)  # a poll ends with the first answer

    def note(self, error, message):
        if error is None:
            at, mark = self.acknowledged[message.partition()], mark_of(message)
            if at.setdefault(message.offset(), mark) != mark:
                self.errors.append(f"{mark} was acknowledged at {message.offset()}, as was "
                                   f"{at[message.offset()]}")
            self.latest[message.partition()][message.key()] = mark
            self.done += 1
        else:
            self.errors.append(error)

    def settle(self):
        assert self.producer.flush(SETTLE_SECONDS_MAX) == 0, "compacted: answers are missing"


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

    THERE_MAX = 6

    def __init__(self, broker):
        # name: True if it was made, False if it was deleted, None where no answer came
        self.there = {}
        self.admin = confluent_kafka.admin.AdminClient({
            **QUIET, "bootstrap.servers": broker.bootstrap})
        super().__init__(broker)

    def turn(self):
        name = f"topic-{len(self.there)}"
        made = [name for name, there in self.there.items() if there]
        if len(made) > self.THERE_MAX:
            self.change(made[0], False, self.admin.delete_topics)
        new = NewTopic(name, 2, 1)
        self.change(name, True, lambda _, **options: self.admin.create_topics([new], **options))

    def change(self, name, there, call):
        self.there[name] = None
        try:
            call([name], request_timeout=10)[name].result(ANSWER_SECONDS_MAX)
            self.there[name] = there
            self.done += 1
        except (KafkaException, concurrent.futures.TimeoutError):
            pass
        time.sleep(0.05)  # a few a second are enough


class Witnesses:
    """All of them, on one broker. `trusted` is False for one that is to be caught: of what it
    answered wrongly its clients may wait for more for ever, so only points 1 and 2 are looked at,
    and of those what needs nobody to come to an end. Nor has it transactions: librdkafka was seen
    to abort the process where such a producer was let go."""

    def __init__(self, broker, seed, pause_seconds, trusted=True):
        self.broker, self.seed, self.trusted = broker, seed, trusted
        self.pause_seconds = pause_seconds
        self.workers, self.loads, self.transactions, self.looked = [], {}, [], {}

    def create_topics(self):
        admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.broker.bootstrap})
        new = [NewTopic(name, PARTITIONS, 1, config=CONFIGS.get(name, {}))
               for name in [*LOADS, Transactions.TOPIC]]
        new.append(NewTopic(Keyed.TOPIC, PARTITIONS, 1, config=Keyed.CONFIG))
        for future in admin.create_topics(new).values():
            future.result(20)

    def begin(self):
        """Everybody at work."""
        broker = self.broker
        self.loads = {
            name: Load(broker, name, idempotent, codec, acks, self.pause_seconds, large)
            for name, (idempotent, codec, acks, large) in LOADS.items()}
        self.reader = Reader(broker, [*LOADS, Transactions.TOPIC, Keyed.TOPIC], "read_uncommitted")
        self.committed = Reader(broker, [Transactions.TOPIC], "read_committed")
        names = ("first", "second") if self.trusted else ()
        self.transactions = [Transactions(broker, name) for name in names]
        self.keyed = Keyed(broker, self.seed, self.pause_seconds)
        self.commits, self.topics = Commits(broker), Topics(broker)
        self.workers = [self.reader, self.committed, *self.transactions, self.keyed, self.commits,
                        self.topics]

    def wait_for_all(self):
        """Until everybody has got on."""
        before = {worker: worker.done for worker in self.workers}
        self.wait_for_loads()
        for worker, count in before.items():
            name = type(worker).__name__
            wait_for(f"{name} to get on", lambda: worker.failure or worker.done > count, 60, 0.01)
            assert not worker.failure, f"{name} ended: {worker.failure!r}"

    def wait_for_loads(self):
        """Until every producer without transactions has got on. librdkafka looks for a coordinator
        that went once a second: the others take longer."""
        before = {load: load.count() for load in self.loads.values()}
        for load, count in before.items():
            wait_for(f"{load.topic} to get on", lambda: load.count() > count + load.some, 60, 0.01)

    def go_on(self):
        for one in [*self.loads.values(), *self.workers]:
            one.running.set()

    def pause(self):
        for one in [*self.loads.values(), *self.workers]:
            one.running.clear()
        for worker in self.workers:
            worker.pause()
        if self.trusted:
            for worker in self.workers:
                worker.settle()
            for load in self.loads.values():
                wait_for("answers to what is under way", lambda load=load: not len(load.producer),
                         SETTLE_SECONDS_MAX, 0.01)

    def problems(self, everything=False):
        """What is not as it was promised: of records those since the last look, or all. Nobody is
        at work afterwards."""
        self.pause()
        starts = {} if everything else dict(self.looked)
        kept = [at for at in self.reader.partitions if at[0] != Keyed.TOPIC]
        stored = read(self.broker, kept, starts)
        found = list(self.reader.problems) + self.load_problems(stored, starts)
        found += not_as_shown(self.reader.shown, stored, starts)
        if everything:
            found += self.count_problems(stored)
        if self.trusted:
            found += self.transaction_problems(starts) + self.keyed_problems()
            found += self.offset_problems() + self.topic_problems()
        for at, records in stored.items():
            self.looked[at] = max(records, default=starts.get(at, 0) - 1) + 1
        return found

    def load_problems(self, stored, starts):
        return [
            f"{topic}-{index}: record {number} was acknowledged at {offset}, there is "
            f"{stored[topic, index].get(offset)}"
            for topic, load in self.loads.items()
            for index, acknowledged in load.acknowledged.items()
            for offset, number in dict(acknowledged).items()
            if offset >= starts.get((topic, index), 0)
            and stored[topic, index].get(offset) != number]

    def count_problems(self, stored):
        """That nothing is doubled, left out or in another order, where everything was read."""
        found = []
        for topic, load in self.loads.items():
            found += [f"{topic}: {error}" for error in load.errors]
            for index in range(PARTITIONS):
                records = stored[topic, index]
                if sorted(records) != list(range(len(records))):
                    found.append(f"{topic}-{index}: the offsets have holes")
                numbers = [records[offset] for offset in sorted(records)]
                wanted = list(range(index, load.next, PARTITIONS))
                if load.idempotent and numbers != wanted:
                    found.append(f"{topic}-{index}: doubled, lost or out of order")
                elif set(numbers) != set(wanted):
                    found.append(f"{topic}-{index}: lost, or never written")
        return found

    def transaction_problems(self, starts):
        partitions = self.committed.partitions
        stored = read(self.broker, partitions, starts, "read_committed")
        seen = {}
        for records in stored.values():
            for value in records.values():
                name, number, index = value.split()
                seen.setdefault((name.decode(), int(number)), []).append(int(index))
        found = []
        for one in self.transactions:
            for number in range(one.checked if starts else 0, len(one.outcomes)):
                indexes = sorted(seen.pop((one.name, number), []))
                whole = indexes == list(range(one.RECORDS))
                outcome = one.outcomes[number]
                right = {"committed": whole, "aborted": not indexes,
                         "unknown": whole or not indexes}[outcome]
                if not right:
                    found.append(f"transaction {one.name} {number}, {outcome}: {indexes} are "
                                 f"visible")
            one.checked = len(one.outcomes)
        found += [f"transaction {one} is visible again, or was never made" for one in seen]
        return found + self.committed_problems(stored, starts)

    def committed_problems(self, stored, starts):
        """The reader of committed records goes on alone: it must come to see what there is."""
        everything = self.committed.shown

        def caught_up():
            return all(records.keys() <= everything[at].keys() for at, records in stored.items())

        self.committed.running.set()
        try:
            wait_for("the reader of committed records to catch up", caught_up, 30, 0.01)
        except AssertionError as error:
            return [str(error)]
        finally:
            self.committed.pause()
        return self.committed.problems + not_as_shown(everything, stored, starts)

    def keyed_problems(self):
        partitions = [(Keyed.TOPIC, index) for index in range(PARTITIONS)]
        while True:
            began = time.monotonic()
            stored = read(self.broker, partitions, {})
            # A slower reader may meet a key's value and miss its end (Kafka's delete.retention.ms).
            if time.monotonic() - began < Keyed.DELETE_RETENTION_SECONDS:
                break
        found = [f"{Keyed.TOPIC}: {error}" for error in self.keyed.errors]
        for at, records in stored.items():
            acknowledged, last = self.keyed.acknowledged[at[1]], {}
            for what, some in (("is", records), ("was shown", self.reader.shown[at])):
                found += [f"{at}: {mark} {what} at {offset}, and {acknowledged.get(offset)} was "
                          f"acknowledged there" for offset, mark in some.items()
                          if acknowledged.get(offset) != mark]
            for offset in sorted(records):
                last[records[offset][0]] = records[offset]
            for key, mark in self.keyed.latest[at[1]].items():
                if last.get(key, (key, None)) != mark:
                    found.append(f"{at}: {mark} was the last of {key}, there is {last.get(key)}")
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
        admin = confluent_kafka.admin.AdminClient({
            **QUIET, "bootstrap.servers": self.broker.bootstrap})
        listed = set(admin.list_topics(timeout=20).topics)
        return [f"{name} was {'made' if there else 'deleted'}, which is no longer so"
                for name, there in self.topics.there.items()
                if there is not None and there != (name in listed)]

    def finish(self):
        """A last turn of everybody, the last look, at everything, and what it found."""
        self.go_on()
        self.wait_for_all()
        found = self.problems(everything=True)
        for load in self.loads.values():
            load.finish()
        for worker in self.workers:
            worker.stop()
        return found + [f"{type(worker).__name__} ended: {worker.failure!r}"
                        for worker in self.workers if worker.failure]

    def give_up(self):
        """Nobody waits for an answer any more."""
        for load in self.loads.values():
            load.stop = True
        for worker in self.workers:
            worker.stopping = True

    def said(self):
        """In figures, what they have seen."""
        counts = {name: load.count() for name, load in self.loads.items()}
        counts[Keyed.TOPIC] = sum(len(one) for one in self.keyed.acknowledged.values())
        outcomes = [outcome for one in self.transactions for outcome in one.outcomes.values()]
        ends = {one: outcomes.count(one) for one in ("committed", "aborted", "unknown")}
        shown = sum(len(one) for one in self.reader.shown.values())
        return (f"{sum(counts.values())} records acknowledged {counts}, {shown} shown, "
                f"transactions {ends}, {self.commits.tried} commits, {len(self.topics.there)} "
                f"topics; {self.cleanings()} cleanings of the compacted one")

    def cleanings(self):
        """How often the broker says that it cleaned the compacted topic."""
        return self.broker.log().count(f'compacted folder="{Keyed.TOPIC}-')


def mark_of(message):
    """What is remembered of a record: its number, or what tells it from any other."""
    key, value = message.key(), message.value()
    if key is not None:
        return key, None if value is None else zlib.crc32(value)
    digits = value.rstrip(b".")
    if digits.isdigit():
        number = int(digits)
        if value in (value_of(number), value_of(number, large=True)):
            return number
    return value if len(value) < 1000 else (value[:40], zlib.crc32(value))


def not_as_shown(shown, stored, starts):
    return [
        f"{at}: {mark} was shown at {offset}, there is {records.get(offset)}"
        for at, records in stored.items() for offset, mark in dict(shown[at]).items()
        if offset >= starts.get(at, 0) and records.get(offset) != mark]


def read(broker, partitions, starts, isolation="read_uncommitted"):
    """Of each partition {offset: mark}, from where it starts to the end of now."""
    consumer = confluent_kafka.Consumer({
        **QUIET, "bootstrap.servers": broker.bootstrap, "group.id": "check",
        "enable.auto.commit": False, "auto.offset.reset": "error", "isolation.level": isolation,
        "enable.partition.eof": True, "fetch.wait.max.ms": 20,
    })
    got = {at: {} for at in partitions}
    consumer.assign([TopicPartition(*at, starts.get(at, 0)) for at in got])
    ends, deadline = set(), time.monotonic() + STANDSTILL_SECONDS
    while len(ends) < len(got):
        assert time.monotonic() < deadline, f"only {ends} could be read to their end"
        for message in consumer.consume(2000, timeout=0.02):
            deadline = time.monotonic() + STANDSTILL_SECONDS
            at, error = (message.topic(), message.partition()), message.error()
            if error is None:
                got[at][message.offset()] = mark_of(message)
            elif error.code() in (KafkaError._PARTITION_EOF, KafkaError._AUTO_OFFSET_RESET):
                # Beyond the end is an end too: what is missing shows itself by comparison.
                ends.add(at)
            else:
                raise KafkaException(error)
    consumer.close()
    return got
