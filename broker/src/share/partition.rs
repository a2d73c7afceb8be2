//! One share partition: what became of each record that was handed out. Pure: no I/O, no clock.
//!
//! ```text
//!  start                                next
//!    │ done │ out to A │ free │ done │ …  │ not handed out yet
//! ```
//!
//! Records lie in *runs* of offsets with one state. A run belongs to a *batch*, the range that was
//! first handed out together: as in Kafka, a free batch is handed out again as a whole.
//!
//! ```text
//!  Available ──acquire──▶ Acquired ──acknowledge──▶ Leaving ──durable──▶ Available, Acknowledged
//!      ▲                     │ ▲                       │                 or Archived
//!      └──── lock ran out ───┘ └──── write failed ─────┘
//! ```
//!
//! Invariants (a property test holds them):
//! - P1. No offset is out to two members at a time.
//! - P2. No offset is handed out more than `deliveries_max` times; when the last of them comes
//!   back, it is archived. Deliveries that a restart took back do not count (S3).
//! - P3. What is acknowledged or archived never comes back, once that is durable.
//! - P4. `start` only grows, in memory and in what is durable; `next` grows until a restart takes
//!   it back to what is durable.
//! - P5. Every offset in `start..next` without a run is free: a restart leaves such holes where
//!   records were out.

mod acknowledge;
mod acquire;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use acknowledge::{Acknowledgement, Refusal};
pub(crate) use acquire::{Acquired, Wanted};

use super::records::{PartitionRecord, RunRecord, RunState};

/// Changes are numbered in the order in which they are decided, over all partitions.
pub(crate) type ChangeNumber = u64;

/// What bounds a share partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub lock_ms: i64,
    pub deliveries_max: i16,
    pub in_flight_max: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Available,
    Acquired(Lock),
    /// Decided, and not durable yet.
    Leaving {
        lock: Lock,
        to: Settled,
        change: ChangeNumber,
    },
    Acknowledged,
    Archived,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Lock {
    member: Arc<str>,
    until_ms: i64,
}

/// What a record becomes that a member gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    Available,
    Acknowledged,
    Archived,
}

impl State {
    fn is_done(&self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }
}

impl From<Settled> for State {
    fn from(settled: Settled) -> Self {
        match settled {
            Settled::Available => Self::Available,
            Settled::Acknowledged => Self::Acknowledged,
            Settled::Archived => Self::Archived,
        }
    }
}

/// Its first offset is its key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    last: i64,
    /// How often it was handed out.
    deliveries: i16,
    state: State,
    /// First and last offset of its batch.
    batch: (i64, i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SharePartition {
    /// Everything below is done.
    start: i64,
    /// The first offset that was never handed out.
    next: i64,
    state_epoch: i32,
    runs: BTreeMap<i64, Run>,
}

/// What administrators see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    pub start_offset: i64,
    /// Records at or above the start that are done.
    pub done: i64,
}

impl SharePartition {
    pub(crate) fn new(start: i64, state_epoch: i32) -> Self {
        Self { start, next: start, state_epoch, runs: BTreeMap::new() }
    }

    /// From what is durable. Whatever was out is free again, as a hole (P5) or as a free run.
    pub(crate) fn restored(record: &PartitionRecord) -> Option<Self> {
        let start = record.start?;
        let mut restored = Self::new(start, record.state_epoch);
        for run in &record.runs {
            // Runs of a record that we wrote are in order and apart; others are not believed.
            if run.first < restored.next || run.last < run.first {
                return None;
            }
            let state = match run.state {
                RunState::Available => State::Available,
                RunState::Acknowledged => State::Acknowledged,
                RunState::Archived => State::Archived,
            };
            let batch = (run.first, run.last);
            let (last, deliveries) = (run.last, run.deliveries);
            restored.runs.insert(run.first, Run { last, deliveries, state, batch });
            restored.next = run.last + 1;
        }
        restored.move_start();
        Some(restored)
    }

