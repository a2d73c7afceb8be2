//! One file for each API key. Every file opens with its contract: versions served, behaviour, what
//! each version added, what is left out. Every handler has the same shape:
//! `async fn handle(context: &Context, request: XRequest) -> Result<XResponse, Close>`.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use kafka_protocol::ResponseError;

use crate::acl::{Operation, Resource, ResourceKind};
use crate::broker::Broker;
use crate::client::Principal;
use crate::core::Core;
use crate::diagnose::{self, near_miss};
use crate::partition::Partition;
use crate::quota::Worked;
use crate::session::Session;

pub(crate) mod add_offsets_to_txn;
pub(crate) mod add_partitions_to_txn;
pub(crate) mod alter_client_quotas;
pub(crate) mod alter_configs;
pub(crate) mod alter_partition_reassignments;
pub(crate) mod alter_replica_log_dirs;
pub(crate) mod alter_share_group_offsets;
pub(crate) mod alter_user_scram_credentials;
pub(crate) mod api_versions;
pub(crate) mod authorised;
pub(crate) mod consumer_group_describe;
pub(crate) mod consumer_group_heartbeat;
pub(crate) mod create_acls;
pub(crate) mod create_partitions;
pub(crate) mod create_topics;
pub(crate) mod delete_acls;
pub(crate) mod delete_groups;
pub(crate) mod delete_records;
pub(crate) mod delete_share_group_offsets;
pub(crate) mod delete_topics;
pub(crate) mod describe_acls;
pub(crate) mod describe_client_quotas;
pub(crate) mod describe_cluster;
pub(crate) mod describe_configs;
pub(crate) mod describe_groups;
pub(crate) mod describe_log_dirs;
pub(crate) mod describe_producers;
pub(crate) mod describe_quorum;
pub(crate) mod describe_share_group_offsets;
pub(crate) mod describe_topic_partitions;
pub(crate) mod describe_transactions;
pub(crate) mod describe_user_scram_credentials;
pub(crate) mod elect_leaders;
pub(crate) mod end_txn;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod get_telemetry_subscriptions;
pub(crate) mod heartbeat;
pub(crate) mod incremental_alter_configs;
pub(crate) mod init_producer_id;
pub(crate) mod join_group;
pub(crate) mod leave_group;
pub(crate) mod list_config_resources;
pub(crate) mod list_groups;
pub(crate) mod list_offsets;
pub(crate) mod list_partition_reassignments;
pub(crate) mod list_transactions;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod offset_for_leader_epoch;
pub(crate) mod produce;
pub(crate) mod push_telemetry;
pub(crate) mod sasl_authenticate;
pub(crate) mod sasl_handshake;
pub(crate) mod share_acknowledge;
pub(crate) mod share_fetch;
pub(crate) mod share_group_describe;
pub(crate) mod share_group_heartbeat;
pub(crate) mod sync_group;
pub(crate) mod throttle;
pub(crate) mod txn_offset_commit;
pub(crate) mod write_txn_markers;

/// What a handler may know about the request it answers.
pub(crate) struct Context {
    pub broker: Broker,
    /// The running incarnation of the log and everything read from it.
    pub core: Arc<Core>,
    pub session: Arc<Session>,
    /// Who asks; before a login nobody, that is `User:ANONYMOUS`.
    pub principal: Principal,
    pub client_id: String,
    pub correlation_id: i32,
    pub version: i16,
    pub request_bytes: usize,
    /// There while anybody has a quota of `request_percentage`.
    pub worked: Option<Arc<Worked>>,
    /// The longest wait that a quota asked for.
    pub throttle_ms: AtomicI64,
}

impl Context {
    /// May the caller do this? A denial is told in log and diary: ask so for what the request
    /// names, and [`Self::may_see`] for what is only left out of a list.
    pub(crate) fn allowed(&self, operation: Operation, resource: Resource<'_>) -> bool {
        let allowed = self.may_see(operation, resource);
        if !allowed {
            self.denied(operation, resource);
        }
        allowed
    }

    /// As [`Self::allowed`], without a word about it.
    pub(crate) fn may_see(&self, operation: Operation, resource: Resource<'_>) -> bool {
        self.core.access.allowed(&self.principal, operation, resource)
    }

    /// Whether the caller may do this with at least one resource of the kind.
    pub(crate) fn allowed_on_some(&self, operation: Operation, kind: ResourceKind) -> bool {
        self.core.access.allowed_on_some(&self.principal, operation, kind)
    }

    fn denied(&self, operation: Operation, resource: Resource<'_>) {
        let Session { peer, listener, .. } = &*self.session;
        let (access, diary) = (&self.core.access, &self.broker.inner.diary);
        access.denied(&self.principal, operation, resource, |evidence| {
            diary.note_quietly(*peer, &listener.name, diagnose::NOT_AUTHORISED, evidence);
        });
    }

    /// Takes note of a topic's name that nearly is another's: of one that no topic has, or of one
    /// that was `created` because it was asked for.
    pub(crate) fn near_miss(&self, asked: &str, created: bool) {
        if !self.broker.inner.topic_looks.is_due(self.session.peer.ip(), asked) {
            return;
        }
        let topics = self.core.topics.all();
        let names = topics.iter().filter(|topic| !topic.internal).map(|topic| &*topic.name);
        if let Some(evidence) = near_miss::evidence(asked, names, created) {
            self.odd(diagnose::NEAR_MISS_TOPIC_NAME, &evidence);
        }
    }

    /// Takes note of something odd on this connection, in log and diary.
    pub(crate) fn odd(&self, diagnosis: &'static str, evidence: &str) {
        let Session { peer, listener, .. } = &*self.session;
        self.broker.inner.diary.note(*peer, &listener.name, diagnosis, evidence);
    }
}

/// What a request names, each once and where it came first. Answered as often as it is named, a
/// short name would ask for a reply of any size.
pub(crate) fn distinct<T: Clone + Eq + Hash>(named: Vec<T>) -> Vec<T> {
    merged(named, T::clone, |_, _| ())
}

/// As [`distinct`], where `join` adds to the first what the others of the same key ask for.
pub(crate) fn merged<T, K: Eq + Hash>(
    named: Vec<T>,
    key: impl Fn(&T) -> K,
    join: impl Fn(&mut T, T),
) -> Vec<T> {
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut once: Vec<T> = Vec::new();
    for one in named {
        let place = *places.entry(key(&one)).or_insert(once.len());
        match once.get_mut(place) {
            Some(first) => join(first, one),
            None => once.push(one),
        }
    }
    once
}

/// KIP-320: what a client believes about the leader. -1 means that it does not say.
pub(crate) fn check_leader_epoch(
    partition: &Partition,
    believed: i32,
) -> Result<(), ResponseError> {
    match believed {
        -1 => Ok(()),
        epoch if epoch < partition.leader_epoch() => Err(ResponseError::FencedLeaderEpoch),
        epoch if epoch > partition.leader_epoch() => Err(ResponseError::UnknownLeaderEpoch),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_twice_is_there_once_and_where_it_came_first() {
        assert_eq!(distinct(vec!["b", "a", "b", "c", "a"]), ["b", "a", "c"]);
        assert_eq!(distinct(vec![7; 10_000]), [7]);
    }

    #[test]
    fn what_the_others_ask_for_is_joined_to_the_first() {
        let named = vec![("b", vec![1]), ("a", vec![2]), ("b", vec![3, 1])];
        let once = merged(named, |one| one.0, |first, more| first.1.extend(more.1));
        assert_eq!(once, [("b", vec![1, 3, 1]), ("a", vec![2])]);
    }
}
