//! Fetch sessions (KIP-227): a client names its partitions once, later requests carry changes only,
//! and replies carry only partitions with news.
//!
//! While a request is being answered its session belongs to that request; if the connection goes
//! meanwhile, the session goes with it, and the client begins a new one.
//!
//! Partitions need not exist to be wanted, so their number in a session has a bound: no session is
//! made for more than a broker can have, and one that grows beyond that ends.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use uuid::Uuid;

use crate::fetch_reply::{FetchReply, PartitionReply};
use crate::limits;
use crate::partition::lock;

const NO_SESSION: i32 = 0;
const INITIAL_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// One partition that a client wants.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Empty from version 13 on, where the id is given.
    pub topic: String,
    pub topic_id: Uuid,
    pub partition: i32,
    pub fetch_offset: i64,
    pub bytes_max: usize,
    pub current_leader_epoch: i32,
    /// Of the last record that the reader has; -1: it does not say.
    pub last_fetched_epoch: i32,
    /// What the client was last told; -1: nothing yet.
    told_high_watermark: i64,
    told_log_start_offset: i64,
}

impl Wanted {
    fn of(topic: &FetchTopic, partition: &FetchPartition) -> Self {
        Self {
            topic: topic.topic.to_string(),
            topic_id: topic.topic_id,
            partition: partition.partition,
            fetch_offset: partition.fetch_offset,
            bytes_max: usize::try_from(partition.partition_max_bytes).unwrap_or(0),
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
            told_high_watermark: -1,
            told_log_start_offset: -1,
        }
    }

    fn key(&self) -> (String, Uuid, i32) {
        (self.topic.clone(), self.topic_id, self.partition)
    }

    /// KIP-227: an incremental reply leaves out a partition of which all is known.
    fn is_news(&self, reply: &PartitionReply) -> bool {
        reply.error.is_some()
            || reply.found.diverging.is_some()
            || !reply.found.batches.is_empty()
            || reply.high_watermark != self.told_high_watermark
            || reply.log_start_offset != self.told_log_start_offset
    }
}

#[derive(Debug)]
struct Session {
    /// What the next request must carry.
    epoch: i32,
    /// Topics by id (from version 13 on), not by name.
    by_id: bool,
    wanted: Vec<Wanted>,
    used: Instant,
}

/// The partitions of one request, and the session they belong to.
#[derive(Debug)]
pub(crate) struct Opened {
    pub wanted: Vec<Wanted>,
    by_id: bool,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sessionless,
    /// All partitions are in the reply.
    New {
        id: i32,
    },
    Incremental {
        id: i32,
        epoch: i32,
    },
}

impl Opened {
    /// Whether an incremental reply would tell something about a partition besides records, such
    /// as a log start that moved: such news do not wait for more records.
    pub(crate) fn has_news(&self, replies: &[PartitionReply]) -> bool {
        let Kind::Incremental { .. } = self.kind else { return false };
        self.wanted.iter().zip(replies).any(|(wanted, reply)| {
            wanted.told_log_start_offset != -1
                && reply.log_start_offset != wanted.told_log_start_offset
        })
    }
}

#[derive(Default)]
pub(crate) struct FetchSessions {
    sessions: Mutex<HashMap<i32, Session>>,
}

