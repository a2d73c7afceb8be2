//! Groups in flight: written to the journal, on their way to be durable. They land in the order in
//! which they were written: the high watermarks move, the waiters are answered.
//!
//! Where a flush takes long, the next groups are written and synced while one still waits for its
//! own, so that the disk works and the clients go on meanwhile. Each of them syncs by a handle of
//! its own: of a write-back that failed, Linux tells each open file once, so a handle in common
//! could tell one group's sync what another's should have heard. And none lands before those that
//! were written before it: a group behind one that a power cut tears is cut off with it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::core::{Core, Progress};
use crate::disk::{DiskFile, try_each};
use crate::flushes::Flushes;
use crate::group::{Group, GroupEntry};
use crate::partition::TailEntry;
use crate::settle::settle_threshold;
use crate::types::{CommitError, Done, GROUP_BYTES_BUCKETS, SYNC_SECONDS_BUCKETS};
use crate::wire;

/// Groups that are synced at a time. One flush of a disk covers all that waited for it.
pub(crate) const FLIGHTS_MAX: usize = 6;

pub(crate) type Answer = (Done, Result<(), CommitError>);

/// A group that was written, or only answers that must not overtake those of the groups before.
pub(crate) struct Flight {
    /// Its place in the order of landing.
    number: u64,
    group: Option<Arc<Group>>,
    answers: Vec<Answer>,
    /// What the group is in, to be synced before it lands; none if that comes later.
    files: Vec<Arc<dyn DiskFile>>,
    started: Instant,
}

#[derive(Default)]
pub(crate) struct Flights {
    state: Mutex<State>,
    has_landed: Condvar,
    is_handed_over: Condvar,
    flushes: Mutex<Flushes>,
    /// Groups in memory for readers, oldest first.
    ring: Mutex<VecDeque<Arc<Group>>>,
}

#[derive(Default)]
struct State {
    /// Numbers given out, and how many of them have landed.
    begun: u64,
    landed: u64,
    /// Of groups in flight.
    bytes: u64,
    groups: VecDeque<Arc<Group>>,
    /// For whichever thread lands them.
    handed_over: VecDeque<Flight>,
    /// Nothing more is handed over.
    closed: bool,
}

impl Flights {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the flights panics")
    }

    fn ring(&self) -> MutexGuard<'_, VecDeque<Arc<Group>>> {
        self.ring.lock().expect("no holder of the ring panics")
    }

    /// Until one more group may take off.
    pub fn wait_for_place(&self) {
        let full = |state: &mut State| state.begun - state.landed >= FLIGHTS_MAX as u64;
        let state = self.has_landed.wait_while(self.state(), full);
        drop(state.expect("no holder of the flights panics"));
    }

    /// Of groups in flight, and of those that have landed and are not settled.
    pub fn bytes_with(&self, unsettled: &AtomicU64) -> u64 {
        let state = self.state();
        state.bytes + Progress::at(unsettled)
    }

    /// From one count to the other, so that no group is in both or in none. Returns what was
    /// unsettled before.
    fn count_landed(&self, bytes: u64, unsettled: &AtomicU64) -> u64 {
        let mut state = self.state();
        state.bytes -= bytes;
        unsettled.fetch_add(bytes, Ordering::AcqRel)
    }

    /// The handle that no other group in flight has.
    pub fn handle(&self) -> usize {
        let state = self.state();
        assert!(state.begun - state.landed < FLIGHTS_MAX as u64, "so many groups fly at a time");
        usize::try_from(state.begun % FLIGHTS_MAX as u64).unwrap_or(0)
    }

    pub fn take_off(
        &self,
        group: Option<Group>,
        answers: Vec<Answer>,
        files: Vec<Arc<dyn DiskFile>>,
        started: Instant,
    ) -> Flight {
        let group = group.map(Arc::new);
        let mut state = self.state();
        let number = state.begun;
        state.begun += 1;
        state.bytes += group.as_ref().map_or(0, |group| group.bytes.len() as u64);
        state.groups.extend(group.clone());
        Flight { number, group, answers, files, started }
    }

    /// Those that have not landed, in their order.
    pub fn groups(&self) -> Vec<Arc<Group>> {
        self.state().groups.iter().cloned().collect()
    }

    /// For another thread to land.
    pub fn hand_over(&self, flight: Flight) {
        self.state().handed_over.push_back(flight);
        self.is_handed_over.notify_one();
    }

    /// The next one that was handed over; none once there will be no more and all are taken.
    pub fn next(&self) -> Option<Flight> {
        let none = |state: &mut State| state.handed_over.is_empty() && !state.closed;
        let state = self.is_handed_over.wait_while(self.state(), none);
        state.expect("no holder of the flights panics").handed_over.pop_front()
    }

    /// Whoever hands over holds it; dropped, it says that there will be no more.
    pub fn closing(&self) -> Closing<'_> {
        self.state().closed = false;
        Closing(self)
    }
}

pub(crate) struct Closing<'a>(&'a Flights);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.state().closed = true;
        self.0.is_handed_over.notify_all();
    }
}

/// The landing of one flight: whatever becomes of it, the next one's turn comes.
struct Turn<'a> {
    core: &'a Core,
    has_group: bool,
}

