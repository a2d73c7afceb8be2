use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

type Header = (Bytes, Option<Bytes>);

fn header(key: &'static str, value: Option<&'static str>) -> Header {
    (Bytes::from(key), value.map(Bytes::from))
}

fn three_records(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(codec).producer(7, 1, 40).transactional();
    let headers = [header("h", Some("1")), header("h", None), header("h", Some("2"))];
    builder.push(1000, Some(b"k"), Some(b"v"), &headers);
    builder.push(1500, None, Some(b""), &[]);
    builder.push(900, Some(b""), None, &[]);
    builder.build(100)
}

/// A batch around any payload, with a checksum that is right.
fn around(payload: &[u8], record_count: i32) -> Bytes {
    let mut batch = three_records(Compression::None)[..HEADER_BYTES].to_vec();
    batch.extend_from_slice(payload);
    let length = i32::try_from(batch.len() - LENGTH_PREFIX_BYTES).unwrap();
    batch[LENGTH_AT..][..4].copy_from_slice(&length.to_be_bytes());
    batch[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&(record_count - 1).to_be_bytes());
    batch[RECORD_COUNT_AT..][..4].copy_from_slice(&record_count.to_be_bytes());
    write_crc(&mut batch);
    batch.into()
}

/// The same batch with one field changed and the checksum made right again.
fn changed<const N: usize>(batch: &[u8], at: usize, field: [u8; N]) -> Vec<u8> {
    let mut batch = batch.to_vec();
    batch[at..at + N].copy_from_slice(&field);
    write_crc(&mut batch);
    batch
}

#[test]
fn a_built_batch_is_valid_and_reads_back_with_repeated_header_keys() {
    for codec in Compression::ALL {
        let batch = three_records(codec);
        let header = validate(&batch).unwrap();
        assert_eq!(header.compression(), Ok(codec));
        assert_eq!((header.base_offset, header.last_offset()), (100, 102));
        assert_eq!((header.base_timestamp_ms, header.max_timestamp_ms), (1000, 1500));
        assert!(header.is_transactional() && !header.is_control());
        let records = records(&batch, LIMIT).unwrap();
        assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), [100, 101, 102]);
        assert_eq!(records.iter().map(|r| r.timestamp_ms).collect::<Vec<_>>(), [1000, 1500, 900]);
        let keys: Vec<_> = records[0].headers.iter().map(|(key, _)| key.as_ref()).collect();
        assert_eq!(keys, [b"h", b"h", b"h"]);
        assert_eq!(records[0].headers[1].1, None);
        assert_eq!((&records[1].key, records[1].value.as_deref()), (&None, Some(&b""[..])));
        assert_eq!((records[2].key.as_deref(), &records[2].value), (Some(&b""[..]), &None));
    }
}

