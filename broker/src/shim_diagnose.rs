use crate::config::Config;
use std::net::SocketAddr;
pub const UNDECODABLE_REQUEST: &str = "undecodable-request";
pub const UNSUPPORTED_VERSION: &str = "unsupported-version";
pub const NO_SASL_ON_SASL_LISTENER: &str = "no-sasl-on-sasl-listener";
pub const OVERSIZED_FRAME: &str = "oversized-frame";
pub const TOO_MANY_CONNECTIONS: &str = "too-many-connections";
pub const TLS_HANDSHAKE_FAILED: &str = "tls-handshake-failed";
pub const HTTP_ON_KAFKA_PORT: &str = "http-on-kafka-port";
#[derive(Default)]
pub struct Diary;
impl Diary {
    pub fn note(&self, peer: SocketAddr, listener: &str, id: &'static str, evidence: &str) {
        tracing::warn!(%peer, listener, id, evidence, "odd connection");
    }
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
pub enum Seen {
    Kafka,
    Unknown,
}
pub fn classify(b: &[u8]) -> Seen {
    if b.is_empty() { Seen::Unknown } else { Seen::Kafka }
}
pub fn of_first_bytes(_s: Seen, _b: &[u8]) -> Option<(&'static str, String)> {
    None
}
pub fn of_first_bytes_on_tls(_b: &[u8]) -> Option<(&'static str, String)> {
    None
}
pub fn tls_evidence(e: &std::io::Error) -> String {
    e.to_string()
}
pub fn http_hint(_c: &Config) -> String {
    String::new()
}
