use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::config::Secret;
use crate::diagnose;

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
struct Pair {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Self {
        Self::named("Test CA")
    }

    fn named(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn server(&self) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(&params)
    }

    fn client(&self) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Home, sweet");
        params.distinguished_name.push(DnType::CommonName, "alice");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

fn inline(pair: &Pair) -> TlsSettings {
    TlsSettings {
        key: Pem::Inline(Secret::new(&pair.key)),
        chain: Pem::Inline(Secret::new(&pair.certificate)),
        truststore: None,
        client_auth: ClientAuth::None,
        tls12: true,
        tls13: true,
    }
}

fn with_client_auth(pair: &Pair, authority: &Authority, auth: ClientAuth) -> TlsSettings {
    let truststore = Some(Pem::Inline(Secret::new(&authority.pem())));
    TlsSettings { truststore, client_auth: auth, ..inline(pair) }
}

/// A client that trusts this authority, with or without a certificate of its own.
fn client(trusted: &Authority, own: Option<&Pair>, tls13: bool) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(trusted.pem().as_bytes(), "ca").unwrap() {
        roots.add(certificate).unwrap();
    }
    let version = if tls13 { &rustls::version::TLS13 } else { &rustls::version::TLS12 };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = certificates(pair.certificate.as_bytes(), "own").unwrap();
            let key = private_key(pair.key.as_bytes(), "own").unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

/// The principal that the server sees, or why it ended the handshake.
async fn handshake(
    server: Arc<ServerConfig>,
    client: ClientConfig,
) -> Result<Option<Principal>, String> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(client)).connect(name, near);
    let accepting = TlsAcceptor::from(server).accept(far);
    let (accepted, _connected) = tokio::join!(accepting, connecting);
    match accepted {
        Ok(stream) => Ok(principal(stream.get_ref().1, &PrincipalRules::default()).unwrap()),
        Err(error) => Err(diagnose::of_tls_error(&error).1),
    }
}

#[tokio::test]
async fn a_client_that_trusts_the_authority_connects_with_tls_1_2_and_1_3() {
    let authority = Authority::new();
    for tls13 in [false, true] {
        let server = server_config(&inline(&authority.server())).unwrap();
        assert_eq!(handshake(server, client(&authority, None, tls13)).await, Ok(None));
    }
}

#[tokio::test]
async fn a_client_with_another_authority_refuses_and_the_broker_says_why() {
    let server = server_config(&inline(&Authority::new().server())).unwrap();
    // A stranger, and an older authority of the same name, as after making it anew.
    for other in [Authority::named("Another CA"), Authority::new()] {
        let why = handshake(server.clone(), client(&other, None, true)).await.unwrap_err();
        assert!(why.contains("does not trust this broker's certificate"), "{why}");
    }
}

#[tokio::test]
async fn a_required_client_certificate_is_asked_for_and_names_the_principal() {
    let authority = Authority::new();
    let settings = |auth| with_client_auth(&authority.server(), &authority, auth);
    let server = |auth| server_config(&settings(auth)).unwrap();
    let alice = authority.client();

    let shown = client(&authority, Some(&alice), true);
    let principal = handshake(server(ClientAuth::Required), shown).await.unwrap().unwrap();
    // As `openssl x509 -nameopt RFC2253` prints this subject.
    assert_eq!(principal, Principal::user("CN=alice,O=Home\\, sweet,C=DE"));

    let none = || client(&authority, None, true);
    let why = handshake(server(ClientAuth::Required), none()).await.unwrap_err();
    assert!(why.contains("showed no certificate"), "{why}");
    assert_eq!(handshake(server(ClientAuth::Requested), none()).await, Ok(None));

    let stranger = Authority::new().client();
    let foreign = client(&authority, Some(&stranger), true);
    let why = handshake(server(ClientAuth::Required), foreign).await.unwrap_err();
    assert!(why.contains("the client's certificate was refused"), "{why}");
}

#[test]
fn one_file_may_hold_key_and_certificates_in_any_order() {
    let folder = tempfile::tempdir().unwrap();
    let Pair { certificate, key } = Authority::new().server();
    for (name, text) in [
        ("a.pem", format!("{key}{certificate}")),
        ("b.pem", format!("Bag Attributes\n{certificate}\n{key}")),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let pair = Pair { certificate: String::new(), key: String::new() };
        let file =
            TlsSettings { key: Pem::File(path.clone()), chain: Pem::File(path), ..inline(&pair) };
        assert!(server_config(&file).is_ok(), "{name}");
    }
}

#[test]
fn what_is_wrong_with_the_files_is_said_before_anything_listens() {
    let authority = Authority::new();
    let (one, other) = (authority.server(), authority.server());
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let of_file = |path: PathBuf| TlsSettings {
        key: Pem::File(path.clone()),
        chain: Pem::File(path),
        ..inline(&one)
    };
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n";
    let mixed = Pair { certificate: one.certificate.clone(), key: other.key };
    let no_roots = TlsSettings {
        truststore: Some(Pem::Inline(Secret::new("nothing"))),
        client_auth: ClientAuth::Required,
        ..inline(&one)
    };
    let cases = [
        (of_file(folder.path().join("none.pem")), "none.pem cannot be read"),
        (of_file(file("cert.pem", one.certificate.as_bytes())), "holds no private key"),
        (of_file(file("key.pem", one.key.as_bytes())), "holds no certificate"),
        (of_file(file("enc.pem", encrypted.as_bytes())), "openssl pkcs8 -in"),
        (of_file(file("store.jks", b"\xfe\xed\xfe\xed\0\0")), "keytool -importkeystore"),
        (of_file(file("store.p12", b"\x30\x82\x0a\x00\x02")), "openssl pkcs12 -in FILE -nodes"),
        (inline(&mixed), "does not belong to the first certificate"),
        (no_roots, "ssl.truststore.certificates holds no certificate"),
    ];
    for (settings, expected) in cases {
        let why = server_config(&settings).map(|_| ()).unwrap_err();
        assert!(why.contains(expected), "{why}\n  without {expected}");
    }
}
