//! What the members of the classic protocol type `consumer` tell each other, which a consumer group
//! has to read and write for them: Kafka's `ConsumerProtocolSubscription` and
//! `ConsumerProtocolAssignment`, versions 0 to 3.
//!
//! These bytes come from clients, or from other clients' assignors: a count is never trusted.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::super::codec::{
    Parsed, RecordError, put_text, take_bytes, take_i16, take_i32, take_nullable_text, take_text,
};

/// The protocol type of consumers.
pub(crate) const CONSUMER: &str = "consumer";

const VERSION_MAX: i16 = 3;

/// Partitions by topic name.
pub(crate) type ByName = BTreeMap<String, BTreeSet<i32>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerSubscription {
    pub version: i16,
    pub topics: BTreeSet<String>,
    /// Since version 1: what the member has, and keeps if it is cooperative.
    pub owned: ByName,
    /// Since version 3.
    pub rack_id: Option<String>,
}

pub(crate) fn parse_subscription(metadata: &Bytes) -> Parsed<ConsumerSubscription> {
    let mut input = metadata.clone();
    let version = take_protocol_version(&mut input)?;
    let mut topics = BTreeSet::new();
    for _ in 0..take_count(&mut input)? {
        topics.insert(take_text(&mut input)?);
    }
    skip_user_data(&mut input)?;
    // Each version appends to the one before, and one that is newer than we know appends too. Some
    // clients say 1 and end after the user data.
    let says = |since: i16, input: &Bytes| version >= since && input.has_remaining();
    let owned = if says(1, &input) { take_by_name(&mut input)? } else { ByName::new() };
    if says(2, &input) {
        let _generation = take_i32(&mut input)?;
    }
    let rack_id = if says(3, &input) { take_nullable_text(&mut input)? } else { None };
    Ok(ConsumerSubscription { version, topics, owned, rack_id })
}

/// The partitions of an assignment, and whether the assignor added data of its own.
pub(crate) fn parse_assignment(assignment: &Bytes) -> Parsed<(ByName, bool)> {
    if assignment.is_empty() {
        return Ok((ByName::new(), false));
    }
    let mut input = assignment.clone();
    take_protocol_version(&mut input)?;
    let partitions = take_by_name(&mut input)?;
    let has_user_data = skip_user_data(&mut input)?;
    Ok((partitions, has_user_data))
}

/// In the version that the member's subscription has.
pub(crate) fn assignment(partitions: &ByName, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(version.clamp(0, VERSION_MAX));
    put_count(&mut out, partitions.len());
    for (topic, partitions) in partitions {
        put_text(&mut out, topic);
        put_count(&mut out, partitions.len());
        for partition in partitions {
            out.put_i32(*partition);
        }
    }
    const NO_USER_DATA: i32 = -1;
    out.put_i32(NO_USER_DATA);
    out.freeze()
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_i32(i32::try_from(count).expect("partitions are bounded by PARTITIONS_MAX"));
}

fn take_protocol_version(input: &mut Bytes) -> Parsed<i16> {
    match take_i16(input)? {
        version @ 0.. => Ok(version.min(VERSION_MAX)),
        version => Err(RecordError::UnknownVersion(version)),
    }
}

fn take_count(input: &mut Bytes) -> Parsed<u32> {
    u32::try_from(take_i32(input)?).map_err(|_| RecordError::BadLength)
}

fn take_by_name(input: &mut Bytes) -> Parsed<ByName> {
    let mut by_name = ByName::new();
    for _ in 0..take_count(input)? {
        let topic = take_text(input)?;
        let partitions = by_name.entry(topic).or_default();
        for _ in 0..take_count(input)? {
            partitions.insert(take_i32(input)?);
        }
    }
    Ok(by_name)
}

fn skip_user_data(input: &mut Bytes) -> Parsed<bool> {
    // The end of the bytes stands for null, as some clients of version 0 leave it out.
    if !input.has_remaining() {
        return Ok(false);
    }
    match take_i32(input)? {
        ..0 => Ok(false),
        length => {
            let length = usize::try_from(length).map_err(|_| RecordError::BadLength)?;
            take_bytes(input, length).map(|data| !data.is_empty())
        }
    }
}

#[cfg(test)]
#[path = "protocol_test.rs"]
mod tests;
