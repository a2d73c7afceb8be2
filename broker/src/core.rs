//! One incarnation: the open log and everything that was read from it.
//!
//! A failed write or sync ends an incarnation. The broker then drops this whole structure and makes
//! a new one by the same path as at start, so that nothing in memory can be ahead of the disk.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_log::{
    CommitError, CompactionOptions, Durability, Log, OpenReport, Options, PartitionId,
    PartitionSpec, RealDisk, StartReport,
};
use odradek_protocol::batch::{BatchBuilder, BatchHeader};
use odradek_protocol::compression::Compression;
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

use crate::acl::{Access, Rule};
use crate::auth::{self, Users};
use crate::chance;
use crate::clock::{now_ms, system_clock};
use crate::config::{self, Config, Overrides, TopicSettings};
use crate::configs::Configs;
use crate::group::GroupSettings;
use crate::group::consumer::assignor::Assignor;
use crate::group::consumer::{ConsumerSettings, MigrationPolicy};
use crate::group::coordinator::{GroupCoordinator, MemberTimeouts, OffsetsLog, Surroundings};
use crate::limits;
use crate::memory::Part;
use crate::partition::{self, Appended, Batch, Partition};
use crate::producer_ids::ProducerIds;
use crate::quota::{Entity, Limits, Quotas};
use crate::sequence::Producers;
use crate::share::ShareSettings;
use crate::share::coordinator::{self as share, GroupNames, ShareCoordinator, StateLog};
use crate::state::{
    self, ClusterRecord, ConfigResource, LoginSecretRecord, OFFSETS_TOPIC, ProducerIdsRecord,
    STATE_PARTITION, STATE_TOPIC, StateKey, TopicRecord,
};
use crate::topics::{self, Topic, Topics};
use crate::transaction::coordinator::TransactionCoordinator;
use crate::transaction::record::{Producer, TransactionRecord};
use crate::transaction::recover::{self, Open};
use crate::transaction::units::TransactionUnits;
use crate::transaction::{COORDINATOR_EPOCH, marker};

/// Why a data folder could not be opened, as a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub(crate) String);

pub(crate) struct Core {
    pub log: Arc<Log>,
    pub topics: Arc<Topics>,
    pub users: Arc<Users>,
    pub access: Access,
    pub quotas: Quotas,
    pub groups: Arc<GroupCoordinator>,
    pub share: Arc<ShareCoordinator>,
    pub transactions: Arc<TransactionCoordinator>,
    pub cluster_id: String,
    pub configs: Arc<Configs>,
    offsets: Arc<OffsetsPartitions>,
    state: Arc<Partition>,
    /// Checkpoints as last committed.
    checkpoints: std::sync::Mutex<HashMap<String, Bytes>>,
    /// One change of access rules at a time; held across their records' sync.
    pub rule_changes: AsyncMutex<()>,
    /// One change of client quotas at a time; held across its record's sync.
    pub quota_changes: AsyncMutex<()>,
    /// One change of users at a time; held across its record's sync.
    pub user_changes: AsyncMutex<()>,
    /// One change of topics at a time; held across its state record's sync.
    topic_changes: AsyncMutex<()>,
    producer_ids: Arc<ProducerIds>,
}

/// What the state log holds, sorted by kind.
#[derive(Default)]
struct Restored {
    cluster: Option<ClusterRecord>,
    login_secret: Option<LoginSecretRecord>,
    topics: BTreeMap<String, TopicRecord>,
    users: Vec<(String, Bytes)>,
    rules: Vec<(Uuid, Rule)>,
    quotas: BTreeMap<Entity, Limits>,
    starts: HashMap<PartitionId, i64>,
    checkpoints: HashMap<String, Bytes>,
    producer_ids_next: i64,
    configs: BTreeMap<ConfigResource, Overrides>,
    share: share::Loaded,
    transactions: BTreeMap<String, TransactionRecord>,
}

