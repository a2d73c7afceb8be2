"""Classic consumer groups: join, sync, heartbeat, leave, static members, list, describe, delete."""

import struct

from differential import messages
from differential.cases import case


def subscription(*topics):
    """A consumer's metadata, version 0: Kafka looks into it."""
    out = struct.pack(">hi", 0, len(topics))
    for name in topics:
        out += struct.pack(">h", len(name)) + name.encode()
    return out + struct.pack(">i", -1)


PROTOCOLS = [{"Name": "range", "Metadata": subscription("some-topic")}]


def joining(group, member="", instance=None, session_ms=30000, protocols=PROTOCOLS,
            kind="consumer"):
    return {"GroupId": group, "SessionTimeoutMs": session_ms, "RebalanceTimeoutMs": 5000,
            "MemberId": member, "GroupInstanceId": instance, "ProtocolType": kind,
            "Protocols": protocols}


def syncing(group, generation, member, assignments=(), instance=None, **more):
    return {"GroupId": group, "GenerationId": generation, "MemberId": member,
            "GroupInstanceId": instance, "ProtocolType": "consumer", "ProtocolName": "range",
            "Assignments": [{"MemberId": one, "Assignment": data} for one, data in assignments],
            **more}


def beating(group, generation, member, instance=None):
    return {"GroupId": group, "GenerationId": generation, "MemberId": member,
            "GroupInstanceId": instance}


def join(talk, group, version=9, on="main", **more):
    """Joins as a client does: with the member id that the first refusal gives. The reply."""
    told = talk.need("JoinGroup", version, joining(group, **more), on)
    if told["ErrorCode"] == 79:
        told = talk.need("JoinGroup", version, joining(group, told["MemberId"], **more), on)
    return told


def stable(talk, group, **more):
    """A group of one member that has its assignment: the member's id and the generation."""
    told = join(talk, group, **more)
    member, generation = told["MemberId"], told["GenerationId"]
    talk.need("SyncGroup", 5, syncing(group, generation, member, [(member, b"mine")],
                                      more.get("instance")))
    return member, generation


def describe(talk, *groups, version=6, **more):
    talk.call("DescribeGroups", version, {"Groups": list(groups), **more})


@case
def join_in_every_version(talk):
    for version in messages.versions("JoinGroup"):
        join(talk, f"{talk.name}-{version}", version)


@case
def join_with_mistakes(talk):
    group = talk.name
    for version in (0, 4, 9):
        talk.call("JoinGroup", version, joining("", session_ms=10000))
        talk.call("JoinGroup", version, joining(group, "stranger"))
        talk.call("JoinGroup", version, joining(group, session_ms=1))
        talk.call("JoinGroup", version, joining(group, session_ms=99_999_999))
        talk.call("JoinGroup", version, joining(group, protocols=[]))
        talk.call("JoinGroup", version, joining(group, kind=""))
    stable(talk, group)
    for version in (0, 4, 9):
        talk.call("JoinGroup", version, joining(group, "stranger"))
        talk.call("JoinGroup", version, joining(group, kind="connect"))
        other = [{"Name": "roundrobin", "Metadata": subscription()}]
        talk.call("JoinGroup", version, joining(group, protocols=other))
    describe(talk, group)


@case
def sync_in_every_version(talk):
    for version in messages.versions("SyncGroup"):
        group = f"{talk.name}-{version}"
        told = join(talk, group)
        member, generation = told["MemberId"], told["GenerationId"]
        talk.call("SyncGroup", version, syncing(group, generation, member, [(member, b"mine")]))
        # Once more: the same answer.
        talk.call("SyncGroup", version, syncing(group, generation, member))


@case
def sync_with_mistakes(talk):
    group = talk.name
    talk.call("SyncGroup", 5, syncing(f"{group}-nowhere", 1, "stranger"))
    talk.call("SyncGroup", 5, syncing("", 1, "stranger"))
    told = join(talk, group)
    member, generation = told["MemberId"], told["GenerationId"]
    talk.call("SyncGroup", 5, syncing(group, generation, "stranger"))
    talk.call("SyncGroup", 5, syncing(group, generation + 1, member))
    talk.call("SyncGroup", 5, syncing(group, generation - 1, member))
    talk.call("SyncGroup", 5, syncing(group, generation, member, ProtocolType="connect"))
    talk.call("SyncGroup", 5, syncing(group, generation, member, ProtocolName="sticky"))
    talk.call("SyncGroup", 5, syncing(group, generation, member, ProtocolName=None))
    talk.call("SyncGroup", 5, syncing(group, generation, member, instance="not-me"))
    talk.call("SyncGroup", 5, syncing(group, generation, member, [
        (member, b"mine"), ("stranger", b"not mine")]))


