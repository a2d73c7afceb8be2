//! DescribeUserScramCredentials (50), version 0 (KIP-554).
//!
//! - Needs Describe on the cluster. Mechanisms and iterations of each user that is named, or of all
//!   (no names, or null); never salts or keys.
//! - A user without credentials is RESOURCE_NOT_FOUND, one named twice DUPLICATE_RESOURCE. Users of
//!   the configuration file are not among them: they cannot be altered here.
//!
//! Left out: nothing.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use kafka_protocol::messages::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::auth::{Mechanism, UserRecord};
use crate::dispatch::Close;
use crate::handlers::Context;

/// Code of KIP-554, and the mechanism.
pub(crate) const CODES: [(i8, Mechanism); 2] =
    [(1, Mechanism::ScramSha256), (2, Mechanism::ScramSha512)];

pub(crate) async fn handle(
    context: &Context,
    request: DescribeUserScramCredentialsRequest,
) -> Result<DescribeUserScramCredentialsResponse, Close> {
    let response = DescribeUserScramCredentialsResponse::default();
    if let Err(error) = context.allowed_on_cluster(Operation::Describe) {
        return Ok(response.with_error_code(error.code()));
    }
    let users = &context.core.users;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for user in request.users.unwrap_or_default() {
        *times.entry(user.name.to_string()).or_default() += 1;
    }
    if times.is_empty() {
        times.extend(users.stored_names().into_iter().map(|name| (name, 1)));
    }
    let results = times.into_iter().map(|(name, times)| {
        let result = DescribeUserScramCredentialsResult::default();
        let refused = |error: ResponseError, why: String| {
            let result = result.clone().with_error_code(error.code());
            result.with_error_message(Some(StrBytes::from_string(why)))
        };
        let result = match users.stored(&name) {
            _ if times > 1 => refused(
                ResponseError::DuplicateResource,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single \
                     request: {name}"
                ),
            ),
            Some(record) => result.with_credential_infos(shown(&record)),
            None => refused(
                ResponseError::ResourceNotFound,
                format!("Attempt to describe a user credential that does not exist: {name}"),
            ),
        };
        result.with_user(StrBytes::from_string(name))
    });
    Ok(response.with_results(results.collect()))
}

fn shown(record: &UserRecord) -> Vec<CredentialInfo> {
    let infos = CODES.into_iter().filter_map(|(code, mechanism)| {
        let verifier = record.verifier(mechanism.hash()?)?;
        let iterations = i32::try_from(verifier.iterations).unwrap_or(i32::MAX);
        Some(CredentialInfo::default().with_mechanism(code).with_iterations(iterations))
    });
    infos.collect()
}
