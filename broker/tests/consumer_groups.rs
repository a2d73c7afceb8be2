//! The consumer protocol (KIP-848) on a socket: ConsumerGroupHeartbeat and ConsumerGroupDescribe in
//! each version, what the other group APIs say of such a group, and both protocols in one group.

mod node;

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    DeleteGroupsRequest, DescribeGroupsRequest, HeartbeatRequest, JoinGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    SyncGroupRequest, TopicName,
};
use node::{Wire, group, named, text};
use odradek_broker::client::Principal;

const NONE: i16 = 0;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;
const FENCED_MEMBER_EPOCH: i16 = 110;
const UNSUPPORTED_ASSIGNOR: i16 = 112;
const STALE_MEMBER_EPOCH: i16 = 113;
const INVALID_REGULAR_EXPRESSION: i16 = 128;

fn topics(names: &[&str]) -> Option<Vec<TopicName>> {
    Some(names.iter().map(|name| named(name)).collect())
}

impl Wire {
    async fn beat(
        &mut self,
        member: &str,
        epoch: i32,
        owned: &[i32],
    ) -> ConsumerGroupHeartbeatResponse {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group("g"))
            .with_member_id(text(member))
            .with_member_epoch(epoch)
            .with_topic_partitions(Some(Vec::new()));
        if epoch == 0 {
            request.rebalance_timeout_ms = 60_000;
            request.subscribed_topic_names = topics(&["t"]);
        }
        if !owned.is_empty() {
            let client = self.node.broker.client(Principal::internal());
            let id = client.topic("t").await.unwrap().unwrap().topic_id;
            let owned =
                TopicPartitions::default().with_topic_id(id).with_partitions(owned.to_vec());
            request.topic_partitions = Some(vec![owned]);
        }
        self.call(&request, 1).await
    }

    async fn commit(&mut self, member: &str, epoch: i32, offset: i64) -> i16 {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(offset);
        let request = OffsetCommitRequest::default()
            .with_group_id(group("g"))
            .with_generation_id_or_member_epoch(epoch)
            .with_member_id(text(member))
            .with_topics(vec![
                OffsetCommitRequestTopic::default()
                    .with_name(named("t"))
                    .with_partitions(vec![partition]),
            ]);
        self.call(&request, 9).await.topics[0].partitions[0].error_code
    }

    /// Error, and the committed offset of the first partition.
    async fn fetch(&mut self, member: Option<&str>, epoch: i32) -> (i16, Option<i64>) {
        let asked = OffsetFetchRequestGroup::default()
            .with_group_id(group("g"))
            .with_member_id(member.map(text))
            .with_member_epoch(epoch)
            .with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![asked]);
        let reply = self.call(&request, 9).await.groups.remove(0);
        let first = reply.topics.first().map(|topic| topic.partitions[0].committed_offset);
        (reply.error_code, first)
    }

    async fn delete_offset(&mut self) -> (i16, Option<i16>) {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(0);
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(named("t"))
            .with_partitions(vec![partition]);
        let request =
            OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![topic]);
        let reply = self.call(&request, 0).await;
        let first = reply.topics.first().map(|topic| topic.partitions[0].error_code);
        (reply.error_code, first)
    }

    /// State, type and protocol type of the only group.
    async fn listed(&mut self) -> (String, String, String) {
        let groups = self.call(&ListGroupsRequest::default(), 5).await.groups;
        assert_eq!(groups.len(), 1);
        let it = &groups[0];
        (it.group_state.to_string(), it.group_type.to_string(), it.protocol_type.to_string())
    }
}

fn assigned(reply: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    assert_eq!(reply.error_code, NONE, "{:?}", reply.error_message);
    let topics = &reply.assignment.as_ref()?.topic_partitions;
    Some(topics.iter().flat_map(|topic| &topic.partitions).copied().collect())
}

fn words(three: &(String, String, String)) -> (&str, &str, &str) {
    (&three.0, &three.1, &three.2)
}

