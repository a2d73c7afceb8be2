use std::path::Path;

use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::alter_replica_log_dirs_request::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic,
};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterReplicaLogDirsRequest, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeLogDirsRequest, DescribeQuorumRequest, ElectLeadersRequest,
    ListPartitionReassignmentsRequest, MetadataRequest, OffsetForLeaderEpochRequest,
};
use odradek_broker::client::Principal;
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;
use uuid::Uuid;

use super::*;

impl Wire {
    async fn fill(&mut self, records: usize) {
        let mut builder = BatchBuilder::new(Compression::None);
        for _ in 0..records {
            builder.push(1, Some(b"k"), Some(b"v"), &[]);
        }
        let done = self.produce(builder.build(0), 9).await;
        assert_eq!(done.error_code, NONE);
    }

    /// Error and new log start.
    async fn delete_records(
        &mut self,
        topic: &str,
        partition: i32,
        offset: i64,
        version: i16,
    ) -> (i16, i64) {
        let partition =
            DeleteRecordsPartition::default().with_partition_index(partition).with_offset(offset);
        let topic =
            DeleteRecordsTopic::default().with_name(named(topic)).with_partitions(vec![partition]);
        let request =
            DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000);
        let response = self.call(&request, version).await;
        let result = &response.topics[0].partitions[0];
        (result.error_code, result.low_watermark)
    }
}

