//! Event time: from a number with an explicit unit, or from a local date and time.
//!
//! - A unit is never guessed. The old pipeline read Yahoo's milliseconds as seconds and landed in
//!   the year 55,000; here a time outside 1990–2100 is an error of its own kind.
//! - A local time that a clock change skips (02:30 in the night the clocks go forward) is moved
//!   forward by the length of the gap; one that happens twice means the first of the two. This is
//!   RFC 5545's rule, and what Java and Python's `fold=0` do.

use std::borrow::Cow;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::config::TimeUnit;
use crate::limits::{EVENT_TIME_END_MS, EVENT_TIME_MIN_MS};
use crate::template::Template;

#[derive(Debug, Clone)]
pub(crate) enum TimePlan {
    Arrival,
    Field { field: String, unit: TimeUnit },
    Local { template: Template, zone: TimeZone },
}

/// Why a document has no usable event time. The kinds are labels of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimeError {
    Unreadable(String),
    OutOfRange(i64),
}

impl TimePlan {
    /// Epoch milliseconds. `value` looks a field up; `arrival_ms` is the time of arrival.
    pub fn event_time_ms<'a>(
        &self,
        arrival_ms: i64,
        mut value: impl FnMut(&str) -> Option<Cow<'a, str>>,
    ) -> Result<i64, TimeError> {
        let time_ms = match self {
            Self::Arrival => return Ok(arrival_ms),
            Self::Field { field, unit } => {
                let text = value(field).ok_or_else(|| {
                    TimeError::Unreadable(format!("there is no time field {field:?}"))
                })?;
                read_unit(&text, *unit).ok_or_else(|| {
                    TimeError::Unreadable(format!("{field} is {text:?}, which is not a time"))
                })?
            }
            Self::Local { template, zone } => {
                let text = template.render(value).map_err(TimeError::Unreadable)?;
                read_local(&text, zone).ok_or_else(|| {
                    TimeError::Unreadable(format!("{text:?} is not a date and time"))
                })?
            }
        };
        if (EVENT_TIME_MIN_MS..EVENT_TIME_END_MS).contains(&time_ms) {
            Ok(time_ms)
        } else {
            Err(TimeError::OutOfRange(time_ms))
        }
    }
}

/// A number, with decimals or without, or RFC 3339 text.
fn read_unit(text: &str, unit: TimeUnit) -> Option<i64> {
    let text = text.trim();
    let per_ms: (i64, i64) = match unit {
        TimeUnit::Rfc3339 => {
            let timestamp: Timestamp = text.parse().ok()?;
            return Some(timestamp.as_millisecond());
        }
        TimeUnit::S => (1_000, 1),
        TimeUnit::Ms => (1, 1),
        TimeUnit::Us => (1, 1_000),
        TimeUnit::Ns => (1, 1_000_000),
    };
    if let Ok(number) = text.parse::<i64>() {
        return number.checked_mul(per_ms.0).map(|ms| ms.div_euclid(per_ms.1));
    }
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    let ms = (number * per_ms.0 as f64 / per_ms.1 as f64).floor();
    // Beyond 2^53 a float counts no single milliseconds; such times are far outside the range.
    (ms.abs() < 9e15).then_some(ms as i64)
}

/// `2013-1-1 05:15`, `2013-01-01T05:15:30.5`, `2013-01-01`, `2013-12-31 24:00`.
fn read_local(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    let (date, time) = text.split_once([' ', 'T']).unwrap_or((text, "00:00"));
    let mut numbers = date.split('-').map(|part| part.parse::<i16>().ok());
    let (year, month, day) = (numbers.next()??, numbers.next()??, numbers.next()??);
    if numbers.next().is_some() {
        return None;
    }
    let mut date = Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok()?;
    let time = time.trim();
    let time = if matches!(time, "24:00" | "24:00:00") {
        date = date.checked_add(Span::new().days(1)).ok()?;
        Time::midnight()
    } else {
        read_time(time)?
    };
    let instant = date.to_datetime(time).to_zoned(zone.clone()).ok()?;
    Some(instant.timestamp().as_millisecond())
}

fn read_time(text: &str) -> Option<Time> {
    let mut parts = text.split(':');
    let hour: i8 = parts.next()?.parse().ok()?;
    let minute: i8 = parts.next()?.parse().ok()?;
    let (second, nanosecond) = match parts.next() {
        None => (0, 0),
        Some(seconds) => {
            let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, ""));
            let fraction: String = fraction.chars().chain("000000000".chars()).take(9).collect();
            (whole.parse().ok()?, fraction.parse().ok()?)
        }
    };
    if parts.next().is_some() {
        return None;
    }
    Time::new(hour, minute, second, nanosecond).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(text: &str, zone: &str) -> Option<String> {
        let zone = TimeZone::get(zone).unwrap();
        let ms = read_local(text, &zone)?;
        Some(Timestamp::from_millisecond(ms).unwrap().to_string())
    }

    /// Expected values from Python: `datetime(…, tzinfo=ZoneInfo("America/New_York"))`.
    #[test]
    fn local_times_follow_the_zone_over_both_clock_changes() {
        let cases = [
            ("2013-1-1 05:15", "2013-01-01T10:15:00Z"),
            ("2013-7-4 05:15", "2013-07-04T09:15:00Z"),
            ("2013-12-31 24:00", "2014-01-01T05:00:00Z"),
            ("2013-01-01T05:15:30.250", "2013-01-01T10:15:30.25Z"),
            // Skipped: 02:30 on the morning the clocks go forward means 03:30 summer time.
            ("2013-3-10 02:30", "2013-03-10T07:30:00Z"),
            // Twice: the first 01:30, still summer time.
            ("2013-11-3 01:30", "2013-11-03T05:30:00Z"),
        ];
        for (text, instant) in cases {
            assert_eq!(local(text, "America/New_York").as_deref(), Some(instant), "{text}");
        }
        for text in ["2013-2-30 00:00", "2013-1 00:00", "2013-1-1 25:00", "x", "2013-1-1 5"] {
            assert_eq!(local(text, "UTC"), None, "{text}");
        }
    }

    #[test]
    fn the_unit_is_what_was_said_and_strings_are_numbers_too() {
        use TimeUnit::*;
        let cases = [
            ("1736509140", S, 1_736_509_140_000),
            ("1736509140.25", S, 1_736_509_140_250),
            ("1736509140000", Ms, 1_736_509_140_000),
            ("1736509140000999", Us, 1_736_509_140_000),
            ("1736509140000999999", Ns, 1_736_509_140_000),
            ("2025-01-10T11:39:00Z", Rfc3339, 1_736_509_140_000),
            ("2025-01-10T12:39:00+01:00", Rfc3339, 1_736_509_140_000),
        ];
        for (text, unit, ms) in cases {
            assert_eq!(read_unit(text, unit), Some(ms), "{text}");
        }
        for text in ["", "now", "NaN", "1e300"] {
            assert_eq!(read_unit(text, Ms), None, "{text}");
        }
    }

    #[test]
    fn milliseconds_read_as_seconds_are_refused_as_absurd() {
        let plan = TimePlan::Field { field: "t".into(), unit: TimeUnit::S };
        let time = plan.event_time_ms(0, |_| Some("1736509140000".into()));
        assert_eq!(time, Err(TimeError::OutOfRange(1_736_509_140_000_000)));
    }
}
