//! Running counts of rows by local day and key.
//!
//! 1. A count that changed is written again, at most once a commit; the last value of a key
//!    (`"<day>|<key>"`) is the count. Nothing waits for a day to end, so out-of-order rows need no
//!    watermark and no row is ever late.
//! 2. The output topic is the state: a count is made durable by the same unit as the offsets
//!    that it has seen, and a restart reads the last values back. The output is therefore
//!    compacted, not cut by time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use odradek_broker::client::{Client, Record, StoredRecord, TopicRecords};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::config::CountConfig;
use crate::row::{Row, Rows, Template};
use crate::run::{Flush, Machine, Output, Restore, RunError, Spec};
use crate::telemetry::Probe;

const READ_BYTES_MAX: usize = 1 << 20;

pub(crate) fn spec(config: &CountConfig) -> Spec {
    let configs = vec![
        ("cleanup.policy".to_owned(), "compact".to_owned()),
        ("retention.ms".to_owned(), "-1".to_owned()),
    ];
    Spec {
        name: config.name.clone(),
        input: config.input.clone(),
        outputs: vec![Output { topic: config.output.clone(), partitions: Some(1), configs }],
        definition: serde_json::to_string(config).unwrap_or_default(),
        idle: Duration::from_secs(3_600),
    }
}

pub(crate) struct Counts {
    config: CountConfig,
    by: Template,
    day: Option<Template>,
    zone: TimeZone,
    probe: Probe,
    counts: BTreeMap<(Date, String), u64>,
    changed: BTreeSet<(Date, String)>,
    /// Output offsets at which this definition's values begin.
    since: BTreeMap<i32, i64>,
}

#[derive(Serialize, Deserialize)]
struct Counted {
    day: String,
    key: String,
    count: u64,
}

impl Counts {
    pub(crate) fn new(config: CountConfig, probe: Probe) -> Result<Self, String> {
        Ok(Self {
            by: Template::parse(&config.by)?,
            day: config.day.as_deref().map(Template::parse).transpose()?,
            zone: TimeZone::get(&config.zone).map_err(|e| e.to_string())?,
            config,
            probe,
            counts: BTreeMap::new(),
            changed: BTreeSet::new(),
            since: BTreeMap::new(),
        })
    }

    fn absorb_row(&mut self, record: &StoredRecord, row: &Row) {
        let day = match &self.day {
            Some(template) => template.fill(row).and_then(|text| date(&text)),
            None => Timestamp::from_millisecond(record.timestamp_ms)
                .ok()
                .map(|time| self.zone.to_datetime(time).date()),
        };
        let (Some(day), Some(key)) = (day, self.by.fill(row)) else {
            self.probe.skipped.inc();
            return;
        };
        let entry = (day, key);
        match self.counts.get_mut(&entry) {
            Some(count) => *count += 1,
            None => {
                self.counts.insert(entry.clone(), 1);
            }
        }
        if !self.changed.contains(&entry) {
            self.changed.insert(entry);
        }
    }

    /// The last value of each key, from where this definition began to the end.
    async fn read_back(
        &mut self,
        client: &dyn Client,
        partition: i32,
        end_offset: i64,
    ) -> Result<(), RunError> {
        let topic = self.config.output.clone();
        let mut at = self.since.get(&partition).copied().unwrap_or(0);
        while at < end_offset {
            let fetched =
                client.fetch(&topic, partition, at, READ_BYTES_MAX, Duration::ZERO).await?;
            for record in fetched.records.iter().filter(|record| record.offset >= at) {
                let value = record.value.as_deref().unwrap_or_default();
                let counted = serde_json::from_slice::<Counted>(value).ok();
                let Some((day, counted)) = counted.and_then(|c| Some((date(&c.day)?, c))) else {
                    let offset = record.offset;
                    return Err(RunError::State(format!(
                        "record {offset} of {topic}-{partition} is not a count; somebody else \
                         writes into this topic"
                    )));
                };
                self.counts.insert((day, counted.key), counted.count);
            }
            if fetched.next_offset <= at {
                break;
            }
            at = fetched.next_offset;
        }
        Ok(())
    }
}

/// `2013-1-1` and `2013-01-01` are the same day.
fn date(text: &str) -> Option<Date> {
    let mut parts = text.trim().split('-');
    let year = parts.next()?.trim().parse().ok()?;
    let month = parts.next()?.trim().parse().ok()?;
    let day = parts.next()?.trim().parse().ok()?;
    if parts.next().is_some() {
        return None;
    }
    Date::new(year, month, day).ok()
}

#[async_trait]
impl Machine for Counts {
    async fn restore(&mut self, from: Restore<'_>) -> Result<(), RunError> {
        self.counts.clear();
        self.changed.clear();
        self.since.clear();
        let Some(output) = from.outputs.first() else { return Ok(()) };
        let ends = output.partitions.iter().map(|p| (p.partition, p.end_offset));
        match from.state {
            None => self.since = ends.collect(),
            Some(state) => {
                self.since = serde_json::from_value(state["since"].clone())
                    .map_err(|e| RunError::State(format!("the counts' checkpoint: {e}")))?;
                for (partition, end_offset) in ends {
                    self.read_back(from.client, partition, end_offset).await?;
                }
            }
        }
        Ok(())
    }

    async fn absorb(&mut self, _partition: i32, records: &[StoredRecord]) -> Result<(), RunError> {
        for record in records {
            match Rows::parse(record.value.as_deref()).into_vec() {
                None => self.probe.skipped.inc(),
                Some(rows) => rows.iter().for_each(|row| self.absorb_row(record, row)),
            }
        }
        Ok(())
    }

    /// Counts wait for the runner's commit interval, so that a burst is one value a key.
    fn pending(&self) -> bool {
        false
    }

    fn flush(&mut self) -> Result<Flush, RunError> {
        let records = std::mem::take(&mut self.changed)
            .into_iter()
            .map(|entry| {
                let count = self.counts.get(&entry).copied().unwrap_or_default();
                let (day, key) = entry;
                let midnight = self
                    .zone
                    .to_ambiguous_timestamp(day.to_datetime(jiff::civil::Time::midnight()));
                let timestamp_ms = midnight.compatible().map_or(0, |time| time.as_millisecond());
                let value = json!({ "day": day.to_string(), "key": key, "count": count });
                Record {
                    timestamp_ms,
                    key: Some(Bytes::from(format!("{day}|{key}"))),
                    value: Some(Bytes::from(value.to_string())),
                    headers: Vec::new(),
                }
            })
            .collect();
        let records = TopicRecords { topic: self.config.output.clone(), partition: None, records };
        let state = json!({ "since": self.since });
        Ok(Flush { records: vec![records], checkpoints: Vec::new(), state })
    }
}

#[cfg(test)]
mod tests;
