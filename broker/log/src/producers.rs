//! What idempotence and transactions need to survive: per partition and producer the epoch, the
//! last five batches (Kafka's bound on requests in flight) and the open transaction, maintained
//! from batches as they settle, kept in the side file of each sealed segment and in the view.

use std::collections::HashMap;

use bytes::Bytes;

use crate::transactions::{self, OpenTransactions};
use crate::types::{AbortedTransaction, ProducerBatch, ProducerEntry};
use crate::wire::Header;

const BATCHES_MAX: usize = 5;
/// Producers remembered for one partition; beyond it the one that wrote longest ago goes.
/// A home server sees dozens; the bound is for clients that make a producer for every message.
pub const PRODUCERS_MAX: usize = 10_000;
/// Stands where the first encoding, which knew no transactions, had its count of producers: far
/// beyond what that count could be.
const ENCODING_2: u32 = u32::MAX - 1;
/// In place of the first offset of an open transaction.
const NO_TRANSACTION: i64 = -1;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Remembered>,
    open: OpenTransactions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Remembered {
    entry: ProducerEntry,
    /// Of what was written last, a marker included: behind one that began its producer's next epoch
    /// the entry has no batches. Not kept, because it only says who is to be forgotten.
    last_offset: i64,
}

impl Producers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn open_transactions(&self) -> &OpenTransactions {
        &self.open
    }

    /// Takes in the next batch; returns the transaction that it aborted, if so.
    pub fn apply(&mut self, header: &Header, batch: &Bytes) -> Option<AbortedTransaction> {
        if header.producer_id < 0 {
            return None;
        }
        let aborted = self.open.apply(header, batch);
        let remembered = self.by_id.entry(header.producer_id).or_insert_with(|| Remembered {
            entry: ProducerEntry {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                last_timestamp_ms: header.max_timestamp_ms,
                coordinator_epoch: -1,
                transaction_first_offset: None,
                batches: Vec::with_capacity(BATCHES_MAX),
            },
            last_offset: header.last_offset(),
        });
        remembered.last_offset = header.last_offset();
        let entry = &mut remembered.entry;
        if entry.epoch != header.producer_epoch {
            entry.epoch = header.producer_epoch;
            entry.batches.clear();
        }
        entry.last_timestamp_ms = header.max_timestamp_ms;
        entry.transaction_first_offset = self.open.of(header.producer_id);
        if let Some(marker) = transactions::marker(header, batch) {
            entry.coordinator_epoch = marker.coordinator_epoch;
        }
        // A transaction's marker carries the epoch but no sequence.
        if !header.is_control() && header.base_sequence >= 0 {
            if entry.batches.len() == BATCHES_MAX {
                entry.batches.remove(0);
            }
            entry.batches.push(ProducerBatch {
                base_sequence: header.base_sequence,
                last_sequence: header.last_sequence(),
                base_offset: header.base_offset,
                last_offset: header.last_offset(),
            });
        }
        if self.by_id.len() > PRODUCERS_MAX {
            self.forget_oldest();
        }
        aborted
    }

    /// Whoever has an open transaction stays: its marker is still to come.
    fn forget_oldest(&mut self) {
        let settled = self.by_id.values().filter(|r| r.entry.transaction_first_offset.is_none());
        let oldest = settled.min_by_key(|remembered| remembered.last_offset);
        if let Some(id) = oldest.map(|remembered| remembered.entry.producer_id) {
            self.by_id.remove(&id);
        }
    }

    /// Sorted by id, so that equal tables give equal bytes and equal answers.
    pub fn entries(&self) -> Vec<ProducerEntry> {
        let mut entries: Vec<_> = self.by_id.values().map(|r| r.entry.clone()).collect();
        entries.sort_by_key(|entry| entry.producer_id);
        entries
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&ENCODING_2.to_le_bytes());
        out.extend_from_slice(&(self.by_id.len() as u32).to_le_bytes());
        for entry in self.entries() {
            out.extend_from_slice(&entry.producer_id.to_le_bytes());
            out.extend_from_slice(&entry.epoch.to_le_bytes());
            out.extend_from_slice(&entry.last_timestamp_ms.to_le_bytes());
            out.extend_from_slice(&entry.coordinator_epoch.to_le_bytes());
            let first_offset = entry.transaction_first_offset.unwrap_or(NO_TRANSACTION);
            out.extend_from_slice(&first_offset.to_le_bytes());
            out.push(entry.batches.len() as u8);
            for batch in &entry.batches {
                out.extend_from_slice(&batch.base_sequence.to_le_bytes());
                out.extend_from_slice(&batch.last_sequence.to_le_bytes());
                out.extend_from_slice(&batch.base_offset.to_le_bytes());
                out.extend_from_slice(&batch.last_offset.to_le_bytes());
            }
        }
        out
    }

    /// The whole of the bytes.
    pub fn decode(mut bytes: &[u8]) -> Option<Producers> {
        let producers = Producers::decode_front(&mut bytes)?;
        bytes.is_empty().then_some(producers)
    }

    /// Takes a table off the front of the bytes, of either encoding.
    pub fn decode_front(bytes: &mut &[u8]) -> Option<Producers> {
        let mut count = u32::from_le_bytes(take(bytes)?);
        let knows_transactions = count == ENCODING_2;
        if knows_transactions {
            count = u32::from_le_bytes(take(bytes)?);
        }
        let mut producers = Producers::default();
        let mut newest_offset = -1;
        for _ in 0..count {
            let entry = decode_entry(bytes, knows_transactions)?;
            if let Some(first_offset) = entry.transaction_first_offset {
                producers.open.open(entry.producer_id, first_offset);
            }
            let last_offset = entry.batches.last().map_or(-1, |batch| batch.last_offset);
            newest_offset = newest_offset.max(last_offset);
            producers.by_id.insert(entry.producer_id, Remembered { entry, last_offset });
        }
        // Where a marker stood is not known any more: as if it had come last.
        let marked = producers.by_id.values_mut().filter(|r| r.entry.batches.is_empty());
        marked.for_each(|remembered| remembered.last_offset = newest_offset + 1);
        Some(producers)
    }
}

