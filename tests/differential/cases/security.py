"""SASL, access rules and what they refuse, SCRAM credentials, client quotas."""

import base64
import hashlib
import hmac
import os

from differential import messages
from differential.batches import batch
from differential.cases import case
from differential.cases.groups import beating, joining, syncing
from differential.talk import produce
from harness.broker import wait_for

ANY, TOPIC, GROUP, CLUSTER, TRANSACTIONAL_ID, TOKEN, USER = 1, 2, 3, 4, 5, 6, 7
LITERAL, PREFIXED, PATTERN_ANY, MATCH = 3, 4, 1, 2
ANY_OPERATION, ALL, READ, WRITE, CREATE, DELETE, ALTER, DESCRIBE = 1, 2, 3, 4, 5, 6, 7, 8
CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS, IDEMPOTENT_WRITE = 9, 10, 11, 12
ANY_PERMISSION, DENY, ALLOW = 1, 2, 3
SHA_256, SHA_512 = 1, 2


# SASL


@case
def handshakes(talk):
    for version in messages.versions("SaslHandshake"):
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "GSSAPI", "", "plain"):
            name = f"{version}{mechanism}"
            talk.sasl(name)
            talk.call("SaslHandshake", version, {"Mechanism": mechanism}, on=name)
    talk.call("SaslHandshake", 1, {"Mechanism": "PLAIN"})


@case
def plain_logins(talk):
    for version in messages.versions("SaslAuthenticate"):
        for token in (b"\0alice\0alice-secret", b"\0alice\0wrong", b"\0nobody\0x", b"nonsense",
                      b"", b"alice\0alice\0alice-secret", b"bob\0alice\0alice-secret",
                      b"\0\0alice-secret", b"\0alice\0"):
            name = f"{version}{token}"
            talk.sasl(name)
            talk.ask("SaslHandshake", 1, {"Mechanism": "PLAIN"}, on=name)
            talk.call("SaslAuthenticate", version, {"AuthBytes": token}, on=name)
            talk.call("Metadata", 9, {"Topics": []}, on=name)


@case
def a_login_out_of_order(talk):
    talk.sasl("first")
    talk.call("SaslAuthenticate", 2, {"AuthBytes": b"\0alice\0alice-secret"}, on="first")
    talk.sasl("metadata")
    talk.call("Metadata", 9, {"Topics": []}, on="metadata")
    talk.sasl("between")
    talk.ask("SaslHandshake", 1, {"Mechanism": "PLAIN"}, on="between")
    talk.call("Metadata", 9, {"Topics": []}, on="between")
    talk.sasl("versions")
    talk.call("ApiVersions", 0, on="versions")
    talk.call("SaslHandshake", 1, {"Mechanism": "PLAIN"}, on="versions")
    talk.call("SaslAuthenticate", 2, {"AuthBytes": b"\0alice\0alice-secret"}, on="versions")
    talk.call("SaslHandshake", 1, {"Mechanism": "PLAIN"}, on="versions")
    talk.call("SaslAuthenticate", 2, {"AuthBytes": b"\0alice\0alice-secret"}, on="main")


class Scram:
    """The client's side of RFC 5802."""

    def __init__(self, user, password, digest):
        self.password, self.digest = password, digest
        self.nonce = base64.b64encode(os.urandom(18)).decode()
        self.bare = f"n={user},r={self.nonce}"

    def first(self):
        return f"n,,{self.bare}".encode()

    def last(self, challenge):
        fields = dict(one.split("=", 1) for one in challenge.decode().split(","))
        salted = hashlib.pbkdf2_hmac(self.digest, self.password.encode(),
                                     base64.b64decode(fields["s"]), int(fields["i"]))
        without = f"c=biws,r={fields['r']}"
        signed = ",".join([self.bare, challenge.decode(), without]).encode()
        key = hmac.digest(salted, b"Client Key", self.digest)
        stored = hashlib.new(self.digest, key).digest()
        signature = hmac.digest(stored, signed, self.digest)
        proof = bytes(one ^ two for one, two in zip(key, signature))
        return f"{without},p={base64.b64encode(proof).decode()}".encode()


