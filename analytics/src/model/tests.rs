//! The model over the fake client: a long random walk of bars with a weak, known signal.

use super::*;
use crate::Analytics;
use crate::config::Config;
use crate::fake::{Fake, eventually};

const GROUP: &str = "odradek.next-minute";
const MINUTE: i64 = 60_000;

fn config() -> Config {
    let text = r#"
        [[model]]
        name = "next-minute"
        input = "bars"
        predictions = "predictions"
        scores = "scores"
        report = "models"
        train = { rows_min = 200, retrain_rows = 150, rows_max = 400, folds = 3, trees = 15 }
    "#;
    toml::from_str(text).unwrap()
}

fn bar(symbol: &str, minute: i64, close: f64, is_final: bool) -> Record {
    let start = 1_378_069_200_000 + minute * MINUTE;
    let value = json!({
        "symbol": symbol, "start": start, "end": start + MINUTE, "open": close,
        "high": close + 0.25, "low": close - 0.25, "close": close, "volume": 10 + minute % 7,
        "ticks": 3, "final": is_final
    });
    Record {
        timestamp_ms: start,
        key: Some(Bytes::from(symbol.to_owned())),
        value: Some(Bytes::from(value.to_string())),
        headers: Vec::new(),
    }
}

/// Two symbols whose moves partly revert, with a minute missing now and then.
fn bars() -> Vec<Record> {
    let mut state = 7_u64;
    let mut random = move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1_u64 << 24) as f64 - 0.5
    };
    let mut closes = [1_640.0, 80.0];
    let mut moves = [0.0, 0.0];
    let mut bars = Vec::new();
    for minute in 0..420 {
        for (index, symbol) in ["ES", "CL"].into_iter().enumerate() {
            moves[index] = closes[index] * random() * 1e-3 - 0.4 * moves[index];
            closes[index] += moves[index];
            if minute % 97 != 50 {
                bars.push(bar(symbol, minute, closes[index], true));
            }
        }
    }
    bars
}

fn start(fake: &Fake) -> Analytics {
    Analytics::start(config(), fake.next_life(), &prometheus::Registry::new()).unwrap()
}

async fn run_whole() -> Fake {
    let fake = Fake::with_topic("bars", 1);
    fake.push("bars", 0, bars());
    let analytics = start(&fake);
    eventually("all bars read", || fake.caught_up(GROUP, "bars")).await;
    analytics.stop().await;
    fake
}

#[tokio::test]
async fn predictions_are_scored_against_the_bar_they_were_made_for() {
    let fake = run_whole().await;
    let reports = fake.values("models");
    assert!(reports.len() >= 3, "{}", reports.len());
    assert_eq!(fake.records("models")[0].key.as_deref(), Some(b"next-minute".as_slice()));
    assert_eq!(reports[0]["train_rows"], json!(200));
    assert_eq!(reports.last().unwrap()["train_rows"], json!(400));

    let closes: BTreeMap<(String, i64), f64> = fake
        .values("bars")
        .iter()
        .map(|b| {
            let key = (b["symbol"].as_str().unwrap().to_owned(), b["start"].as_i64().unwrap());
            (key, b["close"].as_f64().unwrap())
        })
        .collect();
    let predictions = fake.values("predictions");
    let mut expected = Vec::new();
    for prediction in &predictions {
        let symbol = prediction["symbol"].as_str().unwrap().to_owned();
        let target = prediction["target_start"].as_i64().unwrap();
        assert_eq!(target, prediction["start"].as_i64().unwrap() + MINUTE);
        let last = closes[&(symbol.clone(), target - MINUTE)];
        assert_eq!(prediction["last_close"].as_f64().unwrap(), last);
        if let Some(actual) = closes.get(&(symbol.clone(), target)) {
            let predicted = prediction["predicted_return"].as_f64().unwrap();
            expected.push((symbol, target, predicted - (actual / last - 1.0)));
        }
    }
    let scored: Vec<(String, i64, f64)> = fake
        .values("scores")
        .iter()
        .map(|s| {
            let symbol = s["symbol"].as_str().unwrap().to_owned();
            (symbol, s["target_start"].as_i64().unwrap(), s["error"].as_f64().unwrap())
        })
        .collect();
    expected.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    let mut sorted = scored.clone();
    sorted.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    assert_eq!(sorted, expected);
    // Both gaps left predictions without truth.
    assert!(predictions.len() > scored.len());
    assert_eq!(scored.len(), expected.len());
}

#[tokio::test]
async fn restarts_and_broken_commits_give_the_same_predictions_and_scores() {
    let whole = run_whole().await;
    let parts = Fake::with_topic("bars", 1);
    parts.fail_every(4);
    for chunk in bars().chunks(111) {
        parts.push("bars", 0, chunk.to_vec());
        let analytics = start(&parts);
        eventually("this part read", || parts.caught_up(GROUP, "bars")).await;
        drop(analytics);
    }
    for topic in ["predictions", "scores"] {
        assert_eq!(parts.records(topic), whole.records(topic), "{topic}");
    }
    let figures = |fake: &Fake| -> Vec<Value> {
        fake.values("models").into_iter().map(|report| report["fingerprint"].clone()).collect()
    };
    assert_eq!(figures(&parts), figures(&whole));
}

#[tokio::test]
async fn bars_that_are_not_final_are_neither_truth_nor_predicted_from() {
    let fake = Fake::with_topic("bars", 1);
    let mut records = bars();
    records.push(bar("ES", 420, 1.0, false));
    fake.push("bars", 0, records);
    let analytics = start(&fake);
    eventually("all bars read", || fake.caught_up(GROUP, "bars")).await;
    analytics.stop().await;
    let whole = run_whole().await;
    assert_eq!(fake.records("predictions"), whole.records("predictions"));
    assert_eq!(fake.records("scores"), whole.records("scores"));
}
