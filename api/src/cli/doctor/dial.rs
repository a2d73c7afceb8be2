//! Dials a listener and speaks with it as a client of its protocol would, up to the login. Every
//! step has a deadline and every answer a bound: whoever answers may be anybody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use odradek_broker::config::SecurityProtocol;
use odradek_broker::diagnose::{self, Seen};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::kafka;
use crate::operations::doctor::facts::{Answer, Told};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// For the whole conversation, handshake and all.
const TALK_TIME_MAX: Duration = Duration::from_secs(5);

/// What is to be dialled, and how it should answer.
pub struct Call {
    pub address: SocketAddr,
    pub protocol: SecurityProtocol,
    /// Offered by the listener, so that asking for it is no mistake; empty without a login.
    pub mechanism: String,
    /// What a client would ask for by TLS.
    pub host: String,
    pub tls: Arc<rustls::ClientConfig>,
}

/// What came of it, and the certificates that were shown.
pub struct Talk {
    pub answer: Answer,
    pub chain: Vec<CertificateDer<'static>>,
}

impl Call {
    pub async fn talk(&self) -> Talk {
        let silent = |answer| Talk { answer, chain: Vec::new() };
        let socket = match connect(self.address).await {
            Ok(socket) => socket,
            Err(why) => return silent(Answer::Unreachable(why)),
        };
        let mut chain = Vec::new();
        let answer = match timeout(TALK_TIME_MAX, self.converse(socket, &mut chain)).await {
            Ok(Ok(told)) => Answer::Kafka(told),
            Ok(Err(why)) => Answer::Wrong(why),
            Err(_) => {
                let why = format!("it took the connection and said nothing for {TALK_TIME_MAX:?}");
                Answer::Wrong(why)
            }
        };
        Talk { answer, chain }
    }

    async fn converse(
        &self,
        socket: TcpStream,
        chain: &mut Vec<CertificateDer<'static>>,
    ) -> Result<Told, String> {
        if !self.protocol.tls() {
            return self.ask(socket, Told::default()).await;
        }
        let name = ServerName::try_from(self.host.clone())
            .unwrap_or_else(|_| ServerName::IpAddress(self.address.ip().into()));
        let connecting = TlsConnector::from(self.tls.clone()).connect(name, socket).await;
        let socket = connecting.map_err(|error| no_tls(&error))?;
        let (_, connection) = socket.get_ref();
        let shown = connection.peer_certificates().unwrap_or_default();
        chain.extend(shown.iter().map(|certificate| certificate.clone().into_owned()));
        let version = connection.protocol_version().and_then(|version| version.as_str());
        let told = Told { tls: version.map(str::to_owned), ..Told::default() };
        match self.ask(socket, told.clone()).await {
            // In TLS 1.3 this comes once the handshake is over for the client.
            Err(why) if why.contains("CertificateRequired") => {
                Ok(Told { wants_certificate: true, ..told })
            }
            asked => asked,
        }
    }

    async fn ask<S>(&self, mut socket: S, mut told: Told) -> Result<Told, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let answer = exchange(&mut socket, &kafka::api_versions_request()).await?;
        kafka::api_versions_answer(&answer).ok_or("the answer is not one of Kafka's protocol")?;
        if self.protocol.sasl() {
            let request = kafka::sasl_handshake_request(&self.mechanism);
            let answer = exchange(&mut socket, &request).await?;
            let offered = kafka::sasl_handshake_answer(&answer);
            told.mechanisms = offered.ok_or("the answer to SaslHandshake cannot be read")?;
        } else {
            let answer = exchange(&mut socket, &kafka::metadata_request()).await?;
            let placed = kafka::metadata_answer(&answer);
            let placed = placed.ok_or("the answer to Metadata cannot be read")?;
            (told.broker, told.cluster_id) = (placed.broker, placed.cluster_id);
        }
        // A clean end, so that the server does not take it for a failure.
        let _ = socket.shutdown().await;
        Ok(told)
    }
}

/// A connection, or why there is none.
pub async fn connect(address: impl ToSocketAddrs) -> Result<TcpStream, String> {
    match timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await {
        Ok(connected) => connected.map_err(|error| plain_words(&error)),
        Err(_) => Err(format!("no answer in {} seconds", CONNECT_TIME_MAX.as_secs())),
    }
}

/// One request, and its answer without the length.
async fn exchange<S>(socket: &mut S, request: &[u8]) -> Result<Vec<u8>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => {
            "it closed the connection without an answer".to_owned()
        }
        _ => plain_words(&error),
    };
    socket.write_all(request).await.map_err(broken)?;
    let mut length = [0; 4];
    socket.read_exact(&mut length).await.map_err(broken)?;
    let expected = i32::from_be_bytes(length);
    let bytes = usize::try_from(expected).ok().filter(|bytes| *bytes <= kafka::ANSWER_BYTES_MAX);
    let Some(bytes) = bytes else {
        return Err(format!("the answer is not one of Kafka's protocol; {}", spoken(length)));
    };
    let mut answer = Vec::new();
    let limit = u64::try_from(bytes).unwrap_or_default();
    socket.take(limit).read_to_end(&mut answer).await.map_err(broken)?;
    if answer.len() < bytes {
        return Err("the answer broke off".to_owned());
    }
    Ok(answer)
}

/// What the first bytes of an answer tell.
fn spoken(first: [u8; 4]) -> String {
    match diagnose::classify(&first) {
        Seen::TlsAlert => "it is a TLS alert, so the port wants TLS".to_owned(),
        Seen::HttpReply => "it is HTTP".to_owned(),
        Seen::Ssh => "it is SSH".to_owned(),
        Seen::Other(name) => format!("it is {name}"),
        _ => format!("it begins with the bytes {first:02x?}"),
    }
}

/// Why a handshake failed, in the words of somebody who configures listeners.
fn no_tls(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidMessage(_)) => {
            format!("the TLS handshake failed: it answers without TLS ({error})")
        }
        _ => format!("the TLS handshake failed: {}", plain_words(error)),
    }
}

/// Without the number in brackets that the system's own text ends with.
fn plain_words(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_ascii_lowercase(),
        None => text,
    }
}