def scram_login(talk, on, user, password, digest):
    mechanism = "SCRAM-SHA-256" if digest == "sha256" else "SCRAM-SHA-512"
    talk.sasl(on)
    talk.call("SaslHandshake", 1, {"Mechanism": mechanism}, on=on)
    client = Scram(user, password, digest)
    told = talk.call("SaslAuthenticate", 2, {"AuthBytes": client.first()}, on=on)
    if isinstance(told, dict) and told["ErrorCode"] == 0:
        answer = client.last(told["AuthBytes"])
        talk.call("SaslAuthenticate", 2, {"AuthBytes": answer}, on=on)
    talk.call("Metadata", 9, {"Topics": []}, on=on)


def first_message(talk, on, user):
    talk.sasl(on)
    talk.call("SaslHandshake", 1, {"Mechanism": "SCRAM-SHA-256"}, on=on)
    talk.call("SaslAuthenticate", 2, {
        "AuthBytes": Scram(user, "", "sha256").first()}, on=on)


def upsertion(user, password, mechanism=SHA_256, iterations=4096):
    digest = "sha256" if mechanism == SHA_256 else "sha512"
    salt = b"salt of the case"
    salted = hashlib.pbkdf2_hmac(digest, password.encode(), salt, min(max(iterations, 1), 20000))
    return {"Name": user, "Mechanism": mechanism, "Iterations": iterations, "Salt": salt,
            "SaltedPassword": salted}


@case
def scram_credentials(talk):
    user = talk.name

    def alter(*upsertions, deletions=()):
        talk.call("AlterUserScramCredentials", 0, {
            "Upsertions": list(upsertions), "Deletions": list(deletions)})

    def describe(*names, until=None):
        talk.call("DescribeUserScramCredentials", 0, {
            "Users": [{"Name": name} for name in names]}, until=until)

    def has(count):
        return lambda reply: len(reply["Results"][0]["CredentialInfos"]) == count

    describe(user)
    alter(upsertion(user, "secret"))
    alter(upsertion(user, "secret", SHA_512, 8192))
    describe(user, until=has(2))
    describe(user, f"{user}-nobody")
    describe(user, user)
    scram_login(talk, "256", user, "secret", "sha256")
    scram_login(talk, "512", user, "secret", "sha512")
    scram_login(talk, "wrong", user, "wrong", "sha256")
    first_message(talk, "nobody", f"{user}-nobody")
    alter(deletions=[{"Name": user, "Mechanism": SHA_256}])
    describe(user, until=has(1))
    first_message(talk, "deleted", user)
    alter(deletions=[{"Name": user, "Mechanism": SHA_256}])
    alter(deletions=[{"Name": user, "Mechanism": SHA_512}])
    describe(user)


@case
def scram_credentials_with_mistakes(talk):
    user = talk.name

    def alter(*upsertions, deletions=()):
        talk.call("AlterUserScramCredentials", 0, {
            "Upsertions": list(upsertions), "Deletions": list(deletions)})

    alter(upsertion(user, "x", iterations=4095))
    alter(upsertion(user, "x", iterations=16385))
    alter(upsertion(user, "x", iterations=0))
    alter(upsertion("", "x"))
    alter({**upsertion(user, "x"), "Mechanism": 0})
    alter({**upsertion(user, "x"), "Mechanism": 9})
    alter({**upsertion(user, "x"), "Salt": b""})
    alter({**upsertion(user, "x"), "SaltedPassword": b""})
    alter(upsertion(user, "x"), upsertion(user, "y", SHA_512))
    alter(upsertion(user, "x"), deletions=[{"Name": user, "Mechanism": SHA_256}])
    alter(deletions=[{"Name": f"{user}-nobody", "Mechanism": SHA_256}])
    alter(deletions=[{"Name": "", "Mechanism": SHA_256}])
    alter(deletions=[{"Name": user, "Mechanism": 0}])
    alter()
    talk.call("DescribeUserScramCredentials", 0, {"Users": [{"Name": ""}]})


