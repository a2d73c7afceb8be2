//! What is kept of a transactional id: the value of `transaction:<id>` in `__odradek_state`, JSON.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use odradek_log::PartitionId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{PENDING_OFFSETS_BYTES_MAX, PENDING_OFFSETS_MAX};
use crate::group::exchange::NewOffset;

pub(crate) const NO_PRODUCER_ID: i64 = -1;
pub(crate) const NO_EPOCH: i16 = -1;

/// A producer as the wire names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Producer {
    pub id: i64,
    pub epoch: i16,
}

/// Kafka's words. PrepareCommit and PrepareAbort are never kept (see the header of the folder).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    Empty,
    Ongoing,
    CompleteCommit,
    CompleteAbort,
}

impl State {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }
}

/// An offset that becomes a group's with the commit of the transaction. The topic's id is kept,
/// so that it is not committed for another topic that has the name by then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PendingOffset {
    pub group: String,
    pub topic_id: Uuid,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader_epoch: Option<i32>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub metadata: String,
}

impl PendingOffset {
    fn place(&self) -> (&str, Uuid, i32) {
        (&self.group, self.topic_id, self.partition)
    }

    fn text_bytes(&self) -> usize {
        self.group.len() + self.topic.len() + self.metadata.len()
    }

    pub(crate) fn to_new_offset(&self) -> NewOffset {
        NewOffset {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata.clone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TransactionRecord {
    pub producer_id: i64,
    pub epoch: i16,
    /// The id that this producer had before its epochs were used up, or -1.
    #[serde(default = "no_producer_id")]
    pub previous_producer_id: i64,
    /// The epoch before the last bump that the producer itself asked for, or -1: a producer that
    /// comes back with it repeats a request whose answer it missed (KIP-360).
    #[serde(default = "no_epoch")]
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub state: State,
    /// When the transaction began, wall clock, or -1.
    pub start_ms: i64,
    /// Of the last change, wall clock: `transactional.id.expiration.ms` counts from it.
    pub update_ms: i64,
    /// Of the ongoing transaction; that of `__consumer_offsets` among them once a group was added.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub partitions: BTreeMap<Uuid, BTreeSet<i32>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offsets: Vec<PendingOffset>,
}

fn no_producer_id() -> i64 {
    NO_PRODUCER_ID
}

fn no_epoch() -> i16 {
    NO_EPOCH
}

impl TransactionRecord {
    /// Of an id that nobody has used; it is not kept before its first epoch is given out.
    pub(crate) fn new(producer_id: i64, timeout_ms: i32) -> Self {
        Self {
            producer_id,
            epoch: NO_EPOCH,
            previous_producer_id: NO_PRODUCER_ID,
            last_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            start_ms: -1,
            update_ms: 0,
            partitions: BTreeMap::new(),
            offsets: Vec::new(),
        }
    }

    pub(crate) fn producer(&self) -> Producer {
        Producer { id: self.producer_id, epoch: self.epoch }
    }

    /// The last epoch is for fencing; a producer never gets it.
    pub(crate) fn is_epoch_exhausted(&self) -> bool {
        self.epoch >= i16::MAX - 1
    }

    pub(crate) fn contains(&self, partition: PartitionId) -> bool {
        let of_topic = self.partitions.get(&partition.topic_id);
        of_topic.is_some_and(|indexes| indexes.contains(&partition.partition))
    }

    pub(crate) fn each_partition(&self) -> impl Iterator<Item = PartitionId> + '_ {
        self.partitions.iter().flat_map(|(topic_id, indexes)| {
            let topic_id = *topic_id;
            indexes.iter().map(move |partition| PartitionId { topic_id, partition: *partition })
        })
    }

    /// The transaction begins, unless it is ongoing.
    pub(crate) fn begin(&mut self, now_ms: i64) {
        if self.state != State::Ongoing {
            self.state = State::Ongoing;
            self.start_ms = now_ms;
        }
        self.update_ms = now_ms;
    }

    pub(crate) fn add_partition(&mut self, partition: PartitionId) {
        self.partitions.entry(partition.topic_id).or_default().insert(partition.partition);
    }

    /// Whether the bounds of a transaction's offsets hold once these are added.
    pub(crate) fn has_room_for(&self, offsets: &[PendingOffset]) -> bool {
        let added: HashSet<_> = offsets.iter().map(PendingOffset::place).collect();
        let kept = self.offsets.iter().filter(|old| !added.contains(&old.place()));
        let (mut places, mut bytes) = (0_usize, 0_usize);
        for offset in kept.chain(offsets) {
            places += 1;
            bytes += offset.text_bytes();
        }
        places <= PENDING_OFFSETS_MAX && bytes <= PENDING_OFFSETS_BYTES_MAX
    }

    /// The last offset for a place counts.
    pub(crate) fn add_offsets(&mut self, offsets: &[PendingOffset]) {
        let added: HashSet<_> = offsets.iter().map(PendingOffset::place).collect();
        self.offsets.retain(|old| !added.contains(&old.place()));
        self.offsets.extend(offsets.iter().cloned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_from_its_json_and_the_last_offset_of_a_place_counts() {
        let topic_id = Uuid::from_u128(7);
        let mut record = TransactionRecord::new(9, 60_000);
        record.begin(5);
        record.add_partition(PartitionId { topic_id, partition: 1 });
        let mut offset = PendingOffset {
            group: "g".to_owned(),
            topic_id,
            topic: "t".to_owned(),
            partition: 0,
            offset: 3,
            leader_epoch: Some(0),
            metadata: "m".to_owned(),
        };
        record.add_offsets(std::slice::from_ref(&offset));
        offset.offset = 4;
        record.add_offsets(std::slice::from_ref(&offset));
        assert_eq!(record.offsets, vec![offset]);
        let text = serde_json::to_string(&record).expect("plain structs serialise");
        assert_eq!(serde_json::from_str::<TransactionRecord>(&text).expect("our own"), record);
    }

    #[test]
    fn offsets_of_a_transaction_are_bounded_in_number_and_in_bytes() {
        let offset = |partition: usize, metadata: &str| PendingOffset {
            group: "g".to_owned(),
            topic_id: Uuid::from_u128(7),
            topic: "t".to_owned(),
            partition: i32::try_from(partition).expect("small"),
            offset: 0,
            leader_epoch: None,
            metadata: metadata.to_owned(),
        };
        let mut record = TransactionRecord::new(9, 60_000);
        let most: Vec<_> = (0..PENDING_OFFSETS_MAX).map(|index| offset(index, "")).collect();
        assert!(record.has_room_for(&most));
        record.add_offsets(&most);
        // What takes the place of an older one needs no room of its own.
        assert!(record.has_room_for(&[offset(0, "m")]));
        assert!(!record.has_room_for(&[offset(PENDING_OFFSETS_MAX, "")]));
        let empty = TransactionRecord::new(9, 60_000);
        let longest = "m".repeat(PENDING_OFFSETS_BYTES_MAX - "gt".len());
        assert!(empty.has_room_for(&[offset(0, &longest)]));
        assert!(!empty.has_room_for(&[offset(0, &format!("{longest}m"))]));
    }
}
