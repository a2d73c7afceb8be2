//! The segment that a group of segments becomes: written beside them, and swapped in.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Job, Stop, write_stop};
use crate::core::Core;
use crate::disk::DiskFile;
use crate::index::{SegmentIndex, Summary};
use crate::name::SegmentName;
use crate::partition::{Partition, Segment};
use crate::segment::write_pieces;
use crate::types::AbortedTransaction;
use crate::wire;

/// Synced after so many bytes: what one sync has to write stays small, and the journal's own syncs
/// do not wait behind it.
const SYNC_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 4 << 20 };
/// Room that a rewriting must find beyond the bytes of its sources: names, side file, and the
/// timestamps that a delete horizon makes longer.
const SLACK_BYTES: u64 = 1 << 20;

pub(super) struct Output {
    file: Arc<dyn DiskFile>,
    index: SegmentIndex,
    /// Taken into the index, and not yet written.
    pieces: Vec<Bytes>,
    written_bytes: u64,
    synced_bytes: u64,
}

impl Output {
    pub fn name(&self) -> SegmentName {
        self.index.summary.name()
    }

    /// Takes in the next batch; its number of records.
    pub fn push(&mut self, batch: Bytes) -> i32 {
        let Some(header) = wire::header(&batch) else { return 0 };
        let (low, high) = wire::timestamps(&header, &batch);
        self.index.push(&header, low, high);
        self.pieces.push(batch);
        header.record_count
    }

    pub fn abort(&mut self, aborted: AbortedTransaction) {
        self.index.abort(aborted);
    }

    /// Writes what was taken in; the bytes of it.
    pub fn write(&mut self) -> io::Result<u64> {
        let bytes: u64 = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        write_pieces(&self.file, self.written_bytes, &self.pieces)?;
        self.pieces.clear();
        self.written_bytes += bytes;
        if self.written_bytes - self.synced_bytes >= SYNC_BYTES {
            self.file.sync()?;
            self.synced_bytes = self.written_bytes;
        }
        Ok(bytes)
    }
}

impl Core {
    /// A new file for the group, under a name that none of its sources has.
    pub(super) fn begin_group(&self, job: &mut Job, group: Range<usize>) -> Result<(), Stop> {
        let sources = &job.plan.segments[group];
        let Some(first) = sources.first() else { return Err(Stop::Gone) };
        let bytes: u64 = sources.iter().map(|source| source.bytes).sum();
        // Compaction may use the reserve: it is there so that room can be made.
        let free_bytes = self.disk.free_bytes().unwrap_or(u64::MAX);
        if free_bytes < bytes + SLACK_BYTES.min(bytes) {
            return Err(Stop::Full);
        }
        let newest = sources.iter().map(|source| source.generation).max().unwrap_or(0);
        let mut index = SegmentIndex::empty(first.base_offset);
        index.summary.generation = newest + 1;
        let name = index.summary.name();
        // An attempt that could not be removed may have left the name behind.
        self.delete_unfinished(&job.partition, name).map_err(write_stop)?;
        let file = match self.disk.create(&job.partition.segment_path(name)) {
            Err(_) if job.partition.is_removed() => return Err(Stop::Gone),
            file => file.map_err(write_stop)?,
        };
        job.counts.before_bytes += bytes;
        let pieces = Vec::new();
        job.output = Some(Output { file, index, pieces, written_bytes: 0, synced_bytes: 0 });
        Ok(())
    }

    /// Makes the new segment durable, then its side file, which is the swap; then readers get it.
    /// The bytes that were synced.
    pub(super) fn finish_group(&self, job: &mut Job, group: Range<usize>) -> Result<u64, Stop> {
        let sources = &job.plan.segments[group];
        let (Some(last), Some(output)) = (sources.last(), &mut job.output) else {
            return Err(Stop::Gone);
        };
        let partition = &job.partition;
        let Ok(Some(side)) = self.segments.read_side(partition, last.name()) else {
            let gone = !partition.shared().holds(last.name());
            let why = || format!("the side file of {:?} is missing or damaged", last.name());
            return Err(if gone { Stop::Gone } else { Stop::Damaged(why()) });
        };
        let unsynced_bytes = output.written_bytes - output.synced_bytes;
        output.file.sync().map_err(write_stop)?;
        let summary = &mut output.index.summary;
        // The offsets of what went stay taken.
        summary.end_offset = last.end_offset;
        summary.cleaned_to = last.end_offset.min(job.map_end.unwrap_or(0));
        assert!(
            summary.bytes == output.written_bytes,
            "invariant 6: a side file speaks of all of its segment"
        );
        let written = self.segments.write_side(partition, &output.index, &side.producers);
        if partition.is_removed() {
            return Err(Stop::Gone);
        }
        written.map_err(write_stop)?;
        let summary = output.index.summary;
        job.output = None;
        self.swap(partition, sources, summary);
        Ok(unsynced_bytes)
    }

    /// In memory, what the side file has already done on the disk. Sources that were trimmed
    /// meanwhile were the first ones; if all were, the new segment is trimmed too.
    fn swap(&self, partition: &Arc<Partition>, sources: &[Summary], summary: Summary) {
        let is_source = |segment: &Segment| {
            sources.iter().any(|source| source.name() == segment.summary.name())
        };
        let mut shared = partition.shared();
        let left = shared.segments.iter().filter(|segment| is_source(segment)).count();
        let first = shared.segments.iter().position(is_source);
        if let Some(first) = first {
            let sealed = Segment { summary, sealed: true };
            shared.segments.splice(first..first + left, [sealed]);
            // Readers of memory would go on to see what was superseded.
            shared.evict_below(summary.end_offset);
            shared.recount();
        }
        drop(shared);
        if first.is_none() {
            self.doom_log(partition, summary.name());
            self.doom_side(partition, summary.name());
            return;
        }
        for source in sources.iter().skip(sources.len() - left) {
            self.forget_cached(partition.id, Some(source.name()));
            self.doom_log(partition, source.name());
            self.doom_side(partition, source.name());
        }
        self.due(partition.id);
        self.progress.notify();
    }
}
