//! Files in an ordered map: a name, a length, and chunks of at most 7 KiB under the position at
//! which they end. A look-up by position is one step to the first key behind it.
//!
//! ```text
//! key                          value
//! 'n'                          next file id: u64
//! 's'                          number of the database, as in the folder's mark
//! 'd' folder                   nothing
//! 'm' folder '/' name          id u64, length u64, time of the last write i64 (little-endian)
//! 'c' id, end position         bytes that end there (both big-endian)
//! 'x' id                       nothing: the name is gone, its chunks are on their way
//! ```
//!
//! 1. Each batch of changes leaves every file whole up to its length. So after a crash, which
//!    leaves a prefix of the batches, a file is as it once was, as far as it had been written.
//! 2. A name goes with one batch; ids are never used again, so no file sees another one's chunks.
//! 3. Chunks of one file may overlap for a reader that meets a change half-way; where they do, they
//!    hold the same bytes.
//! 4. Nothing is durable before `sync`; after a failed one nothing ever is.
//!
//! A short last chunk is written again with what is appended to it, so that a trickle of small
//! appends does not leave a key each.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::disk::{Disk, DiskEntry, DiskFile};
use crate::view::{Change, View, ViewError};

/// A leaf of sled's tree has up to 17 values, and one above 128 KiB goes to a file of its own,
/// which sled never syncs and which a crash may leave behind for good.
const CHUNK_BYTES: usize = if cfg!(test) { 1 << 10 } else { 7 << 10 };
/// A last chunk under this is taken up again by the next append: a key costs 350 bytes on disk.
const SHORT_CHUNK_BYTES: usize = if cfg!(test) { 256 } else { 2 << 10 };
/// Of one batch, beside the keys. `SledViews` says why they are small: sled writes up to 19 bytes
/// for one, and up to 240 KiB for ten keys that go.
const BATCH_BYTES_MAX: usize = if cfg!(test) { 4 << 10 } else { 64 << 10 };
const CHANGES_MAX: usize = 32;

const NEXT_ID: &[u8] = b"n";
const NUMBER: &[u8] = b"s";
/// The time of a file on a disk without a clock.
const NO_TIME: i64 = i64::MIN;

pub(super) struct Files {
    map: Arc<dyn View>,
    clock: Arc<dyn Disk>,
    names: Mutex<Names>,
    /// Batches applied since the start.
    changes: AtomicU64,
    synced: Mutex<Synced>,
}

struct Names {
    next_id: u64,
    open: HashMap<String, Weak<StoredFile>>,
}

#[derive(Default)]
struct Synced {
    changes: u64,
    failed: bool,
}

pub(super) struct StoredFile {
    files: Arc<Files>,
    key: Vec<u8>,
    id: u64,
    length: Mutex<Length>,
}

#[derive(Debug, Clone, Copy)]
struct Length {
    bytes: u64,
    /// `None`: not looked at yet.
    last_chunk_bytes: Option<usize>,
}

/// What a name stands for.
#[derive(Debug, Clone, Copy)]
struct Entry {
    id: u64,
    bytes: u64,
    modified_ms: i64,
}

