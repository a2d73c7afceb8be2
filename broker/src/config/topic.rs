//! What a topic is told: its own configuration over the broker's defaults.

use std::collections::BTreeMap;

use odradek_log::CompactionSettings;
use odradek_protocol::compression::Compression;

use super::Config;
use super::keys::{self, Key};
use super::values::Reader;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// The codec that batches of a topic are stored with, whatever the producer chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicCompression {
    pub codec: Compression,
    /// `None`: the codec's default.
    pub level: Option<i32>,
}

/// The topic keys that this broker acts on. The other keys are kept and shown only.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicSettings {
    pub cleanup: CleanupPolicy,
    /// Holds where `cleanup` says compact.
    pub compaction: CompactionSettings,
    /// `None`: for ever.
    pub retention_ms: Option<i64>,
    /// Of a partition; `None`: no bound.
    pub retention_bytes: Option<i64>,
    pub segment_bytes: u64,
    pub segment_ms: i64,
    pub message_bytes_max: usize,
    pub timestamp_type: TimestampType,
    /// How far before the broker's clock a record's time may lie; `None`: any time.
    pub timestamp_before_ms_max: Option<i64>,
    pub timestamp_after_ms_max: Option<i64>,
    /// `None`: as the producer sent it.
    pub compression: Option<TopicCompression>,
}

/// The defaults of all topics, with Kafka's precedence (ms, then minutes, then hours).
pub(super) fn broker_settings(reader: &Reader<'_>) -> TopicSettings {
    // Each synonym is asked for, also when an earlier one wins: they are all used keys.
    let value = |name: &str| {
        let key = keys::topic_key(name).expect("written in this file");
        let written: Vec<Option<String>> = key
            .synonyms
            .iter()
            .map(|(synonym, factor)| Some(scaled(&reader.written(synonym)?, *factor)))
            .collect();
        written.into_iter().flatten().next().or(key.default.map(str::to_owned)).unwrap_or_default()
    };
    from_values(value).unwrap_or_else(|what| {
        reader.problem(reader.origin("log.cleanup.policy"), "log.cleanup.policy", what, "");
        from_values(default_of).expect("the table's defaults are valid")
    })
}

fn default_of(name: &str) -> String {
    keys::topic_key(name).and_then(|key| key.default).unwrap_or_default().to_owned()
}

/// A duration in a broker key's unit, in the topic key's; -1 (for ever) stays.
fn scaled(value: &str, factor: i64) -> String {
    match value.parse::<i64>() {
        Ok(number) if factor != 1 && number > 0 => number.saturating_mul(factor).to_string(),
        _ => value.to_owned(),
    }
}

fn from_values(value: impl Fn(&str) -> String) -> Result<TopicSettings, String> {
    let number = |name: &str| {
        let text = value(name);
        text.trim().parse::<i64>().map_err(|_| format!("{name}: {text:?} is not a whole number"))
    };
    let not_below_zero = |number: i64| (number >= 0).then_some(number);
    let timestamp_type = match value("message.timestamp.type") {
        text if text.eq_ignore_ascii_case("LogAppendTime") => TimestampType::LogAppendTime,
        _ => TimestampType::CreateTime,
    };
    let bounded = |number: i64| (number < i64::MAX).then_some(number);
    Ok(TopicSettings {
        cleanup: cleanup(&value("cleanup.policy"))?,
        compaction: compaction(&value, &number)?,
        retention_ms: not_below_zero(number("retention.ms")?),
        retention_bytes: not_below_zero(number("retention.bytes")?),
        segment_bytes: u64::try_from(number("segment.bytes")?).unwrap_or(u64::MAX),
        segment_ms: number("segment.ms")?,
        message_bytes_max: usize::try_from(number("max.message.bytes")?).unwrap_or(usize::MAX),
        timestamp_type,
        timestamp_before_ms_max: bounded(number("message.timestamp.before.max.ms")?),
        timestamp_after_ms_max: bounded(number("message.timestamp.after.max.ms")?),
        compression: compression(&value)?,
    })
}

