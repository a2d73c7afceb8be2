//! Two files of fixed size, written from front to back in turn. Each use of a file begins with a
//! header that holds a fresh salt; each group names the salt of its use, so neither what a former
//! use left behind nor what a producer sends can pass for a group.
//!
//! ```text
//! file   | header (4 KiB) | group | group | …            | copy of the header (last 4 KiB) |
//! header | magic u64, version u32, crc u32 of what follows, salt u64, first sequence u64,
//!        | checkpointed sequence u64
//! group  | see group.rs; starts at multiples of 8
//! ```
//!
//! The header stands twice, so that one bad sector cannot hide a whole file.

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};
use crate::flight::FLIGHTS_MAX;
use crate::group;

pub(crate) const HEADER_BYTES: u64 = 4096;
const MAGIC: u64 = u64::from_be_bytes(*b"odradekJ");
const VERSION: u32 = 1;
pub(crate) const FILE_NAMES: [&str; 2] = ["journal.0", "journal.1"];

pub(crate) struct JournalFile {
    pub name: &'static str,
    pub file: Arc<dyn DiskFile>,
    /// To sync it by: one for each group in flight.
    handles: Vec<Arc<dyn DiskFile>>,
    pub header: Option<FileHeader>,
    /// Where the next group goes.
    pub position: u64,
    /// Last sequence in it; the file may be used again once a checkpoint covers it.
    pub last_sequence: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub salt: u64,
    pub first_sequence: u64,
    pub checkpointed_sequence: u64,
}

impl FileHeader {
    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(24);
        body.extend_from_slice(&self.salt.to_le_bytes());
        body.extend_from_slice(&self.first_sequence.to_le_bytes());
        body.extend_from_slice(&self.checkpointed_sequence.to_le_bytes());
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        bytes.extend_from_slice(&MAGIC.to_be_bytes());
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        bytes.resize(HEADER_BYTES as usize, 0);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<FileHeader> {
        let word = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let half = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let intact = bytes.get(0..8)? == MAGIC.to_be_bytes()
            && half(8)? == VERSION
            && half(12)? == crc32c::crc32c(bytes.get(16..40)?);
        intact.then_some(FileHeader {
            salt: word(16)?,
            first_sequence: word(24)?,
            checkpointed_sequence: word(32)?,
        })
    }
}

pub(crate) struct Journal {
    disk: Arc<dyn Disk>,
    pub files: [JournalFile; 2],
    /// The file that groups go to now; none before the first `switch`.
    current: Option<usize>,
    /// Of the groups that a start would read now, be they covered by a checkpoint or not.
    first_sequence: u64,
    file_bytes: u64,
}

impl Journal {
    /// Opens both files, new or not, and reads their headers; nothing is written yet.
    pub fn open(disk: &Arc<dyn Disk>, file_bytes: u64) -> io::Result<Journal> {
        let open = |index: usize| -> io::Result<JournalFile> {
            let file = disk.create(FILE_NAMES[index])?;
            let header = read_header(&file)?;
            let last_sequence = header.map_or(0, |header| header.first_sequence - 1);
            let name = FILE_NAMES[index];
            let handles = (0..FLIGHTS_MAX).map(|_| disk.create(name)).collect::<io::Result<_>>()?;
            Ok(JournalFile { name, file, handles, header, position: HEADER_BYTES, last_sequence })
        };
        let files = [open(0)?, open(1)?];
        Ok(Journal { disk: disk.clone(), files, current: None, first_sequence: 0, file_bytes })
    }

    /// Largest group that fits a file.
    pub fn group_bytes_max(file_bytes: u64) -> u64 {
        file_bytes.saturating_sub(2 * HEADER_BYTES)
    }

    pub fn has_room(&self, group_bytes: u64) -> bool {
        let Some(current) = self.current else { return false };
        let end = self.file_bytes - HEADER_BYTES;
        self.files[current].position + group_bytes <= end
    }

