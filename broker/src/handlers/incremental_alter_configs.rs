//! IncrementalAlterConfigs (44), versions 0 to 1 (KIP-339).
//!
//! - Single keys of a resource are set (0), deleted (1), or, for lists, appended to (2) and
//!   subtracted from (3).
//! - All keys of a resource or none; durable before the reply, in force at once.
//! - Needs AlterConfigs on the topic or group, for all else on the cluster.
//! - The levels of loggers hold until the process ends (KIP-412).
//! - `validate_only` checks and changes nothing.
//!
//! Left out: keys of a broker that are in no table (Kafka keeps them) are INVALID_REQUEST, because
//! they are slips.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::config_changes::{self, Change, Target};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::loggers;
use crate::topic_changes::{Refusal, refuse};

/// Kafka's `AlterConfigOp.OpType`.
pub(crate) const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) async fn handle(
    context: &Context,
    request: IncrementalAlterConfigsRequest,
) -> Result<IncrementalAlterConfigsResponse, Close> {
    let answers = alter_each(context, &request.resources, false, request.validate_only).await;
    Ok(IncrementalAlterConfigsResponse::default().with_responses(answers))
}

/// AlterConfigs asks for the same with `replace`: what is not named is taken away.
pub(crate) async fn alter_each(
    context: &Context,
    resources: &[AlterConfigsResource],
    replace: bool,
    validate_only: bool,
) -> Vec<AlterConfigsResourceResponse> {
    let twice = repeated(resources);
    let mut answers = Vec::with_capacity(resources.len());
    for resource in resources {
        let outcome = if twice.contains(&identity(resource)) {
            refuse(ResponseError::InvalidRequest, "Each resource must appear at most once.")
        } else {
            alter(context, resource, replace, validate_only).await
        };
        let mut answer = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        // The message crate's default is an empty text, which is not what Kafka sends.
        answer.error_message = None;
        if let Err((error, why)) = outcome {
            answer.error_code = error.code();
            answer.error_message = Some(StrBytes::from_string(why));
        }
        answers.push(answer);
    }
    answers
}

fn identity(resource: &AlterConfigsResource) -> (i8, &str) {
    (resource.resource_type, &resource.resource_name)
}

/// Resources that a request names more than once.
fn repeated(resources: &[AlterConfigsResource]) -> HashSet<(i8, &str)> {
    let mut seen = HashSet::new();
    resources.iter().map(identity).filter(|resource| !seen.insert(*resource)).collect()
}

async fn alter(
    context: &Context,
    resource: &AlterConfigsResource,
    replace: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    check_names(&resource.configs)?;
    let operation = Operation::AlterConfigs;
    let target = Target::of(context, operation, resource.resource_type, &resource.resource_name)?;
    let mut changes = Vec::with_capacity(resource.configs.len());
    for config in &resource.configs {
        let value = config.value.as_deref().unwrap_or("").to_owned();
        let change = match config.config_operation {
            SET => Change::Set(value),
            DELETE => Change::Delete,
            APPEND => Change::Append(value),
            SUBTRACT => Change::Subtract(value),
            other => {
                let why = format!("Unknown operations type {other}");
                return refuse(ResponseError::InvalidRequest, why);
            }
        };
        changes.push((config.name.to_string(), change));
    }
    if target == Target::Loggers && !replace {
        return loggers::alter(context.broker.loggers(), &changes, validate_only);
    }
    config_changes::alter(context, target, changes, replace, validate_only).await
}

/// The sentences are Kafka's.
fn check_names(configs: &[AlterableConfig]) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    if configs.iter().any(|config| !seen.insert(&config.name)) {
        return refuse(ResponseError::InvalidRequest, "Error due to duplicate config keys");
    }
    let needs_value = |c: &&AlterableConfig| c.value.is_none() && c.config_operation != DELETE;
    let missing: Vec<&str> = configs.iter().filter(needs_value).map(|c| &*c.name).collect();
    if !missing.is_empty() {
        let why = format!("Null value not supported for : {}", missing.join(", "));
        return refuse(ResponseError::InvalidRequest, why);
    }
    Ok(())
}
