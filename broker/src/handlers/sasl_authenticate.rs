//! SaslAuthenticate (36), versions 0 to 2; and the bare tokens after SaslHandshake 0.
//!
//! - One message of the login that SaslHandshake began. A failure carries a sentence, which Java
//!   and librdkafka print; it is the same for an unknown user and a wrong password.
//! - A failure is answered late (`auth::Brake`): after `connection.failed.authentication.delay.ms`,
//!   and later the more often logins from the address have failed.
//! - After a failure the connection can do nothing any more; clients close it.
//! - v1 (KIP-368) carries a session lifetime, `connections.max.reauth.ms` of the listener and
//!   mechanism; 0: a login lasts as long as its connection. Logging in again on a live connection
//!   starts the time anew; principal and mechanism stay what they were. After the time nothing but
//!   a new login is answered. v2 is flexible.
//! - Passwords are derived on a blocking thread, a few at a time.
//!
//! Left out: nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use kafka_protocol::protocol::StrBytes;

use crate::auth::{Mechanism, SaslExchange, Step};
use crate::broker::Broker;
use crate::client::Principal;
use crate::diagnose;
use crate::dispatch::{Answer, Close};
use crate::handlers::Context;
use crate::partition::lock;
use crate::reply::Reply;
use crate::session::{Identity, Login, Session};

