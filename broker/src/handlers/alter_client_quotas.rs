//! AlterClientQuotas (49), versions 0 to 1.
//!
//! - Needs AlterConfigs on the cluster. Each entity on its own, all its keys or none; durable
//!   before the reply, in force at once.
//! - Users and client ids, alone or together: `producer_byte_rate`, `consumer_byte_rate`,
//!   `request_percentage`, `controller_mutation_rate`; addresses: `connection_creation_rate`.
//! - `validate_only` checks and changes nothing. v1: flexible.
//!
//! Left out: host names in place of addresses.

use kafka_protocol::messages::alter_client_quotas_request::EntryData;
use kafka_protocol::messages::alter_client_quotas_response::{self, EntityData};
use kafka_protocol::messages::{AlterClientQuotasRequest, AlterClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::quota::changes::{self, Op};
use crate::topic_changes::Refusal;

pub(crate) async fn handle(
    context: &Context,
    request: AlterClientQuotasRequest,
) -> Result<AlterClientQuotasResponse, Close> {
    let allowed = context.allowed_on_cluster(Operation::AlterConfigs);
    let mut entries = Vec::with_capacity(request.entries.len());
    for entry in request.entries {
        let outcome = match allowed {
            Ok(()) => alter(context, &entry, request.validate_only).await,
            Err(error) => Err((error, "Cluster authorization failed.".to_owned())),
        };
        let parts = entry.entity.into_iter().map(|part| {
            EntityData::default()
                .with_entity_type(part.entity_type)
                .with_entity_name(part.entity_name)
        });
        let mut answer = alter_client_quotas_response::EntryData::default()
            .with_error_message(None)
            .with_entity(parts.collect());
        if let Err((error, why)) = outcome {
            answer.error_code = error.code();
            answer.error_message = Some(StrBytes::from_string(why));
        }
        entries.push(answer);
    }
    Ok(AlterClientQuotasResponse::default().with_entries(entries))
}

async fn alter(context: &Context, entry: &EntryData, validate_only: bool) -> Result<(), Refusal> {
    let parts = entry.entity.iter().map(|part| {
        let name = part.entity_name.as_ref().map(ToString::to_string);
        (part.entity_type.to_string(), name)
    });
    let entity = changes::entity(parts)?;
    let ops = entry.ops.iter();
    let ops: Vec<Op> =
        ops.map(|op| (op.key.to_string(), (!op.remove).then_some(op.value))).collect();
    changes::alter(&context.core, entity, ops, validate_only).await
}
