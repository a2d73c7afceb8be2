//! Creating, growing and deleting topics: the same functions for the Kafka port, the client seam
//! and auto-creation. The state record is durable before anybody sees a change.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::BrokerId;
use odradek_log::PartitionId;

use crate::chance;
use crate::core::Core;
use crate::limits;
use crate::state::{self, OFFSETS_TOPIC, STATE_TOPIC, StateKey, TopicRecord};
use crate::topics::{self, Topic};

/// An error code with the sentence that newer clients show.
pub(crate) type Refusal = (ResponseError, String);

pub(crate) fn refuse<T>(error: ResponseError, why: impl Into<String>) -> Result<T, Refusal> {
    Err((error, why.into()))
}

/// A topic to be made; `partitions` `None` means `num.partitions`.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub name: String,
    pub partitions: Option<i32>,
    pub configs: BTreeMap<String, String>,
}

/// Checks everything that can be checked without creating.
pub(crate) fn check(core: &Core, wanted: &Wanted) -> Result<TopicRecord, Refusal> {
    topics::check_name(&wanted.name)?;
    if wanted.name == STATE_TOPIC || core.topics.by_name(&wanted.name).is_some() {
        let why = format!("Topic '{}' already exists.", wanted.name);
        return refuse(ResponseError::TopicAlreadyExists, why);
    }
    if let Some(other) = core.topics.colliding(&wanted.name) {
        let why = format!(
            "topic {:?} would share its metric names with {other:?}: '.' and '_' count as equal",
            wanted.name
        );
        return refuse(ResponseError::InvalidTopicException, why);
    }
    let partitions = wanted.partitions.unwrap_or(core.config().topics.partitions);
    check_count(core, &wanted.name, partitions, 0)?;
    core.config()
        .topic_settings(&wanted.configs)
        .or_else(|why| refuse(ResponseError::InvalidConfig, why))?;
    Ok(TopicRecord { id: chance::id(), partitions, configs: wanted.configs.clone() })
}

/// Whether a partition's replicas can be these: this broker, once. The sentences are Kafka's.
pub(crate) fn check_replicas(node: BrokerId, replicas: &[BrokerId]) -> Result<(), Refusal> {
    let assignment = "The manual partition assignment includes";
    let why = match replicas {
        [] => format!("{assignment} an empty replica list."),
        [one] if *one == node => return Ok(()),
        some => match some.iter().find(|replica| **replica != node) {
            Some(other) => {
                format!("{assignment} broker {}, but no such broker is registered.", other.0)
            }
            None => format!("{assignment} the broker {} more than once.", node.0),
        },
    };
    refuse(ResponseError::InvalidReplicaAssignment, why)
}

fn check_count(core: &Core, name: &str, wanted: i32, now: usize) -> Result<(), Refusal> {
    let count = usize::try_from(wanted).unwrap_or(0);
    if count <= now {
        let why = match now {
            0 => "Number of partitions was set to an invalid non-positive value.".to_owned(),
            _ if count == now => format!("Topic already has {now} partition(s)."),
            _ => format!(
                "The topic {name} currently has {now} partition(s); {wanted} would not be an \
                 increase."
            ),
        };
        return refuse(ResponseError::InvalidPartitions, why);
    }
    let most = limits::PARTITIONS_MAX;
    if core.topics.partition_count() + count - now > most {
        let why = format!("this broker holds at most {most} partitions in all");
        return refuse(ResponseError::InvalidPartitions, why);
    }
    Ok(())
}

/// A change that has begun goes on when whoever asked for it is gone: between its state record and
/// what follows in memory lies the sync, and a half-done change would be undone at the next start.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    let ended = tokio::spawn(change).await;
    ended.unwrap_or_else(|e| refuse(ResponseError::UnknownServerError, e.to_string()))
}

/// Durable when it returns.
pub(crate) async fn create(core: &Arc<Core>, wanted: &Wanted) -> Result<Arc<Topic>, Refusal> {
    let (core, wanted) = (core.clone(), wanted.clone());
    to_the_end(async move { create_now(&core, &wanted).await }).await
}

async fn create_now(core: &Arc<Core>, wanted: &Wanted) -> Result<Arc<Topic>, Refusal> {
    let _changing = core.changing_topics().await;
    let record = check(core, wanted)?;
    put(core, &wanted.name, record, None).await
}

/// Adds partitions; `count` is the new number in all.
pub(crate) async fn grow(
    core: &Arc<Core>,
    name: &str,
    count: i32,
    validate_only: bool,
) -> Result<(), Refusal> {
    let (core, name) = (core.clone(), name.to_owned());
    to_the_end(async move { grow_now(&core, &name, count, validate_only).await }).await
}

async fn grow_now(
    core: &Arc<Core>,
    name: &str,
    count: i32,
    validate_only: bool,
) -> Result<(), Refusal> {
    let _changing = core.changing_topics().await;
    let topic = existing(core, name)?;
    check_count(core, name, count, topic.partitions.len())?;
    if validate_only {
        return Ok(());
    }
    let record = TopicRecord { id: topic.id, partitions: count, configs: topic.configs.clone() };
    put(core, name, record, Some(topic)).await.map(|_| ())
}

