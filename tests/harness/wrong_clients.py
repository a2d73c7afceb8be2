"""Clients of four libraries that are set up wrongly: each is started, and what it says is kept.

A client gets a name of its own, which its library writes into its log lines; so many can run at the
same time and each line still has its author. What a client raises is kept, not raised: what it
says, exception or log line, is the result.
"""

import json
import logging
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import confluent_kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from . import java

SECONDS = 4
# Java's begin later, all of them at once.
JAVA_SECONDS = 8
# A program that asks once and ends by itself.
PROGRAM_SECONDS_MAX = 30


@dataclass(frozen=True)
class Settings:
    """What a user writes into a client, beside the address; paths as text."""

    protocol: str = "PLAINTEXT"
    user: str = "admin"
    password: str = "password"
    mechanism: str = "PLAIN"
    ca: str = ""

    def python(self):
        options = {"security_protocol": self.protocol}
        if self.protocol.startswith("SASL"):
            options |= {"sasl_mechanism": self.mechanism, "sasl_plain_username": self.user,
                        "sasl_plain_password": self.password}
        if self.protocol.endswith("SSL"):
            options["ssl_cafile"] = self.ca
        return options

    def librdkafka(self):
        options = {"security.protocol": self.protocol}
        if self.protocol.startswith("SASL"):
            options |= {"sasl.mechanism": self.mechanism, "sasl.username": self.user,
                        "sasl.password": self.password}
        if self.protocol.endswith("SSL"):
            options["ssl.ca.location"] = self.ca
        return options

    def java(self):
        options = {"security.protocol": self.protocol}
        if self.protocol.startswith("SASL"):
            module = "plain.Plain" if self.mechanism == "PLAIN" else "scram.Scram"
            options |= {
                "sasl.mechanism": self.mechanism,
                "sasl.jaas.config":
                    f"org.apache.kafka.common.security.{module}LoginModule required "
                    f'username="{self.user}" password="{self.password}";',
            }
        if self.protocol.endswith("SSL"):
            options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.ca}
        return options


class Lines(logging.Handler):
    """Keeps log lines as text."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


# What a client does: "list" asks for the topics, "send" writes a record, "read" subscribes.


def kafka_python(name, bootstrap, settings, verb="list", topic=None, seconds=SECONDS):
    heard = Lines()
    # One logger for all clients of a process; a client's lines hold its name or its port.
    port = bootstrap.rsplit(":", 1)[1]
    heard.addFilter(lambda record: any(word in record.getMessage() for word in (name, port)))
    logger = logging.getLogger("kafka")
    logger.addHandler(heard)
    options = {"bootstrap_servers": bootstrap, "client_id": name,
               "bootstrap_timeout_ms": seconds * 1000, **settings.python()}
    try:
        said = ask_kafka_python(options, verb, topic, seconds)
    except Exception as error:
        said = f"{type(error).__module__}.{type(error).__qualname__}: {error}"
    finally:
        logger.removeHandler(heard)
    return "\n".join([said, *dict.fromkeys(heard.lines)])


def ask_kafka_python(options, verb, topic, seconds):
    if verb == "list":
        admin = KafkaAdminClient(**options)
        try:
            admin.list_topics()
        finally:
            admin.close()
    elif verb == "send":
        producer = KafkaProducer(max_block_ms=seconds * 1000, **options)
        try:
            producer.send(topic, b"x").get(seconds)
        finally:
            producer.close(1)
    else:
        consumer = KafkaConsumer(topic, group_id=options["client_id"], **options)
        try:
            if not consumer.poll(seconds * 1000):
                return "it waits for records that do not come"
        finally:
            consumer.close()
    return "fine"


def confluent(name, bootstrap, settings, verb="list", topic=None, seconds=SECONDS):
    heard, errors = Lines(), []
    logger = logging.Logger(name)
    logger.addHandler(heard)
    options = {"bootstrap.servers": bootstrap, "client.id": name, "error_cb": errors.append,
               "message.timeout.ms": seconds * 1000, **settings.librdkafka()}
    if verb == "read":
        del options["message.timeout.ms"]
        client = confluent_kafka.Consumer({**options, "group.id": name}, logger=logger)
        client.subscribe([topic])
    else:
        client = confluent_kafka.Producer(options, logger=logger)
    if verb == "send":
        client.produce(topic, b"x", on_delivery=lambda error, _: errors.append(error or "fine"))
    said = []
    deadline = time.monotonic() + seconds
    # One that is given more time uses all of it.
    while (not errors or seconds > SECONDS) and time.monotonic() < deadline:
        message = client.poll(0.1)
        if verb == "read" and message is not None:
            errors.append(message.error() or "fine")
    if verb == "list" and not errors:
        try:
            client.list_topics(timeout=1)
            said.append("fine")
        except confluent_kafka.KafkaException as error:
            errors.append(error.args[0])
    if verb == "read":
        client.close()
    else:
        client.poll(0.2)
    said += [one if isinstance(one, str) else f"{one.name()}: {one.str()}" for one in errors]
    return "\n".join(said + list(dict.fromkeys(heard.lines)))


def program(*command, stdin="", seconds=PROGRAM_SECONDS_MAX):
    """Any program, with both its outputs as one text."""
    done = subprocess.run(
        [str(word) for word in command], input=stdin, text=True, timeout=seconds, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    return done.stdout


def kcat(name, bootstrap, settings, verb="list", topic=None, seconds=SECONDS):
    command = ["kcat", "-b", bootstrap, "-m", seconds, "-X", f"client.id={name}"]
    for key, value in settings.librdkafka().items():
        command += ["-X", f"{key}={value}"]
    if verb == "list":
        return program(*command, "-L")
    if verb == "send":
        return program(*command, "-X", f"message.timeout.ms={seconds * 1000}", "-P", "-t", topic,
                       stdin="x\n")
    return program(*command, "-C", "-e", "-t", topic)


# Clients that run one by one; those of Java and of the old kafka-python share a process.
LIBRARIES = {"kafka-python": kafka_python, "librdkafka": confluent, "kcat": kcat}


def old_kafka_python(clients):
    """{name: what it said} for kafka-python 2.0.2; clients are the arguments of the others."""
    asked = [
        {"name": name, "verb": verb, "topic": topic,
         "seconds": seconds, "options": {"bootstrap_servers": bootstrap, **settings.python()}}
        for name, bootstrap, settings, verb, topic, seconds in clients
    ]
    done = subprocess.run(
        [os.environ["ODRADEK_TEST_PYTHON_OLD"], str(Path(__file__).parent / "old_kafka_python.py")],
        input=json.dumps(asked), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        timeout=PROGRAM_SECONDS_MAX,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def java_line(name, bootstrap, settings, verb="list", topic=None, seconds=JAVA_SECONDS):
    """A client for `java_clients`."""
    options = {"bootstrap.servers": bootstrap, **settings.java()}
    return [name, verb, topic or "-", str(seconds),
            *(f"{key}={value}" for key, value in options.items())]


def java_clients(path, clients):
    """Runs Java's clients in one process; {name: what it said and logged}."""
    lines = [client if isinstance(client, list) else java_line(*client) for client in clients]
    path.write_text("".join("\t".join(line) + "\n" for line in lines))
    done = java.program("4.3.0", "Mistakes.java", path)
    said = dict(line.split("\t", 1) for line in done.stdout.splitlines())
    logged = done.stderr.splitlines()
    # A client in a loop says the same again and again.
    return {name: "\n".join([text, *dict.fromkeys(
        line for line in logged if f"clientId={name}," in line or f"clientId={name}]" in line)])
        for name, text in said.items()}