impl FetchSessions {
    /// Finds out what the request wants, with the session's help.
    pub(crate) fn open(
        &self,
        request: &FetchRequest,
        version: i16,
    ) -> Result<Opened, ResponseError> {
        let (id, epoch) = (request.session_id, request.session_epoch);
        let by_id = version >= 13;
        if version < 7 || epoch == FINAL_EPOCH || epoch == INITIAL_EPOCH {
            let wanted = named(request);
            let mut sessions = lock(&self.sessions);
            sessions.remove(&id);
            let is_small = wanted.len() <= limits::PARTITIONS_MAX;
            let kind = match epoch {
                INITIAL_EPOCH if version >= 7 && is_small => match free_id(&mut sessions) {
                    Some(id) => Kind::New { id },
                    None => Kind::Sessionless,
                },
                _ => Kind::Sessionless,
            };
            return Ok(Opened { wanted, by_id, kind });
        }
        let mut sessions = lock(&self.sessions);
        let Some(mut session) = sessions.remove(&id) else {
            return Err(ResponseError::FetchSessionIdNotFound);
        };
        if session.epoch != epoch {
            sessions.insert(id, session);
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if session.by_id != by_id {
            sessions.insert(id, session);
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        drop(sessions);
        if !request.topics.is_empty() || !request.forgotten_topics_data.is_empty() {
            change(&mut session.wanted, request);
        }
        if session.wanted.len() > limits::PARTITIONS_MAX {
            // The session is gone: the client begins anew, with all that it wants.
            return Err(ResponseError::FetchSessionIdNotFound);
        }
        Ok(Opened { wanted: session.wanted, by_id, kind: Kind::Incremental { id, epoch } })
    }

    /// A reply without anything, because of a quota: what was wanted is still wanted, and a session
    /// that was only asked for does not begin.
    pub(crate) fn throttled(&self, opened: Opened) -> FetchReply {
        let Opened { wanted, by_id, kind } = opened;
        let Kind::Incremental { id, epoch } = kind else {
            return FetchReply::new(NO_SESSION, Vec::new());
        };
        let epoch = epoch.checked_add(1).unwrap_or(1);
        lock(&self.sessions).insert(id, Session { epoch, by_id, wanted, used: Instant::now() });
        FetchReply::new(id, Vec::new())
    }

    /// Puts the session back and makes the reply.
    pub(crate) fn close(&self, opened: Opened, replies: Vec<PartitionReply>) -> FetchReply {
        let Opened { wanted, by_id, kind } = opened;
        let (id, next_epoch) = match kind {
            Kind::Sessionless => return FetchReply::new(NO_SESSION, replies),
            Kind::New { id } => (id, 1),
            // After the largest epoch comes 1 again.
            Kind::Incremental { id, epoch } => (id, epoch.checked_add(1).unwrap_or(1)),
        };
        let incremental = next_epoch != 1 || matches!(kind, Kind::Incremental { .. });
        let mut told = Vec::with_capacity(wanted.len());
        // Partitions that gave records go behind the others, so that none starves under a limit.
        let mut behind = Vec::new();
        let mut sent = Vec::new();
        for (mut wanted, reply) in wanted.into_iter().zip(replies) {
            let news = !incremental || wanted.is_news(&reply);
            wanted.told_high_watermark = reply.high_watermark;
            wanted.told_log_start_offset = reply.log_start_offset;
            let place = if reply.found.batches.is_empty() { &mut told } else { &mut behind };
            place.push(wanted);
            if news {
                sent.push(reply);
            }
        }
        told.append(&mut behind);
        let session = Session { epoch: next_epoch, by_id, wanted: told, used: Instant::now() };
        lock(&self.sessions).insert(id, session);
        FetchReply::new(id, sent)
    }
}

fn named(request: &FetchRequest) -> Vec<Wanted> {
    let topics = request.topics.iter();
    topics.flat_map(|topic| topic.partitions.iter().map(|p| Wanted::of(topic, p))).collect()
}

/// Applies what an incremental request adds, moves and forgets.
fn change(wanted: &mut Vec<Wanted>, request: &FetchRequest) {
    let mut known: HashMap<_, usize> =
        wanted.iter().enumerate().map(|(place, w)| (w.key(), place)).collect();
    for new in named(request) {
        match known.get(&new.key()) {
            Some(&place) => {
                let old = &mut wanted[place];
                old.fetch_offset = new.fetch_offset;
                old.bytes_max = new.bytes_max;
                old.current_leader_epoch = new.current_leader_epoch;
                old.last_fetched_epoch = new.last_fetched_epoch;
            }
            None => {
                known.insert(new.key(), wanted.len());
                wanted.push(new);
            }
        }
    }
    let forgotten: std::collections::HashSet<_> = request
        .forgotten_topics_data
        .iter()
        .flat_map(|t| t.partitions.iter().map(|p| (t.topic.to_string(), t.topic_id, *p)))
        .collect();
    wanted.retain(|w| !forgotten.contains(&w.key()));
}

/// A session id nobody has, if there is room for one more session. The session that was unused for
/// longest makes room once it is two minutes old, as in Kafka.
fn free_id(sessions: &mut HashMap<i32, Session>) -> Option<i32> {
    const EVICT_AFTER_SECONDS: u64 = 120;
    if sessions.len() >= limits::FETCH_SESSIONS_MAX {
        let oldest = sessions.iter().min_by_key(|(_, s)| s.used).map(|(id, s)| (*id, s.used))?;
        if oldest.1.elapsed().as_secs() < EVICT_AFTER_SECONDS {
            return None;
        }
        sessions.remove(&oldest.0);
    }
    loop {
        let id = rand::random_range(1..i32::MAX);
        if !sessions.contains_key(&id) {
            return Some(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(id: i32, epoch: i32, partitions: std::ops::Range<usize>) -> FetchRequest {
        let partitions = partitions.map(|index| {
            FetchPartition::default().with_partition(i32::try_from(index).expect("small"))
        });
        let topic = FetchTopic::default().with_partitions(partitions.collect());
        let request = FetchRequest::default().with_session_id(id).with_session_epoch(epoch);
        request.with_topics(vec![topic])
    }

    #[test]
    fn a_session_has_no_more_partitions_than_a_broker() {
        const MOST: usize = limits::PARTITIONS_MAX;
        let sessions = FetchSessions::default();
        let beyond = sessions.open(&request(0, INITIAL_EPOCH, 0..MOST + 1), 17).unwrap();
        assert_eq!((beyond.kind, beyond.wanted.len()), (Kind::Sessionless, MOST + 1));
        let opened = sessions.open(&request(0, INITIAL_EPOCH, 0..MOST), 17).unwrap();
        let Kind::New { id } = opened.kind else { panic!("{:?}", opened.kind) };
        sessions.close(opened, Vec::new());
        let again = sessions.open(&request(id, 1, 0..MOST), 17).unwrap();
        sessions.throttled(again);
        let gone = Some(ResponseError::FetchSessionIdNotFound);
        assert_eq!(sessions.open(&request(id, 2, MOST..MOST + 1), 17).err(), gone);
        assert!(lock(&sessions.sessions).is_empty());
    }
}
