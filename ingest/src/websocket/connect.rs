//! Opens a WebSocket: name, TCP, TLS, HTTP upgrade. Each step's failure has its own cause, which
//! is a label of the reconnect metric: `dns`, `connect`, `tls`, `http_status`, `handshake`,
//! `timeout`.
//!
//! TLS is rustls with the ring provider passed explicitly: the process-wide default that
//! tokio-tungstenite would take panics when nobody has set it.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::{ORIGIN, USER_AGENT};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::plan::WebsocketPlan;
use crate::limits::{CONNECT_TIMEOUT, FRAME_BYTES_MAX};
use crate::supervise::RunError;

/// A TCP stream, with TLS over it or without.
pub(crate) trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

pub(crate) type Socket = WebSocketStream<Box<dyn Transport>>;

/// The system's root certificates, or Mozilla's where the system has none (old home boxes).
pub(crate) fn tls_config() -> Result<Arc<ClientConfig>, RunError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RunError::fatal("tls", error.to_string()))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

pub(crate) async fn open(
    plan: &WebsocketPlan,
    tls: &Arc<ClientConfig>,
) -> Result<Socket, RunError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, open_steps(plan, tls)).await {
        Ok(result) => result,
        Err(_) => {
            let message = format!("{} did not answer within {CONNECT_TIMEOUT:?}", plan.url);
            Err(RunError::retry("timeout", message))
        }
    }
}

async fn open_steps(plan: &WebsocketPlan, tls: &Arc<ClientConfig>) -> Result<Socket, RunError> {
    let host = plan.url.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let secure = plan.url.scheme_str() == Some("wss");
    let port = plan.url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tcp = dial(&host, port).await?;
    let transport: Box<dyn Transport> = if secure {
        let tls_error = |error: String| RunError::retry("tls", format!("TLS with {host}: {error}"));
        let name = ServerName::try_from(host.clone()).map_err(|e| tls_error(e.to_string()))?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(tls));
        Box::new(connector.connect(name, tcp).await.map_err(|e| tls_error(e.to_string()))?)
    } else {
        Box::new(tcp)
    };
    let config = WebSocketConfig::default()
        .max_frame_size(Some(FRAME_BYTES_MAX))
        .max_message_size(Some(FRAME_BYTES_MAX));
    match client_async_with_config(request(plan)?, transport, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(WsError::Http(response)) => {
            let message = format!("{} answered {}", plan.url, response.status());
            Err(RunError::retry("http_status", message))
        }
        Err(error) => Err(RunError::retry("handshake", format!("{}: {error}", plan.url))),
    }
}

async fn dial(host: &str, port: u16) -> Result<TcpStream, RunError> {
    let addresses = lookup_host((host, port))
        .await
        .map_err(|error| RunError::retry("dns", format!("the name {host}: {error}")))?;
    let mut failure = RunError::retry("dns", format!("the name {host} has no address"));
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => {
                // Pongs and pings are small and must not wait for an acknowledgement.
                tcp.set_nodelay(true).ok();
                return Ok(tcp);
            }
            Err(error) => failure = RunError::retry("connect", format!("{address}: {error}")),
        }
    }
    Err(failure)
}

fn request(plan: &WebsocketPlan) -> Result<Request, RunError> {
    let mut request = plan
        .url
        .clone()
        .into_client_request()
        .map_err(|error| RunError::fatal("handshake", error.to_string()))?;
    let headers = request.headers_mut();
    headers.insert(USER_AGENT, plan.user_agent.clone());
    if let Some(origin) = &plan.origin {
        headers.insert(ORIGIN, origin.clone());
    }
    Ok(request)
}
