//! Compaction: sealed segments are rewritten without the records that later ones of the same key
//! supersede, beside the old files, and swapped in.
//!
//! One round cleans one partition. It maps the latest offset of each key of the dirty part, as far
//! as the map's bytes reach; then it rewrites all segments from the first one up to there, small
//! neighbours into one. Every step is a bounded piece of work: about a window of a segment.
//!
//! 1. Nothing is cleaned that is not sealed, not decided (at or above the last stable offset), or,
//!    in a keyed partition, not durably in the view: a tombstone that went before the view saw it
//!    would leave its key there for ever. The last segment is never cleaned.
//! 2. The swap is the new segment's side file: once that is durable, what the new segment was made
//!    from is superseded, at any later start (`survey`), and is unlinked. Before that, the new file
//!    is an unfinished attempt. So a crash leaves the old segments or the new one.
//! 3. Offsets stay, and the new segment ends where the last of its sources ended. Producers come
//!    from that source's side file: they are no matter of records that are left.
//! 4. A full disk ends the attempt, any other failed write or sync the incarnation (invariant 5 of
//!    the log). A source that does not parse is left as it is, and its partition alone until the
//!    next start.

mod filter;
mod map;
mod output;
mod plan;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use odradek_protocol::batch::RecordReader;

use self::filter::{Filter, Kept, MetTransactions};
use self::map::{KeyMap, Secret};
use self::output::Output;
use self::plan::Plan;
use crate::core::Core;
use crate::index::Summary;
use crate::partition::Partition;
use crate::types::{CompactionOptions, PartitionId, PartitionSettings, ReadError};
use crate::walk::{self, Walk};
use crate::wire::{DECOMPRESSED_BYTES_MAX, Header};

/// One step reads so much of a segment, or one batch. The simulation's segments are small, and a
/// crash has to find them half rewritten.
const STEP_BYTES: u64 = if cfg!(test) { 1 << 11 } else { 1 << 20 };
/// A partition that found no room is looked at again after this.
const FULL_PAUSE_MS: i64 = 60_000;

/// The compact step's own state.
#[derive(Default)]
pub(crate) struct Compactor {
    secret: Secret,
    job: Option<Job>,
    /// Left alone until then, `i64::MAX` for until the next start.
    not_before_ms: HashMap<PartitionId, i64>,
}

/// A round that is under way.
struct Job {
    partition: Arc<Partition>,
    settings: PartitionSettings,
    delete_retention_ms: i64,
    plan: Plan,
    started_ms: i64,
    map: KeyMap,
    /// Of the first record that the map does not cover, once that is known.
    map_end: Option<i64>,
    met: MetTransactions,
    /// Where the walk stands: number of the segment, position in it.
    at: (usize, u64),
    groups: Vec<Range<usize>>,
    output: Option<Output>,
    counts: Counts,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    read_bytes: u64,
    written_bytes: u64,
    before_bytes: u64,
    removed_records: u64,
    keys: usize,
}

enum Stop {
    /// Its partition or a source is gone: nothing to do any more.
    Gone,
    Full,
    Damaged(String),
    Failed(io::Error),
}

impl Core {
    /// One piece of work; the bytes that it moved, or `None` if there is nothing to do.
    pub fn compact_step(&self, now_ms: i64) -> Option<u64> {
        let mut compactor = self.compactor.lock().expect("no holder of the compactor panics");
        let moved = self.compact(&mut compactor, now_ms);
        let map_bytes = compactor.job.as_ref().map_or(0, |job| job.map.memory_bytes());
        self.stats().compaction_map_bytes = map_bytes as u64;
        moved
    }

    fn compact(&self, compactor: &mut Compactor, now_ms: i64) -> Option<u64> {
        if self.failed().is_some() {
            compactor.job = None;
            return None;
        }
        if compactor.job.is_none() {
            compactor.job = self.choose_partition(&compactor.not_before_ms, now_ms);
        }
        let Compactor { secret, job, not_before_ms } = compactor;
        let one = job.as_mut()?;
        match self.job_step(one, secret) {
            Ok((bytes, done)) => {
                if done {
                    self.finish_job(one, now_ms);
                    *job = None;
                }
                Some(bytes)
            }
            Err(stop) => {
                let id = one.partition.id;
                let until_ms = self.stop_job(one, &stop, now_ms);
                *job = None;
                not_before_ms.retain(|_, ms| *ms > now_ms);
                not_before_ms.extend(until_ms.map(|until_ms| (id, until_ms)));
                Some(0)
            }
        }
    }

    pub fn compaction(&self) -> CompactionOptions {
        *self.compaction.lock().expect("no holder of the options panics")
    }

    /// Before a close: an unfinished attempt is not left behind.
    pub fn stop_compaction(&self) {
        let mut compactor = self.compactor.lock().expect("no holder of the compactor panics");
        if let Some(mut job) = compactor.job.take() {
            self.stop_job(&mut job, &Stop::Gone, 0);
        }
    }

