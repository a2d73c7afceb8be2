//! Committed offsets: commit, look-up, expiry, and the end of a topic.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::sync::oneshot;
use tracing::{info, warn};
use uuid::Uuid;

use super::super::exchange::{Caller, Commit, CommittedOffset, NewOffset};
use super::super::{GROUPS_MAX, TEXT_BYTES_MAX, machine, records};
use super::writes::{Doomed, Write, offset_key};
use super::{GroupCoordinator, Place, Slot};

/// A committed offset with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetLine {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub committed: CommittedOffset,
}

pub(super) type Done = oneshot::Receiver<Result<(), ResponseError>>;

impl GroupCoordinator {
    /// Durable when it returns `Ok`; then one result for each offset, in order.
    pub(crate) async fn commit(
        self: &Arc<Self>,
        group: &str,
        commit: Commit,
    ) -> Result<Vec<Result<(), ResponseError>>, ResponseError> {
        // The empty name is allowed: very old consumers committed under it (KIP-289).
        if group.len() > TEXT_BYTES_MAX {
            return Err(ResponseError::InvalidGroupId);
        }
        let mut results = Vec::with_capacity(commit.offsets.len());
        let done = {
            let mut state = self.lock();
            let now = (self.clock)();
            if state.closed {
                return Err(ResponseError::CoordinatorNotAvailable);
            }
            if state.share_names.contains(group) {
                return Err(ResponseError::GroupIdNotFound);
            }
            if !state.groups.contains_key(group) {
                self.may_create(&state, &commit)?;
            }
            let slot = self.slot(&mut state, group);
            if let Err(error) = slot.admit_commit(&commit, &*self.surroundings.topics, now) {
                if slot.is_blank() {
                    state.forget(group);
                }
                return Err(error);
            }
            let expire_timestamp_ms = commit
                .retention_time_ms
                .map(|retention_ms| now.wall_ms.saturating_add(retention_ms));
            let mut kept = Vec::with_capacity(commit.offsets.len());
            for new in commit.offsets {
                let too_large = self.is_metadata_too_large(&new.metadata);
                results.push(match too_large {
                    true => Err(ResponseError::OffsetMetadataTooLarge),
                    false => Ok(()),
                });
                if !too_large {
                    let (place, mut committed) = new.keep(now.wall_ms);
                    committed.expire_timestamp_ms = expire_timestamp_ms;
                    kept.push((place, committed));
                }
            }
            let (sender, done) = oneshot::channel();
            slot.queue.push_back(Write::Commit { offsets: kept, done: sender });
            self.begin_writing(group, slot);
            state.schedule(group);
            done
        };
        wait_for(done).await.map_err(to_commit_error)?;
        Ok(results)
    }

    fn may_create(&self, state: &super::State, commit: &Commit) -> Result<(), ResponseError> {
        match commit.caller.generation {
            // An administrator, or a consumer without a group's management.
            ..=-1 if state.groups.len() < GROUPS_MAX => Ok(()),
            ..=-1 => {
                warn!("there are {GROUPS_MAX} groups, no more are created");
                Err(ResponseError::CoordinatorNotAvailable)
            }
            _ if commit.names_unknown_group => Err(ResponseError::GroupIdNotFound),
            _ => Err(ResponseError::IllegalGeneration),
        }
    }

    /// Kafka's key says bytes, and Kafka counts UTF-16 units; bytes are what is kept. No more than
    /// a record holds, whatever is configured.
    pub(crate) fn is_metadata_too_large(&self, metadata: &str) -> bool {
        metadata.len() > self.settings.offset_metadata_bytes_max.min(TEXT_BYTES_MAX)
    }

