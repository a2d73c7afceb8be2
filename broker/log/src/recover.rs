//! What open finds in the journal: the groups of both files in sequence, where they end, and
//! whether that end is a torn tail (nothing behind it says that it had been durable) or damage.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::group::{self, Found, FoundEntry, MarkedAt};
use crate::journal::{self, Journal};
use crate::read::read_range;
use crate::types::{Damage, DamagedGroups, PartitionId, TornTail};
use crate::walk::rewrite;

const WINDOW_BYTES: usize = 1 << 20;

/// Journal entries that segments may lack, kept from open to start.
#[derive(Default)]
pub(crate) struct Recovery {
    entries: HashMap<PartitionId, Vec<Recovered>>,
    /// Of each partition the first offset in a group that was cut, whatever its segment holds.
    cut: HashMap<PartitionId, i64>,
    /// Where those end that a checkpoint covers: segments hold as much durably. Only of partitions
    /// whose segments may hold more than that.
    covered_ends: HashMap<PartitionId, i64>,
    files: Vec<Arc<dyn DiskFile>>,
    /// Groups are missing in the middle: segments may know more than the journal.
    pub careful: bool,
    pub last_sequence: u64,
    pub checkpointed_sequence: u64,
    pub groups: usize,
    pub bytes: u64,
    /// Found by attach, for the start report.
    pub damage: Vec<Damage>,
    pub recovered_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Recovered {
    pub sequence: u64,
    file: usize,
    group_position: u64,
    /// Of the batches, where they are in the journal.
    position: u64,
    pub marked: Option<MarkedAt>,
    pub bytes: usize,
    pub base_offset: i64,
    pub last_offset: i64,
}

#[derive(Default)]
pub(crate) struct Scanned {
    pub recovery: Recovery,
    pub torn_tail: Option<TornTail>,
    pub damaged_groups: Vec<DamagedGroups>,
    /// Groups up to here had been durable, all parts of them.
    pub proven_sequence: u64,
    /// The groups behind it, where they lie.
    unproven: VecDeque<Place>,
}

struct Place {
    sequence: u64,
    file: usize,
    from: u64,
    to: u64,
}

impl Scanned {
    /// Writes the unproven groups once more, in their places: what a failed sync has left in the
    /// page cache is clean there, and on the disk it is not.
    pub fn rewrite_unproven(&self) -> io::Result<()> {
        let mut places = self.unproven.iter();
        places.try_for_each(|at| rewrite(&self.recovery.files[at.file], at.from, at.to))
    }
}

impl Recovery {
    /// The partition's entries in offset order; they are given out once.
    pub fn take(&mut self, id: PartitionId) -> Vec<Recovered> {
        self.entries.remove(&id).unwrap_or_default()
    }

    /// The first offset of it that a segment may hold and that does not count.
    pub fn cut_of(&self, id: PartitionId) -> Option<i64> {
        self.cut.get(&id).copied()
    }

    /// Where the partition's last entry ended that a checkpoint covers.
    pub fn covered_end_of(&self, id: PartitionId) -> Option<i64> {
        self.covered_ends.get(&id).copied()
    }

    pub fn all(&self) -> impl Iterator<Item = (&PartitionId, &Vec<Recovered>)> {
        self.entries.iter()
    }

    /// Takes out this group and all behind it.
    pub fn cut_from(&mut self, sequence: u64) {
        for (id, entries) in &mut self.entries {
            let kept = entries.partition_point(|entry| entry.sequence < sequence);
            if let Some(first) = entries.get(kept) {
                self.cut.insert(*id, first.base_offset);
            }
            entries.truncate(kept);
        }
        self.entries.retain(|_, entries| !entries.is_empty());
        self.count();
    }

    fn count(&mut self) {
        let mut sequences: Vec<u64> =
            self.entries.values().flatten().map(|entry| entry.sequence).collect();
        sequences.sort_unstable();
        sequences.dedup();
        self.groups = sequences.len();
        self.bytes = self.entries.values().flatten().map(|entry| entry.bytes as u64).sum();
    }

    /// File and position of its group.
    pub fn place_of_group(&self, entry: &Recovered) -> (&'static str, u64) {
        (journal::FILE_NAMES[entry.file], entry.group_position)
    }

    pub fn batches(&self, entry: &Recovered) -> io::Result<Bytes> {
        let end = entry.position + entry.bytes as u64;
        read_range(&self.files[entry.file], entry.position, entry.bytes, end)
    }
}

/// One file's part of the scan.
struct FileScan<'a> {
    file: &'a Arc<dyn DiskFile>,
    index: usize,
    name: &'static str,
    salt: u64,
    end: u64,
    window: Bytes,
    window_at: u64,
}

