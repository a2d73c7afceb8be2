"""kafka-python's own integration tests, as its source archive carries them: fetched, run.

A slice is one test function, in a process of its own. The archive lacks `test/service.py`, the
class that starts brokers from a Kafka installation; ours knows brokers that run already, which is
all that `KAFKA_URI` needs. The modules of SASL and SSL refuse that variable: for them a plugin
gives their tests the listener that they ask for.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

from . import certificates, java, provision
from .broker import free_port

PACKAGE = "kafka-python"
VERSION = "3.0.12"
SHA256 = "4ccda3616b9aa5c353d74a97f2770d6cd1b950890d77ab0e8890e09a48eeed65"
MODULES = ("admin", "consumer", "producer", "sasl", "ssl")
# These want listeners of their own kind.
SECURED = ("sasl", "ssl")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
USER, PASSWORD = "alice", "alice-secret"
REQUIREMENTS = provision.TESTS / "requirements-foreign.txt"
TEST_SECONDS_MAX = 120
# Lines that are changed for both targets: (file, what it says, what it says instead).
PATCHES = [
    # kafka-python's set_topics forgets a subscription if it comes while the first request for
    # metadata is under way, as a comment of its own there says, and then asks no more for five
    # minutes. So the first one is waited for.
    ("test_producer_integration.py",
     "        consumer.subscribe([topic])\n        received = set()\n",
     "        consumer.topics()\n        consumer.subscribe([topic])\n        received = set()\n"),
]
SERVICE = '''"""In place of the file that the source archive leaves out."""


class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def stop(self):
        pass

    def dump_logs(self):
        pass


class SpawnedService:
    def __init__(self, *_):
        raise RuntimeError("this copy of the tests starts no broker")
'''
PLUGIN = '''"""For the tests that would start a broker of their own: a listener of one that runs."""

import os

from kafka import KafkaAdminClient

from test.integration.fixtures import KafkaFixture, client_params


def instance(broker_id, transport="PLAINTEXT", sasl_mechanism=None, **_):
    port = int(os.environ[f"PORT_OF_{transport}"])
    fixture = KafkaFixture("localhost", port, broker_id, transport=transport, partitions=4,
                           sasl_mechanism=sasl_mechanism, external=True)
    fixture.ssl_dir = os.environ["FOLDER_OF_CERTIFICATES"]
    return fixture


def get_topic_names(self):
    with KafkaAdminClient(**client_params(self)) as admin:
        return [topic["name"] for topic in admin.describe_topics()]


KafkaFixture.instance = staticmethod(instance)
KafkaFixture.start = lambda self: True
KafkaFixture.get_topic_names = get_topic_names
'''


def provide():
    """The folder with the tests, and None or one sentence why it is not there."""
    key = provision.key_of(VERSION, SHA256, SERVICE, PLUGIN, PATCHES)
    folder = provision.CACHE / f"kafka-python-{VERSION}-{key}"
    _, problem = provision.venv("foreign", REQUIREMENTS)
    if problem or (folder / "complete").exists():
        return folder, problem
    provision.say(f"kafka-python {VERSION} and its tests into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    problem = provision.attempt(
        [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps",
         "--no-binary", PACKAGE, "-d", str(folder), f"{PACKAGE}=={VERSION}"]
    )
    if problem:
        return folder, problem
    archive = next(folder.glob("*.tar.gz"))
    if provision.digest(archive) != SHA256:
        return folder, f"{archive.name} has sha256 {provision.digest(archive)}, not {SHA256}"
    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter="data")
    tests = sources(folder) / "test"
    # The standard library has a package of this name, which would win over a folder without this.
    (tests / "__init__.py").touch()
    (tests / "service.py").write_text(SERVICE)
    (tests / "running_broker.py").write_text(PLUGIN)
    for name, said, instead in PATCHES:
        path = tests / "integration" / name
        text = path.read_text()
        if text.count(said) != 1:
            return folder, f"{name} does not say once: {said}"
        path.write_text(text.replace(said, instead))
    (folder / "complete").touch()
    return folder, None


def sources(folder):
    return next(path for path in folder.iterdir() if path.is_dir())


def source(folder, module):
    return sources(folder) / "test" / "integration" / f"test_{module}_integration.py"


def node(folder, module, function):
    """As pytest names it: some functions are in a class."""
    path = source(folder, module)
    before, indent = re.split(rf"^( *)def {function}\(", path.read_text(), flags=re.M)[:2]
    owner = re.findall(r"^class (\w+)", before, re.M)[-1:] if indent else []
    return "::".join([str(path.relative_to(sources(folder))), *owner, function])


def slices(folder):
    """{scenario: {function: [test]}}; which parameters a function has, its report will tell."""
    found = {}
    for module in MODULES:
        text = source(folder, module).read_text()
        for name in re.findall(r"^ *def (test_\w+)", text, re.M):
            found[f"{module}:{name}"] = [f"{module}:{name}"]
    return {"default": found}


def results_name(full, protocol):
    return "kafka-python"


def properties(scenario, folder):
    """What the tests suppose: node 0, an address that is written down, sessions of 3 seconds, a
    user alice, and a certificate of the authority `ca-cert`."""
    protocols = ("PLAINTEXT", "SASL_PLAINTEXT", "SSL")
    addresses = ",".join(f"{protocol}://127.0.0.1:{free_port()}" for protocol in protocols)
    folder.mkdir(parents=True, exist_ok=True)
    certificates.authority(folder, "ca").rename(folder / "ca-cert")
    (folder / "ca.pem").symlink_to("ca-cert")
    modules = "org.apache.kafka.common.security"
    logins = {
        "plain": f'{modules}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";',
        "scram-sha-256": f"{modules}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{modules}.scram.ScramLoginModule required;",
    }
    return {
        **{f"listener.name.sasl_plaintext.{name}.sasl.jaas.config": line
           for name, line in logins.items()},
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.server(folder, "ca")),
        "node.id": "0",
        "listeners": addresses,
        "advertised.listeners": addresses,
        "num.partitions": "4",
        "group.min.session.timeout.ms": "1000",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }


def run(folder, broker, name, scenario="default", full=False, protocol="classic"):
    """Runs one slice; {test: {state, seconds, reason}}."""
    work = Path(tempfile.mkdtemp(prefix="kafka-python-"))
    try:
        return run_in(work, folder, broker, name)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def add_user(broker):
    """Kafka wants SCRAM's credentials beside the line for PLAIN; here that line is enough."""
    for name in MECHANISMS[1:]:
        java.tool("4.3.0", "configs", "--bootstrap-server", broker.bootstrap, "--alter",
                  "--entity-type", "users", "--entity-name", USER,
                  "--add-config", f"{name}=[password={PASSWORD}]")


