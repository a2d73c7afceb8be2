use super::*;
use crate::Analytics;
use crate::config::Config;
use crate::fake::{Fake, eventually};

const GROUP: &str = "odradek.flights";

fn config(extra: &str) -> Config {
    let text = format!(
        r#"
        [[count]]
        name = "flights"
        input = "flights"
        output = "counts"
        by = "{{carrier}}"
        zone = "America/New_York"
        {extra}
        "#
    );
    toml::from_str(&text).unwrap()
}

fn record(timestamp_ms: i64, value: String) -> Record {
    Record { timestamp_ms, value: Some(Bytes::from(value)), ..Record::default() }
}

fn start(config: &Config, fake: &Fake) -> Analytics {
    Analytics::start(config.clone(), fake.next_life(), &prometheus::Registry::new()).unwrap()
}

fn last_counts(fake: &Fake) -> BTreeMap<String, u64> {
    fake.records("counts")
        .iter()
        .map(|record| {
            let key = String::from_utf8(record.key.as_ref().unwrap().to_vec()).unwrap();
            let counted: Counted =
                serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            assert_eq!(key, format!("{}|{}", counted.day, counted.key));
            (key, counted.count)
        })
        .collect()
}

#[tokio::test]
async fn days_are_local_days_of_the_zone() {
    let fake = Fake::with_topic("flights", 1);
    let ms = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
    let row = || json!({ "carrier": "UA" }).to_string();
    fake.push(
        "flights",
        0,
        vec![
            record(ms("2013-01-01T04:59:59Z"), row()), // 2012-12-31 in New York
            record(ms("2013-01-01T05:00:00Z"), row()),
            record(ms("2013-01-02T04:59:00Z"), row()),
            record(ms("2013-07-02T04:00:00Z"), row()), // summer time
        ],
    );
    let analytics = start(&config(""), &fake);
    eventually("all counted", || fake.caught_up(GROUP, "flights")).await;
    let expected = [("2012-12-31|UA", 1), ("2013-01-01|UA", 2), ("2013-07-02|UA", 1)];
    assert_eq!(last_counts(&fake), expected.map(|(k, n)| (k.to_owned(), n)).into());
    assert_eq!(fake.records("counts")[0].timestamp_ms, ms("2012-12-31T05:00:00Z"));
    analytics.stop().await;
}

#[tokio::test]
async fn every_row_of_an_array_is_counted_on_its_own_day() {
    let fake = Fake::with_topic("flights", 1);
    let rows = json!([
        { "year": "2013", "month": "1", "day": "1", "carrier": "UA" },
        { "year": "2013", "month": "1", "day": "1", "carrier": "UA" },
        { "year": "2013", "month": "1", "day": "2", "carrier": "B6" },
        { "year": "2013", "month": "13", "day": "2", "carrier": "B6" },
        { "year": "2013", "month": "1", "day": "2" },
    ]);
    fake.push("flights", 0, vec![record(0, rows.to_string())]);
    let analytics = start(&config("day = \"{year}-{month}-{day}\""), &fake);
    eventually("all counted", || fake.caught_up(GROUP, "flights")).await;
    let expected = [("2013-01-01|UA", 2), ("2013-01-02|B6", 1)];
    assert_eq!(last_counts(&fake), expected.map(|(k, n)| (k.to_owned(), n)).into());
    assert_eq!(analytics.status()[0].skipped, 2);
    analytics.stop().await;
}

#[tokio::test]
async fn restarts_and_broken_commits_count_each_row_once() {
    let fake = Fake::with_topic("flights", 3);
    fake.fetch_records_max(50);
    fake.fail_every(2);
    let carriers = ["UA", "B6", "EV"];
    let mut analytics = start(&config(""), &fake);
    for round in 0..4_i64 {
        for partition in 0..3 {
            let records = (0..1_000)
                .map(|i| {
                    let row = json!({ "carrier": carriers[(i + partition) % 3] });
                    record(round * 86_400_000 / 2, row.to_string())
                })
                .collect();
            fake.push("flights", partition, records);
        }
        let commits = fake.commits();
        eventually("a commit", || fake.commits() > commits).await;
        drop(analytics);
        analytics = start(&config(""), &fake);
    }
    fake.fail_every(0);
    eventually("all counted", || fake.caught_up(GROUP, "flights")).await;
    let counts = last_counts(&fake);
    assert_eq!(counts.values().sum::<u64>(), 12_000);
    let of = |carrier: &str| -> u64 {
        counts.iter().filter(|(key, _)| key.ends_with(carrier)).map(|(_, n)| n).sum()
    };
    for carrier in carriers {
        assert!((of(carrier)).abs_diff(4_000) <= 4, "{carrier}: {}", of(carrier));
    }
    analytics.stop().await;
}

#[tokio::test]
async fn deleting_the_group_does_not_count_again() {
    let fake = Fake::with_topic("flights", 1);
    let rows = |n: usize| vec![record(0, json!({ "carrier": "UA" }).to_string()); n];
    fake.push("flights", 0, rows(10));
    let analytics = start(&config(""), &fake);
    eventually("ten counted", || fake.caught_up(GROUP, "flights")).await;
    analytics.stop().await;
    fake.delete_group(GROUP);
    fake.trim("flights", 0, 5);
    let analytics = start(&config(""), &fake);
    eventually("the group is there again", || fake.caught_up(GROUP, "flights")).await;
    fake.push("flights", 0, rows(3));
    eventually("thirteen counted", || fake.caught_up(GROUP, "flights")).await;
    assert_eq!(last_counts(&fake).into_values().collect::<Vec<_>>(), [13]);
    analytics.stop().await;
}