impl Restored {
    fn read(records: BTreeMap<Bytes, Bytes>) -> Result<Self, OpenError> {
        let mut restored = Self::default();
        for (key, value) in records {
            let damaged = |e: serde_json::Error| {
                let key = String::from_utf8_lossy(&key).into_owned();
                OpenError(format!("{STATE_TOPIC} holds an unreadable value for {key}: {e}"))
            };
            match StateKey::parse(&key) {
                Some(StateKey::Cluster) => {
                    restored.cluster = Some(serde_json::from_slice(&value).map_err(damaged)?);
                }
                Some(StateKey::LoginSecret) => {
                    restored.login_secret = Some(serde_json::from_slice(&value).map_err(damaged)?);
                }
                Some(StateKey::Topic(name)) => {
                    let record = serde_json::from_slice(&value).map_err(damaged)?;
                    restored.topics.insert(name, record);
                }
                Some(StateKey::User(name)) => restored.users.push((name, value)),
                Some(StateKey::Acl(id)) => {
                    let rule = serde_json::from_slice(&value).map_err(damaged)?;
                    restored.rules.push((id, rule));
                }
                Some(StateKey::Quota(entity)) => {
                    let limits = serde_json::from_slice(&value).map_err(damaged)?;
                    restored.quotas.insert(entity, limits);
                }
                Some(StateKey::Start(id)) => {
                    let start = serde_json::from_slice(&value).map_err(damaged)?;
                    restored.starts.insert(id, start);
                }
                Some(StateKey::Checkpoint(name)) => {
                    restored.checkpoints.insert(name, value);
                }
                Some(StateKey::ProducerIds) => {
                    let record: ProducerIdsRecord =
                        serde_json::from_slice(&value).map_err(damaged)?;
                    restored.producer_ids_next = record.next;
                }
                Some(StateKey::Config(resource)) => {
                    let overrides = serde_json::from_slice(&value).map_err(damaged)?;
                    restored.configs.insert(resource, overrides);
                }
                Some(StateKey::ShareGroup(group)) => {
                    let record = serde_json::from_slice(&value).map_err(damaged)?;
                    restored.share.groups.insert(group, record);
                }
                Some(StateKey::SharePartition(group, id)) => {
                    let record = serde_json::from_slice(&value).map_err(damaged)?;
                    restored.share.partitions.push((group, id, record));
                }
                Some(StateKey::Transaction(id)) => {
                    let record = serde_json::from_slice(&value).map_err(damaged)?;
                    restored.transactions.insert(id, record);
                }
                None => tracing::warn!(
                    key = %String::from_utf8_lossy(&key),
                    "state of a kind this version does not know; left alone"
                ),
            }
        }
        Ok(restored)
    }
}

impl Core {
    /// The start path. Blocks on the disk.
    pub(crate) fn open(config: Arc<Config>) -> Result<Arc<Self>, OpenError> {
        let disk = Arc::new(RealDisk::new(&config.log_dir));
        let (log, open_report) =
            Log::open(log_options(&config), disk).map_err(|e| OpenError(e.to_string()))?;
        Self::open_over(config, log, &open_report, &THREADS)
    }

