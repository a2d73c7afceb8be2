//! DescribeConfigs (32), versions 1 to 4.
//!
//! - Topics, this broker, what was set for all brokers (no name), groups and client metrics
//!   subscriptions, from the one table of keys. Secrets have no value. The broker's loggers.
//! - Topics and groups need DescribeConfigs on them, everything else on the cluster.
//! - A name that comes twice is answered once, with the keys of both.
//! - v1 (KIP-226): synonyms; v3 (KIP-524): types and documentation.
//!
//! Left out: nothing.

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::config::describe::{Described, Source};
use crate::config_changes::Target;
use crate::dispatch::Close;
use crate::handlers::{Context, merged};
use crate::loggers;
use crate::state::ConfigResource;
use crate::topic_changes::Refusal;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeConfigsRequest,
) -> Result<DescribeConfigsResponse, Close> {
    let (synonyms, documentation) = (request.include_synonyms, request.include_documentation);
    let named = |resource: &DescribeConfigsResource| {
        (resource.resource_type, resource.resource_name.clone())
    };
    let resources = merged(request.resources, named, join_keys);
    let results = resources.iter().map(|resource| {
        let mut result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match describe(context, resource) {
            Ok(described) => {
                let keys = resource.configuration_keys.iter().flatten();
                let keys: HashSet<&str> = keys.map(|key| key.as_str()).collect();
                let wanted = |d: &Described| keys.is_empty() || keys.contains(&*d.name);
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

/// No keys, or an empty list of them, asks for all.
fn join_keys(first: &mut DescribeConfigsResource, more: DescribeConfigsResource) {
    let some = |keys: Option<Vec<StrBytes>>| keys.filter(|keys| !keys.is_empty());
    let both = some(first.configuration_keys.take()).zip(some(more.configuration_keys));
    first.configuration_keys = both.map(|(mut keys, more)| {
        keys.extend(more);
        keys
    });
}

fn describe(
    context: &Context,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, Refusal> {
    let core = &context.core;
    let config = core.config();
    let invalid = |why: &str| Err((ResponseError::InvalidRequest, why.to_owned()));
    let operation = Operation::DescribeConfigs;
    match Target::of(context, operation, resource.resource_type, &resource.resource_name)? {
        Target::Topic(name) => match core.topics.by_name(&name) {
            Some(topic) => Ok(config.describe_topic(&topic.configs)),
            None => {
                crate::topics::check_name(&name)?;
                let why = format!("there is no topic {name:?}");
                Err((ResponseError::UnknownTopicOrPartition, why))
            }
        },
        Target::Loggers => Ok(loggers::describe(context.broker.loggers())),
        Target::Other(resource) => match &resource {
            ConfigResource::BrokerDefaults => Ok(config.describe_broker_defaults()),
            ConfigResource::Broker(_) => Ok(config.describe_broker()),
            ConfigResource::Group(name) if name.is_empty() => {
                invalid("Group name must not be empty")
            }
            ConfigResource::Group(_) => {
                Ok(config.describe_group(&core.configs.overrides(&resource)))
            }
            ConfigResource::ClientMetrics(name) if name.is_empty() => {
                invalid("Client metrics subscription name must not be empty")
            }
            ConfigResource::ClientMetrics(_) => {
                Ok(config.describe_client_metrics(&core.configs.overrides(&resource)))
            }
        },
    }
}

fn row(
    context: &Context,
    described: Described,
    synonyms: bool,
    documentation: bool,
) -> DescribeConfigsResourceResult {
    let mut row = DescribeConfigsResourceResult::default()
        .with_name(StrBytes::from_string(described.name.into_owned()))
        .with_value(described.value.map(StrBytes::from_string))
        .with_read_only(described.read_only)
        .with_config_source(described.source as i8)
        .with_is_sensitive(described.sensitive);
    if synonyms {
        let synonyms = described.synonyms.into_iter().map(|(name, value, source)| {
            DescribeConfigsSynonym::default()
                .with_name(StrBytes::from_string(name.into_owned()))
                .with_value(value.map(StrBytes::from_string))
                .with_source(source as i8)
        });
        row.synonyms = synonyms.collect();
    }
    if context.version >= 3 {
        row.config_type = described.kind;
        // Kafka leaves a logger's at the message's default: an empty text, asked for or not.
        let documentation = documentation || described.source == Source::BrokerLogger;
        row.documentation = documentation.then(|| StrBytes::from_string(described.documentation));
    }
    row
}
