//! Changes of limits: checked as Kafka checks them, durable first, then in force.

use std::net::IpAddr;

use kafka_protocol::ResponseError;

use super::{CLIENT_ID, Entity, IP, Kind, Limits, USER};
use crate::core::Core;
use crate::limits;
use crate::state::{self, StateKey};
use crate::topic_changes::{Refusal, refuse, storage};

/// What happens to one key of an entity; `None` takes it away.
pub(crate) type Op = (String, Option<f64>);

/// The entity of a request's parts.
pub(crate) fn entity(
    parts: impl IntoIterator<Item = (String, Option<String>)>,
) -> Result<Entity, Refusal> {
    let mut entity = Entity::new();
    for (kind, mut name) in parts {
        if ![USER, CLIENT_ID, IP].contains(&kind.as_str()) {
            return invalid(format!("Unhandled client quota entity type: {kind}"));
        }
        if name.as_ref().is_some_and(String::is_empty) {
            return invalid(format!("Empty {kind} not supported"));
        }
        if name.as_ref().is_some_and(|name| name.len() > limits::QUOTA_NAME_BYTES_MAX) {
            let max = limits::QUOTA_NAME_BYTES_MAX;
            return invalid(format!("a name of a quota's entity has at most {max} bytes"));
        }
        if kind == IP {
            name = name.map(address).transpose()?;
        }
        if entity.insert(kind.clone(), name).is_some() {
            let what = "Invalid client quota entity, duplicate entity entry";
            return invalid(format!("{what} {kind}"));
        }
    }
    if entity.is_empty() {
        return invalid("Invalid empty client quota entity");
    }
    if entity.contains_key(IP) && entity.len() > 1 {
        let what = "Invalid quota entity combination, IP entity should not be combined with";
        return invalid(format!("{what} User or ClientId"));
    }
    Ok(entity)
}

fn invalid<T>(why: impl Into<String>) -> Result<T, Refusal> {
    refuse(ResponseError::InvalidRequest, why)
}

/// In the one form in which addresses are compared.
fn address(text: String) -> Result<String, Refusal> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_canonical().to_string()),
        Err(_) => invalid(format!("{text} is not a valid IP address.")),
    }
}

/// Changes one entity's limits, all keys or none.
pub(crate) async fn alter(
    core: &Core,
    entity: Entity,
    ops: Vec<Op>,
    validate_only: bool,
) -> Result<(), Refusal> {
    let _changing = core.quota_changes.lock().await;
    let before = core.quotas.read().limits(&entity);
    let after = changed(&entity, before.clone(), ops)?;
    if validate_only || after == before {
        return Ok(());
    }
    if before.is_empty() && core.quotas.read().len() >= limits::QUOTA_ENTITIES_MAX {
        let max = limits::QUOTA_ENTITIES_MAX;
        let why = format!("this broker keeps quotas of at most {max} entities");
        return refuse(ResponseError::PolicyViolation, why);
    }
    let value = (!after.is_empty()).then(|| state::value(&after));
    let records = vec![(StateKey::Quota(entity.clone()), value)];
    core.put_state(records).await.map_err(storage)?;
    tracing::info!(?entity, limits = ?after, "client quotas changed");
    core.quotas.set(entity, after);
    Ok(())
}

fn changed(entity: &Entity, mut limits: Limits, ops: Vec<Op>) -> Result<Limits, Refusal> {
    let mut seen = std::collections::BTreeSet::new();
    for (key, value) in ops {
        if !seen.insert(key.clone()) {
            return invalid(format!("Duplicate quota key {key} not updating quota"));
        }
        match value {
            None => drop(limits.remove(&key)),
            Some(value) => {
                check(entity, &key, value)?;
                limits.insert(key, value);
            }
        }
    }
    Ok(limits)
}

fn check(entity: &Entity, key: &str, value: f64) -> Result<(), Refusal> {
    let of_address = entity.contains_key(IP);
    let kind = Kind::of_key(key).filter(|kind| (*kind == Kind::Connection) == of_address);
    let Some(kind) = kind else {
        return invalid(format!("Invalid configuration key {key}"));
    };
    if value.is_nan() || value <= 0.0 {
        return invalid(format!("Quota {key} must be greater than 0"));
    }
    let (max, name) = match kind {
        Kind::Request | Kind::Mutation => return Ok(()),
        Kind::Produce | Kind::Fetch => (i64::MAX as f64, "a LONG"),
        Kind::Connection => (f64::from(i32::MAX), "an INT"),
    };
    if value > max {
        return invalid(format!("Proposed value for {key} is too large for {name}."));
    }
    if (value % 1.0).abs() > 1e-6 {
        return invalid(format!("{key} cannot be a fractional value."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(parts: &[(&str, Option<&str>)]) -> Result<Entity, Refusal> {
        let parts = parts.iter();
        entity(parts.map(|(kind, name)| ((*kind).to_owned(), name.map(str::to_owned))))
    }

    #[test]
    fn entities_are_those_that_kafka_knows() {
        assert!(parts(&[("user", Some("ann")), ("client-id", None)]).is_ok());
        assert!(parts(&[("ip", Some("192.0.2.1"))]).is_ok() && parts(&[("ip", None)]).is_ok());
        for (wrong, why) in [
            (&[][..], "Invalid empty"),
            (&[("group", Some("g"))][..], "Unhandled client quota entity type: group"),
            (&[("ip", Some("192.0.2.1")), ("user", None)][..], "should not be combined"),
            (&[("user", None), ("user", Some("ann"))][..], "duplicate entity entry user"),
            (&[("ip", Some("192.0.2.256"))][..], "not a valid IP"),
        ] {
            let (error, text) = parts(wrong).unwrap_err();
            assert_eq!(error, ResponseError::InvalidRequest);
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn values_are_checked_as_kafka_checks_them() {
        let user = parts(&[("user", Some("ann"))]).unwrap();
        let address = parts(&[("ip", None)]).unwrap();
        let cases = [
            (&user, "producer_byte_rate", 1.0, true),
            (&user, "producer_byte_rate", 0.0, false),
            (&user, "producer_byte_rate", -1.0, false),
            (&user, "producer_byte_rate", f64::NAN, false),
            (&user, "producer_byte_rate", 1.5, false),
            (&user, "producer_byte_rate", 1e19, false),
            (&user, "request_percentage", 0.5, true),
            (&user, "controller_mutation_rate", 0.1, true),
            (&user, "connection_creation_rate", 1.0, false),
            (&user, "unknown", 1.0, false),
            (&address, "connection_creation_rate", 1.0, true),
            (&address, "connection_creation_rate", 3e9, false),
            (&address, "consumer_byte_rate", 1.0, false),
        ];
        for (entity, key, value, valid) in cases {
            assert_eq!(check(entity, key, value).is_ok(), valid, "{key}={value}");
        }
    }

    #[test]
    fn removing_what_is_not_there_is_no_error_and_a_key_twice_is() {
        let user = parts(&[("user", Some("ann"))]).unwrap();
        let key = || "producer_byte_rate".to_owned();
        let none = changed(&user, Limits::new(), vec![(key(), None)]);
        assert_eq!(none, Ok(Limits::new()));
        let twice = vec![(key(), Some(1.0)), (key(), Some(2.0))];
        assert!(changed(&user, Limits::new(), twice).is_err());
    }
}
