//! A record as one line of JSON, and a value as JSON.
//!
//! A value that is JSON is embedded as it was written, digit for digit; other text becomes a JSON
//! string; other bytes become `{"$base64":"…"}`. A key or a header is a string or such bytes.
//! No line holds a line feed, so the same bytes serve NDJSON and server-sent events.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use odradek_broker::client::StoredRecord;
use serde_json::value::RawValue;

use super::filter::Object;
use super::instant::rfc3339;

/// `{"partition","offset","timestamp","timestamp_ms","key","value","headers"}`.
pub fn record(out: &mut Vec<u8>, partition: i32, record: &StoredRecord, fields: Option<&[String]>) {
    let head = format!("{{\"partition\":{partition},\"offset\":{},\"timestamp\":", record.offset);
    out.extend_from_slice(head.as_bytes());
    match rfc3339(record.timestamp_ms) {
        Some(text) => string(out, &text),
        None => out.extend_from_slice(b"null"),
    }
    let time = format!(",\"timestamp_ms\":{},\"key\":", record.timestamp_ms);
    out.extend_from_slice(time.as_bytes());
    text_or_base64(out, record.key.as_deref());
    out.extend_from_slice(b",\"value\":");
    value(out, record.value.as_deref(), fields);
    out.extend_from_slice(b",\"headers\":[");
    for (index, (key, value)) in record.headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        text_or_base64(out, Some(key));
        out.push(b',');
        text_or_base64(out, value.as_deref());
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
}

/// The value alone; with `fields`, only those top-level fields, in the order asked for.
pub fn value(out: &mut Vec<u8>, bytes: Option<&[u8]>, fields: Option<&[String]>) {
    let Some(bytes) = bytes else { return out.extend_from_slice(b"null") };
    if let Some(fields) = fields {
        return projected(out, bytes, fields);
    }
    match serde_json::from_slice::<&RawValue>(bytes) {
        Ok(raw) => one_line(out, raw.get()),
        Err(_) => text_or_base64(out, Some(bytes)),
    }
}

/// A value's field as plain text, for a CSV cell: strings without quotes, null as nothing.
pub fn cell<'a>(object: &Object<'a>, field: &str) -> Cow<'a, str> {
    let Some(raw) = object.get(field) else { return Cow::Borrowed("") };
    if raw.get() == "null" {
        return Cow::Borrowed("");
    }
    match serde_json::from_str::<String>(raw.get()) {
        Ok(text) => Cow::Owned(text),
        Err(_) => Cow::Borrowed(raw.get()),
    }
}

/// Bytes as text for a CSV cell; `base64:…` where they are no text.
pub fn text(bytes: Option<&[u8]>) -> Cow<'_, str> {
    let bytes = bytes.unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(format!("base64:{}", STANDARD.encode(bytes))),
    }
}

fn projected(out: &mut Vec<u8>, bytes: &[u8], fields: &[String]) {
    if let Ok(object) = serde_json::from_slice::<Object>(bytes) {
        return project(out, &object, fields);
    }
    let Ok(rows) = serde_json::from_slice::<Vec<Object>>(bytes) else {
        return out.extend_from_slice(b"null");
    };
    out.push(b'[');
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        project(out, row, fields);
    }
    out.push(b']');
}

fn project(out: &mut Vec<u8>, object: &Object, fields: &[String]) {
    out.push(b'{');
    let present = fields.iter().filter_map(|field| Some((field, object.get(field.as_str())?)));
    for (index, (field, raw)) in present.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        string(out, field);
        out.push(b':');
        one_line(out, raw.get());
    }
    out.push(b'}');
}

/// In valid JSON a line feed stands only between tokens, so a space may take its place.
fn one_line(out: &mut Vec<u8>, json: &str) {
    out.extend(json.bytes().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { b }));
}

fn text_or_base64(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => out.extend_from_slice(b"null"),
        Some((_, Ok(text))) => string(out, text),
        Some((bytes, Err(_))) => {
            out.extend_from_slice(b"{\"$base64\":");
            string(out, &STANDARD.encode(bytes));
            out.push(b'}');
        }
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("a string is always JSON, and a Vec takes every byte");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(value_bytes: &[u8], fields: Option<&[String]>) -> String {
        let mut out = Vec::new();
        value(&mut out, Some(value_bytes), fields);
        String::from_utf8(out).expect("JSON is text")
    }

    #[test]
    fn a_value_is_embedded_as_json_as_text_or_as_base64() {
        let table: [(&[u8], &str); 6] = [
            (br#"{"price":33.91999816894531}"#, r#"{"price":33.91999816894531}"#),
            (b"12345678901234567890123", "12345678901234567890123"),
            (b"{\n \"a\": 1\r\n}", "{  \"a\": 1  }"),
            (b"GM is \"up\"", r#""GM is \"up\"""#),
            (b"", r#""""#),
            (&[0xff, 0x00], r#"{"$base64":"/wA="}"#),
        ];
        for (bytes, expected) in table {
            assert_eq!(rendered(bytes, None), expected);
        }
    }

    #[test]
    fn fields_come_in_the_order_asked_for_and_from_every_row() {
        let fields = ["b".to_owned(), "a".to_owned()];
        assert_eq!(rendered(br#"{"a":1,"c":3,"b":2.50}"#, Some(&fields)), r#"{"b":2.50,"a":1}"#);
        assert_eq!(rendered(br#"[{"a":1},{"b":2}]"#, Some(&fields)), r#"[{"a":1},{"b":2}]"#);
        assert_eq!(rendered(b"text", Some(&fields)), "null");
    }

    #[test]
    fn a_record_is_one_line_with_repeated_headers_kept() {
        let stored = StoredRecord {
            offset: 7,
            timestamp_ms: 1_357_017_300_250,
            key: Some("UA".into()),
            value: None,
            headers: vec![("h".into(), Some("1".into())), ("h".into(), None)],
        };
        let mut out = Vec::new();
        record(&mut out, 3, &stored, None);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            concat!(
                r#"{"partition":3,"offset":7,"timestamp":"2013-01-01T05:15:00.250Z","#,
                r#""timestamp_ms":1357017300250,"key":"UA","value":null,"#,
                r#""headers":[["h","1"],["h",null]]}"#
            )
        );
    }
}
