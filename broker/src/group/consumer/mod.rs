//! One group of the consumer protocol (KIP-848) as a pure machine: `step(&mut group, event, now,
//! world)` returns records, answers, and whether the group goes on as a classic one.
//!
//! ```text
//!  member joins, leaves, expires        the group epoch is     the target assignment
//!  or changes what it reads; a    ───►  one more         ───►  of that epoch is made  (target.rs)
//!  topic comes, goes or grows                                  by a server-side assignor
//!
//!  each member goes to its target by itself, from heartbeat to heartbeat:         (reconcile.rs)
//!
//!    STABLE ──has to give back──► UNREVOKED_PARTITIONS ──its heartbeat no longer owns them──┐
//!      ▲ │                                                                                  │
//!      │ └──waits for others──► UNRELEASED_PARTITIONS ◄──────────────────────────────────────┤
//!      └────────────────────────────┴── everything that it is to read is free ◄──────────────┘
//! ```
//!
//! The group changes only by records ([`image`]), and the driver answers when they are durable. If
//! they cannot be written, the driver makes the group anew from what was written last.
//!
//! Members of the classic protocol may be in the same group ([`classic`]); their JoinGroup does
//! what a heartbeat of the others does. When a first member of the consumer protocol comes to a
//! classic group, that is converted, and back when the last one goes ([`convert`]).
//!
//! Behaviour, errors and their sentences are those of Kafka's group coordinator (4.x); where this
//! differs, the comment says so.
//!
//! Invariants, checked after every step in debug builds:
//! - I1. A partition is assigned to one member at a time: it is nobody else's before its holder
//!   said that it no longer owns it, or was taken out of the group.
//! - I2. Assignments, instance ids and regular expressions belong to members.
//! - I3. Member epochs never pass the target's epoch, which never passes the group's; the group's
//!   never decreases.
//! - I4. Every member has a session that will end, and only members have timers.
//!
//! It never reads a clock, never draws an id, never logs.

mod admit;
pub(crate) mod assignor;
mod classic;
pub(crate) mod convert;
mod describe;
mod heartbeat;
mod image;
pub(crate) mod pattern;
pub(crate) mod protocol;
mod reconcile;
pub(crate) mod records;
mod target;
mod timers;

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::exchange::{
    Caller, Join, LEAVES_FOR_NOW, Leaving, MemberHeartbeat, Refusal, Reply, Sync, Waiter,
};
use crate::clock::Now;
use assignor::Assignor;
pub(crate) use convert::{ClassicMember, ClassicSeed, Convertible};
pub(crate) use image::{Image, Record};
use timers::Timers;

/// Which conversions between the protocols are allowed while a group has members
/// (`group.consumer.migration.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MigrationPolicy {
    pub upgrade: bool,
    pub downgrade: bool,
}

/// Configuration of all groups of the consumer protocol, with Kafka's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsumerSettings {
    /// `group.consumer.max.size`
    pub size_max: usize,
    /// `group.max.size`: a larger group cannot go back to the classic protocol.
    pub classic_size_max: usize,
    /// `group.consumer.assignors`, the default one first.
    pub assignors: [Option<Assignor>; 2],
    /// `group.consumer.migration.policy`
    pub migration: MigrationPolicy,
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            size_max: super::MEMBERS_MAX,
            classic_size_max: super::MEMBERS_MAX,
            assignors: Assignor::ALL.map(Some),
            migration: MigrationPolicy { upgrade: true, downgrade: true },
        }
    }
}

impl ConsumerSettings {
    fn assignors(&self) -> impl Iterator<Item = Assignor> + '_ {
        self.assignors.iter().flatten().copied()
    }

    /// Whether members may ask for it; UNSUPPORTED_ASSIGNOR else.
    pub(crate) fn check_assignor(&self, wanted: &str) -> Result<(), Refusal> {
        let names: Vec<&str> = self.assignors().map(Assignor::name).collect();
        if names.contains(&wanted) {
            return Ok(());
        }
        let why = format!(
            "ServerAssignor {wanted} is not supported. Supported assignors: {}.",
            names.join(", ")
        );
        Err(Refusal::new(ResponseError::UnsupportedAssignor, why))
    }
}

