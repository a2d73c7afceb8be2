//! OffsetFetch (9), versions 1 to 9.
//!
//! - What a group committed, durable since; -1 for a partition of which it committed nothing, and
//!   for a group that does not exist. Neither is an error.
//! - Needs Describe on the group, and on each topic: one that is named and denied is
//!   TOPIC_AUTHORIZATION_FAILED, an unnamed one is left out.
//! - v2 (KIP-88): null instead of topics asks for all; an error of the request. v5 (KIP-320):
//!   leader epochs. v6: flexible. v7 (KIP-447): with `require_stable`, a partition for which a
//!   transaction that is not over has an offset is UNSTABLE_OFFSET_COMMIT. v8 (KIP-709): many
//!   groups. v9 (KIP-848): member id and epoch, which groups of the
//!   consumer protocol check (STALE_MEMBER_EPOCH, and ILLEGAL_GENERATION for their members of the
//!   classic one; UNKNOWN_MEMBER_ID).
//!
//! Left out: v10 (topic ids), which the message crate has only in the reply.

use std::collections::{BTreeMap, HashSet};

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::group::exchange::CommittedOffset;
use crate::handlers::Context;

const NO_OFFSET: i64 = -1;
const NO_EPOCH: i32 = -1;

/// Partition and what is committed for it.
type Line = (i32, Result<Option<CommittedOffset>, ResponseError>);

pub(crate) async fn handle(
    context: &Context,
    request: OffsetFetchRequest,
) -> Result<OffsetFetchResponse, Close> {
    let response = OffsetFetchResponse::default();
    if context.version >= 8 {
        let stable = request.require_stable;
        let groups = request.groups.into_iter().map(|group| one_of_many(context, group, stable));
        return Ok(response.with_groups(groups.collect()));
    }
    let group = &request.group_id;
    let stable = context.version >= 7 && request.require_stable;
    let denied = may_describe(context, group).err();
    let found = match request.topics {
        // Before version 2 there was no place for an error of the whole request.
        Some(topics) if denied.is_some() && context.version < 2 => {
            let error = denied.unwrap_or(ResponseError::GroupAuthorizationFailed);
            let topics = topics.into_iter();
            topics.map(|topic| refused(topic.name, topic.partition_indexes, error)).collect()
        }
        _ if denied.is_some() => Vec::new(),
        None => all(context, group, stable),
        Some(topics) => {
            let topics = topics.into_iter();
            let wanted = topics.map(|topic| (topic.name, topic.partition_indexes));
            some(context, group, wanted, stable)
        }
    };
    let error_code = denied.filter(|_| context.version >= 2).map_or(0, |error| error.code());
    let topics = found.into_iter().map(|(name, lines)| {
        let partitions = lines.into_iter().map(|(partition, committed)| {
            let Shown { offset, leader_epoch, metadata, error_code } = committed.into();
            OffsetFetchResponsePartition::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(metadata))
                .with_error_code(error_code)
        });
        OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions.collect())
    });
    Ok(response.with_topics(topics.collect()).with_error_code(error_code))
}

fn one_of_many(
    context: &Context,
    group: OffsetFetchRequestGroup,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let member_id = group.member_id.as_deref();
    let epoch = group.member_epoch;
    let admitted = may_describe(context, &group.group_id)
        .and_then(|()| context.core.groups.admit_fetch(&group.group_id, member_id, epoch));
    if let Err(error) = admitted {
        let response = OffsetFetchResponseGroup::default().with_group_id(group.group_id);
        return response.with_error_code(error.code());
    }
    let found = match group.topics {
        None => all(context, &group.group_id, stable),
        Some(topics) => {
            let topics = topics.into_iter();
            let wanted = topics.map(|topic| (topic.name, topic.partition_indexes));
            some(context, &group.group_id, wanted, stable)
        }
    };
    let topics = found.into_iter().map(|(name, lines)| {
        let partitions = lines.into_iter().map(|(partition, committed)| {
            let Shown { offset, leader_epoch, metadata, error_code } = committed.into();
            OffsetFetchResponsePartitions::default()
                .with_partition_index(partition)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(leader_epoch)
                .with_metadata(Some(metadata))
                .with_error_code(error_code)
        });
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions.collect())
    });
    OffsetFetchResponseGroup::default().with_group_id(group.group_id).with_topics(topics.collect())
}

