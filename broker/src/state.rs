//! The records of `__odradek_state`: the only copy of what must survive besides topic records and
//! committed offsets.
//!
//! Keys are text, `<kind>:<name>`; values are JSON, so that a person can read the log. A value of
//! null (a tombstone) deletes.

use std::collections::BTreeMap;

use bytes::Bytes;
use odradek_log::PartitionId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::quota::Entity;

pub(crate) const STATE_TOPIC: &str = "__odradek_state";
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Chosen once, by chance; it names the state topic in every data folder.
pub(crate) const STATE_TOPIC_ID: Uuid = Uuid::from_u128(0x6f64_7261_6465_4b21_8a5c_0f1e_73a1_0001);

pub(crate) const STATE_PARTITION: PartitionId =
    PartitionId { topic_id: STATE_TOPIC_ID, partition: 0 };

/// Value of `topic:<name>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicRecord {
    pub id: Uuid,
    pub partitions: i32,
    #[serde(default)]
    pub configs: BTreeMap<String, String>,
}

/// Value of `producer-ids`: the first id that no block has taken.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct ProducerIdsRecord {
    pub next: i64,
}

/// Value of `cluster`: made at the first start.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ClusterRecord {
    pub id: String,
}

/// Value of `login-secret`: made at the first start. It keys what unknown users are shown, which
/// must stay the same after a restart; no password can be derived from it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct LoginSecretRecord {
    pub secret: Vec<u8>,
}

/// The kinds of key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StateKey {
    Cluster,
    LoginSecret,
    Topic(String),
    User(String),
    /// Log start offset of a partition.
    Start(PartitionId),
    Checkpoint(String),
    ProducerIds,
    /// An access rule.
    Acl(Uuid),
    /// Client quotas of an entity.
    Quota(Entity),
    /// What was set for a resource through the protocol, as a map of texts. A topic's stands in
    /// its own record.
    Config(ConfigResource),
    /// A share group: epochs and members.
    ShareGroup(String),
    /// Where a share group stands in a partition.
    SharePartition(String, PartitionId),
    /// By transactional id.
    Transaction(String),
}

/// What configurations are set for, besides topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConfigResource {
    /// The broker of this id.
    Broker(i32),
    /// All brokers.
    BrokerDefaults,
    Group(String),
    ClientMetrics(String),
}

impl ConfigResource {
    fn to_text(&self) -> String {
        match self {
            Self::Broker(id) => format!("broker:{id}"),
            Self::BrokerDefaults => "brokers:".to_owned(),
            Self::Group(name) => format!("group:{name}"),
            Self::ClientMetrics(name) => format!("client-metrics:{name}"),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        match kind {
            "broker" => name.parse().ok().map(Self::Broker),
            "brokers" => Some(Self::BrokerDefaults),
            "group" => Some(Self::Group(name.to_owned())),
            "client-metrics" => Some(Self::ClientMetrics(name.to_owned())),
            _ => None,
        }
    }
}

impl StateKey {
    pub(crate) fn to_bytes(&self) -> Bytes {
        let text = match self {
            Self::Cluster => "cluster:".to_owned(),
            Self::LoginSecret => "login-secret:".to_owned(),
            Self::Topic(name) => format!("topic:{name}"),
            Self::User(name) => format!("user:{name}"),
            Self::Start(id) => format!("start:{}:{}", id.topic_id, id.partition),
            Self::Checkpoint(name) => format!("checkpoint:{name}"),
            Self::ProducerIds => "producer-ids:".to_owned(),
            Self::Config(resource) => format!("config:{}", resource.to_text()),
            Self::Acl(id) => format!("acl:{id}"),
            Self::Quota(entity) => {
                let entity = serde_json::to_string(entity).expect("a map of texts is JSON");
                format!("quota:{entity}")
            }
            Self::ShareGroup(group) => format!("share-group:{group}"),
            Self::SharePartition(group, id) => {
                format!("share:{group}:{}:{}", id.topic_id, id.partition)
            }
            Self::Transaction(id) => format!("transaction:{id}"),
        };
        Bytes::from(text)
    }

    /// `None` for a key that this version does not know; it is left alone.
    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        let (kind, name) = std::str::from_utf8(key).ok()?.split_once(':')?;
        match kind {
            "cluster" => Some(Self::Cluster),
            "login-secret" => Some(Self::LoginSecret),
            "topic" => Some(Self::Topic(name.to_owned())),
            "user" => Some(Self::User(name.to_owned())),
            "checkpoint" => Some(Self::Checkpoint(name.to_owned())),
            "producer-ids" => Some(Self::ProducerIds),
            "config" => ConfigResource::parse(name).map(Self::Config),
            "acl" => Some(Self::Acl(name.parse().ok()?)),
            "quota" => Some(Self::Quota(serde_json::from_str(name).ok()?)),
            "transaction" => Some(Self::Transaction(name.to_owned())),
            "share-group" => Some(Self::ShareGroup(name.to_owned())),
            "start" => parse_partition(name).map(Self::Start),
            "share" => {
                // From the end: a group's name may hold any character.
                let (rest, partition) = name.rsplit_once(':')?;
                let (group, topic_id) = rest.rsplit_once(':')?;
                let id = parse_partition(&format!("{topic_id}:{partition}"))?;
                Some(Self::SharePartition(group.to_owned(), id))
            }
            _ => None,
        }
    }
}

fn parse_partition(text: &str) -> Option<PartitionId> {
    let (topic_id, partition) = text.split_once(':')?;
    Some(PartitionId { topic_id: topic_id.parse().ok()?, partition: partition.parse().ok()? })
}

/// JSON of a state value. The types above always serialise.
pub(crate) fn value<T: Serialize>(value: &T) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("state values are plain structs"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_key_comes_back_from_its_bytes() {
        let id = PartitionId { topic_id: STATE_TOPIC_ID, partition: 7 };
        for key in [
            StateKey::Cluster,
            StateKey::LoginSecret,
            StateKey::Topic("a:b".to_owned()),
            StateKey::User("alice".to_owned()),
            StateKey::Start(id),
            StateKey::Checkpoint("source:flights".to_owned()),
            StateKey::ProducerIds,
            StateKey::Config(ConfigResource::Broker(7)),
            StateKey::Config(ConfigResource::BrokerDefaults),
            StateKey::Config(ConfigResource::Group("g:h".to_owned())),
            StateKey::Config(ConfigResource::ClientMetrics("all".to_owned())),
            StateKey::Acl(STATE_TOPIC_ID),
            StateKey::ShareGroup("g:h".to_owned()),
            StateKey::SharePartition("g:h".to_owned(), id),
            StateKey::Quota(Entity::from([
                ("user".to_owned(), Some("a:\"b".to_owned())),
                ("client-id".to_owned(), None),
            ])),
            StateKey::Transaction("loop:1".to_owned()),
        ] {
            assert_eq!(StateKey::parse(&key.to_bytes()), Some(key));
        }
        assert_eq!(StateKey::parse(b"later:x"), None);
    }
}
