//! Live feeds against a local server that keeps the ping contract of a ticker that can send again:
//! it pings after each 100 frames; frames before a pong that came back have arrived; after a cut it
//! sends the frames since then once more.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use odradek_broker::client::Client;
use prometheus::Registry;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::feed::pricing::PricingData;
use crate::testing::{FakeLog, Fault, run_until, source, until};
use crate::{SourceState, Sources};

const FRAMES_PER_PING: usize = 100;

/// The server's memory, which outlives its sockets.
#[derive(Default)]
struct Ticker {
    ticks: Vec<PricingData>,
    /// Frames that arrived, by the contract.
    arrived: AtomicUsize,
    sockets: AtomicUsize,
    /// Cuts the socket after so many frames; none left: never.
    cuts: Mutex<Vec<usize>>,
    envelope: bool,
    /// A pong came back before the frames ahead of it were in the log.
    early_pong: AtomicBool,
    subscriptions: Mutex<Vec<String>>,
    headers: Mutex<HashMap<String, String>>,
}

impl Ticker {
    fn frame(&self, index: usize) -> Message {
        let text = STANDARD.encode(self.ticks[index].encode_to_vec());
        if self.envelope {
            Message::text(format!(r#"{{"type":"pricing","message":"{text}"}}"#))
        } else {
            Message::text(text)
        }
    }

    /// One socket, from subscription to the end or the cut.
    async fn serve(&self, mut socket: WebSocketStream<TcpStream>, log: &FakeLog) {
        let Some(Ok(subscription)) = socket.next().await else { return };
        self.subscriptions.lock().unwrap().push(subscription.into_text().unwrap().to_string());
        let first = self.arrived.load(Ordering::SeqCst);
        let cut = self.cuts.lock().unwrap().pop();
        for index in first..self.ticks.len() {
            if cut == Some(index - first) {
                // Without a closing handshake, as a lost connection.
                return;
            }
            if socket.send(self.frame(index)).await.is_err() {
                return;
            }
            let sent = index + 1;
            if sent % FRAMES_PER_PING == 0 || sent == self.ticks.len() {
                let payload = Bytes::from(sent.to_string());
                if socket.send(Message::Ping(payload.clone())).await.is_err() {
                    return;
                }
                if !self.pong(&mut socket, &payload, log, sent).await {
                    return;
                }
            }
        }
        while let Some(Ok(_)) = socket.next().await {}
    }

    async fn pong(
        &self,
        socket: &mut WebSocketStream<TcpStream>,
        payload: &Bytes,
        log: &FakeLog,
        sent: usize,
    ) -> bool {
        while let Some(Ok(message)) = socket.next().await {
            if message == Message::Pong(payload.clone()) {
                let distinct: HashSet<String> = log.values("stocks").into_iter().collect();
                if distinct.len() < sent {
                    self.early_pong.store(true, Ordering::SeqCst);
                }
                self.arrived.store(sent, Ordering::SeqCst);
                return true;
            }
        }
        false
    }
}

/// Accepts for ever. Returns the address.
async fn listen(ticker: Arc<Ticker>, log: Arc<FakeLog>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            ticker.sockets.fetch_add(1, Ordering::SeqCst);
            let (ticker, log) = (Arc::clone(&ticker), Arc::clone(&log));
            tokio::spawn(async move {
                #[allow(clippy::result_large_err, reason = "the library's type")]
                let note = |request: &Request, response: Response| {
                    let headers = request.headers().iter();
                    let headers = headers.map(|(name, value)| {
                        (name.to_string(), value.to_str().unwrap().to_owned())
                    });
                    ticker.headers.lock().unwrap().extend(headers);
                    Ok(response)
                };
                let Ok(socket) = accept_hdr_async(tcp, note).await else { return };
                ticker.serve(socket, &log).await;
            });
        }
    });
    format!("ws://{address}/?version=2")
}

/// Two symbols; times repeat and run backwards, volumes grow.
fn ticks(count: usize) -> Vec<PricingData> {
    (0..count)
        .map(|index| PricingData {
            id: if index % 3 == 0 { "GM" } else { "AAPL" }.to_owned(),
            price: 33.92 + (index % 7) as f32,
            time: 1_680_000_000_000 + (index as i64 / 5) * 10 - i64::from(index % 50 == 49) * 500,
            day_volume: index as i64,
            exchange: "NYQ".to_owned(),
            price_hint: 2,
            ..PricingData::default()
        })
        .collect()
}

