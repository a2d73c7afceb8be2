//! TxnOffsetCommit (28), versions 0 to 5.
//!
//! - The offsets are the group's with the commit of the transaction. Until then they are kept with
//!   the transaction, durably before the reply, and OffsetFetch with `require_stable` answers
//!   UNSTABLE_OFFSET_COMMIT for their partitions.
//! - A partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION, the others are taken.
//! - A group that was not added to the transaction is INVALID_TXN_STATE, from v4 (KIP-1050)
//!   TRANSACTION_ABORTABLE; from v5 (KIP-890) the request adds it.
//! - Of more offsets than a transaction may hold (10,000, 4 MiB of text) none is taken, with
//!   INVALID_REQUEST.
//! - Needs Write on the transactional id, Read on the group and on each topic.
//! - v2 (KIP-320): leader epochs. v3 (KIP-447): member id, instance id and generation, checked
//!   against the group as for OffsetCommit; flexible.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::{TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::{Caller, NO_GENERATION};
use crate::handlers::Context;
use crate::topics::Topic;
use crate::transaction::machine::Support;
use crate::transaction::record::{PendingOffset, Producer};

pub(crate) async fn handle(
    context: &Context,
    request: TxnOffsetCommitRequest,
) -> Result<TxnOffsetCommitResponse, Close> {
    let denied = denied(context, &request);
    let mut offsets = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    // Where the result of the commit belongs: topic and partition of the reply.
    let mut taken = Vec::new();
    for topic in &request.topics {
        let known = context.core.topics.by_name(&topic.name);
        let allowed = context.allowed(Operation::Read, Resource::Topic(&topic.name));
        let denied = denied.or((!allowed).then_some(ResponseError::TopicAuthorizationFailed));
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let answer = TxnOffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index);
            let checked = match denied {
                Some(error) => Err(error),
                None => check(context, known.as_deref(), partition),
            };
            match checked {
                Ok(known) => {
                    taken.push((topics.len(), answers.len()));
                    offsets.push(pending(&request, known, topic, partition));
                    answers.push(answer);
                }
                Err(error) => answers.push(answer.with_error_code(error.code())),
            }
        }
        let response = TxnOffsetCommitResponseTopic::default();
        topics.push(response.with_name(topic.name.clone()).with_partitions(answers));
    }
    let error = match offsets.is_empty() {
        true => None,
        false => commit(context, &request, offsets).await.err(),
    };
    for (topic, partition) in taken {
        topics[topic].partitions[partition].error_code = error.map_or(0, |error| error.code());
    }
    Ok(TxnOffsetCommitResponse::default().with_topics(topics))
}

/// Why nothing of the request is done.
fn denied(context: &Context, request: &TxnOffsetCommitRequest) -> Option<ResponseError> {
    let transactional_id = Resource::TransactionalId(&request.transactional_id);
    if !context.allowed(Operation::Write, transactional_id) {
        return Some(ResponseError::TransactionalIdAuthorizationFailed);
    }
    let group = Resource::Group(&request.group_id);
    let allowed = context.allowed(Operation::Read, group);
    (!allowed).then_some(ResponseError::GroupAuthorizationFailed)
}

fn check<'a>(
    context: &Context,
    topic: Option<&'a Topic>,
    partition: &TxnOffsetCommitRequestPartition,
) -> Result<&'a Topic, ResponseError> {
    let topic = topic.ok_or(ResponseError::UnknownTopicOrPartition)?;
    if topic.partition(partition.partition_index).is_none() {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    let metadata = partition.committed_metadata.as_deref().unwrap_or_default();
    if context.core.groups.is_metadata_too_large(metadata) {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    Ok(topic)
}

fn pending(
    request: &TxnOffsetCommitRequest,
    known: &Topic,
    topic: &TxnOffsetCommitRequestTopic,
    partition: &TxnOffsetCommitRequestPartition,
) -> PendingOffset {
    let epoch = partition.committed_leader_epoch;
    let metadata = partition.committed_metadata.as_ref();
    PendingOffset {
        group: request.group_id.to_string(),
        topic_id: known.id,
        topic: topic.name.to_string(),
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: (epoch >= 0).then_some(epoch),
        metadata: metadata.map(|text| text.to_string()).unwrap_or_default(),
    }
}

async fn commit(
    context: &Context,
    request: &TxnOffsetCommitRequest,
    offsets: Vec<PendingOffset>,
) -> Result<(), ResponseError> {
    let caller = Caller {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(|id| id.to_string()),
        generation: if context.version >= 3 { request.generation_id } else { NO_GENERATION },
    };
    let core = &context.core;
    let support = match context.version {
        ..=3 => Support::Named,
        4 => Support::Abortable,
        _ => Support::Adds,
    };
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let through = core.offsets_partition_of(&request.group_id);
    let places: Vec<_> = offsets.iter().map(|it| (it.topic_id, it.partition)).collect();
    core.groups.admit_transactional(&request.group_id, &caller, &places)?;
    let id = request.transactional_id.as_str();
    let committed = core.transactions.commit_offsets(id, producer, support, through, offsets).await;
    committed.map_err(|error| match error {
        ResponseError::ProducerFenced => ResponseError::InvalidProducerEpoch,
        ResponseError::ConcurrentTransactions if context.version < 5 => {
            ResponseError::CoordinatorNotAvailable
        }
        other => other,
    })
}
