//! Client programs that work against this server, made from its own table of listeners.
//!
//! Each is complete: it runs as it is printed, on another machine too, because the authority's
//! certificate stands in it. It writes a record and reads the topic. The password is never in it:
//! it comes from the variable [`PASSWORD`].

mod go;
mod jvm;
mod librdkafka;
mod profile;
mod python;

use odradek_broker::auth::Mechanism;
use odradek_broker::config::SecurityProtocol;

pub use profile::{DEFAULT_USER, Wanted, profile};

/// The environment variable from which every snippet takes the password.
pub const PASSWORD: &str = "KAFKA_PASSWORD";
/// A certificate of the client's own, where the listener asks for one.
const CLIENT_FILE: &str = "client.pem";

/// Also the words of `--for`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    Python,
    Java,
    Spark,
    Databricks,
    Dotnet,
    Kcat,
    Go,
}

/// All that a client must know of one listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// `host:port`
    pub bootstrap: String,
    pub protocol: SecurityProtocol,
    /// On a listener with a login: how, and as whom.
    pub login: Option<(Mechanism, String)>,
    /// PEM of the authority to trust; `None`: one that clients know already, or no TLS.
    pub authority: Option<String>,
    /// The listener lets in only who shows a certificate.
    pub client_certificate: bool,
    pub topic: String,
}

pub fn snippet(kind: Kind, profile: &Profile) -> String {
    match kind {
        Kind::Python => python::python(profile),
        Kind::Java => jvm::java(profile),
        Kind::Spark => jvm::spark(profile),
        Kind::Databricks => jvm::databricks(profile),
        Kind::Dotnet => librdkafka::dotnet(profile),
        Kind::Kcat => librdkafka::kcat(profile),
        Kind::Go => go::go(profile),
    }
}

/// What must be there before the snippet runs, as comments.
fn preparations(profile: &Profile, comment: &str) -> String {
    let mut text = String::new();
    if let Some((_, user)) = &profile.login {
        text += &format!("{comment} {PASSWORD} in the environment holds the password of {user}.\n");
    }
    if profile.client_certificate {
        text += &format!(
            "{comment} {CLIENT_FILE} is a client's certificate with its key: `odradek tls client \
             NAME` makes one.\n"
        );
    }
    text
}

#[cfg(test)]
mod tests;
