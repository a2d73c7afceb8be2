//! The operating system's files, through std and rustix's safe calls. What is made here is made for
//! its owner alone (0700, 0600): records, and verifiers of passwords.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Disk, DiskEntry, DiskFile};

const SYNCS_AT_ONCE: usize = 16;

#[derive(Debug, Clone)]
pub struct RealDisk {
    dir: PathBuf,
}

impl RealDisk {
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        RealDisk { dir: dir.into() }
    }

    fn path(&self, name: &str) -> PathBuf {
        let mut path = self.dir.clone();
        path.extend(name.split('/').filter(|part| !part.is_empty()));
        path
    }
}

/// Reading and writing have a handle each: Windows moves a handle's cursor on every positioned
/// call, and a sync there waits for the handle.
struct RealFile {
    file: File,
}

impl DiskFile for RealFile {
    fn read_exact_at(&self, buffer: &mut [u8], position: u64) -> io::Result<()> {
        read_exact_at(&self.file, buffer, position)
    }

    fn write_all_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        write_all_at(&self.file, bytes, position)
    }

    /// A sync that found no room has lost what it was to cover: that is no full disk to wait for.
    fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(io::Error::other)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)
    }

    fn byte_count(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        // Some file systems cannot reserve; the length alone will do then, and a full disk shows
        // itself as a failed write.
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), 0, bytes);
        if self.byte_count()? < bytes { self.file.set_len(bytes) } else { Ok(()) }
    }

    fn drop_cache(&self) {
        #[cfg(target_os = "linux")]
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, position)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, position)
}

#[cfg(windows)]
fn read_exact_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    let mut done = 0;
    while done < buffer.len() {
        match file.seek_read(&mut buffer[done..], position + done as u64) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(windows)]
fn write_all_at(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    let mut done = 0;
    while done < bytes.len() {
        match file.seek_write(&bytes[done..], position + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Disk for RealDisk {
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        create_durable_folder(&self.dir)?;
        let path = self.dir.join(".lock");
        let file = private().create(true).truncate(false).write(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn create(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = private();
        options.read(true).write(true).create(true).truncate(false);
        Ok(Arc::new(RealFile { file: options.open(self.path(path))? }))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile { file: File::open(self.path(path))? }))
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.path(path))
    }

    fn create_folder(&self, path: &str) -> io::Result<()> {
        create_folders(&self.path(path))
    }

    fn delete_folder(&self, path: &str) -> io::Result<()> {
        std::fs::remove_dir(self.path(path))
    }

    fn sync_folder(&self, path: &str) -> io::Result<()> {
        sync_folder(&self.path(path))
    }

    fn syncs_at_once(&self) -> usize {
        SYNCS_AT_ONCE
    }

    fn list(&self, path: &str) -> io::Result<Vec<DiskEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.path(path))? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            entries.push(DiskEntry { name, is_folder: metadata.is_dir(), bytes: metadata.len() });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn modified_ms(&self, path: &str) -> io::Result<i64> {
        Ok(epoch_ms(std::fs::metadata(self.dir.join(path))?.modified()?))
    }

    fn now_ms(&self) -> Option<i64> {
        Some(epoch_ms(SystemTime::now()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        free_bytes(&self.dir)
    }

    fn boot_id(&self) -> Option<String> {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(id.trim().to_owned()).filter(|id| !id.is_empty())
    }

    fn random(&self) -> u64 {
        rand::random()
    }
}

fn epoch_ms(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Options by which a new file is its owner's alone.
fn private() -> OpenOptions {
    #[allow(unused_mut, reason = "other systems than Unix have no modes")]
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// With those above it that are missing.
fn create_folders(path: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

/// The data folder itself must outlive a power cut, too, or all in it goes with its name. A former
/// start may have made it and ended before this, so its own name is synced every time.
fn create_durable_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|path| !path.exists()).collect();
    create_folders(path)?;
    for made in std::iter::once(path).chain(missing) {
        let Ok(made) = made.canonicalize() else { continue };
        match made.parent().map_or(Ok(()), sync_folder) {
            // Whoever may not read a folder cannot sync it; somebody else has made this one.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            result => result?,
        }
    }
    Ok(())
}

/// A folder's names are durable once the folder itself is synced; Windows keeps them in its own
/// journal and has no such call.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

#[cfg(unix)]
fn free_bytes(path: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(path)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

/// std has no call for it elsewhere; a full disk shows itself as a failed write there.
#[cfg(not(unix))]
fn free_bytes(_path: &Path) -> io::Result<u64> {
    Ok(u64::MAX)
}
