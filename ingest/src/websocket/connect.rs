//! Opens a WebSocket: the way there, then the HTTP upgrade. Each step's failure has its own cause,
//! which is a label of the reconnect metric: those of `feed::transport`, `http_status`,
//! `handshake`, `timeout`.

use std::sync::Arc;

use rustls::ClientConfig;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::header::{ORIGIN, USER_AGENT};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::plan::WebsocketPlan;
use crate::feed::transport::{self, Transport};
use crate::limits::{CONNECT_TIMEOUT, FRAME_BYTES_MAX};
use crate::supervise::RunError;

pub(crate) type Socket = WebSocketStream<Box<dyn Transport>>;

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
    let transport = transport::open(&host, port, secure.then_some(tls)).await?;
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
