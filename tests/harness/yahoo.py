"""Yahoo's live ticker, played on a local WebSocket: frames as Yahoo sends them, pings, cuts.

What it promises a client: after each 100 frames comes a ping; frames before a pong that came back
have arrived; after a cut (or when the client goes away) the frames since the last pong are sent
again on the next connection. All frames are encoded beforehand, so that half a million of them
leave in seconds, unless whoever plays it has a way to make them when they are due.
"""

import base64
import csv
import hashlib
import json
import random
import socket
import struct
import threading
import time
from datetime import datetime, timezone

FRAMES_PER_PING = 100
# So many pings may be unanswered before the server waits: Yahoo does not wait at all.
PINGS_OPEN_MAX = 20
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def ticks(path):
    """(epoch milliseconds, price, cumulative volume, volume) a row; DateTime is read as UTC."""
    rows = []
    total = 0
    with open(path, newline="") as opened:
        for row in csv.DictReader(opened):
            moment = datetime.fromisoformat(row["DateTime"]).replace(tzinfo=timezone.utc)
            volume = int(row["Volume"])
            total += volume
            milliseconds = round(moment.timestamp() * 1000)
            rows.append((milliseconds, float(row["Price"]), total, volume))
    return rows


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def pricing_data(symbol, milliseconds, price, day_volume):
    """PricingData by hand: id, price, time, exchange, quoteType future, regular hours, dayVolume,
    priceHint. sint64 is zigzag; zero would be left out, and none of these is zero."""
    name = symbol.encode()
    return b"".join((
        b"\x0a", varint(len(name)), name,
        b"\x15", struct.pack("<f", price),
        b"\x18", varint(milliseconds << 1),
        b"\x2a\x03CME\x30\x12\x38\x01\x48", varint(day_volume << 1),
        b"\xd8\x01\x04",
    ))


def payloads(symbol, rows, dialect):
    """The text frames: bare base64, or in the JSON envelope."""
    for milliseconds, price, day_volume, _ in rows:
        text = base64.b64encode(pricing_data(symbol, milliseconds, price, day_volume))
        if dialect == "envelope":
            text = b'{"type":"pricing","message":"' + text + b'"}'
        yield text


def chunked(symbol, rows, dialect):
    chunks, chunk = [], []
    for payload in payloads(symbol, rows, dialect):
        chunk.append(frame(TEXT, payload))
        if len(chunk) == FRAMES_PER_PING:
            chunks.append(b"".join(chunk))
            chunk = []
    if chunk:
        chunks.append(b"".join(chunk))
    return chunks


def frame(opcode, payload):
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    return bytes((0x80 | opcode, 126)) + struct.pack(">H", size) + payload


class Yahoo:
    """Serves the frames once, to one client at a time; cuts the connection `cuts` times. `chunks`
    are frames between two pings that somebody else makes, of more symbols perhaps: `symbol` is
    then the one whose subscription is waited for."""

    def __init__(
            self, symbol, rows, dialect, cuts=0, seed=1, frames_a_second=None, chunks=None):
        self.symbol, self.dialect = symbol, dialect
        self.chunks = chunked(symbol, rows, dialect) if chunks is None else chunks
        chance = random.Random(seed)
        count = len(self.chunks)
        self.cut_at = sorted(chance.sample(range(count // 20, count - count // 20), cuts))
        self.chance = chance
        self.frames_a_second = frames_a_second
        self.ponged = 0  # chunks that have arrived
        self.connections = self.resent = self.sent_to = 0
        self.subscriptions = []
        self.stopping = False
        self.failure = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/?version=2"
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.listener.close()

    def done(self):
        assert self.failure is None, self.failure
        return self.ponged == len(self.chunks)

    def progress(self):
        return self.ponged / len(self.chunks)

    def serve(self):
        while not self.stopping:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                client.settimeout(30)
                Session(self, client).run()
            except OSError:
                pass
            except Exception as error:
                self.failure = f"the played Yahoo failed: {error!r}"
                return
            finally:
                client.close()


class Session:
    def __init__(self, yahoo, client):
        self.yahoo, self.client = yahoo, client
        self.open, self.subscribed = True, False
        self.buffer = b""

    def run(self):
        self.handshake()
        self.yahoo.connections += 1
        reader = threading.Thread(target=self.read_frames, daemon=True)
        reader.start()
        try:
            self.wait(lambda: self.subscribed)
            self.send_chunks()
        finally:
            self.open = False
            try:
                self.client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            reader.join()

    def handshake(self):
        request = b""
        while b"\r\n\r\n" not in request:
            more = self.client.recv(4096)
            if not more:
                raise ConnectionError("gone before the handshake")
            request += more
        head, self.buffer = request.split(b"\r\n\r\n", 1)
        headers = dict(
            line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        headers = {name.lower(): value for name, value in headers.items()}
        key = headers[b"sec-websocket-key"]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
        self.client.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")

    def wait(self, condition):
        while not condition():
            if not self.open or self.yahoo.stopping:
                raise ConnectionError("the client is gone")
            time.sleep(0.001)

    def send_chunks(self):
        yahoo = self.yahoo
        at = yahoo.ponged
        yahoo.resent += max(0, yahoo.sent_to - at)
        begun, first = time.monotonic(), at
        while at < len(yahoo.chunks):
            if yahoo.cut_at and at >= yahoo.cut_at[0]:
                yahoo.cut_at.pop(0)
                return self.cut(yahoo.chunks[at])
            self.client.sendall(yahoo.chunks[at] + frame(PING, b"%d" % (at + 1)))
            at += 1
            yahoo.sent_to = max(yahoo.sent_to, at)
            self.wait(lambda: at - yahoo.ponged <= PINGS_OPEN_MAX)
            if yahoo.frames_a_second:
                due = begun + (at - first) * FRAMES_PER_PING / yahoo.frames_a_second
                self.wait(lambda: time.monotonic() >= due)
        # The market is closed: only pings.
        while self.open and not yahoo.stopping:
            self.client.sendall(frame(PING, b"%d" % at))
            for _ in range(100):
                if self.open and not yahoo.stopping:
                    time.sleep(0.01)

    def cut(self, chunk):
        """Breaks off in the middle of a frame; every other time with a reset."""
        self.client.sendall(chunk[:self.yahoo.chance.randrange(1, len(chunk))])
        if self.yahoo.chance.random() < 0.5:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def read_frames(self):
        try:
            while self.open:
                opcode, payload = self.read_frame()
                if opcode == PONG and payload.isdigit():
                    self.yahoo.ponged = max(self.yahoo.ponged, int(payload))
                elif opcode == PING:
                    self.client.sendall(frame(PONG, payload))
                elif opcode == TEXT:
                    asked = json.loads(payload)
                    self.yahoo.subscriptions.append(asked)
                    self.subscribed |= self.yahoo.symbol in asked.get("subscribe", [])
                elif opcode == CLOSE:
                    break
        except OSError:
            pass
        self.open = False

    def read_frame(self):
        first, second = self.exactly(2)
        size = second & 0x7F
        if size == 126:
            size = struct.unpack(">H", self.exactly(2))[0]
        elif size == 127:
            size = struct.unpack(">Q", self.exactly(8))[0]
        mask = self.exactly(4)  # a client's frames are masked
        payload = self.exactly(size)
        return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

    def exactly(self, size):
        while len(self.buffer) < size:
            try:
                more = self.client.recv(65536)
            except TimeoutError:
                if not self.open:
                    raise ConnectionError("closed") from None
                continue
            if not more:
                raise ConnectionError("closed")
            self.buffer += more
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken
