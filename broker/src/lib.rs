//! The log and the Kafka protocol. No HTTP, no command line, knows no other package.

pub mod client;
mod group;
