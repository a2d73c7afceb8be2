//! The log: journal, segments, index.

mod disk;
mod log;
mod types;
mod wire;

pub use disk::{Disk, DiskEntry, DiskFile, RealDisk};
pub use log::Log;
pub use types::*;
