//! FindCoordinator (10), versions 0 to 6.
//!
//! - The coordinator of every group and of every transactional id is this broker, at the address
//!   that this connection can use (see `Session::advertised`).
//! - Needs Describe on the group or transactional id.
//! - v1 (KIP-98): key types and an error message; v3: flexible; v4 (KIP-699): many keys at once;
//!   v5 (KIP-890): another error code for transactions; v6 (KIP-932): the type of share groups.
//!
//! Left out: the coordinators of share groups' state (type 2), which only Kafka's own brokers ask
//! for; they are refused with INVALID_REQUEST and a sentence.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{BrokerId, FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::diagnose::reach::Asked;
use crate::dispatch::Close;
use crate::handlers::Context;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const NOBODY: BrokerId = BrokerId(-1);
const NO_PORT: i32 = -1;

pub(crate) async fn handle(
    context: &Context,
    request: FindCoordinatorRequest,
) -> Result<FindCoordinatorResponse, Close> {
    if request.key_type == GROUP {
        context.told_address(Asked::GroupCoordinator);
    }
    let mut response = FindCoordinatorResponse::default();
    if context.version >= 4 {
        let keys = request.coordinator_keys.into_iter();
        response.coordinators = keys.map(|key| find(context, request.key_type, key)).collect();
        return Ok(response);
    }
    let found = find(context, request.key_type, request.key);
    response.error_code = found.error_code;
    response.node_id = found.node_id;
    response.host = found.host;
    response.port = found.port;
    if context.version >= 1 {
        response.error_message = found.error_message;
    }
    Ok(response)
}

fn find(context: &Context, key_type: i8, key: StrBytes) -> Coordinator {
    if let Err(error) = allowed(context, key_type, &key) {
        return Coordinator::default()
            .with_key(key)
            .with_node_id(NOBODY)
            .with_port(NO_PORT)
            .with_error_code(error.code());
    }
    let coordinator = Coordinator::default().with_key(key);
    if key_type == GROUP || key_type == TRANSACTION {
        let (host, port) = context.session.advertised();
        return coordinator
            .with_node_id(context.node())
            .with_host(StrBytes::from_string(host))
            .with_port(i32::from(port));
    }
    let why = "only groups and transactions have a coordinator here";
    coordinator
        .with_node_id(NOBODY)
        .with_port(NO_PORT)
        .with_error_code(ResponseError::InvalidRequest.code())
        .with_error_message(Some(StrBytes::from_static_str(why)))
}

fn allowed(context: &Context, key_type: i8, key: &str) -> Result<(), ResponseError> {
    let (resource, error) = match key_type {
        GROUP => (Resource::Group(key), ResponseError::GroupAuthorizationFailed),
        TRANSACTION => {
            let error = ResponseError::TransactionalIdAuthorizationFailed;
            (Resource::TransactionalId(key), error)
        }
        _ => return Ok(()),
    };
    match context.allowed(Operation::Describe, resource) {
        true => Ok(()),
        false => Err(error),
    }
}
