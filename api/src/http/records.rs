//! `GET` and `POST /api/v1/topics/{topic}/records`.

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::{Extension, Json};
use odradek_broker::client::Principal;
use serde_json::{Value, json};

use super::body::{Shape, streamed};
use super::drafts::{self, DraftQuery};
use super::limits::Answers;
use super::problem::Problem;
use super::query::{self, Format, RangeQuery};
use super::{Shared, now_ms};
use crate::operations::range::{self, PAGE_RECORDS_DEFAULT, Reader};
use crate::operations::{render, write as write_records};

/// What the reply says about times: they are UTC, whoever asked.
pub const TIMEZONE_HEADER: &str = "odradek-timezone";

pub async fn read(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(topic): Path<String>,
    query: Result<Query<RangeQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|e| wrong_query(&e.body_text()))?;
    let format = query::format(query.format.as_deref(), &headers)?;
    let range = query::range(&topic, &query, format, now_ms())?;
    let fields = query::fields(query.fields.as_deref())?;
    let limit = query::limit(query.limit)?;
    let permit = shared.limits.reader(principal.host()).await?;
    let answers = shared.limits.answers(principal.host());
    let client = shared.services.client(&principal);
    let body = if format == Format::Json {
        let limit = query::page_limit(limit.unwrap_or(PAGE_RECORDS_DEFAULT))?;
        page(range::open(client, range).await?, limit, fields.as_deref(), &answers).await?
    } else {
        if range.cursor.is_some() {
            let detail = "a cursor continues a JSON page; NDJSON and CSV hold the whole range";
            return Err(Problem::bad_request(detail).hint("leave the cursor out, or accept JSON"));
        }
        let reader = range::open(client, range).await?;
        streamed(reader, permit, answers, Shape::new(format, fields), limit).await?
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
    headers.insert(TIMEZONE_HEADER, HeaderValue::from_static("UTC"));
    Ok(response)
}

pub fn wrong_query(text: &str) -> Problem {
    Problem::bad_request(text)
        .hint("known: from, to, partition, key, fields, where, order, limit, cursor, format")
}

async fn page(
    reader: Reader,
    limit: usize,
    fields: Option<&[String]>,
    answers: &Answers,
) -> Result<Body, Problem> {
    let page = reader.page(limit).await?;
    let mut piece = answers.piece();
    let records: Vec<_> = page.records.iter().map(|(_, record)| record).collect();
    piece.make_room(&records).await?;
    let out = &mut piece.bytes;
    out.extend_from_slice(b"{\"records\":[");
    for (index, (partition, record)) in page.records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.push(b'\n');
        render::record(out, *partition, record, fields);
    }
    let next = page.next.map(|cursor| cursor.encode());
    out.extend_from_slice(format!("],\n\"next\":{},", json!(next)).as_bytes());
    out.extend_from_slice(b"\"timezone\":\"UTC\"}\n");
    Ok(Body::from(piece.into_bytes()))
}

pub async fn write(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(topic): Path<String>,
    query: Result<Query<DraftQuery>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Query(query) = query.map_err(|e| {
        Problem::bad_request(e.body_text()).hint("known: key, timestamp, partition, envelope")
    })?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let client = shared.services.client(&principal);
    let write = async |body: Bytes| {
        let drafts = drafts::parse(kind, &body, &query, now_ms())?;
        Ok(write_records::write(&*client, &topic, drafts).await?)
    };
    let written = shared.limits.with_body(principal.host(), &headers, body, write).await?;
    let rejected = written.iter().filter(|result| result.is_err()).count();
    let accepted = written.len() - rejected;
    let results: Vec<Value> = written
        .into_iter()
        .map(|result| match result {
            Ok(placed) => json!({"partition": placed.partition, "offset": placed.offset}),
            Err(why) => json!({"error": why}),
        })
        .collect();
    // Some of them in, some not, is a success with a tale to tell; none in is not.
    let none_in = accepted == 0 && rejected > 0;
    let status = if none_in { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::OK };
    let answer = json!({"accepted": accepted, "rejected": rejected, "results": results});
    Ok((status, Json(answer)))
}
