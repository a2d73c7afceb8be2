//! A model of the next bar's return: trained from the log, evaluated walk-forward, its live
//! predictions scored when the truth arrives.
//!
//! 1. Only final bars count. A bar is first truth (for predictions and training rows that wait
//!    for it), then the last of the features, then perhaps the cause of a training, then
//!    predicted from. So a prediction never knows more than its bar's close.
//! 2. A prediction is for exactly `horizon` windows later. If no bar of that start comes (no
//!    trade in that minute, market closed), it is never scored; nor does its row train.
//! 3. A corrected bar corrects features and training rows from then on. What was predicted or
//!    scored live stays as it was said.
//! 4. Training runs on a blocking thread while this input waits, so the same log gives the same
//!    models at the same bars. One training at a time in the process.
//! 5. The model, what waits for truth, and the rolling errors are in checkpoints; bars and
//!    training rows are read again from the input.

mod engine;
mod features;
mod live;
mod train;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::tz::TimeZone;
use odradek_broker::client::{Record, StoredRecord, TopicRecords};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::engine::Regressor;
use self::features::Features;
use self::live::{Pending, Rolling};
use self::train::{Job, TrainRow, Trained, Widths};
use crate::config::{Aroon, Bollinger, ModelConfig};
use crate::indicator::series::{self, BarIn, Definition, Series};
use crate::run::{Flush, Machine, Output, Restore, RunError, Spec, checkpoint_name};
use crate::telemetry::Probe;

/// A stored model is cut into checkpoints of this size.
const PART_BYTES: usize = 400 * 1024;

pub(crate) fn spec(config: &ModelConfig) -> Spec {
    let event_time = |topic: &String| Output {
        topic: topic.clone(),
        partitions: None,
        configs: crate::event_time_topic(),
    };
    let configs = vec![
        ("cleanup.policy".to_owned(), "compact".to_owned()),
        ("retention.ms".to_owned(), "-1".to_owned()),
    ];
    let report = Output { topic: config.report.clone(), partitions: Some(1), configs };
    Spec {
        name: config.name.clone(),
        input: config.input.clone(),
        outputs: vec![event_time(&config.predictions), event_time(&config.scores), report],
        definition: serde_json::to_string(config).unwrap_or_default(),
        idle: Duration::from_secs(3_600),
    }
}

pub(crate) struct Model {
    config: ModelConfig,
    zone: TimeZone,
    definition: Definition,
    probe: Probe,
    training: Arc<Semaphore>,
    /// By input partition and symbol.
    series: BTreeMap<(i32, String), Series>,
    /// Features of bars whose target has not closed, by start and symbol.
    waiting: BTreeMap<(i64, String), TrainRow>,
    rows: BTreeMap<(i64, String), TrainRow>,
    regressor: Option<Arc<dyn Regressor>>,
    state: State,
    unstored_model: Option<Vec<u8>>,
    predictions: Vec<Record>,
    scores: Vec<Record>,
    reports: Vec<Record>,
}

/// What the head checkpoint keeps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct State {
    replay_from: BTreeMap<i32, i64>,
    /// Training rows seen since the beginning.
    rows_total: usize,
    /// `rows_total` at the last training.
    rows_trained: Option<usize>,
    version: u64,
    model_parts: usize,
    model_bytes: usize,
    widths: Widths,
    skill: Option<f64>,
    verdict: String,
    pending: BTreeMap<String, Vec<Pending>>,
    rolling: Rolling,
}

impl Model {
    pub(crate) fn new(
        config: ModelConfig,
        training: Arc<Semaphore>,
        probe: Probe,
    ) -> Result<Self, jiff::Error> {
        Ok(Self {
            zone: TimeZone::get(&config.zone)?,
            definition: Definition::new(&Bollinger::default(), &Aroon::default()),
            config,
            probe,
            training,
            series: BTreeMap::new(),
            waiting: BTreeMap::new(),
            rows: BTreeMap::new(),
            regressor: None,
            state: State::default(),
            unstored_model: None,
            predictions: Vec::new(),
            scores: Vec::new(),
            reports: Vec::new(),
        })
    }

    fn horizon_ms(&self) -> i64 {
        self.config.every.ms() * i64::try_from(self.config.horizon).unwrap_or(1)
    }

