"""The same requests to Apache Kafka 4.3 and to us, the answers compared field by field.

The cases are in ../differential/cases, the differences that are allowed, each with its reason, in
../differential/allowed.toml. An allowance that no longer occurs fails here.

`ODRADEK_TEST_TARGET=apache` compares Kafka with itself: what differs then is not compared rightly.
"""

import pytest

from differential import compare, pair
from differential.cases import ALL
from harness.broker import APACHE

pytestmark = pytest.mark.needs("kafka-4.3.0")

ALLOWANCES = compare.allowances()
RUN = set()
REQUESTS = {}


@pytest.fixture(scope="module")
def brokers(folders):
    """Kafka and us, started at the same time."""
    both = [pair.make(folders(), apache=True), pair.make(folders(), apache=APACHE)]
    try:
        for broker in both:
            broker.spawn()
        for broker in both:
            broker.wait_ready()
            pair.warm_up(broker)
        yield both
    finally:
        for broker in both:
            broker.stop()


@pytest.mark.parametrize("name", ALL)
def test_kafka_and_we_answer_alike(brokers, name):
    kafka, here = brokers
    theirs, broken = pair.run(kafka, name)
    assert broken is None, f"the case does not go with Kafka: {broken}\n{theirs[-1:]}"
    ours, stopped = pair.run(here, name)
    left = []
    for difference in compare.of_case(theirs, ours, stopped):
        allowed = [one for one in ALLOWANCES if one.allows(name, difference)]
        for one in allowed:
            one.used = True
        if not allowed:
            left.append(difference)
    RUN.add(name)
    REQUESTS[name] = len(theirs)
    assert not left, "\n" + "\n".join(map(str, left))


@pytest.mark.skipif(APACHE, reason="Apache Kafka does not differ from itself")
def test_every_allowance_still_occurs():
    dead = [
        f"{one.case} {one.at}: {one.reason}" for one in ALLOWANCES
        if not one.used and {name for name in ALL if one.of_case(name)} <= RUN
    ]
    assert not dead, "\n".join(dead)


def test_there_are_enough_requests():
    """The issue asks for 150; a case that is gone should be noticed."""
    if RUN == set(ALL):
        print(f"{sum(REQUESTS.values())} answers compared in {len(ALL)} cases")
        assert sum(REQUESTS.values()) >= 300
