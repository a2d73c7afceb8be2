//! Client metrics subscriptions (KIP-714): which clients are asked for which metrics, how often.

use regex::RegexBuilder;

use super::dynamic::Overrides;
use super::keys::{self, client_metrics_key};
use crate::limits;

/// One subscription, as `kafka-client-metrics` sets it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    pub name: String,
    /// Prefixes of metric names; `*` is all of them. Nothing asks for nothing.
    pub metrics: Vec<String>,
    pub interval_ms: i32,
    /// Pairs of what is looked at (see `keys::MATCHED`) and the pattern that all of it must match.
    pub matching: Vec<(String, String)>,
}

/// Why a subscription is refused, in Kafka's sentences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// INVALID_REQUEST.
    Request(String),
    /// INVALID_CONFIG.
    Config(String),
}

impl Subscription {
    /// From what was set.
    pub fn new(name: &str, overrides: &Overrides) -> Result<Self, Refused> {
        if name.is_empty() {
            return Err(Refused::Request("Subscription name can't be empty".to_owned()));
        }
        for (key, value) in overrides {
            let Some(known) = client_metrics_key(key) else {
                let why = format!("Unknown client metrics configuration: {key}");
                return Err(Refused::Request(why));
            };
            let Err(what) = known.check(value) else { continue };
            if key == "interval.ms" && value.parse::<i32>().is_ok() {
                return Err(Refused::Request(format!(
                    "Invalid value {value} for interval.ms, interval must be between 100 and \
                     3600000 (1 hour)"
                )));
            }
            let why = format!("Invalid value {value} for configuration {key}: {what}");
            return Err(Refused::Config(why));
        }
        let text = |key: &str| {
            let default = || client_metrics_key(key).and_then(|key| key.default);
            overrides.get(key).map(String::as_str).or_else(default).unwrap_or_default()
        };
        Ok(Self {
            name: name.to_owned(),
            metrics: list(text("metrics")).map(str::to_owned).collect(),
            interval_ms: text("interval.ms").parse().unwrap_or(300_000),
            matching: list(text("match")).map(pattern).collect::<Result<_, _>>()?,
        })
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

fn pattern(text: &str) -> Result<(String, String), Refused> {
    let illegal = || Refused::Config(format!("Illegal client matching pattern: {text}"));
    let mut parts = text.split('=');
    let (Some(name), Some(pattern), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(illegal());
    };
    let (name, pattern) = (name.trim(), pattern.trim());
    let compiled = RegexBuilder::new(&format!("^(?:{pattern})$"))
        .size_limit(limits::PATTERN_BYTES_MAX)
        .build();
    if !keys::MATCHED.contains(&name) || pattern.is_empty() || compiled.is_err() {
        return Err(illegal());
    }
    Ok((name.to_owned(), pattern.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(pairs: &[(&str, &str)]) -> Result<Subscription, Refused> {
        let overrides = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Subscription::new("s", &overrides)
    }

    #[test]
    fn a_subscription_is_read_and_what_kafka_refuses_is_refused() {
        let made = subscription(&[
            ("metrics", "org.apache.kafka.producer.,org.apache.kafka.consumer."),
            ("match", "client_software_name=kafka-python, client_id=a.*"),
        ])
        .unwrap();
        assert_eq!(made.interval_ms, 300_000);
        assert_eq!(made.metrics.len(), 2);
        assert_eq!(made.matching[1], ("client_id".to_owned(), "a.*".to_owned()));
        for (key, value) in [
            ("interval.ms", "99"),
            ("interval.ms", "3600001"),
            ("match", "client_id"),
            ("match", "colour=blue"),
            ("match", "client_id=a("),
            ("metric", "x"),
        ] {
            assert!(subscription(&[(key, value)]).is_err(), "{key}={value}");
        }
    }
}
