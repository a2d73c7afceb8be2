//! What a topic's configuration asks of the batches that are written to it, whoever writes them.
//!
//! A batch is unpacked only where a policy needs its records (keys on a compacted topic, bounds on
//! times) or another codec. Nothing here waits. The order is Kafka's: records, codec, time, size;
//! the sentences of what is refused are Kafka's too.

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use odradek_protocol::DecodeError;
use odradek_protocol::batch::{self, BatchHeader, Record, RecordReader};
use odradek_protocol::compression::Compression;

use crate::config::{TimestampType, TopicSettings};
use crate::limits;
use crate::partition::Batch;
use crate::topics::Topic;

/// Why a batch is refused: the error, a sentence, and the records that are at fault by their index
/// in the batch (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub error: ResponseError,
    pub why: String,
    pub records: Vec<(i32, String)>,
    /// Of the partition, where the error is one that tells it; else -1.
    pub log_start_offset: i64,
}

impl From<(ResponseError, String)> for Failure {
    fn from((error, why): (ResponseError, String)) -> Self {
        Self { error, why, records: Vec::new(), log_start_offset: -1 }
    }
}

/// The batch as the topic stores it, and the time that was written into it (-1: none was).
pub(crate) fn apply(
    topic: &Topic,
    partition: i32,
    batch: Batch,
    now_ms: i64,
) -> Result<(Batch, i64), Failure> {
    let place = Place { topic: &topic.name, partition };
    let settings = &topic.settings;
    check_records(&place, settings, &batch.bytes, now_ms)?;
    let mut bytes = recompressed(settings, &batch)?;
    let mut append_time_ms = -1;
    if settings.timestamp_type == TimestampType::LogAppendTime {
        let mut stamped = BytesMut::from(&bytes.unwrap_or(batch.bytes.clone())[..]);
        batch::set_log_append_time(&mut stamped, now_ms);
        bytes = Some(stamped.freeze());
        append_time_ms = now_ms;
    }
    let batch = match bytes {
        None => batch,
        Some(bytes) => {
            let header = BatchHeader::parse(&bytes).map_err(corrupt)?;
            Batch::new(header, Bytes::from_owner(Remade { bytes, _former: batch.bytes }))
        }
    };
    check_size(&place, settings, &batch)?;
    Ok((batch, append_time_ms))
}

/// Goes together with what it was made of, which holds a part of the memory budget until then.
struct Remade {
    bytes: Bytes,
    _former: Bytes,
}

