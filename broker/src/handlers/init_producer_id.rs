//! InitProducerId (22), versions 0 to 5.
//!
//! - Idempotent producers get an id that nobody ever had, epoch 0. Ids are taken from the state log
//!   in blocks, so none comes twice, whatever crashes.
//! - Needs Write on the transactional id; without one IdempotentWrite on the cluster or, since
//!   KIP-679, Write on any topic.
//! - v3 (KIP-360): a producer that names its id gets it again with the next epoch; at the last
//!   epoch it gets a new id.
//!
//! Left out: transactional ids, refused with UNSUPPORTED_VERSION, which clients report at once
//! instead of trying for ever.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProducerId, TransactionalId,
};

use crate::acl::{Operation, Resource, ResourceKind};
use crate::dispatch::Close;
use crate::handlers::Context;

pub(crate) async fn handle(
    context: &Context,
    request: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, Close> {
    let response = InitProducerIdResponse::default();
    let refused = |error: ResponseError| {
        response.clone().with_error_code(error.code()).with_producer_epoch(-1)
    };
    if let Err(error) = allowed(context, request.transactional_id.as_ref()) {
        return Ok(refused(error));
    }
    if request.transactional_id.is_some() {
        tracing::warn!(client = %context.client_id, peer = %context.session.peer,
            "a transactional producer was refused: transactions are not served by this version");
        return Ok(refused(ResponseError::UnsupportedVersion));
    }
    let named = context.version >= 3 && request.producer_id.0 >= 0 && request.producer_epoch >= 0;
    if named && let Some(epoch) = request.producer_epoch.checked_add(1) {
        let response = response.with_producer_id(request.producer_id);
        return Ok(response.with_producer_epoch(epoch));
    }
    match context.core.new_producer_id().await {
        Ok(id) => Ok(response.with_producer_id(ProducerId(id)).with_producer_epoch(0)),
        Err(error) => Ok(refused(error)),
    }
}

fn allowed(
    context: &Context,
    transactional_id: Option<&TransactionalId>,
) -> Result<(), ResponseError> {
    let Some(id) = transactional_id else {
        let (write, topic) = (Operation::Write, ResourceKind::Topic);
        let allowed = context.may_see(Operation::IdempotentWrite, Resource::Cluster)
            || context.allowed_on_some(write, topic)
            || context.allowed(Operation::IdempotentWrite, Resource::Cluster);
        return allowed.then_some(()).ok_or(ResponseError::ClusterAuthorizationFailed);
    };
    let allowed = context.allowed(Operation::Write, Resource::TransactionalId(id));
    allowed.then_some(()).ok_or(ResponseError::TransactionalIdAuthorizationFailed)
}
