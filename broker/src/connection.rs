//! One connection: frames in, replies out, in the order of the requests.
//!
//! One task a connection. Produce requests are worked on ahead, so that one sync serves many of
//! them; any other request is answered before the next frame is read, as in Kafka.
//! A frame is read only when its bytes fit the budget of all requests together, and memory for it
//! grows with the bytes that really arrive, never with the length that was announced.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesOrdered;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};

use crate::broker::{Broker, Inner};
use crate::diagnose::{self, Seen};
use crate::dispatch::{self, Close, Rejected};
use crate::limits;
use crate::partition::lock;
use crate::reply::Reply;
use crate::session::Session;

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;
/// Most requests fit into one read of this size.
const FIRST_READ_BYTES: usize = 4096;
/// What the sniffing of a first frame wants to see.
const SNIFF_BYTES: usize = 8;

/// How many connections there may be, in all and from one address.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections; given back when dropped.
pub(crate) struct Place {
    broker: Broker,
    address: IpAddr,
}

impl Place {
    /// `Err` names the limit that is reached.
    pub(crate) fn take(broker: &Broker, address: IpAddr) -> Result<Self, String> {
        let config = broker.config();
        let limits = &config.limits;
        let mut open = lock(&broker.inner.gate.open);
        let all: usize = open.values().sum();
        if all >= limits.connections_max {
            return Err(format!("max.connections={} is reached", limits.connections_max));
        }
        let here = open.entry(address).or_insert(0);
        let max = limits.connections_per_address_max;
        if *here >= max {
            return Err(format!("max.connections.per.ip={max} is reached for {address}"));
        }
        *here += 1;
        broker.inner.open_connections.store(all + 1, std::sync::atomic::Ordering::Relaxed);
        Ok(Self { broker: broker.clone(), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.broker.inner.gate.open);
        if let Some(here) = open.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                open.remove(&self.address);
            }
        }
        let all = open.values().sum();
        self.broker.inner.open_connections.store(all, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The client closed, or the network did.
    Gone,
    /// Nothing came for `connections.max.idle.ms`, or the login took too long.
    Idle,
    Stopping,
    /// The client did what cannot be answered.
    Odd(Rejected),
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// Serves until either side ends it. Odd ends are logged and kept in the diary.
/// `closing`: its listener is closed, and so is it once it has answered what was asked.
pub(crate) async fn run<S>(
    broker: Broker,
    session: Arc<Session>,
    closing: watch::Receiver<bool>,
    stream: S,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (read_half, write_half) = tokio::io::split(stream);
    let mut connection = Connection {
        reader: Reader { half: read_half, buffer: BytesMut::new(), room: None, first: true },
        writer: write_half,
        in_flight: FuturesOrdered::new(),
        blocked: false,
        broker,
        session,
        closing,
    };
    let end = connection.serve().await;
    connection.ended(end).await;
}

type Work = BoxFuture<'static, Result<Reply, Close>>;

struct Connection<R, W> {
    reader: Reader<R>,
    writer: W,
    in_flight: FuturesOrdered<Work>,
    /// A request that is not worked on ahead waits for its answer.
    blocked: bool,
    broker: Broker,
    session: Arc<Session>,
    closing: watch::Receiver<bool>,
}

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send,
{
    async fn serve(&mut self) -> End {
        let mut stopping = self.broker.stopping();
        loop {
            let muted_until = self.session.muted_until();
            let closing = *self.closing.borrow();
            let may_read = !self.blocked
                && !closing
                && muted_until.is_none()
                && self.in_flight.len() < limits::REQUESTS_AHEAD_MAX;
            let unmuted = tokio::time::sleep_until(muted_until.unwrap_or_else(Instant::now).into());
            let patience = self.patience();
            let step = tokio::select! {
                biased;
                Some(answer) = self.in_flight.next() => self.answer(answer).await,
                frame = self.reader.frame(&self.broker, &self.session), if may_read => {
                    match frame {
                        Ok((frame, permit)) => self.accept(frame, permit).await,
                        Err(end) => Err(end),
                    }
                }
                () = unmuted, if muted_until.is_some() => Ok(()),
                _ = stopping.changed() => Err(End::Stopping),
                _ = self.closing.changed(), if !closing => Ok(()),
                () = std::future::ready(()), if closing && self.in_flight.is_empty() => {
                    Err(End::Stopping)
                }
                () = tokio::time::sleep(patience), if self.in_flight.is_empty() => Err(End::Idle),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    fn patience(&self) -> Duration {
        if lock(&self.session.login).is_wanted() {
            return limits::LOGIN_TIME_MAX;
        }
        Duration::from_millis(
            u64::try_from(self.broker.config().limits.idle_ms_max).unwrap_or(u64::MAX / 2),
        )
    }

    async fn accept(&mut self, frame: Bytes, permit: OwnedSemaphorePermit) -> Result<(), End> {
        let began = Instant::now();
        self.broker.inner.metrics.bytes_in.inc_by(frame.len() as u64);
        let accepted = dispatch::dispatch(&self.broker, &self.session, frame).map_err(End::Odd)?;
        let metrics = self.broker.inner.metrics.request(accepted.api);
        let mut answer = accepted.answer;
        // The first poll happens here, before the next frame is looked at: a produce request is in
        // the log's queue when it returns.
        let polled = futures::poll!(&mut answer);
        self.blocked = !accepted.api.worked_ahead;
        let work = async move {
            let answer = match polled {
                std::task::Poll::Ready(answer) => answer,
                std::task::Poll::Pending => answer.await,
            };
            drop(permit);
            metrics.observe(began.elapsed());
            answer
        };
        self.in_flight.push_back(work.boxed());
        Ok(())
    }

    async fn answer(&mut self, answer: Result<Reply, Close>) -> Result<(), End> {
        if self.in_flight.is_empty() {
            self.blocked = false;
        }
        match answer {
            Ok(reply) => {
                self.broker.inner.metrics.bytes_out.inc_by(reply.bytes_left() as u64);
                write(&mut self.writer, reply).await
            }
            Err(Close::NothingToSay) => Ok(()),
            Err(Close::Diagnosed) => Err(End::Gone),
            Err(Close::Because(evidence)) => {
                Err(End::Odd(Rejected { diagnosis: diagnose::UNDECODABLE_REQUEST, evidence }))
            }
        }
    }

    async fn ended(&mut self, end: End) {
        diagnose::reach_hooks::closed(&self.broker, &self.session);
        match end {
            End::Gone | End::Stopping => {}
            End::Idle => {
                tracing::debug!(peer = %self.session.peer, "an idle connection was closed");
            }
            End::Odd(rejected) => {
                if rejected.diagnosis == diagnose::HTTP_ON_KAFKA_PORT {
                    hint(&self.broker, &mut self.writer).await;
                }
                let Session { peer, listener, .. } = &*self.session;
                let Rejected { diagnosis, evidence } = rejected;
                self.broker.inner.diary.note(*peer, &listener.name, diagnosis, &evidence);
            }
        }
        let _ = self.writer.shutdown().await;
    }
}

/// Tells who speaks HTTP where the HTTP port is. A courtesy: a client that does not take it loses
/// nothing.
async fn hint<W: AsyncWrite + Unpin>(broker: &Broker, writer: &mut W) {
    let text = diagnose::http_hint(&broker.config());
    let sent = writer.write_all(text.as_bytes());
    let _ = tokio::time::timeout(Duration::from_secs(1), sent).await;
}

/// Ends a connection whose first bytes were not TLS. What has come is read first: a socket that is
/// closed with unread bytes resets the connection, and clients then have less to say of the cause.
pub(crate) async fn turn_away(broker: &Broker, mut stream: TcpStream, diagnosis: &str) {
    let _ = stream.try_read(&mut [0; FIRST_READ_BYTES]);
    if diagnosis == diagnose::HTTP_ON_KAFKA_PORT {
        hint(broker, &mut stream).await;
    }
    let _ = stream.shutdown().await;
}

/// Writes the pieces of a reply with vectored writes. A client that takes nothing for a while is
/// given up.
async fn write<W: AsyncWrite + Unpin>(writer: &mut W, mut reply: Reply) -> Result<(), End> {
    while !reply.is_done() {
        let written = {
            let mut slices = [IoSlice::new(&[]); limits::WRITE_SLICES_MAX];
            let filled = reply.fill(&mut slices);
            let writing = writer.write_vectored(&slices[..filled]);
            tokio::time::timeout(limits::WRITE_STALL_MAX, writing).await
        };
        match written {
            Ok(Ok(0)) | Ok(Err(_)) | Err(_) => return Err(End::Gone),
            Ok(Ok(bytes)) => reply.written(bytes),
        }
    }
    writer.flush().await?;
    Ok(())
}

/// Cuts frames from the bytes of a socket. Safe to cancel between any two of its waits.
///
/// Bytes take their place in the request budget as they arrive, not as they are announced, so a
/// peer that announces much and sends nothing holds nothing. When the budget is used up by frames
/// that are all unfinished, one connection at a time may finish its frame beyond it (`express`);
/// so some frame always gets done.
struct Reader<R> {
    half: R,
    buffer: BytesMut,
    room: Option<Room>,
    first: bool,
}

/// What the frame that is being read holds of the request budget.
struct Room {
    permit: OwnedSemaphorePermit,
    accounted_bytes: usize,
    express: Option<OwnedSemaphorePermit>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn frame(
        &mut self,
        broker: &Broker,
        session: &Session,
    ) -> Result<(Bytes, OwnedSemaphorePermit), End> {
        self.fill(LENGTH_BYTES).await?;
        if self.first {
            self.sniff().await?;
            self.first = false;
        }
        let whole_bytes = LENGTH_BYTES + self.announced(broker, session)?;
        loop {
            self.account(broker, whole_bytes).await?;
            if self.buffer.len() >= whole_bytes {
                break;
            }
            self.read_some(whole_bytes).await?;
        }
        let mut frame = self.buffer.split_to(whole_bytes).freeze();
        if self.buffer.is_empty() {
            // An idle connection keeps no buffer.
            self.buffer = BytesMut::new();
        }
        let room = self.room.take().expect("`account` made it");
        Ok((frame.split_off(LENGTH_BYTES), room.permit))
    }

    /// Takes a place in the budget for what has arrived of the frame.
    async fn account(&mut self, broker: &Broker, whole_bytes: usize) -> Result<(), End> {
        let Inner { request_bytes, express_frame, .. } = &*broker.inner;
        let take = |bytes: usize| {
            let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
            request_bytes.clone().try_acquire_many_owned(permits)
        };
        let room = match &mut self.room {
            Some(room) => room,
            empty => {
                let permit = take(0).map_err(|_| End::Stopping)?;
                empty.insert(Room { permit, accounted_bytes: 0, express: None })
            }
        };
        let arrived = self.buffer.len().min(whole_bytes);
        if room.express.is_some() || arrived <= room.accounted_bytes {
            return Ok(());
        }
        match take(arrived - room.accounted_bytes) {
            Ok(more) => {
                room.permit.merge(more);
                room.accounted_bytes = arrived;
            }
            Err(_) => {
                let turn = express_frame.clone().acquire_owned().await;
                room.express = Some(turn.map_err(|_| End::Stopping)?);
            }
        }
        Ok(())
    }

    /// The length of the frame that begins in the buffer, if it may come.
    fn announced(&self, broker: &Broker, session: &Session) -> Result<usize, End> {
        let mut length = [0; LENGTH_BYTES];
        length.copy_from_slice(&self.buffer[..LENGTH_BYTES]);
        let announced = i32::from_be_bytes(length);
        let config = broker.config();
        let limits = &config.limits;
        let (max, key) = match lock(&session.login).is_wanted() {
            true => (limits.login_request_bytes_max, "sasl.server.max.receive.size"),
            false => (limits.request_bytes_max, "socket.request.max.bytes"),
        };
        match usize::try_from(announced) {
            Ok(bytes) if bytes <= max => Ok(bytes),
            _ => {
                let evidence = format!("a frame of {announced} bytes was announced; {key}={max}");
                Err(End::Odd(Rejected { diagnosis: diagnose::OVERSIZED_FRAME, evidence }))
            }
        }
    }

    /// Looks at the first bytes of a connection: is this Kafka's protocol at all?
    async fn sniff(&mut self) -> Result<(), End> {
        let seen = match diagnose::classify(&self.buffer) {
            // Four bytes may be too few to tell; what speaks Kafka sends more at once.
            Seen::Unknown => {
                self.fill(SNIFF_BYTES).await?;
                diagnose::classify(&self.buffer)
            }
            seen => seen,
        };
        match diagnose::of_first_bytes(seen, &self.buffer) {
            None => Ok(()),
            Some((diagnosis, evidence)) => Err(End::Odd(Rejected { diagnosis, evidence })),
        }
    }

    /// Reads until the buffer holds at least this many bytes.
    async fn fill(&mut self, wanted: usize) -> Result<(), End> {
        while self.buffer.len() < wanted {
            self.read_some(wanted).await?;
        }
        Ok(())
    }

    /// One read. A frame that has begun must go on arriving.
    async fn read_some(&mut self, wanted: usize) -> Result<(), End> {
        let missing = wanted.saturating_sub(self.buffer.len());
        self.buffer.reserve(missing.clamp(FIRST_READ_BYTES, limits::READ_STEP_BYTES));
        let begun = !self.buffer.is_empty();
        let reading = self.half.read_buf(&mut self.buffer);
        let read = if begun {
            let read = tokio::time::timeout(limits::FRAME_STALL_MAX, reading).await;
            read.map_err(|_| End::Idle)?
        } else {
            reading.await
        };
        match read? {
            0 => Err(End::Gone),
            _ => Ok(()),
        }
    }
}
