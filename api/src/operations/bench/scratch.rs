//! The one folder that a benchmark writes to. It is locked while it is used, so that two of them
//! do not measure each other, and one that a killed run left behind is known for what it is.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::BenchError;

/// No name of a partition's folder: a server that starts meanwhile passes it over.
const NAME: &str = "odradek-bench.tmp";
const LOCK_NAME: &str = "lock";

pub struct Scratch {
    path: PathBuf,
    /// Held until the folder goes. Given back before: Windows removes no file that is open.
    lock: Option<File>,
}

impl Scratch {
    pub fn make(below: &Path) -> Result<Self, BenchError> {
        let path = below.join(NAME);
        let shown = path.display().to_string();
        let failed = || BenchError::failed(format!("the benchmark cannot use {shown}"));
        fs::create_dir_all(&path).map_err(failed())?;
        let lock = File::options().create(true).append(true).open(path.join(LOCK_NAME));
        let lock = lock.map_err(failed())?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(BenchError::AnotherRuns(shown)),
            Err(TryLockError::Error(error)) => return Err(failed()(error)),
        }
        let scratch = Self { path, lock: Some(lock) };
        scratch.clear().map_err(failed())?;
        Ok(scratch)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What a run that was killed left behind.
    fn clear(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() == LOCK_NAME {
                continue;
            }
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.lock = None;
        // What cannot be removed now, the next run removes.
        if let Err(error) = fs::remove_dir_all(&self.path) {
            let folder = self.path.display();
            tracing::warn!(%error, %folder, "the folder could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_and_what_a_killed_one_left_is_removed() {
        let below = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(below.path().join(NAME).join("broker")).expect("made");
        fs::write(below.path().join(NAME).join("sequence"), "left").expect("written");
        let first = Scratch::make(below.path()).expect("nobody else is there");
        let left: Vec<_> = fs::read_dir(first.path()).expect("a folder").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        let second = Scratch::make(below.path()).err();
        assert!(matches!(second, Some(BenchError::AnotherRuns(_))), "{second:?}");
        drop(first);
        assert!(!below.path().join(NAME).exists());
        Scratch::make(below.path()).expect("the first one is gone");
    }
}
