"""Runs the loads: every contestant in turn, so that what happens on the machine happens to all."""

import os
import platform
import shutil
import tempfile
import time
from pathlib import Path

from harness.provision import say

from . import measuring
from .contestants import Contestant
from .loads import LOADS


def run(options):
    """{"loads": {name: {contestant: [figures of a round]}}, and what there is to say of the run}"""
    base = Path(tempfile.mkdtemp(prefix="odradek-bench-", dir=options.data_dir))
    field = [Contestant(key, base / key) for key in options.only]
    results = {"run": about(options, base), "loads": {}}
    try:
        for contestant in field:
            contestant.start()
        for turn in range(options.rounds):
            for name in options.loads:
                # Nobody is always the first one, or always after the same other one.
                first = turn % len(field)
                for contestant in field[first:] + field[:first]:
                    begun = time.monotonic()
                    figures = LOADS[name].run(contestant, options.scale, base)
                    rounds = results["loads"].setdefault(name, {})
                    rounds.setdefault(contestant.key, []).append(figures)
                    say(f"round {turn + 1}: {name}: {contestant.key} in "
                        f"{time.monotonic() - begun:.0f} s: {shown(figures)}")
    finally:
        for contestant in field:
            contestant.stop()
        shutil.rmtree(base, ignore_errors=True)
    results["run"]["minutes"] = round((time.time() - results["run"]["began_s"]) / 60, 1)
    return results


def about(options, base):
    p50, p99 = measuring.flush_ms(base)
    with open("/proc/meminfo") as lines:
        memory = int(lines.readline().split()[1]) / (1 << 20)
    return {
        "began_s": int(time.time()), "date": time.strftime("%Y-%m-%d %H:%M"),
        "rounds": options.rounds, "scale": options.scale, "cores": os.cpu_count(),
        "memory GiB": round(memory, 1), "system": f"{platform.system()} {platform.release()}",
        "flush p50 ms": round(p50, 3), "flush p99 ms": round(p99, 3),
        "another folder": options.data_dir is not None,
    }


def shown(figures):
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
