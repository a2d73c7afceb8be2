//! The last bars of one symbol and TA-Lib's values of them.
//!
//! Definitions are TA-Lib's: Bollinger = simple moving average ± k population standard
//! deviations; Aroon oscillator over `period + 1` bars, the most recent extreme on ties.

use odradek_broker::client::StoredRecord;
use ta_lib::{Core, MAType};

use crate::config::{Aroon, Bollinger};
use crate::row::{self, Rows};

/// Bars kept beyond the longest lookback, so that a corrected bar this far back still corrects
/// its own value exactly.
const CORRECTABLE: usize = 10;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct BarIn {
    pub start_ms: i64,
    pub offset: i64,
    pub high: f64,
    pub low: f64,
    pub close: f64,
    pub volume: Option<f64>,
    pub is_final: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bands {
    pub upper: f64,
    pub middle: f64,
    pub lower: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub start_ms: i64,
    pub close: f64,
    /// `None` before the lookback is filled.
    pub bollinger: Option<Bands>,
    pub aroon_osc: Option<f64>,
}

/// A bar as `[[window]]` writes it.
pub(crate) fn parse_bar(record: &StoredRecord) -> Option<(String, BarIn)> {
    let Rows::One(row) = Rows::parse(record.value.as_deref()) else { return None };
    let bar = BarIn {
        start_ms: row::integer(&row, "start")?,
        offset: record.offset,
        high: row::number(&row, "high")?,
        low: row::number(&row, "low")?,
        close: row::number(&row, "close")?,
        volume: row::number(&row, "volume"),
        is_final: row.get("final").and_then(serde_json::Value::as_bool).unwrap_or(true),
    };
    Some((row::text(&row, "symbol")?, bar))
}

pub(crate) struct Definition {
    core: Core,
    bollinger_period: usize,
    deviations: f64,
    aroon_period: usize,
}

impl Definition {
    pub(crate) fn new(bollinger: &Bollinger, aroon: &Aroon) -> Self {
        Self {
            core: Core::new(),
            bollinger_period: bollinger.period,
            deviations: bollinger.deviations,
            aroon_period: aroon.period,
        }
    }

    /// Bars before a bar that its values need.
    fn lookback(&self) -> usize {
        (self.bollinger_period - 1).max(self.aroon_period)
    }

    /// Bars kept per symbol.
    pub(crate) fn kept(&self) -> usize {
        self.lookback() + 1 + CORRECTABLE
    }

    /// Of the last `period` closes; `None` if there are fewer.
    pub(crate) fn bollinger(&self, closes: &[f64]) -> Option<Bands> {
        let tail = &closes[closes.len().checked_sub(self.bollinger_period)?..];
        let period = i32::try_from(self.bollinger_period).ok()?;
        let (k, average) = (self.deviations, MAType::SMA);
        let (_, (upper, middle, lower)) =
            self.core.bbands_open(tail, period, k, k, average).ok()?;
        Some(Bands { upper, middle, lower })
    }

    /// Of the last `period + 1` bars; `None` if there are fewer.
    pub(crate) fn aroon_osc(&self, highs: &[f64], lows: &[f64]) -> Option<f64> {
        let from = highs.len().checked_sub(self.aroon_period + 1)?;
        let period = i32::try_from(self.aroon_period).ok()?;
        let (_, value) = self.core.aroonosc_open(&highs[from..], &lows[from..], period).ok()?;
        Some(value)
    }
}

/// Bars by start, the newest last.
#[derive(Debug, Default)]
pub(crate) struct Series {
    bars: Vec<BarIn>,
}

impl Series {
    /// Puts a bar in its place and gives the starts of the bars from it on (their values may be
    /// new). Once the series is full, a bar older than all that are kept changes nothing, and no
    /// bar whose lookback is not kept is given: its earlier value stands.
    pub(crate) fn put(&mut self, bar: BarIn, definition: &Definition) -> Vec<i64> {
        let start_ms = bar.start_ms;
        let kept = definition.kept();
        match self.bars.binary_search_by_key(&start_ms, |b| b.start_ms) {
            Ok(index) => self.bars[index] = bar,
            Err(0) if self.bars.len() >= kept => return Vec::new(),
            Err(index) => self.bars.insert(index, bar),
        }
        if self.bars.len() > kept {
            self.bars.remove(0);
        }
        let known = if self.bars.len() >= kept { definition.lookback() } else { 0 };
        let changed = self.bars.partition_point(|b| b.start_ms < start_ms).max(known);
        self.bars[changed..].iter().map(|b| b.start_ms).collect()
    }

    pub(crate) fn bars(&self) -> &[BarIn] {
        &self.bars
    }

    pub(crate) fn oldest_offset(&self) -> Option<i64> {
        self.bars.iter().map(|bar| bar.offset).min()
    }

    /// The values at the bar with this start.
    pub(crate) fn point(&self, start_ms: i64, definition: &Definition) -> Option<Point> {
        let index = self.bars.binary_search_by_key(&start_ms, |b| b.start_ms).ok()?;
        let bars = &self.bars[..=index];
        let closes: Vec<f64> = bars.iter().map(|b| b.close).collect();
        let highs: Vec<f64> = bars.iter().map(|b| b.high).collect();
        let lows: Vec<f64> = bars.iter().map(|b| b.low).collect();
        Some(Point {
            start_ms,
            close: self.bars[index].close,
            bollinger: definition.bollinger(&closes),
            aroon_osc: definition.aroon_osc(&highs, &lows),
        })
    }
}
