//! Which listeners there are, and what comes of dialling each: at its own address, and at the one
//! that clients are told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use odradek_broker::config::{Config, Listener, Pem, SecurityProtocol};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;

use super::dial::{Call, Talk};
use super::tls::{self, Authorities};
use super::view::OpenListener;
use crate::operations::doctor::facts::{Dialled, ListenerSeen, Lookup, Running, Trust};

/// Of one listener or name.
const ADDRESSES_MAX: usize = 6;
const LOOKUP_TIME_MAX: Duration = Duration::from_secs(5);

/// One listener that is to be looked at.
pub struct Target {
    pub seen: ListenerSeen,
    mechanism: String,
    /// The certificates of the configuration, for when nothing answers.
    file_chain: Option<Pem>,
}

/// Of the configuration and of the running server; what only one of them has is there too.
pub fn targets(config: Option<&Config>, open: &[OpenListener]) -> Vec<Target> {
    let configured = config.into_iter().flat_map(|config| &config.listeners);
    let meant = config.is_some_and(Config::allows_open_listeners);
    let mut targets: Vec<Target> = configured
        .map(|listener| {
            let running = open.iter().find(|open| open.name == listener.name);
            of_configuration(listener, running, meant)
        })
        .collect();
    for open in open {
        if !targets.iter().any(|target| target.seen.name == open.name) {
            targets.extend(of_server(open));
        }
    }
    targets
}

fn of_configuration(
    listener: &Listener,
    running: Option<&OpenListener>,
    open_is_meant: bool,
) -> Target {
    let as_it_runs = running.and_then(|open| {
        Some(Running { protocol: open.protocol.parse().ok()?, advertised: open.told() })
    });
    let bound = running.and_then(|open| open.address.parse::<SocketAddr>().ok());
    let port = match listener.port {
        0 => bound.map_or(0, |address| address.port()),
        port => port,
    };
    // Of one address family or of both: the server knows.
    let bound = bound.map(|address| address.ip()).filter(IpAddr::is_unspecified);
    let host = match bound.filter(|_| listener.host.is_empty()) {
        Some(every) => every.to_string(),
        None => listener.host.clone(),
    };
    let mechanism = match running {
        Some(open) => open.mechanisms.first().cloned(),
        None => listener.mechanisms.first().map(|mechanism| mechanism.name().to_owned()),
    };
    Target {
        seen: ListenerSeen {
            name: listener.name.clone(),
            protocol: listener.protocol,
            host,
            port,
            is_public: !listener.is_loopback(),
            is_open: listener.is_open(),
            open_is_meant,
            advertised: listener.advertised.clone(),
            running: as_it_runs,
            dialled: Vec::new(),
            lookup: None,
            chain: Vec::new(),
            trust: Trust::Unknown,
        },
        mechanism: mechanism.unwrap_or_default(),
        file_chain: listener.tls.as_ref().map(|tls| tls.chain.clone()),
    }
}

/// What only the server tells; `None` if it cannot be understood.
fn of_server(open: &OpenListener) -> Option<Target> {
    let protocol: SecurityProtocol = open.protocol.parse().ok()?;
    let address: SocketAddr = open.address.parse().ok()?;
    let is_public = !address.ip().is_loopback();
    Some(Target {
        seen: ListenerSeen {
            name: open.name.clone(),
            protocol,
            host: address.ip().to_string(),
            port: address.port(),
            is_public,
            is_open: is_public && protocol == SecurityProtocol::Plaintext,
            open_is_meant: false,
            advertised: open.told(),
            running: None,
            dialled: Vec::new(),
            lookup: None,
            chain: Vec::new(),
            trust: Trust::Unknown,
        },
        mechanism: open.mechanisms.first().cloned().unwrap_or_default(),
        file_chain: None,
    })
}

impl OpenListener {
    /// Host and port that clients are told whatever they dialled.
    fn told(&self) -> Option<(String, u16)> {
        let (host, port) = self.advertised.as_deref()?.rsplit_once(':')?;
        Some((host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?))
    }
}

/// What all listeners are looked at with.
pub struct Looking<'a> {
    pub interfaces: &'a [IpAddr],
    /// The host under which a server on another machine is reached.
    pub remote_host: Option<&'a str>,
    pub authorities: &'a Authorities,
    pub tls: Arc<rustls::ClientConfig>,
}

