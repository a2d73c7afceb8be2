"""The server that does nothing (`sink.rs`), built and run like a broker."""

import hashlib
import os
import tempfile
from pathlib import Path

from harness.broker import Broker
from harness.provision import CACHE, ROOT, attempt, say

SOURCE = Path(__file__).with_name("sink.rs")


def program():
    """Built once for each state of its source; a second of the compiler's time."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    built = CACHE / "tools" / f"odradek-sink-{digest}"
    if built.exists():
        return built
    say(f"building {SOURCE.name} into {built}")
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=built.parent) as scratch:
        made = Path(scratch) / "sink"
        problem = attempt(["rustc", "--edition", "2024", "-O", str(SOURCE), "-o", str(made)],
                          cwd=ROOT)
        assert problem is None, f"{SOURCE.name} cannot be built: {problem}"
        os.rename(made, built)
    return built


class Sink(Broker):
    def command(self):
        return [str(program()), str(self.port)]

    def ready(self):
        """It listens before it does anything else, and `Contestant.start` waits for an answer."""
        return self.process.poll() is None
