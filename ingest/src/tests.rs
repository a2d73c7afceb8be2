//! Configuration, supervision and the synthetic ticker.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use odradek_broker::client::{Client, TopicRecords};
use prometheus::{Encoder, Registry, TextEncoder};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq, prop_assume, proptest};
use prost::Message;
use serde_json::Value;

use crate::clock::Clock;
use crate::config::{Floats, Format, TimeUnit};
use crate::event_time::TimePlan;
use crate::feed::decode::Decoder;
use crate::feed::filter::Filter;
use crate::feed::pricing::PricingData;
use crate::template::Template;
use crate::testing::{FakeLog, Fault, run_until, source, until};
use crate::{SourceConfig, SourceState, Sources, validate};

const YAHOO: &str = r#"
    name = "stocks"
    type = "websocket"
    preset = "yahoo"
    symbols = ["GM", "AAPL", "BTC-USD"]
    topic = "stocks"
    key = "{id}"
    format = "yliveticker"
"#;

const SYNTHETIC: &str = r#"
    name = "demo"
    type = "synthetic"
    topic = "stocks"
    symbols = ["GM", "AAPL"]
    history = "10m"
"#;

fn problems(toml: &str) -> String {
    let problems = validate(&[source(toml)]);
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn the_examples_of_the_documentation_are_valid() {
    assert_eq!(problems(YAHOO), "");
    assert_eq!(problems(SYNTHETIC), "");
    let readme = include_str!("../README.md");
    let examples: Vec<&str> =
        readme.split("```toml").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(!examples.is_empty());
    for example in examples {
        let file: std::collections::BTreeMap<String, Vec<SourceConfig>> =
            toml::from_str(example).unwrap_or_else(|error| panic!("{error}\n{example}"));
        assert_eq!(validate(&file["source"]), [], "{example}");
    }
}

#[test]
fn a_misspelt_key_is_refused_with_its_line() {
    let misspelt = "name = \"a\"\ntype = \"csv\"\ntopic = \"t\"\npaht = \"x\"\n";
    let error = toml::from_str::<SourceConfig>(misspelt).unwrap_err();
    let line = misspelt[..error.span().unwrap().start].matches('\n').count() + 1;
    assert_eq!(line, 4);
    assert!(error.message().contains("unknown field `paht`"), "{error}");
}

#[test]
fn every_problem_is_found_at_once_and_says_what_to_write() {
    let toml = r#"
        name = "a b"
        type = "csv"
        topic = "ä"
        url = "wss://x"
        pace = "quick"
        partitions = 0
        shape = "array"
        key = "{x"
        time = { field = "t" }
        backoff = { min = "9s", max = "1s" }
        path = "x.csv"
    "#;
    let found = problems(toml);
    for key in ["name", "topic", "url", "pace", "partitions", "key", "time.unit", "backoff"] {
        assert!(found.contains(&format!("source \"a b\": {key}: ")), "{key}\n{found}");
    }
    assert!(problems("name = \"a\"\ntype = \"csv\"\ntopic = \"t\"").contains("path: is missing"));
    let no_url = problems("name = \"a\"\ntype = \"websocket\"\ntopic = \"t\"");
    assert!(no_url.contains("url: is missing") && no_url.contains("decode: is missing"));
    let no_symbols = YAHOO.replace("symbols = [\"GM\", \"AAPL\", \"BTC-USD\"]", "");
    assert!(problems(&no_symbols).contains("symbols: is missing"));
    assert!(problems(&format!("{YAHOO}compat = \"0.4\"")).contains("compat"));
    let mqtt = r#"
        name = "a"
        type = "mqtt"
        preset = "yahoo"
        topic = "t"
        url = "mqtt://me:hunter2@localhost"
        topics = ["a/#/b"]
        topic_fields = "a/b"
        qos = 2
        persistent_session = true
        password_file = "x"
        password_env = "Y"
        on_open = ["{}"]
    "#;
    let found = problems(mqtt);
    let keys =
        ["preset", "url", "topics", "topic_fields", "qos", "client_id", "password_env", "on_open"];
    for key in keys {
        assert!(found.contains(&format!("source \"a\": {key}: ")), "{key}\n{found}");
    }
    assert!(!found.contains("hunter2"), "{found}");
    let twice = [source(YAHOO), source(YAHOO)];
    assert!(validate(&twice)[0].to_string().contains("another source"));
}

#[cfg(unix)]
#[test]
fn a_password_file_that_others_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "secret").unwrap();
    let toml = format!(
        "name = 'a'\ntype = 'mqtt'\ntopic = 't'\nurl = 'mqtt://localhost'\ntopics = ['#']\n\
         user = 'u'\npassword_file = '{}'",
        file.display()
    );
    let config = source(&toml);
    assert_eq!(validate(std::slice::from_ref(&config)), []);
    for (mode, count) in [(0o640, 0), (0o644, 1)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let warnings = crate::warnings(std::slice::from_ref(&config));
        assert_eq!(warnings.len(), count, "{warnings:?}");
        assert!(warnings.iter().all(|warning| !warning.contains("secret")), "{warnings:?}");
    }
}

