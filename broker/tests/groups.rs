//! The group APIs on a socket, in every version that is served: one consumer's life in each.

mod node;

use bytes::Bytes;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    BrokerId, DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use node::{Wire, group, named, text};

const NONE: i16 = 0;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const UNKNOWN_MEMBER_ID: i16 = 25;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const MEMBER_ID_REQUIRED: i16 = 79;

fn topic() -> TopicName {
    named("t")
}

impl Wire {
    async fn join(&mut self, name: &str, version: i16) -> JoinGroupResponse {
        let mut request = JoinGroupRequest::default()
            .with_group_id(group(name))
            .with_session_timeout_ms(10_000)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![
                JoinGroupRequestProtocol::default()
                    .with_name(text("range"))
                    .with_metadata(Bytes::from_static(b"meta")),
            ]);
        if version >= 1 {
            request.rebalance_timeout_ms = 20_000;
        }
        if version >= 8 {
            request.reason = Some(text("to test"));
        }
        let mut reply = self.call(&request, version).await;
        if version >= 4 {
            assert_eq!(reply.error_code, MEMBER_ID_REQUIRED, "JoinGroup {version}");
            request.member_id = reply.member_id;
            reply = self.call(&request, version).await;
        }
        assert_eq!(reply.error_code, NONE, "JoinGroup {version}");
        assert_eq!(reply.generation_id, 1);
        assert_eq!(reply.leader, reply.member_id);
        assert_eq!(reply.protocol_name.as_deref(), Some("range"));
        assert_eq!(reply.protocol_type.is_some(), version >= 7);
        assert_eq!(&reply.members[0].metadata[..], b"meta");
        reply
    }

    async fn sync(&mut self, name: &str, member: &StrBytes, version: i16) {
        let mut request = SyncGroupRequest::default()
            .with_group_id(group(name))
            .with_generation_id(1)
            .with_member_id(member.clone())
            .with_assignments(vec![
                SyncGroupRequestAssignment::default()
                    .with_member_id(member.clone())
                    .with_assignment(Bytes::from_static(b"assigned")),
            ]);
        if version >= 5 {
            let reply = self.call(&request, version).await;
            assert_eq!(reply.error_code, INCONSISTENT_GROUP_PROTOCOL, "both are mandatory");
            request.protocol_type = Some(text("consumer"));
            request.protocol_name = Some(text("range"));
        }
        let reply = self.call(&request, version).await;
        assert_eq!(reply.error_code, NONE, "SyncGroup {version}");
        assert_eq!(&reply.assignment[..], b"assigned");
    }

    /// Partition 0 exists, 9 does not.
    async fn commit(&mut self, name: &str, member: &StrBytes, offset: i64, version: i16) {
        let partition = |index: i32| {
            let mut partition = OffsetCommitRequestPartition::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_metadata(Some(text("note")));
            if version >= 6 {
                partition.committed_leader_epoch = 0;
            }
            partition
        };
        let request = OffsetCommitRequest::default()
            .with_group_id(group(name))
            .with_generation_id_or_member_epoch(1)
            .with_member_id(member.clone())
            .with_topics(vec![
                OffsetCommitRequestTopic::default()
                    .with_name(topic())
                    .with_partitions(vec![partition(9), partition(0)]),
                OffsetCommitRequestTopic::default()
                    .with_name(named("missing"))
                    .with_partitions(vec![partition(0)]),
            ]);
        let reply = self.call(&request, version).await;
        let codes: Vec<Vec<i16>> = reply
            .topics
            .iter()
            .map(|topic| topic.partitions.iter().map(|one| one.error_code).collect())
            .collect();
        let unknown = UNKNOWN_TOPIC_OR_PARTITION;
        assert_eq!(codes, [vec![unknown, NONE], vec![unknown]], "OffsetCommit {version}");
    }

    /// Partition, offset, leader epoch and metadata of what is committed on `t`.
    async fn fetch(
        &mut self,
        name: &str,
        partitions: Option<Vec<i32>>,
        version: i16,
    ) -> Vec<(i32, i64, i32, String)> {
        if version >= 8 {
            let topics = partitions.map(|partitions| {
                let topic = OffsetFetchRequestTopics::default().with_name(topic());
                vec![topic.with_partition_indexes(partitions)]
            });
            let asked =
                OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(topics);
            let request = OffsetFetchRequest::default().with_groups(vec![asked]);
            let reply = self.call(&request, version).await;
            assert_eq!(reply.groups[0].error_code, NONE);
            let topics = reply.groups[0].topics.iter();
            return topics
                .flat_map(|topic| &topic.partitions)
                .map(|it| {
                    let metadata = it.metadata.as_ref().unwrap().to_string();
                    (it.partition_index, it.committed_offset, it.committed_leader_epoch, metadata)
                })
                .collect();
        }
        let topics = partitions.map(|partitions| {
            let topic = OffsetFetchRequestTopic::default().with_name(topic());
            vec![topic.with_partition_indexes(partitions)]
        });
        let request = OffsetFetchRequest::default().with_group_id(group(name)).with_topics(topics);
        let reply = self.call(&request, version).await;
        assert_eq!(reply.error_code, NONE);
        let partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|it| {
                let metadata = it.metadata.as_ref().unwrap().to_string();
                (it.partition_index, it.committed_offset, it.committed_leader_epoch, metadata)
            })
            .collect()
    }

    async fn leave(&mut self, name: &str, member: &StrBytes, version: i16) -> i16 {
        let mut request = LeaveGroupRequest::default().with_group_id(group(name));
        if version < 3 {
            request.member_id = member.clone();
            return self.call(&request, version).await.error_code;
        }
        request.members = vec![MemberIdentity::default().with_member_id(member.clone())];
        let reply = self.call(&request, version).await;
        assert_eq!(reply.error_code, NONE);
        reply.members[0].error_code
    }
}

