"""librdkafka's own tests; what Apache Kafka 4.3 makes of each is kept in results/foreign/.

Without --full these are a few of different areas, in quick mode; with --full every one that passes
against Apache Kafka, in full mode. `tests/foreign/run` does the same by hand.
"""

import os
from pathlib import Path

import pytest
from harness import foreign, librdkafka
from harness.broker import Broker

pytestmark = pytest.mark.needs("librdkafka", "kafka-4.3.0")

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
FOLDER = Path(os.environ.get("ODRADEK_TEST_LIBRDKAFKA") or "/nowhere")
PROTOCOLS = ("classic", "consumer")
SOME = {
    "classic": "0011 0017",
    "consumer": "",
}


def chosen():
    """(scenario, protocol, number) of what to run, ordered so that a scenario needs one broker."""
    found = []
    for protocol in PROTOCOLS if (FOLDER / "complete").exists() else ():
        passed = foreign.Results(librdkafka.results_name(FULL, protocol)).passed("apache")
        for scenario, slices in librdkafka.slices(FOLDER).items():
            for number, tests in slices.items():
                if passed & set(tests) and (FULL or number in SOME[protocol].split()):
                    found.append((scenario, protocol, number))
    return sorted(found)


@pytest.fixture(scope="module")
def broker_of(folders):
    """A broker for each scenario, started when the first of its tests asks for it."""
    brokers = {}

    def of(scenario):
        if scenario not in brokers:
            properties = librdkafka.properties(scenario)
            brokers[scenario] = Broker(folder=folders(), properties=properties).start()
        return brokers[scenario]

    yield of
    for broker in brokers.values():
        broker.stop()


@pytest.mark.parametrize("scenario, protocol, number", chosen())
def test_librdkafkas_test_passes(broker_of, scenario, protocol, number):
    broker = broker_of(scenario)
    passed = foreign.Results(librdkafka.results_name(FULL, protocol)).passed("apache")
    outcome = foreign.again_if_failed(
        lambda: librdkafka.run(FOLDER, broker, number, scenario, FULL, protocol))
    wrong = [f"{name} {what['state']}: {what['reason']}" for name, what in outcome.items()
             if name in passed and what["state"] != "passed"]
    assert not wrong, "; ".join(wrong) + f" ({broker.folder}/librdkafka-{number}.log)"
