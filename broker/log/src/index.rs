//! The sparse index of a segment: about one entry for 64 KiB of batches, with the chunk's first
//! offset, its position, and the smallest and largest timestamp of its records. Both bounds make
//! look-ups by time complete whatever order timestamps come in.
//!
//! On disk and in the view, entries are differences written as varints; 128 of them make one value
//! of the view (a key each would cost 350 bytes and 28 µs, storage.md).

use crate::name::SegmentName;
use crate::types::AbortedTransaction;
use crate::wire;

pub(crate) const CHUNK_BYTES: u64 = 64 << 10;
pub(crate) const VALUE_ENTRIES: usize = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    pub offset: i64,
    pub position: u64,
    pub min_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
}

/// Facts of a segment, as of some end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub base_offset: i64,
    /// One past the last record.
    pub end_offset: i64,
    pub bytes: u64,
    pub min_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    /// Aborted transactions whose marker lies here, and where the first of them begins
    /// (`i64::MAX` if there is none).
    pub aborted_count: u32,
    pub aborted_first_offset: i64,
    /// How often compaction has rewritten it.
    pub generation: u32,
    /// Below, no record is superseded by another one below; the base offset if it was never
    /// compacted.
    pub cleaned_to: i64,
}

impl Summary {
    pub fn empty(base_offset: i64) -> Self {
        Summary {
            base_offset,
            end_offset: base_offset,
            bytes: 0,
            min_timestamp_ms: i64::MAX,
            max_timestamp_ms: i64::MIN,
            aborted_count: 0,
            aborted_first_offset: i64::MAX,
            generation: 0,
            cleaned_to: base_offset,
        }
    }

    pub fn name(&self) -> SegmentName {
        SegmentName { base_offset: self.base_offset, generation: self.generation }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// Index and summary of a segment that is being written.
#[derive(Debug, Clone)]
pub(crate) struct SegmentIndex {
    pub summary: Summary,
    pub entries: Vec<IndexEntry>,
    /// In the order of their markers.
    pub aborted: Vec<AbortedTransaction>,
}

impl SegmentIndex {
    pub fn empty(base_offset: i64) -> Self {
        let summary = Summary::empty(base_offset);
        SegmentIndex { summary, entries: Vec::new(), aborted: Vec::new() }
    }

    pub fn memory_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>()
            + self.aborted.capacity() * size_of::<AbortedTransaction>()
    }

    /// Takes in a transaction whose abort marker was the last batch.
    pub fn abort(&mut self, aborted: AbortedTransaction) {
        let summary = &mut self.summary;
        summary.aborted_count += 1;
        summary.aborted_first_offset = summary.aborted_first_offset.min(aborted.first_offset);
        self.aborted.push(aborted);
    }

    /// Takes in the batch that stands at the end; returns nothing to decide: a new entry begins
    /// wherever the last one's chunk is full.
    pub fn push(&mut self, header: &wire::Header, min_timestamp_ms: i64, max_timestamp_ms: i64) {
        let position = self.summary.bytes;
        match self.entries.last_mut() {
            Some(last) if position - last.position < CHUNK_BYTES => {
                last.min_timestamp_ms = last.min_timestamp_ms.min(min_timestamp_ms);
                last.max_timestamp_ms = last.max_timestamp_ms.max(max_timestamp_ms);
            }
            _ => self.entries.push(IndexEntry {
                offset: header.base_offset,
                position,
                min_timestamp_ms,
                max_timestamp_ms,
            }),
        }
        let summary = &mut self.summary;
        summary.bytes += header.batch_bytes as u64;
        summary.end_offset = header.last_offset() + 1;
        summary.min_timestamp_ms = summary.min_timestamp_ms.min(min_timestamp_ms);
        summary.max_timestamp_ms = summary.max_timestamp_ms.max(max_timestamp_ms);
    }
}

/// Position of the last entry at or before the offset: where a scan for it begins.
pub(crate) fn position_before(entries: &[IndexEntry], offset: i64) -> u64 {
    let after = entries.partition_point(|entry| entry.offset <= offset);
    after.checked_sub(1).map_or(0, |index| entries[index].position)
}

pub(crate) fn encode_entries(entries: &[IndexEntry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 12 + 4);
    put_varint(&mut out, entries.len() as u64);
    let mut before =
        IndexEntry { offset: 0, position: 0, min_timestamp_ms: 0, max_timestamp_ms: 0 };
    for entry in entries {
        put_varint(&mut out, zigzag(entry.offset.wrapping_sub(before.offset)));
        put_varint(&mut out, entry.position.wrapping_sub(before.position));
        put_varint(&mut out, zigzag(entry.min_timestamp_ms.wrapping_sub(before.min_timestamp_ms)));
        put_varint(&mut out, zigzag(entry.max_timestamp_ms.wrapping_sub(before.max_timestamp_ms)));
        before = *entry;
    }
    out
}

pub(crate) fn decode_entries(mut bytes: &[u8]) -> Option<Vec<IndexEntry>> {
    let count = usize::try_from(take_varint(&mut bytes)?).ok()?;
    // Four varints an entry: a count beyond the bytes is nonsense, and reserves nothing.
    if count > bytes.len() {
        return None;
    }
    let mut entries: Vec<IndexEntry> = Vec::with_capacity(count);
    let mut before =
        IndexEntry { offset: 0, position: 0, min_timestamp_ms: 0, max_timestamp_ms: 0 };
    for _ in 0..count {
        let mut signed = |from: i64| Some(from.wrapping_add(unzigzag(take_varint(&mut bytes)?)));
        let offset = signed(before.offset)?;
        let position = before.position.wrapping_add(take_varint(&mut bytes)?);
        let mut signed = |from: i64| Some(from.wrapping_add(unzigzag(take_varint(&mut bytes)?)));
        let min_timestamp_ms = signed(before.min_timestamp_ms)?;
        let max_timestamp_ms = signed(before.max_timestamp_ms)?;
        before = IndexEntry { offset, position, min_timestamp_ms, max_timestamp_ms };
        entries.push(before);
    }
    let ascends = entries
        .windows(2)
        .all(|pair| pair[0].offset < pair[1].offset && pair[0].position < pair[1].position);
    (ascends && bytes.is_empty()).then_some(entries)
}

pub(crate) fn encode_summary(summary: &Summary, sealed: bool) -> Vec<u8> {
    let mut out = vec![u8::from(sealed)];
    for value in [summary.base_offset, summary.end_offset] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&summary.bytes.to_le_bytes());
    for value in [summary.min_timestamp_ms, summary.max_timestamp_ms] {
        out.extend_from_slice(&value.to_le_bytes());
    }
    out.extend_from_slice(&summary.aborted_count.to_le_bytes());
    out.extend_from_slice(&summary.aborted_first_offset.to_le_bytes());
    out.extend_from_slice(&summary.generation.to_le_bytes());
    out.extend_from_slice(&summary.cleaned_to.to_le_bytes());
    out
}

