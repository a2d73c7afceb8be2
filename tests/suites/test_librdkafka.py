"""librdkafka's own tests; what Apache Kafka 4.3 makes of each is kept in results/foreign/.

Without --full these are a few of different areas, in quick mode, that both columns there say pass;
with --full every one that passes against Apache Kafka. `tests/foreign/run` does the same by hand.
"""

import itertools
import os
from pathlib import Path

import pytest
from harness import foreign, librdkafka
from harness.broker import Broker

pytestmark = pytest.mark.needs("librdkafka", "kafka-4.3.0")

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
FOLDER = Path(os.environ.get("ODRADEK_TEST_LIBRDKAFKA") or "/nowhere")
PROTOCOLS = ("classic", "consumer")
# order, acknowledgements, refused records, commits, offsets, versions, names, headers, idempotence,
# metadata of commits, access rules, rebalances, stored offsets, transactions
SOME = {
    "classic":
        "0005 0008 0011 0012 0017 0030 0031 0035 0054 0057 0073 0085 0090 0099 0103 0113 0115 0118"
        " 0130 0140 0153",
    # What depends on the protocol of groups.
    "consumer": "0030 0099 0113 0118 0130 0140 0153",
}


def kept(full, protocol):
    return foreign.Results(librdkafka.results_name(full, protocol))


def chosen():
    """(scenario, protocol, full, number) of what to run, so that a scenario needs one broker."""
    found = []
    if not (FOLDER / "complete").exists():
        return found
    for full, protocol in itertools.product((False, True) if FULL else (False,), PROTOCOLS):
        results = kept(full, protocol)
        passed = results.passed("apache")
        if not FULL:
            passed &= results.passed("odradek")
        for scenario, slices in librdkafka.slices(FOLDER).items():
            for number, tests in slices.items():
                if passed & set(tests) and (FULL or number in SOME[protocol].split()):
                    found.append((scenario, protocol, full, number))
    return sorted(found)


@pytest.fixture(scope="module")
def broker_of(folders):
    """A broker for each scenario, started when the first of its tests asks for it."""
    brokers = {}

    def of(scenario):
        if scenario not in brokers:
            folder = folders()
            properties = librdkafka.properties(scenario, folder)
            brokers[scenario] = Broker(folder=folder, properties=properties).start()
        return brokers[scenario]

    yield of
    for broker in brokers.values():
        broker.stop()


@pytest.mark.parametrize("scenario, protocol, full, number", chosen())
def test_librdkafkas_test_passes(broker_of, scenario, protocol, full, number):
    broker = broker_of(scenario)
    passed = kept(full, protocol).passed("apache")
    outcome = foreign.again_if_failed(
        lambda: librdkafka.run(FOLDER, broker, number, scenario, full, protocol))
    wrong = [f"{name} {what['state']}: {what['reason']}" for name, what in outcome.items()
             if name in passed and what["state"] != "passed"]
    assert not wrong, "; ".join(wrong) + f" ({broker.folder}/librdkafka-{number}.log)"
