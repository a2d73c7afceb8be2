//! Record batches as the log needs them. The format is defined once, in
//! `odradek_protocol::batch`; here are the walk over runs of batches and the timestamps of a
//! batch, which its header states only by half.

use bytes::Bytes;
use odradek_protocol::batch::{self, RecordReader};

pub(crate) use odradek_protocol::batch::BatchHeader as Header;

pub(crate) const HEADER_BYTES: usize = batch::HEADER_BYTES;

/// Decompressing a batch to learn its smallest timestamp stops here; the batch then counts as
/// holding any time up to its maximum, which keeps look-ups complete and costs only a scan.
pub(crate) const DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// `None` unless a header with sane offsets starts here.
pub(crate) fn header(bytes: &[u8]) -> Option<Header> {
    let header = Header::parse(bytes).ok()?;
    let sane = header.base_offset >= 0
        && header.last_offset_delta >= 0
        && header.base_offset.checked_add(i64::from(header.last_offset_delta) + 1).is_some();
    sane.then_some(header)
}

/// Whole batches of a run with their headers; stops at the first thing that is none.
pub(crate) fn batches(run: &Bytes) -> impl Iterator<Item = (Header, Bytes)> + use<> {
    let mut rest = run.clone();
    std::iter::from_fn(move || {
        let header = header(&rest).filter(|header| header.batch_bytes <= rest.len())?;
        Some((header, rest.split_to(header.batch_bytes)))
    })
}

/// CRC-32C as the batch states it, over attributes and everything behind them.
pub(crate) fn crc_holds(batch: &[u8], header: &Header) -> bool {
    batch.get(21..).is_some_and(|body| crc32c::crc32c(body) == header.crc)
}

/// Smallest and largest timestamp of the records in a batch. A header has no smallest: its base
/// timestamp is only that of the first record, and later ones may lie before it.
pub(crate) fn timestamps(header: &Header, batch: &Bytes) -> (i64, i64) {
    let max = header.max_timestamp_ms;
    if header.is_log_append_time() {
        return (max, max);
    }
    if header.record_count <= 0 {
        // Compaction keeps an emptied batch for its producer's sequence.
        return (max, max);
    }
    // A delete horizon stands where the first record's timestamp did.
    if header.record_count <= 1 && header.delete_horizon_ms().is_none() {
        return (header.base_timestamp_ms.min(max), max.max(header.base_timestamp_ms));
    }
    let range = if header.attributes & 7 == 0 {
        plain_timestamps(header, batch)
    } else {
        compressed_timestamps(batch)
    };
    match range {
        Some((low, high)) => (low, high.max(max)),
        None => (i64::MIN, max),
    }
}

fn compressed_timestamps(batch: &Bytes) -> Option<(i64, i64)> {
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for record in RecordReader::new(batch, DECOMPRESSED_BYTES_MAX).ok()? {
        let timestamp_ms = record.ok()?.timestamp_ms;
        (low, high) = (low.min(timestamp_ms), high.max(timestamp_ms));
    }
    Some((low, high))
}

/// Reads only the length and the timestamp delta of each record: a few nanoseconds each, where
/// decoding all fields would show in the settle thread's time.
fn plain_timestamps(header: &Header, batch: &Bytes) -> Option<(i64, i64)> {
    let mut rest = batch.get(HEADER_BYTES..)?;
    let (mut low, mut high) = (i64::MAX, i64::MIN);
    for _ in 0..header.record_count {
        let (record_bytes, length_bytes) = varlong(rest)?;
        let record = rest.get(length_bytes..)?;
        let (delta, _) = varlong(record.get(1..)?)?;
        let timestamp = header.base_timestamp_ms.checked_add(delta)?;
        (low, high) = (low.min(timestamp), high.max(timestamp));
        rest = record.get(usize::try_from(record_bytes).ok()?..)?;
    }
    Some((low, high))
}

/// Zigzag varint: value and the bytes it took.
fn varlong(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut raw = 0_u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        raw |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed();
            return Some((value, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use odradek_protocol::batch::BatchBuilder;
    use odradek_protocol::compression::Compression;

    use super::*;

    #[test]
    fn the_smallest_timestamp_is_found_wherever_it_stands_in_the_batch() {
        for codec in [Compression::None, Compression::Lz4] {
            let mut builder = BatchBuilder::new(codec);
            for timestamp_ms in [500, 20, 900, 500] {
                builder.push(timestamp_ms, Some(b"k"), Some(&[7; 300]), &[]);
            }
            let batch = builder.build(0);
            let header = header(&batch).expect("a whole batch");
            assert_eq!(timestamps(&header, &batch), (20, 900), "{codec:?}");
        }
    }

    #[test]
    fn an_emptied_batch_has_the_time_of_its_header() {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(500, Some(b"k"), Some(b"v"), &[]);
        let batch = builder.build(0);
        let emptied = Header { record_count: 0, ..header(&batch).expect("a whole batch") };
        assert_eq!(timestamps(&emptied, &batch.slice(..HEADER_BYTES)), (500, 500));
        // As compaction leaves it: with the time until which it is kept in place of the first.
        let kept = Header { attributes: 1 << 6, base_timestamp_ms: 9_000, ..emptied };
        assert_eq!(timestamps(&kept, &batch.slice(..HEADER_BYTES)), (500, 500));
    }
}
