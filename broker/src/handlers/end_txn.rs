//! EndTxn (26), versions 0 to 5.
//!
//! - The markers in all partitions, the groups' offsets and the new state of the transaction are
//!   one unit of the log, durable before the reply: a client that was answered finds the next
//!   transaction free to begin.
//! - An end that comes again is answered as the first time; the other end is INVALID_TXN_STATE.
//! - Needs Write on the transactional id.
//! - v2 (KIP-588): PRODUCER_FENCED; before it INVALID_PRODUCER_EPOCH. v3: flexible. v4 (KIP-890):
//!   another error code. v5 (KIP-890): every end gives out a new epoch (after the last one a new
//!   producer id), which the reply tells; a transaction without partitions may be aborted.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{EndTxnRequest, EndTxnResponse, ProducerId};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::transaction::record::{NO_EPOCH, NO_PRODUCER_ID, Producer};

const BUMPS_EPOCH_FROM: i16 = 5;

pub(crate) async fn handle(
    context: &Context,
    request: EndTxnRequest,
) -> Result<EndTxnResponse, Close> {
    let (error, producer) = match end(context, &request).await {
        Ok(producer) => (None, producer),
        Err(ResponseError::ProducerFenced) if context.version < 2 => {
            (Some(ResponseError::InvalidProducerEpoch), NOBODY)
        }
        Err(error) => (Some(error), NOBODY),
    };
    let response = EndTxnResponse::default().with_error_code(error.map_or(0, |error| error.code()));
    if context.version < BUMPS_EPOCH_FROM {
        return Ok(response);
    }
    let Producer { id, epoch } = producer;
    Ok(response.with_producer_id(ProducerId(id)).with_producer_epoch(epoch))
}

const NOBODY: Producer = Producer { id: NO_PRODUCER_ID, epoch: NO_EPOCH };

async fn end(context: &Context, request: &EndTxnRequest) -> Result<Producer, ResponseError> {
    let id = request.transactional_id.as_str();
    if !context.allowed(Operation::Write, Resource::TransactionalId(id)) {
        return Err(ResponseError::TransactionalIdAuthorizationFailed);
    }
    if id.is_empty() {
        return Err(ResponseError::InvalidRequest);
    }
    let producer = Producer { id: request.producer_id.0, epoch: request.producer_epoch };
    let bumps = context.version >= BUMPS_EPOCH_FROM;
    context.core.transactions.end(id, producer, request.committed, bumps).await
}
