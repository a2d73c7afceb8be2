//! The queue of writes of each group (D2).
//!
//! While one append is under way, whatever the group decides waits in its queue; then all of it
//! goes in one append. So a group that commits from many consumers at once needs one sync for all
//! of them, and still every change reaches the log, and memory, in the order of the decisions.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tracing::warn;

use super::super::consumer::{self, Record};
use super::super::exchange::{CommittedOffset, Reply, Waiter};
use super::super::machine::{Event, Group, Ticket};
use super::super::records::{self, Key};
use super::kinds::Kind;
use super::{GroupCoordinator, Place, Slot, State};

/// Records of one append: a batch of a few hundred KiB at most, unless one request alone has more.
const APPEND_RECORDS_MAX: usize = 1_000;

pub(super) type Done = oneshot::Sender<Result<(), ResponseError>>;

/// Which offsets go.
pub(super) type Doomed = Box<dyn Fn(&Place, &CommittedOffset) -> bool + Send>;

pub(super) type KeyedRecord = (Bytes, Option<Bytes>);

/// What a group of the consumer protocol decided in one step. Memory has it already; the log, and
/// whoever asked, get it by this.
pub(super) struct Decision {
    pub records: Vec<KeyedRecord>,
    /// The same, for the durable image.
    changes: Vec<Record>,
    pub replies: Vec<(Waiter, Reply)>,
    /// The classic group that ended by this: it comes back if this cannot be written.
    pub undo: Option<Box<Group>>,
    /// The group's offsets end too, all that there are when this write's turn comes.
    pub with_offsets: bool,
}

impl Decision {
    pub(super) fn of(group: &str, changes: Vec<Record>, replies: Vec<(Waiter, Reply)>) -> Self {
        let records = changes.iter().map(|record| consumer::records::encode(group, record));
        Self { records: records.collect(), changes, replies, undo: None, with_offsets: false }
    }

    pub(super) fn is_answer_only(&self) -> bool {
        self.records.is_empty() && !self.with_offsets
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.is_answer_only() && self.replies.is_empty()
    }
}

pub(super) enum Write {
    Decision(Box<Decision>),
    /// The group's own record.
    Group {
        ticket: Ticket,
        record: KeyedRecord,
    },
    /// The end of the group, with all offsets that it has when this write's turn comes.
    Tombstone {
        ticket: Ticket,
    },
    Commit {
        offsets: Vec<(Place, CommittedOffset)>,
        done: Done,
    },
    /// Tombstones for some of the offsets, chosen when this write's turn comes.
    Drop {
        doomed: Doomed,
        done: Done,
    },
}

impl Write {
    /// Its records depend on what the writes before it leave in memory.
    fn comes_alone(&self) -> bool {
        match self {
            Self::Decision(decision) => decision.with_offsets,
            Self::Tombstone { .. } | Self::Drop { .. } => true,
            Self::Group { .. } | Self::Commit { .. } => false,
        }
    }
}

/// What to do in memory once the append is durable.
enum Change {
    Written(Ticket),
    Deleted(Ticket, Vec<Place>),
    /// With the places of offsets that went with it.
    Decided(Box<Decision>, Vec<Place>),
    Committed(Vec<(Place, CommittedOffset)>, Done),
    Dropped(Vec<Place>, Done),
}

struct Append {
    records: Vec<KeyedRecord>,
    changes: Vec<Change>,
}

impl GroupCoordinator {
    pub(super) fn begin_writing(self: &Arc<Self>, group: &str, slot: &mut Slot) {
        if slot.queue.is_empty() || slot.writing {
            return;
        }
        slot.writing = true;
        // A task of its own, because a request's future ends when its client goes away, and a write
        // that others wait for must not.
        tokio::spawn(Arc::clone(self).empty_queue(group.to_owned()));
    }

    async fn empty_queue(self: Arc<Self>, group: String) {
        while let Some(append) = self.next_append(&group) {
            let result = match append.records.is_empty() {
                true => Ok(()),
                false => self.log.append(&group, append.records).await,
            };
            if let Err(error) = result {
                warn!(group, ?error, "the group could not be written");
            }
            self.apply(&group, append.changes, result);
        }
    }

    fn next_append(&self, group: &str) -> Option<Append> {
        let mut state = self.lock();
        let slot = state.groups.get_mut(group)?;
        let mut append = Append { records: Vec::new(), changes: Vec::new() };
        while let Some(write) = slot.queue.pop_front() {
            if write.comes_alone() && !append.changes.is_empty() {
                slot.queue.push_front(write);
                break;
            }
            let alone = write.comes_alone();
            append.add(group, write, &slot.offsets);
            if alone || append.records.len() >= APPEND_RECORDS_MAX {
                break;
            }
        }
        if append.changes.is_empty() {
            slot.writing = false;
            if slot.is_blank() {
                state.forget(group);
            }
            return None;
        }
        Some(append)
    }