/// Where parts of so many bytes went to segments at once (`direct`).
pub(crate) fn scan(journal: &Journal, clean: bool, direct_bytes_min: usize) -> io::Result<Scanned> {
    let mut scanned = Scanned::default();
    scanned.recovery.files = journal.files.iter().map(|file| file.file.clone()).collect();
    let mut used: Vec<usize> = (0..2).filter(|i| journal.files[*i].header.is_some()).collect();
    used.sort_by_key(|index| journal.files[*index].header.map(|header| header.first_sequence));
    let newest = used.iter().filter_map(|index| journal.files[*index].header).next_back();
    let mut expected = None;
    for index in used {
        let file = &journal.files[index];
        let Some(header) = file.header else { continue };
        let recovery = &mut scanned.recovery;
        recovery.checkpointed_sequence =
            recovery.checkpointed_sequence.max(header.checkpointed_sequence);
        // What a clean close leaves behind: all of it is in segments, and need not be read.
        if let Some(newest) = newest.filter(|newest| newest.first_sequence > header.first_sequence)
            && newest.checkpointed_sequence + 1 >= newest.first_sequence
        {
            continue;
        }
        let next = *expected.get_or_insert(header.first_sequence);
        if header.first_sequence > next {
            // The file before was synced to its end before this header was written.
            scanned.damaged_groups.push(DamagedGroups {
                file: "journal".to_owned(),
                first_sequence: next,
                last_sequence: header.first_sequence - 1,
            });
            scanned.torn_tail = None;
        }
        let end = file.file.byte_count()?.saturating_sub(journal::HEADER_BYTES);
        let mut scan = FileScan {
            file: &file.file,
            index,
            name: file.name,
            salt: header.salt,
            end,
            window: Bytes::new(),
            window_at: 0,
        };
        expected = Some(scan.run(&mut scanned, header.first_sequence, clean)?);
    }
    scanned.recovery.last_sequence = expected.map_or(0, |expected| expected - 1);
    finish(&mut scanned, direct_bytes_min);
    Ok(scanned)
}

/// What a checkpoint covers needs no replay, and its loss does no harm.
fn finish(scanned: &mut Scanned, direct_bytes_min: usize) {
    let recovery = &mut scanned.recovery;
    let covered = recovery.checkpointed_sequence;
    recovery.last_sequence = recovery.last_sequence.max(covered);
    // What was lost may have held more of any partition that no later group tells of.
    let damaged_to = scanned.damaged_groups.iter().map(|groups| groups.last_sequence).max();
    scanned.damaged_groups.retain(|groups| groups.last_sequence > covered);
    recovery.careful = !scanned.damaged_groups.is_empty();
    let covered_ends = &mut recovery.covered_ends;
    recovery.entries.retain(|id, entries| {
        let beyond = entries.partition_point(|entry| entry.sequence <= covered);
        let last = entries[..beyond].last();
        if let Some(last) = last.filter(|last| Some(last.sequence) > damaged_to)
            && has_large_part(entries, direct_bytes_min)
        {
            covered_ends.insert(*id, last.last_offset + 1);
        }
        entries.drain(..beyond);
        !entries.is_empty()
    });
    recovery.count();
    scanned.proven_sequence = scanned.proven_sequence.max(covered);
}

/// Of one group.
fn has_large_part(entries: &[Recovered], bytes_min: usize) -> bool {
    let mut parts = entries.chunk_by(|a, b| a.sequence == b.sequence);
    parts.any(|part| part.iter().map(|entry| entry.bytes).sum::<usize>() >= bytes_min)
}

