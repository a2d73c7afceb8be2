//! The records of consumer groups in `__consumer_offsets`, in Kafka's own format (schemas
//! `ConsumerGroup…Key` and `ConsumerGroup…Value` of Kafka's group coordinator).
//!
//! | key | record | value read and written |
//! |---|---|---|
//! | 3 | group epoch, metadata hash | 0 |
//! | 4 | partition metadata: Kafka wrote it before 4.1; read as nothing, never written | |
//! | 5 | member: subscription, instance id, classic protocols | 0 |
//! | 6 | epoch of the target assignment | 0 |
//! | 7 | target assignment of a member | 0 |
//! | 8 | current assignment of a member | 0 |
//! | 16 | topics that a regular expression matched | 0 |
//!
//! All values are flexible; tagged fields that are not known (Kafka 4.3 adds an assignment's time)
//! are skipped. The epochs of a current assignment's partitions (KIP-1251) are such a field, which
//! Kafka writes since 4.3, and earlier versions skip. The metadata hash is compared with our own
//! only: see `target.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::super::codec::{
    Parsed, RecordError, put_compact_blob, put_compact_count, put_compact_nullable_text,
    put_compact_text, put_no_tagged_fields, put_text, put_varint, skip_tagged_fields, take_bytes,
    take_compact_blob, take_compact_count, take_compact_text, take_compact_text_given, take_i8,
    take_i16, take_i32, take_i64, take_text, take_uuid, take_varint, to_length,
};
use super::super::exchange::{Assignment, Protocol};
use super::image::{Classic, Current, Epoch, Matched, MemberState, Record, Since, Subscription};

const GROUP: i16 = 3;
const PARTITION_METADATA: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const PATTERN: i16 = 16;

const VALUE_VERSION: i16 = 0;

/// Of the metadata hash in the group's value, of the classic protocols in a member's, and of the
/// epochs in a current assignment's topics.
const FIRST_TAG: u32 = 0;

/// Kafka's bytes for a structure that could be null.
const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

/// What a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub group: String,
    pub part: Part,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Group,
    PartitionMetadata,
    Member(String),
    TargetEpoch,
    Target(String),
    Current(String),
    Pattern(String),
}

impl Key {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        let (version, name) = match &self.part {
            Part::Group => (GROUP, None),
            Part::PartitionMetadata => (PARTITION_METADATA, None),
            Part::Member(id) => (MEMBER, Some(id)),
            Part::TargetEpoch => (TARGET_EPOCH, None),
            Part::Target(id) => (TARGET, Some(id)),
            Part::Current(id) => (CURRENT, Some(id)),
            Part::Pattern(pattern) => (PATTERN, Some(pattern)),
        };
        out.put_i16(version);
        put_text(&mut out, &self.group);
        if let Some(name) = name {
            put_text(&mut out, name);
        }
        out.freeze()
    }

    /// What follows the version.
    pub(crate) fn parse(version: i16, input: &mut Bytes) -> Parsed<Self> {
        let group = match version {
            GROUP..=CURRENT | PATTERN => take_text(input)?,
            version => return Err(RecordError::UnknownVersion(version)),
        };
        let part = match version {
            GROUP => Part::Group,
            PARTITION_METADATA => Part::PartitionMetadata,
            MEMBER => Part::Member(take_text(input)?),
            TARGET_EPOCH => Part::TargetEpoch,
            TARGET => Part::Target(take_text(input)?),
            CURRENT => Part::Current(take_text(input)?),
            _ => Part::Pattern(take_text(input)?),
        };
        Ok(Self { group, part })
    }
}

