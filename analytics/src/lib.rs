//! Windows, indicators, counts, Parquet files and models, beside the broker and never in its way.
//!
//! Contract:
//! 1. Everything reads through [`Client`] as consumer group `odradek.<name>`, and runs on threads
//!    of its own, so the broker's workers never wait for it.
//! 2. Results are topics (but for Parquet files). Outputs, offsets and state of a processor are
//!    one atomic unit, so a crash neither loses nor doubles; see [`mod@run`].
//! 3. Nothing here knows the broker's insides, sockets or HTTP.

mod config;
mod count;
mod evaluation;
#[cfg(test)]
mod fake;
mod indicator;
mod model;
mod row;
mod run;
mod sink;
mod telemetry;
mod window;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use odradek_broker::client::Client;
use prometheus::Registry;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

pub use config::{
    Aroon, Bollinger, Config, ConfigError, CountConfig, Engine, IndicatorConfig, ModelConfig,
    ParquetConfig, Span, Target, TrainConfig, VolumeKind, WindowConfig,
};
pub use sink::{Gap, ParquetError, VerifiedPartition, VerifyReport, verify};
pub use telemetry::{ProcessorStatus, State};

use run::{Machine, Spec};
use telemetry::{Probe, Telemetry};

/// Threads that turn records into results. Two, so that one long step does not hold up all.
const WORKER_THREADS: usize = 2;
/// Threads for training and Parquet files, and for what a local client does off its workers.
const BLOCKING_THREADS_MAX: usize = 8;
#[cfg(target_os = "linux")]
const NICE: i32 = 5;
/// How long [`Analytics::stop`] waits for a processor to come to a safe point.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bound of an output topic whose timestamps are event times, a partition.
const OUTPUT_BYTES_MAX: u64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("analytics metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("analytics threads: {0}")]
    Threads(#[from] std::io::Error),
    #[error("{0}")]
    Processor(String),
}

/// The running processors. Dropping it stops them without waiting.
pub struct Analytics {
    probes: Vec<Probe>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

impl Analytics {
    /// Starts every configured processor. A missing input topic is waited for, a missing output
    /// topic is created.
    pub fn start(
        config: Config,
        client: Arc<dyn Client>,
        registry: &Registry,
    ) -> Result<Self, StartError> {
        config.validate()?;
        let telemetry = Telemetry::register(registry)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .thread_name("odradek-analytics")
            .on_thread_start(lower_priority)
            .enable_all()
            .build()?;
        let (stop, _) = watch::channel(false);
        let mut analytics =
            Self { probes: Vec::new(), tasks: Vec::new(), stop, runtime: Some(runtime) };
        analytics.start_processors(config, &client, &telemetry)?;
        Ok(analytics)
    }

    fn start_processors(
        &mut self,
        config: Config,
        client: &Arc<dyn Client>,
        telemetry: &Telemetry,
    ) -> Result<(), StartError> {
        let wrong = |name: &str, reason: String| StartError::Processor(format!("{name}: {reason}"));
        for section in config.window {
            let (spec, name) = (window::spec(&section), section.name.clone());
            let probe = self.probe(telemetry, &spec, "window");
            let machine = window::Windows::new(section, probe.clone())
                .map_err(|e| wrong(&name, e.to_string()))?;
            self.spawn(client, spec, Box::new(machine), probe);
        }
        for section in config.indicator {
            let spec = indicator::spec(&section);
            let probe = self.probe(telemetry, &spec, "indicator");
            let machine = indicator::Indicators::new(section, probe.clone());
            self.spawn(client, spec, Box::new(machine), probe);
        }
        for section in config.count {
            let (spec, name) = (count::spec(&section), section.name.clone());
            let probe = self.probe(telemetry, &spec, "count");
            let machine =
                count::Counts::new(section, probe.clone()).map_err(|e| wrong(&name, e))?;
            self.spawn(client, spec, Box::new(machine), probe);
        }
        for section in config.parquet {
            let probe = telemetry.processor(&section.name, "parquet", &section.input, &[]);
            self.probes.push(probe.clone());
            let task = sink::run(client.clone(), section, probe.clone(), self.stop.subscribe());
            self.spawn_guarded(task, probe);
        }
        let training = Arc::new(Semaphore::new(1));
        for section in config.model {
            let (spec, name) = (model::spec(&section), section.name.clone());
            let probe = self.probe(telemetry, &spec, "model");
            let machine = model::Model::new(section, training.clone(), probe.clone())
                .map_err(|e| wrong(&name, e.to_string()))?;
            self.spawn(client, spec, Box::new(machine), probe);
        }
        Ok(())
    }

    fn probe(&mut self, telemetry: &Telemetry, spec: &Spec, kind: &'static str) -> Probe {
        let outputs: Vec<String> = spec.outputs.iter().map(|o| o.topic.clone()).collect();
        let probe = telemetry.processor(&spec.name, kind, &spec.input, &outputs);
        self.probes.push(probe.clone());
        probe
    }

    fn spawn(
        &mut self,
        client: &Arc<dyn Client>,
        spec: Spec,
        machine: Box<dyn Machine>,
        probe: Probe,
    ) {
        let stop = self.stop.subscribe();
        let task = run::run(client.clone(), spec, machine, probe.clone(), stop);
        self.spawn_guarded(task, probe);
    }

    /// A panic ends only its own processor, which then says so.
    fn spawn_guarded(&mut self, task: impl Future<Output = ()> + Send + 'static, probe: Probe) {
        let guarded = async move {
            if let Err(panic) = AssertUnwindSafe(task).catch_unwind().await {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                let why = format!("a fault in the program: {}", text.unwrap_or("no message"));
                tracing::error!(why, "an analytics processor panicked");
                probe.set_error(State::Failed, &why);
            }
        };
        self.tasks.extend(self.runtime.as_ref().map(|runtime| runtime.spawn(guarded)));
    }

    /// Every processor, in the order of the configuration.
    pub fn status(&self) -> Vec<ProcessorStatus> {
        self.probes.iter().map(Probe::status).collect()
    }

    /// Stops reading, finishes what is being committed, closes Parquet files.
    pub async fn stop(mut self) {
        // No receiver left means that every task has ended already.
        let _ = self.stop.send(true);
        for task in std::mem::take(&mut self.tasks) {
            if tokio::time::timeout(STOP_TIMEOUT, task).await.is_err() {
                tracing::warn!("an analytics processor did not stop in time");
            }
        }
    }
}

impl Drop for Analytics {
    fn drop(&mut self) {
        // A runtime must not be dropped inside another one by waiting for its threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What the broker's own threads want comes first. On Linux a nice value is a thread's own.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "analytics threads keep the normal priority");
    }
}

/// Output topics stamped with event time must not be cut by age: a replay of 2013 would lose its
/// results at once. They are bounded by size.
fn event_time_topic() -> Vec<(String, String)> {
    vec![
        ("retention.ms".to_owned(), "-1".to_owned()),
        ("retention.bytes".to_owned(), OUTPUT_BYTES_MAX.to_string()),
    ]
}
