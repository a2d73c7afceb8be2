//! The public face, and the threads behind it.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::commit::Committer;
use crate::core::{Core, Progress, Step, whole_ms};
use crate::direct;
use crate::disk::Disk;
use crate::feed::Feeder;
use crate::flight::FLIGHTS_MAX;
use crate::folders::Folders;
use crate::journal::{self, Journal};
use crate::recover;
use crate::settle::{CHECKPOINT_BYTES, settle_threshold};
use crate::store;
use crate::types::*;
use crate::view::{SledViews, Views};

/// Stands while the log is open, with the boot id in it; a clean close takes it away.
const MARK_NAME: &str = "unclean";
const MARK_BYTES_MAX: u64 = 1024;
/// Small groups gather this long before they are taken to segments.
const SETTLE_PAUSE: Duration = Duration::from_millis(50);
/// A checkpoint at the latest after this, so that the view and recovery stay close behind.
const CHECKPOINT_PAUSE: Duration = Duration::from_secs(5);
const VIEW_CHECKPOINT_PAUSE: Duration = Duration::from_secs(10);
const IDLE_PAUSE: Duration = Duration::from_millis(500);

pub struct Log {
    core: Arc<Core>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Log {
    /// Takes the folder's lock, reads and checks the journal. Nothing is settled or shown yet:
    /// `attach` each partition, then `start`.
    pub fn open(options: Options, disk: Arc<dyn Disk>) -> Result<(Log, OpenReport), OpenError> {
        let views = SledViews::new(options.dir.join("sled"), options.sled_bytes_max);
        Log::open_with(options, disk, Arc::new(views))
    }

    pub fn open_with(
        options: Options,
        disk: Arc<dyn Disk>,
        views: Arc<dyn Views>,
    ) -> Result<(Log, OpenReport), OpenError> {
        if options.journal_file_bytes < 4 * journal::HEADER_BYTES {
            return Err(OpenError::Unusable("the journal files are too small".to_owned()));
        }
        let lock = disk.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => OpenError::Locked(options.dir.clone()),
            _ => open_error("locking the folder")(error),
        })?;
        let disk = store::open(disk, options.store, &*views, &options.dir)?;
        let mark = read_mark(&*disk).map_err(open_error("the folder's mark"))?;
        let unclean = mark.is_some();
        let machine_unclean = mark.is_some_and(|boot| boot.is_none() || boot != disk.boot_id());
        let journal =
            Journal::open(&disk, options.journal_file_bytes).map_err(open_error("the journal"))?;
        let mut scanned = recover::scan(&journal, !unclean, options.direct_bytes_min)
            .map_err(open_error("the journal"))?;
        if unclean {
            // Invariant 3: valid but unproven becomes durable before any of it is shown.
            scanned.rewrite_unproven().map_err(open_error("the journal"))?;
            journal.sync_all().map_err(open_error("syncing the journal"))?;
        }
        let folders = Folders::list(&*disk, unclean).map_err(open_error("the folder"))?;
        direct::cut_torn(&mut scanned, &*disk, &folders).map_err(open_error("a segment"))?;
        let report = OpenReport {
            unclean,
            machine_unclean,
            torn_tail: scanned.torn_tail,
            damaged_groups: scanned.damaged_groups,
            journal_groups: scanned.recovery.groups,
            journal_bytes: scanned.recovery.bytes,
            folders: folders.found(),
        };
        let mut feeder = Feeder::new(views);
        if let Err(error) = feeder.open(!machine_unclean) {
            tracing::warn!(%error, "the view cannot be opened and is rebuilt");
        }
        let core = Core::new(
            options,
            disk,
            lock,
            Committer::new(journal),
            feeder,
            folders,
            scanned.recovery,
        );
        // The names of folders that the last run has made: synced once, for all of them.
        core.segments.root_dirty.store(unclean, Ordering::Release);
        Ok((Log { core: Arc::new(core), threads: Mutex::default() }, report))
    }

    /// Opens the partition, or makes it. What the journal still holds of it is taken to its
    /// segments.
    pub fn attach(&self, spec: PartitionSpec) -> Result<Ends, AttachError> {
        self.core.attach(spec, now_ms())
    }

    /// All partitions are attached: what nobody attached is an orphan and goes, what was recovered
    /// is synced, the journal begins afresh, and the threads run.
    pub fn start(&self) -> Result<StartReport, OpenError> {
        let report = self.prepare()?;
        let mut threads = self.threads.lock().expect("no holder of the threads panics");
        let spawn = |name: &str, run: fn(&Core)| {
            let core = self.core.clone();
            let thread = std::thread::Builder::new().name(format!("log-{name}"));
            let guarded = move || {
                // A broken assertion is an end of the incarnation too: nobody waits for ever.
                if catch_unwind(AssertUnwindSafe(|| run(&core))).is_err() {
                    core.fail("a thread of the log", &"panicked");
                    core.refuse_after_panic();
                }
            };
            thread.spawn(guarded).map_err(open_error("starting a thread"))
        };
        threads.push(spawn("commit", run_commit)?);
        threads.push(spawn("settle", run_settle)?);
        threads.push(spawn("feed", run_feed)?);
        if self.core.options.compaction.enabled {
            threads.push(spawn("compact", run_compact)?);
        }
        Ok(report)
    }

    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// `start` without the threads: a simulation drives the steps itself.
    pub(crate) fn prepare(&self) -> Result<StartReport, OpenError> {
        let core = &self.core;
        let recovery = core.recovery.lock().expect("no holder of the recovery panics").take();
        let recovery = recovery.ok_or_else(|| OpenError::Unusable("started already".to_owned()))?;
        write_mark(&*core.disk).map_err(open_error("marking the folder"))?;
        if core.is_direct() {
            store::mark_marked(&*core.disk).map_err(open_error("marking the folder"))?;
        }
        core.segments.root_dirty.store(true, Ordering::Release);
        while core.checkpoint_step() == Step::Worked {}
        // Else what segments do not hold for certain would go with the journal.
        if let Some(reason) = core.failed() {
            return Err(OpenError::Unusable(reason));
        }
        let last = recovery.last_sequence;
        let progress = &core.progress;
        let all = [&progress.written, &progress.synced, &progress.settled, &progress.checkpointed];
        all.into_iter().for_each(|sequence| sequence.store(last, Ordering::Release));
        {
            let mut committer = core.committer.lock().expect("no holder of the committer panics");
            committer
                .journal()
                .switch(last + 1, last)
                .map_err(open_error("taking the journal into use"))?;
        }
        core.disk.sync_folder("").map_err(open_error("syncing the folder"))?;
        if let Some(reason) = core.failed() {
            return Err(OpenError::Unusable(reason));
        }
        // With damage anywhere, the records that name a partition may be among what is lost: then
        // nothing is removed that nobody attached.
        let intact = recovery.damage.is_empty() && !recovery.careful;
        let orphan_folders = if intact { core.folders().orphans() } else { Vec::new() };
        for folder in &orphan_folders {
            core.doom_folder(folder);
        }
        core.clean_step();
        core.queue().open = true;
        Ok(StartReport {
            orphan_folders,
            damage: recovery.damage,
            recovered_bytes: recovery.recovered_bytes,
            view_rebuilt: core.stats().view_rebuilds > 0 || core.view().is_none(),
        })
    }

    /// Queue push only, never blocks. `done` is called on the commit thread, for each partition in
    /// the order of the queue, once the unit is durable; the high watermarks have moved by then.
    pub fn commit(&self, unit: Unit) {
        let mut queue = self.core.queue();
        if !queue.open {
            drop(queue);
            (unit.done)(Err(CommitError::Closed));
            return;
        }
        queue.units.push_back(unit);
        let asleep = std::mem::take(&mut queue.asleep);
        drop(queue);
        if asleep {
            self.core.queue_signal.notify_one();
        }
    }

    pub fn ends(&self, id: PartitionId) -> Option<Ends> {
        self.core.partition(id).map(|partition| partition.ends())
    }

    /// From memory or not at all; holds the partition's lock for a few instructions.
    pub fn read_cached(&self, id: PartitionId, offset: i64, bytes_max: usize) -> Cached {
        self.core.read_cached(id, offset, bytes_max)
    }

    /// Whole batches from the one that holds the offset; at least one if there is any at or
    /// behind it. May block on the disk.
    pub fn read(&self, id: PartitionId, offset: i64, bytes_max: usize) -> Result<Read, ReadError> {
        self.core.read(id, offset, bytes_max)
    }

    /// The first record, by offset, with a timestamp at or after the given one.
    pub fn offset_for_time(
        &self,
        id: PartitionId,
        timestamp_ms: i64,
    ) -> Result<Option<TimeHit>, ReadError> {
        self.core.offset_for_time(id, timestamp_ms)
    }

    /// The record with the largest timestamp, the first of several.
    pub fn max_timestamp(&self, id: PartitionId) -> Result<Option<TimeHit>, ReadError> {
        self.core.max_timestamp(id)
    }

    /// Next offset at or after `at_offset` of a chunk that may hold a timestamp in
    /// `[from_ms, to_ms)`; complete whatever order timestamps come in.
    pub fn next_in_time(
        &self,
        id: PartitionId,
        from_ms: i64,
        to_ms: i64,
        at_offset: i64,
    ) -> Result<Option<i64>, ReadError> {
        self.core.next_in_time(id, from_ms, to_ms, at_offset)
    }

    /// The log start offset that whole segments allow under these limits, if it is higher than
    /// now. Moves nothing: make it durable, then `trim`.
    pub fn retention(
        &self,
        id: PartitionId,
        now_ms: i64,
        retention_ms: Option<i64>,
        retention_bytes: Option<i64>,
    ) -> Option<i64> {
        self.core.retention(id, now_ms, retention_ms, retention_bytes)
    }

    pub fn trim(&self, id: PartitionId, log_start_offset: i64) {
        self.core.trim(id, log_start_offset);
    }

    pub fn remove(&self, id: PartitionId) {
        self.core.remove(id);
    }

    /// Latest value of each key; keys whose last record has no value are not there.
    pub fn keyed(&self, id: PartitionId) -> Result<BTreeMap<Bytes, Bytes>, ReadError> {
        self.core.keyed(id)
    }

    /// Aborted transactions that overlap `[from_offset, to_offset)`, sorted by first offset. May
    /// block on the disk, unless what is asked for is recent.
    pub fn aborted(
        &self,
        id: PartitionId,
        from_offset: i64,
        to_offset: i64,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        self.core.aborted(id, from_offset, to_offset)
    }

    /// Sorted by producer id; as of the high watermark.
    pub fn producers(&self, id: PartitionId) -> Result<Vec<ProducerEntry>, ReadError> {
        self.core.producers(id)
    }

    pub fn set_settings(&self, id: PartitionId, settings: PartitionSettings) {
        if let Some(partition) = self.core.partition(id) {
            partition.shared().settings = settings;
        }
    }

    /// How compaction goes on from its next step; that it is done at all was decided at the start.
    pub fn set_compaction(&self, options: CompactionOptions) {
        *self.core.compaction.lock().expect("no holder of the options panics") = options;
        // The one that compacts may be in a long pause of before.
        let threads = self.threads.lock().expect("no holder of the threads panics");
        threads.iter().for_each(|thread| thread.thread().unpark());
    }

    /// With `Durability::Interval`: the longest loss from now on. Under `Sync` it means nothing.
    pub fn set_flush_interval(&self, interval: Duration) {
        self.core.flush_interval_ms.store(whole_ms(interval), Ordering::Relaxed);
        // The commit thread may be in a long pause of before.
        let _queue = self.core.queue();
        self.core.queue_signal.notify_all();
    }

    /// Why this incarnation ended, if it has.
    pub fn failed(&self) -> Option<String> {
        self.core.failed()
    }

    pub fn stats(&self) -> Stats {
        let core = &self.core;
        let mut stats = core.stats().clone();
        stats.unsettled_bytes = core.unsettled_bytes();
        let groups_bytes = core.group_memory.all() as u64;
        stats.tail_cache_bytes = groups_bytes.saturating_sub(stats.unsettled_bytes);
        stats.active_index_bytes = core.segments.index_bytes() as u64;
        stats.sealed_index_bytes = (core.index_cache.bytes() + core.aborted_cache.bytes()) as u64;
        stats.sled_bytes = core.view().map_or(0, |view| view.memory_bytes_max());
        if let Ok(free_bytes) = core.disk.free_bytes() {
            stats.disk_free_bytes = free_bytes;
        }
        stats
    }

    /// Commits what is queued, takes everything to the segments, syncs, and leaves a folder that
    /// the next open finds clean. Safe to call more than once.
    pub fn close(&self) {
        self.stop_threads();
        let core = &self.core;
        if core.lock.lock().expect("no holder of the lock panics").is_none() {
            return;
        }
        if core.failed().is_none() && core.recovery.lock().is_ok_and(|recovery| recovery.is_none())
        {
            self.settle_all();
        }
        core.refuse_queued(&CommitError::Closed);
        core.stop_compaction();
        core.close_view();
        core.close_files();
        core.lock.lock().expect("no holder of the lock panics").take();
    }

    fn settle_all(&self) {
        let core = &self.core;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline && core.failed().is_none() {
            let committed = core.commit_step();
            let settled = core.settle_step(now_ms());
            if committed == Step::Waiting || core.bytes_since_checkpoint() >= CHECKPOINT_BYTES {
                core.checkpoint_step();
            }
            if committed == Step::Idle && settled != Step::Worked {
                break;
            }
        }
        core.finish_interval();
        while core.settle_step(now_ms()) == Step::Worked {}
        while core.checkpoint_step() == Step::Worked {}
        while core.feed_step() == Step::Worked {}
        core.checkpoint_view();
        core.clean_step();
        if core.failed().is_some() {
            return;
        }
        let written = Progress::at(&core.progress.written);
        if Progress::at(&core.progress.checkpointed) == written {
            let mut committer = core.committer.lock().expect("no holder of the committer panics");
            let fresh = committer.journal().switch(written + 1, written);
            let unmarked = fresh.and_then(|()| store::unmark_marked(&*core.disk));
            let unmarked = unmarked.and_then(|()| remove_mark(&*core.disk));
            if let Err(error) = unmarked {
                tracing::warn!(%error, "the log could not be closed cleanly");
            }
        }
    }

    fn stop_threads(&self) {
        self.core.queue().open = false;
        self.core.stopping.store(true, Ordering::Release);
        self.core.queue_signal.notify_all();
        self.core.progress.notify();
        let mut threads = self.threads.lock().expect("no holder of the threads panics");
        for thread in threads.drain(..) {
            thread.thread().unpark();
            if thread.join().is_err() {
                self.core.fail("a thread of the log", &"panicked");
            }
        }
    }
}