/// Key and value as they stand in the log.
pub(crate) fn encode(group: &str, record: &Record) -> (Bytes, Option<Bytes>) {
    let (part, value) = match record {
        Record::Group(epoch) => (Part::Group, epoch.map(group_value)),
        Record::Member(id, it) => (Part::Member(id.clone()), it.as_deref().map(member_value)),
        Record::TargetEpoch(epoch) => (Part::TargetEpoch, epoch.map(target_epoch_value)),
        Record::Target(id, it) => (Part::Target(id.clone()), it.as_deref().map(target_value)),
        Record::Current(id, it) => (Part::Current(id.clone()), it.as_deref().map(current_value)),
        Record::Pattern(it, matched) => {
            (Part::Pattern(it.clone()), matched.as_deref().map(pattern_value))
        }
    };
    (Key { group: group.to_owned(), part }.to_bytes(), value)
}

/// `None` for a kind that means nothing any more.
pub(crate) fn parse(part: Part, value: &Bytes) -> Parsed<Option<Record>> {
    let mut input = value.clone();
    match take_i16(&mut input)? {
        VALUE_VERSION => {}
        version => return Err(RecordError::UnknownVersion(version)),
    }
    let input = &mut input;
    let record = match part {
        Part::PartitionMetadata => return Ok(None),
        Part::Group => Record::Group(Some(parse_group(input)?)),
        Part::Member(id) => Record::Member(id, Some(Arc::new(parse_member(input)?))),
        Part::TargetEpoch => {
            let epoch = take_i32(input)?;
            skip_tagged_fields(input)?;
            Record::TargetEpoch(Some(epoch))
        }
        Part::Target(id) => {
            let target = take_assignment(input)?;
            skip_tagged_fields(input)?;
            Record::Target(id, Some(Arc::new(target)))
        }
        Part::Current(id) => Record::Current(id, Some(Arc::new(parse_current(input)?))),
        Part::Pattern(pattern) => Record::Pattern(pattern, Some(Arc::new(parse_pattern(input)?))),
    };
    Ok(Some(record))
}

fn value() -> BytesMut {
    let mut out = BytesMut::new();
    out.put_i16(VALUE_VERSION);
    out
}

fn group_value(epoch: Epoch) -> Bytes {
    let mut out = value();
    out.put_i32(epoch.epoch);
    // A tagged field that has its default is not written.
    if epoch.metadata_hash == 0 {
        put_no_tagged_fields(&mut out);
    } else {
        put_varint(&mut out, 1);
        put_varint(&mut out, FIRST_TAG);
        put_varint(&mut out, 8);
        out.put_i64(epoch.metadata_hash);
    }
    out.freeze()
}

fn parse_group(input: &mut Bytes) -> Parsed<Epoch> {
    let epoch = take_i32(input)?;
    let metadata_hash = match take_first_tag(input)? {
        Some(mut field) => take_i64(&mut field)?,
        None => 0,
    };
    Ok(Epoch { epoch, metadata_hash })
}

fn member_value(member: &Subscription) -> Bytes {
    let mut out = value();
    put_compact_nullable_text(&mut out, member.instance_id.as_deref());
    put_compact_nullable_text(&mut out, member.rack_id.as_deref());
    put_compact_text(&mut out, &member.client_id);
    put_compact_text(&mut out, &member.client_host);
    put_texts(&mut out, &member.topics);
    // As Kafka's coordinator has it: nothing is an empty text.
    put_compact_nullable_text(&mut out, Some(member.pattern.as_deref().unwrap_or_default()));
    out.put_i32(member.rebalance_timeout_ms);
    put_compact_nullable_text(&mut out, member.assignor.as_deref());
    // Kafka writes this field even where it is null.
    let field = match &member.classic {
        None => Bytes::from_static(&[ABSENT]),
        Some(classic) => classic_field(classic),
    };
    put_varint(&mut out, 1);
    put_varint(&mut out, FIRST_TAG);
    put_varint(&mut out, u32::try_from(field.len()).expect("it came in a frame"));
    out.put_slice(&field);
    out.freeze()
}

fn classic_field(classic: &Classic) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(PRESENT);
    out.put_i32(classic.session_timeout_ms);
    put_compact_count(&mut out, classic.protocols.len());
    for protocol in &classic.protocols {
        put_compact_text(&mut out, &protocol.name);
        put_compact_blob(&mut out, &protocol.metadata);
        put_no_tagged_fields(&mut out);
    }
    put_no_tagged_fields(&mut out);
    out.freeze()
}

