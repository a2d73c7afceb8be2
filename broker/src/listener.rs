//! Binding, accepting, TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::broker::{BoundListener, Broker, StartError};
use crate::client::Principal;
use crate::config::{Config, Listener, SecurityProtocol};
use crate::connection::{self, Place};
use crate::diagnose;
use crate::limits;
use crate::quota::Kind;
use crate::session::{Identity, Login, Session};
use crate::tls;

/// A listener with its socket, and its certificate if it has one.
pub(crate) struct Bound {
    config: Arc<Listener>,
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl Bound {
    pub(crate) fn describe(&self) -> BoundListener {
        BoundListener {
            name: self.config.name.clone(),
            protocol: self.config.protocol,
            address: self.address,
        }
    }
}

/// Binds all, or says which one could not be bound and why.
pub(crate) async fn bind_all(config: &Config) -> Result<Vec<Bound>, StartError> {
    let mut bound = Vec::with_capacity(config.listeners.len());
    for listener in &config.listeners {
        let address = format!("{}:{}", bind_host(&listener.host), listener.port);
        let failed = |error| StartError::Bind {
            name: listener.name.clone(),
            address: address.clone(),
            error,
        };
        let tls = match &listener.tls {
            None => None,
            Some(settings) => {
                let server = tls::server_config(settings)
                    .map_err(|why| StartError::Tls { name: listener.name.clone(), why })?;
                Some(TlsAcceptor::from(server))
            }
        };
        let socket = TcpListener::bind(&address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        bound.push(Bound { config: Arc::new(listener.clone()), socket, address, tls });
    }
    Ok(bound)
}

/// An empty host means every address, as in Kafka; a bare IPv6 address needs brackets.
fn bind_host(host: &str) -> String {
    match host {
        "" => "0.0.0.0".to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    }
}

/// Accepts until the broker stops.
pub(crate) async fn serve(broker: Broker, bound: Bound) {
    let bound = Arc::new(bound);
    let mut stopping = broker.stopping();
    loop {
        let accepted = tokio::select! {
            _ = stopping.changed() => return,
            accepted = bound.socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&broker, &bound, stream, peer),
            Err(e) => {
                // Out of file handles, mostly: pause, or this loop would spin.
                tracing::warn!(listener = %bound.config.name, error = %e, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(broker: &Broker, bound: &Arc<Bound>, stream: TcpStream, peer: SocketAddr) {
    let place = match Place::take(broker, peer.ip()) {
        Ok(place) => place,
        Err(evidence) => {
            let (id, name) = (diagnose::TOO_MANY_CONNECTIONS, &bound.config.name);
            broker.inner.diary.note(peer, name, id, &evidence);
            return;
        }
    };
    broker.inner.metrics.connection(&bound.config.name);
    if let Some(wait) = broker.core().quotas.connect(peer.ip()) {
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        broker.inner.metrics.throttled(Kind::Connection.key(), wait_ms);
        // It holds its place, so that many of them are no way around the number of connections.
        broker.spawn(async move {
            tokio::time::sleep(wait).await;
            drop((stream, place));
        });
        return;
    }
    let (connection_broker, bound) = (broker.clone(), bound.clone());
    broker.spawn(async move {
        greet(connection_broker, &bound, stream, peer).await;
        drop(place);
    });
}

/// TLS where the listener has it, then the connection itself.
async fn greet(broker: Broker, bound: &Bound, stream: TcpStream, peer: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    // Replies leave as they are ready; waiting to fill a segment would cost a round trip.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = &bound.tls else {
        let session = session(bound, peer, local, None, None);
        return connection::run(broker, session, stream).await;
    };
    let name = &bound.config.name;
    let handshake = async {
        let mut first = [0; 8];
        let seen = stream.peek(&mut first).await.unwrap_or(0);
        if let Some((id, evidence)) = diagnose::of_first_bytes_on_tls(&first[..seen]) {
            connection::turn_away(&broker, stream, id).await;
            return Err((id, evidence));
        }
        let accepted = acceptor.accept(stream).await;
        accepted.map_err(|e| (diagnose::TLS_HANDSHAKE_FAILED, diagnose::tls_evidence(&e)))
    };
    let stream = match tokio::time::timeout(limits::LOGIN_TIME_MAX, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((id, evidence))) => return broker.inner.diary.note(peer, name, id, &evidence),
        Err(_) => {
            let evidence = "no complete TLS handshake came in time";
            return broker.inner.diary.note(peer, name, diagnose::TLS_HANDSHAKE_FAILED, evidence);
        }
    };
    let (_, tls_state) = stream.get_ref();
    let server_name = tls_state.server_name().map(str::to_owned);
    let certified = match tls::principal(tls_state, &bound.config.principal_rules) {
        Ok(certified) => certified,
        Err(subject) => {
            let evidence = format!("no rule of ssl.principal.mapping.rules fits {subject:?}");
            return broker.inner.diary.note(peer, name, diagnose::TLS_HANDSHAKE_FAILED, &evidence);
        }
    };
    let session = session(bound, peer, local, server_name, certified);
    connection::run(broker, session, stream).await;
}

fn session(
    bound: &Bound,
    peer: SocketAddr,
    local: SocketAddr,
    tls_server_name: Option<String>,
    certified: Option<Principal>,
) -> Arc<Session> {
    let login = match bound.config.protocol {
        SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl => Login::Wanted(None),
        SecurityProtocol::Plaintext | SecurityProtocol::Ssl => {
            let principal = certified.unwrap_or_else(Principal::anonymous).at(peer.ip());
            Login::Done(Identity::without_login(principal))
        }
    };
    Arc::new(Session {
        listener: bound.config.clone(),
        peer,
        local,
        tls_server_name,
        login: std::sync::Mutex::new(login),
        muted_until: std::sync::Mutex::default(),
        software: std::sync::Mutex::default(),
        share_sessions: std::sync::Mutex::default(),
    })
}
