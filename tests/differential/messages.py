"""Kafka's messages as dictionaries, for every API and version, by Kafka's own message schemas.

The schemas are the JSON files inside the jar of kafka-clients. A dictionary has the field names of
the schema; in a request a missing field takes the schema's default, a name that no version of the
message has is refused, and a field that this version does not have is left out.
"""

import json
import re
import struct
import uuid
import zipfile
from functools import cache

from harness import java

VERSION_OF_KAFKA = "4.3.0"
NO_UUID = "00000000-0000-0000-0000-000000000000"
FIXED = {
    "bool": "?", "int8": "b", "int16": "h", "uint16": "H", "int32": "i", "uint32": "I",
    "int64": "q", "float64": "d",
}


class Versions:
    """A range as the schemas write it: `0+`, `3-7`, `2`, `none`."""

    def __init__(self, text):
        first, _, last = text.rstrip("+").partition("-")
        if text == "none":
            self.oldest, self.newest = 1, 0
        else:
            self.oldest = int(first)
            self.newest = 1 << 15 if text.endswith("+") else int(last or first)

    def __contains__(self, version):
        return self.oldest <= version <= self.newest


class Field:
    def __init__(self, schema, flexible, structures):
        self.name = schema["name"]
        self.type = schema["type"]
        self.array = self.type.startswith("[]")
        self.item = self.type.removeprefix("[]")
        self.versions = Versions(schema["versions"])
        self.nullable = Versions(schema.get("nullableVersions", "none"))
        self.tagged = Versions(schema.get("taggedVersions", "none"))
        self.tag = schema.get("tag")
        self.flexible = Versions(schema["flexibleVersions"]) if "flexibleVersions" in schema \
            else flexible
        if "fields" in schema:
            structures[self.item] = Structure(schema["fields"], flexible, structures)
        self.structures = structures
        self.written_default = schema.get("default")

    @property
    def structure(self):
        return self.structures.get(self.item)

    def default(self, version):
        written = self.written_default
        if written == "null" and version in self.nullable:
            return None
        if self.array:
            return []
        if self.structure:
            return {one.name: one.default(version) for one in self.structure.at(version)}
        if self.item in ("string", "uuid"):
            return written or ("" if self.item == "string" else NO_UUID)
        if self.item in ("bytes", "records"):
            return b""
        if self.item == "bool":
            return str(written).lower() == "true"
        if self.item == "float64":
            return float(written or 0)
        return int(str(written or 0), 0)


class Structure:
    def __init__(self, fields, flexible, structures):
        self.fields = [Field(one, flexible, structures) for one in fields]
        self.names = {one.name for one in self.fields}
        self.flexible = flexible

    def at(self, version):
        return [one for one in self.fields if version in one.versions]


class Message:
    def __init__(self, schema):
        self.key = schema["apiKey"]
        self.name = schema["name"]
        self.valid = Versions(schema["validVersions"])
        # Not listed unless the broker is told to.
        self.valid.newest -= bool(schema.get("latestVersionUnstable"))
        self.flexible = Versions(schema["flexibleVersions"])
        structures = {}
        for shared in schema.get("commonStructs", []):
            structures[shared["name"]] = Structure(shared["fields"], self.flexible, structures)
        self.body = Structure(schema["fields"], self.flexible, structures)

    def encode(self, version, fields):
        out = bytearray()
        write_structure(out, self.body, version, fields)
        return bytes(out)

    def decode(self, version, data):
        """The fields; bytes that are left over are an error."""
        reader = Reader(data)
        fields = read_structure(reader, self.body, version)
        if reader.at != len(data):
            raise ValueError(f"{self.name} {version}: {len(data) - reader.at} bytes left over")
        return fields


@cache
def jar():
    return zipfile.ZipFile(java.jars(VERSION_OF_KAFKA) / f"kafka-clients-{VERSION_OF_KAFKA}.jar")


@cache
def message(name):
    text = jar().read(f"common/message/{name}.json").decode()
    return Message(json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE)))


def request(api):
    return message(api + "Request")


def response(api):
    return message(api + "Response")


def versions(api):
    """Every version that Kafka's schema has."""
    valid = request(api).valid
    return range(valid.oldest, valid.newest + 1)


