//! THE table of configuration keys.
//!
//! Parser, environment form, DescribeConfigs, the commented sample file, "did you mean" and the
//! manual's table all come from it. Every key has one verdict:
//! - *used*: something in this broker reads it (a test in `config` fails for one that nothing
//!   reads);
//! - *no effect*: known to Kafka, without meaning here; accepted, and listed once at the start;
//! - *refused*: known to Kafka, but to go on without it would be unsafe or a surprise.
//!
//! A name that is not in the table at all is refused with its file, line and nearest name.

mod broker;
mod client_metrics;
mod dynamic;
mod foreign;
mod group;
mod topic;

pub use broker::SECTIONS;
pub use client_metrics::{CLIENT_METRICS, MATCHED};
pub use dynamic::{is_dynamic, is_per_broker, of_listener, wants_listener};
pub use foreign::{FAMILIES, FOREIGN};
pub use group::GROUP;
pub use topic::TOPIC;

/// The type of a value, with its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// A word out of these, in any case.
    OneOf(&'static [&'static str]),
    Bool,
    Int {
        min: i64,
        max: i64,
    },
    Long {
        min: i64,
        max: i64,
    },
    /// From 0 to 1.
    Ratio,
    List,
    Password,
}

/// Where a key may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Broker,
    /// Also as `listener.name.<listener>.<key>`, which wins for that listener.
    Listener,
    /// Only as `listener.name.<listener>.<mechanism>.<key>`, or bare for all listeners.
    Mechanism,
    Topic,
    Group,
    ClientMetrics,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Used,
    /// Why it means nothing here.
    NoEffect(&'static str),
    /// Why it is refused, and what to do.
    Refused(&'static str),
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// As it would be written in the file; `None` is "not set".
    pub default: Option<&'static str>,
    /// Kafka's default and why ours differs, where it does.
    pub kafka_default: Option<(&'static str, &'static str)>,
    pub scope: Scope,
    /// Can be changed while the broker runs: of a broker's key, at the level of one broker and of
    /// all (the cluster-wide default).
    pub dynamic: bool,
    pub verdict: Verdict,
    pub short: &'static str,
    pub long: &'static str,
    /// For a topic's or group's key: the broker's keys that give its default, first one first, each
    /// with the factor that turns its unit into this key's.
    pub synonyms: &'static [(&'static str, i64)],
}

impl Key {
    const fn new(name: &'static str, kind: Kind, short: &'static str) -> Self {
        Self {
            name,
            kind,
            default: None,
            kafka_default: None,
            scope: Scope::Broker,
            dynamic: false,
            verdict: Verdict::Used,
            short,
            long: "",
            synonyms: &[],
        }
    }

    const fn default(mut self, value: &'static str) -> Self {
        self.default = Some(value);
        self
    }

    const fn differs(mut self, kafka: &'static str, why: &'static str) -> Self {
        self.kafka_default = Some((kafka, why));
        self
    }

    const fn long(mut self, text: &'static str) -> Self {
        self.long = text;
        self
    }

    const fn scope(mut self, scope: Scope) -> Self {
        self.scope = scope;
        self
    }

    const fn no_effect(mut self, why: &'static str) -> Self {
        self.verdict = Verdict::NoEffect(why);
        self
    }

    const fn dynamic(mut self) -> Self {
        self.dynamic = true;
        self
    }

    const fn synonyms(mut self, names: &'static [(&'static str, i64)]) -> Self {
        self.scope = Scope::Topic;
        self.dynamic = true;
        self.synonyms = names;
        self
    }

    const fn of_group(mut self, names: &'static [(&'static str, i64)]) -> Self {
        self.scope = Scope::Group;
        self.dynamic = true;
        self.synonyms = names;
        self
    }

    /// Its value is a secret: never in a log, a reply or an error.
    pub const fn sensitive(&self) -> bool {
        matches!(self.kind, Kind::Password)
    }

    /// The value in the form in which it is used, or what is wrong with it, as a clause.
    pub fn check(&self, value: &str) -> Result<(), String> {
        // As in Kafka, blanks around a value mean nothing.
        let value = value.trim();
        match self.kind {
            Kind::Text | Kind::List | Kind::Password => Ok(()),
            Kind::Ratio => match value.parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(()),
                Ok(_) => Err(format!("{value} is not between 0 and 1")),
                Err(_) => Err(format!("{value:?} is not a number")),
            },
            Kind::Bool if parse_bool(value).is_some() => Ok(()),
            Kind::Bool => Err(format!("{value:?} is neither true nor false")),
            Kind::OneOf(words) => {
                if words.iter().any(|word| word.eq_ignore_ascii_case(value)) {
                    Ok(())
                } else {
                    Err(format!("{value:?} is none of: {}", words.join(", ")))
                }
            }
            Kind::Int { min, max } | Kind::Long { min, max } => match value.parse::<i64>() {
                Err(_) => Err(format!("{value:?} is not a whole number")),
                Ok(number) if number < min => Err(format!("{number} is less than {min}")),
                Ok(number) if number > max => Err(format!("{number} is more than {max}")),
                Ok(_) => Ok(()),
            },
        }
    }
}