fn parse_member(input: &mut Bytes) -> Parsed<Subscription> {
    Ok(Subscription {
        instance_id: take_compact_text(input)?,
        rack_id: take_compact_text(input)?,
        client_id: take_compact_text_given(input)?,
        client_host: take_compact_text_given(input)?,
        topics: take_texts(input)?,
        pattern: take_compact_text(input)?.filter(|pattern| !pattern.is_empty()),
        rebalance_timeout_ms: take_i32(input)?,
        assignor: take_compact_text(input)?,
        classic: match take_first_tag(input)? {
            Some(mut field) => parse_classic(&mut field)?,
            None => None,
        },
    })
}

fn parse_classic(input: &mut Bytes) -> Parsed<Option<Classic>> {
    if take_varint(input)? != u32::from(PRESENT) {
        return Ok(None);
    }
    let session_timeout_ms = take_i32(input)?;
    let count = take_compact_count(input)?.ok_or(RecordError::BadLength)?;
    let mut protocols = Vec::new();
    for _ in 0..count {
        let name = take_compact_text_given(input)?;
        let metadata = take_compact_blob(input)?;
        skip_tagged_fields(input)?;
        protocols.push(Protocol { name, metadata });
    }
    skip_tagged_fields(input)?;
    Ok(Some(Classic { session_timeout_ms, protocols }))
}

fn target_epoch_value(epoch: i32) -> Bytes {
    let mut out = value();
    out.put_i32(epoch);
    put_no_tagged_fields(&mut out);
    out.freeze()
}

fn target_value(target: &Assignment) -> Bytes {
    let mut out = value();
    put_assignment(&mut out, target);
    put_no_tagged_fields(&mut out);
    out.freeze()
}

fn current_value(current: &Current) -> Bytes {
    let mut out = value();
    out.put_i32(current.epoch);
    out.put_i32(current.previous_epoch);
    out.put_i8(match current.state {
        MemberState::Stable => 0,
        MemberState::UnrevokedPartitions => 1,
        MemberState::UnreleasedPartitions => 2,
    });
    put_owned(&mut out, &current.assigned, &current.since);
    put_owned(&mut out, &current.revoking, &current.since);
    put_no_tagged_fields(&mut out);
    out.freeze()
}

fn parse_current(input: &mut Bytes) -> Parsed<Current> {
    let epoch = take_i32(input)?;
    let previous_epoch = take_i32(input)?;
    let state = match take_i8(input)? {
        0 => MemberState::Stable,
        1 => MemberState::UnrevokedPartitions,
        // A state that a later version invented waits like this one until it is reconciled.
        _ => MemberState::UnreleasedPartitions,
    };
    let mut since = Since::new();
    // A record without them says no more than that the partitions are the member's by now; a static
    // member that is away has a negative epoch.
    let assigned = Arc::new(take_owned(input, epoch.max(0), &mut since)?);
    let revoking = Arc::new(take_owned(input, epoch.max(0), &mut since)?);
    skip_tagged_fields(input)?;
    Ok(Current { epoch, previous_epoch, state, assigned, revoking, since: Arc::new(since) })
}

fn pattern_value(matched: &Matched) -> Bytes {
    let mut out = value();
    put_texts(&mut out, &matched.topics);
    out.put_i64(matched.version);
    out.put_i64(matched.timestamp_ms);
    put_no_tagged_fields(&mut out);
    out.freeze()
}

fn parse_pattern(input: &mut Bytes) -> Parsed<Matched> {
    let topics = take_texts(input)?;
    let version = take_i64(input)?;
    let timestamp_ms = take_i64(input)?;
    skip_tagged_fields(input)?;
    Ok(Matched { topics, version, timestamp_ms })
}

