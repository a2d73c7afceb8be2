//! Membership of one share group (KIP-932): a pure function of heartbeats and time.
//!
//! ```text
//!   Empty ──first member──▶ Stable ──last member gone──▶ Empty
//! ```
//!
//! A member brings its own id and says which topics it wants; the heartbeat's answer says what it
//! reads. Several members may read one partition, so nobody waits for anybody to let go: a new
//! assignment holds as soon as a member hears of it.
//!
//! Invariants:
//! - G1. Epochs of the group and of its members only grow; every change of members, of what they
//!   want, or of those topics raises the group's.
//! - G2. A member reads only partitions of topics that it wants and that exist.
//! - G3. Each partition of a topic that somebody wants has a reader, as soon as every member has
//!   heard of the assignment.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;

use super::assignor::{self, Reader};
use super::records::{Assignment, GroupRecord, MemberRecord, TopicSeen};
use super::{MEMBERS_TEXT_BYTES_MAX, ShareSettings};

/// The member epoch by which a member joins, and the one by which it leaves.
pub(crate) const JOIN_EPOCH: i32 = 0;
pub(crate) const LEAVE_EPOCH: i32 = -1;

/// What a heartbeat says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heartbeat {
    pub member_id: String,
    pub member_epoch: i32,
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// `None`: as before.
    pub topics: Option<BTreeSet<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeartbeatReply {
    pub member_id: String,
    pub member_epoch: i32,
    /// `None`: as the member knows it.
    pub assignment: Option<Assignment>,
}

/// A Kafka error with the sentence that goes with it.
pub(crate) type Refused = (ResponseError, String);

fn refuse<T>(error: ResponseError, why: impl Into<String>) -> Result<T, Refused> {
    Err((error, why.into()))
}

/// The topics of the broker, as far as a group asks.
pub(crate) type TopicsView<'a> = &'a (dyn Fn(&str) -> Option<TopicSeen> + Sync);

/// As Kafka's, a new group is at epoch 1, and its first member's is 2.
const FIRST_EPOCH: i32 = 1;

#[derive(Debug, Clone)]
pub(crate) struct ShareGroup {
    record: GroupRecord,
    /// When the session of each member ends.
    sessions: BTreeMap<String, i64>,
}

impl Default for ShareGroup {
    fn default() -> Self {
        let record = GroupRecord { epoch: FIRST_EPOCH, ..GroupRecord::default() };
        Self { record, sessions: BTreeMap::new() }
    }
}

impl ShareGroup {
    /// After a restart every member has a whole session to come back in.
    pub(crate) fn restored(record: GroupRecord, settings: &ShareSettings, now_ms: i64) -> Self {
        let until_ms = now_ms + i64::from(settings.session_timeout_ms);
        let sessions = record.members.keys().map(|member| (member.clone(), until_ms)).collect();
        Self { record, sessions }
    }

    pub(crate) fn record(&self) -> &GroupRecord {
        &self.record
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.record.members.is_empty()
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.record.epoch
    }

