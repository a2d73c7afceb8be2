//! DescribeGroups (15), versions 0 to 6.
//!
//! - Members' metadata, and the protocol, only while the group is stable, as in Kafka: before that
//!   they belong to no assignment.
//! - Needs Describe on each group, else GROUP_AUTHORIZATION_FAILED.
//! - A name that comes twice is answered once.
//! - v3 (KIP-430): authorised operations; v4 (KIP-345): instance ids; v5: flexible. A group that
//!   does not exist is Dead, and from v6 on (KIP-1043) GROUP_ID_NOT_FOUND too. So is one of the
//!   consumer protocol: that has ConsumerGroupDescribe.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::DescribedMember;
use crate::handlers::{Context, distinct};

pub(crate) async fn handle(
    context: &Context,
    request: DescribeGroupsRequest,
) -> Result<DescribeGroupsResponse, Close> {
    let show_operations = context.version >= 3 && request.include_authorized_operations;
    let groups = distinct(request.groups).into_iter().map(|group| {
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
    Ok(DescribeGroupsResponse::default().with_groups(groups.collect()))
}

fn describe(context: &Context, group: GroupId) -> DescribedGroup {
    let Some(found) = context.core.groups.describe(&group) else {
        let name = group.as_str();
        let why = match context.core.groups.kind(name) {
            Some(_) => format!("Group {name} is not a classic group."),
            None => format!("Group {name} not found."),
        };
        let described = DescribedGroup::default()
            .with_group_id(group)
            .with_group_state(StrBytes::from_static_str("Dead"));
        return match context.version {
            ..6 => described,
            _ => described
                .with_error_code(ResponseError::GroupIdNotFound.code())
                .with_error_message(Some(StrBytes::from_string(why))),
        };
    };
    DescribedGroup::default()
        .with_group_id(group)
        .with_group_state(StrBytes::from_static_str(found.state))
        .with_protocol_type(StrBytes::from_string(found.protocol_type))
        .with_protocol_data(StrBytes::from_string(found.protocol))
        .with_members(found.members.into_iter().map(member).collect())
}

fn member(member: DescribedMember) -> DescribedGroupMember {
    DescribedGroupMember::default()
        .with_member_id(StrBytes::from_string(member.member_id))
        .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
        .with_client_id(StrBytes::from_string(member.client_id))
        .with_client_host(StrBytes::from_string(member.client_host))
        .with_member_metadata(member.metadata)
        .with_member_assignment(member.assignment)
}