#[tokio::test]
async fn a_source_with_problems_is_listed_as_failed() {
    let log = Arc::new(FakeLog::default());
    let toml = "name = \"a\"\ntype = \"csv\"\ntopic = \"t\"";
    let sources = run_until(&log, toml, SourceState::Failed).await;
    assert!(sources.list()[0].detail.contains("path: is missing"));
}

#[tokio::test]
async fn a_disabled_source_waits_to_be_resumed() {
    let log = Arc::new(FakeLog::default());
    let toml = format!("{SYNTHETIC}enabled = false");
    let sources = run_until(&log, &toml, SourceState::Paused).await;
    assert_eq!(log.count("stocks"), 0);
    sources.resume("demo").unwrap();
    until("ticks", || log.count("stocks") > 0).await;
}

#[tokio::test(start_paused = true)]
async fn failures_are_spaced_out_up_to_a_minute_and_a_panic_is_one_of_them() {
    let log = Arc::new(FakeLog::default());
    log.fail(&[[Fault::Refuse; 30].as_slice(), &[Fault::Panic]].concat());
    let client: Arc<dyn Client> = Arc::<FakeLog>::clone(&log);
    let sources = Sources::start(vec![source(SYNTHETIC)], client, &Registry::new());
    let begun = tokio::time::Instant::now();
    while log.count("stocks") == 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(begun.elapsed() < Duration::from_secs(31 * 60));
    }
    let took = begun.elapsed();
    // 31 waits, 25 of them uniform in 0 to 60 s: 800 s, give or take.
    assert!(took > Duration::from_secs(300) && took < Duration::from_secs(1300), "{took:?}");
    assert_eq!(sources.list()[0].reconnects, 31);
    assert_eq!(sources.list()[0].state, SourceState::Running);
}

#[tokio::test(start_paused = true)]
async fn the_synthetic_ticker_says_so_fills_the_past_once_and_goes_on_after_a_restart() {
    let log = Arc::new(FakeLog::default());
    let start = |log: &Arc<FakeLog>, epoch_ms| {
        let client: Arc<dyn Client> = Arc::<FakeLog>::clone(log);
        let (configs, registry) = (vec![source(SYNTHETIC)], Registry::new());
        Sources::start_with(configs, client, &registry, Clock::tokio_from(epoch_ms))
    };
    let now_ms = 1_800_000_000_000;
    let sources = start(&log, now_ms);
    until("the past", || log.count("stocks") >= 1200).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    sources.stop().await;
    let before = log.records("stocks");
    assert!((1318..=1324).contains(&before.len()), "{}", before.len());
    assert_eq!(before[0].timestamp_ms, now_ms - 600_000);
    assert!(before.is_sorted_by_key(|record| record.timestamp_ms));
    for value in log.values("stocks") {
        let tick: Value = serde_json::from_str(&value).unwrap();
        assert_eq!(tick["exchange"], "SYNTHETIC");
        assert_eq!(tick.as_object().unwrap().len(), 13);
        let (low, price, high) = (&tick["dayLow"], &tick["price"], &tick["dayHigh"]);
        assert!(low.as_f64() <= price.as_f64() && price.as_f64() <= high.as_f64());
    }
    let again = start(&log, now_ms + 3_600_000);
    until("more", || log.count("stocks") > before.len() + 10).await;
    again.stop().await;
    let after = &log.records("stocks")[before.len()..];
    assert!(after[0].timestamp_ms >= now_ms + 3_600_000, "the gap stays empty");
    let price = |value: &str| serde_json::from_str::<Value>(value).unwrap()["price"].as_f64();
    let values = log.values("stocks");
    let of_gm = |values: &[String]| -> Vec<f64> {
        values.iter().filter(|v| v.contains("\"GM\"")).filter_map(|v| price(v)).collect()
    };
    let (old, new) = (of_gm(&values[..before.len()]), of_gm(&values[before.len()..]));
    assert!((old.last().unwrap() / new[0] - 1.0).abs() < 0.01, "the walk goes on");

    let twin = Arc::new(FakeLog::default());
    let sources = start(&twin, now_ms);
    until("the past", || twin.count("stocks") >= 1200).await;
    sources.stop().await;
    assert_eq!(twin.values("stocks")[..1200], values[..1200], "the seed decides everything");
}

