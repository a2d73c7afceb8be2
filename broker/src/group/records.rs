//! The records of `__consumer_offsets`, in Kafka's own format (schemas `OffsetCommitKey`,
//! `OffsetCommitValue`, `GroupMetadataKey`, `GroupMetadataValue` of Kafka's group coordinator), so
//! that Kafka's formatters read our topic and we read Kafka's.
//!
//! | record | read | written |
//! |---|---|---|
//! | offset commit key | 0, 1 | 1 |
//! | offset commit value | 0 to 4 | 3, or 1 where an old client asked for a retention of its own |
//! | group metadata key | 2 | 2 |
//! | group metadata value | 0 to 4 | 3 |
//!
//! Version 3 is what Kafka wrote for years, and what every Kafka since 2.3 reads; 4.3 writes
//! offsets in version 4, which the tools of 3.4.0 cannot read. Kafka chooses 1 in the same case as
//! we do. The keys of consumer groups are in `consumer/records.rs`; those of other versions (share
//! and streams groups) are skipped, as Kafka skips unknown ones.

use bytes::{BufMut, Bytes, BytesMut};

use super::codec::{
    Parsed, RecordError, put_blob, put_nullable_text, put_text, skip_tagged_fields, take_blob,
    take_compact_blob, take_compact_text, take_i16, take_i32, take_i64, take_nullable_text,
    take_text, take_varint,
};
use super::consumer::records as consumer;
use super::exchange::CommittedOffset;

const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;
const OFFSET_VALUE_VERSION: i16 = 3;
const OFFSET_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;
const VALUE_VERSION_MAX: i16 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    Offset {
        group: String,
        topic: String,
        partition: i32,
    },
    Group {
        group: String,
    },
    /// One of those of a group of the consumer protocol, which have schemas of their own.
    Consumer(consumer::Key),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct GroupMetadata {
    /// Empty for a group without members' protocol.
    pub protocol_type: String,
    pub generation: i32,
    pub protocol: Option<String>,
    pub leader: Option<String>,
    /// When the group came into its state, epoch milliseconds.
    pub state_timestamp_ms: Option<i64>,
    pub members: Vec<MemberMetadata>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberMetadata {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

impl Key {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Offset { group, topic, partition } => {
                out.put_i16(OFFSET_KEY_VERSION);
                put_text(&mut out, group);
                put_text(&mut out, topic);
                out.put_i32(*partition);
            }
            Self::Group { group } => {
                out.put_i16(GROUP_KEY_VERSION);
                put_text(&mut out, group);
            }
            Self::Consumer(key) => return key.to_bytes(),
        }
        out.freeze()
    }

    pub(crate) fn parse(bytes: &Bytes) -> Parsed<Self> {
        let mut input = bytes.clone();
        match take_i16(&mut input)? {
            0 | OFFSET_KEY_VERSION => Ok(Self::Offset {
                group: take_text(&mut input)?,
                topic: take_text(&mut input)?,
                partition: take_i32(&mut input)?,
            }),
            GROUP_KEY_VERSION => Ok(Self::Group { group: take_text(&mut input)? }),
            version => consumer::Key::parse(version, &mut input).map(Self::Consumer),
        }
    }
}

pub(crate) fn offset_value(committed: &CommittedOffset) -> Bytes {
    let mut out = BytesMut::new();
    match committed.expire_timestamp_ms {
        // Version 1 has a place for the expiry and none for the leader epoch.
        Some(expire_timestamp_ms) => {
            out.put_i16(OFFSET_VALUE_VERSION_WITH_EXPIRY);
            out.put_i64(committed.offset);
            put_text(&mut out, &committed.metadata);
            out.put_i64(committed.commit_timestamp_ms);
            out.put_i64(expire_timestamp_ms);
        }
        None => {
            out.put_i16(OFFSET_VALUE_VERSION);
            out.put_i64(committed.offset);
            out.put_i32(committed.leader_epoch.unwrap_or(-1));
            put_text(&mut out, &committed.metadata);
            out.put_i64(committed.commit_timestamp_ms);
        }
    }
    out.freeze()
}

pub(crate) fn parse_offset_value(bytes: &Bytes) -> Parsed<CommittedOffset> {
    let mut input = bytes.clone();
    let version = take_version(&mut input)?;
    let flexible = version >= 4;
    let offset = take_i64(&mut input)?;
    let leader_epoch = if version >= 3 { take_i32(&mut input)? } else { -1 };
    let metadata =
        if flexible { take_compact_text(&mut input)? } else { Some(take_text(&mut input)?) };
    let commit_timestamp_ms = take_i64(&mut input)?;
    let expire_timestamp_ms = if version == 1 { take_i64(&mut input)? } else { -1 };
    if flexible {
        skip_tagged_fields(&mut input)?;
    }
    Ok(CommittedOffset {
        offset,
        leader_epoch: (leader_epoch >= 0).then_some(leader_epoch),
        metadata: metadata.unwrap_or_default(),
        commit_timestamp_ms,
        expire_timestamp_ms: (expire_timestamp_ms >= 0).then_some(expire_timestamp_ms),
    })
}

