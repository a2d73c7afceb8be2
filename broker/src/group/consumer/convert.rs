//! Online migration (KIP-848): a classic group of consumers becomes one of the consumer protocol
//! when a first member of that comes, and the other way round when the last one goes.
//!
//! A conversion is one unit of the log: the records of the one kind end, those of the other begin.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::super::exchange::{Assignment, Protocol, Refusal};
use super::image::{Classic, Current, Epoch, Image, MemberState, Record, Subscription};
use super::protocol::{self, ByName, CONSUMER};
use super::target::metadata_hash;
use super::{ConsumerSettings, Group, Outcome, Step, TopicSource, World};
use crate::clock::Now;

/// A member of a classic group, as far as a conversion needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
}

/// A stable classic group that is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicSeed {
    pub generation: i32,
    /// At least one.
    pub members: Vec<ClassicMember>,
    /// Why the members have to join again, if they have to.
    pub rebalance: Option<&'static str>,
}

/// What a classic group says of itself before it is converted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Convertible {
    pub protocol_type: Option<String>,
    pub generation: i32,
    /// What the members agreed on, if they did already.
    pub protocol: Option<String>,
    pub members: Vec<ClassicMember>,
}

fn refused(world: &World<'_>, why: &str) -> Refusal {
    let why =
        format!("Cannot upgrade classic group {} to consumer group because {why}", world.group);
    Refusal::new(ResponseError::GroupIdNotFound, why)
}

/// The classic group as one of the consumer protocol, and the records that make it. All members
/// are as if they had come to their last assignment; whoever waits in a rebalance is to join again.
pub(crate) fn upgrade(
    settings: ConsumerSettings,
    from: &Convertible,
    now: Now,
    world: &World<'_>,
) -> Result<(Group, Vec<Record>), Refusal> {
    if !settings.migration.upgrade {
        return Err(refused(world, "online upgrade is disabled."));
    }
    if from.protocol_type.as_deref() != Some(CONSUMER) {
        return Err(refused(world, "the group does not use the consumer embedded protocol."));
    }
    if from.members.len() > settings.size_max {
        let why = "the group size exceeds the consumer group maximum size.";
        return Err(refused(world, why));
    }
    let mut image = Image::default();
    let mut records = Vec::new();
    let mut put = |record: Record| {
        image.apply(&record);
        records.push(record);
    };
    let epoch = from.generation.max(0);
    let mut taken: BTreeSet<(Uuid, i32)> = BTreeSet::new();
    for member in &from.members {
        let (subscription, mut assigned) = upgraded(member, from, world)?;
        // A foreign assignor may have given a partition to two; here it is the first one's.
        for (topic, partitions) in &mut assigned {
            partitions.retain(|partition| taken.insert((*topic, *partition)));
        }
        assigned.retain(|_, partitions| !partitions.is_empty());
        let id = &member.member_id;
        let assigned = Arc::new(assigned);
        put(Record::Member(id.clone(), Some(Arc::new(subscription))));
        put(Record::Target(id.clone(), Some(Arc::clone(&assigned))));
        let current = Current {
            epoch,
            previous_epoch: epoch,
            state: MemberState::Stable,
            since: Current::default().since_of([&assigned, &Assignment::new()], epoch),
            assigned,
            revoking: Arc::default(),
        };
        put(Record::Current(id.clone(), Some(Arc::new(current))));
    }
    put(Record::TargetEpoch(Some(epoch)));
    put(Record::Group(Some(Epoch { epoch, metadata_hash: 0 })));
    let metadata_hash = metadata_hash(&image, world.topics);
    let last = Record::Group(Some(Epoch { epoch, metadata_hash }));
    image.apply(&last);
    records.pop();
    records.push(last);
    let group = Group::from_image(settings, image, now, world.session_timeout_ms);
    Ok((group, records))
}