impl Drop for Log {
    /// Without `close` this is a stop like any other crash of the process.
    fn drop(&mut self) {
        self.stop_threads();
        self.core.refuse_queued(&CommitError::Closed);
        self.core.close_view();
    }
}

fn run_commit(core: &Core) {
    std::thread::scope(|scope| {
        // At the end, however that comes, so that the scope's threads end, too.
        let _closing = core.flights.closing();
        commit_groups(core, scope);
    });
}

fn commit_groups<'scope>(core: &'scope Core, scope: &'scope Scope<'scope, '_>) {
    let mut others = None;
    loop {
        core.flights.wait_for_place();
        let seen = core.progress.seen();
        match commit(core, scope, &mut others) {
            Step::Worked => {}
            Step::Waiting if core.stopping.load(Ordering::Acquire) => break,
            Step::Waiting => core.progress.wait(seen, Duration::from_millis(100)),
            Step::Idle => {
                let mut queue = core.queue();
                if !queue.units.is_empty() {
                    continue;
                }
                if core.stopping.load(Ordering::Acquire) {
                    break;
                }
                queue.asleep = true;
                let pause = core.flush_interval().unwrap_or(IDLE_PAUSE);
                let waited = core.queue_signal.wait_timeout(queue, pause);
                waited.expect("no holder of the queue panics").0.asleep = false;
            }
        }
    }
}

