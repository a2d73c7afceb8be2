//! The view: an ordered map of small values that can always be rebuilt from the segments. sled in
//! the product, a `BTreeMap` in tests. It holds nothing that exists only there. The same database
//! has a second map, which `store` may keep the segments themselves in.
//!
//! ```text
//! key                                     value
//! 'f'                                     journal position: u64
//! 'g' partition, base offset              summary of a segment
//! 'i' partition, base offset, number u32  up to 128 index entries, delta-coded
//! 's' partition                           end offset i64, producers, aborted transactions of the
//!                                         active segment
//! 'k' partition, record key               offset i64, value
//! 'e' partition                           end offset i64 of what 'k' covers
//! ```
//!
//! `partition` is topic id and number, 20 bytes, so that all of a partition lies together.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use crate::disk::sync_folder;
use crate::types::PartitionId;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ViewError(pub String);

/// A key and its new value, `None` to take it away.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Larger batches make sled's memory grow without bound (storage.md: 2,000 keys, 5.3 GiB).
pub const BATCH_KEYS_MAX: usize = 100;
const UNFINISHED_SNAPSHOT: &str = "generating";
/// How long sled's threads may keep a database that was let go, and how often that is looked at.
const LOCKED_TIME_MAX: Duration = Duration::from_secs(5);
const LOCKED_PAUSE: Duration = Duration::from_millis(10);
/// The view is sled's default tree, as it was before there were others.
const RECORDS_TREE: &str = "records";
/// What sled takes in all, as a multiple of what it is told to keep cached.
const MEMORY_OF_CACHE: u64 = 4;

/// An ordered map. `store` keeps its files in another one of the same making.
pub trait View: Send + Sync {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;
    /// Keys with the prefix from `first` on, ascending, until the visitor returns false.
    fn scan_from(
        &self,
        prefix: &[u8],
        first: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewError>;
    /// All keys with the prefix.
    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewError> {
        self.scan_from(prefix, prefix, visit)
    }
    /// All of the batch or nothing; at most `BATCH_KEYS_MAX` changes.
    fn apply(&self, batch: Vec<Change>) -> Result<(), ViewError>;
    fn flush(&self) -> Result<(), ViewError>;
    /// Makes what was flushed survive a power cut.
    fn sync(&self) -> Result<(), ViewError>;
    /// What it may take of memory by now.
    fn memory_bytes_max(&self) -> u64 {
        0
    }
}

/// Where views come from.
pub trait Views: Send + Sync {
    fn open(&self) -> Result<Arc<dyn View>, ViewError>;
    /// Puts the stored view out of the way; the next `open` begins with an empty one. Every
    /// `View` must be dropped before.
    fn set_aside(&self) -> Result<(), ViewError>;
    /// The map of the second store, in the same database. It is no view: nothing sets it aside.
    fn records(&self) -> Result<Arc<dyn View>, ViewError>;
    /// From here on that map fails, and its files are free: the log is closed.
    fn close_records(&self);
}

pub(crate) fn partition_key(tag: u8, id: PartitionId) -> Vec<u8> {
    let mut key = Vec::with_capacity(64);
    key.push(tag);
    key.extend_from_slice(id.topic_id.as_bytes());
    key.extend_from_slice(&id.partition.to_be_bytes());
    key
}

pub(crate) fn segment_key(id: PartitionId, base_offset: i64) -> Vec<u8> {
    let mut key = partition_key(b'g', id);
    key.extend_from_slice(&base_offset.to_be_bytes());
    key
}

pub(crate) fn index_key(id: PartitionId, base_offset: i64, number: Option<u32>) -> Vec<u8> {
    let mut key = partition_key(b'i', id);
    key.extend_from_slice(&base_offset.to_be_bytes());
    if let Some(number) = number {
        key.extend_from_slice(&number.to_be_bytes());
    }
    key
}

/// Removes a batch of keys with the prefix; true if there were any.
pub(crate) fn remove_some(view: &dyn View, prefix: &[u8]) -> Result<bool, ViewError> {
    let mut keys = Vec::new();
    view.scan(prefix, &mut |key, _| {
        keys.push((key.to_vec(), None));
        keys.len() < BATCH_KEYS_MAX
    })?;
    let any = !keys.is_empty();
    if any {
        view.apply(keys)?;
    }
    Ok(any)
}

/// sled, used only in the shapes that storage.md measured, and each batch is flushed before the
/// next one begins. Without that its threads may wait for each other for ever (0.34.7):
///
/// 1. All writing is done by a pool that stays at seven threads: a thread at work counts twice, so
///    that with four at work their number seems endless and none is added.
/// 2. Each write ends with the allocator's lock.
/// 3. Who begins a segment of 512 KiB holds that lock; if it lies at the end of the file he waits,
///    with the lock, for every shortening of the file that was begun. The pool does those, too.
///
/// With seven writes in front of a shortening nobody moves any more. A shortening leaves a free
/// segment, so two segments are begun between it and the wait. A flush between those two waits for
/// a write that was queued behind the shortening, which has then left the queue, as that is a plain
/// one: then nobody can wait for ever. What is left are batches that begin two segments by
/// themselves, and seven such writes would have to be on their way, while a batch makes two and one
/// for each segment. So batches are kept small.
pub struct SledViews {
    path: PathBuf,
    memory_bytes_max: u64,
    /// While records are in it, the database stays open whatever becomes of the view.
    records: Arc<RwLock<Option<Opened>>>,
    synced: Arc<Synced>,
}

#[derive(Default)]
struct Synced {
    /// The system names a failed sync to one caller only: nobody may believe a later one.
    failed: AtomicBool,
    /// Files of values that do not fit into sled's own, and how long they were; none is changed.
    blobs: Mutex<HashMap<OsString, u64>>,
    /// Held from the beginning of a batch until it is flushed.
    applying: Mutex<()>,
}

impl SledViews {
    pub fn new(path: PathBuf, memory_bytes_max: usize) -> Self {
        let memory_bytes_max = memory_bytes_max as u64;
        SledViews { path, memory_bytes_max, records: Arc::default(), synced: Arc::default() }
    }

