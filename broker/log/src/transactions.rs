//! Transactions as the log sees them (KIP-98): a producer's first transactional batch opens one in
//! that partition, a control record ends it, and an aborted one is remembered for readers that
//! want committed records only.
//!
//! The same machine runs twice a partition: at the high watermark, for the last stable offset, and
//! behind it where batches settle, for side files and restarts. Both see the same batches in the
//! same order, so both come to the same result.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use odradek_protocol::batch::RecordReader;

use crate::core::Core;
use crate::index::Summary;
use crate::partition::Partition;
use crate::read;
use crate::types::{AbortedTransaction, PartitionId, ReadError};
use crate::wire::Header;

/// Markers are tiny and never compressed; a control batch that claims more is none of ours.
const MARKER_BYTES_MAX: usize = 4 << 10;
/// Key of a control record: version i16, type i16.
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const ABORTED_BYTES: usize = 32;
/// An active segment with so many aborted transactions is sealed, so that what memory and a side
/// file hold of them stays at 2 MiB.
pub(crate) const ABORTED_PER_SEGMENT_MAX: u32 = 65_536;

/// What a control record says about its producer's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub commit: bool,
    pub coordinator_epoch: i32,
}

/// The end of a transaction that a control batch stands for; `None` for the other kinds of control
/// record (Kafka has some for its own quorum).
pub(crate) fn marker(header: &Header, batch: &Bytes) -> Option<Marker> {
    if !header.is_control() || !header.has_producer_id() {
        return None;
    }
    let record = RecordReader::new(batch, MARKER_BYTES_MAX).ok()?.next()?.ok()?;
    let kind = i16::from_be_bytes(record.key?.get(2..4)?.try_into().ok()?);
    let epoch = record.value.as_ref().and_then(|value| value.get(2..6)?.try_into().ok());
    matches!(kind, ABORT | COMMIT).then_some(Marker {
        commit: kind == COMMIT,
        coordinator_epoch: epoch.map_or(-1, i32::from_be_bytes),
    })
}

/// Transactions that have begun and not ended, in offset order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OpenTransactions {
    by_producer: HashMap<i64, i64>,
    by_offset: BTreeSet<(i64, i64)>,
}

impl OpenTransactions {
    /// Takes in the next batch of the partition; returns the transaction that it aborted, if so.
    pub fn apply(&mut self, header: &Header, batch: &Bytes) -> Option<AbortedTransaction> {
        if header.is_control() {
            let marker = marker(header, batch)?;
            return self.end(header, marker);
        }
        if header.is_transactional() && header.has_producer_id() {
            self.open(header.producer_id, header.base_offset);
        }
        None
    }

    pub fn open(&mut self, producer_id: i64, first_offset: i64) {
        if let Entry::Vacant(vacant) = self.by_producer.entry(producer_id) {
            vacant.insert(first_offset);
            self.by_offset.insert((first_offset, producer_id));
        }
    }

    /// A marker without a transaction in this partition ends nothing, as in Kafka.
    pub fn end(&mut self, header: &Header, marker: Marker) -> Option<AbortedTransaction> {
        let first_offset = self.by_producer.remove(&header.producer_id)?;
        self.by_offset.remove(&(first_offset, header.producer_id));
        let last_offset = header.last_offset();
        (!marker.commit).then_some(AbortedTransaction {
            producer_id: header.producer_id,
            first_offset,
            last_offset,
            last_stable_offset: self.first_offset().unwrap_or(last_offset.saturating_add(1)),
        })
    }

    /// Where the oldest of them begins.
    pub fn first_offset(&self) -> Option<i64> {
        self.by_offset.first().map(|(first_offset, _)| *first_offset)
    }

    pub fn of(&self, producer_id: i64) -> Option<i64> {
        self.by_producer.get(&producer_id).copied()
    }
}

impl Core {
    /// Aborted transactions that overlap `[from_offset, to_offset)`, by first offset: whose marker
    /// is not below it and whose first record is, as in Kafka's `TransactionIndex`.
    pub fn aborted(
        &self,
        id: PartitionId,
        from_offset: i64,
        to_offset: i64,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let partition = self.partition(id).ok_or(ReadError::UnknownPartition)?;
        read::retried(|| self.aborted_once(&partition, from_offset, to_offset))
    }

    fn aborted_once(
        &self,
        partition: &Arc<Partition>,
        from_offset: i64,
        to_offset: i64,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let overlaps = |aborted: &AbortedTransaction| {
            aborted.last_offset >= from_offset && aborted.first_offset < to_offset
        };
        let (sealed, mut found) = {
            let shared = partition.shared();
            let active = shared.active.iter().flat_map(|active| &active.aborted);
            let in_memory = active.chain(&shared.unsettled_aborted).copied();
            let sealed = shared.segments.iter().filter(|segment| segment.sealed);
            let sealed = sealed.map(|segment| segment.summary).filter(|summary| {
                summary.end_offset > from_offset && summary.aborted_first_offset < to_offset
            });
            (sealed.collect::<Vec<_>>(), in_memory.filter(overlaps).collect::<Vec<_>>())
        };
        for summary in &sealed {
            if let Some(aborted) = self.aborted_in(partition, summary)? {
                found.extend(aborted.iter().copied().filter(overlaps));
            }
        }
        found.sort_by_key(|aborted| (aborted.first_offset, aborted.last_offset));
        Ok(found)
    }

