//! Behind the journal: durable groups go to the segments of their partitions, and a checkpoint
//! makes those durable in their turn, so that the journal file can be used again.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::core::{Core, Progress, Step};
use crate::disk::try_each;
use crate::group::Group;
use crate::index::{CHUNK_BYTES, SegmentIndex};
use crate::partition::{Partition, Shared, Synced, Writer};
use crate::producers::Producers;
use crate::transactions;
use crate::types::{PartitionId, ProducerEntry, ReadError};
use crate::wire;

/// Groups settled in one step, at least one.
const STEP_BYTES: usize = 4 << 20;
/// A checkpoint at the latest after so many settled bytes: it paces the write-back, since std has
/// no call that only starts it, and keeps what a sync has to write small. What went to segments at
/// once is on the disk by then, and counts by a quarter, as a start after a kill has to write it
/// anew.
pub(crate) const CHECKPOINT_BYTES: u64 = 32 << 20;
const DIRECT_SHARE: usize = 4;
/// Write handles kept open across a checkpoint, for what is written to again before the next.
const WRITERS_KEPT_MAX: usize = 256;
/// Larger producer tables are not put into the view: side files and a walk give them back.
const PRODUCERS_IN_VIEW_MAX: usize = 256;
/// 4 KiB of aborted transactions; the same holds for more.
const ABORTED_IN_VIEW_MAX: usize = 128;

#[derive(Default)]
pub(crate) struct Settler {
    /// In order, so that a simulation finds the same syncs in the same order.
    dirty: BTreeMap<PartitionId, Arc<Partition>>,
    /// What the last checkpoint left open.
    kept: BTreeMap<PartitionId, Arc<Partition>>,
    pub bytes_since_checkpoint: u64,
}

