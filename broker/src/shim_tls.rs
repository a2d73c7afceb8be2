use crate::client::Principal;
use crate::config::TlsSettings;
use std::sync::Arc;
pub fn server_config(_s: &TlsSettings) -> Result<Arc<rustls::ServerConfig>, String> {
    Err("none".into())
}
pub fn principal(_c: &rustls::ServerConnection) -> Option<Principal> {
    None
}
