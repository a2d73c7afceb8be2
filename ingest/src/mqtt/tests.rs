//! MQTT sources against a local server that keeps the standard's side of QoS 1: it sends a window
//! of messages, waits for acknowledgements, and after a cut sends again what was not acknowledged.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use odradek_broker::client::{Client, StoredRecord};
use prometheus::Registry;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Codec, ConnAck, Connect, ConnectAuth, ConnectReturnCode, Packet, Publish, SubAck,
    SubscribeReasonCode,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::Framed;

use crate::testing::{FakeLog, Fault, run_until, source, until};
use crate::{SourceState, Sources};

/// As many as mosquitto sends without an acknowledgement.
const WINDOW: usize = 20;

/// The server's memory, which outlives its connections.
struct Server {
    messages: Vec<Publish>,
    /// Messages that were acknowledged: always the first so many, because they are in order.
    acknowledged: AtomicUsize,
    /// Cuts the connection after so many messages; none left: never.
    cuts: Mutex<Vec<usize>>,
    consent: ConnectReturnCode,
    granted: SubscribeReasonCode,
    answers_pings: bool,
    /// An acknowledgement came that was not the next one, or before the record was in the log.
    wrong: AtomicBool,
    connects: Mutex<Vec<Connect>>,
    pings: AtomicUsize,
}

impl Server {
    fn with(messages: Vec<Publish>) -> Self {
        Self {
            messages,
            acknowledged: AtomicUsize::new(0),
            cuts: Mutex::default(),
            consent: ConnectReturnCode::Success,
            granted: SubscribeReasonCode::Success(QoS::AtLeastOnce),
            answers_pings: true,
            wrong: AtomicBool::new(false),
            connects: Mutex::default(),
            pings: AtomicUsize::new(0),
        }
    }

    /// `None` ends the connection.
    async fn serve(&self, tcp: TcpStream, log: &FakeLog) -> Option<()> {
        let codec = Codec { max_incoming_size: 1 << 20, max_outgoing_size: 8 << 20 };
        let mut framed = Framed::new(tcp, codec);
        let Packet::Connect(connect) = framed.next().await?.ok()? else { return None };
        self.connects.lock().unwrap().push(connect);
        framed.send(Packet::ConnAck(ConnAck::new(self.consent, false))).await.ok()?;
        let Packet::Subscribe(subscribe) = framed.next().await?.ok()? else { return None };
        let codes = subscribe.filters.iter().map(|_| self.granted).collect();
        framed.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await.ok()?;
        let first = self.acknowledged.load(Ordering::SeqCst);
        let cut = self.cuts.lock().unwrap().pop();
        let mut sent = first;
        loop {
            let acknowledged = self.acknowledged.load(Ordering::SeqCst);
            while sent < self.messages.len().min(acknowledged + WINDOW) {
                if cut == Some(sent - first) {
                    return None;
                }
                let mut message = self.messages[sent].clone();
                message.pkid = number(sent);
                framed.send(Packet::Publish(message)).await.ok()?;
                sent += 1;
            }
            match framed.next().await?.ok()? {
                Packet::PubAck(ack) => self.note(ack.pkid, log),
                Packet::PingReq => {
                    self.pings.fetch_add(1, Ordering::SeqCst);
                    if self.answers_pings {
                        framed.send(Packet::PingResp).await.ok()?;
                    }
                }
                _ => return None,
            }
        }
    }

    fn note(&self, pkid: u16, log: &FakeLog) {
        let next = self.acknowledged.load(Ordering::SeqCst);
        let stored: HashSet<String> = log.values("home").into_iter().collect();
        let dead = log.count("home.dead-letter");
        if pkid != number(next) || stored.len() + dead <= next.min(self.numbered()) {
            self.wrong.store(true, Ordering::SeqCst);
        }
        self.acknowledged.store(next + 1, Ordering::SeqCst);
    }

    /// Messages of the tests that number them, each of which makes one record.
    fn numbered(&self) -> usize {
        self.messages.iter().take_while(|message| message.payload.starts_with(b"{\"n\":")).count()
    }
}

fn number(index: usize) -> u16 {
    u16::try_from(index % 60_000 + 1).unwrap()
}