fn compaction(
    value: &impl Fn(&str) -> String,
    number: &impl Fn(&str) -> Result<i64, String>,
) -> Result<CompactionSettings, String> {
    let (name, text) = ("min.cleanable.dirty.ratio", value("min.cleanable.dirty.ratio"));
    let ratio = text.parse().map_err(|_| format!("{name}: {text:?} is not a number"))?;
    Ok(CompactionSettings {
        min_dirty_ratio: ratio,
        delete_retention_ms: number("delete.retention.ms")?,
        min_lag_ms: number("min.compaction.lag.ms")?,
        max_lag_ms: number("max.compaction.lag.ms")?,
    })
}

fn compression(value: &impl Fn(&str) -> String) -> Result<Option<TopicCompression>, String> {
    let level = |name: &str| {
        let text = value(name);
        let level = text.parse::<i32>();
        level.map_err(|_| format!("{name}: {text:?} is not a whole number")).map(Some)
    };
    let (gzip, zstd) = (level("compression.gzip.level")?, level("compression.zstd.level")?);
    let (codec, level) = match value("compression.type").to_ascii_lowercase().as_str() {
        "uncompressed" => (Compression::None, None),
        "gzip" => (Compression::Gzip, gzip),
        "snappy" => (Compression::Snappy, None),
        "lz4" => (Compression::Lz4, None),
        "zstd" => (Compression::Zstd, zstd),
        _ => return Ok(None),
    };
    Ok(Some(TopicCompression { codec, level }))
}

fn cleanup(text: &str) -> Result<CleanupPolicy, String> {
    let mut policy = CleanupPolicy { delete: false, compact: false };
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match word {
            "delete" => policy.delete = true,
            "compact" => policy.compact = true,
            other => {
                return Err(format!("cleanup.policy: {other:?} is neither delete nor compact"));
            }
        }
    }
    Ok(policy)
}

impl Config {
    /// A topic's settings; `overrides` is what was given for the topic itself. An error is a
    /// sentence for the client (INVALID_CONFIG).
    pub fn topic_settings(
        &self,
        overrides: &BTreeMap<String, String>,
    ) -> Result<TopicSettings, String> {
        for (name, value) in overrides {
            check(name, value)?;
        }
        let value = |name: &str| match overrides.get(name) {
            Some(value) => value.clone(),
            None => self.default_value(keys::topic_key(name).expect("written in this file")),
        };
        check_together(&value)?;
        from_values(value)
    }

    /// A topic or group key's default as text: what the broker's keys or the table say.
    pub(super) fn default_value(&self, key: &'static Key) -> String {
        let written = key
            .synonyms
            .iter()
            .find_map(|(synonym, factor)| Some(scaled(self.written(synonym)?.0, *factor)));
        written.unwrap_or_else(|| key.default.unwrap_or_default().to_owned())
    }
}

/// Kafka's one rule about two keys.
fn check_together(value: &impl Fn(&str) -> String) -> Result<(), String> {
    let (least, most) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    let number = |name: &str| value(name).parse::<i64>().unwrap_or_default();
    let (min, max) = (number(least), number(most));
    if min > max {
        return Err(format!("conflict topic config setting {least} ({min}) > {most} ({max})"));
    }
    Ok(())
}

fn check(name: &str, value: &str) -> Result<(), String> {
    let Some(key) = keys::topic_key(name) else {
        let near = keys::nearest_topic(name);
        let hint = near.map_or(String::new(), |near| format!(" (is {near} meant?)"));
        return Err(format!("Unknown topic config name: {name}{hint}"));
    };
    key.check(value).map_err(|what| format!("Invalid value for configuration {name}: {what}"))?;
    if name == "cleanup.policy" {
        cleanup(value)?;
    }
    Ok(())
}
