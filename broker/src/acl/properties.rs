//! The authoriser against a naive one, which looks at every rule as Kafka's documentation says it.

use std::net::IpAddr;

use proptest::prelude::*;

use super::access::Who;
use super::rules::Verdict;
use super::*;

const PRINCIPALS: [&str; 4] = ["User:alice", "User:bob", "User:*", "Group:alice"];
const NAMES: [&str; 9] = ["a", "ab", "abc", "abd", "ac", "b", "*", "ä", "ã"];
const HOSTS: [&str; 4] = ["*", "192.0.2.1", "::1", "anywhere"];
const ADDRESSES: [&str; 3] = ["192.0.2.1", "192.0.2.2", "0:0:0:0:0:0:0:1"];
const KINDS: [ResourceKind; 2] = [ResourceKind::Topic, ResourceKind::Group];

/// KIP-11, KIP-290 and the authorisation chapter of Kafka's documentation, rule by rule.
fn naive(rules: &[Rule], who: Who<'_>, operation: Operation, resource: Resource<'_>) -> Verdict {
    use Operation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    let of_resource: Vec<&Rule> = rules
        .iter()
        .filter(|rule| rule.kind == resource.kind())
        .filter(|rule| match rule.pattern {
            PatternKind::Literal => rule.name == "*" || rule.name == resource.name(),
            PatternKind::Prefixed => resource.name().starts_with(&rule.name),
        })
        .collect();
    let mut of_caller = of_resource
        .iter()
        .filter(|rule| rule.principal == who.principal || rule.principal == "User:*")
        .filter(|rule| {
            rule.host == "*" || rule.host.parse::<IpAddr>().is_ok_and(|host| host == who.host)
        });
    let denies = |rule: &Rule| {
        rule.permission == Permission::Deny && [All, operation].contains(&rule.operation)
    };
    let allows = |rule: &Rule| {
        rule.permission == Permission::Allow
            && match operation {
                _ if [All, operation].contains(&rule.operation) => true,
                Describe => [Read, Write, Delete, Alter].contains(&rule.operation),
                DescribeConfigs => rule.operation == AlterConfigs,
                _ => false,
            }
    };
    if of_caller.clone().any(|rule| denies(rule)) {
        Verdict::Denied
    } else if of_caller.any(|rule| allows(rule)) {
        Verdict::Allowed
    } else if of_resource.is_empty() {
        Verdict::NoRule
    } else {
        Verdict::Denied
    }
}

fn a_rule() -> impl Strategy<Value = Rule> {
    let name = proptest::sample::select(NAMES.to_vec());
    (
        proptest::sample::select(KINDS.to_vec()),
        prop_oneof![Just(PatternKind::Literal), Just(PatternKind::Prefixed)],
        name,
        proptest::sample::select(PRINCIPALS.to_vec()),
        proptest::sample::select(HOSTS.to_vec()),
        proptest::sample::select(Operation::ALL.to_vec()),
        prop_oneof![1 => Just(Permission::Deny), 3 => Just(Permission::Allow)],
    )
        .prop_map(|(kind, pattern, name, principal, host, operation, permission)| Rule {
            kind,
            pattern,
            name: name.to_owned(),
            principal: principal.to_owned(),
            host: host.to_owned(),
            operation,
            permission,
        })
}

proptest! {
    /// Rules come and go; after every change each question has the naive answer.
    #[test]
    fn every_decision_is_the_naive_one(
        changes in proptest::collection::vec((a_rule(), any::<bool>()), 1..24),
        address in proptest::sample::select(ADDRESSES.to_vec()),
        principal in proptest::sample::select(PRINCIPALS.to_vec()),
    ) {
        let who = Who { principal, host: address.parse().unwrap() };
        let mut rules = Rules::default();
        let mut model: Vec<Rule> = Vec::new();
        for (rule, stays) in changes {
            rules.add(rule.clone(), uuid::Uuid::nil());
            model.retain(|known| *known != rule);
            if stays {
                model.push(rule);
            } else {
                rules.remove(&rule);
            }
        }
        prop_assert_eq!(rules.len(), model.len());
        for name in ["a", "ab", "abc", "abcd", "abd", "ac", "b", "c", "", "ä", "äx", "ã", "å"] {
            for resource in [Resource::Topic(name), Resource::Group(name)] {
                for operation in Operation::ALL {
                    let expected = naive(&model, who, operation, resource);
                    let found = rules.verdict(who, operation, resource);
                    prop_assert_eq!(found, expected, "{:?} {:?}", operation, resource);
                }
            }
        }
    }

    /// "On some resource" is true exactly if there is a name on which it is allowed. The names of
    /// the rules, and names below each prefix that no other rule has, are all cases there are.
    #[test]
    fn allowed_on_some_is_whether_a_name_exists_on_which_it_is_allowed(
        rules in proptest::collection::vec(a_rule(), 0..12),
    ) {
        let who = Who { principal: "User:alice", host: "192.0.2.1".parse().unwrap() };
        let mut arranged = Rules::default();
        for rule in &rules {
            arranged.add(rule.clone(), uuid::Uuid::nil());
        }
        // No resource is named `*`.
        let names = NAMES.iter().filter(|name| **name != "*").map(|name| (*name).to_owned());
        let below = NAMES.iter().map(|name| format!("{name}-nobody-names-this"));
        let mut names = names.chain(below).chain(["nobody-names-this".to_owned()]);
        let expected = names.any(|name| {
            naive(&rules, who, Operation::Write, Resource::Topic(&name)) == Verdict::Allowed
        });
        let found = arranged.allowed_on_some(who, Operation::Write, ResourceKind::Topic);
        prop_assert_eq!(found, expected);
    }
}
