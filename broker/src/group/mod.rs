//! Consumer groups: membership, rebalances and committed offsets.
//!
//! Layers, top down:
//! - [`coordinator`]: the driver. Owns every group behind one mutex that is never held across an
//!   await; runs the timers, answers waiters, writes to `__consumer_offsets`.
//! - [`machine`]: one classic group as a pure function of events and time. Owns no clock, no lock,
//!   no I/O, no randomness.
//! - [`consumer`]: one group of the consumer protocol (KIP-848), in the same way, and the
//!   conversion of one kind into the other.
//! - [`records`]: Kafka's own format of `__consumer_offsets`, so that Kafka's tools read it.
//!
//! Invariants of the driver (those of the machine are in its header):
//! - D1. A reply that says "committed" follows the durable write; a committed offset is visible
//!   only after that write.
//! - D2. Writes of one group reach the log in the order in which they were decided, and memory
//!   changes in the same order: each group has one queue and at most one append under way. What a
//!   consumer group decides holds in memory at once, and is told to nobody before it is durable; if
//!   the write fails, the group is made again from what is.
//! - D3. Every waiter is answered once: by the machine, or by the drop of its sender, which reads
//!   as COORDINATOR_NOT_AVAILABLE.
//! - D4. Sessions run on a clock that never jumps; only what is stored (commit times, the time a
//!   group became empty) is wall time. A home server that sets its clock after boot expires nobody.

mod codec;
pub(crate) mod consumer;
pub(crate) mod coordinator;
pub(crate) mod exchange;
pub(crate) mod machine;
pub(crate) mod records;
#[cfg(test)]
mod words;

/// Configuration of all groups, with Kafka's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupSettings {
    /// `group.min.session.timeout.ms`
    pub session_timeout_ms_min: i32,
    /// `group.max.session.timeout.ms`
    pub session_timeout_ms_max: i32,
    /// `group.initial.rebalance.delay.ms`; 0 here (Kafka: 3000), because one home server rarely
    /// starts a fleet of consumers at once, and everybody notices three idle seconds.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`
    pub size_max: usize,
    /// `offsets.retention.minutes`, in milliseconds
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`
    pub offsets_retention_check_interval_ms: i64,
    /// `offset.metadata.max.bytes`
    pub offset_metadata_bytes_max: usize,
    pub consumer: consumer::ConsumerSettings,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_ms_min: 6_000,
            session_timeout_ms_max: 1_800_000,
            initial_rebalance_delay_ms: 0,
            size_max: MEMBERS_MAX,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
            offset_metadata_bytes_max: 4_096,
            consumer: consumer::ConsumerSettings::default(),
        }
    }
}

/// Members and members-to-be of one group, whatever `group.max.size` allows above that: a member
/// costs about a kilobyte, and whoever asks for member ids in a loop must meet a bound.
pub(crate) const MEMBERS_MAX: usize = 10_000;

/// Texts of `__consumer_offsets` have a length of 15 bits.
pub(crate) const TEXT_BYTES_MAX: usize = i16::MAX as usize;

/// What a client calls itself, as a part of the member ids that are made for it.
pub(crate) const MEMBER_NAME_BYTES_MAX: usize = 255;

/// Groups in all. An empty one costs about half a kilobyte.
pub(crate) const GROUPS_MAX: usize = 100_000;
