//! What of the share groups is durable: two kinds of record in `__odradek_state`, as JSON.
//!
//! - `share-group:<group>`: [`GroupRecord`], epochs and members.
//! - `share:<group>:<topic id>:<partition>`: [`PartitionRecord`], where the group stands and what
//!   of that is done or came back. That it is there means that the group was given the partition.
//!
//! Kafka keeps the first in `__consumer_offsets` and the second in `__share_group_state`; here both
//! are in one log, so that a group and its partitions change in one write.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Partitions by the id of their topic.
pub(crate) type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct PartitionRecord {
    /// `None`: nobody has read yet, so `share.auto.offset.reset` is still to be asked.
    pub start: Option<i64>,
    pub state_epoch: i32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunRecord>,
}

/// Written as `[first, last, state, deliveries]`, with Kafka's numbers for the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "(i64, i64, u8, i16)", try_from = "(i64, i64, u8, i16)")]
pub(crate) struct RunRecord {
    pub first: i64,
    pub last: i64,
    pub state: RunState,
    pub deliveries: i16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RunState {
    Available = 0,
    Acknowledged = 2,
    Archived = 4,
}

impl From<RunRecord> for (i64, i64, u8, i16) {
    fn from(run: RunRecord) -> Self {
        (run.first, run.last, run.state as u8, run.deliveries)
    }
}

impl TryFrom<(i64, i64, u8, i16)> for RunRecord {
    type Error = String;

    fn try_from((first, last, state, deliveries): (i64, i64, u8, i16)) -> Result<Self, String> {
        let state = match state {
            0 => RunState::Available,
            2 => RunState::Acknowledged,
            4 => RunState::Archived,
            other => return Err(format!("{other} is no state of a run")),
        };
        Ok(Self { first, last, state, deliveries })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct GroupRecord {
    pub epoch: i32,
    pub assignment_epoch: i32,
    /// The topics that members want, as they were when `epoch` was last raised.
    #[serde(default)]
    pub topics: BTreeMap<String, TopicSeen>,
    #[serde(default)]
    pub members: BTreeMap<String, MemberRecord>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicSeen {
    pub id: Uuid,
    pub partitions: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct MemberRecord {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub topics: BTreeSet<String>,
    pub epoch: i32,
    pub previous_epoch: i32,
    /// What the member was told.
    pub assigned: Assignment,
    /// What it is to be told.
    pub target: Assignment,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_record_is_short_and_comes_back_from_its_json() {
        let run = RunRecord { first: 7, last: 9, state: RunState::Archived, deliveries: 5 };
        let record = PartitionRecord { start: Some(3), state_epoch: 1, runs: vec![run] };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(json, r#"{"start":3,"state_epoch":1,"runs":[[7,9,4,5]]}"#);
        assert_eq!(serde_json::from_str::<PartitionRecord>(&json).unwrap(), record);
        assert!(serde_json::from_str::<RunRecord>("[7,9,1,5]").is_err(), "acquired is not kept");
    }
}