    /// What must be durable, as if everything that is leaving had left. What is out is written as
    /// it was before (S3).
    pub(crate) fn record(&self) -> PartitionRecord {
        let mut start = self.start;
        let mut runs: Vec<RunRecord> = Vec::new();
        for (first, run) in &self.runs {
            let (state, deliveries) = match &run.state {
                State::Available => (RunState::Available, run.deliveries),
                State::Acquired(_) => (RunState::Available, run.deliveries - 1),
                State::Leaving { to: Settled::Available, .. } => {
                    (RunState::Available, run.deliveries)
                }
                State::Acknowledged | State::Leaving { to: Settled::Acknowledged, .. } => {
                    (RunState::Acknowledged, run.deliveries)
                }
                State::Archived | State::Leaving { to: Settled::Archived, .. } => {
                    (RunState::Archived, run.deliveries)
                }
            };
            if state != RunState::Available && *first == start {
                start = run.last + 1;
                continue;
            }
            if state == RunState::Available && deliveries == 0 {
                continue;
            }
            match runs.last_mut() {
                Some(before)
                    if before.last + 1 == *first
                        && before.state == state
                        && before.deliveries == deliveries =>
                {
                    before.last = run.last;
                }
                _ => runs.push(RunRecord { first: *first, last: run.last, state, deliveries }),
            }
        }
        PartitionRecord { start: Some(start), state_epoch: self.state_epoch, runs }
    }

    /// Where to read next: the first free offset.
    pub(crate) fn next_fetch_offset(&self) -> i64 {
        let mut offset = self.start;
        for (first, run) in &self.runs {
            // A hole, or a free run.
            if *first > offset || run.state == State::Available {
                return offset;
            }
            offset = run.last + 1;
        }
        offset
    }

    /// Whether anything may be handed out, should the log have it.
    pub(crate) fn may_acquire(&self, bounds: &Bounds) -> bool {
        self.next_fetch_offset() != self.next || self.in_flight() < bounds.in_flight_max
    }

    fn in_flight(&self) -> i64 {
        if self.runs.is_empty() { 0 } else { self.next - self.start }
    }

    /// When the first lock runs out.
    pub(crate) fn due_ms(&self) -> Option<i64> {
        let locks = self.runs.values().filter_map(|run| match &run.state {
            State::Acquired(lock) => Some(lock.until_ms),
            _ => None,
        });
        locks.min()
    }

    /// Frees what was out for too long. What is leaving stays: its write decides. True if anything
    /// changed; the change need not be durable before it is acted on, for a restart would free the
    /// same records.
    pub(crate) fn expire(&mut self, bounds: &Bounds, now_ms: i64) -> bool {
        let mut changed = false;
        for run in self.runs.values_mut() {
            if matches!(&run.state, State::Acquired(lock) if lock.until_ms <= now_ms) {
                run.state = given_back(run.deliveries, bounds).into();
                changed = true;
            }
        }
        if changed {
            self.move_start();
        }
        changed
    }

    /// All that was decided up to `change` is durable, or could not be written.
    pub(crate) fn settle(
        &mut self,
        change: ChangeNumber,
        durable: bool,
        bounds: &Bounds,
        now_ms: i64,
    ) {
        for run in self.runs.values_mut() {
            let State::Leaving { lock, to, change: decided } = &run.state else { continue };
            if *decided > change {
                continue;
            }
            run.state = match (durable, lock.until_ms <= now_ms) {
                (true, _) => (*to).into(),
                (false, false) => State::Acquired(lock.clone()),
                (false, true) => given_back(run.deliveries, bounds).into(),
            };
        }
        self.move_start();
    }

    /// The log begins later now: what lies below is done, whoever has it.
    pub(crate) fn log_starts_at(&mut self, log_start: i64) -> bool {
        if log_start <= self.start {
            return false;
        }
        self.split_at(log_start);
        self.runs = self.runs.split_off(&log_start);
        self.start = log_start;
        self.next = self.next.max(log_start);
        self.move_start();
        true
    }

    /// Moves the start over what is done.
    fn move_start(&mut self) {
        while let Some(entry) = self.runs.first_entry() {
            if *entry.key() != self.start || !entry.get().state.is_done() {
                return;
            }
            self.start = entry.remove().last + 1;
        }
        // Nothing is in flight, so nothing is between.
        self.next = self.next.max(self.start);
        self.start = self.next;
    }

    /// Makes `offset` the first offset of a run, if a run has it in its middle.
    fn split_at(&mut self, offset: i64) {
        let Some((first, run)) = self.runs.range_mut(..offset).next_back() else { return };
        if run.last < offset {
            return;
        }
        debug_assert!(*first < offset);
        let mut upper = run.clone();
        run.last = offset - 1;
        upper.batch = run.batch;
        self.runs.insert(offset, upper);
    }

    /// The run that covers an offset.
    fn run_at(&self, offset: i64) -> Option<(i64, &Run)> {
        let (first, run) = self.runs.range(..=offset).next_back()?;
        (run.last >= offset).then_some((*first, run))
    }
}

/// What becomes of a record that comes back unread (P2).
fn given_back(deliveries: i16, bounds: &Bounds) -> Settled {
    match deliveries >= bounds.deliveries_max {
        true => Settled::Archived,
        false => Settled::Available,
    }
}
