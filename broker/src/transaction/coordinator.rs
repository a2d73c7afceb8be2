//! The driver of all transactional ids (see the header of [`super`] for what it promises).

mod timers;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use kafka_protocol::ResponseError;
use odradek_log::{CommitError, PartitionId};
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};
use uuid::Uuid;

use super::machine::{self, Effect, Ending, Event, Reply, Support, Transaction, Waiter, Write};
use super::record::{NO_EPOCH, PendingOffset, Producer, TransactionRecord};
use super::{TRANSACTIONAL_ID_BYTES_MAX, TRANSACTIONAL_IDS_MAX, TransactionSettings};
use crate::clock::Clock;
use crate::partition::{Appended, lock};

pub(crate) type Handed = oneshot::Receiver<Result<(), CommitError>>;

/// Where transactions are written.
#[async_trait]
pub(crate) trait TransactionLog: Send + Sync {
    /// Hands one unit to the log, now, without waiting: what is handed over later is behind it in
    /// every partition.
    fn hand_over(&self, transactional_id: &str, write: &Write) -> Handed;

    /// Makes visible what a durable end committed for groups.
    fn show_offsets(&self, ending: &Ending, at_ms: i64);

    /// A producer id that nobody ever had.
    async fn new_producer_id(&self) -> Result<i64, ResponseError>;
}

/// One transactional id with everything that belongs to it.
struct Slot {
    machine: Transaction,
    waiters: HashMap<Waiter, oneshot::Sender<Reply>>,
    next_waiter: Waiter,
    /// Groups under which the index of pending offsets has this id.
    pending_groups: BTreeSet<String>,
    /// Out of the map: whoever still holds it looks again.
    gone: bool,
}

type Ids = BTreeMap<String, Arc<Mutex<Slot>>>;

/// Of one group: which transactions have offsets pending for which partitions.
type PendingPlaces = HashMap<String, HashSet<(Uuid, i32)>>;

pub(crate) struct TransactionCoordinator {
    ids: Mutex<Ids>,
    /// By group, then by transactional id.
    pending: Mutex<HashMap<String, PendingPlaces>>,
    log: Arc<dyn TransactionLog>,
    settings: TransactionSettings,
    clock: Clock,
    /// The log ended, or the broker stops.
    closed: AtomicBool,
    /// The coordinator is closed or gone: timers end.
    ended: Arc<Notify>,
}

/// One line of a list of transactions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    pub transactional_id: String,
    /// Kafka's word.
    pub state: &'static str,
    pub record: TransactionRecord,
}

