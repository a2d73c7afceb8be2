//! How fast a file is replayed.

use std::str::FromStr;
use std::time::Duration;

use tokio::time::Instant;

/// `max`, `500/s`, `event_time×60` (also `x` or `*`; `event_time` alone is `×1`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    Max,
    /// Rows a second.
    Rate(f64),
    /// So many times faster than it happened.
    EventTime(f64),
}

impl FromStr for Pace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no pace");
        let positive = |number: &str| {
            let number: f64 = number.trim().parse().map_err(|_| wrong())?;
            if number > 0.0 && number <= 1e9 { Ok(number) } else { Err(wrong()) }
        };
        let text = text.trim();
        if text == "max" {
            return Ok(Self::Max);
        }
        if let Some(number) = text.strip_suffix("/s") {
            return positive(number).map(Self::Rate);
        }
        match text.strip_prefix("event_time") {
            Some("") => Ok(Self::EventTime(1.0)),
            Some(factor) => {
                let number = factor.strip_prefix(['×', 'x', '*']).ok_or_else(wrong)?;
                positive(number).map(Self::EventTime)
            }
            None => Err(wrong()),
        }
    }
}

/// When the rows of one run are due. A row is never early; one that is late (the commit was slow,
/// or its event time lies before that of rows already sent) is due at once.
#[derive(Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    start: Instant,
    rows: u64,
    first_event_ms: Option<i64>,
}

impl Schedule {
    pub fn new(pace: Pace) -> Self {
        Self { pace, start: Instant::now(), rows: 0, first_event_ms: None }
    }

    /// The instant at which the next row is due; `None`: at once. Rows without an event time are
    /// due with their neighbours.
    pub fn due(&mut self, event_ms: Option<i64>) -> Option<Instant> {
        let after_s = match self.pace {
            Pace::Max => return None,
            Pace::Rate(rate) => self.rows as f64 / rate,
            Pace::EventTime(factor) => {
                let event_ms = event_ms?;
                let first_ms = *self.first_event_ms.get_or_insert(event_ms);
                event_ms.saturating_sub(first_ms).max(0) as f64 / 1000.0 / factor
            }
        };
        self.rows += 1;
        let after = Duration::try_from_secs_f64(after_s).unwrap_or(Duration::MAX);
        self.start.checked_add(after).or(Some(self.start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_max_or_a_rate_or_a_multiple_of_event_time() {
        let cases = [
            ("max", Pace::Max),
            ("500/s", Pace::Rate(500.0)),
            ("0.5/s", Pace::Rate(0.5)),
            ("event_time", Pace::EventTime(1.0)),
            ("event_time×60", Pace::EventTime(60.0)),
            ("event_timex60", Pace::EventTime(60.0)),
            ("event_time*0.5", Pace::EventTime(0.5)),
        ];
        for (text, pace) in cases {
            assert_eq!(text.parse(), Ok(pace), "{text}");
        }
        for text in ["", "fast", "0/s", "-1/s", "5/m", "event_time60", "NaN/s", "inf/s"] {
            assert!(text.parse::<Pace>().is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn event_time_is_compressed_and_the_past_is_due_at_once() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::EventTime(60.0));
        assert_eq!(schedule.due(Some(1_000_000)), Some(start));
        let hour = schedule.due(Some(1_000_000 + 3_600_000));
        assert_eq!(hour, Some(start + Duration::from_secs(60)));
        assert_eq!(schedule.due(Some(0)), Some(start));
        assert_eq!(schedule.due(None), None);
    }
}
