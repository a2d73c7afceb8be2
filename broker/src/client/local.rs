//! The local form of the seam: the broker's own functions, called directly.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{
    Client, ClientError, Fetched, GroupOffset, OffsetAt, PartitionInfo, Placed, Principal, Record,
    Result, Scanned, TopicInfo, TopicRecords, Unit, UnitPlaced,
};
use crate::acl::{Operation, Resource};
use crate::broker::Broker;
use crate::clock::now_ms;
use crate::core::{Core, CoreUnit, KeyedRecord, built};
use crate::diagnose::NOT_AUTHORISED;
use crate::group::exchange::NewOffset;
use crate::limits;
use crate::partition::{Batch, Partition};
use crate::partitioner::partition_for;
use crate::policy;
use crate::reads;
use crate::state::STATE_TOPIC;
use crate::topic_changes::{self, Refusal, Wanted};
use crate::topics::Topic;
use crate::unpack;

/// A batch of the seam holds at most so many bytes before it is closed and a new one begun.
const BATCH_BYTES: usize = 512 * 1024;

pub(crate) struct Local {
    pub(super) broker: Broker,
    pub(super) principal: Principal,
}

impl Local {
    pub(crate) fn new(broker: Broker, principal: Principal) -> Self {
        Self { broker, principal }
    }

