"""Consumers of one group that read along for a long time, and a ledger of what they got.

The ledger holds for each partition the next offset. What comes below it was read before (a member
died or left before it had committed) and counts as `again`; what comes above it is a gap, and a
problem. So whatever is counted once was read in order and without a hole, whoever read it.
"""

import collections
import json
import threading
import time

import confluent_kafka

from .load import QUIET

COMMIT_EVERY_SECONDS = 1
BATCH = 500
PROBLEMS_KEPT = 20


class Ledger:
    """`handlers`: {topic: what to call with key and document of each new record}; it returns a
    sentence where something is wrong."""

    def __init__(self, handlers):
        self.handlers = handlers
        self.next, self.again = {}, 0
        self.bytes = collections.Counter()  # of keys and values, by topic
        self.problems, self.lock = [], threading.Lock()

    def take(self, messages):
        with self.lock:
            for message in messages:
                self.take_one(message)

    def take_one(self, message):
        if message.error():
            # Connections break at a kill; what that costs is seen by the offsets.
            return
        topic, place = message.topic(), (message.topic(), message.partition())
        offset, due = message.offset(), self.next.get(place, 0)
        if offset < due:
            self.again += 1
            return
        if offset > due:
            self.problem(f"{place}: offset {offset} follows {due - 1}")
        self.next[place] = offset + 1
        key, value = message.key(), message.value()
        self.bytes[topic] += len(key) + len(value)
        wrong = self.handlers[topic](key.decode(), json.loads(value))
        if wrong:
            self.problem(f"{place} at {offset}: {wrong}")

    def problem(self, sentence):
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(sentence)

    def count(self, topic):
        with self.lock:
            return sum(end for (name, _), end in self.next.items() if name == topic)


class Member:
    """One consumer in a thread of its own. It commits what the ledger has taken."""

    def __init__(self, bootstrap, group, ledger):
        self.ledger, self.stop, self.failed = ledger, False, None
        self.consumer = confluent_kafka.Consumer({
            **QUIET, "bootstrap.servers": bootstrap, "group.id": group,
            "enable.auto.commit": False, "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100, "topic.metadata.refresh.interval.ms": 10_000,
        })
        self.consumer.subscribe(sorted(ledger.handlers))
        self.thread = threading.Thread(target=self.go, daemon=True)
        self.thread.start()

    def go(self):
        try:
            committed = time.monotonic()
            while not self.stop:
                self.ledger.take(self.consumer.consume(BATCH, timeout=0.5))
                if time.monotonic() - committed >= COMMIT_EVERY_SECONDS:
                    self.commit()
                    committed = time.monotonic()
            self.commit()
        except Exception as error:  # a thread's exception would otherwise be lost
            self.failed = error

    def commit(self):
        """What cannot be committed (the broker is away, the group is rebalanced) is next time."""
        try:
            self.consumer.commit(asynchronous=False)
        except confluent_kafka.KafkaException:
            pass

    def leave(self):
        self.stop = True
        self.thread.join(60)
        self.consumer.close()
        assert self.failed is None, self.failed