fn yahoo(url: &str, more: &str) -> String {
    format!(
        r#"
        name = "stocks"
        type = "websocket"
        preset = "yahoo"
        url = "{url}"
        symbols = ["GM", "AAPL"]
        topic = "stocks"
        partitions = 2
        backoff = {{ min = "1ms", max = "20ms" }}
        {more}
    "#
    )
}

fn start(log: &Arc<FakeLog>, toml: &str) -> Sources {
    let client: Arc<dyn Client> = Arc::<FakeLog>::clone(log);
    Sources::start(vec![source(toml)], client, &Registry::new())
}

/// `dayVolume` numbers the ticks.
fn assert_each_once(log: &FakeLog, ticks: &[PricingData]) {
    let volume = |value: &String| -> usize {
        let document: serde_json::Value = serde_json::from_str(value).unwrap();
        document["dayVolume"].as_u64().unwrap().try_into().unwrap()
    };
    let mut found: Vec<usize> = log.values("stocks").iter().map(volume).collect();
    found.sort_unstable();
    assert!(found.iter().copied().eq(0..ticks.len()), "{} of {}", found.len(), ticks.len());
    for record in log.records("stocks") {
        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        let tick = &ticks[volume(&value)];
        assert_eq!(record.timestamp_ms, tick.time);
        assert_eq!(record.key.as_deref(), Some(tick.id.as_bytes()));
    }
}

#[tokio::test]
async fn every_tick_is_stored_once_though_the_socket_is_cut_and_the_process_starts_again() {
    for envelope in [false, true] {
        let log = Arc::new(FakeLog::default());
        let cuts = vec![950, 1, 100, 333, 99, 0, 101, 250];
        let ticker =
            Ticker { ticks: ticks(5000), cuts: cuts.into(), envelope, ..Ticker::default() };
        let ticker = Arc::new(ticker);
        let url = listen(Arc::clone(&ticker), Arc::clone(&log)).await;
        for stop_at in [700, 1500, 2900] {
            let sources = start(&log, &yahoo(&url, ""));
            until("some ticks", || log.count("stocks") >= stop_at).await;
            // A killed process keeps nothing but the log; a new source has to rebuild the rest.
            sources.stop().await;
        }
        let _sources = start(&log, &yahoo(&url, ""));
        let all = || ticker.arrived.load(Ordering::SeqCst) == 5000;
        until("all pongs", all).await;
        assert_each_once(&log, &ticker.ticks);
        assert!(
            !ticker.early_pong.load(Ordering::SeqCst),
            "a pong left before its frames were stored"
        );
        let subscriptions = ticker.subscriptions.lock().unwrap();
        assert!(subscriptions.iter().all(|text| text == r#"{"subscribe":["GM","AAPL"]}"#));
    }
}

#[tokio::test]
async fn a_pong_waits_for_a_slow_log_and_lost_replies_double_nothing() {
    let log = Arc::new(FakeLog::default());
    log.set_delay(Duration::from_millis(5));
    log.fail(&[Fault::LoseReply, Fault::None, Fault::Refuse, Fault::LoseReply, Fault::Panic]);
    let ticker = Ticker { ticks: ticks(1500), cuts: vec![450].into(), ..Ticker::default() };
    let ticker = Arc::new(ticker);
    let url = listen(Arc::clone(&ticker), Arc::clone(&log)).await;
    let _sources = start(&log, &yahoo(&url, ""));
    until("all pongs", || ticker.arrived.load(Ordering::SeqCst) == 1500).await;
    assert_each_once(&log, &ticker.ticks);
    assert!(!ticker.early_pong.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_killed_process_knows_from_the_log_what_it_had_though_no_pong_told() {
    let log = Arc::new(FakeLog::default());
    let all = ticks(600);
    // The second server is the first one, which never heard a pong.
    for count in [500, 600] {
        let ticker = Arc::new(Ticker { ticks: all[..count].to_vec(), ..Ticker::default() });
        let url = listen(Arc::clone(&ticker), Arc::clone(&log)).await;
        let sources = start(&log, &yahoo(&url, ""));
        until("all pongs", || ticker.arrived.load(Ordering::SeqCst) == count).await;
        sources.stop().await;
    }
    assert_each_once(&log, &all);
}

#[tokio::test]
async fn a_unit_holds_all_frames_between_two_pings() {
    let log = Arc::new(FakeLog::default());
    log.set_delay(Duration::from_millis(3));
    let ticker = Arc::new(Ticker { ticks: ticks(3000), ..Ticker::default() });
    let url = listen(Arc::clone(&ticker), Arc::clone(&log)).await;
    let _sources = start(&log, &yahoo(&url, ""));
    until("all pongs", || ticker.arrived.load(Ordering::SeqCst) == 3000).await;
    let units = log.units();
    // 30 pings; a batch that lingered too long may have been cut in two now and then.
    assert!(units.len() < 300, "{} units", units.len());
    assert!(units.iter().all(|records| *records <= FRAMES_PER_PING));
}

#[tokio::test]
async fn a_frame_that_is_no_quote_is_a_dead_letter_and_the_stream_goes_on() {
    let log = Arc::new(FakeLog::default());
    let mut odd = ticks(3);
    odd[1].time = 1_680_000_000; // Seconds where milliseconds belong.
    let ticker = Arc::new(Ticker { ticks: odd, ..Ticker::default() });
    let url = listen(Arc::clone(&ticker), Arc::clone(&log)).await;
    let sources = start(&log, &yahoo(&url, ""));
    until("all pongs", || ticker.arrived.load(Ordering::SeqCst) == 3 || log.count("stocks") == 2)
        .await;
    assert_eq!(log.count("stocks"), 2);
    let letters = log.records("stocks.dead-letter");
    assert_eq!(letters.len(), 1);
    let reason = Some(Bytes::from_static(b"time_range"));
    assert!(letters[0].headers.contains(&(Bytes::from_static(b"odradek.error.reason"), reason)));
    assert_eq!(sources.list()[0].errors, 1);
}

#[tokio::test]
async fn the_request_names_a_client_and_an_origin() {
    let log = Arc::new(FakeLog::default());
    let ticker = Arc::new(Ticker { ticks: ticks(1), ..Ticker::default() });
    let url = listen(Arc::clone(&ticker), Arc::clone(&log)).await;
    let _sources = start(&log, &yahoo(&url, "user_agent = \"x/1\""));
    until("a tick", || log.count("stocks") == 1).await;
    let headers = ticker.headers.lock().unwrap();
    assert_eq!(headers["user-agent"], "x/1");
    assert_eq!(headers["origin"], "https://finance.yahoo.com");
}

/// Answers as `script` says and counts what clients sent.
async fn scripted(
    script: fn(usize, WebSocketStream<TcpStream>) -> Script,
) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sockets = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sockets);
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let number = counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let Ok(socket) = tokio_tungstenite::accept_async(tcp).await else { return };
                script(number, socket).await;
            });
        }
    });
    (format!("ws://{address}/"), sockets)
}

