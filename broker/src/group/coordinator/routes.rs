//! Which machine a request goes to, and what the machine's answer sets in motion. Here groups
//! change their kind.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use tracing::info;

use super::super::consumer::{self, World};
use super::super::exchange::{
    Caller, JOINS, Join, Leaving, MemberHeartbeat, NO_MEMBER_ID, Refusal, Reply, Sync, SyncReply,
    Waiter,
};
use super::super::machine::{self, Effect, Group};
use super::super::records::{self, GroupMetadata, Key};
use super::kinds::Kind;
use super::writes::{Decision, Write};
use super::{GroupCoordinator, State};
use crate::clock::Now;

/// A request to a group.
pub(super) enum Asked {
    /// With the member id that it gets if it has none.
    Join(Box<Join>, String),
    Sync(Sync),
    Heartbeat(Caller),
    Leave(Vec<Leaving>),
    Delete,
    Member(Box<MemberHeartbeat>),
}

type Sees<'a> = &'a dyn Fn(&str) -> bool;

impl GroupCoordinator {
    /// `sees`: see [`World`].
    pub(super) fn route(
        self: &Arc<Self>,
        state: &mut State,
        group: &str,
        waiter: Waiter,
        asked: Asked,
        sees: Sees<'_>,
    ) {
        let Some(slot) = state.groups.get(group) else { return };
        match (&slot.kind, asked) {
            (_, Asked::Member(heartbeat)) => {
                self.route_heartbeat(state, group, waiter, *heartbeat, sees);
            }
            (Kind::Classic(_), asked) => self.step(state, group, asked.of_classic(waiter)),
            (Kind::Consumer(_), Asked::Delete) => self.delete_consumer(state, group, waiter),
            (Kind::Consumer(machine), Asked::Join(join, fresh_member_id)) if machine.is_empty() => {
                self.join_empty(state, group, waiter, join, fresh_member_id);
            }
            (Kind::Consumer(machine), Asked::Sync(_)) if machine.is_empty() => {
                let reply = SyncReply::refused(ResponseError::UnknownMemberId);
                self.send(state, waiter, Reply::Sync(reply));
            }
            (Kind::Consumer(_), asked) => {
                if let Some(event) = asked.of_consumer(waiter) {
                    self.step_consumer(state, group, event, sees);
                }
            }
        }
        self.settle(state, group);
    }

    /// Lets the group act whose time has come.
    pub(super) fn tick_group(self: &Arc<Self>, state: &mut State, group: &str) {
        let Some(slot) = state.groups.get(group) else { return };
        match &slot.kind {
            Kind::Classic(_) => self.step(state, group, machine::Event::Tick),
            Kind::Consumer(_) => {
                self.step_consumer(state, group, consumer::Event::Tick, &|_| true);
            }
        }
        self.settle(state, group);
    }

    /// One step of a classic group's machine, and what it asks for.
    pub(super) fn step(self: &Arc<Self>, state: &mut State, group: &str, event: machine::Event) {
        if state.closed {
            return;
        }
        let now = (self.clock)();
        let Some(slot) = state.groups.get_mut(group) else { return };
        let Kind::Classic(machine) = &mut slot.kind else { return };
        for effect in machine::step(machine, event, now) {
            match effect {
                Effect::Reply(waiter, reply) => {
                    if let Some(sender) = state.waiters.remove(&waiter) {
                        // Nobody listens any more: the client is gone, and its session will end.
                        let _ = sender.send(reply);
                    }
                }
                Effect::Write { ticket, record } => slot.queue.push_back(match record {
                    Some(record) => Write::Group { ticket, record: encode(group, &record) },
                    None => Write::Tombstone { ticket },
                }),
                Effect::Note(note) => tell(group, &note),
            }
        }
    }

    /// Begins what was queued, and looks when the group wants to be woken, or that it is nothing.
    pub(super) fn settle(self: &Arc<Self>, state: &mut State, group: &str) {
        if state.closed {
            return;
        }
        let Some(slot) = state.groups.get_mut(group) else { return };
        self.begin_writing(group, slot);
        if slot.is_blank() {
            state.forget(group);
        } else {
            let earliest = state.due.first().map(|(due_ms, _)| *due_ms);
            state.schedule(group);
            if state.due.first().map(|(due_ms, _)| *due_ms) != earliest {
                self.timers_changed.notify_one();
            }
        }
    }

