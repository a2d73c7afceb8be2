//! The rules, arranged for decisions.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Bound;

use uuid::Uuid;

use super::access::Who;
use super::{Operation, PatternKind, Permission, Resource, ResourceKind, Rule, WILDCARD};

const EVERYBODY: &str = "User:*";

/// What the rules say by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Allowed,
    Denied,
    /// No rule at all stands for the resource.
    NoRule,
}

/// All rules, each with the id of its record.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    ids: BTreeMap<Rule, Uuid>,
    literal: HashMap<ResourceKind, HashMap<String, Entries>>,
    /// By bytes, because a common prefix of two names may end within a letter.
    prefixed: HashMap<ResourceKind, BTreeMap<Vec<u8>, Entries>>,
}

/// What the rules of one pattern say: by principal, then by host.
type Entries = HashMap<String, HashMap<Host, Bits>>;

/// Kafka compares addresses as text; here `::1` and `0:0:0:0:0:0:0:1` are the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Any,
    Address(IpAddr),
    /// Kafka takes any text and never finds it equal to an address.
    Never,
}

impl Host {
    fn of(text: &str) -> Self {
        match text {
            WILDCARD => Self::Any,
            text => text
                .parse()
                .map_or(Self::Never, |address: IpAddr| Self::Address(address.to_canonical())),
        }
    }
}

/// One bit an operation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bits {
    allow: u32,
    deny: u32,
}

/// What all patterns that match a resource say about one caller.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Found {
    bits: Bits,
    any_rule: bool,
}

impl Found {
    fn add(&mut self, entries: &Entries, who: Who<'_>) {
        self.any_rule = true;
        for principal in [who.principal, EVERYBODY] {
            let Some(hosts) = entries.get(principal) else { continue };
            for host in [Host::Any, Host::Address(who.host)] {
                let bits = hosts.get(&host).copied().unwrap_or_default();
                self.bits.allow |= bits.allow;
                self.bits.deny |= bits.deny;
            }
        }
    }

    pub(super) fn verdict(self, operation: Operation) -> Verdict {
        if self.bits.deny & (operation.bit() | Operation::All.bit()) != 0 {
            Verdict::Denied
        } else if self.bits.allow & allowing(operation) != 0 {
            Verdict::Allowed
        } else if self.any_rule {
            Verdict::Denied
        } else {
            Verdict::NoRule
        }
    }
}

/// The operations whose permission is enough for this one.
const fn allowing(operation: Operation) -> u32 {
    use Operation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
    let implying = match operation {
        Describe => Read.bit() | Write.bit() | Delete.bit() | Alter.bit(),
        DescribeConfigs => AlterConfigs.bit(),
        _ => 0,
    };
    operation.bit() | All.bit() | implying
}

