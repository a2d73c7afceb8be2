//! CreateTopics (19), versions 2 to 7.
//!
//! - Durable before the reply. Partitions -1 means `num.partitions`; the replication factor is 1 or
//!   -1, anything else is INVALID_REPLICATION_FACTOR with a sentence.
//! - `validate_only` checks and creates nothing.
//! - Needs Create on the cluster or on the topic. Who may not see a topic's configurations
//!   (DescribeConfigs) is told none, nor partitions and factor.
//! - v5 (KIP-525): the resulting partitions, factor and configurations; v7 (KIP-516): the topic id.
//! - Manual assignments must name this node only; their number is the number of partitions.
//!
//! Left out: nothing.

use std::collections::{BTreeMap, HashSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{
    CreatableTopicConfigs, CreatableTopicResult,
};
use kafka_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::topic_changes::{self, Refusal, Wanted};

pub(crate) async fn handle(
    context: &Context,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, Close> {
    let mut seen = HashSet::new();
    let repeated: HashSet<_> = request
        .topics
        .iter()
        .filter(|topic| !seen.insert(topic.name.to_string()))
        .map(|topic| topic.name.to_string())
        .collect();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let outcome = if !context.may_create(&topic.name) {
            let why = "Authorization failed.";
            Err((ResponseError::TopicAuthorizationFailed, why.to_owned()))
        } else if repeated.contains(&**topic.name) {
            let why = "the request names this topic more than once";
            Err((ResponseError::InvalidRequest, why.to_owned()))
        } else {
            create(context, topic, request.validate_only).await
        };
        results.push(result(context, topic, outcome));
    }
    Ok(CreateTopicsResponse::default().with_topics(results))
}

struct Created {
    id: Uuid,
    partitions: usize,
    configs: BTreeMap<String, String>,
}

async fn create(
    context: &Context,
    topic: &CreatableTopic,
    validate_only: bool,
) -> Result<Created, Refusal> {
    let wanted = wanted(context, topic)?;
    let configs = wanted.configs.clone();
    if validate_only {
        let record = topic_changes::check(&context.core, &wanted)?;
        let partitions = usize::try_from(record.partitions).unwrap_or(0);
        return Ok(Created { id: Uuid::nil(), partitions, configs });
    }
    let made = topic_changes::create(&context.core, &wanted).await?;
    Ok(Created { id: made.id, partitions: made.partitions.len(), configs })
}

fn wanted(context: &Context, topic: &CreatableTopic) -> Result<Wanted, Refusal> {
    let partitions = if topic.assignments.is_empty() {
        if !matches!(topic.replication_factor, -1 | 1) {
            let why = format!(
                "replication factor {} needs as many brokers; this one stands alone, use 1",
                topic.replication_factor
            );
            return Err((ResponseError::InvalidReplicationFactor, why));
        }
        (topic.num_partitions != -1).then_some(topic.num_partitions)
    } else {
        let node = context.node();
        if topic.assignments.iter().any(|a| a.broker_ids != [node]) {
            let why = format!("replicas can only be assigned to this broker, {}", node.0);
            return Err((ResponseError::InvalidReplicaAssignment, why));
        }
        Some(i32::try_from(topic.assignments.len()).unwrap_or(i32::MAX))
    };
    let mut configs = BTreeMap::new();
    for config in &topic.configs {
        let Some(value) = &config.value else {
            let why = format!("the configuration {} has no value", config.name);
            return Err((ResponseError::InvalidConfig, why));
        };
        configs.insert(config.name.to_string(), value.to_string());
    }
    Ok(Wanted { name: topic.name.to_string(), partitions, configs })
}

fn result(
    context: &Context,
    topic: &CreatableTopic,
    outcome: Result<Created, Refusal>,
) -> CreatableTopicResult {
    let mut result = CreatableTopicResult::default().with_name(topic.name.clone());
    let version = context.version;
    match outcome {
        Ok(created) => {
            let seen = context.may_see(Operation::DescribeConfigs, Resource::Topic(&topic.name));
            if version >= 5 && !seen {
                let error = ResponseError::TopicAuthorizationFailed;
                result.topic_config_error_code = error.code();
                result.num_partitions = -1;
                result.replication_factor = -1;
            } else if version >= 5 {
                result.num_partitions = i32::try_from(created.partitions).unwrap_or(i32::MAX);
                result.replication_factor = 1;
                result.configs = Some(configs(context, &created.configs));
            }
            if version >= 7 {
                result.topic_id = created.id;
            }
        }
        Err((error, why)) => {
            result.error_code = error.code();
            result.error_message = Some(StrBytes::from_string(why));
            if version >= 5 {
                result.num_partitions = -1;
                result.replication_factor = -1;
            }
        }
    }
    result
}

fn configs(context: &Context, own: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let described = context.core.config().describe_topic(own).into_iter();
    described
        .map(|config| {
            CreatableTopicConfigs::default()
                .with_name(StrBytes::from_string(config.name.into_owned()))
                .with_value(config.value.map(StrBytes::from_string))
                .with_read_only(config.read_only)
                .with_config_source(config.source as i8)
                .with_is_sensitive(config.sensitive)
        })
        .collect()
}
