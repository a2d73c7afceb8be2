//! JoinGroup (11), versions 0 to 9.
//!
//! - The reply comes when the rebalance is over: when all members have joined, or when the longest
//!   rebalance timeout among them has run out.
//! - Needs Read on the group.
//! - A text of more than 32767 bytes, for which records have no room, is INVALID_REQUEST.
//! - In a group of the consumer protocol the member is taken in at once, and never leads: the
//!   broker assigns. One that is empty becomes a classic group by this.
//! - v0 has no rebalance timeout: the session timeout counts. v1 (KIP-62) has one. v4 (KIP-394): a
//!   member without id gets one with MEMBER_ID_REQUIRED and joins again. v5 (KIP-345): static
//!   members. v6: flexible. v7 (KIP-559): the protocol type in the reply, and a protocol name that
//!   may be null. v8 (KIP-800): a reason, for the log. v9 (KIP-814): `skip_assignment`.
//!
//! Left out: nothing.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::{Join, JoinReply, Protocol};
use crate::handlers::Context;

pub(crate) async fn handle(
    context: &Context,
    request: JoinGroupRequest,
) -> Result<JoinGroupResponse, Close> {
    let version = context.version;
    if !context.allowed(Operation::Read, Resource::Group(&request.group_id)) {
        let error = ResponseError::GroupAuthorizationFailed;
        return Ok(respond(JoinReply::refused(request.member_id.to_string(), error), version));
    }
    let protocols = request.protocols.into_iter().map(|offered| Protocol {
        name: offered.name.to_string(),
        // A copy, so that a member of a long life does not keep a whole read buffer.
        metadata: Bytes::copy_from_slice(&offered.metadata),
    });
    let join = Join {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        client_id: context.client_id.clone(),
        client_host: context.session.client_host(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: match version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms,
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: protocols.collect(),
        member_id_required: version >= 4,
        may_skip_assignment: version >= 9,
        reason: request.reason.map(|reason| reason.to_string()),
    };
    let reply = context.core.groups.join(&request.group_id, join).await;
    Ok(respond(reply, version))
}

fn respond(reply: JoinReply, version: i16) -> JoinGroupResponse {
    let members = reply.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(StrBytes::from_string(member.member_id))
            .with_group_instance_id(member.instance_id.map(StrBytes::from_string))
            .with_metadata(member.metadata)
    });
    // Before version 7 the name could not be null.
    let protocol = match version {
        ..7 => Some(reply.protocol.unwrap_or_default()),
        _ => reply.protocol.filter(|name| !name.is_empty()),
    };
    JoinGroupResponse::default()
        .with_error_code(reply.error.map_or(0, |error| error.code()))
        .with_generation_id(reply.generation)
        .with_protocol_type(reply.protocol_type.map(StrBytes::from_string))
        .with_protocol_name(protocol.map(StrBytes::from_string))
        .with_leader(StrBytes::from_string(reply.leader))
        .with_skip_assignment(reply.skip_assignment)
        .with_member_id(StrBytes::from_string(reply.member_id))
        .with_members(members.collect())
}
