//! DeleteTopics (20), versions 1 to 6.
//!
//! - Durable before the reply; files go after the state record says that the topic is gone.
//! - v5 (KIP-599): an error message; v6 (KIP-516): by id.
//! - `delete.topic.enable=false` is TOPIC_DELETION_DISABLED.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::dispatch::Close;
use crate::handlers::Context;
use crate::topic_changes;

pub(crate) async fn handle(
    context: &Context,
    request: DeleteTopicsRequest,
) -> Result<DeleteTopicsResponse, Close> {
    let named = request.topic_names.into_iter().map(|name| (Some(name), Uuid::nil()));
    let stated = request.topics.into_iter().map(|topic| (topic.name, topic.topic_id));
    let mut responses = Vec::new();
    for (name, id) in named.chain(stated) {
        responses.push(delete(context, name, id).await);
    }
    Ok(DeleteTopicsResponse::default().with_responses(responses))
}

async fn delete(context: &Context, name: Option<TopicName>, id: Uuid) -> DeletableTopicResult {
    let topics = &context.core.topics;
    let by_name = name.is_some();
    let topic = match &name {
        Some(name) => topics.by_name(name),
        None => topics.by_id(id),
    };
    let shown = topic.as_ref().map(|t| TopicName(StrBytes::from_string(t.name.to_string())));
    let mut result = DeletableTopicResult::default().with_name(name.or(shown));
    if context.version >= 6 {
        result.topic_id = topic.as_ref().map_or(id, |t| t.id);
    }
    let outcome = match &topic {
        Some(topic) => topic_changes::delete(&context.core, &topic.name).await,
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
