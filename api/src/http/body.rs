//! Answers that are written while they are read: NDJSON, CSV and JSON arrays in constant memory.
//!
//! The next piece is made when the socket can take it, so a slow client slows nothing but itself.
//! The status line has left by then; a failure midway cuts the connection, which every HTTP client
//! reports, rather than pretend that the answer was complete.

use axum::body::Body;
use odradek_broker::budget::Held;

use super::limits::{Answers, Piece, body_of};
use super::query::{Format, Row};
use crate::operations::filter::Object;
use crate::operations::range::Reader;
use crate::operations::{Failure, instant, render};

/// A piece of the answer is sent when it has this much.
const PIECE_BYTES: usize = 64 * 1024;

/// How a record is written.
#[derive(Debug, Clone)]
pub enum Shape {
    /// A record's JSON on a line of its own.
    Lines { fields: Option<Vec<String>> },
    /// `partition,offset,timestamp,key,value`, or the fields in place of the value.
    Csv { fields: Option<Vec<String>> },
    /// The values alone, as one JSON array.
    Values,
}

impl Shape {
    pub fn new(format: Format, fields: Option<Vec<String>>) -> Self {
        match format {
            Format::Csv => Self::Csv { fields },
            Format::Json | Format::NdJson => Self::Lines { fields },
        }
    }

    fn begin(&self, out: &mut Vec<u8>) {
        match self {
            Self::Lines { .. } => {}
            Self::Csv { fields } => {
                let mut cells = vec!["partition", "offset", "timestamp", "key"];
                match fields {
                    Some(fields) => cells.extend(fields.iter().map(String::as_str)),
                    None => cells.push("value"),
                }
                csv_line(out, &cells);
            }
            Self::Values => out.push(b'['),
        }
    }

    fn write(&self, out: &mut Vec<u8>, is_first: bool, (partition, record): &Row) {
        match self {
            Self::Lines { fields } => {
                render::record(out, *partition, record, fields.as_deref());
                out.push(b'\n');
            }
            Self::Csv { fields } => csv_rows(out, *partition, record, fields.as_deref()),
            Self::Values => {
                if !is_first {
                    out.extend_from_slice(b",\n");
                }
                render::value(out, record.value.as_deref(), None);
            }
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        if matches!(self, Self::Values) {
            out.extend_from_slice(b"]\n");
        }
    }
}

/// The first piece is made before the answer begins, so that what is wrong from the start still
/// gets its own status.
pub async fn streamed(
    reader: Reader,
    permit: Held,
    answers: Answers,
    shape: Shape,
    limit: Option<usize>,
) -> Result<Body, Failure> {
    let left = limit.unwrap_or(usize::MAX);
    let mut writing = Writing { reader, _permit: permit, shape, left, is_first: true, done: false };
    let mut first = answers.piece();
    writing.shape.begin(&mut first.bytes);
    writing.fill(&mut first).await?;
    let rest = futures::stream::try_unfold(writing, move |mut writing| {
        let mut out = answers.piece();
        async move {
            writing.fill(&mut out).await?;
            let piece = (!out.bytes.is_empty()).then(|| out.into_bytes());
            Ok::<_, Failure>(piece.map(|piece| (piece, writing)))
        }
    });
    let first = futures::stream::iter([Ok(first.into_bytes())]);
    Ok(body_of(futures::StreamExt::chain(first, rest)))
}

struct Writing {
    reader: Reader,
    /// Given back when the answer ends, or its client goes.
    _permit: Held,
    shape: Shape,
    left: usize,
    is_first: bool,
    done: bool,
}

impl Writing {
    /// Writes until there is a piece, or the range or the limit ends. Nothing after the end.
    async fn fill(&mut self, piece: &mut Piece) -> Result<(), Failure> {
        while !self.done && piece.bytes.len() < PIECE_BYTES {
            let row = if self.left == 0 { None } else { self.reader.next().await? };
            let Some(row) = row else {
                self.done = true;
                self.shape.end(&mut piece.bytes);
                return Ok(());
            };
            self.left -= 1;
            piece.make_room(&[&row.1]).await?;
            self.shape.write(&mut piece.bytes, self.is_first, &row);
            self.is_first = false;
        }
        Ok(())
    }
}

/// A value that is an array of objects gives a row each when fields are asked for.
fn csv_rows(
    out: &mut Vec<u8>,
    partition: i32,
    record: &odradek_broker::client::StoredRecord,
    fields: Option<&[String]>,
) {
    let time =
        instant::rfc3339(record.timestamp_ms).unwrap_or_else(|| record.timestamp_ms.to_string());
    let key = render::text(record.key.as_deref());
    let (partition, offset) = (partition.to_string(), record.offset.to_string());
    let head = [partition.as_str(), offset.as_str(), time.as_str(), &key];
    let value = record.value.as_deref();
    let Some(fields) = fields else {
        let value = render::text(value);
        let [a, b, c, d] = head;
        return csv_line(out, &[a, b, c, d, &value]);
    };
    let bytes = value.unwrap_or_default();
    let rows = match serde_json::from_slice::<Object>(bytes) {
        Ok(object) => vec![object],
        Err(_) => {
            serde_json::from_slice::<Vec<Object>>(bytes).unwrap_or_else(|_| vec![Object::default()])
        }
    };
    for object in &rows {
        let cells: Vec<_> = fields.iter().map(|field| render::cell(object, field)).collect();
        let line: Vec<&str> = head.into_iter().chain(cells.iter().map(|c| c.as_ref())).collect();
        csv_line(out, &line);
    }
}

fn csv_line(out: &mut Vec<u8>, cells: &[&str]) {
    let mut writer = csv::WriterBuilder::new().from_writer(out);
    writer.write_record(cells).and_then(|()| Ok(writer.flush()?)).expect("a Vec takes every byte");
}
