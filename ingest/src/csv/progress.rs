//! How far a replay is, in a line for a person.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::input::Input;

pub(crate) struct Progress {
    started: Instant,
    first_row: u64,
    stored_bytes: u64,
    consumed_bytes: Arc<AtomicU64>,
    first_byte: Option<u64>,
}

impl Progress {
    pub fn begin(input: &Input, first_row: u64) -> Self {
        Self {
            started: Instant::now(),
            first_row,
            stored_bytes: input.stored_bytes,
            consumed_bytes: Arc::clone(&input.consumed_bytes),
            first_byte: None,
        }
    }

    /// `row 12,000 (38 % of the file), 5,000 rows/s, about 12 s left`
    pub fn line(&mut self, row: u64) -> String {
        let consumed = self.consumed_bytes.load(Ordering::Relaxed).min(self.stored_bytes);
        let first_byte = *self.first_byte.get_or_insert(consumed);
        let seconds = self.started.elapsed().as_secs_f64().max(1e-3);
        let rows_per_s = row.saturating_sub(self.first_row) as f64 / seconds;
        let bytes_per_s = consumed.saturating_sub(first_byte) as f64 / seconds;
        let percent = consumed as f64 * 100.0 / self.stored_bytes.max(1) as f64;
        let mut line = format!("row {row} ({percent:.0} % of the file), {rows_per_s:.0} rows/s");
        if bytes_per_s > 0.0 && consumed < self.stored_bytes {
            let left_s = (self.stored_bytes - consumed) as f64 / bytes_per_s;
            line.push_str(&format!(", about {left_s:.0} s left"));
        }
        line
    }

    pub fn ended(&self, row: u64, passes: u64) -> String {
        match passes {
            0 => format!("all {row} rows are in the topic"),
            passes => format!("all {row} rows are in the topic, {} times", passes + 1),
        }
    }
}
