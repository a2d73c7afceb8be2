//! The log counts its groups in buckets of its own, without knowing of metrics; here they become
//! histograms at each scrape.

use std::sync::{Arc, Mutex};

use odradek_log::{GROUP_BYTES_BUCKETS, SYNC_SECONDS_BUCKETS, Stats};
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Bucket, Histogram, Metric, MetricFamily, MetricType};

use crate::partition::lock;

#[derive(Clone, Default)]
pub(crate) struct LogHistograms {
    stats: Arc<Mutex<Stats>>,
}

const SYNC_SECONDS: (&str, &str) = (
    "odradek_commit_seconds",
    "Write and sync of one commit group to the journal, and the wait for those before it.",
);
const GROUP_BYTES: (&str, &str) =
    ("odradek_commit_group_bytes", "Bytes that one commit group carried.");

impl LogHistograms {
    pub(crate) fn set(&self, stats: &Stats) {
        *lock(&self.stats) = stats.clone();
    }
}

impl Collector for LogHistograms {
    fn desc(&self) -> Vec<&Desc> {
        // Described by what is collected: the registry then checks names at each scrape.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stats = lock(&self.stats);
        // Byte counts are exact as floats up to 2^53.
        let sizes = GROUP_BYTES_BUCKETS.map(|bound| bound as f64);
        vec![
            family(
                SYNC_SECONDS,
                &SYNC_SECONDS_BUCKETS,
                &stats.sync_seconds,
                stats.sync_seconds_sum,
            ),
            family(GROUP_BYTES, &sizes, &stats.group_bytes, stats.bytes as f64),
        ]
    }
}

fn family((name, help): (&str, &str), bounds: &[f64], counts: &[u64], sum: f64) -> MetricFamily {
    let mut histogram = Histogram::default();
    let mut below = 0;
    let mut buckets = Vec::with_capacity(bounds.len());
    for (bound, count) in bounds.iter().zip(counts) {
        below += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(below);
        buckets.push(bucket);
    }
    histogram.set_bucket(buckets);
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(vec![metric]);
    family
}