#[tokio::test]
async fn records_are_deleted_up_to_an_offset_and_stay_deleted() {
    let mut wire = Wire::new().await;
    wire.fill(10).await;
    for (version, offset) in [(0, 3), (1, 4), (2, 5)] {
        assert_eq!(wire.delete_records("t", 0, offset, version).await, (NONE, offset));
    }
    // What is gone already stays as it is.
    assert_eq!(wire.delete_records("t", 0, 2, 2).await, (NONE, 5));
    assert_eq!(wire.delete_records("t", 0, 11, 2).await, (OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(wire.delete_records("t", 0, -2, 2).await, (OFFSET_OUT_OF_RANGE, -1));
    assert_eq!(wire.delete_records("t", 9, 0, 2).await, (UNKNOWN_TOPIC_OR_PARTITION, -1));
    assert_eq!(wire.delete_records("u", 0, 0, 2).await, (UNKNOWN_TOPIC_OR_PARTITION, -1));
    let internal = wire.delete_records("__consumer_offsets", 0, 0, 2).await;
    assert_eq!(internal, (INVALID_TOPIC_EXCEPTION, -1));
    let mut wire = wire.restarted().await;
    assert_eq!(wire.delete_records("t", 0, 0, 2).await, (NONE, 5));
    assert_eq!(wire.delete_records("t", 0, -1, 2).await, (NONE, 10));
    wire.fill(1).await;
    let mut wire = wire.restarted().await;
    assert_eq!(wire.delete_records("t", 0, 0, 2).await, (NONE, 10));
}

#[tokio::test]
async fn records_of_a_topic_that_is_only_compacted_are_not_deleted() {
    let mut wire = Wire::new().await;
    let client = wire.node.broker.client(Principal::internal());
    let policy = ("cleanup.policy".to_owned(), "compact".to_owned());
    client.ensure_topic("c", 1, &[policy]).await.unwrap();
    assert_eq!(wire.delete_records("c", 0, 0, 2).await, (POLICY_VIOLATION, -1));
}

#[tokio::test]
async fn the_folder_tells_the_bytes_of_each_partition() {
    let mut wire = Wire::new().await;
    wire.fill(100).await;
    for version in 1..=4 {
        let all = DescribeLogDirsRequest::default().with_topics(None);
        let response = wire.call(&all, version).await;
        let [folder] = response.results.as_slice() else { panic!("one folder") };
        let path = wire.node.dir.path().canonicalize().unwrap();
        assert_eq!(Path::new(&*folder.log_dir).canonicalize().unwrap(), path);
        let topic = folder.topics.iter().find(|topic| **topic.name == *"t").unwrap();
        let sizes: Vec<i64> = topic.partitions.iter().map(|p| p.partition_size).collect();
        // 61 bytes of header and 100 records of at least 9 bytes.
        assert!(sizes[0] >= 61 + 900, "{sizes:?}");
        assert_eq!(sizes[1], 0);
        assert!(!folder.topics.iter().any(|topic| **topic.name == *"__odradek_state"));
        if version >= 4 && cfg!(unix) {
            assert!(folder.total_bytes >= folder.usable_bytes && folder.usable_bytes > 0);
        }
    }
    let one = DescribableLogDirTopic::default().with_topic(named("t")).with_partitions(vec![1, 7]);
    let none = DescribableLogDirTopic::default().with_topic(named("u")).with_partitions(vec![0]);
    let request = DescribeLogDirsRequest::default().with_topics(Some(vec![one, none]));
    let response = wire.call(&request, 4).await;
    let topics = &response.results[0].topics;
    assert_eq!(topics.len(), 1);
    assert_eq!(topics[0].partitions[0].partition_index, 1);
}

#[tokio::test]
async fn a_partition_can_only_be_moved_into_the_folder_it_is_in() {
    let mut wire = Wire::new().await;
    let own = wire.node.dir.path().to_str().unwrap().to_owned();
    for version in 1..=2 {
        for (path, partition, code) in [
            (own.as_str(), 0, NONE),
            ("/elsewhere", 0, LOG_DIR_NOT_FOUND),
            (own.as_str(), 9, UNKNOWN_TOPIC_OR_PARTITION),
        ] {
            let topic = AlterReplicaLogDirTopic::default()
                .with_name(named("t"))
                .with_partitions(vec![partition]);
            let dir = AlterReplicaLogDir::default().with_path(text(path)).with_topics(vec![topic]);
            let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
            let response = wire.call(&request, version).await;
            assert_eq!(response.results[0].partitions[0].error_code, code, "{path} {partition}");
        }
    }
}

#[tokio::test]
async fn the_one_leader_epoch_ends_where_the_log_does() {
    let mut wire = Wire::new().await;
    wire.fill(4).await;
    // Partition, epoch that is believed current, epoch asked for; error, epoch, offset.
    let cases: [(i32, i32, i32, i16, i32, i64); 6] = [
        (0, 0, 0, NONE, 0, 4),
        (0, -1, 0, NONE, 0, 4),
        (0, -1, 5, NONE, -1, -1),
        (0, 7, 0, UNKNOWN_LEADER_EPOCH, -1, -1),
        (0, -2, 0, FENCED_LEADER_EPOCH, -1, -1),
        (9, -1, 0, UNKNOWN_TOPIC_OR_PARTITION, -1, -1),
    ];
    for version in 2..=4 {
        for (partition, current, asked, code, epoch, offset) in cases {
            let partition = OffsetForLeaderPartition::default()
                .with_partition(partition)
                .with_current_leader_epoch(current)
                .with_leader_epoch(asked);
            let topic = OffsetForLeaderTopic::default()
                .with_topic(named("t"))
                .with_partitions(vec![partition]);
            let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
            let response = wire.call(&request, version).await;
            let end = &response.topics[0].partitions[0];
            let got = (end.error_code, end.leader_epoch, end.end_offset);
            assert_eq!(got, (code, epoch, offset), "version {version}, {current} {asked}");
        }
    }
}

#[tokio::test]
async fn no_election_is_needed_and_all_of_them_name_none() {
    let mut wire = Wire::new().await;
    for version in 0..=2 {
        let topic = |name: &str| {
            TopicPartitions::default().with_topic(named(name)).with_partitions(vec![0])
        };
        let request = ElectLeadersRequest::default()
            .with_topic_partitions(Some(vec![topic("t"), topic("u")]))
            .with_timeout_ms(5_000);
        let response = wire.call(&request, version).await;
        assert_eq!(response.error_code, NONE);
        let codes: Vec<i16> = response
            .replica_election_results
            .iter()
            .map(|topic| topic.partition_result[0].error_code)
            .collect();
        assert_eq!(codes, [ELECTION_NOT_NEEDED, UNKNOWN_TOPIC_OR_PARTITION]);
        let all = ElectLeadersRequest::default().with_topic_partitions(None);
        assert!(wire.call(&all, version).await.replica_election_results.is_empty());
    }
    let odd = ElectLeadersRequest::default().with_election_type(7).with_topic_partitions(None);
    assert_eq!(wire.call(&odd, 2).await.error_code, INVALID_REQUEST);
}

#[tokio::test]
async fn a_partition_can_only_be_assigned_to_this_broker() {
    let mut wire = Wire::new().await;
    let cases: [(i32, Option<Vec<i32>>, i16); 6] = [
        (0, Some(vec![1]), NONE),
        (0, Some(vec![2]), INVALID_REPLICA_ASSIGNMENT),
        (0, Some(Vec::new()), INVALID_REPLICA_ASSIGNMENT),
        (0, Some(vec![1, 1]), INVALID_REPLICA_ASSIGNMENT),
        (0, None, NO_REASSIGNMENT_IN_PROGRESS),
        (9, Some(vec![1]), UNKNOWN_TOPIC_OR_PARTITION),
    ];
    for version in 0..=1 {
        for (partition, replicas, code) in &cases {
            let replicas =
                replicas.as_ref().map(|ids| ids.iter().map(|id| BrokerId(*id)).collect());
            let partition = ReassignablePartition::default()
                .with_partition_index(*partition)
                .with_replicas(replicas);
            let topic =
                ReassignableTopic::default().with_name(named("t")).with_partitions(vec![partition]);
            let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
            let response = wire.call(&request, version).await;
            assert_eq!(response.responses[0].partitions[0].error_code, *code);
        }
    }
    let response = wire.call(&ListPartitionReassignmentsRequest::default(), 0).await;
    assert!(response.error_code == NONE && response.topics.is_empty());
}

#[tokio::test]
async fn the_quorum_is_this_one_node() {
    let mut wire = Wire::new().await;
    for version in 0..=2 {
        let topic = |name: &str| {
            TopicData::default()
                .with_topic_name(named(name))
                .with_partitions(vec![PartitionData::default().with_partition_index(0)])
        };
        let request = DescribeQuorumRequest::default()
            .with_topics(vec![topic("__cluster_metadata"), topic("t")]);
        let response = wire.call(&request, version).await;
        assert_eq!(response.error_code, NONE);
        let quorum = &response.topics[0].partitions[0];
        assert_eq!((quorum.error_code, quorum.leader_id), (NONE, NODE));
        let [voter] = quorum.current_voters.as_slice() else { panic!("one voter") };
        assert_eq!((voter.replica_id, voter.log_end_offset), (NODE, quorum.high_watermark));
        assert!(quorum.observers.is_empty());
        assert_eq!(response.topics[1].partitions[0].error_code, UNKNOWN_TOPIC_OR_PARTITION);
        assert_eq!(response.nodes.len(), usize::from(version >= 2));
    }
}

fn replicas(ids: &[i32]) -> Vec<BrokerId> {
    ids.iter().map(|id| BrokerId(*id)).collect()
}

#[tokio::test]
async fn partitions_are_added_with_as_many_assignments_as_are_new() {
    let mut wire = Wire::new().await;
    type Assignments<'a> = Option<&'a [&'a [i32]]>;
    let cases: [(i32, Assignments<'_>, i16); 6] = [
        (4, Some(&[&[1]]), INVALID_REPLICA_ASSIGNMENT),
        (3, Some(&[&[2]]), INVALID_REPLICA_ASSIGNMENT),
        (2, None, INVALID_PARTITIONS),
        (1, None, INVALID_PARTITIONS),
        (4, Some(&[&[1], &[1]]), NONE),
        (5, None, NONE),
    ];
    for (count, assignments, code) in cases {
        let assignments = assignments.map(|all| {
            let each =
                |ids: &&[i32]| CreatePartitionsAssignment::default().with_broker_ids(replicas(ids));
            all.iter().map(each).collect()
        });
        let topic = CreatePartitionsTopic::default()
            .with_name(named("t"))
            .with_count(count)
            .with_assignments(assignments);
        let request = CreatePartitionsRequest::default().with_topics(vec![topic]);
        let response = wire.call(&request, 3).await;
        assert_eq!(response.results[0].error_code, code, "{count}");
    }
}

#[tokio::test]
async fn topics_are_made_by_assignment_and_deleted_by_id() {
    let mut wire = Wire::new().await;
    let create = |factor: i16, count: i32, assignments: &[(i32, &[i32])]| {
        let assignments = assignments.iter().map(|(index, ids)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(*index)
                .with_broker_ids(replicas(ids))
        });
        let topic = CreatableTopic::default()
            .with_name(named("n"))
            .with_replication_factor(factor)
            .with_num_partitions(count)
            .with_assignments(assignments.collect());
        CreateTopicsRequest::default().with_topics(vec![topic])
    };
    for (request, code) in [
        (create(2, 1, &[]), INVALID_REPLICATION_FACTOR),
        (create(0, 1, &[]), INVALID_REPLICATION_FACTOR),
        (create(1, 0, &[]), INVALID_PARTITIONS),
        (create(1, -1, &[(0, &[1])]), INVALID_REQUEST),
        (create(-1, 2, &[(0, &[1])]), INVALID_REQUEST),
        (create(-1, -1, &[(1, &[1])]), INVALID_REPLICA_ASSIGNMENT),
        (create(-1, -1, &[(0, &[1]), (0, &[1])]), INVALID_REPLICA_ASSIGNMENT),
        (create(-1, -1, &[(0, &[3])]), INVALID_REPLICA_ASSIGNMENT),
    ] {
        let response = wire.call(&request, 7).await;
        assert_eq!(response.topics[0].error_code, code, "{:?}", response.topics[0].error_message);
    }
    let made = wire.call(&create(-1, -1, &[(1, &[1]), (0, &[1])]), 7).await;
    assert_eq!((made.topics[0].error_code, made.topics[0].num_partitions), (NONE, 2));
    let id = made.topics[0].topic_id;
    let delete = |name: Option<&str>, id: Uuid| {
        let topic = DeleteTopicState::default().with_name(name.map(named)).with_topic_id(id);
        DeleteTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(5_000)
    };
    for request in [delete(Some("n"), id), delete(None, Uuid::nil())] {
        assert_eq!(wire.call(&request, 6).await.responses[0].error_code, INVALID_REQUEST);
    }
    let gone = wire.call(&delete(None, id), 6).await;
    assert_eq!(gone.responses[0].error_code, NONE);
    assert_eq!(gone.responses[0].name, Some(named("n")));
}

#[tokio::test]
async fn only_brokers_are_here_to_be_described() {
    let mut wire = Wire::new().await;
    for (version, kind, code) in [
        (0, 1, NONE),
        (1, 1, NONE),
        (2, 1, NONE),
        (1, 2, MISMATCHED_ENDPOINT_TYPE),
        (2, 9, UNSUPPORTED_ENDPOINT_TYPE),
    ] {
        let request = DescribeClusterRequest::default().with_endpoint_type(kind);
        let response = wire.call(&request, version).await;
        assert_eq!(response.error_code, code);
        assert_eq!(response.brokers.len(), usize::from(code == NONE));
    }
}

#[tokio::test]
async fn metadata_knows_topics_by_id_from_version_12_on() {
    let mut wire = Wire::new().await;
    let by_name = MetadataRequestTopic::default().with_name(Some(named("t")));
    let ask = |topic: &MetadataRequestTopic| {
        MetadataRequest::default().with_topics(Some(vec![topic.clone()]))
    };
    let id = wire.call(&ask(&by_name), 10).await.topics[0].topic_id;
    let by_id = |id| MetadataRequestTopic::default().with_name(None).with_topic_id(id);
    for version in [12, 13] {
        let response = wire.call(&ask(&by_id(id)), version).await;
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.name.as_ref()), (NONE, Some(&named("t"))));
        assert_eq!(topic.partitions.len(), 2);
        let response = wire.call(&ask(&by_id(Uuid::from_u128(7))), version).await;
        let topic = &response.topics[0];
        assert_eq!((topic.error_code, topic.name.as_ref()), (UNKNOWN_TOPIC_ID, None));
        assert_eq!(topic.topic_id, Uuid::from_u128(7));
    }
    let early = by_id(id).with_name(Some(named("t")));
    for version in [10, 11] {
        let response = wire.call(&ask(&early), version).await;
        assert_eq!(response.topics[0].error_code, INVALID_REQUEST);
    }
}
