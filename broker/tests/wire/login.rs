//! Logins and wrong beginnings, as bytes on a socket, with what the diary says afterwards.

use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use odradek_broker::Broker;
use odradek_broker::config::Config;
use tokio::io::AsyncReadExt;

use super::*;

const USERS: &str = "sasl.jaas.config=PlainLoginModule required user_admin=\"password\";\n";

pub async fn with_listener(protocol: &str, more: &str) -> Node {
    with_listener_in(tempfile::tempdir().unwrap(), protocol, more).await
}

pub async fn with_listener_in(dir: tempfile::TempDir, protocol: &str, more: &str) -> Node {
    let folder = dir.path().display().to_string().replace('\\', "/");
    let text = format!(
        "listeners={protocol}://127.0.0.1:0\nlog.dirs={folder}/data\nodradek.http.listen=\n{more}"
    );
    let config = Config::from_text("server.properties", &text).unwrap();
    Node { broker: Broker::start(config).await.unwrap(), dir }
}

async fn with_login() -> Node {
    with_listener("SASL_PLAINTEXT", USERS).await
}

/// The diagnoses in the diary, newest first.
fn diary(running: &Node) -> Vec<&'static str> {
    running.broker.diary().entries().iter().map(|entry| entry.diagnosis).collect()
}

/// Error code and the mechanisms offered.
async fn handshake(
    wire: &mut Connection,
    mechanism: &'static str,
    version: i16,
) -> (i16, Vec<String>) {
    let mechanism = StrBytes::from_static_str(mechanism);
    let request = SaslHandshakeRequest::default().with_mechanism(mechanism);
    let response = wire.call(&request, version).await;
    (response.error_code, response.mechanisms.iter().map(ToString::to_string).collect())
}

async fn authenticate(wire: &mut Connection, token: &'static [u8]) -> SaslAuthenticateResponse {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(token));
    wire.call(&request, 2).await
}

fn message(response: &SaslAuthenticateResponse) -> &str {
    response.error_message.as_deref().unwrap_or_default()
}

#[tokio::test]
async fn a_login_opens_the_connection_for_everything_else() {
    let running = with_login().await;
    let mut wire = running.connect().await;
    assert!(wire.call(&ApiVersionsRequest::default(), 0).await.error_code == 0);
    let (error, offered) = handshake(&mut wire, "PLAIN", 1).await;
    assert_eq!((error, offered.len()), (0, 3));
    let response = authenticate(&mut wire, b"\0admin\0password").await;
    assert_eq!((response.error_code, response.session_lifetime_ms), (0, 0));
    assert_eq!(create(&mut wire, "after-login").await.topics[0].error_code, 0);
    assert!(diary(&running).is_empty());
}

/// kafka-python up to 2.0.2: the token follows in a bare frame, and an empty one comes back.
#[tokio::test]
async fn after_handshake_0_the_token_is_a_bare_frame() {
    let running = with_login().await;
    let mut wire = running.connect().await;
    assert_eq!(handshake(&mut wire, "PLAIN", 0).await.0, 0);
    wire.send_frame(b"\0admin\0password").await;
    assert!(wire.frame().await.is_empty());
    assert_eq!(create(&mut wire, "bare").await.topics[0].error_code, 0);

    let mut wire = running.connect().await;
    assert_eq!(handshake(&mut wire, "PLAIN", 0).await.0, 0);
    wire.send_frame(b"\0admin\0wrong").await;
    assert!(wire.is_closed().await);
    assert_eq!(diary(&running), ["wrong-password"]);
}

/// 58 is SASL_AUTHENTICATION_FAILED, 34 ILLEGAL_SASL_STATE; the sentence is Kafka's.
#[tokio::test]
async fn a_wrong_password_and_an_unknown_user_are_told_the_same_and_may_not_try_again() {
    let running = with_login().await;
    for token in [&b"\0admin\0wrong"[..], b"\0nobody\0password"] {
        let mut wire = running.connect().await;
        handshake(&mut wire, "PLAIN", 1).await;
        let response = authenticate(&mut wire, token).await;
        assert_eq!(response.error_code, 58);
        let (kafkas, more) = message(&response).split_once(" (").unwrap();
        assert_eq!(kafkas, "Authentication failed: Invalid username or password");
        assert!(more.starts_with("both are case-sensitive"), "{more}");
        assert_eq!(handshake(&mut wire, "PLAIN", 1).await.0, 34);
        let again = authenticate(&mut wire, b"\0admin\0password").await;
        assert_ne!(again.error_code, 0);
    }
    let entries = running.broker.diary().entries();
    let wrong = entries.iter().find(|entry| entry.diagnosis == "wrong-password").unwrap();
    assert_eq!(wrong.count, 2);
    assert!(!format!("{entries:?}").contains("wrong\""), "no password is kept");
}

#[tokio::test]
async fn whoever_skips_the_login_is_sent_away_and_the_diary_says_why() {
    let running = with_login().await;
    let mut wire = running.connect().await;
    wire.send(&MetadataRequest::default(), 12).await;
    assert!(wire.is_closed().await);
    assert_eq!(diary(&running), ["no-sasl-on-sasl-listener"]);
}

