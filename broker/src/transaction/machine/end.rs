//! The end of a transaction: by its producer, or against its will.

use kafka_protocol::ResponseError;

use super::super::record::{NO_EPOCH, Producer, State, TransactionRecord};
use super::{Effect, Ending, Reply, Transaction, Waiter, Write, Writing};
use crate::clock::Now;

/// What an EndTxn finds.
enum Verdict {
    /// End the transaction; with version 2 also one that was never begun, by an abort.
    End,
    /// The end that is asked for has happened already.
    Repeat,
    Refused(ResponseError),
}

impl Transaction {
    pub(super) fn end(
        &mut self,
        waiter: Waiter,
        producer: Producer,
        commit: bool,
        bumps: bool,
        fresh_producer_id: Option<i64>,
        now: Now,
    ) -> Vec<Effect> {
        let verdict = match bumps {
            true => self.judge_with_bumps(producer, commit),
            false => self.judge(producer, commit),
        };
        let reply = |producer| vec![Effect::Reply(waiter, Reply::Producer(producer))];
        match verdict {
            Verdict::Refused(error) => return reply(Err(error)),
            Verdict::Repeat => return reply(Ok(self.record.producer())),
            // Additions are on their way: their producer has not heard of them yet.
            Verdict::End if self.writing.is_some() => {
                return reply(Err(ResponseError::ConcurrentTransactions));
            }
            Verdict::End => {}
        }
        let mut next = self.ended(commit, now);
        let mut marker = self.record.producer();
        if bumps {
            marker.epoch = marker.epoch.saturating_add(1);
            next.last_epoch = self.record.epoch;
            next.epoch = marker.epoch;
            if self.record.is_epoch_exhausted() {
                let Some(fresh) = fresh_producer_id else {
                    return vec![Effect::Reply(waiter, Reply::NeedsProducerId)];
                };
                (next.previous_producer_id, next.producer_id) = (self.record.producer_id, fresh);
                next.epoch = 0;
            }
        }
        let reply = Reply::Producer(Ok(next.producer()));
        self.write_end(Some(waiter), reply, marker, next, now)
    }

    /// Ends the ongoing transaction with an abort of the next epoch (M4): after its time-out, or
    /// because another producer comes with its id, which then tries again. `waiter`: that one, if
    /// it has not been answered.
    pub(super) fn fence(
        &mut self,
        waiter: Option<Waiter>,
        why: &'static str,
        now: Now,
    ) -> Vec<Effect> {
        let mut next = self.ended(false, now);
        next.epoch = self.record.epoch.saturating_add(1);
        next.last_epoch = NO_EPOCH;
        let reply = Reply::Producer(Err(ResponseError::ConcurrentTransactions));
        let marker = next.producer();
        let mut effects = vec![Effect::Note(why)];
        effects.extend(self.write_end(waiter, reply, marker, next, now));
        effects
    }

    fn ended(&self, commit: bool, now: Now) -> TransactionRecord {
        let mut next = self.record.clone();
        next.state = if commit { State::CompleteCommit } else { State::CompleteAbort };
        next.update_ms = now.wall_ms;
        next.partitions.clear();
        next.offsets.clear();
        next
    }

    fn write_end(
        &mut self,
        waiter: Option<Waiter>,
        reply: Reply,
        marker: Producer,
        next: TransactionRecord,
        now: Now,
    ) -> Vec<Effect> {
        let commit = next.state == State::CompleteCommit;
        let ending = Ending {
            commit,
            producer: marker,
            partitions: self.record.each_partition().collect(),
            offsets: if commit { self.record.offsets.clone() } else { Vec::new() },
        };
        self.writing = Some(Writing::End { waiter, reply, next: next.clone() });
        let record = Some(next);
        vec![Effect::Write(Write { record, ending: Some(ending), at_ms: now.wall_ms })]
    }

    /// Version 1: the epoch stays, so a repeat looks like the request it repeats.
    fn judge(&self, producer: Producer, commit: bool) -> Verdict {
        match self.admit(producer) {
            // The end that is under way is the one asked for, or the opposite of it.
            Err(ResponseError::ConcurrentTransactions) => self.judge_transition(commit),
            Err(error) => Verdict::Refused(error),
            Ok(()) => match (self.record.state, commit) {
                (State::Ongoing, _) => Verdict::End,
                (State::CompleteCommit, true) | (State::CompleteAbort, false) => Verdict::Repeat,
                _ => Verdict::Refused(ResponseError::InvalidTxnState),
            },
        }
    }

    /// Version 2: every end gives out a new epoch, so the epoch tells a repeat, which still has the
    /// one before, from the next end. An abort of nothing is allowed: the producer may not know
    /// whether its first batch came through.
    fn judge_with_bumps(&self, producer: Producer, commit: bool) -> Verdict {
        let record = &self.record;
        if let Some(Writing::End { next, .. }) = &self.writing
            && producer == record.producer()
            && next.last_epoch == record.epoch
        {
            return self.judge_transition(commit);
        }
        let ended = matches!(record.state, State::CompleteCommit | State::CompleteAbort);
        // An end against the producer's will leaves no last epoch: that producer is fenced.
        let overflowed = record.epoch == 0 && record.last_epoch >= i16::MAX - 1;
        let id = if overflowed { record.previous_producer_id } else { record.producer_id };
        if ended && producer.epoch >= 0 && producer == (Producer { id, epoch: record.last_epoch }) {
            return match (record.state, commit) {
                _ if self.is_in_transition() => {
                    Verdict::Refused(ResponseError::ConcurrentTransactions)
                }
                (State::CompleteCommit, true) | (State::CompleteAbort, false) => Verdict::Repeat,
                _ => Verdict::Refused(ResponseError::InvalidTxnState),
            };
        }
        match self.admit(producer) {
            Err(error) => Verdict::Refused(error),
            Ok(()) if record.state == State::Ongoing || !commit => Verdict::End,
            Ok(()) => Verdict::Refused(ResponseError::InvalidTxnState),
        }
    }

    fn judge_transition(&self, commit: bool) -> Verdict {
        let opposite = match &self.writing {
            Some(Writing::End { next, .. }) => (next.state == State::CompleteCommit) != commit,
            _ => false,
        };
        Verdict::Refused(match opposite {
            true => ResponseError::InvalidTxnState,
            false => ResponseError::ConcurrentTransactions,
        })
    }
}
