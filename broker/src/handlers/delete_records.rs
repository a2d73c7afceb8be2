//! DeleteRecords (21), versions 0 to 2.
//!
//! - Moves a partition's log start up to an offset, -1 being the high watermark; the reply has the
//!   new log start. Durable before the reply; files go by whole segments.
//! - Beyond the high watermark, or below 0, is OFFSET_OUT_OF_RANGE; an offset that is gone already
//!   changes nothing. A topic that is only compacted is POLICY_VIOLATION, an internal one
//!   INVALID_TOPIC_EXCEPTION.
//! - Needs Delete on the topic.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_request::DeleteRecordsPartition;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::retention;

const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn handle(
    context: &Context,
    request: DeleteRecordsRequest,
) -> Result<DeleteRecordsResponse, Close> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let allowed = context.allowed(Operation::Delete, Resource::Topic(&topic.name));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let deleted = match allowed {
                true => delete(context, &topic.name, asked).await,
                false => Err(ResponseError::TopicAuthorizationFailed),
            };
            let result =
                DeleteRecordsPartitionResult::default().with_partition_index(asked.partition_index);
            partitions.push(match deleted {
                Ok(start) => result.with_low_watermark(start),
                Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
            });
        }
        let answered = DeleteRecordsTopicResult::default().with_name(topic.name);
        topics.push(answered.with_partitions(partitions));
    }
    Ok(DeleteRecordsResponse::default().with_topics(topics))
}

async fn delete(
    context: &Context,
    topic: &str,
    asked: &DeleteRecordsPartition,
) -> Result<i64, ResponseError> {
    let unknown = ResponseError::UnknownTopicOrPartition;
    let topic = context.core.topics.by_name(topic).ok_or(unknown)?;
    let partition = topic.partition(asked.partition_index).ok_or(unknown)?;
    if topic.internal {
        return Err(ResponseError::InvalidTopicException);
    }
    if !topic.settings.cleanup.delete {
        return Err(ResponseError::PolicyViolation);
    }
    let end = partition.high_watermark();
    let start = match asked.offset {
        HIGH_WATERMARK => end,
        offset if (0..=end).contains(&offset) => offset,
        _ => return Err(ResponseError::OffsetOutOfRange),
    };
    retention::move_start(&context.core, partition, start).await?;
    Ok(partition.ends().log_start_offset)
}
