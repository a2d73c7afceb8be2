//! What the threads share. Each step (commit, settle, checkpoint, feed, clean, compact) is a
//! function here that does a bounded piece of work and returns, so that a test can drive all of
//! them from one thread in any order.
//!
//! Lock order: compactor → another step's own state (committer, settler, feeder) → the flights'
//! ring → partitions → writer of a partition → shared of a partition → queues, handles, flights,
//! progress.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use crate::clean::Doomed;
use crate::commit::Committer;
use crate::compact::Compactor;
use crate::disk::Disk;
use crate::feed::Feeder;
use crate::flight::Flights;
use crate::folders::Folders;
use crate::group::{Group, GroupMemory};
use crate::index::IndexEntry;
use crate::partition::Partition;
use crate::read::SegmentCache;
use crate::recover::Recovery;
use crate::segment::Segments;
use crate::settle::Settler;
use crate::types::{
    AbortedTransaction, CompactionOptions, Durability, Options, PartitionId, Stats, Unit,
};
use crate::view::View;

pub(crate) fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Worked,
    Idle,
    /// There is work, but another step has to go on first.
    Waiting,
}

pub(crate) struct Core {
    pub options: Options,
    pub disk: Arc<dyn Disk>,
    pub lock: Mutex<Option<Box<dyn Send + Sync>>>,
    pub partitions: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    pub segments: Segments,
    pub index_cache: SegmentCache<IndexEntry>,
    pub aborted_cache: SegmentCache<AbortedTransaction>,
    pub group_memory: Arc<GroupMemory>,
    pub queue: Mutex<Queue>,
    pub queue_signal: Condvar,
    pub committer: Mutex<Committer>,
    pub flights: Flights,
    pub settler: Mutex<Settler>,
    pub feeder: Mutex<Feeder>,
    pub compactor: Mutex<Compactor>,
    /// As it is now: it may be changed while the log is open.
    pub compaction: Mutex<CompactionOptions>,
    /// With `Durability::Interval`, in milliseconds: as it is now.
    pub flush_interval_ms: AtomicU64,
    pub view_slot: Arc<Mutex<Option<Arc<dyn View>>>>,
    pub folders: Mutex<Folders>,
    /// Durable groups, oldest first, that segments do not hold yet.
    pub unsettled: Mutex<VecDeque<Arc<Group>>>,
    pub progress: Progress,
    /// Partitions whose synced state the view does not have yet.
    pub feed_due: Mutex<BTreeSet<PartitionId>>,
    pub doomed: Mutex<Vec<Doomed>>,
    pub recovery: Mutex<Option<Recovery>>,
    pub stats: Mutex<Stats>,
    failure: Mutex<Option<String>>,
    has_failed: AtomicBool,
    pub stopping: AtomicBool,
}

#[derive(Default)]
pub(crate) struct Queue {
    pub units: VecDeque<Unit>,
    pub open: bool,
    /// The commit thread sleeps and wants to be woken.
    pub asleep: bool,
}

/// How far the log has come, as group sequences: checkpointed ≤ settled ≤ synced ≤ written.
#[derive(Default)]
pub(crate) struct Progress {
    pub written: AtomicU64,
    pub synced: AtomicU64,
    pub settled: AtomicU64,
    pub checkpointed: AtomicU64,
    pub unsettled_bytes: AtomicU64,
    /// The commit step waits for a journal file to become free.
    pub checkpoint_wanted: AtomicBool,
    /// Some partition's `roll_requested` is set.
    pub rolls_wanted: AtomicBool,
    /// The settle step found no room on the disk: appends are refused until it does.
    pub settle_stuck: AtomicBool,
    /// `flushes` says when: several syncs had better be under way and share a flush of the disk.
    pub flush_is_slow: AtomicBool,
    moved: Mutex<u64>,
    signal: Condvar,
}

impl Progress {
    pub fn at(value: &AtomicU64) -> u64 {
        value.load(Ordering::Acquire)
    }

    pub fn notify(&self) {
        *self.moved.lock().expect("no holder of the counter panics") += 1;
        self.signal.notify_all();
    }