impl Looking<'_> {
    pub async fn look(&self, target: Target) -> ListenerSeen {
        let Target { mut seen, mechanism, file_chain } = target;
        let own = self.own_addresses(&seen).await;
        let (told_addresses, told_port) = match &seen.advertised {
            Some((host, port)) => (Some(resolve(host).await), *port),
            None => (None, 0),
        };
        let told = told_addresses.iter().flat_map(|addresses| addresses.as_deref().unwrap_or(&[]));
        let told: Vec<SocketAddr> = told.map(|ip| SocketAddr::new(*ip, told_port)).collect();
        let host = seen.advertised.as_ref().map_or(seen.host.clone(), |(host, _)| host.clone());
        let call = |address: &SocketAddr| Call {
            address: *address,
            protocol: seen.running.as_ref().map_or(seen.protocol, |running| running.protocol),
            mechanism: mechanism.clone(),
            host: host.clone(),
            tls: self.tls.clone(),
        };
        let talk = |addresses: &[SocketAddr]| {
            let calls: Vec<Call> = addresses.iter().map(call).collect();
            async move { join_all(calls.iter().map(Call::talk)).await }
        };
        let (own_talks, told_talks) = futures::join!(talk(&own), talk(&told));
        let shown = own_talks.iter().chain(&told_talks).find(|talk| !talk.chain.is_empty());
        let chain = match shown {
            Some(talk) => talk.chain.clone(),
            None => file_chain.as_ref().map(read_chain).unwrap_or_default(),
        };
        seen.chain = tls::seen(&chain);
        seen.trust = self.authorities.vouch(&chain, &seen.chain);
        seen.dialled = dialled(&own, own_talks);
        seen.lookup = told_addresses
            .map(|addresses| Lookup { addresses, dialled: dialled(&told, told_talks) });
        seen
    }

    async fn own_addresses(&self, seen: &ListenerSeen) -> Vec<SocketAddr> {
        if seen.port == 0 {
            return Vec::new();
        }
        let everywhere = ["", "0.0.0.0", "::"].contains(&seen.host.as_str());
        let hosts: Vec<IpAddr> = match self.remote_host {
            Some(host) if everywhere => resolve(host).await.unwrap_or_default(),
            None if everywhere => {
                let loopback = match seen.host.as_str() {
                    "::" => IpAddr::from(Ipv6Addr::LOCALHOST),
                    _ => IpAddr::from(Ipv4Addr::LOCALHOST),
                };
                let v4_only = seen.host == "0.0.0.0";
                let others = self.interfaces.iter().filter(|ip| ip.is_ipv4() || !v4_only);
                std::iter::once(loopback).chain(others.copied()).collect()
            }
            _ => resolve(&seen.host).await.unwrap_or_default(),
        };
        hosts.into_iter().take(ADDRESSES_MAX).map(|ip| SocketAddr::new(ip, seen.port)).collect()
    }
}

fn dialled(addresses: &[SocketAddr], talks: Vec<Talk>) -> Vec<Dialled> {
    let pairs = addresses.iter().zip(talks);
    pairs.map(|(address, talk)| Dialled { address: *address, answer: talk.answer }).collect()
}

/// By the system's resolver, as a client would.
async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![address]);
    }
    let looking = tokio::net::lookup_host((host, 0));
    let found = match timeout(LOOKUP_TIME_MAX, looking).await {
        Ok(found) => found.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer in {} seconds", LOOKUP_TIME_MAX.as_secs())),
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) && addresses.len() < ADDRESSES_MAX {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(addresses) }
}

/// What cannot be read here is told by `odradek check`.
fn read_chain(pem: &Pem) -> Vec<CertificateDer<'static>> {
    let text = pem.read().unwrap_or_default();
    CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect()
}

/// The authority that lies beside the server's certificate, as `odradek tls init` leaves it.
pub fn authority_beside(config: &Config) -> Option<PathBuf> {
    let mut chains = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    chains.find_map(|tls| match &tls.chain {
        Pem::File(path) => Some(path.with_file_name("ca.pem")),
        Pem::Inline(_) => None,
    })
}
