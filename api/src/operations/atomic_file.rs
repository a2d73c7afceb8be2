//! A file that is there whole or not at all: written beside its place, synced, then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Who may read a new file, where the system knows such a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    Everybody,
    /// It holds a secret.
    Owner,
}

/// A file's new contents on the disk, under a name of their own. Dropped, they are removed.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    target: PathBuf,
}

impl Draft {
    pub fn write(target: &Path, contents: &[u8], readers: Readers) -> io::Result<Self> {
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let path = target.with_file_name(format!(".{name}.{:016x}.new", rand::random::<u64>()));
        let mut file = options(readers).open(&path)?;
        let draft = Self { path, target: target.to_path_buf() };
        // Root may replace the file of a server that runs as another user: it stays that user's.
        #[cfg(unix)]
        if let Ok(former) = fs::metadata(target) {
            use std::os::unix::fs::{MetadataExt, fchown};
            let _ = fchown(&file, Some(former.uid()), Some(former.gid()));
        }
        file.write_all(contents)?;
        file.sync_all()?;
        Ok(draft)
    }

    /// Where the contents lie until they are put in place.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn put_in_place(self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        // The new name, too, must survive a power cut. Windows has no such call for a folder.
        if cfg!(unix) {
            let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After the rename there is nothing of that name.
        let _ = fs::remove_file(&self.path);
    }
}

pub fn replace(target: &Path, contents: &[u8], readers: Readers) -> io::Result<()> {
    Draft::write(target, contents, readers)?.put_in_place()
}

fn options(readers: Readers) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(match readers {
            Readers::Everybody => 0o644,
            Readers::Owner => 0o600,
        });
    }
    #[cfg(not(unix))]
    let _ = readers;
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_a_draft_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        replace(&target, b"one", Readers::Everybody).unwrap();
        drop(Draft::write(&target, b"never", Readers::Everybody).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"one");
        replace(&target, b"two", Readers::Owner).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"two");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_is_for_its_owner_only_whatever_stood_there_before() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("file");
        replace(&target, b"open", Readers::Everybody).unwrap();
        replace(&target, b"secret", Readers::Owner).unwrap();
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
