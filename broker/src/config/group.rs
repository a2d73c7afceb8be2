//! What a group is told: its own configuration over the broker's defaults (KIP-848, KIP-932).

use super::dynamic::Overrides;
use super::keys;
use super::values::Reader;

/// Default, least and largest value of one of a group's keys, all from the broker's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub default: i32,
    pub min: i32,
    pub max: i32,
}

/// The broker's side of groups' keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDefaults {
    pub consumer_session_timeout_ms: Range,
    pub consumer_heartbeat_interval_ms: Range,
    pub share_session_timeout_ms: Range,
    pub share_heartbeat_interval_ms: Range,
    pub share_record_lock_duration_ms: Range,
    pub share_delivery_count_limit: Range,
    pub share_partition_record_locks_max: Range,
}

/// Where a share group begins that has no offset yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShareReset {
    Earliest,
    Latest,
    /// So long before now.
    ByDuration {
        ms: i64,
    },
}

/// What holds for one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    pub consumer_session_timeout_ms: i32,
    pub consumer_heartbeat_interval_ms: i32,
    pub share_session_timeout_ms: i32,
    pub share_heartbeat_interval_ms: i32,
    pub share_record_lock_duration_ms: i32,
    pub share_delivery_count_limit: i32,
    pub share_partition_record_locks_max: i32,
    pub share_auto_offset_reset: ShareReset,
    pub share_read_committed: bool,
}

pub(super) fn defaults(reader: &Reader<'_>) -> GroupDefaults {
    let range = |default, min, max| {
        let range = Range {
            default: reader.number(default),
            min: reader.number(min),
            max: reader.number(max),
        };
        if !(range.min..=range.max).contains(&range.default) {
            let origin = reader.origin(default).or(reader.origin(min)).or(reader.origin(max));
            let what = format!("is not between {min} and {max}");
            reader.problem(origin, default, what, "change one of the three");
        }
        range
    };
    let defaults = GroupDefaults {
        consumer_session_timeout_ms: range(
            "group.consumer.session.timeout.ms",
            "group.consumer.min.session.timeout.ms",
            "group.consumer.max.session.timeout.ms",
        ),
        consumer_heartbeat_interval_ms: range(
            "group.consumer.heartbeat.interval.ms",
            "group.consumer.min.heartbeat.interval.ms",
            "group.consumer.max.heartbeat.interval.ms",
        ),
        share_session_timeout_ms: range(
            "group.share.session.timeout.ms",
            "group.share.min.session.timeout.ms",
            "group.share.max.session.timeout.ms",
        ),
        share_heartbeat_interval_ms: range(
            "group.share.heartbeat.interval.ms",
            "group.share.min.heartbeat.interval.ms",
            "group.share.max.heartbeat.interval.ms",
        ),
        share_record_lock_duration_ms: range(
            "group.share.record.lock.duration.ms",
            "group.share.min.record.lock.duration.ms",
            "group.share.max.record.lock.duration.ms",
        ),
        share_delivery_count_limit: range(
            "group.share.delivery.count.limit",
            "group.share.min.delivery.count.limit",
            "group.share.max.delivery.count.limit",
        ),
        share_partition_record_locks_max: range(
            "group.share.partition.max.record.locks",
            "group.share.min.partition.max.record.locks",
            "group.share.max.partition.max.record.locks",
        ),
    };
    for (kind, session, heartbeat) in [
        ("consumer", defaults.consumer_session_timeout_ms, defaults.consumer_heartbeat_interval_ms),
        ("share", defaults.share_session_timeout_ms, defaults.share_heartbeat_interval_ms),
    ] {
        if session.default <= heartbeat.default {
            let key = format!("group.{kind}.heartbeat.interval.ms");
            let what = format!("is not less than group.{kind}.session.timeout.ms");
            reader.problem(reader.origin(&key), &key, what, "change one of the two");
        }
    }
    defaults
}

