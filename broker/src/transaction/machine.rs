//! One transactional id as a pure function of events and time: no clock, no lock, no I/O.
//!
//! ```text
//!            init                      add, produce                 end
//!   (new) ─────────▶ Empty ──────────────────────────▶ Ongoing ───────────▶ CompleteCommit
//!                      ▲                                  ▲  │    time-out,    CompleteAbort
//!                      └──────────── init ────────────────┼──┼──── init             │
//!                                                         └──┴──── add, produce ────┘
//! ```
//!
//! Invariants (the driver's are in the header of [`super`]):
//! - M1. What is asked for changes `record` only when its write is durable; only partitions that
//!   Produce adds are there at once, because their batches are in the log.
//! - M2. While a new epoch, an end or the removal of the id is on its way, everything else is
//!   CONCURRENT_TRANSACTIONS (Kafka's pending transition). Additions wait for each other instead:
//!   what came while a write was under way goes into the next one.
//! - M3. The epoch never goes back, and an epoch that was given out fences all lower ones. The last
//!   epoch of a producer id is for fencing only; after it comes a new producer id.
//! - M4. A transaction that is ended against its producer's will (time-out, another producer with
//!   its id) gets markers of the next epoch, so that the producer's later batches are refused.
//! - M5. From the moment at which that is due, nothing more is added; the end follows the additions
//!   that are on their way. A producer that adds without pause cannot put it off.

mod end;
mod init;

use std::collections::{BTreeSet, VecDeque};

use kafka_protocol::ResponseError;
use odradek_log::PartitionId;

use super::TransactionSettings;
use super::record::{NO_EPOCH, PendingOffset, Producer, State, TransactionRecord};
use crate::clock::Now;

pub(crate) type Waiter = u64;

/// After a restart, for a producer that is done with its transaction and only waited for the broker
/// to say so: clients connect again within a second or two.
const RESTART_GRACE_MS: i64 = 5_000;

/// Why a transaction was ended against its producer's will, for the broker's log.
const TOOK_TOO_LONG: &str = "aborted: it took longer than the time-out that its producer asked for";
const CLAIMED: &str = "aborted: its producer, or another one with the same id, starts anew";

/// How much the request's version lets the broker do and say (KIP-890).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// Partitions are added by name, before. Error: INVALID_TXN_STATE.
    Named,
    /// The same, by a client that knows TRANSACTION_ABORTABLE.
    Abortable,
    /// The request itself adds the partition.
    Adds,
}

