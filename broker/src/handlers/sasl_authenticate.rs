//! SaslAuthenticate (36), versions 0 to 2; and the bare tokens after SaslHandshake 0.
//!
//! - One message of the login that SaslHandshake began. A failure carries a sentence, which Java
//!   and librdkafka print; it is the same for an unknown user and a wrong password.
//! - After a failure the connection can do nothing any more; clients close it.
//! - v1 (KIP-368) carries a session lifetime: 0, a login lasts as long as its connection. v2 is
//!   flexible.
//! - Passwords are derived on a blocking thread, a few at a time.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use std::sync::Arc;

use crate::auth::{SaslExchange, Step};
use crate::broker::Broker;
use crate::client::Principal;
use crate::diagnose;
use crate::dispatch::{Answer, Close};
use crate::handlers::Context;
use crate::partition::lock;
use crate::reply::Reply;
use crate::session::{Login, Session};

pub(crate) async fn handle(
    context: &Context,
    request: SaslAuthenticateRequest,
) -> Result<SaslAuthenticateResponse, Close> {
    let response = SaslAuthenticateResponse::default();
    Ok(match advance(context, request.auth_bytes).await? {
        Ok(bytes) => response.with_auth_bytes(bytes),
        Err((error, message)) => response
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_static_str(message))),
    })
}

/// The answer to a frame that is a bare token; `None` if it is a request like any other.
pub(crate) fn bare_token(broker: &Broker, session: &Arc<Session>, token: &Bytes) -> Option<Answer> {
    match &*lock(&session.login) {
        Login::Wanted(Some(exchange)) if exchange.is_bare() => {}
        _ => return None,
    }
    let context = Context {
        broker: broker.clone(),
        core: broker.core(),
        session: session.clone(),
        principal: Principal::anonymous(),
        client_id: String::new(),
        correlation_id: 0,
        version: 0,
    };
    let token = token.clone();
    Some(Box::pin(async move {
        match advance(&context, token).await? {
            Ok(bytes) => Ok(Reply::bare(bytes)),
            // The bare form has no place for an error: the connection is closed.
            Err(_) => Err(Close::Diagnosed),
        }
    }))
}

/// One step of the login; the inner error goes to the client.
async fn advance(
    context: &Context,
    message: Bytes,
) -> Result<Result<Bytes, (ResponseError, &'static str)>, Close> {
    let exchange = match &mut *lock(&context.session.login) {
        Login::Wanted(exchange) => exchange.take(),
        Login::Done { .. } => None,
    };
    let Some(exchange) = exchange else {
        context.odd(diagnose::MALFORMED_LOGIN, "SaslAuthenticate came without a SaslHandshake");
        return Ok(Err((
            ResponseError::IllegalSaslState,
            "SaslAuthenticate request received without a SaslHandshake before it",
        )));
    };
    let (exchange, step) = respond(context, exchange, message).await?;
    let mechanism = exchange.mechanism().name();
    let mut login = lock(&context.session.login);
    match step {
        Step::Continue(bytes) => {
            *login = Login::Wanted(Some(exchange));
            Ok(Ok(bytes.into()))
        }
        Step::Done { user, bytes } => {
            let principal = Principal::user(&user).at(context.session.peer.ip());
            *login = Login::Done { principal, expires_at_ms: None };
            Ok(Ok(bytes.into()))
        }
        Step::Failed { message, credentials, user } => {
            // The exchange is over and stays there, so that nothing can follow it.
            *login = Login::Wanted(Some(exchange));
            let whom = user.map_or(String::new(), |user| format!(" for the user {user:?}"));
            let evidence = format!("{mechanism}{whom}: {message}");
            let id = match credentials {
                false => diagnose::MALFORMED_LOGIN,
                true if context.core.users.is_empty() => diagnose::NO_USERS,
                true => diagnose::WRONG_PASSWORD,
            };
            context.odd(id, &evidence);
            Ok(Err((ResponseError::SaslAuthenticationFailed, message)))
        }
    }
}

/// Off the async threads. The turn goes along, so that a client that hangs up does not free it
/// while its derivation still runs.
async fn respond(
    context: &Context,
    mut exchange: SaslExchange,
    message: Bytes,
) -> Result<(SaslExchange, Step), Close> {
    let users = context.core.users.clone();
    let turn = users.turn().await;
    let work = tokio::task::spawn_blocking(move || {
        let step = exchange.respond(&users, &message);
        drop(turn);
        (exchange, step)
    });
    work.await.map_err(|error| Close::because(format!("the login could not be checked: {error}")))
}
