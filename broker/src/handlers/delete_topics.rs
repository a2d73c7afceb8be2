//! DeleteTopics (20), versions 1 to 6.
//!
//! - Durable before the reply; files go after the state record says that the topic is gone.
//! - v5 (KIP-599): an error message; v6 (KIP-516): by id.
//! - Needs Delete on the topic or on the cluster. A topic that may not even be described is denied
//!   whether it exists or not, and its name is not told.
//! - Beyond `controller_mutation_rate` a topic is THROTTLING_QUOTA_EXCEEDED from v5 on (KIP-599).
//! - `delete.topic.enable=false` is TOPIC_DELETION_DISABLED.
//!
//! Left out: nothing.

use std::collections::HashMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::topic_changes;

pub(crate) async fn handle(
    context: &Context,
    request: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, Close> {
    let named = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let stated = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
    let wanted: Vec<(Option<TopicName>, Uuid)> = named.chain(stated).collect();
    let mut times: HashMap<Target, u32> = HashMap::new();
    for (name, id) in &wanted {
        *times.entry(target(context, name, *id)).or_default() += 1;
    }
    let mut responses = Vec::new();
    for (name, id) in wanted {
        let response = match times.remove(&target(context, &name, id)) {
            _ if name.is_none() && id.is_nil() => {
                invalid(context, name, id, "Neither topic name nor id were specified.")
            }
            _ if name.is_some() && !id.is_nil() => {
                invalid(context, name, id, "You may not specify both topic name and topic id.")
            }
            Some(1) => delete(context, name, id).await,
            Some(_) if name.is_some() => invalid(context, name, id, "Duplicate topic name."),
            Some(_) => invalid(context, name, id, "Duplicate topic id."),
            // It was answered before.
            None => continue,
        };
        responses.push(response);
    }
    Ok(DeleteTopicsResponse::default().with_responses(responses))
}

/// What a request means, by whichever of the two it is named: a topic there is by its id.
type Target = (Option<TopicName>, Uuid);

fn target(context: &Context, name: &Option<TopicName>, id: Uuid) -> Target {
    match name.as_ref().and_then(|name| context.core.topics.by_name(name)) {
        Some(topic) => (None, topic.id),
        None => (name.clone(), id),
    }
}

fn invalid(
    context: &Context,
    name: Option<TopicName>,
    id: Uuid,
    why: &'static str,
) -> DeletableTopicResult {
    let mut result = DeletableTopicResult::default()
        .with_name(name)
        .with_error_code(ResponseError::InvalidRequest.code());
    if context.version >= 5 {
        result.error_message = Some(StrBytes::from_static_str(why));
    }
    if context.version >= 6 {
        result.topic_id = id;
    }
    result
}

async fn delete(context: &Context, name: Option<TopicName>, id: Uuid) -> DeletableTopicResult {
    let topics = &context.core.topics;
    let by_name = name.is_some();
    let topic = match &name {
        Some(name) => topics.by_name(name),
        None => topics.by_id(id),
    };
    let known = topic.as_ref().map(|t| TopicName(StrBytes::from_string(t.name.to_string())));
    let asked = name.as_ref().or(known.as_ref());
    let right = asked.map_or(Right::Delete, |name| Right::of(context, name));
    let mut result = DeletableTopicResult::default();
    result.name = if right == Right::None { name } else { name.or(known) };
    if context.version >= 6 {
        let shown = topic.as_ref().filter(|_| right == Right::Delete);
        result.topic_id = shown.map_or(id, |t| t.id);
    }
    let denied = match right {
        Right::None => true,
        // That a topic does not exist may be told to who may describe it.
        Right::Describe => topic.is_some(),
        Right::Delete => false,
    };
    let outcome = match &topic {
        _ if denied => {
            Err((ResponseError::TopicAuthorizationFailed, "Authorization failed.".to_owned()))
        }
        Some(topic) => match context.mutate(topic.partitions.len(), context.version >= 5) {
            Ok(()) => topic_changes::delete(&context.core, &topic.name).await,
            Err(refusal) => Err(refusal),
        },
        None if by_name => {
            Err((ResponseError::UnknownTopicOrPartition, "there is no such topic".to_owned()))
        }
        None => Err((ResponseError::UnknownTopicId, "no topic has this id".to_owned())),
    };
    if let Err((error, why)) = outcome {
        result.error_code = error.code();
        if context.version >= 5 {
            result.error_message = Some(StrBytes::from_string(why));
        }
    }
    result
}

/// How far a caller's rights go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    None,
    Describe,
    Delete,
}

impl Right {
    fn of(context: &Context, topic: &str) -> Self {
        let topic = Resource::Topic(topic);
        if context.may_see(Operation::Delete, Resource::Cluster)
            || context.allowed(Operation::Delete, topic)
        {
            Self::Delete
        } else if context.may_see(Operation::Describe, topic) {
            Self::Describe
        } else {
            Self::None
        }
    }
}
