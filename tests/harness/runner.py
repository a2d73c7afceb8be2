"""What tests/run does: provide, build, run the Rust tests, run the suites, count."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as xml
from pathlib import Path

from . import fuzz, kafka_python, librdkafka, provision
from .provision import ROOT, TESTS, say

SUITES = TESTS / "suites"
SUITE_SECONDS_MAX = 900
# With --full: a soak takes an hour, and then some to read what it left.
FULL_SECONDS_MAX = 5400
# Of each fuzz target with --full; `tests/fuzz/run` alone takes ten minutes.
FUZZ_SECONDS = 60
# Suites that nobody here wrote; each brings its sources when it is to run.
FOREIGN = {"kafka_python": kafka_python, "librdkafka": librdkafka}


class Count:
    """Passed, failed and skipped tests, with a line for each that is not passed."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.lines = []

    def fail(self, line):
        self.failed += 1
        self.lines.append(f"FAILED  {line}")

    def skip(self, line):
        self.skipped += 1
        self.lines.append(f"skipped {line}")

    def close(self):
        for line in self.lines:
            print(line)
        if not self.passed and not self.failed:
            print("no test ran")
        print(f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped", flush=True)
        return 1 if self.failed or not self.passed else 0


def names():
    return ["rust"] + sorted(path.stem.removeprefix("test_") for path in SUITES.glob("test_*.py"))


def main(arguments):
    parser = argparse.ArgumentParser(prog="tests/run", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--full", action="store_true", help="the long rounds too")
    parser.add_argument("--no-build", action="store_true", help="do not build the binary")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("-k", dest="only", help="only tests that match (as pytest's -k)")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(names()))
        return 0
    unknown = set(options.names) - set(names())
    if unknown:
        parser.error(f"no such suite: {', '.join(sorted(unknown))}; there are {', '.join(names())}")
    # So that the fixtures' clean-up also runs when a supervisor ends us.
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    try:
        return run(options)
    except KeyboardInterrupt:
        print("\ninterrupted", flush=True)
        return 130


def run(options):
    started = time.monotonic()
    wanted = options.names or names()
    suites = [name for name in wanted if name != "rust"]
    provided = {}
    provider = threading.Thread(target=lambda: provided.update(provide(suites)), daemon=True)
    if suites:
        provider.start()
    count = Count()
    if suites and not options.no_build and not build(count):
        return count.close()
    if "rust" in wanted:
        rust_tests(count)
        if options.full:
            fuzzing(count)
    if suites:
        provider.join()
        if "error" in provided:
            count.fail(f"providing what the tests need: {provided['error']}")
            return count.close()
        run_suites(suites, options, provided, count)
        # Whoever names a suite wants that one alone; `tests/bench/run` is the benchmark by itself.
        whole = not options.names and not options.only
        if options.full and whole and "kafka-4.3.0" not in provided["missing"]:
            benchmark(provided, count)
    say(f"took {time.monotonic() - started:.0f} s")
    return count.close()


def provide(suites):
    try:
        environment, missing = provision.everything()
        for name in FOREIGN.keys() & set(suites):
            folder, why = FOREIGN[name].provide()
            environment[f"ODRADEK_TEST_{name.upper()}"] = str(folder)
            if why:
                missing[name] = why
        return {"environment": environment, "missing": missing}
    except Exception as error:  # a thread's exception would otherwise be lost
        return {"error": f"{type(error).__name__}: {error}"}


def target_folder():
    return Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")


def build(count):
    if os.environ.get("ODRADEK_BIN"):
        say(f"binary: {os.environ['ODRADEK_BIN']} (ODRADEK_BIN)")
        return True
    say("building the release binary")
    started = time.monotonic()
    command = ["cargo", "build", "--release", "-p", "odradek", "--locked"]
    if subprocess.run(command, cwd=ROOT).returncode:
        count.fail("cargo build --release")
        return False
    say(f"built in {time.monotonic() - started:.0f} s")
    return True


def rust_tests(count):
    """cargo test --workspace; its own lines are shown as they come, and counted."""
    say("cargo test --workspace")
    command = ["cargo", "test", "--workspace", "--locked", "--no-fail-fast"]
    counted = False
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if not re.match(r"test .* \.\.\. ok$", line):
                print(line, end="", flush=True)
            failed = re.match(r"test (.*) \.\.\. FAILED", line)
            if failed:
                count.fail(f"rust: {failed[1]}")
            ignored = re.match(r"test (.*) \.\.\. ignored(?:, (.*))?", line)
            if ignored:
                count.skip(f"rust: {ignored[1]}: {ignored[2] or 'ignored'}")
            summary = re.match(r"test result: \w+\. (\d+) passed", line)
            if summary:
                counted = True
                count.passed += int(summary[1])
        child.wait()
    if child.returncode and not (counted and count.failed):
        count.fail(f"rust: cargo test ended with {child.returncode}")


def fuzzing(count):
    """Each fuzz target for a while; the table goes to tests/results/."""
    why = fuzz.missing()
    if why:
        count.skip(f"fuzz: {why}")
        return
    results, problem = fuzz.run(fuzz.names(), FUZZ_SECONDS)
    if problem:
        count.fail(f"fuzz: {problem}")
        return
    table = "\n".join([fuzz.HEAD, *(result.row() for result in results)])
    print(table, flush=True)
    for result in results:
        if result.problem:
            count.fail(f"fuzz: {result.name}: {result.problem}")
        else:
            count.passed += 1
    folder = TESTS / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{time.strftime('%Y-%m-%d')}-fuzz.md").write_text(table + "\n")


def run_suites(suites, options, provided, count):
    missing = provided["missing"]
    if "clients" in missing:
        count.fail(f"the Python clients could not be installed: {missing['clients']}")
        return
    environment = {
        **os.environ,
        **provided["environment"],
        "ODRADEK_TEST_MISSING": json.dumps(missing),
        "ODRADEK_TEST_FULL": "1" if options.full else "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    environment.setdefault("ODRADEK_BIN", str(target_folder() / "release" / "odradek"))
    results = provision.CACHE / "results"
    results.mkdir(exist_ok=True)
    for index, name in enumerate(suites, 1):
        say(f"suite {index} of {len(suites)}: {name}")
        report = results / f"{os.getpid()}-{name}.xml"
        code = pytest(name, options, environment, report)
        collect(name, code, report, count)
        report.unlink(missing_ok=True)


def benchmark(provided, count):
    """The last part of a long run of everything; its tables go to tests/results/bench/."""
    say("benchmark against Apache Kafka")
    environment = {**os.environ, **provided["environment"]}
    environment.setdefault("ODRADEK_BIN", str(target_folder() / "release" / "odradek"))
    done = subprocess.run(
        [environment["ODRADEK_TEST_PYTHON"], str(TESTS / "bench" / "run")], env=environment,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode:
        count.fail(f"bench: ended with {done.returncode}")
        return
    results = TESTS / "results"
    results.mkdir(exist_ok=True)
    lines = [f"{count.passed} passed, {count.failed} failed, {count.skipped} skipped", *count.lines]
    (results / f"{time.strftime('%Y-%m-%d')}.md").write_text("\n".join(lines) + "\n")


def pytest(name, options, environment, report):
    command = [
        environment["ODRADEK_TEST_PYTHON"], "-m", "pytest", "-v", "--tb=short", "-rN",
        "--no-header", "-W", "ignore::DeprecationWarning", "-p", "no:cacheprovider",
        "-p", "no:logging", "--durations=5",
        f"--junitxml={report}", f"--rootdir={TESTS}", str(SUITES / f"test_{name}.py"),
    ]
    if options.only:
        command += ["-k", options.only]
    child = subprocess.Popen(command, cwd=TESTS, env=environment, stdin=subprocess.DEVNULL)
    limit = FULL_SECONDS_MAX if options.full else SUITE_SECONDS_MAX
    try:
        return child.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        print(f"suite {name} took longer than {limit} s and is ended", flush=True)
        child.send_signal(signal.SIGINT)
        end(child)
        return "took too long"
    except KeyboardInterrupt:
        end(child)  # Ctrl-C reached it, too
        raise


def end(child):
    """Lets pytest take its servers down; they also end with it (PR_SET_PDEATHSIG)."""
    try:
        child.wait(timeout=30)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def collect(name, code, report, count):
    failed_before = count.failed
    try:
        cases = list(xml.parse(report).getroot().iter("testcase"))
    except (OSError, xml.ParseError):
        cases = []
    for case in cases:
        title = f"{name}: {case.get('name')}"
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            first = (bad.get("message") or "").strip().splitlines()
            count.fail(f"{title}: {first[0][:300] if first else ''}")
        elif skipped is not None:
            count.skip(f"{title}: {skipped.get('message')}")
        else:
            count.passed += 1
    # pytest's 5 is "nothing collected", which -k may well mean.
    if code not in (0, 5) and count.failed == failed_before:
        count.fail(f"{name}: pytest ended with {code}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
