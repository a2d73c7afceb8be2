//! Replays over a log in memory: what is stored, and what a crash does to it.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek_broker::client::{Client, StoredRecord};
use prometheus::Registry;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tempfile::TempDir;

use super::input::Input;
use super::position::Place;
use super::rows::Rows;
use crate::plan::{KindPlan, Plan};
use crate::testing::{FakeLog, Fault, run_until, source, until};
use crate::{SourceState, Sources};

const DEMO: &str = r#"
    name = "flights"
    type = "csv"
    path = "demo:flights"
    topic = "flights"
    partitions = 3
    key = "{carrier}"
    time = { template = "{year}-{month}-{day} {sched_dep_time:hhmm}", zone = "America/New_York" }
    backoff = { min = "1ms", max = "5ms" }
"#;

fn write(folder: &TempDir, name: &str, text: impl AsRef<[u8]>) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    toml_path(&path)
}

fn toml_path(path: &Path) -> String {
    serde_json::Value::from(path.to_str().unwrap()).to_string()
}

fn csv(path: &str, more: &str) -> String {
    format!("name = \"c\"\ntype = \"csv\"\ntopic = \"t\"\npath = {path}\n{more}")
}

async fn replay(log: &Arc<FakeLog>, toml: &str) -> Sources {
    run_until(log, toml, SourceState::Finished).await
}

