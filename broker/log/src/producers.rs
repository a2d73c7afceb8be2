//! What idempotence needs to survive: per partition and producer the epoch and the last five
//! batches (Kafka's bound on requests in flight), maintained from batch headers as they settle,
//! kept in the side file of each sealed segment and in the view.

use std::collections::HashMap;

use crate::types::{ProducerBatch, ProducerEntry};
use crate::wire::Header;

const BATCHES_MAX: usize = 5;
/// Producers remembered for one partition; beyond it the one that wrote longest ago goes.
/// A home server sees dozens; the bound is for clients that make a producer for every message.
const PRODUCERS_MAX: usize = 10_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<i64, ProducerEntry>,
}

impl Producers {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn apply(&mut self, header: &Header) {
        if header.producer_id < 0 {
            return;
        }
        let entry = self.by_id.entry(header.producer_id).or_insert_with(|| ProducerEntry {
            producer_id: header.producer_id,
            epoch: header.producer_epoch,
            last_timestamp_ms: header.max_timestamp_ms,
            batches: Vec::with_capacity(BATCHES_MAX),
        });
        if entry.epoch != header.producer_epoch {
            entry.epoch = header.producer_epoch;
            entry.batches.clear();
        }
        entry.last_timestamp_ms = header.max_timestamp_ms;
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
    }

    fn forget_oldest(&mut self) {
        let last = |entry: &ProducerEntry| entry.batches.last().map_or(-1, |b| b.last_offset);
        if let Some(id) = self.by_id.values().min_by_key(|entry| last(entry)).map(|e| e.producer_id)
        {
            self.by_id.remove(&id);
        }
    }

    /// Sorted by id, so that equal tables give equal bytes and equal answers.
    pub fn entries(&self) -> Vec<ProducerEntry> {
        let mut entries: Vec<_> = self.by_id.values().cloned().collect();
        entries.sort_by_key(|entry| entry.producer_id);
        entries
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&(self.by_id.len() as u32).to_le_bytes());
        for entry in self.entries() {
            out.extend_from_slice(&entry.producer_id.to_le_bytes());
            out.extend_from_slice(&entry.epoch.to_le_bytes());
            out.extend_from_slice(&entry.last_timestamp_ms.to_le_bytes());
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

    pub fn decode(mut bytes: &[u8]) -> Option<Producers> {
        let count = u32::from_le_bytes(take(&mut bytes)?);
        let mut by_id = HashMap::new();
        for _ in 0..count {
            let producer_id = i64::from_le_bytes(take(&mut bytes)?);
            let epoch = i16::from_le_bytes(take(&mut bytes)?);
            let last_timestamp_ms = i64::from_le_bytes(take(&mut bytes)?);
            let [batch_count] = take::<1>(&mut bytes)?;
            if usize::from(batch_count) > BATCHES_MAX {
                return None;
            }
            let mut batches = Vec::with_capacity(BATCHES_MAX);
            for _ in 0..batch_count {
                batches.push(ProducerBatch {
                    base_sequence: i32::from_le_bytes(take(&mut bytes)?),
                    last_sequence: i32::from_le_bytes(take(&mut bytes)?),
                    base_offset: i64::from_le_bytes(take(&mut bytes)?),
                    last_offset: i64::from_le_bytes(take(&mut bytes)?),
                });
            }
            let entry = ProducerEntry { producer_id, epoch, last_timestamp_ms, batches };
            by_id.insert(producer_id, entry);
        }
        bytes.is_empty().then_some(Producers { by_id })
    }
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

    #[test]
    fn the_last_five_batches_are_kept_and_a_new_epoch_begins_afresh() {
        let mut producers = Producers::default();
        for index in 0..7 {
            producers.apply(&header(9, 0, index * 2, i64::from(index) * 2));
        }
        producers.apply(&header(-1, -1, -1, 99));
        let entry = &producers.entries()[0];
        assert_eq!(entry.batches.len(), 5);
        assert_eq!(entry.batches[0].base_sequence, 4);
        assert_eq!(entry.batches[4].last_sequence, 13);
        assert_eq!(Producers::decode(&producers.encode()), Some(producers.clone()));
        producers.apply(&header(9, 1, 0, 200));
        assert_eq!(producers.entries()[0].batches.len(), 1);
    }
}
