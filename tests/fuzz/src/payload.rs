//! What requests carry inside and the protocol takes for opaque bytes: group members'
//! subscriptions and assignments, expressions over topic names, pushed metrics.
//!
//! First byte: which. Promises: an assignment that is read and written anew is read as the same;
//! the two readers of a subscription agree; an expression matches whole names and costs bounded
//! memory; a pushed message unpacks to a mebibyte at most, and costs memory in proportion to it.

use bytes::Bytes;
use odradek_broker::fuzzing;

use crate::memory::peak_bytes;

/// An empty part of a message is two bytes on the wire and 32 in memory, in a list that grows.
const TELEMETRY_BYTES_MAX: usize = 64 * fuzzing::PUSH_BYTES_MAX + CODEC_BYTES_MAX;
const CODEC_BYTES_MAX: usize = 16 << 20;
/// A pattern's parsed form, its compiled one and the caches: all bounded.
const EXPRESSION_BYTES_MAX: usize = 32 << 20;

pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    match which % 4 {
        0 => subscription(rest),
        1 => assignment(rest),
        2 => expression(rest),
        _ => telemetry(rest),
    }
}

fn subscription(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let (found, peak) = peak_bytes(|| fuzzing::subscription_topics(&bytes));
    assert!(peak <= 64 * bytes.len() + 4096, "{peak} bytes for {}", bytes.len());
    if let Some(found) = found {
        let mut beginning = fuzzing::subscribed_topics(&bytes).expect("it is the beginning of it");
        beginning.sort();
        beginning.dedup();
        assert_eq!(beginning, found);
    }
}

fn assignment(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let (found, peak) = peak_bytes(|| fuzzing::assignment(&bytes));
    assert!(peak <= 128 * bytes.len() + 4096, "{peak} bytes for {}", bytes.len());
    if let Some(written) = found {
        let again = fuzzing::assignment(&written);
        assert_eq!(again.as_ref(), Some(&written));
    }
}

fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (expression, topic) = text.split_once('\n').unwrap_or((text, "flights"));
    let (found, peak) = peak_bytes(|| fuzzing::matches(expression, topic));
    assert!(peak <= EXPRESSION_BYTES_MAX, "{peak} bytes for {expression:?}");
    if let Err(why) = found {
        assert!(!why.is_empty() && !why.contains('\n'), "{why:?}");
    }
    // A quoted text matches itself and nothing longer.
    if !topic.contains("\\E") && !topic.contains('\n') && topic.len() < 1000 {
        let quoted = format!("\\Q{topic}\\E");
        assert_eq!(fuzzing::matches(&quoted, topic), Ok(true), "{topic:?}");
        assert_eq!(fuzzing::matches(&quoted, &format!("{topic}x")), Ok(false), "{topic:?}");
    }
}

fn telemetry(bytes: &[u8]) {
    let Some((&codec, message)) = bytes.split_first() else { return };
    let message = Bytes::copy_from_slice(message);
    let (_, peak) = peak_bytes(|| fuzzing::pushed_numbers((codec % 6).cast_signed(), message));
    assert!(peak <= TELEMETRY_BYTES_MAX, "{peak} bytes for a message of {}", bytes.len());
}
