//! AlterUserScramCredentials (51), version 0 (KIP-554).
//!
//! - Needs Alter on the cluster. The client derives the salted password; the broker keeps of it
//!   what checks a login, durably before the reply. A user may log in at once, by that mechanism
//!   and by PLAIN.
//! - Iterations from 4096 to 16384, as Kafka's. A user can be named once in a request, whatever the
//!   mechanisms: else DUPLICATE_RESOURCE.
//! - Each user has its own error; what is valid becomes durable together.
//!
//! Left out: users of the configuration file are UNACCEPTABLE_CREDENTIAL: they are changed there.

use std::collections::BTreeMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::ScramCredentialUpsertion;
use kafka_protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::auth::{self, Hash, UserRecord, Verifier};
use crate::core::Core;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::handlers::describe_user_scram_credentials::CODES;
use crate::state::StateKey;
use crate::topic_changes::{Refusal, refuse, storage};

const ITERATIONS_MIN: i32 = 4_096;
const ITERATIONS_MAX: i32 = 16_384;

/// What becomes of one user's credential; `None` deletes it.
type Change = (Hash, Option<Verifier>);

pub(crate) async fn handle(
    context: &Context,
    request: AlterUserScramCredentialsRequest,
) -> Result<AlterUserScramCredentialsResponse, Close> {
    let mut users: BTreeMap<String, Result<Change, Refusal>> = BTreeMap::new();
    let deletions = request.deletions.into_iter().map(|deletion| {
        let change = match deletion.name.is_empty() {
            true => refuse(ResponseError::UnacceptableCredential, "Username must not be empty"),
            false => hash(deletion.mechanism).map(|hash| (hash, None)),
        };
        (deletion.name.to_string(), change)
    });
    let upsertions = request.upsertions.into_iter().map(|upsertion| {
        let change = verifier(&upsertion).map(|(hash, verifier)| (hash, Some(verifier)));
        (upsertion.name.to_string(), change)
    });
    for (name, change) in deletions.chain(upsertions) {
        let change = if users.contains_key(&name) {
            let why = "A user credential cannot be altered twice in the same request";
            refuse(ResponseError::DuplicateResource, why)
        } else {
            change
        };
        users.insert(name, change);
    }
    let allowed = context.allowed_on_cluster(Operation::Alter);
    let outcomes = match allowed {
        Ok(()) => alter(&context.core, users).await,
        Err(error) => {
            let denied = || Err((error, "Cluster authorization failed.".to_owned()));
            users.into_keys().map(|name| (name, denied())).collect()
        }
    };
    let results = outcomes.into_iter().map(|(name, outcome)| {
        let result = AlterUserScramCredentialsResult::default();
        let result = match outcome {
            Ok(()) => result.with_error_message(None),
            Err((error, why)) => result
                .with_error_code(error.code())
                .with_error_message(Some(StrBytes::from_string(why))),
        };
        result.with_user(StrBytes::from_string(name))
    });
    Ok(AlterUserScramCredentialsResponse::default().with_results(results.collect()))
}

fn hash(code: i8) -> Result<Hash, Refusal> {
    let known = CODES.into_iter().find(|(known, _)| *known == code);
    match known.and_then(|(_, mechanism)| mechanism.hash()) {
        Some(hash) => Ok(hash),
        None => refuse(ResponseError::UnsupportedSaslMechanism, "Unknown SCRAM mechanism"),
    }
}

fn verifier(upsertion: &ScramCredentialUpsertion) -> Result<(Hash, Verifier), Refusal> {
    let unacceptable = |why: &str| refuse(ResponseError::UnacceptableCredential, why);
    let ScramCredentialUpsertion { name, mechanism, iterations, salt, salted_password, .. } =
        upsertion;
    if name.is_empty() {
        return unacceptable("Username must not be empty");
    }
    let hash = hash(*mechanism)?;
    if *iterations < ITERATIONS_MIN {
        return unacceptable("Too few iterations");
    }
    if *iterations > ITERATIONS_MAX {
        return unacceptable("Too many iterations");
    }
    if salt.is_empty() || salted_password.is_empty() {
        return unacceptable("salt and salted password must not be empty");
    }
    if let Err(why) = auth::may_be_named(name) {
        return unacceptable(why);
    }
    let iterations = iterations.unsigned_abs();
    Ok((hash, Verifier::of_salted(hash, salted_password, salt.to_vec(), iterations)))
}

async fn alter(
    core: &Core,
    users: BTreeMap<String, Result<Change, Refusal>>,
) -> Vec<(String, Result<(), Refusal>)> {
    let _changing = core.user_changes.lock().await;
    let mut outcomes = Vec::with_capacity(users.len());
    let mut changed: Vec<(String, UserRecord)> = Vec::new();
    for (name, change) in users {
        let outcome = change.and_then(|change| after(core, &name, change));
        outcomes.push((name.clone(), outcome.as_ref().map(|_| ()).map_err(Clone::clone)));
        changed.extend(outcome.ok().map(|record| (name, record)));
    }
    let records = changed.iter().map(|(name, record)| {
        let value = (!record.is_empty()).then(|| Bytes::from(record.to_json()));
        (StateKey::User(name.clone()), value)
    });
    let records: Vec<_> = records.collect();
    if !records.is_empty()
        && let Err(error) = core.put_state(records).await
    {
        for (_, outcome) in outcomes.iter_mut().filter(|(_, outcome)| outcome.is_ok()) {
            *outcome = Err(storage(error));
        }
        return outcomes;
    }
    for (name, record) in changed {
        if record.is_empty() {
            core.users.remove(&name);
        } else {
            core.users.put(&name, record);
        }
    }
    outcomes
}

/// The user's record with the change; empty if nothing is left.
fn after(core: &Core, name: &str, (hash, verifier): Change) -> Result<UserRecord, Refusal> {
    if core.users.is_configured(name) {
        let why = "the user stands in the configuration (sasl.jaas.config): change it there";
        return refuse(ResponseError::UnacceptableCredential, why);
    }
    let mut record = core.users.stored(name).unwrap_or_default();
    if verifier.is_none() && record.verifier(hash).is_none() {
        let why = "Attempt to delete a user credential that does not exist";
        return refuse(ResponseError::ResourceNotFound, why);
    }
    record.set(hash, verifier);
    Ok(record)
}
