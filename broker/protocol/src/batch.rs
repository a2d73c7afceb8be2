//! Record batches, format v2 (magic 2), as Kafka's protocol guide describes them.
//!
//! What travels from a producer to a consumer is only ever looked at through [`validate`],
//! [`split`] and the setters: the bytes stay as they are. [`records`] and [`RecordReader`] decode,
//! for those who need keys or values; [`BatchBuilder`] writes, and [`retain`] writes a batch anew
//! with fewer records.
//!
//! ```text
//!  0 base offset i64 | 8 length i32 (of what follows) | 12 leader epoch i32 | 16 magic i8
//! 17 CRC-32C u32 (of all that follows) | 21 attributes i16 | 23 last offset delta i32
//! 27 base timestamp i64 | 35 max timestamp i64 | 43 producer id i64 | 51 producer epoch i16
//! 53 base sequence i32 | 57 record count i32 | 61 records, as one compressed run
//! ```

mod builder;
mod record;
mod retain;

pub use builder::BatchBuilder;
pub use record::{Record, RecordReader, records};
pub use retain::retain;

use bytes::Bytes;

use crate::DecodeError;
use crate::compression::{self, Compression};
use crate::wire::invalid;

pub const HEADER_BYTES: usize = 61;
/// Base offset and length, which the length field does not count.
pub const LENGTH_PREFIX_BYTES: usize = 12;
pub const MAGIC: i8 = 2;
/// "No producer id": the batch is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;

const BASE_OFFSET_AT: usize = 0;
const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
pub const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const LAST_OFFSET_DELTA_AT: usize = 23;
const BASE_TIMESTAMP_AT: usize = 27;
const MAX_TIMESTAMP_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const RECORD_COUNT_AT: usize = 57;

const CODEC_BITS: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
const CONTROL_BIT: i16 = 0x20;
const DELETE_HORIZON_BIT: i16 = 0x40;

/// Fixed header of a batch. Parsed, not trusted: [`BatchHeader::parse`] checks that the header is
/// there, that magic is 2 and that the length is sane, nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Of the whole batch, with the 12 bytes before what the length field counts.
    pub batch_bytes: usize,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp_ms: i64,
    pub max_timestamp_ms: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// Why a produced batch is refused. The Kafka error that goes with each is in its text's comment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// UNSUPPORTED_FOR_MESSAGE_FORMAT.
    #[error("message format {0} of a Kafka before 0.11; this broker takes format 2 only")]
    OldMagic(i8),
    /// CORRUPT_MESSAGE.
    #[error("batch is damaged: {0}")]
    Malformed(DecodeError),
    /// CORRUPT_MESSAGE.
    #[error("checksum is {computed:#010x}, the batch says {stated:#010x}")]
    Checksum { stated: u32, computed: u32 },
    /// UNSUPPORTED_COMPRESSION_TYPE.
    #[error("compression type {0} is not one of Kafka's")]
    UnknownCompression(i16),
    /// INVALID_RECORD.
    #[error("{0}")]
    Invalid(&'static str),
}

