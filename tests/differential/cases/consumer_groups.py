"""KIP-848 consumer groups: ConsumerGroupHeartbeat and ConsumerGroupDescribe."""

from differential import messages
from differential.cases import case
from differential.cases.groups import join, joining, stable
from differential.cases.offsets import commit, fetch
from differential.talk import SECONDS_MAX
from harness.broker import wait_for

MEMBER = "AAAAAAAAAAAAAAAAAAAAA"


def beat(talk, group, member, epoch, version=1, topics=None, owned=None, on="main", until=None,
         instance=None, rebalance_ms=-1, **more):
    return talk.call("ConsumerGroupHeartbeat", version, {
        "GroupId": group, "MemberId": member, "MemberEpoch": epoch, "InstanceId": instance,
        "RebalanceTimeoutMs": rebalance_ms, "SubscribedTopicNames": topics,
        "TopicPartitions": owned, **more}, on, until)


def topic_of(talk, partitions=1, **options):
    """A new topic that Kafka's group coordinator has heard of: it hears of topics last."""
    topic = talk.topic(partitions, **options)
    group, member = f"{topic.name}-heard-of", f"{MEMBER}9"

    def beat_of(epoch):
        return talk.ask("ConsumerGroupHeartbeat", 1, {
            "GroupId": group, "MemberId": member, "MemberEpoch": epoch, "InstanceId": None,
            "RebalanceTimeoutMs": 5000, "SubscribedTopicNames": [topic.name],
            "TopicPartitions": []}, on="setup")

    heard_of = assigned(partitions)
    wait_for(f"a group to be given {topic.name}", lambda: heard_of(beat_of(0)), SECONDS_MAX)
    beat_of(-1)
    talk.ask("DeleteGroups", 2, {"GroupsNames": [group]}, on="setup")
    return topic


def join_new(talk, group, member, *topics, until=None, **more):
    """The first heartbeat of a member."""
    return beat(talk, group, member, 0, topics=[topic.name for topic in topics], owned=[],
                rebalance_ms=5000, until=until, **more)


def describe(talk, *groups, version=1, until=None, **more):
    return talk.call("ConsumerGroupDescribe", version, {"GroupIds": list(groups), **more},
                     until=until)


def epoch_of(told):
    """Of the member's first heartbeat: where a group begins to count is a broker's own choice."""
    return told["MemberEpoch"] if isinstance(told, dict) else 1


def assigned(count):
    """The condition that a member has so many partitions."""
    def condition(reply):
        topics = (reply["Assignment"] or {}).get("TopicPartitions", [])
        return sum(len(topic["Partitions"]) for topic in topics) == count
    return condition


@case
def one_member(talk):
    topic = topic_of(talk, partitions=3)
    group = talk.name
    told = join_new(talk, group, f"{MEMBER}1", topic)
    epoch = epoch_of(told)
    owned = [{"TopicId": topic.id, "Partitions": [0, 1, 2]}]
    beat(talk, group, f"{MEMBER}1", epoch, owned=owned)
    beat(talk, group, f"{MEMBER}1", epoch)
    describe(talk, group)
    describe(talk, group, version=0, IncludeAuthorizedOperations=True)
    commit(talk, group, topic, generation=epoch, member=f"{MEMBER}1")
    commit(talk, group, topic, generation=epoch + 1, member=f"{MEMBER}1")
    commit(talk, group, topic, generation=epoch - 1, member=f"{MEMBER}1")
    commit(talk, group, topic, generation=epoch, member="stranger")
    commit(talk, group, topic, generation=epoch, member=f"{MEMBER}1", version=8)
    commit(talk, group, topic)
    fetch(talk, group, topic, member=f"{MEMBER}1", epoch=epoch, partitions=(0,))
    fetch(talk, group, topic, member=f"{MEMBER}1", epoch=epoch + 1, partitions=(0,))
    fetch(talk, group, topic, member="stranger", epoch=epoch, partitions=(0,))
    fetch(talk, group, topic, partitions=(0,))
    beat(talk, group, f"{MEMBER}1", -1)
    describe(talk, group)
    beat(talk, group, f"{MEMBER}1", epoch)
    fetch(talk, group, topic, partitions=(0,))


