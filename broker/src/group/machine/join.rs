//! JoinGroup: new members, members with an id, static members that come back under a new id.

use kafka_protocol::ResponseError;

use super::super::MEMBERS_MAX;
use super::super::exchange::{Join, JoinReply, JoinedMember, NO_MEMBER_ID};
use super::sync::Replaced;
use super::{Group, Member, Pending, Reply, State, Step, Waiter};
use crate::clock::Now;

/// A new member has no id to send heartbeats with, and its connection cannot be watched while the
/// join waits; if it is gone after this time, so is its place (Kafka's constant).
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1_000;

impl Group {
    /// May this one come in, by the size of the group?
    fn has_room_for(&self, id: &str) -> bool {
        let size_max = self.settings.size_max.min(MEMBERS_MAX);
        let known = self.members.get(id);
        match self.state {
            State::Empty | State::Dead => true,
            // Those who wait are counted, not those who are members: if the bound was lowered, the
            // last to rejoin are turned away.
            State::PreparingRebalance => {
                let awaiting = self.members.values().filter(|m| m.awaiting_join.is_some()).count();
                known.is_some_and(|member| member.awaiting_join.is_some()) || awaiting < size_max
            }
            State::CompletingRebalance | State::Stable => {
                known.is_some() || self.members.len() < size_max
            }
        }
    }

    /// Does the group have a protocol in common with these, all members considered?
    fn supports(&self, join: &Join) -> bool {
        if self.state == State::Empty {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(join.protocol_type.as_str())
            && join
                .protocols
                .iter()
                .any(|offered| self.members.values().all(|member| member.supports(&offered.name)))
    }

    fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref();
        let joined = self.members.iter().map(|(id, member)| JoinedMember {
            member_id: id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(protocol),
        });
        joined.collect()
    }

    /// What a member is told about the generation that it is part of.
    pub(super) fn join_reply(&self, id: &str) -> JoinReply {
        JoinReply {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: id.to_owned(),
            skip_assignment: false,
            members: if self.is_leader(id) { self.joined_members() } else { Vec::new() },
        }
    }
}

