"""`odradek expose`, `tls` and `client-config`: from nothing to a listener with a password and TLS
by one command, and the programs that are printed run as they are printed, from a laptop on the LAN
and from the Internet behind a router, each with an address that works for it."""

import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import java
from harness.broker import Broker, die_with_parent, free_port, wait_for
from harness.home_network import LAPTOP, SERVER, HomeNetwork, Unavailable

pytestmark = pytest.mark.odradek_only
NAME = "kafka.example.test"
CLIENTS = ("Python", "Java", "kcat")
SNIPPET_SECONDS_MAX = 120


def odradek(*arguments, folder, check=True, prefix=(), **environment):
    done = subprocess.run(
        [*prefix, os.environ["ODRADEK_BIN"], *map(str, arguments)], cwd=folder, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
        env={**os.environ, **environment},
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


def sections(printed):
    """What stands under each `=== NAME ===`, and before the first one under ``."""
    parts = re.split(r"^=== (\w+) ===\n", printed, flags=re.M)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def password_line(printed):
    """`export KAFKA_PASSWORD=…`, to be typed as it stands."""
    return re.search(r"^ +(export KAFKA_PASSWORD='\w+')$", printed, flags=re.M)[1]


def prepare(folder, version):
    """A client's machine: Kafka's bin folder is the one where the programs are pasted."""
    folder.mkdir()
    for name in ("console-producer", "console-consumer"):
        command = java.java_command(version, java.TOOLS[version][name])
        script = folder / f"kafka-{name}.sh"
        script.write_text(f"#!/bin/sh\nexec {shlex.join(command)} \"$@\"\n")
        script.chmod(0o755)
    return folder


def paste(client, snippet, export, folder, prefix=()):
    """Runs a printed program as a person would: the password first, then what was printed."""
    script = folder / f"{client}.sh"
    if client == "Python":
        (folder / "example.py").write_text(snippet)
        snippet = f"{shlex.quote(sys.executable)} example.py\n"
    script.write_text(f"{export}\nset -e\n{snippet}")
    return subprocess.run(
        [*prefix, "bash", str(script)], cwd=folder, text=True, timeout=SNIPPET_SECONDS_MAX,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def paste_all(snippets, export, folder, prefix):
    with ThreadPoolExecutor() as pool:
        running = {client: pool.submit(paste, client, snippets[client], export, folder, prefix)
                   for client in CLIENTS}
    done = {client: future.result() for client, future in running.items()}
    for client, finished in done.items():
        said = f"{client}:\n{finished.stdout}\n{finished.stderr}"
        assert finished.returncode == 0, said
        assert "hello from " in finished.stdout, said
    return done


class ExposedServer:
    """The broker in the server's namespace, with what `expose` printed."""

    def __init__(self, network, folder):
        self.network, self.folder = network, folder
        self.process = None

    def odradek(self, *arguments, check=True):
        prefix = self.network.command("server")
        return odradek(*arguments, folder=self.folder, prefix=prefix, check=check)

    def start(self):
        command = self.network.command("server", os.environ["ODRADEK_BIN"], "serve", "--config",
                                       self.folder / "server.properties")
        with open(self.folder / "broker.log", "wb") as log:
            # From another folder than that of the configuration, as a service would.
            self.process = subprocess.Popen(command, cwd="/", stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, preexec_fn=die_with_parent)
        wait_for("the exposed broker to be ready", lambda: self.get("/readyz") is not None, 60, 0.2)

    def get(self, path):
        """The body of what HTTP answers on the server's own loopback; `None`: it does not."""
        command = self.network.command("server", "curl", "-fsS", f"http://127.0.0.1:8080{path}")
        done = subprocess.run(command, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL)
        assert self.process.poll() is None, self.log()
        return done.stdout if done.returncode == 0 else None

    def log(self):
        return (self.folder / "broker.log").read_text()

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=60)


@pytest.fixture(scope="module")
def network():
    try:
        with HomeNetwork(9092, NAME) as network:
            yield network
    except Unavailable as why:
        pytest.skip(str(why))


def shown_certificate(network, place):
    """What a client at this place is shown by the server."""
    command = f"import ssl; print(ssl.get_server_certificate(({SERVER!r}, 9092)))"
    return network.inside(place, sys.executable, "-c", command).stdout.split()


def own_certificate(folder):
    """The first one in the server's file."""
    text = (folder / "tls" / "server.pem").read_text()
    end = "-----END CERTIFICATE-----"
    return (text[text.index("-----BEGIN CERTIFICATE"):text.index(end)] + end).split()


def told_address(network, place, folder):
    """Where a client at this place is told that the broker is."""
    listing = network.inside(place, "kcat", "-F", "odradek-kcat.conf", "-L", "-J", cwd=folder)
    return [broker["name"] for broker in json.loads(listing.stdout)["brokers"]]


@pytest.mark.needs("ip", "nft", "kcat", "curl", "kafka-4.3.0", "kafka-3.4.0")
def test_one_command_and_the_printed_programs_run_on_the_lan_and_from_the_internet(
        network, folders):
    folder = folders()
    server = ExposedServer(network, folder)
    printed = server.odradek("expose", "--lan", "--host", NAME).stdout
    assert "advertised.listeners" not in (folder / "server.properties").read_text()
    export = password_line(printed)
    secret = export.split("'")[1]
    try:
        server.start()
        assert "WARN" not in server.log()
        laptop = prepare(folder / "laptop", "3.4.0")
        paste_all(sections(printed), export, laptop, network.command("laptop"))
        assert told_address(network, "laptop", laptop) == [f"{SERVER}:9092"]

        # Again, while it runs: renewed by the same authority, and no password is changed.
        authority = (folder / "tls" / "ca.pem").read_bytes()
        again = server.odradek("expose", "--host", NAME).stdout
        assert (folder / "tls" / "ca.pem").read_bytes() == authority
        assert "takes the new certificate by itself" in " ".join(again.split())
        assert "KAFKA_PASSWORD='" not in again
        wait_for("the renewed certificate",
                 lambda: shown_certificate(network, "laptop") == own_certificate(folder), 30, 0.5)
        outside = prepare(folder / "outside", "4.3.0")
        paste_all(sections(again), export, outside, network.command("internet"))
        assert told_address(network, "internet", outside) == [f"{NAME}:9092"]

        records = server.get("/api/v1/topics/test/records?format=ndjson")
        values = sorted(json.loads(line)["value"] for line in records.splitlines())
        assert values == sorted(f"hello from {client}" for client in CLIENTS * 2)
        seen = server.log() + (folder / "server.properties").read_text()
        assert secret not in seen
    finally:
        server.stop()


@pytest.mark.needs("ip", "nft", "kcat", "curl")
def test_without_the_password_or_the_certificate_nobody_comes_in(network, folders):
    folder = folders()
    server = ExposedServer(network, folder)
    server.odradek("expose", "--lan")
    try:
        server.start()
        def listing(*options):
            command = network.command("laptop", "kcat", "-b", f"{SERVER}:9092", "-m", "5", "-L",
                                      *options)
            return subprocess.run(command, text=True, stdin=subprocess.DEVNULL, timeout=60,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

        login = ["-X", "security.protocol=SASL_SSL", "-X", "sasl.mechanism=SCRAM-SHA-512",
                 "-X", "sasl.username=kafka", "-X", "sasl.password=guessed"]
        trusting = ["-X", f"ssl.ca.location={folder / 'tls' / 'ca.pem'}"]
        without_login = ["-X", "security.protocol=SSL"]
        with ThreadPoolExecutor() as pool:
            tried = [pool.submit(listing, *options) for options in (
                login, [*login, *trusting], [*without_login, *trusting], [])]
        said = [one.result() for one in tried]
        assert all(one.returncode != 0 for one in said), said
        assert "certificate verify failed" in said[0].stdout
        assert "Invalid username or password" in said[1].stdout
        # HTTP has stayed on the server's own loopback.
        web = network.command("laptop", "curl", "-sS", "--max-time", "5", f"http://{SERVER}:8080/")
        assert subprocess.run(web, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL).returncode == 7  # refused
        diary = json.loads(server.get("/api/v1/diagnostics/connections"))["connections"]
        assert {LAPTOP} == {entry["peer"] for entry in diary}
        assert {"tls-authority-not-trusted", "plain-on-tls-port"} <= {
            entry["diagnosis"] for entry in diary}
    finally:
        server.stop()


def test_a_configuration_that_says_otherwise_is_left_alone_unless_forced(folders):
    folder = folders()
    file = folder / "server.properties"
    before = (f"# mine\nlisteners=PLAINTEXT://127.0.0.1:{free_port()}\n"
              f"log.dirs={folder / 'data'}\nnum.partitions=3\n"
              f"odradek.http.listen=127.0.0.1:{free_port()}\n")
    file.write_text(before)
    done = odradek("expose", "--host", NAME, "--config", file, folder=folder, check=False)
    assert done.returncode == 2 and "line 2: listeners" in done.stderr, done.stderr
    assert file.read_text() == before and [path.name for path in folder.iterdir()] == [file.name]

    done = odradek("expose", "--host", NAME, "--config", file, "--force", folder=folder,
                   ODRADEK_PASSWORD="chosen-password")
    assert "# listeners=PLAINTEXT" in file.read_text()
    assert "chosen-password" not in done.stdout + file.read_text()
    [backup] = folder.glob("server.properties.*.bak")
    assert backup.read_text() == before
    checked = odradek("check", "--config", file, folder=folder)
    assert checked.stdout.endswith("ok\n") and "warning" not in checked.stdout
    listed = odradek("user", "list", "--config", file, folder=folder).stdout
    assert listed == "kafka\tPLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n"


@pytest.mark.needs("openssl", "kcat", "kafka-4.3.0")
def test_a_client_with_a_certificate_of_its_own_needs_no_password(folders):
    folder = folders()
    odradek("tls", "init", folder=folder)
    odradek("tls", "client", "laptop", folder=folder)
    port = free_port()
    with Broker(folder=folder, properties={
        "listeners": f"SSL://127.0.0.1:{port}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "tls" / "server.pem"),
        "ssl.client.auth": "required",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "tls" / "ca.pem"),
        "ssl.principal.mapping.rules": "RULE:^CN=(.*?)$/$1/,DEFAULT",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:laptop",
    }):
        def snippet(client):
            return odradek("client-config", "--for", client.lower(), folder=folder).stdout

        client = prepare(folder / "client", "4.3.0")
        (client / "client.pem").write_bytes((folder / "tls" / "laptop.pem").read_bytes())
        paste_all({client: snippet(client) for client in CLIENTS}, "", client, ())


@pytest.mark.needs("openssl")
def test_openssl_takes_the_certificates_strictly(folders):
    folder = folders()
    odradek("tls", "init", "--host", NAME, folder=folder)
    for host, taken in ((NAME, True), ("localhost", True), ("other.example.test", False)):
        done = subprocess.run(
            ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", host,
             "-CAfile", "tls/ca.pem", "tls/server.pem"],
            cwd=folder, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT)
        assert (done.returncode == 0) == taken, done.stdout