fn decode_entry(bytes: &mut &[u8], knows_transactions: bool) -> Option<ProducerEntry> {
    let mut entry = ProducerEntry {
        producer_id: i64::from_le_bytes(take(bytes)?),
        epoch: i16::from_le_bytes(take(bytes)?),
        last_timestamp_ms: i64::from_le_bytes(take(bytes)?),
        coordinator_epoch: -1,
        transaction_first_offset: None,
        batches: Vec::with_capacity(BATCHES_MAX),
    };
    if knows_transactions {
        entry.coordinator_epoch = i32::from_le_bytes(take(bytes)?);
        let first_offset = i64::from_le_bytes(take(bytes)?);
        entry.transaction_first_offset = (first_offset != NO_TRANSACTION).then_some(first_offset);
    }
    let [batch_count] = take::<1>(bytes)?;
    if usize::from(batch_count) > BATCHES_MAX {
        return None;
    }
    for _ in 0..batch_count {
        entry.batches.push(ProducerBatch {
            base_sequence: i32::from_le_bytes(take(bytes)?),
            last_sequence: i32::from_le_bytes(take(bytes)?),
            base_offset: i64::from_le_bytes(take(bytes)?),
            last_offset: i64::from_le_bytes(take(bytes)?),
        });
    }
    Some(entry)
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (first, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(producer_id: i64, epoch: i16, base_sequence: i32, base_offset: i64) -> Header {
        Header {
            base_offset,
            batch_bytes: 100,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            base_timestamp_ms: 5,
            max_timestamp_ms: 7,
            producer_id,
            producer_epoch: epoch,
            base_sequence,
            record_count: 2,
            last_offset_delta: 1,
        }
    }

    fn apply(producers: &mut Producers, header: &Header) {
        assert_eq!(producers.apply(header, &Bytes::new()), None);
    }

    #[test]
    fn the_last_five_batches_are_kept_and_a_new_epoch_begins_afresh() {
        let mut producers = Producers::default();
        for index in 0..7 {
            apply(&mut producers, &header(9, 0, index * 2, i64::from(index) * 2));
        }
        apply(&mut producers, &header(-1, -1, -1, 99));
        let entry = &producers.entries()[0];
        assert_eq!(entry.batches.len(), 5);
        assert_eq!(entry.batches[0].base_sequence, 4);
        assert_eq!(entry.batches[4].last_sequence, 13);
        assert_eq!(Producers::decode(&producers.encode()), Some(producers.clone()));
        apply(&mut producers, &header(9, 1, 0, 200));
        assert_eq!(producers.entries()[0].batches.len(), 1);
    }

    /// One producer as the versions before transactions wrote it: id 9, epoch 1, timestamp 7, and
    /// one batch of sequences 0 to 1 at offsets 4 to 5.
    #[test]
    fn the_encoding_of_the_versions_before_transactions_is_still_read() {
        let mut old = vec![1, 0, 0, 0];
        old.extend_from_slice(&9_i64.to_le_bytes());
        old.extend_from_slice(&1_i16.to_le_bytes());
        old.extend_from_slice(&7_i64.to_le_bytes());
        old.push(1);
        old.extend_from_slice(&0_i32.to_le_bytes());
        old.extend_from_slice(&1_i32.to_le_bytes());
        old.extend_from_slice(&4_i64.to_le_bytes());
        old.extend_from_slice(&5_i64.to_le_bytes());
        let producers = Producers::decode(&old).expect("readable");
        let entry = &producers.entries()[0];
        assert_eq!((entry.producer_id, entry.epoch, entry.last_timestamp_ms), (9, 1, 7));
        assert_eq!((entry.coordinator_epoch, entry.transaction_first_offset), (-1, None));
        assert_eq!(entry.batches[0].last_offset, 5);
        assert_eq!(Producers::decode(&producers.encode()), Some(producers));
    }

    /// KIP-890: the marker of each transaction begins its producer's next epoch, without a batch.
    #[test]
    fn a_producer_between_two_transactions_is_not_the_first_to_be_forgotten() {
        let mut producers = Producers::default();
        apply(&mut producers, &header(100, 0, 0, 2));
        apply(&mut producers, &header(101, 0, 0, 4));
        let marker = Header { attributes: 0x30, ..header(9, 1, -1, 6) };
        apply(&mut producers, &marker);
        let mut again = Producers::decode(&producers.encode()).expect("readable");
        for id in 102..=100 + PRODUCERS_MAX as i64 {
            apply(&mut producers, &header(id, 0, 0, 2 * id));
            apply(&mut again, &header(id, 0, 0, 2 * id));
        }
        for producers in [producers, again] {
            let ids: Vec<i64> = producers.entries().iter().map(|e| e.producer_id).take(3).collect();
            assert_eq!(ids, [9, 102, 103], "the two that wrote before it are gone");
        }
    }

    #[test]
    fn an_open_transaction_comes_back_and_keeps_its_producer() {
        let mut producers = Producers::default();
        let open = Header { attributes: 0x10, ..header(9, 0, 0, 40) };
        apply(&mut producers, &open);
        for id in 100..100 + PRODUCERS_MAX as i64 {
            apply(&mut producers, &header(id, 0, 0, 50 + id));
        }
        let entries = producers.entries();
        assert_eq!(entries.len(), PRODUCERS_MAX);
        assert_eq!(entries[0].transaction_first_offset, Some(40), "not the one to be forgotten");
        let again = Producers::decode(&producers.encode()).expect("readable");
        assert_eq!(again.open_transactions().first_offset(), Some(40));
    }
}