    /// Refuses what access rules deny, with a word in log and diary.
    pub(super) fn may(
        &self,
        core: &Core,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<()> {
        if self.sees(core, operation, resource) {
            return Ok(());
        }
        let peer = SocketAddr::new(self.principal.host(), 0);
        core.access.denied(&self.principal, operation, resource, |evidence| {
            self.broker.inner.diary.note_quietly(peer, "HTTP", NOT_AUTHORISED, evidence);
        });
        Err(ClientError::NotAuthorised {
            principal: self.principal.name().to_owned(),
            operation: operation.name(),
            resource: resource.to_string(),
        })
    }

    pub(super) fn sees(&self, core: &Core, operation: Operation, resource: Resource<'_>) -> bool {
        core.access.allowed(&self.principal, operation, resource)
    }

    /// A right on the cluster is enough to create any topic.
    pub(super) fn may_create(&self, core: &Core, topic: &str) -> Result<()> {
        if self.sees(core, Operation::Create, Resource::Cluster) {
            return Ok(());
        }
        self.may(core, Operation::Create, Resource::Topic(topic))
    }

    pub(super) fn topic_of(&self, core: &Core, topic: &str) -> Result<Arc<Topic>> {
        let found = core.topics.by_name(topic);
        found.ok_or_else(|| ClientError::UnknownTopicOrPartition(topic.to_owned()))
    }

    fn partition_of(&self, core: &Core, topic: &str, partition: i32) -> Result<Arc<Partition>> {
        let found = self.topic_of(core, topic)?.partition(partition).cloned();
        found.ok_or_else(|| ClientError::UnknownTopicOrPartition(format!("{topic}-{partition}")))
    }

    /// The topic, made if it is missing and `auto.create.topics.enable` allows it.
    async fn topic_for_writing(&self, core: &Arc<Core>, name: &str) -> Result<Arc<Topic>> {
        self.may(core, Operation::Write, Resource::Topic(name))?;
        if let Some(topic) = core.topics.by_name(name) {
            if topic.internal && !self.principal.is_internal() {
                return Err(ClientError::NotAuthorised {
                    principal: self.principal.name().to_owned(),
                    operation: Operation::Write.name(),
                    resource: Resource::Topic(name).to_string(),
                });
            }
            return Ok(topic);
        }
        if !core.config().topics.auto_create {
            return Err(ClientError::UnknownTopicOrPartition(name.to_owned()));
        }
        self.may_create(core, name)?;
        let wanted = Wanted { name: name.to_owned(), partitions: None, configs: BTreeMap::new() };
        created(core, &wanted).await
    }
}

impl Local {
    /// Checkpoints belong to the pipeline, which only the broker's own work may touch.
    fn may_commit(
        &self,
        core: &Core,
        offsets: &[GroupOffset],
        checkpoints: &[(String, Option<Bytes>)],
    ) -> Result<()> {
        for offset in offsets {
            self.may(core, Operation::Read, Resource::Group(&offset.group))?;
            self.may(core, Operation::Read, Resource::Topic(&offset.topic))?;
        }
        match checkpoints {
            [] => Ok(()),
            _ => self.may(core, Operation::ClusterAction, Resource::Cluster),
        }
    }
}

/// Creates the topic; one that somebody else made meanwhile is as good.
async fn created(core: &Arc<Core>, wanted: &Wanted) -> Result<Arc<Topic>> {
    match topic_changes::create(core, wanted).await {
        Ok(topic) => Ok(topic),
        Err((ResponseError::TopicAlreadyExists, why)) => {
            core.topics.by_name(&wanted.name).ok_or(ClientError::Refused(why))
        }
        Err(refusal) => Err(refused(refusal)),
    }
}

pub(super) fn refused((error, why): Refusal) -> ClientError {
    match error {
        ResponseError::KafkaStorageError => ClientError::Unavailable(why),
        _ => ClientError::Refused(why),
    }
}

fn failed(
    broker: &Broker,
    partition: &Partition,
    offset: i64,
    error: ResponseError,
) -> ClientError {
    match error {
        ResponseError::OffsetOutOfRange => {
            let ends = partition.ends();
            let (start, end) = (ends.log_start_offset, ends.last_stable_offset);
            ClientError::OffsetOutOfRange { offset, start, end }
        }
        ResponseError::UnknownTopicOrPartition => {
            ClientError::UnknownTopicOrPartition(partition.topic.to_string())
        }
        _ => unavailable(broker),
    }
}

fn unavailable(broker: &Broker) -> ClientError {
    let why = broker.storage_problem();
    ClientError::Unavailable(why.unwrap_or_else(|| "it is being opened again".to_owned()))
}

fn info(topic: &Topic) -> TopicInfo {
    let partitions = topic.partitions.iter().map(|partition| {
        let ends = partition.ends();
        PartitionInfo {
            partition: partition.index(),
            start_offset: ends.log_start_offset,
            end_offset: ends.last_stable_offset,
            log_end_offset: ends.log_end_offset,
            bytes: ends.bytes,
        }
    });
    TopicInfo {
        name: topic.name.to_string(),
        topic_id: topic.id,
        internal: topic.internal,
        partitions: partitions.collect(),
    }
}

/// Records of one call for one partition, and where each stood in the call.
#[derive(Default)]
struct Share {
    records: Vec<Record>,
    places: Vec<usize>,
}

/// Divides records over partitions as Kafka's default partitioner does.
fn divide(topic: &Topic, records: TopicRecords) -> Result<BTreeMap<i32, Share>> {
    let count = topic.partitions.len();
    if let Some(fixed) = records.partition.filter(|p| topic.partition(*p).is_none()) {
        let name = format!("{}-{fixed}", topic.name);
        return Err(ClientError::UnknownTopicOrPartition(name));
    }
    let unkeyed = rand::random_range(0..count.max(1));
    let mut shares: BTreeMap<i32, Share> = BTreeMap::new();
    for (place, record) in records.records.into_iter().enumerate() {
        let chosen = match (records.partition, &record.key) {
            (Some(fixed), _) => fixed,
            (None, Some(key)) => partition_for(key, count),
            (None, None) => i32::try_from(unkeyed).unwrap_or(0),
        };
        let share = shares.entry(chosen).or_default();
        share.records.push(record);
        share.places.push(place);
    }
    Ok(shares)
}

fn batches(topic: &Topic, partition: i32, records: &[Record]) -> Result<Vec<Batch>> {
    let bytes_max = topic.settings.message_bytes_max;
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new(Compression::None);
    for record in records {
        if builder.bytes() >= BATCH_BYTES.min(bytes_max / 2) {
            batches
                .push(built(std::mem::replace(&mut builder, BatchBuilder::new(Compression::None))));
        }
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        builder.push(record.timestamp_ms, key, value, &record.headers);
    }
    if !builder.is_empty() {
        batches.push(built(builder));
    }
    let now = now_ms();
    let stored = batches.into_iter().map(|batch| policy::apply(topic, partition, batch, now));
    let stored = stored.map(|applied| applied.map(|(batch, _)| batch));
    stored
        .collect::<std::result::Result<_, _>>()
        .map_err(|failure| ClientError::Refused(format!("topic {}: {}", topic.name, failure.why)))
}

/// One part of a unit: which of the unit's record lists it came from, and where its records stood.
struct Part {
    list: usize,
    partition: i32,
    places: Vec<usize>,
}

#[async_trait]
impl Client for Local {
    async fn topics(&self) -> Result<Vec<TopicInfo>> {
        let core = self.broker.core();
        let all = core.topics.all().into_iter();
        let seen =
            all.filter(|topic| self.sees(&core, Operation::Describe, Resource::Topic(&topic.name)));
        Ok(seen.map(|topic| info(&topic)).collect())
    }

