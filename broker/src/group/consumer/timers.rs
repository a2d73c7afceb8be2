//! Time-outs of members, and what takes members out of the group.

use super::image::{Current, MemberState, Record, Subscription};
use super::target::metadata_hash;
use super::{Group, Step};
use crate::clock::Now;

/// When a member's patience, or ours, ends; on the monotonic clock.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Timers {
    session_due_ms: Option<i64>,
    /// To give back partitions in this epoch.
    rebalance: Option<(i32, i64)>,
    /// To join again, for a member of the classic protocol.
    join_due_ms: Option<i64>,
    /// To fetch its assignment, for a member of the classic protocol.
    sync_due_ms: Option<i64>,
}

impl Timers {
    pub(super) fn at_start(
        member: &Subscription,
        current: &Current,
        now: Now,
        session_timeout_ms: i32,
    ) -> Self {
        let own = member.classic.as_ref().map(|classic| classic.session_timeout_ms);
        let session_ms = own.unwrap_or(session_timeout_ms);
        let revokes = current.state == MemberState::UnrevokedPartitions && own.is_none();
        Self {
            session_due_ms: Some(due(now, session_ms)),
            rebalance: revokes.then(|| (current.epoch, due(now, member.rebalance_timeout_ms))),
            ..Self::default()
        }
    }

    pub(super) fn has_session(&self) -> bool {
        self.session_due_ms.is_some()
    }

    fn due_ms(&self) -> Option<i64> {
        let rebalance = self.rebalance.map(|(_, due_ms)| due_ms);
        let all = [self.session_due_ms, rebalance, self.join_due_ms, self.sync_due_ms];
        all.into_iter().flatten().min()
    }
}

fn due(now: Now, timeout_ms: i32) -> i64 {
    now.monotonic_ms + i64::from(timeout_ms.max(0))
}

impl Group {
    /// When an [`super::Event::Tick`] is due.
    pub(crate) fn due_ms(&self) -> Option<i64> {
        self.timers.values().filter_map(Timers::due_ms).min()
    }
}

impl Step<'_> {
    pub(super) fn restart_session(&mut self, id: &str, timeout_ms: i32) {
        let due_ms = due(self.now, timeout_ms);
        match self.group.timers.get_mut(id) {
            Some(timers) => timers.session_due_ms = Some(due_ms),
            None => {
                let timers = Timers { session_due_ms: Some(due_ms), ..Timers::default() };
                self.group.timers.insert(id.to_owned(), timers);
            }
        }
    }

    /// Begins or ends the wait for partitions to be given back. Members of the classic protocol are
    /// waited for in another way: they have to join again.
    pub(super) fn follow_rebalance(&mut self, id: &str, current: &Current) {
        let Some(member) = self.group.image.members().get(id) else { return };
        let revokes = current.state == MemberState::UnrevokedPartitions && member.classic.is_none();
        let due_ms = due(self.now, member.rebalance_timeout_ms);
        if let Some(timers) = self.group.timers.get_mut(id) {
            timers.rebalance = revokes.then_some((current.epoch, due_ms));
        }
    }

    pub(super) fn expect_join(&mut self, id: &str, timeout_ms: i32) {
        let due_ms = due(self.now, timeout_ms);
        if let Some(timers) = self.group.timers.get_mut(id) {
            timers.join_due_ms.get_or_insert(due_ms);
        }
    }

    /// It has joined: now it has to sync.
    pub(super) fn expect_sync(&mut self, id: &str, timeout_ms: i32) {
        let due_ms = due(self.now, timeout_ms);
        if let Some(timers) = self.group.timers.get_mut(id) {
            timers.join_due_ms = None;
            timers.sync_due_ms = Some(due_ms);
        }
    }

    pub(super) fn synced(&mut self, id: &str) {
        if let Some(timers) = self.group.timers.get_mut(id) {
            timers.sync_due_ms = None;
        }
    }

    pub(super) fn tick(&mut self) {
        let now_ms = self.now.monotonic_ms;
        let is_due = |due_ms: i64| due_ms <= now_ms;
        let due = self.group.timers.iter().filter(|(_, it)| it.due_ms().is_some_and(is_due));
        let due: Vec<String> = due.map(|(id, _)| id.clone()).collect();
        for id in due {
            // A group that went over to the classic protocol has timers of its own.
            if self.out.classic.is_some() {
                return;
            }
            self.member_is_late(&id);
        }
    }

    fn member_is_late(&mut self, id: &str) {
        let now_ms = self.now.monotonic_ms;
        let is_due = |due_ms: i64| due_ms <= now_ms;
        let Some(timers) = self.group.timers.get_mut(id) else { return };
        let why = if timers.session_due_ms.is_some_and(is_due) {
            "its session expired"
        } else if timers.join_due_ms.is_some_and(is_due) {
            "it did not join again within its rebalance timeout"
        } else if timers.sync_due_ms.is_some_and(is_due) {
            "it did not sync within its rebalance timeout"
        } else {
            let Some((epoch, _)) = timers.rebalance.take_if(|(_, due_ms)| is_due(*due_ms)) else {
                return;
            };
            if self.group.image.current(id).epoch != epoch {
                return;
            }
            "it did not give back its partitions within its rebalance timeout"
        };
        self.note(format!("{id} is removed: {why}"));
        self.take_out(&[id.to_owned()]);
    }

    /// These members are gone; the others get what they had.
    pub(super) fn take_out(&mut self, ids: &[String]) {
        if self.may_downgrade_without(ids) {
            return self.downgrade_without(ids);
        }
        for id in ids {
            self.remove_records(id);
        }
        self.drop_unused_patterns();
        let hash = metadata_hash(&self.group.image, self.world.topics);
        self.put_epoch(hash);
    }

    /// Every record of the group; nothing is left of it.
    pub(super) fn put_end(&mut self) {
        let tombstones: Vec<Record> = self.group.image.tombstones();
        for record in tombstones {
            self.put(record);
        }
        self.group.timers.clear();
    }
}
