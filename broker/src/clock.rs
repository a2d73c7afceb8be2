//! Time as the broker reads it. Whatever has to be tested at a given time takes a [`Clock`] or the
//! time itself; the rest asks [`now_ms`].

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Two readings of time, taken together (see D4 of [`crate::group`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Now {
    /// Never goes back, never jumps; its zero means nothing.
    pub monotonic_ms: i64,
    /// Epoch milliseconds.
    pub wall_ms: i64,
}

pub(crate) type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// The clock of the running broker.
pub(crate) fn system_clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || Now {
        monotonic_ms: i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX),
        wall_ms: now_ms(),
    })
}

/// Epoch milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
