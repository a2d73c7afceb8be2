//! Produce (0), versions 3 to 13.
//!
//! - Each partition's record set is one batch of format v2, as Kafka wants it from version 3 on. It
//!   is checked (length, CRC-32C, counts, codec) and stored byte for byte; its records stay unread.
//! - acks=all and acks=1 are answered after the sync, acks=0 not at all.
//! - The batch is in the log's queue when this future is first polled, so the order of requests on
//!   a connection is the order in the log.
//! - Each topic needs Write: without it its partitions are TOPIC_AUTHORIZATION_FAILED, whether they
//!   exist or not.
//! - `producer_byte_rate`: the bytes of the request are charged.
//! - Idempotent producers: a repeat of one of the last five batches is answered with its first
//!   offset, once it is durable; a gap is OUT_OF_ORDER_SEQUENCE_NUMBER.
//! - Transactional batches (KIP-98) are checked against the transaction's coordinator in the same
//!   instant in which they are handed to the log. A partition that was not added to the transaction
//!   is INVALID_TXN_STATE, from v11 TRANSACTION_ABORTABLE (KIP-1050); from v12 (KIP-890) the batch
//!   adds it. CONCURRENT_TRANSACTIONS is told from v12 on only; older clients get
//!   NOT_ENOUGH_REPLICAS, which they try again. They need Write on the transactional id.
//! - What the topic's configuration asks for (`policy`): `message.timestamp.type=LogAppendTime`
//!   rewrites the batch's timestamps, `compression.type` its payload; a record without key in a
//!   compacted topic, or with a time out of bounds, refuses the batch and is named (v8, KIP-467).
//! - v13 (KIP-516): topics by id.
//!
//! Left out: leader hints in errors (one node).

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use odradek_protocol::DecodeError;
use odradek_protocol::batch::{self, BatchError, BatchHeader};
use odradek_protocol::compression::Compression;
use uuid::Uuid;

use crate::acl::{Operation, Resource};
use crate::clock::now_ms;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::partition::{Appended, Batch, Partition};
use crate::policy::{self, Failure};
use crate::quota::Kind;
use crate::sequence::Begins;
use crate::topics::Topic;
use crate::transaction::machine::Support;
use crate::transaction::record::Producer;

/// An error with a sentence for newer clients.
type Refused = (ResponseError, String);

pub(crate) async fn handle(
    context: &Context,
    request: ProduceRequest,
) -> Result<ProduceResponse, Close> {
    let ProduceRequest { acks, transactional_id, topic_data, .. } = request;
    // Copies, here and below: slices of the frame would keep it in memory until the sync, when the
    // log has long copied the batches into its group.
    let transactional_id = transactional_id.map(|id| id.to_string());
    let valid_acks = (-1..=1).contains(&acks);
    // First everything is handed to the log, then waited for.
    let mut handed = Vec::with_capacity(topic_data.len());
    for topic_data in topic_data {
        let topic = if valid_acks {
            find_topic(context, &topic_data)
        } else {
            Err((ResponseError::InvalidRequiredAcks, "acks is -1, 0 or 1".to_owned()))
        };
        let TopicProduceData { name, topic_id, partition_data, .. } = topic_data;
        let name = TopicName(StrBytes::from_string(name.as_str().to_owned()));
        let mut partitions = Vec::with_capacity(partition_data.len());
        for data in partition_data {
            let index = data.index;
            let outcome = match &topic {
                Ok(topic) => append(context, topic, transactional_id.as_deref(), data),
                Err(refused) => Err(refused.clone().into()),
            };
            partitions.push((index, outcome));
        }
        handed.push(HandedTopic { name, topic_id, partitions });
    }
    context.charge(Kind::Produce, context.request_bytes);
    if acks == 0 {
        // There is no reply to tell it, but the connection waits.
        context.throttle_time_ms();
        return no_reply(&handed);
    }
    let mut responses = Vec::with_capacity(handed.len());
    for HandedTopic { name, topic_id, partitions } in handed {
        let mut answers = Vec::with_capacity(partitions.len());
        for (index, outcome) in partitions {
            answers.push(answer(context, index, outcome).await);
        }
        if answers.is_empty() {
            continue;
        }
        let response = TopicProduceResponse::default().with_partition_responses(answers);
        responses.push(if context.version >= 13 {
            response.with_topic_id(topic_id)
        } else {
            response.with_name(name)
        });
    }
    Ok(ProduceResponse::default().with_responses(responses))
}

/// What became of each partition of one topic of the request.
struct HandedTopic {
    name: TopicName,
    topic_id: Uuid,
    partitions: Vec<(i32, Result<Handed, Failure>)>,
}

/// With acks=0 an error can only be told by closing the connection, as Kafka does.
fn no_reply(handed: &[HandedTopic]) -> Result<ProduceResponse, Close> {
    let mut outcomes = handed.iter().flat_map(|topic| &topic.partitions);
    let refused = outcomes.find_map(|(_, outcome)| outcome.as_ref().err());
    match refused {
        None => Err(Close::NothingToSay),
        Some(Failure { error, why, .. }) => {
            Err(Close::because(format!("a produce request with acks=0 failed: {error} ({why})")))
        }
    }
}