pub(crate) fn group_value(group: &GroupMetadata) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(GROUP_VALUE_VERSION);
    put_text(&mut out, &group.protocol_type);
    out.put_i32(group.generation);
    put_nullable_text(&mut out, group.protocol.as_deref());
    put_nullable_text(&mut out, group.leader.as_deref());
    out.put_i64(group.state_timestamp_ms.unwrap_or(-1));
    out.put_i32(i32::try_from(group.members.len()).expect("members are bounded by MEMBERS_MAX"));
    for member in &group.members {
        put_text(&mut out, &member.member_id);
        put_nullable_text(&mut out, member.instance_id.as_deref());
        put_text(&mut out, &member.client_id);
        put_text(&mut out, &member.client_host);
        out.put_i32(member.rebalance_timeout_ms);
        out.put_i32(member.session_timeout_ms);
        put_blob(&mut out, &member.subscription);
        put_blob(&mut out, &member.assignment);
    }
    out.freeze()
}

pub(crate) fn parse_group_value(bytes: &Bytes) -> Parsed<GroupMetadata> {
    let mut input = bytes.clone();
    let version = take_version(&mut input)?;
    let flexible = version >= 4;
    let text = |input: &mut Bytes| match flexible {
        true => take_compact_text(input),
        false => take_nullable_text(input),
    };
    let protocol_type = text(&mut input)?.unwrap_or_default();
    let generation = take_i32(&mut input)?;
    let protocol = text(&mut input)?;
    let leader = text(&mut input)?;
    let state_timestamp_ms = if version >= 2 { take_i64(&mut input)? } else { -1 };
    let count = match flexible {
        true => take_varint(&mut input)?.checked_sub(1).ok_or(RecordError::BadLength)?,
        false => u32::try_from(take_i32(&mut input)?).map_err(|_| RecordError::BadLength)?,
    };
    // No reservation: the count is not checked against anything yet, the loop ends with the bytes.
    let mut members = Vec::new();
    for _ in 0..count {
        members.push(parse_member(&mut input, version)?);
    }
    if flexible {
        skip_tagged_fields(&mut input)?;
    }
    let state_timestamp_ms = (state_timestamp_ms >= 0).then_some(state_timestamp_ms);
    Ok(GroupMetadata { protocol_type, generation, protocol, leader, state_timestamp_ms, members })
}

fn parse_member(input: &mut Bytes, version: i16) -> Parsed<MemberMetadata> {
    let flexible = version >= 4;
    let text = |input: &mut Bytes| match flexible {
        true => take_compact_text(input),
        false => take_nullable_text(input),
    };
    let blob = |input: &mut Bytes| match flexible {
        true => take_compact_blob(input),
        false => take_blob(input),
    };
    let member_id = text(input)?.unwrap_or_default();
    let instance_id = if version >= 3 { text(input)? } else { None };
    let client_id = text(input)?.unwrap_or_default();
    let client_host = text(input)?.unwrap_or_default();
    let rebalance_timeout_ms = if version >= 1 { take_i32(input)? } else { -1 };
    let session_timeout_ms = take_i32(input)?;
    let subscription = blob(input)?;
    let assignment = blob(input)?;
    if flexible {
        skip_tagged_fields(input)?;
    }
    Ok(MemberMetadata {
        member_id,
        instance_id,
        client_id,
        client_host,
        // Version 0 knew one timeout only.
        rebalance_timeout_ms: match rebalance_timeout_ms {
            -1 => session_timeout_ms,
            given => given,
        },
        session_timeout_ms,
        subscription,
        assignment,
    })
}

/// The topics that a member of the `consumer` protocol says it reads: the common beginning of all
/// versions of `ConsumerProtocolSubscription`. Foreign bytes: `None` if they are something else.
pub(crate) fn subscribed_topics(metadata: &Bytes) -> Option<Vec<String>> {
    let mut input = metadata.clone();
    let version = take_i16(&mut input).ok()?;
    let count = take_i32(&mut input).ok()?;
    if version < 0 || count < 0 {
        return None;
    }
    (0..count).map(|_| take_text(&mut input).ok()).collect()
}

fn take_version(input: &mut Bytes) -> Parsed<i16> {
    match take_i16(input)? {
        version @ 0..=VALUE_VERSION_MAX => Ok(version),
        version => Err(RecordError::UnknownVersion(version)),
    }
}

#[cfg(test)]
pub(crate) use tests::fixtures;

#[cfg(test)]
#[path = "records_test.rs"]
mod tests;
