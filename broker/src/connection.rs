//! One connection: frames in, replies out, in the order of the requests.
//!
//! One task a connection. Produce requests are worked on ahead, so that one sync serves many of
//! them; any other request is answered before the next frame is read, as in Kafka.
//! A frame is read only when its bytes fit the budget of all requests together, and memory for it
//! grows with the bytes that really arrive, never with the length that was announced. Nothing is
//! worked on for which the replies' budget has no room, and a reply holds a place in it until the
//! client has taken it. See `budget` for how that is divided, `turns` for processor time.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesOrdered;
use kafka_protocol::messages::ApiKey;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, OwnedSemaphorePermit, watch};

use crate::broker::{Broker, Inner};
use crate::budget::{Budget, Held, Progress};
use crate::diagnose::{self, Seen};
use crate::dispatch::{self, Close, Rejected};
use crate::limits;
use crate::memory;
use crate::partition::lock;
use crate::reply::Reply;
use crate::session::Session;
use crate::turns::{Stopwatch, UNBROKEN_MAX};

/// Bytes of a frame's length.
const LENGTH_BYTES: usize = 4;
/// Most requests fit into one read of this size.
const FIRST_READ_BYTES: usize = 4096;
/// What the sniffing of a first frame wants to see.
const SNIFF_BYTES: usize = 8;

/// Evidence of a stranger that was told to go.
pub(crate) const MADE_WAY: &str =
    "it had not logged in or asked anything yet, and made way for another connection";

/// How many connections there may be, in all and from one address.
///
/// One that has not shown yet that it means well, by a login or a request that can be read, is a
/// stranger. Strangers make way, the oldest first, when a limit is reached: who only connects
/// cannot lock out those who have something to say.
#[derive(Default)]
pub(crate) struct Gate {
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    /// By when they came.
    strangers: BTreeMap<u64, (IpAddr, Arc<Notify>)>,
    next_number: u64,
}

impl Open {
    /// The oldest stranger, if it has to be one from this address one of those, is told to go and
    /// gives its place at once.
    fn make_way(&mut self, from: Option<IpAddr>) -> bool {
        let fits = |address: &IpAddr| from.is_none_or(|from| from == *address);
        let oldest = self.strangers.iter().find(|(_, (address, _))| fits(address));
        let Some(number) = oldest.map(|(number, _)| *number) else { return false };
        if let Some((address, leave)) = self.strangers.remove(&number) {
            leave.notify_one();
            self.remove(address);
        }
        true
    }

