//! One socket, from its opening to its loss.
//!
//! Invariants:
//! 1. **A pong leaves only when every frame that was read before its ping is durable.** tungstenite
//!    queues the pong when it reads the ping, and sends it within the *next* read, write or flush.
//!    So when a ping comes, the batch is committed before the socket is touched again; no other
//!    task has the socket.
//! 2. A frame that was read is committed, or the socket is given up: a commit that fails is
//!    repeated, and nothing is read meanwhile. Memory holds one batch; the rest waits in TCP.
//! 3. Any inbound frame is a sign of life; silence of data alone never drops a socket.
//! 4. A clean close is an error like any other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use odradek_broker::client::{ClientError, OffsetAt};
use rustls::ClientConfig;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::board::Board;
use super::connect::{self, Socket};
use super::plan::WebsocketPlan;
use crate::feed::batch::{Batch, Frame};
use crate::feed::recent::{Fingerprint, Recent};
use crate::limits;
use crate::meter::SourceState;
use crate::plan::Plan;
use crate::supervise::{Context, RunError};

/// What all sessions of a socket share.
pub(crate) struct Desk<'a> {
    pub context: &'a Context,
    pub plan: &'a Plan,
    pub feed: &'a WebsocketPlan,
    pub symbols: &'a [String],
    pub tls: Arc<ClientConfig>,
    pub board: &'a Board,
    /// The socket's place on the board.
    pub index: usize,
}

/// How a session ended.
pub(crate) struct Ended {
    pub error: RunError,
    /// How long data flowed.
    pub healthy: Duration,
    /// Frames were read that the log refused: `recent` knows records that are not stored.
    pub unstored: bool,
}

/// Runs until the socket is lost.
pub(crate) async fn run(desk: &Desk<'_>, recent: &mut Recent) -> Ended {
    desk.board.set(desk.index, SourceState::Starting, "connecting");
    let mut session = match Session::open(desk, recent).await {
        Ok(session) => session,
        Err(error) => return Ended { error, healthy: Duration::ZERO, unstored: false },
    };
    let error = match session.pump().await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    // What was read before the loss has arrived; it must not wait for the next session.
    let unstored = session.commit().await.is_err();
    let healthy = session.first_data.map(|first| first.elapsed()).unwrap_or_default();
    Ended { error, healthy, unstored }
}

struct Session<'a> {
    desk: &'a Desk<'a>,
    recent: &'a mut Recent,
    socket: Socket,
    batch: Batch,
    last_inbound: Instant,
    last_data: Instant,
    first_data: Option<Instant>,
    quiet: bool,
    next_ping: Instant,
    next_resend: Option<Instant>,
    next_recycle: Option<Instant>,
}

enum Never {}

impl<'a> Session<'a> {
    async fn open(desk: &'a Desk<'a>, recent: &'a mut Recent) -> Result<Self, RunError> {
        let socket = connect::open(desk.feed, &desk.tls).await?;
        let now = Instant::now();
        let mut session = Self {
            desk,
            recent,
            socket,
            batch: Batch::default(),
            last_inbound: now,
            last_data: now,
            first_data: None,
            quiet: false,
            next_ping: now + desk.feed.ping,
            next_resend: desk.feed.resend_on_open.map(|every| now + every),
            next_recycle: desk.feed.recycle.map(|every| now + every),
        };
        session.send_opening().await?;
        desk.board.set(desk.index, SourceState::Running, "connected, no data yet");
        Ok(session)
    }

    async fn pump(&mut self) -> Result<Never, RunError> {
        loop {
            self.do_what_is_due().await?;
            let next = timeout_at(self.next_deadline(), self.socket.next()).await;
            if let Ok(message) = next {
                self.receive(message).await?;
            }
        }
    }

