//! Changing configurations through the protocol: of topics, brokers, groups and client metrics
//! subscriptions. The record is durable before anything else changes; then the new values hold at
//! once for whatever runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;

use crate::acl::{Operation, Resource};
use crate::auth::UserRecord;
use crate::broker::Broker;
use crate::config::client_metrics::Refused;
use crate::config::keys::{self, Key, Kind};
use crate::config::{Config, Levels, Overrides, Subscription, check_change, users};
use crate::core::{self, Core};
use crate::handlers::Context;
use crate::state::{self, ConfigResource, StateKey, TopicRecord};
use crate::topic_changes::{self, Refusal, refuse, storage};
use crate::topics::{self, Topic};

/// Kafka's `ConfigResource.Type`.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const BROKER_LOGGER: i8 = 8;
pub(crate) const CLIENT_METRICS: i8 = 16;
pub(crate) const GROUP: i8 = 32;

/// What a configuration belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Topic(String),
    /// Of this process.
    Loggers,
    Other(ConfigResource),
}

impl Target {
    /// From a request that wants to do this with it: topics and groups are asked for by name, all
    /// else stands under the cluster. The sentences are Kafka's.
    pub(crate) fn of(
        context: &Context,
        operation: Operation,
        kind: i8,
        name: &str,
    ) -> Result<Self, Refusal> {
        let (asked, denied) = match kind {
            TOPIC => (Resource::Topic(name), ResponseError::TopicAuthorizationFailed),
            GROUP => (Resource::Group(name), ResponseError::GroupAuthorizationFailed),
            _ => (Resource::Cluster, ResponseError::ClusterAuthorizationFailed),
        };
        if !context.allowed(operation, asked) {
            return refuse(denied, "not authorised");
        }
        let node = context.node().0;
        let invalid = |why: String| refuse(ResponseError::InvalidRequest, why);
        let other = match kind {
            TOPIC if name.is_empty() => {
                return invalid("Default topic resources are not allowed.".to_owned());
            }
            TOPIC => {
                topics::check_name(name)?;
                return Ok(Self::Topic(name.to_owned()));
            }
            BROKER if name.is_empty() => ConfigResource::BrokerDefaults,
            BROKER_LOGGER if name.is_empty() => {
                return invalid("Broker id must not be empty".to_owned());
            }
            BROKER | BROKER_LOGGER => match name.parse::<i32>() {
                Ok(id) if id == node && kind == BROKER_LOGGER => return Ok(Self::Loggers),
                Ok(id) if id == node => ConfigResource::Broker(id),
                Ok(id) => {
                    let why = format!("Unexpected broker id, expected {node}, but received {id}");
                    return invalid(why);
                }
                Err(_) => return invalid(format!("Node id must be an integer, but it is: {name}")),
            },
            GROUP => ConfigResource::Group(name.to_owned()),
            CLIENT_METRICS => ConfigResource::ClientMetrics(name.to_owned()),
            other => return invalid(format!("Unknown resource type {other}")),
        };
        Ok(Self::Other(other))
    }

    fn key(&self, name: &str) -> Option<&'static Key> {
        match self {
            Self::Topic(_) => keys::topic_key(name),
            Self::Loggers => None,
            Self::Other(ConfigResource::Group(_)) => keys::group_key(name),
            Self::Other(ConfigResource::ClientMetrics(_)) => keys::client_metrics_key(name),
            Self::Other(ConfigResource::Broker(_) | ConfigResource::BrokerDefaults) => {
                match keys::find(name) {
                    Some(keys::Found::Key(key)) => Some(key),
                    _ => keys::of_listener(name),
                }
            }
        }
    }
}

/// What happens to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Set(String),
    Delete,
    /// To the end of a list, what is not in it yet.
    Append(String),
    Subtract(String),
}

/// Changes one resource, all keys or none. `replace`: what is not named is taken away. It goes on
/// to its end when the one who asked leaves: a listener may be closed to open another in its place.
pub(crate) async fn alter(
    context: &Context,
    target: Target,
    changes: Vec<(String, Change)>,
    replace: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    let (broker, core) = (context.broker.clone(), context.core.clone());
    let work = tokio::spawn(async move {
        alter_now(&broker, &core, &target, &changes, replace, validate_only).await
    });
    let stopped = |_| refuse(ResponseError::UnknownServerError, "the change was interrupted");
    work.await.unwrap_or_else(stopped)
}

