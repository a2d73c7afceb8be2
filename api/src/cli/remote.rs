//! The running server, over HTTP: one connection, one request after the other.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::Complaint;
use super::password::PasswordArgs;

#[derive(Args, Debug, Clone)]
pub struct RemoteArgs {
    /// The running server's HTTP address
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:8080",
        env = "ODRADEK_SERVER"
    )]
    pub server: String,
    /// The user to act as; its password is taken from --password-file, ODRADEK_PASSWORD or a
    /// prompt. Not needed on the server's own machine
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    #[command(flatten)]
    pub password: PasswordArgs,
}

pub struct Remote {
    /// `host:port`, as the `Host` header wants it.
    authority: String,
    authorization: Option<String>,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl RemoteArgs {
    pub fn open(&self) -> Result<Remote, Complaint> {
        let authorization = match &self.user {
            Some(user) => {
                let password = self.password.read(&format!("Password of {user}: "))?;
                Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            }
            None => None,
        };
        Ok(Remote { authority: authority(&self.server)?, authorization, sender: None })
    }
}

impl Remote {
    /// The server of this machine at `host:port`, without a user.
    pub fn at(authority: &str) -> Self {
        Self { authority: authority.to_owned(), authorization: None, sender: None }
    }

    /// `host:port` of the server.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A successful answer (422 is one too: it tells record by record what was wrong); anything
    /// else becomes a complaint in the server's own words.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, Complaint> {
        let mut request = Request::builder().method(method).uri(path);
        request = request.header(header::HOST, &self.authority);
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|e| Complaint::wrong_input(format!("{path}: {e}")))?;
        let sender = self.connected().await?;
        let response = sender.send_request(request).await;
        let response = response.map_err(|e| {
            Complaint::failed(format!("the connection to {} broke: {e}", self.authority))
        })?;
        let status = response.status();
        if status.is_success() || status == StatusCode::UNPROCESSABLE_ENTITY {
            return Ok(response);
        }
        Err(problem(response).await)
    }

    pub async fn json(
        &mut self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Complaint> {
        let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let kind: &[(&str, &str)] =
            if body.is_some() { &[("content-type", "application/json")] } else { &[] };
        let response = self.send(method, path, kind, bytes).await?;
        let bytes = whole(response).await?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|e| Complaint::failed(format!("{} answers no JSON: {e}", self.authority)))
    }

    async fn connected(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Complaint> {
        let usable = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !usable {
            let failed = |why: String| {
                let text = format!(
                    "no server answers at http://{} ({why}); start one with `odradek serve`, or \
                     name another with --server",
                    self.authority
                );
                Complaint::failed(text)
            };
            let socket = TcpStream::connect(&self.authority).await;
            let socket = socket.map_err(|e| failed(e.to_string()))?;
            let handshake = hyper::client::conn::http1::handshake(TokioIo::new(socket)).await;
            let (sender, connection) = handshake.map_err(|e| failed(e.to_string()))?;
            // Its errors come back from the request that meets them.
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        Ok(self.sender.as_mut().expect("just connected"))
    }
}

pub async fn whole(response: Response<Incoming>) -> Result<Bytes, Complaint> {
    let body = response.into_body().collect().await;
    Ok(body.map_err(|e| Complaint::failed(format!("the answer broke off: {e}")))?.to_bytes())
}

async fn problem(response: Response<Incoming>) -> Complaint {
    let status = response.status();
    let body = whole(response).await.unwrap_or_default();
    let Ok(problem) = serde_json::from_slice::<Value>(&body) else {
        return Complaint::failed(format!("the server answers {status}"));
    };
    let text = |name: &str| problem[name].as_str();
    let mut complaint = text("detail").unwrap_or("no reason given").to_owned();
    if let Some(error) = text("kafka_error") {
        complaint = format!("{complaint} ({error})");
    }
    if let Some(hint) = text("hint") {
        complaint = format!("{complaint}\n  hint: {hint}");
    }
    if let Some(diagnosis) = text("diagnosis") {
        complaint = format!("{complaint}\n  more: odradek explain {diagnosis}");
    }
    if status == StatusCode::UNAUTHORIZED {
        complaint = format!("{complaint}\n  here: --user NAME");
    }
    Complaint::failed(complaint)
}

fn authority(server: &str) -> Result<String, Complaint> {
    let rest = server.strip_prefix("http://").unwrap_or(server).trim_end_matches('/');
    let known = !rest.is_empty() && !rest.contains("://") && !rest.contains('/');
    if !known {
        let text = format!("--server {server}: write http://HOST:PORT");
        return Err(Complaint::wrong_input(text));
    }
    let bracket = rest.rfind(']').unwrap_or_default();
    let has_port = rest[bracket..].contains(':');
    Ok(if has_port { rest.to_owned() } else { format!("{rest}:80") })
}

/// A server that listens on every address is reached on the loopback one.
pub fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0" | "*", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

/// A path segment or a query value, percent-encoded where it must be.
pub fn encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_with_or_without_scheme_and_port() {
        let table = [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://box/", "box:80"),
            ("box:81", "box:81"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://[::1]", "[::1]:80"),
        ];
        for (server, expected) in table {
            assert_eq!(authority(server).expect(server), expected);
        }
        for server in ["https://box", "http://", "http://box/path"] {
            assert!(authority(server).is_err(), "{server}");
        }
    }

    #[test]
    fn what_a_url_cannot_hold_is_encoded() {
        assert_eq!(encoded("a b/ü-._~"), "a%20b%2F%C3%BC-._~");
    }
}
