//! The two addresses of the .NET service that this replaces.
//!
//! `GET /api/v1/GetKafkaData/{from}/{to}` answers with a JSON array of the message values whose
//! timestamp is in `[from, to)`, in time order; `GET /api/v1/GetKafkaData/stream` with all that is
//! retained, in the same form. Of the old service only the paths are known, so the rest is our
//! choice: the answer is streamed, an element is the value as JSON (text as a string, other bytes
//! as `{"$base64":…}`), `stream` ends at what was there when it was asked for, and times are RFC
//! 3339, `yyyy-MM-dd HH:mm:ss` (UTC) or epoch seconds or milliseconds. `GetKafkaData.topic` in
//! `pipeline.toml` names the topic.

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use odradek_broker::client::Principal;

use super::body::{Shape, streamed};
use super::problem::Problem;
use super::records::TIMEZONE_HEADER;
use super::{Shared, now_ms};
use crate::operations::range::{self, Range};
use crate::operations::{Failure, instant};

pub async fn range(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path((from, to)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let now_ms = now_ms();
    let from_ms = instant::parse(&from, now_ms)?.ms;
    let to_ms = instant::parse(&to, now_ms)?.ms;
    if from_ms > to_ms {
        return Err(Failure::invalid("from is later than to", "the range is [from, to)").into());
    }
    answer(&shared, &principal, |all| Range { from_ms, to_ms, ..all }).await
}

pub async fn all(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Response, Problem> {
    answer(&shared, &principal, |all| all).await
}

async fn answer(
    shared: &Shared,
    principal: &Principal,
    narrow: impl FnOnce(Range) -> Range,
) -> Result<Response, Problem> {
    let topic = shared.services.get_kafka_data_topic().ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, "no topic is named for GetKafkaData")
            .hint("in pipeline.toml: [GetKafkaData] and below it topic = \"stocks\"")
    })?;
    let range = narrow(Range::all(&topic, now_ms()));
    let permit = shared.limits.reader(principal.host()).await?;
    let reader = range::open(shared.services.client(principal), range).await?;
    let answers = shared.limits.answers(principal.host());
    let body = streamed(reader, permit, answers, Shape::Values, None).await?;
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(TIMEZONE_HEADER, HeaderValue::from_static("UTC"));
    Ok(response)
}
