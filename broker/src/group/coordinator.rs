//! The driver of all groups (see the header of [`crate::group`] for what it promises).
//!
//! One mutex over all groups: every critical section is a few map look-ups and one step of a
//! machine, and ends before any await. What takes time (the log) goes through a queue in each
//! group, emptied by one task while there is something in it ([`writes`]).

mod kinds;
mod offset_deletion;
mod offsets;
mod routes;
mod share_names;
mod timers;
mod writes;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, info, warn};

use super::codec::{RecordError, cut_to};
use super::consumer::{self, TopicSource};
use super::exchange::{
    Caller, CommittedOffset, ConsumerDescription, Description, GroupKind, GroupLine, Join,
    JoinReply, LeaveReply, Leaving, Left, MemberHeartbeat, MemberReply, NO_MEMBER_ID, Refusal,
    Reply, Sync, SyncReply, Waiter,
};
use super::machine::{Group, Ticket};
use super::records::{self, Key};
use super::{GROUPS_MAX, GroupSettings, MEMBER_NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::clock::{Clock, Now};
use kinds::Kind;
use routes::Asked;
use writes::Write;

/// Where groups are written: `__consumer_offsets`.
#[async_trait]
pub(crate) trait OffsetsLog: Send + std::marker::Sync {
    /// Durable when it returns. Records of one call are one atomic unit; calls for one group come
    /// one after the other. `group` decides the partition.
    async fn append(
        &self,
        group: &str,
        records: Vec<(Bytes, Option<Bytes>)>,
    ) -> Result<(), ResponseError>;
}

pub(crate) type Place = (String, i32);

/// What members of the consumer protocol are told, and held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MemberTimeouts {
    pub session_ms: i32,
    pub heartbeat_ms: i32,
}

/// What the coordinator asks the rest of the broker.
pub(crate) struct Surroundings {
    pub topics: Arc<dyn TopicSource>,
    /// Of a group, by its configuration of now.
    pub timeouts: Box<dyn Fn(&str) -> MemberTimeouts + Send + std::marker::Sync>,
}

/// One group with everything that belongs to it.
struct Slot {
    kind: Kind,
    /// The group's records of the consumer protocol, as far as they are durable: what is shown, and
    /// what it is made from again if a write fails.
    durable: consumer::Image,
    /// Decisions of the consumer protocol that are queued or being written: an answer that rests on
    /// one of them waits for it.
    undurable: usize,
    /// For the next classic group of this name: see `Group::from_seed`.
    next_ticket: Ticket,
    offsets: BTreeMap<Place, CommittedOffset>,
    queue: VecDeque<Write>,
    /// A task is emptying the queue.
    writing: bool,
    /// Read by this process itself: nobody joins, and still its offsets do not expire.
    held: bool,
    /// As it stands in `State::due`.
    due_ms: Option<i64>,
}

impl Slot {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            durable: consumer::Image::default(),
            undurable: 0,
            next_ticket: 0,
            offsets: BTreeMap::new(),
            queue: VecDeque::new(),
            writing: false,
            held: false,
            due_ms: None,
        }
    }

    fn is_blank(&self) -> bool {
        self.kind.is_blank() && self.offsets.is_empty() && self.queue.is_empty() && !self.writing
    }
}

#[derive(Default)]
struct State {
    groups: BTreeMap<String, Slot>,
    /// Names that share groups have: no group of the kinds here may be made under them.
    share_names: BTreeSet<String>,
    /// When which group wants a tick.
    due: BTreeSet<(i64, String)>,
    waiters: HashMap<Waiter, oneshot::Sender<Reply>>,
    next_waiter: Waiter,
    /// The log ended, or the broker stops.
    closed: bool,
}

pub(crate) struct GroupCoordinator {
    state: Mutex<State>,
    log: Arc<dyn OffsetsLog>,
    settings: GroupSettings,
    surroundings: Surroundings,
    clock: Clock,
    /// The earliest timer may have changed, or the coordinator is gone.
    timers_changed: Arc<Notify>,
}

impl GroupCoordinator {
    pub(crate) fn new(
        log: Arc<dyn OffsetsLog>,
        settings: GroupSettings,
        surroundings: Surroundings,
        clock: Clock,
    ) -> Arc<Self> {
        let timers_changed = Arc::new(Notify::new());
        let state = Mutex::default();
        Arc::new(Self { state, log, settings, surroundings, clock, timers_changed })
    }

    /// Takes in the latest value of each key of `__consumer_offsets`, in any order. Before `start`.
    pub(crate) fn load(&self, loaded: impl IntoIterator<Item = (Bytes, Bytes)>) {
        let now = (self.clock)();
        let mut guard = self.lock();
        let mut skipped = 0_usize;
        for (key, value) in loaded {
            if let Err(error) = self.load_one(&mut guard, &key, &value, now) {
                // The keys of other group protocols land here too: nothing to worry about.
                debug!(%error, "a record of __consumer_offsets was skipped");
                skipped += 1;
            }
        }
        let names: Vec<String> = guard.groups.keys().cloned().collect();
        for name in &names {
            self.wake_consumer_group(&mut guard, name, now);
            guard.schedule(name);
        }
        if !names.is_empty() || skipped > 0 {
            info!(groups = names.len(), skipped, "groups loaded");
        }
    }

