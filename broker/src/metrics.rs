//! What the broker counts. Names and helps stand here and nowhere else; labels are bounded: APIs by
//! the table, listeners by the configuration, error codes by Kafka.

use std::time::Duration;

use kafka_protocol::ResponseError;
use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    CounterVec, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    histogram_opts,
};

use crate::broker::Broker;
use crate::dispatch::Api;
use crate::log_histograms::LogHistograms;
use crate::memory::Use;
use crate::telemetry::ClientMetrics;

/// From a tail fetch (microseconds) to a long poll.
const REQUEST_SECONDS: &[f64] =
    &[0.000_1, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

pub(crate) struct Metrics {
    pub registry: Registry,
    pub records_in: IntCounter,
    pub bytes_in: IntCounter,
    pub bytes_out: IntCounter,
    pub retention_bytes: IntCounter,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    produce_errors: IntCounterVec,
    throttled: IntCounterVec,
    throttle_seconds: CounterVec,
    accepted: IntCounterVec,
    levels: Levels,
}

/// What is looked up at a scrape.
struct Levels {
    odd_connections: IntGaugeVec,
    connections: IntGauge,
    groups_written: IntGauge,
    direct_bytes: IntGauge,
    log_bytes: IntGauge,
    disk_free_bytes: IntGauge,
    compactions: Compactions,
    memory: Memory,
    storage_ok: IntGauge,
    log_histograms: LogHistograms,
}

/// The budget and its parts.
struct Memory {
    max_bytes: IntGauge,
    part_bytes: IntGaugeVec,
    part_max_bytes: IntGaugeVec,
}

/// What compaction has done since the start.
struct Compactions {
    rounds: IntGauge,
    read_bytes: IntGauge,
    written_bytes: IntGauge,
    removed_records: IntGauge,
}

/// Totals since the start, from which rates are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    pub records_in: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub requests: u64,
}

/// One request's place in the counters.
pub(crate) struct RequestMetrics {
    count: IntCounter,
    seconds: prometheus::Histogram,
}

