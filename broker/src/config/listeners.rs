//! `listeners`, `advertised.listeners` and what belongs to each listener, with Kafka's start-up
//! checks (`KafkaConfig`, `SocketServerConfigs`) and their wording where people search for it.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::values::Reader;
use super::{PrincipalRules, Secret, keys};
use crate::auth::Mechanism;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecurityProtocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl SecurityProtocol {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    pub const fn sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }

    pub const fn tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }
}

impl FromStr for SecurityProtocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];
        all.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(text)).ok_or(())
    }
}

/// PEM text, in a file (read when the listener opens) or in the configuration itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    File(PathBuf),
    Inline(Secret),
}

impl Pem {
    /// The text itself, or that of the file.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path),
            Self::Inline(text) => Ok(text.expose().as_bytes().to_vec()),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    None,
    Requested,
    Required,
}

/// TLS of one listener, as configured; `tls::server_config` turns it into rustls' form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// Private key and certificates: one file with both, or two inline texts.
    pub key: Pem,
    pub chain: Pem,
    pub truststore: Option<Pem>,
    pub client_auth: ClientAuth,
    pub tls12: bool,
    pub tls13: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// In upper case, as Kafka keeps it.
    pub name: String,
    pub protocol: SecurityProtocol,
    /// Empty: every address of the machine.
    pub host: String,
    /// 0: any free port.
    pub port: u16,
    /// `None`: the address at which each connection reached the broker.
    pub advertised: Option<(String, u16)>,
    /// Empty unless the protocol has SASL.
    pub mechanisms: Vec<Mechanism>,
    /// How long a login by each mechanism lasts (`connections.max.reauth.ms`), if not for ever.
    pub session_lifetimes: Vec<(Mechanism, Duration)>,
    /// How a client certificate's name becomes a user's.
    pub principal_rules: PrincipalRules,
    /// There if and only if the protocol has TLS.
    pub tls: Option<TlsSettings>,
}

impl Listener {
    /// Only programs on this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// How long a login by this mechanism lasts; `None`: as long as its connection.
    pub fn session_lifetime(&self, mechanism: Mechanism) -> Option<Duration> {
        let mut lifetimes = self.session_lifetimes.iter();
        lifetimes.find(|(of, _)| *of == mechanism).map(|(_, lifetime)| *lifetime)
    }

    /// Everybody who reaches it may do everything.
    pub fn is_open(&self) -> bool {
        let certificate =
            self.tls.as_ref().is_some_and(|tls| tls.client_auth == ClientAuth::Required);
        !self.protocol.sasl() && !certificate && !self.is_loopback()
    }
}

pub(super) fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

/// `NAME://host:port`
#[derive(Debug, Clone, PartialEq, Eq)]
struct EndPoint {
    name: String,
    host: String,
    port: u16,
}