# Access rules


def rule(kind, name, operation, principal="User:alice", pattern=LITERAL, permission=ALLOW,
         host="*"):
    return {"ResourceType": kind, "ResourceName": name, "ResourcePatternType": pattern,
            "Principal": principal, "Host": host, "Operation": operation,
            "PermissionType": permission}


def allow(talk, *rules):
    """Adds rules and waits until Kafka's authorizer has them."""
    told = talk.ask("CreateAcls", 3, {"Creations": list(rules)})
    assert told["Results"] and not any(one["ErrorCode"] for one in told["Results"]), told
    last = rules[-1]

    def there():
        reply = talk.ask("DescribeAcls", 3, matching(last))
        return bool(reply["Resources"])

    wait_for("the access rules", there, 5, 0.02)


def matching(one, **changed):
    return {"ResourceTypeFilter": one["ResourceType"], "ResourceNameFilter": one["ResourceName"],
            "PatternTypeFilter": one["ResourcePatternType"], "PrincipalFilter": one["Principal"],
            "HostFilter": one["Host"], "Operation": one["Operation"],
            "PermissionType": one["PermissionType"], **changed}


def some(reply):
    return bool(reply["Resources"])


@case
def rules_are_made_shown_and_deleted(talk):
    name = talk.name
    one = rule(TOPIC, name, READ)
    for version in messages.versions("CreateAcls"):
        talk.call("CreateAcls", version, {"Creations": [one]})
        talk.call("DescribeAcls", version, matching(one), until=some)
    talk.call("CreateAcls", 3, {"Creations": [
        rule(TOPIC, name, WRITE, permission=DENY), rule(TOPIC, name, ALL, "User:bob"),
        rule(GROUP, name, READ), rule(TOPIC, name, READ, pattern=PREFIXED),
        rule(TRANSACTIONAL_ID, name, WRITE, host="127.0.0.1")]})
    everything = {"ResourceTypeFilter": ANY, "ResourceNameFilter": name,
                  "PatternTypeFilter": PATTERN_ANY, "PrincipalFilter": None, "HostFilter": None,
                  "Operation": ANY_OPERATION, "PermissionType": ANY_PERMISSION}
    talk.call("DescribeAcls", 3, everything,
              until=lambda reply: len(reply["Resources"]) == 4)
    talk.call("DescribeAcls", 3, {**everything, "ResourceNameFilter": f"{name}-longer",
                                  "PatternTypeFilter": MATCH})
    talk.call("DescribeAcls", 3, {**everything, "PermissionType": DENY})
    talk.call("DescribeAcls", 3, {**everything, "PrincipalFilter": "User:bob"})
    talk.call("DescribeAcls", 3, {**everything, "HostFilter": "127.0.0.1"})
    talk.call("DescribeAcls", 3, {**everything, "Operation": ALL})
    talk.call("DescribeAcls", 3, {**everything, "PatternTypeFilter": PREFIXED})
    for version in messages.versions("DeleteAcls"):
        talk.call("DeleteAcls", version, {"Filters": [
            matching(one), matching(rule(TOPIC, f"{name}-nowhere", READ))]})
    talk.call("DeleteAcls", 3, {"Filters": [everything]})
    talk.call("DescribeAcls", 3, everything, until=lambda reply: not reply["Resources"])