/// One topic as groups see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicShape {
    pub id: Uuid,
    pub partitions: i32,
}

/// The topics of the broker.
pub(crate) trait TopicSource: Send + std::marker::Sync {
    /// Grows with every change of what the other functions say.
    fn version(&self) -> u64;
    fn shape(&self, name: &str) -> Option<TopicShape>;
    fn name_of(&self, id: Uuid) -> Option<Arc<str>>;
    fn names(&self) -> Vec<Arc<str>>;
}

/// What a step may know besides the group.
pub(crate) struct World<'a> {
    /// The group's name, for sentences.
    pub group: &'a str,
    pub topics: &'a dyn TopicSource,
    /// The topics that whoever speaks may know of; a regular expression matches no others.
    pub sees: &'a dyn Fn(&str) -> bool,
    /// Those of the group's own configuration, or of all groups'.
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// `fresh_member_id` becomes the member's if it comes without one.
    Heartbeat {
        waiter: Waiter,
        heartbeat: Box<MemberHeartbeat>,
        fresh_member_id: String,
    },
    /// The four requests of the classic protocol.
    Join {
        waiter: Waiter,
        join: Box<Join>,
        fresh_member_id: String,
    },
    Sync {
        waiter: Waiter,
        sync: Sync,
    },
    ClassicHeartbeat {
        waiter: Waiter,
        caller: Caller,
    },
    Leave {
        waiter: Waiter,
        leaving: Vec<Leaving>,
    },
    /// Time has passed.
    Tick,
}

/// What came of a step.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// To be written together, in this order; already applied to the group's image.
    pub records: Vec<Record>,
    /// To be sent when the records are durable.
    pub replies: Vec<(Waiter, Reply)>,
    /// For the log.
    pub notes: Vec<String>,
    /// The group has ended as one of the consumer protocol, and goes on as this.
    pub classic: Option<Box<ClassicSeed>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    settings: ConsumerSettings,
    image: Image,
    timers: BTreeMap<String, Timers>,
    /// Of the topics, when they were looked at last; `None` after a start.
    topics_version: Option<u64>,
    /// The image's regular expressions, ready for use.
    compiled: pattern::Compiled,
}

/// One step in the making.
struct Step<'a> {
    group: &'a mut Group,
    world: &'a World<'a>,
    now: Now,
    out: Outcome,
}

/// The only way to change a group.
pub(crate) fn step(group: &mut Group, event: Event, now: Now, world: &World<'_>) -> Outcome {
    let epoch_before = group.image.epoch();
    let mut step = Step { group, world, now, out: Outcome::default() };
    match event {
        Event::Heartbeat { waiter, heartbeat, fresh_member_id } => {
            step.heartbeat(waiter, *heartbeat, fresh_member_id);
        }
        Event::Join { waiter, join, fresh_member_id } => {
            step.classic_join(waiter, *join, fresh_member_id);
        }
        Event::Sync { waiter, sync } => step.classic_sync(waiter, &sync),
        Event::ClassicHeartbeat { waiter, caller } => step.classic_heartbeat(waiter, &caller),
        Event::Leave { waiter, leaving } => step.classic_leave(waiter, leaving),
        Event::Tick => step.tick(),
    }
    let out = step.out;
    if out.classic.is_none() {
        debug_assert!(group.image.epoch() >= epoch_before, "I3");
        group.assert_invariants();
    }
    out
}

impl Group {
    pub(crate) fn new(settings: ConsumerSettings) -> Self {
        Self {
            settings,
            image: Image::default(),
            timers: BTreeMap::new(),
            topics_version: None,
            compiled: pattern::Compiled::default(),
        }
    }

    /// A group as it was written. Its members go on as if nothing had happened if they send a
    /// heartbeat within their session timeout from now.
    pub(crate) fn from_image(
        settings: ConsumerSettings,
        image: Image,
        now: Now,
        session_timeout_ms: i32,
    ) -> Self {
        let mut group = Self { image, ..Self::new(settings) };
        group.drop_what_belongs_to_nobody();
        for (id, member) in group.image.members() {
            let current = group.image.current(id);
            group
                .timers
                .insert(id.clone(), Timers::at_start(member, &current, now, session_timeout_ms));
        }
        group.assert_invariants();
        group
    }

