//! Frames, decode guard, record batches, compression. No I/O.

pub mod batch;