    async fn receive(&mut self, message: Option<Result<Message, WsError>>) -> Result<(), RunError> {
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(lost(&error)),
            None => return Err(RunError::retry("close", "the server closed the connection")),
        };
        self.last_inbound = Instant::now();
        match message {
            Message::Text(text) => self.take(Bytes::from(text)).await,
            Message::Binary(bytes) => self.take(bytes).await,
            Message::Ping(_) => {
                // Invariant 1: the flush sends the pong, so the commit comes first.
                self.commit().await?;
                within_write_timeout(self.socket.flush()).await
            }
            Message::Pong(_) | Message::Frame(_) => Ok(()),
            Message::Close(frame) => {
                let reason = frame.map(|frame| frame.to_string()).unwrap_or_default();
                Err(RunError::retry("close", format!("the server closed the connection {reason}")))
            }
        }
    }

    async fn take(&mut self, frame: Bytes) -> Result<(), RunError> {
        self.last_data = self.last_inbound;
        let (desk, feed) = (self.desk, self.desk.feed);
        if self.first_data.is_none() || self.quiet {
            self.first_data.get_or_insert(self.last_data);
            self.quiet = false;
            desk.board.set(desk.index, SourceState::Running, "receiving");
        }
        let meter = &desk.context.meter;
        let frame = Frame::new(&frame, feed.decoder.decode(&frame));
        self.batch.take(frame, desk.plan, &feed.dedup, self.recent, meter)?;
        if self.batch.full() { self.commit().await } else { Ok(()) }
    }

    fn next_deadline(&self) -> Instant {
        let feed = self.desk.feed;
        let mut next = self.next_ping.min(self.last_inbound + feed.idle_timeout);
        let flush = self.batch.since.map(|since| since + limits::FRAME_LINGER);
        let quiet = (!self.quiet).then(|| self.last_data + feed.quiet_after);
        for deadline in [flush, quiet, self.next_resend, self.next_recycle].into_iter().flatten() {
            next = next.min(deadline);
        }
        next
    }

    async fn do_what_is_due(&mut self) -> Result<(), RunError> {
        let now = Instant::now();
        let (desk, feed) = (self.desk, self.desk.feed);
        if self.batch.since.is_some_and(|since| now >= since + limits::FRAME_LINGER) {
            self.commit().await?;
        }
        if now >= self.last_inbound + feed.idle_timeout {
            let message = format!("no frame for {:?}, not even a pong", feed.idle_timeout);
            return Err(RunError::retry("idle", message));
        }
        if now >= self.next_ping {
            self.next_ping = now + feed.ping;
            self.send(Message::Ping(Bytes::new())).await?;
        }
        if let (true, Some(every)) =
            (self.next_resend.is_some_and(|at| now >= at), feed.resend_on_open)
        {
            self.next_resend = Some(now + every);
            self.send_opening().await?;
        }
        if !self.quiet && now >= self.last_data + feed.quiet_after {
            self.quiet = true;
            let detail = "connected, but no data comes: the market may be closed";
            desk.board.set(desk.index, SourceState::Quiet, detail);
        }
        if self.next_recycle.is_some_and(|at| now >= at) {
            self.recycle().await?;
        }
        Ok(())
    }

    /// Commits the batch, however long it takes. A commit whose outcome is unknown (the log went
    /// away in the middle) is repeated only for what the log does not have.
    async fn commit(&mut self) -> Result<(), RunError> {
        let desk = self.desk;
        let mut wait = limits::COMMIT_RETRY_MIN;
        while let Some((unit, tally)) = self.batch.unit(desk.plan) {
            match desk.context.commit(unit, tally).await {
                Ok(_) => break,
                Err(ClientError::Unavailable(why)) => {
                    let detail = format!("waiting: the log cannot take records now: {why}");
                    tracing::warn!(source = %desk.plan.name, "{detail}");
                    desk.board.set(desk.index, SourceState::BackingOff, &detail);
                    wait = self.sift(wait).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.batch.clear();
        if wait > limits::COMMIT_RETRY_MIN {
            // The socket was not read meanwhile; its silence says nothing.
            self.last_inbound = Instant::now();
            desk.board.set(desk.index, SourceState::Running, "receiving");
        }
        Ok(())
    }

    /// Waits until the log can be read again, and drops from the batch what it has. Returns how
    /// long to wait the next time.
    async fn sift(&mut self, mut wait: Duration) -> Duration {
        loop {
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(limits::COMMIT_RETRY_MAX);
            if let Ok(mut rebuilt) = rebuild(self.desk).await {
                self.batch.sift(&mut rebuilt, &self.desk.context.meter);
                *self.recent = rebuilt;
                return wait;
            }
        }
    }

    async fn send_opening(&mut self) -> Result<(), RunError> {
        for text in self.desk.feed.opening(self.desk.symbols) {
            self.send(Message::text(text)).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), RunError> {
        within_write_timeout(self.socket.send(message)).await
    }

    /// Opens the next socket before the server closes this one. What comes on both is recognised
    /// as a repetition.
    async fn recycle(&mut self) -> Result<(), RunError> {
        let desk = self.desk;
        let fresh = match connect::open(desk.feed, &desk.tls).await {
            Ok(fresh) => fresh,
            Err(error) => {
                let (source, why) = (&desk.plan.name, error.message);
                tracing::info!(%source, "keeping the old socket: {why}");
                self.next_recycle = Some(Instant::now() + desk.feed.ping);
                return Ok(());
            }
        };
        let mut old = std::mem::replace(&mut self.socket, fresh);
        self.send_opening().await?;
        let until = Instant::now() + Duration::from_secs(1);
        while let Ok(Some(Ok(message))) = timeout_at(until, old.next()).await {
            match message {
                Message::Text(text) => self.take(Bytes::from(text)).await?,
                Message::Binary(bytes) => self.take(bytes).await?,
                Message::Ping(_) => self.commit().await?,
                _ => {}
            }
        }
        self.commit().await?;
        within_write_timeout(old.close(None)).await.ok();
        let now = Instant::now();
        self.last_inbound = now;
        self.next_recycle = desk.feed.recycle.map(|every| now + every);
        Ok(())
    }
}

async fn within_write_timeout(
    write: impl Future<Output = Result<(), WsError>>,
) -> Result<(), RunError> {
    match timeout(limits::WRITE_TIMEOUT, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(RunError::retry("idle", "the server takes nothing any more")),
    }
}

fn lost(error: &WsError) -> RunError {
    let cause = match error {
        WsError::Io(_) => "reset",
        WsError::ConnectionClosed | WsError::AlreadyClosed => "close",
        WsError::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => "reset",
        _ => "protocol",
    };
    RunError::retry(cause, format!("the connection is lost: {error}"))
}

/// Reads the tail of the topic: what was stored last, by this process or by one that was killed.
pub(crate) async fn rebuild(desk: &Desk<'_>) -> Result<Recent, RunError> {
    let mut recent = Recent::new(desk.symbols.len());
    if desk.feed.dedup.is_empty() {
        return Ok(recent);
    }
    let (client, topic) = (&desk.context.client, &desk.plan.topic);
    let Some(info) = client.topic(topic).await? else { return Ok(recent) };
    for partition in info.partitions {
        let number = partition.partition;
        let latest = client.offset(topic, number, OffsetAt::Latest).await?;
        let end = latest.unwrap_or(partition.end_offset);
        let window = i64::try_from(limits::RECENT_RECORDS_MAX).unwrap_or(i64::MAX);
        let mut offset = partition.start_offset.max(end.saturating_sub(window));
        while offset < end {
            let bytes_max = limits::TAIL_FETCH_BYTES;
            let fetched = client.fetch(topic, number, offset, bytes_max, Duration::ZERO).await?;
            for record in &fetched.records {
                let value = record.value.as_deref().unwrap_or_default();
                let document = serde_json::from_slice::<Map<String, Value>>(value).ok();
                let fingerprint =
                    document.and_then(|document| Fingerprint::of(&document, &desk.feed.dedup));
                if let Some(fingerprint) = fingerprint {
                    recent.insert(record.key.as_deref().unwrap_or_default(), fingerprint);
                }
            }
            if fetched.next_offset <= offset {
                break;
            }
            offset = fetched.next_offset;
        }
    }
    Ok(recent)
}
