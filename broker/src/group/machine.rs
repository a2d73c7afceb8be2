//! One classic group as a pure machine: `step(&mut group, event, now)` returns what to do.
//!
//! ```text
//!            join                all joined, or the rebalance timeout
//!   Empty ─────────► PreparingRebalance ─────────► CompletingRebalance
//!     ▲                 ▲   │ ▲                        │        │
//!     │   nobody joined │   │ │ leave, expiry, join    │        │ the leader's assignment
//!     └─────────────────┼───┘ └────────────────────────┘        │ is written
//!                       │ leave, expiry, leader or changed join ▼
//!                       └──────────────────────────────────── Stable        Dead: being deleted
//! ```
//!
//! The behaviour is Kafka's (group coordinator of 4.x, classic groups), error code by error code;
//! where this differs, the comment says so. Eager and cooperative members look the same from here:
//! what they revoke, and when, is inside the metadata that only they read.
//!
//! Invariants, checked after every step in debug builds ([`Group::assert_invariants`]):
//! - M1. Empty and Dead have no members. CompletingRebalance and Stable have members, a leader
//!   among them, and a protocol that every member supports.
//! - M2. A member waits for a join only in PreparingRebalance; or in Stable, if it is a static
//!   member whose new id is being written.
//! - M3. A member waits for a sync only in CompletingRebalance.
//! - M4. Members whose sync is due are members, and exist only in CompletingRebalance and Stable.
//! - M5. An id is a member or a member-to-be, never both; instance ids and static members map one
//!   to one.
//! - M6. The join timer runs exactly in PreparingRebalance.
//! - M7. The generation never decreases, and within one generation the assignments, once shown to a
//!   member, do not change.
//!
//! It never reads a clock, never draws an id (a fresh one comes with each join), never logs.

mod convert;
mod join;
mod leave;
mod rebalance;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::GroupSettings;
use super::exchange::{
    Caller, DescribedMember, Description, Join, Leaving, NO_MEMBER_ID, Protocol, Sync,
};
pub(crate) use super::exchange::{Reply, Waiter};
use super::records::{self, GroupMetadata, MemberMetadata};
use crate::clock::Now;

pub(crate) use sync::to_group_error;

/// Names a write that was asked for.
pub(crate) type Ticket = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
    Dead,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// `fresh_member_id` becomes the member's if it comes without one.
    Join {
        waiter: Waiter,
        join: Box<Join>,
        fresh_member_id: String,
    },
    Sync {
        waiter: Waiter,
        sync: Sync,
    },
    Heartbeat {
        waiter: Waiter,
        caller: Caller,
    },
    Leave {
        waiter: Waiter,
        leaving: Vec<Leaving>,
    },
    Delete {
        waiter: Waiter,
    },
    /// The write of this ticket is durable, or failed.
    Written {
        ticket: Ticket,
        result: Result<(), ResponseError>,
    },
    /// The group comes from the consumer protocol, or could not go to it: all join again.
    Interrupted {
        why: &'static str,
    },
    /// Time has passed.
    Tick,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Reply(Waiter, Reply),
    /// Write the group's record, then say so with [`Event::Written`]. `None` deletes the group,
    /// with its offsets.
    Write {
        ticket: Ticket,
        record: Option<GroupMetadata>,
    },
    /// For the log.
    Note(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    protocols: Vec<Protocol>,
    assignment: Bytes,
    awaiting_join: Option<Waiter>,
    awaiting_sync: Option<Waiter>,
    /// Added in this rebalance: it does not know its id yet and so cannot send heartbeats.
    is_new: bool,
    /// `None`: the session ran out while the member was waiting for us, which is not its fault; the
    /// answer starts it again.
    session_due_ms: Option<i64>,
}

impl Member {
    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|offered| offered.name == protocol)
    }

    fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|offered| Some(offered.name.as_str()) == protocol)
            .map(|offered| offered.metadata.clone())
            .unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JoinTimer {
    /// The first rebalance of an empty group: more members may be about to come.
    Initial {
        due_ms: i64,
        delay_ms: i64,
        remaining_ms: i64,
    },
    Rebalance {
        due_ms: i64,
    },
}

impl JoinTimer {
    fn due_ms(self) -> i64 {
        match self {
            Self::Initial { due_ms, .. } | Self::Rebalance { due_ms } => due_ms,
        }
    }
}

/// What a write was for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pending {
    Assignment { generation: i32, assignments: BTreeMap<String, Bytes> },
    StaticMember(Box<sync::Replaced>),
    EmptyGroup,
    Tombstone { waiter: Waiter },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    settings: GroupSettings,
    state: State,
    /// The state before this one: PreparingRebalance out of Empty waits for the initial delay.
    previous: State,
    /// Wall time; what the expiry of an empty group's offsets counts from.
    state_timestamp_ms: Option<i64>,
    protocol_type: Option<String>,
    protocol: Option<String>,
    generation: i32,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instance id to member id.
    static_members: BTreeMap<String, String>,
    /// KIP-394: ids given out, to members that have not come back with them; with their deadline.
    pending_joins: BTreeMap<String, i64>,
    pending_syncs: BTreeSet<String>,
    new_member_added: bool,
    join_timer: Option<JoinTimer>,
    sync_due_ms: Option<i64>,
    pending: BTreeMap<Ticket, Pending>,
    next_ticket: Ticket,
}