fn upgraded(
    member: &ClassicMember,
    from: &Convertible,
    world: &World<'_>,
) -> Result<(Subscription, Assignment), Refusal> {
    let malformed = |_| refused(world, "the embedded consumer protocol is malformed.");
    let chosen = |offered: &&Protocol| Some(&offered.name) == from.protocol.as_ref();
    let offered = member.protocols.iter().find(chosen).or(member.protocols.first());
    let metadata = offered.map(|offered| offered.metadata.clone()).unwrap_or_default();
    let said = protocol::parse_subscription(&metadata).map_err(malformed)?;
    let (assigned, has_user_data) =
        protocol::parse_assignment(&member.assignment).map_err(malformed)?;
    if has_user_data {
        let why = "an unsupported custom assignor is in use. Please refer to the documentation or \
                   switch to a default assignor before re-attempting the upgrade.";
        return Err(refused(world, why));
    }
    let subscription = Subscription {
        instance_id: member.instance_id.clone(),
        rack_id: said.rack_id,
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: said.topics,
        pattern: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(Classic {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    };
    Ok((subscription, by_id(&assigned, world.topics)))
}

/// Topics that do not exist are left out.
pub(super) fn by_id(named: &ByName, topics: &dyn TopicSource) -> Assignment {
    let found = named.iter().filter(|(_, partitions)| !partitions.is_empty());
    let found = found.filter_map(|(name, partitions)| {
        topics.shape(name).map(|shape| (shape.id, partitions.clone()))
    });
    found.collect()
}

pub(super) fn by_name(assignment: &Assignment, topics: &dyn TopicSource) -> ByName {
    let named = assignment.iter().filter_map(|(id, partitions)| {
        topics.name_of(*id).map(|name| (name.to_string(), partitions.clone()))
    });
    named.collect::<BTreeMap<_, _>>()
}

/// The end of a group: its records are taken back, and the name is free for another kind.
pub(crate) fn end(group: &mut Group, now: Now, world: &World<'_>) -> Outcome {
    let mut step = Step { group, world, now, out: Outcome::default() };
    step.put_end();
    step.out
}

impl Step<'_> {
    /// Would only members of the classic protocol be left, and may they go back to it?
    pub(super) fn may_downgrade_without(&self, leaving: &[String]) -> bool {
        let members = self.group.image.members();
        let is_leaving = |id: &String| leaving.contains(id);
        let mut left = members.iter().filter(|(id, _)| !is_leaving(id)).map(|(_, it)| it);
        let leaves_consumer =
            members.iter().any(|(id, member)| is_leaving(id) && member.classic.is_none());
        let remaining = members.keys().filter(|id| !is_leaving(id)).count();
        leaves_consumer
            && remaining > 0
            && remaining <= self.group.settings.classic_size_max
            && left.all(|member| member.classic.is_some())
            && self.group.settings.migration.downgrade
    }

    pub(super) fn downgrade_without(&mut self, leaving: &[String]) {
        let stays = |id: &String| !leaving.contains(id);
        self.downgrade(stays, Some("the last member of the consumer protocol left"));
    }

    /// Ends the group; `out.classic` is what comes after it.
    pub(super) fn downgrade(
        &mut self,
        stays: impl Fn(&String) -> bool,
        rebalance: Option<&'static str>,
    ) {
        let image = &self.group.image;
        let members = image.members().iter().filter(|(id, _)| stays(id));
        let members = members.filter_map(|(id, member)| {
            let classic = member.classic.as_ref()?;
            // Who is to join anew reads what it has until it does; an upgrade may come before that.
            let reads = match rebalance {
                Some(_) => image.current(id).held(),
                None => Assignment::clone(&image.target(id)),
            };
            let reads = by_name(&reads, self.world.topics);
            let metadata = classic.protocols.first().map(|it| &it.metadata);
            let said = metadata.and_then(|it| protocol::parse_subscription(it).ok());
            Some(ClassicMember {
                member_id: id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic.protocols.clone(),
                assignment: protocol::assignment(&reads, said.map_or(0, |said| said.version)),
            })
        });
        let seed = ClassicSeed { generation: image.epoch(), members: members.collect(), rebalance };
        self.note("the group goes on with the classic protocol".to_owned());
        self.put_end();
        self.out.classic = Some(Box::new(seed));
    }
}
