//! What was set through the protocol while the broker runs, above the static configuration.
//!
//! Kafka's precedence: what was set for this broker, then what was set for all brokers, then the
//! file (with environment and `--override`), then the default. A [`Config`] does not change: each
//! change makes a new one from the same static values.

use std::collections::BTreeMap;

use super::describe::Source;
use super::values::{Entry, Origin, Reader, Values};
use super::{Config, keys, resolve_dynamic};

/// Values by key, as text.
pub type Overrides = BTreeMap<String, String>;

/// The two dynamic levels of the broker's keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Levels {
    /// For this broker.
    pub broker: Overrides,
    /// For all brokers: the resource without a name.
    pub defaults: Overrides,
}

impl Levels {
    /// The value that counts, and the level that it stands at.
    fn find(&self, name: &str) -> Option<(&str, Source)> {
        match (self.broker.get(name), self.defaults.get(name)) {
            (Some(value), _) => Some((value, Source::DynamicBroker)),
            (None, Some(value)) => Some((value, Source::DynamicDefault)),
            (None, None) => None,
        }
    }
}

impl Config {
    pub fn levels(&self) -> &Levels {
        &self.levels
    }

    /// This configuration under other dynamic levels; an error is a sentence for the client.
    pub fn with_levels(&self, levels: Levels) -> Result<Self, String> {
        check(&levels.broker)?;
        check(&levels.defaults)?;
        let mut values: Values = self.values.clone();
        for (name, value) in levels.defaults.iter().chain(&levels.broker) {
            let entry = Entry { value: value.clone(), origin: Origin::Dynamic };
            values.entries.insert(name.clone(), entry);
        }
        let reader = Reader::new(&values);
        let mut config = self.clone();
        resolve_dynamic(&reader, &mut config);
        config.levels = levels;
        match reader.into_problems().first() {
            None => Ok(config),
            Some(problem) => Err(problem.to_string()),
        }
    }

    /// The value that counts for a broker's key and where it was written; not its default.
    pub(super) fn written(&self, name: &str) -> Option<(&str, Source)> {
        let fixed = self.values.entries.get(name).filter(|entry| !entry.value.is_empty());
        let fixed = fixed.map(|entry| (entry.value.as_str(), Source::StaticBroker));
        self.levels.find(name).or(fixed)
    }
}

/// Whether these keys may be set while the broker runs, to these values. The sentences for keys
/// that may not are Kafka's.
fn check(overrides: &Overrides) -> Result<(), String> {
    let fixed: Vec<&str> = overrides
        .keys()
        .map(String::as_str)
        .filter(|name| keys::find(name).is_some() && !keys::is_dynamic(name))
        .collect();
    if !fixed.is_empty() {
        return Err(format!("Cannot update these configs dynamically: [{}]", fixed.join(", ")));
    }
    for (name, value) in overrides {
        match keys::find(name) {
            Some(keys::Found::Key(key)) => key
                .check(value)
                .map_err(|what| format!("Invalid value for configuration {name}: {what}"))?,
            Some(keys::Found::Foreign(_)) => {}
            None if keys::is_dynamic(name) => {}
            None => {
                let near = keys::nearest(name);
                let hint = near.map_or(String::new(), |near| format!(" (is {near} meant?)"));
                return Err(format!("Unknown broker config name: {name}{hint}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(broker: &[(&str, &str)], defaults: &[(&str, &str)]) -> Levels {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        Levels { broker: map(broker), defaults: map(defaults) }
    }

    #[test]
    fn the_broker_wins_over_all_brokers_and_these_over_the_file() {
        let fixed = Config::from_text("f", "log.retention.hours=1\nmax.connections=7\n").unwrap();
        let hour = Some(3_600_000);
        assert_eq!(fixed.topics.settings.retention_ms, hour);
        let all = levels(&[], &[("log.retention.ms", "5"), ("max.connections", "8")]);
        let dynamic = fixed.with_levels(all.clone()).unwrap();
        assert_eq!(dynamic.topics.settings.retention_ms, Some(5));
        assert_eq!(dynamic.limits.connections_max, 8);
        let one = Levels { broker: levels(&[("max.connections", "9")], &[]).broker, ..all };
        let dynamic = dynamic.with_levels(one).unwrap();
        assert_eq!(dynamic.topics.settings.retention_ms, Some(5));
        assert_eq!(dynamic.limits.connections_max, 9);
        // What is taken back leaves the file's value.
        let back = dynamic.with_levels(Levels::default()).unwrap();
        assert_eq!(back.topics.settings.retention_ms, hour);
        assert_eq!(back.limits.connections_max, 7);
    }

    #[test]
    fn what_is_fixed_unknown_or_no_value_is_refused_and_changes_nothing() {
        let config = Config::defaults();
        for (name, value, what) in [
            ("log.dirs", "/x", "Cannot update these configs dynamically: [log.dirs]"),
            ("log.retention.hours", "1", "Cannot update these configs dynamically"),
            ("log.retention.mss", "1", "is log.retention.ms meant?"),
            ("log.retention.ms", "soon", "is not a whole number"),
            ("log.cleanup.policy", "burn", "is neither delete nor compact"),
        ] {
            let refused = config.with_levels(levels(&[], &[(name, value)])).unwrap_err();
            assert!(refused.contains(what), "{name}: {refused}");
        }
        // Without effect here, and yet taken: librdkafka's suite sets the second one.
        for name in ["num.io.threads", "sasl.kerberos.min.time.before.relogin"] {
            assert!(config.with_levels(levels(&[(name, "58000")], &[])).is_ok(), "{name}");
        }
    }
}