    /// A heartbeat of the consumer protocol: to a group of it, to one that it makes, or to a
    /// classic one that goes over to it by this.
    fn route_heartbeat(
        self: &Arc<Self>,
        state: &mut State,
        group: &str,
        waiter: Waiter,
        heartbeat: MemberHeartbeat,
        sees: Sees<'_>,
    ) {
        let joins = heartbeat.epoch == JOINS;
        let fresh_member_id = crate::chance::id().to_string();
        let heartbeat = Box::new(heartbeat);
        let event = consumer::Event::Heartbeat { waiter, heartbeat, fresh_member_id };
        let Some(slot) = state.groups.get(group) else { return };
        match &slot.kind {
            Kind::Consumer(_) => self.step_consumer(state, group, event, sees),
            Kind::Classic(machine) if machine.state() == machine::State::Dead => {
                self.refuse(state, waiter, ResponseError::CoordinatorNotAvailable.into());
            }
            Kind::Classic(machine) if !joins => {
                let why = match machine.is_blank() {
                    true => format!("Consumer group {group} not found."),
                    false => format!("Group {group} is not a consumer group."),
                };
                self.refuse(state, waiter, Refusal::new(ResponseError::GroupIdNotFound, why));
            }
            Kind::Classic(machine) => {
                let machine = machine.clone();
                self.upgrade(state, group, waiter, &machine, event, sees);
            }
        }
    }

    /// The group goes over to the consumer protocol, unless the heartbeat is refused.
    fn upgrade(
        self: &Arc<Self>,
        state: &mut State,
        group: &str,
        waiter: Waiter,
        classic: &Group,
        event: consumer::Event,
        sees: Sees<'_>,
    ) {
        let now = (self.clock)();
        let world = self.world(group, sees);
        let settings = self.settings.consumer;
        let upgraded = match classic.state() {
            machine::State::Empty => Ok((consumer::Group::new(settings), Vec::new())),
            _ => consumer::convert::upgrade(settings, &classic.convertible(), now, &world),
        };
        let (mut machine, mut changes) = match upgraded {
            Ok(upgraded) => upgraded,
            Err(refusal) => return self.refuse(state, waiter, refusal),
        };
        let mut outcome = consumer::step(&mut machine, event, now, &world);
        if machine.is_blank() || outcome.replies.iter().any(|(_, reply)| is_refusal(reply)) {
            // Nothing has happened: the classic group is as it was.
            return self.send_all(state, outcome.replies);
        }
        if classic.member_count() > 0 {
            info!(group, members = classic.member_count(), "goes over to the consumer protocol");
        }
        changes.append(&mut outcome.records);
        let mut decision = Decision::of(group, changes, outcome.replies);
        if !classic.is_blank() {
            // The first of its records: the end of the other kind.
            let key = Key::Group { group: group.to_owned() };
            decision.records.insert(0, (key.to_bytes(), None));
        }
        decision.undo = Some(Box::new(classic.without_waiters()));
        for note in outcome.notes {
            tell(group, &note);
        }
        self.send_all(state, classic.interrupted_replies());
        let Some(slot) = state.groups.get_mut(group) else { return };
        slot.next_ticket = classic.next_ticket();
        slot.kind = Kind::consumer(machine);
        slot.undurable += 1;
        slot.queue.push_back(Write::Decision(Box::new(decision)));
    }

    fn step_consumer(
        self: &Arc<Self>,
        state: &mut State,
        group: &str,
        event: consumer::Event,
        sees: Sees<'_>,
    ) {
        if state.closed {
            return;
        }
        let now = (self.clock)();
        let world = self.world(group, sees);
        let Some(slot) = state.groups.get_mut(group) else { return };
        let Kind::Consumer(machine) = &mut slot.kind else { return };
        let outcome = consumer::step(machine, event, now, &world);
        for note in outcome.notes {
            tell(group, &note);
        }
        let mut decision = Decision::of(group, outcome.records, outcome.replies);
        let Some(seed) = outcome.classic else { return self.decide(state, group, decision) };
        let why = seed.rebalance;
        let classic = Group::from_seed(self.settings, *seed, slot.next_ticket, now);
        decision.records.push(encode(group, &classic.to_record()));
        slot.kind = Kind::classic(classic);
        self.decide(state, group, decision);
        if let Some(why) = why {
            self.step(state, group, machine::Event::Interrupted { why });
        }
    }

    /// JoinGroup to a group of the consumer protocol in which nobody is: it may become a classic
    /// one without more ado.
    fn join_empty(
        self: &Arc<Self>,
        state: &mut State,
        group: &str,
        waiter: Waiter,
        join: Box<Join>,
        fresh_member_id: String,
    ) {
        if join.member_id == NO_MEMBER_ID
            && !join.protocol_type.is_empty()
            && !join.protocols.is_empty()
        {
            self.end_consumer(state, group, |_| {});
        } else {
            let error = match join.member_id.as_str() {
                NO_MEMBER_ID => ResponseError::InconsistentGroupProtocol,
                _ => ResponseError::UnknownMemberId,
            };
            let reply = super::JoinReply::refused(join.member_id.as_str(), error);
            return self.send(state, waiter, Reply::Join(reply));
        }
        let event = machine::Event::Join { waiter, join, fresh_member_id };
        self.step(state, group, event);
    }

    fn delete_consumer(self: &Arc<Self>, state: &mut State, group: &str, waiter: Waiter) {
        let Some(slot) = state.groups.get(group) else { return };
        let empty = matches!(&slot.kind, Kind::Consumer(machine) if machine.is_empty());
        if !empty {
            let reply = Reply::Delete(Err(ResponseError::NonEmptyGroup));
            return self.send(state, waiter, reply);
        }
        self.end_consumer(state, group, |decision| {
            decision.with_offsets = true;
            decision.replies.push((waiter, Reply::Delete(Ok(()))));
        });
    }

