//! Bytes that other implementations wrote: Kafka's Java code, librdkafka, kafka-python. How they
//! were made stands in `fixtures/Fixtures.java` and `fixtures/clients.py`.

use bytes::Bytes;
use odradek_protocol::batch::{self, BatchError, Record};
use odradek_protocol::compression::Compression;
use odradek_protocol::frame::RequestHeader;
use odradek_protocol::guard;

const BASE_TIMESTAMP_MS: i64 = 1_700_000_000_000;
const LIMIT: usize = 1 << 20;

fn fixture(name: &str) -> Bytes {
    let path = format!("{}/fixtures/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(path).unwrap_or_else(|error| panic!("{name}: {error}")).into()
}

/// The record that the writers of the fixtures push as their `i`th.
fn record(base_offset: i64, i: i64) -> Record {
    let header = |key: &'static str, value: Option<Vec<u8>>| (key.into(), value.map(Bytes::from));
    let headers = vec![
        header("h", Some(vec![i.to_le_bytes()[0]])),
        header("h", None),
        header("", Some(Vec::new())),
    ];
    Record {
        offset: base_offset + i,
        timestamp_ms: BASE_TIMESTAMP_MS + i * 10 - (i % 4) * 100,
        key: (i % 5 != 0).then(|| format!("key-{i}").into()),
        value: (i % 7 != 0).then(|| format!("value-{i};").repeat(40).into()),
        headers: if i % 3 == 0 { headers } else { Vec::new() },
    }
}

#[test]
fn batches_of_every_client_and_codec_are_valid_and_read_to_the_last_header() {
    let all = Compression::ALL.map(|codec| (codec.name(), codec));
    for writer in ["java", "librdkafka", "python"] {
        for (name, codec) in all.into_iter().chain([("zstd-22", Compression::Zstd)]) {
            if name == "zstd-22" && writer != "java" {
                continue;
            }
            let bytes = fixture(&format!("{writer}-{name}.batch"));
            let count = if codec == Compression::None { 12 } else { 400 };
            let header = batch::validate(&bytes).unwrap_or_else(|e| panic!("{writer} {name}: {e}"));
            assert_eq!(header.compression(), Ok(codec), "{writer} {name}");
            assert_eq!((header.producer_id, header.producer_epoch), (77, 3), "{writer} {name}");
            assert_eq!(header.is_transactional(), writer != "librdkafka", "{writer} {name}");
            let base_offset = if writer == "java" { 1000 } else { 0 };
            let expected: Vec<_> = (0..count).map(|i| record(base_offset, i)).collect();
            assert_eq!(batch::records(&bytes, LIMIT).unwrap(), expected, "{writer} {name}");
            let newest = expected.iter().map(|record| record.timestamp_ms).max();
            assert_eq!(Some(header.max_timestamp_ms), newest, "{writer} {name}");
        }
    }
}

#[test]
fn log_append_time_stamps_every_record() {
    let bytes = fixture("java-lz4-append-time.batch");
    assert!(batch::validate(&bytes).unwrap().is_log_append_time());
    for record in batch::records(&bytes, LIMIT).unwrap() {
        assert_eq!(record.timestamp_ms, BASE_TIMESTAMP_MS + 99_999);
    }
}

#[test]
fn a_commit_marker_is_a_control_batch_with_kafkas_key_and_value() {
    let bytes = fixture("java-commit-marker.batch");
    let header = batch::validate(&bytes).unwrap();
    assert!(header.is_control() && header.is_transactional());
    assert_eq!((header.base_offset, header.leader_epoch, header.producer_epoch), (9, 3, 2));
    let records = batch::records(&bytes, LIMIT).unwrap();
    // Version 0, type 1 (commit); version 0, coordinator epoch 5.
    assert_eq!(records[0].key.as_deref(), Some(&[0, 0, 0, 1][..]));
    assert_eq!(records[0].value.as_deref(), Some(&[0, 0, 0, 0, 0, 5][..]));
}

#[test]
fn an_old_message_format_is_told_from_damage() {
    let bytes = fixture("java-magic-1.batch");
    assert_eq!(batch::validate(&bytes), Err(BatchError::OldMagic(1)));
}

#[test]
fn any_flipped_bit_of_a_batch_behind_its_epoch_is_noticed() {
    let bytes = fixture("java-none.batch");
    for position in 8..bytes.len() {
        // The leader epoch is outside the checksum, because the broker rewrites it.
        if (12..16).contains(&position) {
            continue;
        }
        let mut damaged = bytes.to_vec();
        damaged[position] ^= 1 << (position % 8);
        assert!(batch::validate(&damaged).is_err(), "{position}");
    }
}

#[test]
fn requests_of_the_java_client_pass_the_guard_whole() {
    let text = fixture("java-requests.txt");
    let mut frames = 0;
    for line in std::str::from_utf8(&text).unwrap().lines() {
        let [api_key, version, hex] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        let frame: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
            .collect();
        let (header, body) = RequestHeader::parse(&frame.into()).unwrap();
        assert_eq!(
            (header.api_key, header.version),
            (api_key.parse().unwrap(), version.parse().unwrap())
        );
        assert_eq!(header.correlation_id, 7, "{line}");
        assert_eq!(header.client_id.as_deref(), Some("fixture"), "{line}");
        assert_eq!(guard::check(header.api_key, header.version, &body), Ok(()), "{line}");
        if let Some(cut) = body.len().checked_sub(1) {
            assert!(guard::check(header.api_key, header.version, &body[..cut]).is_err(), "{line}");
        }
        frames += 1;
    }
    assert_eq!(frames, 24);
}
