//! One partition: its append lock, its waiters, its end.
//!
//! Owner of: the next offset to give out, the idempotent producers' sequences.
//! Invariants:
//! 1. Offsets are given out under the append lock, and the log gets the batches before the lock is
//!    released; so the log sees them in offset order.
//! 2. Nothing waits under the lock.
//! 3. A reader never sees an offset at or above the durable end of the log.
//!
//! Lock order: append locks in the order of their [`PartitionId`]; the waiters' lock is a leaf.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_log::{Append, CommitError, Ends, Log, PartitionId, Unit};
use odradek_protocol::batch::BatchHeader;
use tokio::sync::{Notify, oneshot};

use crate::clock::now_ms;
use crate::sequence::{Begins, NO_COORDINATOR_EPOCH, ProducerState, Producers, Verdict};

/// One validated batch on its way to the log.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub header: BatchHeader,
    pub bytes: Bytes,
    /// Of a transaction's marker: the epoch of the coordinator that it carries.
    pub coordinator_epoch: i32,
}

impl Batch {
    /// Of records, not a marker.
    pub(crate) fn new(header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes, coordinator_epoch: NO_COORDINATOR_EPOCH }
    }
}

/// What became of batches that were offered.
#[derive(Debug)]
pub(crate) enum Appended {
    /// In the log's queue; durable when the receiver says `Ok`.
    Queued { base_offset: i64, done: oneshot::Receiver<Result<(), CommitError>> },
    /// A repeat of a batch that is in the log or on its way there. `refusals`: as they were counted
    /// then; if they are more by the time the offsets are durable, others may have taken them.
    Repeat { base_offset: i64, last_offset: i64, refusals: u64 },
}

#[derive(Debug)]
struct Appending {
    next_offset: i64,
    producers: Producers,
}

pub(crate) struct Partition {
    pub id: PartitionId,
    pub topic: Arc<str>,
    log: Arc<Log>,
    leader_epoch: i32,
    appending: Mutex<Appending>,
    /// A unit was refused (disk full): what `appending` holds runs ahead of the log.
    ahead: AtomicBool,
    /// Units with appends to this partition that the log has not answered.
    in_flight: AtomicUsize,
    /// Units with appends to this partition that the log refused.
    refusals: AtomicU64,
    waiters: Mutex<Vec<Arc<Notify>>>,
}

/// A partition whose append lock is held, in the middle of a unit.
pub(crate) struct Locked<'a> {
    partition: &'a Arc<Partition>,
    appending: MutexGuard<'a, Appending>,
}

impl Partition {
    pub(crate) fn new(
        id: PartitionId,
        topic: Arc<str>,
        log: Arc<Log>,
        leader_epoch: i32,
        next_offset: i64,
        producers: Producers,
    ) -> Self {
        let appending = Mutex::new(Appending { next_offset, producers });
        Self {
            id,
            topic,
            log,
            leader_epoch,
            appending,
            ahead: AtomicBool::new(false),
            in_flight: AtomicUsize::new(0),
            refusals: AtomicU64::new(0),
            waiters: Mutex::default(),
        }
    }

    pub(crate) fn index(&self) -> i32 {
        self.id.partition
    }

    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Durable ends; a partition that was just removed has none left.
    pub(crate) fn ends(&self) -> Ends {
        self.log.ends(self.id).unwrap_or_default()
    }

    pub(crate) fn high_watermark(&self) -> i64 {
        self.ends().log_end_offset
    }

