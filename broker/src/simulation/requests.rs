//! What clients ask for, as requests to the handlers of the Kafka port, and what of the replies
//! counts.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ConsumerGroupHeartbeatRequest,
    CreateTopicsRequest, DeleteGroupsRequest, DeleteTopicsRequest, EndTxnRequest, GroupId,
    InitProducerIdRequest, JoinGroupRequest, OffsetCommitRequest, OffsetDeleteRequest,
    OffsetFetchRequest, ProduceRequest, ProducerId, SyncGroupRequest, TopicName, TransactionalId,
    TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::model::{Offsets, Place};
use crate::broker::Broker;
use crate::client::Principal;
use crate::handlers::{
    Context, add_offsets_to_txn, add_partitions_to_txn, consumer_group_heartbeat, create_topics,
    delete_groups, delete_topics, end_txn, init_producer_id, join_group, offset_commit,
    offset_delete, offset_fetch, produce, sync_group, txn_offset_commit,
};
use crate::session::Session;
use crate::transaction::record::Producer;

const TIMEOUT_MS: i32 = 30_000;
const NO_PRODUCER: Producer = Producer { id: -1, epoch: -1 };

/// What a transactional client names itself by.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub id: String,
    pub producer: Producer,
    /// KIP-890: the broker adds what the transaction touches, and each end gives out a new epoch.
    pub is_new: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub id: String,
    /// Or member epoch.
    pub generation: i32,
}

#[derive(Debug, Clone)]
pub(super) struct Produced {
    pub topic: String,
    pub topic_id: Uuid,
    pub partition: i32,
    pub bytes: Bytes,
}

#[derive(Debug, Clone)]
pub(super) enum Request {
    NewProducer,
    Init { id: String, expected: Option<Producer>, is_new: bool },
    Produce { transaction: Option<Named>, batches: Vec<Produced> },
    AddPartitions { transaction: Named, places: Vec<Place> },
    AddOffsets { transaction: Named, group: String },
    CommitInTransaction { transaction: Named, group: String, offsets: Offsets },
    End { transaction: Named, commit: bool },
    Commit { group: String, member: Member, offsets: Offsets },
    DeleteOffsets { group: String, places: Vec<Place> },
    DeleteGroup { group: String },
    Join { group: String, member_id: String },
    Sync { group: String, member: Member },
    Heartbeat { group: String, member: Member },
    CreateTopic { name: String, partitions: i32 },
    DeleteTopic { name: String },
}

/// What came back: an error code for each part that was asked for, and whatever else counts.
#[derive(Debug, Default, Clone)]
pub(super) struct Reply {
    pub errors: Vec<i16>,
    pub producer: Option<Producer>,
    pub base_offsets: Vec<i64>,
    pub member_id: String,
    pub generation: i32,
}

impl Reply {
    fn of(error: i16) -> Self {
        Self { errors: vec![error], ..Self::default() }
    }

