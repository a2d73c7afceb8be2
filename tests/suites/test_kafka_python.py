"""kafka-python's own integration tests; Apache Kafka 4.3's outcomes are in results/foreign/."""

import os
from pathlib import Path

import pytest
from harness import foreign, kafka_python
from harness.broker import Broker

pytestmark = pytest.mark.needs("kafka_python", "kafka-4.3.0")

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
FOLDER = Path(os.environ.get("ODRADEK_TEST_KAFKA_PYTHON") or "/nowhere")
KEPT = foreign.Results(kafka_python.results_name(FULL, "classic"))
PASSED = KEPT.passed("apache")
SOME = (
    "test_create_describe_delete_acls test_create_partitions test_delete_records_with_errors"
    " test_describe_configs_broker_resource_returns_configs test_describe_group_exists"
    " test_describe_topic_partitions_pagination test_end_to_end test_group"
    " test_idempotent_producer_max_in_flight test_kafka_consumer__offset_commit_resume"
    " test_kafka_consumer_offsets_for_time test_list_config_resources"
    " test_transactional_producer_messages test_transactional_producer_offsets"
    " test_produce_and_consume test_ssl_handshake"
)


def chosen():
    functions = sorted({test.split("[")[0] for test in PASSED})
    ours = {test.split("[")[0] for test in KEPT.passed("odradek")}
    return [one for one in functions
            if FULL or one in ours and one.split(":")[1] in SOME.split()]


@pytest.fixture(scope="module")
def broker(folders):
    folder = folders()
    properties = kafka_python.properties("default", folder)
    with Broker(folder=folder, properties=properties) as broker:
        yield broker


@pytest.mark.parametrize("function", chosen())
def test_kafka_pythons_test_passes(broker, function):
    outcome = foreign.again_if_failed(lambda: kafka_python.run(FOLDER, broker, function))
    wrong = [f"{name} {what['state']}: {what['reason']}" for name, what in outcome.items()
             if name in PASSED and what["state"] != "passed"]
    assert not wrong, "; ".join(wrong)
