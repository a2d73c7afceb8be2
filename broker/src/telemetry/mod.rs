//! Metrics that clients push (KIP-714): who is asked for what, and what they said.
//!
//! [`Telemetry`] owns the client instances and their latest values; subscriptions stand in the
//! configuration (`configs`), and without one nothing is asked for. Everything is in memory and
//! bounded: instances, series of an instance, lengths of names. An instance that is silent for
//! three push intervals, at least a minute, is forgotten, as in Kafka, and its values with it.

mod instances;
mod otlp;
mod values;

pub(crate) use instances::{Client, PUSH_BYTES_MAX, Push, Telemetry, pushed_numbers};
pub(crate) use values::ClientMetrics;
