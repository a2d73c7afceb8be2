//! A batch written anew with some of its records: what compaction leaves of it. Offsets,
//! timestamps, producer fields, leader epoch, codec and the end of its offset range stay.

use bytes::Bytes;

use super::{BatchBuilder, Record, RecordReader};
use crate::DecodeError;

/// The batch that `reader` is at the beginning of, with the records that `keep` wants, and with
/// this delete horizon; `None` if no record is left. Records are decoded and written one by one:
/// beside the payload, what is left of it is held once.
pub fn retain(
    reader: RecordReader,
    delete_horizon_ms: Option<i64>,
    keep: &mut dyn FnMut(&Record) -> bool,
) -> Result<Option<Bytes>, DecodeError> {
    let header = *reader.header();
    let mut builder = BatchBuilder::like(&header, delete_horizon_ms);
    for record in reader {
        let record = record?;
        if keep(&record) {
            // The reader made the offset from a delta of 32 bits.
            let delta = record.offset.wrapping_sub(header.base_offset) as i32;
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.push_at(delta, record.timestamp_ms, key, value, &record.headers);
        }
    }
    Ok((!builder.is_empty()).then(|| builder.build_like(&header)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{self, BatchHeader, HEADER_BYTES};
    use crate::compression::Compression;

    const BYTES_MAX: usize = 1 << 20;

    fn source(codec: Compression) -> Bytes {
        let mut builder = BatchBuilder::new(codec).producer(9, 3, 40).transactional();
        let headers = [
            (Bytes::from_static(b"h"), Some(Bytes::from_static(b"1"))),
            (Bytes::from_static(b"h"), None),
        ];
        for (index, timestamp_ms) in [500_i64, 20, 900, 700].into_iter().enumerate() {
            let key = [b'a' + index as u8];
            let value = (index != 1).then_some(&[7_u8; 300][..]);
            builder.push(timestamp_ms, Some(&key), value, &headers);
        }
        let mut bytes = builder.build(1_000).to_vec();
        batch::set_leader_epoch(&mut bytes, 6);
        Bytes::from(bytes)
    }

    fn retained(source: &Bytes, horizon: Option<i64>, offsets: &[i64]) -> Option<Bytes> {
        let reader = RecordReader::new(source, BYTES_MAX).expect("ours");
        retain(reader, horizon, &mut |record| offsets.contains(&record.offset)).expect("ours")
    }

    #[test]
    fn what_is_left_keeps_everything_but_the_records_that_went() {
        for codec in Compression::ALL {
            let source = source(codec);
            let before = BatchHeader::parse(&source).expect("ours");
            let all = batch::records(&source, BYTES_MAX).expect("ours");
            let left = retained(&source, None, &[1_001, 1_003]).expect("two are left");
            let after = BatchHeader::parse(&left).expect("a batch");
            let records = batch::records(&left, BYTES_MAX).expect("readable");
            assert_eq!(records, [all[1].clone(), all[3].clone()], "{codec:?}");
            assert_eq!(after.max_timestamp_ms, 700, "of those that are left");
            let stated = crc32c::crc32c(&left[21..]);
            assert_eq!(after.crc, stated);
            let expected = BatchHeader {
                batch_bytes: left.len(),
                crc: stated,
                max_timestamp_ms: 700,
                record_count: 2,
                ..before
            };
            assert_eq!(after, expected);
            assert_eq!(after.last_sequence(), 43, "as if all four were there");
        }
    }

    /// KIP-534: bit 6, and the horizon in place of the base timestamp; timestamps stay.
    #[test]
    fn a_delete_horizon_takes_the_place_of_the_base_timestamp() {
        let source = source(Compression::None);
        let all = batch::records(&source, BYTES_MAX).expect("ours");
        let left = retained(&source, Some(77_000), &[1_000, 1_001, 1_002, 1_003]).expect("all");
        let header = BatchHeader::parse(&left).expect("a batch");
        assert_eq!(header.attributes, 0x40 | 0x10);
        assert_eq!((header.base_timestamp_ms, header.delete_horizon_ms()), (77_000, Some(77_000)));
        assert_eq!(header.max_timestamp_ms, 900);
        assert_eq!(batch::records(&left, BYTES_MAX).expect("readable"), all);
        // It stays when the batch is written once more.
        let again = retained(&left, header.delete_horizon_ms(), &[1_002]).expect("one");
        assert_eq!(BatchHeader::parse(&again).expect("a batch").delete_horizon_ms(), Some(77_000));
        assert_eq!(batch::records(&again, BYTES_MAX).expect("readable"), [all[2].clone()]);
    }

    #[test]
    fn a_batch_in_append_time_stays_at_that_time_and_one_without_records_is_none() {
        let mut bytes = source(Compression::Lz4).to_vec();
        batch::set_log_append_time(&mut bytes, 123_456);
        let source = Bytes::from(bytes);
        let left = retained(&source, None, &[1_000]).expect("one");
        let header = BatchHeader::parse(&left).expect("a batch");
        assert!(header.is_log_append_time() && left.len() > HEADER_BYTES);
        assert_eq!(header.max_timestamp_ms, 123_456);
        assert_eq!(retained(&source, None, &[]), None);
    }
}
