//! DescribeTopicPartitions (75), version 0 (KIP-966).
//!
//! - Topics in the order of their names, at most `response_partition_limit` partitions a reply; the
//!   cursor says where the next reply begins. No topics named means all that the caller may
//!   describe; named ones that it may not are TOPIC_AUTHORIZATION_FAILED, in every reply.
//!
//! Left out: eligible leader replicas (one node: always empty).

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use kafka_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::topics::Topic;

/// Kafka's `max.request.partition.size.limit`.
const PARTITIONS_MAX: usize = 2_000;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> Result<DescribeTopicPartitionsResponse, Close> {
    if request.cursor.as_ref().is_some_and(|cursor| cursor.partition_index < 0) {
        return Ok(invalid(request));
    }
    let mut names: Vec<String> = match request.topics.as_slice() {
        [] => {
            let all = context.core.topics.all().into_iter();
            let seen = all
                .filter(|topic| context.may_see(Operation::Describe, Resource::Topic(&topic.name)));
            seen.map(|topic| topic.name.to_string()).collect()
        }
        some => some.iter().map(|t| t.name.to_string()).collect(),
    };
    names.sort_unstable();
    names.dedup();
    let mut begin_at = 0;
    if let Some(cursor) = &request.cursor {
        names.retain(|name| **name >= **cursor.topic_name);
        if names.first().is_some_and(|name| **name == **cursor.topic_name) {
            begin_at = usize::try_from(cursor.partition_index).unwrap_or(0);
        }
    }
    let (names, denied): (Vec<String>, Vec<String>) = names
        .into_iter()
        .partition(|name| context.allowed(Operation::Describe, Resource::Topic(name)));
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names {
        let Some(topic) = context.core.topics.by_name(&name) else {
            let error = match crate::topics::check_name(&name) {
                Ok(()) => ResponseError::UnknownTopicOrPartition,
                Err((error, _)) => error,
            };
            let operations = context.authorised_operations(Resource::Topic(&name));
            let topic = refused(name, error).with_topic_authorized_operations(operations);
            response.topics.push(topic);
            continue;
        };
        if left == 0 {
            response.next_cursor = Some(cursor(&topic, begin_at));
            break;
        }
        let end = topic.partitions.len().min(begin_at.saturating_add(left));
        response.topics.push(describe(context, &topic, begin_at.min(end)..end));
        left -= end - begin_at.min(end);
        if end < topic.partitions.len() {
            response.next_cursor = Some(cursor(&topic, end));
            break;
        }
        begin_at = 0;
    }
    let error = ResponseError::TopicAuthorizationFailed;
    response.topics.extend(denied.into_iter().map(|name| refused(name, error)));
    Ok(response)
}

/// The cursor's partition is none that a reply could have named.
fn invalid(request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let error = ResponseError::InvalidRequest;
    let topics = request.topics.into_iter().map(|topic| refused(topic.name.to_string(), error));
    DescribeTopicPartitionsResponse::default().with_topics(topics.collect())
}

fn refused(name: String, error: ResponseError) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(TopicName(StrBytes::from_string(name))))
}

fn cursor(topic: &Topic, partition: usize) -> Cursor {
    Cursor::default()
        .with_topic_name(TopicName(StrBytes::from_string(topic.name.to_string())))
        .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
}

fn describe(
    context: &Context,
    topic: &Arc<Topic>,
    range: std::ops::Range<usize>,
) -> DescribeTopicPartitionsResponseTopic {
    let node = context.node();
    let operations = context.authorised_operations(Resource::Topic(&topic.name));
    let partitions = topic.partitions[range].iter().map(|partition| {
        DescribeTopicPartitionsResponsePartition::default()
            .with_partition_index(partition.index())
            .with_leader_id(node)
            .with_leader_epoch(partition.leader_epoch())
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
            .with_eligible_leader_replicas(Some(Vec::new()))
            .with_last_known_elr(Some(Vec::new()))
    });
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
        .with_topic_id(topic.id)
        .with_is_internal(topic.internal)
        .with_partitions(partitions.collect())
        .with_topic_authorized_operations(operations)
}
