//! Which of the broker's keys can be changed while it runs.
//!
//! Kafka's `DynamicBrokerConfig` decides which may be; of those that this broker uses, the ones it
//! can change at once are marked in their rows. What has no effect here is taken and shown, so that
//! tools which set it (thread counts, throttles) work as they do with Kafka.

use super::{Found, Key, Scope, find, used};

/// Stores of keys and certificates belong to one listener, and are changed under its prefix only
/// (Kafka: `SslConfigs.RECONFIGURABLE_CONFIGS`).
const STORES: &[&str] = &[
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.type",
];

/// Kafka's dynamic keys without effect here.
const WITHOUT_EFFECT: &[&str] = &[
    "background.threads",
    "compression.lz4.level",
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.threads",
    "log.flush.interval.messages",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.local.retention.bytes",
    "log.local.retention.ms",
    "log.preallocate",
    "log.roll.jitter.ms",
    "log.segment.delete.delay.ms",
    "max.connection.creation.rate",
    "max.connections.per.ip.overrides",
    "metric.reporters",
    "min.insync.replicas",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "remote.fetch.max.wait.ms",
    "remote.list.offsets.request.timeout.ms",
    "remote.log.index.file.cache.total.size.bytes",
    "remote.log.manager.copier.thread.pool.size",
    "remote.log.manager.copy.max.bytes.per.second",
    "remote.log.manager.expiration.thread.pool.size",
    "remote.log.manager.fetch.max.bytes.per.second",
    "remote.log.reader.threads",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.principal.to.local.rules",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "transaction.partition.verification.enable",
    "unclean.leader.election.enable",
];

/// Whether the broker's key of this name can be changed while the broker runs.
pub fn is_dynamic(name: &str) -> bool {
    match find(name) {
        Some(Found::Key(key)) => key.dynamic,
        _ => WITHOUT_EFFECT.contains(&name),
    }
}

/// Whether a key is changed as `listener.name.<listener>.<key>` only.
pub fn wants_listener(name: &str) -> bool {
    STORES.contains(&name)
}

/// Whether a key is set for one broker only, never for all of them at once.
pub fn is_per_broker(name: &str) -> bool {
    const PREFIXES: [&str; 5] = ["listener.", "listeners", "advertised.", "ssl.", "sasl."];
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// The row of a key written as `listener.name.<listener>.<key>`, with or without a mechanism.
pub fn of_listener(name: &str) -> Option<&'static Key> {
    let rest = name.strip_prefix("listener.name.")?;
    used().find(|key| {
        matches!(key.scope, Scope::Listener | Scope::Mechanism)
            && rest.strip_suffix(key.name).is_some_and(|listener| listener.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::TOPIC;

    /// Kafka: every broker key that is the first synonym of a topic's key is dynamic.
    #[test]
    fn the_defaults_of_topics_can_be_changed_while_the_broker_runs() {
        for key in TOPIC {
            let Some((first, _)) = key.synonyms.first() else { continue };
            assert!(is_dynamic(first), "{first}");
        }
        for fixed in ["log.dirs", "log.retention.hours", "num.partitions", "node.id", "no.such"] {
            assert!(!is_dynamic(fixed), "{fixed}");
        }
    }

    #[test]
    fn a_listener_s_prefix_leaves_the_key() {
        for (written, key) in [
            ("listener.name.external.ssl.keystore.location", Some("ssl.keystore.location")),
            ("listener.name.a.b.ssl.client.auth", Some("ssl.client.auth")),
            ("listener.name.external.plain.sasl.jaas.config", Some("sasl.jaas.config")),
            ("listener.name.external.log.dirs", None),
            ("listener.name.ssl.keystore.location", None),
            ("ssl.keystore.location", None),
        ] {
            assert_eq!(of_listener(written).map(|key| key.name), key, "{written}");
        }
        for name in STORES {
            assert!(is_dynamic(name) && is_per_broker(name), "{name}");
        }
    }
}
