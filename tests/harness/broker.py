"""The real binary under test: start, wait, stop, kill -9, start again on the same data.

Apache Kafka stands behind the same class (ODRADEK_TEST_TARGET=apache), so that a suite that only
speaks Kafka can be checked against the original.
"""

import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from . import java

APACHE = os.environ.get("ODRADEK_TEST_TARGET") == "apache"
READY_SECONDS_MAX = 60
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)
HANDED_OUT = set()


def free_port():
    """A port nobody listens on, below the range that the kernel gives to outgoing connections."""
    while True:
        port = random.randrange(15000, 32000)
        if port in HANDED_OUT:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        HANDED_OUT.add(port)
        return port


def die_with_parent():
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_for(what, condition, seconds=30, pause=0.05):
    """Waits until the condition gives something true, and returns that."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s in vain for: {what}")
        time.sleep(pause)


class Broker:
    """One broker with its folder. `properties` are lines of server.properties, without `listeners`
    a plain listener on a free port. `pipeline` is the text of pipeline.toml."""

    def __init__(self, folder=None, properties=None, pipeline=None, environment=None,
                 apache=APACHE):
        self.apache = apache
        self.folder = Path(folder or tempfile.mkdtemp(prefix="odradek-test-"))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.properties = dict(properties or {})
        self.pipeline = pipeline
        self.environment = environment or {}
        self.process = None
        self.starts = 0
        if "listeners" not in self.properties:
            self.port = free_port()
            self.properties["listeners"] = f"PLAINTEXT://127.0.0.1:{self.port}"
        else:
            first = self.properties["listeners"].split(",")[0]
            self.port = int(first.rsplit(":", 1)[1])
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.http_port = free_port()
        self.http = f"http://127.0.0.1:{self.http_port}"
        self.log_path = self.folder / "broker.log"
        self.data = self.folder / "data"

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, error, trace):
        self.stop()
        if error is not None:
            print(f"--- end of {self.log_path}")
            print("\n".join(self.log().splitlines()[-60:]))

    def write_configuration(self):
        lines = {"log.dirs": str(self.data), **self.properties}
        if self.apache:
            lines = {**java.apache_properties(free_port()), **lines}
        else:
            lines["odradek.http.listen"] = f"127.0.0.1:{self.http_port}"
        path = self.folder / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        if self.pipeline is not None:
            (self.folder / "pipeline.toml").write_text(self.pipeline)
        return path

    def command(self):
        path = self.write_configuration()
        if self.apache:
            return java.apache_command(path, self.data)
        command = [os.environ["ODRADEK_BIN"], "serve", "--config", str(path)]
        for override in os.environ.get("ODRADEK_TEST_OVERRIDES", "").split():
            if override.split("=")[0] not in self.properties:
                command += ["--override", override]
        return command

    def spawn(self):
        """Starts the process without waiting for it."""
        command = self.command()
        self.starts += 1
        with open(self.log_path, "ab") as log:
            log.write(f"--- start {self.starts}\n".encode())
            log.flush()
            self.log_position = log.tell()
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, preexec_fn=die_with_parent,
                env={**os.environ, **self.environment},
            )
        return self

    def start(self):
        self.spawn()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def wait_ready(self, seconds=READY_SECONDS_MAX):
        wait_for(f"the broker on {self.bootstrap} to be ready", self.ready, seconds, 0.02)

    def ready(self):
        code = self.process.poll()
        if code is not None:
            tail = "\n".join(self.log().splitlines()[-30:])
            raise AssertionError(f"the broker ended with {code}:\n{tail}")
        if self.apache:
            return "Kafka Server started" in self.log_since_start()
        try:
            return http_get(self.http + "/readyz")[0] == 200
        except OSError:
            return False

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_since_start(self):
        with open(self.log_path, "rb") as log:
            log.seek(self.log_position)
            return log.read().decode(errors="replace")

    def kill(self):
        """kill -9: nothing is flushed, nothing is told."""
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait()

    def stop(self):
        """As systemd would: SIGTERM, and the exit code."""
        if not self.process:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=40)
            except subprocess.TimeoutExpired:
                self.kill()
                return "had to be killed"
        return self.process.returncode

    def restart(self):
        self.stop()
        return self.start()

    def rss_bytes(self):
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def cpu_seconds(self):
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")

    def disk_bytes(self):
        return sum(path.stat().st_size for path in self.data.rglob("*") if path.is_file())

    # HTTP

    def get(self, path, headers=None, timeout=30):
        """Status, headers and body of a GET, also of one that is answered with an error."""
        return http_get(self.http + path, headers, timeout)

    def get_json(self, path, timeout=30):
        status, _, body = self.get(path, timeout=timeout)
        assert status == 200, f"{path}: {status} {body[:500]!r}"
        return json.loads(body)

    def end_offsets(self, topic):
        """{partition: end offset}, by HTTP; empty while there is no such topic."""
        for found in self.get_json("/api/v1/topics")["topics"]:
            if found["name"] == topic:
                return {part["partition"]: part["end_offset"] for part in found["partitions"]}
        return {}

    def count(self, topic):
        return sum(self.end_offsets(topic).values())


def http_get(url, headers=None, timeout=30):
    request = urllib.request.Request(url, headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()
