"""A wrong password and an unknown user cannot be told apart, by content or by time.

Tries with the one and with the other come in random order, each on a connection of its own and
from an address of its own, so that what the broker does against guessing (it slows down an
address) plays no part, and what else the machine does hits both alike. Their times are compared by
ranks.

Power: for n tries of each kind, of times with the standard deviation s, a difference d moves z by
about d / (2 s sqrt(pi)) * sqrt(12 n^2 / (2 n + 1)) = 0.69 sqrt(n) d / s. With n = 1,000 and
z = 5.33 + 2.33 (found in 99 of 100 runs), d = 5 % of the median is found while s is below a
seventh of it; the broker's derivation is steadier than that on a quiet machine. How small a
difference the run's own samples would have shown is computed from them and printed, and must be at
most 5 % with --full for PLAIN and HTTP, where a password is derived.
"""

import base64
import collections
import itertools
import os
import random
import socket
import statistics
import struct
import time

import pytest
from harness import ranks, wire
from harness.broker import Broker, free_port

pytestmark = pytest.mark.odradek_only

FULL = bool(os.environ.get("ODRADEK_TEST_FULL"))
# Of each kind: the known user with a wrong password, an unknown one.
TRIES = 1000 if FULL else 200
PASSWORD = "a right password"
USERS = "configured", "stored"
JAAS = ("org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'user_configured="{PASSWORD}";')
MECHANISMS = "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"
PROOF_BYTES = {"SCRAM-SHA-256": 32, "SCRAM-SHA-512": 64}
SOURCES = (f"127.{a}.{b}.{c}"
           for a, b, c in itertools.product(range(1, 200), range(256), range(1, 255)))


@pytest.fixture(scope="module")
def broker(folders):
    sasl = free_port()
    with Broker(folder=folders(), properties={
        "listeners": f"PLAINTEXT://127.0.0.1:{free_port()},SASL_PLAINTEXT://127.0.0.1:{sasl}",
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": JAAS,
        # It would hide what is to be measured.
        "connection.failed.authentication.delay.ms": 0,
    }) as broker:
        broker.sasl = f"127.0.0.1:{sasl}"
        add_stored_user(broker)
        yield broker


def add_stored_user(broker):
    host, port = broker.http.removeprefix("http://").split(":")
    body = b'{"password":"' + PASSWORD.encode() + b'"}'
    with socket.create_connection((host, int(port)), 20) as connection:
        connection.sendall(b"PUT /api/v1/users/stored HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                           b"application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert connection.recv(4096).split(b" ")[1][:1] == b"2"


class From(wire.Connection):
    """A connection from an address that nothing came from before."""

    def __init__(self, bootstrap):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), 60, (next(SOURCES), 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlations = itertools.count(1)


Reply = collections.namedtuple("Reply", "seconds error message token")


def authenticate(connection, token):
    """SaslAuthenticate 1; how long the answer took, and the answer."""
    begun = time.perf_counter()
    reader = connection.call(36, struct.pack(">i", len(token)) + token, 1)
    seconds = time.perf_counter() - begun
    error, size = reader.i16(), reader.i16()
    message = reader.take(max(size, 0))
    token = reader.bytes()
    return Reply(seconds, error, message, token)


def shake_hands(connection, mechanism):
    reader = connection.call(17, wire.string(mechanism), 1)
    assert reader.i16() == 0


def plain(broker, user):
    with From(broker.sasl) as connection:
        shake_hands(connection, "PLAIN")
        return [authenticate(connection, b"\0%s\0wrong" % user.encode())]


def scram(broker, mechanism, user):
    with From(broker.sasl) as connection:
        shake_hands(connection, mechanism)
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = authenticate(connection, f"n,,n={user},r={nonce}".encode())
        theirs = first.token.decode().split(",")[0]
        proof = base64.b64encode(os.urandom(PROOF_BYTES[mechanism])).decode()
        return [first, authenticate(connection, f"c=biws,{theirs},p={proof}".encode())]


def basic(broker, user):
    host, port = broker.http.removeprefix("http://").split(":")
    credentials = base64.b64encode(f"{user}:wrong".encode())
    source = (next(SOURCES), 0)
    with socket.create_connection((host, int(port)), 60, source) as connection:
        begun = time.perf_counter()
        connection.sendall(b"GET /api/v1/topics HTTP/1.1\r\nHost: localhost\r\n"
                           b"Connection: close\r\nAuthorization: Basic "
                           + credentials + b"\r\n\r\n")
        answer = b""
        while more := connection.recv(4096):
            answer += more
        seconds = time.perf_counter() - begun
    head, body = answer.split(b"\r\n\r\n", 1)
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"date:")]
    return [Reply(seconds, int(lines[0].split()[1]), b"\r\n".join(lines), body)]