    /// The start path from the open log on.
    pub(crate) fn open_over(
        config: Arc<Config>,
        log: Log,
        open_report: &OpenReport,
        drive: &'static Drive,
    ) -> Result<Arc<Self>, OpenError> {
        let opening = Opening { log: Arc::new(log), config: config.clone(), drive };
        let state = opening.attach_state()?;
        let records = opening.log.keyed(STATE_PARTITION).map_err(|e| OpenError(e.to_string()))?;
        let mut restored = Restored::read(records)?;
        let configs = Arc::new(Configs::new(config, std::mem::take(&mut restored.configs)));
        let opening = Opening { config: configs.current(), ..opening };
        tune(&opening.log, &opening.config);
        let topics = Arc::new(Topics::default());
        for (name, record) in &restored.topics {
            let topic = opening.attach_topic(name, record, &restored.starts, None)?;
            topics.put(Arc::new(topic));
        }
        let started = (drive.start)(&opening.log).map_err(|e| OpenError(e.to_string()))?;
        tell(open_report, &started, &topics);
        opening.found(&state, &topics, &mut restored)?;
        let offsets = Arc::new(OffsetsPartitions::of(&topics)?);
        let config = configs.current();
        let settings = group_settings(&config);
        let surroundings = surroundings(&topics, &configs);
        let clock = system_clock();
        let groups = GroupCoordinator::new(offsets.clone(), settings, surroundings, clock);
        groups.load(offsets.records(&opening.log)?);
        let share = share_coordinator(&state, &groups, &configs);
        let topic = |id: PartitionId| topics.by_id(id.topic_id)?.partition(id.partition).cloned();
        share.load(std::mem::take(&mut restored.share), |id| topic(id).is_some());
        let producer_ids = ProducerIds::new(state.clone(), restored.producer_ids_next);
        let units = TransactionUnits {
            log: opening.log.clone(),
            topics: topics.clone(),
            groups: groups.clone(),
            offsets: offsets.clone(),
            state: state.clone(),
            producer_ids: producer_ids.clone(),
        };
        let transactions = opening.transactions(units, restored.transactions)?;
        Ok(Arc::new(Self {
            log: opening.log,
            topics,
            users: users(restored.users, restored.login_secret, &config),
            access: Access::new(&config.access, restored.rules),
            quotas: Quotas::new(&config.quota_windows, restored.quotas),
            groups,
            share,
            transactions,
            cluster_id: cluster_id(&config, restored.cluster),
            configs,
            offsets,
            state,
            checkpoints: std::sync::Mutex::new(restored.checkpoints),
            rule_changes: AsyncMutex::default(),
            quota_changes: AsyncMutex::default(),
            user_changes: AsyncMutex::default(),
            topic_changes: AsyncMutex::default(),
            producer_ids,
        }))
    }

    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.configs.current()
    }

    /// The end of the state log: what a quorum's high watermark is elsewhere.
    pub(crate) fn state_end(&self) -> i64 {
        self.state.high_watermark()
    }

    /// Appends state records; durable when it returns. All of them or none.
    pub(crate) async fn put_state(
        &self,
        records: Vec<(StateKey, Option<Bytes>)>,
    ) -> Result<(), ResponseError> {
        let batch = state_batch(records);
        let appended = self.state.append(batch, now_ms())?;
        wait_for(appended).await
    }

    pub(crate) fn checkpoint(&self, name: &str) -> Option<Bytes> {
        partition::lock(&self.checkpoints).get(name).cloned()
    }

    /// One unit of the log over any partitions, offsets and checkpoints; durable when it returns.
    /// Every partition's append lock is held while offsets are given out, in the order of ids.
    pub(crate) async fn commit_unit(&self, unit: CoreUnit) -> Result<Vec<i64>, ResponseError> {
        let CoreUnit { mut appends, offsets, checkpoints } = unit;
        let wanted = appends.len();
        for (group, records) in offsets {
            appends.push((self.offsets.of_group(&group).clone(), vec![keyed_batch(records)]));
        }
        if !checkpoints.is_empty() {
            let records = checkpoints.iter().cloned();
            let records = records.map(|(name, value)| (StateKey::Checkpoint(name), value));
            appends.push((self.state.clone(), vec![state_batch(records.collect())]));
        }
        let (mut base_offsets, done) = partition::submit(&self.log, &appends);
        match done.await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(ResponseError::KafkaStorageError),
        }
        let mut known = partition::lock(&self.checkpoints);
        for (name, value) in checkpoints {
            match value {
                Some(value) => known.insert(name, value),
                None => known.remove(&name),
            };
        }
        base_offsets.truncate(wanted);
        Ok(base_offsets)
    }

    /// A producer id that no other producer ever got.
    pub(crate) async fn new_producer_id(&self) -> Result<i64, ResponseError> {
        self.producer_ids.next().await
    }

    /// Deletes a group of any kind, with its offsets or where it stands, and with what transactions
    /// would commit for it later. NON_EMPTY_GROUP while it has members.
    pub(crate) async fn delete_group(&self, group: &str) -> Result<(), ResponseError> {
        match self.share.exists(group) {
            true => self.share.delete(group).await?,
            false => self.groups.delete(group).await?,
        }
        self.transactions.group_deleted(group).await
    }

    /// Where this group's offsets are kept.
    pub(crate) fn offsets_partition_of(&self, group: &str) -> PartitionId {
        self.offsets.of_group(group).id
    }

    /// Held by whoever creates, grows or deletes a topic.
    pub(crate) async fn changing_topics(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.topic_changes.lock().await
    }

    /// Opens (or creates) the partitions of a topic; nobody sees them yet.
    pub(crate) fn attach_topic(
        &self,
        name: &str,
        record: &TopicRecord,
        before: Option<&Topic>,
    ) -> Result<Topic, OpenError> {
        let opening = Opening { log: self.log.clone(), config: self.config(), drive: &THREADS };
        opening.attach_topic(name, record, &HashMap::new(), before)
    }
}