    /// Nobody else has the folder, but sled's threads may still have its file for a moment after
    /// the last handle of this process was dropped.
    fn open_database(&self) -> Result<sled::Db, ViewError> {
        let config = sled::Config::new()
            .path(&self.path)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None)
            .segment_size(512 << 10)
            .cache_capacity(self.memory_bytes_max / MEMORY_OF_CACHE);
        let deadline = Instant::now() + LOCKED_TIME_MAX;
        loop {
            match config.open() {
                Err(sled::Error::Io(error))
                    if error.to_string().contains("could not acquire lock")
                        && Instant::now() < deadline =>
                {
                    std::thread::sleep(LOCKED_PAUSE);
                }
                Err(sled::Error::Corruption { .. }) if self.removed_unfinished_snapshots() => {}
                opened => return opened.map_err(sled_error),
            }
        }
    }

    /// sled writes snapshots of its page table to a file of another name first, and what a kill
    /// leaves of that it takes for the newest one, and for damage (0.34.7). It needs none: without
    /// a snapshot it reads more of its log.
    fn removed_unfinished_snapshots(&self) -> bool {
        let entries = std::fs::read_dir(&self.path).into_iter().flatten().flatten();
        let unfinished = entries.map(|entry| entry.path()).filter(|path| {
            path.extension().is_some_and(|extension| extension == UNFINISHED_SNAPSHOT)
        });
        unfinished.filter(|path| std::fs::remove_file(path).is_ok()).count() > 0
    }

    /// sled writes its settings once and never syncs them, and opens nothing without them. A view
    /// needs no such care: after a power cut it is set aside.
    fn sync_settings(&self) -> io::Result<()> {
        OpenOptions::new().write(true).open(self.path.join("conf"))?.sync_all()?;
        sync_folder(&self.path)
    }

    fn records_database(&self) -> Option<sled::Db> {
        let records = self.records.read().expect("no holder of the database panics");
        records.as_ref().map(|opened| opened.db.clone())
    }

    fn view(&self, opened: Arc<RwLock<Option<Opened>>>) -> Arc<dyn View> {
        Arc::new(SledView {
            opened,
            path: self.path.clone(),
            memory_bytes_max: self.memory_bytes_max,
            synced: self.synced.clone(),
        })
    }
}

#[derive(Clone)]
struct Opened {
    tree: sled::Tree,
    db: sled::Db,
}

struct SledView {
    /// `None` once it was closed.
    opened: Arc<RwLock<Option<Opened>>>,
    path: PathBuf,
    memory_bytes_max: u64,
    synced: Arc<Synced>,
}

impl SledView {
    fn opened(&self) -> Result<Opened, ViewError> {
        let opened = self.opened.read().expect("no holder of the database panics");
        opened.clone().ok_or_else(|| ViewError("the database is closed".to_owned()))
    }