type Script = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[tokio::test]
async fn a_clean_close_is_an_error_and_is_tried_again() {
    let (url, sockets) = scripted(|_, mut socket| {
        Box::pin(async move {
            socket.close(None).await.ok();
            while let Some(Ok(_)) = socket.next().await {}
        })
    })
    .await;
    let log = Arc::new(FakeLog::default());
    let sources = start(&log, &yahoo(&url, ""));
    until("a fourth socket", || sockets.load(Ordering::SeqCst) >= 4).await;
    assert!(sources.list()[0].reconnects >= 3);
}

#[tokio::test]
async fn silence_of_data_is_quiet_but_silence_of_everything_is_a_dead_socket() {
    // Reading answers pings; a socket that is not read never says anything.
    let (url, sockets) = scripted(|number, mut socket| {
        Box::pin(async move {
            if number == 0 {
                std::future::pending::<()>().await;
            }
            while let Some(Ok(_)) = socket.next().await {}
        })
    })
    .await;
    let log = Arc::new(FakeLog::default());
    let more = "quiet_after = \"100ms\"\nkeepalive = { ping = \"20ms\", idle_timeout = \"300ms\" }";
    let sources = run_until(&log, &yahoo(&url, more), SourceState::Quiet).await;
    until("a second socket", || sockets.load(Ordering::SeqCst) == 2).await;
    until("quiet again", || sources.list()[0].state == SourceState::Quiet).await;
    let reconnects = sources.list()[0].reconnects;
    assert_eq!(reconnects, 1, "{}", sources.list()[0].detail);
    // Ten pings later it is still the same socket.
    tokio::time::timeout(Duration::from_millis(700), async {
        until("never", || sockets.load(Ordering::SeqCst) > 2).await;
    })
    .await
    .unwrap_err();
}