/// Where a flush takes long, `others` wait for it, and the next group is written meanwhile. They
/// are there from the first time on; most logs never need them.
fn commit<'scope>(
    core: &'scope Core,
    scope: &'scope Scope<'scope, '_>,
    others: &mut Option<Vec<ScopedJoinHandle<'scope, ()>>>,
) -> Step {
    let flight = match core.take_off() {
        Ok(flight) => flight,
        Err(step) => return step,
    };
    if !core.progress.flush_is_slow.load(Ordering::Acquire) {
        core.land(flight);
        return Step::Worked;
    }
    let others = others.get_or_insert_with(|| {
        let named = || std::thread::Builder::new().name("log-land".to_owned());
        // A system that has no thread left has this one.
        (0..FLIGHTS_MAX)
            .map_while(|_| named().spawn_scoped(scope, || land_all(core)).ok())
            .collect()
    });
    match others.is_empty() {
        true => core.land(flight),
        false => core.flights.hand_over(flight),
    }
    Step::Worked
}

fn land_all(core: &Core) {
    while let Some(flight) = core.flights.next() {
        core.land(flight);
    }
}

fn run_settle(core: &Core) {
    let threshold = settle_threshold(core.options.unsettled_bytes_max);
    let mut last_settle = Instant::now();
    let mut last_checkpoint = Instant::now();
    while !core.stopping.load(Ordering::Acquire) {
        let seen = core.progress.seen();
        let unsettled = Progress::at(&core.progress.unsettled_bytes);
        let wanted = core.progress.checkpoint_wanted.load(Ordering::Acquire);
        let due = unsettled >= threshold || last_settle.elapsed() >= SETTLE_PAUSE || wanted;
        let mut step = Step::Idle;
        if due {
            step = core.settle_step(now_ms());
            if step != Step::Worked || Progress::at(&core.progress.unsettled_bytes) == 0 {
                last_settle = Instant::now();
            }
        }
        let behind =
            Progress::at(&core.progress.checkpointed) < Progress::at(&core.progress.settled);
        if core.bytes_since_checkpoint() >= CHECKPOINT_BYTES
            || wanted && step != Step::Worked
            || last_checkpoint.elapsed() >= CHECKPOINT_PAUSE && step != Step::Worked
        {
            core.checkpoint_step();
            last_checkpoint = Instant::now();
        }
        if step != Step::Worked {
            let small = unsettled > 0 || behind;
            let pause = if small { SETTLE_PAUSE } else { IDLE_PAUSE };
            core.progress.wait(seen, pause);
        }
    }
}