    /// The committed offset of one partition.
    pub(crate) fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
    ) -> Option<CommittedOffset> {
        let state = self.lock();
        state.groups.get(group)?.offsets.get(&(topic.to_owned(), partition)).cloned()
    }

    /// All committed offsets of a group, by topic and partition.
    pub(crate) fn offsets_of(&self, group: &str) -> Vec<OffsetLine> {
        let state = self.lock();
        state.groups.get(group).map(|slot| lines(group, slot).collect()).unwrap_or_default()
    }

    /// All committed offsets of all groups.
    pub(crate) fn all_offsets(&self) -> Vec<OffsetLine> {
        let state = self.lock();
        state.groups.iter().flat_map(|(group, slot)| lines(group, slot)).collect()
    }

    /// The records that commit these offsets, for a caller that puts them into an atomic unit of
    /// its own; it calls `apply_offsets` with the same values once the unit is durable. Whether
    /// the group has members is not asked: the caller is inside the broker and knows its groups.
    pub(crate) fn offset_records(
        &self,
        group: &str,
        offsets: &[NewOffset],
        commit_timestamp_ms: i64,
    ) -> Vec<(Bytes, Option<Bytes>)> {
        let records = offsets.iter().map(|new| {
            let (place, committed) = new.clone().keep(commit_timestamp_ms);
            (offset_key(group, &place), Some(records::offset_value(&committed)))
        });
        records.collect()
    }

    /// From now on the group is that of a reader inside this process, which never joins: its
    /// offsets do not expire while the process runs, however long nothing comes to be read.
    /// Otherwise a source that ended a week ago would be read again after the next start.
    pub(crate) fn hold(&self, group: &str) {
        if let Some(slot) = self.lock().groups.get_mut(group) {
            slot.held = true;
        }
    }

    /// The groups that are held, for the coordinator that comes after this one.
    pub(crate) fn held(&self) -> Vec<String> {
        let state = self.lock();
        let held = state.groups.iter().filter(|(_, slot)| slot.held);
        held.map(|(group, _)| group.clone()).collect()
    }

    /// Makes visible what a durable unit committed, and holds the group.
    pub(crate) fn apply_offsets(
        &self,
        group: &str,
        offsets: &[NewOffset],
        commit_timestamp_ms: i64,
    ) {
        if offsets.is_empty() {
            return;
        }
        self.show_offsets(group, offsets, commit_timestamp_ms);
        self.hold(group);
    }

    /// Makes visible what a durable unit committed.
    pub(crate) fn show_offsets(
        &self,
        group: &str,
        offsets: &[NewOffset],
        commit_timestamp_ms: i64,
    ) {
        let mut state = self.lock();
        let slot = self.slot(&mut state, group);
        slot.offsets.extend(offsets.iter().map(|new| new.clone().keep(commit_timestamp_ms)));
    }

    /// TxnOffsetCommit: may this member, or whoever names none, commit these partitions for the
    /// group in its transaction (KIP-447)?
    pub(crate) fn admit_transactional(
        &self,
        group: &str,
        caller: &Caller,
        places: &[(Uuid, i32)],
    ) -> Result<(), ResponseError> {
        if group.is_empty() || group.len() > TEXT_BYTES_MAX {
            return Err(ResponseError::InvalidGroupId);
        }
        let state = self.lock();
        if state.closed {
            return Err(ResponseError::CoordinatorNotAvailable);
        }
        match state.groups.get(group) {
            Some(slot) => slot.kind.admit_transactional(caller, places),
            None if caller.generation < 0 => Ok(()),
            None => Err(ResponseError::IllegalGeneration),
        }
    }

    /// Drops the offsets that groups hold on this topic. Durable when it returns.
    pub(crate) async fn topic_deleted(self: &Arc<Self>, topic: &str) -> Result<(), ResponseError> {
        let mut waiting = Vec::new();
        {
            let mut state = self.lock();
            for (group, slot) in &mut state.groups {
                // A commit for the topic may be on its way, ahead of this.
                if slot.writing || slot.offsets.keys().any(|(held, _)| held == topic) {
                    let topic = topic.to_owned();
                    let doomed: Doomed = Box::new(move |(held, _), _| *held == topic);
                    waiting.push(self.drop_later(group, slot, doomed));
                }
            }
        }
        wait_for_all(waiting).await
    }

    /// Drops the offsets on topics that do not exist, for the start after a crash between the
    /// deletion of a topic and `topic_deleted`. What cannot be dropped from a full disk, from which
    /// topics can only be deleted once the broker runs, is forgotten; the next start tries again.
    pub(crate) async fn retain_topics(self: &Arc<Self>, exists: impl Fn(&str) -> bool) {
        let mut waiting = Vec::new();
        {
            let mut state = self.lock();
            for (group, slot) in &mut state.groups {
                let held = slot.offsets.keys().map(|(topic, _)| topic);
                let gone: BTreeSet<String> = held.filter(|topic| !exists(topic)).cloned().collect();
                if !gone.is_empty() {
                    let doomed: Doomed = Box::new(move |(topic, _), _| gone.contains(topic));
                    waiting.push(self.drop_later(group, slot, doomed));
                }
            }
        }
        let Err(error) = wait_for_all(waiting).await else { return };
        warn!(
            ?error,
            "offsets on topics that are gone could not be dropped; they are hidden, and dropped at \
             the next start"
        );
        let mut state = self.lock();
        for slot in state.groups.values_mut() {
            slot.offsets.retain(|(topic, _), _| exists(topic));
        }
        let blank = state.groups.iter().filter(|(_, slot)| slot.is_blank());
        let blank: Vec<String> = blank.map(|(group, _)| group.clone()).collect();
        blank.iter().for_each(|group| state.forget(group));
    }

    pub(super) fn drop_later(
        self: &Arc<Self>,
        group: &str,
        slot: &mut Slot,
        doomed: Doomed,
    ) -> Done {
        let (sender, done) = oneshot::channel();
        slot.queue.push_back(Write::Drop { doomed, done: sender });
        self.begin_writing(group, slot);
        done
    }

    /// `offsets.retention.minutes`: offsets that nobody can be expected to come back for, then the
    /// groups that have nothing left.
    pub(super) async fn expire_offsets(self: &Arc<Self>) {
        let mut waiting = Vec::new();
        {
            let now_ms = (self.clock)().wall_ms;
            let mut state = self.lock();
            for (group, slot) in &mut state.groups {
                let expired = slot.expired(now_ms, self.settings.offsets_retention_ms);
                if !expired.is_empty() {
                    info!(group, offsets = expired.len(), "offsets expire");
                    // Not if it is committed again before this write's turn.
                    let doomed: Doomed =
                        Box::new(move |place, committed| expired.get(place) == Some(committed));
                    waiting.push(self.drop_later(group, slot, doomed));
                }
            }
        }
        for done in waiting {
            if let Err(error) = wait_for(done).await {
                warn!(?error, "expired offsets could not be dropped; they are tried again later");
            }
        }
        let forgotten: Vec<String> = {
            let state = self.lock();
            let idle = state.groups.iter().filter(|(_, slot)| {
                !slot.held
                    && slot.kind.is_idle()
                    && slot.offsets.is_empty()
                    && slot.queue.is_empty()
                    && !slot.writing
            });
            idle.map(|(group, _)| group.clone()).collect()
        };
        for group in forgotten {
            if let Err(error) = self.delete(&group).await {
                warn!(group, ?error, "the empty group could not be deleted");
            }
        }
    }
}