/// Says in the log what the start path found. Damage is said for each partition and range: it is
/// the one thing that must never be passed over in silence.
fn tell(opened: &OpenReport, started: &StartReport, topics: &Topics) {
    if opened.unclean {
        tracing::warn!(
            journal_bytes = opened.journal_bytes,
            machine_went_down = opened.machine_unclean,
            "the last stop was not a clean one; the journal was replayed"
        );
    }
    if let Some(torn) = &opened.torn_tail {
        tracing::info!(file = %torn.file, position = torn.position,
            "the journal ended in an unfinished write, which nobody was answered; it was cut");
    }
    for groups in &opened.damaged_groups {
        // What they held is named below, where later records of the partition follow.
        tracing::error!(file = %groups.file, first_group = groups.first_sequence,
            last_group = groups.last_sequence,
            "a part of the journal that had been written is damaged; check the disk");
    }
    for damage in &started.damage {
        let topic = topics.by_id(damage.partition.topic_id);
        let topic = topic.map_or_else(|| STATE_TOPIC.to_owned(), |t| t.name.to_string());
        tracing::error!(%topic, partition = damage.partition.partition,
            from_offset = damage.from_offset, to_offset = damage.to_offset,
            "acknowledged records are damaged on the disk and cannot be read; check the disk");
    }
    for folder in &started.orphan_folders {
        tracing::info!(%folder, "removed what was left of a deleted topic");
    }
    if started.view_rebuilt {
        tracing::info!("the index is being rebuilt from the segments, behind the running broker");
    }
}

/// What [`Core::commit_unit`] takes: batches for partitions, records of groups for
/// `__consumer_offsets`, checkpoints.
#[derive(Default)]
pub(crate) struct CoreUnit {
    pub appends: Vec<(Arc<Partition>, Vec<Batch>)>,
    pub offsets: Vec<(String, Vec<KeyedRecord>)>,
    pub checkpoints: Vec<(String, Option<Bytes>)>,
}

pub(crate) type KeyedRecord = (Bytes, Option<Bytes>);

/// Waits until an append is durable.
pub(crate) async fn wait_for(appended: Appended) -> Result<(), ResponseError> {
    match appended {
        Appended::Queued { done, .. } => match done.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(ResponseError::KafkaStorageError),
        },
        // Only idempotent producers repeat, and the broker's own records have none.
        Appended::Repeat { .. } => Ok(()),
    }
}

pub(crate) fn state_batch(records: Vec<(StateKey, Option<Bytes>)>) -> Batch {
    keyed_batch(records.into_iter().map(|(key, value)| (key.to_bytes(), value)).collect())
}

pub(crate) fn keyed_batch(records: Vec<KeyedRecord>) -> Batch {
    let now = now_ms();
    let mut builder = BatchBuilder::new(Compression::None);
    for (key, value) in records {
        builder.push(now, Some(key.as_ref()), value.as_deref(), &[]);
    }
    built(builder)
}

/// The bytes of a batch that this process made, with its header.
pub(crate) fn built(builder: BatchBuilder) -> Batch {
    let bytes = builder.build(0);
    let header = BatchHeader::parse(&bytes).expect("a batch we built has a header");
    Batch::new(header, bytes)
}

/// What makes the log get on behind the start path.
pub(crate) struct Drive {
    pub start: fn(&Log) -> Result<StartReport, odradek_log::OpenError>,
    /// Called before the start path waits for what it has queued.
    pub commit: fn(&Log),
}

/// Its own threads; a simulation takes the steps itself.
const THREADS: Drive = Drive { start: Log::start, commit: |_| {} };

/// The part of the start path that attaches partitions to the log.
struct Opening {
    log: Arc<Log>,
    config: Arc<Config>,
    drive: &'static Drive,
}

impl Opening {
    fn attach_state(&self) -> Result<Arc<Partition>, OpenError> {
        let settings = &self.config.topics.settings;
        self.attach(STATE_PARTITION, &STATE_TOPIC.into(), true, 0, settings)
    }

