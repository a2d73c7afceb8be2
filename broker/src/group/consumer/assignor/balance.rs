//! `uniform`, where members read different topics: what nobody has goes to those with least, topics
//! with most partitions for each reader first; then partitions move from those with most to those
//! with least, topic by topic, until no move helps.
//!
//! Kafka stops after 16 rounds too: readers of overlapping topics may take long to balance wholly,
//! and each round about halves what is left.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::super::exchange::Assignment;
use super::{Candidate, add, kept};

const ROUNDS_MAX: usize = 16;

/// The index of a candidate.
type Member = usize;

struct Topic {
    id: Uuid,
    /// Who reads it, ascending.
    readers: Vec<Member>,
    /// By partition.
    owners: Vec<Option<Member>>,
}

struct Balance {
    /// In the order in which they are balanced.
    topics: Vec<Topic>,
    /// Partitions of each member.
    sizes: Vec<usize>,
}

pub(super) fn assign(
    candidates: &[Candidate<'_>],
    partitions: &BTreeMap<Uuid, i32>,
) -> Vec<Assignment> {
    let mut balance = Balance::new(candidates, partitions);
    balance.assign_free();
    balance.even_out();
    let mut assigned = vec![Assignment::new(); candidates.len()];
    for topic in &balance.topics {
        for (partition, owner) in (0..).zip(&topic.owners) {
            if let Some(owner) = owner {
                add(&mut assigned[*owner], topic.id, partition);
            }
        }
    }
    assigned
}

impl Balance {
    fn new(candidates: &[Candidate<'_>], partitions: &BTreeMap<Uuid, i32>) -> Self {
        let mut readers: BTreeMap<Uuid, Vec<Member>> = BTreeMap::new();
        for (member, candidate) in candidates.iter().enumerate() {
            for topic in &candidate.topics {
                readers.entry(*topic).or_default().push(member);
            }
        }
        let topics = readers.into_iter().map(|(id, readers)| {
            let count = partitions.get(&id).copied().unwrap_or(0);
            let count = usize::try_from(count).unwrap_or(0);
            Topic { id, readers, owners: vec![None; count] }
        });
        let mut topics: Vec<Topic> = topics.collect();
        // Most partitions for each reader first, then fewest readers, then ids: a/b > c/d as
        // a*d > c*b, in whole numbers.
        topics.sort_by(|one, other| {
            let left = one.owners.len() * other.readers.len();
            let right = other.owners.len() * one.readers.len();
            let fewest = one.readers.len().cmp(&other.readers.len());
            right.cmp(&left).then(fewest).then(one.id.cmp(&other.id))
        });
        let mut balance = Self { topics, sizes: vec![0; candidates.len()] };
        for (member, candidate) in candidates.iter().enumerate() {
            balance.keep(member, &kept(candidate, partitions));
        }
        balance
    }

    fn keep(&mut self, member: Member, assignment: &Assignment) {
        for topic in &mut self.topics {
            let Some(held) = assignment.get(&topic.id) else { continue };
            for partition in held {
                let place = usize::try_from(*partition).ok();
                let owner = place.and_then(|place| topic.owners.get_mut(place));
                if let Some(owner @ None) = owner {
                    *owner = Some(member);
                    self.sizes[member] += 1;
                }
            }
        }
    }

    fn least(&self, topic: usize) -> Option<Member> {
        let readers = self.topics[topic].readers.iter();
        readers.copied().min_by_key(|member| (self.sizes[*member], *member))
    }

    fn give(&mut self, topic: usize, partition: usize, to: Member) {
        let from = self.topics[topic].owners[partition].replace(to);
        if let Some(from) = from {
            self.sizes[from] -= 1;
        }
        self.sizes[to] += 1;
    }

    fn assign_free(&mut self) {
        for topic in 0..self.topics.len() {
            for partition in 0..self.topics[topic].owners.len() {
                if self.topics[topic].owners[partition].is_none()
                    && let Some(member) = self.least(topic)
                {
                    self.give(topic, partition, member);
                }
            }
        }
    }

    fn even_out(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let moved = (0..self.topics.len()).map(|topic| self.even_out_topic(topic));
            if moved.sum::<usize>() == 0 {
                return;
            }
        }
    }

    /// Moves the last partition of the reader with most to the one with least, while they differ by
    /// more than one. Those who have none of this topic cannot give.
    fn even_out_topic(&mut self, topic: usize) -> usize {
        let mut held: BTreeMap<Member, Vec<usize>> = BTreeMap::new();
        for (partition, owner) in self.topics[topic].owners.iter().enumerate() {
            if let Some(owner) = owner {
                held.entry(*owner).or_default().push(partition);
            }
        }
        let mut moved = 0;
        loop {
            let givers = held.iter().filter(|(_, partitions)| !partitions.is_empty());
            let most = givers.map(|(member, _)| *member).max_by_key(|m| (self.sizes[*m], *m));
            let (Some(most), Some(least)) = (most, self.least(topic)) else { return moved };
            if self.sizes[most] <= self.sizes[least] + 1 {
                return moved;
            }
            let Some(partition) = held.get_mut(&most).and_then(Vec::pop) else { return moved };
            self.give(topic, partition, least);
            moved += 1;
        }
    }
}
