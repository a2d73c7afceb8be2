//! Records from the body of a `POST`.
//!
//! | content type | a record is |
//! | --- | --- |
//! | `application/json` | each element of an array, or the one object |
//! | `application/x-ndjson` | each line that is not empty |
//! | `text/csv` | each row, as a JSON object of strings named by the header line |
//! | `text/plain` | each line, as it is |
//!
//! `?key=F` and `?timestamp=F` take the record's key and event time from a top-level field (for
//! CSV a column). With `?envelope=true` (or a body `{"records":[…]}`) each is
//! `{"key","value","timestamp","partition","headers"}` instead: there a string value is stored as
//! its text, `{"$base64":"…"}` as bytes, `null` as a tombstone, everything else as its JSON.
//! A record without a time gets the time of arrival. A body holds at most 100,000 records, and they
//! come to at most 64 MiB: a few bytes can claim to be many records, or a row much longer than it.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;

use axum::http::StatusCode;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use odradek_broker::client::Record;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::limits::{HEADERS_MAX, RECORDS_BYTES_MAX, RECORDS_MAX};
use super::problem::Problem;
use crate::operations::filter::Object;
use crate::operations::write::Draft;
use crate::operations::{instant, render};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftQuery {
    pub key: Option<String>,
    pub timestamp: Option<String>,
    pub partition: Option<i32>,
    #[serde(default)]
    pub envelope: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    timestamp: Option<&'a RawValue>,
    #[serde(default)]
    partition: Option<i32>,
    #[serde(borrow, default)]
    headers: AtMost<(String, Option<&'a RawValue>), HEADERS_MAX>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelopes<'a> {
    #[serde(borrow)]
    records: Elements<'a>,
}

type Elements<'a> = AtMost<&'a RawValue, RECORDS_MAX>;

/// The first of a list's elements; those behind them are read, and not kept.
struct AtMost<T, const MAX: usize> {
    first: Vec<T>,
    more: bool,
}

impl<T, const MAX: usize> Default for AtMost<T, MAX> {
    fn default() -> Self {
        Self { first: Vec::new(), more: false }
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for AtMost<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AtMostVisitor(PhantomData))
    }
}

impl<'a> Elements<'a> {
    fn texts(self) -> Result<impl Iterator<Item = &'a [u8]>, Problem> {
        if self.more {
            return Err(too_many());
        }
        Ok(self.first.into_iter().map(|raw| raw.get().as_bytes()))
    }
}

struct AtMostVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for AtMostVisitor<T, MAX> {
    type Value = AtMost<T, MAX>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut read = AtMost::default();
        while let Some(element) = list.next_element()? {
            read.more = read.first.len() == MAX;
            if !read.more {
                read.first.push(element);
            }
        }
        Ok(read)
    }
}

#[derive(Deserialize)]
struct Base64 {
    #[serde(rename = "$base64")]
    text: String,
}

/// One draft a record, in the body's order; those that are none say why.
pub fn parse(
    content_type: Option<&str>,
    body: &[u8],
    query: &DraftQuery,
    now_ms: i64,
) -> Result<Vec<Draft>, Problem> {
    let kind = content_type.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
    match kind {
        "" | "application/json" => json_body(body, query, now_ms),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
            gathered(lines(body).map(|line| json_record(line, query, now_ms)))
        }
        "text/csv" => csv_body(body, query, now_ms),
        "text/plain" => {
            let record = |line: &[u8]| Record {
                timestamp_ms: now_ms,
                value: Some(Bytes::copy_from_slice(line)),
                ..Record::default()
            };
            gathered(lines(body).map(|line| Ok((query.partition, record(line)))))
        }
        other => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("{other:?} is not a type of body that is read here"),
        )
        .hint("send application/json, application/x-ndjson, text/csv or text/plain")),
    }
}

/// All of them, unless they are too many or too large together.
fn gathered(drafts: impl Iterator<Item = Draft>) -> Result<Vec<Draft>, Problem> {
    let mut all = Vec::new();
    let mut bytes = 0;
    for draft in drafts {
        bytes += match &draft {
            Ok((_, record)) => {
                let own = [&record.key, &record.value].into_iter().flatten().map(Bytes::len);
                let headers = record.headers.iter().map(|header| {
                    size_of_val(header) + header.0.len() + header.1.as_ref().map_or(0, Bytes::len)
                });
                own.chain(headers).sum::<usize>()
            }
            Err(why) => why.len(),
        };
        if all.len() == RECORDS_MAX || bytes > RECORDS_BYTES_MAX {
            return Err(too_many());
        }
        all.push(draft);
    }
    Ok(all)
}

fn too_many() -> Problem {
    let detail = format!(
        "a body holds at most {RECORDS_MAX} records, and they come to at most {} MiB",
        RECORDS_BYTES_MAX >> 20
    );
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail).hint("send it in several requests")
}