    fn attach(
        &self,
        id: PartitionId,
        topic: &Arc<str>,
        keyed: bool,
        log_start_offset: i64,
        settings: &TopicSettings,
    ) -> Result<Arc<Partition>, OpenError> {
        let failed = |e: String| OpenError(format!("{topic}-{}: {e}", id.partition));
        let ends = self
            .log
            .attach(PartitionSpec {
                id,
                folder: format!("{topic}-{}", id.partition),
                keyed,
                makes_room: id == STATE_PARTITION,
                log_start_offset,
                settings: topics::log_settings(settings, keyed),
            })
            .map_err(|e| failed(e.to_string()))?;
        let entries = self.log.producers(id).map_err(|e| failed(e.to_string()))?;
        Ok(Arc::new(Partition::new(
            id,
            topic.clone(),
            self.log.clone(),
            LEADER_EPOCH,
            ends.log_end_offset,
            Producers::restored(entries, now_ms()),
        )))
    }

    /// `before`: the topic as it was, whose partitions are kept.
    fn attach_topic(
        &self,
        name: &str,
        record: &TopicRecord,
        starts: &HashMap<PartitionId, i64>,
        before: Option<&Topic>,
    ) -> Result<Topic, OpenError> {
        let settings = self
            .config
            .topic_settings(&record.configs)
            .map_err(|e| OpenError(format!("topic {name}: {e}")))?;
        let name: Arc<str> = name.into();
        let keyed = *name == *OFFSETS_TOPIC;
        let mut partitions = before.map(|t| t.partitions.clone()).unwrap_or_default();
        for partition in partitions.len()..usize::try_from(record.partitions).unwrap_or(0) {
            let partition = i32::try_from(partition).unwrap_or(i32::MAX);
            let id = PartitionId { topic_id: record.id, partition };
            let start = starts.get(&id).copied().unwrap_or(0);
            partitions.push(self.attach(id, &name, keyed, start, &settings)?);
        }
        Ok(Topic {
            internal: keyed,
            name,
            id: record.id,
            configs: record.configs.clone(),
            settings,
            partitions,
        })
    }

    /// The coordinator of transactions, from what was kept and what is open in the log.
    fn transactions(
        &self,
        units: TransactionUnits,
        mut records: BTreeMap<String, TransactionRecord>,
    ) -> Result<Arc<TransactionCoordinator>, OpenError> {
        let open = self.open_transactions(&units.topics)?;
        for orphan in recover::attribute(&mut records, open, now_ms()) {
            abort_orphan(&units, orphan, self.drive)?;
        }
        let settings = self.config.transactions;
        let clock = system_clock();
        let transactions = TransactionCoordinator::new(Arc::new(units), settings, clock);
        transactions.load(records);
        Ok(transactions)
    }

    fn open_transactions(&self, topics: &Topics) -> Result<Vec<Open>, OpenError> {
        let mut open = Vec::new();
        for partition in topics.all().iter().flat_map(|topic| &topic.partitions) {
            let entries = self.log.producers(partition.id);
            let entries = entries.map_err(|e| OpenError(e.to_string()))?;
            let entries = entries.into_iter().filter(|e| e.transaction_first_offset.is_some());
            open.extend(entries.map(|e| Open {
                partition: partition.id,
                producer: Producer { id: e.producer_id, epoch: e.epoch },
            }));
        }
        Ok(open)
    }

    /// What an empty data folder needs: a cluster id, a secret, the topic of the groups' offsets.
    fn found(
        &self,
        state: &Arc<Partition>,
        topics: &Topics,
        restored: &mut Restored,
    ) -> Result<(), OpenError> {
        let mut records = Vec::new();
        if restored.cluster.is_none() {
            // Kafka's own form: 16 random bytes in URL-safe base 64.
            let id = URL_SAFE_NO_PAD.encode(chance::id().as_bytes());
            let record = ClusterRecord { id };
            records.push((StateKey::Cluster, Some(state::value(&record))));
            restored.cluster = Some(record);
        }
        if restored.login_secret.is_none() {
            let record = LoginSecretRecord { secret: chance::secret() };
            records.push((StateKey::LoginSecret, Some(state::value(&record))));
            restored.login_secret = Some(record);
        }
        let mut offsets = None;
        if !restored.topics.contains_key(OFFSETS_TOPIC) {
            let configs = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
            let partitions = OFFSETS_PARTITIONS;
            let record = TopicRecord { id: chance::id(), partitions, configs };
            let key = StateKey::Topic(OFFSETS_TOPIC.to_owned());
            records.push((key, Some(state::value(&record))));
            offsets = Some(record);
        }
        if !records.is_empty() {
            let appended = state.append(state_batch(records), now_ms());
            let Ok(Appended::Queued { done, .. }) = appended else {
                return Err(OpenError("the state log refused its first records".to_owned()));
            };
            (self.drive.commit)(&self.log);
            match done.blocking_recv() {
                Ok(Ok(())) => {}
                Ok(Err(e)) => return Err(OpenError(format!("the first records: {e}"))),
                Err(_) => return Err(OpenError("the log closed while it opened".to_owned())),
            }
        }
        if let Some(record) = offsets {
            let topic = self.attach_topic(OFFSETS_TOPIC, &record, &HashMap::new(), None)?;
            topics.put(Arc::new(topic));
        }
        Ok(())
    }
}

