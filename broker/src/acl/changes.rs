//! Changes of the rules: durable first, then in force. One at a time.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::{CLUSTER_NAME, ResourceKind, Rule, RuleFilter};
use crate::core::Core;
use crate::limits;
use crate::state::{self, StateKey};

/// An error with a sentence for the client.
pub(crate) type Refusal = (ResponseError, String);

/// Adds what is new of these rules, all of it or nothing.
pub(crate) async fn create(core: &Core, rules: Vec<Rule>) -> Result<(), Refusal> {
    let _changing = core.rule_changes.lock().await;
    let new: Vec<(Uuid, Rule)> = {
        let known = core.access.read();
        let new: BTreeSet<Rule> = rules.into_iter().filter(|rule| !known.contains(rule)).collect();
        if known.len() + new.len() > limits::ACL_RULES_MAX {
            let why = format!("this broker keeps at most {} access rules", limits::ACL_RULES_MAX);
            return Err((ResponseError::PolicyViolation, why));
        }
        new.into_iter().map(|rule| (Uuid::new_v4(), rule)).collect()
    };
    let records = new.iter().map(|(id, rule)| (StateKey::Acl(*id), Some(state::value(rule))));
    put(core, records.collect()).await?;
    let mut known = core.access.write();
    for (id, rule) in new {
        tracing::info!(?rule, "access rule added");
        known.add(rule, id);
    }
    Ok(())
}

/// Removes what the filters mean; returns for each filter the rules that were meant.
pub(crate) async fn delete(core: &Core, filters: &[RuleFilter]) -> Result<Vec<Vec<Rule>>, Refusal> {
    let _changing = core.rule_changes.lock().await;
    let mut ids = BTreeSet::new();
    let mut meant = Vec::with_capacity(filters.len());
    {
        let known = core.access.read();
        for filter in filters {
            let mut rules = Vec::new();
            for (rule, id) in known.iter().filter(|(rule, _)| filter.matches(rule)) {
                ids.insert(id);
                rules.push(rule.clone());
            }
            meant.push(rules);
        }
    }
    put(core, ids.into_iter().map(|id| (StateKey::Acl(id), None)).collect()).await?;
    let mut known = core.access.write();
    for rule in meant.iter().flatten() {
        tracing::info!(?rule, "access rule removed");
        known.remove(rule);
    }
    Ok(meant)
}

async fn put(core: &Core, records: Vec<(StateKey, Option<bytes::Bytes>)>) -> Result<(), Refusal> {
    if records.is_empty() {
        return Ok(());
    }
    let why = "the log cannot take records now; the broker's log says why";
    core.put_state(records).await.map_err(|error| (error, why.to_owned()))
}

/// What is wrong with a rule, as Kafka's controller sees it.
pub(crate) fn check(rule: &Rule) -> Result<(), Refusal> {
    let refuse = |why: String| Err((ResponseError::InvalidRequest, why));
    if rule.name.is_empty() {
        return refuse("Resource name should not be empty".to_owned());
    }
    if rule.kind == ResourceKind::Cluster && rule.name != CLUSTER_NAME {
        return refuse(format!("The only valid name for the CLUSTER resource is {CLUSTER_NAME}"));
    }
    let kind_and_name = rule.principal.split_once(':');
    if kind_and_name.is_none_or(|(kind, name)| kind.is_empty() || name.is_empty()) {
        let principal = &rule.principal;
        return refuse(format!("the principal {principal:?} is not of the form User:NAME"));
    }
    Ok(())
}
