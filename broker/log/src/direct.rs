//! The direct path: what a group holds of one partition, if it is much, goes to that partition's
//! segment and not to the journal, so that it is written once. The journal's group has a *mark* in
//! its place: where it lies, how long it is, and its checksum.
//!
//! ```text
//! segment   … settled │ written ahead: carried, marked, marked … │
//!                     ▲ settled end (index, readers, checkpoint) ▲ front
//! ```
//!
//! - **A group counts when all of its parts are durable**: the journal's bytes and each segment's.
//!   A flight syncs them side by side, each by a handle that was opened before the write, that it
//!   alone has, and that is closed when it has landed; so no other sync can hear of the write-back
//!   that failed in its place.
//! - **The front**: the bytes between the settled end and it are in the file and nowhere else; they
//!   are no part of the segment's index, of its side file, of what a checkpoint claims, and no
//!   reader looks there (the tail has them in memory). Settling takes batches below the front
//!   into the index without writing them again. A segment is not sealed while there are any: who
//!   wants that asks for it, and meanwhile the partition's batches go to the journal.
//! - **In the order of offsets**: only the commit step moves the front, under the writer's lock.
//!   What of the partition is in the journal and not in the segment yet, landed or in flight, is
//!   *carried* along in front of the marked bytes. It counts by the journal as ever, so it is
//!   marked as dirty for the checkpoint.
//! - **What a segment holds beyond all that counts must be known to be that**, after a crash, too:
//!   a start takes a segment as it is up to where the journal's last entry of the partition ends,
//!   though a checkpoint covers it, or to the first one that none covers. So that it need not look
//!   so closely at each partition, only at those with a large part in the files that it reads, a
//!   partition goes this way only while they hold one of it that was synced.
//! - **A start** believes a group behind the last one that is proven only if all its marked bytes
//!   are there; else it is a torn tail, with all behind it (`cut_torn`). A proven group without its
//!   bytes is damage, told by `attach`. A segment that is gone was sealed, or its partition
//!   removed, and both come after the landing, as its name was durable before. What counts is
//!   written again in its place, as what a failed sync has left in the page cache is not on the
//!   disk; only then what lies behind is cut. The places are those of before: what precedes marked
//!   bytes in their segment comes back there without a seal between.
//!
//! Whatever is rare stays in the journal: a partition that is just being sealed, whose segment is
//! empty, full or about to be sealed, or has a name that is not synced yet, or on a full disk.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::core::Core;
use crate::disk::{Disk, DiskFile};
use crate::folders::Folders;
use crate::group::{Group, GroupBuffer, GroupEntry, Mark, MarkedAt};
use crate::name::SegmentName;
use crate::partition::{Partition, Writer};
use crate::read::read_range;
use crate::recover::{Recovered, Scanned};
use crate::segment::{SEGMENT_BYTES_MAX, write_pieces};
use crate::transactions::ABORTED_PER_SEGMENT_MAX;
use crate::types::{Durability, PartitionId, Store, TornTail};
use crate::wire;

/// Partitions of one group that go this way: each costs a sync.
const PARTITIONS_MAX: usize = 16;

/// How far a segment is written, where that is beyond what is settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front {
    pub end_offset: i64,
    pub bytes: u64,
    /// Control batches between the settled end and here, at least.
    controls: u32,
}

/// What of a group went to segments.
#[derive(Default)]
pub(crate) struct Direct {
    /// The partitions of which the group has a large part.
    pub large: Vec<Arc<Partition>>,
    pub marks: Vec<Mark>,
    /// To be synced before the group counts.
    pub files: Vec<Arc<dyn DiskFile>>,
    undo: Vec<Undo>,
}

struct Undo {
    partition: Arc<Partition>,
    file: Arc<dyn DiskFile>,
    front: Option<Front>,
    bytes: u64,
}

impl Core {
    pub fn is_direct(&self) -> bool {
        self.options.direct_bytes_min < usize::MAX
            && self.options.store == Store::Segments
            && self.options.durability == Durability::Sync
    }