    fn remove(&mut self, address: IpAddr) {
        self.all -= 1;
        if let Some(here) = self.by_address.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// A place among the connections; given back when dropped.
pub(crate) struct Place {
    broker: Broker,
    address: IpAddr,
    number: u64,
    leave: Arc<Notify>,
    is_stranger: bool,
}

impl Place {
    /// `Err` names the limit that is reached.
    pub(crate) fn take(broker: &Broker, address: IpAddr) -> Result<Self, String> {
        let config = broker.config();
        let limits = &config.limits;
        let mut open = lock(&broker.inner.gate.open);
        let max = limits.connections_per_address_max;
        let here = open.by_address.get(&address).copied().unwrap_or(0);
        if here >= max && !open.make_way(Some(address)) {
            return Err(format!("max.connections.per.ip={max} is reached for {address}"));
        }
        if open.all >= limits.connections_max && !open.make_way(None) {
            return Err(format!("max.connections={} is reached", limits.connections_max));
        }
        open.all += 1;
        *open.by_address.entry(address).or_insert(0) += 1;
        let (number, leave) = (open.next_number, Arc::new(Notify::new()));
        open.next_number += 1;
        open.strangers.insert(number, (address, leave.clone()));
        broker.inner.open_connections.store(open.all, std::sync::atomic::Ordering::Relaxed);
        Ok(Self { broker: broker.clone(), address, number, leave, is_stranger: true })
    }

    /// It has shown that it means well. `false`: it has been told to go meanwhile.
    fn is_welcome(&mut self) -> bool {
        if self.is_stranger {
            let mut open = lock(&self.broker.inner.gate.open);
            if open.strangers.remove(&self.number).is_none() {
                return false;
            }
            self.is_stranger = false;
        }
        true
    }

    /// Ends when it has to make way.
    pub(crate) async fn has_to_leave(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.broker.inner.gate.open);
        // A stranger that was told to go has given its place already.
        if !self.is_stranger || open.strangers.remove(&self.number).is_some() {
            open.remove(self.address);
        }
        self.broker.inner.open_connections.store(open.all, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Why a connection ended.
#[derive(Debug)]
enum End {
    /// The client closed, or the network did.
    Gone,
    /// Nothing came for `connections.max.idle.ms`, or the login took too long.
    Idle,
    /// A limit of connections was reached, and this one had said nothing yet.
    MadeWay,
    /// It held memory that others waited for, and moved nothing.
    Stuck,
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
    place: &mut Place,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let (read_half, write_half) = tokio::io::split(stream);
    let mut connection = Connection {
        reader: Reader::new(read_half),
        writer: write_half,
        in_flight: FuturesOrdered::new(),
        blocked: false,
        work: Duration::ZERO,
        began: Instant::now(),
        place,
        broker,
        session,
        closing,
    };
    let end = connection.serve().await;
    connection.ended(end).await;
}

type Work = BoxFuture<'static, Result<Reply, Close>>;

struct Connection<'a, R, W> {
    reader: Reader<R>,
    writer: W,
    in_flight: FuturesOrdered<Work>,
    /// A request that is not worked on ahead waits for its answer.
    blocked: bool,
    /// Since this task last let others of its thread go first.
    work: Duration,
    began: Instant,
    place: &'a mut Place,
    broker: Broker,
    session: Arc<Session>,
    closing: watch::Receiver<bool>,
}

impl<R, W> Connection<'_, R, W>
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
                        Ok((frame, held)) => self.accept(frame, held).await,
                        Err(end) => Err(end),
                    }
                }
                () = unmuted, if muted_until.is_some() => Ok(()),
                _ = stopping.changed() => Err(End::Stopping),
                _ = self.closing.changed(), if !closing => Ok(()),
                () = std::future::ready(()), if closing && self.in_flight.is_empty() => {
                    Err(End::Stopping)
                }
                () = self.place.has_to_leave() => Err(End::MadeWay),
                () = tokio::time::sleep(patience), if self.in_flight.is_empty() => Err(End::Idle),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// How long nothing may come. Until a stranger has shown that it means well, all that it does
    /// counts together.
    fn patience(&self) -> Duration {
        let idle = limits::idle(&self.broker.config());
        let login = if self.place.is_stranger {
            limits::LOGIN_TIME_MAX.saturating_sub(self.began.elapsed())
        } else if lock(&self.session.login).is_wanted() {
            limits::LOGIN_TIME_MAX
        } else {
            idle
        };
        login.min(idle)
    }