/// Ends a transaction that nobody else will ever end (T5).
fn abort_orphan(units: &TransactionUnits, orphan: Open, drive: &Drive) -> Result<(), OpenError> {
    let Open { partition: id, producer } = orphan;
    let Some(topic) = units.topics.by_id(id.topic_id) else { return Ok(()) };
    let Some(partition) = topic.partition(id.partition) else { return Ok(()) };
    tracing::warn!(topic = %topic.name, partition = id.partition, producer_id = producer.id,
        "an open transaction that no transactional id owns is aborted");
    let marker = marker::batch(producer, false, COORDINATOR_EPOCH, now_ms());
    let appends = [(partition.clone(), vec![marker])];
    let (_, done) = partition::submit(&units.log, &appends);
    (drive.commit)(&units.log);
    match done.blocking_recv() {
        Ok(Ok(())) => Ok(()),
        // A full disk must not keep the broker from starting: it is tried again at the next start.
        Ok(Err(CommitError::Full)) => Ok(()),
        Ok(Err(e)) => Err(OpenError(format!("the end of an abandoned transaction: {e}"))),
        Err(_) => Err(OpenError("the log closed while it opened".to_owned())),
    }
}

/// Kafka's default is 50, to spread groups over brokers; here there is one.
const OFFSETS_PARTITIONS: i32 = 1;

fn log_options(config: &Config) -> Options {
    let durability = match config.durability {
        config::Durability::Sync => Durability::Sync,
        config::Durability::Interval(every) => Durability::Interval(every),
    };
    Options {
        store: config.store,
        tail_cache_bytes_max: Part::TailCache.bytes_max(config),
        unsettled_bytes_max: Part::CommitGroups.bytes_max(config),
        active_index_bytes_max: Part::ActiveIndexes.bytes_max(config),
        sealed_index_bytes_max: Part::SealedIndexes.bytes_max(config),
        sled_bytes_max: Part::Sled.bytes_max(config),
        writers_max: limits::writers_max(),
        durability,
        disk_reserve_bytes: config.disk_reserve_bytes,
        compaction: compaction(config),
        ..Options::new(&config.log_dir)
    }
}

/// `log.cleaner.dedupe.buffer.size`, as far as that fits into its part of the memory.
fn compaction(config: &Config) -> CompactionOptions {
    let map_bytes_max = config.compaction.map_bytes_max;
    let map_bytes_max = map_bytes_max.min(Part::CompactionMap.bytes_max(config));
    CompactionOptions { map_bytes_max, ..config.compaction }
}

/// Gives the log what can be changed while it is open.
pub(crate) fn tune(log: &Log, config: &Config) {
    log.set_compaction(compaction(config));
    if let config::Durability::Interval(interval) = config.durability {
        log.set_flush_interval(interval);
    }
}

fn users(
    stored: Vec<(String, Bytes)>,
    secret: Option<LoginSecretRecord>,
    config: &Config,
) -> Arc<Users> {
    let secret = secret.map_or_else(auth::new_secret, |record| record.secret);
    Arc::new(Users::load(stored).keyed_by(secret).with_configured(&config.users))
}

/// `odradek.cluster.id`, or what was made at the first start.
fn cluster_id(config: &Config, made: Option<ClusterRecord>) -> String {
    config.cluster_id.clone().or(made.map(|cluster| cluster.id)).unwrap_or_default()
}

fn group_settings(config: &Config) -> GroupSettings {
    let groups = &config.groups;
    GroupSettings {
        session_timeout_ms_min: groups.session_timeout_ms_min,
        session_timeout_ms_max: groups.session_timeout_ms_max,
        initial_rebalance_delay_ms: groups.initial_rebalance_delay_ms,
        size_max: groups.members_max,
        offsets_retention_ms: groups.offsets_retention_ms,
        offsets_retention_check_interval_ms: groups.offsets_check_interval_ms,
        offset_metadata_bytes_max: groups.offset_metadata_bytes_max,
        consumer: consumer_settings(config),
    }
}