    /// Writes what is to go to segments, of a journal whose groups a start would read from this one
    /// on. After an error nothing more is to be written.
    pub fn write_directly(&self, buffer: &GroupBuffer, first_sequence: u64) -> io::Result<Direct> {
        let mut direct = Direct::default();
        let stuck = self.progress.settle_stuck.load(Ordering::Acquire);
        if !self.is_direct() || stuck || buffer.byte_count() < self.options.direct_bytes_min {
            return Ok(direct);
        }
        let mut parts: BTreeMap<PartitionId, Vec<&GroupEntry>> = BTreeMap::new();
        for entry in &buffer.entries {
            parts.entry(entry.partition.id).or_default().push(entry);
        }
        parts.retain(|_, entries| {
            let bytes: usize = entries.iter().map(|entry| entry.end - entry.start).sum();
            bytes >= self.options.direct_bytes_min
        });
        direct.large = parts.values().map(|entries| entries[0].partition.clone()).collect();
        // Before the looks at tails: one that lands between the two is in both.
        let in_flight = self.flights.groups();
        for entries in parts.into_values().take(PARTITIONS_MAX) {
            self.write_part(&mut direct, buffer, &entries, &in_flight, first_sequence)?;
        }
        Ok(direct)
    }

    fn write_part(
        &self,
        direct: &mut Direct,
        buffer: &GroupBuffer,
        entries: &[&GroupEntry],
        in_flight: &[Arc<Group>],
        first_sequence: u64,
    ) -> io::Result<()> {
        let partition = &entries[0].partition;
        // Else the next groups would wait for that sync.
        let Some(mut writer) = partition.writer_unless_syncing() else { return Ok(()) };
        let Some(plan) = plan(partition, &writer, in_flight, entries, buffer, first_sequence)
        else {
            return Ok(());
        };
        let Plan { front, carried, name, .. } = plan;
        let path = partition.segment_path(name);
        // Where files cannot be opened now, the part stays in the journal.
        let Ok(file) = self.disk.create(&path) else { return Ok(()) };
        if !carried.is_empty() {
            if writer.file.is_none() {
                let Ok(kept) = self.disk.create(&path) else { return Ok(()) };
                writer.file = Some(kept);
            }
            writer.dirty = true;
        }
        let marked = entries.iter().map(|entry| &buffer.bytes()[entry.start..entry.end]);
        let pieces: Vec<&[u8]> = carried.iter().map(|run| &run[..]).chain(marked.clone()).collect();
        match write_pieces(&file, front.bytes, &pieces) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                return cut(&file, front.bytes);
            }
            Err(error) => return Err(error),
        }
        let carried_bytes: u64 = carried.iter().map(|run| run.len() as u64).sum();
        let marked_bytes: usize = marked.clone().map(<[u8]>::len).sum();
        let position = front.bytes + carried_bytes;
        let (first, last) = (entries[0], entries[entries.len() - 1]);
        direct.marks.push(Mark {
            partition: partition.id,
            base_offset: first.base_offset,
            last_offset: last.last_offset,
            bytes: marked_bytes,
            at: MarkedAt {
                segment: name.base_offset,
                position,
                crc: marked.fold(0, crc32c::crc32c_append),
            },
        });
        direct.files.push(file.clone());
        let undo =
            Undo { partition: partition.clone(), file, front: writer.front, bytes: front.bytes };
        direct.undo.push(undo);
        writer.front = Some(Front {
            end_offset: last.last_offset + 1,
            bytes: position + marked_bytes as u64,
            controls: plan.controls,
        });
        Ok(())
    }

    /// The group is not written after all.
    pub fn undo_direct(&self, direct: Direct) -> io::Result<()> {
        for undo in direct.undo {
            let mut writer = undo.partition.writer();
            // What was carried along may have settled meanwhile, where it lies.
            let settled = undo.partition.shared().active.as_ref().map_or(0, |a| a.summary.bytes);
            cut(&undo.file, undo.bytes.max(settled))?;
            writer.front = undo.front;
        }
        Ok(())
    }
}

/// At once and for good: of bytes that are in no group nothing would say that they do not count.
fn cut(file: &Arc<dyn DiskFile>, bytes: u64) -> io::Result<()> {
    if file.byte_count()? > bytes {
        file.set_len(bytes)?;
    }
    file.sync()
}

struct Plan {
    /// Where what is written now begins.
    front: Front,
    carried: Vec<Bytes>,
    /// With those of the new bytes.
    controls: u32,
    name: SegmentName,
}

