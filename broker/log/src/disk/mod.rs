//! What the log asks of a disk. `RealDisk` is the operating system's, `MemoryDisk` forgets at a
//! crash what no sync covered, tears the rest, and fails where a test tells it to.
//!
//! Rules of the trait:
//! - `sync` covers data and the metadata needed to read it back (length, extents), not the name:
//!   that is `sync_folder` of the folder it stands in.
//! - After an error from `sync` nothing is known about what was written before it; the caller
//!   never tries again on the same file as if it had worked.
//! - Names are relative to the log's folder, with `/` between folders.
//! - Nothing is renamed, and nothing is deleted while a handle to it is open (Windows); but for a
//!   removed partition's segment that a group in flight or a checkpoint still syncs: where that is
//!   refused, it is tried again.

mod memory;
mod real;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
    /// Files that are worth syncing at a time, each on a thread, where a flush takes long: those
    /// that wait for the next flush share it. 1 where the order of all that is done has to be the
    /// same each time.
    fn syncs_at_once(&self) -> usize {
        1
    }
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

/// Does the work on each of the items, some at once; ends early where one fails.
pub(crate) fn try_each<T: Sync>(
    items: &[T],
    at_once: usize,
    work: impl Fn(&T) -> io::Result<()> + Sync,
) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    let some = || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(item).inspect_err(|_| next.store(items.len(), Ordering::Relaxed))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        // Where the system gives no further thread, those that there are do all of it.
        let others: Vec<_> = (1..at_once.min(items.len()))
            .map_while(|_| std::thread::Builder::new().spawn_scoped(scope, some).ok())
            .collect();
        let mut done = some();
        for other in others {
            done = done.and(other.join().expect("the work does not panic"));
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use std::sync::{Barrier, Mutex};

    use super::*;

    #[test]
    fn each_item_is_worked_on_once_and_so_many_at_a_time() {
        let (seen, barrier) = (Mutex::new(Vec::new()), Barrier::new(3));
        let work = |item: &u32| {
            barrier.wait(); // three of them, or this would stand still
            seen.lock().expect("nobody panics").push(*item);
            Ok(())
        };
        try_each(&[1, 2, 3, 4, 5, 6], 3, work).expect("nothing fails");
        let mut seen = seen.into_inner().expect("nobody panics");
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn an_error_ends_it_and_one_at_a_time_is_in_order() {
        let seen = Mutex::new(Vec::new());
        let work = |item: &u32| {
            seen.lock().expect("nobody panics").push(*item);
            if *item == 2 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        };
        let error = try_each(&[1, 2, 3], 1, work).expect_err("the second fails");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(*seen.lock().expect("nobody panics"), [1, 2]);
        try_each(&[2, 2], 2, work).expect_err("one of them fails");
    }
}
