//! What an HTTP client sends: query strings, times, bodies of records, the Authorization header.
//!
//! First byte: which; the parts of the rest are divided by a line feed. Promises: a range runs
//! forward, and its cursor is read back as it was given out; what is answered is one line of JSON;
//! a time that is shown is read back as itself; records come to no more than the stated bounds, and
//! a value of theirs is what was sent.

use odradek::fuzzing::{self, RECORDS_BYTES_MAX, RECORDS_MAX};
use serde_json::value::RawValue;

use crate::memory::peak_bytes;

const NOW_MS: i64 = 1_763_800_000_000;
/// A record is two bytes at least, and takes a hundred; twice that while its list grows.
const MEMORY_FACTOR: usize = 256;
const MEMORY_BYTES_FREE: usize = 256 << 10;

const KINDS: [&str; 5] =
    ["application/json", "application/x-ndjson", "text/csv", "text/plain", "application/json"];

pub fn run(data: &[u8]) {
    let Some((&which, rest)) = data.split_first() else { return };
    match which {
        0..64 => range(rest),
        64..192 => body(KINDS[usize::from(which) % KINDS.len()], rest),
        192..224 => time(rest),
        _ => {
            let Ok(text) = std::str::from_utf8(rest) else { return };
            if let Some((user, password)) = fuzzing::basic(text) {
                assert!(!user.contains(':') && user.len() + password.len() < text.len());
            }
        }
    }
}

/// The next part: up to a line feed, or all that is left.
fn part<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
    let (found, behind) = rest.split_at(end);
    *rest = behind.get(1..).unwrap_or_default();
    found
}

fn range(mut rest: &[u8]) {
    let Ok(query) = std::str::from_utf8(part(&mut rest)) else { return };
    let accept = part(&mut rest);
    let Some(asked) = fuzzing::range(query, accept, rest, NOW_MS) else { return };
    assert!(asked.from_ms <= asked.to_ms);
    assert!(asked.limit.is_none_or(|limit| limit > 0));
    if let Some(cursor) = asked.cursor {
        let again = fuzzing::range(&format!("cursor={cursor}"), b"", b"", NOW_MS);
        assert_eq!(again.and_then(|asked| asked.cursor), Some(cursor));
    }
    if !asked.rendered.is_empty() {
        assert!(!asked.rendered.contains(&b'\n'), "a record is one line");
        let json = serde_json::from_slice::<&RawValue>(&asked.rendered);
        assert!(json.is_ok(), "{}", String::from_utf8_lossy(&asked.rendered));
    }
}

fn time(rest: &[u8]) {
    let Ok(text) = std::str::from_utf8(rest) else { return };
    let Some(ms) = fuzzing::time(text, NOW_MS) else { return };
    if let Some(shown) = fuzzing::rfc3339(ms) {
        assert_eq!(fuzzing::time(&shown, NOW_MS), Some(ms), "{text:?} is shown as {shown}");
    }
}

fn body(kind: &str, mut rest: &[u8]) {
    let Ok(query) = std::str::from_utf8(part(&mut rest)) else { return };
    let (drafts, peak) = peak_bytes(|| fuzzing::drafts(kind, query, rest, NOW_MS));
    let Some(drafts) = drafts else { return };
    let taken = drafts.iter().flatten();
    let bytes: usize =
        taken.flat_map(|(key, value)| [key, value]).flatten().map(|part| part.len()).sum();
    assert!(drafts.len() <= RECORDS_MAX && bytes <= RECORDS_BYTES_MAX);
    let allowed = MEMORY_FACTOR * rest.len() + 3 * (bytes + drafts.len() * query.len());
    assert!(peak <= allowed + MEMORY_BYTES_FREE, "{peak} bytes for a body of {}", rest.len());
    if kind == "text/plain" {
        for (_, value) in drafts.iter().flatten() {
            let line = value.as_deref().expect("a line has a value");
            assert!(
                !line.contains(&b'\n') && rest.windows(line.len()).any(|window| window == line)
            );
        }
    } else if query.is_empty() && kind != "application/json" {
        for value in drafts.iter().flatten().filter_map(|(_, value)| value.as_deref()) {
            let json = serde_json::from_slice::<&RawValue>(value);
            assert!(json.is_ok(), "{}", String::from_utf8_lossy(value));
        }
    }
}
