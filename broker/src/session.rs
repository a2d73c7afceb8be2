//! What one connection is: who is at its other end, where it arrived, and whether it logged in.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::auth::{Mechanism, SaslExchange};
use crate::client::Principal;
use crate::config::Listener;
use crate::partition::lock;
use crate::share::hold::Hold;

/// KIP-368: a connection may log in again at most so often.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) enum Login {
    /// SASL is wanted here and has not been completed; the exchange, once a mechanism is chosen.
    Wanted(Option<SaslExchange>),
    Done(Identity),
    /// Logged in, and logging in again (KIP-368). Until that is done nothing else is answered. No
    /// exchange: it is being worked on.
    Again(Identity, Option<SaslExchange>),
}

/// Who logged in, and for how long.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub principal: Principal,
    /// `None` on a listener without login.
    pub mechanism: Option<Mechanism>,
    /// `connections.max.reauth.ms` after the login, if that is set.
    pub expires_at: Option<Instant>,
    /// When the last login on top of the first one began.
    pub again_at: Option<Instant>,
}

/// Whether requests are answered.
#[derive(Debug)]
pub(crate) enum Standing {
    LoggedIn(Principal),
    NotYet,
    /// The session's time is over: only a new login is answered.
    Expired,
}

impl Identity {
    /// On a listener without login.
    pub(crate) fn without_login(principal: Principal) -> Self {
        Self { principal, mechanism: None, expires_at: None, again_at: None }
    }

    pub(crate) fn may_log_in_again(&self) -> bool {
        self.mechanism.is_some() && self.again_at.is_none_or(|at| at.elapsed() >= AGAIN_AFTER)
    }
}

impl Login {
    /// The place of the exchange that goes on now, if a login does.
    pub(crate) fn exchange(&mut self) -> Option<&mut Option<SaslExchange>> {
        match self {
            Self::Wanted(exchange) | Self::Again(_, exchange) => Some(exchange),
            Self::Done(_) => None,
        }
    }

    /// Whether this connection has to log in before anything else.
    pub(crate) fn is_wanted(&self) -> bool {
        !matches!(self, Self::Done(_))
    }
}

pub(crate) struct Session {
    pub listener: Arc<Listener>,
    pub peer: SocketAddr,
    /// The local address that this very connection reached.
    pub local: SocketAddr,
    /// The name that the client asked for in its TLS hello.
    pub tls_server_name: Option<String>,
    pub login: Mutex<Login>,
    /// Nothing more is read before this moment: a quota was used up.
    pub muted_until: Mutex<Option<Instant>>,
    /// It has sent more than what a client finds its way by (`diagnose::reach`).
    pub works: AtomicBool,
    /// From ApiVersions 3 on: name and version of the client library.
    pub software: Mutex<Option<(String, String)>>,
    /// They end with the connection.
    pub share_sessions: Mutex<Vec<Hold>>,
}

impl Session {
    pub(crate) fn standing(&self) -> Standing {
        match &*lock(&self.login) {
            Login::Done(identity) => match identity.expires_at {
                Some(at) if Instant::now() > at => Standing::Expired,
                _ => Standing::LoggedIn(identity.principal.clone()),
            },
            Login::Wanted(_) | Login::Again(..) => Standing::NotYet,
        }
    }

    /// The client's address as Java prints one without a name, because Kafka's tools show it so.
    pub(crate) fn client_host(&self) -> String {
        format!("/{}", self.peer.ip().to_canonical())
    }

    pub(crate) fn mute(&self, wait_ms: i64) {
        let until = Instant::now().checked_add(Duration::from_millis(wait_ms.unsigned_abs()));
        let mut muted = lock(&self.muted_until);
        *muted = (*muted).max(until);
    }

    /// The moment up to which nothing is read, if that is not over.
    pub(crate) fn muted_until(&self) -> Option<Instant> {
        let mut muted = lock(&self.muted_until);
        *muted = muted.filter(|until| Instant::now() < *until);
        *muted
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
