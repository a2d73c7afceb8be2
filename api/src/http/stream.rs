//! `GET /api/v1/topics/{topic}/stream`: a topic as it grows.
//!
//! Server-sent events: `id:` is the cursor that continues after the record, `data:` the record. The
//! first thing sent is an `id:` without data, so that a client that is cut before its first record
//! also comes back to the right place. After ten quiet seconds a comment is sent. With `Accept:
//! application/x-ndjson` each line is a record with its `cursor`, and a quiet spell gives an empty
//! line. Continue with the header `Last-Event-ID` or with `?cursor=`.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use odradek_broker::client::Principal;
use serde::Deserialize;
use tokio::sync::watch;

use super::limits::{Answers, Piece, body_of};
use super::problem::Problem;
use super::{Shared, now_ms, query};
use crate::operations::cursor::Cursor;
use crate::operations::filter::Filter;
use crate::operations::follow::{self, Follow, Followed, Start};
use crate::operations::{Failure, Outcome, instant, render};

/// Shorter than the idle time of common proxies.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Records that are in memory already are sent together up to this much.
const PIECE_BYTES: usize = 64 * 1024;
/// What an `EventSource` waits before it comes back.
const RETRY_MS: u32 = 2000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamQuery {
    from: Option<String>,
    partition: Option<i32>,
    key: Option<String>,
    fields: Option<String>,
    #[serde(rename = "where")]
    conditions: Option<String>,
    cursor: Option<String>,
}

pub async fn read(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(topic): Path<String>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|e| {
        Problem::bad_request(e.body_text())
            .hint("known: from, partition, key, fields, where, cursor")
    })?;
    let events = wants_events(&headers)?;
    let start = start(&query, &headers)?;
    let filter = Filter::parse(query.key.as_deref(), query.conditions.as_deref())?;
    let fields = query::fields(query.fields.as_deref())?;
    let client = shared.services.client(&principal);
    let follow = follow::open(client, &topic, query.partition, start, filter).await?;
    let stopping = shared.stopping.clone();
    let (answers, stage) = (shared.limits.answers(principal.host()), Stage::Opening);
    let feed = Feed { follow, events, fields, answers, stopping, stage };
    let mut response = Response::new(feed.into_body());
    let headers = response.headers_mut();
    let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // nginx would otherwise hold lines back until a buffer is full.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn wants_events(headers: &HeaderMap) -> Result<bool, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let kinds = accept.unwrap_or("*/*").split(',');
    for kind in kinds.map(|kind| kind.split(';').next().unwrap_or_default().trim()) {
        match kind {
            "text/event-stream" | "*/*" | "text/*" | "text/html" | "" => return Ok(true),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                return Ok(false);
            }
            _ => {}
        }
    }
    Err(Problem::new(StatusCode::NOT_ACCEPTABLE, "a stream is not served in that type")
        .hint("accept text/event-stream or application/x-ndjson"))
}

/// `Last-Event-ID` goes before `cursor=`, that before `from=`: a browser that comes back sends the
/// address it was opened with once more.
fn start(query: &StreamQuery, headers: &HeaderMap) -> Outcome<Start> {
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    if let Some(cursor) = last.filter(|id| !id.is_empty()).or(query.cursor.as_deref()) {
        return Ok(Start::Cursor(Cursor::decode(cursor)?));
    }
    match query.from.as_deref() {
        None | Some("latest") => Ok(Start::Latest),
        Some("earliest" | "beginning") => Ok(Start::Earliest),
        Some(time) => match instant::parse(time, now_ms()) {
            Ok(instant) => Ok(Start::Time(instant.ms)),
            Err(_) => Err(Failure::invalid(
                format!("from={time} is not a place to begin at"),
                format!("from is beginning, latest, or a time: {}", instant::HINT),
            )),
        },
    }
}

enum Stage {
    Opening,
    Running,
    /// The last word is said; the answer ends.
    Ended,
}

struct Feed {
    follow: Follow,
    events: bool,
    fields: Option<Vec<String>>,
    answers: Answers,
    stopping: watch::Receiver<bool>,
    stage: Stage,
}

impl Feed {
    fn into_body(self) -> Body {
        body_of(futures::stream::try_unfold(self, |mut feed| async move {
            let piece = feed.piece().await?;
            Ok::<_, Failure>(piece.map(|piece| (piece, feed)))
        }))
    }

    /// What to send next; made only when the socket can take it.
    async fn piece(&mut self) -> Outcome<Option<Bytes>> {
        match self.stage {
            Stage::Opening => {
                self.stage = Stage::Running;
                if self.events {
                    let id = self.follow.cursor();
                    return Ok(Some(Bytes::from(format!("retry: {RETRY_MS}\nid: {id}\n\n"))));
                }
            }
            Stage::Running => {}
            Stage::Ended => return Ok(None),
        }
        let next = tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => return Ok(None),
            next = self.follow.next(HEARTBEAT) => next,
        };
        let mut piece = self.answers.piece();
        let made = match next {
            Ok(Some(followed)) => self.records(&mut piece, followed).await,
            Ok(None) if self.events => {
                piece.bytes = format!(": quiet\nid: {}\n\n", self.follow.cursor()).into_bytes();
                Ok(())
            }
            Ok(None) => {
                piece.bytes.push(b'\n');
                Ok(())
            }
            Err(failure) => Err(failure),
        };
        match made {
            Ok(()) => {}
            // A client that comes back with its cursor gets the same as a proper answer.
            Err(failure) if self.events => {
                self.stage = Stage::Ended;
                let problem = Problem::from(failure).to_json();
                let last = format!("event: problem\ndata: {problem}\n\n");
                piece.bytes.extend_from_slice(last.as_bytes());
            }
            Err(failure) => return Err(failure),
        }
        Ok(Some(piece.into_bytes()))
    }

    async fn records(&mut self, piece: &mut Piece, first: Followed) -> Outcome<()> {
        let mut next = Some(first);
        while let Some(followed) = next {
            piece.make_room(&[&followed.record]).await?;
            self.record(&mut piece.bytes, &followed);
            next = if piece.bytes.len() < PIECE_BYTES { self.follow.buffered() } else { None };
        }
        Ok(())
    }

    fn record(&self, out: &mut Vec<u8>, followed: &Followed) {
        if self.events {
            out.extend_from_slice(format!("id: {}\ndata: ", followed.cursor).as_bytes());
        }
        render::record(out, followed.partition, &followed.record, self.fields.as_deref());
        if self.events {
            return out.extend_from_slice(b"\n\n");
        }
        // The record's closing brace gives way to one more field.
        out.pop();
        out.extend_from_slice(format!(",\"cursor\":\"{}\"}}\n", followed.cursor).as_bytes());
    }
}
