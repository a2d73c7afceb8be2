//! Access rules, with the same authorisation as on the Kafka port: to look is Describe on the
//! cluster, to change is Alter on it.

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use odradek_broker::client::Principal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::problem::Problem;
use crate::operations::acls::{self, Acl, AclQuery};

const FIELDS: &str = "the fields are resource_type, resource_name, pattern_type, principal, host, \
                      operation and permission";

type Asked = Result<Query<AclQuery>, QueryRejection>;

pub async fn list(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    query: Asked,
) -> Result<Json<Value>, Problem> {
    let acls = acls::list(&*shared.services.admin(&principal), &asked(query)?).await?;
    Ok(Json(json!({ "acls": acls })))
}

/// One rule, or several under `acls`.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Added {
    Several { acls: Vec<Acl> },
    One(Acl),
}

pub async fn add(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<Added>, JsonRejection>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let Json(added) = body.map_err(|e| {
        Problem::new(e.status(), e.body_text()).hint(
            "send {\"resource_type\": \"TOPIC\", \"resource_name\": \"stocks\", \
             \"principal\": \"User:bob\", \"operation\": \"READ\"}, or several as \
             {\"acls\": […]}, as application/json",
        )
    })?;
    let wanted = match added {
        Added::Several { acls } => acls,
        Added::One(acl) => vec![acl],
    };
    let added = acls::add(&*shared.services.admin(&principal), &wanted).await?;
    Ok((StatusCode::CREATED, Json(json!({ "acls": added }))))
}

/// Answers with the rules that were deleted.
pub async fn remove(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    query: Asked,
) -> Result<Json<Value>, Problem> {
    let acls = acls::delete(&*shared.services.admin(&principal), &asked(query)?).await?;
    Ok(Json(json!({ "acls": acls })))
}

fn asked(query: Asked) -> Result<AclQuery, Problem> {
    let Query(query) = query.map_err(|e| Problem::bad_request(e.body_text()).hint(FIELDS))?;
    Ok(query)
}
