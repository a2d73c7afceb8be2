//! The configuration that holds now: the static one with what was set through the protocol.
//!
//! Owner of: the current [`Config`], and what was set for groups and client metrics subscriptions.
//! Topics keep their own in `topics`. Whoever needs a setting asks here each time it matters and
//! keeps no copy, so that a change holds at once. Changes come from `config_changes` only, after
//! their record is durable.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use arc_swap::ArcSwap;

use crate::config::{Config, GroupConfig, Levels, Overrides, Subscription};
use crate::state::ConfigResource;

pub(crate) struct Configs {
    current: ArcSwap<Config>,
    /// Of groups and client metrics subscriptions.
    overrides: RwLock<BTreeMap<ConfigResource, Overrides>>,
}

impl Configs {
    /// `stored`: what the state log holds.
    pub(crate) fn new(
        config: Arc<Config>,
        mut stored: BTreeMap<ConfigResource, Overrides>,
    ) -> Self {
        let mut of = |resource| stored.remove(&resource).unwrap_or_default();
        let levels = Levels {
            broker: of(ConfigResource::Broker(config.node_id)),
            defaults: of(ConfigResource::BrokerDefaults),
        };
        let current = match config.with_levels(levels) {
            Ok(config) => Arc::new(config),
            Err(why) => {
                tracing::warn!(%why, "what was set for this broker at run time no longer holds; \
                    set it again with kafka-configs");
                config
            }
        };
        Self { current: ArcSwap::new(current), overrides: RwLock::new(stored) }
    }

    pub(crate) fn current(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// What holds for a group.
    pub(crate) fn group(&self, group: &str) -> GroupConfig {
        let defaults = &self.current().groups.defaults;
        let own = self.overrides(&ConfigResource::Group(group.to_owned()));
        defaults.group(&own).unwrap_or_else(|why| {
            // The broker's bounds may have changed since it was set.
            tracing::warn!(%group, %why, "the group's configuration no longer holds");
            defaults.group(&Overrides::new()).expect("the start has checked the defaults")
        })
    }

    /// All client metrics subscriptions, in the order of their names.
    pub(crate) fn subscriptions(&self) -> Vec<Subscription> {
        let all = self.read();
        let made = all.iter().filter_map(|(resource, overrides)| match resource {
            ConfigResource::ClientMetrics(name) => Subscription::new(name, overrides).ok(),
            _ => None,
        });
        made.collect()
    }

    /// What was set for a resource; nothing for one that nobody has set anything for.
    pub(crate) fn overrides(&self, resource: &ConfigResource) -> Overrides {
        match resource {
            ConfigResource::Broker(_) => self.current().levels().broker.clone(),
            ConfigResource::BrokerDefaults => self.current().levels().defaults.clone(),
            other => self.read().get(other).cloned().unwrap_or_default(),
        }
    }

    /// Groups and subscriptions for which something is set.
    pub(crate) fn resources(&self) -> Vec<ConfigResource> {
        let all = self.read();
        let known = all.keys().filter(|resource| {
            matches!(resource, ConfigResource::Group(_) | ConfigResource::ClientMetrics(_))
        });
        known.cloned().collect()
    }

    pub(crate) fn set_current(&self, config: Config) {
        self.current.store(Arc::new(config));
    }

    /// Of a group or a client metrics subscription; nothing left takes it away.
    pub(crate) fn set_overrides(&self, resource: ConfigResource, overrides: Overrides) {
        let mut all = self.overrides.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if overrides.is_empty() {
            all.remove(&resource);
        } else {
            all.insert(resource, overrides);
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<ConfigResource, Overrides>> {
        self.overrides.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
