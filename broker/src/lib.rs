//! The log and the Kafka protocol. No HTTP, no command line, knows no other package.

pub mod auth;
pub mod client;
pub mod config;
mod group;
