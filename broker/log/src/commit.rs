//! The commit step: everything that queued up while the last group was being written becomes the
//! next one (`queue` says what goes first); one write, one sync, then the high watermarks move and
//! the waiters are answered, in the group's order.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::core::{Core, Progress, Step};
use crate::flushes::Flushes;
use crate::group::{self, Group, GroupBuffer, GroupEntry, Seal};
use crate::journal::{self, Journal};
use crate::partition::{Partition, TailEntry};
use crate::queue::{GROUP_BYTES_MAX, take_group, unit_bytes};
use crate::types::{
    Append, CommitError, Done, Durability, GROUP_BYTES_BUCKETS, SYNC_SECONDS_BUCKETS, Unit,
};
use crate::wire;

/// Units that only keep others going, such as the groups' offsets, leave this share of the reserve.
/// What makes room (the broker's own state) may use all of it, so that a full disk can be emptied:
/// removing data begins with a state record.
const KEYED_RESERVE_SHARE: u64 = 2;

pub(crate) struct Committer {
    journal: Journal,
    /// Taken from the queue and not yet written, because another step has to go on first.
    pending: Option<Pending>,
    /// Groups in memory for readers, oldest first.
    ring: VecDeque<Arc<Group>>,
    last_sync: Instant,
    flushes: Flushes,
}

struct Pending {
    buffer: GroupBuffer,
    dones: Vec<Done>,
}

impl Committer {
    pub fn new(journal: Journal) -> Self {
        Committer {
            journal,
            pending: None,
            ring: VecDeque::new(),
            last_sync: Instant::now(),
            flushes: Flushes::default(),
        }
    }

    pub fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }
}

/// What the disk has for the next group.
#[derive(Clone, Copy)]
struct Room {
    free_bytes: u64,
    /// Whatever is free: units that make room.
    takes_urgent: bool,
}

impl Core {
    pub fn commit_step(&self) -> Step {
        let mut committer = self.committer.lock().expect("no holder of the committer panics");
        if let Some(reason) = self.failed() {
            self.refuse_all(&mut committer, &CommitError::Failed(reason));
            return Step::Idle;
        }
        self.sync_if_due(&mut committer);
        if committer.pending.is_none() {
            // With room for the next group, so that it is within the bound, too.
            let unsettled = Progress::at(&self.progress.unsettled_bytes);
            let ahead = unsettled + self.group_bytes_max() as u64;
            if ahead > self.options.unsettled_bytes_max as u64
                && !self.progress.settle_stuck.load(Ordering::Acquire)
            {
                // Under `Interval` nothing settles before its sync.
                self.sync_now(&mut committer);
                return Step::Waiting;
            }
            committer.pending = self.fill_group();
        }
        let Some(pending) = committer.pending.take() else { return Step::Idle };
        if pending.buffer.entries.is_empty() {
            // All refused, or without appends: nothing to make durable.
            pending.dones.into_iter().for_each(|done| done(Ok(())));
            return Step::Worked;
        }
        match self.make_room(&mut committer, pending.buffer.byte_count()) {
            Ok(true) => {}
            // The other journal file is not free before segments can be written.
            Ok(false) if self.progress.settle_stuck.load(Ordering::Acquire) => {
                self.refuse_pending(pending);
                return Step::Worked;
            }
            Ok(false) => {
                committer.pending = Some(pending);
                return Step::Waiting;
            }
            Err(error) => {
                committer.pending = Some(pending);
                self.fail("taking a journal file into use", &error);
                return Step::Worked;
            }
        }
        self.write_group(&mut committer, pending);
        Step::Worked
    }

