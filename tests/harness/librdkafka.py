"""librdkafka's own test suite, as the crate rdkafka-sys carries it: fetched, built, run.

A slice is one number of the suite (`0011`) in a process of its own, so that a hang or a crash
costs one slice. Tests that need no broker test librdkafka alone and are left out. The suite's
summary says what became of each test; one that it does not name, its process having ended, failed.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from . import java, provision

VERSION = "2.12.1"
CRATE = "rdkafka-sys"
CRATE_VERSION = "4.10.0+2.12.1"
CRATE_SHA256 = "e234cf318915c1059d4921ef7f75616b5219b10b46e9f3a511a15eb4b56a3f77"
CONFIGURE = ["--disable-gssapi", "--disable-curl", "--disable-debug-symbols"]
DEBIAN = {
    "make": "make",
    "g++": "g++",
    "/usr/include/openssl/ssl.h": "libssl-dev",
    "/usr/include/zlib.h": "zlib1g-dev",
    "/usr/include/zstd.h": "libzstd-dev",
    "/usr/include/rapidjson/schema.h": "rapidjson-dev",
}
# The suite was written for three brokers, and for Kafka before 4.0: (file, what it says, instead).
PATCHES = [
    # Topics with three replicas, of which one broker can have one.
    ("test.c", "rd_kafka_NewTopic_new(topicname, partition_cnt, replication_factor,",
     "rd_kafka_NewTopic_new(topicname, partition_cnt, 1,"),
    # Segments of 10,000 bytes, where Kafka 4 wants a MiB at least; and so more to fill them with.
    ("0077-compaction.c", "--config segment.bytes=10000 ", "--config segment.bytes=1048576 "),
    ("0129-fetch_aborted_msgs.c", '"segment.bytes", "20000"', '"segment.bytes", "1048576"'),
    ("0077-compaction.c", "partition, fillcnt, 1000)", "partition, fillcnt, 60000)"),
    ("0077-compaction.c", "partition, 20, 1024)", "partition, 20, 60000)"),
]
# The scripts of a Kafka installation that tests call by $KAFKA_PATH.
SCRIPTS = {
    "kafka-topics.sh": "org.apache.kafka.tools.TopicCommand",
    "kafka-acls.sh": "org.apache.kafka.tools.AclCommand",
    "kafka-configs.sh": "kafka.admin.ConfigCommand",
    "kafka-run-class.sh": "",
}
# The suite's own limits hold for an idle machine; every wait of a test is stretched by this.
TIMEOUT_MULTIPLIER = 2
# A test that ends sooner has asked no broker anything, though the suite calls it passed.
IDLE_SECONDS_MAX = 0.002
SUMMARY = re.compile(r"^\|\s*(\d{4}_\w+)\s*\|\s*(\w+)\s*\|\s*([\d.]+)s\s*\|\s?(.*)$")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
# Flagged as if they asked a broker, and run against the client's own mock of one.
MOCK = {"0139_offset_validation_mock", "0150_telemetry_mock"}
STATES = {"PASSED": "passed", "FAILED": "failed", "SKIPPED": "skipped"}


def provide():
    """The folder with the built suite, and None or one sentence why it is not there."""
    key = provision.key_of(CRATE_VERSION, CRATE_SHA256, CONFIGURE, PATCHES)
    folder = provision.CACHE / f"librdkafka-{VERSION}-{key}"
    if (folder / "complete").exists():
        return folder, None
    provision.debian_packages(DEBIAN)
    for thing, package in DEBIAN.items():
        if not provision.there(thing):
            return folder, f"there is no {thing} (Debian package {package})"
    provision.say(f"librdkafka {VERSION} and its tests into {folder}")
    shutil.rmtree(folder, ignore_errors=True)
    problem = sources(folder) or build(folder)
    if problem is None:
        (folder / "complete").touch()
    return folder, problem


def sources(folder):
    """Asks cargo for the crate through a manifest that is thrown away, and checks its hash."""
    scratch = folder / "fetch"
    (scratch / "src").mkdir(parents=True)
    (scratch / "src" / "lib.rs").touch()
    (scratch / "Cargo.toml").write_text(
        '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[workspace]\n'
        f'[dependencies]\n{CRATE} = "={CRATE_VERSION.split("+")[0]}"\n'
    )
    problem = provision.attempt(
        ["cargo", "vendor", "-q", "--versioned-dirs", "vendor"], cwd=scratch)
    if problem:
        return problem
    crate = scratch / "vendor" / f"{CRATE}-{CRATE_VERSION}"
    checksum = crate / ".cargo-checksum.json"
    if not checksum.exists() or CRATE_SHA256 not in checksum.read_text():
        return f"cargo did not give {CRATE} {CRATE_VERSION} with sha256 {CRATE_SHA256}"
    (crate / "librdkafka").rename(folder / "librdkafka")
    shutil.rmtree(scratch)
    for name, said, instead in PATCHES:
        path = folder / "librdkafka" / "tests" / name
        text = path.read_text()
        if text.count(said) != 1:
            return f"{name} does not say once: {said}"
        path.write_text(text.replace(said, instead))
    return None


def build(folder):
    """Configures and compiles the library and the tests; two minutes of two cores."""
    steps = [
        ["./configure", *CONFIGURE],
        ["make", f"-j{os.cpu_count() or 1}", "libs"],
        ["make", f"-j{os.cpu_count() or 1}", "-C", "tests", "build"],
    ]
    for command in steps:
        done = subprocess.run(
            command, cwd=folder / "librdkafka", stdin=subprocess.DEVNULL, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        if done.returncode:
            (folder / "build.log").write_text(done.stdout)
            return f"{' '.join(command)} ended with {done.returncode}, see {folder}/build.log"
    return None


def performance():
    """librdkafka's rdkafka_performance, an example beside it, for the benchmark: the program, and
    None or one sentence why it is not there."""
    folder, problem = provide()
    program = folder / "librdkafka" / "examples" / "rdkafka_performance"
    if problem or program.exists():
        return program, problem
    done = subprocess.run(
        ["make", "-C", "examples", program.name], cwd=folder / "librdkafka",
        stdin=subprocess.DEVNULL, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode:
        last = " / ".join(done.stdout.strip().splitlines()[-3:])
        return program, f"make {program.name} ended with {done.returncode}: {last}"
    return program, None


def slices(folder):
    """{scenario: {number: [test]}} of the tests that talk to a broker, in the suite's order."""
    text = (folder / "librdkafka" / "tests" / "test.c").read_text()
    table = text[text.index("struct test tests[] = {"):]
    table = re.sub(r"/\*.*?\*/", "", table[:table.index("{NULL}};")], flags=re.S)
    found = {}
    for entry in table.split("_TEST(")[1:]:
        name, flags, rest = [part.strip() for part in (entry + ",,").split(",", 2)]
        left_out = {"TEST_F_LOCAL", "TEST_F_MANUAL", "TEST_F_KNOWN_ISSUE"}
        if name in MOCK or left_out & set(re.split(r"[ |)]+", flags)):
            continue
        named = re.search(r'\.scenario = "(\w+)', rest)
        scenario = named[1] if named else "default"
        found.setdefault(scenario, {}).setdefault(name[:4], []).append(name)
    return found