def request_frame(api, version, correlation, fields, client_id="differential"):
    schema = request(api)
    frame = bytearray(struct.pack(">hhi", schema.key, version, correlation))
    frame += struct.pack(">h", len(client_id)) + client_id.encode()
    if version in schema.flexible:
        frame.append(0)
    frame += schema.encode(version, fields)
    return struct.pack(">i", len(frame)) + frame


def response_fields(api, version, frame):
    """`frame`: a reply behind its correlation id."""
    schema = response(api)
    reader = Reader(frame)
    if version not in schema.valid:
        # Only ApiVersions is answered at a version that is not there, and then at version 0.
        return schema.decode(0, frame)
    # An ApiVersions reply never has a flexible header.
    if version in schema.flexible and api != "ApiVersions":
        read_tags(reader)
    return schema.decode(version, frame[reader.at:])


# Writing


def uvarint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def write_structure(out, structure, version, fields):
    unknown = fields.keys() - structure.names
    if unknown:
        raise KeyError(f"no such fields: {sorted(unknown)}; there are {sorted(structure.names)}")
    tagged = []
    for field in structure.at(version):
        value = fields.get(field.name, field.default(version))
        if version not in field.tagged:
            write_value(out, field, version, value)
        elif value != field.default(version):
            content = bytearray()
            write_value(content, field, version, value)
            tagged.append((field.tag, content))
    if version in structure.flexible:
        out += uvarint(len(tagged))
        for tag, content in sorted(tagged):
            out += uvarint(tag) + uvarint(len(content)) + content


def write_length(out, field, version, length, form):
    """None: null."""
    if version in field.flexible:
        out += uvarint(0 if length is None else length + 1)
    else:
        out += struct.pack(form, -1 if length is None else length)


def write_value(out, field, version, value):
    if not field.array:
        write_item(out, field, version, value)
        return
    write_length(out, field, version, None if value is None else len(value), ">i")
    for item in value or []:
        write_item(out, field, version, item)


def write_item(out, field, version, value):
    if field.structure:
        if version in field.nullable and not field.array:
            out += struct.pack(">b", -1 if value is None else 1)
        if value is not None:
            write_structure(out, field.structure, version, value)
    elif field.item in FIXED:
        out += struct.pack(">" + FIXED[field.item], value)
    elif field.item == "uuid":
        out += uuid.UUID(value).bytes
    else:
        data = value.encode() if isinstance(value, str) else value
        form = ">h" if field.item == "string" else ">i"
        write_length(out, field, version, None if data is None else len(data), form)
        out += data or b""


# Reading


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if size < 0 or self.at + size > len(self.data):
            raise ValueError(f"{size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return bytes(self.data[self.at - size:self.at])

    def unpack(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def uvarint(self):
        number = shift = 0
        while True:
            byte = self.take(1)[0]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
            shift += 7


def read_tags(reader):
    """{tag: bytes}"""
    found = {}
    for _ in range(reader.uvarint()):
        tag = reader.uvarint()
        found[tag] = reader.take(reader.uvarint())
    return found


def read_structure(reader, structure, version):
    fields = {}
    present = structure.at(version)
    for field in present:
        if version not in field.tagged:
            fields[field.name] = read_value(reader, field, version)
    if version in structure.flexible:
        tags = read_tags(reader)
        for field in present:
            if version not in field.tagged:
                continue
            if field.tag in tags:
                fields[field.name] = read_value(Reader(tags.pop(field.tag)), field, version)
            else:
                fields[field.name] = field.default(version)
        if tags:
            raise ValueError(f"tags that the schema does not know: {sorted(tags)}")
    return fields


def read_length(reader, field, version, form):
    length = reader.uvarint() - 1 if version in field.flexible else reader.unpack(form)
    return None if length == -1 else length


def read_value(reader, field, version):
    if not field.array:
        return read_item(reader, field, version)
    length = read_length(reader, field, version, ">i")
    return None if length is None else [
        read_item(reader, field, version) for _ in range(length)
    ]


def read_item(reader, field, version):
    if field.structure:
        if version in field.nullable and not field.array and reader.unpack(">b") < 0:
            return None
        return read_structure(reader, field.structure, version)
    if field.item in FIXED:
        return reader.unpack(">" + FIXED[field.item])
    if field.item == "uuid":
        return str(uuid.UUID(bytes=reader.take(16)))
    length = read_length(reader, field, version, ">h" if field.item == "string" else ">i")
    if length is None:
        return None
    data = reader.take(length)
    return data.decode() if field.item == "string" else data
