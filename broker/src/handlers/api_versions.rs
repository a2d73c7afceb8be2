//! ApiVersions (18), versions 0 to 4.
//!
//! - Lists every row of the table in `dispatch`, and nothing else.
//! - A version that is not known is answered in the shape of version 0 with error 35 and the range
//!   of this API, so that the client can try again lower.
//! - The reply never has a flexible header (the client does not know yet what we speak).
//! - v3 (KIP-511): client software name and version, kept for logs; a malformed one is refused.
//! - v3 (KIP-584): features. Clients change what they do by the finalized ones: with
//!   `transaction.version` 2 (KIP-890) producers do without AddPartitionsToTxn. A feature whose
//!   oldest version is 0 is among the supported ones from v4 on, as older clients refuse it.
//!
//! Left out: `metadata.version` (there is no KRaft to agree on one).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use kafka_protocol::messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

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
    if context.version >= 3 {
        let supported = FEATURES.iter().filter(|one| context.version >= 4 || one.oldest > 0);
        response.supported_features = supported.map(Feature::supported).collect();
        response.finalized_features = FEATURES.iter().map(Feature::finalized).collect();
        response.finalized_features_epoch = FEATURES_EPOCH;
    }
    Ok(response)
}

/// A capability of the cluster as a whole (KIP-584).
struct Feature {
    name: &'static str,
    oldest: i16,
    newest: i16,
    /// What holds here.
    finalized: i16,
}

/// By name; with Kafka 4.1's ranges.
const FEATURES: &[Feature] = &[
    Feature { name: "group.version", oldest: 0, newest: 1, finalized: 1 },
    Feature { name: "share.version", oldest: 0, newest: 1, finalized: 1 },
    Feature { name: "transaction.version", oldest: 0, newest: 2, finalized: 2 },
];

/// They never change while a broker runs; a client keeps those with the largest epoch.
const FEATURES_EPOCH: i64 = 0;

impl Feature {
    fn supported(&self) -> SupportedFeatureKey {
        SupportedFeatureKey::default()
            .with_name(StrBytes::from_static_str(self.name))
            .with_min_version(self.oldest)
            .with_max_version(self.newest)
    }

    fn finalized(&self) -> FinalizedFeatureKey {
        FinalizedFeatureKey::default()
            .with_name(StrBytes::from_static_str(self.name))
            .with_min_version_level(self.finalized)
            .with_max_version_level(self.finalized)
    }
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
