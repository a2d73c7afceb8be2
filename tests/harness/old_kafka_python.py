"""The clients of `wrong_clients` for kafka-python 2.0.2, which has an interpreter of its own.

Reads one JSON list from standard input, [{"name", "verb", "topic", "seconds", "options"}], runs
all at the same time and writes {name: what it said and logged}. Imports nothing of the harness.
"""

import json
import logging
import sys
import threading

import kafka

assert kafka.__version__ == "2.0.2", kafka.__version__


class Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


def ask(verb, topic, seconds, options):
    if verb == "read":
        consumer = kafka.KafkaConsumer(topic, **options)
        if not consumer.poll(seconds * 1000):
            return "it waits for records that do not come"
    else:
        producer = kafka.KafkaProducer(max_block_ms=seconds * 1000, **options)
        producer.send(topic or "quotes", b"x").get(seconds)
    return "fine"


def run(client, said):
    options = {"client_id": client["name"], "api_version_auto_timeout_ms": client["seconds"] * 500,
               **client["options"]}
    try:
        said[client["name"]] = ask(client["verb"], client["topic"], client["seconds"], options)
    except Exception as error:
        said[client["name"]] = f"{type(error).__module__}.{type(error).__name__}: {error}"


def main():
    heard = Lines()
    logging.getLogger("kafka").addHandler(heard)
    clients, said = json.load(sys.stdin), {}
    threads = [threading.Thread(target=run, args=(client, said), daemon=True)
               for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(client["seconds"] for client in clients) * 3)
    for client in clients:
        port = client["options"]["bootstrap_servers"].rsplit(":", 1)[1]
        lines = [line for line in heard.lines if port in line]
        first = said.get(client["name"], "it did not come back")
        said[client["name"]] = "\n".join([first, *dict.fromkeys(lines)])
    json.dump(said, sys.stdout)


main()