fn find_topic(context: &Context, data: &TopicProduceData) -> Result<Arc<Topic>, Refused> {
    let topics = &context.core.topics;
    let topic = if context.version >= 13 {
        let unknown = || (ResponseError::UnknownTopicId, "no topic has this id".to_owned());
        let topic = topics.by_id(data.topic_id).ok_or_else(unknown)?;
        may_write(context, &topic.name)?;
        topic
    } else {
        may_write(context, &data.name)?;
        let why = || format!("there is no topic {:?}", data.name.as_str());
        topics.by_name(&data.name).ok_or_else(|| {
            context.near_miss(&data.name, false);
            (ResponseError::UnknownTopicOrPartition, why())
        })?
    };
    if topic.internal {
        let why = "internal topics are written by the broker only";
        return Err((ResponseError::InvalidTopicException, why.to_owned()));
    }
    Ok(topic)
}

fn may_write(context: &Context, topic: &str) -> Result<(), Refused> {
    match context.allowed(Operation::Write, Resource::Topic(topic)) {
        true => Ok(()),
        false => Err((ResponseError::TopicAuthorizationFailed, String::new())),
    }
}

struct Handed {
    partition: Arc<Partition>,
    appended: Appended,
    /// With LogAppendTime: the time that was written.
    append_time_ms: i64,
}

fn append(
    context: &Context,
    topic: &Topic,
    transactional_id: Option<&str>,
    data: PartitionProduceData,
) -> Result<Handed, Failure> {
    let partition = topic.partition(data.index).ok_or_else(|| {
        let count = topic.partitions.len();
        let why = format!("topic {:?} has {count} partitions", &*topic.name);
        (ResponseError::UnknownTopicOrPartition, why)
    })?;
    let records = single(data.records.unwrap_or_default())?;
    refuse_early_zstd(context.version, &records)?;
    let told = |failure: Failure| told(failure, partition);
    let batch = checked(topic, records).map_err(|refused| told(refused.into()))?;
    let now = now_ms();
    let takes_long = policy::takes_long(&topic.settings, &batch);
    let apply = || policy::apply(topic, data.index, batch, now);
    let applied = match takes_long {
        true => context.broker.inner.turns.at_length(context.session.peer.ip(), apply),
        false => apply(),
    };
    let (batch, append_time_ms) = applied.map_err(told)?;
    let metrics = &context.broker.inner.metrics;
    let count = u64::try_from(batch.header.record_count).unwrap_or(0);
    let appended = if batch.header.is_transactional() {
        append_transactional(context, partition, transactional_id, batch, now)?
    } else {
        partition.append(batch, now)
    };
    let appended = appended.map_err(|error| told((error, String::new()).into()))?;
    metrics.records_in.inc_by(count);
    Ok(Handed { partition: partition.clone(), appended, append_time_ms })
}

/// Kafka says where the log begins with what its log has refused, but for these errors.
fn told(failure: Failure, partition: &Partition) -> Failure {
    let silent = matches!(
        failure.error,
        ResponseError::CorruptMessage
            | ResponseError::MessageTooLarge
            | ResponseError::RecordListTooLarge
            | ResponseError::KafkaStorageError
    );
    match silent {
        true => failure,
        false => Failure { log_start_offset: partition.ends().log_start_offset, ..failure },
    }
}

/// The one batch of a record set. Fewer bytes behind it than a header needs mean nothing.
fn single(records: Bytes) -> Result<Bytes, Refused> {
    let header = BatchHeader::parse(&records).map_err(|e| {
        let code = match e {
            DecodeError::OldMagic { .. } | DecodeError::Truncated { .. } => {
                ResponseError::InvalidRecord
            }
            _ => ResponseError::CorruptMessage,
        };
        (code, e.to_string())
    })?;
    if header.batch_bytes > records.len() {
        let why = "a produce request holds a whole record batch for each partition";
        return Err((ResponseError::InvalidRecord, why.to_owned()));
    }
    if records.len() - header.batch_bytes > batch::MAGIC_AT {
        let why = "a produce request holds exactly one record batch for each partition";
        return Err((ResponseError::InvalidRecord, why.to_owned()));
    }
    Ok(records.slice(..header.batch_bytes))
}

