//! What a websocket source does, checked.

use std::time::Duration;

use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};

use crate::config::SourceConfig;
use crate::feed::decode::Decoder;
use crate::limits;
use crate::problem::Problems;

/// Some feeds refuse clients that name none.
const USER_AGENT: &str =
    concat!("Mozilla/5.0 (compatible; Odradek/", env!("CARGO_PKG_VERSION"), ")");

#[derive(Debug, Clone)]
pub(crate) struct WebsocketPlan {
    pub url: Uri,
    pub user_agent: HeaderValue,
    pub origin: Option<HeaderValue>,
    pub on_open: Vec<String>,
    /// The symbols of each socket; one socket without symbols if there are none.
    pub sockets: Vec<Vec<String>>,
    pub ping: Duration,
    pub idle_timeout: Duration,
    pub resend_on_open: Option<Duration>,
    pub recycle: Option<Duration>,
    pub quiet_after: Duration,
    pub decoder: Decoder,
    /// Fields of the document that tell a repetition; empty: none is recognised.
    pub dedup: Vec<String>,
}

impl WebsocketPlan {
    pub fn of(config: &SourceConfig, problems: &mut Problems) -> Option<Self> {
        let url = url(config, problems);
        let decoder = match &config.decode {
            Some(decode) => Decoder::of(decode, config, problems),
            None => {
                problems.add("decode", "is missing", "write for example { codec = \"json\" }");
                None
            }
        };
        let user_agent = config.user_agent.as_deref().unwrap_or(USER_AGENT);
        let user_agent = header("user_agent", user_agent, problems);
        let origin = config.origin.as_deref().map(|origin| header("origin", origin, problems));
        let symbols = config.symbols.clone().unwrap_or_default();
        let on_open = config.on_open.clone().unwrap_or_default();
        let wants_symbols = on_open.iter().any(|text| text.contains("{symbol"));
        if wants_symbols && symbols.is_empty() {
            problems.add("symbols", "is missing", "write for example symbols = [\"GM\", \"AAPL\"]");
        }
        let per_socket = config.symbols_per_socket.unwrap_or(100);
        if per_socket == 0 || symbols.len().div_ceil(per_socket.max(1)) > limits::SOCKETS_MAX {
            let most = limits::SOCKETS_MAX;
            problems.add(
                "symbols_per_socket",
                format!("{per_socket} gives no socket or more than {most}"),
                "raise it, or name fewer symbols",
            );
        }
        let keepalive = config.keepalive.clone().unwrap_or_default();
        let span = |span: Option<crate::span::Span>, default_s| {
            span.map_or(Duration::from_secs(default_s), |span| span.0)
        };
        let (ping, idle_timeout) = (span(keepalive.ping, 15), span(keepalive.idle_timeout, 45));
        if ping.is_zero() || idle_timeout <= ping {
            problems.add(
                "keepalive",
                "needs 0s < ping < idle_timeout, or a quiet socket looks dead",
                "write for example { ping = \"15s\", idle_timeout = \"45s\" }",
            );
        }
        let some = |duration: Duration| (!duration.is_zero()).then_some(duration);
        Some(Self {
            url: url?,
            user_agent: user_agent?,
            origin: origin.flatten(),
            on_open,
            sockets: sockets(&symbols, per_socket.max(1)),
            ping,
            idle_timeout,
            resend_on_open: some(span(keepalive.resend_on_open, 0)),
            recycle: some(span(config.recycle, 0)),
            quiet_after: span(config.quiet_after, 60),
            decoder: decoder?,
            dedup: config.dedup.clone().unwrap_or_default(),
        })
    }

    /// The texts to send on open for these symbols.
    pub fn opening(&self, symbols: &[String]) -> Vec<String> {
        let array = serde_json::Value::from(symbols).to_string();
        let mut texts = Vec::new();
        for text in &self.on_open {
            let text = text.replace("{symbols}", &array);
            if text.contains("{symbol}") {
                texts.extend(symbols.iter().map(|symbol| {
                    let quoted = serde_json::Value::from(symbol.as_str()).to_string();
                    text.replace("{symbol}", quoted.trim_matches('"'))
                }));
            } else {
                texts.push(text);
            }
        }
        texts
    }
}

fn sockets(symbols: &[String], per_socket: usize) -> Vec<Vec<String>> {
    if symbols.is_empty() {
        return vec![Vec::new()];
    }
    symbols.chunks(per_socket).map(<[String]>::to_vec).collect()
}

fn url(config: &SourceConfig, problems: &mut Problems) -> Option<Uri> {
    let Some(text) = &config.url else {
        problems.add("url", "is missing", "write the feed's wss:// address, or a preset");
        return None;
    };
    let url = text.parse::<Uri>().ok();
    let url = url.filter(|url| matches!(url.scheme_str(), Some("ws" | "wss")));
    let url = url.filter(|url| url.host().is_some_and(|host| !host.is_empty()));
    if url.is_none() {
        problems.add("url", format!("{text:?} is no ws:// or wss:// address"), "correct it");
    }
    url
}

fn header(key: &'static str, text: &str, problems: &mut Problems) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok();
    if value.is_none() {
        problems.add(key, "has characters that no HTTP header takes", "use plain ASCII");
    }
    value
}