@case
def heartbeats(talk):
    group = talk.name
    for version in messages.versions("Heartbeat"):
        talk.call("Heartbeat", version, beating(f"{group}-nowhere", 1, "stranger"))
    talk.call("Heartbeat", 4, beating("", 1, "stranger"))
    told = join(talk, group)
    member, generation = told["MemberId"], told["GenerationId"]
    talk.call("Heartbeat", 4, beating(group, generation, member))
    talk.need("SyncGroup", 5, syncing(group, generation, member))
    for version in messages.versions("Heartbeat"):
        talk.call("Heartbeat", version, beating(group, generation, member))
        talk.call("Heartbeat", version, beating(group, generation + 1, member))
        talk.call("Heartbeat", version, beating(group, generation - 1, member))
        talk.call("Heartbeat", version, beating(group, generation, "stranger"))
    talk.call("Heartbeat", 4, beating(group, generation, member, instance="nobody"))


@case
def leaving(talk):
    for version in messages.versions("LeaveGroup"):
        group = f"{talk.name}-{version}"
        member, generation = stable(talk, group)
        talk.call("LeaveGroup", version, {
            "GroupId": group, "MemberId": "stranger", "Members": [{"MemberId": "stranger"}]})
        talk.call("LeaveGroup", version, {
            "GroupId": group, "MemberId": member, "Members": [{"MemberId": member}]})
        talk.call("Heartbeat", 4, beating(group, generation, member))
        describe(talk, group)
        talk.call("LeaveGroup", version, {
            "GroupId": group, "MemberId": member, "Members": [{"MemberId": member}]})
    talk.call("LeaveGroup", 5, {"GroupId": f"{talk.name}-nowhere",
                                "Members": [{"MemberId": "stranger"}]})
    talk.call("LeaveGroup", 5, {"GroupId": "", "Members": [{"MemberId": "stranger"}]})
    talk.call("LeaveGroup", 5, {"GroupId": f"{talk.name}-5", "Members": []})


@case
def two_members_rebalance(talk):
    group = talk.name
    member, generation = stable(talk, group)
    described = {"Groups": [group]}
    describe(talk, group)
    # The second one waits for the first to join again, which learns of it by its heartbeat.
    first = talk.need("JoinGroup", 9, joining(group), on="second")
    other = first["MemberId"]
    talk.send("JoinGroup", 9, joining(group, other), on="second")
    talk.call("Heartbeat", 4, beating(group, generation, member),
              until=lambda reply: reply["ErrorCode"] == 27)
    talk.call("SyncGroup", 5, syncing(group, generation, member))
    describe(talk, group)
    talk.send("JoinGroup", 9, joining(group, member))
    leader = talk.receive()
    talk.receive("second")
    generation = leader["GenerationId"]
    talk.call("Heartbeat", 4, beating(group, generation, member))
    talk.send("SyncGroup", 5, syncing(group, generation, other), on="second")
    talk.call("DescribeGroups", 6, described)
    talk.call("SyncGroup", 5, syncing(group, generation, member, [
        (member, b"mine"), (other, b"yours")]))
    talk.receive("second")
    describe(talk, group)
    talk.call("LeaveGroup", 5, {"GroupId": group, "Members": [
        {"MemberId": other, "Reason": "done"}, {"MemberId": "stranger"}]})
    talk.call("Heartbeat", 4, beating(group, generation, member))
    describe(talk, group)


@case
def the_protocol_that_all_know_is_chosen(talk):
    group = talk.name
    both = [{"Name": "sticky", "Metadata": subscription("a")},
            {"Name": "range", "Metadata": subscription("b")}]
    told = join(talk, group, protocols=both)
    member = told["MemberId"]
    talk.need("SyncGroup", 5, syncing(group, told["GenerationId"], member, ProtocolName="sticky"))
    other = talk.need("JoinGroup", 9, joining(group), on="second")["MemberId"]
    talk.send("JoinGroup", 9, joining(group, other), on="second")
    talk.call("Heartbeat", 4, beating(group, told["GenerationId"], member),
              until=lambda reply: reply["ErrorCode"] == 27)
    talk.send("JoinGroup", 9, joining(group, member, protocols=both))
    talk.receive()
    talk.receive("second")


@case
def a_leader_that_joins_again(talk):
    group = talk.name
    member, _ = stable(talk, group)
    talk.call("JoinGroup", 9, joining(group, member))
    talk.call("JoinGroup", 9, joining(group, member))
    changed = [{"Name": "range", "Metadata": subscription("other")}]
    talk.call("JoinGroup", 9, joining(group, member, protocols=changed))


@case
def a_member_that_is_silent_is_removed(talk):
    group = talk.name
    member, generation = stable(talk, group, session_ms=300)
    talk.call("Heartbeat", 4, beating(group, generation, member))
    talk.call("DescribeGroups", 6, {"Groups": [group]},
              until=lambda reply: reply["Groups"][0]["GroupState"] == "Empty")
    talk.call("Heartbeat", 4, beating(group, generation, member))


