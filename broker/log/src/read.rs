//! Reading by offset: the tail from memory, the rest in one large read of a segment file.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};

use crate::core::Core;
use crate::disk::DiskFile;
use crate::index::{self, CHUNK_BYTES, IndexEntry, SegmentIndex, Summary};
use crate::name::SegmentName;
use crate::partition::Partition;
use crate::types::{Cached, PartitionId, Read, ReadError};
use crate::view;
use crate::walk::{self, Walk};
use crate::wire;

/// One read call asks the disk for no more than this.
const READ_BYTES_MAX: usize = 8 << 20;
/// What side files say of sealed segments is kept decoded for so many of them, within the bound in
/// bytes.
const CACHED_SEGMENTS_MAX: usize = 64;
/// Readers that do not let go of this share of the tail's memory have others read copies, so that
/// what they hold of groups that went does not become more.
const HELD_BY_READERS_SHARE: usize = 4;
/// Between looking a segment up and opening it, it may be trimmed; then the look-up is made anew.
const ATTEMPTS_MAX: usize = 8;

type CachedSegment<T> = (PartitionId, SegmentName, Arc<Vec<T>>);

/// Something of each of the segments that were looked at last; the oldest goes first.
pub(crate) struct SegmentCache<T> {
    cached: Mutex<VecDeque<CachedSegment<T>>>,
    bytes_max: usize,
}

impl<T> SegmentCache<T> {
    pub fn new(bytes_max: usize) -> Self {
        SegmentCache { cached: Mutex::default(), bytes_max }
    }

    pub fn bytes(&self) -> usize {
        let cached = self.cached.lock().expect("no holder of a segment cache panics");
        cached.iter().map(|(_, _, elements)| size_of_val(&elements[..])).sum()
    }

    pub fn find(&self, id: PartitionId, name: SegmentName) -> Option<Arc<Vec<T>>> {
        let mut cached = self.cached.lock().expect("no holder of a segment cache panics");
        let at = cached.iter().position(|(i, n, _)| *i == id && *n == name)?;
        let found = cached.remove(at)?;
        let elements = found.2.clone();
        cached.push_back(found);
        Some(elements)
    }

    /// Keeps it, if it is no larger than all may be together.
    pub fn put(&self, id: PartitionId, name: SegmentName, mut elements: Vec<T>) -> Arc<Vec<T>> {
        elements.shrink_to_fit();
        let elements = Arc::new(elements);
        let mut cached = self.cached.lock().expect("no holder of a segment cache panics");
        cached.push_back((id, name, elements.clone()));
        let mut bytes: usize = cached.iter().map(|(_, _, each)| size_of_val(&each[..])).sum();
        while cached.len() > CACHED_SEGMENTS_MAX || bytes > self.bytes_max {
            let Some((_, _, oldest)) = cached.pop_front() else { break };
            bytes -= size_of_val(&oldest[..]);
        }
        elements
    }

    fn forget(&self, id: PartitionId, name: Option<SegmentName>) {
        let mut cached = self.cached.lock().expect("no holder of a segment cache panics");
        cached.retain(|(i, n, _)| *i != id || name.is_some_and(|name| name != *n));
    }
}

/// Where to read: as it was when the partition was last looked at.
struct Place {
    summary: Summary,
    sealed: bool,
    position: u64,
}

enum Found {
    Read(Read),
    /// Its segment ends there without another batch.
    NothingBelow(i64),
    /// No segment holds the offset any more or yet: look again.
    Elsewhere,
}

/// A look at segments that finds one of them gone is made anew: it was trimmed, or rewritten under
/// another name.
pub(crate) fn retried<T>(look: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match look() {
            Err(ReadError::Io(error))
                if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS_MAX => {}
            result => return result,
        }
    }
}

impl Core {
    /// A segment (or all of a partition) is gone.
    pub fn forget_cached(&self, id: PartitionId, name: Option<SegmentName>) {
        self.index_cache.forget(id, name);
        self.aborted_cache.forget(id, name);
    }

    pub fn read_cached(&self, id: PartitionId, offset: i64, bytes_max: usize) -> Cached {
        let Some(partition) = self.partition(id) else { return Cached::Miss };
        self.cached(&partition, offset, bytes_max)
    }

