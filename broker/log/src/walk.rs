//! A walk over the batches of a segment file, in large reads.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::DiskFile;
use crate::read::read_range;
use crate::wire::{self, Header};

const WINDOW_BYTES: usize = 1 << 20;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk {
    pub from: u64,
    pub to: u64,
    /// Check each batch's CRC: for what no sync is known to cover.
    pub verify: bool,
}

/// Calls `visit` for each whole batch until it says false. Returns the position behind the last
/// one that was visited and accepted: less than `to` if something there is no batch.
pub(crate) fn walk(
    file: &Arc<dyn DiskFile>,
    walk: Walk,
    visit: &mut dyn FnMut(&Header, &Bytes) -> bool,
) -> io::Result<u64> {
    let mut position = walk.from;
    let mut wanted = WINDOW_BYTES;
    while position < walk.to {
        let mut window = read_range(file, position, wanted, walk.to)?;
        wanted = WINDOW_BYTES;
        let before = position;
        let next = loop {
            let Some(header) = wire::header(&window) else { break None };
            if header.batch_bytes > window.len() {
                break Some(header.batch_bytes);
            }
            let batch = window.split_to(header.batch_bytes);
            if walk.verify && !wire::crc_holds(&batch, &header) || !visit(&header, &batch) {
                return Ok(position);
            }
            position += header.batch_bytes as u64;
        };
        match next {
            Some(bytes) if position + bytes as u64 <= walk.to => wanted = bytes.max(WINDOW_BYTES),
            Some(_) => break,
            // The window's end may cut a header; anything longer that does not parse is none.
            None if window.len() < wire::HEADER_BYTES && position > before => {}
            None => break,
        }
    }
    Ok(position)
}

/// The same bytes in the same place: what a failed sync has left in the page cache is dirty again.
pub(crate) fn rewrite(file: &Arc<dyn DiskFile>, from: u64, to: u64) -> io::Result<()> {
    let mut position = from;
    while position < to {
        let window = read_range(file, position, WINDOW_BYTES, to)?;
        file.write_all_at(&window, position)?;
        position += window.len() as u64;
    }
    Ok(())
}
