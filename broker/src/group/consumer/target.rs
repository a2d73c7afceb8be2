//! From what members read to who is to read what: regular expressions, the group's epoch, the
//! target assignment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use regex::Regex;
use uuid::Uuid;

use super::assignor::{self, Assignor, Candidate};
use super::image::{Epoch, Image, Matched, Record};
use super::{Group, Step, TopicShape, TopicSource, World};

impl Step<'_> {
    /// One more, if `changed`, or if the topics that the group reads have changed since it was
    /// looked last. Every step that may have missed such a change looks: Kafka asks for it when its
    /// metadata change.
    pub(super) fn bump_epoch_if(&mut self, changed: bool) {
        let version = self.world.topics.version();
        let is_new = !self.group.image.exists();
        if !changed && !is_new && self.group.topics_version == Some(version) {
            return;
        }
        let mut bump = changed || is_new;
        if self.group.topics_version != Some(version) {
            let patterns: Vec<String> = self.group.image.patterns().keys().cloned().collect();
            for pattern in patterns {
                bump |= self.match_pattern(&pattern);
            }
        }
        let metadata_hash = metadata_hash(&self.group.image, self.world.topics);
        if bump || metadata_hash != self.group.image.metadata_hash() {
            self.put_epoch(metadata_hash);
        }
        self.group.topics_version = Some(version);
    }

    pub(super) fn put_epoch(&mut self, metadata_hash: i64) {
        let epoch = self.group.image.epoch().saturating_add(1);
        self.put(Record::Group(Some(Epoch { epoch, metadata_hash })));
    }

    /// Looks up the topics of a regular expression again; `true` if they are others than before.
    pub(super) fn match_pattern(&mut self, pattern: &str) -> bool {
        let world = self.world;
        // It was compiled when its first member brought it; one of a foreign record may not be.
        let compiled = self.group.compiled.of(pattern);
        let topics = compiled.map(|compiled| matching(compiled, world)).unwrap_or_default();
        let before = self.group.image.patterns().get(pattern);
        if before.is_some_and(|before| before.topics == topics) {
            return false;
        }
        let version = i64::try_from(self.world.topics.version()).unwrap_or(i64::MAX);
        let matched = Matched { topics, version, timestamp_ms: self.now.wall_ms };
        self.put(Record::Pattern(pattern.to_owned(), Some(Arc::new(matched))));
        true
    }

    pub(super) fn drop_unused_patterns(&mut self) {
        let image = &self.group.image;
        let unused = image.patterns().keys().filter(|pattern| !image.uses_pattern(pattern));
        let unused: Vec<String> = unused.cloned().collect();
        for pattern in unused {
            self.put(Record::Pattern(pattern, None));
        }
        let Group { image, compiled, .. } = &mut *self.group;
        compiled.retain(|pattern| image.uses_pattern(pattern));
    }

    /// A new target assignment, if the one there is is of an older epoch.
    pub(super) fn update_target(&mut self) {
        let image = &self.group.image;
        let epoch = image.epoch();
        if epoch <= image.target_epoch() {
            return;
        }
        let assignor = self.group.preferred_assignor();
        let targets = self.group.new_targets(assignor, self.world.topics);
        for (id, target) in targets {
            let before = self.group.image.targets().get(&id);
            if before.is_none_or(|before| **before != target) {
                self.put(Record::Target(id, Some(Arc::new(target))));
            }
        }
        self.put(Record::TargetEpoch(Some(epoch)));
        let members = self.group.image.members().len();
        let name = assignor.name();
        self.note(format!("epoch {epoch}: assigned by {name}, members: {members}"));
    }
}

impl Group {
    /// The assignor that most members ask for; among as many, the first of the configuration.
    pub(super) fn preferred_assignor(&self) -> Assignor {
        preferred_assignor(&self.image, self.settings.assignors())
    }

    fn new_targets(
        &self,
        assignor: Assignor,
        topics: &dyn TopicSource,
    ) -> BTreeMap<String, super::super::exchange::Assignment> {
        let mut shapes: BTreeMap<String, TopicShape> = BTreeMap::new();
        for name in self.image.subscribed_topics() {
            if let Some(shape) = topics.shape(&name) {
                shapes.insert(name, shape);
            }
        }
        let candidates = self.image.members().iter().map(|(id, member)| {
            let read = self.image.topics_of(member);
            let ids: BTreeSet<Uuid> =
                read.filter_map(|name| shapes.get(name)).map(|shape| shape.id).collect();
            Candidate {
                id,
                instance_id: member.instance_id.as_deref(),
                topics: ids,
                target: self.image.target(id),
            }
        });
        let candidates: Vec<Candidate<'_>> = candidates.collect();
        let partitions = shapes.values().map(|shape| (shape.id, shape.partitions)).collect();
        assignor::assign(assignor, &candidates, &partitions)
    }
}

pub(super) fn preferred_assignor(
    image: &Image,
    assignors: impl Iterator<Item = Assignor>,
) -> Assignor {
    let mut preferred = None;
    let mut most = 0;
    for assignor in assignors {
        let asks = |name: &Option<String>| name.as_deref() == Some(assignor.name());
        let votes = image.members().values().filter(|member| asks(&member.assignor)).count();
        if preferred.is_none() || votes > most {
            (preferred, most) = (Some(assignor), votes);
        }
    }
    preferred.unwrap_or(Assignor::Uniform)
}

fn matching(compiled: &Regex, world: &World<'_>) -> BTreeSet<String> {
    let names = world.topics.names().into_iter();
    let matched = names.filter(|name| compiled.is_match(name) && (world.sees)(name));
    matched.map(|name| name.to_string()).collect()
}

/// Changes when a topic that the group reads is created, deleted, made anew, or grows. FNV-1a over
/// names, ids and partition counts; Kafka has another hash (KIP-1101), which is compared with
/// nothing but itself either.
pub(super) fn metadata_hash(image: &Image, topics: &dyn TopicSource) -> i64 {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET_BASIS;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        }
    };
    let mut found = false;
    for name in image.subscribed_topics() {
        let Some(shape) = topics.shape(&name) else { continue };
        found = true;
        add(name.as_bytes());
        add(shape.id.as_bytes());
        add(&shape.partitions.to_be_bytes());
    }
    if found { i64::from_be_bytes(hash.to_be_bytes()) } else { 0 }
}