/// 33 is UNSUPPORTED_SASL_MECHANISM; clients print the list that comes with it.
#[tokio::test]
async fn a_mechanism_that_is_not_enabled_is_answered_with_those_that_are() {
    let only_plain = format!("{USERS}sasl.enabled.mechanisms=PLAIN\n");
    let running = with_listener("SASL_PLAINTEXT", &only_plain).await;
    let mut wire = running.connect().await;
    assert_eq!(handshake(&mut wire, "GSSAPI", 1).await, (33, vec!["PLAIN".to_owned()]));
    assert_eq!(diary(&running), ["mechanism-not-enabled"]);
    // Kafka closes; here the client may choose again.
    assert_eq!(handshake(&mut wire, "PLAIN", 1).await.0, 0);
}

#[tokio::test]
async fn a_login_on_a_listener_without_login_is_answered_and_noted() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    assert_eq!(handshake(&mut wire, "PLAIN", 1).await, (34, Vec::new()));
    assert_eq!(diary(&running), ["sasl-on-plain-listener"]);
}

#[tokio::test]
async fn a_broker_without_users_says_so_to_its_owner() {
    let running = with_listener("SASL_PLAINTEXT", "").await;
    let mut wire = running.connect().await;
    handshake(&mut wire, "PLAIN", 1).await;
    let response = authenticate(&mut wire, b"\0admin\0password").await;
    assert_eq!(response.error_code, 58);
    assert!(message(&response).contains("no users yet"));
    assert_eq!(diary(&running), ["no-users"]);
}

/// Error code of a login on a connection of its own.
async fn log_in(running: &Node, token: &'static [u8]) -> i16 {
    let mut wire = running.connect().await;
    handshake(&mut wire, "PLAIN", 1).await;
    authenticate(&mut wire, token).await.error_code
}

/// What seven failures of one address cost: 0, 0, 0, 100, 200, 400 and 800 ms.
#[tokio::test]
async fn each_further_wrong_password_is_answered_later_and_the_right_one_at_once() {
    let at_once = format!("{USERS}connection.failed.authentication.delay.ms=0\n");
    let running = with_listener("SASL_PLAINTEXT", &at_once).await;
    let began = std::time::Instant::now();
    for _ in 0..7 {
        assert_eq!(log_in(&running, b"\0admin\0wrong").await, 58);
    }
    assert!(began.elapsed().as_millis() >= 1_500);
    assert_eq!(log_in(&running, b"\0admin\0password").await, 0);
    let entries = running.broker.diary().entries();
    let wrong = entries.iter().find(|entry| entry.diagnosis == "wrong-password").unwrap();
    assert_eq!(wrong.count, 7);
}

/// Wrong logins on connections of their own, none of them answered yet.
async fn wrong_logins(running: &Node, count: usize) -> Vec<Connection> {
    let mut waiting = Vec::with_capacity(count);
    for _ in 0..count {
        let mut wire = running.connect().await;
        handshake(&mut wire, "PLAIN", 1).await;
        let token = Bytes::from_static(b"\0admin\0wrong");
        wire.send(&SaslAuthenticateRequest::default().with_auth_bytes(token), 2).await;
        waiting.push(wire);
    }
    waiting
}

/// The failures hold every turn of the address for longer than this test may take.
#[tokio::test]
async fn failed_logins_that_wait_for_their_answers_do_not_keep_out_who_logged_in_before() {
    let late = format!("{USERS}connection.failed.authentication.delay.ms=3600000\n");
    let running = with_listener("SASL_PLAINTEXT", &late).await;
    assert_eq!(log_in(&running, b"\0admin\0password").await, 0);
    let _waiting = wrong_logins(&running, 20).await;
    assert_eq!(log_in(&running, b"\0admin\0password").await, 0);
}

/// Seven of eight turns are taken: who has not logged in before gets the eighth.
#[tokio::test]
async fn a_few_failed_logins_do_not_keep_out_anybody() {
    let late = format!("{USERS}connection.failed.authentication.delay.ms=3600000\n");
    let running = with_listener("SASL_PLAINTEXT", &late).await;
    let _waiting = wrong_logins(&running, 7).await;
    assert_eq!(log_in(&running, b"\0admin\0password").await, 0);
}

/// First bytes, whether an HTTP reply comes, and the diagnosis.
#[tokio::test]
async fn first_bytes_that_are_not_kafkas_end_the_connection_with_a_diagnosis() {
    let running = Node::new().await;
    let cases: &[(&[u8], &str)] = &[
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http-on-kafka-port"),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], "tls-on-plain-port"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "ssh-on-kafka-port"),
        (&[0xde, 0xad, 0xbe, 0xef, 0xde, 0xad, 0xbe, 0xef], "garbage"),
        (&[0x77, 0x35, 0x94, 0x00, 0, 3, 0, 12], "oversized-frame"),
    ];
    for (bytes, expected) in cases {
        let mut wire = running.connect().await;
        wire.stream.write_all(bytes).await.unwrap();
        let mut reply = String::new();
        let _ = wire.stream.read_to_string(&mut reply).await;
        assert_eq!(reply.starts_with("HTTP/1.1 400 "), *expected == "http-on-kafka-port");
        assert_eq!(diary(&running)[0], *expected);
    }
}

/// Before the login nobody may make the broker hold more than sasl.server.max.receive.size.
#[tokio::test]
async fn a_large_frame_before_the_login_is_refused_by_its_length() {
    let running = with_login().await;
    let mut wire = running.connect().await;
    wire.stream.write_all(&[0, 16, 0, 0, 0, 18, 0, 3]).await.unwrap();
    assert!(wire.is_closed().await);
    let entries = running.broker.diary().entries();
    assert_eq!(entries[0].diagnosis, "oversized-frame");
    assert!(entries[0].evidence.contains("sasl.server.max.receive.size=524288"));
}