#[test]
fn a_field_that_no_producer_writes_is_refused_by_name() {
    let batch = three_records(Compression::None);
    let cases: [(&str, Vec<u8>); 9] = [
        ("no records", changed(&batch, RECORD_COUNT_AT, 0i32.to_be_bytes())),
        ("no records", changed(&batch, RECORD_COUNT_AT, i32::MIN.to_be_bytes())),
        ("disagree", changed(&batch, RECORD_COUNT_AT, 2i32.to_be_bytes())),
        ("disagree", changed(&batch, LAST_OFFSET_DELTA_AT, (-1i32).to_be_bytes())),
        ("producer id is less", changed(&batch, PRODUCER_ID_AT, (-2i64).to_be_bytes())),
        ("epoch is negative", changed(&batch, PRODUCER_EPOCH_AT, (-1i16).to_be_bytes())),
        ("sequence number", changed(&batch, BASE_SEQUENCE_AT, (-1i32).to_be_bytes())),
        ("has no producer id", changed(&batch, PRODUCER_ID_AT, (-1i64).to_be_bytes())),
        ("type 5", changed(&batch, ATTRIBUTES_AT, 0x15i16.to_be_bytes())),
    ];
    for (reason, batch) in cases {
        let refused = validate(&batch).unwrap_err().to_string();
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
}

#[test]
fn damage_old_formats_and_wrong_lengths_are_told_apart() {
    let batch = three_records(Compression::None);
    let mut flipped = batch.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(matches!(validate(&flipped), Err(BatchError::Checksum { .. })));
    for magic in [0, 1] {
        let old = changed(&batch, MAGIC_AT, [magic]);
        assert_eq!(validate(&old), Err(BatchError::OldMagic(magic.cast_signed())));
    }
    let odd = changed(&batch, MAGIC_AT, [3]);
    assert!(matches!(validate(&odd), Err(BatchError::Malformed(_))));
    for length in [-1, 0, 48, i32::MIN, i32::MAX] {
        let wrong = changed(&batch, LENGTH_AT, length.to_be_bytes());
        assert!(matches!(validate(&wrong), Err(BatchError::Malformed(_))), "{length}");
    }
    let longer = [&batch[..], b"x"].concat();
    assert!(matches!(validate(&longer), Err(BatchError::Malformed(_))));
    for end in 0..batch.len() {
        assert!(matches!(validate(&batch[..end]), Err(BatchError::Malformed(_))), "{end}");
    }
}

#[test]
fn a_record_set_is_split_without_copying_and_its_torn_tail_reported() {
    let first = three_records(Compression::None);
    let second = three_records(Compression::Zstd);
    let whole = Bytes::from([&first[..], &second[..]].concat());
    let batches: Vec<_> = split(&whole).map(|batch| batch.unwrap().1).collect();
    assert_eq!(batches, [first.clone(), second.clone()]);
    assert_eq!(batches[1].as_ptr(), whole[first.len()..].as_ptr());
    assert_eq!(split(&Bytes::new()).count(), 0);
    for cut in 1..second.len() {
        let mut walk = split(&whole.slice(..whole.len() - cut));
        assert!(walk.next().unwrap().is_ok());
        let torn = walk.next().unwrap().unwrap_err();
        assert!(matches!(torn, DecodeError::Truncated { position, .. } if position == first.len()));
        assert!(walk.next().is_none());
    }
}

#[test]
fn what_the_broker_rewrites_leaves_the_batch_valid() {
    let mut batch = three_records(Compression::Gzip).to_vec();
    set_base_offset(&mut batch, 1 << 40);
    set_leader_epoch(&mut batch, 12);
    let header = validate(&batch).unwrap();
    assert_eq!((header.base_offset, header.leader_epoch), (1 << 40, 12));
    set_log_append_time(&mut batch, 77_000);
    assert!(validate(&batch).unwrap().is_log_append_time());
    let batch = Bytes::from(batch);
    for record in records(&batch, LIMIT).unwrap() {
        assert_eq!(record.timestamp_ms, 77_000);
    }
}

#[test]
fn sequence_numbers_wrap_as_kafkas_do() {
    let mut builder = BatchBuilder::new(Compression::None).producer(1, 0, i32::MAX - 1);
    (0..4).for_each(|_| builder.push(0, None, None, &[]));
    let header = validate(&builder.build(0)).unwrap();
    // MAX-1, MAX, 0, 1: DefaultRecordBatch.incrementSequence.
    assert_eq!(header.last_sequence(), 1);
}

#[test]
fn records_whose_numbers_lie_are_refused() {
    let good: &[u8] = &[14, 0, 0, 0, 1, 1, 0];
    // length 6 (12 as zigzag), attributes, timestamp, offset, no key, no value, no headers
    assert_eq!(records(&around(&[12, 0, 0, 0, 1, 1, 0], 1), LIMIT).unwrap().len(), 1);
    let cases: [(&str, &[u8], i32); 12] = [
        ("length past the end", good, 1),
        ("negative length", &[1, 0, 0, 0, 1, 1, 0], 1),
        ("length of two billion", &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0], 1),
        ("length that does not end", &[0xff; 12], 1),
        ("key length -2", &[12, 0, 0, 0, 3, 1, 0], 1),
        ("key past the record", &[14, 0, 0, 0, 40, 1, 0, 0], 1),
        ("negative header count", &[12, 0, 0, 0, 1, 1, 1], 1),
        ("huge header count", &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], 1),
        ("null header key", &[16, 0, 0, 0, 1, 1, 2, 1, 1], 1),
        ("negative offset delta", &[12, 0, 0, 1, 1, 1, 0], 1),
        ("record shorter than its length", &[14, 0, 0, 0, 1, 1, 0, 0], 1),
        ("bytes behind the last record", &[12, 0, 0, 0, 1, 1, 0, 9], 1),
    ];
    for (name, payload, count) in cases {
        assert!(records(&around(payload, count), LIMIT).is_err(), "{name}");
    }
    for count in [2, 1_000_000, i32::MAX] {
        let refused = records(&around(&[12, 0, 0, 0, 1, 1, 0], count), LIMIT).unwrap_err();
        assert!(refused.to_string().contains("more records"), "{refused}");
    }
}