    async fn accept(&mut self, frame: Bytes, held: Admitted) -> Result<(), End> {
        let began = Instant::now();
        let address = self.session.peer.ip();
        self.broker.inner.metrics.bytes_in.inc_by(frame.len() as u64);
        let turn = self.broker.inner.turns.take(address).await;
        let watch = Stopwatch::start();
        let accepted = dispatch::dispatch(&self.broker, &self.session, frame).map_err(End::Odd)?;
        let metrics = self.broker.inner.metrics.request(accepted.api);
        let mut answer = accepted.answer;
        // The first poll happens here, before the next frame is looked at: a produce request is in
        // the log's queue when it returns.
        let polled = futures::poll!(&mut answer);
        let work = watch.elapsed();
        self.broker.inner.turns.worked(address, work);
        drop(turn);
        self.work += work;
        let login_is_done = || !lock(&self.session.login).is_wanted();
        if self.place.is_stranger && login_is_done() && !self.place.is_welcome() {
            return Err(End::MadeWay);
        }
        self.blocked = !accepted.api.worked_ahead;
        let work = async move {
            let answer = match polled {
                std::task::Poll::Ready(answer) => answer,
                std::task::Poll::Pending => answer.await,
            };
            drop(held);
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
        if self.work > UNBROKEN_MAX {
            self.work = Duration::ZERO;
            tokio::task::yield_now().await;
        }
        match answer {
            Ok(reply) => {
                self.broker.inner.metrics.bytes_out.inc_by(reply.bytes_left() as u64);
                let (replies, address) = (&self.broker.inner.reply_bytes, self.session.peer.ip());
                write(&mut self.writer, reply, replies, address).await
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
            End::MadeWay => {
                let Session { peer, listener, .. } = &*self.session;
                let id = diagnose::TOO_MANY_CONNECTIONS;
                self.broker.inner.diary.note(*peer, &listener.name, id, MADE_WAY);
            }
            End::Stuck => {
                let peer = &self.session.peer;
                tracing::info!(
                    %peer, "a connection that moved no bytes was closed: others wait for memory"
                );
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
        // TLS says goodbye, which a client that takes nothing would never let end.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.writer.shutdown()).await;
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
/// given up, earlier if others wait for the memory.
async fn write<W: AsyncWrite + Unpin>(
    writer: &mut W,
    mut reply: Reply,
    replies: &Arc<Budget>,
    address: IpAddr,
) -> Result<(), End> {
    let mut held = None;
    let mut progress = Progress::default();
    while !reply.is_done() {
        let written = {
            let mut slices = [IoSlice::new(&[]); limits::WRITE_SLICES_MAX];
            let filled = reply.fill(&mut slices);
            let mut writing = std::pin::pin!(writer.write_vectored(&slices[..filled]));
            match futures::poll!(&mut writing) {
                std::task::Poll::Ready(written) => written,
                // Most replies fit the socket's buffer and never come here.
                std::task::Poll::Pending => {
                    if reply.held.is_none() && held.is_none() {
                        let mut here = replies.hold(address);
                        here.count(reply.bytes_left());
                        held = Some(here);
                    }
                    let stall_max = limits::WRITE_STALL_MAX;
                    unstuck(writing, stall_max, replies, address, &mut progress).await?
                }
            }
        };
        match written {
            Ok(0) | Err(_) => return Err(End::Gone),
            Ok(bytes) => {
                progress.moved(bytes);
                reply.written(bytes);
            }
        }
    }
    // TLS may still have bytes that the socket has not taken.
    let mut flushing = std::pin::pin!(writer.flush());
    match futures::poll!(&mut flushing) {
        std::task::Poll::Ready(flushed) => flushed?,
        std::task::Poll::Pending => {
            let stall_max = limits::WRITE_STALL_MAX;
            unstuck(flushing, stall_max, replies, address, &mut progress).await??;
        }
    }
    Ok(())
}

/// Waits for bytes to move, unless that takes too long or is too slow for those who wait for room.
async fn unstuck<T>(
    moving: impl Future<Output = T>,
    stall_max: Duration,
    budget: &Budget,
    address: IpAddr,
    progress: &mut Progress,
) -> Result<T, End> {
    let mut moving = std::pin::pin!(moving);
    let mut stall = std::pin::pin!(tokio::time::sleep(stall_max));
    loop {
        tokio::select! {
            biased;
            moved = &mut moving => return Ok(moved),
            () = &mut stall => return Err(End::Idle),
            () = budget.pressed(address) => {
                if progress.is_stuck() {
                    return Err(End::Stuck);
                }
            }
        }
    }
}

/// Cuts frames from the bytes of a socket. Safe to cancel between any two of its waits.
///
/// Bytes take their place in the budget before they are read, a step at a time, so a peer that
/// announces much and sends little holds little; a frame of at most `SMALL_FRAME_BYTES` holds none
/// until it is complete. When the budget is used up by frames that are all unfinished, one
/// connection at a time may finish its frame beyond it (`express`); so some frame always gets done.
struct Reader<R> {
    half: R,
    buffer: BytesMut,
    room: Option<Room>,
    progress: Progress,
    first: bool,
}

/// What the frame that is being read holds.
struct Room {
    budget: Arc<Budget>,
    arriving: Held,
    express: Option<OwnedSemaphorePermit>,
}

/// What a request holds until its reply is made.
struct Admitted {
    /// None of a produce request: its bytes hold it themselves.
    _working: Option<Held>,
    _express: Option<Arc<OwnedSemaphorePermit>>,
}

/// The bytes of a produce request. They go when the log has copied the batches into a group, which
/// has a part of the budget of its own; the next requests need not wait for that group's sync.
/// They may also outlive the connection, or a reply that says nothing, in the log's queue.
struct Counted {
    bytes: Bytes,
    _working: Held,
    _express: Option<Arc<OwnedSemaphorePermit>>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(half: R) -> Self {
        let (buffer, progress) = (BytesMut::new(), Progress::default());
        Self { half, buffer, room: None, progress, first: true }
    }

    async fn frame(
        &mut self,
        broker: &Broker,
        session: &Session,
    ) -> Result<(Bytes, Admitted), End> {
        self.fill(LENGTH_BYTES).await?;
        if self.first {
            self.sniff().await?;
            self.first = false;
        }
        let whole_bytes = LENGTH_BYTES + self.announced(broker, session)?;
        self.fill(whole_bytes.min(limits::SMALL_FRAME_BYTES)).await?;
        while self.buffer.len() < whole_bytes {
            self.account(broker, session, whole_bytes).await?;
            self.read_some(whole_bytes).await?;
        }
        let (working, express) = self.admit(broker, session, whole_bytes).await?;
        let express = express.map(Arc::new);
        let is_produce = self.is_produce();
        let mut frame = self.buffer.split_to(whole_bytes).freeze().split_off(LENGTH_BYTES);
        if self.buffer.is_empty() {
            // An idle connection keeps no buffer.
            self.buffer = BytesMut::new();
        }
        let mut held = Admitted { _working: None, _express: express.clone() };
        if is_produce {
            let counted = Counted { bytes: frame, _working: working, _express: express };
            frame = Bytes::from_owner(counted);
        } else {
            held._working = Some(working);
        }
        Ok((frame, held))
    }

    /// Of the whole frame that begins in the buffer.
    fn is_produce(&self) -> bool {
        let key = self.buffer.get(LENGTH_BYTES..LENGTH_BYTES + 2);
        key == Some(&(ApiKey::Produce as i16).to_be_bytes())
    }

    /// Takes a place in the budget for the next step of a frame.
    async fn account(
        &mut self,
        broker: &Broker,
        session: &Session,
        whole_bytes: usize,
    ) -> Result<(), End> {
        let Inner { arriving_bytes, stranger_bytes, working_bytes, express_frame, .. } =
            &*broker.inner;
        let address = session.peer.ip();
        let is_stranger = lock(&session.login).is_wanted();
        let room = self.room.get_or_insert_with(|| {
            let budget = if is_stranger { stranger_bytes } else { arriving_bytes };
            let (budget, arriving) = (budget.clone(), budget.hold(address));
            self.progress = Progress::default();
            Room { budget, arriving, express: None }
        });
        let next = (self.buffer.len() + limits::READ_STEP_BYTES).min(whole_bytes);
        // What would seldom have its place goes express from the start. Nobody does before a login.
        let smaller = room.budget.bytes_max().min(working_bytes.bytes_max());
        let is_too_large = !is_stranger && whole_bytes > smaller / 2;
        while room.express.is_none() {
            let missing = next.saturating_sub(room.arriving.bytes());
            // What is too large finds no room, but presses who moves nothing.
            let wanted = if is_too_large { usize::MAX } else { missing };
            if !is_too_large && room.arriving.grow(missing) {
                break;
            }
            let express = express_frame.clone().acquire_owned();
            tokio::select! {
                () = room.budget.room_for(address, wanted) => {}
                turn = express, if !is_stranger => {
                    room.express = Some(turn.map_err(|_| End::Stopping)?);
                    room.arriving.count(0);
                    // Address space, not memory, until bytes come; growing by doubling would have
                    // the frame in memory twice while it is moved.
                    self.buffer.reserve(whole_bytes - self.buffer.len());
                }
            }
        }
        Ok(())
    }

    /// A whole frame goes from those that arrive to those that are worked on, when there is room
    /// for its reply, too. The reply of a produce request is always small.
    async fn admit(
        &mut self,
        broker: &Broker,
        session: &Session,
        whole_bytes: usize,
    ) -> Result<(Held, Option<OwnedSemaphorePermit>), End> {
        let Inner { working_bytes, reply_bytes, .. } = &*broker.inner;
        let address = session.peer.ip();
        if !self.is_produce() {
            reply_bytes.room_for(address, limits::REPLY_ROOM_BYTES).await;
        }
        let mut working = working_bytes.hold(address);
        let express =
            |room: &Option<Room>| room.as_ref().is_some_and(|room| room.express.is_some());
        while !express(&self.room) && !working.grow(whole_bytes) {
            working_bytes.room_for(address, whole_bytes).await;
        }
        let express = self.room.take().and_then(|room| room.express);
        Ok((working, express))
    }

    /// The length of the frame that begins in the buffer, if it may come.
    fn announced(&self, broker: &Broker, session: &Session) -> Result<usize, End> {
        let mut length = [0; LENGTH_BYTES];
        length.copy_from_slice(&self.buffer[..LENGTH_BYTES]);
        let announced = i32::from_be_bytes(length);
        let config = broker.config();
        let limits = &config.limits;
        let half = memory::request_bytes_max(&config);
        let (max, key) = match lock(&session.login).is_wanted() {
            true => (limits.login_request_bytes_max, "sasl.server.max.receive.size"),
            false if limits.request_bytes_max > half => (half, "half of odradek.memory.max.bytes"),
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

    /// Space in the buffer for the next step. It doubles, but not beyond what is missing: a frame
    /// in a buffer twice as large would hold twice the memory that it counts for.
    fn make_space(&mut self, step: usize, missing: usize) {
        let filled = self.buffer.len();
        let space = self.buffer.capacity() - filled;
        // The end of a large frame comes alone: what it has is moved no more.
        if space >= step || filled >= limits::SMALL_FRAME_BYTES && space >= missing {
            return;
        }
        let space = step.max(filled.min(missing));
        let mut larger = BytesMut::with_capacity(filled + space);
        larger.extend_from_slice(&self.buffer);
        self.buffer = larger;
    }

    /// One read. A frame that has begun must go on arriving, with some speed if others wait for
    /// what it holds.
    async fn read_some(&mut self, wanted: usize) -> Result<(), End> {
        let missing = wanted.saturating_sub(self.buffer.len());
        let step = missing.clamp(FIRST_READ_BYTES, limits::READ_STEP_BYTES);
        self.make_space(step, missing);
        let begun = !self.buffer.is_empty();
        let mut half = (&mut self.half).take(step as u64);
        let reading = half.read_buf(&mut self.buffer);
        let read = match &self.room {
            Some(Room { budget, arriving, .. }) => {
                let (stall, address) = (limits::FRAME_STALL_MAX, arriving.address());
                unstuck(reading, stall, budget, address, &mut self.progress).await?
            }
            None if begun => {
                let read = tokio::time::timeout(limits::FRAME_STALL_MAX, reading).await;
                read.map_err(|_| End::Idle)?
            }
            None => reading.await,
        };
        match read? {
            0 => Err(End::Gone),
            bytes => {
                self.progress.moved(bytes);
                Ok(())
            }
        }
    }
}
