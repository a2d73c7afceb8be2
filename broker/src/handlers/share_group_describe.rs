//! ShareGroupDescribe (77), version 1.
//!
//! - State, epochs and members of share groups. A group that does not exist, or is of another kind:
//!   GROUP_ID_NOT_FOUND; an empty name: INVALID_GROUP_ID.
//! - Needs DESCRIBE of the group; if a member reads a topic that the caller may not describe, the
//!   group is TOPIC_AUTHORIZATION_FAILED, as in Kafka.
//! - A name that comes twice is answered once.
//!
//! Left out: version 0 (early access, which Kafka no longer serves).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::share_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::{
    GroupId, ShareGroupDescribeRequest, ShareGroupDescribeResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::{Context, distinct};
use crate::share::records::MemberRecord;

pub(crate) async fn handle(
    context: &Context,
    request: ShareGroupDescribeRequest,
) -> Result<ShareGroupDescribeResponse, Close> {
    let groups = distinct(request.group_ids).into_iter().map(|group| {
        let mut described = describe(context, group);
        if request.include_authorized_operations && described.error_code == 0 {
            let group = Resource::Group(&described.group_id);
            described.authorized_operations = context.authorised_operations(group);
        }
        described
    });
    Ok(ShareGroupDescribeResponse::default().with_groups(groups.collect()))
}

fn refused(group: GroupId, error: ResponseError, why: Option<String>) -> DescribedGroup {
    DescribedGroup::default()
        .with_group_id(group)
        .with_error_code(error.code())
        .with_error_message(why.map(StrBytes::from_string))
}

fn describe(context: &Context, group: GroupId) -> DescribedGroup {
    if !context.allowed(Operation::Describe, Resource::Group(&group)) {
        return refused(group, ResponseError::GroupAuthorizationFailed, None);
    }
    if group.is_empty() {
        return refused(group, ResponseError::InvalidGroupId, None);
    }
    let Some(found) = context.core.share.describe(&group) else {
        let why = format!("Group {} not found.", group.as_str());
        return refused(group, ResponseError::GroupIdNotFound, Some(why));
    };
    let members = found.members.into_iter().map(|(id, member)| to_wire(context, id, member));
    let members: Vec<Member> = members.collect();
    let topics = members.iter().flat_map(|member| &member.assignment.topic_partitions);
    let visible = |topic: &str| context.allowed(Operation::Describe, Resource::Topic(topic));
    if !topics.into_iter().all(|topic| visible(&topic.topic_name)) {
        let why = "The group has described topic(s) that the client is not authorized to describe.";
        return refused(group, ResponseError::TopicAuthorizationFailed, Some(why.to_owned()));
    }
    DescribedGroup::default()
        .with_error_message(None)
        .with_group_id(group)
        .with_group_state(StrBytes::from_static_str(found.state))
        .with_group_epoch(found.epoch)
        .with_assignment_epoch(found.assignment_epoch)
        .with_assignor_name(StrBytes::from_static_str("simple"))
        .with_members(members)
}

fn to_wire(context: &Context, id: String, member: MemberRecord) -> Member {
    // A topic that was deleted meanwhile has no name any more, and nothing is read there.
    let assigned = member.assigned.into_iter().filter_map(|(topic_id, partitions)| {
        let topic = context.core.topics.by_id(topic_id)?;
        Some(
            TopicPartitions::default()
                .with_topic_id(topic_id)
                .with_topic_name(TopicName(StrBytes::from_string(topic.name.to_string())))
                .with_partitions(partitions.into_iter().collect()),
        )
    });
    let topics = member.topics.into_iter().map(|topic| TopicName(StrBytes::from_string(topic)));
    Member::default()
        .with_member_id(StrBytes::from_string(id))
        .with_rack_id(member.rack.map(StrBytes::from_string))
        .with_member_epoch(member.epoch)
        .with_client_id(StrBytes::from_string(member.client_id))
        .with_client_host(StrBytes::from_string(member.client_host))
        .with_subscribed_topic_names(topics.collect())
        .with_assignment(Assignment::default().with_topic_partitions(assigned.collect()))
}
