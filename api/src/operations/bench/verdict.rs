//! What the figures mean, in sentences for somebody who sizes a machine.

use super::report::{LoadFigures, Report};
use super::words::{number, time};

/// A medium that keeps its data without power takes longer than this, whatever it is made of.
const HONEST_FLUSH_MS_MIN: f64 = 0.02;
/// Of what there is, in use: more is a limit.
const BUSY: f64 = 0.75;
/// With a load on the same machine a broker does not get all of the cores.
const BUSY_CORES: f64 = 0.6;

pub fn verdict(report: &Report) -> Vec<String> {
    let mut sentences = vec![flush(report)];
    sentences.extend(waiting(report));
    sentences.extend(full_speed(report));
    sentences.extend(memory(report));
    if report.server_runs {
        sentences.push(
            "A server runs on this data folder and shared the disk and the cores: stop it for \
             figures of the machine alone."
                .to_owned(),
        );
    }
    sentences
}

fn flush(report: &Report) -> String {
    let flush = &report.flush;
    if flush.p50_ms < HONEST_FLUSH_MS_MIN {
        return format!(
            "The disk's flush: {} each, faster than any medium that keeps its data without power. \
             This folder lies in memory, or something below it (a virtual machine, a container, a \
             controller) does not wait for the medium: what is acknowledged may be lost in a power \
             cut.",
            time(flush.p50_ms)
        );
    }
    let tail = if flush.p99_ms > 5.0 * flush.p50_ms {
        format!(", but one in a hundred takes more than {}", time(flush.p99_ms))
    } else {
        String::new()
    };
    format!("The disk's flush: {} each{tail}.", time(flush.p50_ms))
}

/// The loads whose producers send one record and wait.
fn waiting(report: &Report) -> Option<String> {
    let mut loads = report.broker.loads.iter().filter(|load| load.records > 0);
    let one = loads.find(|load| load.producers == 1)?;
    let many = loads.find(|load| load.producers > 1)?;
    let share = report.flush.p50_ms / one.p50_ms.max(f64::MIN_POSITIVE);
    let because = if share > 0.5 {
        "most of it the flush"
    } else {
        "most of it the way through the network stack and the threads"
    };
    Some(format!(
        "A single producer that waits for each record waits {} ({because}) and so gets {} records \
         a second; {} such producers share flushes and get {} together. Producers that do not wait \
         for each record are not bound by this.",
        time(one.p50_ms),
        number(one.records_per_s),
        many.producers,
        number(many.records_per_s)
    ))
}

fn full_speed(report: &Report) -> Option<String> {
    let [.., large, small] = report.broker.loads.as_slice() else { return None };
    Some(format!(
        "At full speed this machine takes {} MB/s in records of 1 KiB and {} records a second of \
         100 B, with the producer on it, too. What limits it: {}.",
        number(large.mb_per_s),
        number(small.records_per_s),
        limit(report, large)
    ))
}

/// The first thing that is nearly used up.
fn limit(report: &Report, load: &LoadFigures) -> String {
    let written_mb_per_s = load.written_per_byte.map(|written| written * load.mb_per_s);
    let disk_mb_per_s = report.sequence_write_mb_per_s;
    if let Some(written) = written_mb_per_s.filter(|written| *written > BUSY * disk_mb_per_s) {
        return format!(
            "the disk's write rate ({} MB/s are written, {} MB/s is what it takes in sequence; \
             when the page cache is full, about {} MB/s of records are left of it)",
            number(written),
            number(disk_mb_per_s),
            number(load.mb_per_s.min(disk_mb_per_s * load.mb_per_s / written))
        );
    }
    let cores = report.cores as f64;
    if let Some(busy) = load.broker_cores.filter(|busy| *busy > BUSY_CORES * cores) {
        return format!("the processor (the broker keeps {busy:.1} of {cores} cores busy)");
    }
    // Of a request with everything in flight: the flush is one of the steps that it waits for.
    if report.flush.p50_ms > 0.3 * load.p50_ms {
        return format!(
            "the wait for flushes ({} each); more producers, or more requests in flight, get more",
            time(report.flush.p50_ms)
        );
    }
    match load.broker_cores {
        Some(busy) => format!(
            "neither the disk's write rate nor the cores ({busy:.1} of {cores} busy) alone, but \
             one connection's way through both; several producers may get more"
        ),
        None => "not the disk's write rate; processor time is not known on this system".to_owned(),
    }
}

