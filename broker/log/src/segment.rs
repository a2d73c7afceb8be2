//! Segment files: appending to a partition's active one, sealing it, and the open handles that
//! readers share.
//!
//! A segment is Kafka's own: record batches back to back, named by the first offset. Nothing in
//! it is rewritten; a retry after a full disk writes the same bytes at the same place, or
//! (`direct`) what was written of them is cut off.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::disk::{Disk, DiskFile};
use crate::folders;
use crate::index::{IndexEntry, SegmentIndex, Summary};
use crate::name::SegmentName;
use crate::partition::{Partition, Segment, Shared, Writer};
use crate::producers::Producers;
use crate::side::{self, Side};
use crate::transactions::ABORTED_PER_SEGMENT_MAX;
use crate::types::{AbortedTransaction, PartitionId};
use crate::wire::{self, Header};

pub(crate) const SEGMENT_BYTES_MAX: u64 = 128 << 20;
/// Read handles kept open, all partitions together.
const HANDLES_MAX: usize = 64;
/// Small appends are put together up to this size, for one write call.
const SCRATCH_BYTES: usize = 256 << 10;

pub(crate) struct Segments {
    pub disk: Arc<dyn Disk>,
    handles: Mutex<VecDeque<Handle>>,
    /// A folder was made in the log's own folder since that was synced.
    pub root_dirty: AtomicBool,
    /// Memory of the indexes of all active segments.
    index_bytes: AtomicUsize,
}

struct Handle {
    partition: PartitionId,
    name: SegmentName,
    file: Arc<dyn DiskFile>,
}

/// Batches on their way into one segment.
#[derive(Default)]
struct Pending {
    pieces: Vec<Bytes>,
    batches: Vec<(Header, i64, i64)>,
    /// So many of the first are in the file.
    written_count: usize,
    written_bytes: u64,
}