#[test]
fn a_batch_that_decompresses_past_the_bound_is_refused() {
    let mut builder = BatchBuilder::new(Compression::Zstd);
    builder.push(0, None, Some(&vec![0; 4 * LIMIT]), &[]);
    let bomb = builder.build(0);
    assert!(bomb.len() < 1000);
    let refused = records(&bomb, LIMIT).unwrap_err();
    assert!(matches!(refused, DecodeError::DecompressedTooLarge { .. }), "{refused}");
}

fn field() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..80).prop_map(Bytes::from))
}

fn record() -> impl Strategy<Value = Record> {
    let headers =
        prop::collection::vec((field().prop_map(Option::unwrap_or_default), field()), 0..4);
    (any::<i64>(), field(), field(), headers).prop_map(|(timestamp_ms, key, value, headers)| {
        Record { offset: 0, timestamp_ms, key, value, headers }
    })
}

proptest! {
    #[test]
    fn whatever_is_pushed_comes_back(
        mut pushed in prop::collection::vec(record(), 1..40), base_offset in 0..i64::MAX / 2,
    ) {
        for codec in Compression::ALL {
            let mut builder = BatchBuilder::new(codec);
            for (record, offset) in pushed.iter_mut().zip(base_offset..) {
                record.offset = offset;
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                builder.push(record.timestamp_ms, key, value, &record.headers);
            }
            let bytes = builder.bytes();
            let batch = builder.build(base_offset);
            prop_assert!(codec != Compression::None || batch.len() == bytes);
            let header = validate(&batch).unwrap();
            let newest = pushed.iter().map(|record| record.timestamp_ms).max().unwrap();
            prop_assert_eq!(header.max_timestamp_ms, newest);
            prop_assert_eq!(&records(&batch, LIMIT).unwrap(), &pushed);
        }
    }

    #[test]
    fn random_payloads_never_panic(
        payload in prop::collection::vec(any::<u8>(), 0..200), count: i32, codec in 0i16..8,
    ) {
        let batch = changed(&around(&payload, 1), RECORD_COUNT_AT, count.to_be_bytes());
        let batch = Bytes::from(changed(&batch, ATTRIBUTES_AT, codec.to_be_bytes()));
        drop(validate(&batch));
        if let Ok(records) = records(&batch, LIMIT) {
            prop_assert_eq!(records.len(), usize::try_from(count).unwrap());
        }
        drop(split(&Bytes::from(payload)).collect::<Vec<_>>());
    }

    #[test]
    fn flipped_bits_never_panic(flips in prop::collection::vec((0usize..200, any::<u8>()), 1..5)) {
        for codec in Compression::ALL {
            let mut batch = three_records(codec).to_vec();
            for (position, mask) in &flips {
                let position = position % batch.len();
                batch[position] ^= mask;
            }
            let batch = Bytes::from(batch);
            drop(validate(&batch));
            drop(records(&batch, LIMIT));
            drop(split(&batch).collect::<Vec<_>>());
        }
    }
}
