//! ConsumerGroupHeartbeat: join, stay, leave.

use std::sync::Arc;

use super::super::exchange::{
    Assignment, JOINS, LEAVES, LEAVES_FOR_NOW, MemberHeartbeat, MemberReply, Refusal, Reply, Waiter,
};
use super::admit::{Admitted, not_a_member};
use super::image::{Current, Record, Subscription};
use super::{Group, Step};

impl Step<'_> {
    pub(super) fn heartbeat(&mut self, waiter: Waiter, heartbeat: MemberHeartbeat, fresh: String) {
        let reply = match heartbeat.epoch {
            LEAVES | LEAVES_FOR_NOW => self.leave(&heartbeat),
            _ => self.stay(heartbeat, fresh),
        };
        self.reply(waiter, Reply::Member(reply));
    }

    /// It joins, or goes on.
    fn stay(
        &mut self,
        heartbeat: MemberHeartbeat,
        fresh_member_id: String,
    ) -> Result<MemberReply, Refusal> {
        let id = match heartbeat.member_id.is_empty() {
            true => fresh_member_id,
            false => heartbeat.member_id.clone(),
        };
        let admitted = self.group.admit(&heartbeat, &id, self.world)?;
        if heartbeat.epoch == JOINS {
            self.note(format!("{id} joins with the consumer protocol"));
        }
        if let Admitted::Replaces(old) = &admitted {
            self.replace(old, &id);
        }
        let before = self.group.image.current(&id);
        let joins = heartbeat.epoch == JOINS;
        // A member that says everything has lost track, for example by a time-out.
        let says_all = heartbeat.rebalance_timeout_ms.is_some()
            && (heartbeat.topics.is_some() || heartbeat.pattern.is_some())
            && heartbeat.owned.is_some();
        let owned = heartbeat.owned.clone();
        let subscription = self.group.updated(&id, heartbeat);
        let changed = self.put_member(&id, subscription);
        self.bump_epoch_if(changed);
        self.update_target();
        let after = self.reconcile(&id, owned.as_ref());
        self.restart_session(&id, self.world.session_timeout_ms);
        let tells_assignment = joins || says_all || before.assigned != after.assigned;
        Ok(MemberReply {
            member_id: id,
            epoch: after.epoch,
            heartbeat_interval_ms: self.world.heartbeat_interval_ms,
            assignment: tells_assignment.then(|| Assignment::clone(&after.assigned)),
        })
    }

    /// The same static member under another id (KIP-345): it keeps what it had, and starts in epoch
    /// 0 again.
    pub(super) fn replace(&mut self, old: &str, new: &str) {
        self.note(format!("{new} takes the place of {old}, the same static member"));
        let image = &self.group.image;
        let member = image.members().get(old).cloned();
        let (target, current) = (image.target(old), image.current(old));
        self.remove_records(old);
        let current = Current { epoch: JOINS, previous_epoch: JOINS, ..Current::clone(&current) };
        self.put(Record::Member(new.to_owned(), member));
        self.put(Record::Target(new.to_owned(), Some(target)));
        self.put(Record::Current(new.to_owned(), Some(Arc::new(current))));
    }

    /// The member's records, and its timers; not the regular expression that it was the last to
    /// use.
    pub(super) fn remove_records(&mut self, id: &str) {
        self.put(Record::Current(id.to_owned(), None));
        self.put(Record::Target(id.to_owned(), None));
        self.put(Record::Member(id.to_owned(), None));
        self.group.timers.remove(id);
    }

    /// Writes down what the member says about itself, if that is new. `true`: it reads other topics
    /// than before.
    pub(super) fn put_member(&mut self, id: &str, subscription: Subscription) -> bool {
        let before = self.group.image.members().get(id).cloned().unwrap_or_default();
        let is_member = self.group.image.members().contains_key(id);
        let topics_changed = before.topics != subscription.topics;
        let pattern_changed = before.pattern != subscription.pattern;
        let pattern = subscription.pattern.clone();
        if !is_member || *before != subscription {
            self.put(Record::Member(id.to_owned(), Some(Arc::new(subscription))));
        }
        if pattern_changed {
            self.drop_unused_patterns();
            if let Some(pattern) = pattern {
                self.match_pattern(&pattern);
            }
        }
        topics_changed || pattern_changed
    }

    fn leave(&mut self, heartbeat: &MemberHeartbeat) -> Result<MemberReply, Refusal> {
        let id = &heartbeat.member_id;
        match &heartbeat.instance_id {
            None if self.group.image.members().contains_key(id) => {}
            None => return Err(not_a_member(id, self.world)),
            Some(instance_id) => self.group.check_instance(instance_id, id)?,
        }
        if heartbeat.instance_id.is_some() && heartbeat.epoch == LEAVES_FOR_NOW {
            self.note(format!("{id} leaves for now"));
            let before = self.group.image.current(id);
            let current = Current {
                epoch: LEAVES_FOR_NOW,
                // What it had to give back is free, because it has ended.
                revoking: Arc::default(),
                since: before.since_of([&before.assigned, &Assignment::new()], before.epoch),
                ..Current::clone(&before)
            };
            self.put(Record::Current(id.clone(), Some(Arc::new(current))));
        } else {
            self.note(format!("{id} leaves"));
            self.take_out(std::slice::from_ref(id));
        }
        Ok(MemberReply {
            member_id: id.clone(),
            epoch: heartbeat.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        })
    }
}

impl Group {
    /// What the member said before, with what it says now.
    fn updated(&self, id: &str, heartbeat: MemberHeartbeat) -> Subscription {
        let unknown = || Arc::new(Subscription { rebalance_timeout_ms: -1, ..Default::default() });
        let before = self.image.members().get(id).cloned().unwrap_or_else(unknown);
        Subscription {
            instance_id: heartbeat.instance_id.or_else(|| before.instance_id.clone()),
            rack_id: heartbeat.rack_id.or_else(|| before.rack_id.clone()),
            client_id: heartbeat.client_id,
            client_host: heartbeat.client_host,
            topics: heartbeat.topics.unwrap_or_else(|| before.topics.clone()),
            pattern: match heartbeat.pattern {
                Some(pattern) => Some(pattern).filter(|pattern| !pattern.is_empty()),
                None => before.pattern.clone(),
            },
            rebalance_timeout_ms: heartbeat
                .rebalance_timeout_ms
                .unwrap_or(before.rebalance_timeout_ms),
            assignor: heartbeat.assignor.or_else(|| before.assignor.clone()),
            classic: None,
        }
    }
}
