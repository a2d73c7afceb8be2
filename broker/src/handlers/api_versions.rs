//! ApiVersions (18), versions 0 to 4.
//!
//! - Lists every row of the table in `dispatch`, and nothing else.
//! - A version that is not known is answered in the shape of version 0 with error 35 and the range
//!   of this API, so that the client can try again lower.
//! - The reply never has a flexible header (the client does not know yet what we speak).
//! - v3 (KIP-511): client software name and version, kept for logs; a malformed one is refused.
//!
//! Left out: features (there is no KRaft metadata version to agree on).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};

use crate::dispatch::{APIS, Api, Close, PRODUCE_LISTED_FROM};
use crate::handlers::Context;
use crate::partition::lock;

pub(crate) async fn handle(
    context: &Context,
    request: ApiVersionsRequest,
) -> Result<ApiVersionsResponse, Close> {
    let mut response = ApiVersionsResponse::default();
    if context.version >= 3 {
        let (name, version) = (&request.client_software_name, &request.client_software_version);
        if !well_formed(name) || !well_formed(version) {
            return Ok(response.with_error_code(ResponseError::InvalidRequest.code()));
        }
        *lock(&context.session.software) = Some((name.to_string(), version.to_string()));
    }
    response.api_keys = APIS.iter().map(listed).collect();
    Ok(response)
}

/// The reply to a version that nobody knows.
pub(crate) fn unsupported() -> ApiVersionsResponse {
    let own = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions as i16);
    ApiVersionsResponse::default()
        .with_error_code(ResponseError::UnsupportedVersion.code())
        .with_api_keys(own.map(listed).collect())
}

fn listed(api: &Api) -> ApiVersion {
    let produce = api.key == ApiKey::Produce as i16;
    let oldest = if produce { PRODUCE_LISTED_FROM } else { api.oldest };
    ApiVersion::default()
        .with_api_key(api.key)
        .with_min_version(oldest)
        .with_max_version(api.newest)
}

/// KIP-511: letters, digits, `-` and `.`, beginning and ending with a letter or digit.
fn well_formed(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().last())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
}
