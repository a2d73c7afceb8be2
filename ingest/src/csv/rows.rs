//! From text to rows: header, JSON object, key and event time of each row, and the place after it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

use bytes::Bytes;
use csv::{ByteRecord, Reader, ReaderBuilder, WriterBuilder};

use super::input::Input;
use super::position::Place;
use crate::config::Types;
use crate::event_time::{TimeError, TimePlan};
use crate::limits::FINGERPRINT_BYTES;
use crate::plan::{CsvPlan, Plan};
use crate::supervise::RunError;
use crate::template::Template;

/// One row of the file.
#[derive(Debug)]
pub(crate) struct Row {
    pub content: Result<Content, Refused>,
    /// Where the replay goes on after this row.
    pub after: Place,
}

#[derive(Debug)]
pub(crate) struct Content {
    /// A JSON object without its closing brace, so that `ts` can be added at the time of sending.
    pub object: Vec<u8>,
    pub key: Option<Bytes>,
    pub event_ms: Option<i64>,
}

/// A row that makes no record, as it was read.
#[derive(Debug)]
pub(crate) struct Refused {
    pub reason: &'static str,
    pub detail: String,
    pub text: Bytes,
    pub line: u64,
}

pub(crate) struct Rows {
    reader: Reader<Box<dyn Read + Send>>,
    input: Input,
    columns: Columns,
    /// The place at which `reader` began.
    base: Place,
    row: u64,
    delimiter: u8,
    /// Lines end with a carriage return and a line feed.
    crlf: bool,
}

/// What is to be made of the columns.
struct Columns {
    names: Vec<String>,
    /// `"name":` in JSON, with the comma before it.
    json_names: Vec<Vec<u8>>,
    index: HashMap<String, usize>,
    key: Option<Template>,
    time: TimePlan,
    types: Types,
}

impl Rows {
    /// Opens the file at `place`, or after the header.
    pub fn open(
        plan: &Plan,
        csv: &CsvPlan,
        input: Input,
        place: Option<Place>,
    ) -> Result<Self, RunError> {
        let mut head = reader(csv, &input, 0)?;
        let (names, after_header) = match &csv.header {
            Some(names) => (names.clone(), Place { row: 0, byte: 0, line: 1 }),
            None => read_header(&mut head)?,
        };
        let columns = Columns::of(names, plan, csv)?;
        let base = place.unwrap_or(after_header);
        let crlf = ends_with_crlf(csv, &input)?;
        let reader = reader(csv, &input, base.byte)?;
        let (row, delimiter) = (base.row, csv.delimiter);
        Ok(Self { reader, input, columns, base, row, delimiter, crlf })
    }

    /// `None` at the end of the file.
    pub fn next(&mut self) -> Result<Option<Row>, RunError> {
        self.input.new_row();
        let mut record = ByteRecord::new();
        if !self.reader.read_byte_record(&mut record).map_err(read_error)? {
            return Ok(None);
        }
        self.row += 1;
        let relative = self.reader.position();
        let after = Place {
            row: self.row,
            byte: self.base.byte + relative.byte(),
            line: self.base.line + relative.line().saturating_sub(1),
        };
        let content = self.columns.content(&record).map_err(|(reason, detail)| Refused {
            reason,
            detail,
            text: self.text_of(&record),
            line: self.line_of(&record, after.line),
        });
        Ok(Some(Row { content, after }))
    }

    /// The line on which the row begins. The reader's own idea of it includes empty lines before
    /// the row and, with CRLF, the line feed of the row before; its idea of the end lacks the line
    /// feed at the end of the file. The larger of the two is right.
    fn line_of(&self, record: &ByteRecord, after: u64) -> u64 {
        let breaks = record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let by_end = after.saturating_sub(breaks + u64::from(!self.crlf));
        let by_start = record.position().map(|at| self.base.line + at.line().saturating_sub(1));
        by_start.unwrap_or(by_end).max(by_end)
    }

    /// The row, written again as CSV: the same fields, though perhaps quoted in another way.
    fn text_of(&self, record: &ByteRecord) -> Bytes {
        let mut writer =
            WriterBuilder::new().delimiter(self.delimiter).flexible(true).from_writer(Vec::new());
        // Writing to memory does not fail; an empty dead letter would still carry its reason.
        writer.write_byte_record(record).ok();
        let mut text = writer.into_inner().unwrap_or_default();
        text.truncate(text.trim_ascii_end().len());
        Bytes::from(text)
    }
}

fn ends_with_crlf(csv: &CsvPlan, input: &Input) -> Result<bool, RunError> {
    let mut head = Vec::new();
    let text = input.open(0).map_err(|error| open_error(csv, &error))?;
    text.take(FINGERPRINT_BYTES).read_to_end(&mut head).map_err(|error| open_error(csv, &error))?;
    let end = head.iter().position(|byte| *byte == b'\n');
    Ok(end.is_some_and(|end| end > 0 && head[end - 1] == b'\r'))
}

fn open_error(csv: &CsvPlan, error: &std::io::Error) -> RunError {
    RunError::retry("open", format!("{}: {error}", csv.path.display()))
}