    fn load_one(
        &self,
        state: &mut State,
        key: &Bytes,
        value: &Bytes,
        now: Now,
    ) -> Result<(), RecordError> {
        match Key::parse(key)? {
            Key::Offset { group, topic, partition } => {
                let committed = records::parse_offset_value(value)?;
                let slot = self.slot(state, &group);
                slot.offsets.insert((topic, partition), committed);
            }
            Key::Group { group } => {
                let record = records::parse_group_value(value)?;
                let slot = self.slot(state, &group);
                slot.kind = Kind::classic(Group::from_record(self.settings, record, now));
            }
            Key::Consumer(key) => {
                if let Some(record) = consumer::records::parse(key.part, value)? {
                    self.slot(state, &key.group).durable.apply(&record);
                }
            }
        }
        Ok(())
    }

    pub(crate) async fn join(self: &Arc<Self>, group: &str, join: Join) -> JoinReply {
        let settings = &self.settings;
        let sessions = settings.session_timeout_ms_min..=settings.session_timeout_ms_max;
        let member_id = join.member_id.clone();
        let refused = |error| JoinReply::refused(member_id.clone(), error);
        if self.is_share_group(group) {
            return JoinReply::refused(NO_MEMBER_ID, ResponseError::InconsistentGroupProtocol);
        }
        if group.is_empty() || group.len() > TEXT_BYTES_MAX {
            return refused(ResponseError::InvalidGroupId);
        }
        if join.has_text_beyond(TEXT_BYTES_MAX) {
            return refused(ResponseError::InvalidRequest);
        }
        if !sessions.contains(&join.session_timeout_ms) {
            return refused(ResponseError::InvalidSessionTimeout);
        }
        // A member that knows its id knows a group: only a new member may create one.
        let creates = join.member_id == NO_MEMBER_ID;
        let name = join.instance_id.as_deref().unwrap_or(&join.client_id);
        let name = cut_to(name, MEMBER_NAME_BYTES_MAX);
        let fresh_member_id = format!("{name}-{}", crate::chance::id());
        let asked = Asked::Join(Box::new(join), fresh_member_id);
        match self.ask(group, creates, asked).await {
            Some(Reply::Join(reply)) => reply,
            Some(_) => refused(ResponseError::UnknownServerError),
            None if creates || self.exists(group) => {
                refused(ResponseError::CoordinatorNotAvailable)
            }
            None => refused(ResponseError::UnknownMemberId),
        }
    }

    pub(crate) async fn sync(self: &Arc<Self>, group: &str, sync: Sync) -> SyncReply {
        if group.is_empty() {
            return SyncReply::refused(ResponseError::InvalidGroupId);
        }
        if !self.exists(group) {
            return SyncReply::refused(ResponseError::UnknownMemberId);
        }
        match self.ask(group, false, Asked::Sync(sync)).await {
            Some(Reply::Sync(reply)) => reply,
            _ => SyncReply::refused(ResponseError::CoordinatorNotAvailable),
        }
    }

    pub(crate) async fn heartbeat(
        self: &Arc<Self>,
        group: &str,
        caller: Caller,
    ) -> Result<(), ResponseError> {
        if group.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if !self.exists(group) {
            return Err(ResponseError::UnknownMemberId);
        }
        match self.ask(group, false, Asked::Heartbeat(caller)).await {
            Some(Reply::Heartbeat(result)) => result,
            _ => Err(ResponseError::CoordinatorNotAvailable),
        }
    }

    pub(crate) async fn leave(self: &Arc<Self>, group: &str, leaving: Vec<Leaving>) -> LeaveReply {
        if group.is_empty() {
            return Err(ResponseError::InvalidGroupId);
        }
        if !self.exists(group) {
            let unknown = leaving.into_iter().map(|one| Left {
                member_id: one.member_id,
                instance_id: one.instance_id,
                error: Some(ResponseError::UnknownMemberId),
            });
            return Ok(unknown.collect());
        }
        match self.ask(group, false, Asked::Leave(leaving)).await {
            Some(Reply::Leave(reply)) => reply,
            _ => Err(ResponseError::CoordinatorNotAvailable),
        }
    }

    /// Deletes the group and its offsets; durable when it returns `Ok`.
    pub(crate) async fn delete(self: &Arc<Self>, group: &str) -> Result<(), ResponseError> {
        if !self.exists(group) {
            return Err(ResponseError::GroupIdNotFound);
        }
        match self.ask(group, false, Asked::Delete).await {
            Some(Reply::Delete(result)) => result,
            _ => Err(ResponseError::CoordinatorNotAvailable),
        }
    }

