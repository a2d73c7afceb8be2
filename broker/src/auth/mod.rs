//! Who is there: users, their verifiers, and the SASL exchanges that check them.
//!
//! Owns what is known about passwords ([`Users`]) and the steps of a login ([`SaslExchange`], a
//! pure machine: bytes in, bytes or a verdict out, no I/O). Invariants:
//! 1. A password is kept only as SCRAM verifiers (StoredKey, ServerKey, salt, iterations), never
//!    as itself or as anything from which it can be replayed.
//! 2. Secrets are compared in constant time, and an unknown user costs the same derivation and gets
//!    the same answer as a wrong password; what SCRAM shows of an unknown one (salt, iterations) is
//!    made by a secret of the data folder, looks as those of the users do, and stays the same.
//! 3. Deriving costs milliseconds of CPU: [`SaslExchange::respond`] and [`Users::check_plain`] run
//!    on blocking threads, on at most half of the cores at a time ([`Users::turn`]), so that logins
//!    never take all of a small machine.
//! 4. Who fails is answered late, more so each time ([`Brake`]).

mod brake;
mod exchange;
mod plain;
mod scram;
mod users;
mod verifier;

pub(crate) use brake::{Attempt, Brake};
pub use exchange::{SaslExchange, Step};
pub use users::{UserRecord, Users, new_secret};
pub use verifier::{Hash, Verifier};

/// What a client is told when its login fails; the same for an unknown user. Kafka's words come
/// first, because people search for them. What follows is true of every failure, and is what it
/// mostly was: a JAAS line keeps quotation marks that a shell or an editor doubled.
pub const WRONG_PASSWORD: &str = "Authentication failed: Invalid username or password (both are \
                                  case-sensitive; blanks and quotation marks count)";

/// The same while there is no user at all. That is told, although nobody has logged in: whoever
/// sets the first client up sees this and little else, every name is answered so, and where nobody
/// can log in there is nothing to guess.
pub const NO_USERS: &str = "Authentication failed: Invalid username or password (this broker has \
                            no users yet; its owner adds one with `odradek user add NAME`)";

/// Whether a user of this name can exist; else why not.
pub fn may_be_named(name: &str) -> Result<(), &'static str> {
    const NAME_BYTES_MAX: usize = 255;
    match () {
        () if name.is_empty() => Err("a user needs a name"),
        () if name.len() > NAME_BYTES_MAX => Err("a user's name has at most 255 bytes"),
        () if name.chars().any(char::is_control) => Err("a user's name has no control characters"),
        () => Ok(()),
    }
}

/// Whether a user of this name and password can exist; else why not.
pub fn may_be_user(name: &str, password: &str) -> Result<(), &'static str> {
    may_be_named(name)?;
    match () {
        () if password.is_empty() => {
            Err("a user needs a password: clients cannot send an empty one")
        }
        // SASL/PLAIN ends the password there.
        () if password.contains('\0') => Err("a password cannot hold the NUL character"),
        () => Ok(()),
    }
}

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mechanism {
    Plain,
    ScramSha256,
    ScramSha512,
}

impl Mechanism {
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// As the protocol writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    /// The hash of a SCRAM mechanism.
    pub const fn hash(self) -> Option<Hash> {
        match self {
            Self::Plain => None,
            Self::ScramSha256 => Some(Hash::Sha256),
            Self::ScramSha512 => Some(Hash::Sha512),
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}
