//! A group: what one write and one sync make durable, all of it or nothing.
//!
//! ```text
//! header  magic u32 | payload bytes u32 | salt u64 | sequence u64 | synced sequence u64
//!         | checkpointed sequence u64 | entries u32 | marks u32 | reserved 12 bytes | crc u32
//! entry   topic id 16 bytes | partition i32 | base offset i64 | last offset i64 | bytes u32
//!         | record batches
//! mark    as an entry, and in place of the batches, which lie in a segment (`direct`):
//!         segment's base offset i64 | position u64 | CRC-32C of the bytes u32
//! ```
//!
//! The marks stand behind the entries. A program of before there were any does not open a log that
//! may have some (`store::mark_marked`).
//!
//! Integers are little-endian, the batches are Kafka's. The CRC-32C covers header and payload and
//! starts from the salt. `synced sequence` is what had been synced when the group was written: it
//! proves that a group missing before it was lost after it had been durable. `checkpointed
//! sequence` is the last group that segments hold durably: replay starts behind it.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use odradek_protocol::batch;
use uuid::Uuid;

use crate::name::{FileKind, SegmentName};
use crate::partition::Partition;
use crate::types::{Append, PartitionId};
use crate::wire;

pub(crate) const HEADER_BYTES: usize = 64;
pub(crate) const ENTRY_BYTES: usize = 40;
const MARK_BYTES: usize = 20;
pub(crate) const MAGIC: u32 = u32::from_le_bytes(*b"odrG");
/// Memory of one entry beside its bytes: in the group, and in its partition's tail.
const ENTRY_MEMORY_BYTES: usize = 160;

pub(crate) const fn aligned(bytes: u64) -> u64 {
    bytes.next_multiple_of(8)
}

/// A written group, held in memory until it is settled and for readers after that.
pub(crate) struct Group {
    pub sequence: u64,
    pub bytes: Bytes,
    pub entries: Vec<GroupEntry>,
    /// Of the bytes, those that went to segments at once (`direct`).
    pub direct_bytes: usize,
    /// Of which it has a part large enough for that.
    pub large: Vec<Arc<Partition>>,
}

impl Group {
    pub fn memory_bytes(&self) -> usize {
        memory_bytes(&self.bytes, &self.entries)
    }
}

fn memory_bytes(bytes: &[u8], entries: &[GroupEntry]) -> usize {
    bytes.len() + entries.len() * ENTRY_MEMORY_BYTES
}

/// What all groups take, those too that are in memory only because a reader has not let go of some
/// batch of theirs.
#[derive(Debug, Default)]
pub(crate) struct GroupMemory {
    all: AtomicUsize,
    /// Of those that are kept on purpose: for readers to come, or until they are settled.
    kept: AtomicUsize,
}

impl GroupMemory {
    pub fn all(&self) -> usize {
        self.all.load(Ordering::Acquire)
    }

    /// Of those that only slow readers hold.
    pub fn held_by_readers(&self) -> usize {
        self.all().saturating_sub(self.kept.load(Ordering::Acquire))
    }

    pub fn keep(&self, group: &Group) {
        self.kept.fetch_add(group.memory_bytes(), Ordering::AcqRel);
    }

    pub fn let_go(&self, group: &Group) {
        self.kept.fetch_sub(group.memory_bytes(), Ordering::AcqRel);
    }
}

/// A group's buffer: it counts until the last slice of it is dropped.
struct Counted {
    bytes: Vec<u8>,
    memory_bytes: usize,
    memory: Arc<GroupMemory>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.memory.all.fetch_sub(self.memory_bytes, Ordering::AcqRel);
    }
}

#[derive(Clone)]
pub(crate) struct GroupEntry {
    pub partition: Arc<Partition>,
    pub base_offset: i64,
    pub last_offset: i64,
    pub max_timestamp_ms: i64,
    /// Some batch belongs to a transaction or is a marker; the others are spared the look.
    pub transactional: bool,
    /// Of the batches in the group's bytes.
    pub start: usize,
    pub end: usize,
}

/// A group that is being filled: the one place where batches are copied.
pub(crate) struct GroupBuffer {
    bytes: Vec<u8>,
    pub entries: Vec<GroupEntry>,
}

