//! Who may do what: every check before anything changes, with Kafka's errors and sentences.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;

use super::super::MEMBERS_MAX;
use super::super::exchange::{Assignment, JOINS, LEAVES_FOR_NOW, MemberHeartbeat, Refusal};
use super::pattern::GROUP_PATTERNS_MAX;
use super::{Group, World};

/// How a request finds its member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admitted {
    Existing,
    New,
    /// A static member that was started anew takes the place of this member id.
    Replaces(String),
}

impl Group {
    pub(super) fn check_room(&self, id: &str) -> Result<(), Refusal> {
        let size_max = self.settings.size_max.min(MEMBERS_MAX);
        let members = self.image.members();
        if members.len() < size_max || members.contains_key(id) {
            return Ok(());
        }
        Err(Refusal::new(
            ResponseError::GroupMaxSizeReached,
            format!("The consumer group has reached its maximum capacity of {size_max} members."),
        ))
    }

    /// May the heartbeat be taken in? Nothing has changed yet if not.
    pub(super) fn admit(
        &mut self,
        heartbeat: &MemberHeartbeat,
        id: &str,
        world: &World<'_>,
    ) -> Result<Admitted, Refusal> {
        self.check_room(&heartbeat.member_id)?;
        let joins = heartbeat.epoch == JOINS;
        let admitted = match &heartbeat.instance_id {
            None if self.image.members().contains_key(id) => Admitted::Existing,
            None if joins => Admitted::New,
            None => return Err(not_a_member(id, world)),
            Some(instance_id) => self.admit_static(instance_id, id, joins)?,
        };
        if admitted == Admitted::Existing {
            self.check_member_epoch(id, heartbeat.epoch, heartbeat.owned.as_ref())?;
        }
        if let Some(wanted) = heartbeat.pattern.as_deref().filter(|it| !it.is_empty()) {
            // One that somebody uses was checked when it came.
            if !self.image.patterns().contains_key(wanted) {
                self.admit_pattern(wanted, id, &admitted)?;
            }
        }
        Ok(admitted)
    }

    /// A regular expression that nobody in the group uses yet; it is kept compiled.
    fn admit_pattern(&mut self, wanted: &str, id: &str, by: &Admitted) -> Result<(), Refusal> {
        let refused = |why: String| Refusal::new(ResponseError::InvalidRegularExpression, why);
        // What this member used before, also under another member id, makes room for it.
        let gives_up = |other: &str| {
            other == id || matches!(by, Admitted::Replaces(replaced) if replaced.as_str() == other)
        };
        let others = self.image.members().iter().filter(|(other, _)| !gives_up(other));
        let used: BTreeSet<&str> =
            others.filter_map(|(_, member)| member.pattern.as_deref()).collect();
        if used.len() >= GROUP_PATTERNS_MAX {
            return Err(refused(format!(
                "SubscribedTopicRegex `{wanted}` is one too many: the members of a group use at \
                 most {GROUP_PATTERNS_MAX} different regular expressions."
            )));
        }
        self.compiled.add(wanted).map_err(|why| {
            refused(format!(
                "SubscribedTopicRegex `{wanted}` is not a valid regular expression: {why}."
            ))
        })
    }

    fn admit_static(&self, instance_id: &str, id: &str, joins: bool) -> Result<Admitted, Refusal> {
        let Some(known) = self.image.static_member(instance_id) else {
            let exists = self.image.members().contains_key(id);
            return match (joins, exists) {
                (true, false) => Ok(Admitted::New),
                // The same member, which has an instance id now.
                (true, true) => Ok(Admitted::Existing),
                (false, _) => Err(unknown_instance(instance_id)),
            };
        };
        if !joins {
            self.check_instance(instance_id, id)?;
            return Ok(Admitted::Existing);
        }
        let classic = self.image.members().get(known).is_some_and(|it| it.classic.is_some());
        if !classic && self.image.current(known).epoch != LEAVES_FOR_NOW {
            let why = format!(
                "Static member {id} with instance id {instance_id} cannot join the group because \
                 the instance id is owned by {known} member."
            );
            return Err(Refusal::new(ResponseError::UnreleasedInstanceId, why));
        }
        Ok(Admitted::Replaces(known.to_owned()))
    }

    /// The member id of an instance, if it is still this one's.
    pub(super) fn check_instance(&self, instance_id: &str, id: &str) -> Result<(), Refusal> {
        let known = self.image.static_member(instance_id);
        let known = known.ok_or_else(|| unknown_instance(instance_id))?;
        if known == id {
            return Ok(());
        }
        let why = format!(
            "Static member {id} with instance id {instance_id} was fenced by member {known}."
        );
        Err(Refusal::new(ResponseError::FencedInstanceId, why))
    }