fn run_feed(core: &Core) {
    let mut last_checkpoint = Instant::now();
    while !core.stopping.load(Ordering::Acquire) {
        let seen = core.progress.seen();
        let fed = core.feed_step();
        let cleaned = core.clean_step();
        if last_checkpoint.elapsed() >= VIEW_CHECKPOINT_PAUSE {
            core.checkpoint_view();
            last_checkpoint = Instant::now();
        }
        if fed != Step::Worked && cleaned != Step::Worked {
            core.progress.wait(seen, IDLE_PAUSE);
        }
    }
}

/// Sleeps off what it has moved, so that the journal's syncs find the disk free.
fn run_compact(core: &Core) {
    while !core.stopping.load(Ordering::Acquire) {
        let moved = core.compact_step(now_ms());
        let options = core.compaction();
        let pause = match moved {
            Some(bytes) => {
                let seconds = bytes as f64 / options.bytes_per_second_max.max(1) as f64;
                Duration::from_secs_f64(seconds).min(options.pause)
            }
            None => options.pause,
        };
        if !pause.is_zero() {
            std::thread::park_timeout(pause);
        }
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn open_error(what: &str) -> impl Fn(io::Error) -> OpenError + use<> {
    let what = what.to_owned();
    move |source| match source.kind() {
        io::ErrorKind::StorageFull => OpenError::Full { what: what.clone() },
        _ => OpenError::Io { what: what.clone(), source },
    }
}

/// `Some` if the last run did not close: the boot id it ran under, as far as it is readable. A disk
/// that does not answer is an error: after a close nothing would be taken for unproven.
fn read_mark(disk: &dyn Disk) -> io::Result<Option<Option<String>>> {
    let file = match disk.open(MARK_NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let text = || {
        let bytes = file.byte_count().ok().filter(|bytes| *bytes <= MARK_BYTES_MAX)?;
        let mut buffer = vec![0; usize::try_from(bytes).ok()?];
        file.read_exact_at(&mut buffer, 0).ok()?;
        String::from_utf8(buffer).ok().filter(|text| !text.is_empty())
    };
    Ok(Some(text()))
}

fn write_mark(disk: &dyn Disk) -> io::Result<()> {
    let file = disk.create(MARK_NAME)?;
    file.set_len(0)?;
    file.write_all_at(disk.boot_id().unwrap_or_default().as_bytes(), 0)?;
    file.sync()?;
    disk.sync_folder("")
}

fn remove_mark(disk: &dyn Disk) -> io::Result<()> {
    disk.delete(MARK_NAME)?;
    disk.sync_folder("")
}