impl FileScan<'_> {
    /// Returns the sequence after the last group.
    fn run(&mut self, scanned: &mut Scanned, first: u64, clean: bool) -> io::Result<u64> {
        let mut expected = first;
        let mut position = journal::HEADER_BYTES;
        while position < self.end {
            if let Some((found, group)) = self.group_at(position)?
                && found.seal.sequence == expected
            {
                self.take(scanned, position, &found, &group);
                expected += 1;
                position += group::aligned(group.len() as u64);
                continue;
            }
            if clean {
                break;
            }
            let begun = self.begun_at(position)?;
            match self.proof_behind(position, expected)? {
                Some((at, sequence)) => {
                    scanned.damaged_groups.push(DamagedGroups {
                        file: self.name.to_owned(),
                        first_sequence: expected,
                        last_sequence: sequence - 1,
                    });
                    expected = sequence;
                    position = at;
                }
                None => {
                    if begun {
                        let file = self.name.to_owned();
                        scanned.torn_tail = Some(TornTail { file, position, sequence: expected });
                    }
                    break;
                }
            }
        }
        Ok(expected)
    }

    fn take(&self, scanned: &mut Scanned, position: u64, found: &Found, group: &Bytes) {
        scanned.proven_sequence = scanned.proven_sequence.max(found.seal.synced_sequence);
        let (sequence, to) = (found.seal.sequence, position + group.len() as u64);
        scanned.unproven.push_back(Place { sequence, file: self.index, from: position, to });
        while scanned.unproven.front().is_some_and(|at| at.sequence <= scanned.proven_sequence) {
            scanned.unproven.pop_front();
        }
        let recovery = &mut scanned.recovery;
        recovery.checkpointed_sequence =
            recovery.checkpointed_sequence.max(found.seal.checkpointed_sequence);
        for entry in found.entries(group).unwrap_or_default() {
            let FoundEntry { partition, base_offset, last_offset, start, bytes, marked } = entry;
            recovery.entries.entry(partition).or_default().push(Recovered {
                sequence: found.seal.sequence,
                file: self.index,
                group_position: position,
                position: position + start as u64,
                marked,
                bytes,
                base_offset,
                last_offset,
            });
        }
    }

    /// A valid group of this use of the file at the position.
    fn group_at(&mut self, position: u64) -> io::Result<Option<(Found, Bytes)>> {
        let header = self.bytes_at(position, group::HEADER_BYTES)?;
        let Some(found) = Found::parse(&header).filter(|found| found.seal.salt == self.salt) else {
            return Ok(None);
        };
        if found.byte_count() as u64 > self.end - position {
            return Ok(None);
        }
        let group = self.bytes_at(position, found.byte_count())?;
        Ok(found.verify(&group).then_some((found, group)))
    }

    fn begun_at(&mut self, position: u64) -> io::Result<bool> {
        let header = self.bytes_at(position, group::HEADER_BYTES)?;
        let Some((magic, salt)) = header.first_chunk::<8>().zip(header.get(8..16)) else {
            return Ok(false);
        };
        let salt = salt.try_into().map_or(0, u64::from_le_bytes);
        // A bit of either may have flipped. What a former use left has another salt.
        let differing = (salt ^ self.salt).count_ones();
        Ok(differing == 0 || differing == 1 && magic.starts_with(&group::MAGIC.to_le_bytes()))
    }

    /// The next valid group behind the position that says that `sequence` had been synced.
    fn proof_behind(&mut self, position: u64, sequence: u64) -> io::Result<Option<(u64, u64)>> {
        let mut at = position + 8;
        while at + group::HEADER_BYTES as u64 <= self.end {
            let window = self.bytes_at(at, WINDOW_BYTES)?;
            let candidates = self.candidates(&window);
            for candidate in candidates {
                let candidate = at + candidate as u64;
                if let Some((found, _)) = self.group_at(candidate)?
                    && found.seal.sequence > sequence
                    && found.seal.synced_sequence >= sequence
                {
                    return Ok(Some((candidate, found.seal.sequence)));
                }
            }
            // The last header of a window may be cut: begin the next one before it.
            let step = window.len().saturating_sub(group::HEADER_BYTES).next_multiple_of(8);
            at += step.max(8) as u64;
        }
        Ok(None)
    }

    fn candidates(&self, window: &Bytes) -> Vec<usize> {
        let salt = self.salt.to_le_bytes();
        let magic = group::MAGIC.to_le_bytes();
        let words = window.chunks_exact(8).enumerate().skip(1);
        let salted = words.filter(|(_, word)| **word == salt).map(|(index, _)| (index - 1) * 8);
        salted.filter(|at| window[*at..].starts_with(&magic)).collect()
    }

    /// Up to `bytes` bytes from the position, through a window that neighbours share.
    fn bytes_at(&mut self, position: u64, bytes: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        let window_end = self.window_at + self.window.len() as u64;
        if position < self.window_at || position + bytes as u64 > window_end {
            let wanted = bytes.max(WINDOW_BYTES);
            self.window = read_range(self.file, position, wanted, self.end)?;
            self.window_at = position;
        }
        let from = usize::try_from(position - self.window_at).unwrap_or(usize::MAX);
        Ok(self.window.slice(from..from + bytes))
    }
}