    /// The one with the largest dirty share of those that are due.
    fn choose_partition(&self, not_before: &HashMap<PartitionId, i64>, now_ms: i64) -> Option<Job> {
        let mut best: Option<(Arc<Partition>, PartitionSettings, i64, Plan)> = None;
        for partition in self.all_partitions() {
            if not_before.get(&partition.id).is_some_and(|until_ms| *until_ms > now_ms) {
                continue;
            }
            let viewed = if partition.keyed { self.viewed_end(partition.id) } else { i64::MAX };
            let shared = partition.shared();
            let settings = shared.settings;
            let Some(compaction) = settings.compaction else { continue };
            let end = shared.last_stable_offset().min(viewed);
            let Some(plan) = plan::plan(&shared.segments, &compaction, end, now_ms) else {
                continue;
            };
            drop(shared);
            if best.as_ref().is_none_or(|(_, _, _, other)| plan.dirty_ratio > other.dirty_ratio) {
                best = Some((partition, settings, compaction.delete_retention_ms, plan));
            }
        }
        let (partition, settings, delete_retention_ms, plan) = best?;
        let from = plan.segments.partition_point(|summary| summary.end_offset <= plan.dirty_from);
        Some(Job {
            partition,
            settings,
            delete_retention_ms,
            plan,
            started_ms: now_ms,
            map: KeyMap::new(self.compaction().map_bytes_max),
            map_end: None,
            met: MetTransactions::default(),
            at: (from, 0),
            groups: Vec::new(),
            output: None,
            counts: Counts::default(),
        })
    }

    /// Bytes moved, and whether the round is finished.
    fn job_step(&self, job: &mut Job, secret: &Secret) -> Result<(u64, bool), Stop> {
        if job.partition.is_removed() {
            return Err(Stop::Gone);
        }
        if job.map_end.is_none() {
            return Ok((self.map_step(job, secret)?, false));
        }
        let Some(group) = job.groups.first().cloned() else { return Ok((0, true)) };
        if job.output.is_none() {
            self.begin_group(job, group)?;
            return Ok((0, false));
        }
        if job.at.0 < group.end {
            return Ok((self.rewrite_step(job, secret)?, false));
        }
        let synced_bytes = self.finish_group(job, group)?;
        job.groups.remove(0);
        Ok((synced_bytes, job.groups.is_empty()))
    }

    /// Reads on in the dirty part; the round's second half begins when all of it is in the map, or
    /// the map is full.
    fn map_step(&self, job: &mut Job, secret: &Secret) -> Result<u64, Stop> {
        let Some(summary) = job.plan.segments.get(job.at.0).copied() else {
            let end = job.plan.segments.last().map_or(0, |summary| summary.end_offset);
            self.begin_rewriting(job, end);
            return Ok(0);
        };
        self.enter_segment(job, &summary)?;
        let Job { map, met, plan, .. } = job;
        let mut full_at = None;
        let mut visit = |header: &Header, batch: &Bytes| {
            if header.is_control() {
                met.on_marker(header, batch);
                return Ok(true);
            }
            if met.on_records(header) {
                return Ok(true);
            }
            for record in RecordReader::new(batch, DECOMPRESSED_BYTES_MAX).map_err(damaged)? {
                let record = record.map_err(damaged)?;
                if let Some(key) = record.key.filter(|_| record.offset >= plan.dirty_from)
                    && !map.put(secret, &key, record.offset)
                {
                    full_at = Some(record.offset);
                    return Ok(false);
                }
            }
            Ok(true)
        };
        let bytes = self.walk_some(&job.partition, &summary, &mut job.at, &mut visit)?;
        job.counts.read_bytes += bytes;
        if let Some(offset) = full_at {
            self.begin_rewriting(job, offset);
        }
        Ok(bytes)
    }

    fn begin_rewriting(&self, job: &mut Job, map_end: i64) {
        job.map_end = Some(map_end);
        job.groups = plan::groups(&job.plan.segments, map_end, &job.settings);
        job.met = MetTransactions::default();
        job.at = (0, 0);
        job.counts.keys = job.map.len();
    }

    /// At the beginning of a segment: the aborted transactions that concern it.
    fn enter_segment(&self, job: &mut Job, summary: &Summary) -> Result<(), Stop> {
        if job.at.1 > 0 {
            return Ok(());
        }
        let id = job.partition.id;
        let aborted = self.aborted(id, summary.base_offset, summary.end_offset);
        let aborted = aborted.map_err(|error| match error {
            ReadError::Io(error) => read_stop(error),
            ReadError::UnknownPartition => Stop::Gone,
            error => Stop::Damaged(error.to_string()),
        })?;
        job.met.expect(aborted, summary.base_offset);
        Ok(())
    }