/// Accepts for ever. Returns the address.
async fn listen(server: &Arc<Server>, log: &Arc<FakeLog>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (server, log) = (Arc::clone(server), Arc::clone(log));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let (server, log) = (Arc::clone(&server), Arc::clone(&log));
            tokio::spawn(async move { server.serve(tcp, &log).await });
        }
    });
    format!("mqtt://{address}")
}

fn message(topic: &str, payload: impl Into<Vec<u8>>) -> Publish {
    Publish::new(topic, QoS::AtLeastOnce, payload)
}

fn retained(topic: &str, payload: &str) -> Publish {
    Publish { retain: true, ..message(topic, payload) }
}

fn numbered(count: usize) -> Vec<Publish> {
    (0..count).map(|n| message(&format!("home/{}", n % 7), format!("{{\"n\":{n}}}"))).collect()
}

fn home(url: &str, more: &str) -> String {
    format!(
        r#"
        name = "home"
        type = "mqtt"
        url = "{url}"
        topics = ["home/#"]
        topic = "home"
        backoff = {{ min = "1ms", max = "20ms" }}
        {more}
    "#
    )
}

fn start(log: &Arc<FakeLog>, toml: &str) -> Sources {
    let client: Arc<dyn Client> = Arc::<FakeLog>::clone(log);
    Sources::start(vec![source(toml)], client, &Registry::new())
}

/// Runs a source until the server has sent all messages and has an answer to each.
async fn taken(messages: Vec<Publish>, more: &str) -> (Arc<FakeLog>, Sources) {
    let (log, server) = (Arc::new(FakeLog::default()), Arc::new(Server::with(messages)));
    let url = listen(&server, &log).await;
    let sources = start(&log, &home(&url, more));
    let all = || server.acknowledged.load(Ordering::SeqCst) == server.messages.len();
    until("all acknowledgements", all).await;
    assert_eq!(server.connects.lock().unwrap().len(), 1, "the connection was given up");
    (log, sources)
}

fn header(record: &StoredRecord, name: &str) -> Option<String> {
    let found = record.headers.iter().find(|(key, _)| &key[..] == name.as_bytes());
    found.map(|(_, value)| String::from_utf8(value.clone().unwrap().to_vec()).unwrap())
}

fn key(record: &StoredRecord) -> &str {
    std::str::from_utf8(record.key.as_deref().unwrap()).unwrap()
}

#[tokio::test]
async fn every_message_is_stored_before_it_is_acknowledged_through_cuts_refusals_and_restarts() {
    let log = Arc::new(FakeLog::default());
    let mut server = Server::with(numbered(3000));
    server.cuts = vec![500, 19, 1, 0, 333].into();
    let server = Arc::new(server);
    let url = listen(&server, &log).await;
    let refused = [Fault::None, Fault::Refuse, Fault::Refuse, Fault::LoseReply].repeat(3);
    log.fail(&refused);
    for stop_at in [400, 900, 2000] {
        let sources = start(&log, &home(&url, "partitions = 2"));
        until("some messages", || log.count("home") >= stop_at).await;
        sources.stop().await;
    }
    let _sources = start(&log, &home(&url, "partitions = 2"));
    until("all", || server.acknowledged.load(Ordering::SeqCst) == 3000).await;
    assert!(!server.wrong.load(Ordering::SeqCst), "an acknowledgement came early or out of order");
    let n = |value: &String| serde_json::from_str::<Value>(value).unwrap()["n"].as_u64().unwrap();
    let mut found: Vec<u64> = log.values("home").iter().map(n).collect();
    found.sort_unstable();
    // A message comes again when its connection was lost after its commit: one window each for five
    // cuts, four starts and three lost replies at most.
    assert!(found.len() <= 3000 + 12 * WINDOW, "{}", found.len());
    found.dedup();
    assert!(found.into_iter().eq(0..3000));
    for record in log.records("home") {
        let n = n(&String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap());
        assert_eq!(key(&record), format!("home/{}", n % 7), "the topic is the usual key");
        assert_eq!(header(&record, "mqtt.topic").as_deref(), Some(key(&record)));
    }
}