impl<'a> Turn<'a> {
    fn wait(core: &'a Core, flight: &Flight) -> Turn<'a> {
        let early = |state: &mut State| state.landed < flight.number;
        let flights = &core.flights;
        let state = flights.has_landed.wait_while(flights.state(), early);
        drop(state.expect("no holder of the flights panics"));
        Turn { core, has_group: flight.group.is_some() }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.core.fail("a thread of the log", &"panicked");
        }
        let mut state = self.core.flights.state();
        state.landed += 1;
        // It is where its readers find it by now, or is not shown at all.
        if self.has_group {
            state.groups.pop_front();
        }
        drop(state);
        self.core.flights.has_landed.notify_all();
    }
}

impl Core {
    /// Syncs all parts of the flight's group side by side, waits for those before it, and shows and
    /// answers it.
    pub fn land(&self, mut flight: Flight) {
        let begun = Instant::now();
        let files = std::mem::take(&mut flight.files);
        let is_synced = !files.is_empty();
        let synced = try_each(&files, self.disk.syncs_at_once(), |file| file.sync());
        drop(files);
        let took = begun.elapsed();
        let _turn = Turn::wait(self, &flight);
        let Flight { group, answers, started, .. } = flight;
        let Some(group) = group else {
            answers.into_iter().for_each(|(done, answer)| done(answer));
            return;
        };
        match synced {
            Ok(()) if is_synced => self.note_flush(took),
            Ok(()) => {}
            Err(error) => self.fail("syncing the journal or a segment", &error),
        }
        // Nothing behind a group whose sync failed is shown, either.
        if let Some(reason) = self.failed() {
            for (done, _) in answers {
                done(Err(CommitError::Failed(reason.clone())));
            }
            return;
        }
        if is_synced {
            self.mark_synced(group.sequence);
        }
        self.count_group(&group, started.elapsed());
        self.publish(group);
        answers.into_iter().for_each(|(done, answer)| done(answer));
    }

    fn note_flush(&self, took: Duration) {
        let mut flushes = self.flights.flushes.lock().expect("no holder of the flushes panics");
        flushes.add(took);
        self.progress.flush_is_slow.store(flushes.are_slow(), Ordering::Release);
    }

    /// Moves the high watermarks and what is decided below them (a marker ends its transaction at
    /// the very moment it can be seen); the group goes to the settle step and stays for readers.
    fn publish(&self, group: Arc<Group>) {
        for entry in &group.entries {
            let mut shared = entry.partition.shared();
            shared.unsettled_bytes += (entry.end - entry.start) as u64;
            shared.max_timestamp_ms = shared.max_timestamp_ms.max(entry.max_timestamp_ms);
            assert!(
                shared.high_watermark <= entry.base_offset,
                "invariant 3: a high watermark never goes back"
            );
            if entry.transactional {
                let run = group.bytes.slice(entry.start..entry.end);
                for (header, batch) in wire::batches(&run) {
                    let aborted = shared.open_transactions.apply(&header, &batch);
                    shared.unsettled_aborted.extend(aborted);
                }
            }
            shared.high_watermark = entry.last_offset + 1;
            shared.tail.push_back(tail_entry(&group, entry));
        }
        for partition in &group.large {
            partition.shared().large_sequence = group.sequence;
        }
        let bytes = group.bytes.len() as u64;
        let before = self.flights.count_landed(bytes, &self.progress.unsettled_bytes);
        self.unsettled.lock().expect("no holder of the groups panics").push_back(group.clone());
        let threshold = settle_threshold(self.options.unsettled_bytes_max);
        if before == 0 || (before < threshold && before + bytes >= threshold) {
            self.progress.notify();
        }
        self.group_memory.keep(&group);
        self.flights.ring().push_back(group);
        self.evict();
    }

    /// Oldest out, but never what segments do not hold yet. What slow readers still have of those
    /// that went counts, so that others go in its place: with what is unsettled on top, the bounds
    /// of both are never passed.
    pub fn evict(&self) {
        let mut ring = self.flights.ring();
        let settled = Progress::at(&self.progress.settled);
        while self.group_memory.all() > self.options.tail_cache_bytes_max {
            let Some(oldest) = ring.front() else { break };
            if oldest.sequence > settled {
                break;
            }
            let Some(oldest) = ring.pop_front() else { break };
            self.group_memory.let_go(&oldest);
            for entry in &oldest.entries {
                entry.partition.shared().evict(oldest.sequence);
            }
        }
    }

    fn count_group(&self, group: &Group, time: Duration) {
        let seconds = time.as_secs_f64();
        let bytes = group.bytes.len() as u64;
        let mut stats = self.stats();
        stats.groups += 1;
        stats.bytes += bytes;
        stats.sync_seconds_sum += seconds;
        stats.sync_seconds[SYNC_SECONDS_BUCKETS.partition_point(|bound| *bound < seconds)] += 1;
        stats.group_bytes[GROUP_BYTES_BUCKETS.partition_point(|bound| *bound < bytes)] += 1;
    }
}

fn tail_entry(group: &Group, entry: &GroupEntry) -> TailEntry {
    TailEntry {
        sequence: group.sequence,
        base_offset: entry.base_offset,
        last_offset: entry.last_offset,
        max_timestamp_ms: entry.max_timestamp_ms,
        bytes: group.bytes.slice(entry.start..entry.end),
    }
}
