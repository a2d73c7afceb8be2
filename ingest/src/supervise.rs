//! Keeps one source going: start, back off, start again; pause, resume, restart, stop.
//!
//! Invariants:
//! 1. A run may be dropped at any await. What it handed to [`Context::commit`] goes on in a task of
//!    its own, and the next run begins only when that is done: so a run that reads its position
//!    from the log never reads one that is about to change.
//! 2. A panic in a run is an error of the run; the supervisor survives it.
//! 3. Nothing here gives up: an error that a retry may cure is retried for ever, any other waits
//!    for `restart` in the state `failed`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use odradek_broker::client::{Client, ClientError, Unit, UnitPlaced};
use tokio::sync::{RwLock, watch};

use crate::backoff::{Backoff, BackoffPlan};
use crate::meter::{Meter, SourceState};
use crate::plan::Plan;

/// Why a run ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunError {
    /// A label of the reconnect metric.
    pub cause: &'static str,
    pub message: String,
    /// Whether trying again may help.
    pub retry: bool,
}

impl RunError {
    pub fn retry(cause: &'static str, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), retry: true }
    }

    pub fn fatal(cause: &'static str, message: impl Into<String>) -> Self {
        Self { cause, message: message.into(), retry: false }
    }
}

impl From<ClientError> for RunError {
    fn from(error: ClientError) -> Self {
        Self::retry("log", error.to_string())
    }
}

/// A kind of source. `run` returns `Ok` only when there is nothing more to come.
#[async_trait]
pub(crate) trait Runner: Send + Sync + 'static {
    async fn run(&self, context: &Context) -> Result<(), RunError>;
}

/// What a run works with.
#[derive(Clone)]
pub(crate) struct Context {
    pub client: Arc<dyn Client>,
    pub meter: Arc<Meter>,
    in_flight: Arc<RwLock<()>>,
}

/// What a unit holds, for the counters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    pub records: usize,
    pub bytes: usize,
    pub dead_letters: usize,
}

impl Context {
    pub fn new(client: Arc<dyn Client>, meter: Arc<Meter>) -> Self {
        Self { client, meter, in_flight: Arc::default() }
    }

    /// Commits and counts. Goes on when the caller is dropped (invariant 1).
    pub async fn commit(&self, unit: Unit, tally: Tally) -> Result<UnitPlaced, ClientError> {
        let guard = Arc::clone(&self.in_flight).read_owned().await;
        let (client, meter) = (Arc::clone(&self.client), Arc::clone(&self.meter));
        let task = tokio::spawn(async move {
            let placed = client.commit(unit).await;
            if placed.is_ok() {
                meter.stored(tally.records, tally.bytes, tally.dead_letters);
            }
            drop(guard);
            placed
        });
        task.await.unwrap_or_else(|error| Err(ClientError::Unavailable(error.to_string())))
    }

    /// Resolves when no commit is under way.
    async fn settled(&self) {
        drop(self.in_flight.write().await);
    }

