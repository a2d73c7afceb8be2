"""First of all: what a broker tells of itself while it has no topics yet."""

from differential import messages
from differential.cases import case


@case
def api_versions_of_every_version(talk):
    for version in messages.versions("ApiVersions"):
        talk.call("ApiVersions", version, {
            "ClientSoftwareName": "differential", "ClientSoftwareVersion": "1"})


@case
def api_versions_of_an_unknown_version(talk):
    talk.call("ApiVersions", 99, {
        "ClientSoftwareName": "differential", "ClientSoftwareVersion": "1"})
    # The connection goes on: the client asks again with what it was told.
    talk.call("ApiVersions", 0)


@case
def api_versions_of_a_client_with_a_bad_name(talk):
    talk.call("ApiVersions", 3, {
        "ClientSoftwareName": "no name!", "ClientSoftwareVersion": "1"})
    talk.call("ApiVersions", 3, {
        "ClientSoftwareName": "good", "ClientSoftwareVersion": ""})


@case
def a_version_that_is_not_served(talk):
    talk.call("Metadata", 99, {"Topics": []})
    talk.call("Produce", 2, {"Acks": 1, "TimeoutMs": 1000}, on="produce 2")
    talk.call("Fetch", 3, {"MaxWaitMs": 0, "MinBytes": 0}, on="fetch 3")


@case
def metadata_of_all_topics(talk):
    for version, topics in ((0, []), (1, None), (1, []), (9, None), (9, []), (13, None), (13, [])):
        fields = {"Topics": topics}
        reply = talk.ask("Metadata", version, fields)
        # The broker's own only; the others depend on which cases came before.
        reply["Topics"] = [one for one in reply["Topics"] if one["Name"].startswith("__")]
        talk.note("Metadata", version, fields, reply)


@case
def cluster(talk):
    for version in messages.versions("DescribeCluster"):
        for authorised in (False, True):
            talk.call("DescribeCluster", version,
                      {"IncludeClusterAuthorizedOperations": authorised})
    talk.call("DescribeCluster", 1, {"EndpointType": 2})
    talk.call("DescribeCluster", 1, {"EndpointType": 7})
    talk.call("DescribeCluster", 2, {"IncludeFencedBrokers": True})


@case
def lists_of_what_is_not_there(talk):
    talk.call("ListPartitionReassignments", 0, {"TimeoutMs": 1000, "Topics": None})
    talk.call("DescribeAcls", 3, {
        "ResourceTypeFilter": 1, "PatternTypeFilter": 1, "Operation": 1, "PermissionType": 1})
    talk.call("DescribeClientQuotas", 1, {"Components": []})
    talk.call("DescribeUserScramCredentials", 0, {"Users": None})
    talk.call("ListConfigResources", 0)
    for kind in (4, 8, 16, 32):
        talk.call("ListConfigResources", 1, {"ResourceTypes": [kind]})
    talk.call("ListTransactions", 1, {"StateFilters": ["Ongoing"]})


@case
def quorum(talk):
    for version in messages.versions("DescribeQuorum"):
        talk.call("DescribeQuorum", version, {
            "Topics": [{"TopicName": "__cluster_metadata",
                        "Partitions": [{"PartitionIndex": 0}]}]})
    talk.call("DescribeQuorum", 2, {
        "Topics": [{"TopicName": "nowhere", "Partitions": [{"PartitionIndex": 0}]}]})
    talk.call("DescribeQuorum", 2, {
        "Topics": [{"TopicName": "__cluster_metadata",
                    "Partitions": [{"PartitionIndex": 7}]}]})
