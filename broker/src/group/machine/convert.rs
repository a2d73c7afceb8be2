//! From and to the consumer protocol (see `consumer/convert.rs`).

use kafka_protocol::ResponseError;

use super::super::GroupSettings;
use super::super::consumer::{ClassicMember, ClassicSeed, Convertible};
use super::super::exchange::{JoinReply, SyncReply};
use super::{Group, Member, Pending, Reply, State, Step, Ticket, Waiter};
use crate::clock::Now;

impl Group {
    /// What a conversion needs to know.
    pub(crate) fn convertible(&self) -> Convertible {
        let members = self.members.iter().map(|(id, member)| ClassicMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        });
        Convertible {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            members: members.collect(),
        }
    }

    /// A group that comes from the consumer protocol. `first_ticket`: no write of its name that may
    /// still be under way has this ticket or a later one.
    pub(crate) fn from_seed(
        settings: GroupSettings,
        seed: ClassicSeed,
        first_ticket: Ticket,
        now: Now,
    ) -> Self {
        let mut group = Self::new(settings);
        group.begin_tickets_at(first_ticket);
        group.generation = seed.generation;
        group.protocol_type = Some("consumer".to_owned());
        group.state_timestamp_ms = Some(now.wall_ms);
        for member in seed.members {
            if let Some(instance_id) = &member.instance_id {
                group.static_members.insert(instance_id.clone(), member.member_id.clone());
            }
            let session_due_ms = now.monotonic_ms + i64::from(member.session_timeout_ms);
            let converted = Member {
                instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols,
                assignment: member.assignment,
                awaiting_join: None,
                awaiting_sync: None,
                is_new: false,
                session_due_ms: Some(session_due_ms),
            };
            group.members.insert(member.member_id, converted);
        }
        group.leader = group.members.keys().next().cloned();
        group.protocol = group.selected_protocol();
        group.state = State::Stable;
        group.assert_invariants();
        group
    }

    pub(crate) fn begin_tickets_at(&mut self, first_ticket: Ticket) {
        self.next_ticket = first_ticket;
    }

    pub(crate) fn next_ticket(&self) -> Ticket {
        self.next_ticket
    }

    /// The group's record as it would be written now.
    pub(crate) fn to_record(&self) -> super::GroupMetadata {
        self.record(None)
    }

    /// The group as it is, without those who wait: it is kept until its conversion is durable.
    pub(crate) fn without_waiters(&self) -> Self {
        let mut group = self.clone();
        group.pending.clear();
        for member in group.members.values_mut() {
            member.awaiting_join = None;
            member.awaiting_sync = None;
        }
        group
    }

    /// Whoever waits in a rebalance that will not end here is to join again.
    pub(crate) fn interrupted_replies(&self) -> Vec<(Waiter, Reply)> {
        let error = ResponseError::RebalanceInProgress;
        let mut replies = Vec::new();
        for (id, member) in &self.members {
            if let Some(waiter) = member.awaiting_join {
                replies.push((waiter, Reply::Join(JoinReply::refused(id, error))));
            }
            if let Some(waiter) = member.awaiting_sync {
                replies.push((waiter, Reply::Sync(SyncReply::refused(error))));
            }
        }
        replies
    }

    /// Everybody who waits for the group, for whatever reason.
    pub(crate) fn waiters(&self) -> Vec<Waiter> {
        let members = self.members.values();
        let waiting = members.flat_map(|member| [member.awaiting_join, member.awaiting_sync]);
        let pending = self.pending.values().map(|pending| match pending {
            Pending::Tombstone { waiter } => Some(*waiter),
            _ => None,
        });
        waiting.chain(pending).flatten().collect()
    }
}

impl Step<'_> {
    pub(super) fn interrupted(&mut self, why: &str) {
        // Nobody waits in a request any more, which would keep it in the group without a session.
        for member in self.group.members.values_mut() {
            member.is_new = false;
            let timeout_ms = i64::from(member.session_timeout_ms);
            member.session_due_ms = Some(self.now.monotonic_ms + timeout_ms);
        }
        match self.group.state {
            State::CompletingRebalance | State::Stable => self.prepare_rebalance(why),
            State::Empty | State::Dead | State::PreparingRebalance => {}
        }
    }
}
