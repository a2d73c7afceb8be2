//! The kernel's requests, each answered from the disk.

use std::ffi::OsStr;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation,
    INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr,
    ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyOpen,
    ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use rustix::fs::FallocateFlags;

use crate::content::Change;
use crate::disk::{Disk, Kind, Make, ROOT};
use crate::power::{Afterwards, Machine, SyncReply};

/// Nobody else changes the disk, so the kernel may believe what it was told.
const VALID: Duration = Duration::from_secs(3600);
const WRITE_BYTES_MAX: u32 = 1 << 20;
const BLOCK_BYTES: u32 = 4096;
/// As in `sync.c`.
const IOCTL_SYNC: u32 = 0x5001;
const IOCTL_LIE: u32 = 0x5002;

pub struct Layer {
    pub machine: Arc<Machine>,
}

/// The disk, or the answer that the power is off.
macro_rules! enter {
    ($self:ident, $reply:ident, $changes:expr) => {
        match $self.machine.enter($changes) {
            Ok(state) => state,
            Err(Afterwards::Fail) => return $reply.error(Errno::EIO),
            // A reply that is dropped would answer.
            Err(Afterwards::Hang) => return std::mem::forget($reply),
        }
    };
}

macro_rules! answer {
    ($reply:ident, $result:expr, $ok:expr) => {
        match $result {
            Ok(value) => $ok($reply, value),
            Err(error) => $reply.error(error.into()),
        }
    };
}

fn attributes(disk: &mut Disk, number: u64) -> io::Result<FileAttr> {
    let direct = disk.direct;
    let inode = disk.inode(number)?;
    let (mode, modified) = (inode.mode, inode.modified);
    let (kind, bytes) = match &mut inode.kind {
        Kind::Folder(_) => (FileType::Directory, 0),
        // The kernel may have written past us.
        Kind::File(content) if direct => (FileType::RegularFile, content.file()?.metadata()?.len()),
        Kind::File(content) => (FileType::RegularFile, content.bytes),
    };
    Ok(FileAttr {
        ino: INodeNo(number),
        size: bytes,
        blocks: bytes.div_ceil(512),
        atime: modified,
        mtime: modified,
        ctime: modified,
        crtime: modified,
        kind,
        perm: mode,
        nlink: 1,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        rdev: 0,
        blksize: BLOCK_BYTES,
        flags: 0,
    })
}

fn made(
    disk: &mut Disk,
    parent: INodeNo,
    name: &OsStr,
    kind: Make,
    mode: u32,
) -> io::Result<FileAttr> {
    let mode = u16::try_from(mode & 0o7777).unwrap_or(0o600);
    let inode = disk.make(parent.0, name, kind, mode)?;
    attributes(disk, inode)
}

