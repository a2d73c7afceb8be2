"""What a case speaks through: connections to one broker, and the record of what was answered.

A case is a function of a `Talk`. Everything that it asks with `call` is recorded and compared;
what it asks with `ask` (to prepare something, or to wait for it) is not.
"""

import collections
import itertools
import socket
import struct
import time
from dataclasses import dataclass

from differential import batches, messages

SECONDS_MAX = 15
# The coordinator is loading, is not there yet, has moved.
NOT_YET = {14, 15, 16}
CLOSED, SILENT = "the connection was closed", "no answer came"


@dataclass
class Exchange:
    """One request with what came back: a dictionary, or one of the sentences above."""

    api: str
    version: int
    asked: dict
    reply: object

    @property
    def place(self):
        return f"{self.api} v{self.version}"


class Gone(Exception):
    """The case cannot go on, because the broker closed the connection or said nothing."""


class Connection:
    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=SECONDS_MAX)
        # Whole requests leave at once: no waiting for the acknowledgement of a small piece.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlations = itertools.count(1)
        self.waiting = collections.deque()

    def send(self, api, version, fields):
        correlation = next(self.correlations)
        self.socket.sendall(messages.request_frame(api, version, correlation, fields))
        return correlation

    def frame(self):
        size = struct.unpack(">i", self.exactly(4))[0]
        return self.exactly(size)

    def exactly(self, size):
        got = b""
        while len(got) < size:
            more = self.socket.recv(min(size - len(got), 1 << 20))
            if not more:
                raise ConnectionError("closed")
            got += more
        return got

    def receive(self, api, version, correlation):
        try:
            frame = self.frame()
        except TimeoutError:
            return SILENT
        except (ConnectionError, OSError):
            return CLOSED
        told = struct.unpack(">i", frame[:4])[0]
        assert told == correlation, f"{api}: a reply to {told}, not to {correlation}"
        return messages.response_fields(api, version, frame[4:])


class Talk:
    def __init__(self, name, plain, sasl):
        self.name = name
        self.addresses = {"plain": plain, "sasl": sasl}
        self.connections = {}
        self.logins = {}
        self.exchanges = []

    def close(self):
        for connection in self.connections.values():
            connection.socket.close()

    def connection(self, on):
        """`on`: a name of one's own. A connection of that name is made when first used."""
        if on not in self.connections and on in self.logins:
            self.login(on, *self.logins[on])
        elif on not in self.connections:
            self.connections[on] = Connection(self.addresses["plain"])
        return self.connections[on]

    def drop(self, on="main"):
        if on in self.connections:
            self.connections.pop(on).socket.close()

    # Asking

    def send(self, api, version, fields=None, on="main"):
        """Sends without waiting; `receive` takes the reply."""
        connection = self.connection(on)
        correlation = connection.send(api, version, fields or {})
        connection.waiting.append((api, version, correlation, fields))

    def receive(self, on="main"):
        """The next reply on that connection, recorded."""
        api, version, correlation, fields = self.connection(on).waiting.popleft()
        reply = self.connection(on).receive(api, version, correlation)
        return self.note(api, version, fields, reply, on)

    def note(self, api, version, fields, reply, on="main"):
        self.exchanges.append(Exchange(api, version, fields or {}, reply))
        if isinstance(reply, str):
            self.drop(on)
        return reply

    def ask(self, api, version, fields=None, on="main"):
        connection = self.connection(on)
        try:
            correlation = connection.send(api, version, fields or {})
            reply = connection.receive(api, version, correlation)
        except OSError:
            reply = CLOSED
        if isinstance(reply, str):
            self.drop(on)
        return reply

    def call(self, api, version, fields=None, on="main", until=None):
        """Asks and records the reply. While a coordinator is not ready, or until the condition
        holds, it asks again; only the last reply counts."""
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            reply = self.ask(api, version, fields, on)
            if isinstance(reply, str):
                break
            ready = until(reply) if until else not NOT_YET & set(error_codes(reply))
            if ready or time.monotonic() > deadline:
                break
            time.sleep(0.02)
        self.note(api, version, fields, reply, on)
        return reply

    def need(self, api, version, fields=None, on="main", until=None):
        """`call` where the case cannot go on without a reply."""
        reply = self.call(api, version, fields, on, until)
        if isinstance(reply, str):
            raise Gone(f"{api} v{version}: {reply}")
        return reply

    # Preparing

    def topic(self, partitions=1, suffix="", **configs):
        """A new topic of the case, ready to be used: its name and id."""
        name = f"{self.name}{suffix}"
        configs = [{"Name": key.replace("_", "."), "Value": str(value)}
                   for key, value in configs.items()]
        made = self.ask("CreateTopics", 7, {
            "Topics": [{"Name": name, "NumPartitions": partitions, "ReplicationFactor": 1,
                        "Configs": configs}],
            "timeoutMs": 10000}, on="setup")
        assert made["Topics"][0]["ErrorCode"] == 0, made
        return self.wait_for_topic(name, partitions)

    def wait_for_topic(self, name, partitions):
        """Until every partition answers as a leader: Kafka shows it a little before."""
        asked = [{"PartitionIndex": index, "Timestamp": -1} for index in range(partitions)]
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            told = self.ask("ListOffsets", 7, {
                "ReplicaId": -1, "Topics": [{"Name": name, "Partitions": asked}]}, on="setup")
            if not any(error_codes(told)):
                break
            assert time.monotonic() < deadline, f"{name} has no leaders: {told}"
            time.sleep(0.02)
        told = self.ask("Metadata", 12, {"Topics": [{"Name": name}]}, on="setup")
        return Topic(name, told["Topics"][0]["TopicId"])

    def produce(self, topic, *values, partition=0, **options):
        """Records that the case wants to find, not compared."""
        return self.put(topic, batches.batch(*values, **options), partition)

    def put(self, topic, records, partition=0, transactional_id=None):
        reply = self.ask("Produce", 12, produce(topic, records, partition, transactional_id),
                         on="setup")
        told = reply["Responses"][0]["PartitionResponses"][0]
        assert told["ErrorCode"] == 0, told
        return told

    def login(self, on, user, password):
        """A connection of that user over SASL/PLAIN; made again when the broker has closed it."""
        self.logins[on] = user, password
        self.connections[on] = Connection(self.addresses["sasl"])
        self.ask("SaslHandshake", 1, {"Mechanism": "PLAIN"}, on)
        token = f"\0{user}\0{password}".encode()
        told = self.ask("SaslAuthenticate", 2, {"AuthBytes": token}, on)
        assert told["ErrorCode"] == 0, told

    def sasl(self, on):
        """A connection to the SASL listener, without a login."""
        self.connections[on] = Connection(self.addresses["sasl"])


@dataclass
class Topic:
    name: str
    id: str


def produce(topic, records, partition=0, transactional_id=None, acks=-1):
    """A Produce request of one partition; by name up to version 12, by id after it."""
    name = topic.name if isinstance(topic, Topic) else topic
    return {
        "TransactionalId": transactional_id, "Acks": acks, "TimeoutMs": 5000,
        "TopicData": [{
            "Name": name, "TopicId": topic.id if isinstance(topic, Topic) else messages.NO_UUID,
            "PartitionData": [{"Index": partition, "Records": records}]}],
    }


def error_codes(reply):
    """Every ErrorCode in a reply, at any depth."""
    if isinstance(reply, dict):
        for name, value in reply.items():
            if name == "ErrorCode":
                yield value
            else:
                yield from error_codes(value)
    elif isinstance(reply, list):
        for item in reply:
            yield from error_codes(item)
