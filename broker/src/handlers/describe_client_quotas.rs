//! DescribeClientQuotas (48), versions 0 to 1.
//!
//! - Needs DescribeConfigs on the cluster. For each type of entity an exact name, the default, or
//!   any; `strict` leaves out entities that have further parts.
//! - A filter that makes no sense is INVALID_REQUEST, a type that is not known UNSUPPORTED_VERSION.
//! - v1: flexible.
//!
//! Left out: nothing.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::quota::{CLIENT_ID, Entity, IP, Limits, USER};
use crate::topic_changes::{Refusal, refuse};

const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const ANY: i8 = 2;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeClientQuotasRequest,
) -> Result<DescribeClientQuotasResponse, Close> {
    let response = DescribeClientQuotasResponse::default();
    let refused = |error: ResponseError, why: String| {
        let message = Some(StrBytes::from_string(why));
        response.clone().with_error_code(error.code()).with_error_message(message)
    };
    if let Err(error) = context.allowed_on_cluster(Operation::DescribeConfigs) {
        return Ok(refused(error, "Cluster authorization failed.".to_owned()).with_entries(None));
    }
    let filter = match filter(&request.components) {
        Ok(filter) => filter,
        Err((error, why)) => return Ok(refused(error, why).with_entries(None)),
    };
    let table = context.core.quotas.read();
    let meant = table.iter().filter(|(entity, _)| matches(entity, &filter, request.strict));
    let entries = meant.map(|(entity, limits)| entry(entity, limits)).collect();
    Ok(response.with_entries(Some(entries)))
}

/// For each type what its name must be; `None` means any.
type Filter<'a> = BTreeMap<&'a str, Option<Option<&'a str>>>;

/// The sentences are Kafka's.
fn filter(components: &[ComponentData]) -> Result<Filter<'_>, Refusal> {
    let invalid = |why: String| refuse(ResponseError::InvalidRequest, why);
    let mut filter = Filter::new();
    for component in components {
        let kind: &str = &component.entity_type;
        if kind.is_empty() {
            return invalid("Invalid empty entity type.".to_owned());
        }
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            let why = format!("Unsupported entity type {kind}");
            return refuse(ResponseError::UnsupportedVersion, why);
        }
        let wanted = match (component.match_type, component._match.as_deref()) {
            (EXACT, Some(name)) => Some(Some(name)),
            (DEFAULT, None) => Some(None),
            (ANY, None) => None,
            (EXACT, None) => {
                let why = "Request specified MATCH_TYPE_EXACT, but set match string to null.";
                return invalid(why.to_owned());
            }
            (DEFAULT | ANY, Some(_)) => {
                let why = "Request specified a match string for a match type that takes none.";
                return invalid(why.to_owned());
            }
            (other, _) => return invalid(format!("Unknown match type {other}")),
        };
        if filter.insert(kind, wanted).is_some() {
            let why = "cannot appear more than once in the filter.";
            return invalid(format!("Entity type {kind} {why}"));
        }
    }
    if filter.contains_key(IP) && filter.len() > 1 {
        let why = "Invalid entity filter component combination. IP filter component should not be \
                   used with user or clientId filter component.";
        return invalid(why.to_owned());
    }
    Ok(filter)
}

fn matches(entity: &Entity, filter: &Filter<'_>, strict: bool) -> bool {
    let as_wanted = |(kind, wanted): (&&str, &Option<Option<&str>>)| match entity.get(*kind) {
        None => false,
        Some(name) => wanted.is_none_or(|wanted| wanted == name.as_deref()),
    };
    (!strict || entity.len() == filter.len()) && filter.iter().all(as_wanted)
}

fn entry(entity: &Entity, limits: &Limits) -> EntryData {
    let parts = entity.iter().map(|(kind, name)| {
        EntityData::default()
            .with_entity_type(StrBytes::from_string(kind.clone()))
            .with_entity_name(name.clone().map(StrBytes::from_string))
    });
    let values = limits.iter().map(|(key, value)| {
        ValueData::default().with_key(StrBytes::from_string(key.clone())).with_value(*value)
    });
    EntryData::default().with_entity(parts.collect()).with_values(values.collect())
}