    /// Takes back the records of an empty group; the name belongs to a new classic one then.
    fn end_consumer(
        self: &Arc<Self>,
        state: &mut State,
        group: &str,
        also: impl FnOnce(&mut Decision),
    ) {
        let now = (self.clock)();
        let world = self.world(group, &|_| true);
        let Some(slot) = state.groups.get_mut(group) else { return };
        let Kind::Consumer(machine) = &mut slot.kind else { return };
        let outcome = consumer::convert::end(machine, now, &world);
        let mut decision = Decision::of(group, outcome.records, outcome.replies);
        also(&mut decision);
        let mut classic = Group::new(self.settings);
        classic.begin_tickets_at(slot.next_ticket);
        slot.kind = Kind::classic(classic);
        self.decide(state, group, decision);
    }

    /// Writes the decision, and answers then. An answer without records waits only for decisions
    /// before it.
    fn decide(&self, state: &mut State, group: &str, decision: Decision) {
        let Some(slot) = state.groups.get_mut(group) else { return };
        if decision.is_answer_only() && slot.undurable == 0 {
            return self.send_all(state, decision.replies);
        }
        if decision.is_nothing() {
            return;
        }
        slot.undurable += 1;
        slot.queue.push_back(Write::Decision(Box::new(decision)));
    }

    /// A group whose records were just read.
    pub(super) fn wake_consumer_group(&self, state: &mut State, group: &str, now: Now) {
        let session_timeout_ms = self.session_timeout_ms(group);
        let Some(slot) = state.groups.get_mut(group) else { return };
        if slot.durable.exists() {
            let settings = self.settings.consumer;
            let image = slot.durable.clone();
            let machine = consumer::Group::from_image(settings, image, now, session_timeout_ms);
            slot.durable = machine.image().clone();
            slot.kind = Kind::consumer(machine);
        } else {
            // Records without a group: something else wrote them.
            slot.durable = consumer::Image::default();
        }
    }

    pub(super) fn session_timeout_ms(&self, group: &str) -> i32 {
        (self.surroundings.timeouts)(group).session_ms
    }

    fn world<'a>(&'a self, group: &'a str, sees: Sees<'a>) -> World<'a> {
        let timeouts = (self.surroundings.timeouts)(group);
        World {
            group,
            topics: &*self.surroundings.topics,
            sees,
            session_timeout_ms: timeouts.session_ms,
            heartbeat_interval_ms: timeouts.heartbeat_ms,
        }
    }

    fn refuse(&self, state: &mut State, waiter: Waiter, refusal: Refusal) {
        self.send(state, waiter, Reply::Member(Err(refusal)));
    }

    fn send(&self, state: &mut State, waiter: Waiter, reply: Reply) {
        self.send_all(state, vec![(waiter, reply)]);
    }

    pub(super) fn send_all(&self, state: &mut State, replies: Vec<(Waiter, Reply)>) {
        for (waiter, reply) in replies {
            if let Some(sender) = state.waiters.remove(&waiter) {
                // Nobody listens any more: the client is gone, and its session will end.
                let _ = sender.send(reply);
            }
        }
    }
}

impl Asked {
    /// Heartbeats of the other protocol never come here.
    fn of_classic(self, waiter: Waiter) -> machine::Event {
        match self {
            Self::Join(join, fresh_member_id) => {
                machine::Event::Join { waiter, join, fresh_member_id }
            }
            Self::Sync(sync) => machine::Event::Sync { waiter, sync },
            Self::Heartbeat(caller) => machine::Event::Heartbeat { waiter, caller },
            Self::Leave(leaving) => machine::Event::Leave { waiter, leaving },
            Self::Delete => machine::Event::Delete { waiter },
            Self::Member(_) => machine::Event::Tick,
        }
    }

    fn of_consumer(self, waiter: Waiter) -> Option<consumer::Event> {
        match self {
            Self::Join(join, fresh_member_id) => {
                Some(consumer::Event::Join { waiter, join, fresh_member_id })
            }
            Self::Sync(sync) => Some(consumer::Event::Sync { waiter, sync }),
            Self::Heartbeat(caller) => Some(consumer::Event::ClassicHeartbeat { waiter, caller }),
            Self::Leave(leaving) => Some(consumer::Event::Leave { waiter, leaving }),
            Self::Delete | Self::Member(_) => None,
        }
    }
}

fn is_refusal(reply: &Reply) -> bool {
    matches!(reply, Reply::Member(Err(_)))
}

fn encode(group: &str, record: &GroupMetadata) -> super::writes::KeyedRecord {
    let key = Key::Group { group: group.to_owned() };
    (key.to_bytes(), Some(records::group_value(record)))
}

/// Ids hold what clients call themselves: no line of the log is theirs to forge.
fn tell(group: &str, note: &str) {
    info!(group, "{}", note.replace(|c: char| c.is_control(), "?"));
}