fn surroundings(topics: &Arc<Topics>, configs: &Arc<Configs>) -> Surroundings {
    let configs = Arc::clone(configs);
    let timeouts = move |group: &str| {
        let own = configs.group(group);
        MemberTimeouts {
            session_ms: own.consumer_session_timeout_ms,
            heartbeat_ms: own.consumer_heartbeat_interval_ms,
        }
    };
    Surroundings { topics: topics.clone(), timeouts: Box::new(timeouts) }
}

fn consumer_settings(config: &Config) -> ConsumerSettings {
    let consumer = &config.groups.consumer;
    let mut assignors = consumer
        .assignors
        .iter()
        .map(|name| Assignor::ALL.into_iter().find(|assignor| assignor.name() == name));
    ConsumerSettings {
        size_max: consumer.members_max,
        classic_size_max: config.groups.members_max,
        assignors: std::array::from_fn(|_| assignors.next().flatten()),
        migration: MigrationPolicy { upgrade: consumer.upgrade, downgrade: consumer.downgrade },
    }
}

fn share_coordinator(
    state: &Arc<Partition>,
    groups: &Arc<GroupCoordinator>,
    configs: &Arc<Configs>,
) -> Arc<ShareCoordinator> {
    let configs = Arc::clone(configs);
    let settings = move |group: &str| share_settings(&configs, group);
    let names: Arc<dyn GroupNames> = groups.clone();
    let log = Arc::new(StateAppends(state.clone()));
    ShareCoordinator::new(log, names, Arc::new(settings), system_clock())
}

fn share_settings(configs: &Configs, group: &str) -> ShareSettings {
    let own = configs.group(group);
    ShareSettings {
        heartbeat_interval_ms: own.share_heartbeat_interval_ms,
        session_timeout_ms: own.share_session_timeout_ms,
        size_max: configs.current().groups.share_size_max,
        lock_ms: own.share_record_lock_duration_ms,
        deliveries_max: i16::try_from(own.share_delivery_count_limit).unwrap_or(i16::MAX),
        in_flight_max: i64::from(own.share_partition_record_locks_max),
        begins: own.share_auto_offset_reset,
        read_committed: own.share_read_committed,
    }
}

/// `__odradek_state`, as the share coordinator uses it.
struct StateAppends(Arc<Partition>);

#[async_trait]
impl StateLog for StateAppends {
    async fn put(&self, records: Vec<(StateKey, Option<Bytes>)>) -> Result<(), ResponseError> {
        let appended = self.0.append(state_batch(records), now_ms())?;
        wait_for(appended).await
    }
}

/// One node leads everything, and no leader ever changes.
const LEADER_EPOCH: i32 = 0;

/// The partitions of `__consumer_offsets`, as the group coordinator uses them.
pub(crate) struct OffsetsPartitions {
    partitions: Vec<Arc<Partition>>,
}

impl OffsetsPartitions {
    fn of(topics: &Topics) -> Result<Self, OpenError> {
        let topic = topics.by_name(OFFSETS_TOPIC).filter(|t| !t.partitions.is_empty());
        let topic = topic.ok_or_else(|| OpenError(format!("{OFFSETS_TOPIC} is missing")))?;
        Ok(Self { partitions: topic.partitions.clone() })
    }

    fn records(&self, log: &Log) -> Result<Vec<(Bytes, Bytes)>, OpenError> {
        let mut records = Vec::new();
        for partition in &self.partitions {
            let latest = log.keyed(partition.id).map_err(|e| OpenError(e.to_string()))?;
            records.extend(latest);
        }
        Ok(records)
    }

    /// Kafka's rule: `abs(group.hashCode()) % partitions`.
    pub(crate) fn of_group(&self, group: &str) -> &Arc<Partition> {
        let hash = group
            .encode_utf16()
            .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        let positive = usize::try_from(hash & i32::MAX).unwrap_or(0);
        &self.partitions[positive % self.partitions.len()]
    }
}

#[async_trait]
impl OffsetsLog for OffsetsPartitions {
    async fn append(&self, group: &str, records: Vec<KeyedRecord>) -> Result<(), ResponseError> {
        let appended = self.of_group(group).append(keyed_batch(records), now_ms())?;
        wait_for(appended).await
    }
}
