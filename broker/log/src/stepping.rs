//! What the log's threads do, step by step and by hand: for simulations of whoever builds on the
//! log. Nothing else calls it.

use std::collections::VecDeque;

use crate::core::Step;
use crate::flight::{FLIGHTS_MAX, Flight};
use crate::log::Log;
use crate::types::{CommitError, OpenError, StartReport};

/// One bounded piece of what a thread of the log does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Commit,
    Settle,
    Checkpoint,
    Feed,
    CheckpointView,
    Clean,
    Compact,
}

/// [`Log::start`] without the threads.
pub fn start(log: &Log) -> Result<StartReport, OpenError> {
    log.prepare()
}

/// Before a log is dropped whose process died: those who wait hold it, and it holds them.
pub fn abandon(log: &Log) {
    let core = log.core();
    core.queue().open = false;
    core.refuse_queued(&CommitError::Closed);
}

/// Groups of one log that were written and are not synced yet, oldest first. While there are any,
/// `Work::Commit` would wait for them for ever: they land before.
#[derive(Default)]
pub struct InFlight(VecDeque<Flight>);

impl InFlight {
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Writes the next group. Whether there was one, and as many may fly.
    pub fn take_off(&mut self, log: &Log) -> bool {
        if self.0.len() == FLIGHTS_MAX {
            return false;
        }
        let flight = log.core().take_off();
        let has_flown = flight.is_ok();
        self.0.extend(flight);
        has_flown
    }

    /// Syncs the oldest, shows it and answers it. Whether there was one.
    pub fn land(&mut self, log: &Log) -> bool {
        let Some(flight) = self.0.pop_front() else { return false };
        log.core().land(flight);
        true
    }
}

/// Whether there was something to do, and it could be done.
pub fn step(log: &Log, work: Work, now_ms: i64) -> bool {
    let core = log.core();
    let step = match work {
        Work::Commit => core.commit_step(),
        Work::Settle => core.settle_step(now_ms),
        Work::Checkpoint => core.checkpoint_step(),
        Work::Feed => core.feed_step(),
        Work::CheckpointView => core.checkpoint_view(),
        Work::Clean => core.clean_step(),
        Work::Compact => core.compact_step(now_ms).map_or(Step::Idle, |_| Step::Worked),
    };
    step == Step::Worked
}
