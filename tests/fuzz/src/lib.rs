//! What the fuzzer and an ordinary test throw bytes at: one function a target.
//!
//! A target takes any bytes and panics when the product breaks a promise: the module of each says
//! which. Most begin with a byte that says which of a few parsers the rest is for, so that the
//! fuzzer finds its own way to all of them. `README.md` tells how to run them.

pub mod batch;
pub mod certificate;
pub mod compression;
pub mod disk;
pub mod feed;
pub mod http;
mod memory;
pub mod mqtt;
pub mod payload;
pub mod pipeline;
pub mod properties;
pub mod request;
pub mod sasl;

/// One of the functions of [`TARGETS`].
pub type Target = fn(&[u8]);

/// Every target with its name, which is also that of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("batch", batch::run),
    ("certificate", certificate::run),
    ("compression", compression::run),
    ("disk", disk::run),
    ("feed", feed::run),
    ("http", http::run),
    ("mqtt", mqtt::run),
    ("payload", payload::run),
    ("pipeline", pipeline::run),
    ("properties", properties::run),
    ("request", request::run),
    ("sasl", sasl::run),
];
