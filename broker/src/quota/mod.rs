//! Client quotas: how much a user, a client id or an address may ask of the broker.
//!
//! [`Quotas`] owns the limits of the running incarnation and the meters that measure against them.
//! Semantics are Kafka's:
//! 1. What was used is counted first. If the rate over the windows is then above the limit, the
//!    client is told in `throttle_time_ms` how long its rate needs to come back to the limit, and
//!    the broker reads nothing more from that connection for that time.
//! 2. The most specific limit counts: user and client id, user and any client id, user, then the
//!    same for any user, then client id, then any client id. Who shares a limit's entity shares one
//!    meter.
//! 3. A change of topics beyond `controller_mutation_rate` is refused, not delayed, where the
//!    version of the request knows that error.
//! 4. A connection beyond `connection_creation_rate` of its address is accepted, left unanswered
//!    for the throttle time and closed.
//!
//! Limits are records `quota:<entity>` of the state log, durable before they count. Without any
//! limit a request costs one atomic load.

pub(crate) mod changes;
mod meter;
mod quotas;
mod table;

use std::collections::BTreeMap;

pub(crate) use quotas::{Charge, Quotas, Worked};

pub(crate) const USER: &str = "user";
pub(crate) const CLIENT_ID: &str = "client-id";
pub(crate) const IP: &str = "ip";

/// Type and name of each part, as `user` → `alice`; a name of `None` is the default of its type.
pub(crate) type Entity = BTreeMap<String, Option<String>>;

/// Limits by key.
pub(crate) type Limits = BTreeMap<String, f64>;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Bytes of produce requests a second.
    Produce,
    /// Bytes of replies to fetches a second.
    Fetch,
    /// Time of threads that worked on requests, in percent of one thread.
    Request,
    /// Partitions created and deleted a second.
    Mutation,
    /// New connections of one address a second.
    Connection,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Produce, Self::Fetch, Self::Request, Self::Mutation, Self::Connection];

    /// Kafka's key.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Produce => "producer_byte_rate",
            Self::Fetch => "consumer_byte_rate",
            Self::Request => "request_percentage",
            Self::Mutation => "controller_mutation_rate",
            Self::Connection => "connection_creation_rate",
        }
    }

    pub(crate) fn of_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }
}
