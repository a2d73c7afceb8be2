//! CreatePartitions (37), versions 0 to 3.
//!
//! - `count` is the new number in all, larger than now. Durable before the reply.
//! - Each topic needs Alter, else TOPIC_AUTHORIZATION_FAILED.
//! - Beyond `controller_mutation_rate` a topic is THROTTLING_QUOTA_EXCEEDED from v3 on (KIP-599).
//! - `validate_only` checks and adds nothing. Assignments must name this node only.
//!
//! Left out: nothing.

use std::collections::HashMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::state::OFFSETS_TOPIC;
use crate::topic_changes::{self, Refusal};

pub(crate) async fn handle(
    context: &Context,
    request: CreatePartitionsRequest,
) -> Result<CreatePartitionsResponse, Close> {
    let mut times: HashMap<String, u32> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name.to_string()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(times.len());
    for topic in request.topics {
        let outcome = match times.remove(&**topic.name) {
            Some(1) => grow(context, &topic, request.validate_only).await,
            Some(_) => {
                let why = "the request names this topic more than once";
                Err((ResponseError::InvalidRequest, why.to_owned()))
            }
            // It was answered before.
            None => continue,
        };
        let mut result = CreatePartitionsTopicResult::default().with_name(topic.name);
        if let Err((error, why)) = outcome {
            result.error_code = error.code();
            result.error_message = Some(StrBytes::from_string(why));
        }
        results.push(result);
    }
    Ok(CreatePartitionsResponse::default().with_results(results))
}

async fn grow(
    context: &Context,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Refusal> {
    if !context.allowed(Operation::Alter, Resource::Topic(&topic.name)) {
        return Err((ResponseError::TopicAuthorizationFailed, String::new()));
    }
    if **topic.name == *OFFSETS_TOPIC {
        let why = "a group's partition of __consumer_offsets depends on their number";
        return Err((ResponseError::InvalidPartitions, why.to_owned()));
    }
    if let Some(assignments) = &topic.assignments {
        let now = topic_changes::existing(&context.core, &topic.name)?.partitions.len();
        let count = usize::try_from(topic.count).unwrap_or(0);
        // No increase at all is told below.
        if count > now && assignments.len() != count - now {
            let why = format!(
                "Attempted to add {} additional partition(s), but only {} assignment(s) were \
                 specified.",
                count - now,
                assignments.len()
            );
            return Err((ResponseError::InvalidReplicaAssignment, why));
        }
        let node = context.node();
        assignments.iter().try_for_each(|a| topic_changes::check_replicas(node, &a.broker_ids))?;
    }
    let now = context.core.topics.by_name(&topic.name).map_or(0, |topic| topic.partitions.len());
    let more = usize::try_from(topic.count).unwrap_or(0).saturating_sub(now);
    if now > 0 && more > 0 {
        context.mutate(more, context.version >= 3)?;
    }
    topic_changes::grow(&context.core, &topic.name, topic.count, validate_only).await
}