/// None if the partition's entries are to stay in the journal.
fn plan(
    partition: &Partition,
    writer: &Writer,
    in_flight: &[Arc<Group>],
    entries: &[&GroupEntry],
    buffer: &GroupBuffer,
    first_sequence: u64,
) -> Option<Plan> {
    if partition.is_removed() {
        return None;
    }
    let shared = partition.shared();
    let summary = shared.active.as_ref()?.summary;
    let is_known = shared.large_sequence >= first_sequence;
    // A new name is synced behind the settling: here, the next groups would wait for that.
    if !is_known || writer.has_new_names() || summary.is_empty() || shared.roll_requested {
        return None;
    }
    let settled = Front { end_offset: shared.settled_end, bytes: summary.bytes, controls: 0 };
    let front = writer.front_beyond(settled.end_offset).unwrap_or(settled);
    let mut next = front.end_offset;
    let mut carried: Vec<Bytes> = Vec::new();
    let tail = shared.tail_for(next).into_iter().flat_map(|first| shared.tail.range(first..));
    let tail = tail.map(|entry| (entry.base_offset, entry.last_offset, entry.bytes.clone()));
    let flying = in_flight.iter().flat_map(|group| {
        let ours = group.entries.iter().filter(|entry| entry.partition.id == partition.id);
        ours.map(|e| (e.base_offset, e.last_offset, group.bytes.slice(e.start..e.end)))
    });
    for (base_offset, last_offset, run) in tail.chain(flying) {
        if last_offset < next {
            continue;
        }
        if base_offset != next {
            return None;
        }
        carried.push(run);
        next = last_offset + 1;
    }
    let bytes_max = shared.settings.segment_bytes_max.clamp(1, SEGMENT_BYTES_MAX);
    drop(shared);
    let marked = entries.iter().map(|entry| &buffer.bytes()[entry.start..entry.end]);
    let all = carried.iter().map(|run| &run[..]).chain(marked);
    let (mut bytes, mut controls) = (0, front.controls);
    for run in all {
        bytes += run.len() as u64;
        controls += controls_in(run);
    }
    let last_offset = entries[entries.len() - 1].last_offset;
    let fits = next == entries[0].base_offset
        && front.bytes + bytes <= bytes_max
        && last_offset - summary.base_offset <= i64::from(i32::MAX)
        && summary.aborted_count.saturating_add(controls) <= ABORTED_PER_SEGMENT_MAX;
    fits.then(|| Plan { front, carried, controls, name: summary.name() })
}

fn controls_in(run: &[u8]) -> u32 {
    let (mut at, mut controls) = (0, 0);
    while let Some(header) = run.get(at..).and_then(wire::header) {
        controls += u32::from(header.is_control());
        at += header.batch_bytes;
    }
    controls
}

/// The marked bytes, if they are what was written; none if there is no such file.
pub(crate) fn marked_bytes(
    disk: &dyn Disk,
    folder: &str,
    at: &MarkedAt,
    bytes: usize,
) -> io::Result<Found> {
    let file = match disk.open(&at.path(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::NoFile),
        file => file?,
    };
    let end = at.position.saturating_add(bytes as u64);
    if file.byte_count()? < end {
        return Ok(Found::Other);
    }
    let found = read_range(&file, at.position, bytes, end)?;
    Ok(if crc32c::crc32c(&found) == at.crc { Found::Whole(found) } else { Found::Other })
}

pub(crate) enum Found {
    Whole(Bytes),
    Other,
    NoFile,
}

/// Takes out the first group behind the proven ones of which marked bytes are missing, and all
/// behind it: none of them was answered. What is left is durable afterwards, before any part of it
/// is settled: a start may seal a segment that holds one, and fail before the others are synced.
pub(crate) fn cut_torn(
    scanned: &mut Scanned,
    disk: &dyn Disk,
    folders: &Folders,
) -> io::Result<()> {
    let mut marked: Vec<(&str, MarkedAt, Recovered)> = Vec::new();
    for (id, entries) in scanned.recovery.all() {
        let Some(folder) = folders.of(*id) else { continue };
        let unproven = entries.iter().filter(|entry| entry.sequence > scanned.proven_sequence);
        marked.extend(unproven.filter_map(|entry| Some((folder, entry.marked?, *entry))));
    }
    marked.sort_by_key(|(folder, _, entry)| (entry.sequence, *folder));
    for index in 0..marked.len() {
        let (folder, at, torn) = marked[index];
        if let Found::Other = marked_bytes(disk, folder, &at, torn.bytes)? {
            let (file, position) = scanned.recovery.place_of_group(&torn);
            let (file, sequence) = (file.to_owned(), torn.sequence);
            scanned.torn_tail = Some(TornTail { file, position, sequence });
            scanned.recovery.cut_from(sequence);
            marked.retain(|(_, _, entry)| entry.sequence < sequence);
            break;
        }
    }
    for (folder, at, entry) in marked {
        match marked_bytes(disk, folder, &at, entry.bytes)? {
            Found::Whole(bytes) => {
                let file = disk.create(&at.path(folder))?;
                file.write_all_at(&bytes, at.position)?;
                file.sync()?;
            }
            Found::NoFile => {}
            Found::Other => return Err(io::Error::other("the same bytes read twice differ")),
        }
    }
    Ok(())
}
