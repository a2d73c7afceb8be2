//! The view: an ordered map of small values that can always be rebuilt from the segments. sled in
//! the product, a `BTreeMap` in tests. It holds nothing that exists only there.
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

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::disk::sync_folder;
use crate::types::PartitionId;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ViewError(pub String);

/// A key and its new value, `None` to take it away.
pub type Change = (Vec<u8>, Option<Vec<u8>>);

/// Larger batches make sled's memory grow without bound (storage.md: 2,000 keys, 5.3 GiB).
pub const BATCH_KEYS_MAX: usize = 100;

pub trait View: Send + Sync {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;
    /// Keys with the prefix, ascending, until the visitor returns false.
    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewError>;
    /// All of the batch or nothing; at most `BATCH_KEYS_MAX` changes.
    fn apply(&self, batch: Vec<Change>) -> Result<(), ViewError>;
    fn flush(&self) -> Result<(), ViewError>;
    /// Makes what was flushed survive a power cut.
    fn sync(&self) -> Result<(), ViewError>;
}

/// Where views come from.
pub trait Views: Send + Sync {
    fn open(&self) -> Result<Arc<dyn View>, ViewError>;
    /// Puts the stored view out of the way; the next `open` begins with an empty one. Every
    /// `View` must be dropped before.
    fn set_aside(&self) -> Result<(), ViewError>;
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

/// sled, used only in the shapes that storage.md measured.
pub struct SledViews {
    path: PathBuf,
    cache_bytes: u64,
}

impl SledViews {
    pub fn new(path: PathBuf, cache_bytes: u64) -> Self {
        SledViews { path, cache_bytes }
    }
}

struct SledView {
    db: sled::Db,
    path: PathBuf,
}

fn sled_error(error: sled::Error) -> ViewError {
    ViewError(format!("sled: {error}"))
}

impl Views for SledViews {
    fn open(&self) -> Result<Arc<dyn View>, ViewError> {
        let db = sled::Config::new()
            .path(&self.path)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None)
            .segment_size(512 << 10)
            .cache_capacity(self.cache_bytes)
            .open()
            .map_err(sled_error)?;
        Ok(Arc::new(SledView { db, path: self.path.clone() }))
    }

    fn set_aside(&self) -> Result<(), ViewError> {
        let error = |error: std::io::Error| ViewError(format!("setting the view aside: {error}"));
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
}

impl View for SledView {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.db.get(key).map_err(sled_error)?.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewError> {
        for entry in self.db.scan_prefix(prefix) {
            let (key, value) = entry.map_err(sled_error)?;
            if !visit(&key, &value) {
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
        self.db.apply_batch(changes).map_err(sled_error)
    }

    fn flush(&self) -> Result<(), ViewError> {
        self.db.flush().map(drop).map_err(sled_error)
    }

    fn sync(&self) -> Result<(), ViewError> {
        // sled's own flush is sync_file_range on Linux, which no power cut respects.
        let sync = || -> std::io::Result<()> {
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true).open(self.path.join("db"))?.sync_all()?;
            sync_folder(&self.path)
        };
        sync().map_err(|error| ViewError(format!("syncing the view: {error}")))
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// A stand-in with the same promises: what is flushed survives a killed process, the rest may not.
#[derive(Clone, Default)]
pub struct MemoryViews {
    state: Arc<Mutex<MemoryState>>,
}

#[derive(Default)]
struct MemoryState {
    current: Map,
    flushed: Map,
    /// Every call fails.
    broken: bool,
}

impl MemoryViews {
    fn state(&self) -> std::sync::MutexGuard<'_, MemoryState> {
        self.state.lock().expect("no holder of the stand-in panics")
    }

    /// The process dies: what was not flushed is gone.
    pub fn kill(&self) {
        let mut state = self.state();
        state.current = state.flushed.clone();
        state.broken = false;
    }

    pub fn set_broken(&self, broken: bool) {
        self.state().broken = broken;
    }

    /// Overwrites every stored value with something that is none.
    pub fn corrupt(&self) {
        let mut state = self.state();
        for value in state.flushed.values_mut() {
            value.iter_mut().for_each(|byte| *byte ^= 0x5a);
            value.push(0);
        }
        state.current = state.flushed.clone();
    }

    pub fn key_count(&self) -> usize {
        self.state().current.len()
    }

    fn usable(&self) -> Result<std::sync::MutexGuard<'_, MemoryState>, ViewError> {
        let state = self.state();
        if state.broken { Err(ViewError("told to fail".to_owned())) } else { Ok(state) }
    }
}

impl Views for MemoryViews {
    fn open(&self) -> Result<Arc<dyn View>, ViewError> {
        drop(self.usable()?);
        Ok(Arc::new(self.clone()))
    }

    fn set_aside(&self) -> Result<(), ViewError> {
        *self.state() = MemoryState::default();
        Ok(())
    }
}

impl View for MemoryViews {
    fn value(&self, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.usable()?.current.get(key).cloned())
    }

    fn scan(
        &self,
        prefix: &[u8],
        visit: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), ViewError> {
        let state = self.usable()?;
        let range = state.current.range(prefix.to_vec()..);
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
        for (key, value) in batch {
            match value {
                Some(value) => state.current.insert(key, value),
                None => state.current.remove(&key),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), ViewError> {
        let mut state = self.usable()?;
        state.flushed = state.current.clone();
        Ok(())
    }

    fn sync(&self) -> Result<(), ViewError> {
        self.usable().map(drop)
    }
}
