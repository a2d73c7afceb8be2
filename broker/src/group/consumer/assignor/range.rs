//! `range`: the partitions of each topic, divided in their order among those who read it.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::super::exchange::Assignment;
use super::Candidate;

/// What is left of one topic.
struct Rest {
    partitions: i32,
    next: i32,
    quota: i32,
    /// So many members get one more.
    extra: i32,
}

impl Rest {
    fn of(partitions: i32, members: i32) -> Self {
        Self { partitions, next: 0, quota: partitions / members, extra: partitions % members }
    }

    fn take(&mut self) -> std::ops::Range<i32> {
        let mut quota = self.quota;
        if self.extra > 0 {
            quota += 1;
            self.extra -= 1;
        }
        let start = self.next;
        self.next = (start + quota).min(self.partitions);
        start..self.next
    }
}

pub(super) fn assign(
    candidates: &[Candidate<'_>],
    partitions: &BTreeMap<Uuid, i32>,
) -> Vec<Assignment> {
    let mut readers: BTreeMap<Uuid, i32> = BTreeMap::new();
    for topic in candidates.iter().flat_map(|candidate| &candidate.topics) {
        *readers.entry(*topic).or_default() += 1;
    }
    let mut rests: BTreeMap<Uuid, Rest> = BTreeMap::new();
    for (topic, members) in readers {
        let count = partitions.get(&topic).copied().unwrap_or(0);
        rests.insert(topic, Rest::of(count, members));
    }
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    // Static members first: they come back under their instance ids, dynamic ones under new ids.
    order.sort_by_key(|index| {
        let candidate = &candidates[*index];
        (candidate.instance_id.is_none(), candidate.instance_id.unwrap_or(candidate.id))
    });
    let mut assigned = vec![Assignment::new(); candidates.len()];
    for index in order {
        for topic in &candidates[index].topics {
            let Some(rest) = rests.get_mut(topic) else { continue };
            let range = rest.take();
            if !range.is_empty() {
                assigned[index].insert(*topic, range.collect());
            }
        }
    }
    assigned
}
