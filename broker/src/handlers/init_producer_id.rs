//! InitProducerId (22), versions 0 to 5.
//!
//! - Idempotent producers get an id that nobody ever had, epoch 0, whatever they name. Ids are
//!   taken from the state log in blocks, so none comes twice, whatever crashes.
//! - Transactional producers (KIP-98) get the producer id of their transactional id with the next
//!   epoch, which fences whoever had the one before. A transaction that is ongoing is aborted
//!   first; until that is done the answer is CONCURRENT_TRANSACTIONS, and the client asks again.
//! - Needs Write on the transactional id; without one IdempotentWrite on the cluster or, since
//!   KIP-679, Write on any topic.
//! - v3 (KIP-360): a producer that names its id goes on with the next epoch; one that was fenced
//!   meanwhile gets PRODUCER_FENCED, before v4 (KIP-588) INVALID_PRODUCER_EPOCH. At the last epoch
//!   it gets a new id. v5 (KIP-890): nothing new in the request.
//! - A transactional id is at most 1,024 bytes: INVALID_REQUEST beyond.
//! - `transaction.max.timeout.ms` bounds the time-out: INVALID_TRANSACTION_TIMEOUT.
//!
//! Left out: v6 (two-phase commit, KIP-939), which Kafka 4.1 does not list as stable.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProducerId, TransactionalId,
};

use crate::acl::{Operation, Resource, ResourceKind};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::transaction::record::{NO_EPOCH, NO_PRODUCER_ID, Producer};

pub(crate) async fn handle(
    context: &Context,
    request: InitProducerIdRequest,
) -> Result<InitProducerIdResponse, Close> {
    let response = InitProducerIdResponse::default();
    Ok(match producer(context, &request).await {
        Ok(producer) => {
            response.with_producer_id(ProducerId(producer.id)).with_producer_epoch(producer.epoch)
        }
        Err(error) => response
            .with_error_code(error.code())
            .with_producer_id(ProducerId(NO_PRODUCER_ID))
            .with_producer_epoch(NO_EPOCH),
    })
}

async fn producer(
    context: &Context,
    request: &InitProducerIdRequest,
) -> Result<Producer, ResponseError> {
    allowed(context, request.transactional_id.as_ref())?;
    let expected = match (request.producer_id.0, request.producer_epoch) {
        _ if context.version < 3 => None,
        (NO_PRODUCER_ID, NO_EPOCH) => None,
        (NO_PRODUCER_ID, _) | (_, NO_EPOCH) => return Err(ResponseError::InvalidRequest),
        (id, epoch) => Some(Producer { id, epoch }),
    };
    if let Some(transactional_id) = &request.transactional_id {
        let timeout_ms = request.transaction_timeout_ms;
        let transactions = &context.core.transactions;
        let producer = transactions.init(transactional_id, timeout_ms, expected).await;
        return producer.map_err(|error| match error {
            ResponseError::ProducerFenced if context.version < 4 => {
                ResponseError::InvalidProducerEpoch
            }
            other => other,
        });
    }
    // Whatever it had before, as in Kafka: an idempotent producer raises its epoch by itself.
    let id = context.core.new_producer_id().await?;
    Ok(Producer { id, epoch: 0 })
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
