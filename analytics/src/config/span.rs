//! Lengths of time as people write them in `pipeline.toml`: `"250ms"`, `"5s"`, `"1m"`, `"2h"`,
//! `"1d"`. A bare number is refused, because it would not say its unit.

use std::fmt;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time in whole milliseconds, at most 10,000 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    ms: i64,
}

const MS_MAX: i64 = 10_000 * 24 * 3_600 * 1_000;

/// Longest suffix first: `"5ms"` also ends in `s`.
const UNITS: [(&str, i64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl Span {
    pub const fn from_ms(ms: i64) -> Self {
        Self { ms }
    }

    pub fn ms(self) -> i64 {
        self.ms
    }

    pub fn duration(self) -> Duration {
        Duration::from_millis(self.ms.unsigned_abs())
    }

    /// `None` when the text is not a whole number with one of the five units.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (digits, unit_ms) = UNITS
            .iter()
            .find_map(|(unit, ms)| text.strip_suffix(unit).map(|digits| (digits.trim(), *ms)))?;
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let ms = digits.parse::<i64>().ok()?.checked_mul(unit_ms)?;
        (ms <= MS_MAX).then_some(Self { ms })
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().rev().find(|(_, ms)| self.ms != 0 && self.ms % ms == 0);
        match whole {
            Some((unit, ms)) => write!(f, "{}{unit}", self.ms / ms),
            None => write!(f, "0s"),
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not a length of time; write a whole number and a unit, \
                 for example \"250ms\", \"5s\", \"1m\", \"2h\" or \"1d\""
            ))
        })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_whole_number_with_a_unit() {
        let table = [
            ("250ms", Some(250)),
            ("5s", Some(5_000)),
            ("1m", Some(60_000)),
            ("2h", Some(7_200_000)),
            ("1d", Some(86_400_000)),
            ("0s", Some(0)),
            ("5", None),
            ("s", None),
            ("-5s", None),
            ("1.5s", None),
            ("99999999999999999999d", None),
            ("10001d", None),
            ("5 parsecs", None),
        ];
        for (text, expected) in table {
            assert_eq!(Span::parse(text).map(Span::ms), expected, "{text}");
        }
    }

    #[test]
    fn a_span_is_shown_in_its_largest_whole_unit() {
        for (ms, expected) in [(250, "250ms"), (60_000, "1m"), (90_000, "90s"), (0, "0s")] {
            assert_eq!(Span::from_ms(ms).to_string(), expected);
        }
    }
}
