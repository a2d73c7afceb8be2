//! The driver of all groups (see the header of [`crate::group`] for what it promises).
//!
//! It answers COORDINATOR_NOT_AVAILABLE to everything until the machine below it lands.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::exchange::{
    Caller, Commit, CommittedOffset, Description, GroupLine, Join, JoinReply, LeaveReply, Leaving,
    NewOffset, Sync, SyncReply,
};
use super::{Clock, GroupSettings};

/// Where groups are written: `__consumer_offsets`.
#[async_trait]
pub(crate) trait OffsetsLog: Send + std::marker::Sync {
    /// Durable when it returns. Records of one call are one atomic unit; calls for one group come
    /// one after the other. `group` decides the partition.
    async fn append(
        &self,
        group: &str,
        records: Vec<(Bytes, Option<Bytes>)>,
    ) -> Result<(), ResponseError>;
}

/// A committed offset with its place, for metrics and for a whole group's offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetLine {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub committed: CommittedOffset,
}

pub(crate) struct GroupCoordinator {
    _log: Arc<dyn OffsetsLog>,
}

const NOT_YET: ResponseError = ResponseError::CoordinatorNotAvailable;

impl GroupCoordinator {
    pub(crate) fn new(log: Arc<dyn OffsetsLog>, _settings: GroupSettings, _clock: Clock) -> Arc<Self> {
        Arc::new(Self { _log: log })
    }

    /// Takes in the latest value of each key of `__consumer_offsets`, in any order. Before `start`.
    pub(crate) fn load(&self, _records: impl IntoIterator<Item = (Bytes, Bytes)>) {}

    /// Begins the timers. They end when the last reference to the coordinator goes.
    pub(crate) fn start(self: &Arc<Self>) {}

    pub(crate) async fn join(self: &Arc<Self>, _group: &str, join: Join) -> JoinReply {
        JoinReply::refused(join.member_id, NOT_YET)
    }

    pub(crate) async fn sync(self: &Arc<Self>, _group: &str, _sync: Sync) -> SyncReply {
        SyncReply::refused(NOT_YET)
    }

    pub(crate) async fn heartbeat(
        self: &Arc<Self>,
        _group: &str,
        _caller: Caller,
    ) -> Result<(), ResponseError> {
        Err(NOT_YET)
    }

    pub(crate) async fn leave(self: &Arc<Self>, _group: &str, _leaving: Vec<Leaving>) -> LeaveReply {
        Err(NOT_YET)
    }

    /// Durable when it returns `Ok`; then one result for each offset, in order.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        _group: &str,
        _commit: Commit,
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        Err(NOT_YET)
    }

    /// The committed offset of one partition.
    pub(crate) fn committed(
        &self,
        _group: &str,
        _topic: &str,
        _partition: i32,
    ) -> Option<CommittedOffset> {
        None
    }

    /// All committed offsets of a group, by topic and partition.
    pub(crate) fn offsets_of(&self, _group: &str) -> Vec<OffsetLine> {
        Vec::new()
    }

    /// All committed offsets of all groups.
    pub(crate) fn all_offsets(&self) -> Vec<OffsetLine> {
        Vec::new()
    }

    /// All groups, by name, with state and number of members.
    pub(crate) fn list(&self) -> Vec<GroupLine> {
        Vec::new()
    }

    /// `None` for a group that does not exist.
    pub(crate) fn describe(&self, _group: &str) -> Option<Description> {
        None
    }

    /// Deletes the group and its offsets; durable when it returns `Ok`.
    pub(crate) async fn delete(self: &Arc<Self>, _group: &str) -> Result<(), ResponseError> {
        Err(NOT_YET)
    }

    /// Drops the offsets that groups hold on this topic. Durable when it returns.
    pub(crate) async fn topic_deleted(self: &Arc<Self>, _topic: &str) -> Result<(), ResponseError> {
        Ok(())
    }

    /// Drops the offsets on topics that do not exist, for the start after a crash between the
    /// deletion of a topic and `topic_deleted`.
    pub(crate) async fn retain_topics(
        self: &Arc<Self>,
        _exists: impl Fn(&str) -> bool + Send + std::marker::Sync,
    ) -> Result<(), ResponseError> {
        Ok(())
    }

    /// The records that commit these offsets, for a caller that puts them into an atomic unit of its
    /// own; it calls `apply_offsets` with the same values once the unit is durable.
    pub(crate) fn offset_records(
        &self,
        _group: &str,
        _offsets: &[NewOffset],
        _commit_timestamp_ms: i64,
    ) -> Vec<(Bytes, Option<Bytes>)> {
        Vec::new()
    }

    /// Makes visible what a durable unit committed.
    pub(crate) fn apply_offsets(
        &self,
        _group: &str,
        _offsets: &[NewOffset],
        _commit_timestamp_ms: i64,
    ) {
    }
}
