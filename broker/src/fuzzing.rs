//! Doors for the fuzz targets (`tests/fuzz`): what takes apart bytes of a client, a certificate or
//! this broker's own disk, and is private otherwise. Nothing in the product calls this. A door
//! decides nothing; it returns in plain types what a target can hold against the input.

use bytes::Bytes;
use odradek_protocol::{frame::RequestHeader, guard};

use crate::dispatch::{APIS, Api};
use crate::group::consumer::{pattern, protocol, records as consumer};
use crate::group::records as group;
use crate::share::records as share;
use crate::state::{StateKey, TopicRecord};
use crate::transaction::record::TransactionRecord;
use crate::{auth, telemetry, tls};

/// Key, oldest and newest version of every API that is served.
pub fn served() -> impl Iterator<Item = (i16, i16, i16)> {
    APIS.iter().map(|api| (api.key, api.oldest, api.newest))
}

/// A request that the guard let through and the decoder has read.
#[derive(Debug)]
pub struct Request {
    pub api_key: i16,
    pub version: i16,
    pub body: Bytes,
    /// Of the body, behind the request.
    pub left_bytes: usize,
    /// The decoded request, encoded again.
    pub encoded: Bytes,
}

/// Takes a frame apart as `dispatch` does. `None`: the guard, or what comes before it, refused it.
/// The inner error is the decoder's.
pub fn request(frame: &Bytes) -> Option<Result<Request, String>> {
    let (header, body) = RequestHeader::parse(frame).ok()?;
    let RequestHeader { api_key, version, .. } = header;
    let api = Api::find(api_key).filter(|api| (api.oldest..=api.newest).contains(&version))?;
    guard::check(api_key, version, &body).ok()?;
    let recoded = (api.recode)(body.clone(), version);
    Some(recoded.map(|recoded| Request {
        api_key,
        version,
        body,
        left_bytes: recoded.left_bytes,
        encoded: recoded.encoded,
    }))
}

/// What a member of a classic consumer group says: the topics it wants. `None`: unreadable.
pub fn subscription_topics(metadata: &Bytes) -> Option<Vec<String>> {
    let found = protocol::parse_subscription(metadata).ok()?;
    Some(found.topics.into_iter().collect())
}

/// The same by the reader that wants only the common beginning of all versions.
pub fn subscribed_topics(metadata: &Bytes) -> Option<Vec<String>> {
    group::subscribed_topics(metadata)
}

/// An assignment, written anew, if it can be read.
pub fn assignment(bytes: &Bytes) -> Option<Bytes> {
    let (partitions, _) = protocol::parse_assignment(bytes).ok()?;
    Some(protocol::assignment(&partitions, 0))
}

/// Whether a topic's name matches what a member subscribes with; `Err` is why it is no expression.
pub fn matches(expression: &str, topic: &str) -> Result<bool, String> {
    pattern::compile(expression).map(|compiled| compiled.is_match(topic))
}

/// How many numbers of a pushed metrics message are taken; `None`: it is refused.
pub fn pushed_numbers(compression: i8, metrics: Bytes) -> Option<usize> {
    telemetry::pushed_numbers(compression, metrics)
}

/// The most bytes that a pushed message may unpack to.
pub const PUSH_BYTES_MAX: usize = telemetry::PUSH_BYTES_MAX;

/// How many certificates a PEM text holds.
pub fn certificates(text: &[u8]) -> Result<usize, String> {
    tls::certificates(text, "the file").map(|found| found.len())
}

pub fn private_key(text: &[u8]) -> Result<(), String> {
    tls::private_key(text, "the file").map(drop)
}

/// The subject of a certificate in DER, as Kafka writes it.
pub fn distinguished_name(certificate: &[u8]) -> Option<String> {
    tls::subject::distinguished_name(certificate)
}

/// A record of `__consumer_offsets` as the start reads it. `None`: it is passed over. The key comes
/// back written anew.
pub fn offsets_record(key: &Bytes, value: &Bytes) -> Option<Bytes> {
    let key = group::Key::parse(key).ok()?;
    match &key {
        group::Key::Offset { .. } => group::parse_offset_value(value).map(drop),
        group::Key::Group { .. } => group::parse_group_value(value).map(drop),
        group::Key::Consumer(it) => consumer::parse(it.part.clone(), value).map(drop),
    }
    .ok()?;
    Some(key.to_bytes())
}

/// A record of `__odradek_state`. `None`: it is passed over. The key comes back written anew.
pub fn state_record(key: &[u8], value: &[u8]) -> Option<Bytes> {
    let key = StateKey::parse(key)?;
    match &key {
        StateKey::Topic(_) => serde_json::from_slice::<TopicRecord>(value).map(drop).ok()?,
        StateKey::User(_) => auth::UserRecord::from_json(value).map(drop).ok()?,
        StateKey::ShareGroup(_) => {
            serde_json::from_slice::<share::GroupRecord>(value).map(drop).ok()?;
        }
        StateKey::SharePartition(..) => {
            serde_json::from_slice::<share::PartitionRecord>(value).map(drop).ok()?;
        }
        StateKey::Transaction(_) => {
            serde_json::from_slice::<TransactionRecord>(value).map(drop).ok()?;
        }
        _ => {}
    }
    Some(key.to_bytes())
}