    /// `None` if the segment was trimmed while we looked: its markers are below the log start.
    fn aborted_in(
        &self,
        partition: &Arc<Partition>,
        summary: &Summary,
    ) -> Result<Option<Arc<Vec<AbortedTransaction>>>, ReadError> {
        let name = summary.name();
        if let Some(aborted) = self.aborted_cache.find(partition.id, name) {
            return Ok(Some(aborted));
        }
        let Some(side) = self.segments.read_side(partition, name)? else {
            let shared = partition.shared();
            return match shared.holds(name) {
                true => Err(unreadable(partition, name.base_offset)),
                false if summary.end_offset <= shared.log_start_offset => Ok(None),
                // Rewritten: look again.
                false => Err(io::Error::from(io::ErrorKind::NotFound).into()),
            };
        };
        Ok(Some(self.aborted_cache.put(partition.id, name, side.aborted)))
    }
}

fn unreadable(partition: &Partition, base_offset: i64) -> ReadError {
    ReadError::Damaged {
        partition: partition.id,
        offset: base_offset,
        reason: "the side file of its segment is missing or damaged".to_owned(),
    }
}

pub(crate) fn encode_aborted(aborted: &[AbortedTransaction]) -> Vec<u8> {
    let mut out = Vec::with_capacity(aborted.len() * ABORTED_BYTES);
    for one in aborted {
        let fields = [one.producer_id, one.first_offset, one.last_offset, one.last_stable_offset];
        fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
    }
    out
}

pub(crate) fn decode_aborted(bytes: &[u8]) -> Option<Vec<AbortedTransaction>> {
    let entries = bytes.chunks_exact(ABORTED_BYTES);
    if !entries.remainder().is_empty() {
        return None;
    }
    let field = |entry: &[u8], at: usize| {
        Some(i64::from_le_bytes(entry.get(at * 8..at * 8 + 8)?.try_into().ok()?))
    };
    let one = |entry: &[u8]| {
        Some(AbortedTransaction {
            producer_id: field(entry, 0)?,
            first_offset: field(entry, 1)?,
            last_offset: field(entry, 2)?,
            last_stable_offset: field(entry, 3)?,
        })
    };
    entries.map(one).collect()
}

#[cfg(test)]
mod tests {
    use odradek_protocol::batch::{self, BatchBuilder};
    use odradek_protocol::compression::Compression;

    use super::*;

    fn data(producer_id: i64, base_offset: i64) -> (Header, Bytes) {
        let builder = BatchBuilder::new(Compression::None);
        let mut builder = builder.producer(producer_id, 0, 0).transactional();
        builder.push(1, None, Some(b"v"), &[]);
        builder.push(1, None, Some(b"w"), &[]);
        parsed(builder.build(base_offset))
    }

    /// As Kafka's `EndTransactionMarker` writes it: key version 0 and type, value version 0 and
    /// coordinator epoch.
    fn end(producer_id: i64, kind: u8, base_offset: i64) -> (Header, Bytes) {
        let builder = BatchBuilder::new(Compression::None);
        let mut builder = builder.producer(producer_id, 0, -1).transactional().control();
        builder.push(1, Some(&[0, 0, 0, kind]), Some(&[0, 0, 0, 0, 0, 9]), &[]);
        parsed(builder.build(base_offset))
    }

    fn parsed(bytes: Bytes) -> (Header, Bytes) {
        (batch::validate(&bytes).expect("a whole batch"), bytes)
    }

    #[test]
    fn a_marker_tells_commit_from_abort_and_the_coordinators_epoch() {
        let (header, bytes) = end(7, 1, 0);
        assert_eq!(marker(&header, &bytes), Some(Marker { commit: true, coordinator_epoch: 9 }));
        let (header, bytes) = end(7, 0, 0);
        assert_eq!(marker(&header, &bytes), Some(Marker { commit: false, coordinator_epoch: 9 }));
        // A leader change, and a batch that is no control batch.
        let (header, bytes) = end(7, 2, 0);
        assert_eq!(marker(&header, &bytes), None);
        let (header, bytes) = data(7, 0);
        assert_eq!(marker(&header, &bytes), None);
    }

    /// Kafka's `ProducerStateManager.lastStableOffset`: what the end of one transaction frees
    /// reaches up to the next open one, or to behind its marker.
    #[test]
    fn an_aborted_transaction_knows_how_far_everything_was_decided_at_its_end() {
        let mut open = OpenTransactions::default();
        for (producer_id, base_offset) in [(1, 10), (2, 12), (1, 14)] {
            let (header, bytes) = data(producer_id, base_offset);
            assert_eq!(open.apply(&header, &bytes), None);
        }
        assert_eq!(open.first_offset(), Some(10));
        let (header, bytes) = end(1, 0, 16);
        let aborted = AbortedTransaction {
            producer_id: 1,
            first_offset: 10,
            last_offset: 16,
            last_stable_offset: 12,
        };
        assert_eq!(open.apply(&header, &bytes), Some(aborted));
        let (header, bytes) = end(2, 0, 17);
        let second = open.apply(&header, &bytes).expect("aborted");
        assert_eq!((second.first_offset, second.last_stable_offset), (12, 18));
        let (header, bytes) = end(2, 0, 18);
        assert_eq!(open.apply(&header, &bytes), None, "nothing was open");
        assert_eq!(
            decode_aborted(&encode_aborted(&[aborted, second])),
            Some(vec![aborted, second])
        );
        assert_eq!(decode_aborted(&[0; 31]), None);
    }
}
