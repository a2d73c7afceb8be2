//! The seam: how ingest, analytics and the HTTP API reach topics.
//!
//! Two traits. [`Client`] is the data: produce, fetch, times, groups' offsets, atomic units.
//! [`Admin`] is the cluster: topics, groups, users, access rules. Their local form calls the
//! broker's functions directly: no socket, the same authorisation, the same validation. A remote
//! form, which speaks to an Apache Kafka cluster, can stand behind the same traits; nothing above
//! may need to know which it has.
//!
//! What the seam promises:
//! 1. A call that returned `Ok` is durable: it survives a power cut.
//! 2. A [`Unit`] is one group of the journal: all of it is there after a crash, or none of it, and
//!    no reader sees a part.
//! 3. A reader sees only durable records, and of transactions only committed ones: it ends at the
//!    last stable offset, which is what `end_offset` and `high_watermark` say here.
//! 4. Access rules hold as on the Kafka port: lists leave out what may not be seen, everything else
//!    that is denied is [`ClientError::NotAuthorised`].

mod admin;
mod local;
mod principal;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::acl::{Operation, Rule, RuleFilter};

pub(crate) use local::Local;
pub use odradek_protocol::batch::Record as StoredRecord;
pub use principal::Principal;

/// A record to be produced. `timestamp_ms` is event time, epoch milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In order; a key may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Where a record went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub partition: i32,
    pub offset: i64,
}

/// Records for one topic. `partition: None` places each by its key as Kafka's default partitioner
/// does (murmur2 of the key; keyless records go to one partition a call).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecords {
    pub topic: String,
    pub partition: Option<i32>,
    pub records: Vec<Record>,
}

/// A committed offset of a group: the next offset to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupOffset {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// What becomes durable and visible together, or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    pub records: Vec<TopicRecords>,
    pub offsets: Vec<GroupOffset>,
    /// Named values of at most 512 KiB, kept in `__odradek_state`; `None` deletes.
    pub checkpoints: Vec<(String, Option<Bytes>)>,
}

/// Where each record of a [`Unit`] went: one entry per [`TopicRecords`], in its order.
pub type UnitPlaced = Vec<Vec<Placed>>;

/// Records of one partition, in offset order.
#[derive(Debug, Clone, Default)]
pub struct Fetched {
    pub records: Vec<StoredRecord>,
    /// Where to go on reading (it may lie beyond the last record: control records and compaction
    /// leave holes).
    pub next_offset: i64,
    pub high_watermark: i64,
    pub log_start_offset: i64,
}

/// One step of a scan by time.
#[derive(Debug, Clone, Default)]
pub struct Scanned {
    /// Records with a timestamp in the range, in offset order.
    pub records: Vec<StoredRecord>,
    /// Where the next step begins; `None` when nothing more in the range exists below the high
    /// watermark that was seen.
    pub next_offset: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    Earliest,
    /// The end for readers: without an open transaction, the offset that the next record gets.
    Latest,
    /// The first record at or after this time, epoch milliseconds.
    Time(i64),
    MaxTimestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    pub partition: i32,
    pub start_offset: i64,
    /// The end for readers: the last stable offset.
    pub end_offset: i64,
    /// The offset that the next record gets; above `end_offset` while a transaction is open.
    pub log_end_offset: i64,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    pub name: String,
    pub topic_id: uuid::Uuid,
    pub internal: bool,
    pub partitions: Vec<PartitionInfo>,
}

/// Why a call of the seam failed. `Display` is a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    #[error("there is no topic {0:?} (or no such partition of it)")]
    UnknownTopicOrPartition(String),
    #[error("{0}")]
    Refused(String),
    #[error("{principal} may not {operation} {resource}")]
    NotAuthorised { principal: String, operation: &'static str, resource: String },
    #[error("offset {offset} is outside [{start}, {end}]")]
    OffsetOutOfRange { offset: i64, start: i64, end: i64 },
    /// The store cannot take it now (disk full, log reopening); trying again later may succeed.
    #[error("the log cannot take records now: {0}")]
    Unavailable(String),
}

