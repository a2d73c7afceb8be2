"""A well-behaved producer in a process of its own: acks=all, so many records a second on one
connection, each timed. Beside an attack it tells what the attack costs others.

A time counts from when the record was due, not from when it could be sent: a producer that is held
up for a second has a second's worth of late records, not one.
"""

import argparse
import collections
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from . import wire
from .broker import die_with_parent, wait_for

ROW = struct.Struct(">ddq")
RECORD_BYTES = 100
PARTITION = 0

Window = collections.namedtuple("Window", "count p50_ms p99_ms max_ms")


def percentile(sorted_values, share):
    """The smallest value that this share of all is not above (nearest rank)."""
    rank = max(1, -(-len(sorted_values) * share // 100))
    return sorted_values[int(rank) - 1]


def window(rows, begin, end):
    """What was due between two moments of time.monotonic()."""
    times = sorted(1000 * (done - due) for due, done, _ in rows if begin <= due < end)
    assert times, "the other client acknowledged nothing in the whole window"
    return Window(len(times), percentile(times, 50), percentile(times, 99), times[-1])


class Steady:
    """The process, as the test sees it."""

    def __init__(self, bootstrap, topic, folder, rate=200):
        self.topic, self.path = topic, Path(folder) / "steady.rows"
        command = [sys.executable, "-m", "harness.steady", bootstrap, topic, str(self.path),
                   "--rate", str(rate)]
        self.process = subprocess.Popen(
            command, cwd=Path(__file__).resolve().parent.parent, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
        wait_for("the other client's first records", lambda: self.count() > rate // 4, 60)

    def check(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the other client failed:\n{self.process.stderr.read()[-2000:]}")

    def count(self):
        self.check()
        return self.path.stat().st_size // ROW.size if self.path.exists() else 0

    def rows(self):
        """(due, acknowledged, offset) of each record, in their order."""
        raw = self.path.read_bytes()
        return list(ROW.iter_unpack(raw[:len(raw) // ROW.size * ROW.size]))

    def caught_up(self):
        """Waits until what is due now has been acknowledged."""
        now = time.monotonic()

        def is_past():
            self.check()
            return self.rows()[-1][0] >= now

        wait_for("the other client to catch up", is_past, 60)

    def stop(self):
        """The process must still be well."""
        self.check()
        self.process.terminate()
        self.process.wait(30)


def run(bootstrap, topic, path, rate):
    start = time.monotonic() + 0.05
    with wire.Connection(bootstrap, timeout=120) as connection, open(path, "ab", 0) as rows:
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number = 0
        while True:
            due = start + number / rate
            while (left := due - time.monotonic()) > 0:
                time.sleep(left)
            value = b"%d" % number
            batch = wire.batch([value.ljust(RECORD_BYTES, b".")], int(time.time() * 1000))
            error, offset = connection.produce(topic, PARTITION, batch)
            if error:
                raise AssertionError(f"record {number} was answered with error {error}")
            rows.write(ROW.pack(due, time.monotonic(), offset))
            number += 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("path")
    parser.add_argument("--rate", type=int, default=200)
    options = parser.parse_args()
    run(options.bootstrap, options.topic, options.path, options.rate)
