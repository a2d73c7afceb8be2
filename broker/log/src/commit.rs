//! The commit step: everything that queued up while the last group was being written becomes the
//! next one (`queue` says what goes first), with one write to the journal, and before it one to
//! each segment that takes a large part (`direct`); `flight` does the rest: syncs side by side,
//! then the high watermarks move and the waiters are answered, in the group's order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::core::{Core, Progress, Step};
use crate::direct::Direct;
use crate::flight::{Answer, Flight};
use crate::group::{self, GroupBuffer, Seal};
use crate::journal::{self, Journal};
use crate::partition::Partition;
use crate::queue::{GROUP_BYTES_MAX, take_group, unit_bytes};
use crate::types::{Append, CommitError, Durability, Unit};

/// Units that only keep others going, such as the groups' offsets, leave this share of the reserve.
/// What makes room (the broker's own state) may use all of it, so that a full disk can be emptied:
/// removing data begins with a state record.
const KEYED_RESERVE_SHARE: u64 = 2;

pub(crate) struct Committer {
    journal: Journal,
    /// Taken from the queue and not yet written, because another step has to go on first.
    pending: Option<Pending>,
    last_sync: Instant,
}

struct Pending {
    buffer: GroupBuffer,
    answers: Vec<Answer>,
}

impl Committer {
    pub fn new(journal: Journal) -> Self {
        Committer { journal, pending: None, last_sync: Instant::now() }
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
    /// One group, from the queue to its answers.
    pub fn commit_step(&self) -> Step {
        match self.take_off() {
            Ok(flight) => {
                self.land(flight);
                Step::Worked
            }
            Err(step) => step,
        }
    }

    /// Writes the next group, or says why there is none to write now.
    pub fn take_off(&self) -> Result<Flight, Step> {
        let mut committer = self.committer.lock().expect("no holder of the committer panics");
        if let Some(reason) = self.failed() {
            self.refuse_all(&mut committer, &CommitError::Failed(reason));
            return Err(Step::Idle);
        }
        self.sync_if_due(&mut committer);
        if committer.pending.is_none() {
            // With room for the next group, so that it is within the bound, too.
            let unsettled = self.unsettled_bytes();
            let ahead = unsettled + self.group_bytes_max() as u64;
            if ahead > self.options.unsettled_bytes_max as u64
                && !self.progress.settle_stuck.load(Ordering::Acquire)
            {
                // Under `Interval` nothing settles before its sync.
                self.sync_answered(&mut committer);
                return Err(Step::Waiting);
            }
            committer.pending = self.fill_group();
        }
        let Some(pending) = committer.pending.take() else { return Err(Step::Idle) };
        if pending.buffer.entries.is_empty() {
            // All refused, or without appends: nothing to make durable.
            return Ok(self.flights.take_off(None, pending.answers, Vec::new(), Instant::now()));
        }
        match self.make_room(&mut committer, pending.buffer.byte_count()) {
            Ok(true) => Ok(self.write_parts(&mut committer, pending)),
            // The other journal file is not free before segments can be written.
            Ok(false) if self.progress.settle_stuck.load(Ordering::Acquire) => {
                Ok(self.refuse_pending(pending))
            }
            Ok(false) => {
                committer.pending = Some(pending);
                Err(Step::Waiting)
            }
            Err(error) => {
                committer.pending = Some(pending);
                self.fail("taking a journal file into use", &error);
                Err(Step::Worked)
            }
        }
    }

    /// Of groups that were written, and that segments do not hold yet.
    pub fn unsettled_bytes(&self) -> u64 {
        self.flights.bytes_with(&self.progress.unsettled_bytes)
    }

    /// The group that the queue's units make, and the answers of those that are refused.
    fn fill_group(&self) -> Option<Pending> {
        let units = self.take_units()?;
        let bytes: usize = units.iter().map(unit_bytes).sum();
        let mut buffer = GroupBuffer::with_capacity(bytes);
        let mut answers = Vec::with_capacity(units.len());
        let stuck = self.progress.settle_stuck.load(Ordering::Acquire);
        // On a disk without room the journal, whose room is reserved, takes what makes room; not
        // without end, as it cannot be settled before there is some.
        let unsettled = self.unsettled_bytes();
        let room = Room {
            free_bytes: if stuck { 0 } else { self.disk.free_bytes().unwrap_or(u64::MAX) },
            takes_urgent: unsettled < 2 * self.options.unsettled_bytes_max as u64,
        };
        for unit in units {
            let answer = self.push_unit(&mut buffer, &unit, room);
            answers.push((unit.done, answer));
        }
        let refused_for_space = answers.iter().any(|(_, answer)| *answer == Err(CommitError::Full));
        let mut stats = self.stats();
        stats.disk_free_bytes = room.free_bytes;
        stats.full = refused_for_space || room.free_bytes < self.options.disk_reserve_bytes;
        stats.units += answers.iter().filter(|(_, answer)| answer.is_ok()).count() as u64;
        drop(stats);
        Some(Pending { buffer, answers })
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
            self.sync_answered(committer);
            self.progress.notify();
            return Ok(false);
        }
        let written = Progress::at(&self.progress.written);
        committer.journal.switch(written + 1, checkpointed)?;
        // Of a group in flight, segments may hold a part: that lands by its own sync.
        if self.options.durability != Durability::Sync {
            self.mark_synced(written);
        }
        Ok(true)
    }