    /// Kafka's word.
    pub(crate) fn state(&self) -> &'static str {
        if self.is_empty() { "Empty" } else { "Stable" }
    }

    pub(crate) fn due_ms(&self) -> Option<i64> {
        self.sessions.values().min().copied()
    }

    /// Ends the sessions whose time has come; the members that are gone.
    pub(crate) fn expire(&mut self, now_ms: i64) -> Vec<String> {
        let over = self.sessions.iter().filter(|(_, until_ms)| **until_ms <= now_ms);
        let over: Vec<String> = over.map(|(member, _)| member.clone()).collect();
        for member in &over {
            self.remove(member);
        }
        over
    }

    fn remove(&mut self, member: &str) {
        self.sessions.remove(member);
        if self.record.members.remove(member).is_some() {
            self.record.epoch += 1;
        }
    }

    /// The answer; and whether the group changed, which has to be durable first.
    pub(crate) fn heartbeat(
        &mut self,
        heartbeat: Heartbeat,
        settings: &ShareSettings,
        topics: TopicsView<'_>,
        now_ms: i64,
    ) -> Result<(HeartbeatReply, bool), Refused> {
        if heartbeat.member_epoch == LEAVE_EPOCH {
            return self.leave(heartbeat);
        }
        self.admit(&heartbeat, settings)?;
        let Heartbeat { member_id, member_epoch, .. } = heartbeat.clone();
        let before = self.record.clone();
        let full = heartbeat.member_epoch == JOIN_EPOCH || heartbeat.topics.is_some();
        let mut raised = self.update_member(heartbeat);
        raised |= self.look_at_topics(topics);
        if raised {
            self.record.epoch += 1;
        }
        if self.record.assignment_epoch < self.record.epoch {
            self.assign();
        }
        self.reconcile(&member_id, raised);
        let until_ms = now_ms + i64::from(settings.session_timeout_ms);
        self.sessions.insert(member_id.clone(), until_ms);
        let member = self.record.members.get(&member_id).cloned().unwrap_or_default();
        let told = before.members.get(&member_id).map(|member| &member.assigned);
        debug_assert!(member.epoch >= member_epoch);
        let reply = HeartbeatReply {
            member_id,
            member_epoch: member.epoch,
            assignment: (full || told != Some(&member.assigned)).then_some(member.assigned),
        };
        Ok((reply, self.record != before))
    }

    fn leave(&mut self, heartbeat: Heartbeat) -> Result<(HeartbeatReply, bool), Refused> {
        let Heartbeat { member_id, member_epoch, .. } = heartbeat;
        if !self.record.members.contains_key(&member_id) {
            return refuse(ResponseError::UnknownMemberId, not_a_member(&member_id));
        }
        self.remove(&member_id);
        Ok((HeartbeatReply { member_id, member_epoch, assignment: None }, true))
    }

    fn admit(&self, heartbeat: &Heartbeat, settings: &ShareSettings) -> Result<(), Refused> {
        let known = self.record.members.get(&heartbeat.member_id);
        if known.is_none() && self.record.members.len() >= settings.size_max {
            let max = settings.size_max;
            let why = format!("The share group has reached its maximum capacity of {max} members.");
            return refuse(ResponseError::GroupMaxSizeReached, why);
        }
        self.check_text(heartbeat)?;
        let Some(member) = known else {
            return match heartbeat.member_epoch {
                JOIN_EPOCH => Ok(()),
                _ => refuse(ResponseError::UnknownMemberId, not_a_member(&heartbeat.member_id)),
            };
        };
        let brought = heartbeat.member_epoch;
        // The epoch before is let pass: the answer that told of the new one may be lost.
        if [JOIN_EPOCH, member.epoch, member.previous_epoch].contains(&brought) {
            return Ok(());
        }
        let than = if brought > member.epoch { "greater" } else { "smaller" };
        let why = format!(
            "The share group member has a {than} member epoch ({brought}) than the one known by \
             the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            member.epoch
        );
        refuse(ResponseError::FencedMemberEpoch, why)
    }

    /// What all members say of themselves has to fit into the group's record.
    fn check_text(&self, heartbeat: &Heartbeat) -> Result<(), Refused> {
        let text = |topics: &BTreeSet<String>, client: &str, rack: Option<&str>| {
            let topics: usize = topics.iter().map(String::len).sum();
            topics + client.len() + rack.unwrap_or_default().len()
        };
        let Some(topics) = &heartbeat.topics else { return Ok(()) };
        let own = text(topics, &heartbeat.client_id, heartbeat.rack.as_deref());
        let others = self.record.members.iter().filter(|(id, _)| **id != heartbeat.member_id);
        let others = others.map(|(_, m)| text(&m.topics, &m.client_id, m.rack.as_deref()));
        if own + others.sum::<usize>() <= MEMBERS_TEXT_BYTES_MAX {
            return Ok(());
        }
        let why = "The members of the share group subscribe to too many topics.";
        refuse(ResponseError::GroupMaxSizeReached, why)
    }

    /// True if the member is new or wants other topics.
    fn update_member(&mut self, heartbeat: Heartbeat) -> bool {
        let new = !self.record.members.contains_key(&heartbeat.member_id);
        let member = self
            .record
            .members
            .entry(heartbeat.member_id)
            .or_insert(MemberRecord { previous_epoch: -1, ..MemberRecord::default() });
        member.client_id = heartbeat.client_id;
        member.client_host = heartbeat.client_host;
        member.rack = heartbeat.rack.or(member.rack.take());
        match heartbeat.topics {
            Some(topics) if topics != member.topics => {
                member.topics = topics;
                true
            }
            _ => new,
        }
    }

    /// Takes note of what became of the topics that members want; true if that is news.
    fn look_at_topics(&mut self, topics: TopicsView<'_>) -> bool {
        let wanted: BTreeSet<&String> =
            self.record.members.values().flat_map(|member| &member.topics).collect();
        let seen = wanted.into_iter().filter_map(|name| Some((name.clone(), topics(name)?)));
        let seen: BTreeMap<String, TopicSeen> = seen.collect();
        let news = seen != self.record.topics;
        self.record.topics = seen;
        news
    }

    fn assign(&mut self) {
        let record = &mut self.record;
        let readers = record.members.iter().map(|(id, member)| {
            let topics = member.topics.iter().filter_map(|name| Some(record.topics.get(name)?.id));
            (id.clone(), Reader { topics: topics.collect(), has: member.target.clone() })
        });
        let sizes = record.topics.values().map(|seen| (seen.id, seen.partitions)).collect();
        let mut targets = assignor::assign(&readers.collect(), &sizes);
        for (id, member) in &mut record.members {
            member.target = targets.remove(id).unwrap_or_default();
        }
        record.assignment_epoch = record.epoch;
    }

    /// Brings one member to the newest assignment. Its topics may have changed since that was made.
    fn reconcile(&mut self, member_id: &str, subscription_changed: bool) {
        let record = &mut self.record;
        let Some(member) = record.members.get_mut(member_id) else { return };
        if member.epoch == record.assignment_epoch && !subscription_changed {
            return;
        }
        if member.epoch != record.assignment_epoch {
            member.previous_epoch = member.epoch;
            member.epoch = record.assignment_epoch;
        }
        let wanted = member.topics.iter().filter_map(|name| Some(record.topics.get(name)?.id));
        let wanted: BTreeSet<_> = wanted.collect();
        let target = member.target.iter().filter(|(topic, _)| wanted.contains(topic));
        member.assigned = target.map(|(topic, places)| (*topic, places.clone())).collect();
    }

    /// What the group's members want now, so that its partitions can be begun.
    pub(crate) fn topics(&self) -> impl Iterator<Item = &TopicSeen> {
        self.record.topics.values()
    }
}

fn not_a_member(member: &str) -> String {
    format!("Member {member} is not a member of the group.")
}

#[cfg(test)]
mod tests;
