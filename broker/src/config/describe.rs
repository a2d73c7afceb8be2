//! DescribeConfigs' view of the table: every key with value, source, synonyms and text.

use std::collections::BTreeMap;

use super::Config;
use super::keys::{self, Key, Kind};

/// Kafka's `ConfigSource` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Topic = 1,
    StaticBroker = 4,
    Default = 5,
}

/// One row of a DescribeConfigs reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: &'static str,
    /// `None` for a secret and for what is not set.
    pub value: Option<String>,
    pub source: Source,
    pub read_only: bool,
    pub sensitive: bool,
    /// Kafka's `ConfigType` number.
    pub kind: i8,
    /// Where values were found, the one that counts first.
    pub synonyms: Vec<(&'static str, Option<String>, Source)>,
    pub documentation: String,
}

impl Config {
    /// Keys of the broker. Keys without effect are not listed: nothing reads them.
    pub fn describe_broker(&self) -> Vec<Described> {
        keys::used()
            .map(|key| {
                let synonyms = self.broker_synonyms(key);
                let (value, source) = synonyms
                    .first()
                    .map_or((None, Source::Default), |(_, value, source)| (value.clone(), *source));
                described(key, value, source, synonyms)
            })
            .collect()
    }

    /// Keys of a topic to which `overrides` were given.
    pub fn describe_topic(&self, overrides: &BTreeMap<String, String>) -> Vec<Described> {
        keys::TOPIC
            .iter()
            .map(|key| {
                let own = overrides.get(key.name).cloned();
                let (default, set_by) = self.topic_default(key);
                let mut synonyms = Vec::new();
                if let Some(value) = &own {
                    synonyms.push((key.name, Some(value.clone()), Source::Topic));
                }
                for (name, _) in key.synonyms {
                    if let Some(broker_key) = keys::used().find(|used| used.name == *name) {
                        synonyms.extend(self.broker_synonyms(broker_key));
                    }
                }
                let source = match (&own, set_by) {
                    (Some(_), _) => Source::Topic,
                    (None, Some(_)) => Source::StaticBroker,
                    (None, None) => Source::Default,
                };
                described(key, Some(own.unwrap_or(default)), source, synonyms)
            })
            .collect()
    }

    fn broker_synonyms(&self, key: &'static Key) -> Vec<(&'static str, Option<String>, Source)> {
        let shown = |value: &str| (!key.sensitive()).then(|| value.to_owned());
        let entry = self.values.entries.get(key.name);
        let written = entry.map(|entry| (key.name, shown(&entry.value), Source::StaticBroker));
        let default = key.default.map(|value| (key.name, shown(value), Source::Default));
        written.into_iter().chain(default).collect()
    }
}

fn described(
    key: &'static Key,
    value: Option<String>,
    source: Source,
    synonyms: Vec<(&'static str, Option<String>, Source)>,
) -> Described {
    let documentation = match key.long {
        "" => key.short.to_owned(),
        long => format!("{} {long}", key.short),
    };
    Described {
        name: key.name,
        value: value.filter(|_| !key.sensitive()),
        source,
        read_only: !key.dynamic,
        sensitive: key.sensitive(),
        kind: kind_number(key.kind),
        synonyms,
        documentation,
    }
}

/// `ConfigEntry.ConfigType` of the Java client.
const fn kind_number(kind: Kind) -> i8 {
    match kind {
        Kind::Bool => 1,
        Kind::Text | Kind::OneOf(_) => 2,
        Kind::Int { .. } => 3,
        Kind::Long { .. } => 5,
        Kind::List => 7,
        Kind::Password => 9,
    }
}