/// As first written, before there were transactions and compaction, and now.
const SUMMARY_BYTES: [usize; 2] = [41, 65];

/// Summary, and whether its segment was sealed.
pub(crate) fn decode_summary(bytes: &[u8]) -> Option<(Summary, bool)> {
    if !SUMMARY_BYTES.contains(&bytes.len()) {
        return None;
    }
    let signed = |at: usize| Some(i64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
    let half = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let base_offset = signed(1)?;
    let summary = Summary {
        base_offset,
        end_offset: signed(9)?,
        bytes: u64::from_le_bytes(bytes.get(17..25)?.try_into().ok()?),
        min_timestamp_ms: signed(25)?,
        max_timestamp_ms: signed(33)?,
        aborted_count: half(41).unwrap_or(0),
        aborted_first_offset: signed(45).unwrap_or(i64::MAX),
        generation: half(53).unwrap_or(0),
        cleaned_to: signed(57).unwrap_or(base_offset),
    };
    (summary.end_offset >= summary.base_offset).then_some((summary, bytes[0] == 1))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for index in 0..10 {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << (7 * index);
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_as_they_were_even_with_extreme_timestamps() {
        let entry = |offset, position, min_timestamp_ms, max_timestamp_ms| IndexEntry {
            offset,
            position,
            min_timestamp_ms,
            max_timestamp_ms,
        };
        let entries = vec![
            entry(0, 0, i64::MIN, 5),
            entry(7, 65_536, 3, i64::MAX),
            entry(1 << 40, 131_072, -1, -1),
        ];
        let bytes = encode_entries(&entries);
        assert_eq!(decode_entries(&bytes), Some(entries));
        assert_eq!(decode_entries(&bytes[..bytes.len() - 1]), None);
        assert_eq!(decode_entries(&[0xff, 0xff, 0xff, 0x7f]), None);
    }

    #[test]
    fn an_entry_costs_about_ten_bytes_for_data_in_time_order() {
        let entries: Vec<_> = (0..128)
            .map(|index| IndexEntry {
                offset: index * 64,
                position: index.cast_unsigned() * 65_600,
                min_timestamp_ms: 1_700_000_000_000 + index * 1000,
                max_timestamp_ms: 1_700_000_000_999 + index * 1000,
            })
            .collect();
        assert!(encode_entries(&entries).len() < 128 * 10);
    }
}
