//! Reading a partition: from memory at once, else on one of a few blocking readers.
//!
//! Who reads committed records only stops at the last stable offset, below which every transaction
//! is decided, and leaves out the batches of those that were aborted: a Kafka client does that by
//! the list in the reply, readers in this process by [`Committed::batches`].

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_log::{AbortedTransaction, Cached, Log, Read, ReadError, TimeHit};
use odradek_protocol::batch::{self, BatchHeader};

use crate::broker::Broker;
use crate::client::OffsetAt;
use crate::core::Core;
use crate::partition::Partition;

/// Kafka's code for a failed read. What failed on the disk is also in the log.
pub(crate) fn error_code(partition: &Partition, error: &ReadError) -> ResponseError {
    match error {
        ReadError::OffsetOutOfRange { .. } => ResponseError::OffsetOutOfRange,
        ReadError::UnknownPartition => ResponseError::UnknownTopicOrPartition,
        ReadError::Io(_) | ReadError::Damaged { .. } => {
            let (topic, index) = (&partition.topic, partition.index());
            tracing::error!(%topic, partition = index, %error, "a read failed");
            ResponseError::KafkaStorageError
        }
    }
}

/// Whole batches from `offset` on, at least one if there is any; empty at the end of the log.
pub(crate) async fn read(
    broker: &Broker,
    core: &Arc<Core>,
    partition: &Arc<Partition>,
    offset: i64,
    bytes_max: usize,
) -> Result<Read, ResponseError> {
    let ends = partition.ends();
    if offset < ends.log_start_offset || offset > ends.log_end_offset {
        return Err(ResponseError::OffsetOutOfRange);
    }
    match core.log.read_cached(partition.id, offset, bytes_max) {
        Cached::Hit(read) => Ok(read),
        Cached::AtEnd => Ok(Read { batches: Vec::new(), next_offset: offset }),
        Cached::Miss => {
            let id = partition.id;
            let read = move |log: &Log| log.read(id, offset, bytes_max);
            blocking(broker, core, partition, read).await
        }
    }
}

/// The isolation level of a request that wants committed records only.
pub(crate) const READ_COMMITTED: i8 = 1;

/// Whole batches below the last stable offset.
#[derive(Debug, Default)]
pub(crate) struct Committed {
    pub read: Read,
    /// Transactions that were aborted and may have batches in `read`, by first offset.
    pub aborted: Vec<AbortedTransaction>,
}

/// As [`read`], for a reader of committed records.
pub(crate) async fn read_committed(
    broker: &Broker,
    core: &Arc<Core>,
    partition: &Arc<Partition>,
    offset: i64,
    bytes_max: usize,
) -> Result<Committed, ResponseError> {
    // Before the read: it never goes back, and what is below it stays decided.
    let stable = partition.ends().last_stable_offset;
    let mut read = read(broker, core, partition, offset, bytes_max).await?;
    let transactional = cut(&mut read, offset, stable);
    if !transactional {
        return Ok(Committed { read, aborted: Vec::new() });
    }
    let (id, next_offset) = (partition.id, read.next_offset);
    let aborted =
        blocking(broker, core, partition, move |log| log.aborted(id, offset, next_offset)).await?;
    Ok(Committed { read, aborted })
}

/// Takes away what is not decided yet. Returns whether what is left has batches of transactions.
fn cut(read: &mut Read, offset: i64, stable: i64) -> bool {
    let mut transactional = false;
    for at in 0..read.batches.len() {
        let run = read.batches[at].clone();
        let mut position = 0;
        for (header, bytes) in batch::split(&run).map_while(Result::ok) {
            // The last one counts: after DeleteRecords the stable offset may lie inside a batch.
            if header.last_offset() >= stable {
                read.batches[at].truncate(position);
                read.batches.truncate(at + usize::from(position > 0));
                read.next_offset = stable.max(offset);
                return transactional;
            }
            transactional |= header.is_transactional();
            position += bytes.len();
        }
    }
    transactional
}

impl Committed {
    /// Single batches of records, without markers and without those of aborted transactions.
    pub(crate) fn batches(&self) -> Vec<Bytes> {
        let mut to_come = self.aborted.iter().peekable();
        let mut aborting = HashSet::new();
        let mut batches = Vec::new();
        for bytes in self.read.each_batch() {
            // Bytes that are no batch are for whoever reads the records to report.
            let Ok(header) = BatchHeader::parse(&bytes) else {
                batches.push(bytes);
                continue;
            };
            while let Some(begun) = to_come.next_if(|one| one.first_offset <= header.last_offset())
            {
                aborting.insert(begun.producer_id);
            }
            if header.is_control() {
                aborting.remove(&header.producer_id);
            } else if !(header.is_transactional() && aborting.contains(&header.producer_id)) {
                batches.push(bytes);
            }
        }
        batches
    }
}

/// Runs a look into the log on a blocking reader.
pub(crate) async fn blocking<T: Send + 'static>(
    broker: &Broker,
    core: &Arc<Core>,
    partition: &Arc<Partition>,
    look: impl FnOnce(&Log) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ResponseError> {
    let storage = ResponseError::KafkaStorageError;
    let _reader = broker.inner.readers.acquire().await.map_err(|_| storage)?;
    let log = core.log.clone();
    let looked = tokio::task::spawn_blocking(move || look(&log)).await;
    looked.map_err(|_| storage)?.map_err(|e| error_code(partition, &e))
}

/// The record at a place in time, if there is one.
pub(crate) async fn time_hit(
    broker: &Broker,
    core: &Arc<Core>,
    partition: &Arc<Partition>,
    at: OffsetAt,
) -> Result<Option<TimeHit>, ResponseError> {
    let ends = partition.ends();
    let id = partition.id;
    match at {
        OffsetAt::Earliest => Ok(Some(TimeHit { offset: ends.log_start_offset, timestamp_ms: -1 })),
        OffsetAt::Latest => Ok(Some(TimeHit { offset: ends.last_stable_offset, timestamp_ms: -1 })),
        OffsetAt::Time(time) => {
            blocking(broker, core, partition, move |log| log.offset_for_time(id, time)).await
        }
        OffsetAt::MaxTimestamp => {
            blocking(broker, core, partition, move |log| log.max_timestamp(id)).await
        }
    }
}

#[cfg(test)]
mod tests {
    use odradek_protocol::batch::BatchBuilder;
    use odradek_protocol::compression::Compression;

    use super::*;

    fn batch(base_offset: i64, records: usize) -> Bytes {
        let mut builder = BatchBuilder::new(Compression::None).producer(9, 0, 0).transactional();
        for _ in 0..records {
            builder.push(1, None, None, &[]);
        }
        builder.build(base_offset)
    }

    /// Two batches, offsets 0 to 9 and 10 to 19; the second is of a transaction that is open. After
    /// records up to 15 were deleted the stable offset is 15, in the middle of it.
    #[test]
    fn a_batch_of_which_a_part_is_undecided_is_held_back_whole() {
        let run = Bytes::from([batch(0, 10), batch(10, 10)].concat());
        for (stable, left_bytes) in [(20, run.len()), (15, run.len() / 2), (10, run.len() / 2)] {
            let mut read = Read { batches: vec![run.clone()], next_offset: 20 };
            assert!(cut(&mut read, 0, stable));
            assert_eq!((read.byte_count(), read.next_offset), (left_bytes, stable), "{stable}");
        }
        let mut read = Read { batches: vec![batch(10, 10)], next_offset: 20 };
        assert!(!cut(&mut read, 15, 15));
        assert_eq!((read.byte_count(), read.next_offset), (0, 15));
    }
}
