"""Runs the fuzz targets of tests/fuzz: builds them, watches libFuzzer, keeps what it found.

A corpus is kept as one file, corpus/TARGET.bin: each input is its length (32 bits, big-endian) and
its bytes. For a run it is unpacked into the cache folder, where the fuzzer adds to it.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .provision import CACHE, TESTS, say
from .tools import tool

FUZZ = TESTS / "fuzz"
CORPUS = FUZZ / "corpus"
REGRESSIONS = FUZZ / "regressions"
WORK = CACHE / "fuzz"
SECONDS = 600
INPUT_BYTES_MAX = 16 * 1024
# Of a kept corpus: what is replayed by every `cargo test`, and stays in the repository for ever.
KEPT_INPUTS_MAX = 2_000
KEPT_BYTES_MAX = 300 * 1024
# One input takes microseconds; passwords are derived in milliseconds.
INPUT_SECONDS_MAX = 10
MEMORY_MIB_MAX = 2048
STATUS_SECONDS = 30


class Result:
    """What a target's run came to."""

    def __init__(self, name):
        self.name = name
        self.seconds = self.executions = self.coverage = self.corpus = 0
        self.crashes = []
        self.problem = None

    def row(self):
        rate = self.executions // max(self.seconds, 1)
        crashes = ", ".join(path.name for path in self.crashes) or self.problem or "none"
        return (
            f"| {self.name} | {self.seconds} | {self.executions:,} | {rate:,} | {self.coverage:,} "
            f"| {self.corpus:,} | {crashes} |"
        )


HEAD = (
    "| target | seconds | executions | a second | edges | corpus | crashes |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | --- |"
)


def names():
    return sorted(path.stem for path in (FUZZ / "libfuzzer" / "fuzz_targets").glob("*.rs"))


def missing():
    """None, or one sentence why nothing can be fuzzed on this machine."""
    if not shutil.which("c++"):
        return "there is no C++ compiler"
    if not shutil.which("rustup") or subprocess.run(
            ["rustup", "run", "nightly", "rustc", "--version"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        return "there is no nightly compiler (rustup toolchain install nightly)"
    return tool("cargo-fuzz")[1]


def build(targets):
    """None, or why there is no fuzzer."""
    problem = missing()
    if problem:
        return problem
    program, _ = tool("cargo-fuzz")
    environment = {
        **os.environ, "RUSTUP_TOOLCHAIN": "nightly",
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
    }
    environment.pop("CARGO_TARGET_DIR", None)
    say("building the fuzz targets (nightly, address sanitizer)")
    for target in targets:
        done = subprocess.run(
            [str(program), "fuzz", "build", "--fuzz-dir", str(FUZZ / "libfuzzer"),
             "--target-dir", str(WORK / "target"), target],
            cwd=FUZZ / "libfuzzer", env=environment,
        )
        if done.returncode:
            return f"the target {target} does not build"
    return None


def binary(target):
    return next((WORK / "target").glob(f"*/release/{target}"))


def unpack(packed):
    """The inputs of a kept corpus."""
    data, at, inputs = packed.read_bytes() if packed.exists() else b"", 0, []
    while at < len(data):
        size = int.from_bytes(data[at:at + 4], "big")
        inputs.append(data[at + 4:at + 4 + size])
        at += 4 + size
    return inputs


def spread(target):
    """The working corpus: what is kept, what earlier runs found, and what once failed."""
    folder = WORK / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    failed = [path.read_bytes() for path in sorted((REGRESSIONS / target).glob("*"))]
    for one in unpack(CORPUS / f"{target}.bin") + failed:
        (folder / hashlib.sha1(one).hexdigest()).write_bytes(one)
    return folder


def fuzz(target, seconds):
    """One target for that long, with a line of progress now and then."""
    result = Result(target)
    artifacts = WORK / "artifacts" / target
    artifacts.mkdir(parents=True, exist_ok=True)
    before = set(artifacts.iterdir())
    command = [
        str(binary(target)), str(spread(target)), f"-max_total_time={seconds}",
        f"-max_len={INPUT_BYTES_MAX}", f"-timeout={INPUT_SECONDS_MAX}",
        f"-rss_limit_mb={MEMORY_MIB_MAX}", f"-artifact_prefix={artifacts}/",
        "-print_final_stats=1",
    ]
    started = shown = time.monotonic()
    said = []
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
        stdin=subprocess.DEVNULL, cwd=WORK,
    ) as child:
        for line in child.stderr:
            said = [*said[-60:], line]
            pulse = re.match(r"#(\d+)\s.*cov: (\d+) .*corp: (\d+)/", line)
            if pulse:
                executions, result.coverage, result.corpus = map(int, pulse.groups())
                result.executions = max(result.executions, executions)
            final = re.match(r"stat::number_of_executed_units:\s+(\d+)", line)
            if final:
                result.executions = int(final[1])
            if sys.stdout.isatty() or time.monotonic() - shown >= STATUS_SECONDS:
                shown = time.monotonic()
                progress(result, shown - started, seconds)
    if sys.stdout.isatty():
        print()
    result.seconds = round(time.monotonic() - started)
    result.crashes = sorted(set(artifacts.iterdir()) - before)
    if child.returncode or result.crashes:
        print("".join(said))
        result.problem = f"ended with {child.returncode}"
    return result


def progress(result, passed, seconds):
    line = (
        f"  {result.name}: {passed:4.0f} of {seconds} s, {result.executions:,} executions, "
        f"{result.coverage:,} edges, {result.corpus:,} inputs"
    )
    if sys.stdout.isatty():
        print(f"\r{line}", end="", flush=True)
    else:
        print(line, flush=True)


def keep(target):
    """Minimises the working corpus into the one that is kept: small inputs first, to the bounds."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [str(binary(target)), "-merge=1", f"-max_len={INPUT_BYTES_MAX}", folder,
             str(spread(target))],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        inputs = sorted((path.read_bytes() for path in Path(folder).iterdir()),
                        key=lambda one: (len(one), one))
    packed, count = b"", 0
    for one in inputs[::len(inputs) // KEPT_INPUTS_MAX + 1]:
        if len(packed) + 4 + len(one) > KEPT_BYTES_MAX:
            break
        packed += len(one).to_bytes(4, "big") + one
        count += 1
    CORPUS.mkdir(exist_ok=True)
    (CORPUS / f"{target}.bin").write_bytes(packed)
    say(f"{target}: kept {count} of {len(inputs)} inputs, {len(packed):,} bytes")


def forget(target):
    """Begins again from what is kept."""
    shutil.rmtree(WORK / "corpus" / target, ignore_errors=True)


def run(targets, seconds):
    """Each target for that long; the table's rows, and whether all went well."""
    problem = build(targets)
    if problem:
        return [], problem
    results = []
    for target in targets:
        say(f"fuzzing {target} for {seconds} s")
        results.append(fuzz(target, seconds))
        print(HEAD.splitlines()[0] + "\n" + results[-1].row(), flush=True)
    return results, None