impl RequestMetrics {
    pub(crate) fn observe(&self, took: Duration) {
        self.count.inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

impl Metrics {
    /// `clients`: what clients pushed.
    pub(crate) fn new(clients: &ClientMetrics) -> Self {
        let registry = Registry::new();
        let r = &registry;
        register(r, clients.clone());
        let request_options = histogram_opts!(
            "odradek_request_seconds",
            "Time from a complete request to its reply, long polls included.",
            REQUEST_SECONDS.to_vec()
        );
        let request_seconds =
            HistogramVec::new(request_options, &["api"]).expect("the options above are valid");
        register(r, request_seconds.clone());
        Self {
            records_in: counter(r, "odradek_records_in_total", "Records taken from producers."),
            bytes_in: counter(r, "odradek_request_bytes_total", "Bytes of requests read."),
            bytes_out: counter(r, "odradek_response_bytes_total", "Bytes of replies written."),
            retention_bytes: counter(
                r,
                "odradek_retention_deleted_bytes_total",
                "Bytes of segments that retention removed.",
            ),
            requests: counters(r, "odradek_requests_total", "Requests answered.", &["api"]),
            request_seconds,
            produce_errors: counters(
                r,
                "odradek_produce_errors_total",
                "Batches refused, by Kafka's error code.",
                &["error"],
            ),
            accepted: counters(
                r,
                "odradek_connections_accepted_total",
                "Connections accepted.",
                &["listener"],
            ),
            throttled: counters(
                r,
                "odradek_throttled_total",
                "Requests and connections beyond a client quota, by its key.",
                &["quota"],
            ),
            throttle_seconds: seconds(
                r,
                "odradek_throttle_seconds_total",
                "Time that clients were made to wait for a quota, by its key.",
                &["quota"],
            ),
            levels: Levels::registered(r),
            registry,
        }
    }

    pub(crate) fn request(&self, api: &Api) -> RequestMetrics {
        RequestMetrics {
            count: self.requests.with_label_values(&[api.name]),
            seconds: self.request_seconds.with_label_values(&[api.name]),
        }
    }

    pub(crate) fn produce_error(&self, error: ResponseError) {
        self.produce_errors.with_label_values(&[&error.code().to_string()]).inc();
    }

    pub(crate) fn throttled(&self, quota: &str, wait_ms: i64) {
        self.throttled.with_label_values(&[quota]).inc();
        self.throttle_seconds.with_label_values(&[quota]).inc_by(wait_ms as f64 / 1_000.0);
    }

    pub(crate) fn connection(&self, listener: &str) {
        self.accepted.with_label_values(&[listener]).inc();
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let requests = self.requests.collect();
        let each = requests.iter().flat_map(MetricFamily::get_metric);
        // A counter's float is exact up to 2^53.
        let requests = each.map(|m| m.get_counter().get_value() as u64).sum();
        Traffic {
            records_in: self.records_in.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            requests,
        }
    }

    /// Brings the levels up to date, for a scrape.
    pub(crate) fn refresh(&self, broker: &Broker) {
        self.levels.refresh(broker);
    }
}

impl Levels {
    fn registered(r: &Registry) -> Self {
        let log_histograms = LogHistograms::default();
        register(r, log_histograms.clone());
        Self {
            odd_connections: gauges(
                r,
                "odradek_odd_connections",
                "Connections that ended oddly since the start, by diagnosis.",
                &["diagnosis"],
            ),
            connections: gauge(r, "odradek_connections", "Open connections of Kafka clients."),
            groups_written: gauge(r, "odradek_commit_groups", "Commit groups since the start."),
            direct_bytes: gauge(
                r,
                "odradek_direct_bytes",
                "Bytes since the start that went to segments at once, and not through the journal.",
            ),
            log_bytes: gauge(r, "odradek_log_bytes", "Bytes of all partitions' segments."),
            disk_free_bytes: gauge(r, "odradek_disk_free_bytes", "Free bytes on the log's disk."),
            compactions: Compactions::registered(r),
            memory: Memory::registered(r),
            storage_ok: gauge(r, "odradek_storage_ok", "1 while the log takes records, else 0."),
            log_histograms,
        }
    }

    fn refresh(&self, broker: &Broker) {
        let set =
            |gauge: &IntGauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        let core = broker.core();
        let stats = core.log.stats();
        set(&self.connections, broker.connections() as u64);
        set(&self.groups_written, stats.groups);
        set(&self.direct_bytes, stats.direct_bytes);
        set(&self.log_bytes, broker.disk().0);
        set(&self.disk_free_bytes, stats.disk_free_bytes);
        set(&self.compactions.rounds, stats.compactions);
        set(&self.compactions.read_bytes, stats.compaction_read_bytes);
        set(&self.compactions.written_bytes, stats.compaction_written_bytes);
        set(&self.compactions.removed_records, stats.compaction_removed_records);
        set(&self.memory.max_bytes, broker.config().memory_bytes_max);
        for Use { part, bytes, bytes_max } in broker.memory() {
            set(&self.memory.part_bytes.with_label_values(&[part.name()]), bytes as u64);
            set(&self.memory.part_max_bytes.with_label_values(&[part.name()]), bytes_max as u64);
        }
        self.storage_ok.set(i64::from(broker.storage_problem().is_none()));
        for (diagnosis, count) in broker.inner.diary.counts() {
            set(&self.odd_connections.with_label_values(&[diagnosis]), count);
        }
        self.log_histograms.set(&stats);
    }
}

impl Memory {
    fn registered(r: &Registry) -> Self {
        Self {
            max_bytes: gauge(
                r,
                "odradek_memory_max_bytes",
                "The memory budget, odradek.memory.max.bytes.",
            ),
            part_bytes: gauges(
                r,
                "odradek_memory_part_bytes",
                "What a part of the memory budget holds; of sled, what it may hold by now.",
                &["part"],
            ),
            part_max_bytes: gauges(
                r,
                "odradek_memory_part_max_bytes",
                "What a part of the memory budget may hold; who needs more waits.",
                &["part"],
            ),
        }
    }
}

impl Compactions {
    fn registered(r: &Registry) -> Self {
        Self {
            rounds: gauge(
                r,
                "odradek_compaction_rounds",
                "Rounds of compaction, one partition each, since the start.",
            ),
            read_bytes: gauge(
                r,
                "odradek_compaction_read_bytes",
                "Bytes of segments that compaction read since the start.",
            ),
            written_bytes: gauge(
                r,
                "odradek_compaction_written_bytes",
                "Bytes of segments that compaction wrote since the start.",
            ),
            removed_records: gauge(
                r,
                "odradek_compaction_removed_records",
                "Records that compaction left out since the start.",
            ),
        }
    }
}

fn register(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("every name in this file stands there once");
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    let counter = IntCounter::new(name, help).expect("names in this file are valid");
    register(registry, counter.clone());
    counter
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    let counters = IntCounterVec::new(Opts::new(name, help), labels);
    let counters = counters.expect("names in this file are valid");
    register(registry, counters.clone());
    counters
}

fn seconds(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> CounterVec {
    let counters = CounterVec::new(Opts::new(name, help), labels);
    let counters = counters.expect("names in this file are valid");
    register(registry, counters.clone());
    counters
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    let gauge = IntGauge::new(name, help).expect("names in this file are valid");
    register(registry, gauge.clone());
    gauge
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    let gauges = IntGaugeVec::new(Opts::new(name, help), labels);
    let gauges = gauges.expect("names in this file are valid");
    register(registry, gauges.clone());
    gauges
}