impl Step<'_> {
    pub(super) fn join(&mut self, waiter: Waiter, join: Join, fresh_member_id: String) {
        if !self.group.has_room_for(&join.member_id) {
            self.refuse_join(waiter, NO_MEMBER_ID, ResponseError::GroupMaxSizeReached);
            self.remove(&join.member_id);
            self.complete_join_if_all_joined();
        } else if self.group.state == State::Dead {
            self.refuse_join(waiter, &join.member_id, ResponseError::CoordinatorNotAvailable);
        } else if !self.group.supports(&join) {
            self.refuse_join(waiter, &join.member_id, ResponseError::InconsistentGroupProtocol);
        } else if join.member_id == NO_MEMBER_ID {
            self.join_without_id(waiter, join, fresh_member_id);
        } else if self.group.pending_joins.contains_key(&join.member_id) {
            // Static members are never asked to come back with an id.
            match join.instance_id {
                Some(_) => {
                    let error = ResponseError::UnknownServerError;
                    self.refuse_join(waiter, NO_MEMBER_ID, error);
                }
                None => self.add(waiter, join.member_id.clone(), join),
            }
        } else {
            self.join_again(waiter, join);
        }
    }

    fn refuse_join(&mut self, waiter: Waiter, id: &str, error: ResponseError) {
        self.reply(waiter, Reply::Join(JoinReply::refused(id, error)));
    }

    fn join_without_id(&mut self, waiter: Waiter, join: Join, fresh_member_id: String) {
        let known = join.instance_id.as_ref().and_then(|id| self.group.static_members.get(id));
        match known.cloned() {
            Some(old_member_id) => self.replace(waiter, join, old_member_id, fresh_member_id),
            None if join.instance_id.is_none() && join.member_id_required => {
                // Whatever the group does: an id that was given out is remembered until it is
                // used, or its session ends.
                if self.group.pending_joins.len() >= MEMBERS_MAX {
                    let error = ResponseError::GroupMaxSizeReached;
                    return self.refuse_join(waiter, NO_MEMBER_ID, error);
                }
                let timeout_ms = i64::from(join.session_timeout_ms);
                let due_ms = self.now.monotonic_ms + timeout_ms;
                self.group.pending_joins.insert(fresh_member_id.clone(), due_ms);
                self.refuse_join(waiter, &fresh_member_id, ResponseError::MemberIdRequired);
            }
            None => self.add(waiter, fresh_member_id, join),
        }
    }

    /// A member that has an id: the group's answer depends on what it is doing.
    fn join_again(&mut self, waiter: Waiter, join: Join) {
        let id = join.member_id.clone();
        if let Err(error) = self.group.check_member(&id, join.instance_id.as_deref()) {
            return self.refuse_join(waiter, &id, error);
        }
        let unchanged = self.group.members[&id].protocols == join.protocols;
        match self.group.state {
            // It did not get the answer to its join, or, in Stable, asks again without need: it is
            // told the present generation and may sync. The leader of a stable group rebalances
            // by joining, for changes that no metadata shows (more partitions of a topic).
            State::CompletingRebalance if unchanged => self.tell_generation(waiter, &id),
            State::Stable if unchanged && !self.group.is_leader(&id) => {
                self.tell_generation(waiter, &id);
            }
            _ => {
                let reason = format!("{id} joins again{}", said(join.reason.as_deref()));
                self.update(&id, join, Some(waiter));
                self.rebalance_or_complete(&reason);
            }
        }
    }

    fn tell_generation(&mut self, waiter: Waiter, id: &str) {
        let reply = self.group.join_reply(id);
        self.reply(waiter, Reply::Join(reply));
    }

    fn add(&mut self, waiter: Waiter, id: String, join: Join) {
        if self.group.state == State::PreparingRebalance && self.group.previous == State::Empty {
            self.group.new_member_added = true;
        }
        if self.group.members.is_empty() {
            self.group.protocol_type = Some(join.protocol_type);
        }
        if let Some(instance_id) = &join.instance_id {
            self.group.static_members.insert(instance_id.clone(), id.clone());
        }
        self.group.pending_joins.remove(&id);
        self.group.leader.get_or_insert_with(|| id.clone());
        let member = Member {
            instance_id: join.instance_id,
            client_id: join.client_id,
            client_host: join.client_host,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols,
            assignment: bytes::Bytes::new(),
            awaiting_join: Some(waiter),
            awaiting_sync: None,
            is_new: true,
            session_due_ms: Some(self.now.monotonic_ms + NEW_MEMBER_JOIN_TIMEOUT_MS),
        };
        self.group.members.insert(id.clone(), member);
        let reason = said(join.reason.as_deref());
        self.rebalance_or_complete(&format!("{id} joins{reason}"));
    }

    /// Takes over what the member says about itself, and lets it wait. If it was waiting already
    /// (its client gave up on a connection), the older request must not be forgotten: replies of a
    /// connection leave in order, and it would block all that follow. Kafka never answers it.
    fn update(&mut self, id: &str, join: Join, waiter: Option<Waiter>) {
        let Some(member) = self.group.members.get_mut(id) else { return };
        member.protocols = join.protocols;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        let older = std::mem::replace(&mut member.awaiting_join, waiter);
        if let Some(older) = older {
            self.refuse_join(older, id, ResponseError::RebalanceInProgress);
        }
    }

    /// KIP-345: a static member starts again and has forgotten its id. It gets a new one and keeps
    /// its assignment; whoever still uses the old id is fenced.
    fn replace(&mut self, waiter: Waiter, join: Join, old_member_id: String, id: String) {
        let leader_before = self.group.leader.clone();
        let instance_id = join.instance_id.clone().unwrap_or_default();
        let may_skip_assignment = join.may_skip_assignment;
        let before = self.group.members[&old_member_id].clone();
        self.fence(&old_member_id);
        self.group.rename(&instance_id, &old_member_id, &id, self.now);
        self.update(&id, join, Some(waiter));
        match self.group.state {
            State::Stable if self.group.selected_protocol() == self.group.protocol => {
                // The generation stays as it is: only the new id has to be remembered.
                let replaced = Replaced {
                    waiter,
                    instance_id,
                    old_member_id,
                    new_member_id: id,
                    before: (
                        before.protocols,
                        before.rebalance_timeout_ms,
                        before.session_timeout_ms,
                    ),
                    leader_before,
                    may_skip_assignment,
                };
                let record = self.group.record(None);
                self.write(Some(record), Pending::StaticMember(Box::new(replaced)));
            }
            State::Stable => {
                self.rebalance_or_complete("a static member comes back with another protocol");
            }
            // The leader may be working with the old id, and would assign nothing to the new one.
            State::CompletingRebalance => {
                self.prepare_rebalance("a static member comes back while assignments are made");
            }
            _ => self.complete_join_if_all_joined(),
        }
    }

    fn fence(&mut self, id: &str) {
        let Some(member) = self.group.members.get_mut(id) else { return };
        let (join, sync) = (member.awaiting_join.take(), member.awaiting_sync.take());
        if let Some(waiter) = join {
            self.refuse_join(waiter, id, ResponseError::FencedInstanceId);
        }
        if let Some(waiter) = sync {
            self.refuse_sync(waiter, ResponseError::FencedInstanceId);
        }
    }
}

fn said(reason: Option<&str>) -> String {
    let reason = reason.filter(|reason| !reason.is_empty());
    reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
}

impl Group {
    /// The same static member under another id.
    pub(super) fn rename(&mut self, instance_id: &str, old: &str, new: &str, now: Now) {
        let Some(mut member) = self.members.remove(old) else { return };
        member.is_new = false;
        self.members.insert(new.to_owned(), member);
        self.static_members.insert(instance_id.to_owned(), new.to_owned());
        if self.is_leader(old) {
            self.leader = Some(new.to_owned());
        }
        // The old id's sync is no longer due; the new one's is in its place.
        if self.pending_syncs.remove(old) {
            self.pending_syncs.insert(new.to_owned());
        }
        self.restart_session(new, now);
    }
}
