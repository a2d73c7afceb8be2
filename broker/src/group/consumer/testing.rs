//! What the tests of this machine share: topics that come, go and grow.

use std::collections::BTreeMap;
use std::sync::Arc;

use uuid::Uuid;

use super::super::exchange::Assignment;
use super::{TopicShape, TopicSource};

#[derive(Debug, Default, Clone)]
pub(crate) struct TestTopics {
    topics: BTreeMap<String, TopicShape>,
    /// Of topics that are gone: somebody may still own their partitions.
    gone: BTreeMap<String, Uuid>,
    version: u64,
    made: u128,
}

impl TestTopics {
    /// Creates or grows; 0 deletes.
    pub(crate) fn set(&mut self, name: &str, partitions: i32) {
        self.version += 1;
        if partitions == 0 {
            let gone = self.topics.remove(name);
            self.gone.extend(gone.map(|shape| (name.to_owned(), shape.id)));
            return;
        }
        self.made += 1;
        let id = Uuid::from_u128(self.made);
        let shape = self.topics.entry(name.to_owned()).or_insert(TopicShape { id, partitions });
        shape.partitions = partitions;
    }

    /// `t:0,1;u:0`, as an assignment.
    pub(crate) fn parse(&self, text: &str) -> Assignment {
        let topics = text.split(';').filter_map(|topic| topic.split_once(':'));
        let known = topics.filter_map(|(name, partitions)| {
            let id = self.topics.get(name).map(|shape| shape.id);
            let id = id.or_else(|| self.gone.get(name).copied())?;
            let partitions = partitions.split(',').filter_map(|it| it.parse().ok());
            Some((id, partitions.collect()))
        });
        known.collect()
    }

    pub(crate) fn show(&self, assignment: &Assignment) -> String {
        let topics = assignment.iter().map(|(id, partitions)| {
            let name = self.name_of(*id);
            let name = name.map_or_else(|| "gone".to_owned(), |name| name.to_string());
            let partitions: Vec<String> = partitions.iter().map(i32::to_string).collect();
            format!("{name}:{}", partitions.join(","))
        });
        topics.collect::<Vec<_>>().join(";")
    }
}

impl TopicSource for TestTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn shape(&self, name: &str) -> Option<TopicShape> {
        self.topics.get(name).copied()
    }

    fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        let found = self.topics.iter().find(|(_, shape)| shape.id == id);
        found.map(|(name, _)| name.as_str().into())
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.topics.keys().map(|name| name.as_str().into()).collect()
    }
}