/// Chunks that a write replaces, and what of them it must keep.
#[derive(Default)]
struct Around {
    ends: Vec<u64>,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl Files {
    /// Finishes what a crash left of removals.
    pub fn open(map: Arc<dyn View>, clock: Arc<dyn Disk>) -> io::Result<Arc<Files>> {
        let next_id = read_number(&*map, NEXT_ID)?.unwrap_or(0);
        let files = Files {
            map,
            clock,
            names: Mutex::new(Names { next_id, open: HashMap::new() }),
            changes: AtomicU64::new(0),
            synced: Mutex::default(),
        };
        let mut gone = Vec::new();
        files.scan(b"x", &mut |key, _| {
            gone.extend(key[1..].try_into().map(u64::from_be_bytes));
            true
        })?;
        for id in gone {
            files.purge(id)?;
        }
        Ok(Arc::new(files))
    }

    pub fn number(&self) -> io::Result<Option<u64>> {
        read_number(&*self.map, NUMBER)
    }

    /// Durable when it returns.
    pub fn set_number(&self, number: u64) -> io::Result<()> {
        self.apply(vec![(NUMBER.to_vec(), Some(number.to_le_bytes().to_vec()))])?;
        self.sync()
    }

    /// Made if missing.
    pub fn create(self: &Arc<Self>, path: &str) -> io::Result<Arc<StoredFile>> {
        let mut names = self.names();
        match self.find_in(&mut names, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        self.check_folder(folder)?;
        let id = names.next_id;
        let entry = Entry { id, bytes: 0, modified_ms: self.now_ms() };
        self.apply(vec![
            (NEXT_ID.to_vec(), Some((id + 1).to_le_bytes().to_vec())),
            (name_key(path), Some(entry.encode())),
        ])?;
        names.next_id = id + 1;
        Ok(self.handle(&mut names, path, entry))
    }

    pub fn find(self: &Arc<Self>, path: &str) -> io::Result<Arc<StoredFile>> {
        self.find_in(&mut self.names(), path)
    }

    fn find_in(self: &Arc<Self>, names: &mut Names, path: &str) -> io::Result<Arc<StoredFile>> {
        if let Some(open) = names.open.get(path).and_then(Weak::upgrade) {
            return Ok(open);
        }
        let entry = self.entry(path)?;
        Ok(self.handle(names, path, entry))
    }

    fn handle(self: &Arc<Self>, names: &mut Names, path: &str, entry: Entry) -> Arc<StoredFile> {
        let last_chunk_bytes = (entry.bytes == 0).then_some(0);
        let file = Arc::new(StoredFile {
            files: self.clone(),
            key: name_key(path),
            id: entry.id,
            length: Mutex::new(Length { bytes: entry.bytes, last_chunk_bytes }),
        });
        // As many as there are handles: some hundreds.
        names.open.retain(|_, open| open.strong_count() > 0);
        names.open.insert(path.to_owned(), Arc::downgrade(&file));
        file
    }

    /// Refused while a handle is open, as on Windows.
    pub fn delete(&self, path: &str) -> io::Result<()> {
        let names = self.names();
        if names.open.get(path).is_some_and(|open| open.strong_count() > 0) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the file is open"));
        }
        let id = self.entry(path)?.id;
        self.apply(vec![(name_key(path), None), (removal_key(id), Some(Vec::new()))])?;
        drop(names);
        self.purge(id)
    }

    pub fn create_folder(&self, folder: &str) -> io::Result<()> {
        self.apply(vec![(folder_key(folder), Some(Vec::new()))])
    }

    pub fn delete_folder(&self, folder: &str) -> io::Result<()> {
        if !self.list(folder)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.apply(vec![(folder_key(folder), None)])
    }

    pub fn folders(&self) -> io::Result<Vec<DiskEntry>> {
        let mut folders = Vec::new();
        self.scan(b"d", &mut |key, _| {
            let name = String::from_utf8_lossy(&key[1..]).into_owned();
            folders.push(DiskEntry { name, is_folder: true, bytes: 0 });
            true
        })?;
        Ok(folders)
    }

    pub fn list(&self, folder: &str) -> io::Result<Vec<DiskEntry>> {
        self.check_folder(folder)?;
        let prefix = name_key(&format!("{folder}/"));
        let mut entries = Vec::new();
        let mut damaged = false;
        self.scan(&prefix, &mut |key, value| {
            let name = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
            match Entry::decode(value) {
                Some(Entry { bytes, .. }) => {
                    entries.push(DiskEntry { name, is_folder: false, bytes });
                }
                None => damaged = true,
            }
            true
        })?;
        if damaged { Err(damage()) } else { Ok(entries) }
    }

    pub fn modified_ms(&self, path: &str) -> io::Result<i64> {
        match self.entry(path)?.modified_ms {
            NO_TIME => Err(io::Error::new(io::ErrorKind::Unsupported, "this disk has no clock")),
            modified_ms => Ok(modified_ms),
        }
    }

    /// Makes everything durable that was changed before the call. Many handles ask for it in turn,
    /// and only the first one costs anything.
    pub fn sync(&self) -> io::Result<()> {
        let mut synced = self.synced.lock().expect("no holder of the counter panics");
        let changes = self.changes.load(Ordering::Acquire);
        if synced.failed {
            return Err(io::Error::other("an earlier sync failed"));
        }
        if synced.changes == changes {
            return Ok(());
        }
        let result = self.map.flush().and_then(|()| self.map.sync());
        synced.failed = result.is_err();
        synced.changes = changes;
        result.map_err(failure)
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().expect("no holder of the names panics")
    }

    fn now_ms(&self) -> i64 {
        self.clock.now_ms().unwrap_or(NO_TIME)
    }

    fn entry(&self, path: &str) -> io::Result<Entry> {
        let value = self.map.value(&name_key(path)).map_err(failure)?;
        let value = value.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Entry::decode(&value).ok_or_else(damage)
    }

    fn check_folder(&self, folder: &str) -> io::Result<()> {
        let found = self.map.value(&folder_key(folder)).map_err(failure)?;
        found.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn purge(&self, id: u64) -> io::Result<()> {
        loop {
            let mut chunks: Vec<Change> = Vec::new();
            self.scan(&chunk_key(id, None), &mut |key, _| {
                chunks.push((key.to_vec(), None));
                chunks.len() < CHANGES_MAX
            })?;
            if chunks.is_empty() {
                return self.apply(vec![(removal_key(id), None)]);
            }
            self.apply(chunks)?;
        }
    }

    fn apply(&self, changes: Vec<Change>) -> io::Result<()> {
        self.map.apply(changes).map_err(failure)?;
        // Behind the change: who has seen it counted can be sure that the next flush covers it.
        self.changes.fetch_add(1, Ordering::Release);
        Ok(())
    }

    fn scan(&self, prefix: &[u8], visit: &mut dyn FnMut(&[u8], &[u8]) -> bool) -> io::Result<()> {
        self.map.scan(prefix, visit).map_err(failure)
    }
}

impl StoredFile {
    fn length(&self) -> MutexGuard<'_, Length> {
        self.length.lock().expect("no holder of a length panics")
    }

    /// Chunks from the one that holds `from` on, with start and end, until the visitor returns
    /// false.
    fn chunks(&self, from: u64, visit: &mut dyn FnMut(u64, u64, &[u8]) -> bool) -> io::Result<()> {
        let (prefix, first) = (chunk_key(self.id, None), chunk_key(self.id, Some(from + 1)));
        let mut damaged = false;
        let mut visit_entry = |key: &[u8], value: &[u8]| {
            let end = chunk_end(key);
            let start = end.and_then(|end| end.checked_sub(value.len() as u64));
            match (start, end) {
                (Some(start), Some(end)) => visit(start, end, value),
                _ => {
                    damaged = true;
                    false
                }
            }
        };
        self.files.map.scan_from(&prefix, &first, &mut visit_entry).map_err(failure)?;
        if damaged { Err(damage()) } else { Ok(()) }
    }

    /// What a write of `[from, to)` meets: chunks that it replaces, or a short one to be taken up.
    fn around(&self, length: Length, from: u64, to: u64) -> io::Result<Around> {
        let mut around = Around::default();
        if from < length.bytes {
            self.chunks(from, &mut |start, end, value| {
                if start >= to {
                    return false;
                }
                around.ends.push(end);
                if start < from {
                    around.head = value[..(from - start) as usize].to_vec();
                }
                if end > to {
                    around.tail = value[(to - start) as usize..].to_vec();
                }
                true
            })?;
        } else if length
            .last_chunk_bytes
            .is_none_or(|bytes| (1..SHORT_CHUNK_BYTES).contains(&bytes))
        {
            let last = self.files.map.value(&chunk_key(self.id, Some(from))).map_err(failure)?;
            if let Some(last) = last.filter(|last| last.len() < SHORT_CHUNK_BYTES) {
                around = Around { ends: vec![from], head: last, tail: Vec::new() };
            }
        }
        Ok(around)
    }

    /// In batches, each with the length that the file has after it.
    fn put(&self, length: &mut Length, changes: Vec<Change>) -> io::Result<()> {
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let (mut batch, mut batch_bytes, mut bytes) = (Vec::new(), 0, length.bytes);
            while batch.len() + 1 < CHANGES_MAX
                && batch_bytes < BATCH_BYTES_MAX
                && let Some((key, value)) = changes.next()
            {
                if let Some(value) = &value {
                    batch_bytes += value.len();
                    bytes = bytes.max(chunk_end(&key).unwrap_or(0));
                }
                batch.push((key, value));
            }
            batch.push(self.entry_change(bytes));
            self.files.apply(batch)?;
            length.bytes = bytes;
        }
        Ok(())
    }

