//! The log: what is acknowledged survives a power cut.
//!
//! A *unit* (appends to any partitions) joins the *group* that is being filled; one commit thread
//! writes a group to the *journal*, syncs it and answers; where a flush takes long it leaves the
//! sync to others and goes on with the next group. A settle thread takes groups to *segments*, a
//! *checkpoint* syncs those and frees the journal; a feed thread keeps the *view* (sled) up with
//! what is synced. What is much of one partition goes to its segment at once, and not through the
//! journal (`direct`). No network, no async runtime; `odradek-protocol` defines the batches.
//!
//! ```text
//!            commit            settle              checkpoint            feed
//!  queued ──────────▶ written ──────────▶ settled ────────────▶ synced ──────────▶ in the view
//!             synced  (journal)           (segments)            (journal file free)
//! ```
//!
//! Invariants. The code cites them by number where it asserts or depends on them.
//!
//! 1. A unit is in one group, whole, or in none; a group counts wholly or not at all.
//! 2. A segment's index, its side file and a checkpoint speak of nothing whose group is not
//!    durable: in the journal, or in journal and segments where the journal has marks (`direct`).
//!    What a segment holds beyond that counts for nothing and can be cut; what it holds beyond the
//!    last checkpoint is written again, from the journal or, marked bytes, in its own place.
//! 3. checkpointed ≤ settled ≤ synced ≤ written, as group sequences; a partition's high watermark
//!    moves only forward, and under `Durability::Sync` only after the sync of all parts of the
//!    group that moves it, and of all groups before it. What open finds valid but unproven is
//!    synced before it is shown.
//! 4. A journal file is used again only when a checkpoint covers all its groups; the file that is
//!    left is synced, and the new header is durable, before the first group of the new use.
//! 5. After a failed write or sync of journal or segment nothing more is written: every queued unit
//!    is refused and the log has to be opened again, which trusts no page that the failed sync may
//!    have left behind clean: it writes it anew. A full disk is no such failure.
//! 6. A valid side file means: its segment is whole, and was durable before the side file was
//!    written. A segment that others follow has one.
//! 7. The view holds nothing that is not synced, nothing that cannot be rebuilt, and is believed
//!    only by those who would find the same elsewhere. After an unclean stop of the machine, and
//!    after any error, it is set aside. (The second store's map lies beside it and is none: it is
//!    never set aside. See `store`.)
//! 8. One batch of the view has at most 100 keys.
//! 9. What segments do not hold yet is in memory: a reader never misses between tail and segments.
//! 10. Bounds: group 4 MiB, 4 of them in flight, 16 partitions of each directly to segments; tail,
//!     unsettled bytes (those in flight, too), indexes and partitions written to before a sync by
//!     the options; read handles 64, one read 8 MiB; 65,536 aborted transactions a segment.
//! 11. The last stable offset moves with the high watermark, under the same lock: whoever sees a
//!     marker sees its transaction ended. What is aborted is known to `aborted` by then.
//!
//! Who may call what: `attach` before `start` for all partitions that exist, later for new ones.
//! Everything else after `start`, from any thread. `commit`, `read_cached`, `ends` never block on
//! the disk; the rest may.

mod attach;
mod clean;
mod commit;
mod compact;
mod core;
mod direct;
mod disk;
mod feed;
mod flight;
mod flushes;
mod folders;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod index;
mod journal;
mod keyed;
mod log;
mod name;
mod partition;
mod producers;
mod queue;
mod read;
mod recover;
mod segment;
mod settle;
mod side;
#[cfg(test)]
mod simulation;
#[doc(hidden)]
pub mod stepping;
mod store;
mod survey;
mod time;
mod transactions;
mod types;
mod view;
mod walk;
mod wire;

pub use disk::{CrashMode, Disk, DiskEntry, DiskFile, MemoryDisk, RealDisk};
pub use log::Log;
pub use producers::PRODUCERS_MAX;
pub use types::*;
pub use view::{MemoryViews, SledViews, View, ViewError, Views};