@case
def version_zero(talk):
    topic = topic_of(talk)
    group = talk.name
    # The broker makes the id where the client has none.
    told = join_new(talk, group, "", topic, version=0)
    member = told["MemberId"] if isinstance(told, dict) else "none"
    beat(talk, group, member, epoch_of(told), version=0)
    beat(talk, group, member, -1, version=0)
    join_new(talk, group, "", topic, version=1)


@case
def heartbeats_with_mistakes(talk):
    topic = topic_of(talk)
    group = talk.name
    member = f"{MEMBER}1"
    beat(talk, "", member, 0, topics=[topic.name], owned=[], rebalance_ms=5000)
    beat(talk, group, member, 0, topics=[topic.name], owned=[])
    beat(talk, group, member, 0, owned=[], rebalance_ms=5000)
    beat(talk, group, member, 0, topics=[topic.name], rebalance_ms=5000)
    beat(talk, group, member, 0, topics=[topic.name], rebalance_ms=5000,
         owned=[{"TopicId": topic.id, "Partitions": [0]}])
    beat(talk, group, member, 0, topics=[topic.name], owned=[], rebalance_ms=0)
    join_new(talk, group, member, topic, ServerAssignor="no-such-assignor")
    join_new(talk, group, member, topic, instance="")
    join_new(talk, group, member, topic, RackId="")
    beat(talk, group, member, 5)
    beat(talk, group, member, -1)
    beat(talk, group, member, -2)
    beat(talk, group, member, -2, instance="one")
    beat(talk, group, member, -3)
    epoch = epoch_of(join_new(talk, group, member, topic))
    beat(talk, group, member, 7)
    beat(talk, group, "stranger", 1)
    beat(talk, group, member, epoch, SubscribedTopicRegex="(")
    beat(talk, group, member, epoch, owned=[{"TopicId": topic.id, "Partitions": [0, 9]}])
    describe(talk, group)


@case
def two_members(talk):
    topic = topic_of(talk, partitions=4)
    group = talk.name
    one, two = f"{MEMBER}1", f"{MEMBER}2"
    everything = [{"TopicId": topic.id, "Partitions": [0, 1, 2, 3]}]
    first = join_new(talk, group, one, topic)
    if isinstance(first, str):
        return
    beat(talk, group, one, first["MemberEpoch"], owned=everything)
    second = join_new(talk, group, two, topic)
    describe(talk, group)
    # The first is told to give two away; until it has, the second waits.
    told = beat(talk, group, one, first["MemberEpoch"], owned=everything, until=assigned(2))
    beat(talk, group, two, second["MemberEpoch"])
    kept = told["Assignment"]["TopicPartitions"] if told["Assignment"] else everything
    told = beat(talk, group, one, told["MemberEpoch"], owned=kept)
    beat(talk, group, two, second["MemberEpoch"], owned=[], until=assigned(2))
    describe(talk, group)
    beat(talk, group, two, -1)
    describe(talk, group)
    beat(talk, group, one, told["MemberEpoch"], owned=kept, until=assigned(4))


@case
def assignors(talk):
    topic = topic_of(talk, partitions=5)
    for assignor in ("uniform", "range"):
        group = f"{talk.name}-{assignor}"
        join_new(talk, group, f"{MEMBER}1", topic, ServerAssignor=assignor)
        join_new(talk, group, f"{MEMBER}2", topic, ServerAssignor=assignor)
        describe(talk, group)


@case
def subscriptions_change(talk):
    topic = topic_of(talk, partitions=2)
    other = topic_of(talk, suffix="-other")
    group, member = talk.name, f"{MEMBER}1"
    told = join_new(talk, group, member, topic)
    if isinstance(told, str):
        return
    told = beat(talk, group, member, told["MemberEpoch"], topics=[topic.name, other.name],
                owned=[{"TopicId": topic.id, "Partitions": [0, 1]}])
    told = beat(talk, group, member, told["MemberEpoch"], topics=[f"{talk.name}-nowhere"],
                owned=[{"TopicId": topic.id, "Partitions": [0, 1]},
                       {"TopicId": other.id, "Partitions": [0]}])
    beat(talk, group, member, told["MemberEpoch"], owned=[])
    describe(talk, group)