@case
def static_members(talk):
    group = talk.name
    for version in (5, 9):
        name = f"{group}-{version}"
        told = join(talk, name, version, instance="one")
        member, generation = told["MemberId"], told["GenerationId"]
        talk.need("SyncGroup", 5, syncing(name, generation, member, [(member, b"mine")], "one"))
        # It comes back without its id: a new one, the same place, no rebalance.
        again = talk.need("JoinGroup", version, joining(name, instance="one"))
        current = again["MemberId"]
        talk.call("SyncGroup", 5, syncing(name, again["GenerationId"], current, [], "one"))
        talk.call("JoinGroup", version, joining(name, member, "one"))
        talk.call("Heartbeat", 4, beating(name, generation, member, "one"))
        talk.call("Heartbeat", 4, beating(name, again["GenerationId"], current, "one"))
        talk.call("Heartbeat", 4, beating(name, again["GenerationId"], current, "two"))
        talk.call("SyncGroup", 5, syncing(name, generation, member, [], "one"))
        talk.call("JoinGroup", version, joining(name, current, "two"))
        describe(talk, name)
        talk.call("LeaveGroup", 5, {"GroupId": name, "Members": [
            {"MemberId": member, "GroupInstanceId": "one"},
            {"MemberId": "", "GroupInstanceId": "nobody"}]})
        talk.call("LeaveGroup", 5, {"GroupId": name, "Members": [
            {"MemberId": "", "GroupInstanceId": "one"}]})
        describe(talk, name)


@case
def describe_in_every_version(talk):
    group = talk.name
    stable(talk, group)
    for version in messages.versions("DescribeGroups"):
        describe(talk, group, f"{group}-nowhere", version=version,
                 IncludeAuthorizedOperations=True)
    describe(talk, "")
    describe(talk)
    describe(talk, group, group)


@case
def lists(talk):
    group = talk.name
    stable(talk, group)
    join(talk, f"{group}-joining")
    told = stable(talk, f"{group}-empty")
    talk.ask("LeaveGroup", 5, {"GroupId": f"{group}-empty",
                               "Members": [{"MemberId": told[0]}]})

    def of_case(version, **filters):
        """Only this case's groups: others' come and go."""
        reply = talk.ask("ListGroups", version, filters)
        if isinstance(reply, dict):
            reply["Groups"] = [one for one in reply["Groups"]
                               if one["GroupId"].startswith(group)]
        talk.note("ListGroups", version, filters, reply)

    for version in messages.versions("ListGroups"):
        of_case(version)
    of_case(5, StatesFilter=["Stable"])
    of_case(5, StatesFilter=["stable", "EMPTY"])
    of_case(5, StatesFilter=["CompletingRebalance"])
    of_case(5, StatesFilter=["NoSuchState"])
    of_case(5, TypesFilter=["classic"])
    of_case(5, TypesFilter=["Consumer"])
    of_case(5, TypesFilter=["share"])
    of_case(5, TypesFilter=["nonsense"])
    of_case(5, StatesFilter=["Empty"], TypesFilter=["classic"])


@case
def deleting(talk):
    for version in messages.versions("DeleteGroups"):
        group = f"{talk.name}-{version}"
        member, _ = stable(talk, group)

        def delete(*names):
            talk.call("DeleteGroups", version, {"GroupsNames": list(names)})

        delete(group, f"{group}-nowhere")
        talk.ask("LeaveGroup", 5, {"GroupId": group, "Members": [{"MemberId": member}]})
        delete(group)
        delete(group)
        describe(talk, group)
    talk.call("DeleteGroups", 2, {"GroupsNames": [""]})
    talk.call("DeleteGroups", 2, {"GroupsNames": []})
    twice = f"{talk.name}-twice"
    talk.call("DeleteGroups", 2, {"GroupsNames": [twice, twice]})


# FindCoordinator


@case
def coordinators(talk):
    for version in messages.versions("FindCoordinator"):
        talk.call("FindCoordinator", version, {
            "Key": talk.name, "KeyType": 0, "CoordinatorKeys": [talk.name]})
        if version >= 1:
            talk.call("FindCoordinator", version, {
                "Key": talk.name, "KeyType": 1, "CoordinatorKeys": [talk.name]})
            talk.call("FindCoordinator", version, {
                "Key": talk.name, "KeyType": 7, "CoordinatorKeys": [talk.name]})
        talk.call("FindCoordinator", version, {"Key": "", "CoordinatorKeys": [""]})
    talk.call("FindCoordinator", 6, {"CoordinatorKeys": ["a", "b", "a"]})
    talk.call("FindCoordinator", 6, {"CoordinatorKeys": []})
    for version in (5, 6):
        talk.call("FindCoordinator", version, {"KeyType": 2, "CoordinatorKeys": ["no share key"]})
        talk.call("FindCoordinator", version, {
            "KeyType": 2, "CoordinatorKeys": ["group:AAAAAAAAAAAAAAAAAAAAAg:0"]})
