//! ShareGroupHeartbeat (76), version 1.
//!
//! - A member joins (epoch 0, with an id that it made itself and the topics it wants), lives on, or
//!   leaves (epoch -1). The answer gives its epoch and, if that is news, what it reads; both are
//!   durable. The first answer has the assignment already: Kafka's has it from the second on,
//!   because there the partitions are prepared by another coordinator.
//! - UNKNOWN_MEMBER_ID and FENCED_MEMBER_EPOCH make a member join again; the epoch before the
//!   current one is let pass, because the answer may have been lost.
//! - A group of another kind with this name: GROUP_ID_NOT_FOUND.
//! - The group needs READ, the topics it names DESCRIBE.
//!
//! Left out: version 0 (early access, which Kafka no longer serves).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::share::group::{Heartbeat, HeartbeatReply, JOIN_EPOCH, LEAVE_EPOCH, Refused};
use crate::share::records::{self, TopicSeen};

/// Kafka's bound: a UUID's text.
const MEMBER_ID_CHARS_MAX: usize = 36;

pub(crate) async fn handle(
    context: &Context,
    request: ShareGroupHeartbeatRequest,
) -> Result<ShareGroupHeartbeatResponse, Close> {
    let settings = context.core.share.settings(&request.group_id);
    match heartbeat(context, request).await {
        Ok(HeartbeatReply { member_id, member_epoch, assignment }) => {
            let left = member_epoch == LEAVE_EPOCH;
            let interval_ms = if left { 0 } else { settings.heartbeat_interval_ms };
            Ok(ShareGroupHeartbeatResponse::default()
                .with_error_message(None)
                .with_member_id(Some(StrBytes::from_string(member_id)))
                .with_member_epoch(member_epoch)
                .with_heartbeat_interval_ms(interval_ms)
                .with_assignment(assignment.map(to_wire)))
        }
        Err((error, why)) => Ok(ShareGroupHeartbeatResponse::default()
            .with_error_code(error.code())
            .with_error_message((!why.is_empty()).then(|| StrBytes::from_string(why)))
            .with_member_id(None)),
    }
}

async fn heartbeat(
    context: &Context,
    request: ShareGroupHeartbeatRequest,
) -> Result<HeartbeatReply, Refused> {
    if !context.allowed(Operation::Read, Resource::Group(&request.group_id)) {
        return Err((ResponseError::GroupAuthorizationFailed, String::new()));
    }
    if !is_member_id(&request.member_id) {
        return Err((ResponseError::InvalidRequest, String::new()));
    }
    let names = request.subscribed_topic_names.as_ref();
    let seen = |name: &str| context.allowed(Operation::Describe, Resource::Topic(name));
    if !names.into_iter().flatten().all(|name| seen(name.as_str())) {
        return Err((ResponseError::TopicAuthorizationFailed, String::new()));
    }
    check(&request).map_err(|why| (ResponseError::InvalidRequest, why.to_owned()))?;
    let topics = request.subscribed_topic_names;
    let heartbeat = Heartbeat {
        member_id: request.member_id.to_string(),
        member_epoch: request.member_epoch,
        rack: request.rack_id.map(|rack| rack.to_string()),
        client_id: context.client_id.to_string(),
        client_host: context.session.client_host(),
        topics: topics.map(|names| names.iter().map(|name| name.to_string()).collect()),
    };
    let topics = |name: &str| {
        let topic = context.core.topics.by_name(name)?;
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        Some(TopicSeen { id: topic.id, partitions })
    };
    context.core.share.heartbeat(&request.group_id, heartbeat, &topics).await
}

/// Kafka's sentences.
fn check(request: &ShareGroupHeartbeatRequest) -> Result<(), &'static str> {
    if request.group_id.trim().is_empty() {
        return Err("GroupId can't be empty.");
    }
    if request.rack_id.as_ref().is_some_and(|rack| rack.trim().is_empty()) {
        return Err("RackId can't be empty.");
    }
    let no_topics = request.subscribed_topic_names.as_ref().is_none_or(Vec::is_empty);
    match request.member_epoch {
        JOIN_EPOCH if no_topics => Err("SubscribedTopicNames must be set in first request."),
        epoch if epoch < LEAVE_EPOCH => Err("MemberEpoch is invalid."),
        _ => Ok(()),
    }
}

pub(crate) fn is_member_id(id: &str) -> bool {
    !id.is_empty() && id.encode_utf16().count() <= MEMBER_ID_CHARS_MAX
}

fn to_wire(assignment: records::Assignment) -> Assignment {
    let topics = assignment.into_iter().map(|(topic_id, partitions)| {
        TopicPartitions::default()
            .with_topic_id(topic_id)
            .with_partitions(partitions.into_iter().collect())
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
