//! Record batches as a producer sends them, and as a consumer's side reads them.
//!
//! The first byte says whether length and checksum are put right before the bytes are looked at:
//! no fuzzer finds a CRC by trying, and everything behind it would stay unseen.
//!
//! Promises: slices of a split lie one after the other; a batch that is valid stays so under the
//! broker's own rewrites; the records cost memory in proportion to the payload; written anew they
//! are the same; the message crate's decoder reads the same, where it can.

use bytes::Bytes;
use kafka_protocol::records::RecordBatchDecoder;
use odradek_protocol::batch::{self, BatchHeader, Record, RecordReader};
use odradek_protocol::compression::{self, Compression};

use crate::memory::peak_bytes;

/// What a payload may unpack to here; the broker's own bound is 64 MiB.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;
/// A record is 15 times its smallest form on the wire, a header 32 times.
const RECORDS_FACTOR: usize = 48;
/// The largest LZ4 blocks, in and out, and the growth of the output.
const CODEC_BYTES_MAX: usize = 16 << 20;

pub fn run(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if how & 1 == 1 {
        put_right(&mut bytes);
    }
    let set = Bytes::from(bytes);
    let mut position = 0;
    for item in batch::split(&set) {
        let Ok((header, one)) = item else { break };
        assert_eq!(one, set.slice(position..position + header.batch_bytes));
        position += header.batch_bytes;
        look_at(&header, &one);
    }
}

/// One batch of all the bytes, with its length and checksum.
fn put_right(bytes: &mut [u8]) {
    if bytes.len() < batch::HEADER_BYTES {
        return;
    }
    let length = (bytes.len() - batch::LENGTH_PREFIX_BYTES) as u32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[batch::MAGIC_AT] = batch::MAGIC.cast_unsigned();
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

fn look_at(header: &BatchHeader, one: &Bytes) {
    let _ = (header.last_offset(), header.delete_horizon_ms());
    let valid = batch::validate(one);
    if let Ok(seen) = &valid {
        assert_eq!(seen, header);
        assert!(header.record_count > 0);
        let _ = header.last_sequence();
        rewritten_batches_stay_valid(one);
    }
    let (records, peak) = peak_bytes(|| batch::records(one, DECOMPRESSED_BYTES_MAX));
    let payload_max = match header.compression() {
        Ok(Compression::None) => one.len(),
        _ => DECOMPRESSED_BYTES_MAX.max(one.len()),
    };
    let allowed = payload_max * RECORDS_FACTOR + CODEC_BYTES_MAX;
    assert!(peak <= allowed, "{peak} bytes for the records of {} bytes", one.len());
    let Ok(records) = records else { return };
    let reader = RecordReader::new(one, DECOMPRESSED_BYTES_MAX).expect("it was read before");
    assert!(reader.map(|record| record.expect("it was read before")).eq(records.iter().cloned()));
    if valid.is_ok() {
        written_anew_they_are_the_same(header, one, &records);
        the_crate_reads_the_same(header, one, &records);
    }
}

fn rewritten_batches_stay_valid(one: &Bytes) {
    let mut copy = one.to_vec();
    batch::set_base_offset(&mut copy, 1 << 40);
    batch::set_leader_epoch(&mut copy, 3);
    assert!(batch::validate(&copy).is_ok(), "offset and epoch are outside the checksum");
    batch::set_log_append_time(&mut copy, 1_700_000_000_000);
    let header = batch::validate(&copy).expect("the checksum was written anew");
    assert!(header.is_log_append_time());
}

fn written_anew_they_are_the_same(header: &BatchHeader, one: &Bytes, records: &[Record]) {
    let reader = RecordReader::new(one, DECOMPRESSED_BYTES_MAX).expect("it was read before");
    let all = batch::retain(reader, None, &mut |_| true).expect("it was read before");
    // Compaction keeps the base timestamp; under a horizon that is not the first record's.
    let all = all.expect("a valid batch has records");
    let again = batch::records(&all, DECOMPRESSED_BYTES_MAX).expect("we wrote it");
    assert_eq!(again, records);
    let stays = BatchHeader::parse(&all).expect("we wrote it");
    assert_eq!(stays.last_offset_delta, header.last_offset_delta);
    let plain = batch::recompress(one, Compression::None, None, DECOMPRESSED_BYTES_MAX);
    let plain = plain.expect("it was unpacked before");
    assert_eq!(batch::records(&plain, DECOMPRESSED_BYTES_MAX).as_deref(), Ok(records));
}

/// The crate reads header keys as text and keeps one of those that repeat; it adds up times and
/// offsets without a check, so batches whose sums overflow are kept from it.
fn the_crate_reads_the_same(header: &BatchHeader, one: &Bytes, records: &[Record]) {
    let sums_fit = records.iter().all(|record| {
        let time = record.timestamp_ms.wrapping_sub(header.base_timestamp_ms);
        let offset = record.offset.wrapping_sub(header.base_offset);
        header.base_timestamp_ms.checked_add(time).is_some()
            && header.base_offset.checked_add(offset).is_some()
    });
    let mut keys = records.iter().flat_map(|record| record.headers.iter().map(|(key, _)| key));
    let text = keys.all(|key| std::str::from_utf8(key).is_ok());
    if !sums_fit || !text || header.is_log_append_time() {
        return;
    }
    let unpack = |bytes: &mut Bytes, _| {
        let codec = header.compression().expect("a valid batch");
        let plain = compression::decompress(codec, bytes, DECOMPRESSED_BYTES_MAX);
        Ok(Bytes::from(plain.expect("it was unpacked before")))
    };
    let theirs = RecordBatchDecoder::decode_with_custom_compression(&mut one.clone(), Some(unpack));
    let theirs = theirs.expect("what is valid here the crate reads").records;
    assert_eq!(theirs.len(), records.len());
    for (theirs, ours) in theirs.iter().zip(records) {
        assert_eq!((theirs.offset, theirs.timestamp), (ours.offset, ours.timestamp_ms));
        assert_eq!((&theirs.key, &theirs.value), (&ours.key, &ours.value));
        for (key, value) in &theirs.headers {
            let last = ours.headers.iter().rev().find(|(name, _)| **name == *key.as_bytes());
            assert_eq!(last.map(|(_, value)| value), Some(value));
        }
    }
}