fn put_assignment(out: &mut BytesMut, assignment: &Assignment) {
    put_compact_count(out, assignment.len());
    for (topic, partitions) in assignment {
        out.put_u128(topic.as_u128());
        put_compact_count(out, partitions.len());
        for partition in partitions {
            out.put_i32(*partition);
        }
        put_no_tagged_fields(out);
    }
}

fn take_assignment(input: &mut Bytes) -> Parsed<Assignment> {
    let count = take_compact_count(input)?.ok_or(RecordError::BadLength)?;
    let mut assignment = Assignment::new();
    for _ in 0..count {
        let topic = take_uuid(input)?;
        let partitions = take_compact_count(input)?.ok_or(RecordError::BadLength)?;
        let entry = assignment.entry(topic).or_default();
        for _ in 0..partitions {
            entry.insert(take_i32(input)?);
        }
        skip_tagged_fields(input)?;
    }
    assignment.retain(|_, partitions| !partitions.is_empty());
    Ok(assignment)
}

/// An assignment with the epoch of each partition.
fn put_owned(out: &mut BytesMut, assignment: &Assignment, since: &Since) {
    put_compact_count(out, assignment.len());
    for (topic, partitions) in assignment {
        out.put_u128(topic.as_u128());
        put_compact_count(out, partitions.len());
        let mut epochs = BytesMut::new();
        put_compact_count(&mut epochs, partitions.len());
        for partition in partitions {
            out.put_i32(*partition);
            epochs.put_i32(since.get(&(*topic, *partition)).copied().unwrap_or(0));
        }
        put_varint(out, 1);
        put_varint(out, FIRST_TAG);
        put_varint(out, u32::try_from(epochs.len()).expect("fewer than partitions of a broker"));
        out.put_slice(&epochs);
    }
}

fn take_owned(input: &mut Bytes, absent: i32, since: &mut Since) -> Parsed<Assignment> {
    let count = take_compact_count(input)?.ok_or(RecordError::BadLength)?;
    let mut assignment = Assignment::new();
    for _ in 0..count {
        let topic = take_uuid(input)?;
        let count = take_compact_count(input)?.ok_or(RecordError::BadLength)?;
        let partitions: Vec<i32> = (0..count).map(|_| take_i32(input)).collect::<Parsed<_>>()?;
        let epochs = match take_first_tag(input)? {
            Some(mut field) => take_epochs(&mut field)?,
            None => Vec::new(),
        };
        // As in Kafka, epochs that do not fit the partitions count as absent.
        let fit = epochs.len() == partitions.len();
        for (at, partition) in partitions.iter().enumerate() {
            let epoch = if fit { epochs[at] } else { absent };
            since.insert((topic, *partition), epoch);
        }
        assignment.entry(topic).or_default().extend(partitions);
    }
    assignment.retain(|_, partitions| !partitions.is_empty());
    Ok(assignment)
}

fn take_epochs(field: &mut Bytes) -> Parsed<Vec<i32>> {
    let count = take_compact_count(field)?.unwrap_or(0);
    (0..count).map(|_| take_i32(field)).collect()
}

fn put_texts(out: &mut BytesMut, texts: &BTreeSet<String>) {
    put_compact_count(out, texts.len());
    for text in texts {
        put_compact_text(out, text);
    }
}

fn take_texts(input: &mut Bytes) -> Parsed<BTreeSet<String>> {
    let count = take_compact_count(input)?.unwrap_or(0);
    (0..count).map(|_| take_compact_text_given(input)).collect()
}

/// The tagged fields at the end of a structure: the one with the first tag, the others skipped.
fn take_first_tag(input: &mut Bytes) -> Parsed<Option<Bytes>> {
    let mut found = None;
    for _ in 0..take_varint(input)? {
        let tag = take_varint(input)?;
        let length = to_length(take_varint(input)?)?;
        let field = take_bytes(input, length)?;
        if tag == FIRST_TAG {
            found = Some(field);
        }
    }
    Ok(found)
}

#[cfg(test)]
#[path = "records_test.rs"]
mod tests;
