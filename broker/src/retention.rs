//! Removes what retention allows: whole segments, after the state log says where each log starts.

use std::sync::Arc;

use kafka_protocol::ResponseError;
use tokio::time::Duration;

use crate::broker::Broker;
use crate::clock::now_ms;
use crate::core::Core;
use crate::partition::Partition;
use crate::state::{self, StateKey};

pub(crate) async fn run(broker: Broker) {
    let mut stopping = broker.stopping();
    let every = Duration::from_millis(
        u64::try_from(broker.config().topics.retention_check_interval_ms).unwrap_or(1),
    );
    loop {
        tokio::select! {
            _ = stopping.changed() => return,
            () = tokio::time::sleep(every) => {}
        }
        let core = broker.core();
        let deleted = pass(&core).await;
        broker.inner.metrics.retention_bytes.inc_by(deleted);
        let before_ms = now_ms() - core.config().groups.producer_id_expiration_ms;
        for topic in core.topics.all() {
            topic.partitions.iter().for_each(|p| p.expire_producers(before_ms));
        }
    }
}

/// One look at every partition; returns the bytes that were removed.
async fn pass(core: &Arc<Core>) -> u64 {
    let mut bytes = 0;
    for topic in core.topics.all() {
        if !topic.settings.cleanup.delete {
            continue;
        }
        for partition in &topic.partitions {
            let settings = &topic.settings;
            let (ms, size) = (settings.retention_ms, settings.retention_bytes);
            let (looking, id) = (core.clone(), partition.id);
            // Rolling an old active segment writes a side file: not on an async worker.
            let start =
                tokio::task::spawn_blocking(move || looking.log.retention(id, now_ms(), ms, size));
            if let Ok(Some(start)) = start.await {
                bytes += trim(core, partition, start).await;
            }
        }
    }
    bytes
}

/// As [`move_start`], for retention: what cannot be done now is done at the next pass.
async fn trim(core: &Arc<Core>, partition: &Arc<Partition>, start: i64) -> u64 {
    let before = partition.ends().bytes;
    if let Err(error) = move_start(core, partition, start).await {
        tracing::warn!(%error, "retention waits: the log takes no records now");
        return 0;
    }
    let freed = before.saturating_sub(partition.ends().bytes);
    tracing::info!(topic = %partition.topic, partition = partition.index(),
        log_start_offset = start, freed_bytes = freed, "retention removed old segments");
    freed
}

/// Moves the log start up, durably, then lets the log remove the segments below it. One move at a
/// time, so that the record of a lower start never follows that of a higher one, and none follows
/// the topic's deletion.
pub(crate) async fn move_start(
    core: &Arc<Core>,
    partition: &Arc<Partition>,
    start: i64,
) -> Result<(), ResponseError> {
    let _changing = core.changing_topics().await;
    if core.topics.by_id(partition.id.topic_id).is_none() {
        return Err(ResponseError::UnknownTopicOrPartition);
    }
    if start <= partition.ends().log_start_offset {
        return Ok(());
    }
    let key = StateKey::Start(partition.id);
    core.put_state(vec![(key, Some(state::value(&start)))]).await?;
    let (trimming, id) = (core.clone(), partition.id);
    let trimmed = tokio::task::spawn_blocking(move || trimming.log.trim(id, start)).await;
    trimmed.map_err(|_| ResponseError::KafkaStorageError)
}
