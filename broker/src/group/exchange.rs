//! What goes into a group and what comes out of it, as plain values: the handlers translate between
//! these and the wire, so that no wire version reaches the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use uuid::Uuid;

/// Partitions by topic id; never an empty set.
pub(crate) type Assignment = BTreeMap<Uuid, BTreeSet<i32>>;

/// Names the request that waits for an answer.
pub(crate) type Waiter = u64;

/// The answer to a request, whichever machine gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    Join(JoinReply),
    Sync(SyncReply),
    Heartbeat(Result<(), ResponseError>),
    Leave(LeaveReply),
    Delete(Result<(), ResponseError>),
    Member(Result<MemberReply, Refusal>),
}

/// The member id and generation that a request without them carries.
pub(crate) const NO_MEMBER_ID: &str = "";
pub(crate) const NO_GENERATION: i32 = -1;

/// One of the assignment strategies that a member offers, with what it says about itself in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub name: String,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Join {
    /// Empty for a member that has none yet.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: String,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
    /// KIP-394: the member can come back with the id it is given (JoinGroup version 4).
    pub member_id_required: bool,
    /// KIP-814: the leader understands `skip_assignment` (JoinGroup version 9).
    pub may_skip_assignment: bool,
    /// KIP-800: why the member joins, for the log.
    pub reason: Option<String>,
}

impl Join {
    /// Whether a text that becomes a part of records is longer than this. The client's name has a
    /// length of 15 bits in every request.
    pub(crate) fn has_text_beyond(&self, bytes_max: usize) -> bool {
        let protocols = self.protocols.iter().map(|offered| &offered.name);
        let texts = [&self.member_id, &self.protocol_type].into_iter();
        texts.chain(&self.instance_id).chain(protocols).any(|text| text.len() > bytes_max)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinReply {
    pub error: Option<ResponseError>,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// All members for the leader, nobody for the others.
    pub members: Vec<JoinedMember>,
}

impl JoinReply {
    pub(crate) fn refused(member_id: impl Into<String>, error: ResponseError) -> Self {
        Self {
            error: Some(error),
            generation: NO_GENERATION,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            member_id: member_id.into(),
            skip_assignment: false,
            members: Vec::new(),
        }
    }
}

/// Who says it, in every request but Join: checked against the group in the same way.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Caller {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
}

impl Caller {
    /// Whether it says who it is at all: a transaction's offsets may come without (KIP-447).
    pub(crate) fn is_named(&self) -> bool {
        self.generation >= 0 || self.member_id != NO_MEMBER_ID || self.instance_id.is_some()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Sync {
    pub caller: Caller,
    /// Given since SyncGroup version 5 (KIP-559), and then compared with the group's.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    /// From the leader: what each member is to read. Empty from the others.
    pub assignments: Vec<(String, Bytes)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyncReply {
    pub error: Option<ResponseError>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

impl SyncReply {
    pub(crate) fn refused(error: ResponseError) -> Self {
        Self { error: Some(error), protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// One member that leaves, or that an administrator takes out by its instance id alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Leaving {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Left {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub error: Option<ResponseError>,
}

/// `Err` is the error of the whole request.
pub(crate) type LeaveReply = Result<Vec<Left>, ResponseError>;

/// One offset as a request brings it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewOffset {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    pub metadata: String,
}

/// One offset as it is kept. `offset` is the next one to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommittedOffset {
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    pub metadata: String,
    pub commit_timestamp_ms: i64,
    /// Only where an old client (OffsetCommit 2 to 4) asked for a retention of its own.
    pub expire_timestamp_ms: Option<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Commit {
    pub caller: Caller,
    /// The request has version 9 or above: an unknown group is then GROUP_ID_NOT_FOUND, and
    /// members of the consumer protocol may commit.
    pub names_unknown_group: bool,
    /// Versions 2 to 4 may bring a retention time of their own.
    pub retention_time_ms: Option<i64>,
    pub offsets: Vec<NewOffset>,
}

/// Member epochs that mean something else (KIP-848).
pub(crate) const JOINS: i32 = 0;
pub(crate) const LEAVES: i32 = -1;
/// A static member goes, and will come back before its session ends.
pub(crate) const LEAVES_FOR_NOW: i32 = -2;

/// ConsumerGroupHeartbeat: `None` where the member has nothing new to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MemberHeartbeat {
    pub member_id: String,
    pub epoch: i32,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub rebalance_timeout_ms: Option<i32>,
    pub topics: Option<BTreeSet<String>>,
    /// A regular expression over whole topic names; empty takes the subscription back.
    pub pattern: Option<String>,
    pub assignor: Option<String>,
    /// What the member reads now.
    pub owned: Option<Assignment>,
    pub client_id: String,
    pub client_host: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberReply {
    pub member_id: String,
    pub epoch: i32,
    pub heartbeat_interval_ms: i32,
    /// What the member may read from now on; `None`: as before.
    pub assignment: Option<Assignment>,
}

/// An error with the sentence that clients show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub error: ResponseError,
    pub why: Option<String>,
}

impl Refusal {
    pub(crate) fn new(error: ResponseError, why: impl Into<String>) -> Self {
        Self { error, why: Some(why.into()) }
    }
}

impl From<ResponseError> for Refusal {
    fn from(error: ResponseError) -> Self {
        Self { error, why: None }
    }
}

/// A group of the consumer protocol, as ConsumerGroupDescribe shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerDescription {
    pub state: &'static str,
    pub epoch: i32,
    pub assignment_epoch: i32,
    pub assignor: &'static str,
    pub members: Vec<DescribedConsumer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DescribedConsumer {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub rack_id: Option<String>,
    pub epoch: i32,
    pub client_id: String,
    pub client_host: String,
    pub topics: BTreeSet<String>,
    pub pattern: Option<String>,
    pub assigned: Arc<Assignment>,
    pub target: Arc<Assignment>,
    /// It speaks JoinGroup and SyncGroup.
    pub classic: bool,
}

/// The protocol that a group's members speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupKind {
    Classic,
    Consumer,
    Share,
}

impl GroupKind {
    /// Kafka's word in ListGroups.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Share => "share",
        }
    }
}

/// One line of a list of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupLine {
    pub group: String,
    pub kind: GroupKind,
    /// Kafka's word: Empty, PreparingRebalance, CompletingRebalance, Stable, Dead; Assigning,
    /// Reconciling.
    pub state: &'static str,
    /// Empty for a group that only ever committed offsets.
    pub protocol_type: String,
    pub members: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DescribedMember {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    /// Empty unless the group is stable.
    pub metadata: Bytes,
    pub assignment: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Description {
    pub state: &'static str,
    pub protocol_type: String,
    /// The chosen protocol; empty unless the group is stable.
    pub protocol: String,
    pub members: Vec<DescribedMember>,
}
