//! Records on their way to members and back: claims, acquisition, acknowledgement, release.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use odradek_log::PartitionId;
use tokio::sync::{Notify, oneshot};

use super::{ShareCoordinator, State, bounds};
use crate::share::partition::{Acknowledgement, Acquired, Refusal, SharePartition, Wanted};
use crate::share::session::SessionKey;

/// What a fetch finds at a partition.
#[derive(Debug)]
pub(crate) enum Claimed {
    /// The group was never given this partition.
    Unknown,
    /// Another fetch reads here, or as much is out as may be: wait.
    NotNow,
    /// Nobody has read here yet: find out where the group begins.
    ToBegin(Claim),
    /// Read from this offset on.
    Read { claim: Claim, offset: i64 },
}

/// The right to read a partition for a group, until it is dropped. Then those who waited for it
/// look again.
#[derive(Debug)]
pub(crate) struct Claim {
    coordinator: Arc<ShareCoordinator>,
    group: String,
    id: PartitionId,
    number: u64,
    /// Of the fetch that claimed: it does not wake itself.
    waiter: Arc<Notify>,
    /// There was nothing to read, so nobody needs to look again.
    quiet: bool,
}

impl Claim {
    /// Ends it without waking anybody: fetches that find nothing would wake each other in a circle.
    pub(crate) fn put_back(mut self) {
        self.quiet = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.coordinator.lock();
        let slot = state.groups.get_mut(&self.group);
        let Some(place) = slot.and_then(|slot| slot.places.get_mut(&self.id)) else { return };
        if place.claimed != Some(self.number) {
            return;
        }
        place.claimed = None;
        if !self.quiet {
            place.waiters.retain(|waiter| {
                let own = Arc::ptr_eq(waiter, &self.waiter);
                if !own {
                    waiter.notify_one();
                }
                own
            });
        }
    }
}

impl std::fmt::Debug for ShareCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ShareCoordinator")
    }
}

/// Acknowledgements that are decided; what became of each partition's, once it is durable.
#[derive(Debug)]
pub(crate) struct Pending {
    results: Vec<(PartitionId, Result<(), ResponseError>)>,
    durable: Option<oneshot::Receiver<Result<(), ResponseError>>>,
}

impl Pending {
    pub(crate) fn nothing() -> Self {
        Self { results: Vec::new(), durable: None }
    }

    pub(crate) async fn wait(self) -> Vec<(PartitionId, Result<(), ResponseError>)> {
        let Some(durable) = self.durable else { return self.results };
        let written = super::writes::wait_for(durable).await;
        let results = self.results.into_iter();
        results.map(|(id, result)| (id, result.and(written))).collect()
    }
}

impl ShareCoordinator {
    /// Claims a partition for reading, if there is anything to hand out. `waiter` hears when that
    /// may have changed.
    pub(crate) fn claim(
        self: &Arc<Self>,
        group: &str,
        id: PartitionId,
        log_start: i64,
        waiter: &Arc<Notify>,
    ) -> Claimed {
        let bounds = bounds(&self.settings(group));
        let mut state = self.lock();
        let number = state.next_claim;
        state.next_claim += 1;
        let State { groups, dirty, closed, .. } = &mut *state;
        let slot = groups.get_mut(group).filter(|_| !*closed);
        let Some(place) = slot.and_then(|slot| slot.places.get_mut(&id)) else {
            return Claimed::Unknown;
        };
        // Waiters whose fetch ended would stay for ever where nothing happens.
        place.waiters.retain(|known| Arc::strong_count(known) > 1);
        if !place.waiters.iter().any(|known| Arc::ptr_eq(known, waiter)) {
            place.waiters.push(Arc::clone(waiter));
        }
        if place.claimed.is_some() {
            return Claimed::NotNow;
        }
        let offset = match &mut place.machine {
            Some(machine) => {
                if machine.log_starts_at(log_start) {
                    let group = group.to_owned();
                    dirty.insert(super::Item { group, partition: Some(id) });
                }
                if !machine.may_acquire(&bounds) {
                    return Claimed::NotNow;
                }
                Some(machine.next_fetch_offset())
            }
            None => None,
        };
        place.claimed = Some(number);
        let claim = Claim {
            coordinator: Arc::clone(self),
            group: group.to_owned(),
            id,
            number,
            waiter: Arc::clone(waiter),
            quiet: false,
        };
        match offset {
            Some(offset) => Claimed::Read { claim, offset },
            None => Claimed::ToBegin(claim),
        }
    }

