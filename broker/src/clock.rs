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
        monotonic_ms: simulated_ms()
            .unwrap_or_else(|| i64::try_from(start.elapsed().as_millis()).unwrap_or(i64::MAX)),
        wall_ms: now_ms(),
    })
}

/// Epoch milliseconds.
pub(crate) fn now_ms() -> i64 {
    if let Some(simulated_ms) = simulated_ms() {
        return simulated_ms;
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(not(test))]
fn simulated_ms() -> Option<i64> {
    None
}

#[cfg(test)]
pub(crate) use simulated::{simulate, simulated_ms};

/// The time of a simulation, which runs on one thread and is alone there.
#[cfg(test)]
mod simulated {
    use std::cell::Cell;

    thread_local! {
        static NOW_MS: Cell<Option<i64>> = const { Cell::new(None) };
    }

    pub(crate) fn simulated_ms() -> Option<i64> {
        NOW_MS.get()
    }

    pub(crate) fn simulate(now_ms: i64) {
        NOW_MS.set(Some(now_ms));
    }
}
