"""What the figures of Odradek must reach, load by load: against Apache Kafka in the same run, or by
themselves. A floor is met or not; the table says which.
"""

from dataclasses import dataclass

from .contestants import SINK

ODRADEK = "odradek"
PEAK_MIB_MAX, CPU_MS_A_MB_MAX, WRITTEN_MAX, WRITTEN_LARGE_MAX = 96, 4, 2.1, 1.2


@dataclass
class AtLeast:
    """So many times the other one's figure."""

    figure: str
    times: float
    of: str

    def judge(self, medians, run):
        if self.of not in medians:
            return None
        theirs = medians[self.of][self.figure]
        ours = medians[ODRADEK][self.figure]
        return Verdict(self.figure, f"at least {self.times}x {TITLES[self.of]}",
                       f"{ours / theirs:.2f}x", ours >= self.times * theirs)


@dataclass
class NoWorse:
    """At most the other one's figure; one more flush where that is granted."""

    figure: str
    of: str
    and_a_flush: bool = False

    def judge(self, medians, run):
        if self.of not in medians:
            return None
        granted = run["flush p50 ms"] if self.and_a_flush else 0
        theirs, ours = medians[self.of][self.figure], medians[ODRADEK][self.figure]
        more = f" + a flush ({granted:.2f} ms)" if self.and_a_flush else ""
        return Verdict(self.figure, f"at most {TITLES[self.of]}{more}",
                       f"{ours:.1f} against {theirs:.1f}", ours <= theirs + granted)


@dataclass
class AtMost:
    figure: str
    limit: float

    def judge(self, medians, run):
        ours = medians[ODRADEK].get(self.figure)
        if ours is None:
            return None
        return Verdict(self.figure, f"at most {self.limit:g}", f"{ours:.1f}", ours <= self.limit)


@dataclass
class Verdict:
    figure: str
    floor: str
    measured: str
    met: bool


TITLES = {"kafka": "Kafka's", "syncing": "Kafka's with flush.messages=1"}
PEAK = AtMost("peak memory MiB", PEAK_MIB_MAX)
OF_LOADS = {
    "produce-1k-12": [AtLeast("records/s", 1.2, "kafka")],
    "produce-100b-12": [AtLeast("records/s", 1.0, "kafka")],
    "small-batches-64": [AtLeast("records/s", 5, "syncing")],
    "steady-20000": [NoWorse("p99 ms", "kafka")],
    "steady-2000": [NoWorse("p50 ms", "kafka", and_a_flush=True)],
    "end-to-end": [NoWorse("mean ms", "kafka"), NoWorse("p99 ms", "kafka")],
    "from-tail-cache": [AtLeast("records/s", 1.0, "kafka")],
    "catch-up-disk": [AtLeast("records/s", 1.0, "kafka")],
    "tail": [AtLeast("consumed records/s", 1.0, "kafka")],
    "connections": [AtMost("grown MiB", 20)],
    "start": [AtMost("start ms", 50), AtMost("idle memory MiB", 20)],
}


def of_load(name):
    """The floors of this load, with those that hold for all of its kind."""
    found = list(OF_LOADS.get(name, []))
    if name not in ("connections", "start"):
        found.append(PEAK)
    if name.startswith("produce-1k"):
        # Full load of large batches: what several producers send.
        written = WRITTEN_LARGE_MAX if name.endswith("-by8") else WRITTEN_MAX
        found += [AtMost("server CPU ms/MB", CPU_MS_A_MB_MAX), AtMost("written x", written)]
    return found


def judge(name, medians, run):
    """The verdicts that these medians ({contestant: {figure: value}}) allow."""
    if ODRADEK not in medians:
        return []
    verdicts = [floor.judge(medians, run) for floor in of_load(name)]
    return [verdict for verdict in verdicts if verdict]


def judge_first_runs(name, warming, run):
    """The same of cold servers: {contestant: [figures of each unmeasured run]}."""
    return judge(name, {key: measured[0] for key, measured in warming.items()}, run)


def judge_sink(name, medians, run):
    """The same of a server that does nothing, instead of Odradek: what is to be had of the clients
    on this machine. Only where a floor compares; its memory and the like are nobody's measure."""
    if SINK not in medians:
        return []
    instead = {**medians, ODRADEK: medians[SINK]}
    verdicts = [floor.judge(instead, run) for floor in of_load(name)
                if not isinstance(floor, AtMost)]
    return [verdict for verdict in verdicts if verdict]