    pub fn seen(&self) -> u64 {
        *self.moved.lock().expect("no holder of the counter panics")
    }

    /// Until something has moved since `seen`, or the time is over.
    pub fn wait(&self, seen: u64, time: Duration) {
        let moved = self.moved.lock().expect("no holder of the counter panics");
        let waited = self.signal.wait_timeout_while(moved, time, |moved| *moved == seen);
        drop(waited.expect("no holder of the counter panics"));
    }

    /// Invariant 3, asserted wherever one of them moves.
    pub fn check(&self) {
        let [checkpointed, settled, synced, written] =
            [&self.checkpointed, &self.settled, &self.synced, &self.written].map(Self::at);
        assert!(
            checkpointed <= settled && settled <= synced && synced <= written,
            "invariant 3: {checkpointed} <= {settled} <= {synced} <= {written}"
        );
    }
}

impl Core {
    pub fn new(
        options: Options,
        disk: Arc<dyn Disk>,
        lock: Box<dyn Send + Sync>,
        committer: Committer,
        feeder: Feeder,
        folders: Folders,
        recovery: Recovery,
    ) -> Core {
        let view_slot = feeder.view_slot();
        Core {
            compaction: Mutex::new(options.compaction),
            flush_interval_ms: AtomicU64::new(match options.durability {
                Durability::Interval(interval) => whole_ms(interval),
                Durability::Sync => 0,
            }),
            segments: Segments::new(disk.clone()),
            disk,
            lock: Mutex::new(Some(lock)),
            partitions: RwLock::default(),
            index_cache: SegmentCache::new(options.sealed_index_bytes_max / 2),
            aborted_cache: SegmentCache::new(options.sealed_index_bytes_max / 2),
            group_memory: Arc::default(),
            options,
            queue: Mutex::default(),
            queue_signal: Condvar::new(),
            committer: Mutex::new(committer),
            flights: Flights::default(),
            settler: Mutex::default(),
            feeder: Mutex::new(feeder),
            compactor: Mutex::default(),
            view_slot,
            folders: Mutex::new(folders),
            unsettled: Mutex::default(),
            progress: Progress::default(),
            feed_due: Mutex::default(),
            doomed: Mutex::default(),
            recovery: Mutex::new(Some(recovery)),
            stats: Mutex::default(),
            failure: Mutex::default(),
            has_failed: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    /// How long what was answered may wait for its sync; `None`: it is synced before.
    pub fn flush_interval(&self) -> Option<Duration> {
        match self.options.durability {
            Durability::Sync => None,
            Durability::Interval(_) => {
                Some(Duration::from_millis(self.flush_interval_ms.load(Ordering::Relaxed)))
            }
        }
    }

    pub fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.partitions.read().expect("no holder of the partitions panics").get(&id).cloned()
    }

    pub fn all_partitions(&self) -> Vec<Arc<Partition>> {
        let partitions = self.partitions.read().expect("no holder of the partitions panics");
        let mut all: Vec<_> = partitions.values().cloned().collect();
        all.sort_by_key(|partition| partition.id);
        all
    }

    pub fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no holder of the queue panics")
    }

    pub fn stats(&self) -> MutexGuard<'_, Stats> {
        self.stats.lock().expect("no holder of the statistics panics")
    }

    /// Ends the incarnation (invariant 5); the first reason stays.
    pub fn fail(&self, what: &str, error: &dyn std::fmt::Display) {
        let reason = format!("{what}: {error}");
        tracing::error!(reason, "the log failed");
        self.failure.lock().expect("no holder of the reason panics").get_or_insert(reason);
        self.has_failed.store(true, Ordering::Release);
        self.queue_signal.notify_all();
        self.progress.notify();
    }

    pub fn failed(&self) -> Option<String> {
        if !self.has_failed.load(Ordering::Acquire) {
            return None;
        }
        self.failure.lock().expect("no holder of the reason panics").clone()
    }

    pub fn due(&self, id: PartitionId) {
        self.feed_due.lock().expect("no holder of the feed set panics").insert(id);
    }
}