    fn apply(
        self: &Arc<Self>,
        group: &str,
        changes: Vec<Change>,
        result: Result<(), ResponseError>,
    ) {
        let mut state = self.lock();
        let mut failed = None;
        for change in changes {
            let Some(slot) = state.groups.get_mut(group) else { return };
            match change {
                Change::Written(ticket) => {
                    self.step(&mut state, group, Event::Written { ticket, result });
                }
                Change::Deleted(ticket, places) => {
                    if result.is_ok() {
                        slot.drop_offsets(&places);
                    }
                    self.step(&mut state, group, Event::Written { ticket, result });
                    if result.is_ok() {
                        self.end_group(&mut state, group);
                    }
                }
                Change::Decided(decision, places) => match result {
                    Ok(()) => {
                        slot.drop_offsets(&places);
                        self.decided(&mut state, group, *decision);
                    }
                    Err(_) => {
                        state.drop_waiters(decision.replies.iter().map(|(waiter, _)| *waiter));
                        failed.get_or_insert(decision.undo);
                    }
                },
                Change::Committed(offsets, done) => {
                    if result.is_ok() {
                        slot.offsets.extend(offsets);
                    }
                    // The request may be gone; the commit stands.
                    let _ = done.send(result);
                }
                Change::Dropped(places, done) => {
                    if result.is_ok() {
                        slot.drop_offsets(&places);
                    }
                    let _ = done.send(result);
                }
            }
        }
        if let Some(undo) = failed {
            self.take_back(&mut state, group, undo);
        }
        self.settle(&mut state, group);
    }

    fn decided(&self, state: &mut State, group: &str, decision: Decision) {
        if let Some(slot) = state.groups.get_mut(group) {
            slot.undurable = slot.undurable.saturating_sub(1);
            for change in &decision.changes {
                slot.durable.apply(change);
            }
        }
        self.send_all(state, decision.replies);
    }

    /// A decision could not be written: neither it nor what was decided after it has happened. The
    /// group is made again from what is durable, or from the classic group that it came from.
    fn take_back(self: &Arc<Self>, state: &mut State, group: &str, undo: Option<Box<Group>>) {
        let now = (self.clock)();
        let session_timeout_ms = self.session_timeout_ms(group);
        let Some(slot) = state.groups.get_mut(group) else { return };
        let mut forsaken: Vec<Waiter> = Vec::new();
        if let Kind::Classic(machine) = &slot.kind {
            forsaken.extend(machine.waiters());
        }
        slot.queue.retain_mut(|write| match write {
            Write::Commit { .. } | Write::Drop { .. } => true,
            Write::Group { .. } | Write::Tombstone { .. } => false,
            Write::Decision(decision) => {
                forsaken.extend(decision.replies.iter().map(|(waiter, _)| *waiter));
                false
            }
        });
        slot.undurable = 0;
        let returns = undo.is_some();
        slot.kind = match undo {
            Some(classic) => Kind::Classic(classic),
            None => {
                let (settings, image) = (self.settings.consumer, slot.durable.clone());
                Kind::consumer(consumer::Group::from_image(
                    settings,
                    image,
                    now,
                    session_timeout_ms,
                ))
            }
        };
        state.drop_waiters(forsaken.into_iter());
        if returns {
            let why = "the group could not go to the consumer protocol";
            self.step(state, group, Event::Interrupted { why });
        }
    }

    /// The group is deleted. What came after the deletion stays, as a group that is new.
    fn end_group(&self, state: &mut State, group: &str) {
        let Some(slot) = state.groups.get_mut(group) else { return };
        slot.kind = Kind::classic(Group::new(self.settings));
        state.schedule(group);
    }
}

impl State {
    /// Their answers will not come: they hear COORDINATOR_NOT_AVAILABLE and try again.
    fn drop_waiters(&mut self, waiters: impl Iterator<Item = Waiter>) {
        for waiter in waiters {
            self.waiters.remove(&waiter);
        }
    }
}

impl Slot {
    fn drop_offsets(&mut self, places: &[Place]) {
        for place in places {
            self.offsets.remove(place);
        }
    }
}

impl Append {
    fn add(&mut self, group: &str, write: Write, offsets: &BTreeMap<Place, CommittedOffset>) {
        let end_all = |offsets: &BTreeMap<Place, CommittedOffset>, records: &mut Vec<_>| {
            let places: Vec<Place> = offsets.keys().cloned().collect();
            records.extend(places.iter().map(|place| (offset_key(group, place), None)));
            places
        };
        match write {
            Write::Decision(mut decision) => {
                self.records.append(&mut decision.records);
                let places = match decision.with_offsets {
                    true => end_all(offsets, &mut self.records),
                    false => Vec::new(),
                };
                self.changes.push(Change::Decided(decision, places));
            }
            Write::Group { ticket, record } => {
                self.records.push(record);
                self.changes.push(Change::Written(ticket));
            }
            Write::Commit { offsets, done } => {
                let records = offsets.iter().map(|(place, committed)| {
                    (offset_key(group, place), Some(records::offset_value(committed)))
                });
                self.records.extend(records);
                self.changes.push(Change::Committed(offsets, done));
            }
            Write::Drop { doomed, done } => {
                let places = offsets.iter().filter(|(place, committed)| doomed(place, committed));
                let places: Vec<Place> = places.map(|(place, _)| place.clone()).collect();
                self.records.extend(places.iter().map(|place| (offset_key(group, place), None)));
                self.changes.push(Change::Dropped(places, done));
            }
            Write::Tombstone { ticket } => {
                let places = end_all(offsets, &mut self.records);
                let key = Key::Group { group: group.to_owned() };
                self.records.push((key.to_bytes(), None));
                self.changes.push(Change::Deleted(ticket, places));
            }
        }
    }
}

pub(super) fn offset_key(group: &str, (topic, partition): &Place) -> Bytes {
    let (group, topic) = (group.to_owned(), topic.clone());
    Key::Offset { group, topic, partition: *partition }.to_bytes()
}
