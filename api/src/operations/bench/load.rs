//! The loads: batches made beforehand, sent by threads of their own over connections of their own.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::disk::noise;
use super::report::{Consumed, LoadFigures, percentile};
use super::wire::{self, Connection};
use super::{BenchError, Watch};
use crate::process;

/// Kafka's default for `batch.size`, less what a record adds to its value.
const BATCH_BYTES: usize = 16 * 1024;
const RECORD_OVERHEAD_BYTES: usize = 10;
/// Kafka's default for `max.in.flight.requests.per.connection`.
const IN_FLIGHT: usize = 5;
/// Kafka's default for `max.partition.fetch.bytes`.
const FETCH_PARTITION_BYTES: i32 = 1024 * 1024;
const MEBIBYTE: u64 = 1024 * 1024;

/// One way of producing, every record acknowledged when it is on the disk.
pub struct Load {
    pub name: &'static str,
    pub topic: &'static str,
    pub partitions: i32,
    pub producers: usize,
    pub record_bytes: usize,
    /// For each partition of a request.
    batch_records: usize,
    in_flight: usize,
    /// Of values, of all producers; it ends there if its time does not end before.
    bytes_max: u64,
}

/// All that a load needs to know of this run.
pub struct Target {
    pub address: SocketAddr,
    pub time: Duration,
}

impl Load {
    pub const ALL: &[Load] = &[
        Load::waiting("1 producer that waits for each record", "one-waits", 1),
        Load::waiting("32 producers that wait for each record", "many-wait", 32),
        Load::full("records of 1 KiB at full speed", "large", 1024),
        Load::full("records of 100 B at full speed", "small", 100),
    ];
    /// Of those the one whose records are consumed afterwards.
    pub const LARGE: &Load = &Self::ALL[2];

    const fn waiting(name: &'static str, topic: &'static str, producers: usize) -> Self {
        let (partitions, record_bytes, batch_records, in_flight) = (1, 100, 1, 1);
        let bytes_max = 32 * MEBIBYTE;
        Self {
            name,
            topic,
            partitions,
            producers,
            record_bytes,
            batch_records,
            in_flight,
            bytes_max,
        }
    }

    const fn full(name: &'static str, topic: &'static str, record_bytes: usize) -> Self {
        Self {
            name,
            topic,
            partitions: 12,
            producers: 1,
            record_bytes,
            batch_records: BATCH_BYTES / (record_bytes + RECORD_OVERHEAD_BYTES),
            in_flight: IN_FLIGHT,
            bytes_max: 256 * MEBIBYTE,
        }
    }

    /// The request that is sent again and again, and how many records it holds.
    fn request(&self) -> (Vec<u8>, u64) {
        let values: Vec<Vec<u8>> =
            (0..self.batch_records).map(|_| noise(self.record_bytes)).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let batch = wire::batch(&values, Timestamp::now().as_millisecond());
        let records = u64::from(self.partitions.unsigned_abs()) * self.batch_records as u64;
        (wire::produce_frame(self.topic, self.partitions, &batch), records)
    }
}

/// What one thread of a load did.
#[derive(Default)]
struct Done {
    times_ms: Vec<f64>,
    cpu: Duration,
}

