//! The words this package and its callers share: who a partition is, what goes in, what comes
//! out, and what can go wrong.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

/// A partition, by the id of its topic: a topic made again under its old name is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionId {
    pub topic_id: Uuid,
    pub partition: i32,
}

impl std::fmt::Display for PartitionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// When a unit is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the sync that covers it: an acknowledged record survives a power cut.
    Sync,
    /// Before it: a power cut loses at most what was answered within this time.
    Interval(Duration),
}

/// What keeps the partitions' records, behind the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// Segment files in a folder a partition, as Kafka's.
    Segments,
    /// The sled database beside the view: one thing on the disk, at several times the bytes
    /// written (README, "The second store").
    Sled,
}

impl std::fmt::Display for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Store::Segments => "segments",
            Store::Sled => "sled",
        })
    }
}

#[derive(Debug, Clone)]
pub struct Options {
    pub dir: PathBuf,
    pub store: Store,
    /// Size of each of the two journal files; also the largest unit, nearly.
    pub journal_file_bytes: u64,
    /// Written groups kept in memory for readers that keep up, all partitions together, and what
    /// slow readers still hold of those that went.
    pub tail_cache_bytes_max: usize,
    /// Groups that are in the journal but not yet in segments; `commit` waits beyond it. At most
    /// three quarters of the tail's, so that both bounds together hold whatever readers do.
    pub unsettled_bytes_max: usize,
    /// Indexes of active segments; beyond it a segment is sealed before it is full.
    pub active_index_bytes_max: usize,
    /// Decoded indexes of sealed segments, kept for the next look.
    pub sealed_index_bytes_max: usize,
    /// Partitions whose segments may be written to, and so be open, before they are synced; a new
    /// folder has one more file open until then.
    pub writers_max: usize,
    pub durability: Durability,
    /// Free space that appends leave alone, so that a full disk can still be emptied.
    pub disk_reserve_bytes: u64,
    /// What a group holds of one partition goes to the segment only, if it is so much; `usize::MAX`
    /// is never. With the store of segments, under `Durability::Sync`.
    pub direct_bytes_min: usize,
    /// What the view's database may take; its cache is a share of that.
    pub sled_bytes_max: usize,
    pub compaction: CompactionOptions,
}

/// Of the one thread that compacts all partitions that want it.
#[derive(Debug, Clone, Copy)]
pub struct CompactionOptions {
    pub enabled: bool,
    /// Memory of the map of keys, while something is compacted. What does not fit waits for the
    /// next round.
    pub map_bytes_max: usize,
    /// Read and written together: background work must not make the journal's syncs wait.
    pub bytes_per_second_max: u64,
    /// Between two looks for something to do.
    pub pause: Duration,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        CompactionOptions {
            enabled: true,
            map_bytes_max: 8 << 20,
            bytes_per_second_max: 30 << 20,
            pause: Duration::from_secs(15),
        }
    }
}