def unknown_like(user):
    """A name that nobody has, of the same length."""
    return "".join(random.choices("abcdefghijklmnopqrstuvwxyz", k=len(user)))


def shown(reply):
    """What of a server-first message should not differ: its form, and the iterations."""
    nonce, salt, iterations = reply.token.decode().split(",")
    return len(nonce), len(base64.b64decode(salt[2:], validate=True)), iterations


def compare(name, known, unknown):
    z = ranks.mann_whitney_z(known, unknown)
    found = max(ranks.smallest_share_found(known, unknown),
                ranks.smallest_share_found(unknown, known))
    print(f"{name:24} {len(known):5} + {len(unknown)} tries, medians "
          f"{1e6 * statistics.median(known):9.1f} {1e6 * statistics.median(unknown):9.1f} µs, "
          f"z = {z:5.2f}, would have found {found} %")
    assert abs(z) < ranks.Z_MAX, f"{name}: the times of known and unknown users differ, z = {z:.2f}"
    return found


def gather(broker, attempt):
    known, unknown = [], []
    order = [True, False] * TRIES
    random.shuffle(order)
    for is_known in order:
        user = random.choice(USERS)
        if is_known:
            known.append(attempt(broker, user))
        else:
            unknown.append(attempt(broker, unknown_like(user)))
    return known, unknown


@pytest.mark.parametrize("way", [*MECHANISMS, "HTTP"])
def test_unknown_users_are_answered_like_wrong_passwords_in_the_same_time(broker, way):
    tries = {"PLAIN": plain, "HTTP": basic}
    attempt = tries.get(way) or (lambda broker, user: scram(broker, way, user))
    for user in USERS:
        attempt(broker, user)  # What is done once is done before.
    known, unknown = gather(broker, attempt)
    found = []
    for step in range(len(known[0])):
        is_first = way.startswith("SCRAM") and step == 0
        what = (lambda reply: (reply.error, reply.message, shown(reply))) if is_first else (
            lambda reply: (reply.error, reply.message, reply.token))
        answers = {what(replies[step]) for replies in known + unknown}
        assert len(answers) == 1, f"{way}: {answers}"
        times = [[replies[step].seconds for replies in kind] for kind in (known, unknown)]
        found.append(compare(f"{way}, message {step + 1}", *times))
    if FULL and way in ("PLAIN", "HTTP"):
        assert found[0] <= 5, f"too noisy: a difference of {found[0]} % would have been overlooked"


def test_a_difference_of_five_percent_is_found():
    """The yardstick itself, on times of the spread that derivations have."""
    random.seed(5)
    times = [[random.gauss(1, 0.1) for _ in range(1000)] for _ in range(2)]
    assert abs(ranks.mann_whitney_z(*times)) < ranks.Z_MAX
    longer = [time * 1.05 for time in times[1]]
    assert ranks.mann_whitney_z(longer, times[0]) > ranks.Z_MAX
    # By hand, for 1 2 | 1 3: the ranks are 1.5, 3 | 1.5, 4, U = 1.5, its mean 2, its variance
    # 4/12 (5 - 6/12) = 1.5.
    assert ranks.mann_whitney_z([1, 2], [1, 3]) == pytest.approx((1.5 - 2) / 1.5 ** 0.5)


def test_the_salt_of_a_name_stays_the_same_whether_it_exists_or_not(broker):
    """Who asks twice, also across a restart, sees salts change or stay: both kinds stay."""
    names = [*USERS, "nobody-here", "neither-here"]

    def salts():
        return {(mechanism, name): scram(broker, mechanism, name)[0].token.split(b",")[1:]
                for mechanism in PROOF_BYTES for name in names}

    before = salts()
    assert salts() == before
    assert len({salt for salt, _ in before.values()}) == len(before), "two names share a salt"
    broker.restart()
    assert salts() == before
