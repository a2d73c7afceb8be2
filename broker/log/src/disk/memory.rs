//! A disk for tests.
#[derive(Debug, Clone, Copy)]
pub enum CrashMode { Random }
#[derive(Debug)]
pub struct MemoryDisk {}