fn header(record: &StoredRecord, name: &str) -> String {
    let found = record.headers.iter().find(|(key, _)| key == name.as_bytes());
    let value: Bytes = found.and_then(|(_, value)| value.clone()).unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

/// The counts of analytics-facts are pandas' over the whole file; the slice has its first ten days.
#[tokio::test]
async fn the_demo_flights_are_objects_of_strings_at_their_local_time() {
    let log = Arc::new(FakeLog::default());
    let sources = replay(&log, DEMO).await;
    let records = log.records("flights");
    assert_eq!(records.len(), 8832);
    let first = log.records("flights").into_iter().find(|r| r.timestamp_ms == 1_357_035_300_000);
    let first = first.unwrap();
    assert_eq!(first.key.as_deref(), Some(&b"UA"[..]));
    let value = String::from_utf8(first.value.unwrap().to_vec()).unwrap();
    assert!(
        value.starts_with(
            r#"{"year":"2013","month":"1","day":"1","dep_time":"517","sched_dep_time":"515","#
        ) && value.ends_with(r#""minute":"15","time_hour":"2013-01-01T10:00:00Z"}"#),
        "{value}"
    );
    let mut first_day = BTreeMap::new();
    // 2013-01-01 in New York.
    for record in
        records.iter().filter(|r| (1_357_016_400_000..1_357_102_800_000).contains(&r.timestamp_ms))
    {
        *first_day
            .entry(String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap())
            .or_insert(0) += 1;
    }
    let expected = [
        ("UA", 165),
        ("B6", 163),
        ("EV", 116),
        ("DL", 112),
        ("AA", 94),
        ("MQ", 78),
        ("US", 32),
        ("9E", 28),
        ("WN", 27),
        ("VX", 12),
        ("FL", 10),
        ("AS", 2),
        ("F9", 2),
        ("HA", 1),
    ];
    assert_eq!(first_day, expected.map(|(key, count)| (key.to_owned(), count)).into());
    assert!(sources.list()[0].detail.contains("8832"));
}

#[tokio::test]
async fn every_row_is_stored_once_through_kills_lost_replies_refusals_and_panics() {
    let whole = Arc::new(FakeLog::default());
    replay(&whole, DEMO).await;
    for seed in 0..5 {
        let mut random = StdRng::seed_from_u64(seed);
        let log = Arc::new(FakeLog::default());
        for _ in 0..4 {
            let faults: Vec<Fault> = (0..8)
                .map(|_| match random.random_range(0..6) {
                    0 => Fault::LoseReply,
                    1 => Fault::Refuse,
                    2 => Fault::Panic,
                    _ => Fault::None,
                })
                .collect();
            log.fail(&faults);
            log.set_delay(Duration::from_millis(random.random_range(0..3)));
            let before = log.count("flights");
            let client: Arc<dyn Client> = Arc::<FakeLog>::clone(&log);
            let sources = Sources::start(vec![source(DEMO)], client, &Registry::new());
            let more = random.random_range(0..3000);
            until("some rows", || log.count("flights") >= (before + more).min(8832)).await;
            sources.stop().await;
        }
        log.fail(&[]);
        replay(&log, DEMO).await;
        assert_eq!(log.values("flights"), whole.values("flights"), "seed {seed}");
    }
}

#[tokio::test]
async fn arrays_hold_so_many_rows_with_ts_and_a_restart_cuts_none_of_them() {
    let toml = r#"
        name = "a"
        type = "csv"
        path = "demo:flights"
        topic = "t"
        shape = "array"
        rows_per_record = 7
        inject_ts = true
        backoff = { min = "1ms", max = "5ms" }
    "#;
    let log = Arc::new(FakeLog::default());
    log.fail(&[Fault::LoseReply, Fault::Panic, Fault::None, Fault::Refuse]);
    replay(&log, toml).await;
    let arrays: Vec<Vec<BTreeMap<String, serde_json::Value>>> =
        log.values("t").iter().map(|value| serde_json::from_str(value).unwrap()).collect();
    assert_eq!(arrays.len(), 8832_usize.div_ceil(7));
    let (last, full) = arrays.split_last().unwrap();
    assert!(full.iter().all(|array| array.len() == 7));
    assert_eq!(last.len(), 8832 % 7);
    assert!(arrays.iter().flatten().all(|row| row["ts"].as_i64().unwrap() > 1_700_000_000));
    assert!(arrays.iter().flatten().all(|row| row["carrier"].is_string() && row.len() == 20));
    let tail_numbers = arrays.iter().flatten().map(|row| row["tailnum"].clone());
    let plain = Arc::new(FakeLog::default());
    replay(&plain, DEMO.replace("partitions = 3", "").as_str()).await;
    let expected = plain
        .values("flights")
        .into_iter()
        .map(|value| serde_json::from_str::<serde_json::Value>(&value).unwrap()["tailnum"].clone());
    assert!(tail_numbers.eq(expected));
}

#[tokio::test]
async fn rows_that_cannot_be_decoded_are_dead_letters_with_reason_and_line() {
    let folder = TempDir::new().unwrap();
    let text = b"when,who\r\n2013-01-01 10:00,a\r\n2013-13-01 10:00,b\r\n\r\nx\r\n\
        1850-01-01 10:00,c\r\n2013-01-01 11:00,\xff\r\n2013-01-01 12:00,\"q\"\"\n\"\r\n\
        2013-01-01 13:00,z\r\n";
    let path = write(&folder, "a.csv", text);
    let log = Arc::new(FakeLog::default());
    let toml = csv(&path, "time = { template = \"{when}\" }\nkey = \"{who}\"");
    let sources = replay(&log, &toml).await;
    assert_eq!(
        log.values("t"),
        [
            r#"{"when":"2013-01-01 10:00","who":"a"}"#,
            r#"{"when":"2013-01-01 12:00","who":"q\"\n"}"#,
            r#"{"when":"2013-01-01 13:00","who":"z"}"#
        ]
    );
    let letters = log.records("t.dead-letter");
    let found: Vec<_> = letters
        .iter()
        .map(|letter| {
            assert_eq!(header(letter, "odradek.error.source"), "c");
            let value = String::from_utf8_lossy(letter.value.as_ref().unwrap()).into_owned();
            let reason = header(letter, "odradek.error.reason");
            (reason, header(letter, "odradek.error.line").parse().unwrap(), value)
        })
        .collect();
    let expected = [
        ("time", 3, "2013-13-01 10:00,b"),
        ("csv", 5, "x"),
        ("time_range", 6, "1850-01-01 10:00,c"),
        ("utf8", 7, "2013-01-01 11:00,\u{fffd}"),
    ];
    let expected =
        expected.map(|(reason, line, value)| (reason.to_owned(), line, value.to_owned()));
    assert_eq!(found, expected);
    let status = &sources.list()[0];
    assert_eq!((status.errors, status.dead_letters, status.records), (4, 4, 3));
}

#[tokio::test]
async fn on_error_stop_keeps_what_came_before_and_names_the_line() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "a.csv", "n\n1\n2\n3,3\n4\n");
    let log = Arc::new(FakeLog::default());
    let sources = run_until(&log, &csv(&path, "on_error = \"stop\""), SourceState::Failed).await;
    assert_eq!(log.values("t"), [r#"{"n":"1"}"#, r#"{"n":"2"}"#]);
    assert!(sources.list()[0].detail.contains("line 4"), "{}", sources.list()[0].detail);
    let skipped = Arc::new(FakeLog::default());
    replay(&skipped, &csv(&path, "on_error = \"skip\"")).await;
    assert_eq!(skipped.count("t"), 3);
    assert_eq!(skipped.count("t.dead-letter"), 0);
}

#[tokio::test]
async fn columns_are_renamed_and_typed_and_a_header_can_be_given() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "a.csv", "\u{feff}1;007;-2.50;;true;x\n");
    let log = Arc::new(FakeLog::default());
    let more = r#"
        delimiter = ";"
        header = ["a", "b", "c", "d", "e", "f"]
        types = "auto"
        rename = { f = "AIRLINE" }
        key = "k-{AIRLINE}"
    "#;
    replay(&log, &csv(&path, more)).await;
    assert_eq!(log.values("t"), [r#"{"a":1,"b":"007","c":-2.50,"d":null,"e":true,"AIRLINE":"x"}"#]);
    assert_eq!(log.records("t")[0].key.as_deref(), Some(&b"k-x"[..]));
}

#[tokio::test]
async fn a_column_that_is_not_there_fails_with_the_columns_that_are() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "a.csv", "n,m\n1,2\n");
    for more in ["key = \"{x}\"", "rename = { x = \"y\" }", "time = { template = \"{x}\" }"] {
        let log = Arc::new(FakeLog::default());
        let sources = run_until(&log, &csv(&path, more), SourceState::Failed).await;
        let detail = &sources.list()[0].detail;
        assert!(detail.contains("\"x\"; the file has n, m"), "{detail}");
    }
}

