//! Where the folders of partitions are kept (`odradek.log.store`): as files of the disk, or in the
//! sled database beside the view.
//!
//! The seam is the disk's. All that lies in a folder (segments, side files, `partition.metadata`)
//! goes through `Disk` with the folder's name in the path, and all that lies beside the folders
//! (journal, lock, marks) without one. `StoreDisk` sends the former to an ordered map and the
//! latter to the disk beneath. So settling, reading, recovery, retention and compaction are one and
//! the same code over either store, and nothing that the first can do is missing in the second.
//!
//! A data folder says which store it was made with: the file `store` and the database carry the
//! same number. Without that file the folder is made of segments. The file is durable before the
//! journal is made, and the database's number before the file. An empty file says that the folder
//! is made of segments and that its journal may have marks (`direct`), while the log is open and
//! after a stop that was none of its own: programs that cannot read those refuse to open it.

mod disk;
mod files;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use crate::disk::Disk;
use crate::journal;
use crate::types::{OpenError, Store};
use crate::view::Views;
use disk::StoreDisk;
use files::Files;

const MARK_NAME: &str = "store";
const MARK_BYTES_MAX: u64 = 1024;
const MARK_PREFIX: &str = "sled ";

/// What the folder itself says.
#[derive(Debug, PartialEq, Eq)]
enum Made {
    /// Nothing is in it yet.
    Nothing,
    Segments,
    /// With the number of its database.
    Sled(u64),
    /// There is a mark, and it is none of ours.
    Unknown,
}

/// The disk for everything of the log, in front of the given one. The folder's lock is held.
pub(crate) fn open(
    disk: Arc<dyn Disk>,
    store: Store,
    views: &dyn Views,
    dir: &Path,
) -> Result<Arc<dyn Disk>, OpenError> {
    let io = |source| OpenError::Io { what: "the store of the records".to_owned(), source };
    let made = made(&*disk).map_err(io)?;
    if let Some(refusal) = refusal(&made, store, dir) {
        return Err(OpenError::Unusable(refusal));
    }
    if store == Store::Segments {
        return Ok(disk);
    }
    let map = views.records().or_else(|error| {
        if made != Made::Nothing {
            return Err(error);
        }
        // A power cut met it while it was made.
        tracing::warn!(%error, "an unfinished database in which nothing is yet is set aside");
        views.set_aside()?;
        views.records()
    });
    let map = map.map_err(|error| {
        OpenError::Unusable(format!(
            "the database that holds the records cannot be opened: {error}"
        ))
    })?;
    let files = Files::open(map, disk.clone()).map_err(io)?;
    match made {
        Made::Sled(number) if files.number().map_err(io)? == Some(number) => {}
        Made::Sled(_) => return Err(OpenError::Unusable(another_database(dir))),
        _ => {
            let number = disk.random();
            files.set_number(number).map_err(io)?;
            // The database's name, too, before there is a mark that asks for it.
            disk.sync_folder("").map_err(io)?;
            write_mark(&*disk, number).map_err(io)?;
        }
    }
    Ok(Arc::new(StoreDisk::new(disk, files)))
}

fn made(disk: &dyn Disk) -> std::io::Result<Made> {
    let entries = disk.list("")?;
    // The journal is made last: a mark that a crash left unfinished has nothing behind it.
    let used = entries.iter().any(|entry| journal::FILE_NAMES.contains(&entry.name.as_str()));
    if !entries.iter().any(|entry| entry.name == MARK_NAME) {
        return Ok(if used { Made::Segments } else { Made::Nothing });
    }
    Ok(match read_mark(disk)? {
        Mark::Sled(number) => Made::Sled(number),
        Mark::Empty if used => Made::Segments,
        Mark::Unknown if used => Made::Unknown,
        Mark::Empty | Mark::Unknown => Made::Nothing,
    })
}

/// Before a group may have a mark.
pub(crate) fn mark_marked(disk: &dyn Disk) -> std::io::Result<()> {
    disk.create(MARK_NAME)?;
    disk.sync_folder("")
}

/// There is none in the journal any more.
pub(crate) fn unmark_marked(disk: &dyn Disk) -> std::io::Result<()> {
    let is_segments = made(disk)? == Made::Segments;
    if !is_segments || !disk.list("")?.iter().any(|entry| entry.name == MARK_NAME) {
        return Ok(());
    }
    disk.delete(MARK_NAME)?;
    disk.sync_folder("")
}

enum Mark {
    Sled(u64),
    Empty,
    Unknown,
}

fn read_mark(disk: &dyn Disk) -> std::io::Result<Mark> {
    let file = disk.open(MARK_NAME)?;
    let mut buffer = vec![0; file.byte_count()?.min(MARK_BYTES_MAX) as usize];
    file.read_exact_at(&mut buffer, 0)?;
    if buffer.is_empty() {
        return Ok(Mark::Empty);
    }
    let text = String::from_utf8(buffer).unwrap_or_default();
    let number = text.strip_suffix('\n').and_then(|line| line.strip_prefix(MARK_PREFIX));
    let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
    Ok(number.map_or(Mark::Unknown, Mark::Sled))
}

fn write_mark(disk: &dyn Disk, number: u64) -> std::io::Result<()> {
    let file = disk.create(MARK_NAME)?;
    file.set_len(0)?;
    file.write_all_at(format!("{MARK_PREFIX}{number:016x}\n").as_bytes(), 0)?;
    file.sync()?;
    disk.sync_folder("")
}

/// Why this folder is not opened with this store, if so.
fn refusal(made: &Made, store: Store, dir: &Path) -> Option<String> {
    let dir = dir.display();
    let made_with = match (made, store) {
        (Made::Segments, Store::Sled) => Store::Segments,
        (Made::Sled(_), Store::Segments) => Store::Sled,
        (Made::Unknown, _) => {
            return Some(format!(
                "the file {MARK_NAME} in {dir} does not say which store the folder was made with. \
                 Restore that file from a backup, or start with the program that wrote it"
            ));
        }
        _ => return None,
    };
    Some(format!(
        "{dir} was made with odradek.log.store={made_with}, and its records cannot be read with \
         odradek.log.store={store}. Set odradek.log.store={made_with}; or name an empty folder in \
         log.dirs and copy the topics there from a broker that runs on this one"
    ))
}

fn another_database(dir: &Path) -> String {
    format!(
        "{}/sled is not the database that holds this folder's records: it is missing, empty or \
         another one. Put the right one back from a backup of the whole folder; or name an empty \
         folder in log.dirs",
        dir.display()
    )
}