impl TransactionCoordinator {
    pub(crate) fn new(
        log: Arc<dyn TransactionLog>,
        settings: TransactionSettings,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            ids: Mutex::default(),
            pending: Mutex::default(),
            log,
            settings,
            clock,
            closed: AtomicBool::new(false),
            ended: Arc::default(),
        })
    }

    /// Takes in what was kept, made whole by [`super::recover`]. Before `start`.
    pub(crate) fn load(&self, records: BTreeMap<String, TransactionRecord>) {
        let now = (self.clock)();
        let mut ids = lock(&self.ids);
        for (id, record) in records {
            let slot = Slot::shared(Transaction::restored(record, now));
            self.index_pending(&id, &mut lock(&slot));
            ids.insert(id, slot);
        }
        if !ids.is_empty() {
            info!(transactional_ids = ids.len(), "transactions loaded");
        }
    }

    /// InitProducerId of a transactional producer.
    pub(crate) async fn init(
        self: &Arc<Self>,
        id: &str,
        timeout_ms: i32,
        expected: Option<Producer>,
    ) -> Result<Producer, ResponseError> {
        if id.is_empty() || id.len() > TRANSACTIONAL_ID_BYTES_MAX {
            return Err(ResponseError::InvalidRequest);
        }
        if timeout_ms <= 0 || timeout_ms > self.settings.timeout_ms_max {
            return Err(ResponseError::InvalidTransactionTimeout);
        }
        if self.slot(id).is_none() {
            let producer_id = self.log.new_producer_id().await?;
            self.make(id, producer_id, timeout_ms)?;
        }
        let asked = self.ask_for_producer(id, |waiter, fresh_producer_id| Event::Init {
            waiter,
            timeout_ms,
            expected,
            fresh_producer_id,
        });
        asked.await.map_err(|error| match error {
            // The id was forgotten in this very moment; the client asks again, and makes it anew.
            ResponseError::InvalidProducerIdMapping => ResponseError::CoordinatorNotAvailable,
            other => other,
        })
    }

    /// AddPartitionsToTxn and AddOffsetsToTxn; durable when it returns `Ok`.
    pub(crate) async fn add_partitions(
        self: &Arc<Self>,
        id: &str,
        producer: Producer,
        partitions: BTreeSet<PartitionId>,
    ) -> Result<(), ResponseError> {
        self.ask_for_done(id, |waiter| Event::AddPartitions { waiter, producer, partitions }).await
    }

    /// TxnOffsetCommit; durable when it returns `Ok`, and a group's with the commit.
    pub(crate) async fn commit_offsets(
        self: &Arc<Self>,
        id: &str,
        producer: Producer,
        support: Support,
        through: PartitionId,
        offsets: Vec<PendingOffset>,
    ) -> Result<(), ResponseError> {
        self.ask_for_done(id, |waiter| Event::CommitOffsets {
            waiter,
            producer,
            support,
            through,
            offsets,
        })
        .await
    }

    /// EndTxn; all of it is durable when it returns `Ok`.
    pub(crate) async fn end(
        self: &Arc<Self>,
        id: &str,
        producer: Producer,
        commit: bool,
        bumps: bool,
    ) -> Result<Producer, ResponseError> {
        self.ask_for_producer(id, |waiter, fresh_producer_id| Event::End {
            waiter,
            producer,
            commit,
            bumps,
            fresh_producer_id,
        })
        .await
    }

    /// Runs `append`, which hands one batch of this producer to the log, if the batch may stand in
    /// the transaction now (T2). The outer error is the coordinator's, the inner one the log's.
    pub(crate) fn append(
        &self,
        id: &str,
        producer: Producer,
        partition: PartitionId,
        support: Support,
        append: impl FnOnce() -> Result<Appended, ResponseError>,
    ) -> Result<Result<Appended, ResponseError>, ResponseError> {
        if self.is_closed() {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let Some(slot) = self.slot(id) else {
            return Err(ResponseError::InvalidProducerIdMapping);
        };
        let mut slot = lock(&slot);
        if slot.gone {
            // It expired while we waited for the lock: nobody would ever end what begins here.
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        slot.machine.admit_batch(producer, partition, support)?;
        let appended = append();
        if matches!(appended, Ok(Appended::Queued { .. })) {
            slot.machine.produced(partition, (self.clock)());
        }
        Ok(appended)
    }

    /// AddPartitionsToTxn that only asks (version 4 and above).
    pub(crate) fn verify(
        &self,
        id: &str,
        producer: Producer,
        partition: PartitionId,
    ) -> Result<(), ResponseError> {
        let slot = self.slot(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
        let slot = lock(&slot);
        if slot.gone {
            return Err(ResponseError::InvalidProducerIdMapping);
        }
        slot.machine.admit_batch(producer, partition, Support::Abortable)
    }

    /// The partitions (topic id, index) for which a transaction that is not over has an offset of
    /// this group: what the group committed before may be old in a moment (KIP-447).
    pub(crate) fn pending_places(&self, group: &str) -> HashSet<(Uuid, i32)> {
        let pending = lock(&self.pending);
        let of_group = pending.get(group).into_iter().flat_map(HashMap::values);
        of_group.flatten().copied().collect()
    }

    /// The group is deleted; durable when it returns `Ok`.
    pub(crate) async fn group_deleted(self: &Arc<Self>, group: &str) -> Result<(), ResponseError> {
        let ids = lock(&self.pending).get(group).map(|ids| ids.keys().cloned().collect());
        let ids: Vec<String> = ids.unwrap_or_default();
        for id in ids {
            let group = group.to_owned();
            let dropped = self.ask_for_done(&id, |waiter| Event::DropGroup { waiter, group }).await;
            match dropped {
                Ok(()) | Err(ResponseError::InvalidProducerIdMapping) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All transactional ids, by name.
    pub(crate) fn list(&self) -> Vec<Line> {
        let ids: Vec<_> = lock(&self.ids).iter().map(|(id, s)| (id.clone(), s.clone())).collect();
        ids.into_iter().filter_map(|(id, slot)| line(&id, &slot)).collect()
    }

    pub(crate) fn describe(&self, id: &str) -> Option<Line> {
        let slot = self.slot(id)?;
        line(id, &slot)
    }

    /// The end of the log's incarnation, or of the broker: whoever waits hears
    /// COORDINATOR_NOT_AVAILABLE now, and so does everybody who comes later.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let slots: Vec<_> = lock(&self.ids).values().cloned().collect();
        for slot in slots {
            lock(&slot).waiters.clear();
        }
        self.ended.notify_one();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn slot(&self, id: &str) -> Option<Arc<Mutex<Slot>>> {
        lock(&self.ids).get(id).cloned()
    }

    /// One that somebody else made meanwhile is as good; the producer id is then not used.
    fn make(&self, id: &str, producer_id: i64, timeout_ms: i32) -> Result<(), ResponseError> {
        let mut ids = lock(&self.ids);
        if ids.contains_key(id) {
            return Ok(());
        }
        if ids.len() >= TRANSACTIONAL_IDS_MAX {
            warn!("there are {TRANSACTIONAL_IDS_MAX} transactional ids, no more are taken");
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        ids.insert(id.to_owned(), Slot::shared(Transaction::new(producer_id, timeout_ms)));
        Ok(())
    }

    async fn ask_for_done(
        self: &Arc<Self>,
        id: &str,
        event: impl FnOnce(Waiter) -> Event,
    ) -> Result<(), ResponseError> {
        match self.ask(id, event).await? {
            Reply::Done(result) => result,
            Reply::Producer(_) | Reply::NeedsProducerId => Err(ResponseError::UnknownServerError),
        }
    }

    /// Asks once more, with a fresh producer id, if that turns out to be needed.
    async fn ask_for_producer(
        self: &Arc<Self>,
        id: &str,
        event: impl Fn(Waiter, Option<i64>) -> Event,
    ) -> Result<Producer, ResponseError> {
        let mut fresh_producer_id = None;
        loop {
            match self.ask(id, |waiter| event(waiter, fresh_producer_id)).await? {
                Reply::Producer(result) => return result,
                Reply::NeedsProducerId if fresh_producer_id.is_none() => {
                    fresh_producer_id = Some(self.log.new_producer_id().await?);
                }
                Reply::NeedsProducerId | Reply::Done(_) => {
                    return Err(ResponseError::UnknownServerError);
                }
            }
        }
    }

    /// Gives the event to the id's machine and waits for its answer.
    async fn ask(
        self: &Arc<Self>,
        id: &str,
        event: impl FnOnce(Waiter) -> Event,
    ) -> Result<Reply, ResponseError> {
        let answer = {
            if self.is_closed() {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            let slot = self.slot(id).ok_or(ResponseError::InvalidProducerIdMapping)?;
            let mut guard = lock(&slot);
            // Looked at again: `close` may have come by this slot while we waited for its lock, and
            // would not come to answer us.
            if self.is_closed() {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            if guard.gone {
                // It expired in this very moment.
                return Err(ResponseError::InvalidProducerIdMapping);
            }
            let waiter = guard.next_waiter;
            guard.next_waiter += 1;
            let (sender, answer) = oneshot::channel();
            guard.waiters.insert(waiter, sender);
            self.step(id, &slot, &mut guard, event(waiter));
            answer
        };
        // The sender is gone only if the log ended and took the coordinator with it.
        answer.await.map_err(|_| ResponseError::CoordinatorNotAvailable)
    }

    /// One step of an id's machine, and what it asks for, under the id's lock. Offsets are pending
    /// from the moment in which they are queued: the group's new member, which asks for stable ones
    /// while they are being written, must not begin at those before them (KIP-447).
    fn step(
        self: &Arc<Self>,
        id: &str,
        shared: &Arc<Mutex<Slot>>,
        slot: &mut MutexGuard<'_, Slot>,
        event: Event,
    ) {
        let now = (self.clock)();
        for effect in machine::step(&mut slot.machine, event, &self.settings, now) {
            match effect {
                Effect::Reply(waiter, reply) => {
                    if let Some(sender) = slot.waiters.remove(&waiter) {
                        // Nobody listens any more: the client is gone, what it asked for stands.
                        let _ = sender.send(reply);
                    }
                }
                Effect::Write(write) => {
                    let handed = self.log.hand_over(id, &write);
                    let coordinator = Arc::clone(self);
                    // A task of its own, because a request's future ends when its client goes.
                    tokio::spawn(coordinator.wait(id.to_owned(), shared.clone(), write, handed));
                }
                Effect::Note(note) => {
                    info!(transactional_id = %printable(id), "transaction {note}");
                }
                Effect::Forget => {
                    slot.gone = true;
                    lock(&self.ids).remove(id);
                }
            }
        }
        self.index_pending(id, slot);
    }

    async fn wait(
        self: Arc<Self>,
        id: String,
        shared: Arc<Mutex<Slot>>,
        write: Write,
        handed: Handed,
    ) {
        let result = match handed.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                warn!(transactional_id = %printable(&id), %error, "a transaction was not written");
                Err(ResponseError::CoordinatorNotAvailable)
            }
            Err(_) => Err(ResponseError::CoordinatorNotAvailable),
        };
        if self.is_closed() {
            return;
        }
        let mut slot = lock(&shared);
        // First what was committed is shown, then it is no longer pending: a reader that asks for
        // stable offsets never sees the old one in between.
        if let (Ok(()), Some(ending)) = (&result, &write.ending) {
            self.log.show_offsets(ending, write.at_ms);
        }
        self.step(&id, &shared, &mut slot, Event::Written(result));
    }

    /// Brings the index of pending offsets up to this id's machine.
    fn index_pending(&self, id: &str, slot: &mut Slot) {
        let mut offsets = slot.machine.pending_offsets().peekable();
        if offsets.peek().is_none() && slot.pending_groups.is_empty() {
            return;
        }
        let mut pending = lock(&self.pending);
        for group in std::mem::take(&mut slot.pending_groups) {
            if let Some(ids) = pending.get_mut(&group) {
                ids.remove(id);
                if ids.is_empty() {
                    pending.remove(&group);
                }
            }
        }
        for offset in offsets {
            slot.pending_groups.insert(offset.group.clone());
            let ids = pending.entry(offset.group.clone()).or_default();
            let places = ids.entry(id.to_owned()).or_default();
            places.insert((offset.topic_id, offset.partition));
        }
    }
}

impl Slot {
    fn shared(machine: Transaction) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            machine,
            waiters: HashMap::new(),
            next_waiter: 0,
            pending_groups: BTreeSet::new(),
            gone: false,
        }))
    }
}

/// `None` for an id that has no epoch yet: nobody was told of it.
fn line(id: &str, slot: &Mutex<Slot>) -> Option<Line> {
    let slot = lock(slot);
    let record = slot.machine.record().clone();
    let known = !slot.gone && record.epoch != NO_EPOCH;
    known.then(|| Line {
        transactional_id: id.to_owned(),
        state: slot.machine.state_name(),
        record,
    })
}

/// Ids are what clients call themselves: no line of the log is theirs to forge.
pub(crate) fn printable(id: &str) -> String {
    id.replace(|c: char| c.is_control(), "?")
}

#[cfg(test)]
mod tests;
