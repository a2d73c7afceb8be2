//! `odradek bench`: what this machine sustains, and what limits it. Measuring and judging are in
//! `operations::bench`; here are the arguments, the progress and the table.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::doctor::system;
use super::paragraph::wrapped;
use super::serve::asked_to_stop;
use super::{Complaint, ConfigArgs, Done, written};
use crate::operations::bench::report::Report;
use crate::operations::bench::words::{number, time};
use crate::operations::bench::{self, Plan, Watch};
use crate::operations::doctor::facts::Lock;

const TICK: Duration = Duration::from_millis(100);

/// Measure what this machine sustains, and say what limits it
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek bench\n  \
    odradek bench --data /srv/odradek\n  \
    odradek bench --config /etc/odradek/server.properties --json\n\n\
    It measures the disk of the data folder, one core, and then a private broker with default\n\
    settings in a folder below the data folder, loaded over a loopback socket by this same\n\
    process. It needs 1 GiB of free room besides the server's reserve, and removes all that it\n\
    writes, also when Ctrl-C ends it. A running server is not touched, but shares disk and cores:\n\
    for figures of the machine alone stop it before.\n\
    Exit code 0: measured. 1: it could not be, or was interrupted.")]
pub struct Bench {
    #[command(flatten)]
    config: ConfigArgs,
    /// About how long to measure, in seconds; less than 10 tells little
    #[arg(long, value_name = "N", default_value_t = 30.0, value_parser = seconds)]
    seconds: f64,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("write a number of seconds from 0.1 to 3600".to_owned()),
    }
}

impl Bench {
    pub fn run(self) -> Done {
        let (config, _) = self.config.load()?;
        let folder = nearest(&config.log_dir)?;
        let plan = Plan {
            free_bytes: system::free_bytes(&folder),
            folder,
            time: Duration::from_secs_f64(self.seconds),
            reserve_bytes: config.disk_reserve_bytes,
            server_runs: system::lock(&config.log_dir) == Lock::Held,
        };
        let stop = Arc::new(AtomicBool::new(false));
        watch_for_signals(stop.clone())?;
        let progress = progress();
        let step = |now: &str| progress.set_message(now.to_owned());
        let measured = bench::run(&plan, &Watch { step: &step, stop: &stop });
        progress.finish_and_clear();
        let report = measured.map_err(|error| Complaint::failed(error.to_string()))?;
        let text = if self.json { json!(report).to_string() + "\n" } else { shown(&report) };
        written(io::stdout().write_all(text.as_bytes())).map(|_| ())
    }
}

/// The data folder, or, before the server's first start, the folder in which it will be made.
fn nearest(data: &Path) -> Result<PathBuf, Complaint> {
    let data = std::path::absolute(data)
        .map_err(|error| Complaint::failed(format!("{}: {error}", data.display())))?;
    let there = data.ancestors().find(|path| path.is_dir());
    there.map(Path::to_path_buf).ok_or_else(|| {
        Complaint::failed(format!("there is no folder at or above {}", data.display()))
    })
}

/// The first Ctrl-C or SIGTERM lets the benchmark remove what it wrote; the next does not wait.
fn watch_for_signals(stop: Arc<AtomicBool>) -> Done {
    let failed = |error| Complaint::failed(format!("cannot start: {error}"));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            asked_to_stop().await;
            stop.store(true, Ordering::Relaxed);
            asked_to_stop().await;
            std::process::exit(1);
        });
    });
    Ok(())
}

/// Shown on a terminal only.
fn progress() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {elapsed}  measuring: {msg}");
    bar.set_style(style.expect("a constant template is valid"));
    bar.enable_steady_tick(TICK);
    bar
}

fn shown(report: &Report) -> String {
    let mut text = String::new();
    let free = report.free_bytes.map(|bytes| format!(", {} GiB free", bytes >> 30));
    let (flush, core) = (&report.flush, &report.one_core);
    let _ = writeln!(text, "Disk of {}{}", report.folder, free.unwrap_or_default());
    let _ = writeln!(
        text,
        "  one flush                {}, 99 of 100 within {}; {} a second one after the other",
        time(flush.p50_ms),
        time(flush.p99_ms),
        number(flush.per_s)
    );
    let sequence = number(report.sequence_write_mb_per_s);
    let _ = writeln!(text, "  writing in sequence      {sequence} MB/s");
    let _ = writeln!(text, "One core of {}", report.cores);
    let _ = writeln!(text, "  checksums (CRC-32C)      {} MB/s", number(core.crc32c_mb_per_s));
    let _ = writeln!(
        text,
        "  compression (zstd 3)     {} MB/s; a ticker's records become {:.1} times smaller",
        number(core.zstd_mb_per_s),
        core.zstd_ratio
    );
    let _ = writeln!(text, "Broker, over a loopback socket, acknowledged when it is on the disk");
    loads(&mut text, report);
    let _ = writeln!(text, "\nWhat this means");
    for sentence in &report.verdict {
        let _ = writeln!(text, "{}", wrapped(sentence, 2));
    }
    text
}

fn loads(text: &mut String, report: &Report) {
    let _ = writeln!(
        text,
        "  {:<40} {:>9} {:>7} {:>8} {:>8} {:>6} {:>8}",
        "", "records/s", "MB/s", "p50", "p99", "cores", "written"
    );
    let unknown = || "-".to_owned();
    let cores = |cores: Option<f64>| cores.map_or_else(unknown, |cores| format!("{cores:.2}"));
    for load in &report.broker.loads {
        let written = load.written_per_byte.map_or_else(unknown, |times| format!("{times:.1}x"));
        let _ = writeln!(
            text,
            "  {:<40} {:>9} {:>7} {:>8} {:>8} {:>6} {:>8}",
            load.name,
            number(load.records_per_s),
            number(load.mb_per_s),
            time(load.p50_ms),
            time(load.p99_ms),
            cores(load.broker_cores),
            written
        );
    }
    let consumed = &report.broker.consumed;
    let _ = writeln!(
        text,
        "  {:<40} {:>9} {:>7} {:>8} {:>8} {:>6} {:>8}",
        "consuming records of 1 KiB",
        number(consumed.records_per_s),
        number(consumed.mb_per_s),
        "",
        "",
        cores(consumed.broker_cores),
        ""
    );
    if let Some(bytes) = report.broker.memory_bytes_peak {
        let _ = writeln!(text, "  memory of broker and load: at most {} MiB", bytes >> 20);
    }
}
