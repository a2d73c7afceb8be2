//! The HTTP interface: parse, call an operation, format. No decisions of its own.
//!
//! Everything but the two health checks needs a caller (see [`auth`]). Answers are compressed with
//! gzip or zstd if the client accepts it, except live streams, whose lines must leave at once.

pub mod acls;
pub mod auth;
pub mod body;
pub mod diagnostics;
pub mod drafts;
pub mod get_kafka_data;
pub mod limits;
pub mod metrics;
pub mod problem;
pub mod query;
pub mod records;
pub mod serve;
pub mod status;
pub mod stream;
pub mod topics;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{delete, get, post};
use tokio::sync::watch;
use tower_http::compression::CompressionLayer;

use crate::console;
use crate::services::Services;
use problem::Problem;

/// What every handler may need. Clones are handles of the same.
#[derive(Clone)]
pub struct Shared {
    pub services: Arc<dyn Services>,
    pub limits: Arc<limits::Limits>,
    pub remembered: Arc<auth::Remembered>,
    pub counters: Arc<metrics::Counters>,
    /// True once the server is asked to stop: streams end then.
    pub stopping: watch::Receiver<bool>,
}

impl Shared {
    pub fn new(services: Arc<dyn Services>, stopping: watch::Receiver<bool>) -> Self {
        Self {
            limits: Arc::new(limits::Limits::new(services.http_budgets())),
            services,
            remembered: Arc::default(),
            counters: Arc::new(metrics::Counters::new()),
            stopping,
        }
    }
}

pub fn router(shared: Shared) -> Router {
    let compressed = Router::new()
        .route("/api/v1/topics", get(topics::list).post(topics::create))
        .route("/api/v1/topics/{topic}", get(topics::describe).delete(topics::remove))
        .route("/api/v1/topics/{topic}/records", get(records::read).post(records::write))
        .route("/api/v1/groups", get(topics::groups))
        .route("/api/v1/groups/{group}", delete(topics::remove_group))
        .route("/api/v1/users", get(topics::users))
        .route("/api/v1/users/{user}", axum::routing::put(topics::set_user))
        .route("/api/v1/users/{user}", delete(topics::remove_user))
        .route("/api/v1/acls", get(acls::list).post(acls::add).delete(acls::remove))
        .route("/api/v1/sources", get(status::sources))
        .route("/api/v1/sources/{source}/{verb}", post(status::command))
        .route("/api/v1/processors", get(status::processors))
        .route("/api/v1/models", get(status::models))
        .route("/api/v1/overview", get(status::overview))
        .route("/api/v1/diagnostics", get(diagnostics::index))
        .route("/api/v1/diagnostics/connections", get(diagnostics::connections))
        .route("/api/v1/diagnostics/catalogue", get(diagnostics::catalogue))
        .route("/api/v1/diagnostics/catalogue/{id}", get(diagnostics::diagnosis))
        .route("/api/v1/GetKafkaData/stream", get(get_kafka_data::all))
        .route("/api/v1/GetKafkaData/{from}/{to}", get(get_kafka_data::range))
        .route("/metrics", get(metrics::scrape))
        .layer(CompressionLayer::new());
    let live = Router::new()
        .route("/api/v1/topics/{topic}/stream", get(stream::read))
        // Embedded files bring their own compressed form and their own ETag.
        .fallback(console::file);
    compressed
        .merge(live)
        .layer(from_fn_with_state(shared.clone(), auth::authenticate))
        .route("/healthz", get(status::healthy))
        .route("/readyz", get(status::ready))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take that method")
        })
        .layer(DefaultBodyLimit::max(limits::BODY_BYTES_MAX))
        .layer(from_fn_with_state(shared.clone(), metrics::count))
        .layer(from_fn(console::security_headers))
        .with_state(shared)
}

pub fn not_found(uri: &Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {}", uri.path()))
        .hint("the interface is under /api/v1/, the console at /")
}

/// The one clock of this interface, epoch milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
