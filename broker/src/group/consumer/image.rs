//! What is known of a consumer group, exactly as its records say it: an image changes only by
//! records, here and at the next start alike.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use uuid::Uuid;

use super::super::exchange::{Assignment, JOINS, Protocol};

/// How far a member is on its way to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum MemberState {
    #[default]
    Stable,
    /// It was asked to give partitions back, and has not said that it did.
    UnrevokedPartitions,
    /// It waits for partitions that others have not given back.
    UnreleasedPartitions,
}

/// What a member says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Subscription {
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: BTreeSet<String>,
    /// Never an empty text.
    pub pattern: Option<String>,
    /// -1 until the member said it.
    pub rebalance_timeout_ms: i32,
    pub assignor: Option<String>,
    /// It speaks JoinGroup and SyncGroup.
    pub classic: Option<Classic>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Classic {
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
}

/// The epoch in which each partition became its member's.
pub(crate) type Since = BTreeMap<(Uuid, i32), i32>;

/// What a member reads, and in which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Current {
    pub epoch: i32,
    /// The reply that told the present epoch may have been lost: then the member comes with this.
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Arc<Assignment>,
    /// What it has to give back, and nobody else may have yet.
    pub revoking: Arc<Assignment>,
    /// For each partition of both: a commit of an older epoch than the member's, but not older than
    /// this, is of nobody else (KIP-1251).
    pub since: Arc<Since>,
}

impl Default for Current {
    /// A member that is about to join.
    fn default() -> Self {
        Self {
            epoch: JOINS,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Arc::default(),
            revoking: Arc::default(),
            since: Arc::default(),
        }
    }
}

impl Current {
    pub(super) fn is_at(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// All that it may still read.
    pub(super) fn held(&self) -> Assignment {
        let mut held = Assignment::clone(&self.assigned);
        for (topic, partitions) in self.revoking.iter() {
            held.entry(*topic).or_default().extend(partitions);
        }
        held
    }

    /// Since when these are the member's, if what it does not have yet becomes so in `epoch`.
    pub(super) fn since_of(&self, owned: [&Assignment; 2], epoch: i32) -> Arc<Since> {
        let known = |place| (place, self.since.get(&place).copied().unwrap_or(epoch));
        Arc::new(owned.into_iter().flat_map(places).map(known).collect())
    }

    /// Was this partition the member's in that epoch, and has been ever since?
    pub(super) fn had(&self, place: (Uuid, i32), epoch: i32) -> bool {
        self.since.get(&place).is_some_and(|since| *since <= epoch)
    }
}

/// The topics that a regular expression matched when it was looked at last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Matched {
    pub topics: BTreeSet<String>,
    /// Of the list of topics; in Kafka the offset of the metadata.
    pub version: i64,
    pub timestamp_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    pub epoch: i32,
    /// Of the topics that the group reads, with ids and partition counts; 0 for none.
    pub metadata_hash: i64,
}

/// Both epochs of a group that is not written yet. As in Kafka since 4.3 (KAFKA-20268) it begins
/// with an assignment of nothing; the first that is made has the next epoch.
const FIRST_EPOCH: i32 = 1;

/// One change of an image; `None` takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    Group(Option<Epoch>),
    Member(String, Option<Arc<Subscription>>),
    TargetEpoch(Option<i32>),
    Target(String, Option<Arc<Assignment>>),
    Current(String, Option<Arc<Current>>),
    Pattern(String, Option<Arc<Matched>>),
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Image {
    epoch: Option<Epoch>,
    target_epoch: Option<i32>,
    members: BTreeMap<String, Arc<Subscription>>,
    targets: BTreeMap<String, Arc<Assignment>>,
    current: BTreeMap<String, Arc<Current>>,
    patterns: BTreeMap<String, Arc<Matched>>,
    /// Instance id to member id.
    statics: BTreeMap<String, String>,
    /// Who reads a partition, or has not given it back.
    owners: HashMap<(Uuid, i32), String>,
}

impl Image {
    pub(crate) fn apply(&mut self, record: &Record) {
        match record {
            Record::Group(epoch) => self.epoch = *epoch,
            Record::TargetEpoch(epoch) => self.target_epoch = *epoch,
            Record::Member(id, subscription) => self.apply_member(id, subscription.as_ref()),
            Record::Target(id, target) => put(&mut self.targets, id, target.as_ref()),
            Record::Current(id, current) => self.apply_current(id, current.as_ref()),
            Record::Pattern(pattern, matched) => {
                put(&mut self.patterns, pattern, matched.as_ref());
            }
        }
    }

    fn apply_member(&mut self, id: &str, subscription: Option<&Arc<Subscription>>) {
        let before = self.members.get(id).and_then(|before| before.instance_id.clone());
        if let Some(instance_id) = before.filter(|it| self.static_member(it) == Some(id)) {
            self.statics.remove(&instance_id);
        }
        if let Some(instance_id) = subscription.and_then(|it| it.instance_id.clone()) {
            self.statics.insert(instance_id, id.to_owned());
        }
        put(&mut self.members, id, subscription);
    }