/// One step in the making.
struct Step<'a> {
    group: &'a mut Group,
    now: Now,
    effects: Vec<Effect>,
}

/// The only way to change a group.
pub(crate) fn step(group: &mut Group, event: Event, now: Now) -> Vec<Effect> {
    let generation_before = group.generation;
    let mut step = Step { group, now, effects: Vec::new() };
    match event {
        Event::Join { waiter, join, fresh_member_id } => step.join(waiter, *join, fresh_member_id),
        Event::Sync { waiter, sync } => step.sync(waiter, sync),
        Event::Heartbeat { waiter, caller } => step.heartbeat(waiter, &caller),
        Event::Leave { waiter, leaving } => step.leave(waiter, leaving),
        Event::Delete { waiter } => step.delete(waiter),
        Event::Written { ticket, result } => step.written(ticket, result),
        Event::Interrupted { why } => step.interrupted(why),
        Event::Tick => step.tick(),
    }
    let effects = step.effects;
    debug_assert!(group.generation >= generation_before, "M7");
    group.assert_invariants();
    effects
}

impl Group {
    pub(crate) fn new(settings: GroupSettings) -> Self {
        Self {
            settings,
            state: State::Empty,
            previous: State::Dead,
            state_timestamp_ms: None,
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_joins: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            new_member_added: false,
            join_timer: None,
            sync_due_ms: None,
            pending: BTreeMap::new(),
            next_ticket: 0,
        }
    }