impl NewOffset {
    fn keep(self, commit_timestamp_ms: i64) -> (Place, CommittedOffset) {
        let committed = CommittedOffset {
            offset: self.offset,
            leader_epoch: self.leader_epoch,
            metadata: self.metadata,
            commit_timestamp_ms,
            expire_timestamp_ms: None,
        };
        ((self.topic, self.partition), committed)
    }
}

impl Slot {
    /// KIP-211: see [`Expiry`](super::kinds::Expiry).
    fn expired(&self, now_ms: i64, retention_ms: i64) -> BTreeMap<Place, CommittedOffset> {
        if self.held {
            return BTreeMap::new();
        }
        let expiry = self.kind.expiry();
        let Some(spared) = expiry.spared else { return BTreeMap::new() };
        let expired = self.offsets.iter().filter(|((topic, _), committed)| {
            let since_ms = expiry.empty_since_ms.unwrap_or(committed.commit_timestamp_ms);
            !spared.contains(topic)
                && match committed.expire_timestamp_ms {
                    Some(expire_ms) => now_ms >= expire_ms,
                    None => now_ms.saturating_sub(since_ms) >= retention_ms,
                }
        });
        expired.map(|(place, committed)| (place.clone(), committed.clone())).collect()
    }
}

fn lines<'a>(group: &'a str, slot: &'a Slot) -> impl Iterator<Item = OffsetLine> + 'a {
    slot.offsets.iter().map(move |((topic, partition), committed)| OffsetLine {
        group: group.to_owned(),
        topic: topic.clone(),
        partition: *partition,
        committed: committed.clone(),
    })
}

/// All come to their end, whatever the others say; the first error counts.
async fn wait_for_all(waiting: Vec<Done>) -> Result<(), ResponseError> {
    let mut result = Ok(());
    for done in waiting {
        result = result.and(wait_for(done).await);
    }
    result
}

pub(super) async fn wait_for(done: Done) -> Result<(), ResponseError> {
    // The sender is gone only if the log ended and took the queue with it.
    done.await.unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
}

/// As for groups, but a commit that is too large has an error of its own.
fn to_commit_error(error: ResponseError) -> ResponseError {
    match error {
        ResponseError::MessageTooLarge | ResponseError::RecordListTooLarge => {
            ResponseError::InvalidCommitOffsetSize
        }
        other => machine::to_group_error(other),
    }
}
