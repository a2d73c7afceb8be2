//! What the operating system says about this process. On Linux from `/proc`; elsewhere only what
//! is known without it.

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Registry};

static STARTED: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// Open files that are asked for: enough for 20,000 partitions and as many connections.
#[cfg(unix)]
const OPEN_FILES_WANTED: u64 = 65_536;

/// Linux counts CPU time in hundredths of a second towards user space on all its platforms.
const TICKS_PER_SECOND: f64 = 100.0;

/// Notes the start of the process; called first thing by `main`.
pub fn begin() {
    LazyLock::force(&STARTED);
}

/// Passwords pass through this process's memory, and records fill it: what a crash leaves behind
/// shall hold neither. With it, `/proc` and debuggers are closed to other processes of the same
/// user. Other systems than Unix write no such file by themselves.
pub fn forbid_core_files() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        // Also where the system hands dumps to a program, which a limit of size does not stop.
        if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
            tracing::warn!(%error, "a crash of this process may leave its memory in a core file");
        }
    }
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let none = Rlimit { current: Some(0), maximum: Some(0) };
        if let Err(error) = setrlimit(Resource::Core, none) {
            tracing::warn!(%error, "a crash of this process may leave its memory in a core file");
        }
    }
}

/// Systems give a process 1,024 open files and let it have many more if it asks; the small number
/// is for programs that use `select`, of which this is none. A connection is an open file, and so
/// is each segment that is being written.
pub fn allow_open_files() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let asked = maximum.map_or(OPEN_FILES_WANTED, |most| most.min(OPEN_FILES_WANTED));
        if current.is_some_and(|current| current < asked) {
            // Without it, what there is has to do; `odradek doctor` says so if it is little.
            let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(asked), maximum });
        }
    }
}

pub fn uptime_s() -> u64 {
    STARTED.elapsed().unwrap_or_default().as_secs()
}

/// Bytes resident in memory.
pub fn resident_bytes() -> Option<u64> {
    memory_bytes("VmRSS:")
}

/// The most bytes that were resident since the start, or since [`forget_peak`].
pub fn peak_bytes() -> Option<u64> {
    memory_bytes("VmHWM:")
}

/// From now on the peak is counted anew, where the system can do that.
pub fn forget_peak() {
    // 5 resets the peak, by the manual page proc_pid_clear_refs(5); without it the peak is that of
    // the whole life of the process, which is never too low.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

fn memory_bytes(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Bytes that this process has caused to be written to a disk.
pub fn written_bytes() -> Option<u64> {
    let counts = std::fs::read_to_string("/proc/self/io").ok()?;
    counts.lines().find_map(|line| line.strip_prefix("write_bytes:"))?.trim().parse().ok()
}

/// Of all threads of this process, those that have ended too.
pub fn cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    return spent(rustix::time::ClockId::ProcessCPUTime);
    #[cfg(not(unix))]
    None
}

/// Of the calling thread.
pub fn thread_cpu_time() -> Option<Duration> {
    #[cfg(unix)]
    return spent(rustix::time::ClockId::ThreadCPUTime);
    #[cfg(not(unix))]
    None
}

#[cfg(unix)]
fn spent(clock: rustix::time::ClockId) -> Option<Duration> {
    Duration::try_from(rustix::time::clock_gettime(clock)).ok()
}

fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the program's name, may hold blanks; what follows its bracket does not.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

pub fn open_files() -> Option<u64> {
    let count = std::fs::read_dir("/proc/self/fd").ok()?.count();
    u64::try_from(count).ok()
}

pub fn open_files_max() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Under the names that Prometheus' own client libraries use.
pub fn families() -> Vec<MetricFamily> {
    let registry = Registry::new();
    let gauge = |name: &str, help: &str, value: Option<f64>| {
        let Some(value) = value else { return };
        let gauge = Gauge::new(name, help).expect("constant names are valid");
        gauge.set(value);
        registry.register(Box::new(gauge)).expect("each name is registered once");
    };
    if let Some(seconds) = cpu_seconds() {
        let help = "Total user and system CPU time spent in seconds.";
        let cpu = Counter::new("process_cpu_seconds_total", help).expect("a constant name");
        cpu.inc_by(seconds);
        registry.register(Box::new(cpu)).expect("each name is registered once");
    }
    #[expect(clippy::cast_precision_loss, reason = "no process has 2^53 bytes or files")]
    let float = |number: Option<u64>| number.map(|number| number as f64);
    let help = "Resident memory size in bytes.";
    gauge("process_resident_memory_bytes", help, float(resident_bytes()));
    gauge("process_open_fds", "Number of open file descriptors.", float(open_files()));
    let help = "Maximum number of open file descriptors.";
    gauge("process_max_fds", help, float(open_files_max()));
    let started = STARTED.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64());
    let help = "Start time of the process since unix epoch in seconds.";
    gauge("process_start_time_seconds", help, started);
    registry.gather()
}