#[tokio::test]
async fn two_members_share_a_topic_commit_and_come_back_after_a_restart() {
    let mut wire = Wire::new().await;
    let first = wire.beat("a", 0, &[]).await;
    assert_eq!((first.member_epoch, first.heartbeat_interval_ms), (2, 5_000));
    assert_eq!(assigned(&first), Some(vec![0, 1]));
    assert_eq!(assigned(&wire.beat("b", 0, &[]).await), Some(vec![]));
    assert_eq!(words(&wire.listed().await), ("Reconciling", "consumer", "consumer"));
    let told = wire.beat("a", 2, &[0, 1]).await;
    assert_eq!((told.member_epoch, assigned(&told)), (2, Some(vec![0])));
    // Not b's before a said that it gave it back.
    assert_eq!(assigned(&wire.beat("b", 3, &[]).await), None);
    assert_eq!(wire.beat("a", 2, &[0]).await.member_epoch, 3);
    assert_eq!(assigned(&wire.beat("b", 3, &[]).await), Some(vec![1]));
    assert_eq!(words(&wire.listed().await), ("Stable", "consumer", "consumer"));

    assert_eq!(wire.commit("a", 3, 41).await, NONE);
    // It has the partition since epoch 2 (KIP-1251), and b does not have it.
    assert_eq!(wire.commit("a", 2, 41).await, NONE);
    assert_eq!(wire.commit("b", 2, 42).await, STALE_MEMBER_EPOCH);
    assert_eq!(wire.commit("nobody", 2, 42).await, UNKNOWN_MEMBER_ID);
    assert_eq!(wire.fetch(Some("a"), 3).await, (NONE, Some(41)));
    assert_eq!(wire.fetch(Some("a"), 2).await, (STALE_MEMBER_EPOCH, None));
    assert_eq!(wire.fetch(Some("nobody"), 3).await, (UNKNOWN_MEMBER_ID, None));
    assert_eq!(wire.fetch(None, -1).await, (NONE, Some(41)));

    let mut wire = wire.restarted().await;
    assert_eq!(words(&wire.listed().await), ("Stable", "consumer", "consumer"));
    let after = wire.beat("a", 3, &[0]).await;
    assert_eq!((after.member_epoch, assigned(&after)), (3, None));
    assert_eq!(wire.beat("b", 4, &[1]).await.error_code, FENCED_MEMBER_EPOCH);
    assert_eq!(wire.fetch(Some("b"), 3).await, (NONE, Some(41)));
    let left = wire.beat("b", -1, &[]).await;
    assert_eq!((left.error_code, left.member_epoch), (NONE, -1));
    assert_eq!(assigned(&wire.beat("a", 3, &[0]).await), Some(vec![0, 1]));
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn a_group_of_the_consumer_protocol_is_described_by_its_own_api_and_deleted_when_empty() {
    let mut wire = Wire::new().await;
    wire.beat("a", 0, &[]).await;
    wire.commit("a", 2, 7).await;
    for version in 0..=1 {
        let request = ConsumerGroupDescribeRequest::default()
            .with_group_ids(vec![group("g"), group("nobody's")])
            .with_include_authorized_operations(true);
        let groups = wire.call(&request, version).await.groups;
        let it = &groups[0];
        assert_eq!((it.error_code, &*it.group_state), (NONE, "Stable"));
        assert_eq!((it.group_epoch, it.assignment_epoch, &*it.assignor_name), (2, 2, "uniform"));
        assert_ne!(it.authorized_operations, i32::MIN);
        let member = &it.members[0];
        assert_eq!((&*member.member_id, member.member_epoch), ("a", 2));
        assert_eq!((&*member.client_id, &*member.client_host), ("wire", "/127.0.0.1"));
        assert_eq!(Some(member.subscribed_topic_names.clone()), topics(&["t"]));
        assert_eq!(member.member_type, if version >= 1 { 1 } else { -1 });
        for assignment in [&member.assignment, &member.target_assignment] {
            let topic = &assignment.topic_partitions[0];
            assert_eq!((&**topic.topic_name, &topic.partitions[..]), ("t", &[0, 1][..]));
        }
        assert_eq!(groups[1].error_code, GROUP_ID_NOT_FOUND);
    }
    let describe = DescribeGroupsRequest::default().with_groups(vec![group("g")]);
    let described = wire.call(&describe, 6).await.groups.remove(0);
    assert_eq!((described.error_code, &*described.group_state), (GROUP_ID_NOT_FOUND, "Dead"));
    assert_eq!(described.error_message.as_deref(), Some("Group g is not a classic group."));

    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g")]);
    assert_eq!(wire.call(&delete, 2).await.results[0].error_code, NON_EMPTY_GROUP);
    assert_eq!(wire.delete_offset().await, (NONE, Some(GROUP_SUBSCRIBED_TO_TOPIC)));
    wire.beat("a", -1, &[]).await;
    assert_eq!(words(&wire.listed().await), ("Empty", "consumer", "consumer"));
    assert_eq!(wire.fetch(None, -1).await, (NONE, Some(7)));
    assert_eq!(wire.delete_offset().await, (NONE, Some(NONE)));
    assert_eq!(wire.fetch(None, -1).await, (NONE, None));
    assert_eq!(wire.call(&delete, 2).await.results[0].error_code, NONE);
    assert_eq!(wire.delete_offset().await, (GROUP_ID_NOT_FOUND, None));
    assert!(wire.call(&ListGroupsRequest::default(), 5).await.groups.is_empty());
    let mut wire = wire.restarted().await;
    assert!(wire.call(&ListGroupsRequest::default(), 5).await.groups.is_empty());
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn malformed_heartbeats_are_refused_with_kafkas_sentences() {
    let mut wire = Wire::new().await;
    let join = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text("a"))
        .with_rebalance_timeout_ms(60_000)
        .with_subscribed_topic_names(topics(&["t"]))
        .with_topic_partitions(Some(Vec::new()));
    let j = || join.clone();
    let cases = [
        (1, j().with_member_id(text("")), INVALID_REQUEST, "MemberId can't be empty."),
        (0, j().with_group_id(group(" ")), INVALID_REQUEST, "GroupId can't be empty."),
        (0, j().with_instance_id(Some(text(""))), INVALID_REQUEST, "InstanceId can't be empty."),
        (0, j().with_rack_id(Some(text(""))), INVALID_REQUEST, "RackId can't be empty."),
        (
            0,
            j().with_rebalance_timeout_ms(-1),
            INVALID_REQUEST,
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            0,
            j().with_topic_partitions(None),
            INVALID_REQUEST,
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            0,
            j().with_subscribed_topic_names(None),
            INVALID_REQUEST,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
             (re-)joining.",
        ),
        (0, j().with_member_epoch(-2), INVALID_REQUEST, "InstanceId can't be null."),
        (0, j().with_member_epoch(-3), INVALID_REQUEST, "MemberEpoch is invalid."),
        (0, j().with_member_epoch(1), GROUP_ID_NOT_FOUND, "Consumer group g not found."),
        (
            0,
            j().with_server_assignor(Some(text("sticky"))),
            UNSUPPORTED_ASSIGNOR,
            "ServerAssignor sticky is not supported. Supported assignors: uniform, range.",
        ),
    ];
    for (version, request, error, why) in cases {
        let reply = wire.call(&request, version).await;
        assert_eq!((reply.error_code, reply.error_message.as_deref()), (error, Some(why)));
    }
    let pattern = j().with_subscribed_topic_regex(Some(text("[")));
    assert_eq!(wire.call(&pattern, 1).await.error_code, INVALID_REGULAR_EXPRESSION);
    assert!(wire.call(&ListGroupsRequest::default(), 5).await.groups.is_empty());
    // Version 0 may leave the id to the broker.
    let reply = wire.call(&j().with_member_id(text("")), 0).await;
    assert_eq!(reply.error_code, NONE);
    assert_eq!(reply.member_id.unwrap_or_default().len(), 36, "a UUID");
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn both_protocols_live_in_one_group_and_it_goes_back_and_forth() {
    let mut wire = Wire::new().await;
    let subscription =
        Bytes::from_static(b"\x00\x01\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff\0\0\0\0");
    let mut join = JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(20_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![
            JoinGroupRequestProtocol::default()
                .with_name(text("range"))
                .with_metadata(subscription),
        ]);
    // A classic group of one, which takes both partitions.
    join.member_id = wire.call(&join, 9).await.member_id;
    let joined = wire.call(&join, 9).await;
    assert_eq!((joined.generation_id, &joined.leader), (1, &join.member_id));
    let mut sync = SyncGroupRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(1)
        .with_member_id(join.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")));
    let both =
        Bytes::from_static(b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x01\xff\xff\xff\xff");
    sync.assignments = vec![
        kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment::default()
            .with_member_id(join.member_id.clone())
            .with_assignment(both.clone()),
    ];
    assert_eq!(wire.call(&sync, 5).await.assignment, both);
    assert_eq!(words(&wire.listed().await), ("Stable", "classic", "consumer"));

    // A member of the consumer protocol: the group is upgraded, and nothing is taken yet.
    assert_eq!(assigned(&wire.beat("b", 0, &[]).await), Some(vec![]));
    assert_eq!(words(&wire.listed().await), ("Reconciling", "consumer", "consumer"));
    let heartbeat = |generation: i32| {
        HeartbeatRequest::default()
            .with_group_id(group("g"))
            .with_generation_id(generation)
            .with_member_id(join.member_id.clone())
    };
    const REBALANCE_IN_PROGRESS: i16 = 27;
    assert_eq!(wire.call(&heartbeat(1), 4).await.error_code, REBALANCE_IN_PROGRESS);
    // An eager member: it owns nothing when it joins.
    let joined = wire.call(&join, 9).await;
    assert_eq!((joined.error_code, joined.generation_id, &*joined.leader), (NONE, 2, ""));
    sync.generation_id = 2;
    sync.assignments.clear();
    let one = |partition: u8| {
        let mut bytes = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x01\0\0\0\0\xff\xff\xff\xff".to_vec();
        bytes[16] = partition;
        Bytes::from(bytes)
    };
    let kept = wire.call(&sync, 5).await.assignment;
    assert!(kept == one(0) || kept == one(1), "{kept:?}");
    assert_eq!(assigned(&wire.beat("b", 2, &[]).await).map(|it| it.len()), Some(1));
    assert_eq!(wire.call(&heartbeat(2), 4).await.error_code, NONE);
    let mut wire = wire.restarted().await;
    assert_eq!(words(&wire.listed().await), ("Stable", "consumer", "consumer"));

    // The last member of the consumer protocol leaves: classic again, and to be joined again.
    assert_eq!(wire.beat("b", -1, &[]).await.error_code, NONE);
    assert_eq!(words(&wire.listed().await), ("PreparingRebalance", "classic", "consumer"));
    assert_eq!(wire.call(&heartbeat(2), 4).await.error_code, REBALANCE_IN_PROGRESS);
    let joined = wire.call(&join, 9).await;
    assert_eq!((joined.error_code, &joined.leader), (NONE, &join.member_id));
    wire.node.broker.shutdown().await;
}
