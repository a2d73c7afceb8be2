"""Hostile clients against the real binary: its memory and another client's latency are watched.

Each attack is one cheap thread (harness/crowd.py). Beside it a well-behaved producer, a process of
its own (harness/steady.py), writes 200 records a second with acks=all. Before, during and after
each attack its latency is taken, and the process's peak of memory during it.

What an attack costs others is told from what it costs the machine, whose two cores and disk the
attacker shares: another such producer writes to a second broker, a neighbour that nobody attacks.
"""

import os
import random
import socket
import struct
import time
import uuid
from pathlib import Path

import pytest
from differential import batches
from harness import certificates, wire
from harness.broker import Broker, free_port, http_get, wait_for
from harness.crowd import Crowd
from harness.steady import Steady, window
from test_clients import JAAS
from test_hostile import frame, tls_hello

pytestmark = [pytest.mark.odradek_only, pytest.mark.needs("openssl")]

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
WINDOW_SECONDS = 10 if FULL else 0.7
MIB = 1 << 20
# The default of odradek.memory.max.bytes.
MEMORY_BYTES_MAX = 256 * MIB
# Patience of the brokers that are to lose patience within a test.
IDLE_MS_MAX = 3000
STORED_PARTITIONS, STORED_BATCHES = 8, 20
OTHERS = ("127.0.0.2", "127.0.0.3")


def fetch_everything(topic):
    """Fetch 4: all partitions from the first record on, each and all as large as may be."""
    body = struct.pack(">iiiib", -1, 0, 1, (1 << 31) - 1, 0) + struct.pack(">i", 1)
    body += wire.string(topic) + struct.pack(">i", STORED_PARTITIONS)
    for partition in range(STORED_PARTITIONS):
        body += struct.pack(">iqi", partition, 0, (1 << 31) - 1)
    return frame(wire.FETCH, 4, body)


def list_offsets(topic):
    body = struct.pack(">ii", -1, 1) + wire.string(topic) + struct.pack(">i", STORED_PARTITIONS)
    for partition in range(STORED_PARTITIONS):
        body += struct.pack(">iq", partition, 1)
    return frame(wire.LIST_OFFSETS, 1, body)


METADATA_OF_ALL = frame(wire.METADATA, 1, struct.pack(">i", -1))


def describe_all_configs(topics):
    """DescribeConfigs 3: every key of each topic, with its documentation."""
    body = struct.pack(">i", len(topics))
    for topic in topics:
        body += b"\2" + wire.string(topic) + struct.pack(">i", -1)
    return frame(32, 3, body + b"\0\1")


def produce(topic, batch, partition=0):
    body = wire.string(None) + struct.pack(">hii", -1, 10000, 1) + wire.string(topic)
    return frame(wire.PRODUCE, 7, body + struct.pack(">iii", 1, partition, len(batch)) + batch)


def bomb(plain_bytes, keyed):
    """A gzip batch of one record, a thousandth of what it unpacks to."""
    return batches.batch(bytes(plain_bytes), keys=[b"k"] if keyed else None,
                         attributes=batches.GZIP, timestamp=int(time.time() * 1000))


def create_topic(bootstrap, name, partitions, **configs):
    """CreateTopics 2."""
    body = struct.pack(">i", 1) + wire.string(name) + struct.pack(">ihii", partitions, 1, 0,
                                                                  len(configs))
    for key, value in configs.items():
        body += wire.string(key.replace("_", ".")) + wire.string(value)
    with wire.Connection(bootstrap) as connection:
        reader = connection.call(19, body + struct.pack(">ib", 10000, 0), 2)
    assert reader.i32() == 0 and reader.i32() == 1 and reader.string() == name
    assert reader.i16() == 0, reader.data


