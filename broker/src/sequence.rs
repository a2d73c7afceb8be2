//! Idempotent producers: which batch of a producer is new, which is a repeat, which is out of order
//! (KIP-98). Pure; one [`Producers`] a partition, kept under the partition's append lock.
//!
//! 1. The last five batches of each producer are known; a repeat of one of them is answered with
//!    the offset it got then.
//! 2. A producer that is not known (new, or expired) may begin with any sequence.
//! 3. A higher epoch begins at sequence 0; a lower one is fenced.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::ResponseError;
use odradek_log::{ProducerBatch, ProducerEntry};
use odradek_protocol::batch::BatchHeader;

/// Kafka's own window: a producer has at most five requests in flight.
const BATCHES_KEPT: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    New,
    /// It is in the log already, from this offset on.
    Repeat {
        base_offset: i64,
        last_offset: i64,
    },
    Refused(ResponseError),
}

#[derive(Debug, Default)]
pub(crate) struct Producers {
    entries: HashMap<i64, Entry>,
}

#[derive(Debug)]
struct Entry {
    epoch: i16,
    /// Wall clock of the last append, not event time: a replay of 2013 is not an old producer.
    last_append_ms: i64,
    batches: VecDeque<ProducerBatch>,
}

/// Sequences run from 0 to `i32::MAX` and wrap to 0.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(count);
    (sum % (i64::from(i32::MAX) + 1)) as i32
}

impl Producers {
    pub(crate) fn restored(entries: Vec<ProducerEntry>, now_ms: i64) -> Self {
        let entries = entries
            .into_iter()
            .map(|e| {
                let entry =
                    Entry { epoch: e.epoch, last_append_ms: now_ms, batches: e.batches.into() };
                (e.producer_id, entry)
            })
            .collect();
        Self { entries }
    }

    pub(crate) fn check(&self, batch: &BatchHeader) -> Verdict {
        let Some(entry) = self.entries.get(&batch.producer_id) else { return Verdict::New };
        if batch.producer_epoch < entry.epoch {
            return Verdict::Refused(ResponseError::InvalidProducerEpoch);
        }
        if batch.producer_epoch > entry.epoch {
            return match batch.base_sequence {
                0 => Verdict::New,
                _ => Verdict::Refused(ResponseError::OutOfOrderSequenceNumber),
            };
        }
        let last_sequence = sequence_after(batch.base_sequence, batch.record_count - 1);
        let repeat = entry
            .batches
            .iter()
            .find(|b| b.base_sequence == batch.base_sequence && b.last_sequence == last_sequence);
        if let Some(known) = repeat {
            return Verdict::Repeat {
                base_offset: known.base_offset,
                last_offset: known.last_offset,
            };
        }
        match entry.batches.back() {
            Some(last) if batch.base_sequence != sequence_after(last.last_sequence, 1) => {
                Verdict::Refused(ResponseError::OutOfOrderSequenceNumber)
            }
            _ => Verdict::New,
        }
    }

    /// Takes note of a batch that was given to the log.
    pub(crate) fn appended(&mut self, batch: &BatchHeader, base_offset: i64, now_ms: i64) {
        let entry = self.entries.entry(batch.producer_id).or_insert(Entry {
            epoch: batch.producer_epoch,
            last_append_ms: now_ms,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
        });
        if entry.epoch != batch.producer_epoch {
            entry.epoch = batch.producer_epoch;
            entry.batches.clear();
        }
        if entry.batches.len() == BATCHES_KEPT {
            entry.batches.pop_front();
        }
        entry.last_append_ms = now_ms;
        entry.batches.push_back(ProducerBatch {
            base_sequence: batch.base_sequence,
            last_sequence: sequence_after(batch.base_sequence, batch.record_count - 1),
            base_offset,
            last_offset: base_offset + i64::from(batch.last_offset_delta),
        });
    }

    /// Forgets producers that have been silent since `before_ms` (`producer.id.expiration.ms`).
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.entries.retain(|_, entry| entry.last_append_ms >= before_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, base_sequence: i32, record_count: i32) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            batch_bytes: 100,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: record_count - 1,
            base_timestamp_ms: 0,
            max_timestamp_ms: 0,
            producer_id: 9,
            producer_epoch: epoch,
            base_sequence,
            record_count,
        }
    }

    #[test]
    fn a_repeat_of_the_last_five_gets_its_old_offset_and_a_gap_is_refused() {
        let mut producers = Producers::default();
        for i in 0..6 {
            let b = batch(0, i * 10, 10);
            assert_eq!(producers.check(&b), Verdict::New);
            producers.appended(&b, i64::from(i) * 10, 0);
        }
        let repeat = Verdict::Repeat { base_offset: 10, last_offset: 19 };
        assert_eq!(producers.check(&batch(0, 10, 10)), repeat);
        let refused = Verdict::Refused(ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(producers.check(&batch(0, 0, 10)), refused, "older than five batches");
        assert_eq!(producers.check(&batch(0, 70, 10)), refused, "a gap");
        assert_eq!(producers.check(&batch(0, 60, 1)), Verdict::New);
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        producers.appended(&batch(3, 0, 1), 0, 0);
        assert_eq!(producers.check(&batch(4, 0, 1)), Verdict::New);
        assert_eq!(
            producers.check(&batch(4, 1, 1)),
            Verdict::Refused(ResponseError::OutOfOrderSequenceNumber)
        );
        assert_eq!(
            producers.check(&batch(2, 1, 1)),
            Verdict::Refused(ResponseError::InvalidProducerEpoch)
        );
    }

    #[test]
    fn sequences_wrap_after_the_largest_int() {
        let mut producers = Producers::default();
        producers.appended(&batch(0, i32::MAX - 1, 2), 0, 0);
        assert_eq!(producers.check(&batch(0, 0, 5)), Verdict::New);
    }
}