    /// The group that the queue's units make; refused ones are answered here.
    fn fill_group(&self) -> Option<Pending> {
        let units = self.take_units()?;
        let bytes: usize = units.iter().map(unit_bytes).sum();
        let mut buffer = GroupBuffer::with_capacity(bytes);
        let mut dones = Vec::with_capacity(units.len());
        let stuck = self.progress.settle_stuck.load(Ordering::Acquire);
        // On a disk without room the journal, whose room is reserved, takes what makes room; not
        // without end, as it cannot be settled before there is some.
        let unsettled = Progress::at(&self.progress.unsettled_bytes);
        let room = Room {
            free_bytes: if stuck { 0 } else { self.disk.free_bytes().unwrap_or(u64::MAX) },
            takes_urgent: unsettled < 2 * self.options.unsettled_bytes_max as u64,
        };
        let mut refused_for_space = false;
        for unit in units {
            match self.push_unit(&mut buffer, &unit, room) {
                Ok(()) => dones.push(unit.done),
                Err(error) => {
                    refused_for_space |= error == CommitError::Full;
                    (unit.done)(Err(error));
                }
            }
        }
        let mut stats = self.stats();
        stats.disk_free_bytes = room.free_bytes;
        stats.full = refused_for_space || room.free_bytes < self.options.disk_reserve_bytes;
        stats.units += dones.len() as u64;
        drop(stats);
        Some(Pending { buffer, dones })
    }

    fn take_units(&self) -> Option<Vec<Unit>> {
        let journal_max = Journal::group_bytes_max(self.options.journal_file_bytes);
        let journal_max = usize::try_from(journal_max).unwrap_or(usize::MAX);
        // Header and alignment come on top of the units' bytes.
        let bytes_max =
            self.group_bytes_max().min(journal_max.saturating_sub(group::HEADER_BYTES + 8));
        let units = take_group(&mut self.queue().units, bytes_max);
        (!units.is_empty()).then_some(units)
    }

    /// Some groups fit behind each other, so that one is written while others settle.
    fn group_bytes_max(&self) -> usize {
        GROUP_BYTES_MAX.min(self.options.unsettled_bytes_max / 4)
    }

    /// All appends of the unit, or none (invariant 1).
    fn push_unit(
        &self,
        buffer: &mut GroupBuffer,
        unit: &Unit,
        room: Room,
    ) -> Result<(), CommitError> {
        let mark = buffer.mark();
        let mut moved: Vec<(Arc<Partition>, i64)> = Vec::new();
        let result = self.push_appends(buffer, unit, room, &mut moved);
        if result.is_err() {
            buffer.rewind(mark);
            for (partition, next_offset) in moved.iter().rev() {
                partition.next_offset.store(*next_offset, Ordering::Release);
            }
            if result == Err(CommitError::Full) {
                for append in &unit.appends {
                    if let Some(partition) = self.partition(append.partition) {
                        partition.refusing.store(true, Ordering::Release);
                    }
                }
            }
        }
        result
    }

    fn push_appends(
        &self,
        buffer: &mut GroupBuffer,
        unit: &Unit,
        room: Room,
        moved: &mut Vec<(Arc<Partition>, i64)>,
    ) -> Result<(), CommitError> {
        let refused = |why: &str| CommitError::Refused(why.to_owned());
        let group_bytes_max = Journal::group_bytes_max(self.options.journal_file_bytes);
        let unit_end = group::aligned((group::HEADER_BYTES + unit_bytes(unit)) as u64);
        if unit_end > group_bytes_max {
            return Err(refused("it is larger than a journal file"));
        }
        let mut partitions = Vec::with_capacity(unit.appends.len());
        for append in &unit.appends {
            partitions.push(self.partition(append.partition).ok_or(refused("unknown partition"))?);
        }
        let makes_room = partitions.iter().all(|partition| partition.makes_room);
        let is_keyed = partitions.iter().all(|partition| partition.keyed);
        let share = if is_keyed { KEYED_RESERVE_SHARE } else { 1 };
        let reserve = self.options.disk_reserve_bytes / share;
        let enough = room.free_bytes >= reserve.saturating_add(unit_bytes(unit) as u64)
            || makes_room && room.takes_urgent;
        for (append, partition) in unit.appends.iter().zip(partitions) {
            self.check_offset(append, &partition, enough)?;
            let next_offset = partition.next_offset.load(Ordering::Acquire);
            let last_offset = buffer.push(&partition, append).map_err(CommitError::Refused)?;
            partition.next_offset.store(last_offset + 1, Ordering::Release);
            moved.push((partition, next_offset));
        }
        Ok(())
    }