/// Kafka's own reading of a boolean.
pub fn parse_bool(value: &str) -> Option<bool> {
    match value {
        _ if value.eq_ignore_ascii_case("true") => Some(true),
        _ if value.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Every broker key that is used, in the order of the sample file.
pub fn used() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|(_, keys)| keys.iter())
}

/// The verdict on a key of `server.properties`, without any listener prefix.
pub fn find(name: &str) -> Option<Found> {
    if let Some(key) = used().find(|key| key.name == name) {
        return Some(Found::Key(key));
    }
    if let Some((_, verdict)) = FOREIGN.iter().find(|(known, _)| *known == name) {
        return Some(Found::Foreign(*verdict));
    }
    let family = FAMILIES.iter().find(|(prefix, _)| name.starts_with(prefix));
    family.map(|(_, why)| Found::Foreign(Verdict::NoEffect(why)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Key(&'static Key),
    /// Known to Kafka only.
    Foreign(Verdict),
}

/// Whether the value under this name is a secret, with or without a listener's prefix. A name that
/// nobody knows counts as one if it looks like one.
pub fn is_sensitive(name: &str) -> bool {
    let of = |key: &Key| name == key.name || name.ends_with(&format!(".{}", key.name));
    used().any(|key| key.sensitive() && of(key)) || name.to_ascii_lowercase().contains("password")
}

/// The used key of this name. Only for names written in this package's source.
pub(super) fn used_key(name: &str) -> &'static Key {
    used().find(|key| key.name == name).expect("a key that code reads stands in the table")
}

pub fn client_metrics_key(name: &str) -> Option<&'static Key> {
    CLIENT_METRICS.iter().find(|key| key.name == name)
}

pub fn group_key(name: &str) -> Option<&'static Key> {
    GROUP.iter().find(|key| key.name == name)
}

pub fn topic_key(name: &str) -> Option<&'static Key> {
    TOPIC.iter().find(|key| key.name == name)
}

/// The known name that is most like this one, if one is like it at all.
pub fn nearest(name: &str) -> Option<&'static str> {
    let known = used().map(|key| key.name).chain(FOREIGN.iter().map(|(name, _)| *name));
    nearest_of(name, known)
}

pub fn nearest_topic(name: &str) -> Option<&'static str> {
    nearest_of(name, TOPIC.iter().map(|key| key.name))
}

fn nearest_of<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // A quarter of the letters may differ: more than that is another word, not a slip. Names
    // longer than any key are not compared (the cost is quadratic, the file may be anything).
    let slips_max = 1 + name.len() / 4;
    if name.len() > 128 {
        return None;
    }
    known
        .map(|candidate| {
            (distance(name, candidate), candidate.len().abs_diff(name.len()), candidate)
        })
        .filter(|(slips, ..)| *slips <= slips_max)
        .min()
        .map(|(.., candidate)| candidate)
}

/// Levenshtein's distance in bytes.
pub(crate) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_stands_twice_and_every_default_is_a_valid_value() {
        let mut names: Vec<&str> = used().map(|key| key.name).collect();
        names.extend(FOREIGN.iter().map(|(name, _)| *name));
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
        for key in used().chain(TOPIC).chain(GROUP).chain(CLIENT_METRICS) {
            if let Some(default) = key.default {
                assert_eq!(key.check(default), Ok(()), "{}", key.name);
            }
            assert!(!key.short.is_empty(), "{} has no text", key.name);
        }
    }

    #[test]
    fn a_slip_of_the_keyboard_finds_the_name_and_another_word_does_not() {
        for (typed, meant) in [
            ("listner", Some("listeners")),
            ("advertised.listener", Some("advertised.listeners")),
            ("log.dirz", Some("log.dirs")),
            ("num.partition", Some("num.partitions")),
            ("zzzzzzzzzz", None),
        ] {
            assert_eq!(nearest(typed), meant, "{typed}");
        }
        assert_eq!(nearest_topic("retention.mss"), Some("retention.ms"));
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn every_synonym_of_a_topic_or_group_key_is_a_key_of_the_broker() {
        for key in TOPIC.iter().chain(GROUP) {
            for (name, _) in key.synonyms {
                assert!(find(name).is_some(), "{}: {name}", key.name);
            }
        }
    }
}