    fn apply_current(&mut self, id: &str, current: Option<&Arc<Current>>) {
        if let Some(before) = self.current.get(id) {
            for place in before.places() {
                if self.owners.get(&place).is_some_and(|owner| owner == id) {
                    self.owners.remove(&place);
                }
            }
        }
        if let Some(current) = current {
            self.owners.extend(current.places().map(|place| (place, id.to_owned())));
        }
        put(&mut self.current, id, current);
    }

    /// Every record that makes it nothing.
    pub(super) fn tombstones(&self) -> Vec<Record> {
        let mut records: Vec<Record> = Vec::new();
        records.extend(self.current.keys().map(|id| Record::Current(id.clone(), None)));
        records.extend(self.targets.keys().map(|id| Record::Target(id.clone(), None)));
        records.push(Record::TargetEpoch(None));
        records.extend(self.members.keys().map(|id| Record::Member(id.clone(), None)));
        records.extend(self.patterns.keys().map(|it| Record::Pattern(it.clone(), None)));
        records.push(Record::Group(None));
        records
    }

    /// The group was written, and not deleted since.
    pub(crate) fn exists(&self) -> bool {
        self.epoch.is_some()
    }

    pub(crate) fn epoch(&self) -> i32 {
        self.epoch.map_or(FIRST_EPOCH, |it| it.epoch)
    }

    pub(super) fn metadata_hash(&self) -> i64 {
        self.epoch.map_or(0, |it| it.metadata_hash)
    }

    pub(crate) fn target_epoch(&self) -> i32 {
        self.target_epoch.unwrap_or(FIRST_EPOCH)
    }

    pub(crate) fn members(&self) -> &BTreeMap<String, Arc<Subscription>> {
        &self.members
    }

    pub(super) fn target(&self, id: &str) -> Arc<Assignment> {
        self.targets.get(id).cloned().unwrap_or_default()
    }

    pub(super) fn targets(&self) -> &BTreeMap<String, Arc<Assignment>> {
        &self.targets
    }

    pub(crate) fn current(&self, id: &str) -> Arc<Current> {
        self.current.get(id).cloned().unwrap_or_default()
    }

    pub(super) fn current_ids(&self) -> impl Iterator<Item = &String> {
        self.current.keys()
    }

    pub(super) fn patterns(&self) -> &BTreeMap<String, Arc<Matched>> {
        &self.patterns
    }

    pub(super) fn static_member(&self, instance_id: &str) -> Option<&str> {
        self.statics.get(instance_id).map(String::as_str)
    }

    pub(super) fn owner(&self, topic: Uuid, partition: i32) -> Option<&str> {
        self.owners.get(&(topic, partition)).map(String::as_str)
    }

    pub(super) fn uses_pattern(&self, pattern: &str) -> bool {
        self.members.values().any(|member| member.pattern.as_deref() == Some(pattern))
    }

    /// The topics that this member reads, by name and by regular expression.
    pub(super) fn topics_of<'a>(
        &'a self,
        member: &'a Subscription,
    ) -> impl Iterator<Item = &'a String> + 'a {
        let matched = member.pattern.as_ref().and_then(|pattern| self.patterns.get(pattern));
        member.topics.iter().chain(matched.into_iter().flat_map(|matched| &matched.topics))
    }

    /// The topics that anybody in the group reads.
    pub(crate) fn subscribed_topics(&self) -> BTreeSet<String> {
        self.members.values().flat_map(|member| self.topics_of(member)).cloned().collect()
    }

    /// Kafka's word.
    pub(crate) fn state(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch() > self.target_epoch() {
            "Assigning"
        } else if self.members.keys().all(|id| self.current(id).is_at(self.target_epoch())) {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// I1 to I3 of the machine's header.
    pub(super) fn assert_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        let mut held = 0;
        for (id, current) in &self.current {
            assert!(self.members.contains_key(id), "I2: {id} is no member and reads");
            for place in current.places() {
                held += 1;
                let owner = self.owners.get(&place).map(String::as_str);
                assert_eq!(owner, Some(id.as_str()), "I1: {place:?} is held by two");
                assert!(current.since.contains_key(&place), "I1: {place:?} is held since when?");
            }
            assert_eq!(current.since.len(), current.places().count(), "I1: {id} has them no more");
        }
        assert_eq!(held, self.owners.len(), "I1: a partition is held by nobody's record");
        assert!(self.targets.keys().all(|id| self.members.contains_key(id)), "I2: target");
        let statics = self.members.values().filter(|member| member.instance_id.is_some()).count();
        assert_eq!(statics, self.statics.len(), "I2: instance ids");
        assert!(self.target_epoch() <= self.epoch(), "I3");
        for (id, current) in &self.current {
            assert!(current.epoch <= self.target_epoch(), "I3: {id} is ahead of the target");
        }
        for pattern in self.patterns.keys() {
            assert!(self.uses_pattern(pattern), "I2: nobody uses {pattern}");
        }
    }
}

impl Current {
    fn places(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        [&self.assigned, &self.revoking].into_iter().flat_map(|owned| places(owned))
    }
}

fn places(owned: &Assignment) -> impl Iterator<Item = (Uuid, i32)> + '_ {
    owned
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
}

fn put<T>(map: &mut BTreeMap<String, Arc<T>>, key: &str, value: Option<&Arc<T>>) {
    match value {
        Some(value) => map.insert(key.to_owned(), Arc::clone(value)),
        None => map.remove(key),
    };
}