impl GroupDefaults {
    /// What holds for a group to which `overrides` were given. An error is Kafka's sentence for the
    /// client (INVALID_CONFIG).
    pub fn group(&self, overrides: &Overrides) -> Result<GroupConfig, String> {
        for (name, value) in overrides {
            let key = keys::group_key(name)
                .ok_or_else(|| format!("Unknown group config name: {name}"))?;
            key.check(value).map_err(|what| {
                format!("Invalid value {value} for configuration {name}: {what}")
            })?;
        }
        let number = |name: &str, prefix: &str, rest: &str, range: Range| {
            let value = overrides.get(name).and_then(|value| value.parse().ok());
            let value: i32 = value.unwrap_or(range.default);
            if value < range.min {
                let bound = format!("group.{prefix}.min.{rest}");
                return Err(format!("{name} must be greater than or equal to {bound}"));
            }
            if value > range.max {
                let bound = format!("group.{prefix}.max.{rest}");
                return Err(format!("{name} must be less than or equal to {bound}"));
            }
            Ok(value)
        };
        let of = |prefix: &str, rest: &str, range| {
            number(&format!("{prefix}.{rest}"), prefix, rest, range)
        };
        let text = |name: &str| {
            let default = || keys::group_key(name).and_then(|key| key.default).unwrap_or_default();
            overrides.get(name).map_or_else(default, String::as_str)
        };
        let (session, heartbeat) = ("session.timeout.ms", "heartbeat.interval.ms");
        let config = GroupConfig {
            consumer_heartbeat_interval_ms: of(
                "consumer",
                heartbeat,
                self.consumer_heartbeat_interval_ms,
            )?,
            consumer_session_timeout_ms: of("consumer", session, self.consumer_session_timeout_ms)?,
            share_heartbeat_interval_ms: of("share", heartbeat, self.share_heartbeat_interval_ms)?,
            share_session_timeout_ms: of("share", session, self.share_session_timeout_ms)?,
            share_record_lock_duration_ms: of(
                "share",
                "record.lock.duration.ms",
                self.share_record_lock_duration_ms,
            )?,
            share_delivery_count_limit: of(
                "share",
                "delivery.count.limit",
                self.share_delivery_count_limit,
            )?,
            share_partition_record_locks_max: of(
                "share",
                "partition.max.record.locks",
                self.share_partition_record_locks_max,
            )?,
            share_auto_offset_reset: reset(text("share.auto.offset.reset"))?,
            share_read_committed: text("share.isolation.level")
                .eq_ignore_ascii_case("read_committed"),
        };
        for (kind, longer, shorter) in [
            ("consumer", config.consumer_session_timeout_ms, config.consumer_heartbeat_interval_ms),
            ("share", config.share_session_timeout_ms, config.share_heartbeat_interval_ms),
        ] {
            if longer <= shorter {
                let (longer, shorter) =
                    (format!("{kind}.{session}"), format!("{kind}.{heartbeat}"));
                return Err(format!("{longer} must be greater than {shorter}"));
            }
        }
        Ok(config)
    }
}

fn reset(text: &str) -> Result<ShareReset, String> {
    let invalid = |why: &str| {
        Err(format!("Invalid value {text} for configuration share.auto.offset.reset: {why}"))
    };
    match text {
        "earliest" => return Ok(ShareReset::Earliest),
        "latest" => return Ok(ShareReset::Latest),
        _ => {}
    }
    let Some(duration) = text.strip_prefix("by_duration:") else {
        return invalid("it is none of earliest, latest, by_duration:<ISO 8601 duration>");
    };
    // Java's `Duration`: days are 24 hours; years and months have no fixed length.
    let span: jiff::Span = match duration.parse() {
        Ok(span) => span,
        Err(_) => return invalid("the duration is not in ISO 8601, as PT1H30M is"),
    };
    let total = jiff::SpanTotal::from(jiff::Unit::Millisecond).days_are_24_hours();
    let ms = span.total(total).unwrap_or(-1.0);
    if !(0.0..=9.0e15).contains(&ms) {
        return invalid("the duration is negative, or of no fixed length");
    }
    // Whole milliseconds below 2^53: exact.
    #[allow(clippy::cast_possible_truncation)]
    Ok(ShareReset::ByDuration { ms: ms as i64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn group(pairs: &[(&str, &str)]) -> Result<GroupConfig, String> {
        let overrides = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::defaults().groups.defaults.group(&overrides)
    }

    /// Defaults: those of Kafka's GroupCoordinatorConfig and ShareGroupConfig.
    #[test]
    fn a_group_has_kafkas_defaults_until_it_says_otherwise() {
        let plain = group(&[]).unwrap();
        assert_eq!(plain.consumer_session_timeout_ms, 45_000);
        assert_eq!(plain.consumer_heartbeat_interval_ms, 5_000);
        assert_eq!(plain.share_record_lock_duration_ms, 30_000);
        assert_eq!(plain.share_auto_offset_reset, ShareReset::Latest);
        assert!(!plain.share_read_committed);
        let own = group(&[
            ("consumer.session.timeout.ms", "60000"),
            ("share.auto.offset.reset", "by_duration:P1DT2H"),
            ("share.isolation.level", "read_committed"),
        ])
        .unwrap();
        assert_eq!(own.consumer_session_timeout_ms, 60_000);
        assert_eq!(own.share_auto_offset_reset, ShareReset::ByDuration { ms: 26 * 3_600_000 });
        assert!(own.share_read_committed);
    }

    /// The sentences are those of Kafka's GroupConfig.
    #[test]
    fn values_out_of_the_brokers_bounds_are_refused() {
        for (name, value, what) in [
            (
                "consumer.session.timeout.ms",
                "44999",
                "consumer.session.timeout.ms must be greater than or equal to \
                 group.consumer.min.session.timeout.ms",
            ),
            (
                "share.record.lock.duration.ms",
                "60001",
                "share.record.lock.duration.ms must be less than or equal to \
                 group.share.max.record.lock.duration.ms",
            ),
            ("consumer.pace", "1", "Unknown group config name: consumer.pace"),
            ("share.auto.offset.reset", "by_duration:P1M", "no fixed length"),
            ("share.auto.offset.reset", "never", "none of earliest"),
        ] {
            let refused = group(&[(name, value)]).unwrap_err();
            assert!(refused.contains(what), "{refused}");
        }
    }
}