impl Filesystem for Layer {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let _ = config.set_max_write(WRITE_BYTES_MAX);
        if self.machine.end().disk.direct
            && config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).is_ok()
        {
            let _ = config.set_max_stack_depth(1);
        }
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut state = enter!(self, reply, false);
        let disk = &mut state.disk;
        let found = disk.find(parent.0, name).and_then(|inode| attributes(disk, inode));
        answer!(reply, found, |reply: ReplyEntry, found| reply.entry(
            &VALID,
            &found,
            Generation(0)
        ));
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        let mut state = enter!(self, reply, false);
        let found = attributes(&mut state.disk, inode.0);
        answer!(reply, found, |reply: ReplyAttr, found| reply.attr(&VALID, &found));
    }

    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = enter!(self, reply, size.is_some());
        let disk = &mut state.disk;
        let mut set = || {
            if let Some(bytes) = size {
                disk.change(inode.0, Change::Length(bytes))?;
            }
            let kept = disk.inode(inode.0)?;
            if let Some(mode) = mode {
                kept.mode = u16::try_from(mode & 0o7777).unwrap_or(kept.mode);
            }
            match mtime {
                Some(TimeOrNow::SpecificTime(time)) => kept.modified = time,
                Some(TimeOrNow::Now) => kept.modified = SystemTime::now(),
                None => {}
            }
            attributes(disk, inode.0)
        };
        answer!(reply, set(), |reply: ReplyAttr, found| reply.attr(&VALID, &found));
    }

    fn mkdir(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mut state = enter!(self, reply, true);
        let made = made(&mut state.disk, parent, name, Make::Folder, mode & !umask);
        answer!(reply, made, |reply: ReplyEntry, made| reply.entry(&VALID, &made, Generation(0)));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = enter!(self, reply, true);
        let removed = state.disk.remove(parent.0, name, false);
        answer!(reply, removed, |reply: ReplyEmpty, ()| reply.ok());
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = enter!(self, reply, true);
        let removed = state.disk.remove(parent.0, name, true);
        answer!(reply, removed, |reply: ReplyEmpty, ()| reply.ok());
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let mut state = enter!(self, reply, true);
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let renamed = state.disk.rename((parent.0, name), (new_parent.0, new_name));
        answer!(reply, renamed, |reply: ReplyEmpty, ()| reply.ok());
    }

    fn open(&self, _: &Request, inode: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        let mut state = enter!(self, reply, false);
        let direct = state.disk.direct;
        let mut open = || {
            let content = state.disk.content(inode.0)?;
            let file = content.file()?;
            if direct && content.shortcut.is_none() {
                content.shortcut = reply.open_backing(&*file).ok().map(Arc::new);
            }
            let shortcut = content.shortcut.clone();
            state.disk.inode(inode.0)?.open += 1;
            Ok::<_, io::Error>(shortcut)
        };
        match open() {
            Ok(Some(shortcut)) => {
                reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), &shortcut);
            }
            Ok(None) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            Err(error) => reply.error(error.into()),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut state = enter!(self, reply, true);
        let disk = &mut state.disk;
        let mut create = || {
            let made = made(disk, parent, name, Make::File, mode & !umask)?;
            disk.inode(made.ino.0)?.open += 1;
            let direct = disk.direct;
            let content = disk.content(made.ino.0)?;
            if direct {
                let file = content.file()?;
                content.shortcut = reply.open_backing(&*file).ok().map(Arc::new);
            }
            Ok::<_, io::Error>((made, content.shortcut.clone()))
        };
        let (generation, handle) = (Generation(0), FileHandle(0));
        match create() {
            Ok((made, Some(shortcut))) => {
                let flags = FopenFlags::empty();
                reply.created_passthrough(&VALID, &made, generation, handle, flags, &shortcut);
            }
            Ok((made, None)) => {
                reply.created(&VALID, &made, generation, handle, FopenFlags::FOPEN_KEEP_CACHE);
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = enter!(self, reply, false);
        let read =
            state.disk.content(inode.0).and_then(|content| content.read(offset, size as usize));
        drop(state);
        answer!(reply, read, |reply: ReplyData, bytes: Vec<u8>| reply.data(&bytes));
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let bytes = data.to_vec();
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut state = enter!(self, reply, true);
        let written = state.disk.change(inode.0, Change::Write { at: offset, bytes });
        answer!(reply, written, |reply: ReplyWrite, ()| reply.written(count));
    }

    fn fallocate(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut state = enter!(self, reply, true);
        let disk = &mut state.disk;
        let Ok(mode) = u32::try_from(mode) else { return reply.error(Errno::EINVAL) };
        let mode = FallocateFlags::from_bits_retain(mode);
        let until = offset.saturating_add(length);
        let mut allocate = || {
            if disk.direct {
                let file = disk.content(inode.0)?.file()?;
                return Ok(rustix::fs::fallocate(&*file, mode, offset, length)?);
            }
            if mode == FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE {
                return disk.change(inode.0, Change::Zeros { at: offset, until });
            }
            if !(mode.is_empty() || mode == FallocateFlags::KEEP_SIZE) {
                return Err(io::Error::from(io::ErrorKind::Unsupported));
            }
            // Reserving costs nothing here: what is not durable is in memory anyway.
            if mode.is_empty() && disk.content(inode.0)?.bytes < until {
                return disk.change(inode.0, Change::Length(until));
            }
            Ok(())
        };
        match allocate() {
            Ok(()) => reply.ok(),
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                reply.error(Errno::EOPNOTSUPP);
            }
            Err(error) => reply.error(error.into()),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let state = enter!(self, reply, true);
        self.machine.sync(state, inode.0, SyncReply::Sync(reply));
    }

    fn fsyncdir(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let state = enter!(self, reply, true);
        self.machine.sync(state, inode.0, SyncReply::Sync(reply));
    }

    /// A sync during which the kernel lets others write to the file.
    fn ioctl(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        command: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        if command != IOCTL_SYNC && command != IOCTL_LIE {
            return reply.error(Errno::ENOTTY);
        }
        let state = enter!(self, reply, true);
        match command {
            IOCTL_SYNC => self.machine.sync(state, inode.0, SyncReply::Ioctl(reply)),
            _ => self.machine.lie(state, inode.0, SyncReply::Ioctl(reply)),
        }
    }

    fn release(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let mut state = enter!(self, reply, false);
        let disk = &mut state.disk;
        let mut close = || {
            let kept = disk.inode(inode.0)?;
            kept.open = kept.open.saturating_sub(1);
            if kept.open == 0
                && let Kind::File(content) = &mut kept.kind
            {
                content.close();
            }
            disk.forget(inode.0)
        };
        answer!(reply, close(), |reply: ReplyEmpty, ()| reply.ok());
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut state = enter!(self, reply, false);
        let names = match state.disk.entries(inode.0) {
            Ok(folder) => folder.seen.clone(),
            Err(error) => return reply.error(error.into()),
        };
        let mut entries = vec![
            (inode.0, FileType::Directory, ".".into()),
            (ROOT, FileType::Directory, "..".into()),
        ];
        for (name, number) in names {
            let Ok(inner) = state.disk.inode(number) else { continue };
            let kind = match inner.kind {
                Kind::Folder(_) => FileType::Directory,
                Kind::File(_) => FileType::RegularFile,
            };
            entries.push((number, kind, name));
        }
        let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
        for (index, (number, kind, name)) in entries.into_iter().enumerate().skip(skipped) {
            if reply.add(INodeNo(number), index as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let state = enter!(self, reply, false);
        let space = rustix::fs::statvfs(&state.disk.folder).map_err(io::Error::from);
        answer!(reply, space, |reply: ReplyStatfs, space: rustix::fs::StatVfs| reply.statfs(
            space.f_blocks,
            space.f_bfree,
            space.f_bavail,
            space.f_files,
            space.f_ffree,
            u32::try_from(space.f_bsize).unwrap_or(BLOCK_BYTES),
            255,
            u32::try_from(space.f_frsize).unwrap_or(BLOCK_BYTES),
        ));
    }
}
