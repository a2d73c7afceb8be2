//! A complete range in one pass and constant memory: partitions merged by time.
//!
//! Each partition is read in offset order, step by step through `Client::scan`, and the partition
//! whose next record has the smallest timestamp goes first. So the whole is in time order where
//! each partition is, and a partition's own order is never changed. The range ends at the offsets
//! that each partition had when reading began: a busy producer cannot keep a reader for ever.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use odradek_broker::client::{Client, StoredRecord, TopicInfo};

use super::Outcome;
use super::filter::Filter;

/// All partitions together buffer about this much.
const BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
const STEP_BYTES_MAX: usize = 256 * 1024;
const STEP_BYTES_MIN: usize = 16 * 1024;

pub struct Merge {
    client: Arc<dyn Client>,
    topic: String,
    from_ms: i64,
    to_ms: i64,
    filter: Filter,
    step_bytes: usize,
    lanes: Vec<Lane>,
    /// Timestamp of each lane's first buffered record, smallest first.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    opened: bool,
}

/// One partition on its way through the range.
struct Lane {
    partition: i32,
    buffered: VecDeque<StoredRecord>,
    /// Where the next step begins; none when the range has no more.
    next_offset: Option<i64>,
    end_offset: i64,
}

impl Lane {
    /// Nothing below this offset is left to deliver.
    fn position(&self) -> i64 {
        self.buffered.front().map_or(self.next_offset.unwrap_or(self.end_offset), |r| r.offset)
    }
}

/// Bytes of one read step, so that `lanes` partitions stay inside the buffer's bound.
pub fn step_bytes(lanes: usize) -> usize {
    (BUFFER_BYTES_MAX / lanes.max(1)).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX)
}

impl Merge {
    /// `starts`: partition and first offset to look at.
    pub fn new(
        client: Arc<dyn Client>,
        topic: &TopicInfo,
        (from_ms, to_ms): (i64, i64),
        filter: Filter,
        starts: &[(i32, i64)],
    ) -> Self {
        let lanes = starts.iter().filter_map(|(partition, start)| {
            let info = topic.partitions.iter().find(|info| info.partition == *partition)?;
            Some(Lane {
                partition: *partition,
                buffered: VecDeque::new(),
                next_offset: (*start < info.end_offset).then_some(*start),
                end_offset: info.end_offset.max(*start),
            })
        });
        Self {
            client,
            topic: topic.name.clone(),
            from_ms,
            to_ms,
            filter,
            step_bytes: step_bytes(starts.len()),
            lanes: lanes.collect(),
            heads: BinaryHeap::new(),
            opened: false,
        }
    }

    pub async fn next(&mut self) -> Outcome<Option<(i32, StoredRecord)>> {
        if !self.opened {
            for index in 0..self.lanes.len() {
                self.refill(index).await?;
            }
            self.opened = true;
        }
        let Some(Reverse((_, index))) = self.heads.pop() else { return Ok(None) };
        let lane = &mut self.lanes[index];
        let record = lane.buffered.pop_front().expect("a lane with a head has a record");
        let partition = lane.partition;
        self.refill(index).await?;
        Ok(Some((partition, record)))
    }

    /// By partition: nothing below is left to deliver; -1 where the partition is not read.
    pub fn positions(&self) -> Vec<i64> {
        let mut positions = Vec::new();
        for lane in &self.lanes {
            let index = usize::try_from(lane.partition).unwrap_or_default();
            if positions.len() <= index {
                positions.resize(index + 1, -1);
            }
            positions[index] = lane.position();
        }
        positions
    }

    pub fn is_exhausted(&self) -> bool {
        self.opened && self.heads.is_empty()
    }

    /// Leaves the lane with a buffered record and its head in the heap, or at its end.
    async fn refill(&mut self, index: usize) -> Outcome<()> {
        let lane = &mut self.lanes[index];
        while lane.buffered.is_empty() {
            let Some(offset) = lane.next_offset else { return Ok(()) };
            let scanned = self
                .client
                .scan(
                    &self.topic,
                    lane.partition,
                    self.from_ms,
                    self.to_ms,
                    offset,
                    self.step_bytes,
                )
                .await?;
            lane.next_offset =
                scanned.next_offset.filter(|next| *next > offset && *next < lane.end_offset);
            let wanted = scanned.records.into_iter().filter(|record| {
                record.offset >= offset
                    && record.offset < lane.end_offset
                    && self.filter.matches(record)
            });
            lane.buffered.extend(wanted);
        }
        let timestamp_ms = lane.buffered.front().map_or(i64::MAX, |record| record.timestamp_ms);
        self.heads.push(Reverse((timestamp_ms, index)));
        Ok(())
    }
}
