//! `uniform`, where all members read the same topics: everybody gets the same number of partitions
//! or one more, and keeps what it had up to that number.
//!
//! Who gets one more: first those who have one more already (Kafka: the first in its hash map,
//! which moves partitions without need).

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::super::super::exchange::Assignment;
use super::{Candidate, add, kept};

pub(super) fn assign(
    candidates: &[Candidate<'_>],
    partitions: &BTreeMap<Uuid, i32>,
) -> Vec<Assignment> {
    let Some(first) = candidates.first() else { return Vec::new() };
    let count = |topic: &Uuid| partitions.get(topic).copied().unwrap_or(0);
    let all = first.topics.iter().flat_map(|topic| (0..count(topic)).map(|it| (*topic, it)));
    let mut free: BTreeSet<(Uuid, i32)> = all.collect();
    let quota = free.len() / candidates.len();
    let mut extra = free.len() % candidates.len();
    let mut assigned: Vec<Assignment> =
        candidates.iter().map(|candidate| kept(candidate, partitions)).collect();
    let sizes: Vec<usize> = assigned.iter().map(size).collect();
    let mut quotas = vec![quota; candidates.len()];
    let above = (0..candidates.len()).filter(|index| sizes[*index] > quota);
    let others = (0..candidates.len()).filter(|index| sizes[*index] <= quota);
    for index in above.chain(others) {
        if extra > 0 {
            quotas[index] += 1;
            extra -= 1;
        }
    }
    for (index, assignment) in assigned.iter_mut().enumerate() {
        cut(assignment, quotas[index], &mut free);
    }
    let mut free = free.into_iter();
    for (index, assignment) in assigned.iter_mut().enumerate() {
        for (topic, partition) in free.by_ref().take(quotas[index] - size(assignment)) {
            add(assignment, topic, partition);
        }
    }
    assigned
}

/// Keeps the first `quota` partitions, of those that nobody before kept.
fn cut(assignment: &mut Assignment, quota: usize, free: &mut BTreeSet<(Uuid, i32)>) {
    let mut left = quota;
    for (topic, partitions) in assignment.iter_mut() {
        partitions.retain(|partition| {
            let keeps = left > 0 && free.remove(&(*topic, *partition));
            left -= usize::from(keeps);
            keeps
        });
    }
    assignment.retain(|_, partitions| !partitions.is_empty());
}

fn size(assignment: &Assignment) -> usize {
    assignment.values().map(BTreeSet::len).sum()
}