fn lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    let trimmed = body.split(|b| *b == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    trimmed.filter(|line| !line.iter().all(u8::is_ascii_whitespace))
}

fn json_body(body: &[u8], query: &DraftQuery, now_ms: i64) -> Result<Vec<Draft>, Problem> {
    if let Ok(envelopes) = serde_json::from_slice::<Envelopes>(body) {
        let texts = envelopes.records.texts()?;
        return gathered(texts.map(|text| envelope(text, query.partition, now_ms)));
    }
    if let Ok(elements) = serde_json::from_slice::<Elements>(body) {
        return gathered(elements.texts()?.map(|text| json_record(text, query, now_ms)));
    }
    match serde_json::from_slice::<&RawValue>(body) {
        Ok(raw) => Ok(vec![json_record(raw.get().as_bytes(), query, now_ms)]),
        Err(error) => Err(Problem::bad_request(format!("the body is not JSON: {error}"))
            .hint("one object, an array of them, or NDJSON as application/x-ndjson")),
    }
}

fn json_record(text: &[u8], query: &DraftQuery, now_ms: i64) -> Draft {
    if query.envelope {
        return envelope(text, query.partition, now_ms);
    }
    let raw: &RawValue = serde_json::from_slice(text).map_err(|e| format!("not JSON: {e}"))?;
    let object: Object = serde_json::from_slice(text).unwrap_or_default();
    let field = |name: &Option<String>| -> Result<Option<String>, String> {
        let Some(name) = name else { return Ok(None) };
        let raw = object.get(name.as_str()).ok_or_else(|| format!("there is no field {name:?}"))?;
        Ok((raw.get() != "null").then(|| render::cell(&object, name).into_owned()))
    };
    let timestamp_ms = time(field(&query.timestamp)?.as_deref(), now_ms)?;
    let key = field(&query.key)?.map(Bytes::from);
    let value = Some(Bytes::copy_from_slice(raw.get().as_bytes()));
    Ok((query.partition, Record { timestamp_ms, key, value, headers: Vec::new() }))
}

fn envelope(text: &[u8], partition: Option<i32>, now_ms: i64) -> Draft {
    let envelope: Envelope =
        serde_json::from_slice(text).map_err(|e| format!("not a record's envelope: {e}"))?;
    let timestamp = envelope
        .timestamp
        .map(|raw| serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned()));
    if envelope.headers.more {
        return Err(format!("a record has at most {HEADERS_MAX} headers"));
    }
    let mut headers = Vec::with_capacity(envelope.headers.first.len());
    for (name, value) in envelope.headers.first {
        headers.push((Bytes::from(name), stored(value)?));
    }
    let record = Record {
        timestamp_ms: time(timestamp.as_deref().filter(|text| *text != "null"), now_ms)?,
        key: stored(envelope.key)?,
        value: stored(envelope.value)?,
        headers,
    };
    Ok((envelope.partition.or(partition), record))
}

/// The bytes that an envelope's value stands for.
fn stored(raw: Option<&RawValue>) -> Result<Option<Bytes>, String> {
    let Some(text) = raw.map(RawValue::get).filter(|text| *text != "null") else {
        return Ok(None);
    };
    if let Ok(text) = serde_json::from_str::<String>(text) {
        return Ok(Some(Bytes::from(text)));
    }
    if let Ok(Base64 { text }) = serde_json::from_str(text) {
        let bytes = STANDARD.decode(text).map_err(|e| format!("$base64: {e}"))?;
        return Ok(Some(Bytes::from(bytes)));
    }
    Ok(Some(Bytes::copy_from_slice(text.as_bytes())))
}

fn csv_body(body: &[u8], query: &DraftQuery, now_ms: i64) -> Result<Vec<Draft>, Problem> {
    let mut reader = csv::Reader::from_reader(body);
    let wrong = |e: csv::Error| Problem::bad_request(format!("the header line: {e}"));
    let names = reader.headers().map_err(wrong)?.clone();
    let rows = reader.into_records().map(|row| -> Draft {
        let row = row.map_err(|e| e.to_string())?;
        let cells: HashMap<&str, &str> = names.iter().zip(row.iter()).collect();
        let cell = |name: &Option<String>| -> Result<Option<&str>, String> {
            let Some(name) = name else { return Ok(None) };
            let cell = cells.get(name.as_str()).copied();
            cell.map(Some).ok_or_else(|| format!("there is no column {name:?}"))
        };
        let object: serde_json::Map<String, serde_json::Value> =
            names.iter().zip(row.iter()).map(|(name, cell)| (name.into(), cell.into())).collect();
        let value = serde_json::to_vec(&object).map_err(|e| e.to_string())?;
        let record = Record {
            timestamp_ms: time(cell(&query.timestamp)?, now_ms)?,
            key: cell(&query.key)?.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            value: Some(value.into()),
            headers: Vec::new(),
        };
        Ok((query.partition, record))
    });
    gathered(rows)
}

