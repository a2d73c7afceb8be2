//! Doors for the fuzz targets (`tests/fuzz`): what reads back the log's own files, whose bytes a
//! failing disk or a careless hand may have changed. Nothing in the product calls this.

use bytes::Bytes;

use crate::group::{self, Found, HEADER_BYTES};
use crate::index::SegmentIndex;
use crate::producers::Producers;
use crate::{side, transactions, wire};

/// Puts a right checksum into the bytes of a group, so that what is behind it is seen.
pub fn seal_group(bytes: &mut [u8]) {
    if let Some(found) = Found::parse(bytes).filter(|_| bytes.len() >= HEADER_BYTES) {
        let crc = group::checksum(found.seal.salt, bytes);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Where in a journal group's bytes its entries' batches stand; `None`: it is no whole group.
pub fn group_entries(bytes: &[u8]) -> Option<Vec<(usize, usize)>> {
    let found = Found::parse(bytes)?;
    if !found.verify(bytes) {
        return None;
    }
    let entries = found.entries(bytes)?;
    Some(entries.into_iter().map(|entry| (entry.start, entry.bytes)).collect())
}

/// Puts a right checksum into the bytes of a side file.
pub fn seal_side(bytes: &mut [u8]) {
    if let Some((head, body)) = bytes.split_at_mut_checked(side::HEADER_BYTES) {
        head[12..16].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    }
}

/// A side file, written anew; `None`: it is none, and the segment is read instead.
pub fn side_file(bytes: &[u8]) -> Option<Vec<u8>> {
    let side = side::decode(bytes)?;
    let index =
        SegmentIndex { summary: side.summary, entries: side.entries, aborted: side.aborted };
    Some(side::encode(&index, &side.producers))
}

/// Walks a segment as the start does; the bytes of its whole batches, and whether each had its
/// timestamps in order (smallest, largest).
pub fn segment(bytes: &Bytes) -> (usize, bool) {
    let (mut whole, mut in_order) = (0, true);
    let mut index = SegmentIndex::empty(0);
    let mut producers = Producers::default();
    for (header, batch) in wire::batches(bytes) {
        whole += batch.len();
        let (low, high) = wire::timestamps(&header, &batch);
        in_order &= low <= high;
        let _ = (wire::crc_holds(&batch, &header), transactions::marker(&header, &batch));
        index.push(&header, low, high);
        if let Some(aborted) = producers.apply(&header, &batch) {
            index.abort(aborted);
        }
    }
    (whole, in_order)
}
