//! The parts that records of `__consumer_offsets` are made of: texts, blobs, arrays, in the plain
//! form of older schemas and in the compact form of flexible ones.
//!
//! Reading trusts nothing: a count is never a reason to reserve memory, a loop ends with the bytes.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::TEXT_BYTES_MAX;

/// Why the bytes are not a record of this format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("the record ends early")]
    Truncated,
    #[error("version {0} is not known")]
    UnknownVersion(i16),
    #[error("a length is negative or too large")]
    BadLength,
    #[error("a text is not UTF-8")]
    NotText,
}

pub(super) type Parsed<T> = Result<T, RecordError>;

pub(super) fn put_text(out: &mut BytesMut, text: &str) {
    let bytes = cut_to(text, TEXT_BYTES_MAX).as_bytes();
    out.put_i16(i16::try_from(bytes.len()).expect("cut to the longest text of the format"));
    out.put_slice(bytes);
}

/// Cuts at a character. Requests with texts too long for this format are refused where they come
/// in; so what is cut in a record can only come from this process itself.
pub(super) fn cut_to(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

pub(super) fn put_nullable_text(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_text(out, text),
        None => out.put_i16(-1),
    }
}

pub(super) fn put_blob(out: &mut BytesMut, blob: &Bytes) {
    out.put_i32(i32::try_from(blob.len()).expect("a blob came in a frame of less than 2 GiB"));
    out.put_slice(blob);
}

pub(super) fn take_i16(input: &mut Bytes) -> Parsed<i16> {
    input.try_get_i16().map_err(|_| RecordError::Truncated)
}

pub(super) fn take_i32(input: &mut Bytes) -> Parsed<i32> {
    input.try_get_i32().map_err(|_| RecordError::Truncated)
}

pub(super) fn take_i64(input: &mut Bytes) -> Parsed<i64> {
    input.try_get_i64().map_err(|_| RecordError::Truncated)
}

pub(super) fn take_text(input: &mut Bytes) -> Parsed<String> {
    take_nullable_text(input)?.ok_or(RecordError::BadLength)
}

pub(super) fn take_nullable_text(input: &mut Bytes) -> Parsed<Option<String>> {
    match take_i16(input)? {
        -1 => Ok(None),
        length => {
            let length = usize::try_from(length).map_err(|_| RecordError::BadLength)?;
            to_text(take_bytes(input, length)?).map(Some)
        }
    }
}

pub(super) fn take_compact_text(input: &mut Bytes) -> Parsed<Option<String>> {
    match take_varint(input)?.checked_sub(1) {
        None => Ok(None),
        Some(length) => to_text(take_bytes(input, to_length(length)?)?).map(Some),
    }
}

pub(super) fn take_blob(input: &mut Bytes) -> Parsed<Bytes> {
    let length = usize::try_from(take_i32(input)?).map_err(|_| RecordError::BadLength)?;
    take_bytes(input, length)
}

pub(super) fn take_compact_blob(input: &mut Bytes) -> Parsed<Bytes> {
    let length = take_varint(input)?.checked_sub(1).ok_or(RecordError::BadLength)?;
    take_bytes(input, to_length(length)?)
}

pub(super) fn skip_tagged_fields(input: &mut Bytes) -> Parsed<()> {
    for _ in 0..take_varint(input)? {
        take_varint(input)?;
        let length = to_length(take_varint(input)?)?;
        take_bytes(input, length)?;
    }
    Ok(())
}

pub(super) fn take_varint(input: &mut Bytes) -> Parsed<u32> {
    let mut value = 0_u64;
    for shift in [0, 7, 14, 21, 28] {
        let byte = input.try_get_u8().map_err(|_| RecordError::Truncated)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| RecordError::BadLength);
        }
    }
    Err(RecordError::BadLength)
}

pub(super) fn to_length(length: u32) -> Parsed<usize> {
    usize::try_from(length).map_err(|_| RecordError::BadLength)
}

/// Copies, so that a few bytes do not hold on to the whole record batch they came in.
pub(super) fn take_bytes(input: &mut Bytes, length: usize) -> Parsed<Bytes> {
    if input.len() < length {
        return Err(RecordError::Truncated);
    }
    Ok(Bytes::copy_from_slice(&input.split_to(length)))
}

pub(super) fn to_text(bytes: Bytes) -> Parsed<String> {
    String::from_utf8(bytes.into()).map_err(|_| RecordError::NotText)
}

pub(super) fn take_i8(input: &mut Bytes) -> Parsed<i8> {
    input.try_get_i8().map_err(|_| RecordError::Truncated)
}

pub(super) fn take_uuid(input: &mut Bytes) -> Parsed<Uuid> {
    input.try_get_u128().map(Uuid::from_u128).map_err(|_| RecordError::Truncated)
}

/// The length of a compact array; `None` is null.
pub(super) fn take_compact_count(input: &mut Bytes) -> Parsed<Option<u32>> {
    Ok(take_varint(input)?.checked_sub(1))
}

/// A text that may not be null.
pub(super) fn take_compact_text_given(input: &mut Bytes) -> Parsed<String> {
    take_compact_text(input)?.ok_or(RecordError::BadLength)
}

pub(super) fn put_varint(out: &mut BytesMut, mut value: u32) {
    while value >= 0x80 {
        // The low seven bits, with the mark that more follow.
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A compact length: one more than the length, because 0 is null.
pub(super) fn put_compact_count(out: &mut BytesMut, count: usize) {
    let count = u32::try_from(count).expect("what came in a frame of less than 2 GiB");
    put_varint(out, count.saturating_add(1));
}

pub(super) fn put_compact_text(out: &mut BytesMut, text: &str) {
    put_compact_count(out, text.len());
    out.put_slice(text.as_bytes());
}

pub(super) fn put_compact_nullable_text(out: &mut BytesMut, text: Option<&str>) {
    match text {
        Some(text) => put_compact_text(out, text),
        None => out.put_u8(0),
    }
}

pub(super) fn put_compact_blob(out: &mut BytesMut, blob: &Bytes) {
    put_compact_count(out, blob.len());
    out.put_slice(blob);
}

/// The end of a flexible structure without tagged fields.
pub(super) fn put_no_tagged_fields(out: &mut BytesMut) {
    out.put_u8(0);
}
