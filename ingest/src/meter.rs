//! What a source tells the world about itself: counters, state, one line of detail.
//!
//! The counters are the metrics themselves, so the status page and Prometheus cannot disagree.
//! State, detail and times are in one small lock that is never held across a wait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{GaugeVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::clock::Clock;

/// What a source is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceState {
    Starting,
    Running,
    /// Connected, but no data for a while: a closed market, usually.
    Quiet,
    Paused,
    BackingOff,
    /// A file that was read to its end.
    Finished,
    /// Stopped by an error that trying again does not cure; `restart` tries anyway.
    Failed,
}

impl SourceState {
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::Quiet,
        Self::Paused,
        Self::BackingOff,
        Self::Finished,
        Self::Failed,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Quiet => "quiet",
            Self::Paused => "paused",
            Self::BackingOff => "backing_off",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// One source as `/api/v1/sources` shows it. Counts are since the start of the process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceStatus {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub topic: String,
    pub state: SourceState,
    pub records: u64,
    pub bytes: u64,
    /// Inputs that could not be decoded.
    pub errors: u64,
    pub dead_letters: u64,
    pub reconnects: u64,
    /// Repeated records that were recognised and dropped.
    pub duplicates: u64,
    pub last_record_age_ms: Option<i64>,
    /// A sentence: progress, the cause of the last failure, what is missing.
    pub detail: String,
}

/// The metric families, shared by all sources.
pub(crate) struct Families {
    records: IntCounterVec,
    bytes: IntCounterVec,
    decode_errors: IntCounterVec,
    dead_letters: IntCounterVec,
    reconnects: IntCounterVec,
    duplicates: IntCounterVec,
    backwards: IntCounterVec,
    ignored: IntCounterVec,
}

impl Families {
    /// A second set of sources in one registry keeps its own, unregistered counters.
    pub fn new(registry: &Registry) -> Self {
        let family = |name: &str, help: &str, labels: &[&str]| {
            let family = IntCounterVec::new(Opts::new(name, help), labels)
                .expect("the names and labels are constants that prometheus accepts");
            if let Err(error) = registry.register(Box::new(family.clone())) {
                tracing::warn!(%error, name, "metric is not registered");
            }
            family
        };
        Self {
            records: family(
                "odradek_source_records_total",
                "Records that a source stored in its topic.",
                &["source"],
            ),
            bytes: family(
                "odradek_source_bytes_total",
                "Bytes of the values that a source stored in its topic.",
                &["source"],
            ),
            decode_errors: family(
                "odradek_source_decode_errors_total",
                "Inputs that could not be decoded, by reason.",
                &["source", "reason"],
            ),
            dead_letters: family(
                "odradek_source_dead_letters_total",
                "Inputs that were stored in the dead-letter topic.",
                &["source"],
            ),
            reconnects: family(
                "odradek_source_reconnects_total",
                "Failures after which a source began again, by cause.",
                &["source", "cause"],
            ),
            duplicates: family(
                "odradek_source_duplicates_total",
                "Repeated records that were recognised and dropped.",
                &["source"],
            ),
            backwards: family(
                "odradek_source_backward_times_total",
                "Records whose event time lies before that of the record before; they are kept.",
                &["source"],
            ),
            ignored: family(
                "odradek_source_ignored_frames_total",
                "Frames that carry no record: acknowledgements, heartbeats, filtered messages.",
                &["source"],
            ),
        }
    }

    pub fn meter(&self, name: &str, kind: &'static str, topic: &str, clock: Clock) -> Arc<Meter> {
        Arc::new(Meter {
            name: name.to_owned(),
            kind,
            topic: topic.to_owned(),
            clock,
            records: self.records.with_label_values(&[name]),
            bytes: self.bytes.with_label_values(&[name]),
            decode_errors: self.decode_errors.clone(),
            dead_letters: self.dead_letters.with_label_values(&[name]),
            reconnects: self.reconnects.clone(),
            duplicates: self.duplicates.with_label_values(&[name]),
            backwards: self.backwards.with_label_values(&[name]),
            ignored: self.ignored.with_label_values(&[name]),
            now: Mutex::new(Now {
                state: SourceState::Starting,
                detail: String::new(),
                last_record_ms: None,
                healthy_since: None,
                errors: 0,
                reconnects: 0,
            }),
        })
    }
}

struct Now {
    state: SourceState,
    detail: String,
    last_record_ms: Option<i64>,
    healthy_since: Option<Instant>,
    errors: u64,
    reconnects: u64,
}

