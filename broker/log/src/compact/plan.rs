//! Whether a partition is due, and what of it: pure, on what is known of its segments.

use std::ops::Range;

use crate::index::Summary;
use crate::partition::Segment;
use crate::segment::SEGMENT_BYTES_MAX;
use crate::transactions::ABORTED_PER_SEGMENT_MAX;
use crate::types::{CompactionSettings, PartitionSettings};

/// What there is to clean of a partition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// Sealed segments from the first one on, none of which may grow or be undecided.
    pub segments: Vec<Summary>,
    /// Below, it was cleaned before.
    pub dirty_from: i64,
    pub dirty_bytes: u64,
    /// Of the bytes that may be cleaned.
    pub dirty_ratio: f64,
}

/// `stable_end`: nothing at or above it is cleaned. The last segment never is: a log ends with a
/// record, so that whoever reads it gets to its end.
pub(crate) fn plan(
    segments: &[Segment],
    settings: &CompactionSettings,
    stable_end: i64,
    now_ms: i64,
) -> Option<Plan> {
    let before_last = segments.split_last().map_or(&[][..], |(_, before)| before);
    let mut plan =
        Plan { segments: Vec::new(), dirty_from: i64::MAX, dirty_bytes: 0, dirty_ratio: 0.0 };
    let (mut bytes, mut oldest_ms) = (0, i64::MAX);
    let young_from_ms = now_ms.saturating_sub(settings.min_lag_ms);
    for segment in before_last {
        let summary = segment.summary;
        let dirty = plan.dirty_from < i64::MAX || summary.cleaned_to < summary.end_offset;
        let young = settings.min_lag_ms > 0 && summary.max_timestamp_ms > young_from_ms;
        if !segment.sealed || summary.end_offset > stable_end || dirty && young {
            break;
        }
        bytes += summary.bytes;
        if dirty {
            plan.dirty_from = plan.dirty_from.min(summary.cleaned_to);
            plan.dirty_bytes += summary.bytes;
            oldest_ms = oldest_ms.min(summary.min_timestamp_ms);
        }
        plan.segments.push(summary);
    }
    if plan.dirty_bytes == 0 {
        return None;
    }
    plan.dirty_ratio = plan.dirty_bytes as f64 / bytes as f64;
    let overdue = oldest_ms > 0 && oldest_ms < now_ms.saturating_sub(settings.max_lag_ms);
    (overdue || plan.dirty_ratio > settings.min_dirty_ratio).then_some(plan)
}

/// Neighbours that become one segment, as many as fit; only those that begin below `map_end`.
pub(crate) fn groups(
    segments: &[Summary],
    map_end: i64,
    settings: &PartitionSettings,
) -> Vec<Range<usize>> {
    let bytes_max = settings.segment_bytes_max.clamp(1, SEGMENT_BYTES_MAX);
    let mut groups: Vec<Range<usize>> = Vec::new();
    let (mut bytes, mut aborted) = (0, 0);
    let begun = segments.iter().take_while(|summary| summary.base_offset < map_end);
    for (at, summary) in begun.enumerate() {
        bytes += summary.bytes;
        aborted += summary.aborted_count;
        let fits = groups.last().is_some_and(|group| {
            let offsets = summary.end_offset - segments[group.start].base_offset;
            bytes <= bytes_max
                && aborted <= ABORTED_PER_SEGMENT_MAX
                && offsets <= i64::from(i32::MAX)
        });
        match groups.last_mut().filter(|_| fits) {
            Some(group) => group.end = at + 1,
            None => {
                groups.push(at..at + 1);
                (bytes, aborted) = (summary.bytes, summary.aborted_count);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: CompactionSettings = CompactionSettings {
        min_dirty_ratio: 0.5,
        delete_retention_ms: 0,
        min_lag_ms: 0,
        max_lag_ms: i64::MAX,
    };

    /// Ten offsets and so many bytes each, at timestamps of a hundred times its number.
    fn segments(bytes: &[u64], cleaned: usize) -> Vec<Segment> {
        let segment = |(at, bytes): (usize, &u64)| {
            let at = at as i64;
            let mut summary = Summary::empty(at * 10);
            (summary.end_offset, summary.bytes) = (at * 10 + 10, *bytes);
            (summary.min_timestamp_ms, summary.max_timestamp_ms) = (at * 100 + 1, at * 100 + 99);
            if (at as usize) < cleaned {
                summary.cleaned_to = summary.end_offset;
            }
            Segment { summary, sealed: true }
        };
        bytes.iter().enumerate().map(segment).collect()
    }

    #[test]
    fn a_log_is_due_by_its_dirty_share_or_by_the_age_of_what_is_dirty() {
        let all = segments(&[600, 500, 100, 100], 1);
        // 600 of 1,200 bytes: exactly half is not more than half.
        assert_eq!(plan(&all, &SETTINGS, 40, 1_000), None);
        let eager = CompactionSettings { min_dirty_ratio: 0.49, ..SETTINGS };
        let due = plan(&all, &eager, 40, 1_000).expect("due");
        assert_eq!((due.segments.len(), due.dirty_from, due.dirty_bytes), (3, 10, 600));
        // The oldest dirty record is of 101 ms.
        let aged = CompactionSettings { max_lag_ms: 899, ..SETTINGS };
        assert_eq!(plan(&all, &aged, 40, 1_000), None);
        assert!(plan(&all, &aged, 40, 1_001).is_some());
        assert_eq!(
            plan(&segments(&[1, 1], 1), &eager, 40, 0),
            None,
            "nothing dirty before the last"
        );
    }

    #[test]
    fn what_is_open_young_or_last_is_left_alone() {
        let all = segments(&[100, 100, 100, 100], 0);
        let ends = |settings: &CompactionSettings, stable_end, now_ms| {
            plan(&all, settings, stable_end, now_ms).map_or(0, |plan| plan.segments.len())
        };
        assert_eq!(ends(&SETTINGS, 40, 1_000), 3);
        assert_eq!(ends(&SETTINGS, 29, 1_000), 2, "an open transaction begins at 29");
        assert_eq!(ends(&SETTINGS, 9, 1_000), 0);
        let patient = CompactionSettings { min_lag_ms: 800, ..SETTINGS };
        // The second segment's newest record is of 199 ms.
        assert_eq!(ends(&patient, 40, 998), 1);
        assert_eq!(ends(&patient, 40, 999), 2);
        let mut open = all.clone();
        open[1].sealed = false;
        assert_eq!(plan(&open, &SETTINGS, 40, 0).expect("the first").segments.len(), 1);
    }

    #[test]
    fn small_neighbours_are_merged_up_to_the_size_of_a_segment() {
        let summaries = |bytes: &[u64]| -> Vec<Summary> {
            segments(bytes, 0).iter().map(|segment| segment.summary).collect()
        };
        let settings = PartitionSettings { segment_bytes_max: 100, ..Default::default() };
        let all = summaries(&[60, 40, 1, 0, 99, 120, 50]);
        assert_eq!(groups(&all, 70, &settings), [0..2, 2..5, 5..6, 6..7]);
        assert_eq!(groups(&all, 41, &settings), [0..2, 2..5], "only those that begin below 41");
        assert_eq!(groups(&all, 40, &settings), [0..2, 2..4]);
        // Offsets of one segment stay within 32 bits of its base.
        let mut far = summaries(&[1, 1]);
        far[1].end_offset = i64::from(i32::MAX);
        assert_eq!(groups(&far, 20, &settings).len(), 1);
        far[1].end_offset += 1;
        assert_eq!(groups(&far, 20, &settings).len(), 2);
    }
}
