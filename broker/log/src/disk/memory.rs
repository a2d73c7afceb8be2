//! A disk for tests, as unkind as a real one may be: at a crash every unsynced sector and every
//! unsynced name may be there or not, each for itself; what a failed sync left behind looks fine
//! until the crash and is gone after it; a file that is open cannot be deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

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
    syncs: u64,
    writes: u64,
}

#[derive(Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
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
            syncs: 0,
            writes: 0,
        };
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
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
        self.state().locked = false;
    }

    /// The n-th sync from now fails (1 = the next one); what it should have covered is lost.
    pub fn fail_sync_in(&self, count: u64) {
        self.state().fail_sync_in = Some(count);
    }

    pub fn fail_write_in(&self, count: u64) {
        self.state().fail_write_in = Some(count);
    }

    pub fn heal(&self) {
        let mut state = self.state();
        (state.fail_sync_in, state.fail_write_in) = (None, None);
    }

    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }

    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    pub fn sync_count(&self) -> u64 {
        self.state().syncs
    }

    /// The stored bytes, to look at or to damage.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        Some(state.inodes[*state.names.get(path)?].current.clone())
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
        (self.fail_sync_in, self.fail_write_in) = (None, None);
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

    fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            Self::copy_sector(&self.current, &mut self.durable, sector);
        }
        self.durable.resize(self.current.len(), 0);
    }

    fn crash(&mut self, keep: &mut dyn FnMut() -> bool) {
        let mut after = self.durable.clone();
        if self.current.len() != self.durable.len() && keep() {
            after.resize(self.current.len(), 0);
        }
        let bytes = after.len();
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
        let state = self.disk.state();
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
        state.writes += 1;
        if State::counts_down(&mut state.fail_write_in) {
            return Err(io::Error::other("injected write error"));
        }
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
        if State::counts_down(&mut state.fail_sync_in) {
            state.inodes[self.inode].dirty.clear();
            return Err(io::Error::other("injected sync error"));
        }
        state.inodes[self.inode].sync();
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
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
        let handles = &mut state.inodes[self.inode].handles;
        *handles = handles.saturating_sub(1);
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
        let inode = *state.names.get(path).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        Ok(self.handle(&mut state, inode))
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        let inode = *state.names.get(path).ok_or(io::Error::from(io::ErrorKind::NotFound))?;
        if state.inodes[inode].handles > 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open"));
        }
        state.names.remove(path);
        Ok(())
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        self.state().folders.insert(path.to_owned());
        Ok(())
    }

    fn delete_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        if state.names.keys().any(|name| folder_of(name) == path) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.folders.remove(path);
        Ok(())
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        let mut state = self.state();
        state.syncs += 1;
        if State::counts_down(&mut state.fail_sync_in) {
            return Err(io::Error::other("injected sync error"));
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
        let state = self.state();
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
