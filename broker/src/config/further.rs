//! What `odradek check` looks at beyond what a start refuses while it reads: the files that are
//! named, ports that meet, addresses that cannot work, and Kafka's rules about settings that mean
//! nothing here. Files are opened here, ports and data are not.

use std::net::IpAddr;

use super::listeners::is_loopback;
use super::values::ConfigProblem;
use super::{ClientAuth, Config, Listener, Pem, TlsSettings, keys};
use crate::tls;

/// What is wrong, and what will go wrong.
#[derive(Debug, Default)]
pub struct Further {
    /// The server would not start, or not as it is meant.
    pub problems: Vec<ConfigProblem>,
    pub warnings: Vec<ConfigProblem>,
}

impl Config {
    pub fn check_further(&self) -> Further {
        let mut further = Further::default();
        for listener in &self.listeners {
            if let Some(settings) = &listener.tls {
                further.problems.extend(self.tls_problem(listener, settings));
            }
            further.warnings.extend(self.address_warning(listener));
        }
        further.problems.extend(self.http_port_problem());
        further.warnings.extend(self.inter_broker_warnings());
        further
    }

    /// A problem at the place where a listener's key is written, or the bare key.
    pub fn problem_at(
        &self,
        listener: &str,
        key: &str,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) -> ConfigProblem {
        let own = format!("listener.name.{}.{key}", listener.to_lowercase());
        let entries = &self.values.entries;
        let own = entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(&own));
        let written = own.or_else(|| entries.get_key_value(key));
        ConfigProblem {
            file: written.map(|(_, entry)| entry.origin.file()).unwrap_or_default(),
            line: written.and_then(|(_, entry)| entry.origin.line()),
            key: written.map_or(key, |(name, _)| name).to_owned(),
            what: what.into(),
            fix: fix.into(),
        }
    }

    /// The keys in the order in which they are looked for; the first that is written counts.
    fn tls_problem(&self, listener: &Listener, settings: &TlsSettings) -> Option<ConfigProblem> {
        const MAKE: &str = "correct the file, or make one: `odradek tls init --host NAME` writes \
                            key and certificate into one file and prints the lines that name it";
        let alone = TlsSettings { client_auth: ClientAuth::None, ..settings.clone() };
        if let Err(why) = tls::server_config(&alone) {
            let key = match settings.key {
                Pem::File(_) => "ssl.keystore.location",
                Pem::Inline(_) => "ssl.keystore.key",
            };
            return Some(self.problem_at(&listener.name, key, why, MAKE));
        }
        let why = tls::server_config(settings).err()?;
        let key = match settings.truststore {
            Some(Pem::Inline(_)) => "ssl.truststore.certificates",
            _ => "ssl.truststore.location",
        };
        let fix = "name a PEM file with the certificates of the authorities that sign clients'";
        Some(self.problem_at(&listener.name, key, why, fix))
    }

    /// Two programs cannot have one port; here it is one program, which would say so only when it
    /// starts.
    fn http_port_problem(&self) -> Option<ConfigProblem> {
        let (host, port) = self.http_listen.as_deref()?.rsplit_once(':')?;
        let (host, port) = (host.trim_matches(['[', ']']), port.parse::<u16>().ok()?);
        let same = |listener: &&Listener| {
            listener.port == port
                && port != 0
                && (listener.host == host || is_every(&listener.host) || is_every(host))
        };
        let listener = self.listeners.iter().find(same)?;
        let what = format!("port {port} is that of the listener {}, too", listener.name);
        let taken = |port: &u16| self.listeners.iter().any(|listener| listener.port == *port);
        let free = (8_080..8_180).find(|port| !taken(port)).unwrap_or(8_080);
        let fix = format!("write odradek.http.listen={host}:{free}");
        Some(self.problem_at("", "odradek.http.listen", what, fix))
    }

    /// An advertised address that clients of this listener cannot use, whatever the network is.
    fn address_warning(&self, listener: &Listener) -> Option<ConfigProblem> {
        let (host, port) = listener.advertised.as_ref()?;
        let (key, name) = ("advertised.listeners", &listener.name);
        match (listener.is_loopback(), is_loopback(host)) {
            (false, true) => {
                let what = format!(
                    "clients on other machines that come to {name} are told {host}:{port}, and \
                     then dial themselves"
                );
                let fix = format!(
                    "take {name} out of the line, and each client is told the address at which it \
                     came; or write the address that clients reach"
                );
                Some(self.problem_at("", key, what, fix))
            }
            (true, false) if !listener.host.eq_ignore_ascii_case(host) => {
                let what = format!(
                    "{name} tells clients {host}:{port}, but listens on {}, where only this \
                     machine's own programs come",
                    listener.host
                );
                let fix = format!("write {name}://:{} in listeners", listener.port);
                Some(self.problem_at("", key, what, fix))
            }
            _ => None,
        }
    }

    /// Apache Kafka refuses these; here they mean nothing, but whoever wrote them meant something.
    fn inter_broker_warnings(&self) -> Vec<ConfigProblem> {
        const NAME: &str = "inter.broker.listener.name";
        const PROTOCOL: &str = "security.inter.broker.protocol";
        const MECHANISM: &str = "sasl.mechanism.inter.broker.protocol";
        const FIX: &str = "take the line out: there is no other broker to talk to";
        let written = |key: &str| {
            let entry = self.values.entries.get(key);
            entry.map(|entry| entry.value.clone()).filter(|value| !value.is_empty())
        };
        let mut warnings = Vec::new();
        if let Some(name) = written(NAME)
            && !self.listeners.iter().any(|listener| listener.name.eq_ignore_ascii_case(&name))
        {
            let names: Vec<&str> = self.listeners.iter().map(|l| l.name.as_str()).collect();
            let what = format!("{name} is not among the listeners {}", names.join(", "));
            warnings.push(self.problem_at("", NAME, what, FIX));
        }
        if written(NAME).is_some() && written(PROTOCOL).is_some() {
            let what = format!("only one of {NAME} and {PROTOCOL} may be set");
            warnings.push(self.problem_at("", PROTOCOL, what, FIX));
        }
        let offered = |wanted: &str| {
            let mut all = self.listeners.iter().flat_map(|listener| &listener.mechanisms);
            all.any(|mechanism| mechanism.name() == wanted)
        };
        let has_login = self.listeners.iter().any(|listener| listener.protocol.sasl());
        if let Some(mechanism) = written(MECHANISM).filter(|name| has_login && !offered(name)) {
            let what = format!("{mechanism} is not among sasl.enabled.mechanisms");
            warnings.push(self.problem_at("", MECHANISM, what, FIX));
        }
        warnings
    }

    /// `odradek.allow.unauthenticated.network`: listeners without login on the network are meant.
    pub fn allows_open_listeners(&self) -> bool {
        const KEY: &str = "odradek.allow.unauthenticated.network";
        let written = self.values.entries.get(KEY);
        written.is_some_and(|entry| keys::parse_bool(&entry.value) == Some(true))
    }
}