    /// Creates the topic and, if anything may go there, the dead-letter topic.
    pub async fn ensure_topics(&self, plan: &Plan) -> Result<(), RunError> {
        self.client.ensure_topic(&plan.topic, plan.partitions, &plan.topic_configs).await?;
        if let Some(dead_letter_topic) = &plan.dead_letter_topic {
            self.client.ensure_topic(dead_letter_topic, 1, &[]).await?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Run,
    Pause,
    Stop,
}

#[derive(Debug, Clone, Copy)]
struct Wanted {
    mode: Mode,
    /// Counts restarts, so that a restart of a running source is a change.
    restarts: u64,
}

/// The handle of a supervised source. Dropping it stops the source.
pub(crate) struct Supervised {
    pub meter: Arc<Meter>,
    wanted: watch::Sender<Wanted>,
    task: std::sync::Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Supervised {
    pub fn start(
        runner: Arc<dyn Runner>,
        context: Context,
        backoff: BackoffPlan,
        enabled: bool,
    ) -> Self {
        let mode = if enabled { Mode::Run } else { Mode::Pause };
        let (wanted, receiver) = watch::channel(Wanted { mode, restarts: 0 });
        let meter = Arc::clone(&context.meter);
        let backoff = Backoff::new(backoff, rand::random());
        let task = tokio::spawn(supervise(runner, context, backoff, receiver));
        Self { meter, wanted, task: std::sync::Mutex::new(Some(task)) }
    }

    pub fn pause(&self) {
        self.wanted.send_modify(|wanted| wanted.mode = Mode::Pause);
    }

    pub fn resume(&self) {
        self.wanted.send_if_modified(|wanted| {
            let changed = wanted.mode != Mode::Run;
            wanted.mode = Mode::Run;
            changed
        });
    }

    pub fn restart(&self) {
        self.wanted.send_modify(|wanted| {
            wanted.mode = Mode::Run;
            wanted.restarts += 1;
        });
    }

    pub fn ask_to_stop(&self) {
        self.wanted.send_modify(|wanted| wanted.mode = Mode::Stop);
    }

    /// Waits for the end, at most until `deadline`, then ends it by force.
    pub async fn stopped(&self, deadline: tokio::time::Instant) {
        let task = self.task.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
            tracing::warn!(source = self.meter.name(), "source did not stop in time");
            task.abort();
        }
    }
}

enum Outcome {
    Finished,
    Interrupted,
    Error(RunError),
}

async fn supervise(
    runner: Arc<dyn Runner>,
    context: Context,
    mut backoff: Backoff,
    mut wanted: watch::Receiver<Wanted>,
) {
    let meter = Arc::clone(&context.meter);
    loop {
        let mode = wanted.borrow_and_update().mode;
        match mode {
            Mode::Stop => return,
            Mode::Run => {}
            Mode::Pause => {
                meter.set_state(SourceState::Paused, "resume it to go on where it was");
                if wanted.changed().await.is_err() {
                    return;
                }
                continue;
            }
        }
        meter.set_state(SourceState::Starting, "");
        let outcome = run_once(&*runner, &context, &mut wanted).await;
        context.settled().await;
        let healthy = meter.end_health();
        let wait = match outcome {
            Outcome::Interrupted => continue,
            Outcome::Finished => {
                meter.set_state(SourceState::Finished, meter.status().detail);
                Duration::MAX
            }
            Outcome::Error(error) => after_error(&meter, &error, &mut backoff, healthy),
        };
        if pause_or_wait(wait, &mut wanted).await.is_err() {
            return;
        }
    }
}

async fn run_once(
    runner: &dyn Runner,
    context: &Context,
    wanted: &mut watch::Receiver<Wanted>,
) -> Outcome {
    let run = AssertUnwindSafe(runner.run(context)).catch_unwind();
    tokio::select! {
        biased;
        _ = wanted.changed() => Outcome::Interrupted,
        result = run => match result {
            Ok(Ok(())) => Outcome::Finished,
            Ok(Err(error)) => Outcome::Error(error),
            Err(panic) => Outcome::Error(RunError::retry("panic", panic_text(&*panic))),
        },
    }
}

/// Says what happened and how long to wait.
fn after_error(
    meter: &Meter,
    error: &RunError,
    backoff: &mut Backoff,
    healthy: Duration,
) -> Duration {
    if !error.retry {
        tracing::error!(source = meter.name(), cause = error.cause, "{}", error.message);
        meter.set_state(SourceState::Failed, error.message.clone());
        return Duration::MAX;
    }
    meter.reconnecting(error.cause);
    let wait = backoff.after(healthy);
    let wait_s = wait.as_secs_f64();
    tracing::warn!(source = meter.name(), cause = error.cause, wait_s, "{}", error.message);
    meter.set_state(
        SourceState::BackingOff,
        format!("{}; next attempt in {wait_s:.1} s", error.message),
    );
    wait
}

/// `Err` when the handle is gone.
async fn pause_or_wait(
    wait: Duration,
    wanted: &mut watch::Receiver<Wanted>,
) -> Result<(), watch::error::RecvError> {
    tokio::select! {
        biased;
        changed = wanted.changed() => changed,
        () = tokio::time::sleep(wait) => Ok(()),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a defect in Odradek stopped this source: {}", text.unwrap_or("panic"))
}
