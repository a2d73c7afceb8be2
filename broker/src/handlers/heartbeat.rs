//! Heartbeat (12), versions 0 to 4.
//!
//! - Starts the member's session anew. REBALANCE_IN_PROGRESS tells it to join again.
//! - Needs Read on the group.
//! - v3 (KIP-345): static members; v4: flexible.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{HeartbeatRequest, HeartbeatResponse};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::Caller;
use crate::handlers::Context;

pub(crate) async fn handle(
    context: &Context,
    request: HeartbeatRequest,
) -> Result<HeartbeatResponse, Close> {
    if !context.allowed(Operation::Read, Resource::Group(&request.group_id)) {
        let error = ResponseError::GroupAuthorizationFailed;
        return Ok(HeartbeatResponse::default().with_error_code(error.code()));
    }
    let caller = Caller {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.map(|id| id.to_string()),
        generation: request.generation_id,
    };
    let result = context.core.groups.heartbeat(&request.group_id, caller).await;
    let error_code = result.err().map_or(0, |error| error.code());
    Ok(HeartbeatResponse::default().with_error_code(error_code))
}