#[tokio::test]
async fn many_symbols_are_spread_over_sockets_and_subscriptions_are_repeated() {
    static TEXTS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    let (url, sockets) = scripted(|_, mut socket| {
        Box::pin(async move {
            while let Some(Ok(message)) = socket.next().await {
                if let Message::Text(text) = message {
                    TEXTS.lock().unwrap().push(text.to_string());
                }
            }
        })
    })
    .await;
    let log = Arc::new(FakeLog::default());
    let more = "symbols_per_socket = 1\nkeepalive = { resend_on_open = \"30ms\" }";
    let _sources = start(&log, &yahoo(&url, more));
    let count = |text: &str| TEXTS.lock().unwrap().iter().filter(|sent| *sent == text).count();
    let all = || count(r#"{"subscribe":["GM"]}"#) >= 3 && count(r#"{"subscribe":["AAPL"]}"#) >= 3;
    until("repeated subscriptions", all).await;
    assert_eq!(sockets.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_socket_is_replaced_in_time_without_loss_or_repetition() {
    let (url, sockets) = scripted(|_, mut socket| {
        Box::pin(async move {
            // Every socket tells the same story, as a feed does that repeats the last quotes.
            for tick in ticks(20) {
                let text = STANDARD.encode(tick.encode_to_vec());
                if socket.send(Message::text(text)).await.is_err() {
                    return;
                }
            }
            while let Some(Ok(_)) = socket.next().await {}
        })
    })
    .await;
    let log = Arc::new(FakeLog::default());
    let sources = start(&log, &yahoo(&url, "recycle = \"50ms\""));
    until("a third socket", || sockets.load(Ordering::SeqCst) >= 3).await;
    assert_each_once(&log, &ticks(20));
    assert_eq!(sources.list()[0].reconnects, 0);
}

/// Kraken's v2 trade channel, as its documentation shows it, with nothing but configuration.
#[tokio::test]
async fn another_vendor_is_configuration_alone() {
    let (url, _) = scripted(|_, mut socket| {
        Box::pin(async move {
            let frames = [
                r#"{"channel":"status","data":[{"system":"online"}],"type":"update"}"#,
                r#"{"method":"subscribe","result":{"channel":"trade"},"success":true}"#,
                r#"{"channel":"trade","type":"update","data":[
                    {"symbol":"BTC/USD","price":0.5147,"trade_id":4665906,"timestamp":"2023-09-25T07:49:37.708706Z"},
                    {"symbol":"ETH/USD","price":1.5,"trade_id":4665907,"timestamp":"2023-09-25T07:49:38Z"}]}"#,
            ];
            for frame in frames {
                socket.send(Message::text(frame)).await.unwrap();
            }
            while let Some(Ok(_)) = socket.next().await {}
        })
    })
    .await;
    let toml = format!(
        r#"
        name = "btc"
        type = "websocket"
        url = "{url}"
        on_open = ['{{"method":"subscribe","params":{{"channel":"trade","symbol":["BTC/USD"]}}}}']
        decode = {{ codec = "json", where = "channel == 'trade'", explode = "data" }}
        time = {{ field = "timestamp", unit = "rfc3339" }}
        key = "{{symbol}}"
        dedup = ["trade_id"]
        topic = "crypto"
    "#
    );
    let log = Arc::new(FakeLog::default());
    let _sources = start(&log, &toml);
    until("two trades", || log.count("crypto") == 2).await;
    let records = log.records("crypto");
    assert_eq!(records[0].key.as_deref(), Some(&b"BTC/USD"[..]));
    assert_eq!(records[0].timestamp_ms, 1_695_628_177_708);
    assert!(log.values("crypto")[1].starts_with(r#"{"symbol":"ETH/USD","price":1.5,"#));
}

#[tokio::test]
async fn each_failure_to_connect_has_its_cause() {
    let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = web.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = web.accept().await {
            let answer = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut tcp, answer).await.ok();
            tokio::io::AsyncReadExt::read(&mut tcp, &mut [0; 1024]).await.ok();
        }
    });
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let cases = [
        (format!("ws://127.0.0.1:{port}/"), "http_status"),
        (format!("wss://127.0.0.1:{port}/"), "tls"),
        (format!("ws://127.0.0.1:{closed}/"), "connect"),
        ("ws://no-such-host.invalid/".to_owned(), "dns"),
    ];
    for (url, cause) in cases {
        let registry = Registry::new();
        let client: Arc<dyn Client> = Arc::new(FakeLog::default());
        let _sources = Sources::start(vec![source(&yahoo(&url, ""))], client, &registry);
        let counted = || {
            let families = registry.gather();
            let family = families.iter().find(|f| f.name() == "odradek_source_reconnects_total");
            family.is_some_and(|family| {
                let metrics = family.get_metric().iter();
                metrics.flat_map(|m| m.get_label()).any(|label| label.value() == cause)
            })
        };
        until(cause, counted).await;
    }
}
