//! A broker in memory for tests of what stands above the seam. Small steps, so that paging and
//! merging are really exercised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek_broker::acl::{Operation, Rule, RuleFilter};
use odradek_broker::client::{
    Admin, Client, ClientError, Fetched, GroupInfo, GroupOffset, NewTopic, OffsetAt, PartitionInfo,
    Placed, Result, Scanned, StoredRecord, TopicInfo, TopicRecords, Unit, UnitPlaced, UserInfo,
};
use tokio::sync::Notify;
use uuid::Uuid;

/// A step of `scan` or `fetch` looks at this many records.
const STEP_RECORDS: usize = 7;

#[derive(Default)]
pub struct Fake {
    topics: Mutex<BTreeMap<String, Topic>>,
    groups: Mutex<Vec<GroupInfo>>,
    users: Mutex<BTreeMap<String, String>>,
    rules: Mutex<Vec<Rule>>,
    /// What nobody may do on the cluster.
    denied: Mutex<BTreeSet<Operation>>,
    appended: Notify,
}

struct Topic {
    id: Uuid,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    start_offset: i64,
    records: Vec<StoredRecord>,
}

impl Partition {
    fn end_offset(&self) -> i64 {
        i64::try_from(self.records.len()).expect("a test's size")
    }
}

impl Fake {
    pub fn with_topic(name: &str, partitions: usize) -> Self {
        let fake = Self::default();
        fake.recreate(name, partitions);
        fake
    }

    pub fn recreate(&self, name: &str, partitions: usize) {
        let partitions = (0..partitions).map(|_| Partition::default()).collect();
        let topic = Topic { id: Uuid::new_v4(), partitions };
        self.topics.lock().expect("lock").insert(name.to_owned(), topic);
    }

    pub fn append(&self, topic: &str, partition: i32, at_ms: i64, key: Option<&str>, value: &str) {
        let record = StoredRecord {
            offset: 0,
            timestamp_ms: at_ms,
            key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            value: Some(Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        };
        self.append_record(topic, partition, record).expect("the topic is there");
    }

    fn append_record(&self, topic: &str, partition: i32, record: StoredRecord) -> Result<Placed> {
        let mut topics = self.topics.lock().expect("lock");
        let unknown = || ClientError::UnknownTopicOrPartition(topic.to_owned());
        let topic = topics.get_mut(topic).ok_or_else(unknown)?;
        let index = usize::try_from(partition).map_err(|_| unknown())?;
        let log = topic.partitions.get_mut(index).ok_or_else(unknown)?;
        let offset = log.end_offset();
        log.records.push(StoredRecord { offset, ..record });
        self.appended.notify_waiters();
        Ok(Placed { partition, offset })
    }

    pub fn trim(&self, topic: &str, partition: usize, start_offset: i64) {
        let mut topics = self.topics.lock().expect("lock");
        topics.get_mut(topic).expect("there").partitions[partition].start_offset = start_offset;
    }

    pub fn places(&self, topic: &str) -> Vec<(i64, i32, i64)> {
        let topics = self.topics.lock().expect("lock");
        let partitions = (0..).zip(&topics[topic].partitions);
        partitions
            .flat_map(|(p, log)| log.records.iter().map(move |r| (r.timestamp_ms, p, r.offset)))
            .collect()
    }

    pub fn set_groups(&self, groups: Vec<GroupInfo>) {
        *self.groups.lock().expect("lock") = groups;
    }

    pub fn deny_on_cluster(&self, operations: &[Operation]) {
        self.denied.lock().expect("lock").extend(operations);
    }

    pub fn password(&self, user: &str) -> Option<String> {
        self.users.lock().expect("lock").get(user).cloned()
    }

    fn with<T>(
        &self,
        topic: &str,
        partition: i32,
        read: impl FnOnce(&Partition) -> Result<T>,
    ) -> Result<T> {
        let topics = self.topics.lock().expect("lock");
        let log = usize::try_from(partition)
            .ok()
            .and_then(|index| topics.get(topic)?.partitions.get(index))
            .ok_or_else(|| ClientError::UnknownTopicOrPartition(topic.to_owned()))?;
        read(log)
    }
}

fn info(name: &str, topic: &Topic) -> TopicInfo {
    let partitions = (0..).zip(&topic.partitions).map(|(partition, log)| PartitionInfo {
        partition,
        start_offset: log.start_offset,
        end_offset: log.end_offset(),
        log_end_offset: log.end_offset(),
        bytes: 100 * log.end_offset().unsigned_abs(),
    });
    TopicInfo {
        name: name.to_owned(),
        topic_id: topic.id,
        internal: name.starts_with("__"),
        partitions: partitions.collect(),
    }
}

#[async_trait]
impl Client for Fake {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let topics = self.topics.lock().expect("lock");
        Ok(topics.iter().map(|(name, topic)| info(name, topic)).collect())
    }

    async fn topic(&self, topic: &str) -> Result<Option<TopicInfo>> {
        let topics = self.topics.lock().expect("lock");
        Ok(topics.get(topic).map(|found| info(topic, found)))
    }

    async fn ensure_topic(&self, name: &str, n: i32, _: &[(String, String)]) -> Result<()> {
        if self.topic(name).await?.is_none() {
            self.recreate(name, usize::try_from(n).unwrap_or(1));
        }
        Ok(())
    }