impl Core {
    /// Takes the oldest durable groups to the segments. `Waiting` if the disk is full.
    pub fn settle_step(&self, now_ms: i64) -> Step {
        let mut settler = self.settler.lock().expect("no holder of the settler panics");
        if self.failed().is_some() {
            return Step::Idle;
        }
        let groups = self.next_groups();
        let Some(last) = groups.last() else {
            return self.roll(&mut settler);
        };
        let last_sequence = last.sequence;
        match self.settle(&mut settler, &groups, now_ms) {
            Ok(()) => self.progress.settle_stuck.store(false, Ordering::Release),
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.progress.settle_stuck.store(true, Ordering::Release);
                self.stats().full = true;
                return Step::Waiting;
            }
            Err(error) => {
                self.fail("writing a segment", &error);
                return Step::Idle;
            }
        }
        let bytes: usize = groups.iter().map(|group| group.bytes.len()).sum();
        let mut unsettled = self.unsettled.lock().expect("no holder of the groups panics");
        unsettled.drain(..groups.len());
        drop(unsettled);
        let direct_bytes: usize = groups.iter().map(|group| group.direct_bytes).sum();
        settler.bytes_since_checkpoint +=
            (bytes - direct_bytes + direct_bytes / DIRECT_SHARE) as u64;
        self.progress.unsettled_bytes.fetch_sub(bytes as u64, Ordering::AcqRel);
        self.progress.settled.store(last_sequence, Ordering::Release);
        self.progress.check();
        self.progress.notify();
        // The next groups may write these segments ahead, once they have names.
        let large = groups.iter().flat_map(|group| &group.large);
        let new = large.filter(|partition| partition.writer().has_new_names());
        if let Err(error) = self.sync_names(new) {
            self.fail("syncing a segment's name", &error);
            return Step::Idle;
        }
        // Also between groups, which under a steady load never come to an end.
        self.roll(&mut settler);
        Step::Worked
    }

    /// Side by side, where a flush takes long: many partitions may begin at a time.
    fn sync_names<'a>(
        &self,
        partitions: impl Iterator<Item = &'a Arc<Partition>>,
    ) -> io::Result<()> {
        let by_id: BTreeMap<_, _> = partitions.map(|each| (each.id, each)).collect();
        if by_id.is_empty() {
            return Ok(());
        }
        // First, and not by whichever thread comes first: the others would not wait for it.
        self.segments.sync_root()?;
        let partitions: Vec<_> = by_id.into_values().collect();
        try_each(&partitions, self.syncs_at_once(), |partition| {
            let mut writer = partition.writer();
            if partition.is_removed() {
                return Ok(());
            }
            let _syncing = partition.syncing();
            self.segments.sync_names(partition, &mut writer)
        })
    }

    /// One where a flush is short: threads would cost more.
    fn syncs_at_once(&self) -> usize {
        let is_slow = self.progress.flush_is_slow.load(Ordering::Acquire);
        if is_slow { self.disk.syncs_at_once() } else { 1 }
    }

    /// Invariant 2: only groups whose sync is known.
    fn next_groups(&self) -> Vec<Arc<Group>> {
        let synced = Progress::at(&self.progress.synced);
        let unsettled = self.unsettled.lock().expect("no holder of the groups panics");
        let mut bytes = 0;
        let fits = |group: &&Arc<Group>| {
            let first = bytes == 0;
            bytes += group.bytes.len();
            group.sequence <= synced && (first || bytes <= STEP_BYTES)
        };
        unsettled.iter().take_while(fits).cloned().collect()
    }

    fn settle(&self, settler: &mut Settler, groups: &[Arc<Group>], now_ms: i64) -> io::Result<()> {
        let mut runs: Vec<(&Arc<Partition>, i64, Bytes)> = Vec::new();
        for group in groups {
            for entry in &group.entries {
                let bytes = group.bytes.slice(entry.start..entry.end);
                runs.push((&entry.partition, entry.base_offset, bytes));
            }
        }
        runs.sort_by_key(|(partition, base_offset, _)| (partition.id, *base_offset));
        // A folder's own name, before its first segment is made.
        let all = runs.iter().map(|(partition, _, _)| *partition);
        let new = all.filter(|partition| partition.writer().metadata.is_some());
        // Whatever the error: who tried again would not hear of what was lost.
        self.sync_names(new).map_err(io::Error::other)?;
        for chunk in runs.chunk_by(|a, b| a.0.id == b.0.id) {
            let partition = chunk[0].0;
            let batches: Vec<Bytes> = chunk.iter().map(|(_, _, bytes)| bytes.clone()).collect();
            if !self.note_dirty(settler, partition) {
                return Err(io::Error::other("making room for another open file failed"));
            }
            self.segments.append(partition, &batches, now_ms)?;
            self.roll_if_old(partition, now_ms);
            self.trim_settled(partition);
        }
        Ok(())
    }

    /// A segment that is written to ahead is not sealed by the next batch: that has to be asked
    /// for.
    fn roll_if_old(&self, partition: &Partition, now_ms: i64) {
        let writer = partition.writer();
        let mut shared = partition.shared();
        let age_ms = now_ms.saturating_sub(writer.created_ms);
        let is_ahead = writer.front.is_some_and(|front| front.end_offset >= shared.settled_end);
        if age_ms >= shared.settings.segment_ms_max && is_ahead {
            shared.roll_requested = true;
            self.progress.rolls_wanted.store(true, Ordering::Release);
        }
    }

    /// Seals what somebody asked for, and whatever gives the indexes of active segments the room
    /// that they have taken too much: groups wait meanwhile, and then those who write them.
    fn roll(&self, settler: &mut Settler) -> Step {
        let mut step = self.roll_requested(settler);
        while self.request_room_for_indexes() {
            match self.roll_requested(settler) {
                Step::Worked => step = Step::Worked,
                stopped => return stopped,
            }
        }
        step
    }

    /// The segment with the largest index is to be sealed before it is full; false if there is no
    /// need, or none that would be worth it.
    fn request_room_for_indexes(&self) -> bool {
        if self.segments.index_bytes() <= self.options.active_index_bytes_max {
            return false;
        }
        let partitions = self.partitions.read().expect("no holder of the partitions panics");
        let index_bytes = |partition: &&Arc<Partition>| {
            let shared = partition.shared();
            let worth_it = |active: &&SegmentIndex| active.summary.bytes >= CHUNK_BYTES;
            shared.active.as_ref().filter(worth_it).map_or(0, SegmentIndex::memory_bytes)
        };
        let largest = partitions.values().max_by_key(|each| (index_bytes(each), each.id));
        let Some(largest) = largest.filter(|each| index_bytes(each) > 0) else { return false };
        largest.shared().roll_requested = true;
        self.progress.rolls_wanted.store(true, Ordering::Release);
        true
    }

    /// Seals one active segment that is to be let go or written out.
    fn roll_requested(&self, settler: &mut Settler) -> Step {
        // Cleared before the look, so that a wish that comes meanwhile is looked at again.
        if !self.progress.rolls_wanted.swap(false, Ordering::AcqRel) {
            return Step::Idle;
        }
        for partition in self.all_partitions() {
            let mut writer = partition.writer();
            let wanted = {
                let mut shared = partition.shared();
                // What is written ahead settles first; nothing more is, as long as this is wanted.
                if shared.roll_requested && writer.front_beyond(shared.settled_end).is_some() {
                    self.progress.rolls_wanted.store(true, Ordering::Release);
                    continue;
                }
                std::mem::take(&mut shared.roll_requested) && shared.active.is_some()
            };
            if !wanted || partition.is_removed() {
                continue;
            }
            // There may be more of them.
            self.progress.rolls_wanted.store(true, Ordering::Release);
            if let Err(error) = self.segments.seal(&partition, &mut writer) {
                if error.kind() == io::ErrorKind::StorageFull {
                    partition.shared().roll_requested = true;
                    return Step::Waiting;
                }
                self.fail("sealing a segment", &error);
                return Step::Idle;
            }
            drop(writer);
            self.note_dirty(settler, &partition);
            self.trim_settled(&partition);
            return Step::Worked;
        }
        Step::Idle
    }

    /// Syncs what was settled; the journal files up to there may then be used again.
    pub fn checkpoint_step(&self) -> Step {
        let mut settler = self.settler.lock().expect("no holder of the settler panics");
        let settled = Progress::at(&self.progress.settled);
        let behind = Progress::at(&self.progress.checkpointed) < settled;
        if self.failed().is_some() || (!behind && settler.dirty.is_empty()) {
            return Step::Idle;
        }
        let keep_open = settler.dirty.len() <= WRITERS_KEPT_MAX.min(self.options.writers_max);
        if !self.sync_dirty(&mut settler, keep_open) {
            return Step::Idle;
        }
        settler.bytes_since_checkpoint = 0;
        self.progress.checkpointed.store(settled, Ordering::Release);
        self.progress.checkpoint_wanted.store(false, Ordering::Release);
        self.progress.check();
        self.progress.notify();
        self.stats().checkpoints += 1;
        Step::Worked
    }

    /// False: that failed, and the log with it.
    fn sync_dirty(&self, settler: &mut Settler, keep_open: bool) -> bool {
        let dirty = std::mem::take(&mut settler.dirty);
        let partitions: Vec<_> = dirty.values().collect();
        // First, as in `sync_names`.
        let synced = self.segments.sync_root().and_then(|()| {
            try_each(&partitions, self.syncs_at_once(), |partition| {
                self.checkpoint_partition(partition, keep_open)
            })
        });
        if let Err(error) = synced {
            self.fail("syncing a segment", &error);
            return false;
        }
        // Else a log of many partitions, a few of them written to at a time, would in the end have
        // all of them open.
        for (id, partition) in std::mem::take(&mut settler.kept) {
            if !dirty.contains_key(&id) {
                partition.writer().close_unless_dirty();
            }
        }
        if keep_open {
            settler.kept = dirty;
        }
        true
    }

    /// Before the partition is written to, which may open its file. A file is closed only when it
    /// is synced, since nobody would hear of a write-back that failed behind a closed one; so what
    /// is dirty is synced when there are too many. The checkpoint gets no further by that. False:
    /// that failed, and the log with it.
    fn note_dirty(&self, settler: &mut Settler, partition: &Arc<Partition>) -> bool {
        let known = settler.dirty.contains_key(&partition.id);
        let full = !known && settler.dirty.len() >= self.options.writers_max;
        if full && !self.sync_dirty(settler, false) {
            return false;
        }
        settler.dirty.insert(partition.id, partition.clone());
        true
    }

    /// Without the writer's lock during the sync, for the direct path: what it carries along
    /// meanwhile is not settled, so not of this checkpoint, and makes the writer dirty again.
    fn checkpoint_partition(&self, partition: &Partition, keep_open: bool) -> io::Result<()> {
        let mut writer = partition.writer();
        if partition.is_removed() {
            return Ok(());
        }
        let syncing = partition.syncing();
        self.segments.sync_names(partition, &mut writer)?;
        drop(syncing);
        let file = std::mem::take(&mut writer.dirty).then(|| writer.file.clone()).flatten();
        let synced = synced_with(&writer, &partition.shared());
        drop(writer);
        if let Some(file) = file {
            file.sync()?;
        }
        let mut writer = partition.writer();
        // Its folder may be another topic's by now.
        if partition.is_removed() {
            return Ok(());
        }
        if !keep_open {
            writer.close_unless_dirty();
        }
        partition.shared().synced = synced;
        self.release_kept_side(partition);
        drop(writer);
        self.due(partition.id);
        Ok(())
    }

    /// Of a partition that is being attached: its files may be open.
    pub fn mark_dirty(&self, partition: &Arc<Partition>) {
        let mut settler = self.settler.lock().expect("no holder of the settler panics");
        self.note_dirty(&mut settler, partition);
    }

    pub fn bytes_since_checkpoint(&self) -> u64 {
        self.settler.lock().expect("no holder of the settler panics").bytes_since_checkpoint
    }
}

