#!/usr/bin/env python3
"""Writes src/guard/generated.rs: the schema of every request, from Kafka's own message JSON.

    generate.py <kafka-clients jar> <source folder of the kafka-protocol crate>

The jar (Maven: org.apache.kafka:kafka-clients:4.1.0) holds the schemas as common/message/*.json. The crate's source says
which requests and structs it has; their sizes in memory are taken by the compiler, with size_of.
Afterwards: cargo fmt -p odradek-protocol.
"""
import json
import pathlib
import re
import sys
import zipfile

FIXED_BYTES = {"bool": 1, "int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8,
               "float64": 8, "uuid": 16}
# What one element takes in a Vec of the crate's; strings and newtypes of them are `Bytes`.
RUST_TYPE = {"bool": "bool", "int8": "i8", "int16": "i16", "uint16": "u16", "int32": "i32", "uint32": "u32",
             "int64": "i64", "float64": "f64", "uuid": "uuid::Uuid", "string": "Bytes"}
NEWEST = 99


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
        self.structs = {common["name"]: common["fields"] for common in schema.get("commonStructs", [])}
        self.crate_structs = set(re.findall(r"^pub struct (\w+)", module_source, re.M))
        self.lines, self.done = [], set()

    def struct(self, name, fields):
        """Emits the struct's fields, its own structs first, and returns the constant's name."""
        constant = snake(name).upper() if name else self.prefix
        if not constant.startswith(self.prefix):
            constant = f"{self.prefix}_{constant}"
        if constant not in self.done:
            self.done.add(constant)
            rows = [self.field(field) for field in fields]
            self.lines.append(f"const {constant}: &[Field] = &[{', '.join(rows)}];")
        return constant

    def kind(self, type_name, fields):
        if type_name.startswith("[]"):
            element = type_name[2:]
            in_memory = RUST_TYPE.get(element)
            if in_memory is None:
                assert element in self.crate_structs, (self.module, element)
                in_memory = f"messages::{self.module}::{element}"
            return f"Kind::Array(&{self.kind(element, fields)}, size_of::<{in_memory}>())"
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
    sources = {path.stem: path.read_text() for path in pathlib.Path(crate, "src/messages").glob("*_request.rs")}
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
        table.append(f"Request {{ api_key: {key}, oldest: {oldest}, newest: {newest}, "
                     f"flexible_from: {flexible_from}, fields: {fields} }},")
        codecs.append(f"({key}, recode::<messages::{schema['name']}>),")
    marker = f"// @generated by schemas/generate.py from {pathlib.Path(jar).name}. Do not edit."
    lines = [line for message in messages for line in message.lines]
    here = pathlib.Path(__file__).parent.parent / "src/guard"
    (here / "generated.rs").write_text("\n".join([
        marker, "", "use bytes::Bytes;", "use kafka_protocol::messages;", "",
        "use super::schema::{Field, Kind, NEVER, Request, field};", "", *lines, "",
        "/// Ordered by API key.", "pub(super) const REQUESTS: &[Request] = &[", *table, "];", ""]))
    (here / "tests/generated.rs").write_text("\n".join([
        marker, "", "use kafka_protocol::messages;", "", "use super::{Recode, recode};", "",
        "pub(super) const CODECS: &[(i16, Recode)] = &[", *codecs, "];", ""]))


if __name__ == "__main__":
    main(*sys.argv[1:])