    /// A member, by id or by instance id and id.
    pub(super) fn check_member(
        &self,
        id: &str,
        instance_id: Option<&str>,
        world: &World<'_>,
    ) -> Result<(), Refusal> {
        match instance_id {
            Some(instance_id) => self.check_instance(instance_id, id),
            None if self.image.members().contains_key(id) => Ok(()),
            None => Err(not_a_member(id, world)),
        }
    }

    fn check_member_epoch(
        &self,
        id: &str,
        received: i32,
        owned: Option<&Assignment>,
    ) -> Result<(), Refusal> {
        // A member that was fenced gives up all that it had and joins again under its id, without
        // waiting for its session to end (KIP-848; in Kafka since KAFKA-19233).
        if received == JOINS {
            return Ok(());
        }
        let current = self.image.current(id);
        // The reply that told the new epoch may have been lost.
        let missed_reply = received == current.previous_epoch
            && owned.is_some_and(|owned| is_part_of(owned, &current.assigned));
        if received == current.epoch || (received < current.epoch && missed_reply) {
            return Ok(());
        }
        let size = if received > current.epoch { "greater" } else { "smaller" };
        let why = format!(
            "The consumer group member has a {size} member epoch ({received}) than the one known \
             by the group coordinator ({}). The member must abandon all its partitions and rejoin.",
            current.epoch
        );
        Err(Refusal::new(ResponseError::FencedMemberEpoch, why))
    }
}

fn is_part_of(owned: &Assignment, assigned: &Assignment) -> bool {
    owned.iter().all(|(topic, partitions)| {
        assigned.get(topic).is_some_and(|assigned| partitions.is_subset(assigned))
    })
}

pub(super) fn not_a_member(id: &str, world: &World<'_>) -> Refusal {
    let why = format!("Member {id} is not a member of group {}.", world.group);
    Refusal::new(ResponseError::UnknownMemberId, why)
}

fn unknown_instance(instance_id: &str) -> Refusal {
    let why = format!("Instance id {instance_id} is unknown.");
    Refusal::new(ResponseError::UnknownMemberId, why)
}

#[cfg(test)]
mod tests {
    use super::super::super::exchange::Reply;
    use super::super::testing::TestTopics;
    use super::super::{ConsumerSettings, Event, step};
    use super::*;
    use crate::clock::Now;

    fn beat(group: &mut Group, member_id: &str, epoch: i32, pattern: &str) -> Result<i32, Refusal> {
        let heartbeat = MemberHeartbeat {
            member_id: member_id.to_owned(),
            epoch,
            rebalance_timeout_ms: Some(60_000),
            pattern: Some(pattern.to_owned()),
            owned: Some(Assignment::new()),
            ..MemberHeartbeat::default()
        };
        let world = World {
            group: "g",
            topics: &TestTopics::default(),
            sees: &|_| true,
            session_timeout_ms: 45_000,
            heartbeat_interval_ms: 5_000,
        };
        let heartbeat = Box::new(heartbeat);
        let event = Event::Heartbeat { waiter: 1, heartbeat, fresh_member_id: String::new() };
        let outcome = step(group, event, Now::default(), &world);
        match outcome.replies.into_iter().next() {
            Some((1, Reply::Member(reply))) => reply.map(|reply| reply.epoch),
            other => panic!("no answer to a heartbeat: {other:?}"),
        }
    }

    #[test]
    fn a_group_has_a_bounded_number_of_regular_expressions() {
        let mut group = Group::new(ConsumerSettings::default());
        let mut last = 0;
        for i in 0..GROUP_PATTERNS_MAX {
            last = beat(&mut group, &format!("m{i}"), JOINS, &format!("t{i}.*")).expect("room");
        }
        let refusal = beat(&mut group, "late", JOINS, "more.*").expect_err("one too many");
        assert_eq!(refusal.error, ResponseError::InvalidRegularExpression);
        assert!(refusal.why.is_some_and(|why| why.contains("one too many")));
        assert!(!group.image.members().contains_key("late"), "nothing has changed");
        // One that is there already is no other one, and a member may have another instead of its
        // own.
        beat(&mut group, "same", JOINS, "t0.*").expect("known");
        let member = format!("m{}", GROUP_PATTERNS_MAX - 1);
        beat(&mut group, &member, last, "more.*").expect("in place of its own");
        assert_eq!(group.image.patterns().len(), GROUP_PATTERNS_MAX);
        assert!(group.image.patterns().contains_key("more.*"));
    }
}