#[tokio::test]
async fn a_topic_with_records_gets_no_history() {
    let log = Arc::new(FakeLog::default());
    let record = odradek_broker::client::Record::default();
    let topic = "stocks".to_owned();
    log.produce(TopicRecords { topic, partition: None, records: vec![record] }).await.unwrap();
    let sources = run_until(&log, SYNTHETIC, SourceState::Running).await;
    until("a tick", || log.count("stocks") > 1).await;
    sources.stop().await;
    assert!(log.count("stocks") < 1000);
}

#[tokio::test]
async fn metrics_tell_what_the_status_tells() {
    let log = Arc::new(FakeLog::default());
    let registry = Registry::new();
    let client: Arc<dyn Client> = Arc::<FakeLog>::clone(&log);
    let toml = "name = \"f\"\ntype = \"csv\"\ntopic = \"t\"\npath = \"demo:flights\"";
    let sources = Sources::start(vec![source(toml)], client, &registry);
    until("the end", || sources.list()[0].state == SourceState::Finished).await;
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let status = &sources.list()[0];
    for line in [
        "odradek_source_records_total{source=\"f\"} 8832".to_owned(),
        format!("odradek_source_bytes_total{{source=\"f\"}} {}", status.bytes),
        "odradek_source_state{source=\"f\",state=\"finished\"} 1".to_owned(),
        "odradek_source_state{source=\"f\",state=\"running\"} 0".to_owned(),
        "odradek_source_last_record_age_seconds{source=\"f\"} ".to_owned(),
    ] {
        assert!(text.contains(&line), "{line}\n{text}");
    }
    assert!(status.last_record_age_ms.is_some());
    let json = serde_json::to_value(status).unwrap();
    assert_eq!((&json["type"], &json["state"]), (&"csv".into(), &"finished".into()));
}

proptest! {
    /// Frames and fields come from strangers: any of them may be refused, none may do harm.
    #[test]
    fn no_input_makes_a_parser_panic(bytes in vec(any::<u8>(), 0..200), text in ".{0,40}") {
        let decoders = [
            Decoder::Yahoo { format: Format::Full, ten_keys: false, floats: Floats::Shortest },
            Decoder::Json { filter: Filter::parse("a == 1").ok(), explode: Some("data".into()) },
        ];
        let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes);
        for decoder in decoders {
            decoder.decode(&bytes).ok();
            decoder.decode(base64.as_bytes()).ok();
            decoder.decode(format!("{{\"message\":\"{base64}\"}}").as_bytes()).ok();
        }
        Filter::parse(&text).ok();
        Template::parse(&text).ok();
        text.parse::<crate::span::Span>().ok();
        text.parse::<crate::csv::pace::Pace>().ok();
        let template = Template::parse("{x}").unwrap();
        let local = TimePlan::Local { template, zone: jiff::tz::TimeZone::UTC };
        local.event_time_ms(0, |_| Some(text.as_str().into())).ok();
        for unit in [TimeUnit::S, TimeUnit::Ms, TimeUnit::Us, TimeUnit::Ns, TimeUnit::Rfc3339] {
            let field = TimePlan::Field { field: "x".into(), unit };
            field.event_time_ms(0, |_| Some(text.as_str().into())).ok();
        }
    }

    #[test]
    fn every_quote_comes_back_as_it_was_sent(
        id in "[A-Z]{1,6}", price in any::<f32>(), time in any::<i64>(), day_volume in any::<i64>(),
    ) {
        prop_assume!(price.is_finite());
        let quote = PricingData { id, price, time, day_volume, ..PricingData::default() };
        let frame = base64::engine::general_purpose::STANDARD.encode(quote.encode_to_vec());
        for floats in [Floats::Widened, Floats::Shortest] {
            let decoder = Decoder::Yahoo { format: Format::Yliveticker, ten_keys: false, floats };
            let documents = decoder.decode(frame.as_bytes()).unwrap();
            let text = serde_json::to_string(&documents[0]).unwrap();
            let read: Value = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read["id"].as_str(), Some(quote.id.as_str()));
            prop_assert_eq!(read["price"].as_f64().unwrap() as f32, price);
            prop_assert_eq!(read["timestamp"].as_i64(), Some(time));
            prop_assert_eq!(read["dayVolume"].as_i64(), Some(day_volume));
        }
    }
}