    fn entry_change(&self, bytes: u64) -> Change {
        let entry = Entry { id: self.id, bytes, modified_ms: self.files.now_ms() };
        (self.key.clone(), Some(entry.encode()))
    }
}

impl DiskFile for StoredFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        let mut filled = 0;
        if !buffer.is_empty() {
            self.chunks(position, &mut |start, _, value| {
                let Some(skip) = (position + filled as u64).checked_sub(start) else {
                    return false;
                };
                let rest = value.get(skip as usize..).unwrap_or_default();
                let count = rest.len().min(buffer.len() - filled);
                buffer[filled..filled + count].copy_from_slice(&rest[..count]);
                filled += count;
                filled < buffer.len()
            })?;
        }
        if filled == buffer.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut length = self.length();
        if position > length.bytes {
            let what = "a stored file is written without gaps";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let Around { ends, head, tail } =
            self.around(*length, position, position + bytes.len() as u64)?;
        let mut at = position - head.len() as u64;
        let content = match (head.is_empty(), tail.is_empty()) {
            (true, true) => Cow::Borrowed(bytes),
            _ => Cow::Owned([&head, bytes, &tail].concat()),
        };
        let mut changes: Vec<Change> = Vec::new();
        changes.extend(ends.into_iter().map(|end| (chunk_key(self.id, Some(end)), None)));
        for piece in content.chunks(CHUNK_BYTES) {
            at += piece.len() as u64;
            changes.push((chunk_key(self.id, Some(at)), Some(piece.to_vec())));
        }
        self.put(&mut length, changes)?;
        length.last_chunk_bytes = (at == length.bytes)
            .then_some((content.len() - 1) % CHUNK_BYTES + 1)
            .or(length.last_chunk_bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.files.sync()
    }

    /// Cuts only, from the end on, so that each batch leaves a file that is shorter and whole.
    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut length = self.length();
        if bytes > length.bytes {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a stored file has no gaps"));
        }
        let (mut gone, mut head) = (Vec::new(), Vec::new());
        self.chunks(bytes, &mut |start, end, value| {
            if start < bytes {
                head = value[..(bytes - start) as usize].to_vec();
            }
            gone.push((start.max(bytes), end));
            true
        })?;
        length.last_chunk_bytes = None;
        for batch in gone.rchunks(CHANGES_MAX - 2) {
            let keys = batch.iter().map(|(_, end)| (chunk_key(self.id, Some(*end)), None));
            let mut changes: Vec<Change> = keys.collect();
            let left = batch.first().map_or(bytes, |(start, _)| *start);
            if left == bytes && !head.is_empty() {
                changes.push((chunk_key(self.id, Some(bytes)), Some(std::mem::take(&mut head))));
            }
            changes.push(self.entry_change(left));
            self.files.apply(changes)?;
            length.bytes = left;
        }
        if length.bytes == bytes { Ok(()) } else { Err(damage()) }
    }

    fn byte_count(&self) -> io::Result<u64> {
        Ok(self.length().bytes)
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "a stored file reserves nothing"))
    }

    fn drop_cache(&self) {}
}

