//! What the product can be asked to do, one file a verb.
//!
//! An operation takes typed arguments and the seam's traits, and returns typed answers. It knows no
//! HTTP and prints nothing: `http/` and `cli/` parse, call one of these, and format.

pub mod acls;
pub mod atomic_file;
pub mod bench;
pub mod certificate_facts;
pub mod certificates;
pub mod cursor;
pub mod diagnoses;
pub mod doctor;
pub mod expose;
pub mod filter;
pub mod follow;
pub mod groups;
pub mod instant;
pub mod machine;
pub mod merge;
pub mod models;
pub mod range;
pub mod render;
pub mod snippets;
pub mod timeline;
pub mod topics;
pub mod users;
pub mod write;

#[cfg(test)]
pub mod fake;

use odradek_broker::client::ClientError;

/// Why an operation did not do what was asked. `Display` is a sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The request itself is wrong; `hint` says what would be right.
    #[error("{detail}")]
    Invalid { detail: String, hint: String },
    #[error("{0}")]
    NotFound(String),
    /// There is no such thing; `hint` names what was probably meant.
    #[error("{detail}")]
    Unknown { detail: String, hint: String },
    /// What the cursor points at is no longer there.
    #[error("{0}")]
    Gone(String),
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Failure {
    pub fn invalid(detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Invalid { detail: detail.into(), hint: hint.into() }
    }
}

pub type Outcome<T> = std::result::Result<T, Failure>;
