//! Windows over the fake client: the whole path from input records to the output topic.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;
use crate::Analytics;
use crate::config::{Config, Span};
use crate::fake::{Fake, eventually};

const GROUP: &str = "odradek.bars";

fn config(watermark_ms: i64, lateness_ms: i64, idle_ms: i64) -> Config {
    let text = r#"
        name = "bars"
        input = "stocks"
        output = "bars"
        volume = "dayVolume"
        volume_kind = "cumulative"
    "#;
    let mut window: WindowConfig = toml::from_str(text).unwrap();
    window.watermark = Span::from_ms(watermark_ms);
    window.lateness = Span::from_ms(lateness_ms);
    window.idle = Span::from_ms(idle_ms);
    Config { window: vec![window], ..Config::default() }
}

fn tick(symbol: &str, time_ms: i64, price: f64, day_volume: i64) -> Record {
    let value = json!({ "id": symbol, "price": price, "dayVolume": day_volume }).to_string();
    Record {
        timestamp_ms: time_ms,
        key: Some(Bytes::from(symbol.to_owned())),
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}

fn start(config: &Config, fake: &Fake) -> Analytics {
    Analytics::start(config.clone(), fake.next_life(), &prometheus::Registry::new()).unwrap()
}

/// The last value of each (symbol, start), and whether any (symbol, start) was written as final
/// more than once with the same content.
fn last_bars(fake: &Fake) -> BTreeMap<(String, i64), Value> {
    let mut bars = BTreeMap::new();
    for bar in fake.values("bars") {
        let key = (bar["symbol"].as_str().unwrap().to_owned(), bar["start"].as_i64().unwrap());
        bars.insert(key, bar);
    }
    bars
}

#[tokio::test]
async fn a_bar_is_written_once_when_the_watermark_passes_its_end() {
    let fake = Fake::with_topic("stocks", 1);
    let config = config(2_000, 60_000, 3_600_000);
    let analytics = start(&config, &fake);
    let minute = 60_000;
    fake.push(
        "stocks",
        0,
        vec![
            tick("ES", 1_000, 10.0, 100),
            tick("ES", 2_000, 12.0, 130),
            tick("ES", 59_999, 11.0, 150),
            tick("ES", minute + 1_999, 13.0, 160), // the watermark is 1 ms short
        ],
    );
    eventually("offsets committed", || fake.caught_up(GROUP, "stocks")).await;
    assert_eq!(fake.values("bars").len(), 0);
    fake.push("stocks", 0, vec![tick("ES", minute + 2_000, 13.0, 160)]);
    eventually("a bar", || !fake.values("bars").is_empty()).await;
    let expected = json!({
        "symbol": "ES", "start": 0, "end": 60_000, "open": 10.0, "high": 12.0, "low": 10.0,
        "close": 11.0, "volume": 50, "ticks": 3, "final": true
    });
    assert_eq!(fake.values("bars"), vec![expected]);
    assert_eq!(fake.records("bars")[0].timestamp_ms, 0);
    assert_eq!(analytics.status()[0].emitted, 1);
    analytics.stop().await;
}

#[tokio::test]
async fn a_late_row_corrects_its_bar_within_the_lateness_and_is_dropped_and_counted_after_it() {
    let fake = Fake::with_topic("stocks", 1);
    let config = config(0, 60_000, 3_600_000);
    let analytics = start(&config, &fake);
    fake.push("stocks", 0, vec![tick("ES", 1_000, 10.0, 1), tick("ES", 61_000, 11.0, 2)]);
    eventually("the bar", || fake.values("bars").len() == 1).await;
    fake.push("stocks", 0, vec![tick("ES", 30_000, 20.0, 1)]);
    eventually("its correction", || fake.values("bars").len() == 2).await;
    let corrected = &fake.values("bars")[1];
    assert_eq!((&corrected["high"], &corrected["close"]), (&json!(20.0), &json!(20.0)));
    assert_eq!(corrected["final"], json!(true));
    // The next event takes the watermark to the end of the lateness.
    fake.push("stocks", 0, vec![tick("ES", 120_000, 11.0, 3), tick("ES", 31_000, 99.0, 1)]);
    eventually("both read", || fake.caught_up(GROUP, "stocks")).await;
    assert_eq!(analytics.status()[0].late, 1);
    assert_eq!(last_bars(&fake)[&("ES".to_owned(), 0)]["high"], json!(20.0));
    analytics.stop().await;
}

#[tokio::test]
async fn when_the_input_falls_silent_the_open_bar_is_written_as_not_final_and_again_when_it_closes()
{
    let fake = Fake::with_topic("stocks", 1);
    let config = config(0, 60_000, 30);
    let analytics = start(&config, &fake);
    fake.push("stocks", 0, vec![tick("ES", 1_000, 10.0, 1)]);
    eventually("a bar that is not final", || fake.values("bars").len() == 1).await;
    assert_eq!(fake.values("bars")[0]["final"], json!(false));
    fake.push("stocks", 0, vec![tick("ES", 61_000, 11.0, 2)]);
    eventually("the final one and the next open one", || fake.values("bars").len() == 3).await;
    assert_eq!(fake.values("bars")[1]["final"], json!(true));
    assert_eq!(fake.values("bars")[2]["start"], json!(60_000));
    analytics.stop().await;
}

/// Out-of-order ticks of several symbols over two partitions.
fn stream() -> [Vec<Record>; 2] {
    let mut state = 42_u64;
    let mut random = move |bound: u64| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    [0, 1].map(|partition| {
        (0..6_000)
            .map(|index: i64| {
                let symbol = format!("S{}{partition}", random(3));
                let jitter = i64::try_from(random(40_000)).unwrap();
                let price = 100.0 + random(1_000) as f64 * 0.25;
                tick(&symbol, 1_000_000 + index * 300 - jitter, price, index * 10)
            })
            .collect()
    })
}

/// Plain recomputation of open, high, low, close and ticks from all rows.
fn expected_bars(records: &[Vec<Record>; 2]) -> BTreeMap<(String, i64), (Vec<f64>, u64)> {
    type Ticks = Vec<(i64, usize, f64)>;
    let mut ticks: BTreeMap<(String, i64), Ticks> = BTreeMap::new();
    for record in records.iter().flatten() {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let symbol = value["id"].as_str().unwrap().to_owned();
        let bars = ticks.entry((symbol, record.timestamp_ms.div_euclid(60_000) * 60_000));
        let bar = bars.or_default();
        bar.push((record.timestamp_ms, bar.len(), value["price"].as_f64().unwrap()));
    }
    ticks
        .into_iter()
        .map(|(key, mut ticks)| {
            ticks.sort_by_key(|(time, order, _)| (*time, *order));
            let prices: Vec<f64> = ticks.iter().map(|t| t.2).collect();
            let high = prices.iter().copied().fold(f64::MIN, f64::max);
            let low = prices.iter().copied().fold(f64::MAX, f64::min);
            let bar = vec![prices[0], high, low, prices[prices.len() - 1]];
            (key, (bar, ticks.len() as u64))
        })
        .collect()
}

fn ohlc(bar: &Value) -> (Vec<f64>, u64) {
    let prices = ["open", "high", "low", "close"].map(|f| bar[f].as_f64().unwrap());
    (prices.to_vec(), bar["ticks"].as_u64().unwrap())
}

async fn run_stream(fail_every: usize, restarts: usize) -> BTreeMap<(String, i64), Value> {
    let fake = Fake::with_topic("stocks", 2);
    fake.fetch_records_max(97);
    fake.fail_every(fail_every);
    let config = config(1_000, 60_000, 50);
    let stream = stream();
    let mut analytics = start(&config, &fake);
    for part in 0..=restarts {
        for (partition, records) in stream.iter().enumerate() {
            let length = records.len() / (restarts + 1);
            let chunk = records[part * length..(part + 1) * length].to_vec();
            fake.push("stocks", partition, chunk);
        }
        if part < restarts {
            // Somewhere in the middle of the chunk: dropped, not stopped.
            let commits = fake.commits();
            eventually("a commit", || fake.commits() > commits).await;
            drop(analytics);
            analytics = start(&config, &fake);
        }
    }
    let expected = expected_bars(&stream).len();
    eventually("all is read and every bar is written", || {
        fake.caught_up(GROUP, "stocks") && last_bars(&fake).len() == expected
    })
    .await;
    analytics.stop().await;
    last_bars(&fake)
}

#[tokio::test]
async fn bars_of_out_of_order_ticks_are_those_of_a_plain_recomputation() {
    let bars = run_stream(0, 0).await;
    let bars: BTreeMap<_, _> = bars.iter().map(|(key, bar)| (key.clone(), ohlc(bar))).collect();
    assert_eq!(bars, expected_bars(&stream()));
}

#[tokio::test]
async fn restarts_and_broken_commits_change_no_bar() {
    let uninterrupted = run_stream(0, 0).await;
    let interrupted = run_stream(3, 5).await;
    // Volumes too: they depend on the order of arrival, which the log keeps.
    assert_eq!(interrupted, uninterrupted);
}

#[tokio::test]
async fn records_that_retention_took_are_counted_as_a_gap_and_reading_goes_on() {
    let fake = Fake::with_topic("stocks", 1);
    let config = config(0, 0, 3_600_000);
    fake.push("stocks", 0, (0..10).map(|i| tick("ES", i * 1_000, 1.0, 0)).collect());
    let analytics = start(&config, &fake);
    eventually("ten are read", || fake.caught_up(GROUP, "stocks")).await;
    analytics.stop().await;
    fake.push("stocks", 0, (10..90).map(|i| tick("ES", i * 1_000, 1.0, 0)).collect());
    fake.trim("stocks", 0, 50);
    let analytics = start(&config, &fake);
    eventually("the rest is read", || fake.caught_up(GROUP, "stocks")).await;
    assert_eq!(analytics.status()[0].gap_records, 40);
    assert_eq!(fake.committed_offset(GROUP, "stocks", 0), Some(90));
    assert_eq!(last_bars(&fake)[&("ES".to_owned(), 0)]["ticks"], json!(20));
    analytics.stop().await;
}

#[tokio::test]
async fn a_changed_configuration_starts_over_from_the_start_of_the_input() {
    let fake = Fake::with_topic("stocks", 1);
    let mut config = config(0, 0, 30);
    fake.push("stocks", 0, (0..130).map(|i| tick("ES", i * 1_000, 1.0, 0)).collect());
    let analytics = start(&config, &fake);
    eventually("three bars", || last_bars(&fake).len() == 3).await;
    analytics.stop().await;
    config.window[0].every = Span::from_ms(30_000);
    let analytics = start(&config, &fake);
    eventually("half-minute bars from the start on", || {
        last_bars(&fake).get(&("ES".to_owned(), 0)).is_some_and(|b| b["end"] == json!(30_000))
            && last_bars(&fake).len() == 5
    })
    .await;
    analytics.stop().await;
}

#[tokio::test]
async fn rows_that_cannot_be_used_are_counted_and_skipped() {
    let fake = Fake::with_topic("stocks", 1);
    let mut records = vec![tick("ES", 1_000, 1.0, 0); 6];
    records[0].value = Some(Bytes::from_static(b"not json"));
    records[1].value = None;
    records[2].key = None;
    records[3].value = Some(Bytes::from_static(b"{\"price\":\"no number\"}"));
    records[4].timestamp_ms = now_ms() + 2 * FUTURE_MS_MAX;
    fake.push("stocks", 0, records);
    let analytics = start(&config(0, 0, 30), &fake);
    eventually("the one good row", || fake.values("bars").len() == 1).await;
    assert_eq!(analytics.status()[0].skipped, 5);
    assert_eq!(fake.values("bars")[0]["ticks"], json!(1));
    analytics.stop().await;
}
