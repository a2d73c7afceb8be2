"""kill -9 under load, of a broker that works, that starts or that stops: what was acknowledged is
there, what a reader was shown stays, and every start works (harness/witnesses.py says it exactly).

The same script runs against Apache Kafka too, which keeps its page cache over a kill -9, as we do;
what only a power cut takes is the business of test_power_cut.py and of broker/log's simulation.
"""

import os
import random
import signal
import subprocess
import time

import confluent_kafka.admin
import pytest
from harness.broker import APACHE, wait_for
from harness.witnesses import PROPERTIES, Witnesses

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
ROUNDS = 200 if FULL else 20
SECOND_STORE_ROUNDS = 20 if FULL else 2
# So many rounds on, everybody is waited for, and there is a look: most of a round's time otherwise.
LOOK_ROUNDS = 5
LOAD_SECONDS_MAX = 1 if FULL else 0.25
# A broker that starts or stops is killed within so many times what the last start took.
MEANWHILE_SHARE_MAX = 1.2
# Of each producer after a hundred records. Now and then none: as fast as it can.
PAUSES_SECONDS = [0, 0.02, 0.05]
SEED = int(os.environ.get("ODRADEK_TEST_SEED") or 20260807)


class Kills:
    """A broker under load that is killed over and over on one growing folder."""

    def __init__(self, broker, seed):
        self.random, self.broker = random.Random(seed), broker
        self.witnesses = Witnesses(broker, seed, PAUSES_SECONDS[-1])
        self.start_seconds, self.kills, self.in_starts, self.in_stops = 0.1, 0, 0, 0
        self.direct_bytes = 0

    def round(self, everybody):
        """Load, a kill, perhaps one of a broker that only starts, and a start that must work."""
        pause = self.random.choice(PAUSES_SECONDS)
        for load in self.witnesses.loads.values():
            load.pause_seconds = pause
        self.witnesses.go_on()
        if everybody:
            self.witnesses.wait_for_all()
        else:
            self.witnesses.wait_for_loads()
        time.sleep(self.random.random() * LOAD_SECONDS_MAX)  # where in its work the kill finds it
        self.direct_bytes += 0 if APACHE else metric(self.broker, "odradek_direct_bytes")
        self.kill(stops=self.random.random() < 0.2)
        while self.random.random() < 0.4:
            self.broker.spawn()
            self.kill(starts=True)
        began = time.monotonic()
        self.broker.start()
        self.start_seconds = time.monotonic() - began

    def kill(self, starts=False, stops=False):
        wait = self.random.random() * MEANWHILE_SHARE_MAX * self.start_seconds
        if stops:
            self.broker.process.send_signal(signal.SIGTERM)
        if starts or stops:
            try:
                self.broker.process.wait(wait)
            except subprocess.TimeoutExpired:
                pass
        ended = self.broker.process.poll()
        assert ended is None or stops and ended in (0, 143), self.broker.log_since_start()
        self.broker.kill()
        self.kills += ended is None
        self.in_stops += stops and ended is None
        self.in_starts += starts and "listening" not in self.broker.log_since_start()


def metric(broker, name):
    """The figure of that name, which has no labels."""
    lines = broker.get("/metrics")[2].decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


@pytest.fixture
def kills(make_broker):
    made = []

    def make(seed, **properties):
        broker = make_broker(properties={**PROPERTIES, **properties}).start()
        made.append(Kills(broker, seed))
        return made[-1]

    yield make
    for one in made:
        one.witnesses.give_up()


def kill_under_load(kills, rounds):
    print(f"seed {SEED}")
    kills.witnesses.create_topics()
    kills.witnesses.begin()
    for number in range(rounds):
        looks = number % LOOK_ROUNDS == LOOK_ROUNDS - 1
        kills.round(everybody=looks)
        if looks:
            assert kills.witnesses.problems() == [], f"after round {number}"
    assert kills.witnesses.finish() == []
    print(f"{rounds} rounds, {kills.kills} kills, {kills.in_starts} of them before it listened, "
          f"{kills.in_stops} while it stopped; {kills.witnesses.said()}")
    assert kills.broker.stop() in (0, 143)


