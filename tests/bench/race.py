"""Runs the loads: every contestant in turn, so that what happens on the machine happens to all."""

import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from harness.provision import say

from . import measuring
from .contestants import Contestant
from .loads import LOADS


# Connections of one load, and what a server has open besides.
OPEN_FILES = 4096


def run(options, keep):
    """{"loads": {name: {contestant: [figures of a round]}}, and what there is to say of the run}.
    `keep` is given it after each load, so that a run that is ended was not in vain."""
    allow_open_files()
    base = Path(tempfile.mkdtemp(prefix="odradek-bench-", dir=options.data_dir))
    field = [Contestant(key, base / key) for key in options.only]
    results = {"run": about(options, base), "loads": {}, "failures": []}
    try:
        for contestant in field:
            contestant.start()
        for turn in range(options.rounds):
            for name in options.loads:
                # Nobody is always the first one, or always after the same other one.
                first = turn % len(field)
                for contestant in field[first:] + field[:first]:
                    one(results, name, contestant, options.scale, base)
                keep(results)
    finally:
        for contestant in field:
            contestant.stop()
        shutil.rmtree(base, ignore_errors=True)
    results["run"]["minutes"] = round((time.time() - results["run"]["began_s"]) / 60, 1)
    return results


def one(results, name, contestant, scale, base):
    """One load on one contestant. Where it fails the others are measured all the same."""
    begun = time.monotonic()
    try:
        figures = LOADS[name].run(contestant, scale, base)
    except (AssertionError, OSError, subprocess.SubprocessError) as problem:
        text = f"{name}: {contestant.key}: {type(problem).__name__}: {problem}"
        results["failures"].append(text)
        say(text)
        return
    results["loads"].setdefault(name, {}).setdefault(contestant.key, []).append(figures)
    say(f"{name}: {contestant.key} in {time.monotonic() - begun:.0f} s: {shown(figures)}")


def allow_open_files():
    """For this process and the servers that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < OPEN_FILES:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, hard), hard))


def about(options, base):
    p50, p99 = measuring.flush_ms(base)
    kernel = ".".join(platform.release().split(".")[:2])
    with open("/proc/meminfo") as lines:
        memory = int(lines.readline().split()[1]) / (1 << 20)
    return {
        "began_s": int(time.time()), "date": time.strftime("%Y-%m-%d %H:%M"),
        "rounds": options.rounds, "scale": options.scale, "cores": os.cpu_count(),
        "memory GiB": round(memory, 1), "system": f"{platform.system()} {kernel}",
        "flush p50 ms": round(p50, 3), "flush p99 ms": round(p99, 3),
        "another folder": options.data_dir is not None, "note": options.note,
    }


def shown(figures):
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
