//! An in-memory [`Client`] for tests: durable across "crashes" because the store is shared, with
//! commits that can fail before or after they took effect.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek_broker::client::{
    Client, ClientError, Fetched, GroupOffset, OffsetAt, PartitionInfo, Placed, Record, Result,
    Scanned, StoredRecord, TopicInfo, TopicRecords, Unit, UnitPlaced,
};
use tokio::sync::Notify;

#[derive(Clone, Default)]
pub(crate) struct Fake {
    store: Arc<Mutex<Store>>,
    changed: Arc<Notify>,
    commits: Arc<AtomicUsize>,
    /// Each commit whose number is a multiple of it fails, by turns before and after its effect.
    fail_every: Arc<AtomicUsize>,
    /// This handle's life of the process, and the newest one: a commit of an older one is lost,
    /// as what a killed process had under way is.
    life: usize,
    newest_life: Arc<AtomicUsize>,
    /// A fetch gives at most this many records (0: no bound).
    fetch_records_max: Arc<AtomicUsize>,
}

#[derive(Default)]
struct Store {
    topics: BTreeMap<String, Topic>,
    offsets: BTreeMap<(String, String, i32), i64>,
    checkpoints: BTreeMap<String, Bytes>,
}

#[derive(Default)]
struct Topic {
    id: uuid::Uuid,
    partitions: Vec<Partition>,
}

#[derive(Default, Clone)]
struct Partition {
    start: i64,
    records: Vec<StoredRecord>,
}

impl Partition {
    fn end(&self) -> i64 {
        self.start + i64::try_from(self.records.len()).unwrap()
    }
}

impl Fake {
    pub(crate) fn with_topic(topic: &str, partitions: usize) -> Self {
        let fake = Self::default();
        fake.create(topic, partitions);
        fake
    }

    pub(crate) fn create(&self, topic: &str, partitions: usize) {
        let partitions = vec![Partition::default(); partitions];
        let id = uuid::Uuid::from_u128(rand::random());
        self.store().topics.insert(topic.to_owned(), Topic { id, partitions });
    }

    /// The client of a new life of the process: all earlier ones are killed.
    pub(crate) fn next_life(&self) -> Arc<dyn Client> {
        let mut next = self.clone();
        next.life = self.newest_life.fetch_add(1, Ordering::SeqCst) + 1;
        Arc::new(next)
    }

    pub(crate) fn fail_every(&self, commits: usize) {
        self.fail_every.store(commits, Ordering::SeqCst);
    }

    pub(crate) fn fetch_records_max(&self, records: usize) {
        self.fetch_records_max.store(records, Ordering::SeqCst);
    }

    pub(crate) fn commits(&self) -> usize {
        self.commits.load(Ordering::SeqCst)
    }

    pub(crate) fn push(&self, topic: &str, partition: usize, records: Vec<Record>) {
        let mut store = self.store();
        let target = &mut store.topics.get_mut(topic).unwrap().partitions[partition];
        for record in records {
            append(target, record);
        }
        drop(store);
        self.changed.notify_waiters();
    }

    /// What retention does.
    pub(crate) fn trim(&self, topic: &str, partition: usize, start: i64) {
        let mut store = self.store();
        let target = &mut store.topics.get_mut(topic).unwrap().partitions[partition];
        target.records.retain(|record| record.offset >= start);
        target.start = start;
    }

    pub(crate) fn values(&self, topic: &str) -> Vec<serde_json::Value> {
        self.records(topic)
            .iter()
            .map(|r| serde_json::from_slice(r.value.as_deref().unwrap()).unwrap())
            .collect()
    }

    pub(crate) fn records(&self, topic: &str) -> Vec<StoredRecord> {
        let store = self.store();
        let Some(topic) = store.topics.get(topic) else { return Vec::new() };
        topic.partitions.iter().flat_map(|p| p.records.clone()).collect()
    }

    /// What `kafka-consumer-groups --delete` does.
    pub(crate) fn delete_group(&self, group: &str) {
        self.store().offsets.retain(|(of, _, _), _| of != group);
    }

    pub(crate) fn committed_offset(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let key = (group.to_owned(), topic.to_owned(), partition);
        self.store().offsets.get(&key).copied()
    }

    /// Whether the group has committed the end of every partition of the topic.
    pub(crate) fn caught_up(&self, group: &str, topic: &str) -> bool {
        let store = self.store();
        let Some(info) = store.topics.get(topic) else { return false };
        info.partitions.iter().enumerate().all(|(index, partition)| {
            let key = (group.to_owned(), topic.to_owned(), i32::try_from(index).unwrap());
            store.offsets.get(&key) == Some(&partition.end())
        })
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }
}

fn append(partition: &mut Partition, record: Record) -> i64 {
    let offset = partition.end();
    partition.records.push(StoredRecord {
        offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        value: record.value,
        headers: record.headers,
    });
    offset
}

fn info(name: &str, topic: &Topic) -> TopicInfo {
    let partitions = topic
        .partitions
        .iter()
        .enumerate()
        .map(|(index, partition)| PartitionInfo {
            partition: i32::try_from(index).unwrap(),
            start_offset: partition.start,
            end_offset: partition.end(),
            log_end_offset: partition.end(),
            bytes: 0,
        })
        .collect();
    TopicInfo { name: name.to_owned(), topic_id: topic.id, internal: false, partitions }
}