impl Entry {
    fn encode(self) -> Vec<u8> {
        let fields =
            [self.id.to_le_bytes(), self.bytes.to_le_bytes(), self.modified_ms.to_le_bytes()];
        fields.concat()
    }

    fn decode(value: &[u8]) -> Option<Entry> {
        let field = |at: usize| value.get(at..at + 8)?.try_into().ok();
        let (id, bytes) = (u64::from_le_bytes(field(0)?), u64::from_le_bytes(field(8)?));
        let modified_ms = i64::from_le_bytes(field(16)?);
        (value.len() == 24).then_some(Entry { id, bytes, modified_ms })
    }
}

fn tagged(tag: u8, rest: &[u8]) -> Vec<u8> {
    [&[tag], rest].concat()
}

fn name_key(path: &str) -> Vec<u8> {
    tagged(b'm', path.as_bytes())
}

fn folder_key(folder: &str) -> Vec<u8> {
    tagged(b'd', folder.as_bytes())
}

fn removal_key(id: u64) -> Vec<u8> {
    tagged(b'x', &id.to_be_bytes())
}

/// Without an end, what all chunks of the file begin with.
fn chunk_key(id: u64, end: Option<u64>) -> Vec<u8> {
    let mut key = tagged(b'c', &id.to_be_bytes());
    key.extend(end.into_iter().flat_map(u64::to_be_bytes));
    key
}

fn chunk_end(key: &[u8]) -> Option<u64> {
    key.get(9..)?.try_into().ok().map(u64::from_be_bytes)
}

fn read_number(map: &dyn View, key: &[u8]) -> io::Result<Option<u64>> {
    let Some(value) = map.value(key).map_err(failure)? else { return Ok(None) };
    let bytes = value.try_into().map_err(|_| damage())?;
    Ok(Some(u64::from_le_bytes(bytes)))
}

/// Never `StorageFull`: after an error of its own the database takes nothing any more, so that
/// trying again when there is room would wait for ever. The log is opened again instead.
fn failure(error: ViewError) -> io::Error {
    io::Error::other(error.to_string())
}

fn damage() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an entry of the store is damaged")
}
