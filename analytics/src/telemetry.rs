//! Metrics and status of the processors.
//!
//! Labels are bounded: one value per configured processor. Each processor's task is the only
//! writer of its own [`Gauge`](prometheus::IntGauge)s and status.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{
    GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector,
};
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The input topic does not exist yet.
    Waiting,
    /// Reading its state back, before the first record.
    Restoring,
    Running,
    /// A call failed; it starts again from its last commit.
    Retrying,
    /// It cannot go on without a person; `last_error` says why.
    Failed,
    Stopped,
}

/// One processor, for the console and the HTTP API.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProcessorStatus {
    pub name: String,
    pub kind: &'static str,
    pub group: String,
    pub state: State,
    pub input: String,
    pub outputs: Vec<String>,
    /// Records read since the start of the process.
    pub records: u64,
    /// Records written since the start of the process.
    pub emitted: u64,
    /// Rows that could not be used: not JSON, a field missing, no key.
    pub skipped: u64,
    /// Rows that came too late for their window.
    pub late: u64,
    /// Records that retention removed before they were read.
    pub gap_records: u64,
    /// Records not read yet, over all partitions.
    pub lag: i64,
    pub restarts: u64,
    pub last_error: Option<String>,
    /// What is special to the kind, as a sentence.
    pub detail: Option<String>,
}

/// The metric families, registered once a process.
#[derive(Clone)]
pub(crate) struct Telemetry {
    records: IntCounterVec,
    emitted: IntCounterVec,
    skipped: IntCounterVec,
    late: IntCounterVec,
    corrected: IntCounterVec,
    gap_records: IntCounterVec,
    commits: IntCounterVec,
    restarts: IntCounterVec,
    lag: IntGaugeVec,
    running: IntGaugeVec,
    files: IntCounterVec,
    training_seconds: GaugeVec,
    skill: GaugeVec,
}

impl Telemetry {
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let telemetry = Self {
            records: counter("records_total", "Records read by the processor.")?,
            emitted: counter("emitted_records_total", "Records written by the processor.")?,
            skipped: counter("skipped_rows_total", "Rows without a usable key, time or field.")?,
            late: counter("late_rows_total", "Rows dropped, later than the allowed lateness.")?,
            corrected: counter("corrected_bars_total", "Bars written again after a late row.")?,
            gap_records: counter("gap_records_total", "Records removed before they were read.")?,
            commits: counter("commits_total", "Atomic commits of outputs, offsets and state.")?,
            restarts: counter("restarts_total", "Starts from the last commit after an error.")?,
            lag: gauge("lag_records", "Records of the input that are not read yet.")?,
            running: gauge("processor_running", "1 while the processor reads, else 0.")?,
            files: counter("parquet_files_total", "Parquet files finished.")?,
            training_seconds: seconds("training_seconds", "Length of the last training.")?,
            skill: seconds("model_skill_ratio", "Walk-forward 1 - RMSE / naive RMSE.")?,
        };
        for collector in telemetry.collectors() {
            registry.register(collector)?;
        }
        Ok(telemetry)
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        let counters = [
            &self.records,
            &self.emitted,
            &self.skipped,
            &self.late,
            &self.corrected,
            &self.gap_records,
            &self.commits,
            &self.restarts,
            &self.files,
        ];
        let mut collectors: Vec<Box<dyn Collector>> = Vec::new();
        for counter in counters {
            collectors.push(Box::new(counter.clone()));
        }
        for gauge in [&self.lag, &self.running] {
            collectors.push(Box::new(gauge.clone()));
        }
        for gauge in [&self.training_seconds, &self.skill] {
            collectors.push(Box::new(gauge.clone()));
        }
        collectors
    }

    pub(crate) fn processor(
        &self,
        name: &str,
        kind: &'static str,
        input: &str,
        outputs: &[String],
    ) -> Probe {
        let labels = &[name];
        let status = ProcessorStatus {
            name: name.to_owned(),
            kind,
            group: crate::run::group(name),
            state: State::Waiting,
            input: input.to_owned(),
            outputs: outputs.to_vec(),
            records: 0,
            emitted: 0,
            skipped: 0,
            late: 0,
            gap_records: 0,
            lag: 0,
            restarts: 0,
            last_error: None,
            detail: None,
        };
        Probe {
            records: self.records.with_label_values(labels),
            emitted: self.emitted.with_label_values(labels),
            skipped: self.skipped.with_label_values(labels),
            late: self.late.with_label_values(labels),
            corrected: self.corrected.with_label_values(labels),
            gap_records: self.gap_records.with_label_values(labels),
            commits: self.commits.with_label_values(labels),
            restarts: self.restarts.with_label_values(labels),
            lag: self.lag.with_label_values(labels),
            running: self.running.with_label_values(labels),
            files: self.files.with_label_values(labels),
            training_seconds: self.training_seconds.clone(),
            skill: self.skill.clone(),
            name: name.to_owned(),
            status: Arc::new(Mutex::new(status)),
        }
    }
}

/// One processor's own counters.
#[derive(Clone)]
pub(crate) struct Probe {
    pub records: IntCounter,
    pub emitted: IntCounter,
    pub skipped: IntCounter,
    pub late: IntCounter,
    pub corrected: IntCounter,
    pub gap_records: IntCounter,
    pub commits: IntCounter,
    pub restarts: IntCounter,
    pub lag: IntGauge,
    pub running: IntGauge,
    pub files: IntCounter,
    /// Of models only: a 0 for other processors would say something that is not so.
    training_seconds: GaugeVec,
    skill: GaugeVec,
    name: String,
    status: Arc<Mutex<ProcessorStatus>>,
}

impl Probe {
    pub(crate) fn set_state(&self, state: State) {
        self.running.set(i64::from(state == State::Running));
        self.update(|status| {
            status.state = state;
            if state == State::Running {
                status.last_error = None;
            }
        });
    }

    pub(crate) fn set_error(&self, state: State, error: &str) {
        self.set_state(state);
        self.update(|status| status.last_error = Some(error.to_owned()));
    }

    pub(crate) fn set_detail(&self, detail: String) {
        self.update(|status| status.detail = Some(detail));
    }

    pub(crate) fn set_training_seconds(&self, seconds: f64) {
        self.training_seconds.with_label_values(&[self.name.as_str()]).set(seconds);
    }

    pub(crate) fn set_skill(&self, skill: Option<f64>) {
        self.skill.with_label_values(&[self.name.as_str()]).set(skill.unwrap_or(f64::NAN));
    }

    pub(crate) fn set_lag(&self, lag: i64) {
        self.lag.set(lag);
    }

    pub(crate) fn status(&self) -> ProcessorStatus {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.records = self.records.get();
        status.emitted = self.emitted.get();
        status.skipped = self.skipped.get();
        status.late = self.late.get();
        status.gap_records = self.gap_records.get();
        status.restarts = self.restarts.get();
        status.lag = self.lag.get();
        status
    }

    fn update(&self, change: impl FnOnce(&mut ProcessorStatus)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn name(suffix: &str) -> String {
    format!("odradek_analytics_{suffix}")
}

fn counter(suffix: &str, help: &str) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(name(suffix), help), &["processor"])
}

fn gauge(suffix: &str, help: &str) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(name(suffix), help), &["processor"])
}

fn seconds(suffix: &str, help: &str) -> Result<GaugeVec, prometheus::Error> {
    GaugeVec::new(Opts::new(name(suffix), help), &["processor"])
}
