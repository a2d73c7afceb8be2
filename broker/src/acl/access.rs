//! The owner of the rules: settings, the current rules, and what is said about denials.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use uuid::Uuid;

use super::rules::Verdict;
use super::{Operation, Resource, ResourceKind, Rule, Rules};
use crate::client::Principal;
use crate::config::AccessSettings;
use crate::partition::lock;

/// Denials of which it is remembered that the log has them.
const DENIALS_MAX: usize = 1_000;

/// The caller, as rules see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Who<'a> {
    pub principal: &'a str,
    /// Canonical, see [`Principal::at`].
    pub host: IpAddr,
}

impl<'a> From<&'a Principal> for Who<'a> {
    fn from(principal: &'a Principal) -> Self {
        Self { principal: principal.name(), host: principal.host() }
    }
}

#[derive(Debug)]
pub(crate) struct Access {
    /// `authorizer.class.name` is set.
    enabled: bool,
    everyone_without_rule: bool,
    super_users: BTreeSet<String>,
    rules: RwLock<Rules>,
    denials: Mutex<HashMap<(String, &'static str, String), u64>>,
}

impl Access {
    pub(crate) fn new(settings: &AccessSettings, records: Vec<(Uuid, Rule)>) -> Self {
        let mut rules = Rules::default();
        for (id, rule) in records {
            rules.add(rule, id);
        }
        Self {
            enabled: settings.enabled,
            everyone_without_rule: settings.everyone_without_rule,
            super_users: settings.super_users.clone(),
            rules: RwLock::new(rules),
            denials: Mutex::default(),
        }
    }

    pub(crate) fn enabled(&self) -> bool {
        self.enabled
    }

    pub(crate) fn allowed(
        &self,
        principal: &Principal,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        if self.exempt(principal) {
            return true;
        }
        self.means(self.read().verdict(principal.into(), operation, resource))
    }

    /// The operations that the caller may do on the resource, as bits (KIP-430).
    pub(crate) fn operations(&self, principal: &Principal, resource: Resource<'_>) -> i32 {
        let supported = resource.kind().operations().iter();
        let bits = if self.exempt(principal) {
            supported.fold(0, |bits, operation| bits | operation.bit())
        } else {
            let found = self.read().find(principal.into(), resource);
            supported
                .filter(|operation| self.means(found.verdict(**operation)))
                .fold(0, |bits, operation| bits | operation.bit())
        };
        i32::try_from(bits).expect("operations have codes up to 15")
    }

    /// Whether the caller may do this on at least one resource of the kind.
    pub(crate) fn allowed_on_some(
        &self,
        principal: &Principal,
        operation: Operation,
        kind: ResourceKind,
    ) -> bool {
        if self.exempt(principal) {
            return true;
        }
        // What no rule stands for is what `allow.everyone.if.no.acl.found` is about; Kafka asks for
        // a topic of this very name too.
        let unnamed = match kind {
            ResourceKind::Group => Resource::Group("hardcode"),
            ResourceKind::TransactionalId => Resource::TransactionalId("hardcode"),
            _ => Resource::Topic("hardcode"),
        };
        let rules = self.read();
        self.means(rules.verdict(principal.into(), operation, unnamed))
            || rules.allowed_on_some(principal.into(), operation, kind)
    }

    /// Tells a denial: to `note` always, to the log the first time, and then each time its number
    /// has doubled. When too many kinds of denial are remembered, counting begins anew.
    pub(crate) fn denied(
        &self,
        principal: &Principal,
        operation: Operation,
        resource: Resource<'_>,
        note: impl FnOnce(&str),
    ) {
        let (name, operation) = (principal.name(), operation.name());
        let resource = resource.to_string();
        note(&format!("{name} may not {operation} {resource}"));
        let kind = (name.to_owned(), operation, resource.clone());
        let count = {
            let mut denials = lock(&self.denials);
            if denials.len() >= DENIALS_MAX && !denials.contains_key(&kind) {
                denials.clear();
            }
            let count = denials.entry(kind).or_insert(0);
            *count += 1;
            *count
        };
        if count.is_power_of_two() {
            let host = principal.host();
            tracing::warn!(principal = name, operation, resource, %host, count, "not authorised");
        }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Rules> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// For rules whose records are durable already.
    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Rules> {
        self.rules.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The broker's own work is never asked about.
    fn exempt(&self, principal: &Principal) -> bool {
        !self.enabled || self.super_users.contains(principal.name()) || principal.is_internal()
    }

    fn means(&self, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Allowed => true,
            Verdict::Denied => false,
            Verdict::NoRule => self.everyone_without_rule,
        }
    }
}
