//! ShareAcknowledge (79), version 1.
//!
//! - A member gives back records that it has: read (1), to be read again (2), never to be read (3),
//!   or there is none at this offset (0). One kind for a range, or one for each offset of it.
//! - Each partition as a whole or not at all: INVALID_RECORD_STATE if any of its offsets is not out
//!   to this member, INVALID_REQUEST if the ranges make no sense. Durable before the reply.
//! - Counts in the member's share session as ShareFetch does; epoch -1 ends the session and gives
//!   back what is left.
//! - The group needs READ, and so does each topic.
//!
//! Left out: leader hints (one node); version 0 (early access, which Kafka no longer serves);
//! version 2 (KIP-1222), which the message crate does not have.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::share_acknowledge_response::{
    PartitionData, ShareAcknowledgeTopicResponse,
};
use kafka_protocol::messages::{ShareAcknowledgeRequest, ShareAcknowledgeResponse};
use kafka_protocol::protocol::StrBytes;
use odradek_log::PartitionId;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::handlers::share_group_heartbeat::is_member_id;
use crate::share::acknowledged::{self, Brought};
use crate::share::coordinator::Pending;
use crate::share::session::SessionKey;

pub(crate) async fn handle(
    context: &Context,
    request: ShareAcknowledgeRequest,
) -> Result<ShareAcknowledgeResponse, Close> {
    let share = &context.core.share;
    let opened = check(context, &request).and_then(|key| {
        let last = share.sessions().acknowledge(&key, request.share_session_epoch)?;
        Ok((key, last))
    });
    let (key, last) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return Ok(ShareAcknowledgeResponse::default()
                .with_error_code(error.code())
                .with_error_message(None));
        }
    };
    let checked = acknowledged::check(context, brought(request));
    let pending = match checked.taken.is_empty() {
        true => Pending::nothing(),
        false => share.acknowledge(&key, checked.taken),
    };
    // As in Kafka, only what got as far as the records is told in words.
    let refused = checked.refused.into_iter().map(|(id, result)| (id, to_wire(id, result)));
    let worded = pending.wait().await.into_iter().map(|(id, result)| {
        let message = result.err().map(|error| StrBytes::from_string(error.to_string()));
        (id, to_wire(id, result).with_error_message(message))
    });
    let mut topics: Vec<ShareAcknowledgeTopicResponse> = Vec::new();
    for (id, partition) in refused.chain(worded) {
        match topics.iter_mut().find(|topic| topic.topic_id == id.topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(
                ShareAcknowledgeTopicResponse::default()
                    .with_topic_id(id.topic_id)
                    .with_partitions(vec![partition]),
            ),
        }
    }
    if last {
        share.end_session(&key);
    }
    Ok(ShareAcknowledgeResponse::default().with_error_message(None).with_responses(topics))
}

fn check(
    context: &Context,
    request: &ShareAcknowledgeRequest,
) -> Result<SessionKey, ResponseError> {
    let group = request.group_id.as_ref().ok_or(ResponseError::InvalidRequest)?;
    if !context.allowed(Operation::Read, Resource::Group(group)) {
        return Err(ResponseError::GroupAuthorizationFailed);
    }
    let member = request.member_id.as_ref().filter(|member| is_member_id(member));
    let member = member.ok_or(ResponseError::InvalidRequest)?;
    Ok((group.to_string(), member.to_string()))
}

fn brought(request: ShareAcknowledgeRequest) -> Vec<Brought> {
    let topics = request.topics.into_iter();
    let partitions = topics.flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| {
            let id = PartitionId { topic_id: topic.topic_id, partition: partition.partition_index };
            let batches = partition.acknowledgement_batches.into_iter();
            (id, batches.map(Into::into).collect())
        })
    });
    partitions.collect()
}

fn to_wire(id: PartitionId, result: Result<(), ResponseError>) -> PartitionData {
    PartitionData::default()
        .with_partition_index(id.partition)
        .with_error_code(result.err().map_or(0, |error| error.code()))
        .with_error_message(None)
}