def results_name(full, protocol):
    return f"librdkafka-{'full' if full else 'quick'}-{protocol}"


def properties(scenario, _):
    """What the suite expects of a broker: README.md and scenarios/*.json of its tests folder."""
    return {
        "num.partitions": "4",
        "auto.create.topics.enable": "false" if scenario == "noautocreate" else "true",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }


def kafka_path(folder):
    """A folder like a Kafka installation, with the scripts that the tests call."""
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    if not (folder / "libs").exists():
        (folder / "libs").symlink_to(java.jars("4.3.0"))
    for name, main_class in SCRIPTS.items():
        command = java.java_command("4.3.0", main_class)
        command[command.index("-cp") + 1] = f"$CLASSPATH:{java.jars('4.3.0')}/*"
        words = " ".join(f'"{word}"' for word in command if word)
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        script.chmod(0o755)
    return folder


def run(folder, broker, number, scenario="default", full=False, protocol="classic", seconds=900):
    """Runs one slice; {test: {state, seconds, reason}}."""
    work = Path(tempfile.mkdtemp(prefix=f"librdkafka-{number}-"))
    try:
        return run_in(work, folder, broker, number, scenario, full, protocol, seconds)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def run_in(work, folder, broker, number, scenario, full, protocol, seconds):
    built = folder / "librdkafka"
    lay_out(work, built)
    cwd = work / "librdkafka" / "tests"
    (cwd / "test.conf").write_text(
        f"bootstrap.servers={broker.bootstrap}\n"
        f"test.timeout.multiplier={TIMEOUT_MULTIPLIER}\n"
        f"test.topic.prefix=rdk{work.name[-4:]}\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "CI"}
    environment |= {
        "LD_LIBRARY_PATH": f"{built / 'src'}:{built / 'src-cpp'}",
        "BROKERS": broker.bootstrap,
        "KAFKA_PATH": str(kafka_path(work / "kafka")),
        "TEST_KAFKA_VERSION": "4.3.0",
        "TEST_CONSUMER_GROUP_PROTOCOL": protocol,
        "TESTS": number,
    }
    # By lines, so that the summary is there when the suite ends itself by abort().
    command = ["stdbuf", "-oL", "./test-runner", "-p1", "-L", "-s", scenario]
    command += [] if full else ["-Q", "-E"]
    log = broker.folder / f"librdkafka-{number}.log"
    started = time.monotonic()
    with open(log, "wb") as said:
        try:
            ended = subprocess.run(
                command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=said,
                stderr=subprocess.STDOUT, timeout=seconds,
            ).returncode
        except subprocess.TimeoutExpired:
            ended = f"more than {seconds} s"
    said = read_summary(log.read_text(errors="replace").replace(f"{work}/", ""))
    lost = {"state": "failed", "seconds": round(time.monotonic() - started, 1),
            "reason": f"no summary; the process ended with {ended}"}
    outcome = {name: said.get(name, dict(lost)) for name in slices(folder)[scenario][number]}
    if ended != 0 and all(one["state"] != "failed" for one in outcome.values()):
        for one in outcome.values():
            one.update(state="failed", reason=f"the process ended with {ended}")
    return outcome


def lay_out(work, built):
    """A tests folder of its own for each process: the suite writes into the one it runs in."""
    for source, target in ((built, work / "librdkafka"),
                           (built / "tests", work / "librdkafka" / "tests")):
        target.mkdir()
        for entry in source.iterdir():
            if entry.name != "tests":
                (target / entry.name).symlink_to(entry)


def read_summary(text):
    """The lines of the table that the suite prints at its end."""
    outcome = {}
    for line in COLOUR.sub("", text).splitlines():
        found = SUMMARY.match(line)
        if found:
            name, state, seconds, reason = found.groups()
            state = STATES.get(state, "failed")
            if state == "passed" and float(seconds) < IDLE_SECONDS_MAX:
                state, reason = "skipped", "it returns at once in this mode"
            outcome[name] = {"state": state, "seconds": round(float(seconds), 1),
                             "reason": reason.strip()}
    return outcome
