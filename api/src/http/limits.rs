//! How much of this interface's work may go on at once, so that memory has a bound.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::problem::Problem;

/// A request body is held in memory while it is taken apart.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// All bodies together: two of the largest.
const BODIES_BYTES_MAX: usize = 2 * BODY_BYTES_MAX;
/// A record takes a few hundred bytes with its answer, though it may be two on the wire.
pub const RECORDS_MAX: usize = 100_000;
/// What the records of a body may come to: each row of a CSV becomes an object with all the names
/// of the header line, so a long name makes much of little.
pub const RECORDS_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;
/// Of one record in an envelope, for the same reason as the records themselves.
pub const HEADERS_MAX: usize = 1000;
/// Ranges being read at once, each of which holds a few megabytes (see `operations/range`).
const READERS_MAX: usize = 32;
/// Who cannot begin within this time is told to come back.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// A body that has not arrived by then is given up: it keeps others out.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

pub struct Limits {
    /// In bytes.
    bodies: Semaphore,
    readers: Arc<Semaphore>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bodies: Semaphore::new(BODIES_BYTES_MAX),
            readers: Arc::new(Semaphore::new(READERS_MAX)),
        }
    }
}

impl Limits {
    /// To be kept for as long as the range is read.
    pub async fn reader(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let permit = timeout(WAIT_MAX, self.readers.clone().acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or_else(|| {
            let detail = format!("{READERS_MAX} ranges are being read already");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).hint("try again in a while")
        })
    }

    /// The whole body, and hands it to `work` while its bytes count.
    pub async fn with_body<T>(
        &self,
        headers: &HeaderMap,
        body: Body,
        work: impl AsyncFnOnce(Bytes) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let length = headers.get(header::CONTENT_LENGTH).and_then(|text| text.to_str().ok());
        let length = length.map_or(BODY_BYTES_MAX, |text| text.parse().unwrap_or(usize::MAX));
        if length > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let permit = timeout(WAIT_MAX, self.bodies.acquire_many(bytes)).await;
        let _permit = permit.ok().and_then(Result::ok).ok_or_else(|| {
            let detail = "too much is being written at once";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).hint("try again in a while")
        })?;
        let read = timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await;
        let read = read.map_err(|_| {
            let detail = format!("the body did not arrive within {} s", BODY_TIME_MAX.as_secs());
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
        })?;
        work(read.map_err(|_| too_large())?).await
    }
}

fn too_large() -> Problem {
    let detail = format!("a body has at most {} MiB", BODY_BYTES_MAX >> 20);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).hint("send it in several requests")
}
