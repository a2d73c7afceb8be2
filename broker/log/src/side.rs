//! The side file of a sealed segment, `<base offset>.side`: what the view would tell about it, so
//! that the view can be lost. Written and synced after the segment's own sync: where a valid side
//! file stands, its segment is whole and durable (invariant 6).
//!
//! ```text
//! magic u64 | version u32 | crc u32 of what follows | sections: tag u8, bytes u32, content
//! tag 1 summary, tag 2 sparse index, tag 3 producers, tag 4 aborted transactions; unknown tags
//! are passed over
//! ```

use crate::index::{self, IndexEntry, SegmentIndex, Summary};
use crate::producers::Producers;
use crate::transactions;
use crate::types::AbortedTransaction;

const MAGIC: u64 = u64::from_be_bytes(*b"odradekS");
const VERSION: u32 = 1;
pub(crate) const HEADER_BYTES: usize = 16;
const SUMMARY: u8 = 1;
const INDEX: u8 = 2;
const PRODUCERS: u8 = 3;
const ABORTED: u8 = 4;
/// A segment of 128 MiB has 2,048 entries, 10,000 producers take 1.5 MB and 65,536 aborted
/// transactions 2 MB; more of those come only with a segment from elsewhere. Anything much larger
/// was not written by us.
pub(crate) const BYTES_MAX: u64 = 64 << 20;

pub(crate) struct Side {
    pub summary: Summary,
    pub entries: Vec<IndexEntry>,
    pub producers: Producers,
    pub aborted: Vec<AbortedTransaction>,
}

pub(crate) fn encode(index: &SegmentIndex, producers: &Producers) -> Vec<u8> {
    let mut body = Vec::new();
    let sections = [
        (SUMMARY, index::encode_summary(&index.summary, true)),
        (INDEX, index::encode_entries(&index.entries)),
        (PRODUCERS, producers.encode()),
        (ABORTED, transactions::encode_aborted(&index.aborted)),
    ];
    for (tag, content) in sections {
        body.push(tag);
        let length = u32::try_from(content.len()).expect("bounded by BYTES_MAX");
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(&content);
    }
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Side> {
    let half = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let mut body = bytes.get(HEADER_BYTES..)?;
    let intact = bytes.get(0..8)? == MAGIC.to_be_bytes()
        && half(8)? == VERSION
        && half(12)? == crc32c::crc32c(body);
    if !intact {
        return None;
    }
    let (mut summary, mut entries, mut producers) = (None, None, None);
    // Segments that were sealed before there were transactions say nothing of them.
    let mut aborted = Some(Vec::new());
    while !body.is_empty() {
        let length = u32::from_le_bytes(body.get(1..5)?.try_into().ok()?);
        let content = body.get(5..)?.get(..usize::try_from(length).ok()?)?;
        match body[0] {
            SUMMARY => summary = index::decode_summary(content).map(|(summary, _)| summary),
            INDEX => entries = index::decode_entries(content),
            PRODUCERS => producers = Producers::decode(content),
            ABORTED => aborted = transactions::decode_aborted(content),
            _ => {}
        }
        body = &body[5 + content.len()..];
    }
    Some(Side { summary: summary?, entries: entries?, producers: producers?, aborted: aborted? })
}
