//! SCRAM credentials by the protocol (KIP-554) and logging in again (KIP-368). Error codes are
//! Kafka's: 34 ILLEGAL_SASL_STATE, 58 SASL_AUTHENTICATION_FAILED, 91 RESOURCE_NOT_FOUND, 92
//! DUPLICATE_RESOURCE, 93 UNACCEPTABLE_CREDENTIAL.

use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::{
    AlterUserScramCredentialsRequest, DescribeUserScramCredentialsRequest, SaslAuthenticateRequest,
    SaslAuthenticateResponse, SaslHandshakeRequest,
};

use super::login::with_listener;
use super::*;

const SALT: &[u8] = b"a salt of the client";
const SHA_256: i8 = 1;
const SHA_512: i8 = 2;

/// What a client sends for a password: RFC 5802's `Hi`.
fn upsertion(
    name: &str,
    mechanism: i8,
    password: &str,
    iterations: i32,
) -> ScramCredentialUpsertion {
    let rounds = iterations.unsigned_abs();
    let salted = match mechanism {
        SHA_256 => pbkdf2::pbkdf2_hmac_array::<sha2::Sha256, 32>(password.as_bytes(), SALT, rounds)
            .to_vec(),
        _ => pbkdf2::pbkdf2_hmac_array::<sha2::Sha512, 64>(password.as_bytes(), SALT, rounds)
            .to_vec(),
    };
    ScramCredentialUpsertion::default()
        .with_name(text(name))
        .with_mechanism(mechanism)
        .with_iterations(iterations)
        .with_salt(Bytes::from_static(SALT))
        .with_salted_password(salted.into())
}

fn deletion(name: &str, mechanism: i8) -> ScramCredentialDeletion {
    ScramCredentialDeletion::default().with_name(text(name)).with_mechanism(mechanism)
}

/// User and error of each result.
async fn alter(
    wire: &mut Connection,
    upsertions: Vec<ScramCredentialUpsertion>,
    deletions: Vec<ScramCredentialDeletion>,
) -> Vec<(String, i16)> {
    let request = AlterUserScramCredentialsRequest::default();
    let request = request.with_upsertions(upsertions).with_deletions(deletions);
    let response = wire.call(&request, 0).await;
    response.results.iter().map(|r| (r.user.to_string(), r.error_code)).collect()
}

/// User, error, and mechanism with iterations of each.
async fn described(wire: &mut Connection, users: &[&str]) -> Vec<(String, i16, Vec<(i8, i32)>)> {
    let users = users.iter().map(|name| UserName::default().with_name(text(name))).collect();
    let request = DescribeUserScramCredentialsRequest::default().with_users(Some(users));
    let response = wire.call(&request, 0).await;
    assert_eq!(response.error_code, 0);
    let results = response.results.iter().map(|result| {
        let infos = result.credential_infos.iter().map(|i| (i.mechanism, i.iterations)).collect();
        (result.user.to_string(), result.error_code, infos)
    });
    results.collect()
}

/// Both ports of a broker: without login, where users are made, and with it.
async fn broker(more: &str) -> Node {
    let more = format!(
        "listeners=PLAINTEXT://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0\n\
         sasl.jaas.config=X required user_configured=\"x\";\n{more}"
    );
    with_listener("PLAINTEXT", &more).await
}

async fn to_login(running: &Node) -> Connection {
    running.connect_to(1).await
}

async fn handshake(wire: &mut Connection, mechanism: &str) -> i16 {
    let request = SaslHandshakeRequest::default().with_mechanism(text(mechanism));
    wire.call(&request, 1).await.error_code
}

async fn token(wire: &mut Connection, token: &str) -> SaslAuthenticateResponse {
    let token = Bytes::copy_from_slice(token.as_bytes());
    wire.call(&SaslAuthenticateRequest::default().with_auth_bytes(token), 2).await
}

async fn plain(wire: &mut Connection, message: &str) -> SaslAuthenticateResponse {
    assert_eq!(handshake(wire, "PLAIN").await, 0);
    token(wire, message).await
}

#[tokio::test]
async fn a_user_made_by_one_mechanism_logs_in_by_plain_and_is_described_and_deleted() {
    let running = broker("").await;
    let mut wire = running.connect().await;
    let made =
        vec![upsertion("ann", SHA_256, "secret", 4_096), upsertion("bob", SHA_512, "s2", 16_384)];
    let fine = |name: &str| (name.to_owned(), 0);
    assert_eq!(alter(&mut wire, made, vec![]).await, [fine("ann"), fine("bob")]);
    let ann = ("ann".to_owned(), 0, vec![(SHA_256, 4_096)]);
    let bob = ("bob".to_owned(), 0, vec![(SHA_512, 16_384)]);
    assert_eq!(described(&mut wire, &[]).await, [ann.clone(), bob.clone()]);
    for message in ["\0ann\0secret", "\0bob\0s2"] {
        assert_eq!(plain(&mut to_login(&running).await, message).await.error_code, 0);
    }
    assert_eq!(plain(&mut to_login(&running).await, "\0ann\0s2").await.error_code, 58);
    // One more mechanism for ann; then the first one goes.
    let more = vec![upsertion("ann", SHA_512, "other", 8_192)];
    assert_eq!(alter(&mut wire, more, vec![]).await, [fine("ann")]);
    assert_eq!(alter(&mut wire, vec![], vec![deletion("ann", SHA_256)]).await, [fine("ann")]);
    let left = ("ann".to_owned(), 0, vec![(SHA_512, 8_192)]);
    assert_eq!(described(&mut wire, &["ann"]).await, [left]);
    assert_eq!(plain(&mut to_login(&running).await, "\0ann\0other").await.error_code, 0);
    assert_eq!(plain(&mut to_login(&running).await, "\0ann\0secret").await.error_code, 58);
    assert_eq!(alter(&mut wire, vec![], vec![deletion("ann", SHA_512)]).await, [fine("ann")]);
    let odd = described(&mut wire, &["ann", "bob", "bob", "bob"]).await;
    assert_eq!(odd, [("ann".to_owned(), 91, vec![]), ("bob".to_owned(), 92, vec![])]);
}