impl AsRef<[u8]> for Remade {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The partition as Kafka names it.
struct Place<'a> {
    topic: &'a str,
    partition: i32,
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

fn corrupt(error: DecodeError) -> Failure {
    (ResponseError::CorruptMessage, error.to_string()).into()
}

/// Records are unpacked or packed, and not known to be few: a few bytes may stand for megabytes.
pub(crate) fn takes_long(settings: &TopicSettings, batch: &Batch) -> bool {
    let Ok(codec) = batch.header.compression() else { return false };
    let bytes_max = unpacked_bytes_max(codec, batch.bytes.len());
    let is_unpacked = codec != Compression::None && looks_at_records(settings);
    let is_repacked = settings.compression.is_some_and(|wanted| wanted.codec != codec);
    is_unpacked && bytes_max > limits::UNPACKED_AT_ONCE_BYTES_MAX
        || is_repacked && bytes_max > limits::REPACKED_AT_ONCE_BYTES_MAX
}

/// The most that so many bytes can stand for in their format.
fn unpacked_bytes_max(codec: Compression, bytes: usize) -> usize {
    bytes.saturating_mul(match codec {
        Compression::None => 1,
        // A copy of 64 bytes takes three.
        Compression::Snappy => 22,
        // Each further byte of a length stands for 255.
        Compression::Lz4 => 255,
        // 258 bytes take two bits (zlib's own figure, too).
        Compression::Gzip => 1032,
        // A block of 128 KiB that repeats one byte takes four.
        Compression::Zstd => 32 << 10,
    })
}

fn bounds_times(settings: &TopicSettings) -> bool {
    settings.timestamp_type == TimestampType::CreateTime
        && (settings.timestamp_before_ms_max.is_some() || settings.timestamp_after_ms_max.is_some())
}

fn looks_at_records(settings: &TopicSettings) -> bool {
    settings.cleanup.compact || bounds_times(settings)
}

/// Records without key where the topic is compacted, and times out of bounds.
fn check_records(
    place: &Place<'_>,
    settings: &TopicSettings,
    batch: &Bytes,
    now_ms: i64,
) -> Result<(), Failure> {
    if !looks_at_records(settings) {
        return Ok(());
    }
    let bounded = bounds_times(settings);
    let reader = RecordReader::new(batch, limits::UNPACKED_APPEND_BYTES_MAX).map_err(corrupt)?;
    let mut refused = Vec::new();
    let mut untimely = false;
    for (index, record) in (0..).zip(reader) {
        let record = record.map_err(corrupt)?;
        if settings.cleanup.compact && record.key.is_none() {
            let what = "Compacted topic cannot accept message without key in topic partition";
            refused.push((index, format!("{what} {place}")));
        } else if let Some(why) = bounded.then(|| out_of_time(settings, &record, now_ms)).flatten()
        {
            untimely = true;
            refused.push((index, why));
        }
    }
    match refused.is_empty() {
        true => Ok(()),
        false => Err(records_refused(refused, untimely)),
    }
}

/// Why a record's time is out of bounds; -1 is no time.
fn out_of_time(settings: &TopicSettings, record: &Record, now_ms: i64) -> Option<String> {
    let time_ms = record.timestamp_ms;
    let before = settings.timestamp_before_ms_max.unwrap_or(i64::MAX);
    let after = settings.timestamp_after_ms_max.unwrap_or(i64::MAX);
    let behind_ms = now_ms.saturating_sub(time_ms);
    if time_ms == -1 || behind_ms <= before && behind_ms.saturating_neg() <= after {
        return None;
    }
    Some(format!(
        "Timestamp {time_ms} of message with offset {} is out of range. The timestamp should be \
         within [{}, {}]",
        record.offset,
        now_ms.saturating_sub(before),
        now_ms.saturating_add(after)
    ))
}

fn records_refused(records: Vec<(i32, String)>, untimely: bool) -> Failure {
    if untimely {
        let why = "One or more records have been rejected due to invalid timestamp".to_owned();
        let error = ResponseError::InvalidTimestamp;
        return Failure { error, why, records, log_start_offset: -1 };
    }
    let shown = records.iter().take(3);
    let shown: Vec<String> = shown
        .map(|(index, why)| format!("RecordError(batchIndex={index}, message='{why}')"))
        .collect();
    let why = format!(
        "One or more records have been rejected due to {} record errors in total, and only showing \
         the first three errors at most: [{}]",
        records.len(),
        shown.join(", ")
    );
    Failure { error: ResponseError::InvalidRecord, why, records, log_start_offset: -1 }
}

/// Under the topic's codec; `None` if the batch has it already.
fn recompressed(settings: &TopicSettings, batch: &Batch) -> Result<Option<Bytes>, Failure> {
    let Some(wanted) = settings.compression else { return Ok(None) };
    if batch.header.compression().map_err(corrupt)? == wanted.codec {
        return Ok(None);
    }
    let max = limits::UNPACKED_APPEND_BYTES_MAX;
    batch::recompress(&batch.bytes, wanted.codec, wanted.level, max).map(Some).map_err(corrupt)
}

/// Both bounds hold for what is stored; the first was looked at as the batch arrived, too.
fn check_size(place: &Place<'_>, settings: &TopicSettings, batch: &Batch) -> Result<(), Failure> {
    let bytes = batch.bytes.len();
    let max = settings.message_bytes_max;
    if bytes > max {
        let why = format!(
            "Message batch size is {bytes} bytes in append to partition {place} which exceeds the \
             maximum configured size of {max}."
        );
        return Err((ResponseError::MessageTooLarge, why).into());
    }
    let max = settings.segment_bytes;
    if u64::try_from(bytes).unwrap_or(u64::MAX) > max {
        let why = format!(
            "Message batch size is {bytes} bytes in append to partition {place}, which exceeds the \
             maximum configured segment size of {max}."
        );
        return Err((ResponseError::RecordListTooLarge, why).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use odradek_protocol::batch::BatchBuilder;
    use uuid::Uuid;

    use super::*;
    use crate::config::Config;

    const NOW_MS: i64 = 1_700_000_000_000;

    fn topic(configs: &[(&str, &str)]) -> Topic {
        let configs: BTreeMap<String, String> =
            configs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Topic {
            name: "t".into(),
            id: Uuid::nil(),
            internal: false,
            settings: Config::defaults().topic_settings(&configs).unwrap(),
            configs,
            partitions: Vec::new(),
        }
    }

    /// Records as pairs of key and time.
    fn batch(codec: Compression, records: &[(Option<&str>, i64)]) -> Batch {
        let mut builder = BatchBuilder::new(codec).producer(7, 1, 3);
        for (key, time_ms) in records {
            builder.push(*time_ms, key.map(str::as_bytes), Some(&[b'v'; 200]), &[]);
        }
        let bytes = builder.build(0);
        Batch::new(batch::validate(&bytes).unwrap(), bytes)
    }

    /// Sizes of the batches by the factors above: 250 records of 200 times the same byte.
    #[test]
    fn only_what_may_be_much_takes_long_and_no_codec_packs_more_tightly_than_its_bound() {
        let compacted = topic(&[("cleanup.policy", "compact")]).settings;
        let plain = topic(&[]).settings;
        let repacked = topic(&[("compression.type", "zstd")]).settings;
        let records = vec![(Some("k"), NOW_MS); 250];
        let unpacked_bytes = batch(Compression::None, &records).bytes.len();
        for codec in Compression::ALL {
            let large = batch(codec, &records);
            let bytes_max = unpacked_bytes_max(codec, large.bytes.len());
            assert!(bytes_max >= unpacked_bytes, "{codec:?}: {bytes_max}");
            assert!(!takes_long(&plain, &large), "{codec:?}: nobody looks at its records");
            let few = batch(codec, &records[..1]);
            let known_to_be_few = codec != Compression::Zstd;
            assert_eq!(takes_long(&compacted, &few), !known_to_be_few, "{codec:?}");
            assert_eq!(takes_long(&repacked, &few), codec == Compression::Gzip, "{codec:?}");
        }
        let many = vec![(Some("k"), NOW_MS); 8_000];
        let bomb = batch(Compression::Gzip, &many);
        assert!(bomb.bytes.len() < 64 << 10 && takes_long(&compacted, &bomb));
        assert!(!takes_long(&compacted, &batch(Compression::None, &many)));
        assert!(takes_long(&repacked, &batch(Compression::None, &many)));
    }

    fn refusal(configs: &[(&str, &str)], records: &[(Option<&str>, i64)]) -> Failure {
        apply(&topic(configs), 0, batch(Compression::Gzip, records), NOW_MS).unwrap_err()
    }

    #[test]
    fn without_a_policy_the_batch_stays_byte_for_byte() {
        let sent = batch(Compression::Lz4, &[(None, 0), (None, -1)]);
        let (stored, time_ms) = apply(&topic(&[]), 0, sent.clone(), NOW_MS).unwrap();
        assert_eq!((stored.bytes, time_ms), (sent.bytes, -1));
    }

    /// The sentences: Kafka's LogValidator and ProduceResponse.RecordError.
    #[test]
    fn a_compacted_topic_names_the_records_without_key() {
        let failure = refusal(
            &[("cleanup.policy", "compact,delete")],
            &[(Some("a"), NOW_MS), (None, NOW_MS)],
        );
        assert_eq!(failure.error, ResponseError::InvalidRecord);
        let what = "Compacted topic cannot accept message without key in topic partition t-0";
        assert_eq!(failure.records, [(1, what.to_owned())]);
        assert_eq!(
            failure.why,
            format!(
                "One or more records have been rejected due to 1 record errors in total, and only \
                 showing the first three errors at most: [RecordError(batchIndex=1, \
                 message='{what}')]"
            )
        );
    }

    #[test]
    fn times_out_of_bounds_are_refused_and_the_bounds_are_not() {
        let bounds =
            [("message.timestamp.before.max.ms", "10"), ("message.timestamp.after.max.ms", "5")];
        let good = [(None, NOW_MS - 10), (None, NOW_MS + 5), (None, -1)];
        assert!(apply(&topic(&bounds), 0, batch(Compression::None, &good), NOW_MS).is_ok());
        for (time_ms, offset) in [(NOW_MS - 11, 1), (NOW_MS + 6, 1)] {
            let failure = refusal(&bounds, &[(None, NOW_MS), (None, time_ms)]);
            assert_eq!(failure.error, ResponseError::InvalidTimestamp);
            assert_eq!(
                failure.records,
                [(
                    1,
                    format!(
                        "Timestamp {time_ms} of message with offset {offset} is out of range. The \
                     timestamp should be within [1699999999990, 1700000000005]"
                    )
                )]
            );
        }
        // With the broker's time the producer's does not matter.
        let stamped = [bounds[0], bounds[1], ("message.timestamp.type", "LogAppendTime")];
        let (stored, time_ms) =
            apply(&topic(&stamped), 0, batch(Compression::None, &[(None, 0)]), NOW_MS).unwrap();
        assert_eq!((time_ms, stored.header.max_timestamp_ms), (NOW_MS, NOW_MS));
        assert!(batch::validate(&stored.bytes).unwrap().is_log_append_time());
    }

    #[test]
    fn what_a_batch_was_made_of_goes_when_the_new_one_does() {
        for configs in [("compression.type", "zstd"), ("message.timestamp.type", "LogAppendTime")] {
            let sent = batch(Compression::None, &[(None, 0)]);
            let former = sent.bytes.clone();
            let (stored, _) = apply(&topic(&[configs]), 0, sent, NOW_MS).unwrap();
            let part = stored.bytes.slice(..10);
            drop(stored);
            assert!(!former.is_unique());
            drop(part);
            assert!(former.is_unique());
        }
    }

    #[test]
    fn a_batch_gets_the_topics_codec_and_keeps_everything_else() {
        for wanted in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
            for codec in Compression::ALL {
                let sent = batch(codec, &[(Some("a"), 5), (None, 3)]);
                let (stored, _) =
                    apply(&topic(&[("compression.type", wanted)]), 0, sent.clone(), NOW_MS)
                        .unwrap();
                let header = batch::validate(&stored.bytes).unwrap();
                let name = header.compression().unwrap().name();
                assert_eq!(name, if wanted == "uncompressed" { "none" } else { wanted });
                let records = |bytes: &Bytes| batch::records(bytes, 1 << 20).unwrap();
                assert_eq!(records(&stored.bytes), records(&sent.bytes));
                let fields = |h: BatchHeader| {
                    (h.producer_id, h.producer_epoch, h.base_sequence, h.record_count)
                };
                assert_eq!(fields(header), fields(sent.header));
                assert_eq!(header.max_timestamp_ms, 5);
                if sent.header.compression().unwrap() == header.compression().unwrap() {
                    assert_eq!(stored.bytes, sent.bytes);
                }
            }
        }
    }

    #[test]
    fn a_level_makes_a_difference_and_size_is_that_of_what_is_stored() {
        let sent = batch(Compression::None, &[(None, 1); 50]);
        let stored = |level: &str| {
            let configs = [("compression.type", "gzip"), ("compression.gzip.level", level)];
            apply(&topic(&configs), 0, sent.clone(), NOW_MS).unwrap().0.bytes
        };
        assert_ne!(stored("1"), stored("9"));
        let small = stored("9");
        assert!(small.len() < 1000, "{} bytes", small.len());
        // Small as it came, large as it is stored: 50 records of 200 bytes are more than 10,000.
        let packed = Batch::new(batch::validate(&small).unwrap(), small);
        let plain = [("compression.type", "uncompressed"), ("max.message.bytes", "5000")];
        let failure = apply(&topic(&plain), 0, packed, NOW_MS).unwrap_err();
        assert_eq!(failure.error, ResponseError::MessageTooLarge);
        let failure = apply(&topic(&[("segment.bytes", "5000")]), 0, sent, NOW_MS).unwrap_err();
        assert_eq!(failure.error, ResponseError::RecordListTooLarge);
    }
}
