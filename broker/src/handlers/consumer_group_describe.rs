//! ConsumerGroupDescribe (69), versions 0 and 1 (KIP-848).
//!
//! - Groups of the consumer protocol, as they are durable: state, epochs, and for each member what
//!   it reads and what it is to read. Any other group is GROUP_ID_NOT_FOUND, no name at all
//!   INVALID_GROUP_ID.
//! - Needs Describe on the group, else GROUP_AUTHORIZATION_FAILED, and on all topics that it reads,
//!   else TOPIC_AUTHORIZATION_FAILED.
//! - A topic that does not exist any more is left out of the assignments.
//! - A name that comes twice is answered once.
//! - v1: the kind of each member, because those of the classic protocol may be among them.
//!
//! Left out: nothing.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, GroupId, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::{self, DescribedConsumer};
use crate::handlers::{Context, distinct};

/// Kinds of members.
const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

pub(crate) async fn handle(
    context: &Context,
    request: ConsumerGroupDescribeRequest,
) -> Result<ConsumerGroupDescribeResponse, Close> {
    let show_operations = request.include_authorized_operations;
    let groups = distinct(request.group_ids).into_iter().map(|group| {
        let mut described = match context.allowed(Operation::Describe, Resource::Group(&group)) {
            true => describe(context, group),
            false => DescribedGroup::default()
                .with_group_id(group)
                .with_error_code(ResponseError::GroupAuthorizationFailed.code()),
        };
        if show_operations && described.error_code == 0 {
            let resource = Resource::Group(&described.group_id);
            described.authorized_operations = context.authorised_operations(resource);
        }
        described
    });
    Ok(ConsumerGroupDescribeResponse::default().with_groups(groups.collect()))
}

fn describe(context: &Context, group: GroupId) -> DescribedGroup {
    let groups = &context.core.groups;
    let described = DescribedGroup::default();
    if group.is_empty() {
        return described
            .with_group_id(group)
            .with_error_code(ResponseError::InvalidGroupId.code());
    }
    let Some(found) = groups.describe_consumer(&group) else {
        let name = group.as_str();
        let why = match groups.kind(name) {
            Some(_) => format!("Group {name} is not a consumer group."),
            None => format!("Group {name} not found."),
        };
        return described
            .with_group_id(group)
            .with_error_code(ResponseError::GroupIdNotFound.code())
            .with_error_message(Some(StrBytes::from_string(why)));
    };
    let members = found.members.into_iter().map(|one| member(context, one));
    let members: Vec<Member> = members.collect();
    if !sees_topics(context, &members) {
        let why = "The group has described topic(s) that the client is not authorized to describe.";
        return described
            .with_group_id(group)
            .with_error_code(ResponseError::TopicAuthorizationFailed.code())
            .with_error_message(Some(StrBytes::from_static_str(why)));
    }
    described
        .with_group_id(group)
        .with_group_state(StrBytes::from_static_str(found.state))
        .with_group_epoch(found.epoch)
        .with_assignment_epoch(found.assignment_epoch)
        .with_assignor_name(StrBytes::from_static_str(found.assignor))
        .with_members(members)
}

/// Whether the caller may describe every topic that the members read or are to read.
fn sees_topics(context: &Context, members: &[Member]) -> bool {
    let assignments = members.iter().flat_map(|it| [&it.assignment, &it.target_assignment]);
    let assigned = assignments.flat_map(|it| &it.topic_partitions).map(|it| &it.topic_name);
    let named = members.iter().flat_map(|it| &it.subscribed_topic_names);
    let topics: BTreeSet<&str> = assigned.chain(named).map(|name| name.as_str()).collect();
    topics.into_iter().all(|topic| context.may_see(Operation::Describe, Resource::Topic(topic)))
}

fn member(context: &Context, member: DescribedConsumer) -> Member {
    let names = member.topics.into_iter();
    let names = names.map(|name| TopicName(StrBytes::from_string(name)));
    // Without an expression Kafka shows an empty one, although null could be said.
    let pattern = member.pattern.unwrap_or_default();
    let described = Member::default()
        .with_member_id(StrBytes::from_string(member.member_id))
        .with_instance_id(member.instance_id.map(StrBytes::from_string))
        .with_rack_id(member.rack_id.map(StrBytes::from_string))
        .with_member_epoch(member.epoch)
        .with_client_id(StrBytes::from_string(member.client_id))
        .with_client_host(StrBytes::from_string(member.client_host))
        .with_subscribed_topic_names(names.collect())
        .with_subscribed_topic_regex(Some(StrBytes::from_string(pattern)))
        .with_assignment(assignment(context, &member.assigned))
        .with_target_assignment(assignment(context, &member.target));
    match context.version {
        ..1 => described,
        _ => described.with_member_type(if member.classic { CLASSIC } else { CONSUMER }),
    }
}

fn assignment(context: &Context, assignment: &exchange::Assignment) -> Assignment {
    let topics = assignment.iter().filter_map(|(id, partitions)| {
        let topic = context.core.topics.by_id(*id)?;
        let name = TopicName(StrBytes::from_string(topic.name.to_string()));
        Some(
            TopicPartitions::default()
                .with_topic_id(*id)
                .with_topic_name(name)
                .with_partitions(partitions.iter().copied().collect()),
        )
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
