//! InitProducerId: a new epoch, after the end of what is ongoing.

use kafka_protocol::ResponseError;

use super::super::record::{NO_EPOCH, Producer, State, TransactionRecord};
use super::{CLAIMED, Effect, Reply, Transaction, Waiter, Write, Writing};
use crate::clock::Now;

impl Transaction {
    pub(super) fn init(
        &mut self,
        waiter: Waiter,
        timeout_ms: i32,
        expected: Option<Producer>,
        fresh_producer_id: Option<i64>,
        now: Now,
    ) -> Vec<Effect> {
        let refused = |error| vec![Effect::Reply(waiter, Reply::Producer(Err(error)))];
        let may_be = expected.is_none_or(|expected| self.may_be(expected));
        if self.writing.is_some() {
            self.is_claimed |= may_be && !self.is_in_transition();
            return refused(ResponseError::ConcurrentTransactions);
        }
        if !may_be {
            return refused(ResponseError::ProducerFenced);
        }
        if self.record.state == State::Ongoing {
            // The producer tries again until the end is durable, and then gets the epoch behind
            // the one that fences.
            return self.fence(Some(waiter), CLAIMED, now);
        }
        let mut next = match self.next_producer(expected, fresh_producer_id) {
            Ok(Some(next)) => next,
            Ok(None) => return vec![Effect::Reply(waiter, Reply::NeedsProducerId)],
            Err(error) => return refused(error),
        };
        next.timeout_ms = timeout_ms;
        next.state = State::Empty;
        (next.start_ms, next.update_ms) = (-1, now.wall_ms);
        self.writing = Some(Writing::Init { waiter, next: next.clone() });
        vec![Effect::Write(Write { record: Some(next), ending: None, at_ms: now.wall_ms })]
    }

    /// Whether a producer that says it has this id and epoch can be the one of this record: it has
    /// its id (the epoch is looked at later), or it had the id before its epochs were used up and
    /// did not hear of the new one. A record without epoch was made for this very request.
    fn may_be(&self, expected: Producer) -> bool {
        self.record.epoch == NO_EPOCH
            || expected.id == self.record.producer_id
            || (expected.id == self.record.previous_producer_id && expected.epoch >= i16::MAX - 1)
    }

    /// The record with the next epoch, or the next producer id; `None` if the latter is needed and
    /// was not brought.
    fn next_producer(
        &self,
        expected: Option<Producer>,
        fresh_producer_id: Option<i64>,
    ) -> Result<Option<TransactionRecord>, ResponseError> {
        let record = &self.record;
        let mut next = record.clone();
        let is_current = |expected: Producer| expected.epoch == record.epoch;
        if record.is_epoch_exhausted() && expected.is_none_or(is_current) {
            let Some(fresh) = fresh_producer_id else { return Ok(None) };
            (next.previous_producer_id, next.producer_id) = (record.producer_id, fresh);
            next.last_epoch = if expected.is_some() { record.epoch } else { NO_EPOCH };
            next.epoch = 0;
            return Ok(Some(next));
        }
        match expected {
            None => next.last_epoch = NO_EPOCH,
            // A new record, or a producer that goes on after an error.
            Some(expected) if record.epoch == NO_EPOCH || is_current(expected) => {
                next.last_epoch = record.epoch;
            }
            // It repeats a request whose answer it missed: the same answer.
            Some(expected) if expected.epoch == record.last_epoch => return Ok(Some(next)),
            Some(_) => return Err(ResponseError::ProducerFenced),
        }
        next.epoch = record.epoch.saturating_add(1);
        Ok(Some(next))
    }
}