#[tokio::test]
async fn a_consumer_lives_its_life_in_every_version_of_the_group_apis() {
    let mut wire = Wire::new().await;
    // Each API in its own oldest and newest version and all between, as the others wrap around.
    for round in 0..10_i16 {
        let of = |oldest: i16, newest: i16| oldest + round % (newest - oldest + 1);
        let name = format!("g{round}");
        let member = wire.join(&name, of(0, 9)).await.member_id;
        wire.sync(&name, &member, of(0, 5)).await;
        let heartbeat = HeartbeatRequest::default()
            .with_group_id(group(&name))
            .with_generation_id(1)
            .with_member_id(member.clone());
        assert_eq!(wire.call(&heartbeat, of(0, 4)).await.error_code, NONE);

        let commit_version = of(2, 9);
        wire.commit(&name, &member, 40 + i64::from(round), commit_version).await;
        let fetch_version = of(1, 9);
        let epoch = if fetch_version >= 5 && commit_version >= 6 { 0 } else { -1 };
        let committed = (0, 40 + i64::from(round), epoch, "note".to_owned());
        let found = wire.fetch(&name, Some(vec![0, 1]), fetch_version).await;
        assert_eq!(found, [committed.clone(), (1, -1, -1, String::new())], "{fetch_version}");
        if fetch_version >= 2 {
            assert_eq!(wire.fetch(&name, None, fetch_version).await, [committed]);
        }

        let describe = DescribeGroupsRequest::default()
            .with_groups(vec![group(&name), group("nobody's")])
            .with_include_authorized_operations(of(0, 6) >= 3);
        let described = wire.call(&describe, of(0, 6)).await.groups;
        assert_eq!(&*described[0].group_state, "Stable");
        assert_eq!(&*described[0].protocol_data, "range");
        assert_eq!(&*described[0].members[0].client_host, "/127.0.0.1");
        assert_eq!(&described[0].members[0].member_assignment[..], b"assigned");
        assert_eq!(described[0].authorized_operations != i32::MIN, of(0, 6) >= 3);
        assert_eq!(&*described[1].group_state, "Dead");
        let missing = if of(0, 6) >= 6 { GROUP_ID_NOT_FOUND } else { NONE };
        assert_eq!(described[1].error_code, missing);

        let delete = DeleteGroupsRequest::default().with_groups_names(vec![group(&name)]);
        let kept = wire.call(&delete, of(0, 2)).await;
        assert_eq!(kept.results[0].error_code, NON_EMPTY_GROUP);
        assert_eq!(wire.leave(&name, &member, of(0, 5)).await, NONE);
        assert_eq!(wire.leave(&name, &member, of(0, 5)).await, UNKNOWN_MEMBER_ID);
        let deleted = wire.call(&delete, of(0, 2)).await;
        assert_eq!(deleted.results[0].error_code, NONE);
    }
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn groups_are_listed_by_state_and_type() {
    let mut wire = Wire::new().await;
    let member = wire.join("with members", 9).await.member_id;
    wire.sync("with members", &member, 5).await;
    let offsets = OffsetCommitRequest::default()
        .with_group_id(group("offsets only"))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![OffsetCommitRequestTopic::default().with_name(topic()).with_partitions(
            vec![OffsetCommitRequestPartition::default().with_committed_offset(1)],
        )]);
    let committed = wire.call(&offsets, 9).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, NONE);

    let both = ["offsets only", "with members"];
    let cases: [(&[&str], &[&str], &[&str]); 6] = [
        (&[], &[], &both),
        (&["Stable"], &[], &["with members"]),
        (&["empty", "dead"], &[], &["offsets only"]),
        (&["STABLE", "Empty"], &["Classic"], &both),
        (&[], &["consumer"], &[]),
        (&["PreparingRebalance"], &[], &[]),
    ];
    for (states, types, expected) in cases {
        let request = ListGroupsRequest::default()
            .with_states_filter(states.iter().map(|state| text(state)).collect())
            .with_types_filter(types.iter().map(|name| text(name)).collect());
        let groups = wire.call(&request, 5).await.groups;
        let names: Vec<&str> = groups.iter().map(|group| group.group_id.as_str()).collect();
        assert_eq!(names, expected, "{states:?} {types:?}");
        assert!(groups.iter().all(|group| &*group.group_type == "classic"));
    }
    for version in 0..=5 {
        let groups = wire.call(&ListGroupsRequest::default(), version).await.groups;
        let states: Vec<&str> = groups.iter().map(|group| &*group.group_state).collect();
        let expected = if version >= 4 { ["Empty", "Stable"] } else { ["", ""] };
        assert_eq!(states, expected, "ListGroups {version}");
        assert_eq!(&*groups[1].protocol_type, "consumer");
    }
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn the_coordinator_of_groups_and_of_transactions_is_here() {
    let mut wire = Wire::new().await;
    let port = i32::from(wire.node.broker.listeners()[0].address.port());
    for version in 0..=6 {
        for key_type in [0, 1] {
            if version == 0 && key_type == 1 {
                continue;
            }
            let request = FindCoordinatorRequest::default().with_key_type(key_type);
            let (error, node, host, found) = if version >= 4 {
                let request = request.with_coordinator_keys(vec![text("g"), text("h")]);
                let mut found = wire.call(&request, version).await.coordinators;
                assert_eq!((&*found[0].key, &*found[1].key), ("g", "h"));
                let first = found.remove(0);
                (first.error_code, first.node_id, first.host, first.port)
            } else {
                let reply = wire.call(&request.with_key(text("g")), version).await;
                assert!(reply.error_message.unwrap_or_default().is_empty());
                (reply.error_code, reply.node_id, reply.host, reply.port)
            };
            assert_eq!((error, found), (NONE, port), "FindCoordinator {version}");
            assert_eq!((node, &*host), (BrokerId(wire.node.broker.config().node_id), "127.0.0.1"));
        }
    }
    wire.node.broker.shutdown().await;
}
