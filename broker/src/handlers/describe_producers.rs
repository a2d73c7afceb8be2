//! DescribeProducers (61), version 0 (KIP-664).
//!
//! - The producers that each partition remembers: epoch, last sequence, time of the last batch, and
//!   where their transaction begins if one is open. A partition that comes twice is answered once.
//! - Each topic needs Read, else its partitions are TOPIC_AUTHORIZATION_FAILED.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::{
    PartitionResponse, ProducerState as Shown, TopicResponse,
};
use kafka_protocol::messages::{DescribeProducersRequest, DescribeProducersResponse, ProducerId};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::{Context, distinct, merged};
use crate::sequence::ProducerState;
use crate::topics::{self, Topic};

const NO_TRANSACTION: i64 = -1;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeProducersRequest,
) -> Result<DescribeProducersResponse, Close> {
    let join = |first: &mut TopicRequest, more: TopicRequest| {
        first.partition_indexes.extend(more.partition_indexes);
    };
    let topics = merged(request.topics, |topic| topic.name.clone(), join);
    let topics = topics.into_iter().map(|asked| {
        let known = context.core.topics.by_name(&asked.name);
        let allowed = context.allowed(Operation::Read, Resource::Topic(&asked.name));
        let partitions = distinct(asked.partition_indexes).into_iter().map(|index| {
            let response = PartitionResponse::default().with_partition_index(index);
            let found = match allowed {
                true => states(known.as_deref(), &asked.name, index),
                false => Err((ResponseError::TopicAuthorizationFailed, String::new())),
            };
            match found {
                Ok(states) => {
                    response.with_active_producers(states.into_iter().map(shown).collect())
                }
                Err((error, why)) => response
                    .with_error_code(error.code())
                    .with_error_message(Some(StrBytes::from_string(why))),
            }
        });
        let partitions = partitions.collect();
        TopicResponse::default().with_name(asked.name).with_partitions(partitions)
    });
    Ok(DescribeProducersResponse::default().with_topics(topics.collect()))
}

fn states(
    topic: Option<&Topic>,
    name: &str,
    index: i32,
) -> Result<Vec<ProducerState>, (ResponseError, String)> {
    topics::check_name(name)?;
    let partition = topic.and_then(|topic| topic.partition(index));
    let unknown = || {
        let why = format!("there is no partition {name}-{index}");
        (ResponseError::UnknownTopicOrPartition, why)
    };
    Ok(partition.ok_or_else(unknown)?.producers())
}

fn shown(state: ProducerState) -> Shown {
    Shown::default()
        .with_producer_id(ProducerId(state.producer_id))
        .with_producer_epoch(i32::from(state.epoch))
        .with_last_sequence(state.last_sequence)
        .with_last_timestamp(state.last_timestamp_ms)
        .with_coordinator_epoch(state.coordinator_epoch)
        .with_current_txn_start_offset(state.transaction_first_offset.unwrap_or(NO_TRANSACTION))
}