    /// sled never syncs these. One that is still being written is found longer the next time.
    fn sync_blobs(&self) -> io::Result<()> {
        let folder = self.path.join("blobs");
        let mut known = self.synced.blobs.lock().expect("no holder of the blobs panics");
        let mut there = HashMap::new();
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            let file = match OpenOptions::new().write(true).open(entry.path()) {
                // One that went meanwhile is needed no more.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let (name, bytes) = (entry.file_name(), file.metadata()?.len());
            if known.get(&name) != Some(&bytes) {
                file.sync_all()?;
            }
            there.insert(name, bytes);
        }
        *known = there;
        sync_folder(&folder)
    }
}

fn sled_error(error: sled::Error) -> ViewError {
    ViewError(format!("sled: {error}"))
}

impl Views for SledViews {
    fn open(&self) -> Result<Arc<dyn View>, ViewError> {
        let db = self.records_database().map_or_else(|| self.open_database(), Ok)?;
        let tree = (*db).clone();
        Ok(self.view(Arc::new(RwLock::new(Some(Opened { tree, db })))))
    }

    fn set_aside(&self) -> Result<(), ViewError> {
        if self.records_database().is_some() {
            // Not by `clear`, which never flushes.
            let view = self.open()?;
            while remove_some(&*view, &[])? {}
            return Ok(());
        }
        let error = |error: io::Error| ViewError(format!("setting the view aside: {error}"));
        if !self.path.exists() {
            return Ok(());
        }
        // The one before it is of no more use; this one is kept for whoever asks why.
        let aside = self.path.with_extension("aside");
        if aside.exists() {
            std::fs::remove_dir_all(&aside).map_err(error)?;
        }
        if std::fs::rename(&self.path, &aside).is_err() {
            std::fs::remove_dir_all(&self.path).map_err(error)?;
        }
        Ok(())
    }

    fn records(&self) -> Result<Arc<dyn View>, ViewError> {
        let db = self.records_database().map_or_else(|| self.open_database(), Ok)?;
        let tree = db.open_tree(RECORDS_TREE).map_err(sled_error)?;
        self.sync_settings().map_err(|error| ViewError(format!("syncing sled: {error}")))?;
        let mut records = self.records.write().expect("no holder of the database panics");
        *records = Some(Opened { tree, db });
        drop(records);
        Ok(self.view(self.records.clone()))
    }

    fn close_records(&self) {
        self.records.write().expect("no holder of the database panics").take();
    }
}

