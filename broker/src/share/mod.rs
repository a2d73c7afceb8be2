//! Share groups (KIP-932): many members read one partition together, record by record.
//!
//! Layers, top down:
//! - [`coordinator`]: the driver. Owns every share group behind one mutex that is never held across
//!   an await; runs the timers, writes to `__odradek_state`, answers whoever waits for a write.
//! - [`fetch`]: reads the log for a member and hands it what is free.
//! - [`session`]: which partitions a member reads, told once (the share sessions).
//! - [`group`] and [`assignor`]: membership, and who reads which partition, as pure functions.
//! - [`partition`]: what became of each record that was handed out, as a pure machine.
//! - [`records`]: what of all this is durable.
//!
//! Invariants of the driver (those of the machines are in their headers):
//! - S1. A reply that says "acknowledged", or that gives a member its epoch, follows the durable
//!   write that it depends on.
//! - S2. A state record always holds all of its group's or partition's state, and one write is
//!   under way at a time: records reach the log in the order of what they describe.
//! - S3. As in Kafka, handing out is not durable: after a crash a record that was out and not
//!   acknowledged is free again, and that delivery does not count.
//! - S4. A group id belongs to one kind of group: the coordinator of the other kinds
//!   ([`crate::group::coordinator`]) is asked under this one's lock, never the other way round.

pub(crate) mod acknowledged;
pub(crate) mod assignor;
pub(crate) mod coordinator;
pub(crate) mod fetch;
pub(crate) mod group;
pub(crate) mod hold;
pub(crate) mod partition;
pub(crate) mod records;
pub(crate) mod reply;
pub(crate) mod session;

use crate::config::group::ShareReset;

/// Configuration of one share group: its own over the broker's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShareSettings {
    /// `group.share.heartbeat.interval.ms`
    pub heartbeat_interval_ms: i32,
    /// `group.share.session.timeout.ms`
    pub session_timeout_ms: i32,
    /// `group.share.max.size`
    pub size_max: usize,
    /// `group.share.record.lock.duration.ms`
    pub lock_ms: i32,
    /// `group.share.delivery.count.limit`
    pub deliveries_max: i16,
    /// `group.share.partition.max.record.locks`: from the first record that is not done to the last
    /// that was handed out.
    pub in_flight_max: i64,
    /// `share.auto.offset.reset`
    pub begins: ShareReset,
    /// `share.isolation.level`
    pub read_committed: bool,
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            heartbeat_interval_ms: 5_000,
            session_timeout_ms: 45_000,
            size_max: 200,
            lock_ms: 30_000,
            deliveries_max: 5,
            in_flight_max: 2_000,
            begins: ShareReset::Latest,
            read_committed: false,
        }
    }
}

/// Share groups, and share partitions of all groups together. An idle one costs about half a
/// kilobyte.
pub(crate) const SHARE_GROUPS_MAX: usize = 10_000;
pub(crate) const SHARE_PARTITIONS_MAX: usize = 100_000;

/// A group's name stands in the key of each of its records.
pub(crate) const GROUP_ID_BYTES_MAX: usize = 1_024;

/// What the members of one group say of themselves: names of topics and clients, racks. All of it
/// stands in the group's one record, and whoever subscribes to a million names must meet a bound.
pub(crate) const MEMBERS_TEXT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Partitions that one member may name in its session: more than a broker has.
pub(crate) const SESSION_PARTITIONS_MAX: usize = crate::limits::PARTITIONS_MAX;

/// Bytes of state records that go to the log at a time, unless one alone has more. The log takes
/// units of nearly one journal file, 64 MiB.
pub(crate) const WRITE_BYTES_MAX: usize = 8 * 1024 * 1024;
