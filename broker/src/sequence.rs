//! Idempotent producers: which batch of a producer is new, which is a repeat, which is out of order
//! (KIP-98), and which have a transaction open. Pure; one [`Producers`] a partition, kept under the
//! partition's append lock.
//!
//! 1. The last five batches of each producer are known; a repeat of one of them is answered with
//!    the offset it got then.
//! 2. A producer that is not known (new, or expired) may begin with any sequence; with version 2 of
//!    transactions, where every transaction has an epoch of its own, only with 0.
//! 3. A higher epoch begins at sequence 0; a lower one is fenced. A marker may bring a higher epoch
//!    (KIP-890), which then begins at 0 too.
//! 4. While a producer has a transaction open, all its batches are transactional, and it is not
//!    forgotten, however long it is silent.
//! 5. No more producers are remembered than the log remembers, but for those with a transaction and
//!    a few more ([`FORGOTTEN_AT_ONCE`]). As there, those that wrote longest ago go first.

use std::collections::{HashMap, VecDeque};

use kafka_protocol::ResponseError;
use odradek_log::{PRODUCERS_MAX, ProducerBatch, ProducerEntry};
use odradek_protocol::batch::BatchHeader;

/// Kafka's own window: a producer has at most five requests in flight.
const BATCHES_KEPT: usize = 5;

/// To find the oldest takes a look at all, under the append lock: it is done once for so many.
const FORGOTTEN_AT_ONCE: usize = PRODUCERS_MAX / 10;

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

/// Where a producer may begin that nothing is known of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    Anywhere,
    AtZero,
}

#[derive(Debug, Default)]
pub(crate) struct Producers {
    entries: HashMap<i64, Entry>,
    /// As many as there were when the oldest were last forgotten.
    kept: usize,
}

#[derive(Debug)]
struct Entry {
    epoch: i16,
    /// Wall clock of the last append, not event time: a replay of 2013 is not an old producer.
    last_append_ms: i64,
    /// Event time of the last batch or marker, for those who ask (KIP-664).
    last_timestamp_ms: i64,
    batches: VecDeque<ProducerBatch>,
    /// Where the transaction begins that no marker has ended.
    transaction_first_offset: Option<i64>,
    /// Of the last marker.
    coordinator_epoch: i32,
}

/// What DescribeProducers shows of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerState {
    pub producer_id: i64,
    pub epoch: i16,
    pub last_sequence: i32,
    pub last_timestamp_ms: i64,
    pub coordinator_epoch: i32,
    pub transaction_first_offset: Option<i64>,
}

