use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use bytes::Bytes;
use odradek_broker::client::Record;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::*;
use crate::Analytics;
use crate::config::Config;
use crate::fake::{Fake, eventually};

fn config(dir: &std::path::Path, rows: usize, every: &str) -> Config {
    let section = ParquetConfig {
        name: "lake".to_owned(),
        input: "stocks".to_owned(),
        dir: dir.to_owned(),
        rows,
        bytes: 1 << 30,
        every: crate::config::Span::parse(every).unwrap(),
    };
    Config { parquet: vec![section], ..Config::default() }
}

fn start(config: &Config, fake: &Fake) -> Analytics {
    Analytics::start(config.clone(), fake.next_life(), &prometheus::Registry::new()).unwrap()
}

fn record(value: &Value) -> Record {
    Record {
        timestamp_ms: 1_378_069_200_083,
        key: Some(Bytes::from_static(b"ES")),
        value: Some(Bytes::from(value.to_string())),
        headers: Vec::new(),
    }
}

fn flat(offset: i64, value: &str) -> Vec<FlatRow> {
    let value = Some(Bytes::copy_from_slice(value.as_bytes()));
    let key = Some(Bytes::from_static(b"\xff\x00"));
    columns::flatten(&StoredRecord { offset, timestamp_ms: 1, key, value, headers: Vec::new() })
}

