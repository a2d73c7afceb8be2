//! Event-time tumbling windows: bars of one key each.
//!
//! 1. The watermark of a partition is the newest event time read from it minus `watermark`. A
//!    window closes, and its bar is written with `"final": true`, when the watermark reaches its
//!    end. Partitions do not share a watermark, so the result does not depend on the order in
//!    which they are read. (A key must therefore stay in one partition, as Kafka's partitioner
//!    sees to.)
//! 2. A row for a closed window is *late*. Until the watermark is `lateness` past the window's
//!    end the bar is corrected and written again; after that the row is dropped and counted.
//! 3. When the input falls silent for `idle`, bars still open are written with `"final": false`,
//!    once a change. The bar is written again when it closes.
//! 4. So the last value of a (key, start) is the bar, and it is a function of the input's rows
//!    alone: it does not depend on restarts, batching or wall-clock time.
//! 5. A row from more than a day in the future is refused: it would close every window.

mod bar;
mod state;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::tz::TimeZone;
use odradek_broker::client::{Record, StoredRecord, TopicRecords};
use serde_json::{Value, json};

use self::bar::{Bar, Phase, volume_of_tick};
use self::state::{Kept, PartitionState, SHARDS};
use crate::config::{VolumeKind, WindowConfig};
use crate::row::{self, Row, Rows};
use crate::run::{Flush, Machine, Output, Restore, RunError, Spec, checkpoint_name};
use crate::telemetry::Probe;

const FUTURE_MS_MAX: i64 = 24 * 3_600 * 1_000;

pub(crate) fn spec(config: &WindowConfig) -> Spec {
    Spec {
        name: config.name.clone(),
        input: config.input.clone(),
        outputs: vec![Output {
            topic: config.output.clone(),
            partitions: None,
            configs: crate::event_time_topic(),
        }],
        definition: serde_json::to_string(config).unwrap_or_default(),
        idle: config.idle.duration(),
    }
}

pub(crate) struct Windows {
    config: WindowConfig,
    zone: TimeZone,
    probe: Probe,
    generation: String,
    partitions: BTreeMap<i32, PartitionState>,
    out: Vec<Record>,
}

/// One usable row.
struct Tick<'a> {
    key: &'a str,
    time_ms: i64,
    price: f64,
    volume: Option<f64>,
}

impl Windows {
    pub(crate) fn new(config: WindowConfig, probe: Probe) -> Result<Self, jiff::Error> {
        let zone = TimeZone::get(&config.session_zone)?;
        let partitions = BTreeMap::new();
        Ok(Self { config, zone, probe, generation: String::new(), partitions, out: Vec::new() })
    }

    fn absorb_row(&mut self, partition: i32, record: &StoredRecord, row: &Row, now_ms: i64) {
        let config = &self.config;
        let key = if config.key == "record" {
            record.key.as_ref().and_then(|k| std::str::from_utf8(k).ok()).map(str::to_owned)
        } else {
            row::text(row, &config.key)
        };
        let time_ms = if config.time == "record" {
            Some(record.timestamp_ms)
        } else {
            row::integer(row, &config.time)
        };
        let price = row::number(row, &config.price);
        let (Some(key), Some(time_ms), Some(price)) = (key, time_ms, price) else {
            self.probe.skipped.inc();
            return;
        };
        if time_ms < 0 || time_ms > now_ms.saturating_add(FUTURE_MS_MAX) {
            self.probe.skipped.inc();
            return;
        }
        let volume = config.volume.as_ref().and_then(|field| row::number(row, field));
        self.absorb_tick(partition, &Tick { key: &key, time_ms, price, volume });
    }

    fn absorb_tick(&mut self, partition: i32, tick: &Tick<'_>) {
        let every_ms = self.config.every.ms();
        let lateness_ms = self.config.lateness.ms();
        let start_ms = tick.time_ms.div_euclid(every_ms) * every_ms;
        let end_ms = start_ms + every_ms;
        let state = self.partitions.entry(partition).or_default();
        let watermark = watermark(state, &self.config);
        if end_ms.saturating_add(lateness_ms) <= watermark {
            self.probe.late.inc();
            return;
        }
        let late = end_ms <= watermark;
        let key = state.key(tick.key);
        let (volume, reading) = volume_of_tick(
            self.config.volume_kind,
            key.reading,
            tick.time_ms,
            tick.volume,
            &self.zone,
        );
        key.reading = reading;
        let phase = if late { Phase::Closed } else { Phase::Open };
        let index = match key.bars.binary_search_by_key(&start_ms, |bar| bar.start_ms) {
            Ok(index) => index,
            Err(index) => {
                let bar = Bar::new(start_ms, tick.time_ms, tick.price, phase);
                key.bars.insert(index, bar);
                index
            }
        };
        key.bars[index].add(tick.time_ms, tick.price, volume);
        if late {
            self.probe.corrected.inc();
            state.corrections.insert((start_ms, tick.key.to_owned()));
            state.sweep_at = state.sweep_at.min(end_ms + lateness_ms);
        } else {
            state.sweep_at = state.sweep_at.min(end_ms);
        }
        state.event_ms_max = Some(state.event_ms_max.map_or(tick.time_ms, |m| m.max(tick.time_ms)));
        self.close_windows(partition);
    }