#[tokio::test]
async fn credentials_that_kafka_refuses_are_refused_each_alone() {
    let running = broker("").await;
    let mut wire = running.connect().await;
    let upsertions = vec![
        upsertion("few", SHA_256, "x", 4_095),
        upsertion("many", SHA_256, "x", 16_385),
        upsertion("twice", SHA_256, "x", 4_096),
        upsertion("twice", SHA_512, "x", 4_096),
        upsertion("", SHA_256, "x", 4_096),
        upsertion("configured", SHA_256, "x", 4_096),
        upsertion("odd", 3, "x", 4_096),
        upsertion("good", SHA_256, "x", 4_096),
    ];
    let outcomes = alter(&mut wire, upsertions, vec![deletion("nobody", SHA_256)]).await;
    let expected = [
        ("", 93),
        ("configured", 93),
        ("few", 93),
        ("good", 0),
        ("many", 93),
        ("nobody", 91),
        // UNSUPPORTED_SASL_MECHANISM
        ("odd", 33),
        ("twice", 92),
    ];
    assert_eq!(outcomes, expected.map(|(name, error)| (name.to_owned(), error)));
    let known: Vec<_> =
        described(&mut wire, &[]).await.into_iter().map(|(name, ..)| name).collect();
    assert_eq!(known, ["good"]);
}

const REAUTH: &str = "listener.name.sasl_plaintext.plain.connections.max.reauth.ms=3000\n\
                      connections.max.reauth.ms=3600000\n";

/// Waits for the moment, so that what is tested is the broker's clock and not ours.
async fn until(moment: Instant) {
    tokio::time::sleep_until(moment.into()).await;
}

#[tokio::test]
async fn a_session_ends_unless_its_client_logs_in_again() {
    let running = broker(REAUTH).await;
    let mut quiet = to_login(&running).await;
    let mut busy = to_login(&running).await;
    let ask = MetadataRequest::default().with_topics(None);
    let began = Instant::now();
    for wire in [&mut quiet, &mut busy] {
        let done = plain(wire, "\0configured\0x").await;
        assert_eq!((done.error_code, done.session_lifetime_ms), (0, 3_000));
        wire.call(&ask, 12).await;
    }
    for round in 1..=3_u32 {
        until(began + round * Duration::from_millis(1_500)).await;
        let done = plain(&mut busy, "\0configured\0x").await;
        assert_eq!((done.error_code, done.session_lifetime_ms), (0, 3_000), "round {round}");
        busy.call(&ask, 12).await;
    }
    quiet.send(&ask, 12).await;
    assert!(quiet.is_closed().await);
    assert_eq!(running.broker.diary().entries()[0].diagnosis, "session-expired");
}

#[tokio::test]
async fn another_login_keeps_principal_and_mechanism_and_comes_at_most_once_a_second() {
    let running = broker(REAUTH).await;
    let mut plain_port = running.connect().await;
    alter(&mut plain_port, vec![upsertion("ann", SHA_256, "y", 4_096)], vec![]).await;
    let mut wire = to_login(&running).await;
    assert_eq!(plain(&mut wire, "\0configured\0x").await.error_code, 0);
    let began = Instant::now();
    assert_eq!(plain(&mut wire, "\0configured\0x").await.error_code, 0);
    let second = handshake(&mut wire, "PLAIN").await;
    // On a machine that was held up for a second it is not too soon.
    assert!(second == 34 || began.elapsed() >= Duration::from_secs(1));
    for (mechanism, message, why) in [
        (
            "PLAIN",
            "\0ann\0y",
            "Cannot change principals during re-authentication from User:configured: User:ann",
        ),
        (
            "SCRAM-SHA-256",
            "n,,n=configured,r=abc",
            "SASL mechanism 'SCRAM-SHA-256' requested by client is not supported for \
             re-authentication of mechanism 'PLAIN'",
        ),
        ("PLAIN", "\0configured\0z", "Authentication failed: Invalid username or password"),
    ] {
        let mut wire = to_login(&running).await;
        assert_eq!(plain(&mut wire, "\0configured\0x").await.error_code, 0);
        assert_eq!(handshake(&mut wire, mechanism).await, 0);
        let refused = token(&mut wire, message).await;
        let told = refused.error_message.as_deref().unwrap_or_default();
        assert_eq!(refused.error_code, 58);
        assert!(told.starts_with(why), "{told}");
        wire.send(&MetadataRequest::default().with_topics(None), 12).await;
        assert!(wire.is_closed().await, "the login that was there is over");
    }
    // Between the two steps of a login nothing else is answered.
    let mut wire = to_login(&running).await;
    assert_eq!(plain(&mut wire, "\0configured\0x").await.error_code, 0);
    assert_eq!(handshake(&mut wire, "PLAIN").await, 0);
    wire.send(&MetadataRequest::default().with_topics(None), 12).await;
    assert!(wire.is_closed().await);
}
