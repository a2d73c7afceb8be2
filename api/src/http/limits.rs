//! How much of this interface's work may go on at once, so that memory has a bound, and how much of
//! that one address may take, so that there is something left for the others. Bytes are parts of
//! the broker's one budget (`odradek_broker::memory`).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt};
use http_body_util::BodyExt;
use odradek_broker::budget::{Budget, Held};
use odradek_broker::client::{ClientError, StoredRecord};
use odradek_broker::memory::HttpBudgets;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::problem::Problem;
use crate::operations::Failure;
use crate::operations::timeline::bytes_of;

/// A request body is held in memory while it is taken apart.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A record takes a few hundred bytes with its answer, though it may be two on the wire.
pub const RECORDS_MAX: usize = 100_000;
/// What the records of a body may come to: each row of a CSV becomes an object with all the names
/// of the header line, so a long name makes much of little.
pub const RECORDS_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;
/// Of one record in an envelope, for the same reason as the records themselves.
pub const HEADERS_MAX: usize = 1000;
/// Ranges being read at once, each of which holds a few megabytes (see `operations/range`); three
/// quarters of them from one address.
const READERS_MAX: usize = 16;
/// Who cannot begin within this time is told to come back.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A body that has not arrived by then is given up: it keeps others out.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);
/// Pieces of answers with records of more than this have their place among all such pieces until
/// they are sent.
const LARGE_RECORD_BYTES: usize = 64 * 1024;
/// Of a piece, for one write.
const STEP_BYTES_MAX: usize = 256 * 1024;
/// Of a record's offset, times, names and cursor, at most.
const RECORD_TEXT_BYTES: usize = 512;

/// Answers to somebody at an address.
#[derive(Clone)]
pub struct Answers {
    budget: Arc<Budget>,
    address: IpAddr,
}

impl Answers {
    pub fn piece(&self) -> Piece {
        Piece { bytes: Vec::new(), answers: self.clone(), held: None }
    }
}

/// A piece of an answer.
pub struct Piece {
    pub bytes: Vec<u8>,
    answers: Answers,
    held: Option<Held>,
}

impl Piece {
    /// To be called before these records are added.
    pub async fn make_room(&mut self, records: &[&StoredRecord]) -> Result<(), Failure> {
        if records.iter().map(|record| bytes_of(record)).sum::<usize>() <= LARGE_RECORD_BYTES {
            return Ok(());
        }
        let text_bytes: usize = records.iter().map(|record| text_bytes_of(record)).sum();
        let Answers { budget, address } = &self.answers;
        let held = self.held.get_or_insert_with(|| budget.hold(*address));
        // What one address may have of it; a record that may come to more is alone.
        let bytes_max = budget.bytes_max() / 4 * 3;
        let bytes = text_bytes.min(bytes_max.saturating_sub(held.bytes()));
        grow(budget, *address, held, bytes).await.ok_or_else(|| {
            let why = "other clients are being sent large records; try again in a while";
            Failure::from(ClientError::Unavailable(why.to_owned()))
        })?;
        // Growing by doubling would have the text in memory twice.
        self.bytes.reserve(text_bytes);
        Ok(())
    }

    /// Its place is given back when the bytes are dropped, that is, were sent.
    pub fn into_bytes(mut self) -> Bytes {
        match &mut self.held {
            None => Bytes::from(self.bytes),
            Some(held) => {
                held.count(self.bytes.len());
                Bytes::from_owner(self)
            }
        }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A body of pieces, which reach the connection in steps: it copies what it takes.
pub fn body_of<S>(pieces: S) -> Body
where
    S: Stream<Item = Result<Bytes, Failure>> + Send + 'static,
{
    let steps = |mut piece: Bytes| {
        let step = move || {
            (!piece.is_empty())
                .then(|| Ok::<_, Failure>(piece.split_to(STEP_BYTES_MAX.min(piece.len()))))
        };
        futures::stream::iter(std::iter::from_fn(step))
    };
    Body::from_stream(pieces.map_ok(steps).try_flatten())
}

/// About what a record is as JSON text, where a byte may become six (`\u0000`).
fn text_bytes_of(record: &StoredRecord) -> usize {
    let text = |bytes: &Option<Bytes>| bytes.as_deref().map_or(0, text_bytes);
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + text(value)).sum();
    RECORD_TEXT_BYTES + text(&record.key) + text(&record.value) + headers
}

fn text_bytes(bytes: &[u8]) -> usize {
    let escaped = bytes.iter().map(|byte| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    });
    // What is no text is written in base64.
    escaped.sum::<usize>().max(bytes.len().div_ceil(3) * 4)
}