    /// Writes the bars whose end the watermark has reached and forgets those that no late row may
    /// change any more.
    fn close_windows(&mut self, partition: i32) {
        let Some(state) = self.partitions.get_mut(&partition) else { return };
        let watermark = watermark(state, &self.config);
        if watermark < state.sweep_at {
            return;
        }
        write_corrections(state, &self.config, &mut self.out);
        let (every_ms, lateness_ms) = (self.config.every.ms(), self.config.lateness.ms());
        let mut closed: Vec<(i64, String, Bar)> = Vec::new();
        let mut sweep_at = i64::MAX;
        state.sweep(|key, bar| {
            let end_ms = bar.start_ms + every_ms;
            let closes = bar.phase == Phase::Open && end_ms <= watermark;
            if closes {
                bar.phase = Phase::Closed;
                bar.changed = false;
                closed.push((bar.start_ms, key.to_owned(), bar.clone()));
            }
            if bar.phase == Phase::Closed && end_ms.saturating_add(lateness_ms) <= watermark {
                return Kept::Dropped;
            }
            let due = if bar.phase == Phase::Open { end_ms } else { end_ms + lateness_ms };
            sweep_at = sweep_at.min(due);
            if closes { Kept::Changed } else { Kept::AsItWas }
        });
        state.sweep_at = sweep_at;
        closed.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        for (_, key, bar) in closed {
            self.out.push(record(&self.config, &key, &bar));
        }
    }
}

fn watermark(state: &PartitionState, config: &WindowConfig) -> i64 {
    state.event_ms_max.map_or(i64::MIN, |newest| newest.saturating_sub(config.watermark.ms()))
}

fn record(config: &WindowConfig, key: &str, bar: &Bar) -> Record {
    let end_ms = bar.start_ms + config.every.ms();
    let value = bar.json(key, end_ms, config.volume_kind != VolumeKind::None);
    Record {
        timestamp_ms: bar.start_ms,
        key: Some(Bytes::from(key.to_owned())),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}

fn write_corrections(state: &mut PartitionState, config: &WindowConfig, out: &mut Vec<Record>) {
    for (start_ms, name) in std::mem::take(&mut state.corrections) {
        let key = state.key(&name);
        let Ok(index) = key.bars.binary_search_by_key(&start_ms, |bar| bar.start_ms) else {
            continue;
        };
        let bar = &mut key.bars[index];
        bar.changed = false;
        out.push(record(config, &name, bar));
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Machine for Windows {
    async fn restore(&mut self, from: Restore<'_>) -> Result<(), RunError> {
        self.out.clear();
        self.generation = from.generation.to_owned();
        self.partitions = from.partitions.iter().map(|p| (*p, PartitionState::default())).collect();
        let Some(head) = from.state else { return Ok(()) };
        let every_ms = self.config.every.ms();
        let lateness_ms = self.config.lateness.ms();
        for (partition, state) in &mut self.partitions {
            state.event_ms_max = head["event_ms_max"][partition.to_string()].as_i64();
            for shard in 0..SHARDS {
                let name = checkpoint_name(&self.config.name, &format!("{partition}/{shard}"));
                if let Some(bytes) = from.client.checkpoint(&name).await? {
                    state.load(from.generation, shard, &bytes).map_err(RunError::State)?;
                }
            }
            let mut sweep_at = i64::MAX;
            state.sweep(|_, bar| {
                let end_ms = bar.start_ms + every_ms;
                let due = if bar.phase == Phase::Open { end_ms } else { end_ms + lateness_ms };
                sweep_at = sweep_at.min(due);
                Kept::AsItWas
            });
            state.sweep_at = sweep_at;
        }
        Ok(())
    }

    async fn absorb(&mut self, partition: i32, records: &[StoredRecord]) -> Result<(), RunError> {
        let now_ms = now_ms();
        for record in records {
            match Rows::parse(record.value.as_deref()).into_vec() {
                None => self.probe.skipped.inc(),
                Some(rows) => {
                    for row in &rows {
                        self.absorb_row(partition, record, row, now_ms);
                    }
                }
            }
        }
        Ok(())
    }

    fn idle(&mut self) {
        for state in self.partitions.values_mut() {
            let mut open: Vec<(i64, String, Bar)> = Vec::new();
            state.sweep(|key, bar| {
                if bar.phase == Phase::Closed || !bar.changed {
                    return Kept::AsItWas;
                }
                bar.changed = false;
                open.push((bar.start_ms, key.to_owned(), bar.clone()));
                Kept::Changed
            });
            open.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
            self.out.extend(open.iter().map(|(_, key, bar)| record(&self.config, key, bar)));
        }
    }

    fn pending(&self) -> bool {
        !self.out.is_empty() || self.partitions.values().any(|state| !state.corrections.is_empty())
    }

    fn flush(&mut self) -> Result<Flush, RunError> {
        let mut checkpoints = Vec::new();
        let mut event_ms_max = serde_json::Map::new();
        for (partition, state) in &mut self.partitions {
            write_corrections(state, &self.config, &mut self.out);
            for (shard, bytes) in state.store(&self.generation).map_err(RunError::State)? {
                let name = checkpoint_name(&self.config.name, &format!("{partition}/{shard}"));
                checkpoints.push((name, Some(bytes)));
            }
            event_ms_max.insert(partition.to_string(), json!(state.event_ms_max));
        }
        let records = TopicRecords {
            topic: self.config.output.clone(),
            partition: None,
            records: std::mem::take(&mut self.out),
        };
        let state = json!({ "event_ms_max": Value::Object(event_ms_max) });
        Ok(Flush { records: vec![records], checkpoints, state })
    }
}

#[cfg(test)]
mod tests;
