//! The driver of all share groups (see the header of [`crate::share`] for what it promises).
//!
//! One mutex over all groups: every critical section is a step of a machine or two, and ends before
//! any await. What must be durable is marked; one task writes all that is marked at a time
//! ([`writes`]), so acknowledgements of many members share a sync.

mod members;
mod offsets;
mod records_out;
mod timers;
mod writes;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_log::PartitionId;
use tokio::sync::{Notify, oneshot};
use tracing::{info, warn};

use super::group::ShareGroup;
use super::partition::{Bounds, ChangeNumber, SharePartition, Summary};
use super::records::{GroupRecord, PartitionRecord};
use super::session::ShareSessions;
use super::{SHARE_PARTITIONS_MAX, ShareSettings};
use crate::clock::Clock;
use crate::state::StateKey;

pub(crate) use records_out::{Claim, Claimed, Pending};

/// Where share groups are written: `__odradek_state`.
#[async_trait]
pub(crate) trait StateLog: Send + Sync {
    /// Durable when it returns; all of them or none.
    async fn put(&self, records: Vec<(StateKey, Option<Bytes>)>) -> Result<(), ResponseError>;
}

/// Who else has group ids (S4).
pub(crate) trait GroupNames: Send + Sync {
    /// False if a group of another kind has this name.
    fn claim(&self, group: &str) -> bool;
    fn release(&self, group: &str);
}

/// The configuration of a group, as it is now.
pub(crate) type SettingsOf = Arc<dyn Fn(&str) -> ShareSettings + Send + Sync>;

/// One state record: of a group, or of one of its partitions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Item {
    group: String,
    partition: Option<PartitionId>,
}

#[derive(Default)]
struct Slot {
    group: ShareGroup,
    places: BTreeMap<PartitionId, Place>,
    /// All partitions of the topics that members want have a place.
    complete: bool,
    /// As it stands in `State::due`.
    due_ms: Option<i64>,
}

/// A partition that the group was given.
#[derive(Default)]
struct Place {
    /// `None`: nobody has read yet.
    machine: Option<SharePartition>,
    state_epoch: i32,
    /// The fetch that reads here now: two that read the same records would be one too many.
    claimed: Option<u64>,
    /// Fetches that wait for something to become free.
    waiters: Vec<Arc<Notify>>,
    /// As it is on the disk.
    durable: Option<Summary>,
}

impl Place {
    fn wake(&mut self) {
        for waiter in self.waiters.drain(..) {
            waiter.notify_one();
        }
    }

    fn record(&self) -> PartitionRecord {
        match &self.machine {
            Some(machine) => machine.record(),
            None => PartitionRecord { state_epoch: self.state_epoch, ..PartitionRecord::default() },
        }
    }
}

type Done = oneshot::Sender<Result<(), ResponseError>>;

#[derive(Default)]
struct State {
    groups: BTreeMap<String, Slot>,
    /// Of all groups.
    place_count: usize,
    /// When which group wants a tick.
    due: BTreeSet<(i64, String)>,
    /// What has to be written, and what is being written.
    dirty: BTreeSet<Item>,
    on_the_way: BTreeSet<Item>,
    /// The last change that was decided.
    change: ChangeNumber,
    writing: bool,
    /// Who waits until all changes up to a number are durable; in the order of the numbers.
    waiting: VecDeque<(ChangeNumber, Done)>,
    next_claim: u64,
    /// The log ended, or the broker stops.
    closed: bool,
}

pub(crate) struct ShareCoordinator {
    state: Mutex<State>,
    /// A leaf: nothing else is locked under it.
    sessions: Mutex<ShareSessions>,
    log: Arc<dyn StateLog>,
    names: Arc<dyn GroupNames>,
    settings: SettingsOf,
    clock: Clock,
    /// The earliest timer may have changed, or the coordinator is gone.
    timers_changed: Arc<Notify>,
}

/// What a start finds in the state log.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    pub groups: BTreeMap<String, GroupRecord>,
    pub partitions: Vec<(String, PartitionId, PartitionRecord)>,
}

