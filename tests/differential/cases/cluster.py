"""Log folders, elections, reassignments, features: what has little meaning on one node."""

from differential import messages
from differential.cases import case


@case
def log_dirs(talk):
    topic = talk.topic(partitions=2)
    talk.produce(topic, b"x" * 100)
    for version in messages.versions("DescribeLogDirs"):
        talk.call("DescribeLogDirs", version, {"Topics": [
            {"Topic": topic.name, "Partitions": [0, 1]}]})
    talk.call("DescribeLogDirs", 4, {"Topics": [{"Topic": topic.name, "Partitions": [0, 7]}]})
    talk.call("DescribeLogDirs", 4, {"Topics": [
        {"Topic": f"{talk.name}-nowhere", "Partitions": [0]}]})
    talk.call("DescribeLogDirs", 4, {"Topics": []})


@case
def moves_between_log_dirs(talk):
    topic = talk.topic()
    for version in messages.versions("AlterReplicaLogDirs"):
        talk.call("AlterReplicaLogDirs", version, {"Dirs": [
            {"Path": "/nowhere", "Topics": [{"Name": topic.name, "Partitions": [0]}]}]})
    talk.call("AlterReplicaLogDirs", 2, {"Dirs": []})


@case
def elections(talk):
    topic = talk.topic(partitions=2)
    both = [{"Topic": topic.name, "Partitions": [0, 1]}]
    for version in messages.versions("ElectLeaders"):
        talk.call("ElectLeaders", version, {"TopicPartitions": both, "TimeoutMs": 5000})
        talk.call("ElectLeaders", version, {
            "ElectionType": 1, "TopicPartitions": both, "TimeoutMs": 5000})
    for asked in ([{"Topic": topic.name, "Partitions": [7]}],
                  [{"Topic": f"{talk.name}-nowhere", "Partitions": [0]}],
                  [{"Topic": "", "Partitions": [0]}], []):
        talk.call("ElectLeaders", 2, {"TopicPartitions": asked, "TimeoutMs": 5000})
    talk.call("ElectLeaders", 2, {"ElectionType": 9, "TopicPartitions": both, "TimeoutMs": 5000})


@case
def reassignments(talk):
    topic = talk.topic(partitions=2)

    def move(replicas, name=topic.name, partition=0, version=1, **more):
        talk.call("AlterPartitionReassignments", version, {**more, "TimeoutMs": 5000, "Topics": [
            {"Name": name, "Partitions": [
                {"PartitionIndex": partition, "Replicas": replicas}]}]})

    for version in messages.versions("AlterPartitionReassignments"):
        move([1], version=version)
        move(None, version=version)
    move([7])
    move([1, 7])
    move([1, 1])
    move([])
    move([-1])
    move([1], partition=9)
    move([1], name=f"{talk.name}-nowhere")
    move(None, name=f"{talk.name}-nowhere")
    move([1, 7], AllowReplicationFactorChange=False)
    talk.call("AlterPartitionReassignments", 1, {"TimeoutMs": 5000, "Topics": []})
    talk.call("ListPartitionReassignments", 0, {"TimeoutMs": 5000, "Topics": [
        {"Name": topic.name, "PartitionIndexes": [0, 1, 9]}]})
    talk.call("ListPartitionReassignments", 0, {"TimeoutMs": 5000, "Topics": [
        {"Name": f"{talk.name}-nowhere", "PartitionIndexes": [0]}]})
    talk.call("ListPartitionReassignments", 0, {"TimeoutMs": 5000, "Topics": []})


@case
def features(talk):
    for version in messages.versions("UpdateFeatures"):
        talk.call("UpdateFeatures", version, {
            "timeoutMs": 5000, "ValidateOnly": True, "FeatureUpdates": [
                {"Feature": "no.such.feature", "MaxVersionLevel": 1, "UpgradeType": 1}]})


@case
def brokers_are_unregistered(talk):
    talk.call("UnregisterBroker", 0, {"BrokerId": 7})


@case
def telemetry(talk):
    nobody = messages.NO_UUID
    told = talk.call("GetTelemetrySubscriptions", 0, {"ClientInstanceId": nobody})
    instance = told["ClientInstanceId"] if isinstance(told, dict) else nobody
    talk.call("GetTelemetrySubscriptions", 0, {"ClientInstanceId": instance})
    talk.call("PushTelemetry", 0, {"ClientInstanceId": instance, "SubscriptionId": 5})
    talk.call("PushTelemetry", 0, {"ClientInstanceId": nobody, "SubscriptionId": 5})


@case
def delegation_tokens(talk):
    """Not configured with a master key on either side."""
    talk.call("CreateDelegationToken", 3, {"MaxLifetimeMs": 1000})
    talk.call("DescribeDelegationToken", 3, {"Owners": None}, on="describe")
    talk.call("RenewDelegationToken", 2, {"Hmac": b"x", "RenewPeriodMs": 1}, on="renew")
    talk.call("ExpireDelegationToken", 2, {"Hmac": b"x", "ExpiryTimePeriodMs": 1}, on="expire")