    async fn topic(&self, topic: &str) -> Result<Option<TopicInfo>> {
        let core = self.broker.core();
        self.may(&core, Operation::Describe, Resource::Topic(topic))?;
        Ok(core.topics.by_name(topic).map(|topic| info(&topic)))
    }

    async fn ensure_topic(
        &self,
        topic: &str,
        partitions: i32,
        configs: &[(String, String)],
    ) -> Result<()> {
        let core = self.broker.core();
        self.may(&core, Operation::Describe, Resource::Topic(topic))?;
        if core.topics.by_name(topic).is_some() {
            return Ok(());
        }
        self.may_create(&core, topic)?;
        let configs = configs.iter().cloned().collect();
        let wanted = Wanted { name: topic.to_owned(), partitions: Some(partitions), configs };
        created(&core, &wanted).await.map(|_| ())
    }

    async fn produce(&self, records: TopicRecords) -> Result<Vec<Placed>> {
        let unit = Unit { records: vec![records], ..Unit::default() };
        let placed = self.commit(unit).await?;
        Ok(placed.into_iter().flatten().collect())
    }

    async fn commit(&self, unit: Unit) -> Result<UnitPlaced> {
        let core = self.broker.core();
        let mut whole = CoreUnit::default();
        let mut parts = Vec::new();
        let mut placed: UnitPlaced = Vec::with_capacity(unit.records.len());
        let mut record_count = 0;
        for (list, records) in unit.records.into_iter().enumerate() {
            let topic = self.topic_for_writing(&core, &records.topic).await?;
            record_count += records.records.len();
            placed.push(vec![Placed { partition: 0, offset: -1 }; records.records.len()]);
            for (index, share) in divide(&topic, records)? {
                let partition = topic.partition(index).expect("divide chose among these");
                whole.appends.push((partition.clone(), batches(&topic, index, &share.records)?));
                parts.push(Part { list, partition: index, places: share.places });
            }
        }
        let groups = by_group(&unit.offsets);
        self.may_commit(&core, &unit.offsets, &unit.checkpoints)?;
        let now = now_ms();
        for (group, offsets) in &groups {
            let records: Vec<KeyedRecord> = core.groups.offset_records(group, offsets, now);
            whole.offsets.push(((*group).to_owned(), records));
        }
        check_checkpoints(&unit.checkpoints)?;
        whole.checkpoints = unit.checkpoints;
        if whole.is_empty() {
            return Ok(placed);
        }
        let committed = core.commit_unit(whole).await;
        let base_offsets = committed.map_err(|_| unavailable(&self.broker))?;
        for (group, offsets) in &groups {
            core.groups.apply_offsets(group, offsets, now);
        }
        self.broker.inner.metrics.records_in.inc_by(record_count as u64);
        for (part, base_offset) in parts.into_iter().zip(base_offsets) {
            for (offset, place) in (base_offset..).zip(part.places) {
                placed[part.list][place] = Placed { partition: part.partition, offset };
            }
        }
        Ok(placed)
    }

    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Fetched> {
        let deadline = Instant::now() + wait;
        let waiter = Arc::new(Notify::new());
        self.may(&self.broker.core(), Operation::Read, Resource::Topic(topic))?;
        loop {
            let core = self.broker.core();
            let partition = self.partition_of(&core, topic, partition)?;
            partition.wake_on_progress(&waiter);
            let found = reads::read_committed(&self.broker, &core, &partition, offset, bytes_max);
            let found = found.await.map_err(|e| failed(&self.broker, &partition, offset, e))?;
            if !found.read.batches.is_empty() || Instant::now() >= deadline {
                let ends = partition.ends();
                let unpacked =
                    unpack::records(&self.broker, &self.principal, found.batches(), offset).await?;
                return Ok(Fetched {
                    records: unpacked.records,
                    next_offset: unpacked.stopped_at.unwrap_or(found.read.next_offset),
                    high_watermark: ends.last_stable_offset,
                    log_start_offset: ends.log_start_offset,
                });
            }
            let _ = tokio::time::timeout_at(deadline, waiter.notified()).await;
        }
    }

