//! Heartbeat, LeaveGroup, and the end of a group.

use kafka_protocol::ResponseError;

use super::super::exchange::{Caller, LeaveReply, Leaving, Left, NO_MEMBER_ID};
use super::{Group, Pending, Reply, State, Step, Waiter};

impl Group {
    fn check_heartbeat(&self, caller: &Caller) -> Result<(), ResponseError> {
        if self.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        self.check_member(&caller.member_id, caller.instance_id.as_deref())?;
        match caller.generation == self.generation {
            true => Ok(()),
            false => Err(ResponseError::IllegalGeneration),
        }
    }
}

impl Step<'_> {
    pub(super) fn heartbeat(&mut self, waiter: Waiter, caller: &Caller) {
        let result = self.group.check_heartbeat(caller);
        let result = result.and_then(|()| {
            self.group.restart_session(&caller.member_id, self.now);
            match self.group.state {
                State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
                _ => Ok(()),
            }
        });
        self.reply(waiter, Reply::Heartbeat(result));
    }

    pub(super) fn leave(&mut self, waiter: Waiter, leaving: Vec<Leaving>) {
        let reply = self.leave_all(leaving);
        self.reply(waiter, Reply::Leave(reply));
    }

    fn leave_all(&mut self, leaving: Vec<Leaving>) -> LeaveReply {
        if self.group.state == State::Dead {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        let mut left = Vec::with_capacity(leaving.len());
        for one in leaving {
            let error = self.leave_one(&one).err();
            left.push(Left { member_id: one.member_id, instance_id: one.instance_id, error });
        }
        if left.iter().any(|one| one.error.is_none()) {
            match self.group.state {
                State::Stable | State::CompletingRebalance => {
                    self.prepare_rebalance("members leave");
                }
                _ => self.complete_join_if_all_joined(),
            }
        }
        Ok(left)
    }

    fn leave_one(&mut self, leaving: &Leaving) -> Result<(), ResponseError> {
        let instance_id = leaving.instance_id.as_deref();
        let id = if leaving.member_id == NO_MEMBER_ID {
            // An administrator knows the instance only.
            let known = instance_id.and_then(|id| self.group.static_members.get(id));
            known.cloned().ok_or(ResponseError::UnknownMemberId)?
        } else {
            leaving.member_id.clone()
        };
        if !self.group.pending_joins.contains_key(&id) {
            self.group.check_member(&id, instance_id)?;
        }
        let reason = leaving.reason.as_deref().unwrap_or("no reason given");
        self.note(format!("{id} leaves: {reason}"));
        self.remove(&id);
        Ok(())
    }

    pub(super) fn delete(&mut self, waiter: Waiter) {
        match self.group.state {
            State::Dead => {
                self.reply(waiter, Reply::Delete(Err(ResponseError::GroupIdNotFound)));
            }
            State::Empty => {
                // Members-to-be meet COORDINATOR_NOT_AVAILABLE when they come back, and ask again.
                self.group.pending_joins.clear();
                self.enter(State::Dead);
                self.write(None, Pending::Tombstone { waiter });
            }
            _ => self.reply(waiter, Reply::Delete(Err(ResponseError::NonEmptyGroup))),
        }
    }
}