fn end_point(text: &str) -> Option<EndPoint> {
    let (name, address) = text.split_once("://")?;
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None => host,
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-%._:".contains(c);
    if name.is_empty() || !host.chars().all(fits) {
        return None;
    }
    Some(EndPoint { name: name.to_uppercase(), host: host.to_owned(), port: port.parse().ok()? })
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// All listeners; also the names of those that belong to a Kafka quorum and are not opened.
pub fn resolve(reader: &Reader<'_>) -> (Vec<Listener>, Vec<String>) {
    let quorum: Vec<String> =
        list(&reader.text("controller.listener.names")).map(str::to_uppercase).collect();
    let mut bound = end_points(reader, "listeners");
    bound.retain(|point| !quorum.contains(&point.name));
    check_distinct(reader, &bound);
    let advertised = advertised(reader, &bound, &quorum);
    let protocols = protocol_map(reader);
    let mut listeners = Vec::new();
    for (position, point) in bound.into_iter().enumerate() {
        let Some(protocol) =
            protocols.iter().find(|(name, _)| *name == point.name).map(|(_, protocol)| *protocol)
        else {
            reader.problem(
                reader.origin("listener.security.protocol.map").or(reader.origin("listeners")),
                "listener.security.protocol.map",
                format!("No security protocol defined for listener {}", point.name),
                mapped(reader, &point.name),
            );
            continue;
        };
        listeners.push(Listener {
            advertised: advertised
                .iter()
                .find(|(at, _)| *at == position)
                .and_then(|(_, address)| address.clone()),
            session_lifetimes: session_lifetimes(reader, &point.name, protocol),
            mechanisms: mechanisms(reader, &point.name, protocol),
            principal_rules: principal_rules(reader, &point.name, protocol),
            tls: tls(reader, &point.name, protocol),
            name: point.name,
            protocol,
            host: point.host,
            port: point.port,
        });
    }
    if listeners.is_empty() && reader.origin("listeners").is_none() {
        reader.problem(None, "listeners", "no listener is left", "name one in listeners=");
    }
    (listeners, quorum)
}

fn end_points(reader: &Reader<'_>, key: &'static str) -> Vec<EndPoint> {
    let mut points = Vec::new();
    for item in list(&reader.text(key)) {
        match end_point(item) {
            Some(point) => points.push(point),
            None => reader.problem(
                reader.origin(key),
                key,
                format!("{item:?} is not of the form NAME://host:port"),
                format!("for example {key}=PLAINTEXT://192.168.1.10:9092"),
            ),
        }
    }
    points
}

/// Kafka's rule: ports and names differ, except for one IPv4 and one IPv6 address of one listener.
fn check_distinct(reader: &Reader<'_>, points: &[EndPoint]) {
    let origin = reader.origin("listeners");
    let is_v6 = |point: &EndPoint| point.host.contains(':');
    for (at, point) in points.iter().enumerate() {
        for other in &points[..at] {
            let two_families = is_v6(point) != is_v6(other) && !point.host.is_empty();
            if point.port == other.port && point.port != 0 && !two_families {
                let what = format!("Each listener must have a different port: {}", point.port);
                reader.problem(origin, "listeners", what, apart(points, at));
            }
            if point.name == other.name && !(two_families && point.port == other.port) {
                let what = format!("Each listener must have a different name: {}", point.name);
                let fix = "name them apart, and each in listener.security.protocol.map";
                reader.problem(origin, "listeners", what, fix);
            }
        }
    }
}

/// The line with a port of its own for the listener at this position.
fn apart(points: &[EndPoint], at: usize) -> String {
    let taken = |port: u16| points.iter().any(|point| point.port == port);
    let free = (points[at].port..u16::MAX).find(|port| !taken(*port)).unwrap_or_default();
    let line: Vec<String> = points
        .iter()
        .enumerate()
        .map(|(position, point)| shown(point, if position == at { free } else { point.port }))
        .collect();
    format!("give each one a port of its own, for example listeners={}", line.join(","))
}

/// As it is written, with brackets around an IPv6 address.
fn shown(point: &EndPoint, port: u16) -> String {
    let EndPoint { name, host, .. } = point;
    if host.contains(':') {
        format!("{name}://[{host}]:{port}")
    } else {
        format!("{name}://{host}:{port}")
    }
}

/// What to write instead of an advertised listener that is not there.
fn nearest_listener(bound: &[EndPoint], point: &EndPoint) -> String {
    let near = bound.iter().find(|known| keys::distance(&known.name, &point.name) <= 2);
    match near {
        Some(known) => {
            let meant = EndPoint { name: known.name.clone(), ..point.clone() };
            format!("is {} meant? Write {}", known.name, shown(&meant, point.port))
        }
        None => format!("add {}://:{} to listeners, or rename it", point.name, point.port),
    }
}

type Address = Option<(String, u16)>;

/// What is advertised, by the position of the listener.
fn advertised(reader: &Reader<'_>, bound: &[EndPoint], quorum: &[String]) -> Vec<(usize, Address)> {
    const KEY: &str = "advertised.listeners";
    let origin = reader.origin(KEY);
    let mut found = Vec::new();
    for point in end_points(reader, KEY) {
        if quorum.contains(&point.name) {
            continue;
        }
        let unspecified = point.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if unspecified {
            reader.problem(
                origin,
                KEY,
                format!(
                    "advertised.listeners cannot use the nonroutable meta-address {}. \
                     Use a routable IP address",
                    point.host
                ),
                "write the address clients reach, or take the line out: each client is then told \
                 the address at which it came",
            );
            continue;
        }
        if point.port == 0 {
            reader.problem(origin, KEY, "port 0 cannot be dialled", "write the real port");
            continue;
        }
        let mut positions = (0..bound.len()).filter(|at| bound[*at].name == point.name).peekable();
        if positions.peek().is_none() {
            let known: Vec<&str> = bound.iter().map(|point| point.name.as_str()).collect();
            reader.problem(
                origin,
                KEY,
                format!(
                    "advertised.listeners listener names must be equal to or a subset of the ones \
                     defined in listeners: {} is not among {}",
                    point.name,
                    known.join(", ")
                ),
                nearest_listener(bound, &point),
            );
        }
        for at in positions {
            // Kafka puts the machine's own name for an empty host; the address at which the
            // client came is known to work.
            let address = (!point.host.is_empty()).then(|| (point.host.clone(), point.port));
            found.push((at, address));
        }
    }
    found
}

/// The line of the map with this listener in it, and the other protocols to choose from.
fn mapped(reader: &Reader<'_>, name: &str) -> String {
    let written = reader.written("listener.security.protocol.map");
    let before = written.map(|map| format!("{},", map.trim_end_matches(','))).unwrap_or_default();
    format!(
        "write listener.security.protocol.map={before}{name}:SASL_PLAINTEXT (or PLAINTEXT, SSL, \
         SASL_SSL)"
    )
}

fn protocol_map(reader: &Reader<'_>) -> Vec<(String, SecurityProtocol)> {
    const KEY: &str = "listener.security.protocol.map";
    let mut map: Vec<(String, SecurityProtocol)> = Vec::new();
    for item in list(&reader.text(KEY)) {
        let pair = item.split_once(':');
        match pair.and_then(|(name, text)| Some((name.trim(), text.trim().parse().ok()?))) {
            Some((name, protocol)) => {
                let name = name.to_uppercase();
                let other = map.iter().any(|(known, of)| *known == name && *of != protocol);
                if other {
                    let what = format!("{name} has two protocols");
                    reader.problem(reader.origin(KEY), KEY, what, "keep one of the two");
                }
                map.push((name, protocol));
            }
            None => reader.problem(
                reader.origin(KEY),
                KEY,
                format!("{item:?} is not of the form NAME:PROTOCOL"),
                "protocols are PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL",
            ),
        }
    }
    map
}

fn mechanisms(reader: &Reader<'_>, name: &str, protocol: SecurityProtocol) -> Vec<Mechanism> {
    const KEY: &str = "sasl.enabled.mechanisms";
    if !protocol.sasl() {
        return Vec::new();
    }
    let text = reader.text_for(name, KEY);
    let written = reader.written_for(name, KEY).map_or(KEY.to_owned(), |(key, _)| key);
    let origin = reader.origin(&written);
    let mut found: Vec<Mechanism> = Vec::new();
    for item in list(&text) {
        match (Mechanism::named(item), item) {
            (Some(mechanism), _) if !found.contains(&mechanism) => found.push(mechanism),
            (Some(_), _) => {}
            (None, "GSSAPI") => reader.problem(
                origin,
                &written,
                "GSSAPI (Kerberos) is not offered",
                "write sasl.enabled.mechanisms=PLAIN, and PLAIN in the clients' sasl.mechanism",
            ),
            (None, other) => reader.problem(
                origin,
                &written,
                format!("the mechanism {other:?} is not offered"),
                format!("choose from {}", keys::used_key(KEY).default.unwrap_or_default()),
            ),
        }
    }
    found
}

/// `listener.name.NAME.MECHANISM.connections.max.reauth.ms`, else without the mechanism, else bare.
fn session_lifetimes(
    reader: &Reader<'_>,
    name: &str,
    protocol: SecurityProtocol,
) -> Vec<(Mechanism, Duration)> {
    const KEY: &str = "connections.max.reauth.ms";
    if !protocol.sasl() {
        return Vec::new();
    }
    let lifetimes = Mechanism::ALL.into_iter().filter_map(|mechanism| {
        let own = format!("{name}.{}", mechanism.name());
        let text = match reader.written_only_for(&own, KEY) {
            Some(text) => text,
            None => reader.text_for(name, KEY),
        };
        let lifetime_ms = text.parse().ok().filter(|ms| *ms > 0)?;
        Some((mechanism, Duration::from_millis(lifetime_ms)))
    });
    lifetimes.collect()
}

fn principal_rules(reader: &Reader<'_>, name: &str, protocol: SecurityProtocol) -> PrincipalRules {
    const KEY: &str = "ssl.principal.mapping.rules";
    let written = reader.written_for(name, KEY).filter(|_| protocol.tls());
    let Some((key, text)) = written.filter(|(_, text)| text != "DEFAULT") else {
        return PrincipalRules::default();
    };
    PrincipalRules::parse(&text).unwrap_or_else(|what| {
        let fix = "for example RULE:^CN=(.*?),.*$/$1/L,DEFAULT";
        reader.problem(reader.origin(&key), &key, what, fix);
        PrincipalRules::default()
    })
}

fn tls(reader: &Reader<'_>, name: &str, protocol: SecurityProtocol) -> Option<TlsSettings> {
    if !protocol.tls() {
        return None;
    }
    let auth = reader.text_for(name, "ssl.client.auth").to_lowercase();
    let keystore = store(reader, name, "ssl.keystore.type", "ssl.keystore.location");
    let truststore = store(reader, name, "ssl.truststore.type", "ssl.truststore.location");
    let inline_key = reader.written_for(name, "ssl.keystore.key");
    let inline_chain = reader.written_for(name, "ssl.keystore.certificate.chain");
    let inline_trust = reader.written_for(name, "ssl.truststore.certificates");
    let password = reader.written_for(name, "ssl.key.password");
    let versions = reader.text_for(name, "ssl.enabled.protocols");
    if let Some((key, _)) = password {
        reader.problem(
            reader.origin(&key),
            &key,
            "an encrypted private key is not read",
            "decrypt it: openssl pkcs8 -in encrypted.pem -out key.pem, and take this line out",
        );
    }
    let (tls12, tls13) = tls_versions(reader, name, &versions);
    let client_auth = match auth.as_str() {
        "required" => ClientAuth::Required,
        "requested" => ClientAuth::Requested,
        _ => ClientAuth::None,
    };
    let inline = |(_, text): (String, String)| Pem::Inline(Secret::new(&text));
    let truststore = inline_trust.map(inline).or(truststore.ok()?.map(Pem::File));
    if truststore.is_none() && client_auth != ClientAuth::None {
        reader.problem(
            reader.origin("ssl.client.auth"),
            "ssl.client.auth",
            format!("listener {name} asks for client certificates but trusts no authority"),
            "write ssl.truststore.type=PEM and ssl.truststore.location=ca.pem",
        );
    }
    let (key, chain) = match (inline_key.map(inline), inline_chain.map(inline), keystore.ok()?) {
        (Some(key), Some(chain), None) => (key, chain),
        (None, None, Some(file)) => (Pem::File(file.clone()), Pem::File(file)),
        (None, None, None) => {
            reader.problem(
                reader.origin("listeners"),
                "ssl.keystore.location",
                format!("listener {name} speaks TLS but has no certificate"),
                "write ssl.keystore.type=PEM and ssl.keystore.location=server.pem, a file with \
                 the private key and its certificates (`odradek tls init` makes one)",
            );
            return None;
        }
        _ => {
            reader.problem(
                reader.origin("ssl.keystore.key").or(reader.origin("ssl.keystore.location")),
                "ssl.keystore.key",
                format!("listener {name}: the certificate is given twice, or by half"),
                "either ssl.keystore.location, or ssl.keystore.key and \
                 ssl.keystore.certificate.chain",
            );
            return None;
        }
    };
    Some(TlsSettings { key, chain, truststore, client_auth, tls12, tls13 })
}

/// The file of a key or trust store; `Err` after a problem was reported.
fn store(
    reader: &Reader<'_>,
    name: &str,
    kind: &'static str,
    location: &'static str,
) -> Result<Option<PathBuf>, ()> {
    let written_kind = reader.written_for(name, kind);
    let Some((key, file)) = reader.written_for(name, location) else {
        return Ok(None);
    };
    let lower = file.to_lowercase();
    let java = [".jks", ".p12", ".pfx", ".keystore"].iter().any(|end| lower.ends_with(end));
    match written_kind {
        Some((_, kind)) if kind.eq_ignore_ascii_case("PEM") => return Ok(Some(file.into())),
        None if !java => return Ok(Some(file.into())),
        _ => {}
    }
    let what = format!("{file} is a Java or PKCS#12 store; only PEM files are read");
    let trust = location.starts_with("ssl.truststore");
    let pem = if trust { "ca.pem" } else { "server.pem" };
    let java_store = lower.ends_with(".jks") || !java;
    let convert = match (java_store, trust) {
        (true, true) => {
            format!("keytool -exportcert -rfc -keystore {file} -alias ALIAS -file {pem}")
        }
        (true, false) => format!(
            "keytool -importkeystore -srckeystore {file} -destkeystore server.p12 \
             -deststoretype PKCS12 && openssl pkcs12 -in server.p12 -nodes -out {pem}"
        ),
        (false, true) => format!("openssl pkcs12 -in {file} -nokeys -out {pem}"),
        (false, false) => format!("openssl pkcs12 -in {file} -nodes -out {pem}"),
    };
    let fix = format!("convert it: {convert} ; then write {kind}=PEM and {location}={pem}");
    reader.problem(reader.origin(&key), &key, what, fix);
    Err(())
}

fn tls_versions(reader: &Reader<'_>, name: &str, text: &str) -> (bool, bool) {
    let (mut tls12, mut tls13) = (false, false);
    for version in list(text) {
        match version {
            "TLSv1.2" => tls12 = true,
            "TLSv1.3" => tls13 = true,
            other => reader.problem(
                reader.origin("ssl.enabled.protocols"),
                "ssl.enabled.protocols",
                format!("listener {name}: {other:?} cannot be offered"),
                "write ssl.enabled.protocols=TLSv1.2,TLSv1.3",
            ),
        }
    }
    (tls12, tls13)
}
