//! Expected values: `fixtures/indicators.csv`, made with TA-Lib's C library (`fixtures/make.py`).

use super::*;
use crate::Analytics;
use crate::config::Config;
use crate::fake::{Fake, eventually};

const GROUP: &str = "odradek.indicators";

struct Expected {
    high: f64,
    low: f64,
    close: f64,
    values: [Option<f64>; 4],
}

fn fixture() -> Vec<Expected> {
    let text = include_str!("../../fixtures/indicators.csv");
    text.lines()
        .skip(1)
        .map(|line| {
            let cells: Vec<Option<f64>> = line.split(',').map(|cell| cell.parse().ok()).collect();
            Expected {
                high: cells[0].unwrap(),
                low: cells[1].unwrap(),
                close: cells[2].unwrap(),
                values: [cells[3], cells[4], cells[5], cells[6]],
            }
        })
        .collect()
}

fn bar(index: usize, row: &Expected) -> Record {
    let start = i64::try_from(index).unwrap() * 60_000;
    let value = json!({
        "symbol": "ES", "start": start, "end": start + 60_000, "open": row.close,
        "high": row.high, "low": row.low, "close": row.close, "volume": 1, "ticks": 1
    });
    Record {
        timestamp_ms: start,
        key: Some(Bytes::from_static(b"ES")),
        value: Some(Bytes::from(value.to_string())),
        headers: Vec::new(),
    }
}

fn config() -> Config {
    let text = r#"
        [[indicator]]
        name = "indicators"
        input = "bars"
        output = "indicators"
        bollinger = { period = 20, deviations = 2 }
        aroon = { period = 14 }
    "#;
    toml::from_str(text).unwrap()
}

fn start(fake: &Fake) -> Analytics {
    Analytics::start(config(), fake.next_life(), &prometheus::Registry::new()).unwrap()
}

/// The last value of each start, as written.
fn last_values(fake: &Fake) -> BTreeMap<i64, Value> {
    fake.values("indicators").into_iter().map(|v| (v["start"].as_i64().unwrap(), v)).collect()
}

fn assert_as_talib(fake: &Fake, rows: &[Expected]) {
    let values = last_values(fake);
    assert_eq!(values.len(), rows.len());
    for (row, (start, value)) in rows.iter().zip(values) {
        let fields = ["bb_upper", "bb_middle", "bb_lower", "aroon_osc"];
        for (field, expected) in fields.into_iter().zip(row.values) {
            match (value[field].as_f64(), expected) {
                (None, None) => {}
                (Some(ours), Some(theirs)) => {
                    let error = (ours - theirs).abs();
                    assert!(error < 1e-9, "{field} at {start}: {ours} and {theirs}");
                }
                (ours, theirs) => panic!("{field} at {start}: {ours:?} and {theirs:?}"),
            }
        }
    }
}

#[tokio::test]
async fn values_are_those_of_talib_also_when_bars_come_one_by_one() {
    for records_max in [0, 1] {
        let fake = Fake::with_topic("bars", 1);
        fake.fetch_records_max(records_max);
        let rows = fixture();
        fake.push("bars", 0, rows.iter().enumerate().map(|(i, row)| bar(i, row)).collect());
        let analytics = start(&fake);
        eventually("all bars read", || fake.caught_up(GROUP, "bars")).await;
        assert_as_talib(&fake, &rows);
        assert_eq!(fake.values("indicators").len(), rows.len());
        analytics.stop().await;
    }
}

#[tokio::test]
async fn restarts_in_the_middle_give_the_same_bits() {
    let rows = fixture();
    let records: Vec<Record> = rows.iter().enumerate().map(|(i, row)| bar(i, row)).collect();
    let whole = Fake::with_topic("bars", 1);
    whole.push("bars", 0, records.clone());
    let analytics = start(&whole);
    eventually("all bars read", || whole.caught_up(GROUP, "bars")).await;
    analytics.stop().await;

    let parts = Fake::with_topic("bars", 1);
    parts.fail_every(3);
    for chunk in records.chunks(37) {
        parts.push("bars", 0, chunk.to_vec());
        let analytics = start(&parts);
        eventually("this part read", || parts.caught_up(GROUP, "bars")).await;
        drop(analytics);
    }
    assert_eq!(parts.records("indicators"), whole.records("indicators"));
}

#[tokio::test]
async fn a_corrected_bar_corrects_its_value_and_the_later_ones() {
    let rows = fixture();
    let fake = Fake::with_topic("bars", 1);
    let mut records: Vec<Record> = rows.iter().enumerate().map(|(i, row)| bar(i, row)).collect();
    // Two bars come wrong, one of them before the lookback is filled, and are written again.
    for wrong in [12, 250] {
        let right = records[wrong].clone();
        let mut row = fixture().swap_remove(wrong);
        row.close += 3.0;
        row.high += 3.0;
        records[wrong] = bar(wrong, &row);
        let again = if wrong == 12 { 18 } else { 256 };
        records.insert(again, right);
    }
    fake.push("bars", 0, records);
    let analytics = start(&fake);
    eventually("all bars read", || fake.caught_up(GROUP, "bars")).await;
    assert_as_talib(&fake, &rows);
    analytics.stop().await;
}

#[tokio::test]
async fn a_correction_older_than_what_is_kept_does_not_undo_values() {
    let rows = fixture();
    let fake = Fake::with_topic("bars", 1);
    let mut records: Vec<Record> = rows.iter().enumerate().map(|(i, row)| bar(i, row)).collect();
    records.push(bar(200, &rows[200]));
    records.push(bar(275, &rows[275]));
    fake.push("bars", 0, records);
    let analytics = start(&fake);
    eventually("all bars read", || fake.caught_up(GROUP, "bars")).await;
    assert_as_talib(&fake, &rows);
    analytics.stop().await;
}
