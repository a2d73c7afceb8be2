//! Kafka's bytes: request frames, a guard before decoding, record batches, compression.
//!
//! Contract: no I/O, no clock, no state. Every function here may be given bytes that an attacker
//! wrote: it returns an error, never panics, and reserves memory in proportion to the bytes it was
//! given (or to a bound it was given). The two exceptions, setters on a batch that has already been
//! validated and the builder, say so.

pub mod batch;
pub mod compression;
mod error;
pub mod frame;
pub mod guard;
mod wire;

pub use error::DecodeError;