    /// The file that comes next, and the last sequence a checkpoint must cover before it may.
    pub fn next_file_needs(&self) -> u64 {
        self.files[self.next_index()].last_sequence
    }

    /// After a start the older file is the one to begin with: a crash in the middle then leaves
    /// the newer one whole.
    fn next_index(&self) -> usize {
        match self.current {
            Some(current) => 1 - current,
            None => {
                let first = |index: usize| {
                    self.files[index].header.map_or(0, |header| header.first_sequence)
                };
                usize::from(first(1) < first(0))
            }
        }
    }

    /// Takes the other file into use. Invariant 4: its header is durable before its first group
    /// is written, and the file left behind is durable before that.
    pub fn switch(&mut self, first_sequence: u64, checkpointed_sequence: u64) -> io::Result<()> {
        if let Some(current) = self.current {
            self.files[current].file.sync()?;
        }
        let next = self.next_index();
        assert!(
            self.files[next].last_sequence <= checkpointed_sequence,
            "invariant 4: a journal file is used again only behind a checkpoint"
        );
        let header = FileHeader { salt: self.disk.random(), first_sequence, checkpointed_sequence };
        // As `recover` does: where a checkpoint covers all of it, the file left behind is not read.
        let left = self.current.and_then(|current| self.files[current].header);
        let left = left.filter(|_| checkpointed_sequence + 1 < first_sequence);
        self.first_sequence = left.map_or(first_sequence, |header| header.first_sequence);
        let file = &mut self.files[next];
        if file.file.byte_count()? != self.file_bytes {
            if file.file.byte_count()? > self.file_bytes {
                file.file.set_len(self.file_bytes)?;
            }
            file.file.allocate(self.file_bytes)?;
        }
        // Large folios left in the page cache by large writes would make every small group write
        // back all of such a folio (storage.md: 17 to 65 times the bytes).
        file.file.drop_cache();
        let bytes = header.encode();
        file.file.write_all_at(&bytes, 0)?;
        file.file.write_all_at(&bytes, self.file_bytes - HEADER_BYTES)?;
        file.file.sync()?;
        file.header = Some(header);
        file.position = HEADER_BYTES;
        file.last_sequence = first_sequence - 1;
        self.current = Some(next);
        Ok(())
    }

    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    pub fn salt(&self) -> u64 {
        let current = self.current.expect("switch comes before the first group");
        self.files[current].header.expect("a file in use has a header").salt
    }

    /// Writes a sealed group. The position moves only if the write worked.
    pub fn write(&mut self, sequence: u64, bytes: &[u8]) -> io::Result<()> {
        let current = self.current.expect("switch comes before the first group");
        assert!(self.has_room(bytes.len() as u64), "invariant 4: a group lies within its file");
        let file = &mut self.files[current];
        file.file.write_all_at(bytes, file.position)?;
        file.position += group::aligned(bytes.len() as u64);
        file.last_sequence = sequence;
        Ok(())
    }

    /// To sync the file in use by, also when another one is in use by then.
    pub fn handle(&self, index: usize) -> Arc<dyn DiskFile> {
        let current = self.current.expect("switch comes before the first group");
        self.files[current].handles[index].clone()
    }

    pub fn sync(&self) -> io::Result<()> {
        let current = self.current.expect("switch comes before the first group");
        self.files[current].file.sync()
    }

    pub fn sync_all(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| file.file.sync())
    }
}

fn read_header(file: &Arc<dyn DiskFile>) -> io::Result<Option<FileHeader>> {
    let bytes = file.byte_count()?;
    if bytes < 2 * HEADER_BYTES {
        return Ok(None);
    }
    let mut newest: Option<FileHeader> = None;
    for position in [0, bytes - HEADER_BYTES] {
        let mut buffer = [0_u8; 64];
        file.read_exact_at(&mut buffer, position)?;
        if let Some(header) = FileHeader::decode(&buffer)
            && header.first_sequence > 0
            && newest.is_none_or(|newest| header.first_sequence > newest.first_sequence)
        {
            newest = Some(header);
        }
    }
    Ok(newest)
}
