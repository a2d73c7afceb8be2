//! One page of a topic in exact time order, however the timestamps run.
//!
//! Records go by (timestamp, partition, offset), which no two share. A page is the first `limit` of
//! them after the last one delivered. It is found by scanning the range and keeping the best: as
//! soon as the page is full, its last timestamp bounds what can still matter, and the scan's index
//! skips every chunk beyond it. So a page of a log that is mostly in order reads little more than
//! itself, one of a shuffled log reads the range, and both are right.
//!
//! Backwards, the newest stretch is looked at first (a minute, then eight times as much, …).

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use odradek_broker::client::{Client, StoredRecord, TopicInfo};

use super::Outcome;
use super::cursor::{Order, Place};
use super::filter::Filter;

const STEP_BYTES: usize = 256 * 1024;
const FIRST_STRETCH_MS: i64 = 60_000;

pub struct Timeline {
    pub client: Arc<dyn Client>,
    pub topic: TopicInfo,
    pub from_ms: i64,
    pub to_ms: i64,
    pub descending: bool,
    pub filter: Filter,
    /// The last record delivered by the page before.
    pub after: Option<Place>,
    /// By partition: nothing below is left to deliver; negative: not read.
    pub positions: Vec<i64>,
}

/// How much a page may hold; one record goes in whatever its size.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub records_max: usize,
    pub bytes_max: usize,
}

impl Timeline {
    pub fn order(&self) -> Order {
        if self.descending { Order::TimeDescending } else { Order::TimeAscending }
    }

    /// The next page, and whether more may follow. Moves `after` and `positions` on.
    pub async fn page(
        &mut self,
        bounds: Bounds,
        now_ms: i64,
    ) -> Outcome<(Vec<(i32, StoredRecord)>, bool)> {
        let mut best = Best::new(self.descending, bounds);
        if self.descending {
            self.look_back(&mut best, bounds, now_ms).await?;
        } else {
            let from_ms = self.after.map_or(self.from_ms, |(timestamp_ms, ..)| timestamp_ms);
            let mut positions = self.positions.clone();
            self.look(&mut best, from_ms, self.to_ms, &mut positions).await?;
            self.positions = positions;
        }
        let more = best.bound.is_some();
        let records = best.into_records();
        if let Some((partition, record)) = records.last() {
            self.after = Some((record.timestamp_ms, *partition, record.offset));
        }
        Ok((records, more))
    }

    async fn look_back(&self, best: &mut Best, bounds: Bounds, now_ms: i64) -> Outcome<()> {
        let to_ms = self.after.map_or(self.to_ms, |(at_ms, ..)| at_ms.saturating_add(1));
        let newest_ms = to_ms.min(now_ms);
        let mut stretch_ms = FIRST_STRETCH_MS;
        loop {
            let from_ms = newest_ms.saturating_sub(stretch_ms).max(self.from_ms);
            *best = Best::new(true, bounds);
            self.look(best, from_ms, to_ms, &mut self.positions.clone()).await?;
            if best.bound.is_some() || from_ms == self.from_ms {
                return Ok(());
            }
            stretch_ms = stretch_ms.saturating_mul(8);
            if stretch_ms == i64::MAX {
                *best = Best::new(true, bounds);
                return self.look(best, self.from_ms, to_ms, &mut self.positions.clone()).await;
            }
        }
    }

    /// Offers every record of `[from_ms, to_ms)` to `best`, except those that cannot get in.
    async fn look(
        &self,
        best: &mut Best,
        from_ms: i64,
        to_ms: i64,
        positions: &mut [i64],
    ) -> Outcome<()> {
        for info in &self.topic.partitions {
            let slot = usize::try_from(info.partition).ok().and_then(|at| positions.get_mut(at));
            let Some(position) = slot.filter(|position| **position >= 0) else { continue };
            // Nothing of this partition is left below `low`; what stays behind will lower it.
            let (mut low, mut step) = (info.end_offset.max(*position), Some(*position));
            while let Some(offset) = step.filter(|offset| *offset < info.end_offset) {
                if best.bound.is_some() {
                    low = low.min(offset);
                }
                let (from_ms, to_ms) = best.narrowed(from_ms, to_ms);
                let scanned = self
                    .client
                    .scan(&self.topic.name, info.partition, from_ms, to_ms, offset, STEP_BYTES)
                    .await?;
                for record in scanned.records {
                    let in_step = record.offset >= offset && record.offset < info.end_offset;
                    if in_step && self.is_ahead(info.partition, &record) {
                        best.offer(info.partition, record);
                    }
                }
                step = scanned.next_offset.filter(|next| *next > offset);
            }
            best.low.entry(info.partition).and_modify(|at| *at = (*at).min(low)).or_insert(low);
        }
        for (partition, low) in &best.low {
            if let Some(slot) =
                usize::try_from(*partition).ok().and_then(|at| positions.get_mut(at))
                && *slot >= 0
            {
                *slot = *low;
            }
        }
        Ok(())
    }