    /// A group as it was written at the end of its last rebalance. Its members go on as if nothing
    /// had happened if they send a heartbeat within their session timeout from now.
    pub(crate) fn from_record(settings: GroupSettings, record: GroupMetadata, now: Now) -> Self {
        let mut group = Self::new(settings);
        group.generation = record.generation.max(0);
        group.protocol_type = Some(record.protocol_type).filter(|name| !name.is_empty());
        group.protocol = record.protocol;
        group.state_timestamp_ms = record.state_timestamp_ms;
        for member in record.members {
            let protocol = Protocol {
                name: group.protocol.get_or_insert_default().clone(),
                metadata: member.subscription,
            };
            let loaded = Member {
                instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: vec![protocol],
                assignment: member.assignment,
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                session_due_ms: Some(now.monotonic_ms + i64::from(member.session_timeout_ms)),
            };
            group.members.insert(member.member_id, loaded);
        }
        // A record that something else wrote could name one instance twice, or a leader who is no
        // member; M1 and M5 hold from here on.
        let static_members = &mut group.static_members;
        group.members.retain(|id, member| match &member.instance_id {
            None => true,
            Some(instance_id) => {
                static_members.entry(instance_id.clone()).or_insert_with(|| id.clone()) == id
            }
        });
        group.leader = record
            .leader
            .filter(|leader| group.members.contains_key(leader))
            .or_else(|| group.members.keys().next().cloned());
        if !group.members.is_empty() {
            group.state = State::Stable;
        }
        group.assert_invariants();
        group
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn member_count(&self) -> usize {
        self.members.len()
    }

    /// `None` for a group that only ever committed offsets.
    pub(crate) fn protocol_type(&self) -> Option<&str> {
        self.protocol_type.as_deref()
    }

    pub(crate) fn state_timestamp_ms(&self) -> Option<i64> {
        self.state_timestamp_ms
    }

    /// Nothing would be lost if the group were forgotten: it was made for a request that failed.
    pub(crate) fn is_blank(&self) -> bool {
        self.state == State::Empty
            && self.generation == 0
            && self.protocol_type.is_none()
            && self.pending_joins.is_empty()
            && self.pending.is_empty()
    }

    /// When a [`Event::Tick`] is due, on the monotonic clock.
    pub(crate) fn due_ms(&self) -> Option<i64> {
        let sessions = self.members.values().filter_map(|member| member.session_due_ms);
        sessions
            .chain(self.pending_joins.values().copied())
            .chain(self.join_timer.map(JoinTimer::due_ms))
            .chain(self.sync_due_ms)
            .min()
    }

    /// The topics that the members of a stable consumer group read, if all of them say so in a way
    /// that is understood.
    pub(crate) fn subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if self.protocol_type.as_deref() != Some("consumer") {
            return None;
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_deref());
            topics.extend(records::subscribed_topics(&metadata)?);
        }
        Some(topics)
    }

    pub(crate) fn describe(&self) -> Description {
        // What members say and are given is only meaningful once both are settled.
        let stable = self.state == State::Stable;
        let protocol = self.protocol.as_deref().filter(|_| stable);
        let members = self.members.iter().map(|(id, member)| DescribedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        Description {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: protocol.unwrap_or_default().to_owned(),
            members: members.collect(),
        }
    }

    /// May this caller commit offsets now? If so, and if it is a member, the commit counts as a
    /// heartbeat.
    pub(crate) fn admit_commit(&mut self, caller: &Caller, now: Now) -> Result<(), ResponseError> {
        if self.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        if caller.generation < 0 && self.state == State::Empty {
            // An administrator, or a consumer that chooses its partitions itself.
            return Ok(());
        }
        let named = caller.generation >= 0
            || caller.member_id != NO_MEMBER_ID
            || caller.instance_id.is_some();
        if !named {
            return Err(ResponseError::UnknownMemberId);
        }
        self.check_member(&caller.member_id, caller.instance_id.as_deref())?;
        if caller.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if self.state == State::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        self.restart_session(&caller.member_id, now);
        Ok(())
    }

    /// As [`Self::admit_commit`], for an offset that a transaction commits (KIP-447). Clients
    /// before KIP-447 name no member, whatever the group does; and a member may commit while the
    /// next assignment is on its way, as its transaction began under the last one.
    pub(crate) fn admit_transactional(&self, caller: &Caller) -> Result<(), ResponseError> {
        if self.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        if !caller.is_named() || (caller.generation < 0 && self.state == State::Empty) {
            return Ok(());
        }
        self.check_member(&caller.member_id, caller.instance_id.as_deref())?;
        if caller.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        Ok(())
    }

    fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(known) if known != id => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(id) {
            true => Ok(()),
            false => Err(ResponseError::UnknownMemberId),
        }
    }

    fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    fn restart_session(&mut self, id: &str, now: Now) {
        if let Some(member) = self.members.get_mut(id) {
            let timeout_ms = i64::from(member.session_timeout_ms);
            member.session_due_ms = Some(now.monotonic_ms + timeout_ms);
        }
    }

    /// The longest that a member asks for.
    fn rebalance_timeout_ms(&self) -> i64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        i64::from(longest.unwrap_or(0).max(0))
    }

    fn has_all_joined(&self) -> bool {
        self.pending_joins.is_empty()
            && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    fn record(&self, assignments: Option<&BTreeMap<String, Bytes>>) -> GroupMetadata {
        let members = self.members.iter().map(|(id, member)| MemberMetadata {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: match assignments {
                Some(assignments) => assignments.get(id).cloned().unwrap_or_default(),
                None => member.assignment.clone(),
            },
        });
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: members.collect(),
        }
    }

    /// See the header of this module.
    fn assert_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let state = self.state;
        let settled = matches!(state, State::CompletingRebalance | State::Stable);
        if matches!(state, State::Empty | State::Dead) {
            assert!(self.members.is_empty(), "M1: {state:?} with members");
        }
        if settled {
            let protocol = self.protocol.as_deref().unwrap_or_default();
            let leader = self.leader.as_deref().unwrap_or_default();
            assert!(self.members.contains_key(leader), "M1: the leader is no member");
            assert!(self.members.values().all(|m| m.supports(protocol)), "M1: protocol");
        }
        for (id, member) in &self.members {
            let replaced = self.pending.values().any(
                |pending| matches!(pending, Pending::StaticMember(it) if it.new_member_id == *id),
            );
            assert!(
                member.awaiting_join.is_none()
                    || state == State::PreparingRebalance
                    || (state == State::Stable && replaced),
                "M2: {id} waits for a join in {state:?}",
            );
            assert!(
                member.awaiting_sync.is_none() || state == State::CompletingRebalance,
                "M3: {id} waits for a sync in {state:?}",
            );
            assert!(!self.pending_joins.contains_key(id), "M5: {id} is member and to be");
        }
        assert!(self.pending_syncs.iter().all(|id| self.members.contains_key(id)), "M4");
        assert!(settled || self.pending_syncs.is_empty(), "M4: in {state:?}");
        let statics = self.members.values().filter(|m| m.instance_id.is_some()).count();
        assert_eq!(statics, self.static_members.len(), "M5");
        assert!(self.static_members.values().all(|id| self.members.contains_key(id)), "M5");
        assert_eq!(self.join_timer.is_some(), state == State::PreparingRebalance, "M6");
    }
}

impl Step<'_> {
    fn reply(&mut self, waiter: Waiter, reply: Reply) {
        self.effects.push(Effect::Reply(waiter, reply));
    }

    fn note(&mut self, note: String) {
        self.effects.push(Effect::Note(note));
    }

    fn write(&mut self, record: Option<GroupMetadata>, pending: Pending) {
        let ticket = self.group.next_ticket;
        self.group.next_ticket += 1;
        self.group.pending.insert(ticket, pending);
        self.effects.push(Effect::Write { ticket, record });
    }

    fn enter(&mut self, state: State) {
        self.group.previous = self.group.state;
        self.group.state = state;
        self.group.state_timestamp_ms = Some(self.now.wall_ms);
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod transcripts;
