"""Records that are awkward on purpose, and the file form that Java and Python exchange them in."""

import random
import struct


def awkward(count, seed=7):
    """(key, value, headers) with nulls, empty ones, repeated header names, sizes up to 20 KiB."""
    chance = random.Random(seed)
    made = []
    for index in range(count):
        key = [None, b"", b"key-%d" % (index % 10), chance.randbytes(20)][index % 4]
        size = [0, 1, 17, 300, 20000][index % 5]
        half = chance.randbytes(size // 2)
        value = None if index % 31 == 30 else half + b"a" * (size - len(half))
        headers = [("same", b"1"), ("same", b"2"), ("empty", b"")] if index % 3 == 0 else []
        made.append((key, value, headers))
    return made


def encode(records):
    out = [struct.pack(">i", len(records))]
    for key, value, headers in records:
        out += [sized(key), sized(value), struct.pack(">i", len(headers))]
        for name, content in headers:
            out += [sized(name.encode()), sized(content)]
    return b"".join(out)


def sized(data):
    return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data
