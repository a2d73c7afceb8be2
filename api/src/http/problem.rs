//! Errors as RFC 9457 problems: what happened, which Kafka error it is, and what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use odradek_broker::client::ClientError;
use odradek_broker::diagnose;
use serde::Serialize;

use crate::operations::Failure;

#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kafka_error: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnosis: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Problem {
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.into(),
            kafka_error: None,
            diagnosis: None,
            hint: None,
        }
    }

    /// An id of the catalogue: `odradek explain ID` and the console tell the whole of it.
    pub fn diagnosis(self, id: &'static str) -> Self {
        Self { diagnosis: Some(id), ..self }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    fn kafka(self, error: &'static str) -> Self {
        Self { kafka_error: Some(error), ..self }
    }

    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// As it stands in a server-sent event, once the status line is gone.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a problem is plain text and numbers")
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Invalid { detail, hint } => Self::bad_request(detail).hint(hint),
            Failure::NotFound(detail) => Self::new(StatusCode::NOT_FOUND, detail),
            Failure::Unknown { detail, hint } => {
                Self::new(StatusCode::NOT_FOUND, detail).hint(hint)
            }
            Failure::Gone(detail) => Self::new(StatusCode::GONE, detail).hint(
                "start again without the cursor; what it pointed at is no longer there to be read",
            ),
            Failure::Client(error) => error.into(),
        }
    }
}

impl From<ClientError> for Problem {
    fn from(error: ClientError) -> Self {
        let detail = error.to_string();
        match error {
            ClientError::UnknownTopicOrPartition(_) => Self::new(StatusCode::NOT_FOUND, detail)
                .kafka("UNKNOWN_TOPIC_OR_PARTITION")
                .hint("GET /api/v1/topics lists the topics there are"),
            ClientError::Refused(_) => Self::bad_request(detail),
            ClientError::NotAuthorised { resource, .. } => Self::new(StatusCode::FORBIDDEN, detail)
                .kafka(authorization_failed(&resource))
                .diagnosis(diagnose::NOT_AUTHORISED)
                .hint("sign in as a user with that right, or let an administrator grant it"),
            ClientError::OffsetOutOfRange { .. } => Self::new(StatusCode::GONE, detail)
                .kafka("OFFSET_OUT_OF_RANGE")
                .hint("retention removed records while they were being read; start again"),
            ClientError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
                .kafka("KAFKA_STORAGE_ERROR")
                .diagnosis(diagnose::STORAGE_PROBLEM)
                .hint("try again in a few seconds; the overview page names the cause"),
        }
    }
}

/// Kafka's error for the kind of resource, which its name in words begins with.
fn authorization_failed(resource: &str) -> &'static str {
    match resource.split(' ').next() {
        Some("group") => "GROUP_AUTHORIZATION_FAILED",
        Some("the") => "CLUSTER_AUTHORIZATION_FAILED",
        _ => "TOPIC_AUTHORIZATION_FAILED",
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let kind = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (status, kind, self.to_json()).into_response();
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"odradek\", charset=\"UTF-8\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_names_its_diagnosis_and_kafkas_error_for_the_kind_of_resource() {
        for (resource, error) in [
            ("topic \"t\"", "TOPIC_AUTHORIZATION_FAILED"),
            ("group \"g\"", "GROUP_AUTHORIZATION_FAILED"),
            ("the cluster", "CLUSTER_AUTHORIZATION_FAILED"),
        ] {
            let denied = ClientError::NotAuthorised {
                principal: "User:alice".to_owned(),
                operation: "Read",
                resource: resource.to_owned(),
            };
            let problem: serde_json::Value =
                serde_json::from_str(&Problem::from(denied).to_json()).expect("JSON");
            assert_eq!(problem["kafka_error"], error);
            assert_eq!(problem["diagnosis"], "not-authorised");
        }
    }

    #[test]
    fn a_client_error_becomes_a_problem_with_kafkas_name_for_it() {
        let error = ClientError::UnknownTopicOrPartition("stoks".to_owned());
        let problem = Problem::from(error).to_json();
        let problem: serde_json::Value = serde_json::from_str(&problem).expect("JSON");
        assert_eq!(problem["type"], "about:blank");
        assert_eq!(problem["title"], "Not Found");
        assert_eq!(problem["status"], 404);
        assert_eq!(problem["kafka_error"], "UNKNOWN_TOPIC_OR_PARTITION");
        assert!(problem["detail"].as_str().expect("text").contains("stoks"));
    }
}