    fn check_offset(
        &self,
        append: &Append,
        partition: &Partition,
        enough: bool,
    ) -> Result<(), CommitError> {
        let next_offset = partition.next_offset.load(Ordering::Acquire);
        if append.base_offset == next_offset {
            partition.refusing.store(!enough, Ordering::Release);
            return if enough { Ok(()) } else { Err(CommitError::Full) };
        }
        if partition.refusing.load(Ordering::Acquire) && append.base_offset > next_offset {
            return Err(CommitError::Full);
        }
        Err(CommitError::Refused(format!(
            "base offset {} where {next_offset} is next",
            append.base_offset
        )))
    }

    /// False: the other journal file is needed and a checkpoint has to free it first.
    fn make_room(&self, committer: &mut Committer, group_bytes: usize) -> io::Result<bool> {
        if committer.journal.has_room(group::aligned(group_bytes as u64)) {
            return Ok(true);
        }
        let checkpointed = Progress::at(&self.progress.checkpointed);
        if committer.journal.next_file_needs() > checkpointed {
            self.progress.checkpoint_wanted.store(true, Ordering::Release);
            self.sync_now(committer);
            self.progress.notify();
            return Ok(false);
        }
        let written = Progress::at(&self.progress.written);
        committer.journal.switch(written + 1, checkpointed)?;
        self.mark_synced();
        Ok(true)
    }

    fn write_group(&self, committer: &mut Committer, mut pending: Pending) {
        let sequence = Progress::at(&self.progress.written) + 1;
        pending.buffer.seal(Seal {
            salt: committer.journal.salt(),
            sequence,
            synced_sequence: Progress::at(&self.progress.synced),
            checkpointed_sequence: Progress::at(&self.progress.checkpointed),
        });
        let started = Instant::now();
        let mut result = committer.journal.write(sequence, pending.buffer.bytes());
        let written = result.is_ok();
        if written && self.options.durability == Durability::Sync {
            let begun = Instant::now();
            result = committer.journal.sync();
            committer.flushes.add(begun.elapsed());
            let is_slow = committer.flushes.are_slow();
            self.progress.flush_is_slow.store(is_slow, Ordering::Release);
        }
        match result {
            Ok(()) => {}
            Err(error) if !written && error.kind() == io::ErrorKind::StorageFull => {
                // Nothing of it counts: the next group is written over it.
                self.refuse_pending(pending);
                return;
            }
            Err(error) => {
                self.fail("writing the journal", &error);
                let reason = self.failed().unwrap_or_default();
                for done in pending.dones {
                    done(Err(CommitError::Failed(reason.clone())));
                }
                return;
            }
        }
        self.progress.written.store(sequence, Ordering::Release);
        if self.options.durability == Durability::Sync {
            self.mark_synced();
        }
        let Pending { buffer, dones } = pending;
        let group = Arc::new(buffer.into_group(sequence, &self.group_memory));
        self.count_group(&group, started.elapsed());
        self.publish(committer, group);
        dones.into_iter().for_each(|done| done(Ok(())));
    }

    /// Moves the high watermarks and what is decided below them (a marker ends its transaction at
    /// the very moment it can be seen); the group goes to the settle step and stays for readers.
    fn publish(&self, committer: &mut Committer, group: Arc<Group>) {
        for entry in &group.entries {
            let mut shared = entry.partition.shared();
            shared.unsettled_bytes += (entry.end - entry.start) as u64;
            shared.max_timestamp_ms = shared.max_timestamp_ms.max(entry.max_timestamp_ms);
            assert!(
                shared.high_watermark <= entry.base_offset,
                "invariant 3: a high watermark never goes back"
            );
            if entry.transactional {
                let run = group.bytes.slice(entry.start..entry.end);
                for (header, batch) in wire::batches(&run) {
                    let aborted = shared.open_transactions.apply(&header, &batch);
                    shared.unsettled_aborted.extend(aborted);
                }
            }
            shared.high_watermark = entry.last_offset + 1;
            shared.tail.push_back(tail_entry(&group, entry));
        }
        let bytes = group.bytes.len() as u64;
        let before = self.progress.unsettled_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.unsettled.lock().expect("no holder of the groups panics").push_back(group.clone());
        let threshold = settle_threshold(self.options.unsettled_bytes_max);
        if before == 0 || (before < threshold && before + bytes >= threshold) {
            self.progress.notify();
        }
        self.group_memory.keep(&group);
        committer.ring.push_back(group);
        self.evict(committer);
    }