fn time(text: Option<&str>, now_ms: i64) -> Result<i64, String> {
    let Some(text) = text else { return Ok(now_ms) };
    Ok(instant::parse(text, now_ms).map_err(|e| e.to_string())?.ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_763_800_000_000;

    fn drafts(kind: &str, body: &str, query: &DraftQuery) -> Vec<Draft> {
        parse(Some(kind), body.as_bytes(), query, NOW_MS).expect("a readable body")
    }

    fn record(draft: &Draft) -> (Option<&[u8]>, &[u8], i64) {
        let (_, record) = draft.as_ref().expect("a record");
        let value = record.value.as_deref().expect("a value");
        (record.key.as_deref(), value, record.timestamp_ms)
    }

    #[test]
    fn json_is_stored_as_it_was_written_with_key_and_time_from_its_fields() {
        let query = DraftQuery {
            key: Some("id".to_owned()),
            timestamp: Some("t".to_owned()),
            ..DraftQuery::default()
        };
        let body = r#"[{"id":"GM","t":1357017300250,"price":1.50},{"price":2}]"#;
        let all = drafts("application/json; charset=utf-8", body, &query);
        let stored = br#"{"id":"GM","t":1357017300250,"price":1.50}"#.as_slice();
        assert_eq!(record(&all[0]), (Some(b"GM".as_slice()), stored, 1_357_017_300_250));
        assert!(all[1].as_ref().is_err_and(|why| why.contains("\"t\"")));
    }

    #[test]
    fn a_bad_line_of_ndjson_does_not_spoil_the_others() {
        let all =
            drafts("application/x-ndjson", "{\"a\":1}\r\n\nnope\n[2]\n", &DraftQuery::default());
        assert_eq!(record(&all[0]).1, br#"{"a":1}"#);
        assert!(all[1].is_err());
        assert_eq!(record(&all[2]).1, b"[2]");
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn an_envelope_names_text_bytes_tombstones_headers_and_partition() {
        let body = r#"{"records":[
            {"key":"k","value":"text","partition":2,"headers":[["h","1"],["h",null]]},
            {"value":{"$base64":"/wA="},"timestamp":"2013-01-01T05:15:00Z"},
            {"key":"k","value":null}, {"valeu":1}]}"#;
        let all = drafts("application/json", body, &DraftQuery::default());
        let (partition, first) = all[0].as_ref().expect("a record");
        assert_eq!((*partition, first.value.as_deref()), (Some(2), Some(b"text".as_slice())));
        assert_eq!(first.headers, [("h".into(), Some("1".into())), ("h".into(), None)]);
        assert_eq!(record(&all[1]), (None, [0xff, 0].as_slice(), 1_357_017_300_000));
        assert_eq!(all[2].as_ref().expect("a record").1.value, None);
        assert!(all[3].is_err());
    }

    #[test]
    fn a_small_body_cannot_become_records_without_end() {
        let query = DraftQuery::default();
        let refused = |kind: &str, body: &str| {
            let problem = parse(Some(kind), body.as_bytes(), &query, NOW_MS).err();
            problem.is_some_and(|problem| problem.to_json().contains("at most 100000 records"))
        };
        let (all, more) = (RECORDS_MAX, RECORDS_MAX + 1);
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        for kind in ["application/x-ndjson", "text/plain"] {
            assert_eq!(drafts(kind, &"0\n".repeat(all), &query).len(), all, "{kind}");
            assert!(refused(kind, &"0\n".repeat(more)), "{kind}");
        }
        assert_eq!(drafts("application/json", &list(all), &query).len(), all);
        assert!(refused("application/json", &list(more)));
        assert!(refused("application/json", &format!("{{\"records\":{}}}", list(more))));
        // 70,000 rows of two bytes, each of which would become an object of a kilobyte: 70 MB.
        let csv = format!("{}\n{}", "n".repeat(1000), "0\n".repeat(70_000));
        assert!(refused("text/csv", &csv));
    }

    #[test]
    fn an_envelope_with_a_thousand_headers_is_one_and_with_more_is_not() {
        for (count, good) in [(HEADERS_MAX, true), (HEADERS_MAX + 1, false)] {
            let headers = vec!["[\"\",null]"; count].join(",");
            let body = format!("{{\"records\":[{{\"headers\":[{headers}]}}]}}");
            let all = drafts("application/json", &body, &DraftQuery::default());
            assert_eq!(all[0].is_ok(), good, "{count}");
        }
    }

    #[test]
    fn a_csv_row_becomes_an_object_of_strings_named_by_the_header() {
        let query = DraftQuery { key: Some("carrier".to_owned()), ..DraftQuery::default() };
        let all = drafts("text/csv", "carrier,note\nUA,\"a, b\"\nB6\n", &query);
        let stored = br#"{"carrier":"UA","note":"a, b"}"#.as_slice();
        assert_eq!(record(&all[0]), (Some(b"UA".as_slice()), stored, NOW_MS));
        assert!(all[1].is_err());
    }
}