/// The instruments of one source.
pub(crate) struct Meter {
    name: String,
    kind: &'static str,
    topic: String,
    clock: Clock,
    records: IntCounter,
    bytes: IntCounter,
    decode_errors: IntCounterVec,
    dead_letters: IntCounter,
    reconnects: IntCounterVec,
    duplicates: IntCounter,
    backwards: IntCounter,
    ignored: IntCounter,
    now: Mutex<Now>,
}

impl Meter {
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A unit became durable.
    pub fn stored(&self, records: usize, bytes: usize, dead_letters: usize) {
        self.records.inc_by(records as u64);
        self.bytes.inc_by(bytes as u64);
        self.dead_letters.inc_by(dead_letters as u64);
        if records > 0 {
            self.now().last_record_ms = Some(self.clock.now_ms());
        }
    }

    pub fn undecodable(&self, reason: &'static str) {
        self.decode_errors.with_label_values(&[self.name.as_str(), reason]).inc();
        self.now().errors += 1;
    }

    pub fn reconnecting(&self, cause: &'static str) {
        self.reconnects.with_label_values(&[self.name.as_str(), cause]).inc();
        self.now().reconnects += 1;
    }

    pub fn duplicates(&self, count: usize) {
        self.duplicates.inc_by(count as u64);
    }

    pub fn backwards(&self) {
        self.backwards.inc();
    }

    pub fn ignored(&self) {
        self.ignored.inc();
    }

    pub fn set_state(&self, state: SourceState, detail: impl Into<String>) {
        let mut now = self.now();
        now.state = state;
        now.detail = detail.into();
    }

    pub fn set_detail(&self, detail: impl Into<String>) {
        self.now().detail = detail.into();
    }

    /// From here on the run counts as healthy, until [`Meter::end_health`].
    pub fn begin_health(&self) {
        self.now().healthy_since.get_or_insert_with(Instant::now);
    }

    /// How long the run was healthy.
    pub fn end_health(&self) -> Duration {
        self.now().healthy_since.take().map(|since| since.elapsed()).unwrap_or_default()
    }

    pub fn status(&self) -> SourceStatus {
        let (state, detail, last_record_ms, errors, reconnects) = {
            let now = self.now();
            (now.state, now.detail.clone(), now.last_record_ms, now.errors, now.reconnects)
        };
        SourceStatus {
            name: self.name.clone(),
            kind: self.kind.to_owned(),
            topic: self.topic.clone(),
            state,
            records: self.records.get(),
            bytes: self.bytes.get(),
            errors,
            dead_letters: self.dead_letters.get(),
            reconnects,
            duplicates: self.duplicates.get(),
            last_record_age_ms: last_record_ms.map(|ms| self.clock.now_ms().saturating_sub(ms)),
            detail,
        }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        // The lock guards plain values; one written by half is still a value.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// State and age, computed at the time of the scrape.
pub(crate) struct Gauges {
    age: GaugeVec,
    state: IntGaugeVec,
    meters: Vec<Arc<Meter>>,
}

impl Gauges {
    pub fn register(registry: &Registry, meters: Vec<Arc<Meter>>) {
        let age = Opts::new(
            "odradek_source_last_record_age_seconds",
            "Time since a source last stored a record; absent before the first.",
        );
        let state = Opts::new("odradek_source_state", "1 for the state that a source is in.");
        let expectation = "the names and labels are constants that prometheus accepts";
        let gauges = Self {
            age: GaugeVec::new(age, &["source"]).expect(expectation),
            state: IntGaugeVec::new(state, &["source", "state"]).expect(expectation),
            meters,
        };
        if let Err(error) = registry.register(Box::new(gauges)) {
            tracing::warn!(%error, "source gauges are not registered");
        }
    }
}

impl Collector for Gauges {
    fn desc(&self) -> Vec<&Desc> {
        self.age.desc().into_iter().chain(self.state.desc()).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for meter in &self.meters {
            let status = meter.status();
            if let Some(age_ms) = status.last_record_age_ms {
                self.age.with_label_values(&[meter.name()]).set(age_ms as f64 / 1000.0);
            }
            for state in SourceState::ALL {
                let gauge = self.state.with_label_values(&[meter.name(), state.name()]);
                gauge.set(i64::from(state == status.state));
            }
        }
        self.age.collect().into_iter().chain(self.state.collect()).collect()
    }
}