    /// Slices of the groups' buffers, or copies where too much of them is held already.
    fn cached(&self, partition: &Partition, offset: i64, bytes_max: usize) -> Cached {
        let mut found = cached(partition, offset, bytes_max);
        let held_max = self.options.tail_cache_bytes_max / HELD_BY_READERS_SHARE;
        if let Cached::Hit(read) = &mut found
            && self.group_memory.held_by_readers() > held_max
        {
            read.batches.iter_mut().for_each(|run| *run = Bytes::copy_from_slice(run));
        }
        found
    }

    pub fn read(&self, id: PartitionId, offset: i64, bytes_max: usize) -> Result<Read, ReadError> {
        let partition = self.partition(id).ok_or(ReadError::UnknownPartition)?;
        self.read_partition(&partition, offset, bytes_max)
    }

    pub fn read_partition(
        &self,
        partition: &Arc<Partition>,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Read, ReadError> {
        let mut offset = offset;
        let mut attempt = 0;
        loop {
            match self.cached(partition, offset, bytes_max) {
                Cached::Hit(read) => return Ok(read),
                Cached::AtEnd => return Ok(Read { batches: Vec::new(), next_offset: offset }),
                Cached::Miss => {}
            }
            check_range(partition, offset)?;
            attempt += 1;
            match self.read_segment(partition, offset, bytes_max) {
                Ok(Found::Read(read)) => return Ok(read),
                // The records there were compacted away: the next ones follow.
                Ok(Found::NothingBelow(end_offset)) => {
                    offset = end_offset;
                    attempt = 0;
                }
                Ok(Found::Elsewhere) if attempt < ATTEMPTS_MAX => {}
                Ok(Found::Elsewhere) => {
                    return Ok(Read { batches: Vec::new(), next_offset: offset });
                }
                Err(ReadError::Io(error))
                    if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn read_segment(
        &self,
        partition: &Arc<Partition>,
        offset: i64,
        bytes_max: usize,
    ) -> Result<Found, ReadError> {
        let Some(mut place) = find_place(partition, offset) else { return Ok(Found::Elsewhere) };
        if place.sealed {
            let entries = self.index_of(partition, &place.summary)?;
            place.position = index::position_before(&entries, offset);
        }
        let file = self.segments.reader(partition, place.summary.name())?;
        let bytes_max = bytes_max.min(READ_BYTES_MAX);
        let slack = usize::try_from(CHUNK_BYTES).unwrap_or(usize::MAX);
        let mut position = place.position;
        let mut wanted = bytes_max + slack;
        while position < place.summary.bytes {
            let buffer = read_range(&file, position, wanted, place.summary.bytes)?;
            let sound = sound_bytes(&buffer, place.summary.end_offset);
            let (read, next) = gather(&buffer.slice(..sound), offset, bytes_max);
            if !read.batches.is_empty() {
                let read = intact(partition, read)?;
                return Ok(Found::Read(unless_mostly_unused(read, buffer.len())));
            }
            match next {
                _ if sound < buffer.len() => {
                    return Err(damaged(partition, offset, position + sound as u64));
                }
                // All of it lies before the offset, or the batch is larger than the read.
                Next::At(behind, batch_bytes)
                    if (behind > 0 || batch_bytes > buffer.len())
                        && position + (behind + batch_bytes) as u64 <= place.summary.bytes =>
                {
                    position += behind as u64;
                    wanted = batch_bytes.max(bytes_max + slack);
                }
                _ => return Err(damaged(partition, offset, position)),
            }
        }
        Ok(Found::NothingBelow(place.summary.end_offset))
    }

    /// Index of a sealed segment: remembered, from the view, from its side file, or made anew.
    pub fn index_of(
        &self,
        partition: &Arc<Partition>,
        summary: &Summary,
    ) -> Result<Arc<Vec<IndexEntry>>, ReadError> {
        let name = summary.name();
        if let Some(entries) = self.index_cache.find(partition.id, name) {
            return Ok(entries);
        }
        let entries = match self.index_in_view(partition, summary) {
            Some(entries) => entries,
            None => match self.segments.read_side(partition, name)? {
                Some(side) if side.summary == *summary => side.entries,
                _ => self.index_by_walk(partition, summary)?.entries,
            },
        };
        Ok(self.index_cache.put(partition.id, name, entries))
    }

    fn index_in_view(&self, partition: &Partition, summary: &Summary) -> Option<Vec<IndexEntry>> {
        let view = self.view()?;
        let key = view::segment_key(partition.id, summary.base_offset);
        let stored = view.value(&key).ok()??;
        if index::decode_summary(&stored) != Some((*summary, true)) {
            return None;
        }
        let entries = view_entries(&*view, partition.id, summary.base_offset)?;
        // A rewritten segment's entries stand under the same keys; the summary goes first and
        // comes last, so it has changed if they have.
        (view.value(&key).ok()?? == stored).then_some(entries)
    }

    fn index_by_walk(
        &self,
        partition: &Partition,
        summary: &Summary,
    ) -> Result<SegmentIndex, ReadError> {
        let file = self.segments.reader(partition, summary.name())?;
        let mut index = SegmentIndex::empty(summary.base_offset);
        let walk = Walk { from: 0, to: summary.bytes, verify: false };
        walk::walk(&file, walk, &mut |header, batch| {
            let (low, high) = wire::timestamps(header, batch);
            index.push(header, low, high);
            true
        })?;
        Ok(index)
    }
}

/// All index entries that the view holds for a segment, in order.
pub(crate) fn view_entries(
    view: &dyn view::View,
    id: PartitionId,
    base_offset: i64,
) -> Option<Vec<IndexEntry>> {
    let mut entries = Vec::new();
    let mut intact = true;
    let prefix = view::index_key(id, base_offset, None);
    let scanned = view.scan(&prefix, &mut |_, value| match index::decode_entries(value) {
        Some(chunk) => {
            entries.extend(chunk);
            true
        }
        None => {
            intact = false;
            false
        }
    });
    let whole = entries.first().is_some_and(|first: &IndexEntry| first.position == 0)
        && entries.windows(2).all(|pair| pair[0].position < pair[1].position);
    (scanned.is_ok() && intact && whole).then_some(entries)
}

fn cached(partition: &Partition, offset: i64, bytes_max: usize) -> Cached {
    let mut picked: Vec<(i64, Bytes)> = Vec::new();
    {
        let shared = partition.shared();
        if offset == shared.high_watermark {
            return Cached::AtEnd;
        }
        if offset > shared.high_watermark || offset < shared.log_start_offset {
            return Cached::Miss;
        }
        let Some(first) = shared.tail_for(offset) else { return Cached::Miss };
        let mut bytes = 0;
        for entry in shared.tail.range(first..) {
            // The first entry may lie before the offset in part, so it does not count.
            if !picked.is_empty() {
                bytes += entry.bytes.len();
            }
            picked.push((entry.last_offset, entry.bytes.clone()));
            if bytes >= bytes_max {
                break;
            }
        }
    }
    let mut read = Read { batches: Vec::with_capacity(picked.len()), next_offset: offset };
    let mut left = bytes_max;
    for (last_offset, run) in picked {
        let (part, _) = gather(&run, offset, left);
        let Some(bytes) = part.batches.first() else { break };
        // At least one batch, however large; after that only what fits.
        if !read.batches.is_empty() && bytes.len() > left {
            break;
        }
        left = left.saturating_sub(bytes.len());
        read.next_offset = part.next_offset;
        read.batches.extend(part.batches);
        // A run that did not fit in whole is where the read ends.
        if left == 0 || read.next_offset <= last_offset {
            break;
        }
    }
    if read.batches.is_empty() { Cached::Miss } else { Cached::Hit(read) }
}

enum Next {
    /// Bytes passed over, and the size of the batch there as far as it is known.
    At(usize, usize),
    /// What stands there is no batch.
    Nonsense,
}

/// Batches of a run from the one that holds the offset, at least one, as one slice.
fn gather(run: &Bytes, offset: i64, bytes_max: usize) -> (Read, Next) {
    let mut start = None;
    let mut at = 0;
    let mut next_offset = offset;
    let mut next = Next::At(run.len(), 0);
    while at < run.len() {
        let rest = &run[at..];
        let Some(header) = wire::header(rest) else {
            let cut = rest.len() < wire::HEADER_BYTES;
            next = if cut { Next::At(at, 0) } else { Next::Nonsense };
            break;
        };
        let whole = header.batch_bytes;
        if whole > rest.len() {
            next = Next::At(at, whole);
            break;
        }
        if header.last_offset() >= offset {
            let begun = *start.get_or_insert(at);
            if at > begun && at + whole - begun > bytes_max {
                break;
            }
            next_offset = header.last_offset() + 1;
        }
        at += whole;
    }
    let batches = start.map(|start| run.slice(start..at.max(start))).filter(|run| !run.is_empty());
    (Read { batches: batches.into_iter().collect(), next_offset }, next)
}

/// How much of what a segment holds is in order. No checksum covers the offset of a batch, but the
/// batches around it do: they ascend, and end with their segment. Of two that do not, either may be
/// the wrong one.
fn sound_bytes(run: &Bytes, end_offset: i64) -> usize {
    let (mut at, mut before, mut least) = (0, 0, i64::MIN);
    while let Some(header) = wire::header(&run[at..]) {
        if header.base_offset < least {
            return before;
        }
        if header.last_offset() >= end_offset {
            return at;
        }
        (before, least) = (at, header.last_offset() + 1);
        match at + header.batch_bytes {
            next if next < run.len() => at = next,
            _ => break,
        }
    }
    run.len()
}

/// What comes from the disk is served up to the first batch that is not what was written.
fn intact(partition: &Partition, mut read: Read) -> Result<Read, ReadError> {
    let Some(run) = read.batches.first_mut() else { return Ok(read) };
    let mut whole = 0;
    for (header, batch) in wire::batches(run) {
        if wire::crc_holds(&batch, &header) {
            whole += batch.len();
            continue;
        }
        if whole == 0 {
            return Err(ReadError::Damaged {
                partition: partition.id,
                offset: header.base_offset,
                reason: "its checksum does not hold".to_owned(),
            });
        }
        read.next_offset = header.base_offset;
        break;
    }
    run.truncate(whole);
    Ok(read)
}

/// A few bytes must not keep a large buffer: whoever holds them counts what he sees.
fn unless_mostly_unused(mut read: Read, buffer_bytes: usize) -> Read {
    if read.byte_count() < buffer_bytes / 2 {
        read.batches.iter_mut().for_each(|run| *run = Bytes::copy_from_slice(run));
    }
    read
}

fn check_range(partition: &Partition, offset: i64) -> Result<(), ReadError> {
    let shared = partition.shared();
    let (start, end) = (shared.log_start_offset, shared.high_watermark);
    if (start..=end).contains(&offset) {
        return Ok(());
    }
    Err(ReadError::OffsetOutOfRange { offset, log_start_offset: start, log_end_offset: end })
}

fn find_place(partition: &Partition, offset: i64) -> Option<Place> {
    let shared = partition.shared();
    let at = shared.segment_for(offset)?;
    let segment = shared.segments[at];
    let position = match &shared.active {
        Some(active) if !segment.sealed => index::position_before(&active.entries, offset),
        _ => 0,
    };
    Some(Place { summary: segment.summary, sealed: segment.sealed, position })
}

pub(crate) fn read_range(
    file: &Arc<dyn DiskFile>,
    position: u64,
    bytes: usize,
    end: u64,
) -> io::Result<Bytes> {
    let bytes = (end - position).min(bytes as u64);
    let mut buffer = BytesMut::zeroed(usize::try_from(bytes).unwrap_or(usize::MAX));
    file.read_exact_at(&mut buffer, position)?;
    Ok(buffer.freeze())
}

pub(crate) fn damaged(partition: &Partition, offset: i64, position: u64) -> ReadError {
    ReadError::Damaged {
        partition: partition.id,
        offset,
        reason: format!("no record batch at position {position} of its segment"),
    }
}
