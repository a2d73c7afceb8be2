//! One listener: binding, accepting, TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::broker::{BoundListener, Broker, StartError};
use crate::client::Principal;
use crate::config::{Listener, SecurityProtocol};
use crate::connection::{self, MADE_WAY, Place};
use crate::diagnose;
use crate::limits;
use crate::quota::Kind;
use crate::session::{Identity, Login, Session};
use crate::tls::{self, Stamp};

/// What connections are given that come from now on.
pub(crate) struct Served {
    config: Arc<Listener>,
    /// With the state of the certificate files when they were read.
    tls: Option<(TlsAcceptor, Stamp)>,
}

impl Served {
    /// Reads the listener's certificates, if it has any; an error is a sentence.
    pub(crate) async fn of(listener: &Listener) -> Result<Arc<Self>, String> {
        let config = Arc::new(listener.clone());
        let read = config.clone();
        let tls = tokio::task::spawn_blocking(move || {
            let Some(settings) = &read.tls else { return Ok(None) };
            // Taken first: a file that changes while it is read is read again.
            let stamp = tls::stamp(settings);
            let server = tls::server_config(settings)?;
            Ok(Some((TlsAcceptor::from(server), stamp)))
        });
        let tls = tls.await.map_err(|error| error.to_string())?;
        let tls = tls.map_err(|why: String| format!("listener {}: {why}", listener.name))?;
        Ok(Arc::new(Self { config, tls }))
    }

    fn stamp(&self) -> Option<&Stamp> {
        self.tls.as_ref().map(|(_, stamp)| stamp)
    }
}

/// A listener with its address, and what it serves now.
pub(crate) struct Bound {
    served: ArcSwap<Served>,
    address: SocketAddr,
    closing: watch::Sender<bool>,
    /// Files that could not be used, which has been said.
    refused: std::sync::Mutex<Option<Stamp>>,
}

impl Bound {
    pub(crate) fn describe(&self) -> BoundListener {
        let config = &self.served.load().config;
        BoundListener {
            name: config.name.clone(),
            protocol: config.protocol,
            address: self.address,
        }
    }

    /// Whether it is where this configuration wants a listener of this name.
    pub(crate) fn is_at(&self, wanted: &Listener) -> bool {
        let config = &self.served.load().config;
        (&config.name, &config.host, config.port) == (&wanted.name, &wanted.host, wanted.port)
    }

    /// What it would serve under this configuration, with certificates read anew if need be.
    pub(crate) async fn served_as(&self, wanted: &Listener) -> Result<Arc<Served>, String> {
        let now = self.served.load_full();
        let changed = || wanted.tls.as_ref().map(tls::stamp).as_ref() != now.stamp();
        if *now.config == *wanted && !changed() { Ok(now) } else { Served::of(wanted).await }
    }

    pub(crate) fn serve_as(&self, served: Arc<Served>) {
        self.served.store(served);
    }

    pub(crate) async fn reload_if_changed(&self) {
        let now = self.served.load_full();
        let Some(stamp) = now.config.tls.as_ref().map(tls::stamp) else { return };
        if Some(&stamp) == now.stamp() {
            return;
        }
        let name = &now.config.name;
        match Served::of(&now.config).await {
            Ok(served) => {
                self.serve_as(served);
                tracing::info!(listener = %name,
                    "the certificate files have changed; new connections get what is in them now");
            }
            Err(why) => {
                let mut refused = crate::partition::lock(&self.refused);
                if refused.as_ref() != Some(&stamp) {
                    tracing::error!(listener = %name, %why,
                        "the certificate files have changed and cannot be used; what was read \
                         before stays in force");
                    *refused = Some(stamp);
                }
            }
        }
    }

    /// Binds the same address once more.
    pub(crate) async fn bind_again(&self) -> std::io::Result<TcpListener> {
        TcpListener::bind(self.address).await
    }

    /// Ends its connections, each once what it asked for is answered.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }
}

/// Binds a listener that serves this configuration, or says why that cannot be.
pub(crate) async fn bind(config: &Listener) -> Result<(Arc<Bound>, TcpListener), StartError> {
    bind_as(config, Served::of(config).await.map_err(StartError::Tls)?).await
}

pub(crate) async fn bind_as(
    config: &Listener,
    served: Arc<Served>,
) -> Result<(Arc<Bound>, TcpListener), StartError> {
    let address = format!("{}:{}", bind_host(&config.host), config.port);
    let failed =
        |error| StartError::Bind { name: config.name.clone(), address: address.clone(), error };
    let socket = TcpListener::bind(&address).await.map_err(failed)?;
    let bound = Bound {
        served: ArcSwap::new(served),
        address: socket.local_addr().map_err(failed)?,
        closing: watch::channel(false).0,
        refused: std::sync::Mutex::default(),
    };
    Ok((Arc::new(bound), socket))
}

/// An empty host means every address, as in Kafka; a bare IPv6 address needs brackets.
fn bind_host(host: &str) -> String {
    match host {
        "" => "0.0.0.0".to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    }
}

