//! What the log does on a real disk: units over twelve partitions, in a folder given as the first
//! argument (it is emptied first), 1 GiB for each size. Prints one line for each size:
//! rate, time of a group (write and sync) and of a unit, CPU, memory at its highest, and bytes that
//! went to the disk for each byte of batches (from its first start to its close).
//!
//! `cargo run --release -p odradek-log --example append -- <folder> [MiB] [which, from 0] [sled]`
//!
//! `PARTITIONS=n` in the environment: so many instead of twelve. `DIRECT_BYTES=n`: what goes to
//! segments only.
//!
//! Memory is the process's highest so far: ask for one load at a time to compare it.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_log::*;
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;
use uuid::Uuid;

const CHUNK_BYTES: usize = 32 << 10;

struct Load {
    name: &'static str,
    unit_bytes: usize,
    /// Units on their way at a time.
    in_flight: usize,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().expect("a folder to work in");
    let total = arguments.next().and_then(|mib| mib.parse::<usize>().ok()).unwrap_or(1024) << 20;
    let loads = [
        Load { name: "64 KiB, one at a time", unit_bytes: 64 << 10, in_flight: 1 },
        Load { name: "1 MiB, one at a time", unit_bytes: 1 << 20, in_flight: 1 },
        Load { name: "64 KiB, 32 in flight", unit_bytes: 64 << 10, in_flight: 32 },
        Load { name: "16 KiB, 12 in flight", unit_bytes: 16 << 10, in_flight: 12 },
        Load { name: "192 KiB, 40 in flight", unit_bytes: 192 << 10, in_flight: 40 },
        Load { name: "1 MiB, 8 in flight", unit_bytes: 1 << 20, in_flight: 8 },
    ];
    let only = arguments.next().and_then(|which| which.parse::<usize>().ok());
    let store = match arguments.next().as_deref() {
        Some("sled") => Store::Sled,
        _ => Store::Segments,
    };
    for (_, load) in loads.iter().enumerate().filter(|(at, _)| only.is_none_or(|o| o == *at)) {
        let _ = std::fs::remove_dir_all(&dir);
        run(&dir, store, load, if load.unit_bytes < 32 << 10 { total / 4 } else { total });
    }
}

fn run(dir: &str, store: Store, load: &Load, total: usize) {
    let written_before = written_bytes();
    let began = Instant::now();
    let (log, ids) = start(dir, store);
    let started_ms = began.elapsed().as_secs_f64() * 1e3;
    let pieces = (load.unit_bytes / CHUNK_BYTES).max(1);
    let (batch, records) = batch(load.unit_bytes / pieces);
    let cpu_before = cpu();
    let began = Instant::now();
    let (sender, receiver) = mpsc::channel();
    let mut next = vec![0_i64; ids.len()];
    let mut turn = 0;
    let mut times = Vec::new();
    let units = total / load.unit_bytes;
    for unit in 0..units {
        if unit >= load.in_flight {
            times.push(receiver.recv_timeout(Duration::from_secs(60)).expect("answered"));
        }
        let appends = (0..pieces).map(|_| {
            turn = (turn + 1) % ids.len();
            let base_offset = next[turn];
            next[turn] += records;
            Append { partition: ids[turn], base_offset, leader_epoch: 0, batches: batch.clone() }
        });
        let (sender, sent) = (sender.clone(), Instant::now());
        let appends = appends.collect();
        log.commit(Unit {
            appends,
            done: Box::new(move |result| {
                result.expect("durable");
                let _ = sender.send(sent.elapsed());
            }),
        });
    }
    while times.len() < units {
        times.push(receiver.recv_timeout(Duration::from_secs(60)).expect("answered"));
    }
    let seconds = began.elapsed().as_secs_f64();
    let stats = log.stats();
    let direct = stats.direct_bytes as f64 / stats.bytes as f64;
    // As after a kill: whatever the last checkpoint does not cover comes from the journal.
    drop(log);
    let began = Instant::now();
    let (log, _) = start(dir, store);
    let restarted_ms = began.elapsed().as_secs_f64() * 1e3;
    log.close();
    let megabytes = total as f64 / 1e6;
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    println!(
        "{:22} {:6.0} MB/s | group mean {:5.2} ms, {:4.0} KiB | unit p50 {:5.2} p99 {:6.2} max \
         {:6.1} ms | CPU {:4.2} ms/MB | direct {:4.2}, written {:4.2}x | peak memory {:3} MiB | \
         start {:.0} ms, after a kill {:.0} ms",
        load.name,
        megabytes / seconds,
        stats.sync_seconds_sum * 1e3 / stats.groups as f64,
        stats.bytes as f64 / stats.groups as f64 / 1024.0,
        at(0.5),
        at(0.99),
        at(1.0),
        (cpu() - cpu_before) * 1e3 / megabytes,
        direct,
        (written_bytes() - written_before) as f64 / total as f64,
        memory_peak_mib(),
        started_ms,
        restarted_ms,
    );
}

fn start(dir: &str, store: Store) -> (Log, Vec<PartitionId>) {
    let mut options = Options::new(dir);
    options.disk_reserve_bytes = 0;
    options.store = store;
    options.direct_bytes_min = number("DIRECT_BYTES").unwrap_or(options.direct_bytes_min);
    let (log, _) = Log::open(options, Arc::new(RealDisk::new(dir))).expect("opens");
    let ids: Vec<PartitionId> = (0..number("PARTITIONS").unwrap_or(12))
        .map(|partition| PartitionId { topic_id: Uuid::from_u128(1), partition })
        .collect();
    for id in &ids {
        let folder = format!("bench-{}", id.partition);
        let spec = PartitionSpec {
            id: *id,
            folder,
            keyed: false,
            makes_room: false,
            log_start_offset: 0,
            settings: PartitionSettings::default(),
        };
        log.attach(spec).expect("attached");
    }
    log.start().expect("started");
    (log, ids)
}

fn number<T: std::str::FromStr>(key: &str) -> Option<T> {
    std::env::var(key).ok().and_then(|value| value.parse().ok())
}

/// One batch of about so many bytes with records of 1 KiB, and how many those are.
fn batch(bytes: usize) -> (Bytes, i64) {
    let mut builder = BatchBuilder::new(Compression::None);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let records = (bytes / 1024).max(1);
    for index in 0..records {
        let value: Vec<u8> = (0..1000)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        builder.push(1_700_000_000_000 + index as i64, None, Some(&value), &[]);
    }
    (builder.build(0), records as i64)
}

/// Seconds of user and system time of this process.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or("").split_whitespace().skip(11).take(2).collect();
    fields.iter().filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// By this process, as far as the system counts it.
fn written_bytes() -> u64 {
    let counters = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = counters.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn memory_peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
