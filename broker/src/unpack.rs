//! Unpacking batches for readers in this process, among them those behind HTTP.
//!
//! A batch of a few kilobytes may unpack to a thousand times as much. So that happens off the
//! threads that serve connections, a few at a time; what it gives counts in a budget until the last
//! record of the batch is dropped, as do large batches that were not packed; and a read stops after
//! the batch that made it large.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::FutureExt;
use odradek_protocol::batch::{BatchHeader, Record, RecordReader};
use odradek_protocol::compression::Compression;
use tokio::time::Instant;

use crate::broker::Broker;
use crate::budget::{Budget, Held};
use crate::client::{ClientError, Principal, Result};
use crate::limits;

/// A reader waits so long for memory that other readers hold.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// What one read unpacks; the batch that passes it is the last.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What is not packed and no larger than this is not counted.
const SMALL_READ_BYTES: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    pub records: Vec<Record>,
    /// Where reading goes on, if not all batches were unpacked.
    pub stopped_at: Option<i64>,
}

/// The records at or after `offset`.
pub(crate) async fn records(
    broker: &Broker,
    principal: &Principal,
    batches: Vec<Bytes>,
    offset: i64,
) -> Result<Unpacked> {
    let packed = |batch: &Bytes| {
        BatchHeader::parse(batch).is_ok_and(|h| h.compression() != Ok(Compression::None))
    };
    let is_packed = batches.iter().any(packed);
    let bytes: usize = batches.iter().map(Bytes::len).sum();
    if !is_packed && bytes <= SMALL_READ_BYTES {
        return unpack(&batches, offset, limits::UNPACKED_BATCH_BYTES_MAX, &mut Bytes::from);
    }
    let (budget, host) = (broker.inner.unpacked_bytes.clone(), principal.host());
    let is_internal = principal.is_internal();
    let deadline = Instant::now() + WAIT_MAX;
    if !is_internal {
        room(&budget, host, deadline).await?;
    }
    let count = |batch: Bytes| if packed(&batch) { batch } else { counted(&budget, host, batch) };
    let batches: Vec<Bytes> = batches.into_iter().map(count).collect();
    if !is_packed {
        return unpack(&batches, offset, limits::UNPACKED_BATCH_BYTES_MAX, &mut Bytes::from);
    }
    let batch_bytes_max = match is_internal {
        true => limits::UNPACKED_BATCH_BYTES_MAX,
        false => limits::UNPACKED_BATCH_BYTES_MAX_OF_OTHERS,
    };
    let closed = |_| ClientError::Unavailable("the broker stops".to_owned());
    let turn = loop {
        let turn = broker.inner.unpackers.clone().acquire_owned().await.map_err(closed)?;
        // Those before it may have taken the room while it waited for its turn.
        if is_internal || budget.room_for(host, 1).now_or_never().is_some() {
            break turn;
        }
        drop(turn);
        room(&budget, host, deadline).await?;
    };
    let work = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        unpack(&batches, offset, batch_bytes_max, &mut |payload| counted(&budget, host, payload))
    });
    work.await.map_err(|error| ClientError::Unavailable(format!("unpacking ended: {error}")))?
}

/// Waits until somebody at this address may hold more.
async fn room(budget: &Budget, host: IpAddr, deadline: Instant) -> Result<()> {
    let room = tokio::time::timeout_at(deadline, budget.room_for(host, 1)).await;
    room.map_err(|_| {
        let why = "other readers hold the memory for records; try again in a while";
        ClientError::Unavailable(why.to_owned())
    })
}

fn unpack(
    batches: &[Bytes],
    offset: i64,
    batch_bytes_max: usize,
    keep: &mut dyn FnMut(Vec<u8>) -> Bytes,
) -> Result<Unpacked> {
    let damaged = |e| ClientError::Refused(format!("a stored batch cannot be read: {e}"));
    let mut unpacked = Unpacked::default();
    let mut bytes = 0;
    for (index, batch) in batches.iter().enumerate() {
        let keep = |payload: Vec<u8>| {
            bytes += payload.len();
            keep(payload)
        };
        let reader = RecordReader::kept_by(batch, batch_bytes_max, keep).map_err(damaged)?;
        let next_offset = reader.header().last_offset() + 1;
        for record in reader {
            let record = record.map_err(damaged)?;
            // A read in the middle of a batch returns the whole batch.
            if record.offset >= offset {
                unpacked.records.push(record);
            }
        }
        if bytes > READ_BYTES_MAX && index + 1 < batches.len() {
            unpacked.stopped_at = Some(next_offset);
            break;
        }
    }
    Ok(unpacked)
}

/// Bytes that count for this address until the last slice of them is dropped.
fn counted<T>(budget: &Arc<Budget>, host: IpAddr, payload: T) -> Bytes
where
    T: AsRef<[u8]> + Send + 'static,
{
    let mut held = budget.hold(host);
    held.count(payload.as_ref().len());
    Bytes::from_owner(Kept { payload, _held: held })
}

/// Bytes, and their place in the budget.
struct Kept<T> {
    payload: T,
    _held: Held,
}

impl<T: AsRef<[u8]>> AsRef<[u8]> for Kept<T> {
    fn as_ref(&self) -> &[u8] {
        self.payload.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use odradek_protocol::batch::BatchBuilder;

    use super::*;

    fn batch(base_offset: i64, value_bytes: usize) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::Gzip);
        builder.push(1, None, Some(&vec![0; value_bytes]), &[]);
        builder.build(base_offset)
    }

    #[test]
    fn a_read_stops_after_the_batch_that_made_it_large_and_its_bytes_count_until_dropped() {
        let batches = [batch(0, 100), batch(1, READ_BYTES_MAX), batch(2, 100)];
        let budget = Budget::new(1 << 30);
        let localhost = std::net::Ipv4Addr::LOCALHOST.into();
        let mut keep = |payload: Vec<u8>| counted(&budget, localhost, payload);
        let mut first = unpack(&batches, 0, 1 << 30, &mut keep).unwrap();
        let offsets: Vec<i64> = first.records.iter().map(|record| record.offset).collect();
        assert_eq!((offsets, first.stopped_at), (vec![0, 1], Some(2)));
        assert!(budget.bytes() > READ_BYTES_MAX);
        // A value is a slice of its batch.
        let value = first.records.pop().unwrap().value;
        drop(first);
        assert!(budget.bytes() > READ_BYTES_MAX);
        drop(value);
        assert_eq!(budget.bytes(), 0);
        let rest = unpack(&batches[2..], 2, 1 << 30, &mut keep).unwrap();
        assert_eq!((rest.records.len(), rest.stopped_at), (1, None));
    }

    #[test]
    fn a_batch_that_unpacks_to_too_much_is_an_error() {
        let failed = unpack(&[batch(0, 5000)], 0, 4000, &mut Bytes::from);
        assert!(matches!(failed, Err(ClientError::Refused(_))), "{failed:?}");
    }
}
