//! Every retained record of a topic with a timestamp in `[from, to)`, as pages or in one go.

use std::sync::Arc;

use odradek_broker::client::{Client, StoredRecord, TopicInfo};

use super::cursor::{Cursor, Order, topic_tag};
use super::filter::Filter;
use super::merge::Merge;
use super::timeline::{Bounds, Timeline, bytes_of};
use super::{Failure, Outcome};

/// A page has at most this many records.
pub const PAGE_RECORDS_MAX: usize = 10_000;
pub const PAGE_RECORDS_DEFAULT: usize = 1000;
/// How many records of exact time order are gathered at once when a whole range is streamed: a log
/// whose times are shuffled is read once for each such page.
const STREAM_BOUNDS: Bounds = Bounds { records_max: 20_000, bytes_max: 4 * 1024 * 1024 };
/// A page of large records ends before its limit.
const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    pub topic: String,
    pub partition: Option<i32>,
    /// Epoch milliseconds, `[from_ms, to_ms)`.
    pub from_ms: i64,
    pub to_ms: i64,
    pub order: Order,
    pub filter: Filter,
    pub cursor: Option<Cursor>,
    /// Stands in for the clock.
    pub now_ms: i64,
}

impl Range {
    /// The whole topic in time order.
    pub fn all(topic: &str, now_ms: i64) -> Self {
        Self {
            topic: topic.to_owned(),
            partition: None,
            from_ms: i64::MIN,
            to_ms: i64::MAX,
            order: Order::TimeAscending,
            filter: Filter::default(),
            cursor: None,
            now_ms,
        }
    }
}

/// A range being read. Holds at most a page, or a step of each partition.
pub struct Reader {
    topic_tag: u64,
    now_ms: i64,
    range: (i64, i64),
    engine: Engine,
}

enum Engine {
    Merge(Box<Merge>),
    Time { timeline: Box<Timeline>, page: std::vec::IntoIter<(i32, StoredRecord)>, more: bool },
}

pub struct Page {
    pub records: Vec<(i32, StoredRecord)>,
    /// None when the range holds no more.
    pub next: Option<Cursor>,
}

/// The topic and the offsets to begin at are looked up here, so that a wrong name or a cursor that
/// retention has passed is known before anything is sent.
pub async fn open(client: Arc<dyn Client>, range: Range) -> Outcome<Reader> {
    let topic = super::topics::find(&*client, &range.topic).await?;
    let bounds = match &range.cursor {
        Some(cursor) => {
            cursor.check(&topic)?;
            (cursor.from_ms, cursor.to_ms)
        }
        None => (range.from_ms, range.to_ms),
    };
    let order = range.cursor.as_ref().map_or(range.order, |cursor| cursor.order);
    let positions = positions(&topic, &range)?;
    let engine = match order {
        Order::Offset => {
            let starts = (0..).zip(&positions).filter(|(_, at)| **at >= 0);
            let starts: Vec<(i32, i64)> = starts.map(|(index, at)| (index, *at)).collect();
            Engine::Merge(Box::new(Merge::new(client, &topic, bounds, range.filter, &starts)))
        }
        Order::TimeAscending | Order::TimeDescending => Engine::Time {
            timeline: Box::new(Timeline {
                client,
                topic: topic.clone(),
                from_ms: bounds.0,
                to_ms: bounds.1,
                descending: order == Order::TimeDescending,
                filter: range.filter,
                after: range.cursor.as_ref().and_then(|cursor| cursor.last),
                positions,
            }),
            page: Vec::new().into_iter(),
            more: true,
        },
    };
    Ok(Reader { topic_tag: topic_tag(&topic), now_ms: range.now_ms, range: bounds, engine })
}

impl Reader {
    /// The next record of the whole range.
    pub async fn next(&mut self) -> Outcome<Option<(i32, StoredRecord)>> {
        match &mut self.engine {
            Engine::Merge(merge) => merge.next().await,
            Engine::Time { timeline, page, more } => {
                if page.as_slice().is_empty() && *more {
                    let (records, follows) = timeline.page(STREAM_BOUNDS, self.now_ms).await?;
                    (*page, *more) = (records.into_iter(), follows);
                }
                Ok(page.next())
            }
        }
    }

