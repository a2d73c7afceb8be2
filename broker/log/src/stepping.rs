//! What the log's threads do, step by step and by hand: for simulations of whoever builds on the
//! log. Nothing else calls it.

use crate::core::Step;
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