#[tokio::test]
async fn a_file_that_grew_goes_on_and_another_file_begins_anew() {
    let folder = TempDir::new().unwrap();
    for name in ["a.csv", "a.csv.gz"] {
        let pack = |text: &str| {
            if name.ends_with(".gz") {
                // Whole members follow each other, as `cat a.gz b.gz` makes them.
                let members = text.split_inclusive("end\n").map(|member| {
                    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                    gzip.write_all(member.as_bytes()).unwrap();
                    gzip.finish().unwrap()
                });
                members.collect::<Vec<_>>().concat()
            } else {
                text.as_bytes().to_vec()
            }
        };
        let log = Arc::new(FakeLog::default());
        let path = write(&folder, name, pack("n\n1\nend\n"));
        replay(&log, &csv(&path, "")).await;
        write(&folder, name, pack("n\n1\nend\n2\nend\n"));
        replay(&log, &csv(&path, "")).await.stop().await;
        let grown = [r#"{"n":"1"}"#, r#"{"n":"end"}"#, r#"{"n":"2"}"#, r#"{"n":"end"}"#];
        assert_eq!(log.values("t"), grown, "{name}");
        write(&folder, name, pack("n\n9\n"));
        replay(&log, &csv(&path, "")).await;
        assert_eq!(log.values("t")[4..], [r#"{"n":"9"}"#], "{name}");
    }
}

#[tokio::test]
async fn a_quotation_mark_that_is_never_closed_ends_in_an_error_not_in_memory() {
    let folder = TempDir::new().unwrap();
    let mut text = "n\n1\n\"".to_owned();
    text.push_str(&"x\n".repeat(6 << 20));
    let path = write(&folder, "a.csv", text);
    let log = Arc::new(FakeLog::default());
    let sources = run_until(&log, &csv(&path, ""), SourceState::BackingOff).await;
    assert!(sources.list()[0].detail.contains("never closed"), "{}", sources.list()[0].detail);
}

#[tokio::test]
async fn a_missing_file_is_waited_for() {
    let folder = TempDir::new().unwrap();
    let path = toml_path(&folder.path().join("a.csv"));
    let log = Arc::new(FakeLog::default());
    let toml = csv(&path, "backoff = { min = \"1ms\", max = \"5ms\" }");
    let sources = run_until(&log, &toml, SourceState::BackingOff).await;
    write(&folder, "a.csv", "n\n1\n");
    until("the file", || log.count("t") == 1).await;
    assert!(sources.list()[0].reconnects > 0);
}

#[tokio::test]
async fn a_loop_begins_again_and_counts_its_passes() {
    let folder = TempDir::new().unwrap();
    let path = write(&folder, "a.csv", "n\n1\n2\n");
    let log = Arc::new(FakeLog::default());
    let sources = run_until(&log, &csv(&path, "loop = true"), SourceState::Running).await;
    until("three passes", || log.count("t") >= 6).await;
    sources.stop().await;
    let values = log.values("t");
    assert!(values.chunks_exact(2).all(|pass| pass == [r#"{"n":"1"}"#, r#"{"n":"2"}"#]));
    let empty = write(&folder, "b.csv", "n\n");
    replay(&Arc::new(FakeLog::default()), &csv(&empty, "loop = true")).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_is_held_and_event_time_is_compressed() {
    let folder = TempDir::new().unwrap();
    let rows: String = (0..100).map(|n| format!("{}\n", 1_600_000_000 + n * 60)).collect();
    let path = write(&folder, "a.csv", format!("t\n{rows}"));
    let time = "time = { field = \"t\", unit = \"s\" }";
    for (pace, seconds) in [("50/s", 1.98), ("event_time×600", 9.9), ("max", 0.0)] {
        let log = Arc::new(FakeLog::default());
        let begun = tokio::time::Instant::now();
        replay(&log, &csv(&path, &format!("pace = \"{pace}\"\n{time}"))).await;
        let took = begun.elapsed().as_secs_f64();
        assert!((took - seconds).abs() < 0.1, "{pace}: {took}");
        assert_eq!(log.count("t"), 100);
    }
}

#[tokio::test]
async fn pause_keeps_the_place_and_resume_goes_on() {
    let log = Arc::new(FakeLog::default());
    log.set_delay(Duration::from_millis(2));
    let client: Arc<dyn Client> = Arc::<FakeLog>::clone(&log);
    let sources = Sources::start(vec![source(DEMO)], client, &Registry::new());
    for _ in 0..3 {
        let before = log.count("flights");
        until("progress", || log.count("flights") > before).await;
        sources.pause("flights").unwrap();
        until("paused", || sources.list()[0].state == SourceState::Paused).await;
        sources.restart("flights").unwrap();
        sources.resume("flights").unwrap();
    }
    until("the end", || sources.list()[0].state == SourceState::Finished).await;
    assert_eq!(log.count("flights"), 8832);
    assert!(sources.pause("nobody").is_err());
}

/// Every place between two rows is as good a beginning as the file's own.
#[test]
fn reading_on_from_any_place_gives_the_rows_and_lines_of_reading_through() {
    let folder = TempDir::new().unwrap();
    let texts = [
        "a,b\n1,2\n3,4\n5\n6,7",
        "a,b\r\n1,2\r\n\r\n\"3\r\nx\",\"4\"\"\"\r\nbad\r\n6,7\r\n",
        "\u{feff}a,b\n\n\"1\n\n2\",\n\nbad\n\"x,y\",z\n\n",
    ];
    for (number, text) in texts.iter().enumerate() {
        for compressed in [false, true] {
            let mut bytes = text.as_bytes().to_vec();
            if compressed {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
                gzip.write_all(&bytes).unwrap();
                bytes = gzip.finish().unwrap();
            }
            let name = format!("{number}.csv{}", if compressed { ".gz" } else { "" });
            let path = write(&folder, &name, &bytes);
            let plan = Plan::of(&source(&csv(&path, ""))).unwrap();
            let whole = read(&plan, None);
            assert!(whole.len() >= 3);
            for (index, (_, place)) in whole.iter().enumerate() {
                assert_eq!(
                    read(&plan, Some(*place)),
                    whole[index + 1..],
                    "{name} after row {index}"
                );
            }
        }
    }
}

/// Each row as text, a refused one with its line, and the place after it.
fn read(plan: &Plan, place: Option<Place>) -> Vec<(String, Place)> {
    let KindPlan::Csv(csv) = &plan.kind else { panic!("a csv source") };
    let input = Input::of(&csv.path).unwrap();
    let mut rows = Rows::open(plan, csv, input, place).unwrap();
    let mut found = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        let text = match row.content {
            Ok(content) => String::from_utf8(content.object).unwrap(),
            Err(refused) => format!("line {}: {}", refused.line, refused.detail),
        };
        found.push((text, row.after));
    }
    found
}
