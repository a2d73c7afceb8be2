"""What a load costs the server: processor time, peak memory, bytes written and read. And what it
costs the clients, which on one machine have the same processors."""

import os
import resource
import time
from pathlib import Path

from .contestants import io_bytes

MIB = 1 << 20
FLUSHES = 200


class Meter:
    """Looks at a server's process before a load and after it."""

    def __init__(self, contestant):
        self.contestant = contestant
        self.pid = contestant.broker.process.pid
        forget_peak(self.pid)
        self.cpu = contestant.broker.cpu_seconds()
        self.clients_cpu = ended_children_seconds()
        self.machine = machine_ticks()
        self.io = io_bytes(self.pid)

    def figures(self, value_bytes):
        """After the server has settled what it took; for so many bytes of records' values. How busy
        the machine was is seen before that, when the clients have just ended."""
        busy, ticks = (now - then for now, then in zip(machine_ticks(), self.machine))
        self.contestant.settle()
        io, megabytes = io_bytes(self.pid), value_bytes / 1e6
        found = {
            "server CPU ms/MB": 1000 * (self.contestant.broker.cpu_seconds() - self.cpu)
            / megabytes,
            "clients CPU ms/MB": 1000 * (ended_children_seconds() - self.clients_cpu) / megabytes,
            "processors busy %": 100 * busy / max(ticks, 1),
            "peak memory MiB": peak_bytes(self.pid) / MIB,
            "written x": (io["write_bytes"] - self.io["write_bytes"]) / value_bytes,
        }
        read = io["read_bytes"] - self.io["read_bytes"]
        if read > value_bytes / 10:
            found["read from the disk x"] = read / value_bytes
        return found


def ended_children_seconds():
    """Processor time of all that ended, from its start: of the clients, since the servers go on."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def machine_ticks():
    """Of all processors together, whoever used them: those that were busy, and all that passed."""
    with open("/proc/stat") as lines:
        user, nice, system, idle, waiting, *interrupts = map(int, lines.readline().split()[1:9])
    busy = user + nice + system + sum(interrupts)
    return busy, busy + idle + waiting


def forget_peak(pid):
    """From now on the peak counts anew: proc_pid_clear_refs(5)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_bytes(pid):
    return status_bytes(pid, "VmHWM:")


def resident_bytes(pid):
    return status_bytes(pid, "VmRSS:")


def status_bytes(pid, name):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no {name}")


def flush_ms(folder):
    """What one flush of this folder's disk takes, 4 KiB over what was written before: the median
    and the 99th percentile."""
    path = Path(folder) / "flush"
    times = []
    with open(path, "wb", 0) as file:
        file.write(os.urandom(MIB))
        os.fsync(file.fileno())
        for number in range(FLUSHES):
            file.seek(number % 256 * 4096)
            begun = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            times.append(1000 * (time.perf_counter() - begun))
    path.unlink()
    return percentile(sorted(times), 50), percentile(sorted(times), 99)


def percentile(values, share):
    """The smallest of the sorted values that this share of all is not above (nearest rank)."""
    rank = max(1, -(-len(values) * share // 100))
    return values[int(rank) - 1]
