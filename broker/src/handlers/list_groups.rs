//! ListGroups (16), versions 0 to 5.
//!
//! - All groups, those that only ever committed offsets among them.
//! - Without Describe on the cluster only the groups that the caller may describe.
//! - v3: flexible. v4 (KIP-518): states, and a filter by them; v5 (KIP-848): types (`classic`,
//!   `consumer` or `share`), and a filter by them. Filters do not care about case. A group of the
//!   consumer protocol is listed in every version, with Kafka's states for it.
//!
//! Left out: nothing.

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::{GroupKind, GroupLine};
use crate::handlers::Context;

pub(crate) async fn handle(
    context: &Context,
    request: ListGroupsRequest,
) -> Result<ListGroupsResponse, Close> {
    let sees_all = context.may_see(Operation::Describe, Resource::Cluster);
    let share = context.core.share.list().into_iter().map(|line| GroupLine {
        group: line.group,
        kind: GroupKind::Share,
        state: line.state,
        protocol_type: GroupKind::Share.name().to_owned(),
        members: 0,
    });
    let wanted = context.core.groups.list().into_iter().chain(share).filter(|line| {
        let seen = || context.may_see(Operation::Describe, Resource::Group(&line.group));
        (sees_all || seen())
            && passes(&request.states_filter, line.state)
            && passes(&request.types_filter, line.kind.name())
    });
    let groups = wanted.map(|line| {
        let kind = line.kind.name();
        let group = ListedGroup::default()
            .with_group_id(GroupId(StrBytes::from_string(line.group)))
            .with_protocol_type(StrBytes::from_string(line.protocol_type));
        match context.version {
            ..4 => group,
            4 => group.with_group_state(StrBytes::from_static_str(line.state)),
            _ => group
                .with_group_state(StrBytes::from_static_str(line.state))
                .with_group_type(StrBytes::from_static_str(kind)),
        }
    });
    Ok(ListGroupsResponse::default().with_groups(groups.collect()))
}

/// No filter lets everything through.
fn passes(filter: &[StrBytes], word: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(word))
}