    pub(crate) fn lock(self: &Arc<Self>) -> Locked<'_> {
        let mut appending = lock(&self.appending);
        // Offsets were given out that the log then refused: go back to what it has. But only when
        // all that was handed over is answered: a unit that is still being written is neither in
        // the log's ends nor in its producers, and would be forgotten. Under the append lock no
        // further one can be handed over.
        if self.is_ahead() && self.in_flight.load(Ordering::Acquire) == 0 {
            self.ahead.store(false, Ordering::Release);
            appending.next_offset = self.ends().log_end_offset;
            if let Ok(entries) = self.log.producers(self.id) {
                appending.producers = Producers::restored(entries, now_ms());
            }
        }
        Locked { partition: self, appending }
    }

    fn is_ahead(&self) -> bool {
        self.ahead.load(Ordering::Acquire)
    }

    /// Gives one batch to the log, unless it is a repeat or out of order.
    pub(crate) fn append(
        self: &Arc<Self>,
        batch: Batch,
        now_ms: i64,
    ) -> Result<Appended, ResponseError> {
        self.append_from(batch, Begins::Anywhere, now_ms)
    }

    /// As [`Self::append`]; `begins` is for a producer that this partition does not know.
    pub(crate) fn append_from(
        self: &Arc<Self>,
        batch: Batch,
        begins: Begins,
        now_ms: i64,
    ) -> Result<Appended, ResponseError> {
        let mut locked = self.lock();
        // Before the look at what is ahead: the commit thread, which refuses without the append
        // lock, counts a refusal last. So either it is seen below, or a repeat of what it refuses
        // carries a count from before it.
        let refusals = self.refusals.load(Ordering::Acquire);
        if self.is_ahead() {
            // The log would refuse it, for its offset; and while units keep coming, what is ahead
            // could never be set right.
            return Err(ResponseError::KafkaStorageError);
        }
        if batch.header.producer_id >= 0 {
            match locked.appending.producers.check(&batch.header, begins) {
                Verdict::New => {}
                Verdict::Repeat { base_offset, last_offset } => {
                    return Ok(Appended::Repeat { base_offset, last_offset, refusals });
                }
                Verdict::Refused(error) => return Err(error),
            }
        }
        let (base_offset, append) = locked.take(std::slice::from_ref(&batch), now_ms);
        let done = commit(&self.log, vec![append], vec![self.clone()]);
        Ok(Appended::Queued { base_offset, done })
    }

    /// Gives a marker to the log that somebody else than our coordinator wants (KIP-664).
    pub(crate) fn append_marker(
        self: &Arc<Self>,
        marker: Batch,
        now_ms: i64,
    ) -> Result<Appended, ResponseError> {
        let mut locked = self.lock();
        let (header, epoch) = (marker.header, marker.coordinator_epoch);
        let producers = &locked.appending.producers;
        producers.check_marker(header.producer_id, header.producer_epoch, epoch)?;
        let (base_offset, append) = locked.take(std::slice::from_ref(&marker), now_ms);
        let done = commit(&self.log, vec![append], vec![self.clone()]);
        Ok(Appended::Queued { base_offset, done })
    }

    /// As on a full disk, for good: appends are refused.
    #[cfg(test)]
    pub(crate) fn refuse_appends(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        self.ahead.store(true, Ordering::Release);
    }

    /// The producers that are remembered.
    pub(crate) fn producers(self: &Arc<Self>) -> Vec<ProducerState> {
        self.lock().appending.producers.states()
    }

    /// Wakes everybody who waits for records.
    pub(crate) fn wake_all(&self) {
        for waiter in lock(&self.waiters).drain(..) {
            waiter.notify_one();
        }
    }

    /// Registers a waiter for the next durable append. Register first, look second: what became
    /// durable between the two is seen by the look.
    pub(crate) fn wake_on_progress(&self, waiter: &Arc<Notify>) {
        let mut waiters = lock(&self.waiters);
        // A waiter nobody holds any more (its fetch ended) would otherwise stay until the next
        // append, which on a quiet partition may never come.
        waiters.retain(|w| Arc::strong_count(w) > 1);
        if !waiters.iter().any(|w| Arc::ptr_eq(w, waiter)) {
            waiters.push(waiter.clone());
        }
    }

    /// Waits until everything up to `last_offset` is durable: a repeat of a batch that is still on
    /// its way must not be answered before it. An error if that batch may have been refused
    /// meanwhile ([`Appended::Repeat`]): then its offsets are another's.
    pub(crate) async fn durable_past(
        &self,
        last_offset: i64,
        refusals: u64,
    ) -> Result<(), (ResponseError, String)> {
        /// So often a wait looks whether the log has failed meanwhile.
        const LOOK_EVERY: Duration = Duration::from_millis(100);
        let waiter = Arc::new(Notify::new());
        loop {
            let Some(ends) = self.log.ends(self.id) else {
                let why = "the topic was deleted".to_owned();
                return Err((ResponseError::UnknownTopicOrPartition, why));
            };
            // Looked at after the ends: a refusal is counted before others get its offsets.
            if self.refusals.load(Ordering::Acquire) != refusals {
                let why = "the batch that this one repeats was refused".to_owned();
                return Err((ResponseError::KafkaStorageError, why));
            }
            if ends.log_end_offset > last_offset {
                return Ok(());
            }
            if let Some(why) = self.log.failed() {
                return Err((ResponseError::KafkaStorageError, why));
            }
            self.wake_on_progress(&waiter);
            let _ = tokio::time::timeout(LOOK_EVERY, waiter.notified()).await;
        }
    }

    pub(crate) fn expire_producers(&self, before_ms: i64) {
        lock(&self.appending).producers.expire(before_ms);
    }
}

