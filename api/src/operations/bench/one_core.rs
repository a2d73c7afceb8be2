//! One core alone: the checksum that every batch is checked by, and a compression that clients use.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::report::OneCore;
use super::{BenchError, Watch};

/// Fits into a core's cache, as a batch that has just come from a socket does.
const CHECKED_BYTES: usize = 64 * 1024;
const COMPRESSED_BYTES: usize = 1024 * 1024;
/// Kafka's default for `compression.zstd.level`.
const ZSTD_LEVEL: i32 = 3;

pub fn measure(time: Duration, watch: &Watch<'_>) -> Result<OneCore, BenchError> {
    let text = ticks(COMPRESSED_BYTES);
    let checked = &text[..CHECKED_BYTES];
    let crc32c = rate(checked.len(), time / 2, watch, || {
        black_box(crc32c::crc32c(black_box(checked)));
        Ok(())
    })?;
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)
        .map_err(BenchError::failed("zstd cannot be used"))?;
    let mut compressed_bytes = 0;
    let zstd = rate(text.len(), time / 2, watch, || {
        compressed_bytes = black_box(compressor.compress(black_box(&text)))?.len();
        Ok(())
    })?;
    Ok(OneCore {
        crc32c_mb_per_s: crc32c,
        zstd_mb_per_s: zstd,
        zstd_ratio: text.len() as f64 / compressed_bytes.max(1) as f64,
    })
}

/// Megabytes (10^6) a second.
fn rate(
    bytes: usize,
    time: Duration,
    watch: &Watch<'_>,
    mut work: impl FnMut() -> std::io::Result<()>,
) -> Result<f64, BenchError> {
    let (began, mut done) = (Instant::now(), 0_u32);
    while done == 0 || began.elapsed() < time {
        watch.go_on()?;
        work().map_err(BenchError::failed("zstd cannot compress"))?;
        done += 1;
    }
    Ok(f64::from(done) * bytes as f64 / 1e6 / began.elapsed().as_secs_f64())
}

/// Records as a ticker sends them: names and times that repeat, prices that do not.
fn ticks(bytes: usize) -> Vec<u8> {
    let symbols = ["AAPL", "MSFT", "BTC-USD", "EURUSD=X", "^GSPC"];
    let mut text = String::with_capacity(bytes + 128);
    for index in 0.. {
        if text.len() >= bytes {
            break;
        }
        let symbol = symbols[index % symbols.len()];
        let cents = rand::random_range(10_000..99_999);
        text.push_str(&format!(
            r#"{{"id":"{symbol}","exchange":"NMS","price":{}.{:02},"timestamp":{}}}"#,
            cents / 100,
            cents % 100,
            1_700_000_000_000_u64 + 137 * index as u64
        ));
        text.push('\n');
    }
    text.truncate(bytes);
    text.into_bytes()
}
