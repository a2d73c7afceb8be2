//! A disk for tests, as unkind as a real one may be: at a crash every unsynced sector and every
//! unsynced name may be there or not, each for itself; what a failed sync left behind looks fine
//! until the crash and is gone after it; a file that is open cannot be deleted.
//!
//! Its *operations* are what changes something on a disk: writes, syncs, changes of a length, names
//! that are made or taken away. A test counts them, and lets everything fail from any one of them
//! on: that is where the power goes in the middle of what the log does.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Disk, DiskEntry, DiskFile};

const SECTOR_BYTES: usize = 512;

/// What a crash does with what no sync covered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrashMode {
    KeepAll,
    LoseAll,
    /// Each sector and name by the toss of a coin.
    Tear,
}

#[derive(Clone)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    syncs_released: Arc<Condvar>,
}

struct State {
    random: StdRng,
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    folders: BTreeSet<String>,
    durable_folders: BTreeSet<String>,
    locked: bool,
    boots: u64,
    capacity_bytes: u64,
    fail_write_in: Option<u64>,
    fail_sync_in: Option<u64>,
    fail_read_in: Option<u64>,
    fail_all_in: Option<u64>,
    /// Everything fails, until the crash.
    dead: bool,
    /// Syncs of this file do not come to their end.
    held_sync: Option<usize>,
    waiting_syncs: usize,
    syncs_do_nothing: bool,
    syncs_take: Duration,
    /// The most syncs that were under way at a time.
    syncs_at_once_max: usize,
    syncs: u64,
    /// Handles, of all files together.
    open: usize,
    open_max: usize,
    operations: u64,
    written_bytes: u64,
    /// Of all operations so far, what they were and in which order.
    trace: u64,
}

#[derive(Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
    /// Dirty, too, until a sync that is under way has come to its end.
    syncing: BTreeSet<usize>,
    handles: usize,
}

struct MemoryFile {
    disk: MemoryDisk,
    inode: usize,
}

struct LockGuard(MemoryDisk);

impl MemoryDisk {
    pub fn new(seed: u64) -> Self {
        let state = State {
            random: StdRng::seed_from_u64(seed),
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            folders: BTreeSet::new(),
            durable_folders: BTreeSet::new(),
            locked: false,
            boots: 1,
            capacity_bytes: u64::MAX,
            fail_write_in: None,
            fail_sync_in: None,
            fail_read_in: None,
            fail_all_in: None,
            dead: false,
            held_sync: None,
            waiting_syncs: 0,
            syncs_do_nothing: false,
            syncs_take: Duration::ZERO,
            syncs_at_once_max: 0,
            syncs: 0,
            open: 0,
            open_max: 0,
            operations: 0,
            written_bytes: 0,
            trace: 0,
        };
        MemoryDisk { state: Arc::new(Mutex::new(state)), syncs_released: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the test disk panics")
    }

    /// The power goes. Everything that was open must be dropped before or is dead after.
    pub fn crash(&self, mode: CrashMode) {
        self.state().crash(mode);
    }

    /// Only the process dies: the page cache stays.
    pub fn kill(&self) {
        let mut state = self.state();
        state.locked = false;
        state.works_again();
    }

    /// The n-th sync from now fails (1 = the next one); what it should have covered is lost.
    pub fn fail_sync_in(&self, count: u64) {
        self.state().fail_sync_in = Some(count);
    }

    pub fn fail_write_in(&self, count: u64) {
        self.state().fail_write_in = Some(count);
    }

    /// The n-th read of a file from now fails, and only that one.
    pub fn fail_read_in(&self, count: u64) {
        self.state().fail_read_in = Some(count);
    }

    /// From the n-th operation from now on everything fails, until the crash.
    pub fn fail_all_in(&self, count: u64) {
        self.state().fail_all_in = Some(count);
    }

    /// Whether that operation has come.
    pub fn is_dead(&self) -> bool {
        self.state().dead
    }

    /// Whether a fault that was asked for had not come yet.
    pub fn heal(&self) -> bool {
        let mut state = self.state();
        let waiting = [state.fail_sync_in, state.fail_write_in, state.fail_read_in];
        let waiting = waiting.into_iter().chain([state.fail_all_in]).any(|fault| fault.is_some());
        state.works_again();
        waiting
    }

    /// Syncs of this file, one that is there, take until they are let go.
    pub fn hold_syncs_of(&self, path: &str) {
        let mut state = self.state();
        state.held_sync = state.names.get(path).copied();
    }

    pub fn let_syncs_go(&self) {
        self.state().held_sync = None;
        self.syncs_released.notify_all();
    }

    /// From now on, each beside others.
    pub fn let_syncs_take(&self, time: Duration) {
        self.state().syncs_take = time;
    }

    pub fn syncs_at_once_max(&self) -> usize {
        self.state().syncs_at_once_max
    }

    pub fn waiting_sync_count(&self) -> usize {
        self.state().waiting_syncs
    }

    /// A disk that lies, for tests of tests: a sync says that it worked, and covers nothing.
    pub fn let_syncs_do_nothing(&self) {
        self.state().syncs_do_nothing = true;
    }

    pub fn written_bytes(&self) -> u64 {
        self.state().written_bytes
    }

    pub fn operation_count(&self) -> u64 {
        self.state().operations
    }

    /// Two runs that did the same in the same order have the same.
    pub fn trace(&self) -> u64 {
        self.state().trace
    }

    /// All files, by name.
    pub fn file_names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// The most files that were open at a time since this was asked last.
    pub fn open_count_max(&self) -> usize {
        let mut state = self.state();
        let open = state.open;
        std::mem::replace(&mut state.open_max, open)
    }

    pub fn sync_count(&self) -> u64 {
        self.state().syncs
    }

    /// The stored bytes, to look at or to damage.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.inodes[*state.names.get(path)?].current.clone())
    }

