//! SyncGroup, and what follows a write.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::super::exchange::{JoinReply, NO_MEMBER_ID, Protocol, Sync, SyncReply};
use super::{Group, Pending, Reply, State, Step, Ticket, Waiter};

/// A static member under a new id, until that is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replaced {
    pub waiter: Waiter,
    pub instance_id: String,
    pub old_member_id: String,
    pub new_member_id: String,
    /// Protocols, rebalance timeout and session timeout of before.
    pub before: (Vec<Protocol>, i32, i32),
    pub leader_before: Option<String>,
    pub may_skip_assignment: bool,
}

impl Group {
    fn check_sync(&self, sync: &Sync) -> Result<(), ResponseError> {
        match self.state {
            State::Dead => return Err(ResponseError::CoordinatorNotAvailable),
            State::Empty => return Err(ResponseError::UnknownMemberId),
            _ => {}
        }
        let caller = &sync.caller;
        self.check_member(&caller.member_id, caller.instance_id.as_deref())?;
        if caller.generation != self.generation {
            return Err(ResponseError::IllegalGeneration);
        }
        if differ(&sync.protocol_type, &self.protocol_type)
            || differ(&sync.protocol, &self.protocol)
        {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.state {
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            _ => Ok(()),
        }
    }

    fn sync_reply(&self, id: &str) -> SyncReply {
        SyncReply {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(id).map(|m| m.assignment.clone()).unwrap_or_default(),
        }
    }

    /// The write of an assignment of this generation is under way.
    fn is_writing_assignment(&self) -> bool {
        let of_now = |pending: &Pending| {
            matches!(pending, Pending::Assignment { generation, .. }
                if *generation == self.generation)
        };
        self.pending.values().any(of_now)
    }
}

fn differ(given: &Option<String>, group: &Option<String>) -> bool {
    given.is_some() && group.is_some() && given != group
}

impl Step<'_> {
    pub(super) fn sync(&mut self, waiter: Waiter, sync: Sync) {
        if let Err(error) = self.group.check_sync(&sync) {
            return self.refuse_sync(waiter, error);
        }
        let id = &sync.caller.member_id;
        self.group.pending_syncs.remove(id);
        if self.group.pending_syncs.is_empty() {
            self.group.sync_due_ms = None;
        }
        if self.group.state == State::Stable {
            let reply = self.group.sync_reply(id);
            return self.reply(waiter, Reply::Sync(reply));
        }
        let Some(member) = self.group.members.get_mut(id) else { return };
        // As for joins: an older request of the same member must not block its connection.
        if let Some(older) = member.awaiting_sync.replace(waiter) {
            self.refuse_sync(older, ResponseError::RebalanceInProgress);
        }
        // A leader that asks twice does not change what is being written (Kafka writes again, and
        // memory keeps the first while the log keeps the second).
        if self.group.is_leader(id) && !self.group.is_writing_assignment() {
            let assignments: BTreeMap<String, Bytes> = sync.assignments.into_iter().collect();
            let record = self.group.record(Some(&assignments));
            let generation = self.group.generation;
            self.write(Some(record), Pending::Assignment { generation, assignments });
        }
    }

    pub(super) fn written(&mut self, ticket: Ticket, result: Result<(), ResponseError>) {
        let result = result.map_err(to_group_error);
        match self.group.pending.remove(&ticket) {
            Some(Pending::Assignment { generation, assignments })
                if self.group.state == State::CompletingRebalance
                    && self.group.generation == generation =>
            {
                self.assignment_written(assignments, result);
            }
            // Somebody joined or left meanwhile: a new rebalance is on its way.
            Some(Pending::Assignment { .. }) => {}
            Some(Pending::StaticMember(replaced)) => self.static_member_written(*replaced, result),
            Some(Pending::EmptyGroup) => {
                if let Err(error) = result {
                    // After a restart the generation before comes back, and its sessions end.
                    self.note(format!("the empty group could not be written: {error:?}"));
                }
            }
            Some(Pending::Tombstone { waiter }) => {
                if result.is_err() {
                    self.enter(State::Empty);
                }
                self.reply(waiter, Reply::Delete(result));
            }
            None => {}
        }
    }

