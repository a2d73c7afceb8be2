"""Runs the loads: every contestant in turn, so that what happens on the machine happens to all.

A JIT compiles what has run for a while, so a server's first runs cost it more than its later ones.
With `--warm` each load begins with servers that are started anew; each is given the load unmeasured
until that costs it no less than before, and then they are measured in turn. The unmeasured runs are
kept, too: the first of them is what a cold server does.
"""

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
# Warm is who twice in a row saved less than this share; nobody is tried for ever.
SAVED_SHARE, WARM_UPS_MAX = 0.05, 8


def run(options, keep):
    """{"loads": {name: {contestant: [figures of a round]}}, and what there is to say of the run}.
    `keep` is given it after each load, so that a run that is ended was not in vain."""
    allow_open_files()
    base = Path(tempfile.mkdtemp(prefix="odradek-bench-", dir=options.data_dir))
    field = [Contestant(key, base / key, options.flush_ms) for key in options.only]
    results = {"run": about(options, base), "loads": {}, "warming": {}, "failures": []}
    try:
        if not options.warm:
            for contestant in field:
                contestant.start()
        for name, turn in order(options):
            takers = [one for one in field if one.takes(LOADS[name])]
            if options.warm and turn == 0:
                for contestant in takers:
                    contestant.start_anew()
                    warm_up(results, name, contestant, options.scale, base)
            # Nobody is always the first one, or always after the same other one.
            first = turn % max(len(takers), 1)
            for contestant in takers[first:] + takers[:first]:
                one(results, "loads", name, contestant, options.scale, base)
            keep(results)
    finally:
        for contestant in field:
            contestant.stop()
        shutil.rmtree(base, ignore_errors=True)
    results["run"]["minutes"] = round((time.time() - results["run"]["began_s"]) / 60, 1)
    return results


def order(options):
    """(load, turn): all loads before the next turn, so that an hour's weather is no load's own; but
    whoever was warmed for a load has all its turns first."""
    turns = range(options.rounds)
    if options.warm:
        return [(name, turn) for name in options.loads for turn in turns]
    return [(name, turn) for turn in turns for name in options.loads]


def warm_up(results, name, contestant, scale, base):
    """The load as it will be measured, until the contestant is warm."""
    cost, costs = LOADS[name].cost, []
    while cost and len(costs) < WARM_UPS_MAX and not is_warm(costs):
        figures = one(results, "warming", name, contestant, scale, base)
        if figures is None:
            return
        costs.append(figures[cost])


def is_warm(costs):
    """By what each run so far has cost the server. Not by rates, which the machine's other work
    moves more, and a client that is the limit hides."""
    if len(costs) < 3:
        return False
    return min(costs[-2:]) > (1 - SAVED_SHARE) * min(costs[:-2])


def one(results, part, name, contestant, scale, base):
    """One load on one contestant, its figures kept and given back; None where it failed, and the
    others are measured all the same."""
    begun = time.monotonic()
    try:
        figures = LOADS[name].run(contestant, scale, base)
    except (AssertionError, OSError, subprocess.SubprocessError) as problem:
        text = f"{name}: {contestant.key}: {type(problem).__name__}: {problem}"
        results["failures"].append(text)
        say(text)
        return None
    results[part].setdefault(name, {}).setdefault(contestant.key, []).append(figures)
    unmeasured = ", unmeasured" if part == "warming" else ""
    say(f"{name}: {contestant.key} in {time.monotonic() - begun:.0f} s{unmeasured}: "
        f"{shown(figures)}")
    return figures


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
        "rounds": options.rounds, "scale": options.scale, "warm": options.warm,
        "slow flush ms": options.flush_ms,
        "cores": os.cpu_count(),
        "memory GiB": round(memory, 1), "system": f"{platform.system()} {kernel}",
        "flush p50 ms": round(p50, 3), "flush p99 ms": round(p99, 3),
        "another folder": options.data_dir is not None, "note": options.note,
    }


def shown(figures):
    return ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
