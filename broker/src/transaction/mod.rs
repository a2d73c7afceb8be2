//! Transactions (KIP-98, KIP-360, KIP-447, KIP-588, KIP-664, KIP-890).
//!
//! Layers, top down:
//! - [`coordinator`]: the driver. Owns one machine a transactional id, each behind a lock of its
//!   own that is never held across an await; runs the timers, answers waiters, hands units to the
//!   log.
//! - [`machine`]: one transactional id as a pure function of events and time.
//! - [`record`]: what is kept of it, the value of `transaction:<id>` in `__odradek_state`.
//! - [`units`]: what the machine wants written, as one unit of the log.
//! - [`marker`]: the control batch that ends a transaction in one partition.
//! - [`recover`]: what a start makes of records and of the transactions that are open in the log.
//!
//! One node needs no prepare phase on the disk. The end of a transaction is **one unit of the log**
//! over all its partitions: a marker in each, the groups' offsets as ordinary records in
//! `__consumer_offsets`, and the new record. So whatever crashes, a transaction is ongoing or
//! complete, and Kafka's states PrepareCommit and PrepareAbort last only while that unit is on its
//! way; they are never on the disk.
//!
//! Invariants:
//! - T1. A reply that says so follows the durable write: partitions and offsets that were added by
//!   name, a new epoch, an end.
//! - T2. A batch is checked against the machine in the same instant in which it is handed to the
//!   log, under the id's lock, as is the unit that ends the transaction: no batch comes behind its
//!   transaction's marker.
//! - T3. Offsets of an ongoing transaction are in its record alone. `__consumer_offsets` holds only
//!   what is committed, so whoever reads it, Kafka's tools included, needs to know no transaction.
//! - T4. Partitions that Produce adds by itself (KIP-890, "version 2") are in no record: the log
//!   knows which producers have a transaction open in a partition. At the start such a partition
//!   belongs to the id whose record has that very producer id and epoch.
//! - T5. A transaction that is open in the log and that no record explains (records taken over from
//!   elsewhere, for example) is aborted at the start; else it would hold back every read_committed
//!   reader of the partition for ever.
//!
//! Lock order: the lock of one id, then what the log's unit locks; the map of ids, the index of
//! pending offsets and the groups' lock are leaves.

pub(crate) mod coordinator;
pub(crate) mod machine;
pub(crate) mod marker;
pub(crate) mod record;
pub(crate) mod recover;
pub(crate) mod units;

/// Configuration of all transactions, with Kafka's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionSettings {
    /// `transaction.max.timeout.ms`
    pub timeout_ms_max: i32,
    /// `transactional.id.expiration.ms`
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`
    pub check_interval_ms: i64,
}

impl Default for TransactionSettings {
    fn default() -> Self {
        Self {
            timeout_ms_max: 900_000,
            id_expiration_ms: 7 * 24 * 60 * 60 * 1_000,
            check_interval_ms: 10_000,
        }
    }
}

/// Transactional ids in all. One costs about half a kilobyte beside its own text, so all of them at
/// most about 150 MB; whoever makes a new one for every start of a program must meet a bound before
/// memory does.
pub(crate) const TRANSACTIONAL_IDS_MAX: usize = 100_000;

/// Bytes of a transactional id: it becomes the key of a record.
pub(crate) const TRANSACTIONAL_ID_BYTES_MAX: usize = 1_024;

/// Offsets that one transaction may hold: each addition writes all of them anew. A consumer of
/// thousands of partitions stays below it.
pub(crate) const PENDING_OFFSETS_MAX: usize = 10_000;

/// Bytes of the text of those offsets, as names of groups and topics and as metadata: about what
/// the largest record of a transaction is in the log and in memory.
pub(crate) const PENDING_OFFSETS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Of markers and in replies: the state topic's leader never changes here.
pub(crate) const COORDINATOR_EPOCH: i32 = 0;
