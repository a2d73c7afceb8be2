//! What an MQTT source does, checked.

use std::path::PathBuf;
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use tokio_tungstenite::tungstenite::http::Uri;

use super::login::{Login, PasswordPlace};
use super::message::Reader;
use super::topics::{TopicFields, TopicFilter};
use crate::config::{Codec, DecodeConfig, Retained, SourceConfig};
use crate::feed::decode::Decoder;
use crate::limits;
use crate::problem::Problems;

#[derive(Debug, Clone)]
pub(crate) struct MqttPlan {
    pub server: Server,
    pub login: Option<Login>,
    /// `None`: another one at every connection.
    pub client_id: Option<String>,
    pub persistent: bool,
    pub qos: QoS,
    pub reader: Reader,
    pub ping: Duration,
    pub idle_timeout: Duration,
    pub quiet_after: Duration,
}

#[derive(Debug, Clone)]
pub(crate) struct Server {
    /// Without the brackets of an IPv6 address.
    pub host: String,
    pub port: u16,
    pub tls: bool,
    pub authority: Option<PathBuf>,
}

impl MqttPlan {
    pub fn of(config: &SourceConfig, problems: &mut Problems) -> Option<Self> {
        let server = server(config, problems);
        let login = login(config, problems);
        let (client_id, persistent) = session(config, problems);
        let reader = reader(config, problems);
        let qos = match config.qos.unwrap_or(1) {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            other => {
                let fix = "write 1: a message is acknowledged once its records are on the disk";
                problems.add("qos", format!("{other} is not 0 or 1"), fix);
                return None;
            }
        };
        let keepalive = config.keepalive.clone().unwrap_or_default();
        let span = |span: Option<crate::span::Span>, default_s| {
            span.map_or(Duration::from_secs(default_s), |span| span.0)
        };
        let (ping, idle_timeout) = (span(keepalive.ping, 15), span(keepalive.idle_timeout, 45));
        let longest = Duration::from_secs(u64::from(u16::MAX));
        if ping.is_zero() || idle_timeout <= ping || idle_timeout > longest {
            problems.add(
                "keepalive",
                "needs 0s < ping < idle_timeout <= 18h",
                "write for example { ping = \"15s\", idle_timeout = \"45s\" }",
            );
        }
        if keepalive.resend_on_open.is_some() {
            let what = "resend_on_open means nothing for type = \"mqtt\"";
            problems.add("keepalive", what, "remove it");
        }
        Some(Self {
            server: server?,
            login,
            client_id,
            persistent,
            qos,
            reader: reader?,
            ping,
            idle_timeout,
            quiet_after: span(config.quiet_after, 60),
        })
    }
}

/// A login in the address is refused without being shown: it may hold a password.
fn server(config: &SourceConfig, problems: &mut Problems) -> Option<Server> {
    let fix = "write for example \"mqtt://localhost:1883\", or mqtts:// with TLS";
    let Some(text) = &config.url else {
        problems.add("url", "is missing", fix);
        return None;
    };
    if text.contains('@') {
        let fix = "write the user as user = \"…\", and name a password_file or a password_env";
        problems.add("url", "holds a login", fix);
        return None;
    }
    let url = text.parse::<Uri>().ok();
    let url =
        url.filter(|url| matches!(url.path_and_query().map(|p| p.as_str()), None | Some("/")));
    let scheme = url.as_ref().and_then(Uri::scheme_str);
    let host = url.as_ref().and_then(Uri::host).filter(|host| !host.is_empty());
    let (Some(scheme @ ("mqtt" | "mqtts")), Some(host)) = (scheme, host) else {
        problems.add("url", format!("{text:?} is no mqtt:// or mqtts:// address"), fix);
        return None;
    };
    let tls = scheme == "mqtts";
    if config.tls_ca.is_some() && !tls {
        problems.add("tls_ca", "needs a url with mqtts://", "write it so, or remove this key");
    }
    let port = url.as_ref().and_then(Uri::port_u16);
    Some(Server {
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port: port.unwrap_or(if tls { 8883 } else { 1883 }),
        tls,
        authority: config.tls_ca.clone(),
    })
}

fn login(config: &SourceConfig, problems: &mut Problems) -> Option<Login> {
    let password = match (&config.password_file, &config.password_env) {
        (None, None) => None,
        (Some(file), None) => Some(PasswordPlace::File(file.clone())),
        (None, Some(name)) => Some(PasswordPlace::Environment(name.clone())),
        (Some(_), Some(_)) => {
            problems.add("password_env", "stands beside password_file", "remove one of them");
            None
        }
    };
    if config.user.is_none() && password.is_some() {
        problems.add("user", "is missing: MQTT takes no password alone", "write user = \"…\"");
    }
    // As long as the standard's length of two bytes allows.
    if config.user.as_ref().is_some_and(|user| user.is_empty() || user.len() > 65_535) {
        problems.add("user", "is empty or too long", "write the name of a user");
    }
    config.user.clone().map(|user| Login { user, password })
}

fn session(config: &SourceConfig, problems: &mut Problems) -> (Option<String>, bool) {
    let persistent = config.persistent_session.unwrap_or(false);
    let client_id = config.client_id.clone();
    if persistent && client_id.is_none() {
        problems.add(
            "client_id",
            "is missing: the server keeps a session under this name",
            "write one that no other client has, such as client_id = \"odradek-home\"",
        );
    }
    if client_id.as_ref().is_some_and(|id| id.is_empty() || id.len() > 65_535) {
        problems.add("client_id", "is empty or too long", "write a name, or remove the key");
    }
    (client_id, persistent)
}

fn reader(config: &SourceConfig, problems: &mut Problems) -> Option<Reader> {
    let wanted = config.topics.clone().unwrap_or_default();
    if wanted.is_empty() {
        let fix = "write for example topics = [\"zigbee2mqtt/#\"]";
        problems.add("topics", "names no topic filter", fix);
    }
    let filters = filters("topics", &wanted, problems);
    let ignored = config.ignore_topics.clone().unwrap_or_default();
    let ignored = self::filters("ignore_topics", &ignored, problems);
    let fields = match config.topic_fields.as_deref().map(TopicFields::parse).transpose() {
        Ok(fields) => fields,
        Err(what) => {
            let fix = "write for example \"home/{room}/{sensor}\"; {name...} takes several levels";
            problems.add("topic_fields", what, fix);
            None
        }
    };
    let json = DecodeConfig { codec: Codec::Json, filter: None, explode: None };
    let decode = config.decode.as_ref().unwrap_or(&json);
    if decode.codec == Codec::Yahoo {
        problems.add("decode", "yahoo is for type = \"websocket\"", "write json or scalar");
    }
    let decoder = Decoder::of(decode, config, problems)?;
    let retained = config.retained.unwrap_or(Retained::Drop);
    Some(Reader { filters, ignored, fields, retained, decoder })
}

fn filters(key: &'static str, texts: &[String], problems: &mut Problems) -> Vec<TopicFilter> {
    if texts.len() > limits::MQTT_FILTERS_MAX {
        let most = limits::MQTT_FILTERS_MAX;
        problems.add(key, format!("has more than {most} filters"), "join some by + or #");
    }
    let mut filters = Vec::new();
    for text in texts {
        match TopicFilter::parse(text) {
            Ok(filter) => filters.push(filter),
            Err(what) => problems.add(key, what, "write + for one level, # for all that follow"),
        }
    }
    filters
}