    /// The group begins here; durable when it returns `Ok`.
    pub(crate) async fn begin(
        self: &Arc<Self>,
        claim: &Claim,
        start: i64,
    ) -> Result<(), ResponseError> {
        let durable = {
            let mut state = self.lock();
            let slot = state.groups.get_mut(&claim.group);
            let place = slot.and_then(|slot| slot.places.get_mut(&claim.id));
            let place = place.filter(|place| place.claimed == Some(claim.number));
            let place = place.ok_or(ResponseError::UnknownTopicOrPartition)?;
            if place.machine.is_some() {
                return Ok(());
            }
            place.machine = Some(SharePartition::new(start, place.state_epoch));
            state.mark(&claim.group, Some(claim.id));
            self.when_durable(&mut state)
        };
        super::writes::wait_for(durable).await
    }

    /// Hands out what was read under this claim, and ends the claim.
    pub(crate) fn acquire(&self, claim: Claim, wanted: &Wanted<'_>) -> Vec<Acquired> {
        let bounds = bounds(&self.settings(&claim.group));
        let mut state = self.lock();
        let now_ms = (self.clock)().monotonic_ms;
        let slot = state.groups.get_mut(&claim.group);
        let place = slot.and_then(|slot| slot.places.get_mut(&claim.id));
        let place = place.filter(|place| place.claimed == Some(claim.number));
        let machine = place.and_then(|place| place.machine.as_mut());
        let acquired = machine.map(|machine| machine.acquire(wanted, &bounds, now_ms));
        self.reschedule(&mut state, &claim.group);
        drop(state);
        acquired.unwrap_or_default()
    }

    /// Takes acknowledgements, each partition's as a whole or not at all.
    pub(crate) fn acknowledge(
        self: &Arc<Self>,
        key: &SessionKey,
        acknowledged: Vec<(PartitionId, Vec<Acknowledgement>)>,
    ) -> Pending {
        let (group, member) = key;
        let bounds = bounds(&self.settings(group));
        let mut state = self.lock();
        let mut results = Vec::with_capacity(acknowledged.len());
        let mut changed = false;
        for (id, acknowledgements) in acknowledged {
            let change = state.next_change();
            let closed = state.closed;
            let slot = state.groups.get_mut(group).filter(|_| !closed);
            let place = slot.and_then(|slot| slot.places.get_mut(&id));
            let result = match place.and_then(|place| place.machine.as_mut()) {
                None => Err(ResponseError::UnknownTopicOrPartition),
                Some(machine) => {
                    let took = machine.acknowledge(member, &acknowledgements, change, &bounds);
                    took.map_err(|refusal| match refusal {
                        Refusal::NeverOut => ResponseError::InvalidRequest,
                        Refusal::NotHeld => ResponseError::InvalidRecordState,
                    })
                }
            };
            if result == Ok(true) {
                state.mark(group, Some(id));
                changed = true;
            }
            results.push((id, result.map(|_| ())));
        }
        self.reschedule(&mut state, group);
        let durable = changed.then(|| self.when_durable(&mut state));
        Pending { results, durable }
    }

    /// The session is over: what the member still has is free again, as soon as that is durable.
    pub(crate) fn end_session(self: &Arc<Self>, key: &SessionKey) {
        if self.sessions().remove(key) {
            self.release(key);
        }
    }

    /// The connection of a session is gone.
    pub(crate) fn disconnected(self: &Arc<Self>, key: &SessionKey, serial: u64) {
        if self.sessions().remove_serial(key, serial) {
            self.release(key);
        }
    }

    fn release(self: &Arc<Self>, (group, member): &SessionKey) {
        let bounds = bounds(&self.settings(group));
        let mut state = self.lock();
        if state.closed {
            return;
        }
        let change = state.next_change();
        let State { groups, dirty, .. } = &mut *state;
        let Some(slot) = groups.get_mut(group) else { return };
        for (id, place) in &mut slot.places {
            let Some(machine) = &mut place.machine else { continue };
            if machine.release(member, change, &bounds) {
                dirty.insert(super::Item { group: group.clone(), partition: Some(*id) });
            }
        }
        self.reschedule(&mut state, group);
        self.begin_writing(&mut state);
    }
}