impl Options {
    /// For tests and trials; the broker has its own bounds for memory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Options {
            dir: dir.into(),
            store: Store::Segments,
            journal_file_bytes: 64 << 20,
            tail_cache_bytes_max: 32 << 20,
            unsettled_bytes_max: 16 << 20,
            active_index_bytes_max: 8 << 20,
            sealed_index_bytes_max: 8 << 20,
            writers_max: 256,
            durability: Durability::Sync,
            disk_reserve_bytes: 256 << 20,
            direct_bytes_min: 64 << 10,
            sled_bytes_max: 16 << 20,
            compaction: CompactionOptions::default(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct PartitionSpec {
    pub id: PartitionId,
    /// Wanted folder name, `<topic>-<partition>`. A folder that already holds this partition wins;
    /// if the name is taken by another topic id, the id is added to it.
    pub folder: String,
    /// Keep the latest value of each key in the view, for `Log::keyed`. Such a partition may use
    /// half of the disk's reserve.
    pub keyed: bool,
    /// Its records let other ones go, as those of a deleted topic: they may use all of the reserve,
    /// and are taken while a full disk keeps segments from being written.
    pub makes_room: bool,
    /// Offsets below are gone, whatever the segments still hold; also where a new partition starts.
    pub log_start_offset: i64,
    pub settings: PartitionSettings,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartitionSettings {
    /// Clipped to 128 MiB.
    pub segment_bytes_max: u64,
    /// Age at which a segment that has records is sealed, by the broker's clock.
    pub segment_ms_max: i64,
    /// `None`: nothing but trimming takes records away.
    pub compaction: Option<CompactionSettings>,
}

impl Default for PartitionSettings {
    fn default() -> Self {
        PartitionSettings {
            segment_bytes_max: 128 << 20,
            segment_ms_max: 7 * 24 * 3_600_000,
            compaction: None,
        }
    }
}

/// When sealed segments are rewritten without the records that others supersede. Kafka's words and
/// meanings (`min.cleanable.dirty.ratio` and so on).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CompactionSettings {
    /// Due when more than this share of the bytes was never cleaned.
    pub min_dirty_ratio: f64,
    /// A tombstone, or a marker without records, stays this long after the first cleaning that
    /// met it, for readers that have seen what it ends.
    pub delete_retention_ms: i64,
    /// Segments with younger records are left alone.
    pub min_lag_ms: i64,
    /// Due whatever the share, when a record that was never cleaned is older than this.
    pub max_lag_ms: i64,
}

/// One or more whole, validated record batches for one partition. Base offsets are assigned here,
/// consecutively from `base_offset`, and the leader epoch is written, while they are copied into
/// the group buffer.
#[derive(Debug, Clone)]
pub struct Append {
    pub partition: PartitionId,
    /// Must be the partition's next offset, counting the units queued before this one.
    pub base_offset: i64,
    pub leader_epoch: i32,
    pub batches: Bytes,
}

pub type Done = Box<dyn FnOnce(Result<(), CommitError>) + Send>;

/// Appends that become durable and visible together, or not at all.
pub struct Unit {
    pub appends: Vec<Append>,
    /// Called once, on the commit thread; for each partition in the order of the queue.
    pub done: Done,
}

impl std::fmt::Debug for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unit").field("appends", &self.appends).finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Free space is under the reserve. Nothing was written; reads go on; later units of the same
    /// partitions are refused too, until one comes whose base offset is the partition's end.
    #[error("the disk is full: free space is below odradek.disk.reserve.bytes")]
    Full,
    /// A write or sync failed: this incarnation of the log is over (see `Log::failed`).
    #[error("the log failed: {0}")]
    Failed(String),
    /// This unit alone was refused; the log goes on.
    #[error("the unit was refused: {0}")]
    Refused(String),
    #[error("the log is closed")]
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ends {
    pub log_start_offset: i64,
    /// The next offset; everything below is durable (or, with `Durability::Interval`, answered).
    /// This is the high watermark.
    pub log_end_offset: i64,
    /// First offset of the oldest open transaction, else the high watermark: what is below it is
    /// decided. Both move at the same moment, so a marker's own unit ends its transaction here.
    pub last_stable_offset: i64,
    /// In segment files, plus what is on its way there.
    pub bytes: u64,
    pub segments: usize,
    /// Of all retained records, -1 if there is none.
    pub max_timestamp_ms: i64,
}

/// Bytes as stored. Each element of `batches` is a run of one or more whole batches; `each_batch`
/// walks them one by one.
#[derive(Debug, Clone, Default)]
pub struct Read {
    pub batches: Vec<Bytes>,
    pub next_offset: i64,
}

impl Read {
    pub fn byte_count(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }

    /// Single batches, in order.
    pub fn each_batch(&self) -> Vec<Bytes> {
        self.batches.iter().flat_map(crate::wire::batches).map(|(_, b)| b).collect()
    }
}

#[derive(Debug, Clone)]
pub enum Cached {
    Hit(Read),
    /// Not in memory: ask `Log::read`, which may block.
    Miss,
    /// The offset is the end of the log: nothing there yet.
    AtEnd,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset {offset} is outside {log_start_offset}..{log_end_offset}")]
    OffsetOutOfRange { offset: i64, log_start_offset: i64, log_end_offset: i64 },
    #[error("unknown partition")]
    UnknownPartition,
    #[error("reading the log failed: {0}")]
    Io(#[from] std::io::Error),
    /// Stored bytes do not parse: damage on the disk.
    #[error("damaged record batch at offset {offset} of {partition}: {reason}")]
    Damaged { partition: PartitionId, offset: i64, reason: String },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process holds the folder's lock.
    #[error("{} is in use by another process", .0.display())]
    Locked(PathBuf),
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("{what}: the disk is full. Make room on it, then start again: nothing is lost")]
    Full { what: String },
    #[error("{0}")]
    Unusable(String),
}

#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("partition {0} is attached already")]
    Twice(PartitionId),
    #[error("the log has failed: {0}")]
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeHit {
    pub offset: i64,
    pub timestamp_ms: i64,
}

/// A transaction that an abort marker ended; fields as in Kafka's transaction index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AbortedTransaction {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Of the marker.
    pub last_offset: i64,
    /// Below it everything was decided once this transaction was.
    pub last_stable_offset: i64,
}

/// What idempotence and transactions need to know of one producer in one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerEntry {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_timestamp_ms: i64,
    /// Of the last marker, -1 before the first.
    pub coordinator_epoch: i32,
    /// Of its open transaction in this partition.
    pub transaction_first_offset: Option<i64>,
    /// The last batches, oldest first, at most five (Kafka's window of requests in flight).
    pub batches: Vec<ProducerBatch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    pub base_sequence: i32,
    pub last_sequence: i32,
    pub base_offset: i64,
    pub last_offset: i64,
}

