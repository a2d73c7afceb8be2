//! The cursors of one input topic.
//!
//! An offset below the log start means that retention removed records before they were read:
//! that is counted, said in the log, and reading goes on from the start.

use std::collections::BTreeMap;
use std::time::Duration;

use odradek_broker::client::{Client, ClientError, Fetched, StoredRecord, TopicInfo};
use tokio::time::Instant;

use super::RunError;
use crate::telemetry::Probe;

/// Bytes asked for in one fetch: some thousand ticks, a few tens of milliseconds of work.
const FETCH_BYTES_MAX: usize = 1 << 20;
/// How often a silent input is checked for having been deleted, recreated or enlarged.
const TOPIC_CHECK_AFTER: Duration = Duration::from_secs(5);

pub(crate) struct Input<'a> {
    client: &'a dyn Client,
    topic: String,
    topic_id: uuid::Uuid,
    cursors: Vec<Cursor>,
    probe: &'a Probe,
    checked_at: Instant,
}

struct Cursor {
    partition: i32,
    /// The next to read.
    offset: i64,
    high_watermark: i64,
}

/// Records of one fetch, none below the cursor.
pub(crate) struct Step {
    pub partition: i32,
    pub records: Vec<StoredRecord>,
    /// The cursor after this fetch.
    pub next_offset: i64,
    /// Offsets `from..to` that retention removed before they were read.
    pub gap: Option<(i64, i64)>,
}

pub(super) async fn fetch(
    client: &dyn Client,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<Fetched, ClientError> {
    client.fetch(topic, partition, offset, FETCH_BYTES_MAX, Duration::ZERO).await
}

impl<'a> Input<'a> {
    /// Cursors at the given offsets; a partition without one begins at its start.
    pub(crate) fn open(
        client: &'a dyn Client,
        topic: &TopicInfo,
        offsets: &BTreeMap<i32, i64>,
        probe: &'a Probe,
    ) -> Self {
        let cursors = topic
            .partitions
            .iter()
            .map(|info| Cursor {
                partition: info.partition,
                offset: offsets.get(&info.partition).copied().unwrap_or(info.start_offset),
                high_watermark: info.end_offset,
            })
            .collect();
        let checked_at = Instant::now();
        let topic_id = topic.topic_id;
        let topic = topic.name.clone();
        Self { client, topic, topic_id, cursors, probe, checked_at }
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.cursors.len()
    }

    /// The next offset to read of each partition.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = (i32, i64)> {
        self.cursors.iter().map(|cursor| (cursor.partition, cursor.offset))
    }

    pub(crate) fn lag(&self) -> i64 {
        self.cursors.iter().map(|c| c.high_watermark.saturating_sub(c.offset).max(0)).sum()
    }

    /// Reads on in the partition at `index` and moves its cursor.
    pub(crate) async fn fetch(&mut self, index: usize) -> Result<Step, RunError> {
        let cursor = &mut self.cursors[index];
        let partition = cursor.partition;
        let fetched = match fetch(self.client, &self.topic, partition, cursor.offset).await {
            Ok(fetched) => fetched,
            Err(ClientError::OffsetOutOfRange { offset, start, end }) => {
                let moved = report_gap(&self.topic, partition, offset, start, end);
                let gap = (offset < moved).then_some((offset, moved));
                self.probe.gap_records.inc_by(gap.map_or(0, |(from, to)| to.abs_diff(from)));
                cursor.offset = moved;
                return Ok(Step { partition, records: Vec::new(), next_offset: moved, gap });
            }
            Err(error) => return Err(error.into()),
        };
        let mut records = fetched.records;
        // A fetch inside a batch may give the whole batch.
        records.retain(|record| record.offset >= cursor.offset);
        cursor.offset = fetched.next_offset.max(cursor.offset);
        cursor.high_watermark = fetched.high_watermark;
        self.probe.records.inc_by(records.len() as u64);
        Ok(Step { partition, records, next_offset: cursor.offset, gap: None })
    }

    /// An error if the topic is gone, another one, or has other partitions, so that the
    /// processor starts again with what is there now.
    pub(crate) async fn check_topic(&mut self) -> Result<(), RunError> {
        if self.checked_at.elapsed() < TOPIC_CHECK_AFTER {
            return Ok(());
        }
        self.checked_at = Instant::now();
        let now = self.client.topic(&self.topic).await?;
        let same = now.is_some_and(|info| {
            info.topic_id == self.topic_id && info.partitions.len() == self.cursors.len()
        });
        if same { Ok(()) } else { Err(RunError::State("the input topic changed".to_owned())) }
    }
}

/// Where reading goes on, the log being `start..end`.
fn report_gap(topic: &str, partition: i32, offset: i64, start: i64, end: i64) -> i64 {
    if offset < start {
        tracing::warn!(
            topic,
            partition,
            lost = start.abs_diff(offset),
            from = offset,
            to = start,
            "retention removed records before analytics read them; reading goes on after the gap"
        );
        return start;
    }
    tracing::warn!(
        topic,
        partition,
        offset,
        end,
        "the log ends before the offset that analytics had reached; reading goes on at its end"
    );
    end
}
