//! ListOffsets (2), versions 1 to 10.
//!
//! - By time: the first record at or after it, exactly (not the first batch).
//! - Earliest (-2), latest (-1: the high watermark; from v2 (KIP-98) with `read_committed` the last
//!   stable offset, above which a look-up by time finds nothing either), and from v7 (KIP-734) max
//!   timestamp (-3); v8 (KIP-405) earliest local (-4), the same as earliest because nothing is
//!   tiered; v9 (KIP-1005) latest tiered (-5): none; v10: a timeout, not needed as every answer is
//!   local.
//! - Each topic needs Describe, else its partitions are TOPIC_AUTHORIZATION_FAILED.
//! - v4 (KIP-320): leader epochs are checked.
//!
//! Left out: nothing.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use crate::acl::{Operation, Resource};
use crate::client::OffsetAt;
use crate::dispatch::Close;
use crate::handlers::{Context, check_leader_epoch, merged};
use crate::partition::Partition;
use crate::reads::{self, READ_COMMITTED};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

pub(crate) async fn handle(
    context: &Context,
    request: ListOffsetsRequest,
) -> Result<ListOffsetsResponse, Close> {
    let committed = context.version >= 2 && request.isolation_level == READ_COMMITTED;
    let mut topics = Vec::with_capacity(request.topics.len());
    for wanted in request.topics {
        let allowed = context.allowed(Operation::Describe, Resource::Topic(&wanted.name));
        let topic = context.core.topics.by_name(&wanted.name);
        // What is asked more than once is answered once, as an error.
        let asked = wanted.partitions.into_iter().map(|asked| (asked, false)).collect();
        let asked = merged(asked, |(asked, _)| asked.partition_index, |first, _| first.1 = true);
        let mut partitions = Vec::with_capacity(asked.len());
        for (asked, repeated) in asked {
            let partition = topic.as_ref().and_then(|t| t.partition(asked.partition_index));
            let found = match partition {
                _ if !allowed => Err(ResponseError::TopicAuthorizationFailed),
                _ if repeated => Err(ResponseError::InvalidRequest),
                Some(partition) => find(context, partition, &asked, committed).await,
                None => Err(ResponseError::UnknownTopicOrPartition),
            };
            partitions.push(answer(context, &asked, found));
        }
        let answered = ListOffsetsTopicResponse::default();
        topics.push(answered.with_name(wanted.name).with_partitions(partitions));
    }
    Ok(ListOffsetsResponse::default().with_topics(topics))
}

/// Offset, timestamp and leader epoch; -1 where there is none.
type Found = (i64, i64, i32);

async fn find(
    context: &Context,
    partition: &Arc<Partition>,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<Found, ResponseError> {
    if context.version >= 4 {
        check_leader_epoch(partition, asked.current_leader_epoch)?;
    }
    let ends = partition.ends();
    let epoch = partition.leader_epoch();
    let end = if committed { ends.last_stable_offset } else { ends.log_end_offset };
    let at = match asked.timestamp {
        LATEST => return Ok((end, -1, epoch)),
        EARLIEST => return Ok((ends.log_start_offset, -1, epoch)),
        EARLIEST_LOCAL if context.version >= 8 => return Ok((ends.log_start_offset, -1, epoch)),
        LATEST_TIERED if context.version >= 9 => return Ok((-1, -1, -1)),
        MAX_TIMESTAMP if context.version >= 7 => OffsetAt::MaxTimestamp,
        time if time >= 0 => OffsetAt::Time(time),
        // A special one that this version does not know, as Kafka says it.
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    let hit = reads::time_hit(&context.broker, &context.core, partition, at).await?;
    let hit = hit.filter(|hit| hit.offset < end);
    Ok(hit.map_or((-1, -1, -1), |hit| (hit.offset, hit.timestamp_ms, epoch)))
}

fn answer(
    context: &Context,
    asked: &ListOffsetsPartition,
    found: Result<Found, ResponseError>,
) -> ListOffsetsPartitionResponse {
    let response =
        ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
    match found {
        Ok((offset, timestamp, epoch)) => {
            let response = response.with_offset(offset).with_timestamp(timestamp);
            if context.version >= 4 { response.with_leader_epoch(epoch) } else { response }
        }
        Err(error) => response.with_error_code(error.code()).with_offset(-1).with_timestamp(-1),
    }
}
