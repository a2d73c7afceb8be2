//! What the log asks of a disk. `RealDisk` is the operating system's, `MemoryDisk` forgets at a
//! crash what no sync covered, tears the rest, and fails where a test tells it to.
//!
//! Rules of the trait:
//! - `sync` covers data and the metadata needed to read it back (length, extents), not the name:
//!   that is `sync_folder` of the folder it stands in.
//! - After an error from `sync` nothing is known about what was written before it; the caller
//!   never tries again on the same file as if it had worked.
//! - Names are relative to the log's folder, with `/` between folders.
//! - Nothing is renamed, and nothing is deleted while a handle to it is open (Windows).

mod memory;
mod real;

use std::io;
use std::sync::Arc;

pub use memory::{CrashMode, MemoryDisk};
pub use real::RealDisk;
pub(crate) use real::sync_folder;

/// One open file. Positions are absolute; there is no cursor.
pub trait DiskFile: Send + Sync {
    /// Fills `buffer` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()>;
    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    fn byte_count(&self) -> io::Result<u64>;
    /// Reserves space up to `bytes` and makes the file that long, where the system can.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Drops clean pages from the page cache; only a hint.
    fn drop_cache(&self);
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskEntry {
    pub name: String,
    pub is_folder: bool,
    pub bytes: u64,
}

pub trait Disk: Send + Sync {
    /// Takes the folder's lock for as long as the returned guard lives. `WouldBlock` if another
    /// process has it. Makes the folder if it is missing.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;
    /// For reading and writing; made if missing.
    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// For reading only, on a handle of its own.
    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>>;
    fn delete(&self, path: &str) -> io::Result<()>;
    fn create_folder(&self, path: &str) -> io::Result<()>;
    fn delete_folder(&self, path: &str) -> io::Result<()>;
    /// Makes names in the folder durable. `""` is the log's own folder.
    fn sync_folder(&self, path: &str) -> io::Result<()>;
    fn list(&self, path: &str) -> io::Result<Vec<DiskEntry>>;
    /// When the file was written last, by the system's clock.
    fn modified_ms(&self, path: &str) -> io::Result<i64>;
    /// The system's clock, by which files are dated; `None` where there is none.
    fn now_ms(&self) -> Option<i64>;
    fn free_bytes(&self) -> io::Result<u64>;
    /// Changes when the machine starts anew; `None` where that cannot be known.
    fn boot_id(&self) -> Option<String>;
    /// Unpredictable on a real disk (it salts the journal), seeded in a simulation.
    fn random(&self) -> u64;
}
