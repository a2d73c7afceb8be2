//! One partition's state in memory.
//!
//! Owners: `next_offset` and `refusing` belong to the commit step; `Writer` to the settle step
//! (and to attach, removal and `direct`, which take its lock); `Shared` is for all, locked for a
//! few instructions, never across a disk call. Lock order: writer before shared.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::direct::Front;
use crate::disk::DiskFile;
use crate::index::{IndexEntry, SegmentIndex, Summary};
use crate::name::{FileKind, SegmentName};
use crate::producers::Producers;
use crate::transactions::OpenTransactions;
use crate::types::{AbortedTransaction, Ends, PartitionId, PartitionSettings, PartitionSpec};

pub(crate) struct Partition {
    pub id: PartitionId,
    pub folder: String,
    pub keyed: bool,
    pub makes_room: bool,
    /// The next offset, counting what the commit step has taken but not yet made durable.
    pub next_offset: AtomicI64,
    /// A unit was refused for want of space; those behind it do not fit on any more.
    pub refusing: AtomicBool,
    pub removed: AtomicBool,
    /// The side files that a start found after an unclean stop: see `clean`.
    pub sides_unproven: AtomicBool,
    is_syncing: AtomicBool,
    shared: Mutex<Shared>,
    writer: Mutex<Writer>,
}

#[derive(Default)]
pub(crate) struct Shared {
    pub log_start_offset: i64,
    pub high_watermark: i64,
    /// As of the high watermark; moves with it.
    pub open_transactions: OpenTransactions,
    /// Aborted by markers that segments do not hold yet.
    pub unsettled_aborted: Vec<AbortedTransaction>,
    /// Offsets below are in segment files; those from here on are in `tail`.
    pub settled_end: i64,
    /// Last batches in memory, oldest first, without a gap up to the high watermark.
    pub tail: VecDeque<TailEntry>,
    /// The last group with a large part of it (`direct`); that may have left the tail.
    pub large_sequence: u64,
    /// By base offset; only the last one may be unsealed.
    pub segments: Vec<Segment>,
    /// Index of the last segment if it is unsealed.
    pub active: Option<SegmentIndex>,
    pub settled_bytes: u64,
    pub unsettled_bytes: u64,
    pub max_timestamp_ms: i64,
    pub settings: PartitionSettings,
    pub roll_requested: bool,
    /// Side file of a trimmed segment, kept for the producers in it until another is sealed.
    pub kept_side: Option<SegmentName>,
    pub synced: Synced,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub summary: Summary,
    pub sealed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct TailEntry {
    pub sequence: u64,
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp_ms: i64,
    pub bytes: Bytes,
}

/// What a sync is known to cover: all that the view may hold (invariant 7).
#[derive(Debug, Clone, Default)]
pub(crate) struct Synced {
    pub end_offset: i64,
    /// Of the active segment at that moment: summary, number of index entries and the last of
    /// them, which may have grown since.
    pub active: Option<(Summary, usize, Option<IndexEntry>)>,
    pub producers: Option<Arc<Vec<u8>>>,
}

/// The hand that writes to the active segment.
#[derive(Default)]
pub(crate) struct Writer {
    pub file: Option<Arc<dyn DiskFile>>,
    /// Written and not yet synced: whose folder this is.
    pub metadata: Option<Arc<dyn DiskFile>>,
    /// What says whose folder this is may not be durable: it is written anew before the first
    /// segment is made, not at the start, where that would be three syncs a partition.
    pub metadata_unproven: bool,
    pub created_ms: i64,
    /// Written since the last sync.
    pub dirty: bool,
    /// Names were added to the folder since its last sync.
    pub folder_dirty: bool,
    /// Where the file ends, if that is beyond what is settled: see `direct`.
    pub front: Option<Front>,
    /// Below this offset a start brings back what marked bytes lie behind: in one segment.
    pub in_one_segment_to: i64,
    pub producers: Producers,
}

impl Partition {
    pub fn new(spec: &PartitionSpec, folder: String) -> Self {
        Partition {
            id: spec.id,
            folder,
            keyed: spec.keyed,
            makes_room: spec.makes_room,
            next_offset: AtomicI64::new(0),
            refusing: AtomicBool::new(false),
            removed: AtomicBool::new(false),
            sides_unproven: AtomicBool::new(false),
            is_syncing: AtomicBool::new(false),
            shared: Mutex::new(Shared::default()),
            writer: Mutex::new(Writer::default()),
        }
    }

    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no holder of a partition's state panics")
    }

