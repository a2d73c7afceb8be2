"""Record batches by hand: made with every mistake that a producer can make, and read again.

Read batches become dictionaries, so that the records of a Fetch reply are compared field by field.
"""

import gzip
import io
import struct

from harness import wire

# Old enough never to be taken for the time of the run; see normal.py.
TIME_MS = 1_700_000_000_000
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
LOG_APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
NAMES = {GZIP: "gzip", SNAPPY: "snappy", LZ4: "lz4", ZSTD: "zstd"}


def batch(*values, keys=None, producer=(-1, -1), sequence=-1, attributes=0, timestamp=TIME_MS,
          magic=2, crc=None, count=None, last_offset_delta=None, headers=(), base_offset=0):
    """A batch of magic 2 whose records have one value each; `producer` is its id and epoch."""
    keys = keys or [None] * len(values)
    records = b"".join(
        wire.record(index, key, value, headers, index)
        for index, (key, value) in enumerate(zip(keys, values))
    )
    records = compress(attributes & 7, records)
    count = len(values) if count is None else count
    delta = len(values) - 1 if last_offset_delta is None else last_offset_delta
    checked = struct.pack(
        ">hiqqqhii", attributes, delta, timestamp, timestamp + max(len(values) - 1, 0),
        producer[0], producer[1], sequence, count,
    ) + records
    crc = wire.crc32c(checked) if crc is None else crc
    rest = struct.pack(">ibI", 0, magic, crc) + checked
    return struct.pack(">qi", base_offset, len(rest)) + rest


def message_set(value, magic):
    """One message of the old formats, magic 0 or 1."""
    import zlib

    body = struct.pack(">bb", magic, 0)
    if magic == 1:
        body += struct.pack(">q", TIME_MS)
    body += struct.pack(">ii", -1, len(value)) + value
    message = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", 0, len(message)) + message


def compress(codec, data):
    if codec == GZIP:
        return gzip.compress(data, mtime=0)
    if codec == LZ4:
        import lz4.frame

        return lz4.frame.compress(data)
    if codec == SNAPPY:
        import snappy

        return snappy.compress(data)
    if codec == ZSTD:
        import zstandard

        return zstandard.compress(data)
    return data


def decompress(codec, data):
    if codec == GZIP:
        return gzip.decompress(data)
    if codec == LZ4:
        import lz4.frame

        return lz4.frame.decompress(data)
    if codec == SNAPPY:
        import snappy

        return snappy_blocks(data) if data.startswith(b"\x82SNAPPY\0") else snappy.decompress(data)
    if codec == ZSTD:
        import zstandard

        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    return data


def snappy_blocks(data):
    """The framing of Java's snappy library: a header of 16 bytes, then sized blocks."""
    import snappy

    out, at = b"", 16
    while at < len(data):
        size = struct.unpack_from(">i", data, at)[0]
        out += snappy.decompress(data[at + 4:at + 4 + size])
        at += 4 + size
    return out


def read(data):
    """The batches of a record set. One that is cut off at the end is left out."""
    found = []
    while len(data) >= 12:
        size = 12 + struct.unpack_from(">i", data, 8)[0]
        if len(data) < size:
            break
        found.append(read_batch(data[:size]))
        data = data[size:]
    return found


def read_batch(data):
    base, _, epoch, magic, crc = struct.unpack_from(">qiibI", data)
    if magic != 2:
        return {"BaseOffset": base, "Magic": magic, "Bytes": data[12:].hex()}
    attributes, delta, first, last, producer, producer_epoch, sequence, count = (
        struct.unpack_from(">hiqqqhii", data, 21)
    )
    codec = attributes & 7
    records = decompress(codec, data[61:])
    return {
        "BaseOffset": base, "PartitionLeaderEpoch": epoch, "Magic": magic,
        "CrcRight": crc == wire.crc32c(data[21:]), "Compression": NAMES.get(codec, codec),
        "Attributes": attributes & ~7, "LastOffsetDelta": delta, "BaseTimestamp": first,
        "MaxTimestamp": last, "ProducerId": producer, "ProducerEpoch": producer_epoch,
        "BaseSequence": sequence, "Records": read_records(records, count),
    }


def read_records(data, count):
    reader = Varints(data)
    found = []
    for _ in range(count):
        reader.varint()
        reader.at += 1
        one = {"TimestampDelta": reader.varint(), "OffsetDelta": reader.varint()}
        one["Key"], one["Value"] = reader.sized(), reader.sized()
        headers = [[reader.sized(), reader.sized()] for _ in range(reader.varint())]
        if headers:
            one["Headers"] = headers
        found.append(one)
    return found


class Varints:
    def __init__(self, data):
        self.data, self.at = data, 0

    def varint(self):
        number = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return (number >> 1) ^ -(number & 1)

    def sized(self):
        size = self.varint()
        if size < 0:
            return None
        self.at += size
        return bytes(self.data[self.at - size:self.at])