    /// Bit rot: one bit on the disk itself, counted from the first of the file.
    pub fn flip_bit(&self, path: &str, bit: usize) {
        let mut state = self.state();
        let Some(inode) = state.names.get(path).copied() else { return };
        let Inode { current, durable, .. } = &mut state.inodes[inode];
        for bytes in [current, durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }

    /// Bit rot: changes bytes on the disk itself.
    pub fn damage(&self, path: &str, position: usize, bytes: usize) {
        let mut state = self.state();
        let Some(inode) = state.names.get(path).copied() else { return };
        let inode = &mut state.inodes[inode];
        for at in position..(position + bytes).min(inode.current.len()) {
            inode.current[at] ^= 0xa5;
            if let Some(byte) = inode.durable.get_mut(at) {
                *byte ^= 0xa5;
            }
        }
    }
}

impl State {
    fn used_bytes(&self) -> u64 {
        let live: BTreeSet<usize> = self.names.values().copied().collect();
        live.iter().map(|inode| self.inodes[*inode].current.len() as u64).sum()
    }

    fn crash(&mut self, mode: CrashMode) {
        let mut keep = {
            let random = &mut self.random;
            move || match mode {
                CrashMode::KeepAll => true,
                CrashMode::LoseAll => false,
                CrashMode::Tear => random.random_bool(0.5),
            }
        };
        for inode in &mut self.inodes {
            inode.crash(&mut keep);
        }
        (self.open, self.open_max) = (0, 0);
        let all: BTreeSet<String> = self.folders.union(&self.durable_folders).cloned().collect();
        for folder in all {
            let changed = self.folders.contains(&folder) != self.durable_folders.contains(&folder);
            if changed && !keep() {
                let durable = self.durable_folders.contains(&folder);
                if durable {
                    self.folders.insert(folder);
                } else {
                    self.folders.remove(&folder);
                }
            }
        }
        let all: BTreeSet<String> =
            self.names.keys().chain(self.durable_names.keys()).cloned().collect();
        for name in all {
            let durable = self.durable_names.get(&name).copied();
            if self.names.get(&name).copied() != durable && !keep() {
                match durable {
                    Some(inode) => drop(self.names.insert(name, inode)),
                    None => drop(self.names.remove(&name)),
                }
            }
        }
        let folders = &self.folders;
        self.names
            .retain(|name, _| folder_of(name).is_empty() || folders.contains(folder_of(name)));
        self.durable_names = self.names.clone();
        self.durable_folders = self.folders.clone();
        self.locked = false;
        self.boots += 1;
        self.works_again();
    }

    fn works_again(&mut self) {
        (self.fail_sync_in, self.fail_write_in, self.fail_read_in) = (None, None, None);
        (self.fail_all_in, self.dead) = (None, false);
    }