    /// One page and the cursor of the next.
    pub async fn page(mut self, limit: usize) -> Outcome<Page> {
        let (records, order, last, positions, more) = match self.engine {
            Engine::Merge(mut merge) => {
                let mut records = Vec::new();
                let mut bytes = 0;
                while records.len() < limit && bytes < PAGE_BYTES_MAX {
                    let Some((partition, record)) = merge.next().await? else { break };
                    bytes += bytes_of(&record);
                    records.push((partition, record));
                }
                let more = !merge.is_exhausted();
                (records, Order::Offset, None, merge.positions(), more)
            }
            Engine::Time { ref mut timeline, .. } => {
                let bounds = Bounds { records_max: limit, bytes_max: PAGE_BYTES_MAX };
                let (records, more) = timeline.page(bounds, self.now_ms).await?;
                let positions = timeline.positions.clone();
                (records, timeline.order(), timeline.after, positions, more)
            }
        };
        let (from_ms, to_ms) = self.range;
        let next = more.then_some(Cursor {
            topic_tag: self.topic_tag,
            order,
            from_ms,
            to_ms,
            last,
            positions,
        });
        Ok(Page { records, next })
    }
}

/// By partition, where reading begins: the cursor's place or the first retained offset; -1 for
/// partitions that were not asked for.
fn positions(topic: &TopicInfo, range: &Range) -> Outcome<Vec<i64>> {
    if let Some(partition) = range.partition
        && !topic.partitions.iter().any(|info| info.partition == partition)
    {
        return Err(Failure::NotFound(format!(
            "topic {:?} has no partition {partition}; it has {}",
            topic.name,
            topic.partitions.len()
        )));
    }
    let largest = topic.partitions.iter().map(|info| info.partition).max().unwrap_or(-1);
    let mut positions = vec![-1; usize::try_from(largest + 1).unwrap_or_default()];
    for info in &topic.partitions {
        let Ok(index) = usize::try_from(info.partition) else { continue };
        if range.partition.is_some_and(|partition| partition != info.partition) {
            continue;
        }
        positions[index] = match &range.cursor {
            Some(cursor) => cursor.positions.get(index).copied().unwrap_or(info.start_offset),
            None => info.start_offset,
        };
    }
    Ok(positions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake::Fake;

    /// Timestamps out of order within and across partitions, with ties, from a fixed rule.
    fn shuffled() -> (Arc<Fake>, Vec<(i64, i32, i64)>) {
        let fake = Fake::with_topic("t", 3);
        let mut state = 1u64;
        for _ in 0..500 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let timestamp_ms = i64::try_from(state >> 33).expect("31 bits") % 1000;
            let partition = i32::try_from((state >> 20) % 3).expect("small");
            fake.append("t", partition, timestamp_ms, None, &format!("{timestamp_ms}"));
        }
        let mut places = fake.places("t");
        places.sort_unstable();
        (Arc::new(fake), places)
    }

    fn places(records: &[(i32, StoredRecord)]) -> Vec<(i64, i32, i64)> {
        records.iter().map(|(p, r)| (r.timestamp_ms, *p, r.offset)).collect()
    }

    async fn pages(fake: &Arc<Fake>, range: &Range, limit: usize) -> Vec<(i64, i32, i64)> {
        let mut all = Vec::new();
        let mut cursor = range.cursor.clone();
        loop {
            let range = Range { cursor: cursor.clone(), ..range.clone() };
            let reader = open(fake.clone(), range).await.expect("opens");
            let page = reader.page(limit).await.expect("reads");
            assert!(page.records.len() <= limit);
            all.extend(places(&page.records));
            let Some(next) = page.next else { return all };
            cursor = Some(Cursor::decode(&next.encode()).expect("its own cursor"));
        }
    }

    #[tokio::test]
    async fn pages_in_time_order_equal_a_sort_of_everything_without_loss_or_repeat() {
        let (fake, sorted) = shuffled();
        for (from_ms, to_ms) in [(i64::MIN, i64::MAX), (100, 300), (300, 301), (2000, 3000)] {
            let expected: Vec<_> =
                sorted.iter().copied().filter(|p| p.0 >= from_ms && p.0 < to_ms).collect();
            for limit in [1, 7, 100, 10_000] {
                let range = Range { from_ms, to_ms, ..Range::all("t", 500) };
                assert_eq!(pages(&fake, &range, limit).await, expected, "{from_ms} {limit}");
                let order = Order::TimeDescending;
                let mut backwards = pages(&fake, &Range { order, ..range }, limit).await;
                backwards.reverse();
                assert_eq!(backwards, expected, "descending {from_ms} {limit}");
            }
        }
    }

    #[tokio::test]
    async fn pages_in_offset_order_keep_each_partitions_order_and_miss_nothing() {
        let (fake, sorted) = shuffled();
        for limit in [1, 7, 100, 10_000] {
            let range = Range { order: Order::Offset, from_ms: 200, ..Range::all("t", 0) };
            let mut read = pages(&fake, &range, limit).await;
            for partition in 0..3 {
                let offsets: Vec<i64> =
                    read.iter().filter(|p| p.1 == partition).map(|p| p.2).collect();
                assert!(offsets.is_sorted(), "{partition}");
            }
            read.sort_unstable();
            let expected: Vec<_> = sorted.iter().copied().filter(|p| p.0 >= 200).collect();
            assert_eq!(read, expected, "{limit}");
        }
    }

    #[tokio::test]
    async fn a_page_of_large_records_ends_early_and_the_next_goes_on() {
        let fake = Arc::new(Fake::with_topic("t", 2));
        let large = "x".repeat(PAGE_BYTES_MAX / 3);
        for at_ms in [5, 3, 1, 4, 2, 0] {
            fake.append("t", i32::try_from(at_ms % 2).expect("small"), at_ms, None, &large);
        }
        let mut expected = fake.places("t");
        expected.sort_unstable();
        for order in [Order::TimeAscending, Order::TimeDescending, Order::Offset] {
            let range = Range { order, ..Range::all("t", 0) };
            let reader = open(fake.clone(), range.clone()).await.expect("opens");
            let first = reader.page(1000).await.expect("reads");
            assert!((2..=3).contains(&first.records.len()), "{}", first.records.len());
            let mut read = pages(&fake, &range, 1000).await;
            read.sort_unstable();
            assert_eq!(read, expected, "{order:?}");
        }
    }

    #[tokio::test]
    async fn a_streamed_range_is_the_same_set_in_every_order() {
        let (fake, sorted) = shuffled();
        for order in [Order::TimeAscending, Order::TimeDescending, Order::Offset] {
            let range = Range { order, ..Range::all("t", 0) };
            let mut reader = open(fake.clone(), range).await.expect("opens");
            let mut read = Vec::new();
            while let Some((partition, record)) = reader.next().await.expect("reads") {
                read.push((record.timestamp_ms, partition, record.offset));
            }
            match order {
                Order::TimeAscending => assert_eq!(read, sorted),
                Order::TimeDescending => {
                    read.reverse();
                    assert_eq!(read, sorted);
                }
                Order::Offset => {
                    read.sort_unstable();
                    assert_eq!(read, sorted);
                }
            }
        }
    }

    #[tokio::test]
    async fn one_partition_and_a_filter_narrow_the_pages() {
        let (fake, sorted) = shuffled();
        let filter = Filter { key: None, conditions: vec![] };
        let range = Range { partition: Some(1), filter, ..Range::all("t", 0) };
        let expected: Vec<_> = sorted.iter().copied().filter(|p| p.1 == 1).collect();
        assert_eq!(pages(&fake, &range, 9).await, expected);
        let range = Range { partition: Some(3), ..range };
        assert!(matches!(open(fake, range).await.err(), Some(Failure::NotFound(_))));
    }

    #[tokio::test]
    async fn a_cursor_that_retention_has_passed_is_gone() {
        for order in [Order::TimeAscending, Order::TimeDescending, Order::Offset] {
            let (fake, _) = shuffled();
            let range = Range { order, ..Range::all("t", 0) };
            let reader = open(fake.clone(), range.clone()).await.expect("opens");
            let next = reader.page(10).await.expect("reads").next.expect("more follows");
            fake.trim("t", 0, 100);
            let reopened = open(fake, Range { cursor: Some(next), ..range }).await;
            assert!(matches!(reopened.err(), Some(Failure::Gone(_))), "{order:?}");
        }
    }

    #[tokio::test]
    async fn a_cursor_of_a_deleted_and_created_topic_is_gone() {
        let (fake, _) = shuffled();
        let reader = open(fake.clone(), Range::all("t", 0)).await.expect("opens");
        let cursor = reader.page(10).await.expect("reads").next;
        fake.recreate("t", 3);
        let reopened = open(fake, Range { cursor, ..Range::all("t", 0) }).await;
        assert!(matches!(reopened.err(), Some(Failure::Gone(_))));
    }
}