    /// ConsumerGroupHeartbeat. `sees`: the topics that whoever speaks may know of.
    pub(crate) async fn member_heartbeat(
        self: &Arc<Self>,
        group: &str,
        heartbeat: MemberHeartbeat,
        sees: &(dyn Fn(&str) -> bool + Send + std::marker::Sync),
    ) -> Result<MemberReply, Refusal> {
        if group.len() > TEXT_BYTES_MAX {
            return Err(ResponseError::InvalidGroupId.into());
        }
        if let Some(assignor) = &heartbeat.assignor {
            self.settings.consumer.check_assignor(assignor)?;
        }
        if self.is_share_group(group) {
            let why = format!("Group {group} is not a consumer group.");
            return Err(Refusal::new(ResponseError::GroupIdNotFound, why));
        }
        let asked = Asked::Member(Box::new(heartbeat));
        match self.ask_seeing(group, true, asked, sees).await {
            Some(Reply::Member(reply)) => reply,
            _ => Err(ResponseError::CoordinatorNotAvailable.into()),
        }
    }

    /// All groups, by name, with state and number of members.
    pub(crate) fn list(&self) -> Vec<GroupLine> {
        let state = self.lock();
        state.groups.iter().filter_map(|(group, slot)| slot.line(group)).collect()
    }

    /// `None` for a group that does not exist.
    pub(crate) fn kind(&self, group: &str) -> Option<GroupKind> {
        let state = self.lock();
        let share = || state.share_names.contains(group).then_some(GroupKind::Share);
        let line = state.groups.get(group).and_then(|slot| slot.line(group));
        line.map(|line| line.kind).or_else(share)
    }

    /// `None` for a classic group that does not exist.
    pub(crate) fn describe(&self, group: &str) -> Option<Description> {
        match &self.lock().groups.get(group)?.kind {
            Kind::Classic(machine) => Some(machine.describe()),
            Kind::Consumer(_) => None,
        }
    }

    /// `None` for a group of the consumer protocol that does not exist.
    pub(crate) fn describe_consumer(&self, group: &str) -> Option<ConsumerDescription> {
        let state = self.lock();
        let slot = state.groups.get(group)?;
        let shown = matches!(slot.kind, Kind::Consumer(_)) && slot.durable.exists();
        shown.then(|| slot.durable.describe(&self.settings.consumer))
    }

    fn exists(&self, group: &str) -> bool {
        self.lock().groups.contains_key(group)
    }

    /// The end of the log's incarnation, or of the broker. Whoever waits, for a rebalance or for a
    /// write, hears COORDINATOR_NOT_AVAILABLE now, and so does everybody who comes later: memory
    /// may be ahead of the log. Timers end.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiters.clear();
        state.due.clear();
        for slot in state.groups.values_mut() {
            slot.queue.clear();
        }
        self.timers_changed.notify_one();
    }

    async fn ask(self: &Arc<Self>, group: &str, creates: bool, asked: Asked) -> Option<Reply> {
        self.ask_seeing(group, creates, asked, &|_| true).await
    }

    /// Gives the request to the group and waits for its answer. `None`: no such group, or the
    /// answer will never come, because the log ended and took the coordinator with it.
    async fn ask_seeing(
        self: &Arc<Self>,
        group: &str,
        creates: bool,
        asked: Asked,
        sees: &(dyn Fn(&str) -> bool + Send + std::marker::Sync),
    ) -> Option<Reply> {
        let answer = {
            let mut state = self.lock();
            if state.closed {
                return None;
            }
            if !state.groups.contains_key(group) {
                if !creates || state.share_names.contains(group) {
                    return None;
                }
                if state.groups.len() >= GROUPS_MAX {
                    warn!(group, "there are {GROUPS_MAX} groups, no more are created");
                    return None;
                }
                self.slot(&mut state, group);
            }
            let waiter = state.next_waiter;
            state.next_waiter += 1;
            let (sender, answer) = oneshot::channel();
            state.waiters.insert(waiter, sender);
            self.route(&mut state, group, waiter, asked, sees);
            answer
        };
        answer.await.ok()
    }

    fn slot<'a>(&self, state: &'a mut State, group: &str) -> &'a mut Slot {
        // Two look-ups, because an entry needs an owned key and groups mostly exist.
        if !state.groups.contains_key(group) {
            state
                .groups
                .insert(group.to_owned(), Slot::new(Kind::classic(Group::new(self.settings))));
        }
        state.groups.get_mut(group).expect("inserted above if it was missing")
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a bug of ours; the other groups need not die of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn schedule(&mut self, group: &str) {
        let Some(slot) = self.groups.get_mut(group) else { return };
        let due_ms = slot.kind.due_ms();
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

    fn forget(&mut self, group: &str) {
        let Some(slot) = self.groups.remove(group) else { return };
        if let Some(due_ms) = slot.due_ms {
            self.due.remove(&(due_ms, group.to_owned()));
        }
    }
}

impl Drop for GroupCoordinator {
    fn drop(&mut self) {
        self.timers_changed.notify_one();
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
