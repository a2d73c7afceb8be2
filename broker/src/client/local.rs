//! The local form of the seam: the broker's own functions, called directly.

/// Who acts: `User:alice`, `User:ANONYMOUS`, or the process itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Principal(pub String);

impl Principal {
    /// Ingest, analytics and the rest of this process: allowed everything, as a super user is.
    pub fn internal() -> Self {
        Self("Internal:odradek".to_owned())
    }

    pub fn anonymous() -> Self {
        Self("User:ANONYMOUS".to_owned())
    }

    pub fn user(name: &str) -> Self {
        Self(format!("User:{name}"))
    }
}
