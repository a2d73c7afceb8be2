//! Who may do what: every check before anything changes, with Kafka's errors and sentences.

use kafka_protocol::ResponseError;

use super::super::MEMBERS_MAX;
use super::super::exchange::{Assignment, JOINS, LEAVES_FOR_NOW, MemberHeartbeat, Refusal};
use super::{Group, World, pattern};

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
        &self,
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
                pattern::compile(wanted).map_err(|why| {
                    let why = format!(
                        "SubscribedTopicRegex `{wanted}` is not a valid regular expression: {why}."
                    );
                    Refusal::new(ResponseError::InvalidRegularExpression, why)
                })?;
            }
        }
        Ok(admitted)
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
