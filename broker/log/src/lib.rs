//! The log: journal, segments, index.

mod attach;
mod clean;
mod commit;
mod core;
mod disk;
mod feed;
mod folders;
mod group;
mod index;
mod journal;
mod keyed;
mod log;
mod partition;
mod producers;
mod read;
mod recover;
mod segment;
mod settle;
mod side;
#[cfg(test)]
mod simulation;
mod time;
mod types;
mod view;
mod walk;
mod wire;

pub use disk::{CrashMode, Disk, DiskEntry, DiskFile, MemoryDisk, RealDisk};
pub use log::Log;
pub use types::*;
pub use view::{MemoryViews, SledViews, View, ViewError, Views};