fn apply(store: &mut Store, unit: Unit) -> Result<UnitPlaced> {
    for records in &unit.records {
        if !store.topics.contains_key(&records.topic) {
            return Err(ClientError::UnknownTopicOrPartition(records.topic.clone()));
        }
    }
    let mut placed = Vec::new();
    for records in unit.records {
        let topic = store.topics.get_mut(&records.topic).unwrap();
        let count = topic.partitions.len();
        let mut group = Vec::new();
        for record in records.records {
            // Any stable placement by key will do here.
            let hash = record.key.iter().flatten().map(|b| usize::from(*b)).sum::<usize>();
            let index = records.partition.map_or(hash % count, |p| usize::try_from(p).unwrap());
            let offset = append(&mut topic.partitions[index], record);
            group.push(Placed { partition: i32::try_from(index).unwrap(), offset });
        }
        placed.push(group);
    }
    for offset in unit.offsets {
        store.offsets.insert((offset.group, offset.topic, offset.partition), offset.offset);
    }
    for (name, value) in unit.checkpoints {
        match value {
            Some(value) => store.checkpoints.insert(name, value),
            None => store.checkpoints.remove(&name),
        };
    }
    Ok(placed)
}

#[async_trait]
impl Client for Fake {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        Ok(self.store().topics.iter().map(|(name, topic)| info(name, topic)).collect())
    }

    async fn topic(&self, topic: &str) -> Result<Option<TopicInfo>> {
        Ok(self.store().topics.get(topic).map(|found| info(topic, found)))
    }

    async fn ensure_topic(
        &self,
        topic: &str,
        partitions: i32,
        _configs: &[(String, String)],
    ) -> Result<()> {
        if !self.store().topics.contains_key(topic) {
            self.create(topic, usize::try_from(partitions).unwrap());
        }
        Ok(())
    }

    async fn produce(&self, records: TopicRecords) -> Result<Vec<Placed>> {
        let unit = Unit { records: vec![records], ..Unit::default() };
        let mut placed = apply(&mut self.store(), unit)?;
        Ok(placed.pop().unwrap())
    }

    async fn commit(&self, unit: Unit) -> Result<UnitPlaced> {
        let number = self.commits.fetch_add(1, Ordering::SeqCst) + 1;
        let every = self.fail_every.load(Ordering::SeqCst);
        let fails = every > 0 && number.is_multiple_of(every);
        let lost = || ClientError::Unavailable("the fake broke the commit".to_owned());
        if fails && (number / every).is_multiple_of(2) {
            return Err(lost());
        }
        let mut store = self.store();
        if self.life != self.newest_life.load(Ordering::SeqCst) {
            return Err(lost());
        }
        let placed = apply(&mut store, unit)?;
        drop(store);
        self.changed.notify_waiters();
        if fails { Err(lost()) } else { Ok(placed) }
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        bytes_max: usize,
        _wait: Duration,
    ) -> Result<Fetched> {
        let store = self.store();
        let unknown = || ClientError::UnknownTopicOrPartition(topic.to_owned());
        let found = store.topics.get(topic).ok_or_else(unknown)?;
        let found =
            found.partitions.get(usize::try_from(partition).unwrap()).ok_or_else(unknown)?;
        let (start, end) = (found.start, found.end());
        if offset < start || offset > end {
            return Err(ClientError::OffsetOutOfRange { offset, start, end });
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        let records_max = self.fetch_records_max.load(Ordering::SeqCst);
        for record in &found.records[usize::try_from(offset - start).unwrap()..] {
            bytes += record.value.as_ref().map_or(0, Bytes::len) + 50;
            let full = records_max > 0 && records.len() >= records_max;
            if full || (bytes > bytes_max && !records.is_empty()) {
                break;
            }
            records.push(record.clone());
        }
        let next_offset = records.last().map_or(offset, |record| record.offset + 1);
        Ok(Fetched { records, next_offset, high_watermark: end, log_start_offset: start })
    }

    async fn offset(&self, topic: &str, partition: i32, at: OffsetAt) -> Result<Option<i64>> {
        let store = self.store();
        let found = &store.topics[topic].partitions[usize::try_from(partition).unwrap()];
        Ok(match at {
            OffsetAt::Earliest => Some(found.start),
            OffsetAt::Latest => Some(found.end()),
            OffsetAt::Time(ms) => {
                found.records.iter().find(|r| r.timestamp_ms >= ms).map(|r| r.offset)
            }
            OffsetAt::MaxTimestamp => {
                found.records.iter().max_by_key(|r| r.timestamp_ms).map(|r| r.offset)
            }
        })
    }

    async fn scan(
        &self,
        _topic: &str,
        _partition: i32,
        _from_ms: i64,
        _to_ms: i64,
        _offset: i64,
        _bytes_max: usize,
    ) -> Result<Scanned> {
        Err(ClientError::Refused("analytics does not scan".to_owned()))
    }

    async fn committed(&self, group: &str) -> Result<Vec<GroupOffset>> {
        let store = self.store();
        let of_group = store.offsets.iter().filter(|((g, _, _), _)| g == group);
        Ok(of_group
            .map(|((group, topic, partition), offset)| GroupOffset {
                group: group.clone(),
                topic: topic.clone(),
                partition: *partition,
                offset: *offset,
            })
            .collect())
    }

    async fn checkpoint(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.store().checkpoints.get(name).cloned())
    }

    async fn watch(&self, _topic: &str, wait: Duration) {
        // A test does not need to wait as long as a real reader may.
        let wait = wait.min(Duration::from_millis(5));
        let _ = tokio::time::timeout(wait, self.changed.notified()).await;
    }
}

/// Waits for a condition, with a deadline far beyond what it needs.
pub(crate) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("not within 30 s: {what}");
}
