//! What PEM text says about its certificates: whom they name, until when, and by whom.

use std::net::IpAddr;

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::pem::Pem;

/// The last month: time enough to renew by hand.
pub const EXPIRES_SOON_DAYS: i64 = 30;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    pub subject: String,
    pub issuer: String,
    /// DNS names and addresses, in the order of the certificate.
    pub names: Vec<String>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// SHA-256 over the whole certificate, as openssl writes it.
    pub fingerprint: String,
    /// It vouches for itself: an authority at the end of its chain, or a lone certificate.
    pub is_root: bool,
    /// It may sign others.
    pub is_authority: bool,
    /// The key as the certificate holds it, to be compared.
    pub public_key: Vec<u8>,
    /// The certificate again, alone.
    pub pem: String,
}

/// Every certificate in the text, in its order; keys and other blocks are passed over.
pub fn read(pem: &[u8]) -> Result<Vec<CertificateFacts>, String> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(pem) {
        let block = block.map_err(|error| format!("is not valid PEM: {error}"))?;
        if block.label == "CERTIFICATE" {
            let parsed = block.parse_x509();
            let certificate = parsed.map_err(|error| format!("holds no certificate: {error}"))?;
            found.push(facts(&certificate, &block.contents));
        }
    }
    Ok(found)
}

/// Of a certificate as it comes in a handshake.
pub fn of_der(der: &[u8]) -> Result<CertificateFacts, String> {
    use x509_parser::prelude::FromDer;
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    Ok(facts(&certificate, der))
}

fn facts(certificate: &X509Certificate<'_>, der: &[u8]) -> CertificateFacts {
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|names| &names.value.general_names);
    let validity = certificate.validity();
    let time = |seconds: i64, else_at| Timestamp::from_second(seconds).unwrap_or(else_at);
    CertificateFacts {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names: names.filter_map(name).collect(),
        not_before: time(validity.not_before.timestamp(), Timestamp::MIN),
        not_after: time(validity.not_after.timestamp(), Timestamp::MAX),
        fingerprint: fingerprint(der),
        is_root: certificate.subject().as_raw() == certificate.issuer().as_raw(),
        is_authority: certificate.is_ca(),
        public_key: certificate.public_key().subject_public_key.data.to_vec(),
        pem: armoured(der),
    }
}

fn name(general: &GeneralName<'_>) -> Option<String> {
    match general {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = || <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| v6()).ok().map(|address| address.to_string())
        }
        _ => None,
    }
}

fn fingerprint(der: &[u8]) -> String {
    let bytes: Vec<String> = Sha256::digest(der).iter().map(|b| format!("{b:02X}")).collect();
    bytes.join(":")
}

/// Lines of 64 characters, as RFC 7468 wants them.
fn armoured(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// RFC 6125: a wildcard stands for one label, the first; names are compared without case.
pub fn matches(name: &str, host: &str) -> bool {
    if let (Ok(named), Ok(dialled)) = (name.parse::<IpAddr>(), host.parse::<IpAddr>()) {
        return named == dialled;
    }
    if name.eq_ignore_ascii_case(host.trim_end_matches('.')) {
        return true;
    }
    let (Some(domain), Some((first, rest))) = (name.strip_prefix("*."), host.split_once('.'))
    else {
        return false;
    };
    !first.is_empty() && domain.eq_ignore_ascii_case(rest.trim_end_matches('.'))
}
