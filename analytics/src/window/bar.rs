//! One bar, and the volume between two readings of a running total.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::VolumeKind;

/// What has been told about a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// The watermark has not passed its end. It may have been written as not final.
    #[serde(rename = "o")]
    Open,
    /// Written as final; a late row changes it and it is written again.
    #[serde(rename = "c")]
    Closed,
}

/// Open, high, low and close are by event time, and by arrival where event times are equal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Bar {
    pub start_ms: i64,
    pub first_ms: i64,
    pub last_ms: i64,
    pub open: f64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: f64,
    pub ticks: u64,
    pub phase: Phase,
    /// Changed since it was last written.
    pub changed: bool,
}

impl Bar {
    pub(crate) fn new(start_ms: i64, time_ms: i64, price: f64, phase: Phase) -> Self {
        Self {
            start_ms,
            first_ms: time_ms,
            last_ms: time_ms,
            open: price,
            high: price,
            low: price,
            close: price,
            volume: 0.0,
            ticks: 0,
            phase,
            changed: true,
        }
    }

    /// Takes one tick in; `volume` is its share of the bar's volume, negative for a correction.
    pub(crate) fn add(&mut self, time_ms: i64, price: f64, volume: f64) {
        if time_ms < self.first_ms {
            self.first_ms = time_ms;
            self.open = price;
        }
        if time_ms >= self.last_ms {
            self.last_ms = time_ms;
            self.close = price;
        }
        self.high = self.high.max(price);
        self.low = self.low.min(price);
        self.volume = (self.volume + volume).max(0.0);
        self.ticks += 1;
        self.changed = true;
    }

    pub(crate) fn json(&self, symbol: &str, end_ms: i64, has_volume: bool) -> Vec<u8> {
        let mut object = Map::new();
        object.insert("symbol".to_owned(), json!(symbol));
        object.insert("start".to_owned(), json!(self.start_ms));
        object.insert("end".to_owned(), json!(end_ms));
        object.insert("open".to_owned(), json!(self.open));
        object.insert("high".to_owned(), json!(self.high));
        object.insert("low".to_owned(), json!(self.low));
        object.insert("close".to_owned(), json!(self.close));
        let volume = if has_volume { whole_or_float(self.volume) } else { Value::Null };
        object.insert("volume".to_owned(), volume);
        object.insert("ticks".to_owned(), json!(self.ticks));
        object.insert("final".to_owned(), json!(self.phase == Phase::Closed));
        Value::Object(object).to_string().into_bytes()
    }
}

/// Volumes are whole almost always; `123` reads better than `123.0`.
fn whole_or_float(value: f64) -> Value {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT_MAX {
        // Exact: whole, and below 2^53.
        json!(value as i64)
    } else {
        json!(value)
    }
}

/// The last reading of a running total.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reading {
    pub time_ms: i64,
    pub total: f64,
}

/// The volume a tick adds, and the reading to compare the next one with.
///
/// A running total tells nothing at its first reading, so that tick adds 0. A total that fell is
/// a new session if its local day changed or it fell below half (Yahoo's `dayVolume` restarts
/// before the market opens), and adds all of itself; else it is a correction of trades already
/// counted, and the difference is negative. A tick older than the last reading adds 0: its
/// volume is already in the later bar.
pub(crate) fn volume_of_tick(
    kind: VolumeKind,
    last: Option<Reading>,
    time_ms: i64,
    field: Option<f64>,
    zone: &TimeZone,
) -> (f64, Option<Reading>) {
    let Some(total) = field.filter(|total| *total >= 0.0) else { return (0.0, last) };
    match kind {
        VolumeKind::None => return (0.0, None),
        VolumeKind::Delta => return (total, None),
        VolumeKind::Cumulative => {}
    }
    let reading = Reading { time_ms, total };
    let Some(last) = last else { return (0.0, Some(reading)) };
    if time_ms < last.time_ms {
        return (0.0, Some(last));
    }
    let fell = total < last.total;
    let new_session =
        fell && (total * 2.0 < last.total || day(zone, time_ms) != day(zone, last.time_ms));
    let volume = if new_session { total } else { total - last.total };
    (volume, Some(reading))
}

fn day(zone: &TimeZone, time_ms: i64) -> Option<Date> {
    Timestamp::from_millisecond(time_ms).ok().map(|t| zone.to_datetime(t).date())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_by_event_time_and_by_arrival_among_equals() {
        let mut bar = Bar::new(0, 500, 10.0, Phase::Open);
        for (time_ms, price) in [(500, 10.0), (500, 12.0), (900, 9.0), (100, 11.0), (900, 9.5)] {
            bar.add(time_ms, price, 1.0);
        }
        assert_eq!((bar.open, bar.high, bar.low, bar.close), (11.0, 12.0, 9.0, 9.5));
        assert_eq!((bar.volume, bar.ticks), (5.0, 5));
    }

    #[test]
    fn volume_is_the_difference_of_a_running_total_with_resets_and_corrections() {
        let zone = TimeZone::get("America/New_York").unwrap();
        let hour = 3_600_000;
        // (hours since the epoch, total, expected volume)
        let steps = [
            (10, Some(1_000.0), 0.0),
            (11, Some(1_200.0), 200.0),
            (12, Some(1_150.0), -50.0), // a correction
            (13, None, 0.0),            // a frame without the field
            (11, Some(1_100.0), 0.0),   // an old tick
            (14, Some(1_160.0), 10.0),
            (15, Some(400.0), 400.0), // fell below half: a new session
            (39, Some(390.0), 390.0), // another day: a new session
        ];
        let mut last = None;
        for (hours, total, expected) in steps {
            let kind = VolumeKind::Cumulative;
            let (volume, next) = volume_of_tick(kind, last, hours * hour, total, &zone);
            assert_eq!(volume, expected, "at hour {hours}");
            last = next;
        }
    }

    #[test]
    fn whole_volumes_are_written_without_a_fraction() {
        let mut bar = Bar::new(60_000, 60_001, 1.5, Phase::Closed);
        bar.add(60_001, 1.5, 3.0);
        let text = String::from_utf8(bar.json("ES", 120_000, true)).unwrap();
        let start = r#"{"symbol":"ES","start":60000,"end":120000,"open":1.5,"high":1.5,"low":1.5,"#;
        assert_eq!(text, format!(r#"{start}"close":1.5,"volume":3,"ticks":1,"final":true}}"#));
    }
}