/// Acknowledged offsets that can no longer be read, `[from_offset, to_offset)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    pub partition: PartitionId,
    pub from_offset: i64,
    pub to_offset: i64,
}

/// The unfinished end of the journal that open cut off: nothing of it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    pub file: String,
    pub position: u64,
    /// Sequence number of the first group that is missing.
    pub sequence: u64,
}

/// Groups that were synced once and are now unreadable. Which offsets they held is known once the
/// partitions are attached: see `StartReport::damage`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedGroups {
    pub file: String,
    pub first_sequence: u64,
    pub last_sequence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFolder {
    pub folder: String,
    pub topic_id: Option<Uuid>,
    pub partition: Option<i32>,
}

#[derive(Debug, Clone, Default)]
pub struct OpenReport {
    /// The store was not closed cleanly: the leader epoch must be bumped under
    /// `Durability::Interval`.
    pub unclean: bool,
    /// ... and the machine itself went down (or that cannot be ruled out).
    pub machine_unclean: bool,
    pub torn_tail: Option<TornTail>,
    pub damaged_groups: Vec<DamagedGroups>,
    /// Groups in the journal that attach has to settle.
    pub journal_groups: usize,
    /// Of their batches, those too that are in segments already.
    pub journal_bytes: u64,
    pub folders: Vec<FoundFolder>,
}

#[derive(Debug, Clone, Default)]
pub struct StartReport {
    /// Folders of partitions that nobody attached, now removed.
    pub orphan_folders: Vec<String>,
    pub damage: Vec<Damage>,
    /// Bytes taken over from the journal into segments.
    pub recovered_bytes: u64,
    /// The view was set aside and is being rebuilt behind the running log.
    pub view_rebuilt: bool,
}

/// Counters since open, for metrics.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    pub groups: u64,
    pub units: u64,
    pub bytes: u64,
    /// Of them, those that went to segments only.
    pub direct_bytes: u64,
    /// Seconds of write plus sync of each group: counts per bucket of `SYNC_SECONDS_BUCKETS`, the
    /// last one for everything above.
    pub sync_seconds: [u64; SYNC_SECONDS_BUCKETS.len() + 1],
    pub sync_seconds_sum: f64,
    /// Bytes of each group: counts per bucket of `GROUP_BYTES_BUCKETS`, and above.
    pub group_bytes: [u64; GROUP_BYTES_BUCKETS.len() + 1],
    pub unsettled_bytes: u64,
    /// Of groups in memory that segments hold as well.
    pub tail_cache_bytes: u64,
    /// Of the indexes of active segments, and of those of sealed ones that are kept decoded.
    pub active_index_bytes: u64,
    pub sealed_index_bytes: u64,
    /// Of the map of keys of what is being compacted.
    pub compaction_map_bytes: u64,
    /// What the view's database may hold in memory: it tells no figure itself.
    pub sled_bytes: u64,
    pub checkpoints: u64,
    pub view_rebuilds: u64,
    /// Rounds of compaction that were finished, what they read of segments, what they left, and
    /// how many records went.
    pub compactions: u64,
    pub compaction_read_bytes: u64,
    pub compaction_written_bytes: u64,
    pub compaction_removed_records: u64,
    pub disk_free_bytes: u64,
    /// Appends are refused for want of space.
    pub full: bool,
}

pub const SYNC_SECONDS_BUCKETS: [f64; 10] =
    [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0];
pub const GROUP_BYTES_BUCKETS: [u64; 8] =
    [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 2 << 20, 4 << 20];
