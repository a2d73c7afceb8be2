//! The topics of the running incarnation, by name and by id.
//!
//! A [`Topic`] is a snapshot that never changes; adding partitions or configurations puts a new
//! snapshot in its place, which shares the partitions.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use kafka_protocol::ResponseError;
use odradek_log::PartitionSettings;
use uuid::Uuid;

use crate::config::TopicSettings;
use crate::group::consumer::{TopicShape, TopicSource};
use crate::limits;
use crate::partition::Partition;

pub(crate) struct Topic {
    pub name: Arc<str>,
    pub id: Uuid,
    pub internal: bool,
    /// What was set for this topic, as text, by Kafka's topic-level names.
    pub configs: BTreeMap<String, String>,
    /// What holds for it: its own configurations over the broker's.
    pub settings: TopicSettings,
    /// Index = partition.
    pub partitions: Vec<Arc<Partition>>,
}

impl Topic {
    /// Another snapshot of the same topic, to be changed in part.
    pub(crate) fn snapshot(&self) -> Self {
        Self {
            name: self.name.clone(),
            id: self.id,
            internal: self.internal,
            configs: self.configs.clone(),
            settings: self.settings.clone(),
            partitions: self.partitions.clone(),
        }
    }

    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        usize::try_from(index).ok().and_then(|i| self.partitions.get(i))
    }
}

/// Segments of the broker's own state: small ones are sealed soon, and only sealed ones are
/// compacted, so its topics stay at a few of these.
const STATE_SEGMENT_BYTES_MAX: u64 = 4 << 20;

/// What the log is told of a topic's partitions. A topic of the broker's own state is compacted
/// whatever its configuration says: it has no other bound.
pub(crate) fn log_settings(settings: &TopicSettings, is_state: bool) -> PartitionSettings {
    let compacted = is_state || settings.cleanup.compact;
    // As in Kafka: what has to be compacted by then has to be sealed by then.
    let lag_ms = if compacted { settings.compaction.max_lag_ms } else { i64::MAX };
    let bytes_max = if is_state { STATE_SEGMENT_BYTES_MAX } else { u64::MAX };
    PartitionSettings {
        segment_bytes_max: settings.segment_bytes.min(bytes_max),
        segment_ms_max: settings.segment_ms.min(lag_ms),
        compaction: compacted.then_some(settings.compaction),
    }
}

#[derive(Default)]
struct Maps {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

#[derive(Default)]
pub(crate) struct Topics {
    maps: RwLock<Maps>,
    /// Counts changes of names, ids and partition counts, not of configurations: after each, every
    /// group that reads topics by regular expressions matches all names again. Grows under the
    /// lock, so whoever reads it first sees what it promises.
    version: AtomicU64,
}

impl Topics {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, Maps> {
        self.maps.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<Arc<Topic>> {
        self.read().by_name.get(name).cloned()
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.read().by_id.get(&id).cloned()
    }

    /// In the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        self.read().by_name.values().cloned().collect()
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.read().by_name.values().map(|t| t.partitions.len()).sum()
    }

    /// Puts a new snapshot in place.
    pub(crate) fn put(&self, topic: Arc<Topic>) {
        let mut maps = self.maps.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        maps.by_id.insert(topic.id, topic.clone());
        let shape = (topic.id, topic.partitions.len());
        let before = maps.by_name.insert(topic.name.clone(), topic);
        if before.is_none_or(|before| (before.id, before.partitions.len()) != shape) {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn remove(&self, topic: &Topic) {
        let mut maps = self.maps.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        maps.by_id.remove(&topic.id);
        maps.by_name.remove(&topic.name);
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    /// A topic whose name differs only by `.` and `_` would share metric names with this one
    /// (Kafka refuses that too).
    pub(crate) fn colliding(&self, name: &str) -> Option<Arc<str>> {
        let folded = name.replace('.', "_");
        let maps = self.read();
        maps.by_name.keys().find(|n| n.replace('.', "_") == folded && ***n != *name).cloned()
    }
}

impl TopicSource for Topics {
    fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    fn shape(&self, name: &str) -> Option<TopicShape> {
        let maps = self.read();
        let topic = maps.by_name.get(name)?;
        let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        Some(TopicShape { id: topic.id, partitions })
    }

    fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        self.read().by_id.get(&id).map(|topic| topic.name.clone())
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.read().by_name.keys().cloned().collect()
    }
}

/// Kafka's rule for topic names, with a sentence that says what is wrong.
pub(crate) fn check_name(name: &str) -> Result<(), (ResponseError, String)> {
    let invalid = |why: String| Err((ResponseError::InvalidTopicException, why));
    if name.is_empty() {
        return invalid("a topic name may not be empty".to_owned());
    }
    if name == "." || name == ".." {
        return invalid(format!("{name:?} is not a topic name, it is a folder"));
    }
    if name.len() > limits::TOPIC_NAME_BYTES_MAX {
        let max = limits::TOPIC_NAME_BYTES_MAX;
        return invalid(format!("the topic name is {} bytes long, at most {max}", name.len()));
    }
    let odd = name.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-'));
    if let Some(odd) = odd {
        return invalid(format!(
            "topic name {name:?} contains {odd:?}; letters, digits, '.', '_' and '-' are allowed"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn topic(name: &str, id: u128) -> Topic {
        let configs = BTreeMap::new();
        let settings = Config::defaults().topic_settings(&configs).expect("the defaults");
        Topic {
            name: name.into(),
            id: Uuid::from_u128(id),
            internal: false,
            configs,
            settings,
            partitions: Vec::new(),
        }
    }

    #[test]
    fn the_version_grows_when_a_topic_comes_or_goes_not_with_its_configuration() {
        let topics = Topics::default();
        topics.put(Arc::new(topic("a", 1)));
        assert_eq!(topics.version(), 1);
        let configs = BTreeMap::from([("retention.ms".to_owned(), "1000".to_owned())]);
        topics.put(Arc::new(Topic { configs, ..topic("a", 1) }));
        assert_eq!(topics.version(), 1);
        assert_eq!(topics.by_name("a").expect("put").configs.len(), 1);
        topics.put(Arc::new(topic("b", 2)));
        assert_eq!(topics.version(), 2);
        topics.remove(&topic("a", 1));
        assert_eq!(topics.version(), 3);
        topics.put(Arc::new(topic("a", 3)));
        assert_eq!(topics.version(), 4);
    }

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for good in ["a", "ds04_messages_2", "stocks.bars.1m", "A-9", &"x".repeat(249)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "ä", "a/b", "ds04_messages_2 ", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