    fn rewrite_step(&self, job: &mut Job, secret: &Secret) -> Result<u64, Stop> {
        let summary = job.plan.segments[job.at.0];
        self.enter_segment(job, &summary)?;
        let Job { map, met, output, counts, .. } = job;
        let filter = Filter {
            map,
            secret,
            end_offset: job.map_end.unwrap_or(0),
            now_ms: job.started_ms,
            delete_retention_ms: job.delete_retention_ms,
        };
        let Some(output) = output else { return Ok(0) };
        let mut visit = |header: &Header, batch: &Bytes| {
            let (kept, aborted) = filter.apply(met, header, batch).map_err(damaged)?;
            let left = match kept {
                Kept::Nothing => 0,
                Kept::Whole => output.push(batch.clone()),
                Kept::Rewritten(batch) => output.push(batch),
            };
            counts.removed_records += u64::try_from(header.record_count - left).unwrap_or(0);
            if let Some(aborted) = aborted {
                output.abort(aborted);
            }
            Ok(true)
        };
        let read_bytes = self.walk_some(&job.partition, &summary, &mut job.at, &mut visit)?;
        let written_bytes = output.write().map_err(write_stop)?;
        counts.read_bytes += read_bytes;
        counts.written_bytes += written_bytes;
        Ok(read_bytes + written_bytes)
    }

    /// Walks on from where the job stands in this segment, a step's worth; moves to the next
    /// segment at its end. The visitor says false where the walk is over.
    fn walk_some(
        &self,
        partition: &Arc<Partition>,
        summary: &Summary,
        at: &mut (usize, u64),
        visit: &mut dyn FnMut(&Header, &Bytes) -> Result<bool, Stop>,
    ) -> Result<u64, Stop> {
        let file = self.segments.reader(partition, summary.name()).map_err(read_stop)?;
        let from = at.1;
        let (mut bytes, mut ended) = (0, None);
        // Each batch is checked before it is written anew: damage must not get a fresh checksum.
        let walk = Walk { from, to: summary.bytes, verify: true };
        let end = walk::walk(&file, walk, &mut |header, batch| {
            if bytes > 0 && bytes + batch.len() as u64 > STEP_BYTES {
                ended = Some(Ok(()));
                return false;
            }
            match visit(header, batch) {
                Ok(true) => {
                    bytes += batch.len() as u64;
                    true
                }
                Ok(false) => {
                    ended = Some(Ok(()));
                    false
                }
                Err(stop) => {
                    ended = Some(Err(stop));
                    false
                }
            }
        });
        let end = end.map_err(read_stop)?;
        ended.unwrap_or_else(|| {
            let whole = end == summary.bytes;
            let why = || format!("no whole record batch at position {end} of {:?}", summary.name());
            if whole { Ok(()) } else { Err(Stop::Damaged(why())) }
        })?;
        *at = if end == summary.bytes { (at.0 + 1, 0) } else { (at.0, end) };
        Ok(bytes)
    }

    fn finish_job(&self, job: &Job, now_ms: i64) {
        let counts = job.counts;
        {
            let mut stats = self.stats();
            stats.compactions += 1;
            stats.compaction_read_bytes += counts.read_bytes;
            stats.compaction_written_bytes += counts.written_bytes;
            stats.compaction_removed_records += counts.removed_records;
        }
        tracing::info!(
            folder = job.partition.folder,
            dirty_ratio = format!("{:.2}", job.plan.dirty_ratio),
            cleaned_to = job.map_end,
            keys = counts.keys,
            removed_records = counts.removed_records,
            before_bytes = counts.before_bytes,
            after_bytes = counts.written_bytes,
            took_ms = now_ms.saturating_sub(job.started_ms),
            "compacted"
        );
    }

    /// Takes an unfinished attempt away. Until when its partition is to be left alone.
    fn stop_job(&self, job: &mut Job, stop: &Stop, now_ms: i64) -> Option<i64> {
        let folder = &job.partition.folder;
        if let Some(output) = job.output.take() {
            let name = output.name();
            // Closed before it is unlinked.
            drop(output);
            if !job.partition.is_removed()
                && let Err(error) = self.delete_unfinished(&job.partition, name)
            {
                tracing::warn!(folder, %error, "could not remove an unfinished segment");
            }
        }
        match stop {
            Stop::Gone => None,
            Stop::Full => {
                tracing::warn!(folder, "no room to compact, will try again");
                Some(now_ms.saturating_add(FULL_PAUSE_MS))
            }
            Stop::Damaged(why) => {
                tracing::error!(folder, why, "not compacted any more: a segment is damaged");
                Some(i64::MAX)
            }
            Stop::Failed(error) => {
                self.fail("writing a compacted segment", error);
                None
            }
        }
    }
}

fn damaged(error: odradek_protocol::DecodeError) -> Stop {
    Stop::Damaged(error.to_string())
}

/// A source that is not there was trimmed meanwhile.
fn read_stop(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::NotFound => Stop::Gone,
        _ => Stop::Damaged(error.to_string()),
    }
}

fn write_stop(error: io::Error) -> Stop {
    match error.kind() {
        io::ErrorKind::StorageFull => Stop::Full,
        _ => Stop::Failed(error),
    }
}
