//! AddOffsetsToTxn (25), versions 0 to 4.
//!
//! - Says that offsets of this group will follow: the group's partition of `__consumer_offsets` is
//!   in the transaction, durably, before the reply.
//! - Needs Write on the transactional id and Read on the group.
//! - v2 (KIP-588): PRODUCER_FENCED; before it INVALID_PRODUCER_EPOCH. v3: flexible. v4 (KIP-890):
//!   another error code. Clients with `transaction.version` 2 do without this request.
//!
//! Left out: nothing.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::transaction::record::Producer;

pub(crate) async fn handle(
    context: &Context,
    request: AddOffsetsToTxnRequest,
) -> Result<AddOffsetsToTxnResponse, Close> {
    let error = add(context, &request).await.err().map(|error| match error {
        ResponseError::ProducerFenced if context.version < 2 => ResponseError::InvalidProducerEpoch,
        other => other,
    });
    let response = AddOffsetsToTxnResponse::default();
    Ok(response.with_error_code(error.map_or(0, |error| error.code())))
}

async fn add(context: &Context, request: &AddOffsetsToTxnRequest) -> Result<(), ResponseError> {
    let id = request.transactional_id.as_str();
    if !context.allowed(Operation::Write, Resource::TransactionalId(id)) {
        return Err(ResponseError::TransactionalIdAuthorizationFailed);
    }
    if !context.allowed(Operation::Read, Resource::Group(&request.group_id)) {
        return Err(ResponseError::GroupAuthorizationFailed);
    }
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let through = BTreeSet::from([context.core.offsets_partition_of(&request.group_id)]);
    context.core.transactions.add_partitions(id, producer, through).await
}
