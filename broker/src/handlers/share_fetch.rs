//! ShareFetch (78), version 1.
//!
//! - Hands records to a member of a share group: whole log batches, and which offsets of them the
//!   member now has, for `acquisition_lock_timeout_ms`. About `max_records` in all; what was never
//!   out is cut into batches of about `batch_size`.
//! - Acknowledgements that come along are durable before the reply, and are told apart from the
//!   fetch by an error code of their own.
//! - If fewer than `min_bytes` are there, waits up to `max_wait_ms` for appends and for records
//!   that come back.
//! - Sessions: see `share::session`. Epoch 0 begins one, -1 ends it and gives back what the member
//!   has. If there are too many: SHARE_SESSION_LIMIT_REACHED, after `max_wait_ms`.
//! - A partition that the group was never given by a heartbeat is UNKNOWN_SERVER_ERROR, as in
//!   Kafka.
//! - `share.isolation.level` of the group decides about transactions.
//! - The group needs READ, and so does each topic. Bytes count for `consumer_byte_rate`: what is
//!   out is sent all the same, and the connection waits after it.
//!
//! Left out: leader hints (one node); version 0 (early access, which Kafka no longer serves);
//! version 2 (KIP-1206, KIP-1222), which the message crate does not have.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ShareFetchRequest;
use odradek_log::PartitionId;
use tokio::time::Instant;

use crate::acl::{Operation, Resource};
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::handlers::share_group_heartbeat::is_member_id;
use crate::quota::Kind;
use crate::share::acknowledged::{self, Brought};
use crate::share::coordinator::Pending;
use crate::share::fetch::{self, ShareFetch};
use crate::share::hold::Hold;
use crate::share::reply::{PartitionReply, ShareFetchReply};
use crate::share::session::{FINAL_EPOCH, Opened, Opening, SessionKey};

pub(crate) async fn handle(
    context: &Context,
    request: ShareFetchRequest,
) -> Result<ShareFetchReply, Close> {
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait;
    let key = match check(context, &request) {
        Ok(key) => key,
        Err(error) => return Ok(ShareFetchReply::refused(error)),
    };
    let opened = match open(context, &key, &request) {
        Ok(opened) => opened,
        Err(error) => {
            if error == ResponseError::ShareSessionLimitReached {
                // Whoever is turned away would come back at once.
                tokio::time::sleep_until(deadline).await;
            }
            return Ok(ShareFetchReply::refused(error));
        }
    };
    Ok(answer(context, key, opened, request, deadline).await)
}

fn check(context: &Context, request: &ShareFetchRequest) -> Result<SessionKey, ResponseError> {
    let group = request.group_id.as_ref().ok_or(ResponseError::InvalidRequest)?;
    if !context.allowed(Operation::Read, Resource::Group(group)) {
        return Err(ResponseError::GroupAuthorizationFailed);
    }
    let member = request.member_id.as_ref().filter(|member| is_member_id(member));
    let member = member.ok_or(ResponseError::InvalidRequest)?;
    Ok((group.to_string(), member.to_string()))
}

fn open(
    context: &Context,
    key: &SessionKey,
    request: &ShareFetchRequest,
) -> Result<Opened, ResponseError> {
    let share = &context.core.share;
    let partitions = request.topics.iter().flat_map(|topic| {
        let id = |partition| PartitionId { topic_id: topic.topic_id, partition };
        topic.partitions.iter().map(move |partition| (id(partition.partition_index), partition))
    });
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| {
        let id = |partition| PartitionId { topic_id: topic.topic_id, partition };
        topic.partitions.iter().map(move |partition| id(*partition))
    });
    let opening = Opening {
        epoch: request.share_session_epoch,
        named: partitions.clone().map(|(id, _)| id).collect(),
        forgotten: forgotten.collect(),
        acknowledges: partitions.into_iter().any(|(_, p)| !p.acknowledgement_batches.is_empty()),
    };
    let opened =
        share.sessions().open(key, opening, context.core.config().groups.share_sessions_max)?;
    if let Opened::New { serial, .. } = opened {
        Hold::put(context, key.clone(), serial);
    }
    Ok(opened)
}

