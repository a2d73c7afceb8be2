//! Server-side assignors: which member is to read which partition. Pure functions of who is there,
//! what they read and what they had.
//!
//! - `uniform` (the default): balance over all topics first, then as little movement as possible.
//! - `range`: each topic by itself in ranges, so that topics with as many partitions are read
//!   together; static members first, in the order of their instance ids.
//!
//! Kafka's are the model, down to the order of their steps. Where Kafka iterates over a hash map we
//! go in the order of ids, so that the same group always gets the same answer. Racks are ignored:
//! there is one node.

mod balance;
mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::super::exchange::Assignment;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assignor {
    Uniform,
    Range,
}

impl Assignor {
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }
}

/// A member, as an assignor sees it.
pub(super) struct Candidate<'a> {
    pub id: &'a str,
    pub instance_id: Option<&'a str>,
    pub topics: BTreeSet<Uuid>,
    pub target: Arc<Assignment>,
}

/// Every candidate is in the result. `partitions`: how many each topic has that anybody reads.
pub(super) fn assign(
    assignor: Assignor,
    candidates: &[Candidate<'_>],
    partitions: &BTreeMap<Uuid, i32>,
) -> BTreeMap<String, Assignment> {
    let assigned = match assignor {
        Assignor::Range => range::assign(candidates, partitions),
        Assignor::Uniform if is_homogeneous(candidates) => uniform::assign(candidates, partitions),
        Assignor::Uniform => balance::assign(candidates, partitions),
    };
    debug_assert_eq!(assigned.len(), candidates.len());
    let named = candidates.iter().zip(assigned);
    named.map(|(candidate, assignment)| (candidate.id.to_owned(), assignment)).collect()
}

fn is_homogeneous(candidates: &[Candidate<'_>]) -> bool {
    candidates.windows(2).all(|pair| pair[0].topics == pair[1].topics)
}

fn add(assignment: &mut Assignment, topic: Uuid, partition: i32) {
    assignment.entry(topic).or_default().insert(partition);
}

/// Of the candidate's target, what it still reads and what still exists.
fn kept(candidate: &Candidate<'_>, partitions: &BTreeMap<Uuid, i32>) -> Assignment {
    let mut kept = Assignment::new();
    for (topic, held) in candidate.target.iter() {
        let count = partitions.get(topic).copied().unwrap_or(0);
        if candidate.topics.contains(topic) {
            for partition in held.iter().filter(|partition| (0..count).contains(*partition)) {
                add(&mut kept, *topic, *partition);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests;
