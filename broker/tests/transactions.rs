//! Transactions on a socket: what each version of each request is answered, and what readers see.
//! The error codes are Kafka's.

mod node;

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{
    WritableTxnMarker, WritableTxnMarkerTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, ApiVersionsRequest, BrokerId,
    DescribeProducersRequest, DescribeTransactionsRequest, EndTxnRequest, FetchRequest,
    InitProducerIdRequest, ListOffsetsRequest, ListTransactionsRequest, OffsetFetchRequest,
    ProduceRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest, WriteTxnMarkersRequest,
};
use node::{Wire, group, named, text};
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;

const NONE: i16 = 0;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const INVALID_TXN_STATE: i16 = 48;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const INVALID_TRANSACTION_TIMEOUT: i16 = 50;
const CONCURRENT_TRANSACTIONS: i16 = 51;
const UNSTABLE_OFFSET_COMMIT: i16 = 88;
const PRODUCER_FENCED: i16 = 90;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
const TRANSACTION_ABORTABLE: i16 = 120;

type Producer = (i64, i16);

impl Wire {
    async fn init(&mut self, expected: Option<Producer>, version: i16) -> (i16, Producer) {
        let (id, epoch) = expected.unwrap_or((-1, -1));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional("x")))
            .with_transaction_timeout_ms(60_000)
            .with_producer_id(ProducerId(id))
            .with_producer_epoch(epoch);
        let reply = self.call(&request, version).await;
        (reply.error_code, (reply.producer_id.0, reply.producer_epoch))
    }

    async fn add(&mut self, (id, epoch): Producer, version: i16) -> i16 {
        let topic =
            AddPartitionsToTxnTopic::default().with_name(named("t")).with_partitions(vec![0]);
        let request = AddPartitionsToTxnRequest::default();
        let request = if version < 4 {
            request
                .with_v3_and_below_transactional_id(transactional("x"))
                .with_v3_and_below_producer_id(ProducerId(id))
                .with_v3_and_below_producer_epoch(epoch)
                .with_v3_and_below_topics(vec![topic])
        } else {
            request.with_transactions(vec![
                AddPartitionsToTxnTransaction::default()
                    .with_transactional_id(transactional("x"))
                    .with_producer_id(ProducerId(id))
                    .with_producer_epoch(epoch)
                    .with_topics(vec![topic]),
            ])
        };
        let reply = self.call(&request, version).await;
        let topics = match version {
            ..4 => reply.results_by_topic_v3_and_below,
            _ => reply.results_by_transaction[0].topic_results.clone(),
        };
        topics[0].results_by_partition[0].partition_error_code
    }

    /// Error code and base offset.
    async fn produce(&mut self, producer: Producer, sequence: i32, version: i16) -> (i16, i64) {
        let mut builder = BatchBuilder::new(Compression::None)
            .producer(producer.0, producer.1, sequence)
            .transactional();
        builder.push(1_700_000_000_000, None, Some(b"v"), &[]);
        self.produce_batch(builder.build(0), version).await
    }

    async fn produce_batch(&mut self, batch: Bytes, version: i16) -> (i16, i64) {
        let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch));
        let topic = TopicProduceData::default();
        let request = ProduceRequest::default()
            .with_transactional_id(Some(transactional("x")))
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![
                topic.with_name(named("t")).with_partition_data(vec![partition]),
            ]);
        let reply = self.call(&request, version).await;
        let partition = &reply.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    async fn end(&mut self, producer: Producer, commit: bool, version: i16) -> (i16, Producer) {
        let request = EndTxnRequest::default()
            .with_transactional_id(transactional("x"))
            .with_producer_id(ProducerId(producer.0))
            .with_producer_epoch(producer.1)
            .with_committed(commit);
        let reply = self.call(&request, version).await;
        (reply.error_code, (reply.producer_id.0, reply.producer_epoch))
    }

    async fn commit_offset(&mut self, producer: Producer, offset: i64, version: i16) -> i16 {
        let partition = TxnOffsetCommitRequestPartition::default();
        let partition = partition.with_partition_index(0).with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default();
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(transactional("x"))
            .with_group_id(group("g"))
            .with_producer_id(ProducerId(producer.0))
            .with_producer_epoch(producer.1)
            .with_topics(vec![topic.with_name(named("t")).with_partitions(vec![partition])]);
        let reply = self.call(&request, version).await;
        reply.topics[0].partitions[0].error_code
    }

    /// Error code and offset of what the group has.
    async fn committed(&mut self, stable: bool) -> (i16, i64) {
        let topic = OffsetFetchRequestTopics::default().with_name(named("t"));
        let wanted = OffsetFetchRequestGroup::default()
            .with_group_id(group("g"))
            .with_topics(Some(vec![topic.with_partition_indexes(vec![0])]));
        let request =
            OffsetFetchRequest::default().with_groups(vec![wanted]).with_require_stable(stable);
        let reply = self.call(&request, 8).await;
        let partition = &reply.groups[0].topics[0].partitions[0];
        (partition.error_code, partition.committed_offset)
    }

    async fn fetch(&mut self, isolation_level: i8) -> PartitionData {
        let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(named("t")).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_bytes(1 << 20)
            .with_isolation_level(isolation_level)
            .with_topics(vec![topic]);
        let mut reply = self.call(&request, 12).await;
        reply.responses.remove(0).partitions.remove(0)
    }

    async fn latest(&mut self, isolation_level: i8) -> i64 {
        let partition = ListOffsetsPartition::default().with_timestamp(-1);
        let topic = ListOffsetsTopic::default().with_name(named("t"));
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(isolation_level)
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        self.call(&request, 7).await.topics[0].partitions[0].offset
    }
}