/// Accepts until the broker stops or `halt` says so; then the socket is closed.
pub(crate) async fn serve(
    broker: Broker,
    bound: Arc<Bound>,
    socket: TcpListener,
    mut halt: watch::Receiver<bool>,
) {
    let mut stopping = broker.stopping();
    loop {
        let accepted = tokio::select! {
            _ = stopping.changed() => return,
            _ = halt.changed() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => admit(&broker, &bound, stream, peer),
            Err(e) => {
                // Out of file handles, mostly: pause, or this loop would spin.
                let name = &bound.served.load().config.name;
                tracing::warn!(listener = %name, error = %e, "accept failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit(broker: &Broker, bound: &Arc<Bound>, stream: TcpStream, peer: SocketAddr) {
    let served = bound.served.load_full();
    let name = &served.config.name;
    let place = match Place::take(broker, peer.ip()) {
        Ok(place) => place,
        Err(evidence) => {
            broker.inner.diary.note(peer, name, diagnose::TOO_MANY_CONNECTIONS, &evidence);
            return;
        }
    };
    broker.inner.metrics.connection(name);
    if let Some(wait) = broker.core().quotas.connect(peer.ip()) {
        let wait_ms = i64::try_from(wait.as_millis()).unwrap_or(i64::MAX);
        broker.inner.metrics.throttled(Kind::Connection.key(), wait_ms);
        // It holds its place, so that many of them are no way around the number of connections.
        broker.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = place.has_to_leave() => {}
            }
            drop((stream, place));
        });
        return;
    }
    let (connection_broker, closing) = (broker.clone(), bound.closing.subscribe());
    broker.spawn(async move {
        greet(connection_broker, &served, closing, stream, peer, place).await;
    });
}

/// TLS where the listener has it, then the connection itself.
async fn greet(
    broker: Broker,
    served: &Served,
    closing: watch::Receiver<bool>,
    stream: TcpStream,
    peer: SocketAddr,
    mut place: Place,
) {
    let Ok(local) = stream.local_addr() else { return };
    // Replies leave as they are ready; waiting to fill a segment would cost a round trip.
    let _ = stream.set_nodelay(true);
    keep_alive(&stream);
    let Some((acceptor, _)) = &served.tls else {
        let session = session(&served.config, peer, local, None, None);
        return connection::run(broker, session, closing, stream, &mut place).await;
    };
    let name = &served.config.name;
    let handshake = async {
        let mut first = [0; 8];
        let seen = stream.peek(&mut first).await.unwrap_or(0);
        if let Some((id, evidence)) = diagnose::of_first_bytes_on_tls(&first[..seen]) {
            connection::turn_away(&broker, stream, id).await;
            return Err((id, evidence));
        }
        let accepted = acceptor.accept(stream).await;
        accepted.map_err(|e| diagnose::of_tls_error(&e))
    };
    let patience = limits::LOGIN_TIME_MAX.min(limits::idle(&broker.config()));
    let handshake = async {
        tokio::select! {
            shaken = handshake => shaken,
            () = place.has_to_leave() => Err((diagnose::TOO_MANY_CONNECTIONS, MADE_WAY.to_owned())),
        }
    };
    let stream = match tokio::time::timeout(patience, handshake).await {
        Ok(Ok(stream)) => stream,
        Ok(Err((id, evidence))) => return broker.inner.diary.note(peer, name, id, &evidence),
        Err(_) => {
            let evidence = "no complete TLS handshake came in time";
            return broker.inner.diary.note(peer, name, diagnose::TLS_HANDSHAKE_FAILED, evidence);
        }
    };
    let (_, tls_state) = stream.get_ref();
    let server_name = tls_state.server_name().map(str::to_owned);
    let certified = match tls::principal(tls_state, &served.config.principal_rules) {
        Ok(certified) => certified,
        Err(subject) => {
            let evidence = format!("no rule of ssl.principal.mapping.rules fits {subject:?}");
            let id = diagnose::TLS_CLIENT_CERTIFICATE_REFUSED;
            return broker.inner.diary.note(peer, name, id, &evidence);
        }
    };
    let session = session(&served.config, peer, local, server_name, certified);
    connection::run(broker, session, closing, stream, &mut place).await;
}

/// As Kafka, but a vanished peer is noticed after minutes, not after the two hours that are the
/// systems' default.
fn keep_alive(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new()
        .with_time(limits::KEEP_ALIVE_AFTER)
        .with_interval(limits::KEEP_ALIVE_EVERY);
    if let Err(error) = SockRef::from(stream).set_tcp_keepalive(&keep_alive) {
        tracing::debug!(%error, "TCP keep-alive could not be set");
    }
}

pub(crate) fn session(
    listener: &Arc<Listener>,
    peer: SocketAddr,
    local: SocketAddr,
    tls_server_name: Option<String>,
    certified: Option<Principal>,
) -> Arc<Session> {
    let login = match listener.protocol {
        SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl => Login::Wanted(None),
        SecurityProtocol::Plaintext | SecurityProtocol::Ssl => {
            let principal = certified.unwrap_or_else(Principal::anonymous).at(peer.ip());
            Login::Done(Identity::without_login(principal))
        }
    };
    Arc::new(Session {
        listener: listener.clone(),
        peer,
        local,
        tls_server_name,
        login: std::sync::Mutex::new(login),
        muted_until: std::sync::Mutex::default(),
        works: std::sync::atomic::AtomicBool::default(),
        software: std::sync::Mutex::default(),
        share_sessions: std::sync::Mutex::default(),
    })
}
