//! DescribeConfigs' view of the table: every key with value, source, synonyms and text.
//!
//! Synonyms follow Kafka: level by level (this broker's, all brokers', the file's, the defaults),
//! at each level the key's names from the first one that wins to the last; what comes before the
//! key's own (first) name is dropped, and the first of what is left says where the value comes
//! from.

use std::borrow::Cow;

use super::Config;
use super::dynamic::Overrides;
use super::keys::{self, Found, Key, Kind};

/// Kafka's `ConfigSource` numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Topic = 1,
    DynamicBroker = 2,
    DynamicDefault = 3,
    StaticBroker = 4,
    Default = 5,
    BrokerLogger = 6,
    ClientMetrics = 7,
    Group = 8,
}

/// A name, the value written under it, and where.
pub type Synonym = (Cow<'static, str>, Option<String>, Source);

/// One row of a DescribeConfigs reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    pub name: Cow<'static, str>,
    /// `None` for a secret and for what is not set.
    pub value: Option<String>,
    pub source: Source,
    pub read_only: bool,
    pub sensitive: bool,
    /// Kafka's `ConfigType` number.
    pub kind: i8,
    /// Where values were found, the one that counts first.
    pub synonyms: Vec<Synonym>,
    pub documentation: String,
}

impl Described {
    /// Whatever way a value came in (with a listener's prefix, while the broker runs): a secret is
    /// in no reply.
    fn without_secrets(mut self) -> Self {
        if keys::is_sensitive(&self.name) {
            (self.value, self.sensitive) = (None, true);
        }
        for (name, value, _) in &mut self.synonyms {
            *value = value.take().filter(|_| !keys::is_sensitive(name));
        }
        self
    }
}

/// Kafka's durations with several names, the one that wins first.
const DURATIONS: &[&[&str]] = &[
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
];

impl Config {
    /// Keys of the broker. Those of one listener are listed where they were set, those without
    /// effect only where they were set while it runs.
    pub fn describe_broker(&self) -> Vec<Described> {
        let used = keys::used().map(|key| {
            let synonyms = self.broker_synonyms(key.name);
            let (value, source) = match synonyms.first() {
                Some((_, value, source)) => (value.clone(), *source),
                None => (None, Source::Default),
            };
            described(key, value, source, synonyms)
        });
        let dynamic = self.levels().broker.keys().chain(self.levels().defaults.keys());
        let mut others: Vec<&String> = dynamic.filter(|name| !is_used(name)).collect();
        let fixed = self.values.entries.keys();
        others.extend(fixed.filter(|name| keys::of_listener(name).is_some()));
        others.sort_unstable();
        others.dedup();
        let others = others.into_iter().map(|name| match keys::of_listener(name) {
            Some(key) => self.of_listener(name, key),
            None => self.without_effect(name),
        });
        used.chain(others).map(Described::without_secrets).collect()
    }

    /// A key under a listener's prefix; the bare key is its synonym.
    fn of_listener(&self, name: &str, key: &'static Key) -> Described {
        let synonyms = self.broker_synonyms(name);
        let (value, source) = match synonyms.first() {
            Some((_, value, source)) => (value.clone(), *source),
            None => (None, Source::Default),
        };
        Described { name: Cow::from(name.to_owned()), ..described(key, value, source, synonyms) }
    }

    /// What was set for all brokers while they run.
    pub fn describe_broker_defaults(&self) -> Vec<Described> {
        let rows = self.levels().defaults.iter().map(|(name, value)| {
            let synonym = (Cow::from(name.clone()), Some(value.clone()), Source::DynamicDefault);
            let (synonyms, value) = (vec![synonym], Some(value.clone()));
            match keys::find(name) {
                Some(Found::Key(key)) => described(key, value, Source::DynamicDefault, synonyms),
                _ => Described { synonyms, value, ..self.without_effect(name) },
            }
        });
        rows.map(Described::without_secrets).collect()
    }

    /// Keys of a topic to which `overrides` were given.
    pub fn describe_topic(&self, overrides: &Overrides) -> Vec<Described> {
        self.describe_resource(keys::TOPIC, overrides, Source::Topic)
    }

    /// Keys of a group to which `overrides` were given.
    pub fn describe_group(&self, overrides: &Overrides) -> Vec<Described> {
        self.describe_resource(keys::GROUP, overrides, Source::Group)
    }

    /// Keys of a client metrics subscription; the broker has no defaults for these.
    pub fn describe_client_metrics(&self, overrides: &Overrides) -> Vec<Described> {
        self.describe_resource(keys::CLIENT_METRICS, overrides, Source::ClientMetrics)
    }