pub type Result<T, E = ClientError> = std::result::Result<T, E>;

#[async_trait]
pub trait Client: Send + Sync + 'static {
    /// Topics this principal may see, by name.
    async fn topics(&self) -> Result<Vec<TopicInfo>>;

    /// One topic; `None` if there is none of that name.
    async fn topic(&self, topic: &str) -> Result<Option<TopicInfo>>;

    /// Creates the topic with this many partitions and these configurations if it is missing.
    async fn ensure_topic(
        &self,
        topic: &str,
        partitions: i32,
        configs: &[(String, String)],
    ) -> Result<()>;

    /// Durable when it returns. Creates the topic where `auto.create.topics.enable` allows it.
    async fn produce(&self, records: TopicRecords) -> Result<Vec<Placed>>;

    /// All of it at once, or none; durable when it returns.
    async fn commit(&self, unit: Unit) -> Result<UnitPlaced>;

    /// Reads from `offset` on, at most about `bytes_max` (at least one batch). If nothing is there
    /// yet, waits up to `wait`, then returns empty.
    async fn fetch(
        &self,
        topic: &str,
        partition: i32,
        offset: i64,
        bytes_max: usize,
        wait: Duration,
    ) -> Result<Fetched>;

    /// The offset at a place in time; `None` if no record is there (see [`OffsetAt`]).
    async fn offset(&self, topic: &str, partition: i32, at: OffsetAt) -> Result<Option<i64>>;

    /// Every retained record with a timestamp in `[from_ms, to_ms)`, complete even when timestamps
    /// run out of order; one step of at most about `bytes_max`, from `offset` on.
    async fn scan(
        &self,
        topic: &str,
        partition: i32,
        from_ms: i64,
        to_ms: i64,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Scanned>;

    /// Committed offsets of a group, by topic and partition.
    async fn committed(&self, group: &str) -> Result<Vec<GroupOffset>>;

    /// The checkpoint's value, if it was ever committed.
    async fn checkpoint(&self, name: &str) -> Result<Option<Bytes>>;

    /// Resolves when the topic may have new records, at the latest after `wait`.
    async fn watch(&self, topic: &str, wait: Duration);
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    pub name: String,
    /// `None`: `num.partitions`.
    pub partitions: Option<i32>,
    #[serde(default)]
    pub configs: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPartition {
    pub topic: String,
    pub partition: i32,
    pub committed: i64,
    pub end: i64,
    pub lag: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    pub group: String,
    pub state: String,
    pub members: usize,
    pub lag: i64,
    pub partitions: Vec<GroupPartition>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    pub name: String,
    pub mechanisms: Vec<String>,
}

#[async_trait]
pub trait Admin: Send + Sync + 'static {
    async fn create_topic(&self, topic: NewTopic) -> Result<TopicInfo>;
    async fn delete_topic(&self, name: &str) -> Result<()>;
    async fn groups(&self) -> Result<Vec<GroupInfo>>;
    async fn delete_group(&self, group: &str) -> Result<()>;
    async fn users(&self) -> Result<Vec<UserInfo>>;
    /// Adds the user, or changes the password of an existing one.
    async fn set_user(&self, name: &str, password: &str) -> Result<()>;
    async fn delete_user(&self, name: &str) -> Result<()>;
    /// The access rules that the filter means, those of one pattern together.
    async fn rules(&self, filter: &RuleFilter) -> Result<Vec<Rule>>;
    /// All of them or none; one that is there already is a success.
    async fn add_rules(&self, rules: Vec<Rule>) -> Result<()>;
    /// Removes the rules that the filter means, and returns them.
    async fn delete_rules(&self, filter: &RuleFilter) -> Result<Vec<Rule>>;
    /// Refuses what access rules deny on the cluster, for what stands beside the broker and has no
    /// rules of its own: sources, processors, the state of the process.
    async fn may_on_cluster(&self, operation: Operation) -> Result<()>;
}