impl Segments {
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Segments {
            disk,
            handles: Mutex::default(),
            root_dirty: AtomicBool::new(false),
            index_bytes: AtomicUsize::new(0),
        }
    }

    pub fn index_bytes(&self) -> usize {
        self.index_bytes.load(Ordering::Acquire)
    }

    /// The one way to a partition's active segment for whoever changes it: what its index takes is
    /// counted.
    pub fn change_active<T>(
        &self,
        shared: &mut Shared,
        change: impl FnOnce(&mut Option<SegmentIndex>) -> T,
    ) -> T {
        let bytes_of =
            |active: &Option<SegmentIndex>| active.as_ref().map_or(0, SegmentIndex::memory_bytes);
        let before = bytes_of(&shared.active);
        let result = change(&mut shared.active);
        let more = bytes_of(&shared.active).wrapping_sub(before);
        // Wraps around where it became less, as atomic addition does.
        self.index_bytes.fetch_add(more, Ordering::AcqRel);
        result
    }

    /// Appends runs of batches in offset order. What is settled already is passed over, so that a
    /// call that failed half-way for want of space can be made again. What is in the file already
    /// (`direct`) is not written again, and its segment goes on behind it.
    pub fn append(&self, partition: &Partition, runs: &[Bytes], now_ms: i64) -> io::Result<()> {
        // Before the lock, for which the direct path does not wait.
        let settled_end = partition.shared().settled_end;
        let batches = runs.iter().flat_map(wire::batches);
        let batches = batches.filter(|(header, _)| header.last_offset() >= settled_end);
        let batches: Vec<_> = batches.map(with_timestamps).collect();
        let mut writer = partition.writer();
        if partition.is_removed() {
            return Ok(());
        }
        let (settled_end, settings) = {
            let shared = partition.shared();
            (shared.settled_end, shared.settings)
        };
        let bytes_max = settings.segment_bytes_max.clamp(1, SEGMENT_BYTES_MAX);
        let front_end = writer.front_beyond(settled_end).map_or(settled_end, |f| f.end_offset);
        let in_one_segment_to = front_end.max(writer.in_one_segment_to);
        let mut ahead = self.active_summary(partition);
        let mut pending = Pending::default();
        for (batch, times) in batches {
            let (header, ..) = times;
            let is_written = header.last_offset() < front_end;
            let age_ms = now_ms.saturating_sub(writer.created_ms);
            let full = ahead.bytes + header.batch_bytes as u64 > bytes_max
                || header.last_offset() - ahead.base_offset > i64::from(i32::MAX)
                || ahead.aborted_count >= ABORTED_PER_SEGMENT_MAX;
            let old = age_ms >= settings.segment_ms_max;
            let may_roll = header.last_offset() >= in_one_segment_to;
            if !ahead.is_empty() && may_roll && (full || old) {
                self.flush(partition, &mut writer, &mut pending, now_ms)?;
                self.seal(partition, &mut writer)?;
                ahead = Summary::empty(header.base_offset);
            }
            if ahead.is_empty() {
                ahead = Summary::empty(header.base_offset);
            }
            ahead.bytes += header.batch_bytes as u64;
            // Not every one is an abort, but which is is not known before they are written.
            ahead.aborted_count += u32::from(header.is_control());
            pending.push(times, batch, is_written);
        }
        self.flush(partition, &mut writer, &mut pending, now_ms)
    }

    fn active_summary(&self, partition: &Partition) -> Summary {
        let shared = partition.shared();
        let end = shared.settled_end;
        shared.active.as_ref().map_or(Summary::empty(end), |active| active.summary)
    }

    fn flush(
        &self,
        partition: &Partition,
        writer: &mut Writer,
        pending: &mut Pending,
        now_ms: i64,
    ) -> io::Result<()> {
        let Some((first, _, _)) = pending.batches.first() else { return Ok(()) };
        let mut summary = self.active_summary(partition);
        if summary.is_empty() {
            summary = Summary::empty(first.base_offset);
        }
        if pending.written_count < pending.pieces.len() {
            let file = self.file_to_write(partition, writer, &summary, now_ms)?;
            writer.dirty = true;
            let position = summary.bytes + pending.written_bytes;
            write_pieces(&file, position, &pending.pieces[pending.written_count..])?;
        }
        let mut aborted = Vec::new();
        for ((header, _, _), batch) in pending.batches.iter().zip(&pending.pieces) {
            aborted.extend(writer.producers.apply(header, batch));
        }
        self.publish(partition, summary.base_offset, &pending.batches, aborted);
        *pending = Pending::default();
        Ok(())
    }

    fn file_to_write(
        &self,
        partition: &Partition,
        writer: &mut Writer,
        summary: &Summary,
        now_ms: i64,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let path = partition.segment_path(summary.name());
        match &writer.file {
            Some(file) => Ok(file.clone()),
            None => {
                if std::mem::take(&mut writer.metadata_unproven) {
                    let topic_id = partition.id.topic_id;
                    let folder = &partition.folder;
                    let metadata = folders::write_metadata(&*self.disk, folder, topic_id);
                    let metadata = metadata.inspect_err(|_| writer.metadata_unproven = true)?;
                    writer.metadata = Some(metadata);
                    writer.folder_dirty = true;
                }
                if writer.metadata.is_some() {
                    // Before there is a segment: see where folders are removed.
                    self.sync_names(partition, writer)?;
                }
                let file = self.disk.create(&path)?;
                if summary.is_empty() {
                    // A former, cut-off attempt may have left the name behind.
                    file.set_len(0)?;
                    writer.folder_dirty = true;
                    writer.created_ms = now_ms;
                }
                writer.file = Some(file.clone());
                Ok(file)
            }
        }
    }

    /// Makes settled batches visible to readers of segments.
    fn publish(
        &self,
        partition: &Partition,
        base_offset: i64,
        batches: &[(Header, i64, i64)],
        aborted: Vec<AbortedTransaction>,
    ) {
        let mut shared = partition.shared();
        if shared.active.is_none() {
            shared.segments.push(Segment { summary: Summary::empty(base_offset), sealed: false });
        }
        let summary = self.change_active(&mut shared, |active| {
            let active = active.get_or_insert_with(|| SegmentIndex::empty(base_offset));
            for (header, low, high) in batches {
                active.push(header, *low, *high);
            }
            aborted.into_iter().for_each(|aborted| active.abort(aborted));
            active.summary
        });
        if let Some(last) = shared.segments.last_mut() {
            last.summary = summary;
        }
        let bytes: u64 = batches.iter().map(|(header, _, _)| header.batch_bytes as u64).sum();
        shared.settled_end = summary.end_offset;
        shared.unsettled_aborted.retain(|aborted| aborted.last_offset >= summary.end_offset);
        shared.settled_bytes += bytes;
        shared.unsettled_bytes = shared.unsettled_bytes.saturating_sub(bytes);
        shared.max_timestamp_ms = shared.max_timestamp_ms.max(summary.max_timestamp_ms);
    }

    /// Syncs the active segment and writes its side file; the next append begins another one.
    pub fn seal(&self, partition: &Partition, writer: &mut Writer) -> io::Result<()> {
        let (active, settled_end) = {
            let shared = partition.shared();
            let Some(active) = shared.active.clone() else { return Ok(()) };
            (active, shared.settled_end)
        };
        assert!(
            writer.front_beyond(settled_end).is_none(),
            "invariant 2: a sealed segment holds what is settled"
        );
        let path = partition.segment_path(active.summary.name());
        let file = match &writer.file {
            Some(file) => file.clone(),
            None => self.disk.create(&path)?,
        };
        // Kept where there is no room to cut it: the next sync has to hear of what was written.
        writer.file = Some(file.clone());
        let _syncing = partition.syncing();
        // A write that failed half-way may have left bytes behind the last batch.
        if file.byte_count()? > active.summary.bytes {
            file.set_len(active.summary.bytes)?;
        }
        file.sync()?;
        self.sync_names(partition, writer)?;
        self.write_side(partition, &active, &writer.producers)?;
        writer.file = None;
        writer.dirty = false;
        let mut shared = partition.shared();
        self.change_active(&mut shared, |active| *active = None);
        if let Some(last) = shared.segments.last_mut() {
            last.sealed = true;
        }
        Ok(())
    }

    pub fn write_side(
        &self,
        partition: &Partition,
        index: &SegmentIndex,
        producers: &Producers,
    ) -> io::Result<()> {
        let bytes = side::encode(index, producers);
        let side = self.disk.create(&partition.side_path(index.summary.name()))?;
        side.set_len(0)?;
        side.write_all_at(&bytes, 0)?;
        side.sync()?;
        self.disk.sync_folder(&partition.folder)
    }

    /// The names of the folders.
    pub fn sync_root(&self) -> io::Result<()> {
        if self.root_dirty.swap(false, Ordering::AcqRel) {
            self.disk.sync_folder("").inspect_err(|_| {
                self.root_dirty.store(true, Ordering::Release);
            })?;
        }
        Ok(())
    }

    pub fn sync_names(&self, partition: &Partition, writer: &mut Writer) -> io::Result<()> {
        self.sync_root()?;
        if let Some(metadata) = &writer.metadata {
            metadata.sync()?;
            writer.metadata = None;
        }
        if writer.folder_dirty {
            self.disk.sync_folder(&partition.folder)?;
            writer.folder_dirty = false;
        }
        Ok(())
    }

    /// A handle for reading, shared with whoever reads the same segment.
    pub fn reader(
        &self,
        partition: &Partition,
        name: SegmentName,
    ) -> io::Result<Arc<dyn DiskFile>> {
        let same = |handle: &Handle| handle.partition == partition.id && handle.name == name;
        let mut handles = self.handles.lock().expect("no holder of the handles panics");
        if let Some(at) = handles.iter().position(same)
            && let Some(handle) = handles.remove(at)
        {
            let file = handle.file.clone();
            handles.push_back(handle);
            return Ok(file);
        }
        let file = self.disk.open(&partition.segment_path(name))?;
        if handles.len() >= HANDLES_MAX {
            handles.pop_front();
        }
        handles.push_back(Handle { partition: partition.id, name, file: file.clone() });
        Ok(file)
    }

    /// Forgets the handle of a segment (or of all) before its file goes. False while a reader
    /// still has it: the file must not be deleted yet.
    pub fn close_readers(&self, partition: PartitionId, name: Option<SegmentName>) -> bool {
        let mut handles = self.handles.lock().expect("no holder of the handles panics");
        let concerns = |handle: &Handle| {
            handle.partition == partition && name.is_none_or(|name| handle.name == name)
        };
        if handles.iter().any(|h| concerns(h) && Arc::strong_count(&h.file) > 1) {
            return false;
        }
        handles.retain(|handle| !concerns(handle));
        true
    }

    pub fn close_all_readers(&self) {
        self.handles.lock().expect("no holder of the handles panics").clear();
    }

    /// As it is, which makes it durable whatever became of a sync before.
    pub fn rewrite_side(&self, partition: &Partition, name: SegmentName) -> io::Result<()> {
        let file = self.disk.create(&partition.side_path(name))?;
        let bytes = file.byte_count()?.min(side::BYTES_MAX);
        let mut buffer = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        file.read_exact_at(&mut buffer, 0)?;
        file.write_all_at(&buffer, 0)?;
        file.sync()
    }

    /// The side file, if it is there and whole and speaks of this segment. A disk that does not
    /// answer is an error: what is thought to have no side file is made anew or thrown away, and of
    /// a rewritten segment nothing else tells its producers.
    pub fn read_side(&self, partition: &Partition, name: SegmentName) -> io::Result<Option<Side>> {
        let file = match self.disk.open(&partition.side_path(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let bytes = file.byte_count()?;
        let Some(bytes) = usize::try_from(bytes).ok().filter(|_| bytes <= side::BYTES_MAX) else {
            return Ok(None);
        };
        let mut buffer = vec![0; bytes];
        file.read_exact_at(&mut buffer, 0)?;
        Ok(side::decode(&buffer).filter(|side| side.summary.name() == name))
    }
}

impl Pending {
    fn push(&mut self, times: (Header, i64, i64), batch: Bytes, is_written: bool) {
        if is_written {
            self.written_count += 1;
            self.written_bytes += batch.len() as u64;
        }
        self.batches.push(times);
        self.pieces.push(batch);
    }
}

fn with_timestamps((header, batch): (Header, Bytes)) -> (Bytes, (Header, i64, i64)) {
    let (low, high) = wire::timestamps(&header, &batch);
    (batch, (header, low, high))
}

/// One write call for neighbours that lie together in memory or are small.
pub(crate) fn write_pieces(
    file: &Arc<dyn DiskFile>,
    position: u64,
    pieces: &[impl AsRef<[u8]>],
) -> io::Result<()> {
    let mut position = position;
    let mut scratch: Vec<u8> = Vec::new();
    for piece in pieces.iter().map(AsRef::as_ref) {
        if scratch.len() + piece.len() > SCRATCH_BYTES && !scratch.is_empty() {
            file.write_all_at(&scratch, position)?;
            position += scratch.len() as u64;
            scratch.clear();
        }
        if piece.len() >= SCRATCH_BYTES / 4 && scratch.is_empty() {
            file.write_all_at(piece, position)?;
            position += piece.len() as u64;
        } else {
            scratch.extend_from_slice(piece);
        }
    }
    if scratch.is_empty() { Ok(()) } else { file.write_all_at(&scratch, position) }
}

/// Index entries up to what a sync covered.
pub(crate) fn synced_entries(
    active: &SegmentIndex,
    count: usize,
    last: Option<IndexEntry>,
) -> Vec<IndexEntry> {
    let mut entries: Vec<_> = active.entries.iter().take(count).copied().collect();
    if let (Some(slot), Some(last)) = (entries.last_mut(), last) {
        *slot = last;
    }
    entries
}