fn is_every(host: &str) -> bool {
    host.is_empty() || host == "*" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn further(text: &str) -> (Vec<String>, Vec<String>) {
        let config = Config::from_text("server.properties", text).expect("is read");
        let Further { problems, warnings } = config.check_further();
        let shown = |all: Vec<ConfigProblem>| all.iter().map(ToString::to_string).collect();
        (shown(problems), shown(warnings))
    }

    /// Each text with what is said of it, at its line and with what to write.
    #[test]
    fn what_reading_alone_cannot_tell_is_told_with_line_and_correction() {
        let problems: &[(&str, &[&str])] = &[
            (
                "listeners=A://:8080\nlistener.security.protocol.map=A:PLAINTEXT\n\
                 odradek.http.listen=127.0.0.1:8080",
                &[":3: odradek.http.listen: port 8080", "write odradek.http.listen=127.0.0.1:8081"],
            ),
            (
                "num.partitions=1\nlisteners=SSL://:1\nssl.keystore.location=/no/such.pem",
                &[":3: ssl.keystore.location: /no/such.pem cannot be read", "odradek tls init"],
            ),
        ];
        for (text, expected) in problems {
            let (found, _) = further(text);
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(expected.iter().all(|part| found[0].contains(part)), "{found:?}");
        }
        let warnings: &[(&str, &[&str])] = &[
            (
                "listeners=PLAINTEXT://:9092\nadvertised.listeners=PLAINTEXT://localhost:9092",
                &[":2: advertised.listeners: clients on other machines", "localhost:9092"],
            ),
            (
                "advertised.listeners=PLAINTEXT://192.168.1.10:9092",
                &[
                    ":1: advertised.listeners",
                    "only this machine",
                    "PLAINTEXT://:9092 in listeners",
                ],
            ),
            (
                "inter.broker.listener.name=REPLICATION",
                &[":1: inter.broker.listener.name: REPLICATION is not among the listeners"],
            ),
            (
                "inter.broker.listener.name=PLAINTEXT\nsecurity.inter.broker.protocol=PLAINTEXT",
                &[":2: security.inter.broker.protocol: only one of"],
            ),
            (
                "listeners=SASL_PLAINTEXT://127.0.0.1:1\nsasl.enabled.mechanisms=PLAIN\n\
                 sasl.mechanism.inter.broker.protocol=SCRAM-SHA-256",
                &[":3: sasl.mechanism.inter.broker.protocol: SCRAM-SHA-256 is not among"],
            ),
        ];
        for (text, expected) in warnings {
            let (_, found) = further(text);
            assert_eq!(found.len(), 1, "{text} {found:?}");
            assert!(expected.iter().all(|part| found[0].contains(part)), "{found:?}");
        }
        assert_eq!(further(""), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_key_that_does_not_fit_and_an_empty_trust_store_are_told_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let make =
            || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("made");
        let (one, other) = (make(), make());
        let write = |name: &str, text: String| fs::write(path(name), text).expect("written");
        write("mixed.pem", one.signing_key.serialize_pem() + &other.cert.pem());
        write("good.pem", one.signing_key.serialize_pem() + &one.cert.pem());
        write("empty.pem", String::new());
        let with = |keystore: &str, trust: &str| {
            further(&format!(
                "listeners=SSL://127.0.0.1:1\nlistener.name.ssl.ssl.keystore.location={}\n\
                 ssl.client.auth=required\nssl.truststore.location={}",
                path(keystore),
                path(trust)
            ))
            .0
        };
        assert_eq!(with("good.pem", "good.pem"), Vec::<String>::new());
        let mixed = with("mixed.pem", "good.pem").join("\n");
        assert!(mixed.contains(":2: listener.name.ssl.ssl.keystore.location: "), "{mixed}");
        assert!(mixed.contains("does not belong to the first certificate"), "{mixed}");
        let trust = with("good.pem", "empty.pem").join("\n");
        assert!(trust.contains(":4: ssl.truststore.location: "), "{trust}");
        assert!(trust.contains("holds no certificate"), "{trust}");
    }
}