pub struct Limits {
    /// In bytes, taken as they arrive: `bodies`. And `answers`.
    budgets: HttpBudgets,
    /// One body at a time may end beyond it, when all wait for each other.
    express: Semaphore,
    readers: Arc<Budget>,
}

impl Limits {
    pub fn new(budgets: HttpBudgets) -> Self {
        Self { budgets, express: Semaphore::new(1), readers: Budget::new(READERS_MAX) }
    }

    pub fn answers(&self, address: IpAddr) -> Answers {
        Answers { budget: self.budgets.answers.clone(), address }
    }

    /// To be kept for as long as the range is read.
    pub async fn reader(&self, address: IpAddr) -> Result<Held, Problem> {
        let mut held = self.readers.hold(address);
        grow(&self.readers, address, &mut held, 1).await.ok_or_else(|| {
            let detail = format!("{READERS_MAX} ranges are being read already");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).hint("try again in a while")
        })?;
        Ok(held)
    }

    /// The whole body, and hands it to `work` while its bytes count.
    pub async fn with_body<T>(
        &self,
        address: IpAddr,
        headers: &HeaderMap,
        body: Body,
        work: impl AsyncFnOnce(Bytes) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
        if length.is_some_and(|text| text.parse().unwrap_or(usize::MAX) > BODY_BYTES_MAX) {
            return Err(too_large());
        }
        let mut held = self.budgets.bodies.hold(address);
        let read = timeout(BODY_TIME_MAX, self.whole(address, body, &mut held)).await;
        let read = read.map_err(|_| {
            let detail = format!("the body did not arrive within {} s", BODY_TIME_MAX.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })?;
        let (whole, _express) = read?;
        work(whole).await
    }

    async fn whole<'a>(
        &'a self,
        address: IpAddr,
        mut body: Body,
        held: &mut Held,
    ) -> Result<(Bytes, Option<SemaphorePermit<'a>>), Problem> {
        let mut whole = BytesMut::new();
        let mut express = None;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| {
                Problem::bad_request(format!("the body did not arrive whole: {error}"))
            })?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > BODY_BYTES_MAX {
                return Err(too_large());
            }
            if express.is_none() {
                tokio::select! {
                    biased;
                    grown = grow(&self.budgets.bodies, address, held, data.len()) => {
                        grown.ok_or_else(too_much)?;
                    }
                    Ok(turn) = self.express.acquire(), if !whole.is_empty() => {
                        held.count(0);
                        express = Some(turn);
                    }
                }
            }
            whole.extend_from_slice(&data);
        }
        Ok((whole.freeze(), express))
    }
}

/// `None`: there was no room in time.
async fn grow(budget: &Budget, address: IpAddr, held: &mut Held, bytes: usize) -> Option<()> {
    let growing = async {
        while !held.grow(bytes) {
            budget.room_for(address, bytes).await;
        }
    };
    timeout(WAIT_MAX, growing).await.ok()
}

fn too_much() -> Problem {
    let detail = "too much is being written at once";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).hint("try again in a while")
}

fn too_large() -> Problem {
    let detail = format!("a body has at most {} MiB", BODY_BYTES_MAX >> 20);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).hint("send it in several requests")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lengths as JSON writes them, without the quotes: `\u0000` is six characters, `\"` two;
    /// base64 makes four of three.
    #[test]
    fn text_is_as_long_as_json_makes_it() {
        assert_eq!(text_bytes(&[0; 10]), 60);
        assert_eq!(text_bytes(b"a\"b"), 4);
        assert_eq!(text_bytes(&[0xff; 9]), 12);
    }
}
