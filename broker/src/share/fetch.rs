//! Reads the log for a member and hands it what is free.
//!
//! One fetch at a time reads a partition for a group; the others wait for it, for appends, and for
//! records that come back. Nothing is out before the moment in which the reply is made.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_log::{Log, PartitionId};
use odradek_protocol::batch::BatchHeader;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::ShareSettings;
use super::coordinator::{Claim, Claimed};
use super::partition::{Acquired, Wanted};
use super::reply::PartitionReply;
use super::session::SessionKey;
use crate::acl::{Operation, Resource};
use crate::budget::Held;
use crate::client::OffsetAt;
use crate::clock::now_ms;
use crate::config::group::ShareReset;
use crate::handlers::Context;
use crate::partition::Partition;
use crate::reads;

/// What a member asks for, in the order in which its partitions are to be served.
#[derive(Debug)]
pub(crate) struct ShareFetch {
    pub key: SessionKey,
    pub partitions: Vec<PartitionId>,
    pub bytes_max: usize,
    pub bytes_min: usize,
    pub records_max: i64,
    pub batch_records: i64,
    pub deadline: Instant,
}

type Place = Result<Arc<Partition>, ResponseError>;

/// A claimed partition with what was read of it.
struct Read {
    index: usize,
    claim: Claim,
    offset: i64,
    found: Found,
}

/// Batches of the log, and which of them nobody may see.
#[derive(Default)]
struct Found {
    batches: Vec<(BatchHeader, Bytes)>,
    aborted: Vec<(i64, i64)>,
}

impl Read {
    fn bytes(&self) -> usize {
        self.found.batches.iter().map(|(_, bytes)| bytes.len()).sum()
    }
}

/// One reply for each partition, in order, and their place in the replies' budget.
pub(crate) async fn fetch(context: &Context, wanted: &ShareFetch) -> (Vec<PartitionReply>, Held) {
    let mut held = context.broker.inner.reply_bytes.hold(context.session.peer.ip());
    let places = wanted.partitions.iter().map(|id| find(context, *id));
    let mut places: Vec<Place> = places.collect();
    let settings = context.core.share.settings(&wanted.key.0);
    let waiter = Arc::new(Notify::new());
    let reads = loop {
        let hopeless = places.iter().all(Result::is_err);
        if hopeless || wanted.records_max == 0 || wanted.bytes_max == 0 {
            break Vec::new();
        }
        // Registered before the look, so that nothing that comes between them is missed.
        for partition in places.iter().flatten() {
            partition.wake_on_progress(&waiter);
        }
        let reads = read_all(context, wanted, &settings, &mut places, &waiter, &mut held).await;
        let bytes: usize = reads.iter().map(Read::bytes).sum();
        let enough = bytes > 0 && bytes >= wanted.bytes_min;
        if enough || Instant::now() >= wanted.deadline {
            break reads;
        }
        for read in reads {
            read.claim.put_back();
        }
        held.count(0);
        // On time-out the loop comes back here once more and answers with what is there.
        let _ = tokio::time::timeout_at(wanted.deadline, waiter.notified()).await;
    };
    let errors = places.into_iter().map(Result::err);
    let replies = wanted.partitions.iter().zip(errors);
    let mut replies: Vec<PartitionReply> =
        replies.map(|(id, error)| PartitionReply::empty(*id, error)).collect();
    let mut left = wanted.records_max;
    for read in reads {
        let reply = &mut replies[read.index];
        hand_out(context, wanted, read, &mut left, reply);
    }
    (replies, held)
}

fn find(context: &Context, id: PartitionId) -> Place {
    let topic = context.core.topics.by_id(id.topic_id).ok_or(ResponseError::UnknownTopicId)?;
    if !context.allowed(Operation::Read, Resource::Topic(&topic.name)) {
        return Err(ResponseError::TopicAuthorizationFailed);
    }
    topic.partition(id.partition).cloned().ok_or(ResponseError::UnknownTopicOrPartition)
}

/// Claims and reads whatever has something to hand out. An error stands in the partition's place
/// from then on.
async fn read_all(
    context: &Context,
    wanted: &ShareFetch,
    settings: &ShareSettings,
    places: &mut [Place],
    waiter: &Arc<Notify>,
    held: &mut Held,
) -> Vec<Read> {
    let mut claims = Vec::new();
    for (index, (id, place)) in wanted.partitions.iter().zip(places.iter_mut()).enumerate() {
        let Ok(partition) = place else { continue };
        match claim(context, wanted, settings, *id, partition, waiter).await {
            Ok(Some((claim, offset))) => claims.push((index, claim, offset)),
            Ok(None) => {}
            Err(error) => *place = Err(error),
        }
    }
    let mut left = match claims.is_empty() {
        true => 0,
        false => held.grow_up_to_a_part(wanted.bytes_max),
    };
    let each_max = left / claims.len().max(1);
    let mut reads = Vec::with_capacity(claims.len());
    for (index, claim, offset) in claims {
        let Ok(partition) = &places[index] else { continue };
        let mut read = Read { index, claim, offset, found: Found::default() };
        if left > 0 {
            match read_one(context, settings, partition, offset, each_max.min(left)).await {
                Ok(found) => read.found = found,
                Err(error) => {
                    places[index] = Err(error);
                    continue;
                }
            }
        }
        left = left.saturating_sub(read.bytes());
        reads.push(read);
    }
    held.count(reads.iter().map(Read::bytes).sum());
    reads
}