async fn alter_now(
    broker: &Broker,
    core: &Arc<Core>,
    target: &Target,
    changes: &[(String, Change)],
    replace: bool,
    validate_only: bool,
) -> Result<(), Refusal> {
    let _changing = core.changing_topics().await;
    match target {
        Target::Topic(name) => {
            let before = &topic_changes::existing(core, name)?.configs;
            let after = changed(target, before, changes, replace, &core.config())?;
            alter_topic(core, name, after, validate_only).await
        }
        Target::Other(resource) => {
            let before = core.configs.overrides(resource);
            let after = changed(target, &before, changes, replace, &core.config())?;
            let after = sealed(before, after).await?;
            let reread = matches!(resource, ConfigResource::Broker(_)) && !validate_only;
            alter_other(broker, core, resource, after, validate_only).await?;
            if reread {
                // As in Kafka: to set a file's name again is to ask that the file be read again.
                broker.inner.listeners.reload_changed().await;
            }
            Ok(())
        }
        Target::Loggers => {
            let why = "levels of loggers are changed one by one, by IncrementalAlterConfigs";
            refuse(ResponseError::InvalidRequest, why)
        }
    }
}

/// Without passwords in clear: what is returned is kept.
async fn sealed(before: Overrides, mut after: Overrides) -> Result<Overrides, Refusal> {
    let sealing =
        tokio::task::spawn_blocking(move || users::seal(&before, &mut after).map(|()| after));
    let sealed = sealing.await.unwrap_or_else(|error| Err(error.to_string()));
    sealed.or_else(|why| refuse(ResponseError::InvalidRequest, why))
}

/// The configured users' records, where another configuration names other ones.
async fn changed_users(
    core: &Arc<Core>,
    config: &Config,
) -> Result<Option<BTreeMap<String, UserRecord>>, Refusal> {
    if config.users == core.config().users {
        return Ok(None);
    }
    let (users, named) = (core.users.clone(), config.users.clone());
    let records = tokio::task::spawn_blocking(move || users.records_of(&named)).await;
    let records = records.or_else(|error| {
        refuse(ResponseError::UnknownServerError, format!("the change was interrupted: {error}"))
    });
    records.map(Some)
}

fn changed(
    target: &Target,
    before: &Overrides,
    changes: &[(String, Change)],
    replace: bool,
    config: &Config,
) -> Result<Overrides, Refusal> {
    let mut after = if replace { Overrides::new() } else { before.clone() };
    for (name, change) in changes {
        let (verb, words) = match change {
            Change::Set(value) => {
                after.insert(name.clone(), value.clone());
                continue;
            }
            Change::Delete => {
                after.remove(name);
                continue;
            }
            Change::Append(words) => ("APPEND", words),
            Change::Subtract(words) => ("SUBTRACT", words),
        };
        let Some(key) = target.key(name).filter(|key| key.kind == Kind::List) else {
            let why = format!("Can't {verb} to key {name} because its type is not LIST.");
            return refuse(ResponseError::InvalidConfig, why);
        };
        let fixed = match target {
            Target::Other(_) => config.written(name).map(|(value, _)| value),
            _ => None,
        };
        let now = before.get(name).map(String::as_str).or(fixed);
        let now = now.unwrap_or(key.default.unwrap_or_default());
        let mut list: Vec<&str> = now.split(',').filter(|word| !word.is_empty()).collect();
        for word in words.split(',') {
            if verb == "SUBTRACT" {
                list.retain(|kept| *kept != word);
            } else if !list.contains(&word) {
                list.push(word);
            }
        }
        after.insert(name.clone(), list.join(","));
    }
    Ok(after)
}

async fn alter_topic(
    core: &Arc<Core>,
    name: &str,
    configs: Overrides,
    validate_only: bool,
) -> Result<(), Refusal> {
    let topic = topic_changes::existing(core, name)?;
    let settings = core
        .config()
        .topic_settings(&configs)
        .or_else(|why| refuse(ResponseError::InvalidConfig, why))?;
    if validate_only || configs == topic.configs {
        return Ok(());
    }
    let partitions = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let record = TopicRecord { id: topic.id, partitions, configs };
    let key = StateKey::Topic(name.to_owned());
    core.put_state(vec![(key, Some(state::value(&record)))]).await.map_err(storage)?;
    settle(core, Topic { configs: record.configs, settings, ..topic.snapshot() });
    Ok(())
}

/// Puts a topic's new settings in force.
fn settle(core: &Arc<Core>, topic: Topic) {
    for partition in &topic.partitions {
        let settings = topics::log_settings(&topic.settings, topic.internal);
        core.log.set_settings(partition.id, settings);
    }
    core.topics.put(Arc::new(topic));
}

