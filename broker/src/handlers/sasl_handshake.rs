//! SaslHandshake (17), versions 0 and 1.
//!
//! - Chooses the mechanism of the login that follows; the reply always lists those this listener
//!   offers, which clients print.
//! - After v0 the login's tokens come in bare frames (kafka-python up to 2.0.2, librdkafka before
//!   0.11); after v1 (KIP-152) in SaslAuthenticate requests.
//! - On a listener without login the answer is ILLEGAL_SASL_STATE, as from Kafka.
//! - On a connection that has logged in it begins another login (KIP-368), at most once a second;
//!   until that is done nothing else is answered.
//!
//! Left out: GSSAPI (Kerberos) and OAUTHBEARER are not offered.

use std::time::Instant;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use kafka_protocol::protocol::StrBytes;

use crate::auth::{Mechanism, SaslExchange};
use crate::diagnose;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::partition::lock;
use crate::session::{Identity, Login};

pub(crate) async fn handle(
    context: &Context,
    request: SaslHandshakeRequest,
) -> Result<SaslHandshakeResponse, Close> {
    let listener = &context.session.listener;
    let names = listener.mechanisms.iter().map(|m| StrBytes::from_static_str(m.name()));
    let mut response = SaslHandshakeResponse::default().with_mechanisms(names.collect());
    if let Err(error) = choose(context, &request.mechanism) {
        response.error_code = error.code();
    }
    Ok(response)
}

fn choose(context: &Context, wanted: &str) -> Result<(), ResponseError> {
    let session = &context.session;
    let offered = &session.listener.mechanisms;
    let mut login = lock(&session.login);
    let identity = match &*login {
        Login::Wanted(None) => None,
        Login::Done(_) if !session.listener.protocol.sasl() => {
            let protocol = session.listener.protocol.name();
            let evidence = format!("SaslHandshake for {wanted} came; this listener is {protocol}");
            context.odd(diagnose::SASL_ON_PLAIN_LISTENER, &evidence);
            return Err(ResponseError::IllegalSaslState);
        }
        Login::Done(identity) if identity.may_log_in_again() => {
            Some(Identity { again_at: Some(Instant::now()), ..identity.clone() })
        }
        Login::Wanted(Some(_)) | Login::Done(_) | Login::Again(..) => {
            return Err(ResponseError::IllegalSaslState);
        }
    };
    match Mechanism::named(wanted).filter(|mechanism| offered.contains(mechanism)) {
        Some(mechanism) => {
            let exchange = SaslExchange::new(mechanism, context.version == 0);
            *login = match identity {
                None => Login::Wanted(Some(exchange)),
                Some(identity) => Login::Again(identity, Some(exchange)),
            };
            Ok(())
        }
        None => {
            let offered: Vec<&str> = offered.iter().map(|mechanism| mechanism.name()).collect();
            let evidence = format!("{wanted} was asked for; offered: {}", offered.join(", "));
            context.odd(diagnose::MECHANISM_NOT_ENABLED, &evidence);
            Err(ResponseError::UnsupportedSaslMechanism)
        }
    }
}
