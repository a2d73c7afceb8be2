//! How things are: overview, sources, processors, models, health.
//!
//! With an authorizer, to look is Describe on the cluster and to command a source is Alter on it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use odradek_broker::client::Principal;
use serde_json::{Value, json};

use super::Shared;
use super::auth::{MayAlter, MayDescribe};
use super::problem::Problem;
use crate::operations::models as model_reports;
use crate::services::{Overview, SourceVerb};

pub async fn overview(_: MayDescribe, State(shared): State<Shared>) -> Json<Overview> {
    Json(shared.services.overview())
}

pub async fn sources(_: MayDescribe, State(shared): State<Shared>) -> Json<Value> {
    Json(json!({ "sources": shared.services.sources() }))
}

pub async fn command(
    _: MayAlter,
    State(shared): State<Shared>,
    Path((source, verb)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let verb = match verb.as_str() {
        "pause" => SourceVerb::Pause,
        "resume" => SourceVerb::Resume,
        "restart" => SourceVerb::Restart,
        other => {
            let detail = format!("{other:?} is nothing a source can be told");
            let problem = Problem::new(StatusCode::NOT_FOUND, detail);
            return Err(problem.hint("pause, resume or restart"));
        }
    };
    shared.services.command(&source, verb).await?;
    Ok(StatusCode::ACCEPTED)
}

pub async fn processors(_: MayDescribe, State(shared): State<Shared>) -> Json<Value> {
    Json(json!({ "processors": shared.services.processors() }))
}

pub async fn models(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let client = shared.services.client(&principal);
    let reports = model_reports::list(client, &shared.services.model_topics()).await?;
    Ok(Json(json!({ "models": reports })))
}

/// The process answers.
pub async fn healthy() -> &'static str {
    "ok\n"
}

/// Records can be taken now.
pub async fn ready(State(shared): State<Shared>) -> Result<&'static str, Problem> {
    if *shared.stopping.borrow() {
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping"));
    }
    match shared.services.unready() {
        None => Ok("ready\n"),
        Some(why) => Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, why)),
    }
}
