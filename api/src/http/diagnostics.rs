//! What is wrong, what went wrong, and what each diagnosis means.
//!
//! With an authorizer, to look is Describe on the cluster; the catalogue is the same for everybody.

use axum::Json;
use axum::extract::{Path, State};
use odradek_broker::diagnose::Diagnosis;
use serde_json::{Map, Value, json};

use super::Shared;
use super::auth::MayDescribe;
use super::problem::Problem;
use crate::operations::diagnoses;

/// Problems of now, how often each diagnosis was made since the start, and where the rest is.
pub async fn index(_: MayDescribe, State(shared): State<Shared>) -> Json<Value> {
    let overview = shared.services.overview();
    let made = shared.services.diagnoses().into_iter().filter(|(_, count)| *count > 0);
    let counts: Map<String, Value> =
        made.map(|(id, count)| (id.to_owned(), count.into())).collect();
    Json(json!({
        "problems": overview.problems,
        "counts": counts,
        "uptime_s": overview.uptime_s,
        "links": {
            "connections": "/api/v1/diagnostics/connections",
            "catalogue": "/api/v1/diagnostics/catalogue",
        },
    }))
}

/// Odd and failed connections.
pub async fn connections(_: MayDescribe, State(shared): State<Shared>) -> Json<Value> {
    Json(json!({ "connections": shared.services.connections() }))
}

pub async fn catalogue() -> Json<Value> {
    let all: Vec<&Diagnosis> = diagnoses::list().collect();
    Json(json!({ "catalogue": all }))
}

pub async fn diagnosis(Path(id): Path<String>) -> Result<Json<&'static Diagnosis>, Problem> {
    Ok(Json(diagnoses::find(&id)?))
}
