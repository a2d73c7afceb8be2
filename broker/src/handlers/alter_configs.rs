//! AlterConfigs (33), versions 0 to 2.
//!
//! - What is given for a resource takes the place of everything that was set for it.
//! - All keys of a resource or none; durable before the reply, in force at once.
//! - Needs AlterConfigs on the topic or group, for all else on the cluster.
//! - `validate_only` checks and changes nothing.
//!
//! Left out: broker loggers, which Kafka does not take here either; keys of a broker that are in no
//! table (Kafka keeps them) are INVALID_REQUEST, because they are slips.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::config_changes::{self, Change, Target};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::handlers::incremental_alter_configs::{check_names, repeated};
use crate::topic_changes::{Refusal, refuse};

pub(crate) async fn handle(
    context: &Context,
    request: AlterConfigsRequest,
) -> Result<AlterConfigsResponse, Close> {
    let named = request.resources.iter().map(|r| (r.resource_type, &*r.resource_name));
    let twice = repeated(named);
    let mut responses = Vec::with_capacity(request.resources.len());
    for resource in &request.resources {
        let outcome = if twice.contains(&(resource.resource_type, &*resource.resource_name)) {
            refuse(ResponseError::InvalidRequest, "Each resource must appear at most once.")
        } else {
            alter(context, resource, request.validate_only).await
        };
        let mut response = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        // The message crate's default is an empty text, which is not what Kafka sends.
        response.error_message = None;
        if let Err((error, why)) = outcome {
            response.error_code = error.code();
            response.error_message = Some(StrBytes::from_string(why));
        }
        responses.push(response);
    }
    Ok(AlterConfigsResponse::default().with_responses(responses))
}

async fn alter(
    context: &Context,
    resource: &AlterConfigsResource,
    validate_only: bool,
) -> Result<(), Refusal> {
    check_names(resource.configs.iter().map(|c| (&*c.name, c.value.is_none())))?;
    let operation = Operation::AlterConfigs;
    let target = Target::of(context, operation, resource.resource_type, &resource.resource_name)?;
    let changes: Vec<(String, Change)> = resource
        .configs
        .iter()
        .map(|c| (c.name.to_string(), Change::Set(c.value.as_deref().unwrap_or("").to_owned())))
        .collect();
    config_changes::alter(&context.core, &target, &changes, true, validate_only).await
}