impl Locked<'_> {
    /// Gives out offsets for these batches, which stay consecutive.
    pub(crate) fn take(&mut self, batches: &[Batch], now_ms: i64) -> (i64, Append) {
        let base_offset = self.appending.next_offset;
        let mut next = base_offset;
        for batch in batches {
            if batch.header.producer_id >= 0 {
                let producers = &mut self.appending.producers;
                producers.appended(&batch.header, batch.coordinator_epoch, next, now_ms);
            }
            next += i64::from(batch.header.last_offset_delta) + 1;
        }
        self.appending.next_offset = next;
        let append = Append {
            partition: self.partition.id,
            base_offset,
            leader_epoch: self.partition.leader_epoch,
            batches: joined(batches),
        };
        (base_offset, append)
    }
}

fn joined(batches: &[Batch]) -> Bytes {
    match batches {
        [one] => one.bytes.clone(),
        many => many.iter().flat_map(|b| b.bytes.iter().copied()).collect(),
    }
}

/// Hands one unit to the log; the caller holds the append locks of its partitions.
pub(crate) fn commit(
    log: &Log,
    appends: Vec<Append>,
    partitions: Vec<Arc<Partition>>,
) -> oneshot::Receiver<Result<(), CommitError>> {
    let (sender, receiver) = oneshot::channel();
    for partition in &partitions {
        partition.in_flight.fetch_add(1, Ordering::AcqRel);
    }
    let done = Box::new(move |result: Result<(), CommitError>| {
        for partition in &partitions {
            if result.is_err() {
                // In this order, for whoever repeats a refused batch: see `append_from`.
                partition.ahead.store(true, Ordering::Release);
                partition.refusals.fetch_add(1, Ordering::AcqRel);
            }
            partition.in_flight.fetch_sub(1, Ordering::AcqRel);
            if result.is_ok() {
                partition.wake_all();
            }
        }
        // Nobody listens when the connection is gone; the records are durable all the same.
        let _ = sender.send(result);
    });
    log.commit(Unit { appends, done });
    receiver
}

/// Gives out offsets for all of these and hands them to the log as one unit. Every partition's
/// append lock is held meanwhile, in the order of ids.
pub(crate) fn submit(
    log: &Log,
    appends: &[(Arc<Partition>, Vec<Batch>)],
) -> (Vec<i64>, oneshot::Receiver<Result<(), CommitError>>) {
    let now = now_ms();
    let ids: BTreeMap<PartitionId, &Arc<Partition>> =
        appends.iter().map(|(p, _)| (p.id, p)).collect();
    let mut locked: BTreeMap<_, _> = ids.iter().map(|(id, p)| (*id, p.lock())).collect();
    let mut base_offsets = Vec::with_capacity(appends.len());
    let mut given = Vec::with_capacity(appends.len());
    for (partition, batches) in appends {
        let lock = locked.get_mut(&partition.id).expect("every partition was locked above");
        let (base_offset, append) = lock.take(batches, now);
        base_offsets.push(base_offset);
        given.push(append);
    }
    let partitions = ids.into_values().cloned().collect();
    let done = commit(log, given, partitions);
    (base_offsets, done)
}

/// A poisoned lock means that a thread panicked while it held it; the state under it is plain data
/// that is whole between statements, so it is used on.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
