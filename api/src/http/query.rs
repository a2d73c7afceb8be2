//! The query string and the `Accept` header of a range, as typed values.

use axum::http::{HeaderMap, StatusCode, header};
use odradek_broker::client::StoredRecord;
use serde::Deserialize;

use super::problem::Problem;
use crate::operations::cursor::{Cursor, Order};
use crate::operations::filter::Filter;
use crate::operations::instant;
use crate::operations::range::{PAGE_RECORDS_MAX, Range};
use crate::operations::{Failure, Outcome};

/// More fields than this in one request are refused.
const FIELDS_MAX: usize = 256;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RangeQuery {
    pub from: Option<String>,
    pub to: Option<String>,
    pub partition: Option<i32>,
    pub key: Option<String>,
    pub fields: Option<String>,
    #[serde(rename = "where")]
    pub conditions: Option<String>,
    pub order: Option<String>,
    pub limit: Option<usize>,
    pub cursor: Option<String>,
    pub format: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    NdJson,
    Csv,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::NdJson => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

/// Of all that is accepted, the first in the client's order that we speak; `format=` overrules.
pub fn format(asked: Option<&str>, headers: &HeaderMap) -> Result<Format, Problem> {
    if let Some(name) = asked {
        return match name {
            "json" => Ok(Format::Json),
            "ndjson" => Ok(Format::NdJson),
            "csv" => Ok(Format::Csv),
            _ => Err(Problem::bad_request(format!("format {name:?} is not known"))
                .hint("format is json, ndjson or csv")),
        };
    }
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let Some(accept) = accept.filter(|accept| !accept.trim().is_empty()) else {
        return Ok(Format::Json);
    };
    let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
    for kind in kinds {
        match kind {
            "application/json" | "*/*" | "application/*" | "text/html" => return Ok(Format::Json),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                return Ok(Format::NdJson);
            }
            "text/csv" | "text/*" => return Ok(Format::Csv),
            _ => {}
        }
    }
    let detail = format!("none of the accepted types ({accept}) is served here");
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, detail)
        .hint("accept application/json, application/x-ndjson or text/csv"))
}

/// The range, and whether a time without a zone was taken as UTC.
pub fn range(topic: &str, query: &RangeQuery, format: Format, now_ms: i64) -> Outcome<Range> {
    let from = query.from.as_deref().map(|text| instant::parse(text, now_ms)).transpose()?;
    let to = query.to.as_deref().map(|text| instant::parse(text, now_ms)).transpose()?;
    let from_ms = from.map_or(i64::MIN, |from| from.ms);
    let to_ms = to.map_or(i64::MAX, |to| to.ms);
    if from_ms > to_ms {
        return Err(Failure::invalid("from is later than to", "the range is [from, to)"));
    }
    Ok(Range {
        topic: topic.to_owned(),
        partition: query.partition,
        from_ms,
        to_ms,
        order: order(query.order.as_deref(), format)?,
        filter: Filter::parse(query.key.as_deref(), query.conditions.as_deref())?,
        cursor: query.cursor.as_deref().map(Cursor::decode).transpose()?,
        now_ms,
    })
}

/// A page is in time order unless asked otherwise; a whole range streamed is one merging pass.
fn order(asked: Option<&str>, format: Format) -> Outcome<Order> {
    match asked {
        Some("asc" | "time" | "time-asc") => Ok(Order::TimeAscending),
        Some("desc" | "time-desc") => Ok(Order::TimeDescending),
        Some("offset" | "offset-asc") => Ok(Order::Offset),
        None if format == Format::Json => Ok(Order::TimeAscending),
        None => Ok(Order::Offset),
        Some("offset-desc") => Err(Failure::invalid(
            "a log is not read backwards by offset",
            "order=desc goes backwards by time",
        )),
        Some(other) => Err(Failure::invalid(
            format!("order {other:?} is not known"),
            "order is asc or desc (by time), or offset",
        )),
    }
}

pub fn limit(asked: Option<usize>) -> Outcome<Option<usize>> {
    if asked == Some(0) {
        return Err(Failure::invalid("limit must be at least 1", "leave it out for the default"));
    }
    Ok(asked)
}

/// A JSON page is held in memory; NDJSON and CSV are not, so they have no such bound.
pub fn page_limit(asked: usize) -> Outcome<usize> {
    if asked > PAGE_RECORDS_MAX {
        return Err(Failure::invalid(
            format!("limit is at most {PAGE_RECORDS_MAX} for a JSON page"),
            "follow `next`, or accept application/x-ndjson for a whole range in one answer",
        ));
    }
    Ok(asked)
}

pub fn fields(asked: Option<&str>) -> Outcome<Option<Vec<String>>> {
    let Some(asked) = asked else { return Ok(None) };
    let fields: Vec<String> =
        asked.split(',').map(|field| field.trim().to_owned()).filter(|f| !f.is_empty()).collect();
    if fields.is_empty() || fields.len() > FIELDS_MAX {
        return Err(Failure::invalid(
            format!("fields names {} fields", fields.len()),
            format!("fields=a,b,c: at least one, at most {FIELDS_MAX} top-level fields"),
        ));
    }
    Ok(Some(fields))
}

/// One record of a range with its partition.
pub type Row = (i32, StoredRecord);