def test_what_was_acknowledged_or_shown_outlives_kill_9_and_every_start_works(kills):
    some = kills(SEED)
    kill_under_load(some, ROUNDS)
    assert APACHE or some.witnesses.cleanings(), "nothing was compacted meanwhile"
    assert APACHE or some.direct_bytes, "everything went through the journal"


@pytest.mark.odradek_only
def test_what_was_acknowledged_or_shown_outlives_kill_9_in_the_second_store_too(kills):
    some = kills(SEED, **{"odradek.log.store": "sled"})
    kill_under_load(some, SECOND_STORE_ROUNDS)
    assert not list(some.broker.data.glob("*-[0-9]")), "records are in the database alone"


def test_the_witnesses_notice_whatever_is_not_as_they_remember_it(kills):
    witnesses = kills(SEED).witnesses
    witnesses.create_topics()
    witnesses.begin()
    witnesses.wait_for_all()
    first, second = witnesses.transactions
    wait_for("an aborted transaction", lambda: second.outcomes.get(3) == "aborted")
    assert witnesses.problems() == []
    # Each of them now remembers something that never was.
    witnesses.loads["one"].acknowledged[0][0] = 7
    witnesses.loads["all"].next += 3
    witnesses.reader.shown["idempotent", 1][0] = 7
    witnesses.committed.shown["transactions", 2][0] = b"first 0 7"
    first.outcomes[0], second.outcomes[3] = "aborted", "committed"
    key = next(iter(witnesses.keyed.latest[0]))
    witnesses.keyed.latest[0][key] = key, 7
    witnesses.commits.acknowledged += 1
    witnesses.topics.there["topic-never"] = True
    found = "\n".join(witnesses.problems(everything=True))
    for said in ("one-0: record 7 was acknowledged at 0", "all-2: lost",
                 "('idempotent', 1): 7 was shown at 0",
                 "('transactions', 2): b'first 0 7' was shown at 0",
                 "transaction first 0, aborted: [0, 1, 2, 3] are visible",
                 "transaction second 3, committed: [] are visible",
                 f"({key!r}, 7) was the last of {key!r}", "was acknowledged, there is",
                 "topic-never was made"):
        assert said in found, f"{said!r} is not in:\n{found[:5000]}"


@pytest.mark.odradek_only
def test_a_folder_of_one_store_is_refused_with_the_other(make_broker):
    broker = make_broker(properties={"odradek.log.store": "segments"}).start()
    broker.stop()
    broker.properties["odradek.log.store"] = "sled"
    broker.spawn()
    assert broker.process.wait(30) != 0
    assert "Set odradek.log.store=segments" in broker.log()
    broker.properties["odradek.log.store"] = "segments"
    broker.start()


@pytest.mark.odradek_only
def test_deleted_topics_stay_deleted_and_created_ones_stay_after_kill_9(make_broker):
    broker = make_broker().start()
    admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": broker.bootstrap})
    new = [confluent_kafka.admin.NewTopic(f"topic-{index}", 3, 1) for index in range(20)]
    for future in admin.create_topics(new).values():
        future.result(20)
    deleted = admin.delete_topics([f"topic-{index}" for index in range(0, 20, 2)])
    for future in deleted.values():
        future.result(20)
    broker.kill()
    broker.start()
    listed = [name for name in admin.list_topics(timeout=20).topics if name.startswith("topic-")]
    assert sorted(listed) == sorted(f"topic-{index}" for index in range(1, 20, 2))
    folders = [path.name for path in broker.data.rglob("topic-*") if path.is_dir()]
    assert not [name for name in folders if int(name.split("-")[1]) % 2 == 0], folders