    /// Oldest out, but never what segments do not hold yet. What slow readers still have of those
    /// that went counts, so that others go in its place: with what is unsettled on top, the bounds
    /// of both are never passed.
    fn evict(&self, committer: &mut Committer) {
        let settled = Progress::at(&self.progress.settled);
        while self.group_memory.all() > self.options.tail_cache_bytes_max {
            let Some(oldest) = committer.ring.front() else { break };
            if oldest.sequence > settled {
                break;
            }
            let Some(oldest) = committer.ring.pop_front() else { break };
            self.group_memory.let_go(&oldest);
            for entry in &oldest.entries {
                entry.partition.shared().evict(oldest.sequence);
            }
        }
    }

    fn mark_synced(&self) {
        let written = Progress::at(&self.progress.written);
        self.progress.synced.store(written, Ordering::Release);
        self.progress.check();
    }

    fn sync_if_due(&self, committer: &mut Committer) {
        if self.flush_interval().is_some_and(|interval| committer.last_sync.elapsed() >= interval) {
            self.sync_now(committer);
        }
    }

    /// Under `Interval`: what was answered already becomes durable.
    pub fn sync_now(&self, committer: &mut Committer) {
        if Progress::at(&self.progress.synced) == Progress::at(&self.progress.written) {
            return;
        }
        match committer.journal.sync() {
            Ok(()) => {
                self.mark_synced();
                committer.last_sync = Instant::now();
                self.progress.notify();
            }
            Err(error) => self.fail("syncing the journal", &error),
        }
    }

    fn refuse_pending(&self, pending: Pending) {
        self.stats().full = true;
        for entry in pending.buffer.entries.iter().rev() {
            entry.partition.next_offset.store(entry.base_offset, Ordering::Release);
            entry.partition.refusing.store(true, Ordering::Release);
        }
        pending.dones.into_iter().for_each(|done| done(Err(CommitError::Full)));
    }

    fn refuse_all(&self, committer: &mut Committer, error: &CommitError) {
        if let Some(pending) = committer.pending.take() {
            pending.dones.into_iter().for_each(|done| done(Err(error.clone())));
        }
        let units = std::mem::take(&mut self.queue().units);
        units.into_iter().for_each(|unit| (unit.done)(Err(error.clone())));
    }

    /// Before a clean close: what `Interval` has answered becomes durable.
    pub fn finish_interval(&self) {
        let mut committer = self.committer.lock().expect("no holder of the committer panics");
        self.sync_now(&mut committer);
    }

    pub fn refuse_queued(&self, error: &CommitError) {
        let mut committer = self.committer.lock().expect("no holder of the committer panics");
        self.refuse_all(&mut committer, error);
    }

    /// The commit thread may be gone: what is queued is refused from here, and nothing more is
    /// taken.
    pub fn refuse_after_panic(&self) {
        let units = {
            let mut queue = self.queue();
            queue.open = false;
            std::mem::take(&mut queue.units)
        };
        let reason = self.failed().unwrap_or_default();
        units.into_iter().for_each(|unit| (unit.done)(Err(CommitError::Failed(reason.clone()))));
    }

    fn count_group(&self, group: &Group, time: Duration) {
        let seconds = time.as_secs_f64();
        let bytes = group.bytes.len() as u64;
        let mut stats = self.stats();
        stats.groups += 1;
        stats.bytes += bytes;
        stats.sync_seconds_sum += seconds;
        stats.sync_seconds[SYNC_SECONDS_BUCKETS.partition_point(|bound| *bound < seconds)] += 1;
        stats.group_bytes[GROUP_BYTES_BUCKETS.partition_point(|bound| *bound < bytes)] += 1;
    }
}

/// The settle thread is woken at once beyond this, and otherwise lets small groups gather.
pub(crate) fn settle_threshold(unsettled_bytes_max: usize) -> u64 {
    (unsettled_bytes_max as u64 / 8).min(1 << 20)
}

fn tail_entry(group: &Group, entry: &GroupEntry) -> TailEntry {
    TailEntry {
        sequence: group.sequence,
        base_offset: entry.base_offset,
        last_offset: entry.last_offset,
        max_timestamp_ms: entry.max_timestamp_ms,
        bytes: group.bytes.slice(entry.start..entry.end),
    }
}

const _: () = assert!(GROUP_BYTES_MAX as u64 > journal::HEADER_BYTES);
