//! Why a TLS handshake failed, and which of the two sides has to change something.
//!
//! The alert that a client sends is all it tells. OpenSSL (librdkafka, Python) tells an unknown
//! authority from a wrong name, Java sends `certificate_unknown` for both, and Go
//! `bad_certificate` for whatever it does not like.

use std::io;

use rustls::{AlertDescription as Alert, Error};

use super::catalogue::{
    TLS_AUTHORITY_NOT_TRUSTED, TLS_CERTIFICATE_EXPIRED, TLS_CERTIFICATE_REFUSED,
    TLS_CLIENT_CERTIFICATE_MISSING, TLS_CLIENT_CERTIFICATE_REFUSED, TLS_HANDSHAKE_FAILED,
    TLS_NOTHING_IN_COMMON,
};

/// The diagnosis of a failed handshake, with its evidence.
pub(crate) fn of_tls_error(error: &io::Error) -> (&'static str, String) {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::AlertReceived(alert)) => of_alert(*alert),
        Some(Error::NoCertificatesPresented) => {
            let evidence = "the client showed no certificate, and ssl.client.auth=required";
            (TLS_CLIENT_CERTIFICATE_MISSING, evidence.to_owned())
        }
        Some(Error::InvalidCertificate(why)) => {
            let evidence = format!("the client's certificate was refused: {why:?}");
            (TLS_CLIENT_CERTIFICATE_REFUSED, evidence)
        }
        Some(Error::PeerIncompatible(why)) => {
            let evidence = format!("what the client offers cannot be met here: {why:?}");
            (TLS_NOTHING_IN_COMMON, evidence)
        }
        Some(other) => (TLS_HANDSHAKE_FAILED, other.to_string()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            let evidence = "the client closed the connection during it (many clients do so when \
                            they do not trust the certificate)";
            (TLS_HANDSHAKE_FAILED, evidence.to_owned())
        }
        None => (TLS_HANDSHAKE_FAILED, error.to_string()),
    }
}

fn of_alert(alert: Alert) -> (&'static str, String) {
    match alert {
        // DecryptError: the client trusts an older authority of the same name.
        Alert::UnknownCA | Alert::DecryptError => {
            let evidence =
                format!("the client does not trust this broker's certificate (alert {alert:?})");
            (TLS_AUTHORITY_NOT_TRUSTED, evidence)
        }
        Alert::CertificateUnknown | Alert::BadCertificate | Alert::UnsupportedCertificate => {
            let evidence = format!(
                "the client refused this broker's certificate (alert {alert:?}): it does not \
                 trust the authority, or the certificate does not name the host it dialled"
            );
            (TLS_CERTIFICATE_REFUSED, evidence)
        }
        Alert::CertificateExpired => {
            let evidence = "the client says that this broker's certificate has expired";
            (TLS_CERTIFICATE_EXPIRED, evidence.to_owned())
        }
        Alert::ProtocolVersion | Alert::HandshakeFailure | Alert::InsufficientSecurity => {
            (TLS_NOTHING_IN_COMMON, format!("the client ended it with alert {alert:?}"))
        }
        alert => (TLS_HANDSHAKE_FAILED, format!("the client ended it with alert {alert:?}")),
    }
}

#[cfg(test)]
mod tests {
    use rustls::{CertificateError, PeerIncompatible};

    use super::*;

    fn diagnosis(error: Error) -> &'static str {
        of_tls_error(&io::Error::new(io::ErrorKind::InvalidData, error)).0
    }

    /// Which alert is sent for what: `ssl_x509err2alert` of OpenSSL, Java's
    /// `CertificateMessage.getCertificateAlert`.
    #[test]
    fn every_cause_that_can_be_told_has_its_own_diagnosis() {
        let cases = [
            (Error::AlertReceived(Alert::UnknownCA), TLS_AUTHORITY_NOT_TRUSTED),
            (Error::AlertReceived(Alert::DecryptError), TLS_AUTHORITY_NOT_TRUSTED),
            (Error::AlertReceived(Alert::CertificateUnknown), TLS_CERTIFICATE_REFUSED),
            (Error::AlertReceived(Alert::BadCertificate), TLS_CERTIFICATE_REFUSED),
            (Error::AlertReceived(Alert::CertificateExpired), TLS_CERTIFICATE_EXPIRED),
            (Error::AlertReceived(Alert::ProtocolVersion), TLS_NOTHING_IN_COMMON),
            (
                Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled),
                TLS_NOTHING_IN_COMMON,
            ),
            (Error::NoCertificatesPresented, TLS_CLIENT_CERTIFICATE_MISSING),
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                TLS_CLIENT_CERTIFICATE_REFUSED,
            ),
            (Error::AlertReceived(Alert::UserCanceled), TLS_HANDSHAKE_FAILED),
        ];
        for (error, expected) in cases {
            assert_eq!(diagnosis(error.clone()), expected, "{error:?}");
        }
        let closed = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert_eq!(of_tls_error(&closed).0, TLS_HANDSHAKE_FAILED);
    }
}