fn memory(report: &Report) -> Option<String> {
    let bytes = report.broker.memory_bytes_peak?;
    Some(format!(
        "Under these loads the broker and the load together needed at most {} MiB of memory.",
        bytes >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::super::report::{BrokerFigures, Consumed, Flush, OneCore};
    use super::*;

    fn load(producers: usize, mb_per_s: f64, p50_ms: f64) -> LoadFigures {
        LoadFigures {
            name: "a load",
            producers,
            record_bytes: 1024,
            records: 1,
            records_per_s: 1_000.0 / p50_ms * producers as f64,
            mb_per_s,
            p50_ms,
            p99_ms: 2.0 * p50_ms,
            broker_cores: Some(0.5),
            written_per_byte: Some(2.0),
        }
    }

    fn report() -> Report {
        Report {
            folder: "/srv/odradek".to_owned(),
            free_bytes: None,
            server_runs: false,
            cores: 2,
            flush: Flush { count: 100, p50_ms: 8.0, p99_ms: 12.0, per_s: 125.0 },
            sequence_write_mb_per_s: 400.0,
            one_core: OneCore { crc32c_mb_per_s: 1.0, zstd_mb_per_s: 1.0, zstd_ratio: 1.0 },
            broker: BrokerFigures {
                loads: vec![
                    load(1, 0.1, 8.4),
                    load(32, 0.4, 9.0),
                    load(1, 80.0, 12.0),
                    load(1, 40.0, 12.0),
                ],
                consumed: Consumed {
                    records: 1,
                    records_per_s: 1.0,
                    mb_per_s: 1.0,
                    broker_cores: None,
                },
                memory_bytes_peak: Some(50 << 20),
            },
            verdict: Vec::new(),
        }
    }

    #[test]
    fn a_slow_flush_is_told_with_what_a_waiting_producer_gets() {
        let said = verdict(&report()).join("\n");
        // 1,000 ms / 8.4 ms = 119.05.
        for part in [
            "The disk's flush: 8.0 ms each.",
            "waits 8.4 ms (most of it the flush) and so gets 119 records",
            "32 such producers share flushes",
            "the wait for flushes (8.0 ms each)",
            "at most 50 MiB",
        ] {
            assert!(said.contains(part), "{part}\n{said}");
        }
        assert!(!said.contains("server runs"), "{said}");
    }

    #[test]
    fn a_flush_that_no_medium_can_do_is_not_believed() {
        let mut quick = report();
        quick.flush.p50_ms = 0.003;
        assert!(verdict(&quick)[0].contains("may be lost in a power cut"), "{quick:?}");
        quick.flush.p50_ms = 0.05;
        assert!(verdict(&quick)[0].starts_with("The disk's flush: 50 µs each"), "{quick:?}");
    }

    #[test]
    fn the_limit_is_what_is_used_up_first() {
        let mut report = report();
        let large = |report: &Report| limit(report, &report.broker.loads[2]);
        // 2.0 x 80 MB/s are written.
        report.sequence_write_mb_per_s = 200.0;
        assert!(large(&report).contains("write rate (160 MB/s are written, 200 MB/s"), "disk");
        // Twice as much is written as comes in: of 100 MB/s that the disk takes, 50 are records.
        report.sequence_write_mb_per_s = 100.0;
        assert!(large(&report).contains("about 50 MB/s of records"), "{}", large(&report));
        report.sequence_write_mb_per_s = 400.0;
        report.broker.loads[2].broker_cores = Some(1.6);
        assert!(large(&report).contains("1.6 of 2 cores"), "processor");
        report.broker.loads[2].broker_cores = Some(0.5);
        assert!(large(&report).contains("wait for flushes"), "flush");
        report.flush.p50_ms = 0.1;
        assert!(large(&report).contains("neither"), "{}", large(&report));
        report.broker.loads[2].broker_cores = None;
        assert!(large(&report).contains("not known on this system"), "{}", large(&report));
    }
}