    pub fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("no holder of a partition's writer panics")
    }

    /// For whoever does not wait for a sync, but for a write.
    pub fn writer_unless_syncing(&self) -> Option<MutexGuard<'_, Writer>> {
        (!self.is_syncing.load(Ordering::Acquire)).then(|| self.writer())
    }

    /// A sync under the writer's lock, for as long as this is held.
    pub fn syncing(&self) -> Syncing<'_> {
        self.is_syncing.store(true, Ordering::Release);
        Syncing(self)
    }

    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Acquire)
    }

    pub fn ends(&self) -> Ends {
        self.shared().ends()
    }

    pub fn segment_path(&self, name: SegmentName) -> String {
        name.path(&self.folder, FileKind::Log)
    }

    pub fn side_path(&self, name: SegmentName) -> String {
        name.path(&self.folder, FileKind::Side)
    }
}

impl Shared {
    pub fn ends(&self) -> Ends {
        Ends {
            log_start_offset: self.log_start_offset,
            log_end_offset: self.high_watermark,
            last_stable_offset: self.last_stable_offset(),
            bytes: self.settled_bytes + self.unsettled_bytes,
            segments: self.segments.len(),
            max_timestamp_ms: self.max_timestamp_ms,
        }
    }

    /// A transaction may have begun below what retention has left, as in Kafka.
    pub fn last_stable_offset(&self) -> i64 {
        let undecided = self.open_transactions.first_offset();
        undecided.map_or(self.high_watermark, |offset| offset.max(self.log_start_offset))
    }

    /// The segment that holds the offset, or the first one behind it.
    pub fn segment_for(&self, offset: i64) -> Option<usize> {
        let after = self.segments.partition_point(|s| s.summary.end_offset <= offset);
        (after < self.segments.len()).then_some(after)
    }

    /// First tail entry that holds the offset or something behind it; `None` if the offset lies
    /// before the tail.
    pub fn tail_for(&self, offset: i64) -> Option<usize> {
        let first = self.tail.front()?;
        if offset < first.base_offset {
            return None;
        }
        Some(self.tail.partition_point(|entry| entry.last_offset < offset))
    }

    pub fn recount(&mut self) {
        self.settled_bytes = self.segments.iter().map(|s| s.summary.bytes).sum();
        let settled = self.segments.iter().filter(|s| !s.summary.is_empty());
        let settled = settled.map(|s| s.summary.max_timestamp_ms).max();
        let settled_end = self.settled_end;
        let unsettled = self.tail.iter().filter(|entry| entry.last_offset >= settled_end);
        let unsettled = unsettled.map(|entry| entry.max_timestamp_ms).max();
        self.max_timestamp_ms = settled.max(unsettled).unwrap_or(-1);
    }

    /// False once a segment was trimmed, or rewritten under another name.
    pub fn holds(&self, name: SegmentName) -> bool {
        self.segments.iter().any(|segment| segment.summary.name() == name)
    }

    /// Of what segments hold as well.
    pub fn evict_below(&mut self, offset: i64) {
        let offset = offset.min(self.settled_end);
        while self.tail.front().is_some_and(|entry| entry.last_offset < offset) {
            self.tail.pop_front();
        }
    }

    pub fn evict(&mut self, sequence: u64) {
        while self.tail.front().is_some_and(|entry| entry.sequence <= sequence) {
            self.tail.pop_front();
        }
    }
}

pub(crate) struct Syncing<'a>(&'a Partition);

impl Drop for Syncing<'_> {
    fn drop(&mut self) {
        self.0.is_syncing.store(false, Ordering::Release);
    }
}

impl Writer {
    /// That may not be durable yet.
    pub fn has_new_names(&self) -> bool {
        self.metadata.is_some() || self.folder_dirty
    }

    /// What is in the file behind what is settled.
    pub fn front_beyond(&self, settled_end: i64) -> Option<Front> {
        self.front.filter(|front| front.end_offset > settled_end)
    }

    /// What was carried to it and is not settled yet is the next checkpoint's.
    pub fn close_unless_dirty(&mut self) {
        if !self.dirty {
            self.file = None;
        }
    }
}
