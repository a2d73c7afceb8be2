//! The disk: folders, files, and for both what a power cut would leave.
//!
//! 1. Readers see every change at once; durable is only what a sync has covered.
//! 2. A file's sync covers its bytes and its length, a folder's sync the names in it, and nothing
//!    else: a file that was synced in a folder that was not may be gone (`Names::Apart`). With
//!    `Names::Journal` any sync covers all names so far, as ext4's journal does it.
//! 3. A change of names is whole or absent: a rename never leaves two files or none of it, unless
//!    other changes of the same names were lost.
//! 4. A file lives while a name, a durable name, a change that is not durable, or a handle leads
//!    to it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::content::{Change, Content};

pub const ROOT: u64 = 1;
/// Where the bytes of all files lie while the disk is in use, by number.
pub const STORE_NAME: &str = ".powercut";

pub type Entries = BTreeMap<OsString, u64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    Apart,
    Journal,
}

#[derive(Default)]
pub struct Folder {
    pub seen: Entries,
    pub durable: Entries,
}

pub enum Kind {
    Folder(Folder),
    File(Content),
}

pub struct Inode {
    pub kind: Kind,
    pub mode: u16,
    pub modified: SystemTime,
    pub open: u64,
    /// Names, durable names and changes of names that lead here.
    leads: u64,
}

/// A change of names that no sync has covered.
#[derive(Debug, Clone)]
pub struct NameChange {
    pub moment: u64,
    pub what: NameChanged,
}

#[derive(Debug, Clone)]
pub enum NameChanged {
    Made { folder: u64, name: OsString, inode: u64 },
    Removed { folder: u64, name: OsString, inode: u64 },
    Moved { from: (u64, OsString), to: (u64, OsString), inode: u64 },
}

impl NameChanged {
    fn inode(&self) -> u64 {
        match self {
            Self::Made { inode, .. } | Self::Removed { inode, .. } | Self::Moved { inode, .. } => {
                *inode
            }
        }
    }

    fn touches(&self, number: u64) -> bool {
        match self {
            Self::Made { folder, .. } | Self::Removed { folder, .. } => *folder == number,
            Self::Moved { from, to, .. } => from.0 == number || to.0 == number,
        }
    }
}

pub struct Disk {
    pub folder: PathBuf,
    pub inodes: BTreeMap<u64, Inode>,
    pub name_changes: Vec<NameChange>,
    names: Names,
    /// Changes of files go to the store at once: nothing can be cut, nothing is kept in memory.
    pub direct: bool,
    next_inode: u64,
    moment: u64,
}

fn missing() -> io::Error {
    io::Error::from_raw_os_error(rustix::io::Errno::NOENT.raw_os_error())
}

fn refused(why: rustix::io::Errno) -> io::Error {
    io::Error::from_raw_os_error(why.raw_os_error())
}

impl Disk {
    pub fn new(folder: &Path, names: Names, direct: bool) -> Self {
        let root = Inode::new(Kind::Folder(Folder::default()), 0o700);
        Disk {
            folder: folder.to_owned(),
            inodes: BTreeMap::from([(ROOT, root)]),
            name_changes: Vec::new(),
            names,
            direct,
            next_inode: ROOT + 1,
            moment: 0,
        }
    }

    pub fn stored(&self, inode: u64) -> PathBuf {
        self.folder.join(STORE_NAME).join(inode.to_string())
    }