fn transactional(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// Offsets of the batches.
fn offsets(data: &PartitionData) -> Vec<i64> {
    let records = data.records.clone().unwrap_or_default();
    odradek_protocol::batch::split(&records).map(|b| b.unwrap().0.base_offset).collect()
}

#[tokio::test]
async fn readers_of_committed_records_stop_at_the_last_stable_offset_and_hear_what_was_aborted() {
    let mut wire = Wire::new().await;
    let (error, producer) = wire.init(None, 4).await;
    assert_eq!((error, producer.1), (NONE, 0));
    assert_eq!(wire.produce(producer, 0, 10).await.0, INVALID_TXN_STATE);
    assert_eq!(wire.produce(producer, 0, 11).await.0, TRANSACTION_ABORTABLE);
    assert_eq!(wire.add(producer, 3).await, NONE);
    assert_eq!(wire.produce(producer, 0, 9).await, (NONE, 0));
    let open = wire.fetch(1).await;
    assert_eq!((open.high_watermark, open.last_stable_offset), (1, 0));
    assert!(offsets(&open).is_empty());
    assert_eq!((wire.latest(0).await, wire.latest(1).await), (1, 0));
    assert_eq!(wire.end(producer, false, 3).await.0, NONE);
    // The record, and behind it the marker.
    let ended = wire.fetch(1).await;
    assert_eq!((ended.high_watermark, ended.last_stable_offset), (2, 2));
    assert_eq!(offsets(&ended), [0, 1]);
    let aborted = ended.aborted_transactions.unwrap();
    let told: Vec<_> = aborted.iter().map(|one| (one.producer_id.0, one.first_offset)).collect();
    assert_eq!(told, [(producer.0, 0)]);
    // A reader that takes everything is told nothing of it.
    assert_eq!(wire.fetch(0).await.aborted_transactions, None);
    assert_eq!(wire.latest(1).await, 2);
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn version_2_adds_partitions_by_their_batches_and_gives_out_an_epoch_with_every_end() {
    let mut wire = Wire::new().await;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(text("wire"))
        .with_client_software_version(text("1"));
    let features = wire.call(&request, 4).await;
    let finalized = features.finalized_features.iter();
    let finalized: Vec<_> = finalized.map(|one| (&*one.name, one.max_version_level)).collect();
    assert!(finalized.contains(&("transaction.version", 2)), "{finalized:?}");
    let (_, producer) = wire.init(None, 5).await;
    assert_eq!(wire.produce(producer, 0, 12).await, (NONE, 0));
    let (error, next) = wire.end(producer, true, 5).await;
    assert_eq!((error, next), (NONE, (producer.0, 1)));
    // The answer was lost: the same again. A batch that was late: fenced.
    assert_eq!(wire.end(producer, true, 5).await, (NONE, next));
    assert_eq!(wire.end(producer, false, 5).await.0, INVALID_TXN_STATE);
    assert_eq!(wire.produce(producer, 1, 12).await.0, INVALID_PRODUCER_EPOCH);
    // The new epoch begins at sequence 0.
    assert_eq!(wire.produce(next, 1, 12).await.0, 45);
    assert_eq!(wire.produce(next, 0, 12).await, (NONE, 2));
    // What is open in the log is found again after a restart, though no record names it.
    let mut wire = wire.restarted().await;
    assert_eq!(wire.latest(1).await, 2);
    assert_eq!(wire.produce(next, 1, 12).await, (NONE, 3));
    let (error, third) = wire.end(next, true, 5).await;
    assert_eq!((error, third), (NONE, (producer.0, 2)));
    assert_eq!(wire.latest(1).await, 5);
    // An abort of nothing is allowed, a commit is not.
    assert_eq!(wire.end(third, true, 5).await.0, INVALID_TXN_STATE);
    assert_eq!(wire.end(third, false, 5).await, (NONE, (producer.0, 3)));
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn a_second_producer_fences_the_first_and_each_version_says_so_in_its_words() {
    let mut wire = Wire::new().await;
    let (_, old) = wire.init(None, 4).await;
    assert_eq!(wire.add(old, 3).await, NONE);
    assert_eq!(wire.produce(old, 0, 9).await, (NONE, 0));
    // The ongoing transaction is aborted first, then the client asks again.
    assert_eq!(wire.init(None, 4).await.0, CONCURRENT_TRANSACTIONS);
    let (error, new) = wire.init(None, 4).await;
    assert_eq!((error, new), (NONE, (old.0, 2)));
    assert_eq!(wire.latest(1).await, 2);
    assert_eq!(wire.add(old, 1).await, INVALID_PRODUCER_EPOCH);
    assert_eq!(wire.add(old, 3).await, PRODUCER_FENCED);
    assert_eq!(wire.add(old, 5).await, PRODUCER_FENCED);
    assert_eq!(wire.end(old, true, 1).await.0, INVALID_PRODUCER_EPOCH);
    assert_eq!(wire.end(old, true, 3).await.0, PRODUCER_FENCED);
    assert_eq!(wire.produce(old, 1, 9).await.0, INVALID_PRODUCER_EPOCH);
    assert_eq!(wire.commit_offset(old, 1, 3).await, INVALID_PRODUCER_EPOCH);
    assert_eq!(wire.init(Some(old), 3).await.0, INVALID_PRODUCER_EPOCH);
    assert_eq!(wire.init(Some(old), 4).await.0, PRODUCER_FENCED);
    assert_eq!(wire.add((old.0 + 1, 0), 3).await, INVALID_PRODUCER_ID_MAPPING);
    // KIP-360: the one that is not fenced goes on.
    assert_eq!(wire.init(Some(new), 4).await, (NONE, (old.0, 3)));
    let request = InitProducerIdRequest::default().with_transactional_id(Some(transactional("y")));
    let request = request.with_transaction_timeout_ms(900_001).with_producer_id(ProducerId(-1));
    let reply = wire.call(&request.with_producer_epoch(-1), 4).await;
    assert_eq!(reply.error_code, INVALID_TRANSACTION_TIMEOUT);
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn offsets_are_the_groups_with_the_commit_and_unstable_before() {
    let mut wire = Wire::new().await;
    let (_, producer) = wire.init(None, 4).await;
    assert_eq!(wire.commit_offset(producer, 5, 3).await, INVALID_TXN_STATE);
    assert_eq!(wire.commit_offset(producer, 5, 4).await, TRANSACTION_ABORTABLE);
    let request = AddOffsetsToTxnRequest::default()
        .with_transactional_id(transactional("x"))
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_group_id(group("g"));
    assert_eq!(wire.call(&request, 3).await.error_code, NONE);
    assert_eq!(wire.commit_offset(producer, 5, 3).await, NONE);
    assert_eq!(wire.committed(true).await, (UNSTABLE_OFFSET_COMMIT, -1));
    assert_eq!(wire.committed(false).await, (NONE, -1));
    // Pending offsets outlive a restart, and are still the transaction's.
    let mut wire = wire.restarted().await;
    assert_eq!(wire.committed(true).await, (UNSTABLE_OFFSET_COMMIT, -1));
    assert_eq!(wire.end(producer, true, 3).await.0, NONE);
    assert_eq!(wire.committed(true).await, (NONE, 5));
    // From version 5 on the request adds the group; an abort leaves what was.
    assert_eq!(wire.commit_offset(producer, 9, 5).await, NONE);
    assert_eq!(wire.end(producer, false, 5).await.0, NONE);
    assert_eq!(wire.committed(true).await, (NONE, 5));
    let mut wire = wire.restarted().await;
    assert_eq!(wire.committed(true).await, (NONE, 5));
    wire.node.broker.shutdown().await;
}

#[tokio::test]
async fn the_tools_requests_show_producers_and_transactions_and_end_one_by_force() {
    let mut wire = Wire::new().await;
    let (_, producer) = wire.init(None, 5).await;
    assert_eq!(wire.produce(producer, 0, 12).await, (NONE, 0));
    let ids = vec![transactional("x"), transactional("nobody")];
    let described =
        wire.call(&DescribeTransactionsRequest::default().with_transactional_ids(ids), 0).await;
    let [known, unknown] = &described.transaction_states[..] else { panic!("two answers") };
    assert_eq!((known.error_code, &*known.transaction_state), (NONE, "Ongoing"));
    assert_eq!((known.producer_id.0, known.producer_epoch), producer);
    assert_eq!((&*known.topics[0].topic.0, &known.topics[0].partitions), ("t", &vec![0]));
    assert_eq!(unknown.error_code, TRANSACTIONAL_ID_NOT_FOUND);
    for (pattern, states, count) in [("", "", 1), ("x|y", "Ongoing", 1), ("y", "", 0)] {
        let states = Some(states).filter(|state| !state.is_empty());
        let request = ListTransactionsRequest::default()
            .with_transactional_id_pattern(Some(text(pattern)))
            .with_duration_filter(-1)
            .with_state_filters(states.into_iter().map(text).collect());
        let listed = wire.call(&request, 2).await;
        assert_eq!(listed.transaction_states.len(), count, "{pattern:?} {states:?}");
    }
    let asked = TopicRequest::default().with_name(named("t")).with_partition_indexes(vec![0]);
    let request = DescribeProducersRequest::default().with_topics(vec![asked]);
    let shown = wire.call(&request, 0).await.topics[0].partitions[0].active_producers.clone();
    assert_eq!((shown[0].producer_id.0, shown[0].last_sequence), (producer.0, 0));
    assert_eq!((shown[0].current_txn_start_offset, shown[0].coordinator_epoch), (0, -1));
    let topic = WritableTxnMarkerTopic::default().with_name(named("t"));
    let mut marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(producer.0))
        .with_producer_epoch(producer.1)
        .with_coordinator_epoch(0)
        .with_topics(vec![topic.with_partition_indexes(vec![0, 7])]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker.clone()]);
    let written = wire.call(&request, 1).await;
    let codes = written.markers[0].topics[0].partitions.iter().map(|p| p.error_code);
    assert_eq!(codes.collect::<Vec<_>>(), [NONE, 3]);
    assert_eq!((wire.latest(0).await, wire.latest(1).await), (2, 2));
    // An older coordinator than the last one that wrote.
    marker.coordinator_epoch = -1;
    let written = wire.call(&WriteTxnMarkersRequest::default().with_markers(vec![marker]), 1).await;
    assert_eq!(written.markers[0].topics[0].partitions[0].error_code, 52);
    wire.node.broker.shutdown().await;
}
