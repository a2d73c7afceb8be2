"""Replies in a form in which two brokers can be compared, and the comparison.

What must differ from one broker to the other becomes a symbol, numbered by its first appearance in
the case: the second topic id that Kafka shows is `topic-id-2`, and so must ours be wherever Kafka
shows that one. Nothing else is changed, but:

- a sentence for people is compared as there or not there; with an error we may say more;
- a time of the run (within a day of now) is `now`: cases use timestamps of 2023;
- arrays are compared without their order, which Kafka takes from hash tables;
- a batch that is cut off at the end of a record set is left out: clients do so, too.
"""

import json
import time

from differential import batches, messages

DAY_MS = 86_400_000

# Names of fields whose values are a broker's own choice, by the kind of thing that they name.
SYMBOLS = {
    "TopicId": "topic-id", "MemberId": "member-id", "Leader": "member-id",
    "ProducerId": "producer-id", "ClusterId": "cluster-id", "SessionId": "session-id",
    "ClientInstanceId": "client-instance-id", "ReplicaDirectoryId": "directory-id",
    "Port": "port", "LogDir": "log-dir", "SubscriptionId": "subscription-id",
}
NOTHING = (None, "", -1, messages.NO_UUID)
# Of these 0 says that there is none; a producer id may well be 0.
FROM_ONE = {"SessionId", "SubscriptionId", "Port"}
SENTENCES = {"ErrorMessage", "BatchIndexErrorMessage", "Documentation"}
# Free and total room of a disk, which others use as well; how far a controller's log has come.
AMOUNTS = {"TotalBytes", "UsableBytes", "FinalizedFeaturesEpoch"}
# Random by design: the nonces and signatures of a login.
SECRETS = {"AuthBytes"}
# What tells the elements of an array apart, the first name that does.
IDENTITIES = (
    "ApiKey", "Name", "TopicName", "Topic", "GroupId", "ResourceName", "ConfigName", "Partition",
    "PartitionIndex", "PartitionId", "Index", "TopicId", "MemberId", "User", "UserName",
    "TransactionalId", "BrokerId", "NodeId", "ProtocolName", "Mechanism", "BaseOffset",
    "OffsetDelta", "ReplicaId", "FirstOffset", "LogDir",
)


class Normaliser:
    """One for each broker and case: it counts what appears."""

    def __init__(self):
        self.symbols = {}
        self.counts = {}

    def reply(self, asked, reply):
        """The request's ids come first, so that those of a reply are told apart by them."""
        self.symbolic(asked)
        return reply if isinstance(reply, str) else self.symbolic(self.plain(None, reply))

    def symbolic(self, value, name=None):
        if isinstance(value, dict):
            return {key: self.symbolic(one, key) for key, one in value.items()}
        if isinstance(value, list):
            return [self.symbolic(one, name) for one in value]
        kind = SYMBOLS.get(name)
        if kind is None or is_nothing(name, value):
            return value
        if (kind, value) not in self.symbols:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.symbols[kind, value] = f"{kind}-{self.counts[kind]}"
        return self.symbols[kind, value]

    def plain(self, name, value):
        """Everything but the symbols, with arrays in an order that is not the broker's own."""
        if name == "Records" and isinstance(value, bytes):
            return self.plain(None, batches.read(value))
        if isinstance(value, dict):
            return {key: self.plain(key, one) for key, one in value.items()}
        if isinstance(value, list):
            return sorted((self.plain(name, one) for one in value),
                          key=lambda one: self.order(name, one))
        if name in SENTENCES and value is not None:
            return "a sentence"
        if name in AMOUNTS and value >= 0:
            return "an amount"
        if name in SECRETS and value:
            return "a secret"
        if isinstance(value, bytes):
            return value.decode() if value.isascii() else "0x" + value.hex()
        if isinstance(value, int) and abs(value - time.time() * 1000) < DAY_MS:
            return "now"
        return value

    def order(self, name, value):
        """By what the elements are about, then by the rest."""
        value = self.masked(name, value)
        about = []
        if isinstance(value, dict):
            about = [str(value[one]) for one in IDENTITIES if one in value]
        return about, json.dumps(value, sort_keys=True)

    def masked(self, name, value):
        """With symbols where they are known already, and without any other choice of a broker."""
        if isinstance(value, dict):
            return {key: self.masked(key, one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.masked(name, one) for one in value]
        if name in SYMBOLS and not is_nothing(name, value):
            return self.symbols.get((SYMBOLS[name], value), name)
        return value


def is_nothing(name, value):
    return value in NOTHING or (value == 0 and name in FROM_ONE)


def differences(theirs, ours, path=""):
    """[(path, Kafka's value, our value)]; elements of an array are named by what they are about."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        found = []
        for key in theirs | ours:
            if says_more(key, theirs, ours):
                continue
            place = f"{path}.{key}" if path else key
            found += differences(theirs.get(key, "no such field"), ours.get(key, "no such field"),
                                 place)
        return found
    if isinstance(theirs, list) and isinstance(ours, list) and theirs != ours:
        found = []
        left, right = by_identity(theirs, ours)
        for key in left | right:
            found += differences(left.get(key, "absent"), right.get(key, "absent"),
                                 f"{path}[{key}]")
        return found
    return [] if theirs == ours else [(path, theirs, ours)]


def says_more(key, theirs, ours):
    """An error that Kafka leaves without words may have some here."""
    refused = theirs.get("ErrorCode", 0) != 0
    return key in SENTENCES and refused and theirs.get(key) is None and ours.get(key) is not None


def by_identity(theirs, ours):
    for name in IDENTITIES:
        if all(identifies(name, one) for one in (theirs, ours)):
            return ({item[name]: item for item in theirs}, {item[name]: item for item in ours})
    return dict(enumerate(theirs)), dict(enumerate(ours))


def identifies(name, items):
    if not all(isinstance(item, dict) and item.get(name) is not None for item in items):
        return False
    return len({str(item[name]) for item in items}) == len(items)