    pub fn inode(&mut self, number: u64) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&number).ok_or_else(missing)
    }

    pub fn content(&mut self, number: u64) -> io::Result<&mut Content> {
        match &mut self.inode(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Folder(_) => Err(refused(rustix::io::Errno::ISDIR)),
        }
    }

    pub fn entries(&mut self, number: u64) -> io::Result<&mut Folder> {
        match &mut self.inode(number)?.kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(refused(rustix::io::Errno::NOTDIR)),
        }
    }

    pub fn find(&mut self, folder: u64, name: &OsStr) -> io::Result<u64> {
        self.entries(folder)?.seen.get(name).copied().ok_or_else(missing)
    }

    /// A new inode that no name leads to yet.
    pub fn add(&mut self, kind: impl FnOnce(PathBuf) -> Kind, mode: u16) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        let kind = kind(self.stored(number));
        self.inodes.insert(number, Inode::new(kind, mode));
        number
    }

    /// Names that were there before: durable and seen.
    pub fn adopt(&mut self, folder: u64, name: OsString, inode: u64) -> io::Result<()> {
        let entries = self.entries(folder)?;
        entries.seen.insert(name.clone(), inode);
        entries.durable.insert(name, inode);
        self.inode(inode)?.leads += 2;
        Ok(())
    }

    pub fn make(&mut self, folder: u64, name: &OsStr, kind: Make, mode: u16) -> io::Result<u64> {
        if self.entries(folder)?.seen.contains_key(name) {
            return Err(refused(rustix::io::Errno::EXIST));
        }
        let inode = self.add(
            |path| match kind {
                Make::Folder => Kind::Folder(Folder::default()),
                Make::File => Kind::File(Content::new(path, 0)),
            },
            mode,
        );
        if let Make::File = kind {
            self.content(inode)?.file()?;
        }
        self.entries(folder)?.seen.insert(name.to_owned(), inode);
        self.inode(inode)?.leads += 1;
        self.note(NameChanged::Made { folder, name: name.to_owned(), inode });
        Ok(inode)
    }

    pub fn remove(&mut self, folder: u64, name: &OsStr, is_folder: bool) -> io::Result<()> {
        let inode = self.find(folder, name)?;
        match &self.inode(inode)?.kind {
            Kind::Folder(_) if !is_folder => return Err(refused(rustix::io::Errno::ISDIR)),
            Kind::File(_) if is_folder => return Err(refused(rustix::io::Errno::NOTDIR)),
            Kind::Folder(inner) if !inner.seen.is_empty() => {
                return Err(refused(rustix::io::Errno::NOTEMPTY));
            }
            _ => {}
        }
        self.entries(folder)?.seen.remove(name);
        self.note(NameChanged::Removed { folder, name: name.to_owned(), inode });
        self.leave(inode)
    }

    pub fn rename(&mut self, from: (u64, &OsStr), to: (u64, &OsStr)) -> io::Result<()> {
        let inode = self.find(from.0, from.1)?;
        let former = self.entries(to.0)?.seen.get(to.1).copied();
        if former == Some(inode) {
            return Ok(());
        }
        if let Some(former) = former
            && let Kind::Folder(inner) = &self.inode(former)?.kind
            && !inner.seen.is_empty()
        {
            return Err(refused(rustix::io::Errno::NOTEMPTY));
        }
        self.entries(from.0)?.seen.remove(from.1);
        self.entries(to.0)?.seen.insert(to.1.to_owned(), inode);
        let (from, to) = ((from.0, from.1.to_owned()), (to.0, to.1.to_owned()));
        self.note(NameChanged::Moved { from, to, inode });
        former.map_or(Ok(()), |former| self.leave(former))
    }

    fn note(&mut self, what: NameChanged) {
        self.moment += 1;
        if let Some(inode) = self.inodes.get_mut(&what.inode()) {
            inode.leads += 1;
        }
        self.name_changes.push(NameChange { moment: self.moment, what });
    }

    /// Something no longer leads there.
    pub fn leave(&mut self, number: u64) -> io::Result<()> {
        let inode = self.inode(number)?;
        inode.leads = inode.leads.saturating_sub(1);
        self.forget(number)
    }

    /// Invariant 4.
    pub fn forget(&mut self, number: u64) -> io::Result<()> {
        let inode = self.inode(number)?;
        if number == ROOT || inode.leads > 0 || inode.open > 0 {
            return Ok(());
        }
        if let Kind::File(content) = &mut inode.kind {
            content.remove()?;
        }
        self.inodes.remove(&number);
        Ok(())
    }

    pub fn change(&mut self, number: u64, change: Change) -> io::Result<()> {
        let direct = self.direct;
        let inode = self.inode(number)?;
        inode.modified = SystemTime::now();
        let content = self.content(number)?;
        content.change(change);
        if direct {
            let moment = content.moment();
            content.make_durable(moment)?;
        }
        Ok(())
    }

    /// Names the present moment of a file or folder for `make_durable`.
    pub fn moments(&mut self, number: u64) -> (u64, u64) {
        let content = self.content(number).map_or(0, |content| content.moment());
        (content, self.moment)
    }

    /// A sync that began at those moments is done.
    pub fn make_durable(&mut self, number: u64, moments: (u64, u64)) -> io::Result<()> {
        // A folder that is gone has nothing that a cut could take.
        let Some(inode) = self.inodes.get_mut(&number) else { return Ok(()) };
        let is_folder = match &mut inode.kind {
            Kind::File(content) => content.make_durable(moments.0).map(|()| false)?,
            Kind::Folder(_) => true,
        };
        let names = self.names;
        let covered = |change: &NameChange| {
            change.moment <= moments.1
                && (names == Names::Journal || (is_folder && change.what.touches(number)))
        };
        let (done, left) =
            std::mem::take(&mut self.name_changes).into_iter().partition(|one| covered(one));
        self.name_changes = left;
        self.apply_names(done)
    }

    /// Takes changes of names to what is durable.
    pub fn apply_names(&mut self, changes: Vec<NameChange>) -> io::Result<()> {
        for change in changes {
            let inode = change.what.inode();
            match change.what {
                NameChanged::Made { folder, name, inode } => self.put(folder, name, inode)?,
                NameChanged::Removed { folder, name, .. } => {
                    self.take(folder, &name, inode)?;
                    self.drop_changes_within(inode)?;
                }
                NameChanged::Moved { from, to, inode } => {
                    self.take(from.0, &from.1, inode)?;
                    self.put(to.0, to.1, inode)?;
                }
            }
            self.leave(inode)?;
        }
        Ok(())
    }

    fn put(&mut self, folder: u64, name: OsString, inode: u64) -> io::Result<()> {
        // Its own folder may be gone for good.
        let Ok(entries) = self.entries(folder) else { return Ok(()) };
        let former = entries.durable.insert(name, inode);
        self.inode(inode)?.leads += 1;
        former.map_or(Ok(()), |former| self.leave(former))
    }

    fn take(&mut self, folder: u64, name: &OsStr, inode: u64) -> io::Result<()> {
        let Ok(entries) = self.entries(folder) else { return Ok(()) };
        if entries.durable.get(name) != Some(&inode) {
            return Ok(());
        }
        entries.durable.remove(name);
        self.leave(inode)
    }

    /// Nobody can sync a folder any more that is durably gone; what was in it goes with it.
    fn drop_changes_within(&mut self, folder: u64) -> io::Result<()> {
        let Some(Inode { kind: Kind::Folder(inner), .. }) = self.inodes.get_mut(&folder) else {
            return Ok(());
        };
        let durable = std::mem::take(&mut inner.durable);
        let within = |change: &NameChange| match &change.what {
            NameChanged::Made { folder: f, .. } | NameChanged::Removed { folder: f, .. } => {
                *f == folder
            }
            NameChanged::Moved { .. } => false,
        };
        let (gone, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.name_changes).into_iter().partition(within);
        self.name_changes = left;
        for inode in durable.into_values().chain(gone.iter().map(|one| one.what.inode())) {
            self.leave(inode)?;
        }
        Ok(())
    }
}

impl Inode {
    fn new(kind: Kind, mode: u16) -> Self {
        Inode { kind, mode, modified: SystemTime::now(), open: 0, leads: 0 }
    }
}

#[derive(Clone, Copy)]
pub enum Make {
    Folder,
    File,
}
