//! DescribeLogDirs (35), versions 1 to 4 (KIP-113).
//!
//! - The one folder, and the bytes of each partition asked for; no topics means all of them.
//!   Nothing lags and nothing moves. A name that comes twice is answered once.
//! - v3 (KIP-784): an error for the whole; v4 (KIP-827): bytes of the disk, in all and free.
//! - Needs Describe on the cluster.
//!
//! Left out: the disk's bytes on other systems than Unix (-1).

use std::collections::HashSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::dispatch::Close;
use crate::handlers::{Context, merged};
use crate::topics::Topic;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeLogDirsRequest,
) -> Result<DescribeLogDirsResponse, Close> {
    let response = DescribeLogDirsResponse::default();
    if let Err(error) = context.allowed_on_cluster(Operation::Describe) {
        let code = if context.version >= 3 { error.code() } else { 0 };
        return Ok(response.with_error_code(code));
    }
    let topics: Vec<DescribeLogDirsTopic> = match request.topics {
        None => context.core.topics.all().iter().map(|topic| sizes(topic, |_| true)).collect(),
        Some(asked) => named(context, asked),
    };
    let failed = context.core.log.failed().map(|_| ResponseError::KafkaStorageError.code());
    let mut result = DescribeLogDirsResult::default()
        .with_error_code(failed.unwrap_or(0))
        .with_log_dir(StrBytes::from_string(folder(context)))
        .with_topics(topics);
    if context.version >= 4 {
        (result.total_bytes, result.usable_bytes) = disk(context);
    }
    Ok(response.with_results(vec![result]))
}

/// The folder of all data as an absolute path.
pub(super) fn folder(context: &Context) -> String {
    let dir = &context.core.config().log_dir;
    std::path::absolute(dir).unwrap_or_else(|_| dir.clone()).display().to_string()
}

/// Only partitions that exist; a topic without any is left out.
fn named(context: &Context, asked: Vec<DescribableLogDirTopic>) -> Vec<DescribeLogDirsTopic> {
    let join = |first: &mut DescribableLogDirTopic, more: DescribableLogDirTopic| {
        first.partitions.extend(more.partitions);
    };
    let asked = merged(asked, |asked| asked.topic.clone(), join);
    let topics = asked.into_iter().filter_map(|asked| {
        let topic = context.core.topics.by_name(&asked.topic)?;
        let partitions: HashSet<i32> = asked.partitions.into_iter().collect();
        Some(sizes(&topic, |index| partitions.contains(&index)))
    });
    topics.filter(|topic| !topic.partitions.is_empty()).collect()
}

fn sizes(topic: &Topic, wanted: impl Fn(i32) -> bool) -> DescribeLogDirsTopic {
    let partitions = topic.partitions.iter().filter(|partition| wanted(partition.index()));
    let partitions = partitions.map(|partition| {
        DescribeLogDirsPartition::default()
            .with_partition_index(partition.index())
            .with_partition_size(i64::try_from(partition.ends().bytes).unwrap_or(i64::MAX))
    });
    let partitions = partitions.collect();
    DescribeLogDirsTopic::default()
        .with_name(TopicName(StrBytes::from_string(topic.name.to_string())))
        .with_partitions(partitions)
}

/// Bytes of the disk, in all and free; -1 where they are not known.
#[cfg(unix)]
fn disk(context: &Context) -> (i64, i64) {
    let Ok(space) = rustix::fs::statvfs(&context.core.config().log_dir) else { return (-1, -1) };
    let bytes =
        |blocks: u64| i64::try_from(blocks.saturating_mul(space.f_frsize)).unwrap_or(i64::MAX);
    (bytes(space.f_blocks), bytes(space.f_bavail))
}

#[cfg(not(unix))]
fn disk(_context: &Context) -> (i64, i64) {
    (-1, -1)
}
