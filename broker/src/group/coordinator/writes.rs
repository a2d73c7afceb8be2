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

use super::super::exchange::CommittedOffset;
use super::super::machine::{Event, Ticket};
use super::super::records::{self, Key};
use super::{GroupCoordinator, Place, Slot};

/// Records of one append: a batch of a few hundred KiB at most, unless one request alone has more.
const APPEND_RECORDS_MAX: usize = 1_000;

pub(super) type Done = oneshot::Sender<Result<(), ResponseError>>;

/// Which offsets go.
pub(super) type Doomed = Box<dyn Fn(&Place, &CommittedOffset) -> bool + Send>;

pub(super) enum Write {
    /// The group's own record.
    Group {
        ticket: Ticket,
        record: (Bytes, Option<Bytes>),
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
        matches!(self, Self::Tombstone { .. } | Self::Drop { .. })
    }
}

/// What to do in memory once the append is durable.
enum Change {
    Written(Ticket),
    Deleted(Ticket, Vec<Place>),
    Committed(Vec<(Place, CommittedOffset)>, Done),
    Dropped(Vec<Place>, Done),
}

struct Append {
    records: Vec<(Bytes, Option<Bytes>)>,
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
    }

    /// The group is deleted. What came after the deletion stays, as a group that is new.
    fn end_group(&self, state: &mut super::State, group: &str) {
        let Some(slot) = state.groups.get_mut(group) else { return };
        slot.machine = super::Group::new(self.settings);
        state.schedule(group);
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
        match write {
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
                let places: Vec<Place> = offsets.keys().cloned().collect();
                self.records.extend(places.iter().map(|place| (offset_key(group, place), None)));
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
