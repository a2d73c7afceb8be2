//! What one connection is: who is at its other end, where it arrived, and whether it logged in.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::auth::SaslExchange;
use crate::client::Principal;
use crate::config::Listener;
use crate::core::now_ms;
use crate::partition::lock;

#[derive(Debug)]
pub(crate) enum Login {
    /// SASL is wanted here and has not been completed; the exchange, once a mechanism is chosen.
    Wanted(Option<SaslExchange>),
    /// `expires_at_ms`: `connections.max.reauth.ms` later, if that is set.
    Done { principal: Principal, expires_at_ms: Option<i64> },
}

pub(crate) struct Session {
    pub listener: Arc<Listener>,
    pub peer: SocketAddr,
    /// The local address that this very connection reached.
    pub local: SocketAddr,
    /// The name that the client asked for in its TLS hello.
    pub tls_server_name: Option<String>,
    pub login: Mutex<Login>,
    /// From ApiVersions 3 on: name and version of the client library.
    pub software: Mutex<Option<(String, String)>>,
}

impl Session {
    pub(crate) fn principal(&self) -> Option<Principal> {
        match &*lock(&self.login) {
            Login::Done { principal, expires_at_ms } => {
                let expired = expires_at_ms.is_some_and(|at| now_ms() >= at);
                (!expired).then(|| principal.clone())
            }
            Login::Wanted(_) => None,
        }
    }

    /// Where this client is told to connect: `advertised.listeners` if set, else the name it asked
    /// for by TLS, else the address it reached. So a laptop on the network, a container and the
    /// machine itself each get an address that works.
    pub(crate) fn advertised(&self) -> (String, u16) {
        if let Some((host, port)) = &self.listener.advertised {
            return (host.clone(), *port);
        }
        let host = match &self.tls_server_name {
            Some(name) => name.clone(),
            None => self.local.ip().to_canonical().to_string(),
        };
        (host, self.local.port())
    }
}