async fn alter_other(
    broker: &Broker,
    core: &Arc<Core>,
    resource: &ConfigResource,
    after: Overrides,
    validate_only: bool,
) -> Result<(), Refusal> {
    let levels = core.config().levels().clone();
    let config = match resource {
        ConfigResource::Broker(_) => {
            Some(with_levels(core, Levels { broker: after.clone(), ..levels })?)
        }
        ConfigResource::BrokerDefaults => {
            Some(with_levels(core, Levels { defaults: after.clone(), ..levels })?)
        }
        ConfigResource::Group(name) if name.is_empty() => {
            let why = "Default group resources are not allowed.";
            return refuse(ResponseError::InvalidRequest, why);
        }
        ConfigResource::Group(_) => {
            let config = core.config();
            let checked = config.groups.defaults.group(&after);
            checked.or_else(|why| refuse(ResponseError::InvalidConfig, why))?;
            None
        }
        ConfigResource::ClientMetrics(name) => {
            Subscription::new(name, &after).map_err(|refused| match refused {
                Refused::Request(why) => (ResponseError::InvalidRequest, why),
                Refused::Config(why) => (ResponseError::InvalidConfig, why),
            })?;
            None
        }
    };
    if validate_only {
        let checked = match config {
            Some(config) => broker.inner.listeners.check(&config).await,
            None => Ok(()),
        };
        return checked.or_else(|why| refuse(ResponseError::InvalidRequest, why));
    }
    let value = (!after.is_empty()).then(|| state::value(&after));
    let key = StateKey::Config(resource.clone());
    match config {
        Some(config) => {
            // What may fail comes first, then the record, then what cannot fail.
            let users = changed_users(core, &config).await?;
            let listeners = broker.inner.listeners.prepare(broker, &config).await;
            let listeners = listeners.or_else(|why| refuse(ResponseError::InvalidRequest, why))?;
            if let Err(error) = core.put_state(vec![(key, value)]).await {
                listeners.undo().await;
                return Err(storage(error));
            }
            put_config(core, config);
            if let Some(records) = users {
                core.users.set_configured(records);
            }
            listeners.take_effect();
        }
        None => {
            core.put_state(vec![(key, value)]).await.map_err(storage)?;
            core.configs.set_overrides(resource.clone(), after);
        }
    }
    Ok(())
}

fn with_levels(core: &Core, levels: Levels) -> Result<Config, Refusal> {
    let before = core.config();
    let config = before.with_levels(levels);
    let config = config.and_then(|after| check_change(&before, &after).map(|()| after));
    config.or_else(|why| refuse(ResponseError::InvalidRequest, why))
}

/// Puts a broker's new configuration in force, and with it the defaults of every topic.
fn put_config(core: &Arc<Core>, config: Config) {
    core.configs.set_current(config);
    let config = core.config();
    core::tune(&core.log, &config);
    for topic in core.topics.all() {
        match config.topic_settings(&topic.configs) {
            Ok(settings) if settings == topic.settings => {}
            Ok(settings) => settle(core, Topic { settings, ..topic.snapshot() }),
            Err(why) => tracing::warn!(topic = %topic.name, %why,
                "the topic keeps its settings: they do not go with the broker's new defaults"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_grow_and_shrink_from_what_is_set_or_the_default() {
        let (target, config) = (Target::Topic("t".to_owned()), Config::defaults());
        let set = Overrides::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        let change = |before: &Overrides, change| {
            let changes = [("cleanup.policy".to_owned(), change)];
            changed(&target, before, &changes, false, &config)
                .map(|after| after["cleanup.policy"].clone())
        };
        let append = |words: &str| Change::Append(words.to_owned());
        let subtract = |words: &str| Change::Subtract(words.to_owned());
        let none = Overrides::new();
        assert_eq!(change(&none, append("compact")).unwrap(), "delete,compact");
        assert_eq!(change(&set, append("compact,delete")).unwrap(), "compact,delete");
        assert_eq!(change(&set, subtract("compact")).unwrap(), "");
        let changes = [("retention.ms".to_owned(), append("1"))];
        let (error, why) = changed(&target, &none, &changes, false, &config).unwrap_err();
        assert_eq!(error, ResponseError::InvalidConfig);
        assert_eq!(why, "Can't APPEND to key retention.ms because its type is not LIST.");
    }

    #[test]
    fn to_replace_takes_away_what_is_not_named() {
        let (target, config) = (Target::Topic("t".to_owned()), Config::defaults());
        let before = Overrides::from([("retention.ms".to_owned(), "1".to_owned())]);
        let changes = [("segment.bytes".to_owned(), Change::Set("9".to_owned()))];
        let kept = changed(&target, &before, &changes, false, &config).unwrap();
        assert_eq!(kept.len(), 2);
        let replaced = changed(&target, &before, &changes, true, &config).unwrap();
        assert_eq!(replaced.into_keys().collect::<Vec<_>>(), ["segment.bytes"]);
    }
}
