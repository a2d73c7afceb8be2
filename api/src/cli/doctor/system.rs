//! What the operating system says: the data folder and its lock, modes of files, disk, memory and
//! clock. What it does not say on this system is left out.

use std::fs::{File, Metadata, TryLockError};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, UNIX_EPOCH};

use crate::operations::doctor::facts::{ClockSeen, FileSeen, FolderSeen, Lock};

/// Files of the data folder whose times are looked at.
const FILES_LOOKED_AT_MAX: usize = 10_000;
const COMMAND_TIME_MAX: Duration = Duration::from_secs(3);
const COMMAND_POLL: Duration = Duration::from_millis(10);

/// Whether a server holds the folder. A shared lock is tried and given back at once, so nothing is
/// created and a server that runs does not notice.
pub fn lock(folder: &Path) -> Lock {
    let Ok(file) = File::open(folder.join(".lock")) else { return Lock::Unknown };
    match file.try_lock_shared() {
        Ok(()) => Lock::Free,
        Err(TryLockError::WouldBlock) => Lock::Held,
        Err(TryLockError::Error(_)) => Lock::Unknown,
    }
}

/// `None` where this user may not even look.
pub fn folder(path: &Path, lock: Lock) -> Option<FolderSeen> {
    let shown = path.display().to_string();
    let (unusable, mode) = match std::fs::metadata(path) {
        Ok(data) if !data.is_dir() => (Some("it is not a folder".to_owned()), None),
        Ok(data) => (None, mode(&data)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && lock != Lock::Held => {
            // The first start makes it.
            return None;
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return None,
        Err(error) => (Some(error.to_string()), None),
    };
    Some(FolderSeen { path: shown, unusable, mode })
}

/// `folder` is the data folder, which belongs to the server's user.
pub fn secret_file(path: &Path, secret: &str, folder: &Path) -> Option<FileSeen> {
    let data = std::fs::metadata(path).ok()?;
    let servers = std::fs::metadata(folder).ok().and_then(|folder| owner(&folder));
    // Where there is no folder yet, nobody knows who the server's user will be.
    let stranger = owner(&data).filter(|owner| *owner != 0 && servers.is_some_and(|s| s != *owner));
    let (path, secret) = (path.display().to_string(), secret.to_owned());
    Some(FileSeen { path, secret, mode: mode(&data), stranger })
}

#[cfg(unix)]
fn owner(data: &Metadata) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    Some(data.uid())
}

#[cfg(not(unix))]
fn owner(_: &Metadata) -> Option<u32> {
    None
}

/// The file is there, and closed to this user.
pub fn is_closed(file: &Path) -> bool {
    let opened = File::open(file);
    opened.is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

#[cfg(unix)]
fn mode(data: &Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    Some(data.permissions().mode() & 0o7777)
}

/// Windows keeps access lists instead.
#[cfg(not(unix))]
fn mode(_: &Metadata) -> Option<u32> {
    None
}

/// Free for a program without privileges.
#[cfg(unix)]
pub fn free_bytes(folder: &Path) -> Option<u64> {
    // Of the nearest folder that is there.
    let there = folder.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    let disk = rustix::fs::statvfs(there).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(not(unix))]
pub fn free_bytes(_: &Path) -> Option<u64> {
    None
}

pub fn memory_available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

pub fn clock(folder: &Path) -> ClockSeen {
    ClockSeen { is_synchronised: is_synchronised(), newest_file_s: newest_file_s(folder) }
}

fn newest_file_s(folder: &Path) -> Option<i64> {
    let inner = std::fs::read_dir(folder).ok()?.flatten();
    let folders = inner.filter(|entry| entry.path().is_dir()).map(|entry| entry.path());
    let all = std::iter::once(folder.to_path_buf()).chain(folders);
    let files = all.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let times = files.take(FILES_LOOKED_AT_MAX).filter_map(|entry| {
        let written = entry.metadata().ok()?.modified().ok()?;
        i64::try_from(written.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok()
    });
    times.max()
}

/// systemd knows whether anything keeps the clock right, whichever program that is.
fn is_synchronised() -> Option<bool> {
    if !Path::new("/run/systemd/system").is_dir() {
        return None;
    }
    let mut asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    // A word fits into the pipe, so the program never waits for it to be read.
    let deadline = Instant::now() + COMMAND_TIME_MAX;
    while asked.try_wait().ok()?.is_none() {
        if Instant::now() > deadline {
            asked.kill().ok()?;
            break;
        }
        std::thread::sleep(COMMAND_POLL);
    }
    let output = asked.wait_with_output().ok()?;
    match String::from_utf8_lossy(&output.stdout).trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_as_held_only_while_somebody_holds_it_and_never_made() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(lock(folder.path()), Lock::Unknown);
        assert!(!folder.path().join(".lock").exists());
        let file = File::create(folder.path().join(".lock")).expect("made");
        assert_eq!(lock(folder.path()), Lock::Free);
        file.try_lock().expect("nobody else has it");
        assert_eq!(lock(folder.path()), Lock::Held);
        drop(file);
        assert_eq!(lock(folder.path()), Lock::Free);
    }
}
