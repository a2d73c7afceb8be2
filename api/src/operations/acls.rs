//! Access rules (ACLs): list, add, delete, in the words of Kafka's tools.
//!
//! Words are taken in any case, with or without underscores (`DESCRIBE_CONFIGS`, `DescribeConfigs`,
//! as kafka-acls itself writes both), and given back as Kafka's enumerations have them.

use odradek_broker::acl::{
    Operation, PatternFilter, PatternKind, Permission, ResourceKind, Rule, RuleFilter,
};
use odradek_broker::client::Admin;
use serde::{Deserialize, Serialize};

use super::{Failure, Outcome};

/// Kafka's limit of a frame bounds what one request of its own may add; this bounds ours.
const RULES_MAX: usize = 1_000;

/// A rule in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acl {
    pub resource_type: String,
    pub resource_name: String,
    #[serde(default = "literal")]
    pub pattern_type: String,
    pub principal: String,
    #[serde(default = "any_host")]
    pub host: String,
    pub operation: String,
    #[serde(default = "allow")]
    pub permission: String,
}

fn literal() -> String {
    "LITERAL".to_owned()
}

fn any_host() -> String {
    "*".to_owned()
}

fn allow() -> String {
    "ALLOW".to_owned()
}

/// Which rules are meant; what is left out means any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AclQuery {
    pub resource_type: Option<String>,
    pub resource_name: Option<String>,
    pub pattern_type: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<String>,
    pub permission: Option<String>,
}

pub async fn list(admin: &dyn Admin, query: &AclQuery) -> Outcome<Vec<Acl>> {
    Ok(shown(admin.rules(&filter(query)?).await?))
}

/// Adds all of them or none.
pub async fn add(admin: &dyn Admin, acls: &[Acl]) -> Outcome<Vec<Acl>> {
    if acls.is_empty() || acls.len() > RULES_MAX {
        let detail = format!("{} rules are given", acls.len());
        return Err(Failure::invalid(detail, format!("give from 1 to {RULES_MAX}")));
    }
    let rules = acls.iter().map(rule).collect::<Outcome<Vec<Rule>>>()?;
    admin.add_rules(rules.clone()).await?;
    Ok(shown(rules))
}

/// Deletes the rules that are meant, and returns them.
pub async fn delete(admin: &dyn Admin, query: &AclQuery) -> Outcome<Vec<Acl>> {
    if *query == AclQuery::default() {
        return Err(Failure::invalid(
            "no rule is named: that would delete all of them",
            "say which, for example resource_type=TOPIC&resource_name=stocks&principal=User:bob",
        ));
    }
    Ok(shown(admin.delete_rules(&filter(query)?).await?))
}

fn shown(rules: Vec<Rule>) -> Vec<Acl> {
    let acls = rules.into_iter().map(|rule| Acl {
        resource_type: upper(kind_name(rule.kind)),
        resource_name: rule.name,
        pattern_type: upper(pattern_name(rule.pattern)),
        principal: rule.principal,
        host: rule.host,
        operation: upper(rule.operation.name()),
        permission: upper(permission_name(rule.permission)),
    });
    acls.collect()
}

fn rule(acl: &Acl) -> Outcome<Rule> {
    let kind = kind(&acl.resource_type)?;
    let operation = operation(&acl.operation)?;
    let possible = kind.operations();
    if operation != Operation::All && !possible.contains(&operation) {
        let names: Vec<String> = possible.iter().map(|known| upper(known.name())).collect();
        return Err(Failure::invalid(
            format!(
                "{} means nothing for a {}",
                upper(operation.name()),
                words(kind_name(kind)).join(" ")
            ),
            format!("choose from ALL, {}", names.join(", ")),
        ));
    }
    Ok(Rule {
        kind,
        pattern: named(
            &acl.pattern_type,
            "pattern_type",
            [PatternKind::Literal, PatternKind::Prefixed],
            pattern_name,
        )?,
        name: acl.resource_name.clone(),
        principal: acl.principal.clone(),
        host: acl.host.clone(),
        operation,
        permission: permission(&acl.permission)?,
    })
}

fn filter(query: &AclQuery) -> Outcome<RuleFilter> {
    let pattern = match query.pattern_type.as_deref().map(bare).as_deref() {
        None | Some("any") => PatternFilter::Any,
        Some("match") => PatternFilter::Match,
        Some("literal") => PatternFilter::Of(PatternKind::Literal),
        Some("prefixed") => PatternFilter::Of(PatternKind::Prefixed),
        Some(other) => {
            let detail = format!("pattern_type {other:?} is not known");
            return Err(Failure::invalid(detail, "choose from LITERAL, PREFIXED, ANY, MATCH"));
        }
    };
    let any = |text: &Option<String>| text.clone().filter(|text| bare(text) != "any");
    Ok(RuleFilter {
        kind: any(&query.resource_type).map(|text| kind(&text)).transpose()?,
        pattern,
        name: query.resource_name.clone(),
        principal: query.principal.clone(),
        host: query.host.clone(),
        operation: any(&query.operation).map(|text| operation(&text)).transpose()?,
        permission: any(&query.permission).map(|text| permission(&text)).transpose()?,
    })
}

fn kind(text: &str) -> Outcome<ResourceKind> {
    named(text, "resource_type", ResourceKind::ALL, kind_name)
}

