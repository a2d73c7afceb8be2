//! Reading a partition: from memory at once, else on one of a few blocking readers.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use odradek_log::{Cached, Log, Read, ReadError, TimeHit};

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
        OffsetAt::Latest => Ok(Some(TimeHit { offset: ends.log_end_offset, timestamp_ms: -1 })),
        OffsetAt::Time(time) => {
            blocking(broker, core, partition, move |log| log.offset_for_time(id, time)).await
        }
        OffsetAt::MaxTimestamp => {
            blocking(broker, core, partition, move |log| log.max_timestamp(id)).await
        }
    }
}
