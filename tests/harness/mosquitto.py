"""Eclipse Mosquitto on a free port: start, stop, start again with what it had kept; publishing."""

import json
import os
import signal
import socket
import subprocess

from .broker import die_with_parent, free_port, wait_for

# Messages that it sends without an acknowledgement; its own default is 20.
WINDOW = 100


class Mosquitto:
    """`lines` are further lines of its configuration, for the one listener that it has."""

    def __init__(self, folder, lines=("allow_anonymous true",)):
        self.folder, self.port, self.process = folder, free_port(), None
        self.url = f"mqtt://127.0.0.1:{self.port}"
        configuration = [
            f"listener {self.port} 127.0.0.1", *lines, "persistence true",
            f"persistence_location {folder}/", "max_queued_messages 0",
            f"max_inflight_messages {WINDOW}", f"log_dest file {folder}/mosquitto.log",
        ]
        if os.geteuid() == 0:
            # Else it becomes another user, who may not write here.
            configuration.append("user root")
        (folder / "mosquitto.conf").write_text("\n".join(configuration) + "\n")

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def start(self):
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(self.folder / "mosquitto.conf")], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent,
        )
        wait_for("mosquitto to listen", self.listens, 20)
        return self

    def listens(self):
        assert self.process.poll() is None, f"mosquitto ended with {self.process.poll()}"
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def stop(self):
        """It writes down the sessions and their messages, as systemd stops it."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=20)

    def publish(self, topic, payload, *options):
        """One message with QoS 1, acknowledged when this returns."""
        subprocess.run(
            ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic,
             "-m", payload if isinstance(payload, str) else json.dumps(payload), *options],
            check=True, timeout=30, stdin=subprocess.DEVNULL,
        )

    def publisher(self, topic):
        """A process that publishes each line of its stdin with QoS 1, and ends at its end."""
        return subprocess.Popen(
            ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-t", topic,
             "-l"],
            stdin=subprocess.PIPE, preexec_fn=die_with_parent, text=True,
        )
