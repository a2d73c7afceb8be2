//! Which of the broker's keys can be changed while it runs.
//!
//! Kafka's `DynamicBrokerConfig` decides which may be; of those that this broker uses, the ones it
//! can change at once are marked in their rows. What has no effect here is taken and shown, so that
//! tools which set it (thread counts, throttles) work as they do with Kafka.

use super::{Found, find};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::TOPIC;

    /// Kafka: every broker key that is the first synonym of a topic's key is dynamic.
    #[test]
    fn the_defaults_of_topics_can_be_changed_while_the_broker_runs() {
        // Read once at the start: see its text.
        const AT_THE_START: &str = "log.flush.interval.ms";
        for key in TOPIC {
            let Some((first, _)) = key.synonyms.first() else { continue };
            assert_eq!(is_dynamic(first), *first != AT_THE_START, "{first}");
        }
        for fixed in ["log.dirs", "log.retention.hours", "num.partitions", "node.id", "no.such"] {
            assert!(!is_dynamic(fixed), "{fixed}");
        }
    }
}