impl BatchHeader {
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        // Magic stands at the same place in all formats; older headers are shorter.
        if let Some(magic) = bytes.get(MAGIC_AT).map(|byte| byte.cast_signed()) {
            match magic {
                MAGIC => {}
                0 | 1 => return Err(DecodeError::OldMagic { position: MAGIC_AT, magic }),
                _ => return Err(invalid(MAGIC_AT, "magic is none of Kafka's")),
            }
        }
        let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(DecodeError::Truncated {
                position: 0,
                needed: HEADER_BYTES,
                remaining: bytes.len(),
            });
        };
        let batch_bytes = usize::try_from(i32_at(header, LENGTH_AT))
            .ok()
            .and_then(|length| length.checked_add(LENGTH_PREFIX_BYTES))
            .filter(|batch_bytes| *batch_bytes >= HEADER_BYTES)
            .ok_or(invalid(LENGTH_AT, "batch length is less than its header's"))?;
        Ok(Self {
            base_offset: i64_at(header, BASE_OFFSET_AT),
            batch_bytes,
            leader_epoch: i32_at(header, LEADER_EPOCH_AT),
            magic: MAGIC,
            crc: i32_at(header, CRC_AT).cast_unsigned(),
            attributes: i16_at(header, ATTRIBUTES_AT),
            last_offset_delta: i32_at(header, LAST_OFFSET_DELTA_AT),
            base_timestamp_ms: i64_at(header, BASE_TIMESTAMP_AT),
            max_timestamp_ms: i64_at(header, MAX_TIMESTAMP_AT),
            producer_id: i64_at(header, PRODUCER_ID_AT),
            producer_epoch: i16_at(header, PRODUCER_EPOCH_AT),
            base_sequence: i32_at(header, BASE_SEQUENCE_AT),
            record_count: i32_at(header, RECORD_COUNT_AT),
        })
    }

    /// Saturates instead of wrapping, for a header that was never validated.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequence numbers wrap from `i32::MAX` to 0.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence.checked_add(self.last_offset_delta) {
            Some(sequence) => sequence,
            None => self.last_offset_delta - (i32::MAX - self.base_sequence) - 1,
        }
    }

    pub fn compression(&self) -> Result<Compression, DecodeError> {
        Compression::from_attributes(self.attributes)
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    /// From when on compaction may drop the batch's tombstones or marker (KIP-534). It stands in
    /// place of the base timestamp; the records' timestamps count from it all the same.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON_BIT != 0).then_some(self.base_timestamp_ms)
    }

    pub fn has_producer_id(&self) -> bool {
        self.producer_id > NO_PRODUCER_ID
    }
}

/// Checks one produced batch, which is all of `batch`: magic, length, CRC-32C, codec, counts,
/// producer fields. Whether a client may send a control batch or LogAppendTime, and what the
/// records hold, is for the caller.
pub fn validate(batch: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(batch).map_err(|error| match error {
        DecodeError::OldMagic { magic, .. } => BatchError::OldMagic(magic),
        other => BatchError::Malformed(other),
    })?;
    if header.batch_bytes != batch.len() {
        let error = if header.batch_bytes > batch.len() {
            truncated(0, header.batch_bytes, batch.len())
        } else {
            invalid(header.batch_bytes, "bytes behind the batch")
        };
        return Err(BatchError::Malformed(error));
    }
    let computed = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    if computed != header.crc {
        return Err(BatchError::Checksum { stated: header.crc, computed });
    }
    let codec = header.attributes & 7;
    header.compression().map_err(|_| BatchError::UnknownCompression(codec))?;
    validate_fields(&header)?;
    Ok(header)
}

/// The checks of Kafka's `LogValidator.validateBatch`.
fn validate_fields(header: &BatchHeader) -> Result<(), BatchError> {
    let refuse = |reason| Err(BatchError::Invalid(reason));
    if header.record_count <= 0 {
        return refuse("batch holds no records");
    }
    if header.last_offset_delta != header.record_count - 1 {
        return refuse("record count and last offset delta disagree");
    }
    if header.producer_id < NO_PRODUCER_ID {
        return refuse("producer id is less than -1");
    }
    if header.has_producer_id() {
        if header.producer_epoch < 0 {
            return refuse("producer epoch is negative");
        }
        if header.base_sequence < 0 && !header.is_control() {
            return refuse("sequence number is negative");
        }
    } else if header.is_transactional() {
        return refuse("transactional batch has no producer id");
    }
    Ok(())
}

/// Walks a record set without copying. After an error nothing follows; a last batch that is cut off
/// is `Err(Truncated)`, and everything before it has been yielded.
pub fn split(records: &Bytes) -> Split {
    Split { records: records.clone(), position: 0, failed: false }
}

#[derive(Debug)]
pub struct Split {
    records: Bytes,
    position: usize,
    failed: bool,
}

