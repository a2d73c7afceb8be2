//! The log and the Kafka protocol. No HTTP, no command line, knows no other package.

pub mod acl;
pub mod auth;
mod broker;
pub mod budget;
mod chance;
pub mod client;
mod clock;
mod compatibility;
pub mod config;
mod config_changes;
mod configs;
mod connection;
mod core;
pub mod diagnose;
mod dispatch;
mod fetch_reply;
mod fetch_session;
pub mod file_modes;
#[doc(hidden)]
pub mod fuzzing;
mod group;
mod handlers;
mod limits;
mod listener;
mod listeners;
mod log_histograms;
pub mod loggers;
pub mod memory;
mod metrics;
mod partition;
mod partitioner;
mod password_check;
mod policy;
mod producer_ids;
mod quota;
mod reads;
mod reply;
mod retention;
mod sequence;
mod session;
mod share;
#[cfg(test)]
mod simulation;
mod state;
mod telemetry;
mod tls;
mod topic_changes;
mod topics;
mod transaction;
#[cfg(test)]
mod transcript;
mod turns;
mod unpack;

pub use broker::{BoundListener, Broker, StartError};
pub use compatibility::page as compatibility_page;
pub use metrics::Traffic;
pub use password_check::{Asking, Checked};
pub use turns::spare_cores;
