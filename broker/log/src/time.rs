//! Looking things up by time. Timestamps may come in any order, so nothing here assumes one:
//! segments and their 64 KiB chunks are passed over by their smallest and largest timestamp, and
//! what may match is decoded.

use std::sync::Arc;

use bytes::Bytes;
use odradek_protocol::batch::RecordReader;

use crate::core::Core;
use crate::index::{IndexEntry, Summary};
use crate::partition::Partition;
use crate::read::{self, read_range};
use crate::types::{PartitionId, ReadError, TimeHit};
use crate::wire::{self, DECOMPRESSED_BYTES_MAX, Header};

/// What a look-up works on, taken under one lock: segments, and behind them the batches that are
/// only in memory.
struct Picture {
    log_start_offset: i64,
    segments: Vec<(Summary, Option<Vec<IndexEntry>>)>,
    tail: Vec<Bytes>,
}

/// A stretch of a segment between two index entries.
struct Chunk {
    entry: IndexEntry,
    end_offset: i64,
    end_position: u64,
}

impl Core {
    /// The first record, by offset, whose timestamp is at or after the given one.
    pub fn offset_for_time(
        &self,
        id: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<TimeHit>, ReadError> {
        let partition = self.partition(id).ok_or(ReadError::UnknownPartition)?;
        read::retried(|| self.offset_for_time_once(&partition, timestamp_ms))
    }

    fn offset_for_time_once(
        &self,
        partition: &Arc<Partition>,
        timestamp_ms: i64,
    ) -> Result<Option<TimeHit>, ReadError> {
        let picture = picture(partition);
        for (summary, entries) in &picture.segments {
            if summary.max_timestamp_ms < timestamp_ms {
                continue;
            }
            for chunk in self.chunks(partition, summary, entries.as_ref())? {
                if chunk.entry.max_timestamp_ms < timestamp_ms
                    || chunk.end_offset <= picture.log_start_offset
                {
                    continue;
                }
                let bytes = self.chunk_bytes(partition, summary, &chunk)?;
                let hit = first_at_or_after(&bytes, timestamp_ms, picture.log_start_offset);
                if hit.is_some() {
                    return Ok(hit);
                }
            }
        }
        for run in &picture.tail {
            let hit = first_at_or_after(run, timestamp_ms, picture.log_start_offset);
            if hit.is_some() {
                return Ok(hit);
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp; the first of them if there are several.
    pub fn max_timestamp(&self, id: PartitionId) -> Result<Option<TimeHit>, ReadError> {
        let partition = self.partition(id).ok_or(ReadError::UnknownPartition)?;
        read::retried(|| self.max_timestamp_once(&partition))
    }

    fn max_timestamp_once(&self, partition: &Arc<Partition>) -> Result<Option<TimeHit>, ReadError> {
        let picture = picture(partition);
        let mut best: Option<TimeHit> = None;
        let beats = |best: &Option<TimeHit>, max: i64| best.is_none_or(|b| max >= b.timestamp_ms);
        let mut segments: Vec<_> = picture.segments.iter().collect();
        segments.sort_by_key(|(summary, _)| std::cmp::Reverse(summary.max_timestamp_ms));
        for (summary, entries) in segments {
            if !beats(&best, summary.max_timestamp_ms) {
                break;
            }
            let mut chunks = self.chunks(partition, summary, entries.as_ref())?;
            chunks.sort_by_key(|chunk| std::cmp::Reverse(chunk.entry.max_timestamp_ms));
            for chunk in chunks {
                if !beats(&best, chunk.entry.max_timestamp_ms) {
                    break;
                }
                let bytes = self.chunk_bytes(partition, summary, &chunk)?;
                largest(&bytes, picture.log_start_offset, &mut best);
            }
        }
        for run in &picture.tail {
            largest(run, picture.log_start_offset, &mut best);
        }
        Ok(best)
    }

    /// Next offset at or after `at_offset` of a chunk that may hold a timestamp in
    /// `[from_ms, to_ms)`. What is not in segments yet counts as one that may.
    pub fn next_in_time(
        &self,
        id: PartitionId,
        from_ms: i64,
        to_ms: i64,
        at_offset: i64,
    ) -> Result<Option<i64>, ReadError> {
        let partition = self.partition(id).ok_or(ReadError::UnknownPartition)?;
        read::retried(|| self.next_in_time_once(&partition, from_ms, to_ms, at_offset))
    }

    fn next_in_time_once(
        &self,
        partition: &Arc<Partition>,
        from_ms: i64,
        to_ms: i64,
        at_offset: i64,
    ) -> Result<Option<i64>, ReadError> {
        let picture = picture(partition);
        let at_offset = at_offset.max(picture.log_start_offset);
        let overlaps = |min: i64, max: i64| max >= from_ms && min < to_ms;
        for (summary, entries) in &picture.segments {
            if summary.end_offset <= at_offset
                || !overlaps(summary.min_timestamp_ms, summary.max_timestamp_ms)
            {
                continue;
            }
            let chunks = self.chunks(partition, summary, entries.as_ref())?;
            let found = chunks.iter().find(|chunk| {
                chunk.end_offset > at_offset
                    && overlaps(chunk.entry.min_timestamp_ms, chunk.entry.max_timestamp_ms)
            });
            if let Some(chunk) = found {
                return Ok(Some(chunk.entry.offset.max(at_offset)));
            }
        }
        let headers = picture.tail.iter().flat_map(wire::batches);
        let found = headers
            .map(|(header, _)| header)
            .find(|header| header.last_offset() >= at_offset && header.max_timestamp_ms >= from_ms);
        Ok(found.map(|header| header.base_offset.max(at_offset)))
    }

    fn chunks(
        &self,
        partition: &Arc<Partition>,
        summary: &Summary,
        entries: Option<&Vec<IndexEntry>>,
    ) -> Result<Vec<Chunk>, ReadError> {
        let sealed;
        let entries = match entries {
            Some(entries) => entries,
            None => {
                sealed = self.index_of(partition, summary)?;
                &*sealed
            }
        };
        let ends = entries.iter().skip(1).map(|next| (next.offset, next.position));
        let ends = ends.chain([(summary.end_offset, summary.bytes)]);
        let chunk = |(entry, (end_offset, end_position)): (&IndexEntry, (i64, u64))| Chunk {
            entry: *entry,
            end_offset,
            end_position,
        };
        Ok(entries.iter().zip(ends).map(chunk).collect())
    }

    /// A chunk that was trimmed while we looked is as good as empty; one that was rewritten is
    /// somewhere else now.
    fn chunk_bytes(
        &self,
        partition: &Arc<Partition>,
        summary: &Summary,
        chunk: &Chunk,
    ) -> Result<Bytes, ReadError> {
        let file = match self.segments.reader(partition, summary.name()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let trimmed = summary.end_offset <= partition.shared().log_start_offset;
                return if trimmed { Ok(Bytes::new()) } else { Err(error.into()) };
            }
            file => file?,
        };
        let position = chunk.entry.position;
        let bytes = usize::try_from(chunk.end_position - position).unwrap_or(usize::MAX);
        Ok(read_range(&file, position, bytes, chunk.end_position)?)
    }
}

fn picture(partition: &Partition) -> Picture {
    let shared = partition.shared();
    let settled_end = shared.settled_end;
    let segments = shared.segments.iter().filter(|segment| !segment.summary.is_empty());
    let segments = segments.map(|segment| {
        let active = shared.active.as_ref().filter(|_| !segment.sealed);
        (segment.summary, active.map(|active| active.entries.clone()))
    });
    // An entry may be settled in part; what is looked at twice does no harm.
    let tail = shared.tail.iter().filter(|entry| entry.last_offset >= settled_end);
    Picture {
        log_start_offset: shared.log_start_offset,
        segments: segments.collect(),
        tail: tail.map(|entry| entry.bytes.clone()).collect(),
    }
}

/// A batch's records with their timestamps, control batches left out: no client sees those. Of a
/// batch that cannot be decoded, what comes before that: it was taken by its checksum, unread, and
/// must not hide all that lies behind it.
fn timed(header: &Header, batch: &Bytes) -> impl Iterator<Item = (i64, i64)> + use<> {
    let append_time = header.is_log_append_time().then_some(header.max_timestamp_ms);
    let records = RecordReader::new(batch, DECOMPRESSED_BYTES_MAX).into_iter().flatten();
    records.map_while(move |record| {
        let record = record.ok()?;
        Some((record.offset, append_time.unwrap_or(record.timestamp_ms)))
    })
}

fn first_at_or_after(run: &Bytes, timestamp_ms: i64, log_start_offset: i64) -> Option<TimeHit> {
    for (header, batch) in wire::batches(run) {
        if header.max_timestamp_ms < timestamp_ms || header.is_control() {
            continue;
        }
        for (offset, record_ms) in timed(&header, &batch) {
            if record_ms >= timestamp_ms && offset >= log_start_offset {
                return Some(TimeHit { offset, timestamp_ms: record_ms });
            }
        }
    }
    None
}

fn largest(run: &Bytes, log_start_offset: i64, best: &mut Option<TimeHit>) {
    for (header, batch) in wire::batches(run) {
        let hopeless = best.is_some_and(|best| header.max_timestamp_ms < best.timestamp_ms);
        if hopeless || header.is_control() {
            continue;
        }
        for (offset, timestamp_ms) in timed(&header, &batch) {
            let better = best.is_none_or(|best| {
                timestamp_ms > best.timestamp_ms
                    || timestamp_ms == best.timestamp_ms && offset < best.offset
            });
            if better && offset >= log_start_offset {
                *best = Some(TimeHit { offset, timestamp_ms });
            }
        }
    }
}
