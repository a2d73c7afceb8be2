//! TLS as a client that looks at everything: a handshake is not broken off for a certificate that
//! is expired, names another host or comes from nobody known. That is judged afterwards. Nothing
//! secret is sent on such a connection.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use crate::operations::certificate_facts;
use crate::operations::doctor::facts::{CertificateSeen, Trust};

/// Takes any certificate; that the peer holds its key is verified.
#[derive(Debug)]
struct Onlooker(Arc<CryptoProvider>);

impl ServerCertVerifier for Onlooker {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

pub fn client_config() -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let onlooker = Arc::new(Onlooker(provider));
    Ok(Arc::new(
        builder.dangerous().with_custom_certificate_verifier(onlooker).with_no_client_auth(),
    ))
}

/// Who may vouch for a server.
pub struct Authorities {
    system: RootCertStore,
    /// The roots of a file, its name, and whether it was named outright.
    file: Option<(RootCertStore, String, bool)>,
}

impl Authorities {
    /// `named` was given on the command line; `beside` is taken if it is there.
    pub fn read(named: Option<&Path>, beside: Option<&Path>) -> Result<Self, String> {
        let mut system = RootCertStore::empty();
        system.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let file = match (named, beside.filter(|path| path.is_file())) {
            (Some(path), _) => Some((roots(path)?, path.display().to_string(), true)),
            (None, Some(path)) => {
                roots(path).ok().map(|roots| (roots, path.display().to_string(), false))
            }
            (None, None) => None,
        };
        Ok(Self { system, file })
    }

    /// Whether the chain leads to one of them; the host is not looked at.
    pub fn vouch(&self, chain: &[CertificateDer<'static>], seen: &[CertificateSeen]) -> Trust {
        let (Some((own, others)), Some(facts)) = (chain.split_first(), seen.first()) else {
            return Trust::Unknown;
        };
        let name = facts.names.iter().find_map(|name| ServerName::try_from(name.clone()).ok());
        let name = name.unwrap_or_else(|| {
            ServerName::IpAddress(std::net::IpAddr::from([127, 0, 0, 1]).into())
        });
        if let Some((roots, path, _)) = &self.file
            && let Ok(true) = leads_to(roots, own, others, &name)
        {
            return Trust::File(path.clone());
        }
        let asked =
            self.file.as_ref().filter(|(.., named)| *named).map(|(_, path, _)| path.clone());
        match leads_to(&self.system, own, others, &name) {
            Ok(true) if asked.is_none() => Trust::System,
            // Out of time: that is said by itself, and hides who signed it.
            Ok(false) => Trust::Unknown,
            Ok(true) => Trust::Nobody { why: "it is another authority's".to_owned(), asked },
            Err(why) => Trust::Nobody { why, asked },
        }
    }
}

/// `Ok(false)`: the time of a certificate is over, or has not begun.
fn leads_to(
    roots: &RootCertStore,
    own: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    name: &ServerName<'_>,
) -> Result<bool, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots.clone()), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    match verifier.verify_server_cert(own, others, name, &[], UnixTime::now()) {
        Ok(_) => Ok(true),
        Err(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => Ok(true),
        Err(Error::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let place = path.display();
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{place} cannot be read: {error}"))?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(format!("{place} holds no certificate of an authority"));
    }
    Ok(roots)
}

pub fn seen(chain: &[CertificateDer<'static>]) -> Vec<CertificateSeen> {
    let facts = chain.iter().filter_map(|certificate| certificate_facts::of_der(certificate).ok());
    let seen = facts.map(|facts| CertificateSeen {
        subject: facts.subject,
        issuer: facts.issuer,
        names: facts.names,
        not_before_s: facts.not_before.as_second(),
        not_after_s: facts.not_after.as_second(),
    });
    seen.collect()
}