fn operation(text: &str) -> Outcome<Operation> {
    named(text, "operation", Operation::ALL, Operation::name)
}

fn permission(text: &str) -> Outcome<Permission> {
    named(text, "permission", [Permission::Allow, Permission::Deny], permission_name)
}

/// The one of these that the text names.
fn named<T: Copy, const N: usize>(
    text: &str,
    field: &str,
    all: [T; N],
    name: fn(T) -> &'static str,
) -> Outcome<T> {
    let wanted = bare(text);
    all.into_iter().find(|one| bare(name(*one)) == wanted).ok_or_else(|| {
        let names: Vec<String> = all.into_iter().map(|one| upper(name(one))).collect();
        let detail = format!("{field} {text:?} is not known");
        Failure::invalid(detail, format!("choose from {}", names.join(", ")))
    })
}

fn kind_name(kind: ResourceKind) -> &'static str {
    match kind {
        ResourceKind::Topic => "Topic",
        ResourceKind::Group => "Group",
        ResourceKind::Cluster => "Cluster",
        ResourceKind::TransactionalId => "TransactionalId",
        ResourceKind::DelegationToken => "DelegationToken",
        ResourceKind::User => "User",
    }
}

fn pattern_name(pattern: PatternKind) -> &'static str {
    match pattern {
        PatternKind::Literal => "Literal",
        PatternKind::Prefixed => "Prefixed",
    }
}

fn permission_name(permission: Permission) -> &'static str {
    match permission {
        Permission::Allow => "Allow",
        Permission::Deny => "Deny",
    }
}

/// `DescribeConfigs`, `DESCRIBE_CONFIGS` and `describe-configs` are the same word.
fn bare(text: &str) -> String {
    text.trim().to_ascii_lowercase().replace(['_', '-'], "")
}

/// `DescribeConfigs` as `describe`, `configs`.
fn words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for letter in name.chars() {
        match words.last_mut().filter(|_| letter.is_ascii_lowercase()) {
            Some(word) => word.push(letter),
            None => words.push(letter.to_ascii_lowercase().to_string()),
        }
    }
    words
}

/// `DescribeConfigs` as `DESCRIBE_CONFIGS`.
fn upper(name: &str) -> String {
    words(name).join("_").to_ascii_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::fake::Fake;

    fn acl(operation: &str) -> Acl {
        Acl {
            resource_type: "topic".to_owned(),
            resource_name: "stocks".to_owned(),
            pattern_type: "literal".to_owned(),
            principal: "User:alice".to_owned(),
            host: "*".to_owned(),
            operation: operation.to_owned(),
            permission: "allow".to_owned(),
        }
    }

    #[tokio::test]
    async fn words_are_taken_in_any_form_and_given_back_in_kafkas() {
        let fake = Fake::default();
        for typed in ["Describe-Configs", "DESCRIBE_CONFIGS", "describeconfigs"] {
            let added = add(&fake, &[acl(typed)]).await.expect("valid");
            assert_eq!(added[0].operation, "DESCRIBE_CONFIGS", "{typed}");
            assert_eq!((&*added[0].resource_type, &*added[0].permission), ("TOPIC", "ALLOW"));
        }
        // A transactional id has the longest name of a kind.
        let transactional = Acl { resource_type: "transactional_id".to_owned(), ..acl("WRITE") };
        let added = add(&fake, &[transactional]).await.expect("valid");
        assert_eq!(added[0].resource_type, "TRANSACTIONAL_ID");
    }

    #[tokio::test]
    async fn what_makes_no_sense_is_refused_with_what_would() {
        let fake = Fake::default();
        for (wrong, says) in [
            (acl("REED"), "choose from ALL, READ"),
            (acl("IDEMPOTENT_WRITE"), "choose from ALL, READ, WRITE"),
            (Acl { resource_type: "topics".to_owned(), ..acl("READ") }, "choose from TOPIC"),
            (Acl { pattern_type: "match".to_owned(), ..acl("READ") }, "LITERAL, PREFIXED"),
        ] {
            let refused = add(&fake, std::slice::from_ref(&wrong)).await;
            let Err(Failure::Invalid { hint, .. }) = refused else { panic!("{wrong:?}") };
            assert!(hint.contains(says), "{hint}");
        }
        assert!(add(&fake, &[]).await.is_err());
    }

    #[tokio::test]
    async fn a_filter_means_what_it_says_and_an_empty_one_deletes_nothing() {
        let fake = Fake::default();
        let prefixed = Acl { pattern_type: "PREFIXED".to_owned(), ..acl("ALL") };
        add(&fake, &[acl("READ"), acl("WRITE"), prefixed]).await.expect("valid");
        let of = |operation: &str| AclQuery {
            operation: Some(operation.to_owned()),
            ..AclQuery::default()
        };
        assert_eq!(list(&fake, &of("read")).await.expect("listed").len(), 1);
        assert_eq!(list(&fake, &of("any")).await.expect("listed").len(), 3);
        assert!(delete(&fake, &AclQuery::default()).await.is_err());
        let literal = AclQuery { pattern_type: Some("literal".to_owned()), ..AclQuery::default() };
        assert_eq!(delete(&fake, &literal).await.expect("deleted").len(), 2);
        let left = list(&fake, &AclQuery::default()).await.expect("listed");
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].pattern_type, "PREFIXED");
    }
}