impl Rules {
    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Rule, Uuid)> {
        self.ids.iter().map(|(rule, id)| (rule, *id))
    }

    pub(crate) fn contains(&self, rule: &Rule) -> bool {
        self.ids.contains_key(rule)
    }

    /// A rule that is there already keeps its id.
    pub(crate) fn add(&mut self, rule: Rule, id: Uuid) {
        let (kind, pattern, name) = (rule.kind, rule.pattern, rule.name.clone());
        self.ids.entry(rule).or_insert(id);
        self.arrange(kind, pattern, &name);
    }

    pub(crate) fn remove(&mut self, rule: &Rule) {
        if self.ids.remove(rule).is_some() {
            self.arrange(rule.kind, rule.pattern, &rule.name);
        }
    }

    /// Makes the entries of one pattern anew from its rules.
    fn arrange(&mut self, kind: ResourceKind, pattern: PatternKind, name: &str) {
        let first = Rule {
            kind,
            pattern,
            name: name.to_owned(),
            principal: String::new(),
            host: String::new(),
            operation: Operation::All,
            permission: Permission::Deny,
        };
        let mut entries = Entries::new();
        let of_pattern = self.ids.range(first..).map(|(rule, _)| rule);
        for rule in
            of_pattern.take_while(|r| (r.kind, r.pattern) == (kind, pattern) && r.name == name)
        {
            let hosts = entries.entry(rule.principal.clone()).or_default();
            let bits = hosts.entry(Host::of(&rule.host)).or_default();
            match rule.permission {
                Permission::Allow => bits.allow |= rule.operation.bit(),
                Permission::Deny => bits.deny |= rule.operation.bit(),
            }
        }
        let (literal, prefixed) =
            (self.literal.entry(kind).or_default(), self.prefixed.entry(kind).or_default());
        match (pattern, entries.is_empty()) {
            (PatternKind::Literal, true) => drop(literal.remove(name)),
            (PatternKind::Literal, false) => drop(literal.insert(name.to_owned(), entries)),
            (PatternKind::Prefixed, true) => drop(prefixed.remove(name.as_bytes())),
            (PatternKind::Prefixed, false) => {
                drop(prefixed.insert(name.as_bytes().to_vec(), entries));
            }
        }
    }

    pub(crate) fn verdict(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Verdict {
        self.find(who, resource).verdict(operation)
    }

    pub(super) fn find(&self, who: Who<'_>, resource: Resource<'_>) -> Found {
        let (kind, name) = (resource.kind(), resource.name());
        let mut found = Found::default();
        if let Some(literal) = self.literal.get(&kind) {
            let patterns = if name == WILDCARD { &[WILDCARD][..] } else { &[name, WILDCARD][..] };
            for entries in patterns.iter().filter_map(|pattern| literal.get(*pattern)) {
                found.add(entries, who);
            }
        }
        if let Some(prefixed) = self.prefixed.get(&kind) {
            for entries in prefixes(prefixed, name.as_bytes()) {
                found.add(entries, who);
            }
        }
        found
    }

    /// Whether some resource of this kind exists, or could, on which the caller may do this:
    /// Kafka's `authorizeByResourceType`, without super users. An allowed pattern counts unless a
    /// denied one covers all of it. Walks over the rules of the kind.
    pub(super) fn allowed_on_some(
        &self,
        who: Who<'_>,
        operation: Operation,
        kind: ResourceKind,
    ) -> bool {
        let said = |entries: &Entries| {
            let mut found = Found::default();
            found.add(entries, who);
            let wanted = operation.bit() | Operation::All.bit();
            (found.bits.allow & wanted != 0, found.bits.deny & wanted != 0)
        };
        let nothing = (HashMap::new(), BTreeMap::new());
        let literal = self.literal.get(&kind).unwrap_or(&nothing.0);
        let prefixed = self.prefixed.get(&kind).unwrap_or(&nothing.1);
        match literal.get(WILDCARD).map(said) {
            Some((_, true)) => return false,
            Some((true, false)) => return true,
            _ => {}
        }
        let covered = |name: &[u8]| prefixes(prefixed, name).any(|entries| said(entries).1);
        let names = literal.iter().filter(|(name, _)| *name != WILDCARD);
        let mut names = names.filter(|(_, entries)| said(entries) == (true, false));
        let mut beginnings = prefixed.iter().filter(|(_, entries)| said(entries).0);
        names.any(|(name, _)| !covered(name.as_bytes()))
            || beginnings.any(|(name, _)| !covered(name))
    }
}

/// The entries of every pattern that is a prefix of the name, longest first.
///
/// All of them sort at or before the name. Whatever else lies between shows by the length of what
/// it has in common with the name how far one can jump back.
fn prefixes<'a>(
    prefixed: &'a BTreeMap<Vec<u8>, Entries>,
    name: &'a [u8],
) -> impl Iterator<Item = &'a Entries> {
    let mut before: Bound<&[u8]> = Bound::Included(name);
    std::iter::from_fn(move || {
        loop {
            let (pattern, entries) =
                prefixed.range::<[u8], _>((Bound::Unbounded, before)).next_back()?;
            let common = pattern.iter().zip(name).take_while(|(a, b)| a == b).count();
            if common == pattern.len() {
                before = Bound::Excluded(pattern);
                return Some(entries);
            }
            before = Bound::Included(&name[..common]);
        }
    })
}
