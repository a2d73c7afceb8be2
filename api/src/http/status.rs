//! How things are: overview, sources, processors, models, diagnostics, health.
//!
//! With an authorizer, to look is Describe on the cluster and to command a source is Alter on it.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use odradek_broker::acl::Operation;
use odradek_broker::client::Principal;
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;
use crate::operations::models as model_reports;
use crate::services::{Overview, SourceVerb};

/// Refuses a caller whom access rules deny this on the cluster.
async fn may(shared: &Shared, principal: &Principal, operation: Operation) -> Result<(), Problem> {
    Ok(shared.services.admin(principal).may_on_cluster(operation).await?)
}

pub async fn overview(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Overview>, Problem> {
    may(&shared, &principal, Operation::Describe).await?;
    Ok(Json(shared.services.overview()))
}

pub async fn sources(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    may(&shared, &principal, Operation::Describe).await?;
    Ok(Json(json!({ "sources": shared.services.sources() })))
}

pub async fn command(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path((source, verb)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    may(&shared, &principal, Operation::Alter).await?;
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

pub async fn processors(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    may(&shared, &principal, Operation::Describe).await?;
    Ok(Json(json!({ "processors": shared.services.processors() })))
}

pub async fn models(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let client = shared.services.client(&principal);
    let reports = model_reports::list(client, &shared.services.model_topics()).await?;
    Ok(Json(json!({ "models": reports })))
}

pub async fn connections(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    may(&shared, &principal, Operation::Describe).await?;
    Ok(Json(json!({ "connections": shared.services.connections() })))
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