def run_in(work, folder, broker, name):
    module, function = name.split(":")
    if module == "sasl" and broker.apache:
        add_user(broker)
    python, _ = provision.venv("foreign", REQUIREMENTS)
    report = work / "report.xml"
    command = [
        str(python), "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider",
        f"--timeout={TEST_SECONDS_MAX}", "--timeout-method=signal", f"--junitxml={report}",
        "-W", "ignore::DeprecationWarning",
        "-p", "test.running_broker", node(folder, module, function),
    ]
    environment = {
        **os.environ,
        "KAFKA_URI": f"kafka://{broker.bootstrap}",
        # A test compares it with what the client makes of ApiVersions; ours are Kafka 4.1's.
        "KAFKA_VERSION": "4.3.0" if broker.apache else "4.1.0",
        "KAFKA_ROOT": str(work),
        "PYTHONDONTWRITEBYTECODE": "1",
        "FOLDER_OF_CERTIFICATES": str(broker.folder),
    }
    for listener in broker.properties["listeners"].split(","):
        protocol, address = listener.split("://")
        environment[f"PORT_OF_{protocol}"] = address.rsplit(":", 1)[1]
    if module in SECURED:
        del environment["KAFKA_URI"]
    with open(broker.folder / f"kafka-python-{module}-{function}.log", "wb") as said:
        try:
            ended = subprocess.run(
                command, cwd=sources(folder), env=environment, stdin=subprocess.DEVNULL,
                stdout=said, stderr=subprocess.STDOUT, timeout=10 * TEST_SECONDS_MAX,
            ).returncode
        except subprocess.TimeoutExpired:
            ended = f"more than {10 * TEST_SECONDS_MAX} s"
    outcome = read_report(report, module)
    if not outcome:
        outcome[name] = {"state": "failed", "seconds": 0,
                         "reason": f"no report; the process ended with {ended}"}
    return outcome


def read_report(report, module):
    outcome = {}
    if not report.exists():
        return outcome
    for case in xml.parse(report).getroot().iter("testcase"):
        state, reason = "passed", ""
        for tag, meaning in (("skipped", "skipped"), ("failure", "failed"), ("error", "failed")):
            found = case.find(tag)
            if found is not None:
                state = meaning
                reason = " ".join((found.get("message") or "").split())[:300]
        outcome[f"{module}:{case.get('name')}"] = {
            "state": state, "seconds": round(float(case.get("time")), 1), "reason": reason,
        }
    return outcome
