//! Who acts, and from where: what access rules are asked about.

use std::net::{IpAddr, Ipv4Addr};

/// `User:alice`, `User:ANONYMOUS`, or the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal {
    name: String,
    host: IpAddr,
}

impl Principal {
    /// Ingest, analytics and the rest of this process: allowed everything, as a super user is.
    pub fn internal() -> Self {
        Self::named(INTERNAL.to_owned())
    }

    pub fn anonymous() -> Self {
        Self::user("ANONYMOUS")
    }

    /// On this machine, until [`Self::at`] says where.
    pub fn user(name: &str) -> Self {
        Self::named(format!("User:{name}"))
    }

    /// The same, calling from this address.
    #[must_use]
    pub fn at(mut self, host: IpAddr) -> Self {
        // An IPv4 address that came over IPv6 is an IPv4 address.
        self.host = host.to_canonical();
        self
    }

    /// As access rules write it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn host(&self) -> IpAddr {
        self.host
    }

    pub(crate) fn is_internal(&self) -> bool {
        self.name == INTERNAL
    }

    fn named(name: String) -> Self {
        Self { name, host: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }
}

/// No login can make it: those of users begin with `User:`.
const INTERNAL: &str = "Internal:odradek";