fn all(context: &Context, group: &str, stable: bool) -> Vec<(TopicName, Vec<Line>)> {
    let pending = Pending::of(context, group, stable);
    let mut topics: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for line in context.core.groups.offsets_of(group) {
        let checked = pending.check(&line.topic, line.partition).map(|()| Some(line.committed));
        topics.entry(line.topic).or_default().push((line.partition, checked));
    }
    let seen = |name: &String| context.may_see(Operation::Describe, Resource::Topic(name));
    let named = topics.into_iter().filter(|(name, _)| seen(name));
    named.map(|(name, lines)| (TopicName(StrBytes::from_string(name)), lines)).collect()
}

fn some(
    context: &Context,
    group: &str,
    wanted: impl Iterator<Item = (TopicName, Vec<i32>)>,
    stable: bool,
) -> Vec<(TopicName, Vec<Line>)> {
    let pending = Pending::of(context, group, stable);
    let groups = &context.core.groups;
    let found = wanted.map(|(name, partitions)| {
        if !context.allowed(Operation::Describe, Resource::Topic(&name)) {
            return refused(name, partitions, ResponseError::TopicAuthorizationFailed);
        }
        let lines = partitions.into_iter().map(|partition| {
            let checked = pending.check(&name, partition);
            (partition, checked.map(|()| groups.committed(group, &name, partition)))
        });
        let lines: Vec<Line> = lines.collect();
        (name, lines)
    });
    found.collect()
}

fn refused(name: TopicName, partitions: Vec<i32>, error: ResponseError) -> (TopicName, Vec<Line>) {
    (name, partitions.into_iter().map(|partition| (partition, Err(error))).collect())
}

fn may_describe(context: &Context, group: &str) -> Result<(), ResponseError> {
    match context.allowed(Operation::Describe, Resource::Group(group)) {
        true => Ok(()),
        false => Err(ResponseError::GroupAuthorizationFailed),
    }
}

/// The partitions for which a transaction has an offset that is not the group's yet. Looked at
/// before the committed offsets: a commit shows its offsets first and is over then.
struct Pending<'a> {
    context: &'a Context,
    places: HashSet<(Uuid, i32)>,
}

impl<'a> Pending<'a> {
    /// Nothing is pending for who does not ask.
    fn of(context: &'a Context, group: &str, stable: bool) -> Self {
        let places = match stable {
            true => context.core.transactions.pending_places(group),
            false => HashSet::new(),
        };
        Self { context, places }
    }

    fn check(&self, topic: &str, partition: i32) -> Result<(), ResponseError> {
        if self.places.is_empty() {
            return Ok(());
        }
        let topic = self.context.core.topics.by_name(topic);
        match topic.is_some_and(|topic| self.places.contains(&(topic.id, partition))) {
            true => Err(ResponseError::UnstableOffsetCommit),
            false => Ok(()),
        }
    }
}

/// A committed offset, its absence, or why it is not told, as the wire has it.
struct Shown {
    offset: i64,
    leader_epoch: i32,
    metadata: StrBytes,
    error_code: i16,
}

impl From<Result<Option<CommittedOffset>, ResponseError>> for Shown {
    fn from(committed: Result<Option<CommittedOffset>, ResponseError>) -> Self {
        let error_code = committed.as_ref().err().map_or(0, ResponseError::code);
        match committed.ok().flatten() {
            Some(committed) => Self {
                offset: committed.offset,
                leader_epoch: committed.leader_epoch.unwrap_or(NO_EPOCH),
                metadata: StrBytes::from_string(committed.metadata),
                error_code,
            },
            None => Self {
                offset: NO_OFFSET,
                leader_epoch: NO_EPOCH,
                metadata: StrBytes::from_static_str(""),
                error_code,
            },
        }
    }
}