    /// The first error there is, 0 if there is none.
    pub(super) fn error(&self) -> i16 {
        self.errors.iter().copied().find(|error| *error != 0).unwrap_or(0)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

fn transactional_id(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// One connection's view of the broker.
#[derive(Clone)]
pub(super) struct Connection {
    pub broker: Broker,
    pub session: Arc<Session>,
}

impl Connection {
    fn context(&self, version: i16) -> Context {
        Context {
            broker: self.broker.clone(),
            core: self.broker.core(),
            session: self.session.clone(),
            principal: Principal::internal(),
            client_id: "simulated".to_owned(),
            correlation_id: 1,
            version,
            request_bytes: 0,
            worked: None,
            throttle_ms: AtomicI64::new(0),
        }
    }

    /// `None` if the broker closes the connection instead.
    pub(super) async fn ask(self, request: Request) -> Option<Reply> {
        match request {
            Request::NewProducer => self.init(None, None, true).await,
            Request::Init { id, expected, is_new } => self.init(Some(id), expected, is_new).await,
            Request::Produce { transaction, batches } => self.produce(transaction, batches).await,
            Request::AddPartitions { transaction, places } => {
                self.add_partitions(transaction, places).await
            }
            Request::AddOffsets { transaction, group } => {
                let request = AddOffsetsToTxnRequest::default()
                    .with_transactional_id(transactional_id(&transaction.id))
                    .with_producer_id(ProducerId(transaction.producer.id))
                    .with_producer_epoch(transaction.producer.epoch)
                    .with_group_id(group_id(&group));
                let reply = add_offsets_to_txn::handle(&self.context(3), request).await.ok()?;
                Some(Reply::of(reply.error_code))
            }
            Request::CommitInTransaction { transaction, group, offsets } => {
                self.commit_in_transaction(transaction, group, offsets).await
            }
            Request::End { transaction, commit } => {
                let request = EndTxnRequest::default()
                    .with_transactional_id(transactional_id(&transaction.id))
                    .with_producer_id(ProducerId(transaction.producer.id))
                    .with_producer_epoch(transaction.producer.epoch)
                    .with_committed(commit);
                let version = if transaction.is_new { 5 } else { 3 };
                let reply = end_txn::handle(&self.context(version), request).await.ok()?;
                let producer = match transaction.is_new {
                    true => Producer { id: reply.producer_id.0, epoch: reply.producer_epoch },
                    false => transaction.producer,
                };
                Some(Reply { producer: Some(producer), ..Reply::of(reply.error_code) })
            }
            Request::Commit { group, member, offsets } => self.commit(group, member, offsets).await,
            Request::DeleteOffsets { group, places } => self.delete_offsets(group, places).await,
            Request::DeleteGroup { group } => {
                let request =
                    DeleteGroupsRequest::default().with_groups_names(vec![group_id(&group)]);
                let reply = delete_groups::handle(&self.context(2), request).await.ok()?;
                Some(Reply::of(reply.results[0].error_code))
            }
            Request::Join { group, member_id } => self.join(group, member_id).await,
            Request::Sync { group, member } => self.sync(group, member).await,
            Request::Heartbeat { group, member } => self.heartbeat(group, member).await,
            Request::CreateTopic { name, partitions } => {
                let topic = CreatableTopic::default()
                    .with_name(topic_name(&name))
                    .with_num_partitions(partitions)
                    .with_replication_factor(1);
                let request = CreateTopicsRequest::default()
                    .with_topics(vec![topic])
                    .with_timeout_ms(TIMEOUT_MS);
                let reply = create_topics::handle(&self.context(7), request).await.ok()?;
                Some(Reply::of(reply.topics[0].error_code))
            }
            Request::DeleteTopic { name } => {
                let request = DeleteTopicsRequest::default()
                    .with_topic_names(vec![topic_name(&name)])
                    .with_timeout_ms(TIMEOUT_MS);
                let reply = delete_topics::handle(&self.context(5), request).await.ok()?;
                Some(Reply::of(reply.responses[0].error_code))
            }
        }
    }

    async fn init(
        &self,
        id: Option<String>,
        expected: Option<Producer>,
        is_new: bool,
    ) -> Option<Reply> {
        let expected = expected.unwrap_or(NO_PRODUCER);
        let request = InitProducerIdRequest::default()
            .with_transactional_id(id.as_deref().map(transactional_id))
            .with_transaction_timeout_ms(TIMEOUT_MS)
            .with_producer_id(ProducerId(expected.id))
            .with_producer_epoch(expected.epoch);
        let version = if is_new { 5 } else { 4 };
        let reply = init_producer_id::handle(&self.context(version), request).await.ok()?;
        let producer = Producer { id: reply.producer_id.0, epoch: reply.producer_epoch };
        Some(Reply { producer: Some(producer), ..Reply::of(reply.error_code) })
    }

    async fn produce(&self, transaction: Option<Named>, batches: Vec<Produced>) -> Option<Reply> {
        let is_new = transaction.as_ref().is_none_or(|transaction| transaction.is_new);
        let topics = batches.iter().map(|batch| {
            let data = PartitionProduceData::default()
                .with_index(batch.partition)
                .with_records(Some(batch.bytes.clone()));
            TopicProduceData::default()
                .with_name(topic_name(&batch.topic))
                .with_topic_id(batch.topic_id)
                .with_partition_data(vec![data])
        });
        let id = transaction.as_ref().map(|transaction| transactional_id(&transaction.id));
        let request = ProduceRequest::default()
            .with_transactional_id(id)
            .with_acks(-1)
            .with_timeout_ms(TIMEOUT_MS)
            .with_topic_data(topics.collect());
        // By id, or by name.
        let version = if is_new { 13 } else { 9 };
        let reply = produce::handle(&self.context(version), request).await.ok()?;
        let answers = || reply.responses.iter().flat_map(|topic| &topic.partition_responses);
        Some(Reply {
            errors: answers().map(|answer| answer.error_code).collect(),
            base_offsets: answers().map(|answer| answer.base_offset).collect(),
            ..Reply::default()
        })
    }

    async fn add_partitions(&self, transaction: Named, places: Vec<Place>) -> Option<Reply> {
        let topics = places.iter().map(|(topic, partition)| {
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![*partition])
        });
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(transactional_id(&transaction.id))
            .with_v3_and_below_producer_id(ProducerId(transaction.producer.id))
            .with_v3_and_below_producer_epoch(transaction.producer.epoch)
            .with_v3_and_below_topics(topics.collect());
        let reply = add_partitions_to_txn::handle(&self.context(3), request).await.ok()?;
        let topics = reply.results_by_topic_v3_and_below.iter();
        let partitions = topics.flat_map(|topic| &topic.results_by_partition);
        let errors = partitions.map(|partition| partition.partition_error_code).collect();
        Some(Reply { errors, ..Reply::default() })
    }

    async fn commit_in_transaction(
        &self,
        transaction: Named,
        group: String,
        offsets: Offsets,
    ) -> Option<Reply> {
        let topics = offsets.iter().map(|((topic, partition), (offset, metadata))| {
            let partition = TxnOffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text(metadata)));
            TxnOffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![partition])
        });
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional_id(&transaction.id))
            .with_group_id(group_id(&group))
            .with_producer_id(ProducerId(transaction.producer.id))
            .with_producer_epoch(transaction.producer.epoch)
            .with_generation_id(-1)
            .with_topics(topics.collect());
        let version = if transaction.is_new { 5 } else { 3 };
        let reply = txn_offset_commit::handle(&self.context(version), request).await.ok()?;
        let partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
        let errors = partitions.map(|partition| partition.error_code).collect();
        Some(Reply { errors, ..Reply::default() })
    }

    async fn commit(&self, group: String, member: Member, offsets: Offsets) -> Option<Reply> {
        let topics = offsets.iter().map(|((topic, partition), (offset, metadata))| {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(*partition)
                .with_committed_offset(*offset)
                .with_committed_metadata(Some(text(metadata)));
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![partition])
        });
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(&group))
            .with_generation_id_or_member_epoch(member.generation)
            .with_member_id(text(&member.id))
            .with_topics(topics.collect());
        let reply = offset_commit::handle(&self.context(9), request).await.ok()?;
        let partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
        let errors = partitions.map(|partition| partition.error_code).collect();
        Some(Reply { errors, ..Reply::default() })
    }

    async fn delete_offsets(&self, group: String, places: Vec<Place>) -> Option<Reply> {
        let topics = places.iter().map(|(topic, partition)| {
            let partition =
                OffsetDeleteRequestPartition::default().with_partition_index(*partition);
            OffsetDeleteRequestTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![partition])
        });
        let request = OffsetDeleteRequest::default()
            .with_group_id(group_id(&group))
            .with_topics(topics.collect());
        let reply = offset_delete::handle(&self.context(0), request).await.ok()?;
        let partitions = reply.topics.iter().flat_map(|topic| &topic.partitions);
        let mut errors = vec![reply.error_code];
        errors.extend(partitions.map(|partition| partition.error_code));
        Some(Reply { errors, ..Reply::default() })
    }

    async fn join(&self, group: String, member_id: String) -> Option<Reply> {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
        let request = JoinGroupRequest::default()
            .with_group_id(group_id(&group))
            .with_session_timeout_ms(TIMEOUT_MS)
            .with_rebalance_timeout_ms(TIMEOUT_MS)
            .with_member_id(text(&member_id))
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol]);
        let reply = join_group::handle(&self.context(5), request).await.ok()?;
        Some(Reply {
            member_id: reply.member_id.to_string(),
            generation: reply.generation_id,
            ..Reply::of(reply.error_code)
        })
    }

    async fn sync(&self, group: String, member: Member) -> Option<Reply> {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(text(&member.id))
            .with_assignment(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]));
        let request = SyncGroupRequest::default()
            .with_group_id(group_id(&group))
            .with_generation_id(member.generation)
            .with_member_id(text(&member.id))
            .with_assignments(vec![assignment]);
        let reply = sync_group::handle(&self.context(3), request).await.ok()?;
        Some(Reply::of(reply.error_code))
    }

    async fn heartbeat(&self, group: String, member: Member) -> Option<Reply> {
        let joins = member.generation == 0;
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group_id(&group))
            .with_member_id(text(&member.id))
            .with_member_epoch(member.generation)
            .with_rebalance_timeout_ms(if joins { TIMEOUT_MS } else { -1 })
            .with_subscribed_topic_names(joins.then(|| vec![topic_name("a"), topic_name("b")]))
            .with_topic_partitions(joins.then(Vec::new));
        let reply = consumer_group_heartbeat::handle(&self.context(1), request).await.ok()?;
        Some(Reply {
            member_id: member.id,
            generation: reply.member_epoch,
            ..Reply::of(reply.error_code)
        })
    }

    /// All that a group has committed, as anybody is told.
    pub(super) async fn committed(self, group: String) -> Offsets {
        let group = OffsetFetchRequestGroup::default().with_group_id(group_id(&group));
        let request = OffsetFetchRequest::default().with_groups(vec![group.with_topics(None)]);
        let Ok(reply) = offset_fetch::handle(&self.context(8), request).await else {
            panic!("offsets are told");
        };
        let mut offsets = Offsets::new();
        for topic in &reply.groups[0].topics {
            for partition in &topic.partitions {
                assert_eq!(partition.error_code, 0, "an offset is told");
                let metadata = partition.metadata.as_ref().map(|text| text.to_string());
                let value = (partition.committed_offset, metadata.unwrap_or_default());
                offsets.insert((topic.name.to_string(), partition.partition_index), value);
            }
        }
        offsets
    }
}
