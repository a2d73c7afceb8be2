//! Dead letters: input that could not be decoded, kept as it came, with the reason in headers.
//!
//! | header | value |
//! | --- | --- |
//! | `odradek.error.reason` | a word, the metric's label: `csv`, `time`, `time_range`, `json`, … |
//! | `odradek.error.detail` | a sentence, its first 1,024 bytes |
//! | `odradek.error.source` | the source's name |
//! | `odradek.error.line` | the line in the file (csv only) |
//! | `mqtt.topic` | the message's topic (mqtt only, as at its records) |

use bytes::Bytes;
use odradek_broker::client::Record;

use crate::limits::DEAD_LETTER_DETAIL_BYTES_MAX;

pub(crate) struct DeadLetter<'a> {
    pub reason: &'static str,
    pub detail: &'a str,
    pub source: &'a str,
    pub line: Option<u64>,
}

impl DeadLetter<'_> {
    /// The record's timestamp is the time of the failure: the event's own may be the trouble.
    pub fn record(&self, input: Bytes, now_ms: i64) -> Record {
        let header = |name: &'static str, value: String| {
            (Bytes::from_static(name.as_bytes()), Some(Bytes::from(value)))
        };
        let end = self.detail.len().min(DEAD_LETTER_DETAIL_BYTES_MAX);
        let end = (0..=end).rev().find(|at| self.detail.is_char_boundary(*at)).unwrap_or(0);
        let mut headers = vec![
            header("odradek.error.reason", self.reason.to_owned()),
            header("odradek.error.detail", self.detail[..end].to_owned()),
            header("odradek.error.source", self.source.to_owned()),
        ];
        if let Some(line) = self.line {
            headers.push(header("odradek.error.line", line.to_string()));
        }
        Record { timestamp_ms: now_ms, key: None, value: Some(input), headers }
    }
}
