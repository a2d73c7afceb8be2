//! Client quotas as handlers use them: what a request used is charged, and the longest wait that
//! comes of it stands in the reply's `throttle_time_ms` and mutes the connection for that time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use kafka_protocol::ResponseError;

use crate::dispatch::{Answer, Close};
use crate::handlers::Context;
use crate::quota::{Charge, Kind, Worked};
use crate::reply::Reply;
use crate::topic_changes::{self, Refusal, Wanted, refuse};

impl Context {
    /// Counts what was used; whether that was too much.
    pub(crate) fn charge(&self, kind: Kind, used: usize) -> bool {
        let wait_ms = self.core.quotas.charge(kind, self.charged(), used as f64);
        self.throttle(kind, wait_ms)
    }

    /// Takes back what was counted for a reply that is not sent.
    pub(crate) fn uncharge(&self, kind: Kind, used: usize) {
        self.core.quotas.uncharge(kind, self.charged(), used as f64);
    }

    /// Takes leave to create or delete so many partitions. `strict`: the client knows the error of
    /// KIP-599; else it is let through and waits.
    pub(crate) fn mutate(&self, partitions: usize, strict: bool) -> Result<(), Refusal> {
        let (quotas, whom) = (&self.core.quotas, self.charged());
        if !strict {
            self.throttle(Kind::Mutation, quotas.mutate_anyway(whom, partitions));
            return Ok(());
        }
        match quotas.mutate(whom, partitions) {
            Ok(()) => Ok(()),
            Err(wait_ms) => {
                self.throttle(Kind::Mutation, wait_ms);
                let why = "the quota controller_mutation_rate is used up";
                refuse(ResponseError::ThrottlingQuotaExceeded, why)
            }
        }
    }

    /// A topic made on demand is let through, and waited for.
    pub(crate) fn mutate_for_new(&self, wanted: &Wanted) {
        if let Ok(record) = topic_changes::check(&self.core, wanted) {
            let partitions = usize::try_from(record.partitions).unwrap_or(0);
            let wait_ms = self.core.quotas.mutate_anyway(self.charged(), partitions);
            self.throttle(Kind::Mutation, wait_ms);
        }
    }

    /// The end of a request: what the reply says, and what the connection does.
    pub(crate) fn throttle_time_ms(&self) -> i32 {
        if let Some(worked) = &self.worked {
            let wait_ms = self.core.quotas.charge_time(self.charged(), worked);
            self.throttle(Kind::Request, wait_ms);
        }
        let wait_ms = self.throttle_ms.load(Ordering::Relaxed);
        if wait_ms > 0 {
            self.session.mute(wait_ms);
        }
        i32::try_from(wait_ms).unwrap_or(i32::MAX)
    }

    pub(crate) fn charged(&self) -> Charge<'_> {
        Charge { principal: &self.principal, client_id: &self.client_id }
    }

    fn throttle(&self, kind: Kind, wait_ms: i64) -> bool {
        if wait_ms > 0 {
            self.broker.inner.metrics.throttled(kind.key(), wait_ms);
            self.throttle_ms.fetch_max(wait_ms, Ordering::Relaxed);
        }
        wait_ms > 0
    }
}

/// An answer whose work is timed.
pub(crate) struct Timed {
    pub answer: Answer,
    pub worked: Arc<Worked>,
}

impl Future for Timed {
    type Output = Result<Reply, Close>;

    fn poll(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        self.worked.begin();
        let polled = self.answer.as_mut().poll(context);
        self.worked.pause();
        polled
    }
}