/// Acknowledges and reads side by side.
async fn answer(
    context: &Context,
    key: SessionKey,
    opened: Opened,
    request: ShareFetchRequest,
    deadline: Instant,
) -> ShareFetchReply {
    let share = &context.core.share;
    let at_most = |wanted: i32| usize::try_from(wanted).unwrap_or(0);
    let bytes_max = at_most(request.max_bytes)
        .min(context.core.config().limits.fetch_bytes_max)
        .min(context.core.quotas.fetch_bytes_max(context.charged()));
    let (mut partitions, continued) = match opened {
        Opened::New { partitions, .. } => (partitions, false),
        Opened::Continued { partitions } => (partitions, true),
        Opened::Final => (Vec::new(), false),
    };
    // So that members who read the same partitions do not all begin at the same one.
    let count = partitions.len().max(1);
    partitions.rotate_left(at_most(request.share_session_epoch) % count);
    let epoch = request.share_session_epoch;
    let wanted = ShareFetch {
        key,
        partitions,
        bytes_max,
        bytes_min: at_most(request.min_bytes).min(bytes_max),
        records_max: i64::from(request.max_records.max(0)),
        batch_records: i64::from(request.batch_size),
        deadline,
    };
    let brought = acknowledged::check(context, brought(request));
    let pending = match brought.taken.is_empty() {
        true => Pending::nothing(),
        false => share.acknowledge(&wanted.key, brought.taken),
    };
    let (fetched, acknowledged) = tokio::join!(fetch::fetch(context, &wanted), pending.wait());
    let (mut replies, held) = fetched;
    let records = replies.iter().flat_map(|reply| &reply.records);
    context.charge(Kind::Fetch, records.map(Bytes::len).sum());
    if continued {
        leave_out_what_is_known(context, &wanted.key, &mut replies);
    }
    add_acknowledged(&mut replies, brought.refused.into_iter().chain(acknowledged));
    if epoch == FINAL_EPOCH {
        share.end_session(&wanted.key);
    }
    let lock_ms = share.settings(&wanted.key.0).lock_ms;
    ShareFetchReply { lock_ms, partitions: replies, held: Some(held), ..ShareFetchReply::default() }
}

fn brought(request: ShareFetchRequest) -> Vec<Brought> {
    let topics = request.topics.into_iter();
    let partitions = topics.flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| {
            let id = PartitionId { topic_id: topic.topic_id, partition: partition.partition_index };
            let batches = partition.acknowledgement_batches.into_iter();
            (id, batches.map(Into::into).collect::<Vec<_>>())
        })
    });
    partitions.filter(|(_, batches)| !batches.is_empty()).collect()
}

fn leave_out_what_is_known(context: &Context, key: &SessionKey, replies: &mut Vec<PartitionReply>) {
    let states = replies.iter().map(|r| (r.id, !r.records.is_empty(), r.error.is_some()));
    let states: Vec<_> = states.collect();
    let mut news = context.core.share.sessions().news(key, &states).into_iter();
    replies.retain(|_| news.next().unwrap_or(true));
}

fn add_acknowledged(
    replies: &mut Vec<PartitionReply>,
    results: impl Iterator<Item = (PartitionId, Result<(), ResponseError>)>,
) {
    let places = replies.iter().enumerate().map(|(place, reply)| (reply.id, place));
    let places: HashMap<PartitionId, usize> = places.collect();
    for (id, result) in results {
        match places.get(&id) {
            Some(place) => replies[*place].acknowledge_error = result.err(),
            None => {
                let mut reply = PartitionReply::empty(id, None);
                reply.acknowledge_error = result.err();
                replies.push(reply);
            }
        }
    }
}
