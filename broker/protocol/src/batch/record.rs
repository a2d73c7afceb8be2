//! The records inside a batch, decoded. Keys, values and headers are slices of one buffer: of the
//! batch itself, or of its decompressed payload.

use bytes::Bytes;

use super::{BatchHeader, HEADER_BYTES};
use crate::DecodeError;
use crate::compression::{self, Compression};
use crate::wire::{Cursor, invalid};

/// One record of a batch. Header keys may repeat and keep their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// The smallest record: length, attributes, timestamp delta, offset delta, two null lengths, header
/// count; a byte each.
const RECORD_BYTES_MIN: usize = 7;
/// Key length and null value length.
const HEADER_FIELD_BYTES_MIN: usize = 2;

/// All records of one batch. A [`Record`] takes about 15 times the bytes of the smallest record in
/// the batch; who meets large batches walks them with [`RecordReader`] instead.
pub fn records(batch: &Bytes, decompressed_bytes_max: usize) -> Result<Vec<Record>, DecodeError> {
    let reader = RecordReader::new(batch, decompressed_bytes_max)?;
    // The reader has checked the count against the payload's bytes.
    let mut records = Vec::with_capacity(reader.left);
    for record in reader {
        records.push(record?);
    }
    Ok(records)
}

/// Decodes a batch record by record. Works for control batches too. Ends after the first error;
/// bytes behind the last record are one (as in Kafka).
#[derive(Debug, Clone)]
pub struct RecordReader {
    payload: Bytes,
    position: usize,
    left: usize,
    header: BatchHeader,
}

impl RecordReader {
    /// Decompresses the payload (at most to `decompressed_bytes_max`); the checksum is not checked
    /// again. `batch` may have bytes behind it.
    pub fn new(batch: &Bytes, decompressed_bytes_max: usize) -> Result<Self, DecodeError> {
        Self::kept_by(batch, decompressed_bytes_max, Bytes::from)
    }

    /// As [`Self::new`]; what was decompressed becomes `Bytes` by `keep`, and so may count
    /// somewhere until the last record is dropped.
    pub fn kept_by(
        batch: &Bytes,
        decompressed_bytes_max: usize,
        keep: impl FnOnce(Vec<u8>) -> Bytes,
    ) -> Result<Self, DecodeError> {
        let header = BatchHeader::parse(batch)?;
        if header.batch_bytes > batch.len() {
            return Err(super::truncated(0, header.batch_bytes, batch.len()));
        }
        let stored = batch.slice(HEADER_BYTES..header.batch_bytes);
        let payload = match header.compression()? {
            Compression::None => stored,
            codec => keep(compression::decompress(codec, &stored, decompressed_bytes_max)?),
        };
        let left = usize::try_from(header.record_count)
            .map_err(|_| invalid(super::RECORD_COUNT_AT, "record count is negative"))?;
        if left > payload.len() / RECORD_BYTES_MIN {
            return Err(invalid(super::RECORD_COUNT_AT, "more records than the bytes can hold"));
        }
        Ok(Self { payload, position: 0, left, header })
    }

    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn record(&mut self) -> Result<Record, DecodeError> {
        let payload = self.payload.clone();
        let mut cursor = Cursor::new(&payload[self.position..]);
        let record_bytes =
            length(&mut cursor, 0)?.ok_or(invalid(self.position, "record length is negative"))?;
        let start = self.position + cursor.position();
        let body = cursor.take(record_bytes)?;
        self.position = start + record_bytes;
        let slices = Slices { payload: &payload, start };
        let record = self.fields(&mut Cursor::new(body), &slices);
        record.map_err(|error| error.moved(start))
    }

    fn fields(&self, cursor: &mut Cursor, slices: &Slices) -> Result<Record, DecodeError> {
        cursor.i8()?; // attributes, unused
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        if offset_delta < 0 {
            return Err(invalid(cursor.position(), "offset delta is negative"));
        }
        let timestamp_ms = match self.header.is_log_append_time() {
            true => self.header.max_timestamp_ms,
            // Wraps as Java does, for deltas no honest producer writes.
            false => self.header.base_timestamp_ms.wrapping_add(timestamp_delta),
        };
        let key = slices.nullable(cursor)?;
        let value = slices.nullable(cursor)?;
        let headers = slices.headers(cursor)?;
        if cursor.remaining() != 0 {
            return Err(invalid(cursor.position(), "record is shorter than its length"));
        }
        let offset = self.header.base_offset.wrapping_add(i64::from(offset_delta));
        Ok(Record { offset, timestamp_ms, key, value, headers })
    }
}

impl Iterator for RecordReader {
    type Item = Result<Record, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let behind = self.position < self.payload.len();
            let position = std::mem::replace(&mut self.position, self.payload.len());
            return behind.then(|| Err(invalid(position, "bytes behind the last record")));
        }
        self.left -= 1;
        let record = self.record();
        if record.is_err() {
            self.left = 0;
            self.position = self.payload.len();
        }
        Some(record)
    }
}

/// Turns positions in a record's body into slices of the payload.
struct Slices<'a> {
    payload: &'a Bytes,
    start: usize,
}

impl Slices<'_> {
    fn nullable(&self, cursor: &mut Cursor) -> Result<Option<Bytes>, DecodeError> {
        let Some(bytes) = length(cursor, -1)? else { return Ok(None) };
        let from = self.start + cursor.position();
        cursor.take(bytes)?;
        Ok(Some(self.payload.slice(from..from + bytes)))
    }

    fn headers(&self, cursor: &mut Cursor) -> Result<Vec<(Bytes, Option<Bytes>)>, DecodeError> {
        let position = cursor.position();
        let count = length(cursor, 0)?.ok_or(invalid(position, "header count is negative"))?;
        if count > cursor.remaining() / HEADER_FIELD_BYTES_MIN {
            return Err(invalid(position, "more headers than the bytes can hold"));
        }
        let mut headers = Vec::with_capacity(count);
        for _ in 0..count {
            let position = cursor.position();
            let key = self.nullable(cursor)?.ok_or(invalid(position, "header key is null"))?;
            headers.push((key, self.nullable(cursor)?));
        }
        Ok(headers)
    }
}

/// A varint length: `None` for -1 where `least` allows it.
fn length(cursor: &mut Cursor, least: i32) -> Result<Option<usize>, DecodeError> {
    let position = cursor.position();
    let length = cursor.varint()?;
    if length < least {
        return Err(invalid(position, "length is negative"));
    }
    Ok(usize::try_from(length).ok())
}
