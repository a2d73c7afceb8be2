//! Which rules a description or a deletion means.

use super::{Operation, PatternKind, Permission, ResourceKind, Rule, WILDCARD};

/// The code by which every field of a filter says "any".
const ANY: i8 = 1;
/// The pattern kind that means: whatever would apply to a resource of this name.
const MATCH: i8 = 2;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PatternFilter {
    #[default]
    Any,
    /// Whatever would apply to a resource of the name.
    Match,
    Of(PatternKind),
}

/// `None` means any; the default means every rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFilter {
    pub kind: Option<ResourceKind>,
    pub pattern: PatternFilter,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

/// A filter as a request has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FilterCodes {
    pub kind: i8,
    pub pattern: i8,
    pub name: Option<String>,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: i8,
    pub permission: i8,
}

impl RuleFilter {
    /// `None` if a code is not known.
    pub(crate) fn parse(codes: FilterCodes) -> Option<Self> {
        let FilterCodes { kind, pattern, name, principal, host, operation, permission } = codes;
        Some(Self {
            kind: any_or(kind, ResourceKind::of_code)?,
            pattern: match pattern {
                ANY => PatternFilter::Any,
                MATCH => PatternFilter::Match,
                code => PatternFilter::Of(PatternKind::of_code(code)?),
            },
            name,
            principal,
            host,
            operation: any_or(operation, Operation::of_code)?,
            permission: any_or(permission, Permission::of_code)?,
        })
    }

    pub fn matches(&self, rule: &Rule) -> bool {
        fn any_or_same<T: PartialEq>(wanted: Option<&T>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted == found)
        }
        any_or_same(self.kind.as_ref(), &rule.kind)
            && self.matches_pattern(rule)
            && any_or_same(self.principal.as_ref(), &rule.principal)
            && any_or_same(self.host.as_ref(), &rule.host)
            && any_or_same(self.operation.as_ref(), &rule.operation)
            && any_or_same(self.permission.as_ref(), &rule.permission)
    }

    fn matches_pattern(&self, rule: &Rule) -> bool {
        if let PatternFilter::Of(kind) = self.pattern
            && kind != rule.pattern
        {
            return false;
        }
        let Some(name) = &self.name else { return true };
        match (self.pattern, rule.pattern) {
            (PatternFilter::Match, PatternKind::Literal) => {
                *name == rule.name || rule.name == WILDCARD
            }
            (PatternFilter::Match, PatternKind::Prefixed) => name.starts_with(&rule.name),
            (PatternFilter::Any | PatternFilter::Of(_), _) => *name == rule.name,
        }
    }
}

/// The outer `None`: an unknown code.
fn any_or<T>(code: i8, of_code: impl Fn(i8) -> Option<T>) -> Option<Option<T>> {
    match code {
        ANY => Some(None),
        code => of_code(code).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: PatternKind, name: &str) -> Rule {
        Rule {
            kind: ResourceKind::Topic,
            pattern,
            name: name.to_owned(),
            principal: "User:alice".to_owned(),
            host: "*".to_owned(),
            operation: Operation::Read,
            permission: Permission::Allow,
        }
    }

    /// Everything of any kind, as `kafka-acls --list` asks.
    fn any() -> FilterCodes {
        FilterCodes { kind: 1, pattern: 1, operation: 1, permission: 1, ..FilterCodes::default() }
    }

    /// KIP-290: ANY and a given pattern compare names, MATCH asks what would apply to the name.
    #[test]
    fn names_are_compared_by_the_pattern_that_is_asked_for() {
        let literal = rule(PatternKind::Literal, "foo");
        let wildcard = rule(PatternKind::Literal, "*");
        let prefixed = rule(PatternKind::Prefixed, "fo");
        let (any_kind, match_kind, literal_kind, prefixed_kind) = (1, 2, 3, 4);
        let cases = [
            (any_kind, Some("foo"), [true, false, false]),
            (any_kind, None, [true, true, true]),
            (match_kind, Some("foo"), [true, true, true]),
            (match_kind, Some("f"), [false, true, false]),
            (match_kind, None, [true, true, true]),
            (literal_kind, Some("foo"), [true, false, false]),
            (literal_kind, Some("*"), [false, true, false]),
            (literal_kind, None, [true, true, false]),
            (prefixed_kind, Some("fo"), [false, false, true]),
            (prefixed_kind, Some("foo"), [false, false, false]),
        ];
        for (pattern, name, expected) in cases {
            let codes = FilterCodes { pattern, name: name.map(str::to_owned), ..any() };
            let filter = RuleFilter::parse(codes).unwrap();
            let found = [&literal, &wildcard, &prefixed].map(|rule| filter.matches(rule));
            assert_eq!(found, expected, "pattern {pattern}, name {name:?}");
        }
    }

    #[test]
    fn every_other_field_is_any_or_equal_and_unknown_codes_are_refused() {
        let alice = rule(PatternKind::Literal, "foo");
        let matches = |codes| RuleFilter::parse(codes).map(|filter| filter.matches(&alice));
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(matches(any()), Some(true));
        assert_eq!(matches(FilterCodes { kind: 2, ..any() }), Some(true));
        assert_eq!(matches(FilterCodes { kind: 3, ..any() }), Some(false));
        assert_eq!(matches(FilterCodes { principal: text("User:bob"), ..any() }), Some(false));
        assert_eq!(matches(FilterCodes { host: text("*"), ..any() }), Some(true));
        assert_eq!(matches(FilterCodes { host: text("192.0.2.1"), ..any() }), Some(false));
        assert_eq!(matches(FilterCodes { operation: 3, ..any() }), Some(true));
        assert_eq!(matches(FilterCodes { operation: 8, ..any() }), Some(false));
        assert_eq!(matches(FilterCodes { permission: 2, ..any() }), Some(false));
        for unknown in [
            FilterCodes { kind: 0, ..any() },
            FilterCodes { kind: 8, ..any() },
            FilterCodes { pattern: 0, ..any() },
            FilterCodes { pattern: 5, ..any() },
            FilterCodes { operation: 0, ..any() },
            FilterCodes { operation: 16, ..any() },
            FilterCodes { permission: 4, ..any() },
        ] {
            assert_eq!(matches(unknown.clone()), None, "{unknown:?}");
        }
    }
}
