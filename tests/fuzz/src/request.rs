//! Request frames, from the first bytes of a connection to the decoded message.
//!
//! First two bytes: which of the served APIs, and which of its versions; what follows is the body.
//! With a first byte of 255 what follows is a frame as it is.
//!
//! Promises: a frame that is served looks like Kafka from its first eight bytes; checking and
//! decoding take no more memory than the guard says; what the guard lets through the decoder reads
//! to the same end; what the encoder writes of it the guard lets through again.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::ApiKey;
use odradek_broker::diagnose::{self, Seen};
use odradek_broker::fuzzing;
use odradek_protocol::guard;

use crate::memory::peak_bytes;

const AS_IT_IS: u8 = 255;
/// Text of a refusal, and the encoded request with the growth of its buffer.
const MEMORY_BYTES_FREE: usize = 64 << 10;

pub fn run(data: &[u8]) {
    let Some(frame) = frame(data) else { return };
    let mut start = BytesMut::new();
    start.put_u32(u32::try_from(frame.len()).expect("inputs are small"));
    start.extend_from_slice(&frame[..frame.len().min(4)]);
    let seen = diagnose::classify(&start);
    let (request, peak) = peak_bytes(|| fuzzing::request(&frame));
    let allowed = guard::memory_bytes_max(frame.len()) + 16 * frame.len() + MEMORY_BYTES_FREE;
    assert!(peak <= allowed, "{peak} bytes for a frame of {}", frame.len());
    let Some(Ok(request)) = request else { return };
    assert_eq!(seen, Seen::Kafka, "{} {}", request.api_key, request.version);
    let (key, version) = (request.api_key, request.version);
    assert!(request.left_bytes <= request.body.len());
    let again = guard::check(key, version, &request.encoded);
    assert_eq!(again, Ok(()), "API {key} version {version}: what the encoder wrote");
    let rewritten = with_header(key, version, &request.encoded);
    let second = fuzzing::request(&rewritten).expect("the guard passed it");
    let second = second.expect("the decoder reads what the encoder wrote");
    assert_eq!(second.left_bytes, 0, "API {key} version {version}");
    assert_eq!(second.encoded, request.encoded, "API {key} version {version}");
}

fn frame(data: &[u8]) -> Option<Bytes> {
    let (&which, rest) = data.split_first()?;
    if which == AS_IT_IS {
        return Some(Bytes::copy_from_slice(rest));
    }
    let (&step, body) = rest.split_first()?;
    let served: Vec<_> = fuzzing::served().collect();
    let (key, oldest, newest) = served[usize::from(which) % served.len()];
    let versions = i16::from(u8::MAX).min(newest - oldest + 1);
    Some(with_header(key, oldest + i16::from(step) % versions, body))
}

/// The header of a client that says nothing of itself.
pub fn with_header(key: i16, version: i16, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_i16(-1);
    let known = ApiKey::try_from(key).expect("an API that is served");
    if known.request_header_version(version) >= 2 {
        frame.put_u8(0);
    }
    frame.extend_from_slice(body);
    frame.freeze()
}
