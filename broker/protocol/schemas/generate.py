#!/usr/bin/env python3
"""Writes src/guard/generated.rs and its modules: every request's schema, from Kafka's own JSON.

    generate.py <kafka-clients jar> <source folder of the kafka-protocol crate>

The jar (Maven: org.apache.kafka:kafka-clients:4.1.0) holds the schemas as common/message/*.json.
The crate's source says which requests and structs it has; their sizes in memory are taken by the
compiler, with size_of.
Afterwards: cargo fmt -p odradek-protocol.
"""

import json
import pathlib
import re
import sys
import zipfile

FIXED_BYTES = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "uint16": 2,
    "int32": 4,
    "uint32": 4,
    "int64": 8,
    "float64": 8,
    "uuid": 16,
}
# What one element takes in a Vec of the crate's; strings and newtypes of them are `Bytes`.
RUST_TYPE = {
    "bool": "bool",
    "int8": "i8",
    "int16": "i16",
    "uint16": "u16",
    "int32": "i32",
    "uint32": "u32",
    "int64": "i64",
    "float64": "f64",
    "uuid": "uuid::Uuid",
    "string": "bytes::Bytes",
}
NEWEST = 99
# API keys, so that no file is long.
KEYS_OF_A_FILE = [(0, 37), (38, 65), (66, 92)]


def without_comments(text):
    return "\n".join(line for line in text.splitlines() if not line.strip().startswith("//"))


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def versions(text):
    """(oldest, newest), or None for "none"."""
    if text in (None, "none"):
        return None
    oldest, plus, newest = re.fullmatch(r"(\d+)(\+|-(?=\d))?(\d+)?", text).groups()
    return int(oldest), NEWEST if plus == "+" else int(newest or oldest)


class Message:
    def __init__(self, schema, module_source):
        self.schema = schema
        self.module = snake(schema["name"])
        self.prefix = self.module.removesuffix("_request").upper()
        self.structs = {
            common["name"]: common["fields"] for common in schema.get("commonStructs", [])
        }
        self.crate_structs = set(re.findall(r"^pub struct (\w+)", module_source, re.M))
        self.lines, self.done = [], set()

    def struct(self, name, fields):
        """Emits the struct's fields, its own structs first, and returns the constant's name."""
        constant = self.constant(name)
        if constant not in self.done:
            self.done.add(constant)
            rows = [self.field(field) for field in fields]
            visible = "" if name else "pub(super) "
            self.lines.append(f"{visible}const {constant}: &[Field] = &[{', '.join(rows)}];")
        return constant

    def constant(self, name):
        constant = snake(name).upper() if name else self.prefix
        return constant if constant.startswith(self.prefix) else f"{self.prefix}_{constant}"

    def size(self, name):
        """The constant of what one of the crate's structs takes in memory."""
        constant = f"{self.constant(name)}_SIZE"
        if constant not in self.done:
            assert name in self.crate_structs, (self.module, name)
            self.done.add(constant)
            self.lines.append(f"const {constant}: usize = size_of::<m::{self.module}::{name}>();")
        return constant

    def kind(self, type_name, fields):
        if type_name.startswith("[]"):
            element = type_name[2:]
            element_kind = self.kind(element, fields)
            if element in RUST_TYPE:
                return f"Kind::Array(&{element_kind}, size_of::<{RUST_TYPE[element]}>())"
            return f"Kind::Array(&{element_kind}, {self.size(element)})"
        if type_name in FIXED_BYTES:
            return f"Kind::Fixed({FIXED_BYTES[type_name]})"
        if type_name == "string":
            return "Kind::String"
        if type_name in ("bytes", "records"):
            return "Kind::Bytes"
        return f"Kind::Struct({self.struct(type_name, fields or self.structs[type_name])})"

    def field(self, field):
        kind = self.kind(field["type"], field.get("fields"))
        present = versions(field["versions"])
        if present is None:
            raise ValueError(field)
        row = f"field({present[0]}, {present[1]}, {kind})"
        if nullable := versions(field.get("nullableVersions")):
            row += f".nullable({nullable[0]}, {nullable[1]})"
        if tagged := versions(field.get("taggedVersions")):
            row += f".tagged({field['tag']}, {tagged[0]}, {tagged[1]})"
        return row


def main(jar, crate):
    sources = {
        path.stem: path.read_text()
        for path in pathlib.Path(crate, "src/messages").glob("*_request.rs")
    }
    messages = []
    with zipfile.ZipFile(jar) as archive:
        for name in archive.namelist():
            if not re.fullmatch(r"common/message/\w+Request\.json", name):
                continue
            schema = json.loads(without_comments(archive.read(name).decode()))
            if source := sources.pop(snake(schema["name"]), None):
                messages.append(Message(schema, source))
    assert not sources, f"the jar has no schema for {list(sources)}"
    messages.sort(key=lambda message: message.schema["apiKey"])
    table, codecs = [], []
    for message in messages:
        schema = message.schema
        fields = message.struct("", schema["fields"])
        oldest, newest = versions(schema["validVersions"])
        flexible = versions(schema["flexibleVersions"])
        flexible_from = flexible[0] if flexible else "NEVER"
        key = schema["apiKey"]
        table.append(
            f"Request {{ api_key: {key}, oldest: {oldest}, newest: {newest}, "
            f"flexible_from: {flexible_from}, fields: {fields} }},"
        )
        codecs.append(f"({key}, recode::<messages::{schema['name']}>),")
    jar_name = pathlib.Path(jar).name
    marker = f"// @generated by schemas/generate.py from {jar_name}. Do not edit.\n\n"
    guard = pathlib.Path(__file__).parent.parent / "src/guard"
    modules = []
    for oldest, newest in KEYS_OF_A_FILE:
        in_file = [m for m in messages if oldest <= m.schema["apiKey"] <= newest]
        modules.append(f"keys_{oldest:02}_{newest:02}")
        lines = [line for message in in_file for line in message.lines]
        (guard / f"generated/{modules[-1]}.rs").write_text(
            marker
            + "use kafka_protocol::messages as m;\n\n"
            + "use crate::guard::schema::{Field, Kind, field};\n\n"
            + "\n".join(lines)
            + "\n"
        )
    (guard / "generated.rs").write_text(
        marker
        + "".join(f"mod {module};\n" for module in modules)
        + "\nuse super::schema::{NEVER, Request};\n"
        + "".join(f"use {module}::*;\n" for module in modules)
        + "\n/// Ordered by API key.\n"
        + "pub(super) const REQUESTS: &[Request] = &[\n"
        + "\n".join(table)
        + "\n];\n"
    )
    (guard / "tests/generated.rs").write_text(
        marker
        + "use kafka_protocol::messages;\n\nuse super::{Recode, recode};\n\n"
        + "pub(super) const CODECS: &[(i16, Recode)] = &[\n"
        + "\n".join(codecs)
        + "\n];\n"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
