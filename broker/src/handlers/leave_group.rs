//! LeaveGroup (13), versions 0 to 5.
//!
//! - The rest of the group rebalances at once. The reply does not wait for anything durable: a
//!   departure lost in a crash ends as an expired session.
//! - Needs Read on the group.
//! - v0 to v2: one member, whose error is that of the request. v3 (KIP-345): many members, each
//!   with its own error; an administrator may name a static member by its instance id alone. v4:
//!   flexible. v5 (KIP-800): reasons, for the log.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::{LeaveReply, Leaving};
use crate::handlers::Context;

pub(crate) async fn handle(
    context: &Context,
    request: LeaveGroupRequest,
) -> Result<LeaveGroupResponse, Close> {
    if !context.allowed(Operation::Read, Resource::Group(&request.group_id)) {
        return Ok(respond(Err(ResponseError::GroupAuthorizationFailed), context.version));
    }
    let leaving = match context.version {
        ..3 => vec![Leaving {
            member_id: request.member_id.to_string(),
            instance_id: None,
            reason: None,
        }],
        _ => {
            let members = request.members.into_iter().map(|member| Leaving {
                member_id: member.member_id.to_string(),
                instance_id: member.group_instance_id.map(|id| id.to_string()),
                reason: member.reason.map(|reason| reason.to_string()),
            });
            members.collect()
        }
    };
    let reply = context.core.groups.leave(&request.group_id, leaving).await;
    Ok(respond(reply, context.version))
}

fn respond(reply: LeaveReply, version: i16) -> LeaveGroupResponse {
    let response = LeaveGroupResponse::default();
    match reply {
        Err(error) => response.with_error_code(error.code()),
        Ok(left) if version < 3 => {
            let error = left.into_iter().find_map(|one| one.error);
            response.with_error_code(error.map_or(0, |error| error.code()))
        }
        Ok(left) => {
            let members = left.into_iter().map(|one| {
                MemberResponse::default()
                    .with_member_id(StrBytes::from_string(one.member_id))
                    .with_group_instance_id(one.instance_id.map(StrBytes::from_string))
                    .with_error_code(one.error.map_or(0, |error| error.code()))
            });
            response.with_members(members.collect())
        }
    }
}
