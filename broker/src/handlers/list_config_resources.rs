//! ListConfigResources (74), versions 0 to 1.
//!
//! - The names of what configurations can be asked for. Version 0 (KIP-1000) is about client
//!   metrics subscriptions only; v1 (KIP-1142): topics, this broker, its loggers, groups that have
//!   a configuration; no type named means all of them.
//! - Needs DescribeConfigs on the cluster.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_config_resources_response::ConfigResource as Listed;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::config_changes::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::state::ConfigResource;

pub(crate) async fn handle(
    context: &Context,
    request: ListConfigResourcesRequest,
) -> Result<ListConfigResourcesResponse, Close> {
    let mut response = ListConfigResourcesResponse::default();
    if let Err(error) = context.allowed_on_cluster(Operation::DescribeConfigs) {
        return Ok(response.with_error_code(error.code()));
    }
    const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];
    let mut kinds: Vec<i8> = match request.resource_types.as_slice() {
        [] if context.version == 0 => vec![CLIENT_METRICS],
        [] => ALL.to_vec(),
        some => some.to_vec(),
    };
    kinds.sort_unstable();
    kinds.dedup();
    if kinds.iter().any(|kind| !ALL.contains(kind)) {
        return Ok(response.with_error_code(ResponseError::UnsupportedVersion.code()));
    }
    for kind in kinds {
        for name in names(context, kind) {
            let mut listed = Listed::default().with_resource_name(StrBytes::from_string(name));
            if context.version >= 1 {
                listed.resource_type = kind;
            }
            response.config_resources.push(listed);
        }
    }
    Ok(response)
}

fn names(context: &Context, kind: i8) -> Vec<String> {
    let core = &context.core;
    match kind {
        TOPIC => core.topics.all().iter().map(|topic| topic.name.to_string()).collect(),
        BROKER | BROKER_LOGGER => vec![context.node().0.to_string()],
        GROUP => of(core.configs.resources(), |resource| match resource {
            ConfigResource::Group(name) => Some(name),
            _ => None,
        }),
        CLIENT_METRICS => of(core.configs.resources(), |resource| match resource {
            ConfigResource::ClientMetrics(name) => Some(name),
            _ => None,
        }),
        _ => Vec::new(),
    }
}

fn of(all: Vec<ConfigResource>, name: fn(ConfigResource) -> Option<String>) -> Vec<String> {
    all.into_iter().filter_map(name).collect()
}
