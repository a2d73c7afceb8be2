//! The figures of one run. Megabytes are 10^6 bytes; a time of a load is from the moment a request
//! was sent to its answer.

use serde::Serialize;

#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub folder: String,
    pub free_bytes: Option<u64>,
    /// A server held the data folder meanwhile and shared disk and cores.
    pub server_runs: bool,
    pub cores: usize,
    pub flush: Flush,
    pub sequence_write_mb_per_s: f64,
    pub one_core: OneCore,
    pub broker: BrokerFigures,
    /// What limits this machine, in sentences.
    pub verdict: Vec<String>,
}

/// Of 4 KiB, one after the other.
#[derive(Debug, Clone, Serialize)]
pub struct Flush {
    pub count: usize,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub per_s: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct OneCore {
    pub crc32c_mb_per_s: f64,
    pub zstd_mb_per_s: f64,
    pub zstd_ratio: f64,
}

#[derive(Debug, Clone, Serialize)]
pub struct BrokerFigures {
    /// In the order of [`super::load::Load::ALL`].
    pub loads: Vec<LoadFigures>,
    pub consumed: Consumed,
    /// Of the whole process: the broker and the load.
    pub memory_bytes_peak: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct LoadFigures {
    pub name: &'static str,
    pub producers: usize,
    pub record_bytes: usize,
    pub records: u64,
    pub records_per_s: f64,
    pub mb_per_s: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Cores that the broker kept busy, without the load's own part.
    pub broker_cores: Option<f64>,
    /// Bytes written to the disk for each byte of a record's value, as far as they were written
    /// when the load ended.
    pub written_per_byte: Option<f64>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Consumed {
    pub records: u64,
    pub records_per_s: f64,
    pub mb_per_s: f64,
    pub broker_cores: Option<f64>,
}

/// The smallest value that this share of all (in hundredths) is not above: nearest rank.
pub fn percentile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share / 100.0).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_seen() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 50.0), 50.0);
        assert_eq!(percentile(&hundred, 99.0), 99.0);
        // Of ten values the ninety-ninth hundredth is the tenth: 9.9 rounded up.
        assert_eq!(percentile(&hundred[..10], 99.0), 10.0);
        assert_eq!(percentile(&[7.0], 50.0), 7.0);
        assert_eq!(percentile(&[], 50.0), 0.0);
    }
}
