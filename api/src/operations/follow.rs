//! A topic as it grows: every record from a place on, over all partitions, at the reader's pace.
//!
//! Nothing is queued for a reader: records are fetched when it asks for the next one. Each comes
//! with the cursor that continues right after it, so a reader that was cut and comes back with its
//! last cursor misses nothing and sees nothing twice. When several partitions have records waiting,
//! the smallest timestamp goes first; a partition's own order is never changed.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use odradek_broker::client::{Client, OffsetAt, StoredRecord, TopicInfo};

use super::cursor::{Cursor, Order, topic_tag};
use super::filter::Filter;
use super::merge::step_bytes;
use super::{Failure, Outcome, topics};

/// Where a stream begins.
#[derive(Debug, Clone, PartialEq)]
pub enum Start {
    Earliest,
    Latest,
    /// In each partition at the first record at or after this time, epoch milliseconds.
    Time(i64),
    Cursor(Cursor),
}

pub struct Follow {
    client: Arc<dyn Client>,
    topic: String,
    topic_tag: u64,
    only: Option<i32>,
    filter: Filter,
    lanes: Vec<Lane>,
}

#[derive(Default)]
struct Lane {
    partition: i32,
    buffered: VecDeque<StoredRecord>,
    /// Where the next fetch begins.
    fetch_offset: i64,
    /// Nothing below is left to deliver.
    position: i64,
}

pub struct Followed {
    pub partition: i32,
    pub record: StoredRecord,
    pub cursor: String,
}

/// Finds the topic and the offsets to begin at, and refuses what cannot be continued.
pub async fn open(
    client: Arc<dyn Client>,
    topic: &str,
    only: Option<i32>,
    start: Start,
    filter: Filter,
) -> Outcome<Follow> {
    let info = topics::find(&*client, topic).await?;
    if let Start::Cursor(cursor) = &start {
        cursor.check(&info)?;
    }
    if let Some(partition) = only
        && !info.partitions.iter().any(|info| info.partition == partition)
    {
        return Err(Failure::NotFound(format!("topic {topic:?} has no partition {partition}")));
    }
    let mut follow = Follow {
        client,
        topic: topic.to_owned(),
        topic_tag: topic_tag(&info),
        only,
        filter,
        lanes: Vec::new(),
    };
    follow.add_lanes(&info, &start).await?;
    Ok(follow)
}

impl Follow {
    /// The next record, or `None` when none came within `wait`.
    pub async fn next(&mut self, wait: Duration) -> Outcome<Option<Followed>> {
        loop {
            if let Some(followed) = self.buffered() {
                return Ok(Some(followed));
            }
            // The watch is armed before the look, so that a record appended between the look and
            // the wait still ends the wait.
            let client = self.client.clone();
            let topic = self.topic.clone();
            let mut watch = pin!(client.watch(&topic, wait));
            let fired = futures::poll!(&mut watch).is_ready();
            if self.fetch_round().await? {
                continue;
            }
            if !fired {
                watch.await;
            }
            if !self.fetch_round().await? {
                self.look_for_partitions().await?;
                return Ok(None);
            }
        }
    }

    /// The cursor that continues after everything delivered so far.
    pub fn cursor(&self) -> String {
        let mut positions = Vec::new();
        for lane in &self.lanes {
            let index = usize::try_from(lane.partition).unwrap_or_default();
            if positions.len() <= index {
                positions.resize(index + 1, -1);
            }
            positions[index] = lane.position;
        }
        Cursor {
            topic_tag: self.topic_tag,
            order: Order::Offset,
            from_ms: i64::MIN,
            to_ms: i64::MAX,
            last: None,
            positions,
        }
        .encode()
    }

    /// The next record if it is in memory already.
    pub fn buffered(&mut self) -> Option<Followed> {
        let lane = self
            .lanes
            .iter_mut()
            .filter(|lane| !lane.buffered.is_empty())
            .min_by_key(|lane| lane.buffered.front().map(|record| record.timestamp_ms))?;
        let record = lane.buffered.pop_front()?;
        lane.position =
            if lane.buffered.is_empty() { lane.fetch_offset } else { record.offset + 1 };
        let partition = lane.partition;
        Some(Followed { partition, record, cursor: self.cursor() })
    }

    /// One fetch of every partition, none of them waiting. True if there is a record to deliver.
    async fn fetch_round(&mut self) -> Outcome<bool> {
        let bytes_max = step_bytes(self.lanes.len());
        let mut found = false;
        for lane in &mut self.lanes {
            // A filter may turn a whole step away; the loop goes on until the end of the log.
            loop {
                let fetched = self
                    .client
                    .fetch(
                        &self.topic,
                        lane.partition,
                        lane.fetch_offset,
                        bytes_max,
                        Duration::ZERO,
                    )
                    .await?;
                let moved = fetched.next_offset > lane.fetch_offset;
                let from = lane.fetch_offset;
                lane.fetch_offset = fetched.next_offset.max(from);
                let wanted = fetched.records.into_iter();
                lane.buffered.extend(wanted.filter(|r| r.offset >= from && self.filter.matches(r)));
                if lane.buffered.is_empty() {
                    lane.position = lane.fetch_offset;
                }
                if !moved || !lane.buffered.is_empty() {
                    break;
                }
            }
            found |= !lane.buffered.is_empty();
        }
        Ok(found)
    }

