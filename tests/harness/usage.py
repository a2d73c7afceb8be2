"""What a running broker takes of the machine: memory, threads, handles, and room on the disk by the
kind of file (broker/log/README.md says which those are).

Room is what the file system has set aside (`st_blocks`), which for the journal is more than its
length, and which is what a full disk is made of.
"""

import os
import statistics
from pathlib import Path

KINDS = ("records", "side", "own", "journal", "sled", "lake", "other")
BLOCK_BYTES = 512


def allocated(path):
    """Bytes on the disk; of a file that is gone meanwhile, none."""
    try:
        return os.stat(path).st_blocks * BLOCK_BYTES
    except FileNotFoundError:
        return 0


def kind_of(relative):
    """`records` and `side` are topics' segments and what stands beside them; `own` are the topics
    of the broker itself, with theirs."""
    top = relative.parts[0]
    if top == "sled" or top.startswith("journal."):
        return top.partition(".")[0]
    if len(relative.parts) == 1:
        return "other"
    if top.startswith("__"):
        return "own"
    return {".log": "records", ".side": "side"}.get(relative.suffix, "other")


def files(folder):
    """Every file below it, as a path relative to it; folders may go while one looks."""
    for above, _, names in os.walk(folder):
        for name in names:
            yield (Path(above) / name).relative_to(folder)


def disk(data, lake=None):
    """{kind: bytes on the disk}"""
    found = dict.fromkeys(KINDS, 0)
    for relative in files(data):
        found[kind_of(relative)] += allocated(data / relative)
    if lake is not None:
        found["lake"] = sum(allocated(lake / relative) for relative in files(lake))
    return found


def of_topic(data, topic):
    """Bytes on the disk in the folders of one topic."""
    return sum(
        allocated(data / relative) for relative in files(data)
        if relative.parts[0].startswith(f"{topic}-"))


def process(pid):
    """{rss, peak: bytes; threads, handles: how many}"""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return {
        "rss": int(status["VmRSS"].split()[0]) * 1024,
        "peak": int(status["VmHWM"].split()[0]) * 1024,
        "threads": int(status["Threads"]),
        "handles": len(os.listdir(f"/proc/{pid}/fd")),
    }


def medians(samples):
    """One sample of the medians of each figure."""
    return {name: statistics.median(one[name] for one in samples) for name in samples[0]}


def held(pid):
    """Files that are deleted and still open: their room is not free."""
    found = []
    for handle in os.listdir(f"/proc/{pid}/fd"):
        try:
            path = os.readlink(f"/proc/{pid}/fd/{handle}")
        except FileNotFoundError:
            continue
        if path.endswith(" (deleted)"):
            found.append(path)
    return found
