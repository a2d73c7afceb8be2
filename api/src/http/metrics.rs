//! `GET /metrics`: everything that is counted, in Prometheus' text form.
//!
//! The names and help texts of kafka_exporter come first, made at each scrape from the seam, so
//! that dashboards for it work unchanged; then what the broker, ingest and analytics count, this
//! interface's own requests, and the process.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use odradek_broker::client::Principal;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder,
};

use super::Shared;
use super::problem::Problem;
use crate::exporter;
use crate::process;

/// What this interface counts of itself. Labels are bounded: routes are templates.
pub struct Counters {
    registry: Registry,
    requests: IntCounterVec,
    seconds: HistogramVec,
}

impl Counters {
    pub fn new() -> Self {
        let requests = Opts::new("odradek_http_requests_total", "HTTP requests answered.");
        let seconds =
            HistogramOpts::new("odradek_http_request_seconds", "Time until an HTTP answer began.");
        let build = Opts::new("odradek_build_info", "Version of this program; the value is 1.");
        let counters = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(requests, &["route", "method", "status"])
                .expect("constant names are valid"),
            seconds: HistogramVec::new(seconds, &["route"]).expect("constant names are valid"),
        };
        let info = IntGaugeVec::new(build, &["version"]).expect("constant names are valid");
        info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let registered = [
            counters.registry.register(Box::new(counters.requests.clone())),
            counters.registry.register(Box::new(counters.seconds.clone())),
            counters.registry.register(Box::new(info)),
        ];
        assert!(registered.iter().all(Result::is_ok), "three different names");
        counters
    }
}

pub async fn count(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let route = match request.extensions().get::<MatchedPath>() {
        Some(path) => path.as_str().to_owned(),
        None => "console".to_owned(),
    };
    let method = match request.method().as_str() {
        known @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD" | "OPTIONS" | "PATCH") => {
            known.to_owned()
        }
        _ => "other".to_owned(),
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status();
    let counters = &shared.counters;
    counters.requests.with_label_values(&[route.as_str(), &method, status.as_str()]).inc();
    counters.seconds.with_label_values(&[&route]).observe(began.elapsed().as_secs_f64());
    response
}

pub async fn scrape(State(shared): State<Shared>) -> Result<Response, Problem> {
    let services = &shared.services;
    let internal = Principal::internal();
    let (client, admin) = (services.client(&internal), services.admin(&internal));
    let mut families = exporter::families(services.node(), &*client, &*admin).await?;
    for registry in services.metrics() {
        families.extend(registry.gather());
    }
    families.extend(shared.counters.registry.gather());
    families.extend(process::families());
    let mut text = Vec::new();
    if let Err(error) = TextEncoder::new().encode(&families, &mut text) {
        tracing::error!(%error, "metrics could not be written");
    }
    Ok(([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response())
}
