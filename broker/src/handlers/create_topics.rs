//! CreateTopics (19), versions 2 to 7.
//!
//! - Durable before the reply. Partitions -1 means `num.partitions`; the replication factor is 1 or
//!   -1, anything else is INVALID_REPLICATION_FACTOR with a sentence.
//! - `validate_only` checks and creates nothing.
//! - Needs Create on the cluster or on the topic. Who may not see a topic's configurations
//!   (DescribeConfigs) is told none, nor partitions and factor.
//! - Beyond `controller_mutation_rate` a topic is THROTTLING_QUOTA_EXCEEDED from v6 on (KIP-599).
//! - v5 (KIP-525): the resulting partitions, factor and configurations; v7 (KIP-516): the topic id.
//! - Manual assignments must name this node only; their number is the number of partitions.
//!
//! Left out: nothing.

use std::collections::{BTreeMap, HashMap, HashSet};

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
use crate::topic_changes::{self, Refusal, Wanted, refuse};

pub(crate) async fn handle(
    context: &Context,
    request: CreateTopicsRequest,
) -> Result<CreateTopicsResponse, Close> {
    let mut times: HashMap<&str, u32> = HashMap::new();
    for topic in &request.topics {
        *times.entry(&topic.name).or_default() += 1;
    }
    let mut told = HashSet::new();
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics.iter().filter(|topic| told.insert(&topic.name)) {
        let outcome = if !context.may_create(&topic.name) {
            let why = "Authorization failed.";
            Err((ResponseError::TopicAuthorizationFailed, why.to_owned()))
        } else if times.get(&**topic.name) != Some(&1) {
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
        return Ok(Created { id: record.id, partitions, configs });
    }
    let checked = topic_changes::check(&context.core, &wanted)?;
    context.mutate(usize::try_from(checked.partitions).unwrap_or(0), context.version >= 6)?;
    let made = topic_changes::create(&context.core, &wanted).await?;
    Ok(Created { id: made.id, partitions: made.partitions.len(), configs })
}

fn wanted(context: &Context, topic: &CreatableTopic) -> Result<Wanted, Refusal> {
    let partitions = match topic.assignments.as_slice() {
        [] => {
            check_factor(topic.replication_factor)?;
            (topic.num_partitions != -1).then_some(topic.num_partitions)
        }
        assignments => {
            check_assignments(context, topic)?;
            Some(i32::try_from(assignments.len()).unwrap_or(i32::MAX))
        }
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

/// The sentences here are Kafka's.
fn check_factor(factor: i16) -> Result<(), Refusal> {
    let why = match factor {
        -1 | 1 => return Ok(()),
        2.. => format!(
            "Unable to replicate the partition {factor} time(s): The target replication factor of \
             {factor} cannot be reached because only 1 broker(s) are registered."
        ),
        _ => "Replication factor must be larger than 0, or -1 to use the default value.".to_owned(),
    };
    refuse(ResponseError::InvalidReplicationFactor, why)
}

fn check_assignments(context: &Context, topic: &CreatableTopic) -> Result<(), Refusal> {
    let specified = "A manual partition assignment was specified, but";
    if topic.replication_factor != -1 {
        let why = format!("{specified} replication factor was not set to -1.");
        return refuse(ResponseError::InvalidRequest, why);
    }
    if topic.num_partitions != -1 {
        let why = format!("{specified} numPartitions was not set to -1.");
        return refuse(ResponseError::InvalidRequest, why);
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    if indexes.windows(2).any(|pair| pair[0] == pair[1]) {
        let why = "Found multiple manual partition assignments for one partition";
        return refuse(ResponseError::InvalidReplicaAssignment, why);
    }
    if !indexes.iter().zip(0..).all(|(index, place)| *index == place) {
        let why = "partitions should be a consecutive 0-based integer sequence";
        return refuse(ResponseError::InvalidReplicaAssignment, why);
    }
    let node = context.node();
    topic.assignments.iter().try_for_each(|a| topic_changes::check_replicas(node, &a.broker_ids))
}

fn result(
    context: &Context,
    topic: &CreatableTopic,
    outcome: Result<Created, Refusal>,
) -> CreatableTopicResult {
    let mut result =
        CreatableTopicResult::default().with_name(topic.name.clone()).with_error_message(None);
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
