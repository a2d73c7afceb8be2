//! The rebalance itself: its beginning, its completion, its timers.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::super::exchange::{JoinReply, NO_MEMBER_ID, SyncReply};
use super::{Group, JoinTimer, Pending, Reply, State, Step, Waiter};

/// A group of static members of whom nobody rejoins looks again after the rebalance timeout; a
/// client may ask for a timeout of zero, and would keep us busy.
const POSTPONED_JOIN_MS_MIN: i64 = 100;

impl Group {
    /// Each member votes for its most preferred protocol among those that all support; ties go to
    /// the first in alphabetical order (in Kafka, to chance).
    pub(super) fn selected_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|offered| self.members.values().all(|other| other.supports(&offered.name)));
            if let Some(choice) = choice {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// A leader that did not rejoin (a static member) gives its place to one that did. `false`:
    /// there is nobody.
    fn elect_joined_leader(&mut self) -> bool {
        let joined =
            |id: &String| self.members.get(id).is_some_and(|member| member.awaiting_join.is_some());
        if self.leader.as_ref().is_some_and(joined) {
            return true;
        }
        match self.members.keys().find(|id| joined(id)).cloned() {
            Some(leader) => {
                self.leader = Some(leader);
                true
            }
            None => false,
        }
    }
}

impl Step<'_> {
    pub(super) fn refuse_sync(&mut self, waiter: Waiter, error: ResponseError) {
        self.reply(waiter, Reply::Sync(SyncReply::refused(error)));
    }

    /// Takes a member, or a member-to-be, out of the group. Its waiting requests are answered: its
    /// client joins anew if it is still there.
    pub(super) fn remove(&mut self, id: &str) {
        self.group.pending_joins.remove(id);
        self.group.pending_syncs.remove(id);
        let Some(member) = self.group.members.remove(id) else { return };
        if let Some(instance_id) = &member.instance_id {
            self.group.static_members.remove(instance_id);
        }
        if self.group.is_leader(id) {
            self.group.leader = self.group.members.keys().next().cloned();
        }
        if let Some(waiter) = member.awaiting_join {
            let reply = JoinReply::refused(NO_MEMBER_ID, ResponseError::UnknownMemberId);
            self.reply(waiter, Reply::Join(reply));
        }
        if let Some(waiter) = member.awaiting_sync {
            self.refuse_sync(waiter, ResponseError::UnknownMemberId);
        }
    }

    pub(super) fn rebalance_or_complete(&mut self, reason: &str) {
        match self.group.state {
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(reason);
            }
            State::PreparingRebalance | State::Dead => self.complete_join_if_all_joined(),
        }
    }

    pub(super) fn prepare_rebalance(&mut self, reason: &str) {
        if self.group.state == State::CompletingRebalance {
            self.withdraw_assignments(ResponseError::RebalanceInProgress);
        }
        self.group.pending_syncs.clear();
        self.group.sync_due_ms = None;
        let initial = self.group.state == State::Empty;
        self.enter(State::PreparingRebalance);
        let generation = self.group.generation;
        self.note(format!("generation {generation} ends: {reason}"));
        if initial {
            self.begin_initial_delay();
        } else if self.group.has_all_joined() {
            self.complete_join();
        } else {
            let due_ms = self.now.monotonic_ms + self.group.rebalance_timeout_ms();
            self.group.join_timer = Some(JoinTimer::Rebalance { due_ms });
        }
    }

    fn begin_initial_delay(&mut self) {
        self.group.new_member_added = false;
        let delay_ms = i64::from(self.group.settings.initial_rebalance_delay_ms.max(0));
        if delay_ms == 0 {
            return self.complete_join();
        }
        let remaining_ms = (self.group.rebalance_timeout_ms() - delay_ms).max(0);
        let due_ms = self.now.monotonic_ms + delay_ms;
        self.group.join_timer = Some(JoinTimer::Initial { due_ms, delay_ms, remaining_ms });
    }

    /// The assignments of a generation that will not be: they were shown to nobody (M7).
    pub(super) fn withdraw_assignments(&mut self, error: ResponseError) {
        let mut answered = Vec::new();
        for (id, member) in &mut self.group.members {
            member.assignment = Bytes::new();
            if let Some(waiter) = member.awaiting_sync.take() {
                answered.push((id.clone(), waiter));
            }
        }
        for (id, waiter) in answered {
            self.refuse_sync(waiter, error);
            self.group.restart_session(&id, self.now);
        }
    }

    /// In PreparingRebalance only; the first rebalance of a group waits for its delay even so.
    pub(super) fn complete_join_if_all_joined(&mut self) {
        if self.group.state == State::PreparingRebalance
            && self.group.previous != State::Empty
            && self.group.has_all_joined()
        {
            self.complete_join();
        }
    }

    /// The next generation begins with those who are there.
    pub(super) fn complete_join(&mut self) {
        self.group.join_timer = None;
        let late =
            self.group.members.iter().filter(|(_, member)| {
                member.awaiting_join.is_none() && member.instance_id.is_none()
            });
        let late: Vec<String> = late.map(|(id, _)| id.clone()).collect();
        for id in &late {
            self.note(format!("{id} did not rejoin in time and is removed"));
            self.remove(id);
        }
        if !self.group.elect_joined_leader() && !self.group.members.is_empty() {
            // Static members only, and none of them is here: their sessions decide.
            let wait_ms = self.group.rebalance_timeout_ms().max(POSTPONED_JOIN_MS_MIN);
            let due_ms = self.now.monotonic_ms + wait_ms;
            self.group.join_timer = Some(JoinTimer::Rebalance { due_ms });
            return self.note("nobody rejoined, the rebalance waits".to_owned());
        }
        self.group.generation = self.group.generation.saturating_add(1);
        self.group.pending_syncs.clear();
        self.group.protocol = self.group.selected_protocol();
        match self.group.members.is_empty() {
            true => self.become_empty(),
            false => self.begin_sync(),
        }
    }

    fn become_empty(&mut self) {
        self.enter(State::Empty);
        self.group.leader = None;
        let generation = self.group.generation;
        self.note(format!("generation {generation} is empty"));
        let record = self.group.record(None);
        self.write(Some(record), Pending::EmptyGroup);
    }

    fn begin_sync(&mut self) {
        self.enter(State::CompletingRebalance);
        let ids: Vec<String> = self.group.members.keys().cloned().collect();
        let (generation, members) = (self.group.generation, ids.len());
        self.note(format!("generation {generation} begins, members: {members}"));
        for id in ids {
            let reply = self.group.join_reply(&id);
            self.group.restart_session(&id, self.now);
            self.group.pending_syncs.insert(id.clone());
            let Some(member) = self.group.members.get_mut(&id) else { continue };
            member.is_new = false;
            if let Some(waiter) = member.awaiting_join.take() {
                self.reply(waiter, Reply::Join(reply));
            }
        }
        self.group.sync_due_ms = Some(self.now.monotonic_ms + self.group.rebalance_timeout_ms());
    }

    /// Everything that is due, sessions first.
    pub(super) fn tick(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let due = |due_ms: i64| due_ms <= now_ms;
        let pending = self.group.pending_joins.iter().filter(|(_, due_ms)| due(**due_ms));
        let pending: Vec<String> = pending.map(|(id, _)| id.clone()).collect();
        for id in pending {
            self.note(format!("{id} did not come back with its id and is forgotten"));
            self.remove(&id);
            self.complete_join_if_all_joined_even_at_first();
        }
        let members = self.group.members.iter();
        let members = members.filter(|(_, member)| member.session_due_ms.is_some_and(due));
        let members: Vec<String> = members.map(|(id, _)| id.clone()).collect();
        for id in members {
            self.expire_session(&id);
        }
        if self.group.join_timer.is_some_and(|timer| due(timer.due_ms())) {
            self.join_timer_ran_out();
        }
        if self.group.sync_due_ms.is_some_and(due) {
            self.sync_timer_ran_out();
        }
    }

    fn expire_session(&mut self, id: &str) {
        let now_ms = self.now.monotonic_ms;
        // The expiry of another member may have begun a new generation, and this one's session
        // anew.
        let Some(member) = self.group.members.get_mut(id) else { return };
        if member.session_due_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return;
        }
        let waiting = member.awaiting_join.is_some() || member.awaiting_sync.is_some();
        if waiting && !member.is_new {
            member.session_due_ms = None;
            return;
        }
        self.note(format!("{id} is removed: no heartbeat within its session timeout"));
        self.remove(id);
        match self.group.state {
            State::Stable | State::CompletingRebalance => {
                self.prepare_rebalance(&format!("the session of {id} ended"));
            }
            _ => self.complete_join_if_all_joined_even_at_first(),
        }
    }

    /// Who expires does not come any more: nothing is left to wait for, not even the initial delay.
    fn complete_join_if_all_joined_even_at_first(&mut self) {
        if self.group.state == State::PreparingRebalance && self.group.has_all_joined() {
            self.complete_join();
        }
    }

    fn join_timer_ran_out(&mut self) {
        match self.group.join_timer {
            Some(JoinTimer::Initial { delay_ms, remaining_ms, .. })
                if self.group.new_member_added && remaining_ms > 0 =>
            {
                // Somebody came during the delay: others may follow.
                self.group.new_member_added = false;
                let initial_ms = i64::from(self.group.settings.initial_rebalance_delay_ms);
                let next_ms = initial_ms.min(remaining_ms);
                self.group.join_timer = Some(JoinTimer::Initial {
                    due_ms: self.now.monotonic_ms + next_ms,
                    delay_ms: next_ms,
                    remaining_ms: (remaining_ms - delay_ms).max(0),
                });
            }
            Some(_) => self.complete_join(),
            None => {}
        }
    }

    fn sync_timer_ran_out(&mut self) {
        self.group.sync_due_ms = None;
        let late: Vec<String> = std::mem::take(&mut self.group.pending_syncs).into_iter().collect();
        if late.is_empty() {
            return;
        }
        for id in &late {
            self.remove(id);
        }
        let late = late.join(", ");
        self.prepare_rebalance(&format!("no sync in time from {late}"));
    }
}