    /// To be called by every operation first.
    fn operation(&mut self, what: &str, name: &str, content: &[u8]) -> io::Result<()> {
        self.operations += 1;
        self.dead |= Self::counts_down(&mut self.fail_all_in);
        if self.dead {
            return Err(io::Error::other("the disk is gone"));
        }
        let mut hasher = DefaultHasher::new();
        (self.trace, what, name, content).hash(&mut hasher);
        self.trace = hasher.finish();
        Ok(())
    }

    fn reading(&mut self) -> io::Result<()> {
        if self.dead || Self::counts_down(&mut self.fail_read_in) {
            return Err(io::Error::other("injected read error"));
        }
        Ok(())
    }

    fn name_of(&self, inode: usize) -> String {
        let found = self.names.iter().find(|(_, other)| **other == inode);
        found.map(|(name, _)| name.clone()).unwrap_or_default()
    }

    fn counts_down(counter: &mut Option<u64>) -> bool {
        match counter {
            Some(1) => {
                *counter = None;
                true
            }
            Some(count) => {
                *count -= 1;
                false
            }
            None => false,
        }
    }
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Inode {
    fn mark(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES));
    }

    fn write(&mut self, bytes: &[u8], position: usize) {
        let end = position + bytes.len();
        if self.current.len() < end {
            self.current.resize(end, 0);
        }
        self.current[position..end].copy_from_slice(bytes);
        self.mark(position, end);
    }

    fn copy_sector(current: &[u8], durable: &mut Vec<u8>, sector: usize) {
        let start = sector * SECTOR_BYTES;
        let end = (start + SECTOR_BYTES).min(current.len());
        if start >= end {
            return;
        }
        if durable.len() < end {
            durable.resize(end, 0);
        }
        durable[start..end].copy_from_slice(&current[start..end]);
    }

    /// What is written from here on is the next sync's. Returns how long the file is.
    fn begin_sync(&mut self) -> usize {
        self.syncing.append(&mut self.dirty);
        self.current.len()
    }

    fn end_sync(&mut self, bytes: usize) {
        for sector in std::mem::take(&mut self.syncing) {
            Self::copy_sector(&self.current, &mut self.durable, sector);
        }
        let bytes = self.durable.len().max(bytes).min(self.current.len());
        self.durable.resize(bytes, 0);
    }

    fn crash(&mut self, keep: &mut dyn FnMut() -> bool) {
        let mut after = self.durable.clone();
        if self.current.len() != self.durable.len() && keep() {
            after.resize(self.current.len(), 0);
        }
        let bytes = after.len();
        self.dirty.append(&mut self.syncing);
        for sector in std::mem::take(&mut self.dirty) {
            if keep() {
                Self::copy_sector(&self.current, &mut after, sector);
            }
        }
        after.truncate(bytes);
        self.current = after.clone();
        self.durable = after;
        self.handles = 0;
    }
}

impl DiskFile for MemoryFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.reading()?;
        let current = &state.inodes[self.inode].current;
        let start = usize::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        let bytes = current
            .get(start..start + buffer.len())
            .ok_or(io::Error::from(io::ErrorKind::UnexpectedEof))?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let name = state.name_of(self.inode);
        state.operation("write", &name, &[&position.to_le_bytes()[..], bytes].concat())?;
        if State::counts_down(&mut state.fail_write_in) {
            return Err(io::Error::other("injected write error"));
        }
        state.written_bytes += bytes.len() as u64;
        let start = usize::try_from(position).map_err(|_| io::ErrorKind::InvalidInput)?;
        let grows = (start + bytes.len()).saturating_sub(state.inodes[self.inode].current.len());
        let free = state.capacity_bytes.saturating_sub(state.used_bytes());
        if grows as u64 > free {
            // What still fits is written, as a real disk does it.
            let fits = bytes.len() - grows + usize::try_from(free).unwrap_or(0);
            state.inodes[self.inode].write(&bytes[..fits], start);
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.inodes[self.inode].write(bytes, start);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.syncs += 1;
        let name = state.name_of(self.inode);
        state.operation("sync", &name, &[])?;
        if State::counts_down(&mut state.fail_sync_in) {
            state.inodes[self.inode].dirty.clear();
            return Err(io::Error::other("injected sync error"));
        }
        let bytes = state.inodes[self.inode].begin_sync();
        state.waiting_syncs += 1;
        state.syncs_at_once_max = state.syncs_at_once_max.max(state.waiting_syncs);
        if !state.syncs_take.is_zero() {
            let time = state.syncs_take;
            drop(state);
            std::thread::sleep(time);
            state = self.disk.state();
        }
        while state.held_sync == Some(self.inode) {
            let released = self.disk.syncs_released.wait(state);
            state = released.expect("no holder of the test disk panics");
        }
        state.waiting_syncs -= 1;
        if state.dead {
            return Err(io::Error::other("the disk is gone"));
        }
        if state.syncs_do_nothing {
            return Ok(());
        }
        state.inodes[self.inode].end_sync(bytes);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let name = state.name_of(self.inode);
        state.operation("length", &name, &bytes.to_le_bytes())?;
        let inode = &mut state.inodes[self.inode];
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (low, high) = (inode.current.len().min(bytes), inode.current.len().max(bytes));
        inode.current.resize(bytes, 0);
        inode.mark(low, high);
        Ok(())
    }

    fn byte_count(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].current.len() as u64)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        if self.byte_count()? < bytes { self.set_len(bytes) } else { Ok(()) }
    }

    fn drop_cache(&self) {}
}

