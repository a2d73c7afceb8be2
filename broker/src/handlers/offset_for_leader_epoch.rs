//! OffsetForLeaderEpoch (23), versions 2 to 4 (KIP-320).
//!
//! - Where a leader epoch ended. There is one epoch, which goes on: it ends where the log does. Of
//!   an epoch that never was nothing is known (-1, -1).
//! - The epoch that the client believes current is checked, as in Fetch.
//! - Needs Describe on the topic, or ClusterAction.
//!
//! Left out: replicas' requests (ReplicaId is not looked at: there are no followers).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::{Context, check_leader_epoch};
use crate::topics::Topic;

/// Nothing is known.
const UNDEFINED: (i32, i64) = (-1, -1);

pub(crate) async fn handle(
    context: &Context,
    request: OffsetForLeaderEpochRequest,
) -> Result<OffsetForLeaderEpochResponse, Close> {
    let everywhere = context.may_see(Operation::ClusterAction, Resource::Cluster);
    let topics = request.topics.into_iter().map(|asked| {
        let allowed =
            everywhere || context.allowed(Operation::Describe, Resource::Topic(&asked.topic));
        let topic = context.core.topics.by_name(&asked.topic);
        let partitions = asked.partitions.iter().map(|partition| {
            let ended = match (allowed, &topic) {
                (false, _) => Err(ResponseError::TopicAuthorizationFailed),
                (true, None) => Err(ResponseError::UnknownTopicOrPartition),
                (true, Some(topic)) => end(topic, partition),
            };
            let answer = EpochEndOffset::default().with_partition(partition.partition);
            match ended {
                Ok((epoch, offset)) => answer.with_leader_epoch(epoch).with_end_offset(offset),
                Err(error) => answer.with_error_code(error.code()),
            }
        });
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(asked.topic).with_partitions(partitions)
    });
    Ok(OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

fn end(topic: &Topic, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ResponseError> {
    let unknown = ResponseError::UnknownTopicOrPartition;
    let partition = topic.partition(asked.partition).ok_or(unknown)?;
    check_leader_epoch(partition, asked.current_leader_epoch)?;
    match asked.leader_epoch == partition.leader_epoch() {
        true => Ok((asked.leader_epoch, partition.ends().log_end_offset)),
        false => Ok(UNDEFINED),
    }
}