@case
def rules_with_mistakes(talk):
    name = talk.name
    for bad in (
        rule(TOPIC, "", READ), rule(ANY, name, READ), rule(0, name, READ), rule(99, name, READ),
        rule(CLUSTER, "other-cluster", ALTER), rule(TOPIC, name, READ, "alice"),
        rule(TOPIC, name, READ, ""), rule(TOPIC, name, ANY_OPERATION), rule(TOPIC, name, 0),
        rule(TOPIC, name, CLUSTER_ACTION), rule(TOPIC, name, READ, permission=ANY_PERMISSION),
        rule(TOPIC, name, READ, permission=0), rule(TOPIC, name, READ, pattern=MATCH),
        rule(TOPIC, name, READ, pattern=PATTERN_ANY), rule(TOPIC, name, READ, pattern=0),
        rule(TOPIC, name, READ, host=""), rule(TOPIC, "a b", READ),
        rule(GROUP, name, WRITE), rule(TOPIC, name, READ, host="nonsense"),
    ):
        talk.call("CreateAcls", 3, {"Creations": [bad]})
    talk.call("CreateAcls", 3, {"Creations": []})
    talk.call("DescribeAcls", 3, matching(rule(0, name, READ)))
    talk.call("DescribeAcls", 3, matching(rule(TOPIC, name, READ, pattern=0)))
    talk.call("DescribeAcls", 3, matching(rule(TOPIC, name, 0)))
    talk.call("DescribeAcls", 3, matching(rule(TOPIC, name, READ, permission=0)))
    talk.call("DeleteAcls", 3, {"Filters": [matching(rule(0, name, READ))]})
    talk.call("DeleteAcls", 3, {"Filters": []})
    for kind in (TOPIC, GROUP):
        talk.ask("DeleteAcls", 3, {"Filters": [{
            "ResourceTypeFilter": kind, "ResourceNameFilter": None,
            "PatternTypeFilter": PATTERN_ANY, "Operation": ANY_OPERATION,
            "PermissionType": ANY_PERMISSION}]})


# What a user without any rule is refused, API by API.


@case
def refused_topics(talk):
    topic = talk.topic()
    talk.login("alice", "alice", "alice-secret")
    named = [{"Name": topic.name}]
    nowhere = f"{talk.name}-nowhere"
    for version in (1, 9, 12):
        talk.call("Metadata", version, {"Topics": named}, on="alice")
    talk.call("Metadata", 12, {"Topics": [{"TopicId": topic.id, "Name": None}]}, on="alice")
    talk.call("Metadata", 12, {"Topics": [{"Name": nowhere}]}, on="alice")
    talk.call("Metadata", 12, {
        "Topics": [{"Name": nowhere}], "AllowAutoTopicCreation": True}, on="alice")
    talk.call("Metadata", 12, {"Topics": None}, on="alice")
    talk.call("DescribeTopicPartitions", 0, {
        "Topics": named, "ResponsePartitionLimit": 10}, on="alice")
    for version in (3, 9, 12, 13):
        talk.call("Produce", version, produce(topic, batch(b"x")), on="alice")
    talk.call("Produce", 12, produce(nowhere, batch(b"x")), on="alice")
    asked = {"Topic": topic.name, "TopicId": topic.id, "Partitions": [
        {"Partition": 0, "FetchOffset": 0, "PartitionMaxBytes": 1000}]}
    for version in (4, 12, 13):
        talk.call("Fetch", version, {"MaxWaitMs": 0, "MinBytes": 0, "Topics": [asked]}, on="alice")
    for name in (topic.name, nowhere):
        talk.call("ListOffsets", 7, {"ReplicaId": -1, "Topics": [
            {"Name": name, "Partitions": [{"PartitionIndex": 0, "Timestamp": -1}]}]}, on="alice")
        talk.call("OffsetForLeaderEpoch", 4, {"Topics": [
            {"Topic": name, "Partitions": [{"Partition": 0, "LeaderEpoch": 0}]}]}, on="alice")
        talk.call("DeleteRecords", 2, {"TimeoutMs": 1000, "Topics": [
            {"Name": name, "Partitions": [{"PartitionIndex": 0, "Offset": 0}]}]}, on="alice")
        talk.call("DeleteTopics", 5, {"TopicNames": [name], "TimeoutMs": 1000}, on="alice")
        talk.call("CreatePartitions", 3, {
            "Topics": [{"Name": name, "Count": 5, "Assignments": None}],
            "TimeoutMs": 1000}, on="alice")
        talk.call("CreateTopics", 7, {"timeoutMs": 1000, "Topics": [
            {"Name": name, "NumPartitions": 1, "ReplicationFactor": 1}]}, on="alice")
        talk.call("DescribeProducers", 0, {"Topics": [
            {"Name": name, "PartitionIndexes": [0]}]}, on="alice")
    talk.call("DeleteTopics", 6, {"Topics": [{"Name": None, "TopicId": topic.id}],
                                  "TimeoutMs": 1000}, on="alice")


