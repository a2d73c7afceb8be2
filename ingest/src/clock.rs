//! The one clock of the ingest layer: epoch milliseconds. In tests it can follow tokio's paused
//! time from a fixed beginning.

use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone, Copy)]
pub(crate) enum Clock {
    System,
    /// Tokio's time, as if it had been `epoch_ms` at `start`.
    #[cfg(test)]
    Tokio {
        epoch_ms: i64,
        start: tokio::time::Instant,
    },
}

impl Clock {
    #[cfg(test)]
    pub fn tokio_from(epoch_ms: i64) -> Self {
        Self::Tokio { epoch_ms, start: tokio::time::Instant::now() }
    }

    pub fn now_ms(self) -> i64 {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
            }
            #[cfg(test)]
            Self::Tokio { epoch_ms, start } => {
                let passed = i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX);
                epoch_ms.saturating_add(passed)
            }
        }
    }
}
