//! ConsumerGroupHeartbeat (68), versions 0 and 1 (KIP-848).
//!
//! - Join (epoch 0), go on, leave (-1), leave for now (-2, static members): one request for all.
//!   The reply is the member's epoch and, where it has changed, what it may read.
//! - A reply follows the sync of what it rests on. A heartbeat that changes nothing is answered
//!   from memory.
//! - A classic group of consumers goes over to the consumer protocol with its first member of it,
//!   and back with the last, by `group.consumer.migration.policy`.
//! - Needs Read on the group and Describe on each topic that is named; a regular expression matches
//!   only topics that the caller may describe.
//! - Malformed requests are INVALID_REQUEST with Kafka's sentences, checked in Kafka's order.
//! - v1 (KIP-848, second part): regular expressions, matched by the broker; member ids are the
//!   client's own.
//!
//! Left out: nothing.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions as Owned;
use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::TEXT_BYTES_MAX;
use crate::group::exchange::{
    self, JOINS, LEAVES, LEAVES_FOR_NOW, MemberHeartbeat, MemberReply, Refusal,
};
use crate::handlers::Context;

const OWN_MEMBER_ID_SINCE: i16 = 1;
const NOT_SAID: i32 = -1;

pub(crate) async fn handle(
    context: &Context,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<ConsumerGroupHeartbeatResponse, Close> {
    let checked = may_join(context, &request).and_then(|()| check(&request, context.version));
    if let Err(refusal) = checked {
        return Ok(refused(refusal));
    }
    let group = request.group_id.to_string();
    let heartbeat = heartbeat(context, request);
    let sees = |topic: &str| context.may_see(Operation::Describe, Resource::Topic(topic));
    Ok(match context.core.groups.member_heartbeat(&group, heartbeat, &sees).await {
        Ok(reply) => respond(reply),
        Err(refusal) => refused(refusal),
    })
}

fn may_join(context: &Context, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    if !context.allowed(Operation::Read, Resource::Group(&request.group_id)) {
        return Err(ResponseError::GroupAuthorizationFailed.into());
    }
    let topics = request.subscribed_topic_names.iter().flatten();
    let mut seen = topics.map(|topic| context.allowed(Operation::Describe, Resource::Topic(topic)));
    match seen.all(|seen| seen) {
        true => Ok(()),
        false => Err(ResponseError::TopicAuthorizationFailed.into()),
    }
}

fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), Refusal> {
    let invalid = |why: &str| Err(Refusal::new(ResponseError::InvalidRequest, why));
    let epoch = request.member_epoch;
    let blank = |text: &StrBytes| text.trim().is_empty();
    let blank_if_there = |text: &Option<StrBytes>| text.as_ref().is_some_and(blank);
    let needs_id = version >= OWN_MEMBER_ID_SINCE || epoch > JOINS || epoch == LEAVES;
    if needs_id && blank(&request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if blank(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if blank_if_there(&request.instance_id) {
        return invalid("InstanceId can't be empty.");
    }
    if blank_if_there(&request.rack_id) {
        return invalid("RackId can't be empty.");
    }
    // Parts of records' keys.
    let instance_bytes = request.instance_id.as_ref().map_or(0, |id| id.len());
    if request.member_id.len().max(instance_bytes) > TEXT_BYTES_MAX {
        return invalid("MemberId and InstanceId can't be longer than 32767 bytes.");
    }
    if epoch == JOINS {
        return check_join(request);
    }
    if epoch == LEAVES_FOR_NOW && request.instance_id.is_none() {
        return invalid("InstanceId can't be null.");
    }
    if epoch < LEAVES_FOR_NOW {
        return invalid("MemberEpoch is invalid.");
    }
    Ok(())
}

fn check_join(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    let invalid = |why: &str| Err(Refusal::new(ResponseError::InvalidRequest, why));
    if request.rebalance_timeout_ms == NOT_SAID {
        return invalid("RebalanceTimeoutMs must be provided in first request.");
    }
    if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
        return invalid("TopicPartitions must be empty when (re-)joining.");
    }
    // An empty list is a subscription to nothing: a member all the same.
    if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
        return invalid(
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
             (re-)joining.",
        );
    }
    Ok(())
}

fn heartbeat(context: &Context, request: ConsumerGroupHeartbeatRequest) -> MemberHeartbeat {
    let text = |text: Option<StrBytes>| text.map(|text| text.to_string());
    let topics = request.subscribed_topic_names;
    MemberHeartbeat {
        member_id: request.member_id.to_string(),
        epoch: request.member_epoch,
        instance_id: text(request.instance_id),
        rack_id: text(request.rack_id),
        rebalance_timeout_ms: Some(request.rebalance_timeout_ms).filter(|ms| *ms != NOT_SAID),
        topics: topics.map(|names| names.iter().map(|name| name.to_string()).collect()),
        pattern: text(request.subscribed_topic_regex),
        assignor: text(request.server_assignor),
        owned: request.topic_partitions.map(owned),
        client_id: context.client_id.clone(),
        client_host: context.session.client_host(),
    }
}

fn owned(topics: Vec<Owned>) -> exchange::Assignment {
    let mut owned = exchange::Assignment::new();
    for topic in topics {
        let partitions: BTreeSet<i32> = topic.partitions.into_iter().collect();
        if !partitions.is_empty() {
            owned.entry(topic.topic_id).or_default().extend(partitions);
        }
    }
    owned
}

fn respond(reply: MemberReply) -> ConsumerGroupHeartbeatResponse {
    let assignment = reply.assignment.map(|assignment| {
        let topics = assignment.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default()
                .with_topic_id(topic)
                .with_partitions(partitions.into_iter().collect())
        });
        Assignment::default().with_topic_partitions(topics.collect())
    });
    ConsumerGroupHeartbeatResponse::default()
        .with_member_id(Some(StrBytes::from_string(reply.member_id)))
        .with_member_epoch(reply.epoch)
        .with_heartbeat_interval_ms(reply.heartbeat_interval_ms)
        .with_assignment(assignment)
}

fn refused(refusal: Refusal) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse::default()
        .with_error_code(refusal.error.code())
        .with_error_message(refusal.why.map(StrBytes::from_string))
}