    fn is_ahead(&self, partition: i32, record: &StoredRecord) -> bool {
        let place = (record.timestamp_ms, partition, record.offset);
        let fresh = match self.after {
            None => true,
            Some(after) if self.descending => place < after,
            Some(after) => place > after,
        };
        fresh && self.filter.matches(record)
    }
}

/// The first records seen so far, in the order asked for, as many as the bounds allow.
struct Best {
    descending: bool,
    bounds: Bounds,
    bytes: usize,
    /// By place, negated bit by bit when descending: that reverses the order of integers.
    kept: BTreeMap<Place, StoredRecord>,
    /// No record from this place on may enter: one such was turned away, the page ends before it.
    bound: Option<Place>,
    /// By partition: the smallest offset that was turned away.
    low: BTreeMap<i32, i64>,
}

impl Best {
    fn new(descending: bool, bounds: Bounds) -> Self {
        let (kept, low) = (BTreeMap::new(), BTreeMap::new());
        Self { descending, bounds, bytes: 0, kept, bound: None, low }
    }

    fn turn(&self, (timestamp_ms, partition, offset): Place) -> Place {
        if self.descending {
            (!timestamp_ms, !partition, !offset)
        } else {
            (timestamp_ms, partition, offset)
        }
    }

    fn offer(&mut self, partition: i32, record: StoredRecord) {
        let place = self.turn((record.timestamp_ms, partition, record.offset));
        if self.bound.is_some_and(|bound| place >= bound) {
            return self.leave(partition, record.offset);
        }
        self.bytes += bytes_of(&record);
        self.kept.insert(place, detached(&record));
        let Bounds { records_max, bytes_max } = self.bounds;
        while self.kept.len() > 1 && (self.kept.len() > records_max || self.bytes > bytes_max) {
            let (place, record) = self.kept.pop_last().expect("more than one is kept");
            self.bytes -= bytes_of(&record);
            self.bound = Some(place);
            self.leave(self.turn(place).1, record.offset);
        }
    }

    fn leave(&mut self, partition: i32, offset: i64) {
        self.low.entry(partition).and_modify(|at| *at = (*at).min(offset)).or_insert(offset);
    }

    /// The part of the range in which records can still enter.
    fn narrowed(&self, from_ms: i64, to_ms: i64) -> (i64, i64) {
        match self.bound.map(|bound| self.turn(bound).0) {
            Some(bound_ms) if self.descending => (from_ms.max(bound_ms), to_ms),
            Some(bound_ms) => (from_ms, to_ms.min(bound_ms.saturating_add(1))),
            None => (from_ms, to_ms),
        }
    }

    fn into_records(self) -> Vec<(i32, StoredRecord)> {
        let descending = self.descending;
        let partition = |place: Place| if descending { !place.1 } else { place.1 };
        self.kept.into_iter().map(|(place, record)| (partition(place), record)).collect()
    }
}

/// A copy of its own: a record is a slice of its whole decompressed batch, and a page of records
/// from as many batches would keep all of those in memory.
fn detached(record: &StoredRecord) -> StoredRecord {
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    StoredRecord {
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_ref().map(copy),
        value: record.value.as_ref().map(copy),
        headers: record.headers.iter().map(|(k, v)| (copy(k), v.as_ref().map(copy))).collect(),
    }
}

pub fn bytes_of(record: &StoredRecord) -> usize {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    let headers: usize = record.headers.iter().map(|(key, value)| key.len() + length(value)).sum();
    // The struct itself and its place in the map.
    128 + length(&record.key) + length(&record.value) + headers
}
