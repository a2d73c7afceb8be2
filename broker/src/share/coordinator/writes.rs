//! One task writes what is marked, all of it together, until nothing is (S1, S2).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tracing::warn;

use super::{Item, ShareCoordinator, State, bounds, summary};
use crate::share::WRITE_BYTES_MAX;
use crate::share::partition::{ChangeNumber, Summary};
use crate::state::{self, StateKey};

/// What is under way.
struct Batch {
    /// Everything that was decided up to here is in it.
    change: ChangeNumber,
    records: Vec<(StateKey, Option<Bytes>)>,
    /// What of it is there still, and how partitions stand in it.
    items: BTreeMap<Item, Written>,
}

enum Written {
    Group,
    Partition(Option<Summary>),
    /// It is deleted.
    Nothing,
}

impl ShareCoordinator {
    /// Resolves when everything that is decided by now is durable. After the end, at once: the
    /// sender goes, because nobody would come any more to answer it.
    pub(super) fn when_durable(
        self: &Arc<Self>,
        state: &mut State,
    ) -> oneshot::Receiver<Result<(), ResponseError>> {
        let (sender, receiver) = oneshot::channel();
        let change = state.next_change();
        if !state.closed {
            state.waiting.push_back((change, sender));
            self.begin_writing(state);
        }
        receiver
    }

    pub(super) fn begin_writing(self: &Arc<Self>, state: &mut State) {
        let idle = state.dirty.is_empty() && state.waiting.is_empty();
        if state.writing || state.closed || idle {
            return;
        }
        state.writing = true;
        // A task of its own, because a request's future ends when its client goes away, and a write
        // that others wait for must not.
        tokio::spawn(Arc::clone(self).write_all());
    }

    async fn write_all(self: Arc<Self>) {
        while let Some(mut batch) = self.next_batch() {
            let records = std::mem::take(&mut batch.records);
            let result = self.put(records).await;
            if let Err(error) = result {
                warn!(?error, "share groups could not be written");
            }
            if !self.written(batch, result) {
                return;
            }
        }
    }

    /// In one unit of the log, as long as that is not larger than it takes. If a later unit fails,
    /// all of it counts as not written, and is written again with the next change.
    async fn put(&self, records: Vec<(StateKey, Option<Bytes>)>) -> Result<(), ResponseError> {
        let (mut unit, mut bytes) = (Vec::new(), 0);
        for (key, value) in records {
            let more = key.to_bytes().len() + value.as_ref().map_or(0, Bytes::len);
            if bytes + more > WRITE_BYTES_MAX && !unit.is_empty() {
                self.log.put(std::mem::take(&mut unit)).await?;
                bytes = 0;
            }
            bytes += more;
            unit.push((key, value));
        }
        match unit.is_empty() {
            true => Ok(()),
            false => self.log.put(unit).await,
        }
    }

    fn next_batch(&self) -> Option<Batch> {
        let mut state = self.lock();
        if state.closed || (state.dirty.is_empty() && state.waiting.is_empty()) {
            state.writing = false;
            return None;
        }
        let dirty = std::mem::take(&mut state.dirty);
        let mut batch = Batch { change: state.change, records: Vec::new(), items: BTreeMap::new() };
        for item in &dirty {
            let (value, written) = value_of(&state, item);
            batch.records.push((key_of(item), value));
            batch.items.insert(item.clone(), written);
        }
        state.on_the_way = dirty;
        Some(batch)
    }

    /// False: the task ends.
    fn written(&self, batch: Batch, result: Result<(), ResponseError>) -> bool {
        let mut state = self.lock();
        state.on_the_way.clear();
        let now_ms = (self.clock)().monotonic_ms;
        for (item, written) in batch.items {
            if result.is_err() {
                // It is tried again with the next change.
                state.dirty.insert(item.clone());
            }
            match (item.partition, written) {
                (Some(id), written) => {
                    let bounds = bounds(&(self.settings)(&item.group));
                    let slot = state.groups.get_mut(&item.group);
                    let Some(place) = slot.and_then(|slot| slot.places.get_mut(&id)) else {
                        continue;
                    };
                    if let (Ok(()), Written::Partition(summary)) = (result, written) {
                        place.durable = summary;
                    }
                    if let Some(machine) = &mut place.machine {
                        machine.settle(batch.change, result.is_ok(), &bounds, now_ms);
                    }
                    place.wake();
                }
                (None, Written::Nothing) => {
                    // A group of this name may have been made meanwhile.
                    if result.is_ok() && !state.groups.contains_key(&item.group) {
                        self.names.release(&item.group);
                    }
                }
                (None, _) => {}
            }
            self.reschedule(&mut state, &item.group);
        }
        while state.waiting.front().is_some_and(|(change, _)| *change <= batch.change) {
            if let Some((_, done)) = state.waiting.pop_front() {
                // The request may be gone; what it asked for stands.
                let _ = done.send(result);
            }
        }
        if result.is_err() && state.waiting.is_empty() {
            // Not in a circle while the disk is full: the next request or lock tries again.
            state.writing = false;
        }
        state.writing
    }
}

fn key_of(item: &Item) -> StateKey {
    match item.partition {
        Some(id) => StateKey::SharePartition(item.group.clone(), id),
        None => StateKey::ShareGroup(item.group.clone()),
    }
}

fn value_of(state: &State, item: &Item) -> (Option<Bytes>, Written) {
    let Some(slot) = state.groups.get(&item.group) else { return (None, Written::Nothing) };
    let Some(id) = item.partition else {
        return (Some(state::value(slot.group.record())), Written::Group);
    };
    let Some(place) = slot.places.get(&id) else { return (None, Written::Nothing) };
    let record = place.record();
    (Some(state::value(&record)), Written::Partition(summary(&record)))
}

/// For replies that know the coordinator's errors only.
pub(super) async fn wait_for(
    done: oneshot::Receiver<Result<(), ResponseError>>,
) -> Result<(), ResponseError> {
    // The sender is gone only if the log ended.
    match done.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(ResponseError::CoordinatorNotAvailable),
    }
}
