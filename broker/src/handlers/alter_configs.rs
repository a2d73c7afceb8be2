//! AlterConfigs (33), versions 0 to 2.
//!
//! - What is given for a resource takes the place of everything that was set for it.
//! - All keys of a resource or none; durable before the reply, in force at once.
//! - Needs AlterConfigs on the topic or group, for all else on the cluster.
//! - `validate_only` checks and changes nothing.
//!
//! Left out: broker loggers, which Kafka does not take here either; keys of a broker that are in no
//! table (Kafka keeps them) are INVALID_REQUEST, because they are slips.

use kafka_protocol::messages::alter_configs_request as full;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};

use crate::dispatch::Close;
use crate::handlers::Context;
use crate::handlers::incremental_alter_configs::{SET, alter_each};

pub(crate) async fn handle(
    context: &Context,
    request: AlterConfigsRequest,
) -> Result<AlterConfigsResponse, Close> {
    let resources: Vec<AlterConfigsResource> = request.resources.into_iter().map(as_sets).collect();
    let answers = alter_each(context, &resources, true, request.validate_only).await;
    let responses = answers.into_iter().map(|answer| {
        AlterConfigsResourceResponse::default()
            .with_error_code(answer.error_code)
            .with_error_message(answer.error_message)
            .with_resource_type(answer.resource_type)
            .with_resource_name(answer.resource_name)
    });
    Ok(AlterConfigsResponse::default().with_responses(responses.collect()))
}

/// The resource as IncrementalAlterConfigs names it: every key is set.
fn as_sets(resource: full::AlterConfigsResource) -> AlterConfigsResource {
    let configs = resource.configs.into_iter().map(|config| {
        AlterableConfig::default()
            .with_name(config.name)
            .with_config_operation(SET)
            .with_value(config.value)
    });
    AlterConfigsResource::default()
        .with_resource_type(resource.resource_type)
        .with_resource_name(resource.resource_name)
        .with_configs(configs.collect())
}
