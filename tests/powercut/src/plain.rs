//! The plain folder that the disk is made from, and is again afterwards.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::content::Content;
use crate::disk::{Disk, Folder, Kind, ROOT, STORE_NAME};

/// Takes everything in the folder in: its files go to the store, its folders into memory.
pub fn take_in(disk: &mut Disk) -> io::Result<()> {
    let folder = disk.folder.clone();
    fs::create_dir_all(&folder)?;
    fs::create_dir(folder.join(STORE_NAME)).map_err(|error| {
        let why = "a layer uses it, or was ended while it did";
        io::Error::new(error.kind(), format!("{}: {error}: {why}", folder.display()))
    })?;
    take_in_folder(disk, &folder, ROOT)
}

fn take_in_folder(disk: &mut Disk, path: &Path, number: u64) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let (name, path, metadata) = (entry.file_name(), entry.path(), entry.metadata()?);
        if number == ROOT && name == OsStr::new(STORE_NAME) {
            continue;
        }
        let mode = u16::try_from(metadata.permissions().mode() & 0o7777).unwrap_or(0o600);
        let inner = if metadata.is_dir() {
            let inner = disk.add(|_| Kind::Folder(Folder::default()), mode);
            take_in_folder(disk, &path, inner)?;
            fs::remove_dir(&path)?;
            inner
        } else {
            let inner = disk.add(|path| Kind::File(Content::new(path, metadata.len())), mode);
            fs::rename(&path, disk.stored(inner))?;
            inner
        };
        disk.inode(inner)?.modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        disk.adopt(number, name, inner)?;
    }
    Ok(())
}

/// Puts what is durable back as a plain folder; what no durable name leads to is gone.
pub fn put_back(disk: &mut Disk) -> io::Result<()> {
    let folder = disk.folder.clone();
    put_back_folder(disk, &folder, ROOT, &mut BTreeMap::new())?;
    fs::remove_dir_all(folder.join(STORE_NAME))
}

fn put_back_folder(
    disk: &mut Disk,
    path: &Path,
    number: u64,
    placed: &mut BTreeMap<u64, PathBuf>,
) -> io::Result<()> {
    let entries = std::mem::take(&mut disk.entries(number)?.durable);
    for (name, number) in entries {
        let path = path.join(name);
        let inode = disk.inode(number)?;
        let (mode, modified) = (u32::from(inode.mode), inode.modified);
        if let Kind::File(content) = &mut inode.kind {
            content.close();
            match placed.get(&number) {
                // One of two changes was lost that together would have moved it.
                Some(there) => fs::copy(there, &path).map(drop)?,
                None => fs::rename(content.path(), &path)?,
            }
            fs::File::options().write(true).open(&path)?.set_modified(modified)?;
            placed.insert(number, path.clone());
        } else {
            fs::create_dir(&path)?;
            put_back_folder(disk, &path, number, placed)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}
