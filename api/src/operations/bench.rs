//! `odradek bench`: what this machine sustains, and what limits it, in under a minute.
//!
//! The disk alone, one core alone, and then a private broker of this process with default settings,
//! in a folder below the data folder, loaded over a loopback socket. The load sends batches that
//! were made beforehand, so that nearly all of the work is the broker's.
//!
//! 1. All that is written lies in one folder, which is removed however the run ends; what a run
//!    that was killed left there, the next one removes.
//! 2. No more than [`ROOM_BYTES`] are written besides what is freed, and only where the server's
//!    own reserve stays free.
//! 3. Asked to stop, it ends within about one flush and one request.
//! 4. A server that runs is not asked and not touched; it shares disk and cores, though.

mod disk;
mod load;
mod one_core;
pub mod report;
mod scratch;
mod verdict;
mod wire;
pub mod words;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use odradek_broker::Broker;
use odradek_broker::client::Principal;
use odradek_broker::config::Config;

use load::{Load, Target};
use report::{BrokerFigures, LoadFigures, Report};
use scratch::Scratch;

/// Journal and segments of all loads, and the file that is written in sequence.
pub const ROOM_BYTES: u64 = 1024 * 1024 * 1024;

/// How the time is divided.
const FLUSH_SHARE: f64 = 0.15;
const SEQUENCE_SHARE: f64 = 0.1;
const CORE_SHARE: f64 = 0.05;
const LOAD_SHARE: f64 = 0.14;

/// What is to be measured, and where.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The data folder, or the nearest one above it that is there.
    pub folder: PathBuf,
    /// For the measurements; starting and removing come on top.
    pub time: Duration,
    /// What the server there wants to keep free (`odradek.disk.reserve.bytes`).
    pub reserve_bytes: u64,
    /// `None` where the system does not say.
    pub free_bytes: Option<u64>,
    /// A server holds the data folder while this runs.
    pub server_runs: bool,
}

/// Why there are no figures. `Display` is a sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(
        "there is too little room in {folder}: the benchmark writes up to {} MiB and leaves the \
         server's reserve of {} MiB alone, but only {} MiB are free. Make room, or name a folder \
         on another disk by --data",
        needed_bytes >> 20, reserve_bytes >> 20, free_bytes >> 20
    )]
    TooLittleRoom { folder: String, needed_bytes: u64, reserve_bytes: u64, free_bytes: u64 },
    #[error("another benchmark runs in {0}; both would measure each other. Wait for it to end")]
    AnotherRuns(String),
    #[error("interrupted; what was written is removed")]
    Interrupted,
    #[error("{what}: {error}")]
    Failed { what: String, error: io::Error },
    #[error("the private broker: {0}")]
    Broker(String),
}

impl BenchError {
    /// For `map_err`.
    fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Failed { what: what.into(), error }
    }
}

/// How a run is watched from outside, and ended.
pub struct Watch<'a> {
    /// Told what is measured now.
    pub step: &'a (dyn Fn(&str) + Sync),
    pub stop: &'a AtomicBool,
}

impl Watch<'_> {
    fn go_on(&self) -> Result<(), BenchError> {
        if self.stop.load(Ordering::Relaxed) { Err(BenchError::Interrupted) } else { Ok(()) }
    }
}

/// All of it. Blocks for about the plan's time.
pub fn run(plan: &Plan, watch: &Watch<'_>) -> Result<Report, BenchError> {
    check_room(plan)?;
    let scratch = Scratch::make(&plan.folder)?;
    (watch.step)("the time of one flush");
    let flush = disk::flush(scratch.path(), plan.time.mul_f64(FLUSH_SHARE), watch)?;
    (watch.step)("writing in sequence");
    let sequence = disk::sequence(scratch.path(), plan.time.mul_f64(SEQUENCE_SHARE), watch)?;
    (watch.step)("checksums and compression on one core");
    let one_core = one_core::measure(plan.time.mul_f64(CORE_SHARE), watch)?;
    let broker = private_broker(plan, &scratch, watch)?;
    let mut report = Report {
        folder: plan.folder.display().to_string(),
        free_bytes: plan.free_bytes,
        server_runs: plan.server_runs,
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
        flush,
        sequence_write_mb_per_s: sequence,
        one_core,
        broker,
        verdict: Vec::new(),
    };
    report.verdict = verdict::verdict(&report);
    Ok(report)
}

