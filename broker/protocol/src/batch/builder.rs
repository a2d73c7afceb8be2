//! Writes a batch: for records that are born in this process (sources, coordinators, markers).

use bytes::Bytes;

use super::{
    ATTRIBUTES_AT, BASE_OFFSET_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, BatchHeader, CONTROL_BIT,
    DELETE_HORIZON_BIT, HEADER_BYTES, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LENGTH_AT,
    LENGTH_PREFIX_BYTES, LOG_APPEND_TIME_BIT, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT, NO_PRODUCER_ID,
    PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORD_COUNT_AT, TRANSACTIONAL_BIT, write_crc,
};
use crate::compression::{self, Compression};
use crate::wire::{put_varint, put_varlong, varlong_bytes};

/// Records are encoded as they are pushed, behind room for the header; an uncompressed batch is
/// never copied again. The caller keeps a batch below 2 GiB: [`BatchBuilder::bytes`] is its size.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    attributes: i16,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    base_timestamp_ms: i64,
    max_timestamp_ms: i64,
    record_count: i32,
    last_offset_delta: i32,
    leader_epoch: i32,
    out: Vec<u8>,
}

impl BatchBuilder {
    pub fn new(compression: Compression) -> Self {
        Self {
            compression,
            attributes: 0,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: -1,
            base_sequence: -1,
            base_timestamp_ms: -1,
            max_timestamp_ms: -1,
            record_count: 0,
            last_offset_delta: -1,
            leader_epoch: -1,
            out: vec![0; HEADER_BYTES],
        }
    }

    /// An empty one that will differ from the batch of this header in its records, its size and
    /// its delete horizon only.
    pub(super) fn like(header: &BatchHeader, delete_horizon_ms: Option<i64>) -> Self {
        let kept = LOG_APPEND_TIME_BIT | TRANSACTIONAL_BIT | CONTROL_BIT;
        let horizon = if delete_horizon_ms.is_some() { DELETE_HORIZON_BIT } else { 0 };
        Self {
            attributes: header.attributes & kept | horizon,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
            base_timestamp_ms: delete_horizon_ms.unwrap_or(header.base_timestamp_ms),
            leader_epoch: header.leader_epoch,
            ..Self::new(header.compression().unwrap_or_default())
        }
    }

    /// The whole batch, whose offsets end where those of the header's batch do: a producer's last
    /// sequence number is told from there.
    pub(super) fn build_like(mut self, header: &BatchHeader) -> Bytes {
        self.last_offset_delta = header.last_offset_delta;
        if header.is_log_append_time() {
            self.max_timestamp_ms = header.max_timestamp_ms;
        }
        self.build(header.base_offset)
    }

    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
        self
    }

    pub fn transactional(mut self) -> Self {
        self.attributes |= TRANSACTIONAL_BIT;
        self
    }

    pub fn control(mut self) -> Self {
        self.attributes |= CONTROL_BIT;
        self
    }

    /// Header keys may repeat; the order stays.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(Bytes, Option<Bytes>)],
    ) {
        if self.record_count == 0 {
            self.base_timestamp_ms = timestamp_ms;
        }
        self.push_at(self.record_count, timestamp_ms, key, value, headers);
    }

    /// With an offset delta of its own, and against the base timestamp that stands.
    pub(super) fn push_at(
        &mut self,
        offset_delta: i32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(Bytes, Option<Bytes>)],
    ) {
        let earlier = self.max_timestamp_ms.max(timestamp_ms);
        self.max_timestamp_ms = if self.record_count == 0 { timestamp_ms } else { earlier };
        self.last_offset_delta = offset_delta;
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let offset_delta = i64::from(offset_delta);
        let fields = headers
            .iter()
            .map(|(key, value)| nullable_bytes(Some(key)) + nullable_bytes(value.as_deref()));
        let record_bytes = 1
            + varlong_bytes(timestamp_delta)
            + varlong_bytes(offset_delta)
            + nullable_bytes(key)
            + nullable_bytes(value)
            + varlong_bytes(int32(headers.len()).into())
            + fields.sum::<usize>();
        put_varint(&mut self.out, int32(record_bytes));
        self.out.push(0); // attributes
        put_varlong(&mut self.out, timestamp_delta);
        put_varlong(&mut self.out, offset_delta);
        put_nullable(&mut self.out, key);
        put_nullable(&mut self.out, value);
        put_varint(&mut self.out, int32(headers.len()));
        for (key, value) in headers {
            put_nullable(&mut self.out, Some(key));
            put_nullable(&mut self.out, value.as_deref());
        }
        self.record_count += 1;
    }

    /// Size so far, with the header, before compression.
    pub fn bytes(&self) -> usize {
        self.out.len()
    }

    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// One whole batch, leader epoch -1, checksum computed. Panics if nothing was pushed: Kafka has
    /// no empty batches.
    pub fn build(mut self, base_offset: i64) -> Bytes {
        assert!(!self.is_empty(), "a batch holds at least one record");
        self.compress();
        let length = int32(self.out.len() - LENGTH_PREFIX_BYTES);
        self.put(BASE_OFFSET_AT, base_offset.to_be_bytes());
        self.put(LENGTH_AT, length.to_be_bytes());
        self.put(LEADER_EPOCH_AT, self.leader_epoch.to_be_bytes());
        self.put(MAGIC_AT, MAGIC.to_be_bytes());
        self.put(ATTRIBUTES_AT, self.attributes.to_be_bytes());
        self.put(LAST_OFFSET_DELTA_AT, self.last_offset_delta.to_be_bytes());
        self.put(BASE_TIMESTAMP_AT, self.base_timestamp_ms.to_be_bytes());
        self.put(MAX_TIMESTAMP_AT, self.max_timestamp_ms.to_be_bytes());
        self.put(PRODUCER_ID_AT, self.producer_id.to_be_bytes());
        self.put(PRODUCER_EPOCH_AT, self.producer_epoch.to_be_bytes());
        self.put(BASE_SEQUENCE_AT, self.base_sequence.to_be_bytes());
        self.put(RECORD_COUNT_AT, self.record_count.to_be_bytes());
        write_crc(&mut self.out);
        Bytes::from(self.out)
    }

    /// A codec that fails leaves the records uncompressed, which every reader takes.
    fn compress(&mut self) {
        if self.compression == Compression::None {
            return;
        }
        if let Ok(compressed) = compression::compress(self.compression, &self.out[HEADER_BYTES..]) {
            self.out.truncate(HEADER_BYTES);
            self.out.extend_from_slice(&compressed);
            self.attributes |= self.compression.attribute_bits();
        }
    }

    fn put<const N: usize>(&mut self, at: usize, field: [u8; N]) {
        self.out[at..at + N].copy_from_slice(&field);
    }
}

/// Kafka's lengths are int32; the caller's contract keeps a batch below that.
fn int32(bytes: usize) -> i32 {
    i32::try_from(bytes).expect("a batch is smaller than 2 GiB")
}

fn nullable_bytes(field: Option<&[u8]>) -> usize {
    match field {
        Some(field) => varlong_bytes(int32(field.len()).into()) + field.len(),
        None => 1,
    }
}

fn put_nullable(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        Some(field) => {
            put_varint(out, int32(field.len()));
            out.extend_from_slice(field);
        }
        None => put_varint(out, -1),
    }
}
