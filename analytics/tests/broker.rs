//! The processors over a real broker's local client, through restarts of broker and analytics.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use odradek_analytics::{Analytics, Config, State, verify};
use odradek_broker::Broker;
use odradek_broker::client::{Client, Principal, Record, TopicRecords};
use serde_json::{Value, json};

const MINUTE: i64 = 60_000;
const START: i64 = 1_378_069_200_000;
const SYMBOLS: [&str; 3] = ["ES", "CL", "GC"];
/// Ticks of a symbol per minute.
const TICKS: i64 = 6;
const MINUTES: i64 = 300;

fn pipeline(lake: &Path) -> Config {
    let text = format!(
        r#"
        [[window]]
        name = "bars"
        input = "stocks"
        output = "stocks.bars.1m"
        volume = "dayVolume"
        volume_kind = "cumulative"
        idle = "300ms"

        [[indicator]]
        name = "indicators"
        input = "stocks.bars.1m"
        output = "stocks.indicators.1m"

        [[count]]
        name = "ticks-a-day"
        input = "stocks"
        output = "stocks.counts"
        by = "{{id}}"

        [[parquet]]
        name = "lake"
        input = "stocks"
        dir = {lake:?}
        rows = 700
        every = "200ms"

        [[model]]
        name = "next-minute"
        input = "stocks.bars.1m"
        predictions = "stocks.predictions"
        scores = "stocks.scores"
        report = "stocks.models"
        train = {{ rows_min = 200, retrain_rows = 200, folds = 3, trees = 10 }}
        "#
    );
    toml::from_str(&text).unwrap()
}

fn tick(symbol: &str, minute: i64, tick: i64) -> Record {
    let time_ms = START + minute * MINUTE + tick * 9_000;
    let wave = ((minute * 37 + tick * 11) % 41) as f64;
    let value = json!({
        "id": symbol,
        "price": 1_600.0 + wave * 0.25,
        "dayVolume": (minute * TICKS + tick) * 5,
    });
    Record {
        timestamp_ms: time_ms,
        key: Some(Bytes::from(symbol.to_owned())),
        value: Some(Bytes::from(value.to_string())),
        headers: Vec::new(),
    }
}

async fn produce(client: &dyn Client, minutes: std::ops::Range<i64>) {
    client.ensure_topic("stocks", 2, &[]).await.unwrap();
    for minute in minutes {
        let records = (0..TICKS)
            .flat_map(|index| SYMBOLS.map(|symbol| tick(symbol, minute, index)))
            .collect();
        let topic = "stocks".to_owned();
        client.produce(TopicRecords { topic, partition: None, records }).await.unwrap();
    }
}

/// Every value of a topic, by key in the order of the log.
async fn values(client: &dyn Client, topic: &str) -> Vec<(String, Value)> {
    let mut values = Vec::new();
    let Some(info) = client.topic(topic).await.unwrap() else { return values };
    for partition in info.partitions {
        let mut at = partition.start_offset;
        while at < partition.end_offset {
            let fetched = client
                .fetch(topic, partition.partition, at, 1 << 20, Duration::ZERO)
                .await
                .unwrap();
            for record in fetched.records {
                let key = String::from_utf8(record.key.unwrap().to_vec()).unwrap();
                values.push((key, serde_json::from_slice(&record.value.unwrap()).unwrap()));
            }
            at = fetched.next_offset;
        }
    }
    values
}

async fn last_bars(client: &dyn Client) -> BTreeMap<(String, i64), Value> {
    let bars = values(client, "stocks.bars.1m").await;
    bars.into_iter().map(|(key, bar)| ((key, bar["start"].as_i64().unwrap()), bar)).collect()
}

