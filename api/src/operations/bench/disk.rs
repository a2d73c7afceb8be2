//! The disk alone: how long until it says that something is on the medium, and how fast it takes
//! what comes in sequence. Through the file system, with the calls that the journal uses.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::report::{Flush, percentile};
use super::{BenchError, Watch};

/// The least that a file system writes anyway.
const FLUSHED_BYTES: usize = 4096;
/// Written once before, so that what is timed is the data's way alone, as in a journal in use.
const FLUSHED_FILE_BYTES: usize = 4 * 1024 * 1024;
/// More samples would change nothing.
const FLUSHES_MAX: usize = 100_000;
const PIECE_BYTES: usize = 1024 * 1024;
const SEQUENCE_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Writes 4 KiB and waits until it is on the medium, again and again.
pub fn flush(folder: &Path, time: Duration, watch: &Watch<'_>) -> Result<Flush, BenchError> {
    let failed = || BenchError::failed("the disk could not be measured");
    let mut file = File::create(folder.join("flushed")).map_err(failed())?;
    file.write_all(&noise(FLUSHED_FILE_BYTES)).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    file.seek(SeekFrom::Start(0)).map_err(failed())?;
    let piece = noise(FLUSHED_BYTES);
    let mut times_ms: Vec<f64> = Vec::new();
    let mut position = 0;
    let began = Instant::now();
    while times_ms.is_empty() || (began.elapsed() < time && times_ms.len() < FLUSHES_MAX) {
        watch.go_on()?;
        let one = Instant::now();
        file.write_all(&piece).map_err(failed())?;
        file.sync_data().map_err(failed())?;
        times_ms.push(one.elapsed().as_secs_f64() * 1_000.0);
        position += FLUSHED_BYTES;
        if position == FLUSHED_FILE_BYTES {
            position = 0;
            file.seek(SeekFrom::Start(0)).map_err(failed())?;
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    times_ms.sort_by(f64::total_cmp);
    let count = times_ms.len();
    Ok(Flush {
        count,
        p50_ms: percentile(&times_ms, 50.0),
        p99_ms: percentile(&times_ms, 99.0),
        per_s: count as f64 / seconds,
    })
}

/// Megabytes (10^6) a second of a file that grows, with the flush at its end.
pub fn sequence(folder: &Path, time: Duration, watch: &Watch<'_>) -> Result<f64, BenchError> {
    let failed = || BenchError::failed("the disk could not be measured");
    let path = folder.join("sequence");
    let mut file = File::create(&path).map_err(failed())?;
    let piece = noise(PIECE_BYTES);
    let mut bytes = 0;
    let began = Instant::now();
    while bytes == 0 || (began.elapsed() < time && bytes < SEQUENCE_BYTES_MAX) {
        watch.go_on()?;
        file.write_all(&piece).map_err(failed())?;
        bytes += PIECE_BYTES;
        // Not all at the end: a page cache takes anything, and the flush then lasts for minutes.
        if bytes.is_multiple_of(16 * PIECE_BYTES) {
            file.sync_data().map_err(failed())?;
        }
    }
    file.sync_data().map_err(failed())?;
    let seconds = began.elapsed().as_secs_f64();
    drop(file);
    std::fs::remove_file(&path).map_err(failed())?;
    Ok(bytes as f64 / 1e6 / seconds)
}

/// Bytes that no disk can make smaller.
pub fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    rand::fill(&mut noise[..]);
    noise
}