    /// Records that something else wrote may lack others that they belong to; I2 holds from here
    /// on.
    fn drop_what_belongs_to_nobody(&mut self) {
        let members = self.image.members();
        let targets = self.image.targets().keys().filter(|id| !members.contains_key(*id));
        let mut stray: Vec<Record> = targets.map(|id| Record::Target(id.clone(), None)).collect();
        let current = self.image.current_ids().filter(|id| !members.contains_key(*id));
        stray.extend(current.map(|id| Record::Current(id.clone(), None)));
        let patterns = self.image.patterns().keys().filter(|it| !self.image.uses_pattern(it));
        stray.extend(patterns.map(|pattern| Record::Pattern(pattern.clone(), None)));
        for record in &stray {
            self.image.apply(record);
        }
    }

    pub(crate) fn image(&self) -> &Image {
        &self.image
    }

    /// Nothing would be lost if the group were forgotten.
    pub(crate) fn is_blank(&self) -> bool {
        !self.image.exists()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.image.members().is_empty()
    }

    /// May this caller commit offsets of these partitions now, `None` for one that does not exist?
    /// (In Kafka this is no heartbeat either.) A member that has not heard of its new epoch yet may
    /// go on to commit what was its own in the old one, and is so still (KIP-1251).
    pub(crate) fn admit_commit(
        &self,
        caller: &Caller,
        since_version_9: bool,
        mut places: impl Iterator<Item = Option<(Uuid, i32)>>,
    ) -> Result<(), ResponseError> {
        if caller.generation < 0 && self.is_empty() {
            // An administrator, or a consumer that chooses its partitions itself.
            return Ok(());
        }
        let Some(member) = self.image.members().get(&caller.member_id) else {
            return Err(ResponseError::UnknownMemberId);
        };
        let classic = member.classic.is_some();
        if !classic && !since_version_9 {
            return Err(ResponseError::UnsupportedVersion);
        }
        let current = self.image.current(&caller.member_id);
        let had = |place: Option<_>| place.is_some_and(|it| current.had(it, caller.generation));
        if caller.generation < current.epoch && places.all(had) {
            return Ok(());
        }
        self.check_epoch(&caller.member_id, caller.generation, classic)
    }

    /// May this caller see the group's offsets? Members say who they are since OffsetFetch 9.
    pub(crate) fn admit_fetch(
        &self,
        member_id: Option<&str>,
        member_epoch: i32,
    ) -> Result<(), ResponseError> {
        if member_id.is_none() && member_epoch < 0 {
            return Ok(());
        }
        let id = member_id.unwrap_or_default();
        match self.image.members().get(id) {
            Some(member) => self.check_epoch(id, member_epoch, member.classic.is_some()),
            None => Err(ResponseError::UnknownMemberId),
        }
    }

    fn check_epoch(&self, id: &str, epoch: i32, classic: bool) -> Result<(), ResponseError> {
        match (epoch == self.image.current(id).epoch, classic) {
            (true, _) => Ok(()),
            (false, true) => Err(ResponseError::IllegalGeneration),
            (false, false) => Err(ResponseError::StaleMemberEpoch),
        }
    }

    /// See the header of this module.
    fn assert_invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        self.image.assert_invariants();
        for id in self.image.members().keys() {
            assert!(self.timers.get(id).is_some_and(Timers::has_session), "I4: {id}");
            let epoch = self.image.current(id).epoch;
            assert!(epoch >= 0 || epoch == LEAVES_FOR_NOW, "I3: {id} is in epoch {epoch}");
        }
        assert_eq!(self.timers.len(), self.image.members().len(), "I4");
    }
}

impl Step<'_> {
    /// Decides a record: it holds from here on.
    fn put(&mut self, record: Record) {
        self.group.image.apply(&record);
        self.out.records.push(record);
    }

    fn reply(&mut self, waiter: Waiter, reply: Reply) {
        self.out.replies.push((waiter, reply));
    }

    fn note(&mut self, note: String) {
        self.out.notes.push(note);
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod transcripts;
