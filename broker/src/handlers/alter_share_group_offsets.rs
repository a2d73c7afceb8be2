//! AlterShareGroupOffsets (91), version 0.
//!
//! - Sets where a share group begins. The group is made if it does not exist; it may have no
//!   members (NON_EMPTY_GROUP). All partitions together, durable before the reply; what was out is
//!   forgotten.
//! - Needs READ of the group and of each topic. A topic or partition that does not exist is
//!   UNKNOWN_TOPIC_OR_PARTITION for itself alone.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_share_group_offsets_request::AlterShareGroupOffsetsRequestTopic;
use kafka_protocol::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsResponse};
use kafka_protocol::protocol::StrBytes;
use odradek_log::PartitionId;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::share::group::Refused;

pub(crate) async fn handle(
    context: &Context,
    request: AlterShareGroupOffsetsRequest,
) -> Result<AlterShareGroupOffsetsResponse, Close> {
    let response = AlterShareGroupOffsetsResponse::default();
    Ok(match alter(context, request).await {
        Ok(topics) => response.with_error_message(None).with_responses(topics),
        Err((error, why)) => response
            .with_error_code(error.code())
            .with_error_message((!why.is_empty()).then(|| StrBytes::from_string(why))),
    })
}

async fn alter(
    context: &Context,
    request: AlterShareGroupOffsetsRequest,
) -> Result<Vec<AlterShareGroupOffsetsResponseTopic>, Refused> {
    let group = request.group_id;
    if !context.allowed(Operation::Read, Resource::Group(&group)) {
        return Err((ResponseError::GroupAuthorizationFailed, String::new()));
    }
    if group.is_empty() {
        return Err((ResponseError::InvalidGroupId, String::new()));
    }
    let mut starts = Vec::new();
    let topics = request.topics.into_iter().map(|topic| one_topic(context, topic, &mut starts));
    let topics: Vec<_> = topics.collect();
    context.core.share.alter_offsets(&group, &starts).await?;
    Ok(topics)
}

/// The topic's part of the reply; what is to be set goes to `starts`.
fn one_topic(
    context: &Context,
    wanted: AlterShareGroupOffsetsRequestTopic,
    starts: &mut Vec<(PartitionId, i64)>,
) -> AlterShareGroupOffsetsResponseTopic {
    let name = wanted.topic_name;
    let topic = match context.allowed(Operation::Read, Resource::Topic(&name)) {
        true => context.core.topics.by_name(&name).ok_or(ResponseError::UnknownTopicOrPartition),
        false => Err(ResponseError::TopicAuthorizationFailed),
    };
    let partitions = wanted.partitions.into_iter().map(|partition| {
        let index = partition.partition_index;
        let found = topic
            .as_ref()
            .map_err(|error| *error)
            .and_then(|topic| topic.partition(index).ok_or(ResponseError::UnknownTopicOrPartition));
        if let Ok(found) = found {
            starts.push((found.id, partition.start_offset));
        }
        let error = found.err();
        AlterShareGroupOffsetsResponsePartition::default()
            .with_partition_index(index)
            .with_error_code(error.map_or(0, |error| error.code()))
            .with_error_message(error.map(|error| StrBytes::from_string(error.to_string())))
    });
    let partitions = partitions.collect();
    AlterShareGroupOffsetsResponseTopic::default()
        .with_topic_name(name)
        .with_topic_id(topic.map(|topic| topic.id).unwrap_or_default())
        .with_partitions(partitions)
}
