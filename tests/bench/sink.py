"""The server that does nothing (`sink.rs`), built and run like a broker."""

from pathlib import Path

from harness.broker import Broker
from harness.building import built

SOURCE = Path(__file__).with_name("sink.rs")


def program():
    """A second of the compiler's time."""
    return built(SOURCE, "rustc", "--edition", "2024", "-O")


class Sink(Broker):
    def command(self):
        return [str(program()), str(self.port)]

    def ready(self):
        """It listens before it does anything else, and `Contestant.start` waits for an answer."""
        return self.process.poll() is None