pub fn produce(load: &Load, target: &Target, watch: &Watch<'_>) -> Result<LoadFigures, BenchError> {
    let (frame, records_each) = load.request();
    let bytes_each = records_each * load.record_bytes as u64;
    let requests_max = AtomicU64::new((load.bytes_max / bytes_each).max(1));
    let before = Spent::now();
    let began = Instant::now();
    let done: Vec<Result<Done, BenchError>> = std::thread::scope(|scope| {
        let producer = || one_producer(load, &frame, target, &requests_max, watch);
        let threads: Vec<_> = (0..load.producers).map(|_| scope.spawn(producer)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    let spent = Spent::now();
    let done: Vec<Done> = done.into_iter().collect::<Result<_, _>>()?;
    let own_cpu = done.iter().map(|one| one.cpu).sum();
    let mut times_ms: Vec<f64> = done.into_iter().flat_map(|one| one.times_ms).collect();
    times_ms.sort_by(f64::total_cmp);
    let requests = times_ms.len() as u64;
    let (records, bytes) = (requests * records_each, requests * bytes_each);
    let written = spent.written_since(&before);
    Ok(LoadFigures {
        name: load.name,
        producers: load.producers,
        record_bytes: load.record_bytes,
        records,
        records_per_s: records as f64 / seconds,
        mb_per_s: bytes as f64 / 1e6 / seconds,
        p50_ms: percentile(&times_ms, 50.0),
        p99_ms: percentile(&times_ms, 99.0),
        broker_cores: spent.cores_since(&before, own_cpu, seconds),
        written_per_byte: written.map(|written| written as f64 / bytes.max(1) as f64),
    })
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Result<Done, BenchError> {
    std::panic::resume_unwind(panic)
}

fn one_producer(
    load: &Load,
    frame: &[u8],
    target: &Target,
    requests_left: &AtomicU64,
    watch: &Watch<'_>,
) -> Result<Done, BenchError> {
    let failed = || BenchError::failed(load.name);
    let mut connection = Connection::open(target.address).map_err(failed())?;
    let mut sent: VecDeque<Instant> = VecDeque::with_capacity(load.in_flight);
    let mut done = Done::default();
    let deadline = Instant::now() + target.time;
    let take = |left: u64| left.checked_sub(1);
    let mut more = true;
    loop {
        watch.go_on()?;
        while more && sent.len() < load.in_flight {
            let order = Ordering::Relaxed;
            if requests_left.fetch_update(order, order, take).is_err() {
                more = false;
                break;
            }
            sent.push_back(Instant::now());
            connection.send(frame).map_err(failed())?;
            // At least one of each producer, however short the time.
            more = Instant::now() < deadline;
        }
        let Some(began) = sent.pop_front() else { break };
        connection.produced().map_err(failed())?;
        done.times_ms.push(began.elapsed().as_secs_f64() * 1_000.0);
        more = more && Instant::now() < deadline;
    }
    done.cpu = process::thread_cpu_time().unwrap_or_default();
    Ok(done)
}

/// Reads what a load wrote, from the start to the end and again, for as long as there is time.
pub fn consume(load: &Load, target: &Target, watch: &Watch<'_>) -> Result<Consumed, BenchError> {
    let failed = || BenchError::failed("consuming");
    let mut connection = Connection::open(target.address).map_err(failed())?;
    let partitions = usize::try_from(load.partitions).unwrap_or_default();
    let mut offsets = vec![0; partitions];
    let (mut records, mut bytes) = (0, 0);
    let before = Spent::now();
    let own_before = process::thread_cpu_time().unwrap_or_default();
    let began = Instant::now();
    while records == 0 || began.elapsed() < target.time {
        watch.go_on()?;
        let pieces = connection.fetch(load.topic, &offsets, FETCH_PARTITION_BYTES);
        let pieces = pieces.map_err(failed())?;
        let mut is_at_end = true;
        for piece in pieces {
            let partition = usize::try_from(piece.partition).unwrap_or(usize::MAX);
            let (Some(next), Some(offset)) = (piece.next_offset, offsets.get_mut(partition)) else {
                continue;
            };
            *offset = next;
            records += piece.records;
            bytes += piece.bytes;
            is_at_end = false;
        }
        if is_at_end {
            if records == 0 {
                let nothing = std::io::Error::other("there is nothing to consume");
                return Err(failed()(nothing));
            }
            offsets.fill(0);
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let own_cpu = process::thread_cpu_time().unwrap_or_default().saturating_sub(own_before);
    Ok(Consumed {
        records,
        records_per_s: records as f64 / seconds,
        mb_per_s: bytes as f64 / 1e6 / seconds,
        broker_cores: Spent::now().cores_since(&before, own_cpu, seconds),
    })
}

/// What this process has spent so far.
struct Spent {
    cpu: Option<Duration>,
    written_bytes: Option<u64>,
}

impl Spent {
    fn now() -> Self {
        Self { cpu: process::cpu_time(), written_bytes: process::written_bytes() }
    }

    /// Without what the load's own threads took.
    fn cores_since(&self, before: &Self, own_cpu: Duration, seconds: f64) -> Option<f64> {
        let cpu = self.cpu?.saturating_sub(before.cpu?).saturating_sub(own_cpu);
        Some(cpu.as_secs_f64() / seconds)
    }

    fn written_since(&self, before: &Self) -> Option<u64> {
        Some(self.written_bytes?.saturating_sub(before.written_bytes?))
    }
}