impl Iterator for Split {
    type Item = Result<(BatchHeader, Bytes), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed || self.position == self.records.len() {
            return None;
        }
        let rest = &self.records[self.position..];
        let batch = match BatchHeader::parse(rest) {
            Ok(header) if header.batch_bytes > rest.len() => {
                Err(truncated(0, header.batch_bytes, rest.len()))
            }
            parsed => parsed,
        };
        Some(match batch {
            Ok(header) => {
                let end = self.position + header.batch_bytes;
                let batch = self.records.slice(self.position..end);
                self.position = end;
                Ok((header, batch))
            }
            Err(error) => {
                self.failed = true;
                Err(error.moved(self.position))
            }
        })
    }
}

/// The checksum does not cover the base offset. Panics if `batch` is shorter than a header.
pub fn set_base_offset(batch: &mut [u8], base_offset: i64) {
    batch[BASE_OFFSET_AT..][..8].copy_from_slice(&base_offset.to_be_bytes());
}

/// The checksum does not cover the leader epoch. Panics if `batch` is shorter than a header.
pub fn set_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    batch[LEADER_EPOCH_AT..][..4].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// Sets the LogAppendTime attribute and the maximum timestamp, and computes the checksum anew.
/// `batch` is one whole batch; panics if it is shorter than a header.
pub fn set_log_append_time(batch: &mut [u8], max_timestamp_ms: i64) {
    let mut attributes = [0; 2];
    attributes.copy_from_slice(&batch[ATTRIBUTES_AT..][..2]);
    let attributes = i16::from_be_bytes(attributes) | LOG_APPEND_TIME_BIT;
    batch[ATTRIBUTES_AT..][..2].copy_from_slice(&attributes.to_be_bytes());
    batch[MAX_TIMESTAMP_AT..][..8].copy_from_slice(&max_timestamp_ms.to_be_bytes());
    write_crc(batch);
}

/// The same records under another codec: a new payload, length, attributes and checksum; all other
/// fields stay. `batch` is one validated batch; the payload may unpack to
/// `decompressed_bytes_max`.
pub fn recompress(
    batch: &[u8],
    codec: Compression,
    level: Option<i32>,
    decompressed_bytes_max: usize,
) -> Result<Bytes, DecodeError> {
    let header = BatchHeader::parse(batch)?;
    if header.batch_bytes > batch.len() {
        return Err(truncated(0, header.batch_bytes, batch.len()));
    }
    let stored = &batch[HEADER_BYTES..header.batch_bytes];
    let plain = compression::decompress(header.compression()?, stored, decompressed_bytes_max)?;
    let payload = compression::compress_at(codec, level, &plain)
        .map_err(|error| DecodeError::Compressed { codec, reason: error.to_string() })?;
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    out.extend_from_slice(&batch[..HEADER_BYTES]);
    out.extend_from_slice(&payload);
    let length = i32::try_from(out.len() - LENGTH_PREFIX_BYTES)
        .map_err(|_| invalid(LENGTH_AT, "a batch is smaller than 2 GiB"))?;
    out[LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
    let attributes = header.attributes & !CODEC_BITS | codec.attribute_bits();
    out[ATTRIBUTES_AT..][..2].copy_from_slice(&attributes.to_be_bytes());
    write_crc(&mut out);
    Ok(Bytes::from(out))
}

fn write_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
}

fn truncated(position: usize, needed: usize, remaining: usize) -> DecodeError {
    DecodeError::Truncated { position, needed, remaining }
}

fn bytes_at<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[at..at + N]);
    field
}

fn i16_at(header: &[u8; HEADER_BYTES], at: usize) -> i16 {
    i16::from_be_bytes(bytes_at(header, at))
}

fn i32_at(header: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes(bytes_at(header, at))
}

fn i64_at(header: &[u8; HEADER_BYTES], at: usize) -> i64 {
    i64::from_be_bytes(bytes_at(header, at))
}

#[cfg(test)]
mod tests;
