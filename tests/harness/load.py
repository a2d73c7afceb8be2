"""Producers that count: each record is a number, and who was told what is remembered."""

import threading
import time

import confluent_kafka

PARTITIONS = 3
QUIET = {
    "log_level": 0, "error_cb": lambda error: None, "reconnect.backoff.ms": 20,
    "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 50, "retry.backoff.max.ms": 100,
}


# More than the log writes to a segment at once, without its journal (broker/log/src/direct.rs).
LARGE_BYTES = 300 << 10
# After so many a producer is seen to have got on.
SOME_RECORDS, SOME_LARGE = 100, 5
LARGE_PAUSE_SECONDS = 0.05


def value_of(number, large=False):
    """The record that is this number."""
    return b"%d" % number + b"." * (number % 300 + large * LARGE_BYTES)


class Load:
    """A librdkafka producer that writes increasing numbers and notes which were acknowledged; as
    fast as it can, or with a pause after every hundred; of large ones after each."""

    def __init__(self, broker, topic, idempotent, codec, acks="all", pause_seconds=0, large=False):
        self.topic, self.idempotent, self.stop, self.next = topic, idempotent, False, 0
        self.large, self.some = large, SOME_LARGE if large else SOME_RECORDS
        self.pause_seconds, self.running = pause_seconds, threading.Event()
        self.running.set()
        self.acknowledged = {index: {} for index in range(PARTITIONS)}  # offset: number
        self.errors = []
        self.producer = confluent_kafka.Producer({
            **QUIET, "bootstrap.servers": broker.bootstrap, "acks": acks, "linger.ms": 2,
            "enable.idempotence": idempotent, "compression.type": codec,
            "message.timeout.ms": 120000, "queue.buffering.max.messages": 5000,
        })
        self.thread = threading.Thread(target=self.go, daemon=True)
        self.thread.start()

    def go(self):
        while not self.stop:
            try:
                self.turn()
            except BufferError:
                self.producer.poll(0.01)
            except confluent_kafka.KafkaException as error:  # it can produce nothing any more
                self.errors.append(error)
                return

    def turn(self):
        number = self.next
        if not self.running.is_set():
            self.producer.poll(0.01)
            return
        self.producer.produce(
            self.topic, value_of(number, self.large), partition=number % PARTITIONS,
            on_delivery=lambda error, message: self.note(error, message, number))
        self.next += 1
        if self.large:
            time.sleep(LARGE_PAUSE_SECONDS)
        elif self.pause_seconds and number % SOME_RECORDS == 0:
            time.sleep(self.pause_seconds)
        self.producer.poll(0)

    def note(self, error, message, number):
        if error is None:
            at = self.acknowledged[message.partition()]
            if at.setdefault(message.offset(), number) != number:
                self.errors.append(f"{self.topic}-{message.partition()}: {number} was acknowledged "
                                   f"at {message.offset()}, as was {at[message.offset()]}")
        else:
            self.errors.append(error)

    def count(self):
        """Of the acknowledged ones."""
        return sum(len(at) for at in self.acknowledged.values())

    def finish(self):
        self.stop = True
        self.thread.join()
        assert self.producer.flush(90) == 0, "the last records were never acknowledged"
