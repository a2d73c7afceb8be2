//! Fetch (1), versions 4 to 18.
//!
//! - Record batches as stored, whole, at least one if any is there; a fetch inside a batch gets all
//!   of it. Bounded by `max_bytes`, `partition_max_bytes` and `fetch.max.bytes`.
//! - If fewer than `min_bytes` are there, waits up to `max_wait_ms` for appends.
//! - Only durable records are seen. With `read_committed` (KIP-98) only what lies below the last
//!   stable offset, with the list of aborted transactions in it, by which the client leaves them
//!   out.
//! - `consumer_byte_rate`: the bytes of the records are charged; beyond it the reply has none.
//! - Each topic needs Read, else its partitions are TOPIC_AUTHORIZATION_FAILED.
//! - v7 (KIP-227): sessions, see `fetch_session`. v9 and v12 (KIP-320, KIP-595): leader epochs.
//!   The epoch of the reader's last record must be one that was, else OFFSET_OUT_OF_RANGE; a reader
//!   beyond the end of its epoch is told where that is (DivergingEpoch).
//!   v11 (KIP-392): rack, of no use to one node. v13 (KIP-516): topics by id. v15 (KIP-903):
//!   replica state; v16 (KIP-951): leader hints; v17 (KIP-853) and v18 (KIP-1166): followers.
//!
//! Left out: followers, of which there are none (NOT_LEADER_OR_FOLLOWER); leader hints (one node).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::acl::{Operation, Resource};
use crate::budget::Held;
use crate::dispatch::Close;
use crate::fetch_reply::{EpochEnd, FetchReply, Found, PartitionReply};
use crate::fetch_session::{Opened, Wanted};
use crate::handlers::{Context, check_leader_epoch};
use crate::limits;
use crate::partition::Partition;
use crate::quota::Kind;
use crate::reads::{self, READ_COMMITTED};

/// The reader does not say of which epoch its last record is.
const NO_EPOCH: i32 = -1;

pub(crate) async fn handle(context: &Context, request: FetchRequest) -> Result<FetchReply, Close> {
    let sessions = &context.broker.inner.fetch_sessions;
    let mut opened = match sessions.open(&request, context.version) {
        Ok(opened) => opened,
        Err(error) => return Ok(FetchReply::refused(error)),
    };
    let limit = Limit::of(context, &request);
    let refusals = if request.replica_id.0 >= 0 || request.replica_state.replica_id.0 >= 0 {
        Refusals::nothing(&opened.wanted, ResponseError::NotLeaderOrFollower)
    } else {
        Refusals::of(context, &opened.wanted)
    };
    let mut held = context.broker.inner.reply_bytes.hold(context.session.peer.ip());
    let found = wait_and_read(context, &mut opened, &limit, &refusals, &mut held).await;
    let record_bytes = found.iter().map(PartitionReply::record_bytes).sum();
    if context.charge(Kind::Fetch, record_bytes) {
        // As Kafka, the records are kept back until the client may have them.
        context.uncharge(Kind::Fetch, record_bytes);
        return Ok(sessions.throttled(opened));
    }
    let mut reply = sessions.close(opened, found);
    reply.held = Some(held);
    Ok(reply)
}

/// Why the caller may not read a wanted partition, if so: asked once a request, not once a look.
struct Refusals(Vec<Option<ResponseError>>);

impl Refusals {
    fn nothing(wanted: &[Wanted], why: ResponseError) -> Self {
        Self(vec![Some(why); wanted.len()])
    }

    fn of(context: &Context, wanted: &[Wanted]) -> Self {
        if !context.core.access.enabled() {
            return Self(vec![None; wanted.len()]);
        }
        let mut asked: HashMap<String, bool> = HashMap::new();
        let refused = wanted.iter().map(|wanted| {
            let name = if context.version >= 13 {
                // An id that nobody has is told as such.
                context.core.topics.by_id(wanted.topic_id)?.name.to_string()
            } else {
                wanted.topic.clone()
            };
            let may_read = |name: &str| context.allowed(Operation::Read, Resource::Topic(name));
            let may = *asked.entry(name).or_insert_with_key(|name| may_read(name));
            (!may).then_some(ResponseError::TopicAuthorizationFailed)
        });
        Self(refused.collect())
    }
}

struct Limit {
    bytes_max: usize,
    bytes_min: usize,
    deadline: Instant,
    /// `isolation_level` is `read_committed`.
    committed: bool,
}

impl Limit {
    fn of(context: &Context, request: &FetchRequest) -> Self {
        let at_most = |wanted: i32| usize::try_from(wanted).unwrap_or(0);
        let bytes_max =
            at_most(request.max_bytes).min(context.core.config().limits.fetch_bytes_max);
        // More could never be sent without being kept back.
        let bytes_max = bytes_max.min(context.core.quotas.fetch_bytes_max(context.charged()));
        let reply_bytes_max = context.broker.inner.reply_bytes.bytes_max();
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        Self {
            bytes_max,
            // Nor is more than a part of the replies' budget ever read at once.
            bytes_min: at_most(request.min_bytes).min(bytes_max).min(reply_bytes_max / 16),
            deadline: Instant::now() + wait,
            committed: request.isolation_level == READ_COMMITTED,
        }
    }
}

