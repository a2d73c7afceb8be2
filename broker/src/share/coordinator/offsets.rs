//! Where groups stand, for administrators: look, set, forget.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use odradek_log::PartitionId;
use tracing::info;

use super::writes::wait_for;
use super::{ShareCoordinator, State};
use crate::share::group::Refused;
use crate::share::partition::{SharePartition, Summary};

/// A partition that a group was given. `summary`: as it is on the disk, if the group has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetSeen {
    pub id: PartitionId,
    pub summary: Option<Summary>,
}

impl ShareCoordinator {
    /// Everything the group was given; empty for a group that does not exist.
    pub(crate) fn offsets_of(&self, group: &str) -> Vec<OffsetSeen> {
        let state = self.lock();
        let places = state.groups.get(group).into_iter().flat_map(|slot| &slot.places);
        places.map(|(id, place)| OffsetSeen { id: *id, summary: place.durable }).collect()
    }

    /// Sets where the group begins; it is made if it does not exist, and may have no members.
    /// Durable when it returns `Ok`, all of it together.
    pub(crate) async fn alter_offsets(
        self: &Arc<Self>,
        group: &str,
        starts: &[(PartitionId, i64)],
    ) -> Result<(), Refused> {
        let durable = {
            let mut state = self.lock();
            if state.closed {
                return Err((ResponseError::CoordinatorNotAvailable, String::new()));
            }
            if self.find_or_make(&mut state, group, true)? {
                state.mark(group, None);
            }
            check_empty(&state, group)?;
            for (id, start) in starts {
                info!(group, partition = %id, start, "the start of the share group is set");
                set_start(&mut state, group, *id, *start);
            }
            self.reschedule(&mut state, group);
            self.when_durable(&mut state)
        };
        wait_for(durable).await.map_err(|error| (error, String::new()))
    }

    /// Forgets where the group stands in these partitions. For each: whether there was anything.
    /// Durable when it returns `Ok`.
    pub(crate) async fn delete_offsets(
        self: &Arc<Self>,
        group: &str,
        topics: &[Vec<PartitionId>],
    ) -> Result<Vec<bool>, Refused> {
        let (found, durable) = {
            let mut state = self.lock();
            if state.closed {
                return Err((ResponseError::CoordinatorNotAvailable, String::new()));
            }
            self.find_or_make(&mut state, group, false)?;
            check_empty(&state, group)?;
            let found = topics.iter().map(|partitions| state.take_places(group, partitions));
            let found: Vec<bool> = found.collect();
            self.reschedule(&mut state, group);
            (found, self.when_durable(&mut state))
        };
        wait_for(durable).await.map_err(|error| (error, String::new()))?;
        Ok(found)
    }
}

const NOT_BEGUN: i64 = -1;

fn check_empty(state: &State, group: &str) -> Result<(), Refused> {
    match state.groups.get(group).is_none_or(|slot| slot.group.is_empty()) {
        true => Ok(()),
        false => Err((ResponseError::NonEmptyGroup, ResponseError::NonEmptyGroup.to_string())),
    }
}

/// A start of -1: the group has not begun.
fn set_start(state: &mut State, group: &str, id: PartitionId, start: i64) {
    if !state.add_place(group, id) {
        return;
    }
    let Some(slot) = state.groups.get_mut(group) else { return };
    let state_epoch = slot.group.epoch();
    let Some(place) = slot.places.get_mut(&id) else { return };
    place.machine = (start != NOT_BEGUN).then(|| SharePartition::new(start, state_epoch));
    place.state_epoch = state_epoch;
    // Whoever reads here now reads for what was.
    place.claimed = None;
    place.wake();
    state.mark(group, Some(id));
}
