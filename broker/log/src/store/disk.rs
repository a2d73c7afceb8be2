//! Sends what lies in folders to the stored files, and everything else to the disk beneath.

use std::io;
use std::sync::Arc;

use super::files::Files;
use crate::disk::{Disk, DiskEntry, DiskFile};

pub(super) struct StoreDisk {
    disk: Arc<dyn Disk>,
    files: Arc<Files>,
}

impl StoreDisk {
    pub fn new(disk: Arc<dyn Disk>, files: Arc<Files>) -> Self {
        StoreDisk { disk, files }
    }
}

fn is_in_folder(path: &str) -> bool {
    path.contains('/')
}

impl Disk for StoreDisk {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock()
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        if !is_in_folder(path) {
            return self.disk.create(path);
        }
        Ok(self.files.create(path)?)
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        if !is_in_folder(path) {
            return self.disk.open(path);
        }
        Ok(self.files.find(path)?)
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        if is_in_folder(path) { self.files.delete(path) } else { self.disk.delete(path) }
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        self.files.create_folder(path)
    }

    fn delete_folder(&self, path: &str) -> io::Result<()> {
        self.files.delete_folder(path)
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        self.files.sync()?;
        if path.is_empty() { self.disk.sync_folder(path) } else { Ok(()) }
    }

    fn list(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        if !path.is_empty() {
            return self.files.list(path);
        }
        let mut entries = self.disk.list(path)?;
        // A folder of the same name beneath is none of the log's.
        entries.retain(|entry| !entry.is_folder);
        entries.extend(self.files.folders()?);
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn modified_ms(&self, path: &str) -> io::Result<i64> {
        if is_in_folder(path) { self.files.modified_ms(path) } else { self.disk.modified_ms(path) }
    }

    fn now_ms(&self) -> Option<i64> {
        self.disk.now_ms()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn boot_id(&self) -> Option<String> {
        self.disk.boot_id()
    }

    fn random(&self) -> u64 {
        self.disk.random()
    }
}