/// Reads; if that gives too little, waits for one of the partitions and reads again.
async fn wait_and_read(
    context: &Context,
    opened: &mut Opened,
    limit: &Limit,
    refusals: &Refusals,
    held: &mut Held,
) -> Vec<PartitionReply> {
    let waiter = Arc::new(Notify::new());
    loop {
        // Registered before the look, so that nothing that comes between them is missed.
        let wanted = opened.wanted.iter().zip(&refusals.0);
        let partitions: Vec<_> = wanted
            .map(|(wanted, refusal)| match refusal {
                None => find(context, wanted),
                Some(error) => Err(*error),
            })
            .collect();
        for partition in partitions.iter().flatten() {
            partition.wake_on_progress(&waiter);
        }
        let found = read_all(context, opened, &partitions, limit, held).await;
        let bytes: usize = found.iter().map(PartitionReply::record_bytes).sum();
        let complete = bytes >= limit.bytes_min
            || found.iter().any(|reply| reply.error.is_some() || reply.found.diverging.is_some())
            || opened.has_news(&found);
        if complete || Instant::now() >= limit.deadline {
            return found;
        }
        // What is not sent yet holds no memory while it waits for more.
        drop(found);
        held.count(0);
        // On time-out the loop comes back here once more and answers with what is there.
        let _ = tokio::time::timeout_at(limit.deadline, waiter.notified()).await;
    }
}

fn find(context: &Context, wanted: &Wanted) -> Result<Arc<Partition>, ResponseError> {
    let topics = &context.core.topics;
    let (topic, unknown) = if context.version >= 13 {
        (topics.by_id(wanted.topic_id), ResponseError::UnknownTopicId)
    } else {
        (topics.by_name(&wanted.topic), ResponseError::UnknownTopicOrPartition)
    };
    if topic.is_none() && context.version < 13 {
        context.near_miss(&wanted.topic, false);
    }
    let topic = topic.ok_or(unknown)?;
    let partition = topic.partition(wanted.partition);
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    check_leader_epoch(partition, wanted.current_leader_epoch)?;
    Ok(partition.clone())
}

async fn read_all(
    context: &Context,
    opened: &Opened,
    partitions: &[Result<Arc<Partition>, ResponseError>],
    limit: &Limit,
    held: &mut Held,
) -> Vec<PartitionReply> {
    let mut found_bytes = 0;
    let mut left = limit.bytes_max.min(held.part());
    let mut nothing_yet = true;
    let mut replies = Vec::with_capacity(opened.wanted.len());
    for (wanted, partition) in opened.wanted.iter().zip(partitions) {
        let read = match partition {
            Ok(partition) => {
                let bytes = granted(held, found_bytes, left, partition, wanted);
                let room = Room { bytes, first: nothing_yet };
                read_one(context, partition, wanted, room, limit.committed).await
            }
            Err(error) => Err(*error),
        };
        let ends = partition.as_ref().map(|p| p.ends()).ok();
        let reply = PartitionReply::new(wanted, ends, read);
        left = left.saturating_sub(reply.record_bytes());
        found_bytes += reply.record_bytes();
        if held.bytes() != found_bytes {
            held.count(found_bytes);
        }
        nothing_yet &= reply.found.batches.is_empty();
        replies.push(reply);
    }
    replies
}

/// How many bytes of this partition may be held until the client has taken them, on top of those
/// that were found before.
fn granted(
    held: &mut Held,
    found_bytes: usize,
    left: usize,
    partition: &Arc<Partition>,
    wanted: &Wanted,
) -> usize {
    // Most fetches ask at the end, for what is not there yet.
    if wanted.fetch_offset >= partition.ends().log_end_offset {
        return left;
    }
    held.grow_up_to(wanted.bytes_max.min(left).min(limits::FETCH_STEP_BYTES));
    held.bytes() - found_bytes
}

/// What is left of the reply.
struct Room {
    bytes: usize,
    /// No partition has given records yet.
    first: bool,
}

/// The first partition with records gives at least one batch, however large it is; further ones
/// only what still fits. Aborted transactions are listed for readers of committed records only.
async fn read_one(
    context: &Context,
    partition: &Arc<Partition>,
    wanted: &Wanted,
    room: Room,
    committed: bool,
) -> Result<Found, ResponseError> {
    let epoch = wanted.last_fetched_epoch;
    if epoch != NO_EPOCH && epoch != partition.leader_epoch() {
        return Err(ResponseError::OffsetOutOfRange);
    }
    let at_end = || Ok(Found { aborted: committed.then(Vec::new), ..Found::default() });
    let bytes_max = wanted.bytes_max.min(room.bytes);
    if bytes_max == 0 && !room.first {
        return at_end();
    }
    let (broker, core) = (&context.broker, &context.core);
    let offset = wanted.fetch_offset;
    let found = if committed {
        let found = reads::read_committed(broker, core, partition, offset, bytes_max).await;
        found.map(|it| Found {
            batches: it.read.batches,
            aborted: Some(it.aborted),
            diverging: None,
        })
    } else {
        let found = reads::read(broker, core, partition, offset, bytes_max).await;
        found.map(|read| Found { batches: read.batches, ..Found::default() })
    };
    match found {
        Ok(found) if !room.first && found.record_bytes() > room.bytes => at_end(),
        Err(error @ ResponseError::OffsetOutOfRange) => beyond(partition, wanted).ok_or(error),
        found => found,
    }
}

/// Where the epoch of the reader's last record ended, if that is what it has read beyond. There is
/// one epoch, which goes on: it ends where the log does.
fn beyond(partition: &Partition, wanted: &Wanted) -> Option<Found> {
    let (epoch, offset) = (wanted.last_fetched_epoch, partition.ends().log_end_offset);
    let diverging = Some(EpochEnd { epoch, offset });
    (epoch != NO_EPOCH && wanted.fetch_offset > offset)
        .then(|| Found { diverging, ..Found::default() })
}