    /// The bar as truth (1): for the row that waits for it, or, corrected, for the one it made.
    /// Whether a new training row came of it.
    fn learn_truth(&mut self, symbol: &str, bar: &BarIn) -> bool {
        let key = (bar.start_ms - self.horizon_ms(), symbol.to_owned());
        if let Some(row) = self.rows.get_mut(&key) {
            row.target = bar.close / row.close - 1.0;
            return false;
        }
        let Some(mut row) = self.waiting.remove(&key) else { return false };
        row.target = bar.close / row.close - 1.0;
        self.rows.insert(key, row);
        if self.rows.len() > self.config.train.rows_max {
            self.rows.pop_first();
        }
        true
    }

    /// The bar as the newest of its symbol (1); its features, if it is and they exist.
    fn learn_features(&mut self, partition: i32, symbol: &str, bar: &BarIn) -> Option<Features> {
        let series = self.series.entry((partition, symbol.to_owned())).or_default();
        series.put(bar.clone(), &self.definition);
        if series.bars().last().map(|last| last.start_ms) != Some(bar.start_ms) {
            return None;
        }
        let from_offset = series.oldest_offset().unwrap_or(bar.offset);
        let features = features::features(series, &self.definition, &self.zone)?;
        // A target further back than this bar can no longer come in order.
        let too_old = bar.start_ms - self.horizon_ms();
        self.waiting.retain(|(start_ms, of), _| of != symbol || *start_ms > too_old);
        let row = TrainRow {
            partition,
            offset: bar.offset,
            from_offset,
            close: bar.close,
            features,
            target: f64::NAN,
        };
        self.waiting.insert((bar.start_ms, symbol.to_owned()), row);
        Some(features)
    }

    fn score(&mut self, symbol: &str, bar: &BarIn) {
        let Some(pending) = self.state.pending.get_mut(symbol) else { return };
        let due = pending.iter().position(|p| p.target_start_ms == bar.start_ms);
        if let Some(index) = due {
            let due = pending.remove(index);
            self.scores.push(due.score(symbol, bar.close, &mut self.state.rolling));
        }
        pending.retain(|p| p.target_start_ms > bar.start_ms);
        if pending.is_empty() {
            self.state.pending.remove(symbol);
        }
    }

    fn predict(&mut self, symbol: &str, bar: &BarIn, features: &Features) {
        let Some(regressor) = &self.regressor else { return };
        let Some(&predicted_return) = regressor.predict(std::slice::from_ref(features)).first()
        else {
            return;
        };
        let pending = Pending {
            start_ms: bar.start_ms,
            target_start_ms: bar.start_ms + self.horizon_ms(),
            last_close: bar.close,
            predicted_return,
            model: format!("{}@{}", self.config.name, self.state.version),
        };
        let of_symbol = self.state.pending.entry(symbol.to_owned()).or_default();
        // A bar that came again keeps the prediction that was made of it first (3).
        if of_symbol.iter().any(|p| p.start_ms == bar.start_ms) {
            return;
        }
        self.predictions.push(pending.prediction(symbol, &self.state.widths));
        of_symbol.push(pending);
    }

    async fn train_if_due(&mut self) -> Result<(), RunError> {
        let train = &self.config.train;
        let due = match self.state.rows_trained {
            None => train.rows_min,
            Some(trained) => trained + train.retrain_rows,
        };
        if self.state.rows_total < due || self.rows.len() < train.rows_min {
            return Ok(());
        }
        let job = Job {
            config: self.config.clone(),
            version: self.state.version + 1,
            rows: self.rows.clone(),
        };
        let closed = |_| RunError::State("training is over".to_owned());
        let permit = self.training.clone().acquire_owned().await.map_err(closed)?;
        let trained = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            train::train(&job)
        })
        .await
        .map_err(|e| RunError::State(format!("the training thread: {e}")))?;
        self.state.rows_trained = Some(self.state.rows_total);
        match trained {
            Ok(trained) => self.adopt(trained),
            Err(error) => {
                tracing::warn!(model = %self.config.name, error, "training failed");
                self.probe.set_detail(format!("training failed: {error}"));
            }
        }
        Ok(())
    }

    fn adopt(&mut self, trained: Trained) {
        tracing::info!(
            model = %self.config.name,
            seconds = trained.seconds,
            verdict = trained.verdict,
            "model trained"
        );
        self.probe.set_training_seconds(trained.seconds);
        self.probe.set_skill(trained.skill);
        self.state.skill = trained.skill;
        self.probe.set_detail(trained.verdict.clone());
        self.state.version += 1;
        self.state.widths = trained.widths;
        self.state.verdict = trained.verdict;
        self.regressor = trained.model;
        self.unstored_model = Some(trained.stored);
        self.reports.push(Record {
            timestamp_ms: jiff::Timestamp::now().as_millisecond(),
            key: Some(Bytes::from(self.config.name.clone())),
            value: Some(Bytes::from(trained.report.to_string())),
            headers: Vec::new(),
        });
    }

    fn part_name(&self, part: usize) -> String {
        checkpoint_name(&self.config.name, &format!("model/{part}"))
    }

    /// The checkpoints of a model trained since the last flush.
    fn store_model(&mut self) -> Vec<(String, Option<Bytes>)> {
        let Some(stored) = self.unstored_model.take() else { return Vec::new() };
        let stored = Bytes::from(stored);
        let parts = stored.len().div_ceil(PART_BYTES);
        let before = self.state.model_parts;
        let part = |index: usize| {
            let range = index * PART_BYTES..stored.len().min((index + 1) * PART_BYTES);
            (index < parts).then(|| stored.slice(range))
        };
        let checkpoints =
            (0..parts.max(before)).map(|index| (self.part_name(index), part(index))).collect();
        self.state.model_parts = parts;
        self.state.model_bytes = stored.len();
        checkpoints
    }
}