/// What the client gets: bytes and a lifetime in milliseconds, or an error with a sentence.
type Told = Result<(Bytes, i64), (ResponseError, Cow<'static, str>)>;

pub(crate) async fn handle(
    context: &Context,
    request: SaslAuthenticateRequest,
) -> Result<SaslAuthenticateResponse, Close> {
    let response = SaslAuthenticateResponse::default();
    Ok(match advance(context, request.auth_bytes).await? {
        Ok((bytes, _)) if context.version < 1 => response.with_auth_bytes(bytes),
        Ok((bytes, lifetime_ms)) => {
            response.with_auth_bytes(bytes).with_session_lifetime_ms(lifetime_ms)
        }
        Err((error, message)) => response
            .with_error_code(error.code())
            .with_error_message(Some(StrBytes::from_string(message.into_owned()))),
    })
}

/// The answer to a frame that is a bare token; `None` if it is a request like any other.
pub(crate) fn bare_token(broker: &Broker, session: &Arc<Session>, token: &Bytes) -> Option<Answer> {
    match lock(&session.login).exchange() {
        Some(Some(exchange)) if exchange.is_bare() => {}
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
        request_bytes: token.len(),
        worked: None,
        throttle_ms: AtomicI64::new(0),
    };
    let token = token.clone();
    Some(Box::pin(async move {
        match advance(&context, token).await? {
            Ok((bytes, _)) => Ok(Reply::bare(bytes)),
            // The bare form has no place for an error: the connection is closed.
            Err(_) => Err(Close::Diagnosed),
        }
    }))
}

/// One step of the login; the inner error goes to the client.
async fn advance(context: &Context, message: Bytes) -> Result<Told, Close> {
    let exchange = lock(&context.session.login).exchange().and_then(Option::take);
    let Some(exchange) = exchange else {
        context.odd(diagnose::MALFORMED_LOGIN, "SaslAuthenticate came without a SaslHandshake");
        let why = "SaslAuthenticate request received without a SaslHandshake before it";
        return Ok(Err((ResponseError::IllegalSaslState, why.into())));
    };
    if let Some(why) = other_mechanism(context, exchange.mechanism()) {
        return Ok(refuse(context, exchange, why));
    }
    let (exchange, step) = respond(context, exchange, message).await?;
    let mechanism = exchange.mechanism();
    match step {
        Step::Continue(bytes) => {
            if let Some(place) = lock(&context.session.login).exchange() {
                *place = Some(exchange);
            }
            Ok(Ok((bytes.into(), 0)))
        }
        Step::Done { user, bytes } => match settle(context, mechanism, &user) {
            Ok(lifetime_ms) => Ok(Ok((bytes.into(), lifetime_ms))),
            Err(why) => Ok(refuse(context, exchange, why)),
        },
        Step::Failed { message, .. } => {
            end(context, exchange);
            Ok(Err((ResponseError::SaslAuthenticationFailed, message.into())))
        }
    }
}

/// The exchange is over and stays there, so that nothing can follow it; a login that was there
/// before ends with it.
fn end(context: &Context, exchange: SaslExchange) {
    *lock(&context.session.login) = Login::Wanted(Some(exchange));
}

fn refuse(context: &Context, exchange: SaslExchange, why: String) -> Told {
    end(context, exchange);
    context.odd(diagnose::MALFORMED_LOGIN, &why);
    Err((ResponseError::SaslAuthenticationFailed, why.into()))
}

/// Why this mechanism cannot be the one of another login on this connection, in Kafka's words.
fn other_mechanism(context: &Context, wanted: Mechanism) -> Option<String> {
    let login = lock(&context.session.login);
    let Login::Again(Identity { mechanism: Some(before), .. }, _) = &*login else { return None };
    (*before != wanted).then(|| {
        let (wanted, before) = (wanted.name(), before.name());
        format!(
            "SASL mechanism '{wanted}' requested by client is not supported for \
             re-authentication of mechanism '{before}'"
        )
    })
}

/// A login is done: who it is from now on, and for how long. Who was somebody else before is
/// refused in Kafka's words.
fn settle(context: &Context, mechanism: Mechanism, user: &str) -> Result<i64, String> {
    let principal = Principal::user(user).at(context.session.peer.ip());
    let mut login = lock(&context.session.login);
    let mut again_at = None;
    if let Login::Again(before, _) = &*login {
        if before.principal != principal {
            return Err(format!(
                "Cannot change principals during re-authentication from {}: {}",
                before.principal.name(),
                principal.name()
            ));
        }
        again_at = before.again_at;
    }
    let lifetime = context.session.listener.session_lifetime(mechanism);
    *login = Login::Done(Identity {
        principal,
        mechanism: Some(mechanism),
        expires_at: lifetime.and_then(|lifetime| Instant::now().checked_add(lifetime)),
        again_at,
    });
    let lifetime_ms = lifetime.map_or(0, |lifetime| lifetime.as_millis());
    Ok(i64::try_from(lifetime_ms).unwrap_or(i64::MAX))
}

/// Off the async threads, and in turn with other logins from the address; a failure comes back
/// late.
async fn respond(
    context: &Context,
    mut exchange: SaslExchange,
    message: Bytes,
) -> Result<(SaslExchange, Step), Close> {
    let users = context.core.users.clone();
    if exchange.is_remembered(&users, &message) {
        let step = exchange.respond(&users, &message);
        return Ok((exchange, step));
    }
    let attempt = context.broker.inner.logins.attempt(context.session.peer.ip()).await;
    let Some(attempt) = attempt else {
        context.odd(diagnose::LOGINS_SLOWED, diagnose::NO_TURN_TO_LOG_IN);
        return Err(Close::Diagnosed);
    };
    // As a task of its own, because a connection that hangs up or has to make way drops its work,
    // and with it the turn that a failure has to keep.
    let (broker, session) = (context.broker.clone(), context.session.clone());
    let checking = tokio::spawn(async move {
        let turn = users.turn().await;
        let work = tokio::task::spawn_blocking(move || {
            let step = exchange.respond(&users, &message);
            drop(turn);
            (exchange, step)
        });
        let (exchange, step) = work.await?;
        if let Step::Failed { message, credentials, user } = &step {
            note_failure(&broker, &session, &exchange, message, *credentials, user.as_deref());
            let Session { peer, listener, .. } = &*session;
            broker.answer_late(attempt, *peer, &listener.name, *credentials).await;
        }
        Ok::<_, tokio::task::JoinError>((exchange, step))
    });
    let failed = |error| Close::because(format!("the login could not be checked: {error}"));
    checking.await.map_err(failed)?.map_err(failed)
}

fn note_failure(
    broker: &Broker,
    session: &Session,
    exchange: &SaslExchange,
    message: &str,
    credentials: bool,
    user: Option<&str>,
) {
    let whom = user.map_or(String::new(), |user| format!(" for the user {user:?}"));
    let evidence = format!("{}{whom}: {message}", exchange.mechanism().name());
    let id = match credentials {
        false => diagnose::MALFORMED_LOGIN,
        true if broker.core().users.is_empty() => diagnose::NO_USERS,
        true => diagnose::WRONG_PASSWORD,
    };
    broker.inner.diary.note(session.peer, &session.listener.name, id, &evidence);
}