@case
def refused_groups(talk):
    topic = talk.topic()
    talk.login("alice", "alice", "alice-secret")
    group = talk.name

    def call(api, version, fields):
        talk.call(api, version, fields, on="alice")

    for version in (0, 3, 4, 6):
        call("FindCoordinator", version, {"Key": group, "CoordinatorKeys": [group]})
    call("FindCoordinator", 4, {"KeyType": 1, "CoordinatorKeys": [group]})
    for version in (0, 9):
        call("JoinGroup", version, joining(group))
    call("SyncGroup", 5, syncing(group, 1, "stranger"))
    call("Heartbeat", 4, beating(group, 1, "stranger"))
    call("LeaveGroup", 5, {"GroupId": group, "Members": [{"MemberId": "stranger"}]})
    call("DescribeGroups", 6, {"Groups": [group]})
    call("ListGroups", 5, {})
    call("DeleteGroups", 2, {"GroupsNames": [group]})
    for version in (2, 9):
        call("OffsetCommit", version, {
            "GroupId": group, "GenerationIdOrMemberEpoch": -1, "Topics": [
                {"Name": topic.name, "Partitions": [
                    {"PartitionIndex": 0, "CommittedOffset": 1, "CommittedMetadata": ""}]}]})
    asked = [{"Name": topic.name, "PartitionIndexes": [0]}]
    for version in (1, 5, 8, 9):
        call("OffsetFetch", version, {"GroupId": group, "Topics": asked, "Groups": [
            {"GroupId": group, "Topics": asked}]})
    call("OffsetDelete", 0, {"GroupId": group, "Topics": [
        {"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]}]})
    call("ConsumerGroupHeartbeat", 1, {
        "GroupId": group, "MemberId": "m", "MemberEpoch": 0, "RebalanceTimeoutMs": 1000,
        "SubscribedTopicNames": [topic.name], "TopicPartitions": []})
    call("ConsumerGroupDescribe", 1, {"GroupIds": [group]})


@case
def refused_transactions(talk):
    topic = talk.topic()
    talk.login("alice", "alice", "alice-secret")
    name = talk.name

    def call(api, version, fields):
        talk.call(api, version, fields, on="alice")

    for version in (0, 5):
        call("InitProducerId", version, {
            "TransactionalId": name, "TransactionTimeoutMs": 60000})
        call("InitProducerId", version, {
            "TransactionalId": None, "TransactionTimeoutMs": 60000})
    call("AddPartitionsToTxn", 3, {
        "V3AndBelowTransactionalId": name, "V3AndBelowProducerId": 1,
        "V3AndBelowProducerEpoch": 0,
        "V3AndBelowTopics": [{"Name": topic.name, "Partitions": [0]}]})
    call("AddPartitionsToTxn", 5, {"Transactions": [
        {"TransactionalId": name, "ProducerId": 1, "ProducerEpoch": 0,
         "Topics": [{"Name": topic.name, "Partitions": [0]}]}]})
    call("AddOffsetsToTxn", 3, {
        "TransactionalId": name, "ProducerId": 1, "ProducerEpoch": 0, "GroupId": name})
    call("EndTxn", 3, {"TransactionalId": name, "ProducerId": 1, "ProducerEpoch": 0})
    call("TxnOffsetCommit", 3, {
        "TransactionalId": name, "GroupId": name, "ProducerId": 1, "ProducerEpoch": 0,
        "Topics": [{"Name": topic.name, "Partitions": [
            {"PartitionIndex": 0, "CommittedOffset": 1, "CommittedMetadata": ""}]}]})
    call("DescribeTransactions", 0, {"TransactionalIds": [name]})
    call("ListTransactions", 1, {})
    talk.call("WriteTxnMarkers", 1, {"Markers": [
        {"ProducerId": 1, "ProducerEpoch": 0, "TransactionResult": True, "CoordinatorEpoch": 0,
         "Topics": [{"Name": topic.name, "PartitionIndexes": [0]}]}]}, on="alice")


@case
def refused_administration(talk):
    topic = talk.topic()
    talk.login("alice", "alice", "alice-secret")

    def call(api, version, fields):
        talk.call(api, version, fields, on="alice")

    for kind, name in ((2, topic.name), (4, "1"), (32, "group"), (16, "metrics"), (8, "1")):
        call("DescribeConfigs", 4, {"Resources": [
            {"ResourceType": kind, "ResourceName": name, "ConfigurationKeys": None}]})
        call("IncrementalAlterConfigs", 1, {"Resources": [
            {"ResourceType": kind, "ResourceName": name, "Configs": [
                {"Name": "retention.ms", "ConfigOperation": 0, "Value": "1"}]}]})
        call("AlterConfigs", 2, {"Resources": [
            {"ResourceType": kind, "ResourceName": name, "Configs": [
                {"Name": "retention.ms", "Value": "1"}]}]})
    one = rule(TOPIC, talk.name, READ)
    call("CreateAcls", 3, {"Creations": [one]})
    call("DescribeAcls", 3, matching(one))
    call("DeleteAcls", 3, {"Filters": [matching(one)]})
    call("DescribeClientQuotas", 1, {"Components": []})
    call("AlterClientQuotas", 1, {"Entries": [
        {"Entity": [{"EntityType": "user", "EntityName": "alice"}],
         "Ops": [{"Key": "producer_byte_rate", "Value": 1.0}]}]})
    call("DescribeUserScramCredentials", 0, {"Users": [{"Name": "mallory"}]})
    call("AlterUserScramCredentials", 0, {"Upsertions": [upsertion("mallory", "x")]})
    call("DescribeCluster", 2, {"IncludeClusterAuthorizedOperations": True})
    call("DescribeLogDirs", 4, {"Topics": None})
    call("ElectLeaders", 2, {"TopicPartitions": None, "TimeoutMs": 1000})
    call("AlterPartitionReassignments", 1, {"TimeoutMs": 1000, "Topics": [
        {"Name": topic.name, "Partitions": [{"PartitionIndex": 0, "Replicas": [1]}]}]})
    call("ListPartitionReassignments", 0, {"TimeoutMs": 1000, "Topics": None})
    call("DescribeQuorum", 2, {"Topics": [
        {"TopicName": "__cluster_metadata", "Partitions": [{"PartitionIndex": 0}]}]})
    call("ListConfigResources", 1, {})
    call("UpdateFeatures", 2, {"timeoutMs": 1000})


@case
def what_a_rule_allows(talk):
    topic = talk.topic()
    other = talk.topic(suffix="-other")
    allow(talk, rule(TOPIC, topic.name, DESCRIBE, "User:bob"))
    talk.login("bob", "bob", "bob-secret")
    both = [{"Name": topic.name}, {"Name": other.name}]
    talk.call("Metadata", 9, {"Topics": both, "IncludeTopicAuthorizedOperations": True,
                              "IncludeClusterAuthorizedOperations": True}, on="bob")
    talk.call("Produce", 12, produce(topic, batch(b"x")), on="bob")
    allow(talk, rule(TOPIC, topic.name, WRITE, "User:bob"))
    talk.call("Produce", 12, produce(topic, batch(b"x")), on="bob")
    fetch = {"MaxWaitMs": 0, "MinBytes": 0, "Topics": [{"Topic": topic.name, "Partitions": [
        {"Partition": 0, "FetchOffset": 0, "PartitionMaxBytes": 1000}]}]}
    talk.call("Fetch", 12, fetch, on="bob")
    allow(talk, rule(TOPIC, talk.name, READ, "User:bob", pattern=PREFIXED))
    talk.call("Fetch", 12, fetch, on="bob")
    allow(talk, rule(TOPIC, topic.name, READ, "User:bob", permission=DENY))
    talk.call("Fetch", 12, fetch, on="bob")
    talk.call("Metadata", 9, {"Topics": both, "IncludeTopicAuthorizedOperations": True}, on="bob")
    talk.call("DescribeConfigs", 4, {"Resources": [
        {"ResourceType": 2, "ResourceName": topic.name, "ConfigurationKeys": None}]}, on="bob")
    talk.call("InitProducerId", 5, {
        "TransactionalId": None, "TransactionTimeoutMs": 1000}, on="bob")


# Client quotas


@case
def quotas(talk):
    user = talk.name

    def alter(entity, *operations, version=1, validate_only=False):
        return talk.call("AlterClientQuotas", version, {
            "ValidateOnly": validate_only, "Entries": [
                {"Entity": [{"EntityType": kind, "EntityName": name} for kind, name in entity],
                 "Ops": [{"Key": key, "Value": value, "Remove": remove}
                         for key, value, remove in operations]}]})

    def describe(*components, strict=False, version=1, until=None):
        talk.call("DescribeClientQuotas", version, {
            "Strict": strict, "Components": [
                {"EntityType": kind, "MatchType": how, "Match": match}
                for kind, how, match in components]}, until=until)

    def some_entry(reply):
        return bool(reply["Entries"])

    rate = ("producer_byte_rate", 1024.0, False)
    describe(("user", 0, user))
    for version in messages.versions("AlterClientQuotas"):
        alter([("user", user)], rate, version=version)
        describe(("user", 0, user), version=version, until=some_entry)
    alter([("user", user), ("client-id", "app")], ("consumer_byte_rate", 5.0, False))
    describe(("user", 0, user), ("client-id", 0, "app"), until=some_entry)
    describe(("user", 0, user), strict=True)
    describe(("user", 0, user), ("client-id", 2, None))
    describe(("user", 0, user), ("client-id", 1, None))
    alter([("user", user)], ("request_percentage", 50.0, False),
          ("controller_mutation_rate", 3.0, False))
    alter([("user", user)], ("producer_byte_rate", 0.0, True), validate_only=True)
    describe(("user", 0, user), strict=True,
             until=lambda reply: len(reply["Entries"][0]["Values"]) == 3)
    for entity, operation in (
        ([("user", user)], ("no_such_quota", 1.0, False)),
        ([("user", user)], ("producer_byte_rate", -1.0, False)),
        ([("user", user)], ("producer_byte_rate", 0.0, False)),
        ([("user", user)], ("producer_byte_rate", 1.5, False)),
        ([("planet", "mars")], rate), ([], rate), ([("user", "")], rate),
        ([("user", user), ("user", user)], rate), ([("ip", "127.0.0.9")], rate),
        ([("ip", "not an address")], ("connection_creation_rate", 5.0, False)),
        ([("ip", "127.0.0.9"), ("user", user)], ("connection_creation_rate", 5.0, False)),
        ([("user", user)], ("no_such_quota", 0.0, True)),
        ([("user", f"{user}-nobody")], ("producer_byte_rate", 0.0, True)),
    ):
        alter(entity, operation, validate_only=True)
    describe(("planet", 0, "mars"))
    describe(("user", 9, user))
    describe(("user", 0, None))
    describe(("user", 0, user), ("user", 0, user))
    describe(("", 0, user))
    for key in ("producer_byte_rate", "request_percentage", "controller_mutation_rate"):
        alter([("user", user)], (key, 0.0, True))
    alter([("user", user), ("client-id", "app")], ("consumer_byte_rate", 0.0, True))
    describe(("user", 0, user), until=lambda reply: not reply["Entries"])