impl ShareCoordinator {
    pub(crate) fn new(
        log: Arc<dyn StateLog>,
        names: Arc<dyn GroupNames>,
        settings: SettingsOf,
        clock: Clock,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            sessions: Mutex::default(),
            log,
            names,
            settings,
            clock,
            timers_changed: Arc::default(),
        })
    }

    /// Takes in what is durable. Before `start`. Partitions of topics that are gone are forgotten:
    /// a crash came between the topic's end and theirs.
    pub(crate) fn load(&self, loaded: Loaded, exists: impl Fn(PartitionId) -> bool) {
        let now_ms = (self.clock)().monotonic_ms;
        let mut state = self.lock();
        for (group, record) in loaded.groups {
            if !self.names.claim(&group) {
                warn!(group, "a share group has the name of another group; it is left alone");
                continue;
            }
            let group_settings = (self.settings)(&group);
            let machine = ShareGroup::restored(record, &group_settings, now_ms);
            state.groups.insert(group.clone(), Slot { group: machine, ..Slot::default() });
            state.schedule(&group);
        }
        for (group, id, record) in loaded.partitions {
            let State { groups, place_count, dirty, .. } = &mut *state;
            let Some(slot) = groups.get_mut(&group).filter(|_| exists(id)) else {
                dirty.insert(Item { group, partition: Some(id) });
                continue;
            };
            let machine = SharePartition::restored(&record);
            if machine.is_none() && record.start.is_some() {
                warn!(group, partition = %id, "the state of a share partition makes no sense; the \
                    group begins there anew");
            }
            let durable = machine.is_some().then(|| summary(&record)).flatten();
            let place =
                Place { machine, state_epoch: record.state_epoch, durable, ..Place::default() };
            slot.places.insert(id, place);
            *place_count += 1;
        }
        if !state.groups.is_empty() {
            info!(
                groups = state.groups.len(),
                partitions = state.place_count,
                "share groups loaded"
            );
        }
    }

    /// The end of the log's incarnation, or of the broker. Whoever waits for a write hears an error
    /// now, whoever waits for records looks again and finds nothing. Timers end.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        state.due.clear();
        state.dirty.clear();
        for slot in state.groups.values_mut() {
            slot.places.values_mut().for_each(Place::wake);
        }
        self.timers_changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug of ours; the other groups need not die of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The share sessions of all members.
    pub(crate) fn sessions(&self) -> MutexGuard<'_, ShareSessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn settings(&self, group: &str) -> ShareSettings {
        (self.settings)(group)
    }

    /// After a change to a group: its timer may be another one.
    fn reschedule(&self, state: &mut State, group: &str) {
        let earliest = state.due.first().map(|(due_ms, _)| *due_ms);
        state.schedule(group);
        if state.due.first().map(|(due_ms, _)| *due_ms) != earliest {
            self.timers_changed.notify_one();
        }
    }
}

impl State {
    fn mark(&mut self, group: &str, partition: Option<PartitionId>) {
        self.dirty.insert(Item { group: group.to_owned(), partition });
    }

    fn next_change(&mut self) -> ChangeNumber {
        self.change += 1;
        self.change
    }

    fn schedule(&mut self, group: &str) {
        let Some(slot) = self.groups.get_mut(group) else { return };
        let due_ms = slot.earliest_ms();
        if due_ms == slot.due_ms {
            return;
        }
        if let Some(old) = std::mem::replace(&mut slot.due_ms, due_ms) {
            self.due.remove(&(old, group.to_owned()));
        }
        if let Some(new) = due_ms {
            self.due.insert((new, group.to_owned()));
        }
    }

    /// Takes a group out of memory; its records are to be deleted.
    fn forget(&mut self, group: &str) {
        let Some(mut slot) = self.groups.remove(group) else { return };
        if let Some(due_ms) = slot.due_ms {
            self.due.remove(&(due_ms, group.to_owned()));
        }
        self.place_count -= slot.places.len();
        self.mark(group, None);
        for (id, place) in &mut slot.places {
            place.wake();
            self.mark(group, Some(*id));
        }
    }

    /// Gives the group a place for a partition. False: there are too many.
    fn add_place(&mut self, group: &str, id: PartitionId) -> bool {
        let Some(slot) = self.groups.get_mut(group) else { return false };
        if slot.places.contains_key(&id) {
            return true;
        }
        if self.place_count >= SHARE_PARTITIONS_MAX {
            warn!(group, "share groups read {SHARE_PARTITIONS_MAX} partitions, no more are given");
            return false;
        }
        let state_epoch = slot.group.epoch();
        slot.places.insert(id, Place { state_epoch, ..Place::default() });
        self.place_count += 1;
        self.mark(group, Some(id));
        true
    }
}

impl Slot {
    fn earliest_ms(&self) -> Option<i64> {
        let locks = self.places.values().filter_map(|place| place.machine.as_ref()?.due_ms());
        self.group.due_ms().into_iter().chain(locks).min()
    }
}

impl Drop for ShareCoordinator {
    fn drop(&mut self) {
        self.timers_changed.notify_one();
    }
}

fn bounds(settings: &ShareSettings) -> Bounds {
    Bounds {
        lock_ms: i64::from(settings.lock_ms),
        deliveries_max: settings.deliveries_max,
        in_flight_max: settings.in_flight_max,
    }
}

fn summary(record: &PartitionRecord) -> Option<Summary> {
    use super::records::RunState;
    let done = record.runs.iter().filter(|run| run.state != RunState::Available);
    let done = done.map(|run| run.last - run.first + 1).sum();
    Some(Summary { start_offset: record.start?, done })
}
