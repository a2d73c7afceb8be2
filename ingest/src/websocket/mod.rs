//! Live feeds over WebSocket.
//!
//! `plan` (what to do) → `connect` (a socket) → `session` (the socket's life) → `feed` (frames to
//! documents, documents to records, repetitions dropped) → one unit a commit. Nothing here is
//! particular to a vendor but the codec in `feed::pricing`.

mod board;
mod connect;
pub(crate) mod plan;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use self::board::Board;
use self::plan::WebsocketPlan;
use self::session::{Desk, Ended};
use crate::backoff::Backoff;
use crate::feed::transport;
use crate::meter::SourceState;
use crate::plan::Plan;
use crate::supervise::{Context, RunError, Runner};

pub(crate) struct WebsocketRunner {
    pub plan: Plan,
    pub feed: WebsocketPlan,
}

#[async_trait]
impl Runner for WebsocketRunner {
    /// One loop for each socket; ends only with an error that no new socket cures.
    async fn run(&self, context: &Context) -> Result<(), RunError> {
        context.ensure_topics(&self.plan).await?;
        let tls = transport::tls_config(None).await?;
        let board = Board::new(self.feed.sockets.len(), Arc::clone(&context.meter));
        let mut sockets = FuturesUnordered::new();
        for (index, symbols) in self.feed.sockets.iter().enumerate() {
            let (plan, feed, tls) = (&self.plan, &self.feed, Arc::clone(&tls));
            let desk = Desk { context, plan, feed, symbols, tls, board: &board, index };
            sockets.push(keep_open(desk));
        }
        match sockets.next().await {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

/// Opens the socket again and again. The window of recent records outlives the sockets.
async fn keep_open(desk: Desk<'_>) -> RunError {
    let mut backoff = Backoff::new(desk.plan.backoff, rand::random());
    let mut recent = match session::rebuild(&desk).await {
        Ok(recent) => recent,
        Err(error) => return error,
    };
    loop {
        let Ended { error, healthy, unstored } = session::run(&desk, &mut recent).await;
        if !error.retry || unstored {
            // The next run of the source rebuilds the window from the log.
            return error;
        }
        desk.context.meter.reconnecting(error.cause);
        let wait = backoff.after(healthy);
        let wait_s = wait.as_secs_f64();
        let (source, cause) = (&desk.plan.name, error.cause);
        tracing::warn!(%source, socket = desk.index, cause, wait_s, "{}", error.message);
        let detail = format!("{}; next attempt in {wait_s:.1} s", error.message);
        desk.board.set(desk.index, SourceState::BackingOff, &detail);
        tokio::time::sleep(wait).await;
    }
}
