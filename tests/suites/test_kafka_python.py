"""kafka-python's own integration tests; Apache Kafka 4.3's outcomes are in results/foreign/."""

import os
from pathlib import Path

import pytest
from harness import foreign, kafka_python
from harness.broker import Broker

pytestmark = pytest.mark.needs("kafka_python", "kafka-4.3.0")

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
FOLDER = Path(os.environ.get("ODRADEK_TEST_KAFKA_PYTHON") or "/nowhere")
PASSED = foreign.Results(kafka_python.results_name(FULL, "classic")).passed("apache")
SOME = ""


def chosen():
    functions = sorted({test.split("[")[0] for test in PASSED})
    return [one for one in functions if FULL or one.split(":")[1] in SOME.split()]


@pytest.fixture(scope="module")
def broker(folders):
    with Broker(folder=folders(), properties=kafka_python.properties("default")) as broker:
        yield broker


@pytest.mark.parametrize("function", chosen())
def test_kafka_pythons_test_passes(broker, function):
    outcome = foreign.again_if_failed(lambda: kafka_python.run(FOLDER, broker, function))
    wrong = [f"{name} {what['state']}: {what['reason']}" for name, what in outcome.items()
             if name in PASSED and what["state"] != "passed"]
    assert not wrong, "; ".join(wrong)
