//! TLS of a listener: from PEM to rustls, with the `ring` provider passed explicitly.
//!
//! What cannot be honoured stops the start with a sentence; nothing degrades to plain text. The
//! principal of a client that showed a certificate is its subject, in Kafka's form.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::client::Principal;
use crate::config::{ClientAuth, Pem, PrincipalRules, TlsSettings};

pub(crate) mod subject;

/// The configuration for one listener, or a sentence that says what is wrong with its files.
pub fn server_config(settings: &TlsSettings) -> Result<Arc<ServerConfig>, String> {
    let (key_text, key_place) = text(&settings.key, "ssl.keystore.key")?;
    let (chain_text, chain_place) = text(&settings.chain, "ssl.keystore.certificate.chain")?;
    let key = private_key(&key_text, &key_place)?;
    let chain = certificates(&chain_text, &chain_place)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut versions = Vec::new();
    if settings.tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if settings.tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|error| format!("ssl.enabled.protocols: {error}"))?;
    let builder = match client_roots(settings)? {
        None => builder.with_no_client_auth(),
        Some(roots) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match settings.client_auth {
                ClientAuth::Required => verifier,
                _ => verifier.allow_unauthenticated(),
            };
            let verifier = verifier.build().map_err(|error| format!("ssl.truststore: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the private key in {key_place} does not belong to the first certificate in \
             {chain_place} (the server's own certificate must stand before those of its \
             authorities)"
        ),
        error => format!("the certificate in {chain_place} cannot be used: {error}"),
    })?;
    Ok(Arc::new(config))
}

/// What tells whether the files of a listener's TLS are still those that were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp(Vec<Option<(SystemTime, u64)>>);

/// Of the files as they are now; one that cannot be looked at has no time.
pub fn stamp(settings: &TlsSettings) -> Stamp {
    let all = [Some(&settings.key), Some(&settings.chain), settings.truststore.as_ref()];
    let files = all.into_iter().flatten().filter_map(|pem| match pem {
        Pem::File(path) => Some(path),
        Pem::Inline(_) => None,
    });
    let state = |path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    Stamp(files.map(state).collect())
}

/// Whom the client's certificate names; `None` without one. `Err` is a name that no rule fits.
pub fn principal(
    connection: &ServerConnection,
    rules: &PrincipalRules,
) -> Result<Option<Principal>, String> {
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let Some(name) = certificate.and_then(|one| subject::distinguished_name(one)) else {
        return Ok(None);
    };
    match rules.apply(&name) {
        Some(user) => Ok(Some(Principal::user(&user))),
        None => Err(name),
    }
}

fn client_roots(settings: &TlsSettings) -> Result<Option<RootCertStore>, String> {
    let trusted = match (&settings.truststore, settings.client_auth) {
        (_, ClientAuth::None) | (None, _) => return Ok(None),
        (Some(trusted), _) => trusted,
    };
    let (text, place) = text(trusted, "ssl.truststore.certificates")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&text, &place)? {
        roots.add(certificate).map_err(|error| format!("{place}: {error}"))?;
    }
    Ok(Some(roots))
}

/// The text, and how to speak of the place where it stands.
fn text(pem: &Pem, key: &str) -> Result<(Vec<u8>, String), String> {
    let place = match pem {
        Pem::File(path) => path.display().to_string(),
        Pem::Inline(_) => key.to_owned(),
    };
    let bytes = pem.read().map_err(|error| format!("{place} cannot be read: {error}"))?;
    Ok((bytes, place))
}

pub(crate) fn certificates(
    text: &[u8],
    place: &str,
) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let found = found.map_err(|error| format!("{place} is not valid PEM: {error}"))?;
    if found.is_empty() {
        let hint = binary_hint(text);
        return Err(format!("{place} holds no certificate (-----BEGIN CERTIFICATE-----){hint}"));
    }
    Ok(found)
}

pub(crate) fn private_key(text: &[u8], place: &str) -> Result<PrivateKeyDer<'static>, String> {
    let readable = String::from_utf8_lossy(text);
    if readable.contains("ENCRYPTED PRIVATE KEY") || readable.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(format!(
            "the private key in {place} is encrypted, and no password is asked for. Decrypt it: \
             openssl pkcs8 -in {place} -out key.pem"
        ));
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => format!(
            "{place} holds no private key (-----BEGIN PRIVATE KEY-----){}",
            binary_hint(text)
        ),
        error => format!("{place} is not valid PEM: {error}"),
    })
}

/// Java's stores begin with these bytes: JKS with a number of its own, PKCS#12 with a sequence.
fn binary_hint(text: &[u8]) -> &'static str {
    match text {
        [0xfe, 0xed, 0xfe, 0xed, ..] => {
            "; it is a Java key store (JKS). Convert it: keytool -importkeystore -srckeystore FILE \
             -destkeystore server.p12 -deststoretype PKCS12 && openssl pkcs12 -in server.p12 \
             -nodes -out server.pem"
        }
        [0x30, 0x80..=0x84, ..] => {
            "; it looks like PKCS#12 or DER. Convert it: openssl pkcs12 -in FILE -nodes -out \
             server.pem"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests;