async fn wait_for_bars(client: &dyn Client, minutes: i64) -> BTreeMap<(String, i64), Value> {
    let wanted = usize::try_from(minutes).unwrap() * SYMBOLS.len();
    for _ in 0..1_200 {
        let bars = last_bars(client).await;
        let ticks: i64 = bars.values().map(|bar| bar["ticks"].as_i64().unwrap()).sum();
        if bars.len() == wanted && ticks == minutes * TICKS * SYMBOLS.len() as i64 {
            return bars;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {wanted} bars within 60 s");
}

async fn wait_for_no_lag(client: &dyn Client) {
    let groups = [
        ("odradek.indicators", "stocks.bars.1m"),
        ("odradek.next-minute", "stocks.bars.1m"),
        ("odradek.ticks-a-day", "stocks"),
        ("odradek.lake", "stocks"),
    ];
    for (group, topic) in groups {
        let mut caught_up = false;
        for _ in 0..1_200 {
            let ends = client.topic(topic).await.unwrap().unwrap().partitions;
            let committed = client.committed(group).await.unwrap();
            caught_up = ends.iter().all(|end| {
                let at = committed.iter().find(|offset| offset.partition == end.partition);
                at.map_or(end.end_offset == 0, |at| at.offset == end.end_offset)
            });
            if caught_up {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(caught_up, "{group} did not reach the end of {topic} within 60 s");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_over_a_real_broker_survives_restarts_and_counts_everything_once() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    let rounds = 3;
    for round in 0..rounds {
        let config = odradek_broker::config::Config::demo(&dir.path().join("data"), 0, 0);
        let broker = Broker::open_offline(config).await.unwrap();
        let client: Arc<dyn Client> = broker.client(Principal::internal());
        let registry = prometheus::Registry::new();
        let analytics = Analytics::start(pipeline(&lake), client.clone(), &registry).unwrap();
        let minutes = MINUTES / rounds;
        produce(&*client, round * minutes..(round + 1) * minutes).await;
        if round + 1 < rounds {
            // Stopped in the middle of its work.
            analytics.stop().await;
            broker.shutdown().await;
            continue;
        }
        let bars = wait_for_bars(&*client, MINUTES).await;
        wait_for_no_lag(&*client).await;
        for status in analytics.status() {
            assert_eq!((status.state, status.restarts), (State::Running, 0), "{status:?}");
        }
        check(&*client, &bars).await;
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        assert!(text.contains("odradek_analytics_lag_records{processor=\"bars\"} 0"), "{text}");
        analytics.stop().await;
        broker.shutdown().await;
    }
    let report = verify(&lake).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    let rows: u64 = report.partitions.iter().map(|partition| partition.rows).sum();
    assert_eq!(rows, u64::try_from(MINUTES * TICKS).unwrap() * SYMBOLS.len() as u64);
}

async fn check(client: &dyn Client, bars: &BTreeMap<(String, i64), Value>) {
    for ((_, start), bar) in bars {
        let minute = (start - START) / MINUTE;
        // The first tick of a running total tells no volume.
        let volume = if minute == 0 { (TICKS - 1) * 5 } else { TICKS * 5 };
        assert_eq!(bar["volume"], json!(volume), "{bar}");
    }
    let indicators: BTreeMap<(String, i64), Value> = values(client, "stocks.indicators.1m")
        .await
        .into_iter()
        .map(|(key, value)| ((key, value["start"].as_i64().unwrap()), value))
        .collect();
    assert_eq!(indicators.len(), bars.len());
    for ((symbol, start), value) in &indicators {
        let minute = (start - START) / MINUTE;
        assert_eq!(value["bb_middle"].is_null(), minute < 19, "{symbol} {minute}");
        assert_eq!(value["aroon_osc"].is_null(), minute < 14, "{symbol} {minute}");
    }
    let counts = values(client, "stocks.counts").await;
    let last: BTreeMap<String, i64> =
        counts.into_iter().map(|(key, v)| (key, v["count"].as_i64().unwrap())).collect();
    assert_eq!(last.values().sum::<i64>(), MINUTES * TICKS * SYMBOLS.len() as i64);
    assert!(!values(client, "stocks.models").await.is_empty());
    let predictions = values(client, "stocks.predictions").await;
    let scores = values(client, "stocks.scores").await;
    assert!(scores.len() > 100 && predictions.len() >= scores.len());
    let mut seen = std::collections::BTreeSet::new();
    for (symbol, score) in &scores {
        let once = seen.insert((symbol.clone(), score["target_start"].as_i64().unwrap()));
        assert!(once, "scored twice: {score}");
    }
}
