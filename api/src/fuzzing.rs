//! Doors for the fuzz targets (`tests/fuzz`): what takes apart the bytes of an HTTP client or of
//! `pipeline.toml`. Nothing in the product calls this. Each door does what a handler does up to the
//! operation, and returns in plain types what a target can hold against the input.

use axum::extract::Query;
use axum::http::{HeaderMap, Uri, header};
use bytes::Bytes;
use odradek_broker::client::StoredRecord;

use crate::http::drafts::{self, DraftQuery};
use crate::http::query::{self, RangeQuery};
use crate::http::{auth, limits};
use crate::operations::write::Draft;
use crate::operations::{instant, render};
use crate::pipeline;

pub const RECORDS_MAX: usize = limits::RECORDS_MAX;
pub const RECORDS_BYTES_MAX: usize = limits::RECORDS_BYTES_MAX;

/// Lines of the problems that `pipeline.toml` has; none: it is valid.
pub fn pipeline_problems(text: &str) -> Vec<Option<usize>> {
    match pipeline::parse("pipeline.toml", text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|problem| problem.line).collect(),
    }
}

/// The query string of a range, understood.
#[derive(Debug)]
pub struct Asked {
    pub from_ms: i64,
    pub to_ms: i64,
    pub limit: Option<usize>,
    /// The cursor, written anew.
    pub cursor: Option<String>,
    /// One record with the value that was given, as JSON; empty if the filter keeps it out.
    pub rendered: Vec<u8>,
}

/// `query` is what follows the question mark; `value` a stored record's.
pub fn range(query: &str, accept: &[u8], value: &[u8], now_ms: i64) -> Option<Asked> {
    let uri = Uri::builder().path_and_query(format!("/records?{query}")).build().ok()?;
    let Query(asked) = Query::<RangeQuery>::try_from_uri(&uri).ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, accept.try_into().ok()?);
    let format = query::format(asked.format.as_deref(), &headers).ok()?;
    let range = query::range("topic", &asked, format, now_ms).ok()?;
    let fields = query::fields(asked.fields.as_deref()).ok()?;
    let limit = query::limit(asked.limit).ok()?;
    let record = StoredRecord {
        offset: 0,
        timestamp_ms: range.from_ms,
        key: range.filter.key.clone().map(Bytes::from),
        value: Some(Bytes::copy_from_slice(value)),
        headers: vec![(Bytes::copy_from_slice(value), None)],
    };
    let mut rendered = Vec::new();
    if range.filter.matches(&record) {
        render::record(&mut rendered, 0, &record, fields.as_deref());
    }
    let cursor = range.cursor.map(|cursor| cursor.encode());
    Some(Asked { from_ms: range.from_ms, to_ms: range.to_ms, limit, cursor, rendered })
}

/// Epoch milliseconds of a time as people write it.
pub fn time(text: &str, now_ms: i64) -> Option<i64> {
    instant::parse(text, now_ms).ok().map(|instant| instant.ms)
}

pub fn rfc3339(ms: i64) -> Option<String> {
    instant::rfc3339(ms)
}

/// A record's key and value, or why it is none.
pub type Drafted = Result<(Option<Bytes>, Option<Bytes>), String>;

/// The records of the body of a `POST`; `None`: the body as a whole was refused.
pub fn drafts(content_type: &str, query: &str, body: &[u8], now_ms: i64) -> Option<Vec<Drafted>> {
    let uri = Uri::builder().path_and_query(format!("/records?{query}")).build().ok()?;
    let Query(asked) = Query::<DraftQuery>::try_from_uri(&uri).ok()?;
    let drafts = drafts::parse(Some(content_type), body, &asked, now_ms).ok()?;
    let plain = |draft: Draft| draft.map(|(_, record)| (record.key, record.value));
    Some(drafts.into_iter().map(plain).collect())
}

/// User and password of an Authorization header.
pub fn basic(header: &str) -> Option<(String, String)> {
    auth::basic(header)
}
