//! The way to a server: name, TCP, TLS. Each step's failure has its own cause, which is a label of
//! the reconnect metric: `dns`, `connect`, `tls`.
//!
//! TLS is rustls with the ring provider passed explicitly: a process-wide default, which clients of
//! other libraries take, panics when nobody has set it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};

use crate::supervise::RunError;

/// A TCP stream, with TLS over it or without.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// Trusts the authorities of this PEM file. Without one: the system's root certificates, or
/// Mozilla's where the system has none (old home boxes). Reads files: not for an async worker.
pub(crate) async fn tls_config(authority: Option<PathBuf>) -> Result<Arc<ClientConfig>, RunError> {
    tokio::task::spawn_blocking(move || read_tls_config(authority.as_deref()))
        .await
        .map_err(|error| RunError::retry("tls", error.to_string()))?
}

fn read_tls_config(authority: Option<&Path>) -> Result<Arc<ClientConfig>, RunError> {
    let roots = match authority {
        Some(file) => roots_of(file).map_err(|why| {
            RunError::retry("tls", format!("the authority {}: {why}", file.display()))
        })?,
        None => system_roots(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RunError::fatal("tls", error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

fn roots_of(file: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(roots) }
}

/// The host without the brackets of an IPv6 address.
pub(crate) async fn open(
    host: &str,
    port: u16,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Box<dyn Transport>, RunError> {
    let tcp = dial(host, port).await?;
    let Some(tls) = tls else { return Ok(Box::new(tcp)) };
    let tls_error = |error: String| RunError::retry("tls", format!("TLS with {host}: {error}"));
    let name = ServerName::try_from(host.to_owned()).map_err(|e| tls_error(e.to_string()))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, tcp).await.map_err(|e| tls_error(e.to_string()))?;
    Ok(Box::new(stream))
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, RunError> {
    let addresses = lookup_host((host, port))
        .await
        .map_err(|error| RunError::retry("dns", format!("the name {host}: {error}")))?;
    let mut failure = RunError::retry("dns", format!("the name {host} has no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                // Pongs, pings and acknowledgements are small and must not wait for another.
                tcp.set_nodelay(true).ok();
                return Ok(tcp);
            }
            Err(error) => failure = RunError::retry("connect", format!("{address}: {error}")),
        }
    }
    Err(failure)
}