    /// Partitions may be added while a stream runs; those are read from their beginning.
    async fn look_for_partitions(&mut self) -> Outcome<()> {
        let info = topics::find(&*self.client, &self.topic).await?;
        if topic_tag(&info) != self.topic_tag {
            return Err(Failure::Gone(format!("the topic {:?} was deleted", self.topic)));
        }
        self.add_lanes(&info, &Start::Earliest).await
    }

    async fn add_lanes(&mut self, info: &TopicInfo, start: &Start) -> Outcome<()> {
        for partition in &info.partitions {
            let index = partition.partition;
            let unwanted = self.only.is_some_and(|only| only != index);
            if unwanted || self.lanes.iter().any(|lane| lane.partition == index) {
                continue;
            }
            let offset = match start {
                Start::Earliest => partition.start_offset,
                Start::Latest => partition.end_offset,
                Start::Time(ms) => {
                    let at = self.client.offset(&info.name, index, OffsetAt::Time(*ms)).await?;
                    at.unwrap_or(partition.end_offset)
                }
                Start::Cursor(cursor) => usize::try_from(index)
                    .ok()
                    .and_then(|at| cursor.positions.get(at).copied())
                    .filter(|at| *at >= 0)
                    .unwrap_or(partition.start_offset),
            };
            self.lanes.push(Lane {
                partition: index,
                buffered: VecDeque::new(),
                fetch_offset: offset,
                position: offset,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake::Fake;

    const SOON: Duration = Duration::from_millis(20);

    async fn follow(fake: &Arc<Fake>, start: Start) -> Follow {
        open(fake.clone(), "t", None, start, Filter::default()).await.expect("opens")
    }

    async fn drain(follow: &mut Follow) -> Vec<(i32, i64, String)> {
        let mut all = Vec::new();
        while let Some(followed) = follow.next(SOON).await.expect("reads") {
            all.push((followed.partition, followed.record.offset, followed.cursor));
        }
        all
    }

    #[tokio::test]
    async fn a_cut_stream_goes_on_after_any_record_without_loss_or_repeat() {
        let fake = Arc::new(Fake::with_topic("t", 3));
        for n in 0..60 {
            fake.append("t", n % 3, i64::from(n * 7 % 11), None, "v");
        }
        let whole = drain(&mut follow(&fake, Start::Earliest).await).await;
        assert_eq!(whole.len(), 60);
        for cut in 0..whole.len() {
            let cursor = Cursor::decode(&whole[cut].2).expect("its own cursor");
            let rest = drain(&mut follow(&fake, Start::Cursor(cursor)).await).await;
            let mut seen: Vec<_> =
                whole[..=cut].iter().chain(&rest).map(|(p, o, _)| (*p, *o)).collect();
            seen.sort_unstable();
            let mut expected: Vec<_> = whole.iter().map(|(p, o, _)| (*p, *o)).collect();
            expected.sort_unstable();
            assert_eq!(seen, expected, "cut after {cut}");
        }
    }

    #[tokio::test]
    async fn a_record_that_arrives_while_waiting_is_delivered() {
        let fake = Arc::new(Fake::with_topic("t", 2));
        fake.append("t", 0, 1, None, "old");
        let mut follow = follow(&fake, Start::Latest).await;
        assert!(follow.next(SOON).await.expect("reads").is_none());
        let producer = fake.clone();
        let appended = tokio::spawn(async move { producer.append("t", 1, 2, None, "new") });
        let followed = follow.next(Duration::from_secs(30)).await.expect("reads").expect("comes");
        assert_eq!(followed.record.value.as_deref(), Some(b"new".as_slice()));
        appended.await.expect("no panic");
    }

    #[tokio::test]
    async fn a_stream_from_a_time_begins_at_the_first_record_at_or_after_it() {
        let fake = Arc::new(Fake::with_topic("t", 1));
        for timestamp_ms in [10, 30, 20, 40] {
            fake.append("t", 0, timestamp_ms, None, "v");
        }
        let all = drain(&mut follow(&fake, Start::Time(20)).await).await;
        let offsets: Vec<i64> = all.iter().map(|(_, offset, _)| *offset).collect();
        assert_eq!(offsets, [1, 2, 3]);
    }

    #[tokio::test]
    async fn a_filtered_stream_moves_its_cursor_past_what_it_turned_away() {
        let fake = Arc::new(Fake::with_topic("t", 1));
        for n in 0..10 {
            fake.append("t", 0, n, Some("a"), "v");
        }
        let filter = Filter::parse(Some("b"), None).expect("valid");
        let mut follow =
            open(fake.clone(), "t", None, Start::Earliest, filter).await.expect("opens");
        assert!(follow.next(SOON).await.expect("reads").is_none());
        let cursor = Cursor::decode(&follow.cursor()).expect("its own cursor");
        assert_eq!(cursor.positions, [10]);
    }

    #[tokio::test]
    async fn a_stream_whose_topic_goes_away_ends_with_the_reason() {
        let fake = Arc::new(Fake::with_topic("t", 1));
        let mut follow = follow(&fake, Start::Latest).await;
        fake.recreate("t", 1);
        assert!(matches!(follow.next(SOON).await.err(), Some(Failure::Gone(_))));
    }
}
