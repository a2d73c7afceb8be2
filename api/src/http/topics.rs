//! Topics, groups and users.

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use odradek_broker::client::{NewTopic, Principal, TopicInfo};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::Shared;
use super::problem::Problem;
use crate::operations::{groups as group_operations, topics, users as user_operations};

pub async fn list(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let topics = topics::list(&*shared.services.client(&principal)).await?;
    Ok(Json(json!({ "topics": topics })))
}

pub async fn describe(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(topic): Path<String>,
) -> Result<Json<TopicInfo>, Problem> {
    Ok(Json(topics::find(&*shared.services.client(&principal), &topic).await?))
}

/// `configs` as an object: `{"retention.ms": "-1"}`; numbers and booleans are taken as text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTopic {
    name: String,
    partitions: Option<i32>,
    #[serde(default)]
    configs: BTreeMap<String, Value>,
}

pub async fn create(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    body: Result<Json<CreateTopic>, JsonRejection>,
) -> Result<(StatusCode, Json<TopicInfo>), Problem> {
    let Json(asked) = body.map_err(|e| {
        Problem::new(e.status(), e.body_text()).hint(
            r#"send {"name": "stocks", "partitions": 3, "configs": {"retention.ms": -1}} as JSON"#,
        )
    })?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let topic = NewTopic {
        name: asked.name,
        partitions: asked.partitions,
        configs: asked.configs.into_iter().map(|(key, value)| (key, text(value))).collect(),
    };
    let created = topics::create(&*shared.services.admin(&principal), topic).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

pub async fn remove(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(topic): Path<String>,
) -> Result<StatusCode, Problem> {
    topics::delete(&*shared.services.admin(&principal), &topic).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn groups(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let groups = group_operations::list(&*shared.services.admin(&principal)).await?;
    Ok(Json(json!({ "groups": groups })))
}

pub async fn remove_group(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(group): Path<String>,
) -> Result<StatusCode, Problem> {
    group_operations::delete(&*shared.services.admin(&principal), &group).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn users(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
) -> Result<Json<Value>, Problem> {
    let users = user_operations::list(&*shared.services.admin(&principal)).await?;
    Ok(Json(json!({ "users": users })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetUser {
    password: String,
    /// True: the user must be new. False: it must be there. Absent: either.
    create: Option<bool>,
}

pub async fn set_user(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(user): Path<String>,
    body: Result<Json<SetUser>, JsonRejection>,
) -> Result<StatusCode, Problem> {
    let Json(asked) = body.map_err(|e| {
        Problem::new(e.status(), "the body is not {\"password\": …} as application/json")
    })?;
    let admin = shared.services.admin(&principal);
    user_operations::set(&*admin, &user, &asked.password, asked.create).await?;
    shared.remembered.forget();
    Ok(StatusCode::NO_CONTENT)
}

pub async fn remove_user(
    State(shared): State<Shared>,
    Extension(principal): Extension<Principal>,
    Path(user): Path<String>,
) -> Result<StatusCode, Problem> {
    user_operations::delete(&*shared.services.admin(&principal), &user).await?;
    shared.remembered.forget();
    Ok(StatusCode::NO_CONTENT)
}
