//! Bollinger bands and Aroon oscillator of a topic of bars.
//!
//! 1. Each bar gives one output value with the same key and start. A bar that is written again
//!    (corrected, or final after it was not) gives its value again, and so does each later bar
//!    whose value depends on it; the last value of a (key, start) counts.
//! 2. A value depends on its last `lookback + 1` bars alone, of which TA-Lib computes it afresh:
//!    so one at a time, in a batch, and after a restart give the same bits.
//! 3. The bars kept per key are not in the checkpoint. They are read again from the input,
//!    from the oldest kept bar's offset on, which the checkpoint holds.

pub(crate) mod series;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek_broker::client::{Record, StoredRecord, TopicRecords};
use serde_json::{Map, Value, json};

use self::series::{Definition, Point, Series};
use crate::config::IndicatorConfig;
use crate::run::{Flush, Machine, Output, Restore, RunError, Spec};
use crate::telemetry::Probe;

pub(crate) fn spec(config: &IndicatorConfig) -> Spec {
    Spec {
        name: config.name.clone(),
        input: config.input.clone(),
        outputs: vec![Output {
            topic: config.output.clone(),
            partitions: None,
            configs: crate::event_time_topic(),
        }],
        definition: serde_json::to_string(config).unwrap_or_default(),
        idle: Duration::from_secs(3_600),
    }
}

pub(crate) struct Indicators {
    config: IndicatorConfig,
    definition: Definition,
    probe: Probe,
    /// By input partition and symbol.
    series: BTreeMap<i32, BTreeMap<String, Series>>,
    replay_from: BTreeMap<i32, i64>,
    out: Vec<Record>,
}

impl Indicators {
    pub(crate) fn new(config: IndicatorConfig, probe: Probe) -> Self {
        let definition = Definition::new(&config.bollinger, &config.aroon);
        let (series, replay_from) = (BTreeMap::new(), BTreeMap::new());
        Self { config, definition, probe, series, replay_from, out: Vec::new() }
    }

    /// Takes a bar in; gives the starts of the bars whose values are new.
    fn take(&mut self, partition: i32, record: &StoredRecord) -> Option<(String, Vec<i64>)> {
        let Some((symbol, bar)) = series::parse_bar(record) else {
            self.probe.skipped.inc();
            return None;
        };
        let series = self.series.entry(partition).or_default();
        let series = series.entry(symbol.clone()).or_default();
        let starts = series.put(bar, &self.definition);
        Some((symbol, starts))
    }
}

fn record(symbol: &str, point: &Point) -> Record {
    let mut object = Map::new();
    object.insert("symbol".to_owned(), json!(symbol));
    object.insert("start".to_owned(), json!(point.start_ms));
    object.insert("close".to_owned(), json!(point.close));
    let [upper, middle, lower] = match point.bollinger {
        Some(bands) => [json!(bands.upper), json!(bands.middle), json!(bands.lower)],
        None => [Value::Null, Value::Null, Value::Null],
    };
    object.insert("bb_upper".to_owned(), upper);
    object.insert("bb_middle".to_owned(), middle);
    object.insert("bb_lower".to_owned(), lower);
    object.insert("aroon_osc".to_owned(), json!(point.aroon_osc));
    Record {
        timestamp_ms: point.start_ms,
        key: Some(Bytes::from(symbol.to_owned())),
        value: Some(Bytes::from(Value::Object(object).to_string())),
        headers: Vec::new(),
    }
}

#[async_trait]
impl Machine for Indicators {
    async fn restore(&mut self, from: Restore<'_>) -> Result<(), RunError> {
        self.series.clear();
        self.replay_from.clear();
        self.out.clear();
        if let Some(state) = from.state {
            self.replay_from = serde_json::from_value(state["replay_from"].clone())
                .map_err(|e| RunError::State(format!("the indicators' checkpoint: {e}")))?;
        }
        Ok(())
    }

    fn replay_from(&self, partition: i32) -> Option<i64> {
        self.replay_from.get(&partition).copied()
    }

    fn replay(&mut self, partition: i32, records: &[StoredRecord]) {
        for record in records {
            self.take(partition, record);
        }
    }

    async fn absorb(&mut self, partition: i32, records: &[StoredRecord]) -> Result<(), RunError> {
        for record in records {
            let Some((symbol, starts)) = self.take(partition, record) else { continue };
            let Some(series) = self.series.get(&partition).and_then(|s| s.get(&symbol)) else {
                continue;
            };
            for start_ms in starts {
                if let Some(point) = series.point(start_ms, &self.definition) {
                    self.out.push(self::record(&symbol, &point));
                }
            }
        }
        Ok(())
    }

    fn pending(&self) -> bool {
        !self.out.is_empty()
    }

    fn flush(&mut self) -> Result<Flush, RunError> {
        let oldest = |series: &BTreeMap<String, Series>| {
            series.values().filter_map(Series::oldest_offset).min()
        };
        let replay_from: BTreeMap<i32, i64> =
            self.series.iter().filter_map(|(p, s)| Some((*p, oldest(s)?))).collect();
        let records = TopicRecords {
            topic: self.config.output.clone(),
            partition: None,
            records: std::mem::take(&mut self.out),
        };
        let state = json!({ "replay_from": replay_from });
        Ok(Flush { records: vec![records], checkpoints: Vec::new(), state })
    }
}

#[cfg(test)]
mod tests;
