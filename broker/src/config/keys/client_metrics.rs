//! The keys of a client metrics subscription (KIP-714), as `kafka-client-metrics` sets them.

use super::{Key, Kind, Scope};

pub const CLIENT_METRICS: &[Key] = &[
    Key::new(
        "metrics",
        Kind::List,
        "Prefixes of the names of metrics that clients are asked for; * is all of them.",
    )
    .default("")
    .scope(Scope::ClientMetrics),
    Key::new(
        "interval.ms",
        Kind::Int { min: 100, max: 3_600_000 },
        "How often a client is asked to send its metrics.",
    )
    .default("300000")
    .scope(Scope::ClientMetrics),
    Key::new(
        "match",
        Kind::List,
        "Which clients are asked: name=pattern, …; nothing means all of them.",
    )
    .long(
        "Names: client_instance_id, client_id, client_software_name, client_software_version, \
         client_source_address, client_source_port.",
    )
    .default("")
    .scope(Scope::ClientMetrics),
];

/// What a pattern of `match` may be about.
pub const MATCHED: &[&str] = &[
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];
