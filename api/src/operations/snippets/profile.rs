//! From the configuration to what a client must know: which listener, which address, whose
//! certificate.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use odradek_broker::auth::Mechanism;
use odradek_broker::config::{ClientAuth, Config, Listener, Pem, TlsSettings};

use super::Profile;
use crate::operations::certificate_facts::{self, CertificateFacts};
use crate::operations::machine::{Machine, host_and_port};

/// Whom `odradek expose` adds, and whom a snippet names where nobody is named.
pub const DEFAULT_USER: &str = "kafka";

/// What the asker chose; the rest is found.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// `None`: the first listener that other machines reach, else the first one.
    pub listener: Option<String>,
    pub host: Option<String>,
    pub user: Option<String>,
    pub topic: String,
    /// The authority's certificate, where the server's own file does not hold it.
    pub authority: Option<PathBuf>,
}

/// `Display` is a sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("there is no listener {wanted}; there are {known}")]
    NoListener { wanted: String, known: String },
    #[error(
        "listener {0} takes any free port, so no client can be told one; name one in listeners"
    )]
    AnyPort(String),
    #[error("{0:?} cannot be written into a program as it is")]
    Unwritable(String),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{place} {what}")]
    Certificate { place: String, what: String },
}

/// What a client of this configuration must know; and remarks for the asker, one sentence each.
pub fn profile(
    config: &Config,
    machine: &Machine,
    wanted: &Wanted,
) -> Result<(Profile, Vec<String>), ProfileError> {
    let listener = listener(&config.listeners, wanted.listener.as_deref())?;
    let mut remarks = Vec::new();
    let chain = match &listener.tls {
        Some(tls) => certificates(tls, wanted.authority.as_deref(), &mut remarks)?,
        None => Trust::default(),
    };
    let (host, port) = address(listener, chain.server.as_ref(), machine, wanted.host.as_deref());
    if port == 0 {
        return Err(ProfileError::AnyPort(listener.name.clone()));
    }
    let names = |server: &CertificateFacts| {
        server.names.iter().any(|name| certificate_facts::matches(name, &host))
    };
    if chain.server.as_ref().is_some_and(|server| !names(server)) {
        remarks.push(format!(
            "the certificate does not name {host}, so clients refuse it there: run `odradek tls \
             init --host {host}` (with the --dir of before)"
        ));
    }
    let login = login(listener, config, wanted.user.as_deref(), &mut remarks);
    let bootstrap = host_and_port(&host, port);
    let client_certificate =
        listener.tls.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::Required);
    let written = [Some(&bootstrap), login.as_ref().map(|(_, user)| user), Some(&wanted.topic)];
    if let Some(odd) = written.into_iter().flatten().find(|text| !is_plain(text)) {
        return Err(ProfileError::Unwritable(odd.clone()));
    }
    let profile = Profile {
        bootstrap,
        protocol: listener.protocol,
        login,
        authority: chain.authority,
        client_certificate,
        topic: wanted.topic.clone(),
    };
    Ok((profile, remarks))
}

/// Nothing that a shell, a properties file or a string of some language would take for its own.
fn is_plain(text: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || "-_.@+:[]".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(fits)
}

fn listener<'a>(
    listeners: &'a [Listener],
    wanted: Option<&str>,
) -> Result<&'a Listener, ProfileError> {
    let found = match wanted {
        Some(name) => listeners.iter().find(|one| one.name.eq_ignore_ascii_case(name)),
        None => listeners.iter().find(|one| !one.is_loopback()).or(listeners.first()),
    };
    found.ok_or_else(|| ProfileError::NoListener {
        wanted: wanted.unwrap_or("at all").to_owned(),
        known: listeners.iter().map(|one| one.name.as_str()).collect::<Vec<_>>().join(", "),
    })
}