#[test]
fn types_widen_and_names_of_fixed_columns_are_kept_apart() {
    let mut rows =
        flat(0, r#"{"price":1,"timestamp":5,"nested":{"deep":{"x":true}},"list":[1,2]}"#);
    rows.extend(flat(1, r#"{"price":1.5,"flag":false,"none":null}"#));
    rows.extend(flat(2, r#"{"price":null,"flag":7}"#));
    rows.extend(flat(3, r#"[{"price":2},{"price":3}]"#));
    rows.extend(flat(4, "no json"));
    let columns = Columns::default().widened(&rows);
    let types: Vec<String> = columns
        .schema()
        .fields()
        .iter()
        .map(|field| format!("{} {}", field.name(), field.data_type()))
        .collect();
    let expected = [
        "partition Int32",
        "offset Int64",
        "timestamp Timestamp(µs, \"UTC\")",
        "key Utf8",
        "row Int64",
        "price Float64",
        "value_timestamp Int64",
        "nested.deep.x Boolean",
        "list Utf8",
        "flag Utf8",
        "value Utf8",
    ];
    assert_eq!(types, expected);
    assert_eq!(Columns::of_schema(&columns.schema()), columns);
    let batch = columns.batch(7, &rows).unwrap();
    assert_eq!(batch.num_rows(), 6);
    let prices = batch["price"].as_primitive::<Float64Type>();
    assert_eq!(
        prices.iter().collect::<Vec<_>>(),
        [Some(1.0), Some(1.5), None, Some(2.0), Some(3.0), None]
    );
    assert_eq!(batch["flag"].as_string::<i32>().value(2), "7");
    assert_eq!(batch["value"].as_string::<i32>().value(5), "no json");
    assert_eq!(batch["key"].as_string::<i32>().value(0), "\\xff00");
}

#[tokio::test]
async fn files_hold_each_offset_once_through_restarts_and_schema_changes() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::with_topic("stocks", 2);
    fake.fetch_records_max(40);
    let config = config(dir.path(), 150, "1h");
    let mut analytics = start(&config, &fake);
    for round in 0..5_i64 {
        for partition in 0..2 {
            // From the third round on, prices have fractions: the column widens.
            let price = |i: i64| if round < 2 { json!(i) } else { json!(i as f64 + 0.5) };
            let records = (0..333).map(|i| record(&json!({ "price": price(i) }))).collect();
            fake.push("stocks", partition, records);
        }
        eventually("a file of this round", || {
            let records = (round + 1) * 333;
            let at = fake.committed_offset("odradek.lake", "stocks", 1);
            at.is_some_and(|at| at > records - 170)
        })
        .await;
        if round % 2 == 0 {
            drop(analytics);
        } else {
            analytics.stop().await;
        }
        // What a crash between finish and rename leaves.
        std::fs::write(dir.path().join("stocks/.stocks-p0-7.parquet.tmp"), b"torn").unwrap();
        analytics = start(&config, &fake);
    }
    drop(analytics);
    let analytics = start(&self::config(dir.path(), 150, "20ms"), &fake);
    eventually("all is covered", || fake.caught_up("odradek.lake", "stocks")).await;
    analytics.stop().await;
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    for partition in &report.partitions {
        assert_eq!((partition.first, partition.last), (0, 5 * 333 - 1));
        assert_eq!((partition.rows, partition.offsets), (5 * 333, 5 * 333));
        assert!(partition.gaps.is_empty());
    }
    assert_eq!(report.partitions.len(), 2);
    assert_prices(dir.path());
}

#[test]
fn a_change_of_columns_ends_the_file_just_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = Place {
        folder: dir.path().join("stocks"),
        topic: "stocks".to_owned(),
        topic_id: "7".to_owned(),
    };
    folder::open(&place.folder, "stocks", "7").unwrap();
    let mut pen = Pen::new(place, 0, 100, Columns::default());
    let stored = |offset: i64, value: Value| {
        let Record { timestamp_ms, key, value, headers } = record(&value);
        StoredRecord { offset, timestamp_ms, key, value, headers }
    };
    pen.take(&[stored(101, json!({ "price": 1 })), stored(103, json!({ "price": 2 }))], 105);
    pen.encode().unwrap();
    pen.take(&[stored(107, json!({ "price": 2.5 }))], 110);
    pen.encode().unwrap();
    pen.take(&[stored(111, json!({ "price": 3 }))], 112);
    pen.roll().unwrap();
    let files = folder::finished(&dir.path().join("stocks"), "stocks").unwrap();
    let ranges: Vec<(i64, i64)> = files.iter().map(|file| (file.first, file.last)).collect();
    assert_eq!(ranges, [(100, 106), (107, 111)]);
    assert_eq!(verify(dir.path()).unwrap().problems, Vec::<String>::new());
}

/// Files before the change have whole numbers, files after it fractions, and none has both.
fn assert_prices(dir: &std::path::Path) {
    for entry in std::fs::read_dir(dir.join("stocks")).unwrap() {
        let path = entry.unwrap().path();
        assert!(path.extension().is_some_and(|e| e == "parquet"), "{}", path.display());
        let file = std::fs::File::open(&path).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
        for batch in reader.map(Result::unwrap) {
            let offsets = batch["offset"].as_primitive::<Int64Type>();
            let whole = batch["price"].as_primitive_opt::<Int64Type>();
            for index in 0..batch.num_rows() {
                let (round, i) = (offsets.value(index) / 333, offsets.value(index) % 333);
                match whole {
                    Some(prices) => {
                        assert!(round < 2);
                        assert_eq!(prices.value(index), i);
                    }
                    None => {
                        let price = batch["price"].as_primitive::<Float64Type>().value(index);
                        let fraction = if round < 2 { 0.0 } else { 0.5 };
                        assert_eq!(price, i as f64 + fraction);
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn a_file_is_closed_when_it_is_old_enough() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::with_topic("stocks", 1);
    fake.push("stocks", 0, vec![record(&json!({ "price": 1 })); 3]);
    let analytics = start(&config(dir.path(), 1_000, "20ms"), &fake);
    let path = dir.path().join("stocks/stocks-p0-0-2.parquet");
    eventually("the file", || path.exists()).await;
    analytics.stop().await;
}

#[tokio::test]
async fn a_gap_that_retention_made_is_explained_and_a_missing_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::with_topic("stocks", 1);
    let config = config(dir.path(), 10, "1h");
    for round in 0..3 {
        fake.push("stocks", 0, vec![record(&json!({ "price": 1 })); 10]);
        if round == 1 {
            fake.trim("stocks", 0, 15);
        }
        let analytics = start(&config, &fake);
        let expected = if round == 1 { 5 } else { 10 };
        eventually("read", || analytics.status()[0].records == expected).await;
        analytics.stop().await;
    }
    let report = verify(dir.path()).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!(report.partitions[0].gaps, vec![Gap { first: 10, last: 14, explained: true }]);
    assert_eq!(report.partitions[0].offsets, 25);

    let files = folder::finished(&dir.path().join("stocks"), "stocks").unwrap();
    let last = files.last().unwrap();
    std::fs::remove_file(&files[1].path).unwrap();
    std::fs::copy(&last.path, dir.path().join("stocks/stocks-p0-3-5.parquet")).unwrap();
    let problems = verify(dir.path()).unwrap().problems.join("\n");
    for expected in ["are in no file", "covered already", "holds offset"] {
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
}

#[tokio::test]
async fn files_of_an_earlier_topic_of_the_same_name_are_not_mixed_with_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let fake = Fake::with_topic("stocks", 1);
    let config = config(dir.path(), 5, "1h");
    fake.push("stocks", 0, vec![record(&json!({ "price": 1 })); 5]);
    let analytics = start(&config, &fake);
    eventually("read", || fake.caught_up("odradek.lake", "stocks")).await;
    analytics.stop().await;
    fake.create("stocks", 1);
    let analytics = start(&config, &fake);
    eventually("refused", || analytics.status()[0].state == State::Failed).await;
    let error = analytics.status()[0].last_error.clone().unwrap();
    assert!(error.contains("another topic of the same name"), "{error}");
    analytics.stop().await;
}
