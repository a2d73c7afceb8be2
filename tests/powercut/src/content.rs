//! One file: what of it is durable, and the changes since, in order.
//!
//! The durable bytes are those of a file in the store. What no sync has covered is in memory and
//! laid over them for whoever reads; a sync takes it to the file. So a cut has nothing to undo: it
//! chooses among the changes, and forgets the rest.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use fuser::BackingId;

#[derive(Debug)]
pub enum Change {
    Write { at: u64, bytes: Vec<u8> },
    Zeros { at: u64, until: u64 },
    Length(u64),
}

pub struct Content {
    path: PathBuf,
    file: Option<Arc<File>>,
    /// The length that readers see, and the one that is durable.
    pub bytes: u64,
    pub durable_bytes: u64,
    pub pending: Vec<Change>,
    /// How many changes were ever made durable: `applied + pending.len()` names a moment.
    applied: u64,
    /// Where the kernel reads and writes the store's file without asking us.
    pub shortcut: Option<Arc<BackingId>>,
}

impl Content {
    pub fn new(path: PathBuf, bytes: u64) -> Self {
        let pending = Vec::new();
        let (durable_bytes, applied) = (bytes, 0);
        Content { path, file: None, bytes, durable_bytes, pending, applied, shortcut: None }
    }

    pub fn file(&mut self) -> io::Result<Arc<File>> {
        if let Some(file) = &self.file {
            return Ok(file.clone());
        }
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = Arc::new(options.open(&self.path)?);
        self.file = Some(file.clone());
        Ok(file)
    }

    /// Nobody has it open any more: ten thousand partitions need no handle each.
    pub fn close(&mut self) {
        (self.file, self.shortcut) = (None, None);
    }

    pub fn remove(&mut self) -> io::Result<()> {
        self.close();
        self.pending.clear();
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    pub fn path(&self) -> &PathBuf {
        &self.path
    }

    pub fn change(&mut self, change: Change) {
        match &change {
            Change::Write { at, bytes } => self.bytes = self.bytes.max(at + bytes.len() as u64),
            Change::Zeros { .. } => {}
            Change::Length(bytes) => self.bytes = *bytes,
        }
        self.pending.push(change);
    }

    /// Names the present moment for `make_durable`.
    pub fn moment(&self) -> u64 {
        self.applied + self.pending.len() as u64
    }

    /// What was changed until that moment is on the disk from now on.
    pub fn make_durable(&mut self, moment: u64) -> io::Result<()> {
        let count = usize::try_from(moment.saturating_sub(self.applied)).unwrap_or(usize::MAX);
        let changes: Vec<Change> = self.pending.drain(..count.min(self.pending.len())).collect();
        self.applied += changes.len() as u64;
        self.apply(&changes)
    }

    /// Takes changes to the store's file.
    pub fn apply(&mut self, changes: &[Change]) -> io::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let file = self.file()?;
        for change in changes {
            match change {
                Change::Write { at, bytes } => {
                    file.write_all_at(bytes, *at)?;
                    self.durable_bytes = self.durable_bytes.max(at + bytes.len() as u64);
                }
                Change::Zeros { at, until } => {
                    let until = (*until).min(self.durable_bytes);
                    let count = usize::try_from(until.saturating_sub(*at)).unwrap_or(0);
                    file.write_all_at(&vec![0; count], *at)?;
                }
                Change::Length(bytes) => {
                    file.set_len(*bytes)?;
                    self.durable_bytes = *bytes;
                }
            }
        }
        Ok(())
    }

    pub fn set_durable_length(&mut self, bytes: u64) -> io::Result<()> {
        self.apply(&[Change::Length(bytes)])
    }

    /// As a reader sees it: the changes laid over what is durable, in their order.
    pub fn read(&mut self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let until = self.bytes.min(at.saturating_add(count as u64));
        let mut buffer = vec![0; usize::try_from(until.saturating_sub(at)).unwrap_or(0)];
        if buffer.is_empty() {
            return Ok(buffer);
        }
        let stored = self.durable_bytes.clamp(at, until) - at;
        let stored = usize::try_from(stored).unwrap_or(0);
        self.file()?.read_exact_at(&mut buffer[..stored], at)?;
        let inside = |position: u64| usize::try_from(position.clamp(at, until) - at).unwrap_or(0);
        for change in &self.pending {
            match change {
                Change::Write { at: start, bytes } => {
                    let (from, to) = (inside(*start), inside(start + bytes.len() as u64));
                    if from < to {
                        let skipped = usize::try_from(at.saturating_sub(*start)).unwrap_or(0);
                        buffer[from..to].copy_from_slice(&bytes[skipped..skipped + to - from]);
                    }
                }
                Change::Zeros { at: start, until: end } => {
                    buffer[inside(*start)..inside(*end)].fill(0);
                }
                Change::Length(bytes) => buffer[inside(*bytes)..].fill(0),
            }
        }
        Ok(buffer)
    }
}
