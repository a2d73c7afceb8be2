//! SyncGroup (14), versions 0 to 5.
//!
//! - Followers wait for the leader's assignment; everybody gets the answer once it is durable.
//! - Needs Read on the group.
//! - v3 (KIP-345): static members; v4: flexible; v5 (KIP-559): protocol type and name, which are
//!   then mandatory and compared with the group's.
//!
//! Left out: nothing.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::{Caller, Sync, SyncReply};
use crate::handlers::Context;

pub(crate) async fn handle(
    context: &Context,
    request: SyncGroupRequest,
) -> Result<SyncGroupResponse, Close> {
    let incomplete = request.protocol_type.is_none() || request.protocol_name.is_none();
    if context.version >= 5 && incomplete {
        return Ok(respond(SyncReply::refused(ResponseError::InconsistentGroupProtocol)));
    }
    if !context.allowed(Operation::Read, Resource::Group(&request.group_id)) {
        return Ok(respond(SyncReply::refused(ResponseError::GroupAuthorizationFailed)));
    }
    let assignments = request.assignments.into_iter().map(|one| {
        // A copy, so that an assignment of a long life does not keep a whole read buffer.
        (one.member_id.to_string(), Bytes::copy_from_slice(&one.assignment))
    });
    let sync = Sync {
        caller: Caller {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.map(|name| name.to_string()),
        protocol: request.protocol_name.map(|name| name.to_string()),
        assignments: assignments.collect(),
    };
    Ok(respond(context.core.groups.sync(&request.group_id, sync).await))
}

fn respond(reply: SyncReply) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(reply.error.map_or(0, |error| error.code()))
        .with_protocol_type(reply.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(reply.protocol.map(StrBytes::from_string))
        .with_assignment(reply.assignment)
}