class Scene:
    """The broker, what lies in it, and the other client."""

    def __init__(self, broker, neighbour_folder):
        self.broker = broker
        self.stored, self.compacted, self.repacked, self.bombs = (
            f"{name}-{uuid.uuid4().hex[:6]}"
            for name in ("stored", "compacted", "repacked", "bombs"))
        self.many = [f"many-{index}" for index in range(200)]
        self.fill()
        topic = f"steady-{uuid.uuid4().hex[:6]}"
        create_topic(broker.bootstrap, topic, 1)
        self.steady = Steady(broker.bootstrap, topic, broker.folder)
        self.quiet = Broker(folder=neighbour_folder).start()
        create_topic(self.quiet.bootstrap, topic, 1)
        self.neighbour = Steady(self.quiet.bootstrap, topic, neighbour_folder)
        self.lines = []

    def fill(self):
        bootstrap = self.broker.bootstrap
        create_topic(bootstrap, self.stored, STORED_PARTITIONS)
        create_topic(bootstrap, self.compacted, 1, cleanup_policy="compact")
        create_topic(bootstrap, self.repacked, 1, compression_type="lz4",
                     max_message_bytes=str(80 * MIB))
        create_topic(bootstrap, self.bombs, 1)
        self.large = wire.batch([os.urandom(MIB - 200)], int(time.time() * 1000))
        with wire.Connection(bootstrap) as connection:
            for index in range(STORED_BATCHES * STORED_PARTITIONS):
                error, _ = connection.produce(self.stored, index % STORED_PARTITIONS, self.large)
                assert error == 0
            names = struct.pack(">i", len(self.many)) + b"".join(map(wire.string, self.many))
            connection.call(wire.METADATA, names)

    def sockets(self):
        """Connections of the broker's process, and its listeners."""
        folder = f"/proc/{self.broker.process.pid}/fd"
        count = 0
        for name in os.listdir(folder):
            try:
                count += os.readlink(f"{folder}/{name}").startswith("socket:")
            except FileNotFoundError:
                pass
        return count

    def forget_peak(self):
        Path(f"/proc/{self.broker.process.pid}/clear_refs").write_text("5")

    def peak_bytes(self):
        for line in Path(f"/proc/{self.broker.process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmHWM")

    def answers(self):
        """From an address that attacks nobody: Kafka's protocol and HTTP."""
        with wire.Connection(self.broker.bootstrap) as connection:
            assert wire.METADATA in connection.api_versions()
        assert http_get(self.broker.http + "/readyz")[0] == 200

    def watch_window(self):
        """The other client's records of one window of time, and where the window lies."""
        begin = time.monotonic()
        wait_for("the window to pass", lambda: time.monotonic() >= begin + WINDOW_SECONDS)
        return begin, time.monotonic()

    def under(self, name, attack, meanwhile=None):
        """Runs the attack, which gets the seconds it is to last, and writes a line of the table."""
        self.steady.caught_up()
        sockets = self.sockets()
        before = self.watch_window()
        self.forget_peak()
        begun = time.monotonic()
        with attack() as crowd:
            crowd.press_on(WINDOW_SECONDS)
            during = (begun, time.monotonic())
            if meanwhile:
                meanwhile(crowd)
            self.answers()
            peak = self.peak_bytes()
        self.steady.caught_up()
        # Who waits for room to log in is noticed at the end of the time for a login, 30 s.
        wait_for(f"the connections of {name} to be gone", lambda: self.sockets() <= sockets, 60)
        self.answers()
        after = self.watch_window()
        self.write_line(name, peak, before, during, after)
        assert peak <= MEMORY_BYTES_MAX, f"{name}: {peak / MIB:.0f} MiB at the peak"

    def write_line(self, name, peak, before, during, after):
        """How often the other client's p99 is that of a quiet time, or of the neighbour's."""
        for steady in (self.steady, self.neighbour):
            steady.caught_up()
        rows = self.steady.rows()
        quiet = min(window(rows, *before), window(rows, *after), key=lambda one: one.p99_ms)
        neighbour = window(self.neighbour.rows(), *during)
        under = window(rows, *during)
        times = under.p99_ms / max(quiet.p99_ms, neighbour.p99_ms)
        cells = [f"{one.p50_ms:.1f} / {one.p99_ms:.1f}" for one in (quiet, neighbour, under)]
        line = f"| {name} | {peak / MIB:.0f} | {' | '.join(cells)} | {times:.1f} |"
        self.lines.append(line)
        print(line)

    def stop(self):
        for steady in (self.steady, self.neighbour):
            steady.process.kill()
            steady.process.wait()
        self.quiet.kill()
        print("\n| attack | peak, MiB | quiet, p50 / p99 ms | neighbour | attacked | times |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        print("\n".join(self.lines))


def guarded(folder, **more):
    """A broker, not yet started, with a plain, a SASL and a TLS listener."""
    certificates.authority(folder, "ca")
    plain, sasl, tls = free_port(), free_port(), free_port()
    broker = Broker(folder=folder, properties={
        "listeners": f"PLAINTEXT://127.0.0.1:{plain},SASL_PLAINTEXT://127.0.0.1:{sasl},"
                     f"SSL://127.0.0.1:{tls}",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": JAAS,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates.server(folder, "ca")),
        **more,
    })
    broker.sasl, broker.tls = f"127.0.0.1:{sasl}", f"127.0.0.1:{tls}"
    return broker


@pytest.fixture(scope="module")
def scene(folders):
    with guarded(folders()) as broker:
        scene = Scene(broker, folders())
        yield scene
        scene.stop()


def http_place(broker):
    return broker.http.removeprefix("http://")


def byte_by_byte(data):
    return lambda: (data[index:index + 1] for index in range(len(data)))


def get(path, *headers):
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# Slow and silent.

def test_connections_that_say_nothing(scene):
    def attack():
        return Crowd(scene.broker.bootstrap).join(400)
    scene.under("silent", attack)


def test_slow_loris_sends_a_frame_byte_by_byte(scene):
    slow = struct.pack(">i", MIB) + frame(wire.PRODUCE, 7, bytes(1000))[4:]

    def attack():
        return Crowd(scene.broker.bootstrap).join(300, byte_by_byte(slow), pace_seconds=1)
    scene.under("slow frame", attack)


def test_slow_loris_shakes_hands_byte_by_byte(scene):
    def attack():
        return Crowd(scene.broker.tls).join(300, byte_by_byte(tls_hello()), pace_seconds=1)
    scene.under("slow TLS handshake", attack)


def test_slow_loris_over_http(scene):
    head = get("/api/v1/topics", *(f"X-Header-{index}: slow" for index in range(50)))
    body = (f"POST /api/v1/topics/{scene.stored}/records HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {16 * MIB}\r\n\r\n").encode()

    def attack():
        crowd = Crowd(http_place(scene.broker)).join(150, byte_by_byte(head), pace_seconds=1)
        return crowd.join(150, lambda: [body, *(b"[" for _ in range(1000))], pace_seconds=1)
    scene.under("slow HTTP", attack, meanwhile=lambda _: write_by_http(scene))


def write_by_http(scene):
    """Another client, from another address, still gets a small body through."""
    host, port = http_place(scene.broker).split(":")
    body = b'{"a":1}'
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(
            f"POST /api/v1/topics/{scene.bombs}/records HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body)
        assert connection.recv(4096).startswith(b"HTTP/1.1 200"), "the other's write was refused"


# Floods.

def test_a_flood_of_connections_that_close_at_once(scene):
    class Flood(Crowd):
        def press_on(self, seconds):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                # Bounded in rate: the attacker shares two cores with the broker.
                for _ in range(20):
                    with socket.socket() as one:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        one.bind(("127.0.0.2", 0))
                        one.connect(self.address)
                time.sleep(0.01)
            return self
    scene.under("connect and close", lambda: Flood(scene.broker.bootstrap))


def test_one_address_takes_all_the_connections_it_may(scene):
    def attack():
        crowd = Crowd(scene.broker.bootstrap).join(600)
        wait_for("the surplus to be turned away", lambda: crowd.press_on(0.1).open() <= 500)
        return crowd
    scene.under("max.connections.per.ip", attack)


def test_two_addresses_take_all_the_connections_there_are(scene):
    """Who is connected stays so; silent strangers make way for who comes and speaks."""
    def attack():
        crowd = Crowd(scene.broker.bootstrap, OTHERS).join(1100)
        wait_for("the surplus to be turned away", lambda: crowd.press_on(0.1).open() <= 1000)
        return crowd
    scene.under("max.connections", attack)


# Everything at once.

def test_clients_that_fetch_everything_and_read_nothing(scene):
    request = fetch_everything(scene.stored)

    def attack():
        return Crowd(scene.broker.bootstrap).join(30, lambda: (request for _ in range(200)))
    scene.under("fetch, read nothing", attack)


def test_clients_that_fetch_everything_and_read_slowly(scene):
    request = fetch_everything(scene.stored)

    def attack():
        return Crowd(scene.broker.bootstrap, OTHERS).join(
            30, lambda: (request for _ in range(200)), reads=True, receive_bytes=4096)
    scene.under("fetch, read", attack)


def test_clients_that_ask_for_all_metadata_and_read_nothing(scene):
    many = METADATA_OF_ALL * 100

    def attack():
        return Crowd(scene.broker.bootstrap).join(50, lambda: (many for _ in range(100)))
    scene.under("metadata, read nothing", attack)


def test_clients_that_ask_for_all_metadata_and_read_it(scene):
    many = METADATA_OF_ALL * 100

    def attack():
        return Crowd(scene.broker.bootstrap).join(
            50, lambda: (many for _ in range(100)), reads=True)
    scene.under("metadata, read", attack)


def test_clients_that_ask_for_all_configurations(scene):
    request = describe_all_configs(scene.many)

    def attack():
        return Crowd(scene.broker.bootstrap).join(50, lambda: (request for _ in range(50)))
    scene.under("configurations", attack)


def test_clients_that_ask_for_offsets_by_time(scene):
    many = list_offsets(scene.stored) * 50

    def attack():
        return Crowd(scene.broker.bootstrap).join(
            50, lambda: (many for _ in range(200)), reads=True)
    scene.under("offsets by time", attack)


# Much.

def test_many_producers_of_the_largest_batches(scene):
    request = produce(scene.stored, scene.large)

    def attack():
        # 20 a second each: 160 MiB/s and more would be the disk's limit, not the broker's.
        return Crowd(scene.broker.bootstrap).join(
            8, lambda: (request[at:at + (1 << 18)] for _ in range(1000)
                        for at in range(0, len(request), 1 << 18)), pace_seconds=0.05, reads=True)
    scene.under("largest batches", attack)


def test_requests_of_100_mib_that_never_end(scene):
    def attack():
        begin = struct.pack(">i", 100 * MIB) + frame(wire.PRODUCE, 7, b"")[4:]
        filler = bytes(MIB)
        return Crowd(scene.broker.bootstrap, OTHERS).join(
            40, lambda: (begin if index == 0 else filler for index in range(99)))
    scene.under("endless requests", attack)


def test_half_requests_before_any_login_and_logins_of_the_largest_size(scene):
    half = struct.pack(">i", 512 << 10) + frame(36, 1, b"")[4:] + bytes((512 << 10) - 100)
    shake = frame(17, 1, wire.string("SCRAM-SHA-256"))
    token = b"n,,n=" + b"u" * (500 << 10) + b",r=" + b"n" * 5000
    login = frame(36, 1, struct.pack(">i", len(token)) + token)

    def attack():
        crowd = Crowd(scene.broker.sasl, OTHERS).join(600, lambda: [half])
        return crowd.join(200, lambda: [shake, login])
    scene.under("half and largest logins", attack)


@pytest.mark.parametrize("kind", ["compacted", "repacked"])
def test_bombs_that_the_broker_has_to_unpack(scene, kind):
    topic = getattr(scene, kind)
    request = produce(topic, bomb(60 * MIB, keyed=True))

    def attack():
        return Crowd(scene.broker.bootstrap).join(
            10, lambda: (request for _ in range(100)), reads=True)
    scene.under(f"bombs, {kind}", attack)


def test_readers_of_a_bomb_over_http(scene):
    with wire.Connection(scene.broker.bootstrap) as connection:
        for _ in range(3):
            assert connection.produce(scene.bombs, 0, bomb(15 * MIB, keyed=False))[0] == 0
    path = f"/api/v1/topics/{scene.bombs}/"
    ranges = get(path + "records", "Accept: application/x-ndjson")
    streams = get(path + "stream?from=beginning", "Accept: application/x-ndjson")

    def attack():
        crowd = Crowd(http_place(scene.broker)).join(50, lambda: [ranges])
        return crowd.join(50, lambda: [streams])
    scene.under("bombs, HTTP", attack)


# Passwords.

def login_frames(mechanism, token):
    shake = frame(17, 1, wire.string(mechanism))
    return shake + frame(36, 1, struct.pack(">i", len(token)) + token)


def test_guessing_passwords(scene):
    class Guessing(Crowd):
        """16 at a time, each begun anew when it was answered."""
        def press_on(self, seconds):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                self.join(16 - self.open(), lambda: [login_frames("PLAIN", b"\0admin\0wrong")])
                super().press_on(0.02)
                for member in [one for one in self.members if one.closed or one.received >= 100]:
                    self.members.remove(member)
                    if not member.closed:
                        self.gone(member)
                    member.socket.close()
            return self

        def join(self, count, pieces):
            return super().join(count, pieces, reads=True)
    addresses = [f"127.0.{a}.{b}" for a in range(2, 6) for b in range(1, 250)]
    random.shuffle(addresses)
    scene.under("guessed passwords", lambda: Guessing(scene.broker.sasl, addresses))


def test_guessing_passwords_over_http(scene):
    request = get("/api/v1/topics", "Authorization: Basic YWRtaW46d3Jvbmc=")

    def attack():
        return Crowd(http_place(scene.broker), OTHERS).join(100, lambda: [request], reads=True)
    scene.under("guessed passwords, HTTP", attack)


# HTTP.

def test_heads_that_are_too_large(scene):
    headers = get("/api/v1/topics", *(f"X-{index}: {'h' * 4000}" for index in range(2000)))
    address = get("/" + "u" * (4 * MIB))

    def attack():
        crowd = Crowd(http_place(scene.broker)).join(100, lambda: [headers])
        return crowd.join(100, lambda: [address])
    scene.under("huge HTTP heads", attack)


def test_readers_over_http_that_do_not_read(scene):
    path = f"/api/v1/topics/{scene.stored}/"
    ranges = get(path + "records", "Accept: application/x-ndjson")
    streams = get(path + "stream?from=beginning", "Accept: application/x-ndjson")

    def attack():
        crowd = Crowd(http_place(scene.broker))
        crowd.join(40, lambda: [ranges], receive_bytes=4096)
        return crowd.join(60, lambda: [streams], receive_bytes=4096)

    def meanwhile(_):
        status, _, body = http_get(
            f"{scene.broker.http}/api/v1/topics/{scene.stored}/records?limit=1", timeout=20)
        assert status == 200, body[:300]
    scene.under("slow HTTP readers", attack, meanwhile)


# Afterwards.

def test_who_is_slow_or_silent_is_gone_in_time(folders):
    """By connections.max.idle.ms, which is short here; without it strangers have 30 seconds."""
    with guarded(folders(), **{"connections.max.idle.ms": IDLE_MS_MAX}) as broker:
        half = struct.pack(">i", 10_000) + frame(wire.PRODUCE, 7, bytes(1000))[4:]
        slow = byte_by_byte(half)
        crowds = [
            Crowd(broker.bootstrap).join(20).join(20, lambda: [half]).join(20, slow, 0.5),
            Crowd(broker.sasl).join(20).join(20, lambda: [half]).join(20, slow, 0.5),
            Crowd(broker.tls).join(20).join(20, byte_by_byte(tls_hello()), 0.5),
        ]
        assert sum(crowd.open() for crowd in crowds) == 160
        wait_for("all of them to be closed",
                 lambda: not any(crowd.press_on(0.1).open() for crowd in crowds), 15)
        for crowd in crowds:
            crowd.close()


def test_connections_are_probed_so_that_vanished_peers_are_noticed(scene):
    """The kernel has a keep-alive timer (2) for the broker's end of a connection."""
    with wire.Connection(scene.broker.bootstrap) as connection:
        connection.api_versions()
        ours = f":{connection.socket.getsockname()[1]:04X}"
        theirs = f":{scene.broker.port:04X}"
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        timers = [line[5] for line in lines
                  if line[1].endswith(theirs) and line[2].endswith(ours)]
        assert len(timers) == 1 and timers[0].startswith("02:"), timers


def test_the_other_client_lost_nothing(scene):
    """Each acknowledged record is at the offset that was told, and they are in order."""
    acknowledged = scene.steady.rows()
    scene.steady.stop()
    offsets = [offset for _, _, offset in acknowledged]
    assert offsets == list(range(len(offsets)))
    numbers = []
    with wire.Connection(scene.broker.bootstrap) as connection:
        while len(numbers) < len(offsets):
            error, end, stored = connection.fetch(scene.steady.topic, 0, len(numbers))
            assert error == 0 and end >= len(offsets), f"{len(offsets) - end} records are lost"
            # 100 bytes each, behind 61 of the batch's head and a few of the record's.
            numbers += [int(batch[-101:-1].rstrip(b".")) for batch in wire.batches(stored)]
    assert numbers[:len(offsets)] == list(range(len(offsets)))