async fn claim(
    context: &Context,
    wanted: &ShareFetch,
    settings: &ShareSettings,
    id: PartitionId,
    partition: &Arc<Partition>,
    waiter: &Arc<Notify>,
) -> Result<Option<(Claim, i64)>, ResponseError> {
    let share = &context.core.share;
    let log_start = partition.ends().log_start_offset;
    match share.claim(&wanted.key.0, id, log_start, waiter) {
        // Kafka's answer for a group that nobody joined to read this.
        Claimed::Unknown => Err(ResponseError::UnknownServerError),
        Claimed::NotNow => Ok(None),
        Claimed::Read { claim, offset } => Ok(Some((claim, offset))),
        Claimed::ToBegin(claim) => {
            let start = beginning(context, settings, partition).await?;
            share.begin(&claim, start).await?;
            Ok(Some((claim, start)))
        }
    }
}

/// `share.auto.offset.reset`
async fn beginning(
    context: &Context,
    settings: &ShareSettings,
    partition: &Arc<Partition>,
) -> Result<i64, ResponseError> {
    let at = match settings.begins {
        ShareReset::Earliest => OffsetAt::Earliest,
        ShareReset::Latest => OffsetAt::Latest,
        ShareReset::ByDuration { ms } => OffsetAt::Time(now_ms().saturating_sub(ms)),
    };
    let hit = reads::time_hit(&context.broker, &context.core, partition, at).await?;
    // Nothing is that young.
    Ok(hit.map_or_else(|| partition.high_watermark(), |hit| hit.offset))
}

/// With `read_committed` reading ends before the first transaction that is still open, and batches
/// of aborted ones are told.
async fn read_one(
    context: &Context,
    settings: &ShareSettings,
    partition: &Arc<Partition>,
    offset: i64,
    bytes_max: usize,
) -> Result<Found, ResponseError> {
    let ends = partition.ends();
    let end = match settings.read_committed {
        true => ends.last_stable_offset,
        false => ends.log_end_offset,
    };
    if offset >= end {
        return Ok(Found::default());
    }
    let (broker, core) = (&context.broker, &context.core);
    let read = match reads::read(broker, core, partition, offset, bytes_max).await {
        Ok(read) => read,
        // The log start moved just now: the next look begins there.
        Err(ResponseError::OffsetOutOfRange) => return Ok(Found::default()),
        Err(error) => return Err(error),
    };
    let batches = read.each_batch().into_iter().filter_map(|bytes| {
        let header = BatchHeader::parse(&bytes).ok()?;
        (header.last_offset() < end).then_some((header, bytes))
    });
    let batches: Vec<(BatchHeader, Bytes)> = batches.collect();
    let transactional = batches.iter().any(|(header, _)| header.is_transactional());
    let aborted = match settings.read_committed && transactional {
        true => aborted(context, partition, &batches).await?,
        false => Vec::new(),
    };
    Ok(Found { batches, aborted })
}

/// Which of these batches a transaction wrote that was aborted.
async fn aborted(
    context: &Context,
    partition: &Arc<Partition>,
    batches: &[(BatchHeader, Bytes)],
) -> Result<Vec<(i64, i64)>, ResponseError> {
    let (Some((first, _)), Some((last, _))) = (batches.first(), batches.last()) else {
        return Ok(Vec::new());
    };
    let (id, from, to) = (partition.id, first.base_offset, last.last_offset() + 1);
    let look = move |log: &Log| log.aborted(id, from, to);
    let transactions = reads::blocking(&context.broker, &context.core, partition, look).await?;
    let is_aborted = |header: &BatchHeader| {
        let written = header.base_offset;
        header.is_transactional()
            && !header.is_control()
            && transactions.iter().any(|transaction| {
                transaction.producer_id == header.producer_id
                    && (transaction.first_offset..=transaction.last_offset).contains(&written)
            })
    };
    let headers = batches.iter().map(|(header, _)| header);
    Ok(headers.filter(|h| is_aborted(h)).map(|h| (h.base_offset, h.last_offset())).collect())
}

/// Acquires out of what was read, and puts the batches that the member needs into its reply.
fn hand_out(
    context: &Context,
    wanted: &ShareFetch,
    read: Read,
    left: &mut i64,
    reply: &mut PartitionReply,
) {
    let Read { claim, offset, found: Found { batches, aborted }, .. } = read;
    let ranges: Vec<(i64, i64)> =
        batches.iter().map(|(header, _)| (header.base_offset, header.last_offset())).collect();
    let member: Arc<str> = Arc::from(wanted.key.1.as_str());
    let acquired = context.core.share.acquire(
        claim,
        &Wanted {
            member: &member,
            fetch_offset: offset,
            batches: &ranges,
            aborted: &aborted,
            records_max: *left,
            batch_records: wanted.batch_records,
        },
    );
    *left -= acquired.iter().map(Acquired::count).sum::<i64>();
    let (Some(first), Some(last)) = (acquired.first(), acquired.last()) else { return };
    let needed = batches.into_iter().filter(|(header, _)| {
        header.last_offset() >= first.first && header.base_offset <= last.last
    });
    reply.records = needed.map(|(_, bytes)| bytes).collect();
    reply.acquired = acquired;
}