    fn describe_resource(
        &self,
        table: &'static [Key],
        overrides: &Overrides,
        own_source: Source,
    ) -> Vec<Described> {
        let rows = table.iter().map(|key| {
            let own = overrides.get(key.name);
            let mut synonyms: Vec<Synonym> = own
                .map(|value| (key.name.into(), Some(value.clone()), own_source))
                .into_iter()
                .collect();
            if let Some((first, _)) = key.synonyms.first() {
                // A default of ours that means something else here is none of the resource's.
                let foreign = |(_, value, source): &Synonym| {
                    *source == Source::Default && value.as_deref() != key.default
                };
                let broker = self.broker_synonyms(first).into_iter();
                // Of several names, each has its unit.
                let several = key.synonyms.len() > 1;
                synonyms.extend(broker.filter(|synonym| several || !foreign(synonym)));
            }
            let source = synonyms.first().map_or(Source::Default, |(_, _, source)| *source);
            let value = own.cloned().unwrap_or_else(|| self.default_value(key));
            described(key, Some(value), source, synonyms)
        });
        rows.collect()
    }

    fn broker_synonyms(&self, name: &str) -> Vec<Synonym> {
        let several = DURATIONS.iter().find(|names| names.contains(&name));
        let own = match keys::of_listener(name) {
            Some(key) => vec![name, key.name],
            None => vec![name],
        };
        let names: &[&str] = several.map_or(&own, |names| names);
        let mut synonyms = Vec::new();
        for level in
            [Source::DynamicBroker, Source::DynamicDefault, Source::StaticBroker, Source::Default]
        {
            for name in names {
                if let Some((name, value)) = self.at_level(name, level) {
                    synonyms.push((name, value, level));
                }
            }
        }
        synonyms.into_iter().skip_while(|(found, ..)| found != name).collect()
    }

    /// The name from the table, and the value at this level; a secret has none.
    fn at_level(&self, name: &str, level: Source) -> Option<(Cow<'static, str>, Option<String>)> {
        let key = keys::used().find(|key| key.name == name);
        let row = key.or_else(|| keys::of_listener(name));
        let value = match level {
            Source::DynamicBroker => self.levels().broker.get(name).map(String::as_str),
            Source::DynamicDefault => self.levels().defaults.get(name).map(String::as_str),
            Source::StaticBroker => self.values.entries.get(name).map(|entry| entry.value.as_str()),
            _ => key.map_or_else(|| default_of_foreign(name), |key| key.default),
        }?;
        let shown = !row.is_some_and(Key::sensitive);
        let name = key.map_or_else(|| Cow::from(name.to_owned()), |key| Cow::from(key.name));
        Some((name, shown.then(|| value.to_owned())))
    }

    /// A key that Kafka knows and nothing here reads, set while the broker runs.
    fn without_effect(&self, name: &str) -> Described {
        let synonyms = self.broker_synonyms(name);
        let (value, source) = match synonyms.first() {
            Some((_, value, source)) => (value.clone(), *source),
            None => (None, Source::Default),
        };
        let why = match keys::find(name) {
            Some(Found::Foreign(keys::Verdict::NoEffect(why))) => format!("No effect here: {why}."),
            _ => "No effect here.".to_owned(),
        };
        Described {
            name: Cow::from(name.to_owned()),
            value,
            source,
            read_only: false,
            sensitive: false,
            kind: kind_number(Kind::Text),
            synonyms,
            documentation: why,
        }
    }
}

fn is_used(name: &str) -> bool {
    matches!(keys::find(name), Some(Found::Key(_)))
}

/// A topic's key can have a broker key without effect for its default.
fn default_of_foreign(name: &str) -> Option<&'static str> {
    if DURATIONS.iter().any(|names| names.contains(&name)) {
        // Only the last of the names has a default, and it is in another unit.
        return None;
    }
    let first = |key: &&Key| key.synonyms.first().is_some_and(|(synonym, _)| *synonym == name);
    keys::TOPIC.iter().find(first).and_then(|key| key.default)
}

fn described(
    key: &'static Key,
    value: Option<String>,
    source: Source,
    synonyms: Vec<Synonym>,
) -> Described {
    let documentation = match key.long {
        "" => key.short.to_owned(),
        long => format!("{} {long}", key.short),
    };
    Described {
        name: Cow::from(key.name),
        value: value.filter(|_| !key.sensitive()),
        source,
        read_only: !key.dynamic
            && matches!(
                key.scope,
                keys::Scope::Broker | keys::Scope::Listener | keys::Scope::Mechanism
            ),
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
        Kind::Ratio => 6,
        Kind::List => 7,
        Kind::Password => 9,
    }
}