impl GroupBuffer {
    pub fn with_capacity(bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + bytes);
        buffer.resize(HEADER_BYTES, 0);
        GroupBuffer { bytes: buffer, entries: Vec::new() }
    }

    pub fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// What `push` will add for this append.
    pub fn bytes_of(append: &Append) -> usize {
        ENTRY_BYTES + append.batches.len()
    }

    /// Where to come back to if a unit has to be taken out again.
    pub fn mark(&self) -> (usize, usize) {
        (self.bytes.len(), self.entries.len())
    }

    pub fn rewind(&mut self, mark: (usize, usize)) {
        self.bytes.truncate(mark.0);
        self.entries.truncate(mark.1);
    }

    /// Copies the batches and writes base offsets and leader epoch into the copy. Returns the
    /// last offset, or why the bytes are no batches.
    pub fn push(&mut self, partition: &Arc<Partition>, append: &Append) -> Result<i64, String> {
        let entry_start = self.bytes.len();
        self.bytes.extend_from_slice(append.partition.topic_id.as_bytes());
        self.bytes.extend_from_slice(&append.partition.partition.to_le_bytes());
        self.bytes.extend_from_slice(&append.base_offset.to_le_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        let length = u32::try_from(append.batches.len()).map_err(|_| "too large".to_owned())?;
        self.bytes.extend_from_slice(&length.to_le_bytes());
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&append.batches);
        let end = self.bytes.len();
        let Patched { last_offset, max_timestamp_ms, transactional } =
            patch(&mut self.bytes[start..end], append.base_offset, append.leader_epoch)?;
        let last_at = entry_start + 28;
        self.bytes[last_at..last_at + 8].copy_from_slice(&last_offset.to_le_bytes());
        self.entries.push(GroupEntry {
            partition: partition.clone(),
            base_offset: append.base_offset,
            last_offset,
            max_timestamp_ms,
            transactional,
            start,
            end,
        });
        Ok(last_offset)
    }

    /// As it stands in the journal, with marks in place of what is in segments.
    pub fn seal(&mut self, seal: Seal, marks: &[Mark]) -> Cow<'_, [u8]> {
        if marks.is_empty() {
            write_header(&mut self.bytes, seal, self.entries.len(), 0);
            return Cow::Borrowed(&self.bytes);
        }
        let is_marked =
            |entry: &&GroupEntry| marks.iter().any(|mark| mark.partition == entry.partition.id);
        let mut bytes = vec![0; HEADER_BYTES];
        let mut entry_count = 0;
        for entry in self.entries.iter().filter(|entry| !is_marked(entry)) {
            bytes.extend_from_slice(&self.bytes[entry.start - ENTRY_BYTES..entry.end]);
            entry_count += 1;
        }
        for mark in marks {
            bytes.extend_from_slice(mark.partition.topic_id.as_bytes());
            bytes.extend_from_slice(&mark.partition.partition.to_le_bytes());
            bytes.extend_from_slice(&mark.base_offset.to_le_bytes());
            bytes.extend_from_slice(&mark.last_offset.to_le_bytes());
            let length = u32::try_from(mark.bytes).expect("the group fits a journal file");
            bytes.extend_from_slice(&length.to_le_bytes());
            bytes.extend_from_slice(&mark.at.segment.to_le_bytes());
            bytes.extend_from_slice(&mark.at.position.to_le_bytes());
            bytes.extend_from_slice(&mark.at.crc.to_le_bytes());
        }
        write_header(&mut bytes, seal, entry_count, marks.len());
        Cow::Owned(bytes)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn into_group(
        self,
        sequence: u64,
        direct_bytes: usize,
        large: Vec<Arc<Partition>>,
        memory: &Arc<GroupMemory>,
    ) -> Group {
        let GroupBuffer { bytes, entries } = self;
        let memory_bytes = memory_bytes(&bytes, &entries);
        memory.all.fetch_add(memory_bytes, Ordering::AcqRel);
        let bytes = Bytes::from_owner(Counted { bytes, memory_bytes, memory: memory.clone() });
        Group { sequence, bytes, entries, direct_bytes, large }
    }
}

/// What the journal holds of batches that are in a segment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    pub partition: PartitionId,
    pub base_offset: i64,
    pub last_offset: i64,
    pub bytes: usize,
    pub at: MarkedAt,
}

/// Where marked bytes lie, and their checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MarkedAt {
    /// Its base offset; of the first generation.
    pub segment: i64,
    pub position: u64,
    pub crc: u32,
}

