//! DescribeConfigs (32), versions 1 to 4.
//!
//! - Topics and this broker, from the one table of keys. Secrets have no value.
//! - v1 (KIP-226): synonyms; v3 (KIP-524): types and documentation.
//!
//! Left out: broker loggers, client metrics and groups, refused with INVALID_REQUEST.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::config::describe::Described;
use crate::dispatch::Close;
use crate::handlers::Context;

/// Kafka's `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Close> {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    let results = request.resources.iter().map(|resource| {
        let mut result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(context, resource) {
            Ok(described) => {
                let wanted = |d: &Described| match &resource.configuration_keys {
                    Some(keys) => keys.iter().any(|key| **key == *d.name),
                    None => true,
                };
                let rows = described.into_iter().filter(wanted);
                result.configs = rows.map(|d| row(context, d, synonyms, documentation)).collect();
            }
            Err((error, why)) => {
                result.error_code = error.code();
                result.error_message = Some(StrBytes::from_string(why));
            }
        }
        result
    });
    Ok(DescribeConfigsResponse::default().with_results(results.collect()))
}

fn describe(
    context: &Context,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, (ResponseError, String)> {
    let config = &context.core.config;
    let name: &str = &resource.resource_name;
    match resource.resource_type {
        TOPIC => match context.core.topics.by_name(name) {
            Some(topic) => Ok(config.describe_topic(&topic.configs)),
            None => {
                let why = format!("there is no topic {name:?}");
                Err((ResponseError::UnknownTopicOrPartition, why))
            }
        },
        // No name asks for the defaults of all brokers, set through the protocol: there are none.
        BROKER if name.is_empty() => Ok(Vec::new()),
        BROKER if name == config.node_id.to_string() => Ok(config.describe_broker()),
        BROKER => {
            let why = format!("this broker is {}, not {name}", config.node_id);
            Err((ResponseError::InvalidRequest, why))
        }
        other => {
            let why = format!("configurations of resource type {other} are not kept here");
            Err((ResponseError::InvalidRequest, why))
        }
    }
}

fn row(
    context: &Context,
    described: Described,
    synonyms: bool,
    documentation: bool,
) -> DescribeConfigsResourceResult {
    let mut row = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_static_str(described.name))
        .with_value(described.value.map(StrBytes::from_string))
        .with_read_only(described.read_only)
        .with_config_source(described.source as i8)
        .with_is_sensitive(described.sensitive);
    if synonyms {
        let synonyms = described.synonyms.into_iter().map(|(name, value, source)| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_static_str(name))
                .with_value(value.map(StrBytes::from_string))
                .with_source(source as i8)
        });
        row.synonyms = synonyms.collect();
    }
    if context.version >= 3 {
        row.config_type = described.kind;
        if documentation {
            row.documentation = Some(StrBytes::from_string(described.documentation));
        }
    }
    row
}
