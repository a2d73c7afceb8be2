//! Groups and their members: heartbeats, lists, descriptions, deletion.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use odradek_log::PartitionId;
use tracing::{info, warn};

use super::writes::wait_for;
use super::{Item, ShareCoordinator, Slot, State};
use crate::share::group::{Heartbeat, HeartbeatReply, JOIN_EPOCH, Refused, TopicsView};
use crate::share::records::MemberRecord;
use crate::share::{GROUP_ID_BYTES_MAX, SHARE_GROUPS_MAX};

/// One line of a list of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareLine {
    pub group: String,
    /// Kafka's word: Empty or Stable.
    pub state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareDescription {
    pub state: &'static str,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub members: BTreeMap<String, MemberRecord>,
}

impl ShareCoordinator {
    /// A member joins, lives on, or leaves. What its answer says is durable.
    pub(crate) async fn heartbeat(
        self: &Arc<Self>,
        group: &str,
        heartbeat: Heartbeat,
        topics: TopicsView<'_>,
    ) -> Result<HeartbeatReply, Refused> {
        let (reply, durable) = {
            let mut state = self.lock();
            let reply = self.step(&mut state, group, heartbeat, topics)?;
            let item = Item { group: group.to_owned(), partition: None };
            let written = !state.dirty.contains(&item) && !state.on_the_way.contains(&item);
            (reply, (!written).then(|| self.when_durable(&mut state)))
        };
        if let Some(durable) = durable {
            wait_for(durable).await.map_err(|error| (error, String::new()))?;
        }
        Ok(reply)
    }

    fn step(
        &self,
        state: &mut State,
        group: &str,
        heartbeat: Heartbeat,
        topics: TopicsView<'_>,
    ) -> Result<HeartbeatReply, Refused> {
        if state.closed {
            return Err((ResponseError::CoordinatorNotAvailable, String::new()));
        }
        let joins = heartbeat.member_epoch == JOIN_EPOCH;
        let new = self.find_or_make(state, group, joins)?;
        let settings = self.settings(group);
        let now_ms = (self.clock)().monotonic_ms;
        let Some(slot) = state.groups.get_mut(group) else { return Err(not_found(group)) };
        match slot.group.heartbeat(heartbeat, &settings, topics, now_ms) {
            Ok((reply, changed)) => {
                if changed {
                    slot.complete = false;
                    state.mark(group, None);
                }
                give_places(state, group);
                self.reschedule(state, group);
                Ok(reply)
            }
            Err(refused) => {
                if new {
                    state.groups.remove(group);
                    self.names.release(group);
                }
                Err(refused)
            }
        }
    }

    /// True if the group was made now.
    pub(super) fn find_or_make(
        &self,
        state: &mut State,
        group: &str,
        may_make: bool,
    ) -> Result<bool, Refused> {
        if state.groups.contains_key(group) {
            return Ok(false);
        }
        if !may_make {
            return Err(not_found(group));
        }
        if group.len() > GROUP_ID_BYTES_MAX {
            return Err((ResponseError::InvalidGroupId, String::new()));
        }
        if state.groups.len() >= SHARE_GROUPS_MAX {
            warn!(group, "there are {SHARE_GROUPS_MAX} share groups, no more are created");
            return Err((ResponseError::CoordinatorNotAvailable, String::new()));
        }
        if !self.names.claim(group) {
            let why = format!("Group {group} is not a share group.");
            return Err((ResponseError::GroupIdNotFound, why));
        }
        state.groups.insert(group.to_owned(), Slot::default());
        Ok(true)
    }

    /// All share groups, by name.
    pub(crate) fn list(&self) -> Vec<ShareLine> {
        let state = self.lock();
        let lines = state
            .groups
            .iter()
            .map(|(group, slot)| ShareLine { group: group.clone(), state: slot.group.state() });
        lines.collect()
    }

    /// `None` for a group that does not exist.
    pub(crate) fn describe(&self, group: &str) -> Option<ShareDescription> {
        let state = self.lock();
        let group = &state.groups.get(group)?.group;
        let record = group.record();
        Some(ShareDescription {
            state: group.state(),
            epoch: record.epoch,
            assignment_epoch: record.assignment_epoch,
            members: record.members.clone(),
        })
    }

    pub(crate) fn exists(&self, group: &str) -> bool {
        self.lock().groups.contains_key(group)
    }

    /// Deletes the group and where it stands everywhere; durable when it returns `Ok`.
    pub(crate) async fn delete(self: &Arc<Self>, group: &str) -> Result<(), ResponseError> {
        let durable = {
            let mut state = self.lock();
            if state.closed {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            let slot = state.groups.get(group).ok_or(ResponseError::GroupIdNotFound)?;
            if !slot.group.is_empty() {
                return Err(ResponseError::NonEmptyGroup);
            }
            info!(group, "the share group is deleted");
            state.forget(group);
            self.when_durable(&mut state)
        };
        wait_for(durable).await
    }

    /// The end of a topic is the end of what all groups have in it.
    pub(crate) async fn topic_deleted(
        self: &Arc<Self>,
        partitions: &[PartitionId],
    ) -> Result<(), ResponseError> {
        let durable = {
            let mut state = self.lock();
            let groups: Vec<String> = state.groups.keys().cloned().collect();
            let mut any = false;
            for group in groups {
                any |= state.take_places(&group, partitions);
                self.reschedule(&mut state, &group);
            }
            any.then(|| self.when_durable(&mut state))
        };
        match durable {
            Some(durable) => wait_for(durable).await,
            None => Ok(()),
        }
    }
}

impl State {
    /// True if the group had any of them.
    pub(super) fn take_places(&mut self, group: &str, partitions: &[PartitionId]) -> bool {
        let Some(slot) = self.groups.get_mut(group) else { return false };
        let mut taken = Vec::new();
        for id in partitions {
            if let Some(mut place) = slot.places.remove(id) {
                place.wake();
                taken.push(*id);
            }
        }
        slot.complete &= taken.is_empty();
        self.place_count -= taken.len();
        for id in &taken {
            self.mark(group, Some(*id));
        }
        !taken.is_empty()
    }
}

/// Gives the group a place for each partition that its members may be told to read.
fn give_places(state: &mut State, group: &str) {
    let Some(slot) = state.groups.get_mut(group).filter(|slot| !slot.complete) else { return };
    slot.complete = true;
    let wanted = slot.group.topics().flat_map(|seen| {
        (0..seen.partitions).map(|partition| PartitionId { topic_id: seen.id, partition })
    });
    let wanted: Vec<PartitionId> = wanted.collect();
    for id in wanted {
        if !state.add_place(group, id) {
            return;
        }
    }
}

pub(super) fn not_found(group: &str) -> Refused {
    (ResponseError::GroupIdNotFound, format!("Share group {group} not found."))
}