impl View for SledView {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.opened()?.tree.get(key).map_err(sled_error)?.map(|value| value.to_vec()))
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        first: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewError> {
        for entry in self.opened()?.tree.range(first..) {
            let (key, value) = entry.map_err(sled_error)?;
            if !key.starts_with(prefix) || !visit(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: Vec<Change>) -> Result<(), ViewError> {
        assert!(batch.len() <= BATCH_KEYS_MAX, "invariant 8: {} keys in a batch", batch.len());
        let mut changes = sled::Batch::default();
        for (key, value) in batch {
            match value {
                Some(value) => changes.insert(key, value),
                None => changes.remove(key),
            }
        }
        let opened = self.opened()?;
        let _alone = self.synced.applying.lock().unwrap_or_else(PoisonError::into_inner);
        opened.tree.apply_batch(changes).map_err(sled_error)?;
        opened.db.flush().map(drop).map_err(sled_error)
    }

    fn flush(&self) -> Result<(), ViewError> {
        self.opened()?.db.flush().map(drop).map_err(sled_error)
    }

    fn sync(&self) -> Result<(), ViewError> {
        // sled's own flush is sync_file_range on Linux, which no power cut respects.
        let sync = || -> io::Result<()> {
            self.sync_blobs()?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).open(self.path.join("db"))?.sync_all()?;
            sync_folder(&self.path)
        };
        if self.synced.failed.load(Ordering::Acquire) {
            return Err(ViewError("an earlier sync of sled failed".to_owned()));
        }
        sync().map_err(|error| {
            self.synced.failed.store(true, Ordering::Release);
            ViewError(format!("syncing sled: {error}"))
        })
    }

    /// sled tells no figure: all that it has stored, as far as that fits.
    fn memory_bytes_max(&self) -> u64 {
        let stored = self.opened().ok().and_then(|opened| opened.db.size_on_disk().ok());
        stored.unwrap_or(0).min(self.memory_bytes_max)
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A stand-in with the same promises: what is flushed survives a killed process, what is synced
/// survives a power cut, and of the rest a prefix of the batches may be there, or nothing.
#[derive(Clone, Default)]
pub struct MemoryViews {
    view: MemoryMap,
    records: MemoryMap,
}

#[derive(Clone, Default)]
struct MemoryMap {
    state: Arc<Mutex<MemoryState>>,
}

#[derive(Default)]
struct MemoryState {
    current: Map,
    synced: Map,
    /// Behind `synced`; so many of them are flushed.
    batches: Vec<Vec<Change>>,
    flushed: usize,
    /// Every call fails.
    broken: bool,
}

impl MemoryState {
    /// Keeps so many of the unsynced batches.
    fn cut(&mut self, kept: usize) {
        let mut map = self.synced.clone();
        self.batches.truncate(kept);
        self.batches.iter().for_each(|batch| change(&mut map, batch));
        self.flushed = self.flushed.min(kept);
        self.current = map;
        self.broken = false;
    }
}

fn change(map: &mut Map, batch: &[Change]) {
    for (key, value) in batch {
        match value {
            Some(value) => map.insert(key.clone(), value.clone()),
            None => map.remove(key),
        };
    }
}

impl MemoryViews {
    /// The process dies: what was not flushed is gone.
    pub fn kill(&self) {
        self.kill_keeping(0);
    }

    /// The process dies, and of what was not flushed of the view only the first so many batches had
    /// reached the file by then.
    pub fn kill_keeping(&self, batches: usize) {
        {
            let mut state = self.view.state();
            let kept = (state.flushed + batches).min(state.batches.len());
            state.cut(kept);
            state.flushed = kept;
        }
        self.records.kill();
    }

    pub fn unflushed_count(&self) -> usize {
        let state = self.view.state();
        state.batches.len() - state.flushed
    }

    /// The power goes. Of the unsynced batches of the records this share, the oldest, survives.
    /// The view is as after a kill: whoever opens it will not believe it.
    pub fn power_cut(&self, kept: f64) {
        let unsynced = self.records.state().batches.len();
        self.records.state().cut((unsynced as f64 * kept) as usize);
        self.view.kill();
    }

    /// Of the view alone.
    pub fn set_broken(&self, broken: bool) {
        self.view.state().broken = broken;
    }

    pub fn set_records_broken(&self, broken: bool) {
        self.records.state().broken = broken;
    }

    /// Overwrites every stored value of the view with something that is none.
    pub fn corrupt(&self) {
        let mut state = self.view.state();
        let mut map = state.current.clone();
        for value in map.values_mut() {
            value.iter_mut().for_each(|byte| *byte ^= 0x5a);
            value.push(0);
        }
        let broken = state.broken;
        *state = MemoryState { current: map.clone(), synced: map, broken, ..Default::default() };
    }

    pub fn records_byte_count(&self) -> u64 {
        let state = self.records.state();
        state.current.iter().map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    pub fn key_count(&self) -> usize {
        self.view.state().current.len()
    }
}

impl MemoryMap {
    fn state(&self) -> MutexGuard<'_, MemoryState> {
        self.state.lock().expect("no holder of the stand-in panics")
    }

    fn kill(&self) {
        let mut state = self.state();
        let flushed = state.flushed;
        state.cut(flushed);
    }

    fn usable(&self) -> Result<MutexGuard<'_, MemoryState>, ViewError> {
        let state = self.state();
        if state.broken { Err(ViewError("told to fail".to_owned())) } else { Ok(state) }
    }
}

impl Views for MemoryViews {
    fn open(&self) -> Result<Arc<dyn View>, ViewError> {
        drop(self.view.usable()?);
        Ok(Arc::new(self.view.clone()))
    }

    fn set_aside(&self) -> Result<(), ViewError> {
        *self.view.state() = MemoryState::default();
        Ok(())
    }

    fn records(&self) -> Result<Arc<dyn View>, ViewError> {
        drop(self.records.usable()?);
        Ok(Arc::new(self.records.clone()))
    }

    fn close_records(&self) {}
}

impl View for MemoryMap {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.usable()?.current.get(key).cloned())
    }

    fn scan_from(
        &self,
        prefix: &[u8],
        first: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewError> {
        let state = self.usable()?;
        let range = state.current.range(first.to_vec()..);
        for (key, value) in range.take_while(|(key, _)| key.starts_with(prefix)) {
            if !visit(key, value) {
                break;
            }
        }
        Ok(())
    }

    fn apply(&self, batch: Vec<Change>) -> Result<(), ViewError> {
        assert!(batch.len() <= BATCH_KEYS_MAX, "invariant 8: {} keys in a batch", batch.len());
        let mut state = self.usable()?;
        change(&mut state.current, &batch);
        state.batches.push(batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), ViewError> {
        let mut state = self.usable()?;
        state.flushed = state.batches.len();
        Ok(())
    }

    fn sync(&self) -> Result<(), ViewError> {
        let mut state = self.usable()?;
        let MemoryState { synced, batches, flushed, .. } = &mut *state;
        batches.drain(..*flushed).for_each(|batch| change(synced, &batch));
        *flushed = 0;
        Ok(())
    }
}
