//! DescribeTransactions (65), version 0 (KIP-664).
//!
//! - State, producer, time-out, begin and partitions of each transactional id; an id that nobody
//!   uses is TRANSACTIONAL_ID_NOT_FOUND. PrepareCommit and PrepareAbort are seen only while the
//!   end of the transaction is on its way to the disk.
//! - Needs Describe on each transactional id; a topic that may not be described is left out.
//! - A name that comes twice is answered once.
//!
//! Left out: nothing.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState};
use kafka_protocol::messages::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ProducerId, TopicName,
    TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::{Context, distinct};
use crate::transaction::coordinator::Line;
use crate::transaction::record::TransactionRecord;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeTransactionsRequest,
) -> Result<DescribeTransactionsResponse, Close> {
    let ids = distinct(request.transactional_ids).into_iter();
    let states = ids.map(|id| describe(context, id));
    Ok(DescribeTransactionsResponse::default().with_transaction_states(states.collect()))
}

fn describe(context: &Context, id: TransactionalId) -> TransactionState {
    let allowed = context.allowed(Operation::Describe, Resource::TransactionalId(&id));
    let found = match id.is_empty() {
        _ if !allowed => Err(ResponseError::TransactionalIdAuthorizationFailed),
        true => Err(ResponseError::InvalidRequest),
        false => {
            let found = context.core.transactions.describe(&id);
            found.ok_or(ResponseError::TransactionalIdNotFound)
        }
    };
    let state = TransactionState::default().with_transactional_id(id);
    let Line { state: name, record, .. } = match found {
        Ok(line) => line,
        Err(error) => return state.with_error_code(error.code()),
    };
    state
        .with_transaction_state(StrBytes::from_static_str(name))
        .with_transaction_timeout_ms(record.timeout_ms)
        .with_transaction_start_time_ms(record.start_ms)
        .with_producer_id(ProducerId(record.producer_id))
        .with_producer_epoch(record.epoch)
        .with_topics(topics(context, &record))
}

/// By name; what was deleted meanwhile has none.
fn topics(context: &Context, record: &TransactionRecord) -> Vec<TopicData> {
    let mut topics: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for partition in record.each_partition() {
        if let Some(topic) = context.core.topics.by_id(partition.topic_id) {
            topics.entry(topic.name.to_string()).or_default().push(partition.partition);
        }
    }
    let seen = |name: &String| context.may_see(Operation::Describe, Resource::Topic(name));
    let topics = topics.into_iter().filter(|(name, _)| seen(name));
    let named = topics.map(|(name, partitions)| {
        let name = TopicName(StrBytes::from_string(name));
        TopicData::default().with_topic(name).with_partitions(partitions)
    });
    named.collect()
}