/// The partitions first: a record without them, as a full disk leaves it, would be a topic that is
/// not there now and is there after the next start.
async fn put(
    core: &Arc<Core>,
    name: &str,
    record: TopicRecord,
    before: Option<Arc<Topic>>,
) -> Result<Arc<Topic>, Refusal> {
    let state = vec![(StateKey::Topic(name.to_owned()), Some(state::value(&record)))];
    let kept = before.as_ref().map_or(0, |topic| topic.partitions.len());
    let (topic_id, kept) = (record.id, i32::try_from(kept).unwrap_or(i32::MAX));
    let new = (kept..record.partitions).map(move |partition| PartitionId { topic_id, partition });
    let attaching = core.clone();
    let name = name.to_owned();
    // Folders and files are made: not on an async worker.
    let attached = tokio::task::spawn_blocking(move || {
        attaching.attach_topic(&name, &record, before.as_deref())
    });
    let refusal = match attached.await {
        Ok(Ok(topic)) => match core.put_state(state).await {
            Ok(()) => {
                let topic = Arc::new(topic);
                core.topics.put(topic.clone());
                return Ok(topic);
            }
            Err(error) => storage(error),
        },
        Ok(Err(error)) => (ResponseError::KafkaStorageError, error.to_string()),
        Err(error) => (ResponseError::KafkaStorageError, error.to_string()),
    };
    let log = core.log.clone();
    // What cannot be removed now is nobody's, and goes at the next start.
    let _ = tokio::task::spawn_blocking(move || new.for_each(|id| log.remove(id))).await;
    Err(refusal)
}

pub(crate) fn storage(error: ResponseError) -> Refusal {
    (error, "the log cannot take records now; the broker's log says why".to_owned())
}

pub(crate) fn existing(core: &Core, name: &str) -> Result<Arc<Topic>, Refusal> {
    core.topics.by_name(name).ok_or_else(|| {
        (ResponseError::UnknownTopicOrPartition, format!("there is no topic {name:?}"))
    })
}

pub(crate) async fn delete(core: &Arc<Core>, name: &str) -> Result<(), Refusal> {
    let (core, name) = (core.clone(), name.to_owned());
    to_the_end(async move { delete_now(&core, &name).await }).await
}

async fn delete_now(core: &Arc<Core>, name: &str) -> Result<(), Refusal> {
    let _changing = core.changing_topics().await;
    let topic = existing(core, name)?;
    if !core.config().topics.delete_enabled {
        let why = "delete.topic.enable is false in this broker's configuration";
        return refuse(ResponseError::TopicDeletionDisabled, why);
    }
    if name == OFFSETS_TOPIC {
        let why = format!("{OFFSETS_TOPIC} holds the groups' offsets and cannot be deleted");
        return refuse(ResponseError::InvalidTopicException, why);
    }
    let mut records = vec![(StateKey::Topic(name.to_owned()), None)];
    records.extend(topic.partitions.iter().map(|p| (StateKey::Start(p.id), None)));
    core.put_state(records).await.map_err(storage)?;
    core.topics.remove(&topic);
    let removing = core.clone();
    let partitions = topic.partitions.clone();
    let removed = tokio::task::spawn_blocking(move || {
        for partition in &partitions {
            removing.log.remove(partition.id);
        }
    });
    removed.await.map_err(|e| (ResponseError::KafkaStorageError, e.to_string()))?;
    // The offsets of a topic that is gone would be taken for those of a new one of its name.
    let groups = core.groups.topic_deleted(name).await;
    let ids: Vec<_> = topic.partitions.iter().map(|partition| partition.id).collect();
    let share = core.share.topic_deleted(&ids).await;
    for partition in &topic.partitions {
        partition.wake_all();
    }
    // The topic is gone whatever they say, and nobody deletes it again: all of it is done first.
    groups.and(share).map_err(storage)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;
    use crate::broker::Broker;
    use crate::config::Config;
    use crate::group::exchange::{Caller, Commit, NewOffset};

    #[tokio::test]
    async fn whoever_waits_for_a_deleted_topic_hears_of_it_even_if_offsets_on_it_stay() {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open_offline(Config::demo(folder.path(), 0, 0)).await.unwrap();
        let core = broker.core();
        let wanted = Wanted { name: "t".to_owned(), partitions: None, configs: BTreeMap::new() };
        let topic = create(&core, &wanted).await.unwrap();
        let offset = NewOffset {
            topic: "t".to_owned(),
            partition: 0,
            offset: 0,
            leader_epoch: None,
            metadata: String::new(),
        };
        let caller = Caller { generation: -1, ..Caller::default() };
        let commit = Commit { caller, offsets: vec![offset], ..Commit::default() };
        assert_eq!(core.groups.commit("g", commit).await, Ok(vec![Ok(())]));
        let waiter = Arc::new(Notify::new());
        topic.partitions[0].wake_on_progress(&waiter);
        core.topics.by_name(OFFSETS_TOPIC).unwrap().partitions[0].refuse_appends();
        let (error, _) = delete(&core, "t").await.unwrap_err();
        assert_eq!(error, ResponseError::KafkaStorageError);
        tokio::time::timeout(Duration::from_secs(20), waiter.notified()).await.expect("woken");
    }
}
