//! AddPartitionsToTxn (24), versions 0 to 5.
//!
//! - The partitions are in the transaction, durably, before the reply: a batch for one of them may
//!   follow at once. All of them or none: where one is unknown or forbidden, the others are
//!   OPERATION_NOT_ATTEMPTED.
//! - Needs Write on the transactional id and on each topic.
//! - v2 (KIP-588): PRODUCER_FENCED; before it INVALID_PRODUCER_EPOCH. v3: flexible.
//! - v4 (KIP-890): many transactions at once, and asking without adding (`verify_only`), as brokers
//!   do it among themselves; so it needs CLUSTER_ACTION. v5: TRANSACTION_ABORTABLE for a partition
//!   that is not in the transaction.
//!
//! Left out: nothing.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use odradek_log::PartitionId;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::transaction::record::Producer;

pub(crate) async fn handle(
    context: &Context,
    request: AddPartitionsToTxnRequest,
) -> Result<AddPartitionsToTxnResponse, Close> {
    let response = AddPartitionsToTxnResponse::default();
    if context.version < 4 {
        let transaction = AddPartitionsToTxnTransaction::default()
            .with_transactional_id(request.v3_and_below_transactional_id)
            .with_producer_id(request.v3_and_below_producer_id)
            .with_producer_epoch(request.v3_and_below_producer_epoch)
            .with_topics(request.v3_and_below_topics);
        let results = one(context, &transaction).await;
        return Ok(response.with_results_by_topic_v3_and_below(results));
    }
    if !context.allowed(Operation::ClusterAction, Resource::Cluster) {
        return Ok(response.with_error_code(ResponseError::ClusterAuthorizationFailed.code()));
    }
    let mut results = Vec::with_capacity(request.transactions.len());
    for transaction in request.transactions {
        let topics = one(context, &transaction).await;
        let result = AddPartitionsToTxnResult::default();
        results.push(
            result.with_transactional_id(transaction.transactional_id).with_topic_results(topics),
        );
    }
    Ok(response.with_results_by_transaction(results))
}

async fn one(
    context: &Context,
    transaction: &AddPartitionsToTxnTransaction,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let topics = &transaction.topics;
    let resource = Resource::TransactionalId(&transaction.transactional_id);
    if context.version < 4 && !context.allowed(Operation::Write, resource) {
        return answers(topics, |_, _| Some(ResponseError::TransactionalIdAuthorizationFailed));
    }
    let found: Vec<Vec<_>> = topics.iter().map(|topic| find(context, topic)).collect();
    if found.iter().flatten().any(Result::is_err) {
        return answers(topics, |topic, at| {
            Some(found[topic][at].err().unwrap_or(ResponseError::OperationNotAttempted))
        });
    }
    let id = transaction.transactional_id.as_str();
    let producer = Producer { id: transaction.producer_id.0, epoch: transaction.producer_epoch };
    let transactions = &context.core.transactions;
    if transaction.verify_only {
        return answers(topics, |topic, at| {
            let partition = found[topic][at].ok()?;
            transactions.verify(id, producer, partition).err()
        });
    }
    let partitions: BTreeSet<PartitionId> = found.iter().flatten().flatten().copied().collect();
    let added = match id.is_empty() {
        true => Err(ResponseError::InvalidRequest),
        false => transactions.add_partitions(id, producer, partitions).await,
    };
    let error = added.err().map(|error| match error {
        ResponseError::ProducerFenced if context.version < 2 => ResponseError::InvalidProducerEpoch,
        other => other,
    });
    answers(topics, |_, _| error)
}

fn find(
    context: &Context,
    topic: &AddPartitionsToTxnTopic,
) -> Vec<Result<PartitionId, ResponseError>> {
    let known = context.core.topics.by_name(&topic.name);
    let allowed = context.version >= 4
        || context.allowed(Operation::Write, Resource::Topic(&topic.name))
            && !known.as_ref().is_some_and(|known| known.internal);
    let found = topic.partitions.iter().map(|index| {
        if !allowed {
            return Err(ResponseError::TopicAuthorizationFailed);
        }
        let partition = known.as_ref().and_then(|known| known.partition(*index));
        partition.map(|partition| partition.id).ok_or(ResponseError::UnknownTopicOrPartition)
    });
    found.collect()
}

/// One result for each partition of the request; `error` gets the places of topic and partition.
fn answers(
    topics: &[AddPartitionsToTxnTopic],
    error: impl Fn(usize, usize) -> Option<ResponseError>,
) -> Vec<AddPartitionsToTxnTopicResult> {
    let answers = topics.iter().enumerate().map(|(topic_at, topic)| {
        let partitions = topic.partitions.iter().enumerate().map(|(at, index)| {
            AddPartitionsToTxnPartitionResult::default()
                .with_partition_index(*index)
                .with_partition_error_code(error(topic_at, at).map_or(0, |error| error.code()))
        });
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(partitions.collect())
    });
    answers.collect()
}