/// The outer error is the coordinator's, the inner one the log's.
fn append_transactional(
    context: &Context,
    partition: &Arc<Partition>,
    transactional_id: Option<&str>,
    batch: Batch,
    now_ms: i64,
) -> Result<Result<Appended, ResponseError>, Refused> {
    let id = transactional_id.ok_or_else(|| {
        let why = "a transactional batch in a request without transactional id";
        (ResponseError::TransactionalIdAuthorizationFailed, why.to_owned())
    })?;
    if !context.allowed(Operation::Write, Resource::TransactionalId(id)) {
        return Err((ResponseError::TransactionalIdAuthorizationFailed, String::new()));
    }
    let BatchHeader { producer_id, producer_epoch, .. } = batch.header;
    let producer = Producer { id: producer_id, epoch: producer_epoch };
    let support = match context.version {
        ..=10 => Support::Named,
        11 => Support::Abortable,
        _ => Support::Adds,
    };
    let begins = if support == Support::Adds { Begins::AtZero } else { Begins::Anywhere };
    let append = || partition.append_from(batch, begins, now_ms);
    let transactions = &context.core.transactions;
    let appended = transactions.append(id, producer, partition.id, support, append);
    appended.map_err(|error| match error {
        ResponseError::ProducerFenced => (ResponseError::InvalidProducerEpoch, String::new()),
        ResponseError::ConcurrentTransactions | ResponseError::CoordinatorNotAvailable
            if context.version < 12 =>
        {
            let why = "the transaction before this one is not over yet";
            (ResponseError::NotEnoughReplicas, why.to_owned())
        }
        ResponseError::InvalidTxnState | ResponseError::TransactionAbortable => {
            (error, "the partition was not added to the transaction".to_owned())
        }
        other => (other, String::new()),
    })
}

/// One valid batch that a producer may send, or why not.
fn checked(topic: &Topic, records: Bytes) -> Result<Batch, Refused> {
    let max = topic.settings.message_bytes_max;
    if records.len() > max {
        let why = format!("a batch of {} bytes; max.message.bytes is {max}", records.len());
        return Err((ResponseError::MessageTooLarge, why));
    }
    let header = batch::validate(&records).map_err(|e| {
        let code = match &e {
            BatchError::OldMagic(_) => ResponseError::UnsupportedForMessageFormat,
            BatchError::Malformed(_) | BatchError::Checksum { .. } => ResponseError::CorruptMessage,
            BatchError::UnknownCompression(_) => ResponseError::UnsupportedCompressionType,
            BatchError::Invalid(_) => ResponseError::InvalidRecord,
        };
        (code, e.to_string())
    })?;
    if header.base_offset != 0 {
        let why = format!("the base offset of a batch is 0, not {}", header.base_offset);
        return Err((ResponseError::InvalidRecord, why));
    }
    if header.is_control() {
        let why = "control batches are written by the broker only";
        return Err((ResponseError::InvalidRecord, why.to_owned()));
    }
    Ok(Batch::new(header, records))
}

/// Clients that speak versions below 7 know no zstd, and would read such batches too.
fn refuse_early_zstd(version: i16, records: &[u8]) -> Result<(), Refused> {
    let codec = BatchHeader::parse(records).ok().and_then(|header| header.compression().ok());
    if version >= 7 || codec != Some(Compression::Zstd) {
        return Ok(());
    }
    let why = format!(
        "Produce requests with version {version} are not allowed to use ZStandard compression"
    );
    Err((ResponseError::UnsupportedCompressionType, why))
}

async fn answer(
    context: &Context,
    index: i32,
    outcome: Result<Handed, Failure>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    let durable = match outcome {
        Ok(handed) => durable(handed).await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match durable {
        Ok((base_offset, append_time_ms, log_start_offset)) => response
            .with_base_offset(base_offset)
            .with_log_append_time_ms(append_time_ms)
            .with_log_start_offset(if context.version >= 5 { log_start_offset } else { -1 }),
        Err(Failure { error, why, records, log_start_offset }) => {
            context.broker.inner.metrics.produce_error(error);
            let mut response = response
                .with_error_code(error.code())
                .with_base_offset(-1)
                .with_log_append_time_ms(-1)
                .with_log_start_offset(if context.version >= 5 { log_start_offset } else { -1 });
            if context.version >= 8 {
                response.record_errors = records.into_iter().map(record_error).collect();
                response.error_message = (!why.is_empty()).then(|| StrBytes::from_string(why));
            }
            response
        }
    }
}

fn record_error((batch_index, why): (i32, String)) -> BatchIndexAndErrorMessage {
    BatchIndexAndErrorMessage::default()
        .with_batch_index(batch_index)
        .with_batch_index_error_message(Some(StrBytes::from_string(why)))
}

/// Waits for the sync. Returns base offset, append time and log start offset.
async fn durable(handed: Handed) -> Result<(i64, i64, i64), Refused> {
    let Handed { partition, appended, append_time_ms } = handed;
    let base_offset = match appended {
        Appended::Queued { base_offset, done } => {
            match done.await {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err((ResponseError::KafkaStorageError, e.to_string())),
                Err(_) => {
                    let why = "the log closed before the record was durable";
                    return Err((ResponseError::KafkaStorageError, why.to_owned()));
                }
            }
            base_offset
        }
        Appended::Repeat { base_offset, last_offset, refusals } => {
            partition.durable_past(last_offset, refusals).await?;
            base_offset
        }
    };
    Ok((base_offset, append_time_ms, partition.ends().log_start_offset))
}
