//! Listeners, their certificates and their logins, changed while the broker runs.

use std::sync::Arc;

use kafka_protocol::messages::{MetadataRequest, SaslAuthenticateRequest, SaslHandshakeRequest};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::configs::{BROKER, DELETE, DYNAMIC_BROKER, SET, value};
use super::*;

const UNSUPPORTED_SASL_MECHANISM: i16 = 33;
const SASL_AUTHENTICATION_FAILED: i16 = 58;

/// As `Node` configures it, and as it stays in every change.
const FIRST: &str = "PLAINTEXT://127.0.0.1:0";
const MAP: (&str, i8, Option<&str>) = (
    "listener.security.protocol.map",
    SET,
    Some("PLAINTEXT:PLAINTEXT,A:PLAINTEXT,B:PLAINTEXT,LOGIN:SASL_PLAINTEXT,SAFE:SSL"),
);

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Wire {
    async fn listeners(&mut self, list: &str) -> (i16, Option<String>) {
        self.alter(BROKER, "1", &[MAP, ("listeners", SET, Some(list))]).await
    }

    fn names(&self) -> Vec<String> {
        self.node.broker.listeners().into_iter().map(|listener| listener.name).collect()
    }
}

async fn answers(connection: &mut node::Connection) -> bool {
    !connection.call(&MetadataRequest::default(), 1).await.brokers.is_empty()
}

#[tokio::test]
async fn a_listener_is_opened_stays_over_a_restart_and_is_closed() {
    let mut wire = Wire::new().await;
    assert_eq!(wire.listeners(&format!("{FIRST},A://127.0.0.1:0")).await, (NONE, None));
    let mut wire = wire.restarted().await;
    assert_eq!(wire.names(), ["PLAINTEXT", "A"]);
    let mut second = wire.node.connect_to(1).await;
    assert!(answers(&mut second).await);
    let address = wire.node.broker.listeners()[1].address;
    let back = [("listeners", DELETE, None)];
    assert_eq!(wire.alter(BROKER, "1", &back).await, (NONE, None));
    assert_eq!(wire.names(), ["PLAINTEXT"]);
    assert!(second.is_closed().await);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_listener_takes_the_port_of_one_that_goes_and_may_be_asked_to_through_it() {
    let mut wire = Wire::new().await;
    let port = free_port();
    assert_eq!(wire.listeners(&format!("{FIRST},A://127.0.0.1:{port}")).await, (NONE, None));
    let through = wire.node.connect_to(1).await;
    let mut wire = Wire { connection: through, ..wire };
    // The answer comes, and then the end.
    assert_eq!(wire.listeners(&format!("{FIRST},B://127.0.0.1:{port}")).await, (NONE, None));
    assert!(wire.connection.is_closed().await);
    assert_eq!(wire.names(), ["PLAINTEXT", "B"]);
    assert!(answers(&mut wire.node.connect_to(1).await).await);
}

#[tokio::test]
async fn what_cannot_be_bound_is_refused_and_everything_stays_as_it_was() {
    let mut wire = Wire::new().await;
    let port = free_port();
    let before = format!("{FIRST},A://127.0.0.1:{port}");
    assert_eq!(wire.listeners(&before).await, (NONE, None));
    let mut old = wire.node.connect_to(1).await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let after = format!("{FIRST},B://127.0.0.1:{taken_port}");
    let (error, why) = wire.listeners(&after).await;
    assert_eq!(error, INVALID_REQUEST);
    assert!(why.unwrap().contains("listener B cannot bind"));
    assert_eq!(wire.value(BROKER, "1", "listeners").await, value(&before, DYNAMIC_BROKER));
    assert!(answers(&mut old).await);
    assert!(answers(&mut wire.node.connect_to(1).await).await);
}

#[tokio::test]
async fn what_kafka_does_not_change_is_refused_in_its_words() {
    let mut wire = Wire::new().await;
    let security = "These security configs can be dynamically updated only per-listener using the \
                    listener prefix";
    let level = "Cannot update these configs at default cluster level, broker id must be specified";
    for (broker, key, new, why) in [
        ("1", "ssl.keystore.location", "/x.pem", security),
        ("", "listeners", FIRST, level),
        ("", "listener.name.plaintext.ssl.client.auth", "none", level),
        ("", "sasl.jaas.config", "x required user_a=\"b\";", level),
        ("1", "listener.name.plaintext.plain.sasl.jaas.config", "x", "a login module is written"),
        ("1", "sasl.jaas.config", "x required username=\"a\";", "names no users"),
        ("1", "listener.name.nowhere.ssl.client.auth", "none", "no listener named nowhere"),
        ("1", "listeners", "", "none is left"),
        ("1", "listeners", "C://127.0.0.1:0", "No security protocol defined for listener C"),
        (
            "1",
            "listener.security.protocol.map",
            "PLAINTEXT:SASL_PLAINTEXT",
            "Security protocol cannot be updated for existing listener PLAINTEXT",
        ),
        (
            "1",
            "listener.name.plaintext.ssl.principal.mapping.rules",
            "DEFAULT",
            "Configs cannot be updated dynamically for existing listener PLAINTEXT",
        ),
    ] {
        let (error, said) = wire.set(BROKER, broker, key, new).await;
        let said = said.unwrap_or_default();
        assert!(error == INVALID_REQUEST && said.contains(why), "{key}: {error} {said}");
    }
    assert_eq!(wire.names(), ["PLAINTEXT"]);
}

#[tokio::test]
async fn new_connections_are_offered_the_mechanisms_that_hold_now() {
    let mut wire = Wire::new().await;
    assert_eq!(wire.listeners(&format!("{FIRST},LOGIN://127.0.0.1:0")).await, (NONE, None));
    let plain = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    let offered = wire.node.connect_to(1).await.call(&plain, 1).await;
    assert_eq!((offered.error_code, offered.mechanisms.len()), (NONE, 3));
    let only = wire.set(BROKER, "1", "sasl.enabled.mechanisms", "SCRAM-SHA-512").await;
    assert_eq!(only, (NONE, None));
    let offered = wire.node.connect_to(1).await.call(&plain, 1).await;
    assert_eq!(offered.error_code, UNSUPPORTED_SASL_MECHANISM);
    assert_eq!(offered.mechanisms, [text("SCRAM-SHA-512")]);
}

/// What comes of a login by PLAIN to the second listener.
async fn login(node: &node::Node, user: &str, password: &str) -> i16 {
    let mut connection = node.connect_to(1).await;
    let plain = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
    assert_eq!(connection.call(&plain, 1).await.error_code, NONE);
    let token = format!("\0{user}\0{password}").into_bytes();
    let authenticate = SaslAuthenticateRequest::default().with_auth_bytes(token.into());
    connection.call(&authenticate, 2).await.error_code
}

#[tokio::test]
async fn users_of_a_jaas_line_log_in_at_once_and_their_passwords_are_nowhere() {
    let mut wire = Wire::new().await;
    assert_eq!(wire.listeners(&format!("{FIRST},LOGIN://127.0.0.1:0")).await, (NONE, None));
    const KEY: &str = "listener.name.login.plain.sasl.jaas.config";
    let line = |password: &str| format!("X required user_alice=\"{password}\";");
    assert_eq!(login(&wire.node, "alice", "first-secret").await, SASL_AUTHENTICATION_FAILED);
    assert_eq!(wire.set(BROKER, "1", KEY, &line("first-secret")).await, (NONE, None));
    assert_eq!(login(&wire.node, "alice", "first-secret").await, NONE);
    let rows = wire.describe(BROKER, "1", Some(&[KEY])).await;
    assert!(rows[0].is_sensitive && rows[0].value.is_none() && !rows[0].read_only);

    assert_eq!(wire.set(BROKER, "1", KEY, &line("second-secret")).await, (NONE, None));
    let mut wire = wire.restarted().await;
    assert_eq!(login(&wire.node, "alice", "second-secret").await, NONE);
    assert_eq!(login(&wire.node, "alice", "first-secret").await, SASL_AUTHENTICATION_FAILED);
    assert_eq!(wire.alter(BROKER, "1", &[(KEY, DELETE, None)]).await, (NONE, None));
    assert_eq!(login(&wire.node, "alice", "second-secret").await, SASL_AUTHENTICATION_FAILED);
    for file in files(wire.node.dir.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let holds = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
        assert!(!holds(b"first-secret") && !holds(b"second-secret"), "{}", file.display());
    }
}

fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all
}

