"""Fixtures that every suite has; see ../README.md for how to add a suite."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness.broker import APACHE, Broker  # noqa: E402

MISSING = json.loads(os.environ.get("ODRADEK_TEST_MISSING") or "{}")


# What a machine allows or not; nothing that could be fetched would change it.
OF_THE_MACHINE = {"a network of its own"}


def need(*things):
    """Skips the test where something it needs could not be had; in CI that is a failure, if it
    could have been."""
    for thing in sorted(things, key=OF_THE_MACHINE.__contains__):
        if thing in MISSING:
            reason = f"needs {thing}: {MISSING[thing]}"
            if os.environ.get("CI") == "true" and thing not in OF_THE_MACHINE:
                pytest.fail(reason, pytrace=False)
            pytest.skip(reason)


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*things): what the test cannot run without")
    config.addinivalue_line("markers", "odradek_only: speaks more than Kafka's protocol")


def pytest_runtest_setup(item):
    for marker in item.iter_markers("needs"):
        need(*marker.args)
    if APACHE and item.get_closest_marker("odradek_only"):
        pytest.skip("Apache Kafka has no such thing")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        item.session.stash.setdefault(FAILED, set()).add(item.path.stem)
        made = item.funcargs.get("make_broker")
        brokers = list(made.brokers) if made else []
        brokers += [one for one in item.funcargs.values() if isinstance(one, Broker)]
        for broker in brokers:
            tail = "\n".join(broker.log().splitlines()[-40:])
            report.sections.append((f"end of {broker.log_path}, which is kept", tail))


FAILED = pytest.StashKey()


@pytest.fixture(scope="session")
def folders(request):
    """Makes data folders; they are removed at the end unless a test failed."""
    base = Path(tempfile.mkdtemp(prefix="odradek-tests-"))
    made = []

    def make():
        made.append(base / str(len(made)))
        made[-1].mkdir()
        return made[-1]

    yield make
    if not request.session.stash.get(FAILED, None):
        shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def make_broker(folders):
    """Makes brokers for one test: make_broker(properties={...}, pipeline="...")."""
    brokers = []

    def make(**options):
        brokers.append(Broker(folder=options.pop("folder", None) or folders(), **options))
        return brokers[-1]

    make.brokers = brokers
    yield make
    for broker in brokers:
        broker.stop()


@pytest.fixture(scope="module")
def module_broker(folders):
    """One plain broker for all tests of a file."""
    with Broker(folder=folders()) as broker:
        yield broker