impl Drop for MemoryFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        let handles = state.inodes[self.inode].handles;
        // After a crash there was none any more.
        if handles > 0 {
            state.inodes[self.inode].handles = handles - 1;
            state.open -= 1;
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

impl MemoryDisk {
    fn handle(&self, state: &mut State, inode: usize) -> Arc<dyn DiskFile> {
        state.inodes[inode].handles += 1;
        state.open += 1;
        state.open_max = state.open_max.max(state.open);
        Arc::new(MemoryFile { disk: self.clone(), inode })
    }
}

impl Disk for MemoryDisk {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut state = self.state();
        if state.locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locked = true;
        Ok(Box::new(LockGuard(self.clone())))
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let folder = folder_of(path);
        if !folder.is_empty() && !state.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inode = match state.names.get(path) {
            Some(inode) => *inode,
            None => {
                state.operation("create", path, &[])?;
                state.inodes.push(Inode::default());
                let inode = state.inodes.len() - 1;
                state.names.insert(path.to_owned(), inode);
                inode
            }
        };
        Ok(self.handle(&mut state, inode))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        state.reading()?;
        let inode = *state.names.get(path).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        Ok(self.handle(&mut state, inode))
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let inode = *state.names.get(path).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        if state.inodes[inode].handles > 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open"));
        }
        state.operation("delete", path, &[])?;
        state.names.remove(path);
        Ok(())
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operation("make folder", path, &[])?;
        state.folders.insert(path.to_owned());
        Ok(())
    }

    fn delete_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.names.keys().any(|name| folder_of(name) == path) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.operation("delete folder", path, &[])?;
        state.folders.remove(path);
        Ok(())
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.syncs += 1;
        state.operation("sync folder", path, &[])?;
        if State::counts_down(&mut state.fail_sync_in) {
            return Err(io::Error::other("injected sync error"));
        }
        if state.syncs_do_nothing {
            return Ok(());
        }
        let here = |name: &String| folder_of(name) == path;
        let now: Vec<_> = state.names.iter().filter(|(name, _)| here(name)).collect();
        let now: Vec<_> = now.into_iter().map(|(name, inode)| (name.clone(), *inode)).collect();
        state.durable_names.retain(|name, _| !here(name));
        state.durable_names.extend(now);
        if path.is_empty() {
            state.durable_folders = state.folders.clone();
        }
        Ok(())
    }

    fn list(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        let mut state = self.state();
        state.reading()?;
        if !path.is_empty() && !state.folders.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = state.names.iter().filter(|(name, _)| folder_of(name) == path);
        let files = files.map(|(name, inode)| DiskEntry {
            name: name.rsplit('/').next().unwrap_or(name).to_owned(),
            is_folder: false,
            bytes: state.inodes[*inode].current.len() as u64,
        });
        let mut entries: Vec<_> = files.collect();
        if path.is_empty() {
            let folders = state.folders.iter();
            entries.extend(folders.map(|name| DiskEntry {
                name: name.clone(),
                is_folder: true,
                bytes: 0,
            }));
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn modified_ms(&self, _: &str) -> io::Result<i64> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this disk has no clock"))
    }

    fn now_ms(&self) -> Option<i64> {
        None
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity_bytes.saturating_sub(state.used_bytes()))
    }

    fn boot_id(&self) -> Option<String> {
        Some(format!("boot {}", self.state().boots))
    }

    fn random(&self) -> u64 {
        self.state().random.random()
    }
}