impl Support {
    fn not_added(self) -> ResponseError {
        match self {
            Self::Named => ResponseError::InvalidTxnState,
            Self::Abortable | Self::Adds => ResponseError::TransactionAbortable,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Event {
    /// InitProducerId. `expected`: what the producer says it has (KIP-360).
    Init {
        waiter: Waiter,
        timeout_ms: i32,
        expected: Option<Producer>,
        fresh_producer_id: Option<i64>,
    },
    /// AddPartitionsToTxn, AddOffsetsToTxn (then the partition of `__consumer_offsets`).
    AddPartitions { waiter: Waiter, producer: Producer, partitions: BTreeSet<PartitionId> },
    /// TxnOffsetCommit. `through` is the group's partition of `__consumer_offsets`.
    CommitOffsets {
        waiter: Waiter,
        producer: Producer,
        support: Support,
        through: PartitionId,
        offsets: Vec<PendingOffset>,
    },
    /// EndTxn. `bumps`: version 5 and above give out a new epoch with every end.
    End {
        waiter: Waiter,
        producer: Producer,
        commit: bool,
        bumps: bool,
        fresh_producer_id: Option<i64>,
    },
    /// The group is deleted: what is pending for it is not committed any more.
    DropGroup { waiter: Waiter, group: String },
    /// The write under way came to its end.
    Written(Result<(), ResponseError>),
    /// Time has passed.
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// Of Init and End: the producer to go on as.
    Producer(Result<Producer, ResponseError>),
    Done(Result<(), ResponseError>),
    /// Ask again with a fresh producer id.
    NeedsProducerId,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    Reply(Waiter, Reply),
    /// One at a time; answered by [`Event::Written`].
    Write(Write),
    /// The id is gone from the log, or never came into it; it can be forgotten.
    Forget,
    /// A line for the broker's log.
    Note(&'static str),
}

/// One unit of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    /// `None`: a tombstone.
    pub record: Option<TransactionRecord>,
    pub ending: Option<Ending>,
    /// Wall clock, for markers and committed offsets.
    pub at_ms: i64,
}

/// The end of a transaction, as it goes to partitions and groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ending {
    pub commit: bool,
    /// As the markers have it.
    pub producer: Producer,
    pub partitions: Vec<PartitionId>,
    /// Empty for an abort.
    pub offsets: Vec<PendingOffset>,
}

/// What one request adds to the transaction.
#[derive(Debug)]
struct Addition {
    waiter: Waiter,
    what: Added,
}

#[derive(Debug)]
enum Added {
    Partitions(BTreeSet<PartitionId>),
    Offsets(PartitionId, Vec<PendingOffset>),
    NoGroup(String),
}

/// What the write under way will have done.
#[derive(Debug)]
enum Writing {
    Additions(Vec<Addition>),
    Init { waiter: Waiter, next: TransactionRecord },
    End { waiter: Option<Waiter>, reply: Reply, next: TransactionRecord },
    Removal,
}

#[derive(Debug)]
pub(crate) struct Transaction {
    record: TransactionRecord,
    /// Monotonic; of the ongoing transaction.
    deadline_ms: Option<i64>,
    writing: Option<Writing>,
    waiting: VecDeque<Addition>,
    /// An Init was refused because additions were being written (M5).
    is_claimed: bool,
}

impl Transaction {
    /// Of an id that nobody has used.
    pub(crate) fn new(producer_id: i64, timeout_ms: i32) -> Self {
        Self::restored(TransactionRecord::new(producer_id, timeout_ms), Now::default())
    }

    /// From its record, at the start. An ongoing transaction has what is left of its time-out by
    /// the wall clock, as in Kafka: were it the whole each time, a broker that restarts often would
    /// hold back read_committed readers for ever. One of which only the log knows that it began
    /// (T4) begins with this start.
    pub(crate) fn restored(record: TransactionRecord, now: Now) -> Self {
        let ongoing = record.state == State::Ongoing;
        let deadline_ms = ongoing.then(|| now.monotonic_ms.saturating_add(left_ms(&record, now)));
        let waiting = VecDeque::new();
        Self { record, deadline_ms, writing: None, waiting, is_claimed: false }
    }

    /// As it is durable, with the partitions that Produce added.
    pub(crate) fn record(&self) -> &TransactionRecord {
        &self.record
    }

    /// Of the transaction, those on their way into its record included.
    pub(crate) fn pending_offsets(&self) -> impl Iterator<Item = &PendingOffset> {
        let written = match &self.writing {
            Some(Writing::Additions(additions)) => additions.as_slice(),
            _ => &[],
        };
        let added = written.iter().chain(&self.waiting).flat_map(|addition| match &addition.what {
            Added::Offsets(_, offsets) => offsets.as_slice(),
            Added::Partitions(_) | Added::NoGroup(_) => &[],
        });
        self.record.offsets.iter().chain(added)
    }

    /// Kafka's word for the state, the end that is on its way included.
    pub(crate) fn state_name(&self) -> &'static str {
        match &self.writing {
            Some(Writing::End { next, .. }) if next.state == State::CompleteCommit => {
                "PrepareCommit"
            }
            Some(Writing::End { .. }) => "PrepareAbort",
            _ => self.record.state.name(),
        }
    }

    /// May this producer append to this partition now? The caller holds the id's lock until the
    /// batch is with the log, and then says so by [`Transaction::produced`].
    pub(crate) fn admit_batch(
        &self,
        producer: Producer,
        partition: PartitionId,
        support: Support,
    ) -> Result<(), ResponseError> {
        self.admit(producer)?;
        let added = self.record.state == State::Ongoing && self.record.contains(partition);
        match support {
            Support::Adds => Ok(()),
            _ if added => Ok(()),
            _ => Err(support.not_added()),
        }
    }

    /// The batch that was admitted is in the log's queue.
    pub(crate) fn produced(&mut self, partition: PartitionId, now: Now) {
        self.begin(now);
        self.record.add_partition(partition);
    }

    /// The checks that every request of a producer has in common, in Kafka's order.
    fn admit(&self, producer: Producer) -> Result<(), ResponseError> {
        if self.record.epoch == NO_EPOCH || producer.id != self.record.producer_id {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        if producer.epoch != self.record.epoch {
            return Err(ResponseError::ProducerFenced);
        }
        if self.is_in_transition() {
            return Err(ResponseError::ConcurrentTransactions);
        }
        Ok(())
    }

    /// May anything be added now (M5)?
    fn admit_addition(&self, now: Now) -> Result<(), ResponseError> {
        match self.is_claimed || self.is_due(now) {
            true => Err(ResponseError::ConcurrentTransactions),
            false => Ok(()),
        }
    }

    fn is_in_transition(&self) -> bool {
        matches!(&self.writing, Some(writing) if !matches!(writing, Writing::Additions(_)))
    }

    fn begin(&mut self, now: Now) {
        self.record.begin(now.wall_ms);
        if self.deadline_ms.is_none() {
            self.deadline_ms = Some(deadline_ms(&self.record, now));
        }
    }

    fn is_due(&self, now: Now) -> bool {
        self.deadline_ms.is_some_and(|deadline_ms| now.monotonic_ms >= deadline_ms)
    }
}

/// What is left of the time-out; never more than all of it, if the clock was set back.
fn left_ms(record: &TransactionRecord, now: Now) -> i64 {
    let timeout_ms = i64::from(record.timeout_ms);
    let spent_ms = now.wall_ms.saturating_sub(record.start_ms);
    timeout_ms.saturating_sub(spent_ms).max(RESTART_GRACE_MS).min(timeout_ms)
}

fn deadline_ms(record: &TransactionRecord, now: Now) -> i64 {
    now.monotonic_ms.saturating_add(i64::from(record.timeout_ms))
}

/// `settings` as they are now; the wall clock is for what is kept, the other for time-outs.
pub(crate) fn step(
    transaction: &mut Transaction,
    event: Event,
    settings: &TransactionSettings,
    now: Now,
) -> Vec<Effect> {
    match event {
        Event::Init { waiter, timeout_ms, expected, fresh_producer_id } => {
            transaction.init(waiter, timeout_ms, expected, fresh_producer_id, now)
        }
        Event::AddPartitions { waiter, producer, partitions } => {
            transaction.add_partitions(waiter, producer, partitions, now)
        }
        Event::CommitOffsets { waiter, producer, support, through, offsets } => {
            let admitted = transaction
                .admit_batch(producer, through, support)
                .and_then(|()| transaction.admit_addition(now));
            let what = Added::Offsets(through, offsets);
            transaction.add(waiter, admitted, what, now)
        }
        Event::End { waiter, producer, commit, bumps, fresh_producer_id } => {
            transaction.end(waiter, producer, commit, bumps, fresh_producer_id, now)
        }
        Event::DropGroup { waiter, group } => transaction.drop_group(waiter, group, now),
        Event::Written(result) => transaction.written(result, now),
        Event::Tick => transaction.tick(settings, now),
    }
}

impl Transaction {
    fn add_partitions(
        &mut self,
        waiter: Waiter,
        producer: Producer,
        partitions: BTreeSet<PartitionId>,
        now: Now,
    ) -> Vec<Effect> {
        let admitted = self.admit(producer);
        let ongoing = self.record.state == State::Ongoing;
        if admitted.is_ok() && ongoing && partitions.iter().all(|p| self.record.contains(*p)) {
            return vec![Effect::Reply(waiter, Reply::Done(Ok(())))];
        }
        let admitted = admitted.and_then(|()| self.admit_addition(now));
        self.add(waiter, admitted, Added::Partitions(partitions), now)
    }

    fn drop_group(&mut self, waiter: Waiter, group: String, now: Now) -> Vec<Effect> {
        // An end that is on its way commits what it has: the deletion came too late.
        let pending = self.record.offsets.iter().any(|offset| offset.group == group);
        if self.is_in_transition() || !(pending || self.writing.is_some()) {
            return vec![Effect::Reply(waiter, Reply::Done(Ok(())))];
        }
        self.add(waiter, Ok(()), Added::NoGroup(group), now)
    }

    fn add(
        &mut self,
        waiter: Waiter,
        admitted: Result<(), ResponseError>,
        what: Added,
        now: Now,
    ) -> Vec<Effect> {
        if let Err(error) = admitted {
            return vec![Effect::Reply(waiter, Reply::Done(Err(error)))];
        }
        self.waiting.push_back(Addition { waiter, what });
        self.write_additions(now)
    }

    /// Everything that waits goes into one write (M2), except offsets for which the transaction has
    /// no room: only here is known what came before them.
    fn write_additions(&mut self, now: Now) -> Vec<Effect> {
        if self.writing.is_some() || self.waiting.is_empty() {
            return Vec::new();
        }
        let mut next = self.record.clone();
        let (mut additions, mut effects) = (Vec::new(), Vec::new());
        for addition in std::mem::take(&mut self.waiting) {
            if addition.fits(&next) {
                apply(&mut next, &addition, now);
                additions.push(addition);
            } else {
                let refused = Reply::Done(Err(ResponseError::InvalidRequest));
                effects.push(Effect::Reply(addition.waiter, refused));
            }
        }
        if !additions.is_empty() {
            self.writing = Some(Writing::Additions(additions));
            let record = Some(next);
            effects.push(Effect::Write(Write { record, ending: None, at_ms: now.wall_ms }));
        }
        effects
    }

    fn written(&mut self, result: Result<(), ResponseError>, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        match (self.writing.take(), result) {
            (Some(Writing::Additions(additions)), result) => {
                if result.is_ok() {
                    for addition in &additions {
                        apply(&mut self.record, addition, now);
                    }
                    if self.record.state == State::Ongoing {
                        self.begin(now);
                    }
                }
                let waiters = additions.into_iter().map(|addition| addition.waiter);
                let reply = Reply::Done(result);
                effects.extend(waiters.map(|waiter| Effect::Reply(waiter, reply.clone())));
            }
            (Some(Writing::Init { waiter, next }), Ok(())) => {
                let producer = next.producer();
                (self.record, self.deadline_ms) = (next, None);
                effects.push(Effect::Reply(waiter, Reply::Producer(Ok(producer))));
            }
            (Some(Writing::End { waiter, reply, next }), Ok(())) => {
                (self.record, self.deadline_ms) = (next, None);
                effects.extend(waiter.map(|waiter| Effect::Reply(waiter, reply)));
            }
            (Some(Writing::Removal), Ok(())) => effects.push(Effect::Forget),
            (Some(Writing::Init { waiter, .. }), Err(error)) => {
                effects.push(Effect::Reply(waiter, Reply::Producer(Err(error))));
                if self.record.epoch == NO_EPOCH {
                    // It never came into the log: no timer would ever find it.
                    effects.push(Effect::Forget);
                }
            }
            (Some(Writing::End { waiter, .. }), Err(error)) => {
                let reply = Reply::Producer(Err(error));
                effects.extend(waiter.map(|waiter| Effect::Reply(waiter, reply)));
            }
            (Some(Writing::Removal), Err(_)) | (None, _) => {}
        }
        effects.extend(self.write_additions(now));
        if self.writing.is_none() && std::mem::take(&mut self.is_claimed) {
            // Whoever was refused comes again, and finds it ended.
            if self.record.state == State::Ongoing {
                effects.extend(self.fence(None, CLAIMED, now));
            }
        }
        effects
    }

    fn tick(&mut self, settings: &TransactionSettings, now: Now) -> Vec<Effect> {
        if self.writing.is_some() {
            return Vec::new();
        }
        if self.record.state == State::Ongoing {
            return match self.is_due(now) {
                true => self.fence(None, TOOK_TOO_LONG, now),
                false => Vec::new(),
            };
        }
        let idle_ms = now.wall_ms.saturating_sub(self.record.update_ms);
        if self.record.epoch == NO_EPOCH || idle_ms < settings.id_expiration_ms {
            return Vec::new();
        }
        self.writing = Some(Writing::Removal);
        vec![Effect::Write(Write { record: None, ending: None, at_ms: now.wall_ms })]
    }
}

impl Addition {
    fn fits(&self, record: &TransactionRecord) -> bool {
        match &self.what {
            Added::Offsets(_, offsets) => record.has_room_for(offsets),
            Added::Partitions(_) | Added::NoGroup(_) => true,
        }
    }
}

fn apply(record: &mut TransactionRecord, addition: &Addition, now: Now) {
    match &addition.what {
        Added::Partitions(partitions) => {
            record.begin(now.wall_ms);
            partitions.iter().for_each(|partition| record.add_partition(*partition));
        }
        Added::Offsets(through, offsets) => {
            record.begin(now.wall_ms);
            record.add_partition(*through);
            record.add_offsets(offsets);
        }
        Added::NoGroup(group) => record.offsets.retain(|offset| offset.group != *group),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod transcripts;
