//! OffsetCommit (8), versions 2 to 9.
//!
//! - Durable before the reply, and visible only then. One request is one atomic unit.
//! - Members commit under their id and generation; for a group without members, anybody commits
//!   without either. A commit counts as a heartbeat.
//! - A partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION, the others are committed.
//! - Needs Read on the group and on each topic.
//! - v2 to v4: a retention of the client's own, after which the offset expires. v5 (KIP-211) has
//!   none: the broker's retention counts. v6 (KIP-320): leader epochs. v7 (KIP-345): static
//!   members. v8: flexible. v9 (KIP-848): an unknown group is GROUP_ID_NOT_FOUND, before
//!   ILLEGAL_GENERATION. Members of the consumer protocol commit from v9 on, with their epoch
//!   (STALE_MEMBER_EPOCH) or an older one in which all the partitions were theirs already
//!   (KIP-1251); before, they hear UNSUPPORTED_VERSION.
//!
//! Left out: v10 (topic ids), which the message crate has only in the reply.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::{Caller, Commit, NewOffset};
use crate::handlers::Context;

const NO_RETENTION: i64 = -1;

pub(crate) async fn handle(
    context: &Context,
    request: OffsetCommitRequest,
) -> Result<OffsetCommitResponse, Close> {
    let group_error = match context.allowed(Operation::Read, Resource::Group(&request.group_id)) {
        true => None,
        false => Some(ResponseError::GroupAuthorizationFailed),
    };
    let mut commit = Commit {
        caller: Caller {
            member_id: request.member_id.to_string(),
            instance_id: request.group_instance_id.map(|id| id.to_string()),
            generation: request.generation_id_or_member_epoch,
        },
        names_unknown_group: context.version >= 9,
        retention_time_ms: match request.retention_time_ms {
            NO_RETENTION => None,
            retention_time_ms => Some(retention_time_ms),
        },
        offsets: Vec::new(),
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    // Where the results of the commit belong: topic and partition of the reply.
    let mut committed = Vec::new();
    for topic in request.topics {
        let refusal = group_error.or_else(|| {
            let allowed = context.allowed(Operation::Read, Resource::Topic(&topic.name));
            (!allowed).then_some(ResponseError::TopicAuthorizationFailed)
        });
        let known = context.core.topics.by_name(&topic.name);
        let mut answers = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let answer = OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index);
            let exists = known
                .as_ref()
                .is_some_and(|known| known.partition(partition.partition_index).is_some());
            if exists && refusal.is_none() {
                committed.push((topics.len(), answers.len()));
                commit.offsets.push(new_offset(&topic.name, partition));
                answers.push(answer);
            } else {
                let error = refusal.unwrap_or(ResponseError::UnknownTopicOrPartition);
                answers.push(answer.with_error_code(error.code()));
            }
        }
        topics.push(
            OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(answers),
        );
    }
    let results = match commit.offsets.len() {
        0 => Ok(Vec::new()),
        _ => context.core.groups.commit(&request.group_id, commit).await,
    };
    for (at, (topic, partition)) in committed.into_iter().enumerate() {
        let result = match &results {
            Ok(results) => results.get(at).copied().unwrap_or(Ok(())),
            Err(error) => Err(*error),
        };
        let error_code = result.err().map_or(0, |error| error.code());
        topics[topic].partitions[partition].error_code = error_code;
    }
    Ok(OffsetCommitResponse::default().with_topics(topics))
}

fn new_offset(topic: &str, partition: OffsetCommitRequestPartition) -> NewOffset {
    let epoch = partition.committed_leader_epoch;
    NewOffset {
        topic: topic.to_owned(),
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: (epoch >= 0).then_some(epoch),
        metadata: partition.committed_metadata.map(|text| text.to_string()).unwrap_or_default(),
    }
}