    fn assignment_written(
        &mut self,
        assignments: BTreeMap<String, Bytes>,
        result: Result<(), ResponseError>,
    ) {
        if let Err(error) = result {
            self.withdraw_assignments(error);
            return self.prepare_rebalance("the assignment could not be written");
        }
        self.enter(State::Stable);
        let mut answered = Vec::new();
        for (id, member) in &mut self.group.members {
            member.assignment = assignments.get(id).cloned().unwrap_or_default();
            if let Some(waiter) = member.awaiting_sync.take() {
                answered.push((id.clone(), waiter));
            }
        }
        for (id, waiter) in answered {
            let reply = self.group.sync_reply(&id);
            self.reply(waiter, Reply::Sync(reply));
            self.group.restart_session(&id, self.now);
        }
        let generation = self.group.generation;
        self.note(format!("generation {generation} is stable"));
    }

    fn static_member_written(&mut self, replaced: Replaced, result: Result<(), ResponseError>) {
        let id = &replaced.new_member_id;
        let waits = self
            .group
            .members
            .get(id)
            .is_some_and(|member| member.awaiting_join == Some(replaced.waiter));
        // If a rebalance began meanwhile, the member has joined it by waiting.
        if !waits || self.group.state != State::Stable {
            return;
        }
        match result {
            Ok(()) => self.answer_replacement(&replaced),
            Err(error) => self.undo_replacement(replaced, error),
        }
    }

    fn answer_replacement(&mut self, replaced: &Replaced) {
        let id = &replaced.new_member_id;
        if let Some(member) = self.group.members.get_mut(id) {
            member.awaiting_join = None;
        }
        self.group.restart_session(id, self.now);
        let mut reply = self.group.join_reply(id);
        if replaced.may_skip_assignment {
            // KIP-814: the leader learns who is there, and that it has nothing to assign.
            reply.skip_assignment = self.group.is_leader(id);
        } else {
            // A leader of before KIP-814 must not assign again, so it is told that somebody else is
            // the leader: the id that it had before.
            reply.leader = replaced.leader_before.clone().unwrap_or_default();
            reply.members.clear();
        }
        self.reply(replaced.waiter, Reply::Join(reply));
    }

    fn undo_replacement(&mut self, replaced: Replaced, error: ResponseError) {
        let Replaced { waiter, instance_id, old_member_id, new_member_id, before, .. } = replaced;
        self.group.rename(&instance_id, &new_member_id, &old_member_id, self.now);
        if let Some(member) = self.group.members.get_mut(&old_member_id) {
            member.awaiting_join = None;
            (member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms) = before;
        }
        let reply = JoinReply { error: Some(error), ..self.group.join_reply(NO_MEMBER_ID) };
        self.reply(waiter, Reply::Join(reply));
    }
}

/// What clients of groups understand of the log's errors (as Kafka maps them).
pub(crate) fn to_group_error(error: ResponseError) -> ResponseError {
    use ResponseError::{
        CoordinatorNotAvailable, InvalidFetchSize, KafkaStorageError, MessageTooLarge,
        NotCoordinator, NotEnoughReplicas, NotLeaderOrFollower, RecordListTooLarge,
        RequestTimedOut, UnknownServerError, UnknownTopicOrPartition,
    };
    match error {
        UnknownTopicOrPartition | NotEnoughReplicas | RequestTimedOut => CoordinatorNotAvailable,
        NotLeaderOrFollower | KafkaStorageError => NotCoordinator,
        MessageTooLarge | RecordListTooLarge | InvalidFetchSize => UnknownServerError,
        other => other,
    }
}