    async fn offset(&self, topic: &str, partition: i32, at: OffsetAt) -> Result<Option<i64>> {
        let core = self.broker.core();
        self.may(&core, Operation::Describe, Resource::Topic(topic))?;
        let partition = self.partition_of(&core, topic, partition)?;
        let hit = reads::time_hit(&self.broker, &core, &partition, at).await;
        let hit = hit.map_err(|e| failed(&self.broker, &partition, 0, e))?;
        Ok(hit.map(|hit| hit.offset))
    }

    async fn scan(
        &self,
        topic: &str,
        partition: i32,
        from_ms: i64,
        to_ms: i64,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Scanned> {
        let core = self.broker.core();
        self.may(&core, Operation::Read, Resource::Topic(topic))?;
        let partition = self.partition_of(&core, topic, partition)?;
        let ends = partition.ends();
        let offset = offset.max(ends.log_start_offset);
        let id = partition.id;
        let found = reads::blocking(&self.broker, &core, &partition, move |log| {
            log.next_in_time(id, from_ms, to_ms, offset)
        });
        let fail = |e| failed(&self.broker, &partition, offset, e);
        let Some(at) = found.await.map_err(fail)? else { return Ok(Scanned::default()) };
        let found = reads::read_committed(&self.broker, &core, &partition, at, bytes_max).await;
        let found = found.map_err(fail)?;
        let unpacked = unpack::records(&self.broker, &self.principal, found.batches(), at).await?;
        let mut records = unpacked.records;
        records.retain(|record| (from_ms..to_ms).contains(&record.timestamp_ms));
        let next_offset = unpacked.stopped_at.unwrap_or(found.read.next_offset);
        let next_offset = (next_offset > at).then_some(next_offset);
        Ok(Scanned { records, next_offset })
    }

    async fn committed(&self, group: &str) -> Result<Vec<GroupOffset>> {
        let core = self.broker.core();
        self.may(&core, Operation::Describe, Resource::Group(group))?;
        core.groups.hold(group);
        let lines = core.groups.offsets_of(group).into_iter();
        let seen = lines
            .filter(|line| self.sees(&core, Operation::Describe, Resource::Topic(&line.topic)));
        let offsets = seen.map(|line| GroupOffset {
            group: line.group,
            topic: line.topic,
            partition: line.partition,
            offset: line.committed.offset,
        });
        Ok(offsets.collect())
    }

    async fn checkpoint(&self, name: &str) -> Result<Option<Bytes>> {
        let core = self.broker.core();
        self.may(&core, Operation::ClusterAction, Resource::Cluster)?;
        Ok(core.checkpoint(name))
    }

    async fn watch(&self, topic: &str, wait: Duration) {
        let waiter = Arc::new(Notify::new());
        if let Some(topic) = self.broker.core().topics.by_name(topic) {
            for partition in &topic.partitions {
                partition.wake_on_progress(&waiter);
            }
        }
        let _ = tokio::time::timeout(wait, waiter.notified()).await;
    }
}

impl CoreUnit {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.offsets.is_empty() && self.checkpoints.is_empty()
    }
}

fn by_group(offsets: &[GroupOffset]) -> BTreeMap<&str, Vec<NewOffset>> {
    let mut groups: BTreeMap<&str, Vec<NewOffset>> = BTreeMap::new();
    for offset in offsets {
        groups.entry(&offset.group).or_default().push(NewOffset {
            topic: offset.topic.clone(),
            partition: offset.partition,
            offset: offset.offset,
            leader_epoch: None,
            metadata: String::new(),
        });
    }
    groups
}

fn check_checkpoints(checkpoints: &[(String, Option<Bytes>)]) -> Result<()> {
    let max = limits::CHECKPOINT_BYTES_MAX;
    let large = checkpoints.iter().find(|(_, v)| v.as_ref().is_some_and(|v| v.len() > max));
    match large {
        None => Ok(()),
        Some((name, _)) => Err(ClientError::Refused(format!(
            "checkpoint {name:?} is larger than {max} bytes, the bound for values of {STATE_TOPIC}"
        ))),
    }
}
