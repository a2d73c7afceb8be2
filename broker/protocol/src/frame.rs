//! Request and response headers, and which form of them a version has.
//!
//! A frame is a 32-bit length and that many bytes: a header, then a body. The header of a request
//! has the flexible form (version 2, with tagged fields) from the API's first flexible version on;
//! so does the header of a response (version 1), except that of ApiVersions, which a client reads
//! before it knows what the broker speaks (KIP-511). Request header version 0, without a client id,
//! belonged to ControlledShutdown alone, which Kafka 4 no longer has.

use bytes::{BufMut, Bytes};
use kafka_protocol::messages::{
    ApiKey, InitProducerIdRequest, OffsetCommitRequest, OffsetFetchRequest,
};
use kafka_protocol::protocol::{Message, VersionRange};

use crate::DecodeError;
use crate::guard::TAGGED_FIELDS_MAX;
use crate::wire::{Cursor, invalid};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
}

impl RequestHeader {
    /// Takes a frame without its length prefix apart into header and body. The API must be known;
    /// its version need not be: the reply to an unknown version needs the correlation id.
    pub fn parse(frame: &Bytes) -> Result<(Self, Bytes), DecodeError> {
        let mut cursor = Cursor::new(frame);
        let api_key = cursor.i16()?;
        let version = cursor.i16()?;
        let correlation_id = cursor.i32()?;
        let header_version = request_header_version(api_key, version)
            .ok_or(DecodeError::UnknownApi { api_key, version })?;
        let client_id = client_id(&mut cursor)?;
        if header_version >= 2 {
            skip_tagged_fields(&mut cursor)?;
        }
        let header = Self { api_key, version, correlation_id, client_id };
        Ok((header, frame.slice(cursor.position()..)))
    }
}

/// A nullable string with a 16-bit length in every header version.
fn client_id(cursor: &mut Cursor) -> Result<Option<String>, DecodeError> {
    let position = cursor.position();
    let length = cursor.i16()?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| invalid(position, "length is negative"))?;
    match std::str::from_utf8(cursor.take(length)?) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => Err(invalid(position, "client id is not UTF-8")),
    }
}

/// No tag is defined for request headers.
fn skip_tagged_fields(cursor: &mut Cursor) -> Result<(), DecodeError> {
    let position = cursor.position();
    let count = u64::from(cursor.unsigned_varint()?);
    let limit = TAGGED_FIELDS_MAX as u64;
    if count > limit {
        return Err(DecodeError::TooMany { position, what: "tagged fields", count, limit });
    }
    for _ in 0..count {
        cursor.unsigned_varint()?; // tag
        let position = cursor.position();
        let size = usize::try_from(cursor.unsigned_varint()?)
            .map_err(|_| invalid(position, "size does not fit the address space"))?;
        cursor.take(size)?;
    }
    Ok(())
}

/// 1 or 2; `None` for an API that is not known.
pub fn request_header_version(api_key: i16, version: i16) -> Option<i16> {
    ApiKey::try_from(api_key).ok().map(|key| key.request_header_version(version))
}

/// 0 or 1; `None` for an API that is not known.
pub fn response_header_version(api_key: i16, version: i16) -> Option<i16> {
    ApiKey::try_from(api_key).ok().map(|key| key.response_header_version(version))
}

/// Correlation id and, in the flexible form, no tagged fields. An API that is not known gets the
/// form without.
pub fn put_response_header(out: &mut impl BufMut, api_key: i16, version: i16, correlation_id: i32) {
    out.put_i32(correlation_id);
    if response_header_version(api_key, version) == Some(1) {
        out.put_u8(0);
    }
}

/// Oldest and newest version that both the request and the response have. The crate's own table is
/// wider than its requests (OffsetCommit, OffsetFetch, InitProducerId).
pub fn versions(api_key: i16) -> Option<(i16, i16)> {
    let key = ApiKey::try_from(api_key).ok()?;
    let VersionRange { min, max } = key.valid_versions();
    let newest_request = match key {
        ApiKey::OffsetCommit => OffsetCommitRequest::VERSIONS.max,
        ApiKey::OffsetFetch => OffsetFetchRequest::VERSIONS.max,
        ApiKey::InitProducerId => InitProducerIdRequest::VERSIONS.max,
        _ => max,
    };
    Some((min, max.min(newest_request)))
}

#[cfg(test)]
mod tests;
