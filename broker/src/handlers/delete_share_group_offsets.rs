//! DeleteShareGroupOffsets (92), version 0.
//!
//! - A share group forgets where it stands in all partitions of the topics that are named; it may
//!   have no members (NON_EMPTY_GROUP). Durable before the reply.
//! - Needs DELETE of the group and READ of each topic. A topic that does not exist, or of which the
//!   group knows nothing, is UNKNOWN_TOPIC_OR_PARTITION for itself alone.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_share_group_offsets_response as response;
use kafka_protocol::messages::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use odradek_log::PartitionId;
use uuid::Uuid;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::share::group::Refused;

pub(crate) async fn handle(
    context: &Context,
    request: DeleteShareGroupOffsetsRequest,
) -> Result<DeleteShareGroupOffsetsResponse, Close> {
    let response = DeleteShareGroupOffsetsResponse::default();
    Ok(match delete(context, request).await {
        Ok(topics) => response.with_error_message(None).with_responses(topics),
        Err((error, why)) => response
            .with_error_code(error.code())
            .with_error_message((!why.is_empty()).then(|| StrBytes::from_string(why))),
    })
}

async fn delete(
    context: &Context,
    request: DeleteShareGroupOffsetsRequest,
) -> Result<Vec<response::DeleteShareGroupOffsetsResponseTopic>, Refused> {
    let group = request.group_id;
    if !context.allowed(Operation::Delete, Resource::Group(&group)) {
        return Err((ResponseError::GroupAuthorizationFailed, String::new()));
    }
    if group.is_empty() {
        return Err((ResponseError::InvalidGroupId, String::new()));
    }
    let mut refused = Vec::new();
    let mut named: Vec<(TopicName, Uuid)> = Vec::new();
    let mut partitions: Vec<Vec<PartitionId>> = Vec::new();
    for topic in request.topics {
        let name = topic.topic_name;
        if !context.allowed(Operation::Read, Resource::Topic(&name)) {
            refused.push(failed(name, ResponseError::TopicAuthorizationFailed, None));
            continue;
        }
        match context.core.topics.by_name(&name) {
            Some(topic) => {
                named.push((name, topic.id));
                partitions.push(topic.partitions.iter().map(|partition| partition.id).collect());
            }
            None => refused.push(failed(name, ResponseError::UnknownTopicOrPartition, None)),
        }
    }
    let found = context.core.share.delete_offsets(&group, &partitions).await?;
    let deleted = named.into_iter().zip(found).map(|((name, id), found)| match found {
        true => response::DeleteShareGroupOffsetsResponseTopic::default()
            .with_topic_name(name)
            .with_topic_id(id)
            .with_error_message(None),
        false => {
            let why = "There is no offset information to delete.";
            failed(name, ResponseError::UnknownTopicOrPartition, Some(why))
        }
    });
    refused.extend(deleted);
    Ok(refused)
}

fn failed(
    name: TopicName,
    error: ResponseError,
    why: Option<&str>,
) -> response::DeleteShareGroupOffsetsResponseTopic {
    let why = why.map_or_else(|| error.to_string(), str::to_owned);
    response::DeleteShareGroupOffsetsResponseTopic::default()
        .with_topic_name(name)
        .with_error_code(error.code())
        .with_error_message(Some(StrBytes::from_string(why)))
}