const NO_SEQUENCE: i32 = -1;
/// No marker was seen yet.
pub(crate) const NO_COORDINATOR_EPOCH: i32 = -1;

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
                let entry = Entry {
                    epoch: e.epoch,
                    last_append_ms: now_ms,
                    last_timestamp_ms: e.last_timestamp_ms,
                    batches: e.batches.into(),
                    transaction_first_offset: e.transaction_first_offset,
                    coordinator_epoch: e.coordinator_epoch,
                };
                (e.producer_id, entry)
            })
            .collect();
        Self { entries, kept: 0 }
    }

    pub(crate) fn check(&self, batch: &BatchHeader, begins: Begins) -> Verdict {
        let Some(entry) = self.entries.get(&batch.producer_id) else {
            return match begins == Begins::AtZero && batch.base_sequence != 0 {
                true => Verdict::Refused(ResponseError::OutOfOrderSequenceNumber),
                false => Verdict::New,
            };
        };
        if batch.producer_epoch < entry.epoch {
            return Verdict::Refused(ResponseError::InvalidProducerEpoch);
        }
        if batch.producer_epoch > entry.epoch {
            return match batch.base_sequence {
                0 => entry.in_transaction(batch),
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
        // Without a batch, the epoch came with a marker.
        let next = entry.batches.back().map_or(0, |last| sequence_after(last.last_sequence, 1));
        if batch.base_sequence != next {
            return Verdict::Refused(ResponseError::OutOfOrderSequenceNumber);
        }
        entry.in_transaction(batch)
    }

    /// May a marker with this epoch, of a coordinator with that epoch, be written?
    pub(crate) fn check_marker(
        &self,
        producer_id: i64,
        epoch: i16,
        coordinator_epoch: i32,
    ) -> Result<(), ResponseError> {
        match self.entries.get(&producer_id) {
            Some(entry) if epoch < entry.epoch => Err(ResponseError::InvalidProducerEpoch),
            Some(entry) if coordinator_epoch < entry.coordinator_epoch => {
                Err(ResponseError::TransactionCoordinatorFenced)
            }
            _ => Ok(()),
        }
    }

    /// Takes note of a batch that was given to the log. `coordinator_epoch`: of a marker.
    pub(crate) fn appended(
        &mut self,
        batch: &BatchHeader,
        coordinator_epoch: i32,
        base_offset: i64,
        now_ms: i64,
    ) {
        self.remember(batch, coordinator_epoch, base_offset, now_ms);
        // Not only beyond the bound: those with transactions may be more than it alone.
        if self.entries.len() >= self.kept.max(PRODUCERS_MAX) + FORGOTTEN_AT_ONCE {
            self.forget_oldest();
        }
    }

    fn remember(
        &mut self,
        batch: &BatchHeader,
        coordinator_epoch: i32,
        base_offset: i64,
        now_ms: i64,
    ) {
        let entry = self.entries.entry(batch.producer_id).or_insert_with(|| Entry {
            epoch: batch.producer_epoch,
            last_append_ms: now_ms,
            last_timestamp_ms: batch.max_timestamp_ms,
            batches: VecDeque::with_capacity(BATCHES_KEPT),
            transaction_first_offset: None,
            coordinator_epoch: NO_COORDINATOR_EPOCH,
        });
        if entry.epoch != batch.producer_epoch {
            entry.epoch = batch.producer_epoch;
            entry.batches.clear();
        }
        entry.last_append_ms = now_ms;
        entry.last_timestamp_ms = batch.max_timestamp_ms;
        if batch.is_control() {
            entry.transaction_first_offset = None;
            entry.coordinator_epoch = coordinator_epoch;
            return;
        }
        if batch.is_transactional() && entry.transaction_first_offset.is_none() {
            entry.transaction_first_offset = Some(base_offset);
        }
        if entry.batches.len() == BATCHES_KEPT {
            entry.batches.pop_front();
        }
        entry.batches.push_back(ProducerBatch {
            base_sequence: batch.base_sequence,
            last_sequence: sequence_after(batch.base_sequence, batch.record_count - 1),
            base_offset,
            last_offset: base_offset + i64::from(batch.last_offset_delta),
        });
    }

    /// So many that those which stay are within the bound. Whoever has a transaction open stays.
    fn forget_oldest(&mut self) {
        let settled = self.entries.iter().filter(|(_, e)| e.transaction_first_offset.is_none());
        let mut settled: Vec<_> = settled.map(|(id, e)| (e.last_append_ms, *id)).collect();
        let beyond = self.entries.len().saturating_sub(PRODUCERS_MAX).min(settled.len());
        if beyond < settled.len() {
            settled.select_nth_unstable(beyond);
        }
        for (_, id) in &settled[..beyond] {
            self.entries.remove(id);
        }
        self.kept = self.entries.len();
    }

    /// Forgets producers that have been silent since `before_ms` (`producer.id.expiration.ms`).
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.entries.retain(|_, entry| {
            entry.transaction_first_offset.is_some() || entry.last_append_ms >= before_ms
        });
    }

    /// All that are remembered, by producer id.
    pub(crate) fn states(&self) -> Vec<ProducerState> {
        let states = self.entries.iter().map(|(producer_id, entry)| ProducerState {
            producer_id: *producer_id,
            epoch: entry.epoch,
            last_sequence: entry.batches.back().map_or(NO_SEQUENCE, |last| last.last_sequence),
            last_timestamp_ms: entry.last_timestamp_ms,
            coordinator_epoch: entry.coordinator_epoch,
            transaction_first_offset: entry.transaction_first_offset,
        });
        let mut states: Vec<_> = states.collect();
        states.sort_by_key(|state| state.producer_id);
        states
    }
}

impl Entry {
    fn in_transaction(&self, batch: &BatchHeader) -> Verdict {
        match self.transaction_first_offset.is_some() && !batch.is_transactional() {
            true => Verdict::Refused(ResponseError::InvalidTxnState),
            false => Verdict::New,
        }
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
            assert_eq!(producers.check(&b, Begins::Anywhere), Verdict::New);
            producers.appended(&b, -1, i64::from(i) * 10, 0);
        }
        let repeat = Verdict::Repeat { base_offset: 10, last_offset: 19 };
        assert_eq!(producers.check(&batch(0, 10, 10), Begins::Anywhere), repeat);
        let refused = Verdict::Refused(ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(
            producers.check(&batch(0, 0, 10), Begins::Anywhere),
            refused,
            "older than five batches"
        );
        assert_eq!(producers.check(&batch(0, 70, 10), Begins::Anywhere), refused, "a gap");
        assert_eq!(producers.check(&batch(0, 60, 1), Begins::Anywhere), Verdict::New);
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = Producers::default();
        producers.appended(&batch(3, 0, 1), -1, 0, 0);
        assert_eq!(producers.check(&batch(4, 0, 1), Begins::Anywhere), Verdict::New);
        assert_eq!(
            producers.check(&batch(4, 1, 1), Begins::Anywhere),
            Verdict::Refused(ResponseError::OutOfOrderSequenceNumber)
        );
        assert_eq!(
            producers.check(&batch(2, 1, 1), Begins::Anywhere),
            Verdict::Refused(ResponseError::InvalidProducerEpoch)
        );
    }