#[async_trait]
impl Machine for Model {
    async fn restore(&mut self, from: Restore<'_>) -> Result<(), RunError> {
        self.series.clear();
        self.waiting.clear();
        self.rows.clear();
        self.predictions.clear();
        self.scores.clear();
        self.reports.clear();
        self.regressor = None;
        self.unstored_model = None;
        self.state = State::default();
        let Some(state) = from.state else { return Ok(()) };
        let wrong = |e: String| RunError::State(format!("the model's checkpoint: {e}"));
        self.state = serde_json::from_value(state.clone()).map_err(|e| wrong(e.to_string()))?;
        let mut stored = Vec::with_capacity(self.state.model_bytes.min(PART_BYTES * 64));
        for part in 0..self.state.model_parts {
            let bytes = from.client.checkpoint(&self.part_name(part)).await?;
            stored.extend_from_slice(&bytes.unwrap_or_default());
        }
        if !stored.is_empty() {
            let loaded = engine::load(self.config.engine, &stored).map_err(wrong)?;
            self.regressor = Some(loaded);
        }
        if !self.state.verdict.is_empty() {
            self.probe.set_detail(self.state.verdict.clone());
            self.probe.set_skill(self.state.skill);
        }
        Ok(())
    }

    fn replay_from(&self, partition: i32) -> Option<i64> {
        self.state.replay_from.get(&partition).copied()
    }

    fn replay(&mut self, partition: i32, records: &[StoredRecord]) {
        for record in records {
            if let Some((symbol, bar)) = series::parse_bar(record).filter(|(_, bar)| bar.is_final) {
                self.learn_truth(&symbol, &bar);
                self.learn_features(partition, &symbol, &bar);
            }
        }
    }

    async fn absorb(&mut self, partition: i32, records: &[StoredRecord]) -> Result<(), RunError> {
        for record in records {
            let Some((symbol, bar)) = series::parse_bar(record) else {
                self.probe.skipped.inc();
                continue;
            };
            if !bar.is_final {
                continue;
            }
            self.score(&symbol, &bar);
            if self.learn_truth(&symbol, &bar) {
                self.state.rows_total += 1;
            }
            let features = self.learn_features(partition, &symbol, &bar);
            self.train_if_due().await?;
            if let Some(features) = features {
                self.predict(&symbol, &bar, &features);
            }
        }
        Ok(())
    }

    fn pending(&self) -> bool {
        !(self.predictions.is_empty() && self.scores.is_empty() && self.reports.is_empty())
    }

    fn flush(&mut self) -> Result<Flush, RunError> {
        let checkpoints = self.store_model();
        let mut replay_from: BTreeMap<i32, i64> = BTreeMap::new();
        let series = self.series.iter().filter_map(|((p, _), s)| Some((*p, s.oldest_offset()?)));
        let rows = self.rows.values().chain(self.waiting.values());
        for (partition, offset) in series.chain(rows.map(|r| (r.partition, r.from_offset))) {
            let oldest = replay_from.entry(partition).or_insert(offset);
            *oldest = offset.min(*oldest);
        }
        self.state.replay_from = replay_from;
        let outputs = [
            (&self.config.predictions, &mut self.predictions),
            (&self.config.scores, &mut self.scores),
            (&self.config.report, &mut self.reports),
        ];
        let records = outputs
            .into_iter()
            .map(|(topic, records)| TopicRecords {
                topic: topic.clone(),
                partition: None,
                records: std::mem::take(records),
            })
            .collect();
        let state: Value = json!(self.state);
        Ok(Flush { records, checkpoints, state })
    }
}

#[cfg(test)]
mod tests;