@case
def subscribed_by_expression(talk):
    topic = topic_of(talk, partitions=2)
    topic_of(talk, suffix="-other")
    group, member = talk.name, f"{MEMBER}1"
    whole = {"topics": [], "owned": [], "rebalance_ms": 5000,
             "SubscribedTopicRegex": f"{topic.name}.*"}
    told = beat(talk, group, member, 0, **whole)
    if isinstance(told, str):
        return
    # A heartbeat with everything in it is told the assignment, whether it is new or not.
    beat(talk, group, member, told["MemberEpoch"], **whole, until=assigned(3))
    describe(talk, group)
    beat(talk, f"{group}-bad", member, 0, topics=[], owned=[], rebalance_ms=5000,
         SubscribedTopicRegex="(")


@case
def static_members(talk):
    topic = topic_of(talk, partitions=2)
    group = talk.name
    one, two = f"{MEMBER}1", f"{MEMBER}2"
    told = join_new(talk, group, one, topic, instance="i")
    if isinstance(told, str):
        return
    join_new(talk, group, two, topic, instance="i")
    beat(talk, group, one, told["MemberEpoch"], instance="other")
    beat(talk, group, one, -2, instance="i")
    describe(talk, group)
    told = join_new(talk, group, two, topic, instance="i")
    describe(talk, group)
    beat(talk, group, one, told["MemberEpoch"], instance="i")
    beat(talk, group, two, -1, instance="i")
    describe(talk, group)


@case
def classic_and_new_do_not_mix(talk):
    topic = topic_of(talk)
    group = talk.name
    join_new(talk, group, f"{MEMBER}1", topic)
    talk.call("JoinGroup", 9, joining(group, session_ms=10000, kind="connect"))
    talk.call("DescribeGroups", 6, {"Groups": [group]})
    talk.call("DeleteGroups", 2, {"GroupsNames": [group]})
    beat(talk, group, f"{MEMBER}1", -1)
    classic = f"{group}-classic"
    stable(talk, classic, kind="connect")
    join_new(talk, classic, f"{MEMBER}1", topic)
    describe(talk, classic)
    beat(talk, group, "stranger", 3)
    # An empty group may change its kind.
    join(talk, group)
    talk.call("DescribeGroups", 6, {"Groups": [group]})


@case
def described(talk):
    for version in messages.versions("ConsumerGroupDescribe"):
        describe(talk, f"{talk.name}-nowhere", "", version=version,
                 IncludeAuthorizedOperations=True)
    describe(talk)


@case
def listed(talk):
    topic = topic_of(talk)
    join_new(talk, talk.name, f"{MEMBER}1", topic)
    for version, filters in ((4, {}), (5, {}), (5, {"TypesFilter": ["consumer"]}),
                             (5, {"TypesFilter": ["classic"]}), (5, {"StatesFilter": ["Stable"]}),
                             (5, {"StatesFilter": ["Reconciling", "Assigning"]})):
        reply = talk.ask("ListGroups", version, filters)
        if isinstance(reply, dict):
            reply["Groups"] = [one for one in reply["Groups"] if one["GroupId"] == talk.name]
        talk.note("ListGroups", version, filters, reply)


@case
def deleted(talk):
    topic = topic_of(talk)
    group, member = talk.name, f"{MEMBER}1"
    epoch = epoch_of(join_new(talk, group, member, topic))
    talk.call("DeleteGroups", 2, {"GroupsNames": [group]})
    commit(talk, group, topic, generation=epoch, member=member)
    talk.call("OffsetDelete", 0, {"GroupId": group, "Topics": [
        {"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]}]})
    beat(talk, group, member, -1)
    talk.call("OffsetDelete", 0, {"GroupId": group, "Topics": [
        {"Name": topic.name, "Partitions": [{"PartitionIndex": 0}]}]})
    talk.call("DeleteGroups", 2, {"GroupsNames": [group]})
    describe(talk, group)