/// The settle thread is woken at once beyond this, and otherwise lets small groups gather.
pub(crate) fn settle_threshold(unsettled_bytes_max: usize) -> u64 {
    (unsettled_bytes_max as u64 / 8).min(1 << 20)
}

/// What a sync that begins now covers.
fn synced_with(writer: &Writer, shared: &Shared) -> Synced {
    let active = shared
        .active
        .as_ref()
        .map(|active| (active.summary, active.entries.len(), active.entries.last().copied()));
    let producers = producers_for_view(&writer.producers, shared.active.as_ref());
    Synced { end_offset: shared.settled_end, active, producers }
}

/// The producers, and the active segment's aborted transactions behind them.
fn producers_for_view(
    producers: &Producers,
    active: Option<&SegmentIndex>,
) -> Option<Arc<Vec<u8>>> {
    let aborted = active.map_or(&[][..], |active| &active.aborted);
    if producers.len() > PRODUCERS_IN_VIEW_MAX || aborted.len() > ABORTED_IN_VIEW_MAX {
        return None;
    }
    let mut value = producers.encode();
    value.extend_from_slice(&transactions::encode_aborted(aborted));
    Some(Arc::new(value))
}

impl Core {
    /// The settled table, and what the batches in memory add to it.
    pub fn producers(&self, id: PartitionId) -> Result<Vec<ProducerEntry>, ReadError> {
        let partition = self.partition(id).ok_or(ReadError::UnknownPartition)?;
        // With the writer's lock in hand nothing settles between the two looks.
        let writer = partition.writer();
        let mut producers = writer.producers.clone();
        let unsettled: Vec<Bytes> = {
            let shared = partition.shared();
            let settled_end = shared.settled_end;
            let tail = shared.tail.iter().filter(|entry| entry.last_offset >= settled_end);
            tail.map(|entry| entry.bytes.clone()).collect()
        };
        let settled_end = partition.shared().settled_end;
        drop(writer);
        for (header, batch) in unsettled.iter().flat_map(wire::batches) {
            if header.base_offset >= settled_end {
                producers.apply(&header, &batch);
            }
        }
        Ok(producers.entries())
    }
}
