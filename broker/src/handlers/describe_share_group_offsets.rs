//! DescribeShareGroupOffsets (90), version 0.
//!
//! - Where share groups begin in each partition, as it is on the disk: everything below is done. -1
//!   where a group has not begun, was never given the partition, or does not exist; none of them is
//!   an error.
//! - Null instead of topics asks for everything that the group was given.
//! - Needs DESCRIBE of the group; topics that the caller may not describe are
//!   TOPIC_AUTHORIZATION_FAILED if they were named, and left out else.
//! - A name that comes twice is answered once, with the topics and partitions of both.
//!
//! Left out: version 1 (KIP-1226, the lag), which the message crate does not have.

use std::collections::{BTreeMap, HashMap};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_share_group_offsets_request as request;
use kafka_protocol::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use kafka_protocol::messages::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use odradek_log::PartitionId;
use uuid::Uuid;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::{Context, distinct, merged};
use crate::topics::Topic;

const NOT_BEGUN: i64 = -1;

/// Start offsets of the partitions that a group was given.
type Starts = HashMap<PartitionId, i64>;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeShareGroupOffsetsRequest,
) -> Result<DescribeShareGroupOffsetsResponse, Close> {
    let groups = merged(request.groups, |group| group.group_id.clone(), join_topics);
    let groups = groups.into_iter().map(|group| describe(context, group));
    Ok(DescribeShareGroupOffsetsResponse::default().with_groups(groups.collect()))
}

/// Who asks for everything and for some topics too is told everything.
fn join_topics(
    first: &mut request::DescribeShareGroupOffsetsRequestGroup,
    more: request::DescribeShareGroupOffsetsRequestGroup,
) {
    first.topics = first.topics.take().zip(more.topics).map(|(mut topics, more)| {
        topics.extend(more);
        topics
    });
}

fn join_partitions(
    first: &mut request::DescribeShareGroupOffsetsRequestTopic,
    more: request::DescribeShareGroupOffsetsRequestTopic,
) {
    first.partitions.extend(more.partitions);
}

fn describe(
    context: &Context,
    wanted: request::DescribeShareGroupOffsetsRequestGroup,
) -> DescribeShareGroupOffsetsResponseGroup {
    let group = DescribeShareGroupOffsetsResponseGroup::default()
        .with_group_id(wanted.group_id.clone())
        .with_error_message(None);
    if !context.allowed(Operation::Describe, Resource::Group(&wanted.group_id)) {
        return group.with_error_code(ResponseError::GroupAuthorizationFailed.code());
    }
    let seen = context.core.share.offsets_of(&wanted.group_id).into_iter();
    let starts =
        seen.map(|seen| (seen.id, seen.summary.map_or(NOT_BEGUN, |summary| summary.start_offset)));
    let starts: Starts = starts.collect();
    let topics = match wanted.topics {
        Some(topics) => {
            let topics = merged(topics, |topic| topic.topic_name.clone(), join_partitions);
            topics.into_iter().map(|topic| named(context, topic, &starts)).collect()
        }
        None => all(context, &starts),
    };
    group.with_topics(topics)
}

fn named(
    context: &Context,
    wanted: request::DescribeShareGroupOffsetsRequestTopic,
    starts: &Starts,
) -> DescribeShareGroupOffsetsResponseTopic {
    let name = wanted.topic_name;
    let denied = !context.allowed(Operation::Describe, Resource::Topic(&name));
    let topic = context.core.topics.by_name(&name).filter(|_| !denied);
    let partitions = distinct(wanted.partitions).into_iter().map(|partition| {
        if denied {
            let error = ResponseError::TopicAuthorizationFailed;
            return to_wire(partition, NOT_BEGUN, 0)
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(error.to_string())));
        }
        match &topic {
            Some(topic) => of_topic(topic, partition, starts),
            None => to_wire(partition, NOT_BEGUN, 0),
        }
    });
    DescribeShareGroupOffsetsResponseTopic::default()
        .with_topic_name(name)
        .with_topic_id(topic.as_ref().map_or(Uuid::nil(), |topic| topic.id))
        .with_partitions(partitions.collect())
}

fn all(context: &Context, starts: &Starts) -> Vec<DescribeShareGroupOffsetsResponseTopic> {
    let mut partitions: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for id in starts.keys() {
        partitions.entry(id.topic_id).or_default().push(id.partition);
    }
    let topics = partitions.into_iter().filter_map(|(topic_id, mut partitions)| {
        let topic = context.core.topics.by_id(topic_id)?;
        if !context.allowed(Operation::Describe, Resource::Topic(&topic.name)) {
            return None;
        }
        partitions.sort_unstable();
        let partitions = partitions.into_iter().map(|p| of_topic(&topic, p, starts));
        Some(
            DescribeShareGroupOffsetsResponseTopic::default()
                .with_topic_name(TopicName(StrBytes::from_string(topic.name.to_string())))
                .with_topic_id(topic_id)
                .with_partitions(partitions.collect()),
        )
    });
    topics.collect()
}

fn of_topic(
    topic: &Topic,
    partition: i32,
    starts: &Starts,
) -> DescribeShareGroupOffsetsResponsePartition {
    let id = PartitionId { topic_id: topic.id, partition };
    let start = starts.get(&id).copied().unwrap_or(NOT_BEGUN);
    let epoch = topic.partition(partition).map_or(0, |partition| partition.leader_epoch());
    to_wire(partition, start, epoch)
}

fn to_wire(
    partition: i32,
    start_offset: i64,
    leader_epoch: i32,
) -> DescribeShareGroupOffsetsResponsePartition {
    DescribeShareGroupOffsetsResponsePartition::default()
        .with_partition_index(partition)
        .with_start_offset(start_offset)
        .with_leader_epoch(leader_epoch)
        .with_error_message(None)
}