/// A certificate that is its own authority, and its key.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

/// Whether a client that trusts this certificate alone can connect to the second listener.
async fn is_served(node: &node::Node, certificate: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(node.broker.listeners()[1].address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(client)).connect(name, stream).await.is_ok()
}

#[tokio::test]
async fn certificates_are_changed_in_the_configuration_and_in_their_file() {
    let mut wire = Wire::new().await;
    let ((first, first_key), (second, second_key)) = (certificate(), certificate());
    let file = wire.node.dir.path().with_extension("pem");
    let location = file.to_str().unwrap();
    const AT: &str = "listener.name.safe.ssl.keystore.location";
    const KEY: &str = "listener.name.safe.ssl.keystore.key";
    const CHAIN: &str = "listener.name.safe.ssl.keystore.certificate.chain";
    std::fs::write(&file, first_key + &first).unwrap();
    let list = format!("{FIRST},SAFE://127.0.0.1:0");
    let open = [MAP, ("listeners", SET, Some(&*list)), (AT, SET, Some(location))];
    assert_eq!(wire.alter(BROKER, "1", &open).await, (NONE, None));
    assert!(is_served(&wire.node, &first).await);

    // A file that is no certificate changes nothing; to name it again asks to read it again.
    std::fs::write(&file, "nonsense").unwrap();
    let (error, why) = wire.set(BROKER, "1", AT, location).await;
    assert!(error == INVALID_REQUEST && why.unwrap().contains("holds no"));
    assert!(is_served(&wire.node, &first).await);
    std::fs::write(&file, second_key.clone() + &second).unwrap();
    assert_eq!(wire.set(BROKER, "1", AT, location).await, (NONE, None));
    assert!(is_served(&wire.node, &second).await && !is_served(&wire.node, &first).await);

    // Inline, and from a file back again; what is secret is not told.
    let (third, third_key) = certificate();
    let inline = [(AT, DELETE, None), (KEY, SET, Some(&*third_key)), (CHAIN, SET, Some(&*third))];
    assert_eq!(wire.alter(BROKER, "1", &inline).await, (NONE, None));
    assert!(is_served(&wire.node, &third).await && !is_served(&wire.node, &second).await);
    let rows = wire.describe(BROKER, "1", Some(&[KEY, CHAIN])).await;
    let row = |name: &str| rows.iter().find(|row| *row.name == *name).unwrap();
    assert!(row(KEY).is_sensitive && row(KEY).value.is_none() && !row(KEY).read_only);
    assert!(row(KEY).synonyms.iter().all(|synonym| synonym.value.is_none()));
    assert_eq!(row(CHAIN).value.as_deref(), Some(&*third));
    let wire = wire.restarted().await;
    assert!(is_served(&wire.node, &third).await);
    std::fs::remove_file(file).unwrap();
}