fn write_header(bytes: &mut [u8], seal: Seal, entry_count: usize, mark_count: usize) {
    let payload_bytes = bytes.len() - HEADER_BYTES;
    let payload_bytes = u32::try_from(payload_bytes).expect("bounded by the journal file");
    let [entry_count, mark_count] =
        [entry_count, mark_count].map(|count| u32::try_from(count).expect("bounded by the bytes"));
    let header = &mut bytes[..HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    header[4..8].copy_from_slice(&payload_bytes.to_le_bytes());
    header[8..16].copy_from_slice(&seal.salt.to_le_bytes());
    header[16..24].copy_from_slice(&seal.sequence.to_le_bytes());
    header[24..32].copy_from_slice(&seal.synced_sequence.to_le_bytes());
    header[32..40].copy_from_slice(&seal.checkpointed_sequence.to_le_bytes());
    header[40..44].copy_from_slice(&entry_count.to_le_bytes());
    header[44..48].copy_from_slice(&mark_count.to_le_bytes());
    let crc = checksum(seal.salt, bytes);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seal {
    pub salt: u64,
    pub sequence: u64,
    pub synced_sequence: u64,
    pub checkpointed_sequence: u64,
}

pub(crate) fn checksum(salt: u64, group: &[u8]) -> u32 {
    let [high, low] = [salt >> 32, salt & 0xffff_ffff].map(|half| half as u32);
    let crc = crc32c::crc32c_append(high ^ low, &group[..HEADER_BYTES - 4]);
    crc32c::crc32c_append(crc, &group[HEADER_BYTES..])
}

/// What the headers of an append's batches say together.
struct Patched {
    last_offset: i64,
    max_timestamp_ms: i64,
    transactional: bool,
}

fn patch(run: &mut [u8], base_offset: i64, leader_epoch: i32) -> Result<Patched, String> {
    let mut next = base_offset;
    let mut max_timestamp_ms = -1;
    let mut transactional = false;
    let mut rest = run;
    if rest.is_empty() {
        return Err("an append without batches".to_owned());
    }
    while !rest.is_empty() {
        let header = wire::header(rest)
            .filter(|header| header.batch_bytes <= rest.len())
            .ok_or("the bytes are no whole record batches")?;
        let (one, behind) = rest.split_at_mut(header.batch_bytes);
        batch::set_base_offset(one, next);
        batch::set_leader_epoch(one, leader_epoch);
        next = next
            .checked_add(i64::from(header.last_offset_delta) + 1)
            .ok_or("the offsets of a partition are used up")?;
        max_timestamp_ms = max_timestamp_ms.max(header.max_timestamp_ms);
        transactional |= header.is_transactional() || header.is_control();
        rest = behind;
    }
    Ok(Patched { last_offset: next - 1, max_timestamp_ms, transactional })
}

/// A group's header as found on disk; `payload_bytes` is not trusted before `verify`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub seal: Seal,
    pub payload_bytes: usize,
    entry_count: usize,
    mark_count: usize,
}

impl Found {
    pub fn parse(bytes: &[u8]) -> Option<Found> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let half = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if half(0)? != MAGIC {
            return None;
        }
        Some(Found {
            payload_bytes: usize::try_from(half(4)?).ok()?,
            seal: Seal {
                salt: word(8)?,
                sequence: word(16)?,
                synced_sequence: word(24)?,
                checkpointed_sequence: word(32)?,
            },
            entry_count: usize::try_from(half(40)?).ok()?,
            mark_count: usize::try_from(half(44)?).ok()?,
        })
    }

    pub fn byte_count(&self) -> usize {
        HEADER_BYTES + self.payload_bytes
    }

    /// The whole group's bytes, checked.
    pub fn verify(&self, group: &[u8]) -> bool {
        let stated = group.get(60..64).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        group.len() == self.byte_count()
            && stated.map(u32::from_le_bytes) == Some(checksum(self.seal.salt, group))
    }

    /// Entries of a verified group; `None` would mean that we wrote nonsense.
    pub fn entries(&self, group: &[u8]) -> Option<Vec<FoundEntry>> {
        let mut entries = Vec::new();
        let mut at = HEADER_BYTES;
        for index in 0..self.entry_count.checked_add(self.mark_count)? {
            let header = group.get(at..at + ENTRY_BYTES)?;
            let topic_id = Uuid::from_slice(&header[0..16]).ok()?;
            let partition = i32::from_le_bytes(header[16..20].try_into().ok()?);
            let bytes =
                usize::try_from(u32::from_le_bytes(header[36..40].try_into().ok()?)).ok()?;
            let start = at + ENTRY_BYTES;
            let marked = match index < self.entry_count {
                true => None,
                false => Some(MarkedAt::parse(group.get(start..start + MARK_BYTES)?)?),
            };
            let stored_bytes = if marked.is_some() { MARK_BYTES } else { bytes };
            at = start.checked_add(stored_bytes).filter(|end| *end <= group.len())?;
            entries.push(FoundEntry {
                partition: PartitionId { topic_id, partition },
                base_offset: i64::from_le_bytes(header[20..28].try_into().ok()?),
                last_offset: i64::from_le_bytes(header[28..36].try_into().ok()?),
                start,
                bytes,
                marked,
            });
        }
        (at == group.len()).then_some(entries)
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundEntry {
    pub partition: PartitionId,
    pub base_offset: i64,
    pub last_offset: i64,
    /// Of the batches, from the group's first byte.
    pub start: usize,
    pub bytes: usize,
    pub marked: Option<MarkedAt>,
}

impl MarkedAt {
    /// Nothing is marked in a segment that compaction has rewritten.
    pub fn path(&self, folder: &str) -> String {
        let name = SegmentName { base_offset: self.segment, generation: 0 };
        name.path(folder, FileKind::Log)
    }

    fn parse(bytes: &[u8]) -> Option<MarkedAt> {
        Some(MarkedAt {
            segment: i64::from_le_bytes(bytes.get(0..8)?.try_into().ok()?),
            position: u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?),
            crc: u32::from_le_bytes(bytes.get(16..20)?.try_into().ok()?),
        })
    }
}
