//! Where [`Reach`] hears of connections, and who tells what it finds.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kafka_protocol::messages::ApiKey;

use super::catalogue::ADVERTISED_NEVER_DIALLED;
use super::reach::{Asked, ClientKey, Reach};
use crate::broker::Broker;
use crate::clock::now_ms;
use crate::handlers::Context;
use crate::partition::lock;
use crate::session::Session;

pub(crate) type Reaching = Mutex<Reach>;

/// How often those who wait are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What a client sends to find its way, before any work.
const FINDING_ITS_WAY: [ApiKey; 8] = [
    ApiKey::ApiVersions,
    ApiKey::SaslHandshake,
    ApiKey::SaslAuthenticate,
    ApiKey::Metadata,
    ApiKey::FindCoordinator,
    ApiKey::InitProducerId,
    ApiKey::GetTelemetrySubscriptions,
    ApiKey::PushTelemetry,
];

impl Session {
    /// Clients are told another address than the one that this connection reached.
    fn is_told_elsewhere(&self) -> bool {
        self.listener.advertised.as_ref().is_some_and(|(host, port)| {
            *port != self.local.port() || *host != self.local.ip().to_canonical().to_string()
        })
    }

    fn client_key(&self, client_id: &str) -> ClientKey {
        ClientKey::new(self.peer, &self.listener.name, client_id)
    }
}

impl Context {
    /// An address was told in answer to this.
    pub(crate) fn told_address(&self, asked: Asked) {
        let session = &self.session;
        if !session.is_told_elsewhere() {
            return;
        }
        let client = session.client_key(&self.client_id);
        let reaching = &self.broker.inner.reaching;
        if lock(reaching).asked(&client, session.peer, asked, now_ms()) {
            tell(&self.broker, &client, session.peer, "asks again");
        }
    }
}

/// A request of this API came.
pub(crate) fn came(broker: &Broker, session: &Session, api_key: i16, client_id: &str) {
    let is_work = !FINDING_ITS_WAY.iter().any(|api| *api as i16 == api_key);
    if is_work && !session.works.swap(true, Ordering::Relaxed) && session.is_told_elsewhere() {
        let client = session.client_key(client_id);
        lock(&broker.inner.reaching).worked(client, session.peer);
    }
}

pub(crate) fn closed(broker: &Broker, session: &Session) {
    if session.is_told_elsewhere() {
        lock(&broker.inner.reaching).closed(session.peer);
    }
}

/// Looks for those who wait, for as long as the broker runs.
pub(crate) async fn watch(broker: Broker) {
    let mut stopping = broker.stopping();
    loop {
        tokio::select! {
            _ = stopping.changed() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let found = lock(&broker.inner.reaching).waiting(now_ms());
        for (client, peer) in found {
            tell(&broker, &client, peer, "waits");
        }
    }
}

fn tell(broker: &Broker, client: &ClientKey, peer: SocketAddr, does: &str) {
    let config = broker.config();
    let listener = config.listeners.iter().find(|listener| listener.name == client.listener());
    let advertised = listener.and_then(|listener| listener.advertised.as_ref());
    let address = advertised.map(|(host, port)| format!("{host}:{port}")).unwrap_or_default();
    let evidence = format!(
        "the client {:?} was told to connect to {address}, and {does} without ever having arrived \
         by it",
        client.client_id()
    );
    broker.inner.diary.note(peer, client.listener(), ADVERTISED_NEVER_DIALLED, &evidence);
}
