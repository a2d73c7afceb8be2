"""Kafka's protocol by hand, in the few shapes that a client library would not send: the same batch
twice, bytes that are no request, sizes that lie. Old, non-flexible versions keep it short."""

import itertools
import socket
import struct
import time

PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, INIT_PRODUCER_ID = 0, 1, 2, 3, 18, 22
VERSION = {PRODUCE: 7, FETCH: 4, LIST_OFFSETS: 1, METADATA: 1, API_VERSIONS: 0, INIT_PRODUCER_ID: 1}


def crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = crc32c_table()


def crc32c(data, before=0):
    """Of what has the checksum `before`, and this behind it."""
    value = before ^ 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def varint(number):
    number = (number << 1) ^ (number >> 63)
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def varbytes(data):
    return varint(-1) if data is None else varint(len(data)) + data


def record(delta, key, value, headers=(), timestamp_delta=0):
    body = b"\0" + varint(timestamp_delta) + varint(delta) + varbytes(key) + varbytes(value)
    body += varint(len(headers))
    for name, content in headers:
        body += varbytes(name) + varbytes(content)
    return varint(len(body)) + body


def batch(values, timestamp_ms, producer_id=-1, epoch=-1, sequence=-1, attributes=0):
    """A record batch, magic 2, not compressed."""
    records = b"".join(record(index, None, value) for index, value in enumerate(values))
    checked = struct.pack(
        ">hiqqqhii", attributes, len(values) - 1, timestamp_ms, timestamp_ms, producer_id, epoch,
        sequence, len(values),
    ) + records
    rest = struct.pack(">ibI", 0, 2, crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(rest)) + rest


def batches(stored):
    """The batches of a record set, each as bytes."""
    while stored:
        size = 12 + struct.unpack_from(">i", stored, 8)[0]
        yield stored[:size]
        stored = stored[size:]


def string(text):
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


class Connection:
    def __init__(self, bootstrap, timeout=20):
        host, port = bootstrap.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.correlations = itertools.count(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, api, body, version=None):
        version = VERSION[api] if version is None else version
        correlation = next(self.correlations)
        frame = struct.pack(">hhi", api, version, correlation) + string("by-hand") + body
        self.socket.sendall(struct.pack(">i", len(frame)) + frame)
        return correlation

    def receive(self):
        size = struct.unpack(">i", self.exactly(4))[0]
        frame = self.exactly(size)
        return struct.unpack(">i", frame[:4])[0], Reader(frame[4:])

    def exactly(self, size):
        got = b""
        while len(got) < size:
            more = self.socket.recv(min(size - len(got), 1 << 20))
            if not more:
                raise ConnectionError(f"closed after {len(got)} of {size} bytes")
            got += more
        return got

    def call(self, api, body, version=None):
        sent = self.send(api, body, version)
        correlation, reader = self.receive()
        assert correlation == sent
        return reader

    def produce(self, topic, partition, batch, acks=-1):
        """The error code and base offset of the reply."""
        body = string(None) + struct.pack(">hii", acks, 10000, 1) + string(topic)
        body += struct.pack(">iii", 1, partition, len(batch)) + batch
        reader = self.call(PRODUCE, body)
        assert reader.i32() == 1 and reader.string() == topic
        assert reader.i32() == 1 and reader.i32() == partition
        return reader.i16(), reader.i64()

    def fetch(self, topic, partition, offset, wait_ms=100, bytes_max=1 << 24):
        """Error code, high watermark and the record bytes of the reply."""
        body = struct.pack(">iiiib", -1, wait_ms, 1, bytes_max, 0)
        body += struct.pack(">i", 1) + string(topic)
        body += struct.pack(">iiqi", 1, partition, offset, bytes_max)
        reader = self.call(FETCH, body)
        reader.i32()
        assert reader.i32() == 1 and reader.string() == topic
        assert reader.i32() == 1 and reader.i32() == partition
        error, high_watermark, _ = reader.i16(), reader.i64(), reader.i64()
        aborted = reader.i32()
        assert aborted in (-1, 0)
        return error, high_watermark, reader.bytes()

    def init_producer_id(self):
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            reader = self.call(INIT_PRODUCER_ID, string(None) + struct.pack(">i", 60000))
            reader.i32()
            error, producer_id, epoch = reader.i16(), reader.i64(), reader.i16()
            if error not in (14, 15):  # the coordinator is loading, or not there yet
                break
        assert error == 0, error
        return producer_id, epoch

    def api_versions(self):
        reader = self.call(API_VERSIONS, b"")
        assert reader.i16() == 0
        return {reader.i16(): (reader.i16(), reader.i16()) for _ in range(reader.i32())}


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def unpack(self, form):
        value = struct.unpack_from(form, self.data, self.at)[0]
        self.at += struct.calcsize(form)
        return value

    def i16(self):
        return self.unpack(">h")

    def i32(self):
        return self.unpack(">i")

    def i64(self):
        return self.unpack(">q")

    def string(self):
        return self.take(self.i16()).decode()

    def bytes(self):
        return self.take(self.i32())

    def take(self, size):
        self.at += size
        return self.data[self.at - size:self.at]
