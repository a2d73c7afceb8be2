//! The control batch that ends a transaction in one partition, byte for byte as Kafka writes it:
//! one record, key `version i16 = 0, type i16` (0 abort, 1 commit), value `version i16 = 0,
//! coordinator epoch i32`, in a transactional control batch with the producer's id and epoch.

use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;

use super::record::Producer;
use crate::core::built;
use crate::partition::Batch;

const NO_SEQUENCE: i32 = -1;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const VERSION: i16 = 0;

pub(crate) fn batch(
    producer: Producer,
    commit: bool,
    coordinator_epoch: i32,
    timestamp_ms: i64,
) -> Batch {
    let kind = if commit { COMMIT } else { ABORT };
    let key = [VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
    let value = [&VERSION.to_be_bytes()[..], &coordinator_epoch.to_be_bytes()[..]].concat();
    let mut builder = BatchBuilder::new(Compression::None)
        .producer(producer.id, producer.epoch, NO_SEQUENCE)
        .transactional()
        .control();
    builder.push(timestamp_ms, Some(&key), Some(&value), &[]);
    Batch { coordinator_epoch, ..built(builder) }
}

#[cfg(test)]
mod tests {
    use odradek_protocol::batch;

    use super::*;

    #[test]
    fn a_marker_has_kafkas_key_and_value() {
        // EndTransactionMarker and ControlRecordType of Apache Kafka: two int16 in the key, an
        // int16 and an int32 in the value.
        let marker = super::batch(Producer { id: 9, epoch: 3 }, true, 5, 1_000);
        assert!(marker.header.is_control() && marker.header.is_transactional());
        assert_eq!((marker.header.producer_id, marker.header.producer_epoch), (9, 3));
        assert_eq!(marker.header.base_sequence, -1);
        let records = batch::records(&marker.bytes, 1_000).expect("our own batch");
        assert_eq!(records[0].key.as_deref(), Some(&[0, 0, 0, 1][..]));
        assert_eq!(records[0].value.as_deref(), Some(&[0, 0, 0, 0, 0, 5][..]));
    }
}