fn reader(
    csv: &CsvPlan,
    input: &Input,
    byte: u64,
) -> Result<Reader<Box<dyn Read + Send>>, RunError> {
    let text = input.open(byte).map_err(|error| open_error(csv, &error))?;
    Ok(ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(csv.delimiter)
        .buffer_capacity(64 << 10)
        .from_reader(text))
}

fn read_error(error: csv::Error) -> RunError {
    RunError::retry("read", format!("the file cannot be read: {error}"))
}

fn read_header(
    reader: &mut Reader<Box<dyn Read + Send>>,
) -> Result<(Vec<String>, Place), RunError> {
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record).map_err(read_error)? {
        return Err(RunError::retry("read", "the file is empty"));
    }
    let names = record.iter().enumerate().map(|(index, name)| {
        let name = String::from_utf8_lossy(name);
        let name = if index == 0 { name.trim_start_matches('\u{feff}') } else { &name };
        name.trim().to_owned()
    });
    let at = reader.position();
    Ok((names.collect(), Place { row: 0, byte: at.byte(), line: at.line() }))
}

impl Columns {
    fn of(names: Vec<String>, plan: &Plan, csv: &CsvPlan) -> Result<Self, RunError> {
        let wrong = |what: String| RunError::fatal("header", what);
        for old in csv.rename.keys() {
            if !names.contains(old) {
                return Err(wrong(format!("rename: {}", no_column(old, &names))));
            }
        }
        let names: Vec<String> =
            names.into_iter().map(|name| csv.rename.get(&name).cloned().unwrap_or(name)).collect();
        let mut index = HashMap::new();
        for (number, name) in names.iter().enumerate() {
            if index.insert(name.clone(), number).is_some() {
                return Err(wrong(format!("two columns have the name {name:?}")));
            }
        }
        let time_fields: Vec<&str> = match &plan.time {
            TimePlan::Arrival => Vec::new(),
            TimePlan::Field { field, .. } => vec![field.as_str()],
            TimePlan::Local { template, .. } => template.fields().collect(),
        };
        let key_fields = plan.key.iter().flat_map(Template::fields);
        for field in time_fields.into_iter().chain(key_fields) {
            if !index.contains_key(field) {
                return Err(wrong(no_column(field, &names)));
            }
        }
        let json_names = names.iter().enumerate().map(|(number, name)| {
            let comma = if number == 0 { "" } else { "," };
            format!("{comma}{}:", serde_json::Value::from(name.as_str())).into_bytes()
        });
        let json_names = json_names.collect();
        let (key, time) = (plan.key.clone(), plan.time.clone());
        Ok(Self { names, json_names, index, key, time, types: csv.types })
    }

    fn content(&self, record: &ByteRecord) -> Result<Content, (&'static str, String)> {
        if record.len() != self.names.len() {
            let (found, expected) = (record.len(), self.names.len());
            return Err(("csv", format!("{found} fields where the header has {expected}")));
        }
        let value = |name: &str| -> Option<Cow<'_, str>> {
            let field = record.get(*self.index.get(name)?)?;
            std::str::from_utf8(field).ok().map(Cow::Borrowed)
        };
        let object = self.object(record)?;
        let event_ms = match &self.time {
            TimePlan::Arrival => None,
            time => Some(time.event_time_ms(0, value).map_err(|error| match error {
                TimeError::Unreadable(detail) => ("time", detail),
                TimeError::OutOfRange(ms) => {
                    ("time_range", format!("{ms} ms is outside the years 1990 to 2100"))
                }
            })?),
        };
        let key = self.key.as_ref().map(|key| key.render(value)).transpose();
        let key = key.map_err(|detail| ("key", detail))?;
        Ok(Content { object, key: key.map(Bytes::from), event_ms })
    }

    fn object(&self, record: &ByteRecord) -> Result<Vec<u8>, (&'static str, String)> {
        let mut object = Vec::with_capacity(record.as_slice().len() + self.names.len() * 16);
        object.push(b'{');
        for (number, (field, name)) in record.iter().zip(&self.json_names).enumerate() {
            let Ok(text) = std::str::from_utf8(field) else {
                return Err(("utf8", format!("{} is not UTF-8", self.names[number])));
            };
            object.extend_from_slice(name);
            match self.types {
                Types::Auto => push_typed(&mut object, text),
                Types::String => push_string(&mut object, text),
            }
        }
        Ok(object)
    }
}

fn push_string(json: &mut Vec<u8>, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        json.push(b'"');
        json.extend_from_slice(text.as_bytes());
        json.push(b'"');
    } else {
        json.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes());
    }
}

/// A number keeps its digits as they stand; `007` is no JSON number and stays text.
fn push_typed(json: &mut Vec<u8>, text: &str) {
    let starts_like_number = text.starts_with(|c: char| c == '-' || c.is_ascii_digit());
    match text {
        "" => json.extend_from_slice(b"null"),
        "true" | "false" => json.extend_from_slice(text.as_bytes()),
        _ if starts_like_number && serde_json::from_str::<serde_json::Number>(text).is_ok() => {
            json.extend_from_slice(text.as_bytes());
        }
        _ => push_string(json, text),
    }
}

fn no_column(name: &str, names: &[String]) -> String {
    format!("there is no column {name:?}; the file has {}", names.join(", "))
}