/// Without the password on the wire where the listener offers that.
fn login(
    listener: &Listener,
    config: &Config,
    user: Option<&str>,
    remarks: &mut Vec<String>,
) -> Option<(Mechanism, String)> {
    let best = [Mechanism::ScramSha512, Mechanism::ScramSha256, Mechanism::Plain];
    let mechanism = best.into_iter().find(|one| listener.mechanisms.contains(one))?;
    let user = match (user, config.users.first()) {
        (Some(user), _) => user.to_owned(),
        (None, Some(configured)) => configured.name.clone(),
        (None, None) => {
            remarks.push(format!(
                "the user {DEFAULT_USER} stands for yours: --user NAME; `odradek user list` names \
                 all, `odradek user add NAME` adds one"
            ));
            DEFAULT_USER.to_owned()
        }
    };
    Some((mechanism, user))
}

/// What is advertised; else where the listener is bound; else what its certificate is for; else
/// this machine's address.
fn address(
    listener: &Listener,
    certificate: Option<&CertificateFacts>,
    machine: &Machine,
    wanted: Option<&str>,
) -> (String, u16) {
    if let Some(host) = wanted {
        let port = listener.advertised.as_ref().map_or(listener.port, |(_, port)| *port);
        return (host.trim_matches(['[', ']']).to_owned(), port);
    }
    if let Some((host, port)) = &listener.advertised {
        return (host.clone(), *port);
    }
    let everywhere = listener.host.is_empty()
        || listener.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified());
    if !everywhere {
        return (listener.host.clone(), listener.port);
    }
    let names = certificate.map(|certificate| certificate.names.as_slice()).unwrap_or_default();
    let reachable = names.iter().find(|name| match name.parse::<IpAddr>() {
        Ok(address) => !address.is_loopback() && machine.has(address),
        // Bare names and those of multicast may not be known to everybody.
        Err(_) => !name.starts_with("*.") && *name != "localhost" && !machine.names.contains(name),
    });
    let own = || machine.addresses.first().map(ToString::to_string);
    let host = reachable.cloned().or_else(own).unwrap_or_else(|| "localhost".to_owned());
    (host, listener.port)
}

#[derive(Default)]
struct Trust {
    /// The server's own certificate.
    server: Option<CertificateFacts>,
    authority: Option<String>,
}

fn certificates(
    tls: &TlsSettings,
    given: Option<&Path>,
    remarks: &mut Vec<String>,
) -> Result<Trust, ProfileError> {
    let (pem, place, folder) = match &tls.chain {
        Pem::File(path) => (read(path)?, path.display().to_string(), path.parent()),
        Pem::Inline(text) => {
            let key = "ssl.keystore.certificate.chain".to_owned();
            (text.expose().as_bytes().to_vec(), key, None)
        }
    };
    let chain = facts(&pem, &place)?;
    if let Some(path) = given {
        let found = facts(&read(path)?, &path.display().to_string())?;
        let authority = found.iter().map(|one| one.pem.as_str()).collect();
        return Ok(Trust { server: chain.into_iter().next(), authority: Some(authority) });
    }
    let last = chain.last();
    let mut authority = last.filter(|last| last.is_root).map(|last| last.pem.clone());
    if let (None, Some(folder), Some(last)) = (&authority, folder, last) {
        // Certificates made otherwise, with the authority in a file beside them.
        let beside = fs::read(folder.join("ca.pem")).unwrap_or_default();
        let beside = certificate_facts::read(&beside).unwrap_or_default();
        authority =
            beside.into_iter().find(|one| one.subject == last.issuer).map(|found| found.pem);
    }
    if let (None, Some(last)) = (&authority, last) {
        remarks.push(format!(
            "the certificate is signed by {}; if clients do not know that authority, name its \
             certificate with --ca FILE",
            last.issuer
        ));
    }
    Ok(Trust { server: chain.into_iter().next(), authority })
}

fn facts(pem: &[u8], place: &str) -> Result<Vec<CertificateFacts>, ProfileError> {
    let wrong = |what: String| ProfileError::Certificate { place: place.to_owned(), what };
    let found = certificate_facts::read(pem).map_err(wrong)?;
    if found.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(found) }
}

fn read(path: &Path) -> Result<Vec<u8>, ProfileError> {
    fs::read(path).map_err(|error| ProfileError::File { path: path.to_path_buf(), error })
}