    #[test]
    fn a_producer_that_is_not_known_begins_anywhere_or_at_zero() {
        let producers = Producers::default();
        assert_eq!(producers.check(&batch(0, 4, 1), Begins::Anywhere), Verdict::New);
        let refused = Verdict::Refused(ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(producers.check(&batch(0, 4, 1), Begins::AtZero), refused);
        assert_eq!(producers.check(&batch(0, 0, 1), Begins::AtZero), Verdict::New);
    }

    #[test]
    fn the_producers_that_wrote_longest_ago_are_forgotten_but_none_with_a_transaction() {
        let mut producers = Producers::default();
        let most = i64::try_from(PRODUCERS_MAX + FORGOTTEN_AT_ONCE).unwrap();
        // One producer a millisecond; the first has a transaction open, the second writes again.
        let from = |producer_id| BatchHeader { producer_id, ..batch(0, 0, 1) };
        producers.appended(&BatchHeader { attributes: TRANSACTIONAL, ..from(0) }, -1, 0, 0);
        for id in 1..most - 1 {
            producers.appended(&from(id), -1, id, id);
        }
        producers.appended(&BatchHeader { base_sequence: 1, ..from(1) }, -1, most, most);
        assert_eq!(producers.states().len(), PRODUCERS_MAX + FORGOTTEN_AT_ONCE - 1);
        producers.appended(&from(most), -1, most + 1, most + 1);
        let ids: Vec<i64> = producers.states().iter().map(|state| state.producer_id).collect();
        assert_eq!(ids.len(), PRODUCERS_MAX);
        let gone = i64::try_from(FORGOTTEN_AT_ONCE).unwrap();
        assert_eq!(ids[..4], [0, 1, gone + 2, gone + 3]);
        assert_eq!(ids.last(), Some(&most));
    }

    #[test]
    fn producers_with_transactions_alone_may_be_more_and_cost_no_look_at_all_each() {
        let mut producers = Producers::default();
        let most = i64::try_from(PRODUCERS_MAX + FORGOTTEN_AT_ONCE).unwrap();
        for producer_id in 0..most + 1 {
            let begins = BatchHeader { attributes: TRANSACTIONAL, producer_id, ..batch(0, 0, 1) };
            producers.appended(&begins, -1, producer_id, 0);
        }
        assert_eq!(producers.states().len(), PRODUCERS_MAX + FORGOTTEN_AT_ONCE + 1);
        assert_eq!(producers.kept, PRODUCERS_MAX + FORGOTTEN_AT_ONCE, "not looked through again");
    }

    #[test]
    fn sequences_wrap_after_the_largest_int() {
        let mut producers = Producers::default();
        producers.appended(&batch(0, i32::MAX - 1, 2), -1, 0, 0);
        assert_eq!(producers.check(&batch(0, 0, 5), Begins::Anywhere), Verdict::New);
    }

    const TRANSACTIONAL: i16 = 0x10;
    const MARKER: i16 = 0x30;

    #[test]
    fn a_marker_ends_the_transaction_and_its_epoch_begins_at_zero() {
        let mut producers = Producers::default();
        let mut first = batch(3, 0, 5);
        first.attributes = TRANSACTIONAL;
        producers.appended(&first, -1, 100, 0);
        let plain = producers.check(&batch(3, 5, 1), Begins::Anywhere);
        assert_eq!(plain, Verdict::Refused(ResponseError::InvalidTxnState));
        producers.expire(50);
        assert_eq!(producers.states()[0].transaction_first_offset, Some(100), "not forgotten");
        let mut marker = batch(4, -1, 1);
        marker.attributes = MARKER;
        producers.appended(&marker, 7, 105, 60);
        let state = producers.states()[0];
        assert_eq!((state.epoch, state.coordinator_epoch), (4, 7));
        assert_eq!((state.last_sequence, state.transaction_first_offset), (-1, None));
        assert_eq!(producers.check(&batch(4, 0, 1), Begins::Anywhere), Verdict::New);
        let refused = Verdict::Refused(ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(producers.check(&batch(4, 5, 1), Begins::Anywhere), refused);
        let fenced = Verdict::Refused(ResponseError::InvalidProducerEpoch);
        assert_eq!(producers.check(&batch(3, 5, 1), Begins::Anywhere), fenced);
    }

    #[test]
    fn a_marker_of_the_same_epoch_leaves_the_sequence_as_it_was() {
        let mut producers = Producers::default();
        let mut first = batch(3, 0, 5);
        first.attributes = TRANSACTIONAL;
        producers.appended(&first, -1, 0, 0);
        let mut marker = batch(3, -1, 1);
        marker.attributes = MARKER;
        producers.appended(&marker, 0, 5, 0);
        assert_eq!(producers.check(&batch(3, 5, 1), Begins::Anywhere), Verdict::New);
        assert_eq!(producers.check_marker(9, 2, 0), Err(ResponseError::InvalidProducerEpoch));
        let fenced = Err(ResponseError::TransactionCoordinatorFenced);
        assert_eq!(producers.check_marker(9, 3, -1), fenced);
        assert_eq!(producers.check_marker(9, 3, 0), Ok(()));
    }
}
