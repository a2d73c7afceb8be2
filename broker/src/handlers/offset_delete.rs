//! OffsetDelete (47), version 0 (KIP-496).
//!
//! - Takes single committed offsets away, durably before the reply.
//! - Needs Delete on the group, and Read on each topic (TOPIC_AUTHORIZATION_FAILED).
//! - No name is INVALID_GROUP_ID; a group that does not exist is GROUP_ID_NOT_FOUND; one of another
//!   protocol type than that of consumers must be empty (NON_EMPTY_GROUP), because nobody can say
//!   what its members read.
//! - A topic that a member reads is GROUP_SUBSCRIBED_TO_TOPIC; a partition that does not exist is
//!   UNKNOWN_TOPIC_OR_PARTITION; one without an offset is no error.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;

pub(crate) async fn handle(
    context: &Context,
    request: OffsetDeleteRequest,
) -> Result<OffsetDeleteResponse, Close> {
    if !context.allowed(Operation::Delete, Resource::Group(&request.group_id)) {
        let error = ResponseError::GroupAuthorizationFailed;
        return Ok(OffsetDeleteResponse::default().with_error_code(error.code()));
    }
    if request.group_id.is_empty() {
        let error = ResponseError::InvalidGroupId;
        return Ok(OffsetDeleteResponse::default().with_error_code(error.code()));
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut places = Vec::new();
    // Where the results belong: topic and partition of the reply.
    let mut answered = Vec::new();
    for topic in request.topics {
        let allowed = context.allowed(Operation::Read, Resource::Topic(&topic.name));
        let refusal = match allowed {
            true => ResponseError::UnknownTopicOrPartition,
            false => ResponseError::TopicAuthorizationFailed,
        };
        let known = context.core.topics.by_name(&topic.name).filter(|_| allowed);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let index = partition.partition_index;
            let mut answer = OffsetDeleteResponsePartition::default().with_partition_index(index);
            if known.as_ref().is_some_and(|known| known.partition(index).is_some()) {
                answered.push((topics.len(), answers.len()));
                places.push((topic.name.to_string(), index));
            } else {
                answer.error_code = refusal.code();
            }
            answers.push(answer);
        }
        let answer = OffsetDeleteResponseTopic::default().with_name(topic.name);
        topics.push(answer.with_partitions(answers));
    }
    let results = match context.core.groups.delete_offsets(&request.group_id, &places).await {
        Ok(results) => results,
        Err(error) => {
            return Ok(OffsetDeleteResponse::default().with_error_code(error.code()));
        }
    };
    for ((topic, partition), result) in answered.into_iter().zip(results) {
        let error_code = result.err().map_or(0, |error| error.code());
        topics[topic].partitions[partition].error_code = error_code;
    }
    Ok(OffsetDeleteResponse::default().with_topics(topics))
}
