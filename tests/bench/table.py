"""The results as Markdown, for people, and as JSON, for the next comparison."""

import json
import statistics

from . import floors
from .contestants import TITLES
from .loads import LOADS
from .race import SAVED_SHARE, WARM_UPS_MAX

# The worst of all rounds, not the one in the middle.
WORST = {"peak memory MiB"}


def medians(rounds):
    """{contestant: {figure: value over all rounds}}"""
    found = {}
    for key, measured in rounds.items():
        names = list(dict.fromkeys(name for one in measured for name in one))
        found[key] = {
            name: (max if name in WORST else statistics.median)(
                [one[name] for one in measured if name in one])
            for name in names
        }
    return found


def markdown(results):
    run = results["run"]
    text = [f"# Benchmark of {run['date']}", "", *introduction(run), "", *summary(results)]
    text += [f"\n**Failed**: {one.splitlines()[0]}" for one in results["failures"]]
    for name, rounds in results["loads"].items():
        text += ["", f"## {name}", "", f"{LOADS[name].what}.", "", *of_load(medians(rounds))]
        text += warming_up(LOADS[name].cost, results["warming"].get(name, {}))
    return "\n".join(text) + "\n"


def introduction(run):
    rounds = "one round" if run["rounds"] == 1 else f"the median of {run['rounds']} rounds"
    lines = [
        f"Clients and servers on one machine with {run['cores']} cores and {run['memory GiB']} GiB "
        f"({run['system']}); {rounds}, the contestants in turn; acks=all. One flush of its disk "
        f"takes {run['flush p50 ms']:.2f} ms (p99 {run['flush p99 ms']:.2f} ms). MB are 10^6 bytes "
        "of values, latencies are the clients' own, `written x` is bytes written to the disk for a "
        "byte of value. Odradek and Kafka with flush.messages=1 answer when a record is on the "
        "disk, Kafka by itself when it is in the page cache. Odradek's bounds of connections "
        "(1,000, of one address 500) are raised to 2,000. The clients' processor time has in it "
        "that of their own start.",
    ]
    if run["warm"]:
        lines += [
            "", "**Warm servers**: each load began with servers that were started anew on an empty "
            "folder. Each was given the load, as large as when measured, until two runs in a row "
            f"had not cost it {SAVED_SHARE:.0%} less processor time than the cheapest before them, "
            f"{WARM_UPS_MAX} times at most; then they were measured in turn. `cold` is the first "
            "of those runs. `connections` and `start` have none."]
    if run["slow flush ms"]:
        lines += [
            "", f"**A slow flush**: each sync of a server took {run['slow flush ms']} ms more, or "
            "up to twice that where it had to wait for another's to end. One goes on at a time, "
            "and all who wait for the next share it."]
    if run["scale"] != 1:
        lines += ["", f"The loads had {run['scale']:g} times their records."]
    if run["another folder"]:
        lines += ["", "The data lay in a folder that was given by --data-dir."]
    if run["note"]:
        lines += ["", run["note"]]
    return lines


def summary(results):
    """One line a floor, with what cold servers and a server that does nothing had in its place."""
    rows = judged(results)
    if not rows:
        return ["No floor is set for these loads and contestants."]
    more = [name for name in ("cold", "sink") if any(name in row for row in rows)]
    heads = {"cold": "cold", "sink": f"{TITLES['sink']}, instead"}
    lines = ["| load | figure | floor | measured | |" + "".join(f" {heads[one]} |" for one in more),
             "| --- | --- | --- | ---: | --- |" + " ---: |" * len(more)]
    for row in rows:
        met = "met" if row["met"] else "**not met**"
        cells = [row["load"], row["figure"], row["floor"], row["measured"], met]
        lines.append("| " + " | ".join(cells + [row.get(one, "") for one in more]) + " |")
    return lines


def judged(results):
    """Each floor of each load with its verdict: [{load, figure, floor, measured, met}], and beside
    it `cold` and `sink` where those were measured."""
    rows = []
    for name, rounds in results["loads"].items():
        found, run = medians(rounds), results["run"]
        beside = {"cold": floors.judge_first_runs(name, results["warming"].get(name, {}), run),
                  "sink": floors.judge_sink(name, found, run)}
        for one in floors.judge(name, found, run):
            same = {part: other.measured for part, verdicts in beside.items()
                    for other in verdicts
                    if (other.figure, other.floor) == (one.figure, one.floor)}
            rows.append({"load": name, **vars(one), **same})
    return rows


def of_load(found):
    """Figures down, contestants across, and Odradek's share of each other one's."""
    keys = [key for key in TITLES if key in found]
    others = [key for key in keys if key != floors.ODRADEK and floors.ODRADEK in found]
    heads = [TITLES[key] for key in keys] + [f"to {TITLES[key]}" for key in others]
    lines = ["| | " + " | ".join(heads) + " |", "| --- |" + " ---: |" * len(heads)]
    for figure in dict.fromkeys(name for key in keys for name in found[key]):
        cells = [number(found[key].get(figure)) for key in keys]
        ours = found.get(floors.ODRADEK, {}).get(figure)
        for key in others:
            theirs = found[key].get(figure)
            cells.append(f"{ours / theirs:.2f}x" if ours is not None and theirs else "")
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return lines


def warming_up(cost, runs):
    """The unmeasured runs of each contestant, in their order: rates, and what warm is told by."""
    lines = []
    for figure in ("records/s", cost):
        each = [f"{TITLES[key]} " + ", ".join(number(one[figure]) for one in measured)
                for key, measured in runs.items() if figure in measured[0]]
        if each:
            lines += ["", f"While it got warm, {figure}: {'; '.join(each)}."]
    return lines


def number(value):
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def as_json(results):
    return json.dumps({**results, "floors": judged(results)}, indent=1) + "\n"
