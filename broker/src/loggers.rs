//! Levels of what the process says, asked for and changed while it runs (KIP-412): `kafka-configs
//! --entity-type broker-loggers`. As in Kafka, a change lasts until the process ends.
//!
//! The process owns its log, not the broker, so it gives the broker a handle on it; a broker
//! without one has no loggers, and says so.

use std::borrow::Cow;

use kafka_protocol::ResponseError;
use tracing::level_filters::LevelFilter;

use crate::config::describe::{Described, Source};
use crate::config_changes::Change;
use crate::topic_changes::{Refusal, refuse};

/// The logger of all that no other one names.
pub const ROOT: &str = "root";

/// Kafka's words for levels. FATAL is said here by ERROR.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("TRACE", LevelFilter::TRACE),
    ("DEBUG", LevelFilter::DEBUG),
    ("INFO", LevelFilter::INFO),
    ("WARN", LevelFilter::WARN),
    ("ERROR", LevelFilter::ERROR),
    ("FATAL", LevelFilter::ERROR),
];

/// What the process says, by logger.
pub trait Loggers: Send + Sync {
    /// Every logger and its level.
    fn levels(&self) -> Vec<(&'static str, LevelFilter)>;

    /// Sets levels; `None`: as it was at the start. The names are some of [`Self::levels`].
    fn set(&self, changes: &[(&'static str, Option<LevelFilter>)]) -> Result<(), String>;
}

/// As rows of a DescribeConfigs reply.
pub(crate) fn describe(loggers: Option<&dyn Loggers>) -> Vec<Described> {
    let levels = loggers.map(Loggers::levels).unwrap_or_default();
    let rows = levels.into_iter().map(|(name, level)| Described {
        name: Cow::Borrowed(name),
        value: Some(level.to_string().to_ascii_uppercase()),
        source: Source::BrokerLogger,
        read_only: false,
        sensitive: false,
        kind: 0,
        synonyms: Vec::new(),
        documentation: String::new(),
    });
    rows.collect()
}

/// All of the changes or none.
pub(crate) fn alter(
    loggers: Option<&dyn Loggers>,
    changes: &[(String, Change)],
    validate_only: bool,
) -> Result<(), Refusal> {
    let levels = loggers.map(Loggers::levels).unwrap_or_default();
    let mut checked = Vec::with_capacity(changes.len());
    for (name, change) in changes {
        let Some((known, _)) = levels.iter().find(|(known, _)| *known == name.as_str()) else {
            let names: Vec<&str> = levels.iter().map(|(name, _)| *name).collect();
            let why = match names.is_empty() {
                true => "this broker has no loggers".to_owned(),
                false => format!("there is no logger {name}; there are {}", names.join(", ")),
            };
            return refuse(ResponseError::InvalidConfig, why);
        };
        let level = match change {
            Change::Set(word) => Some(parse(name, word)?),
            Change::Delete if *known == ROOT => {
                let why = "the level of the root logger can be changed, not taken away";
                return refuse(ResponseError::InvalidRequest, why);
            }
            Change::Delete => None,
            Change::Append(_) | Change::Subtract(_) => {
                let why = format!("the level of {name} is not a list: it can be set or deleted");
                return refuse(ResponseError::InvalidRequest, why);
            }
        };
        checked.push((*known, level));
    }
    match loggers {
        Some(loggers) if !validate_only => {
            loggers.set(&checked).map_err(|why| (ResponseError::UnknownServerError, why))
        }
        _ => Ok(()),
    }
}

fn parse(name: &str, word: &str) -> Result<LevelFilter, Refusal> {
    let found = LEVELS.iter().find(|(known, _)| *known == word);
    found.map(|(_, level)| *level).ok_or_else(|| {
        let words: Vec<&str> = LEVELS.iter().map(|(word, _)| *word).collect();
        let why = format!("{word:?} is no level for {name}: it is one of {}", words.join(", "));
        (ResponseError::InvalidConfig, why)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Two(Mutex<Vec<(&'static str, Option<LevelFilter>)>>);

    impl Loggers for Two {
        fn levels(&self) -> Vec<(&'static str, LevelFilter)> {
            vec![(ROOT, LevelFilter::INFO), ("odradek_log", LevelFilter::WARN)]
        }

        fn set(&self, changes: &[(&'static str, Option<LevelFilter>)]) -> Result<(), String> {
            self.0.lock().expect("no panic").extend(changes);
            Ok(())
        }
    }

    fn set(name: &str, level: &str) -> (String, Change) {
        (name.to_owned(), Change::Set(level.to_owned()))
    }

    #[test]
    fn levels_are_told_in_kafkas_words() {
        let two = Two(Mutex::default());
        let rows = describe(Some(&two));
        let told: Vec<_> = rows.iter().map(|row| (&*row.name, row.value.as_deref())).collect();
        assert_eq!(told, [("root", Some("INFO")), ("odradek_log", Some("WARN"))]);
        assert!(describe(None).is_empty());
    }

    #[test]
    fn all_changes_are_made_or_none() {
        let two = Two(Mutex::default());
        let delete = |name: &str| (name.to_owned(), Change::Delete);
        let refused = [
            (set("odradek_lag", "INFO"), ResponseError::InvalidConfig),
            (set("root", "debug"), ResponseError::InvalidConfig),
            (delete("root"), ResponseError::InvalidRequest),
            (("root".into(), Change::Append("INFO".into())), ResponseError::InvalidRequest),
        ];
        for (wrong, error) in refused {
            let both = [set("root", "DEBUG"), wrong];
            assert_eq!(alter(Some(&two), &both, false).expect_err("refused").0, error, "{both:?}");
        }
        alter(Some(&two), &[set("root", "TRACE")], true).expect("only checked");
        assert!(two.0.lock().expect("no panic").is_empty());
        let both = [set("root", "FATAL"), delete("odradek_log")];
        alter(Some(&two), &both, false).expect("changed");
        let made = [("root", Some(LevelFilter::ERROR)), ("odradek_log", None)];
        assert_eq!(*two.0.lock().expect("no panic"), made);
        assert!(alter(None, &both, false).is_err());
    }
}