#[tokio::test]
async fn while_the_log_takes_nothing_the_server_hears_pings_and_no_acknowledgement() {
    let (log, server) = (Arc::new(FakeLog::default()), Arc::new(Server::with(numbered(50))));
    log.fail(&[Fault::Refuse; 4]);
    let url = listen(&server, &log).await;
    let more = "keepalive = { ping = \"20ms\", idle_timeout = \"30s\" }";
    let sources = start(&log, &home(&url, more));
    until("pings", || server.pings.load(Ordering::SeqCst) >= 3).await;
    until("all", || server.acknowledged.load(Ordering::SeqCst) == 50).await;
    assert!(!server.wrong.load(Ordering::SeqCst));
    assert_eq!(log.count("home"), 50);
    assert_eq!(server.connects.lock().unwrap().len(), 1);
    assert_eq!(sources.list()[0].reconnects, 0);
}

#[tokio::test]
async fn levels_of_the_topic_become_fields_and_name_the_key() {
    let messages = vec![
        message("home/bath/temperature", r#"{"room":"?","celsius":21.5}"#),
        message("home/hall", r#"{"celsius":19}"#),
    ];
    let more = "topic_fields = \"home/{room}/{sensor}\"\nkey = \"{room}/{sensor}\"";
    let (log, sources) = taken(messages, more).await;
    assert_eq!(log.values("home"), [r#"{"room":"bath","sensor":"temperature","celsius":21.5}"#]);
    assert_eq!(key(&log.records("home")[0]), "bath/temperature");
    let dead = &log.records("home.dead-letter")[0];
    assert_eq!(dead.value.as_deref(), Some(&b"{\"celsius\":19}"[..]));
    assert_eq!(header(dead, "odradek.error.reason").as_deref(), Some("topic"));
    assert_eq!(header(dead, "mqtt.topic").as_deref(), Some("home/hall"));
    assert_eq!((sources.list()[0].errors, sources.list()[0].dead_letters), (1, 1));
}

#[tokio::test]
async fn scalars_arrays_and_what_cannot_be_read_are_told_apart() {
    let messages = || vec![message("home/a", "21.5"), message("home/b", "ON")];
    let (log, _sources) = taken(messages(), "decode = { codec = \"scalar\" }").await;
    assert_eq!(log.values("home"), [r#"{"value":21.5}"#, r#"{"value":"ON"}"#]);

    let array = message("home/a", r#"{"readings":[{"v":1},{"v":2}]}"#);
    let more = "decode = { codec = \"json\", explode = \"readings\" }";
    let (log, _sources) = taken(vec![array], more).await;
    assert_eq!(log.values("home"), [r#"{"v":1}"#, r#"{"v":2}"#]);

    let (log, _sources) = taken(messages(), "").await;
    let dead = log.records("home.dead-letter");
    assert_eq!((log.count("home"), dead.len()), (0, 2));
    assert_eq!(header(&dead[1], "odradek.error.reason").as_deref(), Some("json"));
}

#[tokio::test]
async fn retained_messages_are_dropped_marked_or_kept() {
    let messages = || {
        let deleted = message("home/a", "");
        vec![retained("home/a", r#"{"v":1}"#), deleted, message("home/a", r#"{"v":2}"#)]
    };
    let cases: [(&str, &[&str]); 3] = [
        ("", &[r#"{"v":2}"#]),
        ("retained = \"keep\"", &[r#"{"v":1}"#, r#"{"v":2}"#]),
        ("retained = \"mark\"", &[r#"{"retained":true,"v":1}"#, r#"{"retained":false,"v":2}"#]),
    ];
    for (more, values) in cases {
        let (log, _sources) = taken(messages(), more).await;
        assert_eq!(log.values("home"), values, "{more}");
        assert_eq!(log.count("home.dead-letter"), 0);
    }
}

/// Payloads as in Zigbee2MQTT's documentation; names of devices may have slashes in them.
#[tokio::test]
async fn the_preset_of_zigbee2mqtt_takes_states_and_nothing_else() {
    let state = r#"{"temperature":27.34,"humidity":44.72}"#;
    let messages = vec![
        message("zigbee2mqtt/bridge/state", r#"{"state":"online"}"#),
        message("zigbee2mqtt/bridge/devices", "[{}]"),
        message("zigbee2mqtt/lamp/availability", "online"),
        message("zigbee2mqtt/lamp/set", r#"{"state":"ON"}"#),
        message("zigbee2mqtt/hall/lamp/set/state", "ON"),
        message("zigbee2mqtt/lamp/get", r#"{"state":""}"#),
        message("zigbee2mqtt/hall/sensor", state),
        message("other/lamp", state),
    ];
    let (log, server) = (Arc::new(FakeLog::default()), Arc::new(Server::with(messages)));
    let url = listen(&server, &log).await;
    let toml = format!(
        "name = \"z\"\ntype = \"mqtt\"\npreset = \"zigbee2mqtt\"\nurl = \"{url}\"\ntopic = \"home\""
    );
    let sources = start(&log, &toml);
    until("all", || server.acknowledged.load(Ordering::SeqCst) == 8).await;
    let wanted = json!({"friendly_name": "hall/sensor", "temperature": 27.34, "humidity": 44.72});
    assert_eq!(log.values("home"), [wanted.to_string()]);
    assert_eq!(key(&log.records("home")[0]), "hall/sensor");
    assert_eq!(sources.list()[0].errors, 0);
}

#[tokio::test]
async fn what_is_too_large_is_acknowledged_and_told_and_the_connection_stays() {
    let expands = format!("{{\"v\":[{}1]}}", "1e15,".repeat(40_000));
    let messages = vec![
        message("home/a", vec![b' '; 3 << 20]),
        message("home/b", expands.clone()),
        message(&format!("home/{}", "x".repeat(1024)), "{}"),
        message("home/c", r#"{"n":1}"#),
    ];
    let (log, _sources) = taken(messages, "").await;
    assert_eq!(log.values("home"), [r#"{"n":1}"#]);
    let dead = log.records("home.dead-letter");
    let reasons: Vec<_> = dead.iter().map(|d| header(d, "odradek.error.reason").unwrap()).collect();
    assert_eq!(reasons, ["too_large", "too_large", "topic"]);
    assert_eq!(dead[0].value, Some(Bytes::new()), "it was not held in memory");
    assert_eq!(dead[1].value, Some(Bytes::from(expands)));
}

#[tokio::test]
async fn a_dead_letter_quotes_a_little_of_what_it_holds_as_a_whole() {
    let quoted = format!("\"{}\"", "ä".repeat(100_000));
    let more = "decode = { codec = \"scalar\" }\ntime = { field = \"value\", unit = \"ms\" }";
    let (log, _sources) = taken(vec![message("home/a", quoted.clone())], more).await;
    let dead = &log.records("home.dead-letter")[0];
    let detail = header(dead, "odradek.error.detail").unwrap();
    assert!(detail.starts_with("value is \"ää") && detail.len() <= 1024, "{}", detail.len());
    assert_eq!(dead.value, Some(Bytes::from(quoted)));
}

#[tokio::test]
async fn a_login_that_is_refused_says_so_without_the_password() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "correct horse\nsecond line\n").unwrap();
    let (log, mut server) = (Arc::new(FakeLog::default()), Server::with(Vec::new()));
    server.consent = ConnectReturnCode::BadUserNamePassword;
    let server = Arc::new(server);
    let url = listen(&server, &log).await;
    let more = format!(
        "user = \"reader\"\npassword_file = \"{}\"\nclient_id = \"odradek-home\"\n\
         persistent_session = true",
        file.display()
    );
    let sources = run_until(&log, &home(&url, &more), SourceState::BackingOff).await;
    let detail = sources.list()[0].detail.clone();
    assert!(detail.contains("refuses the user or the password"), "{detail}");
    assert!(!detail.contains("horse"), "{detail}");
    let connect = server.connects.lock().unwrap()[0].clone();
    let (username, password) = ("reader".to_owned(), Bytes::from_static(b"correct horse"));
    assert_eq!(connect.auth, ConnectAuth::UsernamePassword { username, password });
    assert_eq!((connect.client_id.as_str(), connect.clean_session), ("odradek-home", false));
    assert_eq!(connect.keep_alive, 45);
    drop(sources);

    std::fs::remove_file(&file).unwrap();
    let sources = run_until(&log, &home(&url, &more), SourceState::BackingOff).await;
    assert!(sources.list()[0].detail.contains("password_file"), "{}", sources.list()[0].detail);
}

#[tokio::test]
async fn a_server_that_speaks_something_else_is_told_apart() {
    let answers: [(&[u8], &str); 3] = [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer as an MQTT server"),
        // A TLS alert: unexpected message.
        (b"\x15\x03\x03\x00\x02\x02\x0a", "does not answer as an MQTT server"),
        (b"", "does it want TLS"),
    ];
    for (answer, says) in answers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("mqtt://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let mut hello = [0; 1024];
                assert!(tcp.read(&mut hello).await.unwrap() > 0);
                tcp.write_all(answer).await.unwrap();
            }
        });
        let log = Arc::new(FakeLog::default());
        let sources = run_until(&log, &home(&url, ""), SourceState::BackingOff).await;
        assert!(sources.list()[0].detail.contains(says), "{}", sources.list()[0].detail);
    }
}

#[tokio::test]
async fn a_subscription_that_is_refused_names_its_filter() {
    let (log, mut server) = (Arc::new(FakeLog::default()), Server::with(Vec::new()));
    server.granted = SubscribeReasonCode::Failure;
    let server = Arc::new(server);
    let url = listen(&server, &log).await;
    let sources = run_until(&log, &home(&url, ""), SourceState::BackingOff).await;
    assert!(sources.list()[0].detail.contains("\"home/#\""), "{}", sources.list()[0].detail);
    let ids: Vec<String> =
        server.connects.lock().unwrap().iter().map(|connect| connect.client_id.clone()).collect();
    assert!(ids.iter().all(|id| id.len() == 23 && id.starts_with("odradek")), "{ids:?}");
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left_and_one_without_messages_is_quiet() {
    let (log, mut server) = (Arc::new(FakeLog::default()), Server::with(Vec::new()));
    server.answers_pings = false;
    let server = Arc::new(server);
    let url = listen(&server, &log).await;
    let more = "keepalive = { ping = \"10ms\", idle_timeout = \"40ms\" }";
    let sources = start(&log, &home(&url, more));
    until("another connection", || server.connects.lock().unwrap().len() > 2).await;
    assert!(server.pings.load(Ordering::SeqCst) > 2);
    sources.stop().await;

    let server = Arc::new(Server::with(Vec::new()));
    let url = listen(&server, &log).await;
    let more = "keepalive = { ping = \"10ms\", idle_timeout = \"10s\" }\nquiet_after = \"30ms\"";
    let sources = run_until(&log, &home(&url, more), SourceState::Quiet).await;
    until("pings", || server.pings.load(Ordering::SeqCst) > 5).await;
    assert_eq!(sources.list()[0].reconnects, 0);
}

#[tokio::test]
async fn a_source_that_stops_at_errors_leaves_the_message_with_the_server() {
    let messages = vec![message("home/a", r#"{"n":1}"#), message("home/a", "no JSON")];
    let (log, server) = (Arc::new(FakeLog::default()), Arc::new(Server::with(messages)));
    let url = listen(&server, &log).await;
    let sources = run_until(&log, &home(&url, "on_error = \"stop\""), SourceState::Failed).await;
    assert!(sources.list()[0].detail.contains("could not be decoded"));
    assert_eq!(log.values("home"), [r#"{"n":1}"#]);
    assert!(server.acknowledged.load(Ordering::SeqCst) < 2);
}

#[tokio::test]
async fn the_event_time_comes_from_the_payload_or_is_the_arrival() {
    // As Tasmota sends it: local time without a zone.
    let tasmota = r#"{"Time":"2025-01-10T12:39:00","ENERGY":{"Power":12}}"#;
    let messages = || vec![message("home/SENSOR", tasmota)];
    let more = "time = { template = \"{Time}\", zone = \"Europe/Berlin\" }";
    let (log, _sources) = taken(messages(), more).await;
    // 2025-01-10T11:39:00Z, by `date -d … +%s`.
    assert_eq!(log.records("home")[0].timestamp_ms, 1_736_509_140_000);
    let (log, _sources) = taken(messages(), "").await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let now_ms = i64::try_from(now.as_millis()).unwrap();
    let age_ms = now_ms - log.records("home")[0].timestamp_ms;
    assert!((0..Duration::from_secs(60).as_millis() as i64).contains(&age_ms), "{age_ms}");
}