    /// What goes to segments, then the group in the journal that speaks of it.
    fn write_parts(&self, committer: &mut Committer, pending: Pending) -> Flight {
        let started = Instant::now();
        match self.write_directly(&pending.buffer, committer.journal.first_sequence()) {
            Ok(direct) => self.write_group(committer, pending, direct, started),
            Err(error) => {
                self.fail("writing a segment", &error);
                self.fail_pending(pending, started)
            }
        }
    }

    fn write_group(
        &self,
        committer: &mut Committer,
        mut pending: Pending,
        direct: Direct,
        started: Instant,
    ) -> Flight {
        let sequence = Progress::at(&self.progress.written) + 1;
        let seal = Seal {
            salt: committer.journal.salt(),
            sequence,
            synced_sequence: Progress::at(&self.progress.synced),
            checkpointed_sequence: Progress::at(&self.progress.checkpointed),
        };
        let bytes = pending.buffer.seal(seal, &direct.marks);
        match committer.journal.write(sequence, &bytes) {
            Ok(()) => {}
            // Nothing of it counts: the next group is written over it.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                drop(bytes);
                if let Err(error) = self.undo_direct(direct) {
                    self.fail("taking back what a segment holds", &error);
                    return self.fail_pending(pending, started);
                }
                return self.refuse_pending(pending);
            }
            Err(error) => {
                drop(bytes);
                self.fail("writing the journal", &error);
                return self.fail_pending(pending, started);
            }
        }
        drop(bytes);
        self.progress.written.store(sequence, Ordering::Release);
        let direct_bytes = direct.marks.iter().map(|mark| mark.bytes).sum();
        let mut files = Vec::new();
        if self.options.durability == Durability::Sync {
            files.push(committer.journal.handle(self.flights.handle()));
            files.extend(direct.files);
            self.stats().direct_bytes += direct_bytes as u64;
        }
        let Pending { buffer, answers } = pending;
        let group = buffer.into_group(sequence, direct_bytes, direct.large, &self.group_memory);
        self.evict();
        self.flights.take_off(Some(group), answers, files, started)
    }

    fn fail_pending(&self, pending: Pending, started: Instant) -> Flight {
        let reason = self.failed().unwrap_or_default();
        let failed = |(done, _)| (done, Err(CommitError::Failed(reason.clone())));
        let answers = pending.answers.into_iter().map(failed).collect();
        self.flights.take_off(None, answers, Vec::new(), started)
    }

    /// Groups are durable up to this one.
    pub fn mark_synced(&self, sequence: u64) {
        self.progress.synced.fetch_max(sequence, Ordering::AcqRel);
        self.progress.check();
    }

    fn sync_if_due(&self, committer: &mut Committer) {
        if self.flush_interval().is_some_and(|interval| committer.last_sync.elapsed() >= interval) {
            self.sync_answered(committer);
        }
    }

    /// Under `Interval`: what was answered already becomes durable.
    fn sync_answered(&self, committer: &mut Committer) {
        let written = Progress::at(&self.progress.written);
        let is_synced = Progress::at(&self.progress.synced) == written;
        if is_synced || self.options.durability == Durability::Sync {
            return;
        }
        match committer.journal.sync() {
            Ok(()) => {
                self.mark_synced(written);
                committer.last_sync = Instant::now();
                self.progress.notify();
            }
            Err(error) => self.fail("syncing the journal", &error),
        }
    }

    fn refuse_pending(&self, pending: Pending) -> Flight {
        self.stats().full = true;
        for entry in pending.buffer.entries.iter().rev() {
            entry.partition.next_offset.store(entry.base_offset, Ordering::Release);
            entry.partition.refusing.store(true, Ordering::Release);
        }
        let full = |(done, _)| (done, Err(CommitError::Full));
        let answers = pending.answers.into_iter().map(full).collect();
        self.flights.take_off(None, answers, Vec::new(), Instant::now())
    }

    fn refuse_all(&self, committer: &mut Committer, error: &CommitError) {
        if let Some(pending) = committer.pending.take() {
            pending.answers.into_iter().for_each(|(done, _)| done(Err(error.clone())));
        }
        let units = std::mem::take(&mut self.queue().units);
        units.into_iter().for_each(|unit| (unit.done)(Err(error.clone())));
    }

    /// Before a clean close: what `Interval` has answered becomes durable.
    pub fn finish_interval(&self) {
        let mut committer = self.committer.lock().expect("no holder of the committer panics");
        self.sync_answered(&mut committer);
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
}

const _: () = assert!(GROUP_BYTES_MAX as u64 > journal::HEADER_BYTES);
