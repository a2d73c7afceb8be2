//! A [`Client`] in memory that can lose replies, refuse commits and be slow: the log as a source
//! sees it at its worst.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek_broker::client::*;

#[derive(Default)]
pub(crate) struct FakeLog {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    topics: BTreeMap<String, Vec<Vec<StoredRecord>>>,
    checkpoints: BTreeMap<String, Bytes>,
    units: Vec<usize>,
    delay: Duration,
    faults: Vec<Fault>,
}

/// What happens to the next commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It succeeds.
    None,
    /// It fails and nothing is stored.
    Refuse,
    /// It is stored, but the reply says that it failed.
    LoseReply,
    Panic,
}

impl FakeLog {
    /// The faults of the next commits, in order.
    pub fn fail(&self, faults: &[Fault]) {
        let mut faults = faults.to_vec();
        faults.reverse();
        self.lock().faults = faults;
    }

    pub fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// All records of a topic, partition by partition.
    pub fn records(&self, topic: &str) -> Vec<StoredRecord> {
        self.lock().topics.get(topic).cloned().unwrap_or_default().concat()
    }

    pub fn values(&self, topic: &str) -> Vec<String> {
        let text = |value: Option<Bytes>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        self.records(topic).into_iter().map(|record| text(record.value)).collect()
    }

    pub fn count(&self, topic: &str) -> usize {
        self.lock().topics.get(topic).map_or(0, |parts| parts.iter().map(Vec::len).sum())
    }

    /// How many records each unit had.
    pub fn units(&self) -> Vec<usize> {
        self.lock().units.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Inner {
    fn apply(&mut self, unit: Unit) -> UnitPlaced {
        self.units.push(unit.records.iter().map(|records| records.records.len()).sum());
        for (name, value) in unit.checkpoints {
            match value {
                Some(value) => self.checkpoints.insert(name, value),
                None => self.checkpoints.remove(&name),
            };
        }
        unit.records.into_iter().map(|records| self.append(records)).collect()
    }

    fn append(&mut self, records: TopicRecords) -> Vec<Placed> {
        let partitions = self.topics.entry(records.topic).or_insert_with(|| vec![Vec::new()]);
        let count = partitions.len();
        let mut placed = Vec::new();
        for record in records.records {
            let hash =
                record.key.iter().flatten().fold(0usize, |h, b| h * 31 % 65_521 + *b as usize);
            let number = records.partition.map_or(hash % count, |number| number as usize);
            let partition = &mut partitions[number];
            let offset = partition.len() as i64;
            placed.push(Placed { partition: number as i32, offset });
            partition.push(StoredRecord {
                offset,
                timestamp_ms: record.timestamp_ms,
                key: record.key,
                value: record.value,
                headers: record.headers,
            });
        }
        placed
    }
}

#[async_trait]
impl Client for FakeLog {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        Ok(Vec::new())
    }

    async fn topic(&self, topic: &str) -> Result<Option<TopicInfo>> {
        let inner = self.lock();
        let Some(partitions) = inner.topics.get(topic) else { return Ok(None) };
        let partitions = partitions.iter().enumerate().map(|(number, records)| PartitionInfo {
            partition: number as i32,
            start_offset: 0,
            end_offset: records.len() as i64,
            log_end_offset: records.len() as i64,
            bytes: 0,
        });
        Ok(Some(TopicInfo {
            name: topic.to_owned(),
            topic_id: Default::default(),
            internal: false,
            partitions: partitions.collect(),
        }))
    }

    async fn ensure_topic(
        &self,
        topic: &str,
        partitions: i32,
        _: &[(String, String)],
    ) -> Result<()> {
        let mut inner = self.lock();
        let count = partitions as usize;
        inner.topics.entry(topic.to_owned()).or_insert_with(|| vec![Vec::new(); count]);
        Ok(())
    }

    async fn produce(&self, records: TopicRecords) -> Result<Vec<Placed>> {
        let unit = Unit { records: vec![records], ..Unit::default() };
        Ok(self.commit(unit).await?.remove(0))
    }

    async fn commit(&self, unit: Unit) -> Result<UnitPlaced> {
        let (delay, fault) = {
            let mut inner = self.lock();
            (inner.delay, inner.faults.pop().unwrap_or(Fault::None))
        };
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        match fault {
            Fault::None => Ok(self.lock().apply(unit)),
            Fault::Refuse => Err(ClientError::Unavailable("refused".into())),
            Fault::LoseReply => {
                self.lock().apply(unit);
                Err(ClientError::Unavailable("lost".into()))
            }
            Fault::Panic => panic!("a fault of the test"),
        }
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        bytes_max: usize,
        _: Duration,
    ) -> Result<Fetched> {
        let inner = self.lock();
        let records = &inner.topics[topic][partition as usize];
        let mut bytes = 0;
        let page: Vec<StoredRecord> = records[offset as usize..]
            .iter()
            .take_while(|record| {
                bytes += record.value.as_ref().map_or(0, Bytes::len);
                bytes <= bytes_max
            })
            .cloned()
            .collect();
        Ok(Fetched {
            next_offset: offset + page.len() as i64,
            records: page,
            high_watermark: records.len() as i64,
            log_start_offset: 0,
        })
    }

    async fn offset(&self, topic: &str, partition: i32, _: OffsetAt) -> Result<Option<i64>> {
        Ok(self.lock().topics.get(topic).map(|parts| parts[partition as usize].len() as i64))
    }

    async fn scan(&self, _: &str, _: i32, _: i64, _: i64, _: i64, _: usize) -> Result<Scanned> {
        Ok(Scanned::default())
    }

    async fn committed(&self, _: &str) -> Result<Vec<GroupOffset>> {
        Ok(Vec::new())
    }

    async fn checkpoint(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.lock().checkpoints.get(name).cloned())
    }

    async fn watch(&self, _: &str, _: Duration) {}
}

/// Waits for a condition, at most 30 s.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "waited too long for: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A source from the text of its `[[source]]` table.
pub(crate) fn source(toml: &str) -> crate::SourceConfig {
    toml::from_str(toml).unwrap()
}

/// Runs the sources over this log until each has the state.
pub(crate) async fn run_until(
    log: &std::sync::Arc<FakeLog>,
    toml: &str,
    state: crate::SourceState,
) -> crate::Sources {
    let log: std::sync::Arc<dyn Client> = std::sync::Arc::<FakeLog>::clone(log);
    let sources = crate::Sources::start(vec![source(toml)], log, &prometheus::Registry::new());
    until("a state", || sources.list().iter().all(|source| source.state == state)).await;
    sources
}
