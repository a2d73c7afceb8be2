//! What a power cut leaves, chosen by a seed.
//!
//! Of each file's changes since its last sync all are kept, or none, or a beginning, or any of
//! them; a write that is neither kept nor dropped is torn at sectors, of which again any are kept.
//! A length may be durable before the bytes are (zeros then), or after them (they are gone then).
//! Of the changes of names since their folder's last sync a beginning is kept, or any of them.

use std::io;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::content::{Change, Content};
use crate::disk::{Disk, Kind, NameChanged};

const SECTOR_BYTES: u64 = 512;

/// Changes the disk into what the cut leaves; the lines say what was lost.
pub fn cut(disk: &mut Disk, seed: u64) -> io::Result<Vec<String>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut lost = cut_names(disk, &mut random)?;
    let numbers: Vec<u64> = disk.inodes.keys().copied().collect();
    for number in numbers {
        let name = path_of(disk, number);
        if let Kind::File(content) = &mut disk.inode(number)?.kind
            && let Some(said) = cut_file(content, &mut random)?
        {
            lost.push(format!("{name}: {said}"));
        }
    }
    Ok(lost)
}

/// How kind the cut is to one list of changes.
enum Mercy {
    All,
    None,
    /// So many of the first ones.
    Beginning(usize),
    Any,
}

impl Mercy {
    fn choose(random: &mut StdRng, count: usize) -> Self {
        match random.random_range(0..8) {
            0 => Self::All,
            1 => Self::None,
            2..5 => Self::Beginning(random.random_range(0..=count)),
            _ => Self::Any,
        }
    }

    fn keeps(&self, random: &mut StdRng, index: usize) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Beginning(count) => index < *count,
            Self::Any => random.random_bool(0.5),
        }
    }
}

fn cut_names(disk: &mut Disk, random: &mut StdRng) -> io::Result<Vec<String>> {
    let changes = std::mem::take(&mut disk.name_changes);
    let mercy = Mercy::choose(random, changes.len());
    let mut lost = Vec::new();
    let mut kept = Vec::new();
    for (index, change) in changes.into_iter().enumerate() {
        if mercy.keeps(random, index) {
            kept.push(change);
        } else {
            lost.push(describe(disk, &change.what));
        }
    }
    disk.apply_names(kept)?;
    Ok(lost)
}

fn describe(disk: &Disk, change: &NameChanged) -> String {
    let within = |folder: u64, name: &std::ffi::OsStr| {
        format!("{}/{}", path_of(disk, folder), name.to_string_lossy())
    };
    match change {
        NameChanged::Made { folder, name, .. } => format!("{}: not made", within(*folder, name)),
        NameChanged::Removed { folder, name, .. } => {
            format!("{}: not removed", within(*folder, name))
        }
        NameChanged::Moved { from, to, .. } => {
            let (from, to) = (within(from.0, &from.1), within(to.0, &to.1));
            format!("{from}: not renamed to {to}")
        }
    }
}

/// A path by which readers reached it, for people; they are few, so a search will do.
fn path_of(disk: &Disk, number: u64) -> String {
    let leads_to = disk.inodes.iter().find_map(|(folder, inode)| match &inode.kind {
        Kind::Folder(inner) => {
            let mut entries = inner.seen.iter().chain(&inner.durable);
            let (name, _) = entries.find(|(_, inode)| **inode == number)?;
            Some((*folder, name.to_string_lossy().into_owned()))
        }
        Kind::File(_) => None,
    });
    match leads_to {
        Some((folder, name)) if folder != number => format!("{}/{name}", path_of(disk, folder)),
        _ if number == crate::disk::ROOT => String::new(),
        _ => format!("#{number}"),
    }
}

fn cut_file(content: &mut Content, random: &mut StdRng) -> io::Result<Option<String>> {
    let changes = std::mem::take(&mut content.pending);
    if changes.is_empty() {
        return Ok(None);
    }
    let (seen_bytes, durable_bytes) = (content.bytes, content.durable_bytes);
    let mercy = Mercy::choose(random, changes.len());
    let (count, mut dropped, mut torn) = (changes.len(), 0, 0);
    let mut kept = Vec::new();
    for (index, change) in changes.into_iter().enumerate() {
        let last_kept = matches!(mercy, Mercy::Beginning(beginning) if index == beginning);
        let any = matches!(mercy, Mercy::Any);
        match change {
            Change::Write { at, bytes } if last_kept || (any && random.random_bool(0.3)) => {
                torn += 1;
                kept.extend(tear(at, &bytes, random));
            }
            change if mercy.keeps(random, index) => kept.push(change),
            _ => dropped += 1,
        }
    }
    content.apply(&kept)?;
    // The length may have been a step ahead of the bytes, or a step behind.
    let length = content.durable_bytes;
    if length < seen_bytes && random.random_bool(0.25) {
        content.set_durable_length(seen_bytes)?;
    } else if length > durable_bytes && random.random_bool(0.25) {
        content.set_durable_length(durable_bytes)?;
    }
    Ok(Some(format!(
        "of {count} changes {dropped} dropped and {torn} torn, {durable_bytes} bytes before, \
         {seen_bytes} seen, {} left",
        content.durable_bytes
    )))
}

/// The sectors of a write that reached the disk: a beginning, or any.
fn tear(at: u64, bytes: &[u8], random: &mut StdRng) -> Vec<Change> {
    let until = at + bytes.len() as u64;
    let sectors = at / SECTOR_BYTES..until.div_ceil(SECTOR_BYTES);
    let end = random.random_range(sectors.clone());
    let any = random.random_bool(0.5);
    let mut kept = Vec::new();
    for sector in sectors {
        let keep = if any { random.random_bool(0.5) } else { sector < end };
        if keep {
            let from = at.max(sector * SECTOR_BYTES);
            let to = until.min((sector + 1) * SECTOR_BYTES);
            let inside = |position: u64| usize::try_from(position - at).unwrap_or(bytes.len());
            let bytes = bytes[inside(from)..inside(to)].to_vec();
            kept.push(Change::Write { at: from, bytes });
        }
    }
    kept
}
