//! Times as people and programs write them.
//!
//! Taken: RFC 3339 (`2026-11-22T10:00:00Z`, `…+01:00`), the same with a space, a date alone,
//! epoch seconds or milliseconds, `now`, and a distance back from now (`-1h`, `-90s`, `-2d`).
//! A time without a zone is UTC, and [`Instant::assumed_utc`] says that this was assumed.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::{Failure, Outcome};

/// Numbers below this are epoch seconds (it is the year 5138), the others milliseconds (from 1973).
const EPOCH_SECONDS_MAX: i64 = 100_000_000_000;
/// Beyond this a number would be microseconds or worse: refused rather than guessed.
const EPOCH_MS_MAX: i64 = 100_000_000_000_000;

pub const HINT: &str = "use RFC 3339 (2026-11-22T10:00:00Z), epoch seconds or milliseconds, now, \
                        or a distance back from now such as -1h, -15m, -90s, -2d";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instant {
    /// Epoch milliseconds.
    pub ms: i64,
    /// The text named no zone, so UTC was taken.
    pub assumed_utc: bool,
}

pub fn parse(text: &str, now_ms: i64) -> Outcome<Instant> {
    let text = text.trim();
    let known = |ms| Ok(Instant { ms, assumed_utc: false });
    if text.eq_ignore_ascii_case("now") {
        return known(now_ms);
    }
    if let Some(distance) = text.strip_prefix('-') {
        return known(now_ms.saturating_sub(distance_ms(distance).ok_or_else(|| refuse(text))?));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !text.is_empty() {
        return known(epoch_ms(text).ok_or_else(|| refuse(text))?);
    }
    let text = restore_plus(text);
    if let Ok(timestamp) = text.parse::<Timestamp>() {
        return known(timestamp.as_millisecond());
    }
    let civil: DateTime = text.parse().map_err(|_| refuse(&text))?;
    let zoned = civil.to_zoned(TimeZone::UTC).map_err(|_| refuse(&text))?;
    Ok(Instant { ms: zoned.timestamp().as_millisecond(), assumed_utc: true })
}

/// `2026-11-22T10:00:00.000Z`; nothing for a time beyond what the calendar holds.
pub fn rfc3339(ms: i64) -> Option<String> {
    let timestamp = Timestamp::from_millisecond(ms).ok()?;
    Some(timestamp.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string())
}

fn refuse(text: &str) -> Failure {
    Failure::invalid(format!("{text:?} is not a time"), HINT)
}

/// `1h`, `90s`, `15m`, `2d`, `1w`, `500ms`, in milliseconds.
pub fn distance_ms(text: &str) -> Option<i64> {
    let digits_end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(digits_end);
    let count: i64 = digits.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        _ => return None,
    };
    count.checked_mul(unit_ms)
}

fn epoch_ms(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let number: i64 = whole.parse().ok()?;
    if number < EPOCH_SECONDS_MAX {
        let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
        return Some(number * 1000 + digits.parse::<i64>().ok()?);
    }
    (number < EPOCH_MS_MAX && fraction.is_empty()).then_some(number)
}

/// In a query string `+` means a space, so `…T10:00:00+01:00` arrives as `…T10:00:00 01:00`.
fn restore_plus(text: &str) -> String {
    let bytes = text.as_bytes();
    let zone_at = bytes.len().wrapping_sub(6);
    let spaced_zone = bytes.len() > 16
        && bytes[zone_at] == b' '
        && bytes[zone_at + 3] == b':'
        && bytes[..zone_at].contains(&b':');
    if spaced_zone {
        let (time, zone) = text.split_at(zone_at);
        return format!("{time}+{}", zone.trim_start());
    }
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_763_800_000_000;

    #[test]
    fn every_documented_form_of_a_time_is_understood() {
        // Expected values: `date -u -d … +%s`.
        let table = [
            ("2013-01-01T05:15:00Z", 1_357_017_300_000, false),
            ("2013-01-01T00:15:00-05:00", 1_357_017_300_000, false),
            ("2013-01-01T06:15:00 01:00", 1_357_017_300_000, false),
            ("2013-01-01 05:15:00", 1_357_017_300_000, true),
            ("2013-01-01T05:15:00.250", 1_357_017_300_250, true),
            ("2013-01-01", 1_356_998_400_000, true),
            ("1357017300", 1_357_017_300_000, false),
            ("1357017300.5", 1_357_017_300_500, false),
            ("1357017300123", 1_357_017_300_123, false),
            ("now", NOW_MS, false),
            ("-1h", NOW_MS - 3_600_000, false),
            ("-90s", NOW_MS - 90_000, false),
            ("-2d", NOW_MS - 172_800_000, false),
            ("-500ms", NOW_MS - 500, false),
        ];
        for (text, ms, assumed_utc) in table {
            assert_eq!(parse(text, NOW_MS), Ok(Instant { ms, assumed_utc }), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_time_is_refused_with_a_hint() {
        for text in ["", "yesterday", "-1", "-1y", "1357017300123456", "2013-13-01", "1.2.3", "é"]
        {
            let refused = parse(text, NOW_MS);
            assert!(matches!(refused, Err(Failure::Invalid { .. })), "{text}: {refused:?}");
        }
    }

    #[test]
    fn a_time_is_printed_with_milliseconds_and_a_zone() {
        assert_eq!(rfc3339(1_357_017_300_250).as_deref(), Some("2013-01-01T05:15:00.250Z"));
        assert_eq!(rfc3339(-1).as_deref(), Some("1969-12-31T23:59:59.999Z"));
        assert_eq!(rfc3339(i64::MAX), None);
    }
}