fn check_room(plan: &Plan) -> Result<(), BenchError> {
    let needed_bytes = ROOM_BYTES;
    let reserve_bytes = plan.reserve_bytes;
    match plan.free_bytes {
        Some(free_bytes) if free_bytes < needed_bytes.saturating_add(reserve_bytes) => {
            let folder = plan.folder.display().to_string();
            Err(BenchError::TooLittleRoom { folder, needed_bytes, reserve_bytes, free_bytes })
        }
        _ => Ok(()),
    }
}

/// Starts the broker, puts each load on it, and stops it again, whatever came of the loads.
fn private_broker(
    plan: &Plan,
    scratch: &Scratch,
    watch: &Watch<'_>,
) -> Result<BrokerFigures, BenchError> {
    (watch.step)("starting a private broker");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(BenchError::failed("the broker's threads cannot start"))?;
    let folder = scratch.path().join("broker");
    std::fs::create_dir(&folder).map_err(BenchError::failed(folder.display().to_string()))?;
    let config = Config::demo(&folder, 0, 0);
    let broker = runtime
        .block_on(Broker::start(config))
        .map_err(|error| BenchError::Broker(error.to_string()))?;
    let measured = loads(plan, &runtime, &broker, watch);
    runtime.block_on(broker.shutdown());
    measured
}

fn loads(
    plan: &Plan,
    runtime: &tokio::runtime::Runtime,
    broker: &Broker,
    watch: &Watch<'_>,
) -> Result<BrokerFigures, BenchError> {
    let listener = broker.listeners().into_iter().next();
    let listener = listener.ok_or_else(|| BenchError::Broker("it listens nowhere".to_owned()))?;
    let client = broker.client(Principal::internal());
    let mut loads: Vec<LoadFigures> = Vec::new();
    let time = plan.time.mul_f64(LOAD_SHARE);
    crate::process::forget_peak();
    for load in Load::ALL {
        (watch.step)(load.name);
        runtime
            .block_on(client.ensure_topic(load.topic, load.partitions, &[]))
            .map_err(|error| BenchError::Broker(error.to_string()))?;
        let target = Target { address: listener.address, time };
        loads.push(load::produce(load, &target, watch)?);
    }
    (watch.step)("consuming");
    let target = Target { address: listener.address, time };
    let consumed = load::consume(Load::LARGE, &target, watch)?;
    Ok(BrokerFigures { loads, consumed, memory_bytes_peak: crate::process::peak_bytes() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(folder: &std::path::Path, free_bytes: u64) -> Plan {
        Plan {
            folder: folder.to_path_buf(),
            time: Duration::from_millis(400),
            reserve_bytes: 64 << 20,
            free_bytes: Some(free_bytes),
            server_runs: false,
        }
    }

    fn entries(folder: &std::path::Path) -> usize {
        std::fs::read_dir(folder).expect("a folder").count()
    }

    #[test]
    fn it_is_refused_where_the_servers_reserve_would_be_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let stop = AtomicBool::new(false);
        let watch = Watch { step: &|_| {}, stop: &stop };
        let refused = run(&plan(folder.path(), ROOM_BYTES), &watch).expect_err("64 MiB short");
        let said = refused.to_string();
        assert!(said.contains("1024 MiB") && said.contains("reserve of 64 MiB"), "{said}");
        assert_eq!(entries(folder.path()), 0);
    }

    #[test]
    fn a_whole_run_has_every_figure_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let stop = AtomicBool::new(false);
        let watch = Watch { step: &|_| {}, stop: &stop };
        let report = run(&plan(folder.path(), u64::MAX), &watch).expect("it runs");
        assert_eq!(report.broker.loads.len(), Load::ALL.len());
        for load in &report.broker.loads {
            assert!(
                load.records > 0 && load.p50_ms > 0.0 && load.p50_ms <= load.p99_ms,
                "{load:?}"
            );
        }
        assert!(report.broker.consumed.records > 0, "{:?}", report.broker.consumed);
        assert!(report.flush.count > 0 && report.flush.p50_ms <= report.flush.p99_ms);
        assert!(!report.verdict.is_empty());
        assert_eq!(entries(folder.path()), 0);
    }

    #[test]
    fn one_that_is_stopped_in_the_middle_says_so_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        for step in ["writing in sequence", Load::ALL[2].name, "consuming"] {
            let stop = AtomicBool::new(false);
            let stop_there = |now: &str| stop.store(now == step, Ordering::Relaxed);
            let watch = Watch { step: &stop_there, stop: &stop };
            let ended = run(&plan(folder.path(), u64::MAX), &watch).expect_err(step);
            assert!(matches!(ended, BenchError::Interrupted), "{step}: {ended}");
            assert_eq!(entries(folder.path()), 0, "{step}");
        }
    }
}