    async fn produce(&self, records: TopicRecords) -> Result<Vec<Placed>> {
        let partition = records.partition.unwrap_or(0);
        let stored = records.records.into_iter().map(|record| StoredRecord {
            offset: 0,
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        });
        stored.map(|record| self.append_record(&records.topic, partition, record)).collect()
    }

    async fn commit(&self, unit: Unit) -> Result<UnitPlaced> {
        let mut placed = Vec::new();
        for records in unit.records {
            placed.push(self.produce(records).await?);
        }
        Ok(placed)
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        _bytes_max: usize,
        _wait: Duration,
    ) -> Result<Fetched> {
        self.with(topic, partition, |log| {
            if offset < log.start_offset || offset > log.end_offset() {
                let (start, end) = (log.start_offset, log.end_offset());
                return Err(ClientError::OffsetOutOfRange { offset, start, end });
            }
            let from = usize::try_from(offset).expect("in range");
            let records: Vec<StoredRecord> =
                log.records[from..].iter().take(STEP_RECORDS).cloned().collect();
            Ok(Fetched {
                next_offset: records.last().map_or(offset, |record| record.offset + 1),
                records,
                high_watermark: log.end_offset(),
                log_start_offset: log.start_offset,
            })
        })
    }

    async fn offset(&self, topic: &str, partition: i32, at: OffsetAt) -> Result<Option<i64>> {
        self.with(topic, partition, |log| {
            let kept = log.records.iter().filter(|record| record.offset >= log.start_offset);
            Ok(match at {
                OffsetAt::Earliest => Some(log.start_offset),
                OffsetAt::Latest => Some(log.end_offset()),
                OffsetAt::Time(ms) => {
                    kept.into_iter().find(|r| r.timestamp_ms >= ms).map(|record| record.offset)
                }
                OffsetAt::MaxTimestamp => {
                    kept.max_by_key(|r| r.timestamp_ms).map(|record| record.offset)
                }
            })
        })
    }

    async fn scan(
        &self,
        topic: &str,
        partition: i32,
        from_ms: i64,
        to_ms: i64,
        offset: i64,
        _bytes_max: usize,
    ) -> Result<Scanned> {
        self.with(topic, partition, |log| {
            let from = usize::try_from(offset.max(log.start_offset)).expect("in range");
            let step: Vec<&StoredRecord> =
                log.records.iter().skip(from).take(STEP_RECORDS).collect();
            let next = step.last().map(|record| record.offset + 1);
            let in_range = |r: &&&StoredRecord| r.timestamp_ms >= from_ms && r.timestamp_ms < to_ms;
            Ok(Scanned {
                records: step.iter().filter(in_range).map(|r| (*r).clone()).collect(),
                next_offset: next.filter(|next| *next < log.end_offset()),
            })
        })
    }

    async fn committed(&self, _group: &str) -> Result<Vec<GroupOffset>> {
        Ok(Vec::new())
    }

    async fn checkpoint(&self, _name: &str) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn watch(&self, _topic: &str, wait: Duration) {
        let _ = tokio::time::timeout(wait, self.appended.notified()).await;
    }
}

#[async_trait]
impl Admin for Fake {
    async fn create_topic(&self, topic: NewTopic) -> Result<TopicInfo> {
        if self.topic(&topic.name).await?.is_some() {
            return Err(ClientError::Refused(format!("topic {:?} already exists", topic.name)));
        }
        self.recreate(&topic.name, usize::try_from(topic.partitions.unwrap_or(1)).unwrap_or(1));
        Ok(self.topic(&topic.name).await?.expect("just created"))
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        let removed = self.topics.lock().expect("lock").remove(name);
        removed.map(|_| ()).ok_or_else(|| ClientError::UnknownTopicOrPartition(name.to_owned()))
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        Ok(self.groups.lock().expect("lock").clone())
    }

    async fn delete_group(&self, group: &str) -> Result<()> {
        self.groups.lock().expect("lock").retain(|info| info.group != group);
        Ok(())
    }

    async fn users(&self) -> Result<Vec<UserInfo>> {
        let users = self.users.lock().expect("lock");
        let mechanisms = || vec!["SCRAM-SHA-256".to_owned()];
        Ok(users.keys().map(|n| UserInfo { name: n.clone(), mechanisms: mechanisms() }).collect())
    }

    async fn set_user(&self, name: &str, password: &str) -> Result<()> {
        self.users.lock().expect("lock").insert(name.to_owned(), password.to_owned());
        Ok(())
    }

    async fn delete_user(&self, name: &str) -> Result<()> {
        self.users.lock().expect("lock").remove(name);
        Ok(())
    }

    async fn rules(&self, filter: &RuleFilter) -> Result<Vec<Rule>> {
        let rules = self.rules.lock().expect("lock");
        Ok(rules.iter().filter(|rule| filter.matches(rule)).cloned().collect())
    }

    async fn add_rules(&self, rules: Vec<Rule>) -> Result<()> {
        self.rules.lock().expect("lock").extend(rules);
        Ok(())
    }

    async fn delete_rules(&self, filter: &RuleFilter) -> Result<Vec<Rule>> {
        let deleted = self.rules(filter).await?;
        self.rules.lock().expect("lock").retain(|rule| !filter.matches(rule));
        Ok(deleted)
    }

    async fn may_on_cluster(&self, operation: Operation) -> Result<()> {
        if !self.denied.lock().expect("lock").contains(&operation) {
            return Ok(());
        }
        Err(ClientError::NotAuthorised {
            principal: "User:ANONYMOUS".to_owned(),
            operation: operation.name(),
            resource: "the cluster".to_owned(),
        })
    }
}
