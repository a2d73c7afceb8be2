//! What kind of group a name belongs to, and what is the same for all kinds.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::super::consumer::{self, TopicSource};
use super::super::exchange::{Caller, Commit, GroupKind, GroupLine, NewOffset};
use super::super::machine::{self, State};
use super::Slot;
use crate::clock::Now;

pub(super) enum Kind {
    Classic(Box<machine::Group>),
    Consumer(Box<consumer::Group>),
}

impl Kind {
    pub(super) fn classic(group: machine::Group) -> Self {
        Self::Classic(Box::new(group))
    }

    pub(super) fn consumer(group: consumer::Group) -> Self {
        Self::Consumer(Box::new(group))
    }

    /// Nothing would be lost if the group were forgotten.
    pub(super) fn is_blank(&self) -> bool {
        match self {
            Self::Classic(group) => group.is_blank(),
            Self::Consumer(group) => group.is_blank(),
        }
    }

    pub(super) fn due_ms(&self) -> Option<i64> {
        match self {
            Self::Classic(group) => group.due_ms(),
            Self::Consumer(group) => group.due_ms(),
        }
    }

    /// Nobody is in it, and nobody is about to be.
    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Classic(group) => group.state() == State::Empty && group.due_ms().is_none(),
            Self::Consumer(group) => group.is_empty(),
        }
    }

    /// Is an offset of this topic somebody's, so that it must not be deleted by hand? Members of
    /// other protocols than that of consumers do not say what they read.
    pub(super) fn reads(&self, topic: &str) -> bool {
        match self {
            Self::Classic(group) => {
                group.state() != State::Empty
                    && group.subscribed_topics().is_none_or(|topics| topics.contains(topic))
            }
            Self::Consumer(group) => group.image().subscribed_topics().contains(topic),
        }
    }

    /// May somebody delete single offsets of the group?
    pub(super) fn admit_offset_deletion(&self) -> Result<(), ResponseError> {
        match self {
            Self::Classic(group) => match group.state() {
                State::Dead => Err(ResponseError::GroupIdNotFound),
                State::Empty => Ok(()),
                _ if group.protocol_type() == Some("consumer") => Ok(()),
                _ => Err(ResponseError::NonEmptyGroup),
            },
            Self::Consumer(_) => Ok(()),
        }
    }

    /// May this caller commit offsets in its transaction?
    pub(super) fn admit_transactional(
        &self,
        caller: &Caller,
        places: &[(Uuid, i32)],
    ) -> Result<(), ResponseError> {
        let places = places.iter().map(|place| Some(*place));
        match self {
            Self::Classic(group) => group.admit_transactional(caller),
            // Whoever names no member is let in whatever the group does, as clients before KIP-447.
            Self::Consumer(_) if !caller.is_named() => Ok(()),
            // Producers know no member epochs, but generations.
            Self::Consumer(group) => match group.admit_commit(caller, true, places) {
                Err(ResponseError::StaleMemberEpoch) => Err(ResponseError::IllegalGeneration),
                admitted => admitted,
            },
        }
    }

    pub(super) fn expiry(&self) -> Expiry {
        match self {
            Self::Classic(group) => Expiry::of_classic(group),
            // From each commit, and only for topics that nobody in the group reads.
            Self::Consumer(group) => {
                Expiry { spared: Some(group.image().subscribed_topics()), empty_since_ms: None }
            }
        }
    }
}

/// What KIP-211 says of a group's offsets.
pub(super) struct Expiry {
    /// The topics whose offsets stay; `None`: all stay.
    pub spared: Option<BTreeSet<String>>,
    /// The retention counts from here instead of from each commit.
    pub empty_since_ms: Option<i64>,
}

impl Expiry {
    /// The retention of an empty group's offsets counts from the moment when it became empty; of a
    /// group that only commits, from each commit; of a stable group of consumers, from each commit,
    /// and only for topics that nobody in it reads any more.
    fn of_classic(group: &machine::Group) -> Self {
        let spared = match group.state() {
            State::Empty => Some(BTreeSet::new()),
            State::Stable => group.subscribed_topics(),
            _ => None,
        };
        let simple = group.protocol_type().is_none();
        let since_ms = group.state_timestamp_ms();
        let empty_since_ms = since_ms.filter(|_| group.state() == State::Empty && !simple);
        Self { spared, empty_since_ms }
    }
}

impl Slot {
    /// `None`: there is no such group as far as anybody may know.
    pub(super) fn line(&self, group: &str) -> Option<GroupLine> {
        let group = group.to_owned();
        match &self.kind {
            Kind::Classic(machine) => Some(GroupLine {
                group,
                kind: GroupKind::Classic,
                state: machine.state().name(),
                protocol_type: machine.protocol_type().unwrap_or_default().to_owned(),
                members: machine.member_count(),
            }),
            Kind::Consumer(_) => self.durable.exists().then(|| GroupLine {
                group,
                kind: GroupKind::Consumer,
                state: self.durable.state(),
                protocol_type: "consumer".to_owned(),
                members: self.durable.members().len(),
            }),
        }
    }

    /// May this caller commit offsets now?
    pub(super) fn admit_commit(
        &mut self,
        commit: &Commit,
        topics: &dyn TopicSource,
        now: Now,
    ) -> Result<(), ResponseError> {
        let place = |new: &NewOffset| Some((topics.shape(&new.topic)?.id, new.partition));
        let places = commit.offsets.iter().map(place);
        match &mut self.kind {
            Kind::Classic(group) => group.admit_commit(&commit.caller, now),
            Kind::Consumer(group) => {
                group.admit_commit(&commit.caller, commit.names_unknown_group, places)
            }
        }
    }
}
