//! What came over one connection since the last commit, as the records that it becomes.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use odradek_broker::client::{Record, TopicRecords, Unit};
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::decode::Undecodable;
use super::field_of;
use super::recent::{Fingerprint, Recent};
use crate::config::OnError;
use crate::dead_letter::DeadLetter;
use crate::event_time::TimeError;
use crate::limits::{
    FRAMES_BYTES_MAX, FRAMES_PER_UNIT_MAX, MQTT_RECORD_BYTES_MAX, RECENT_KEYS_MAX,
};
use crate::meter::Meter;
use crate::plan::Plan;
use crate::supervise::{RunError, Tally};

/// Names the message's topic in templates, and the header of its records.
const MQTT_TOPIC: &str = "mqtt.topic";

/// A frame of a socket or a message of MQTT, and what was made of it.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub bytes: &'a Bytes,
    pub documents: Result<Vec<Map<String, Value>>, Undecodable>,
    pub mqtt_topic: Option<&'a str>,
}

impl<'a> Frame<'a> {
    /// Of a socket.
    pub fn new(bytes: &'a Bytes, documents: Result<Vec<Map<String, Value>>, Undecodable>) -> Self {
        Self { bytes, documents, mqtt_topic: None }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Batch {
    records: Vec<(Record, Option<Fingerprint>)>,
    dead_letters: Vec<Record>,
    frames: usize,
    bytes: usize,
    /// When the first frame came.
    pub since: Option<Instant>,
    /// The newest event time of each key, to count times that run backwards.
    newest_ms: HashMap<Bytes, i64>,
}

impl Batch {
    pub fn full(&self) -> bool {
        self.frames >= FRAMES_PER_UNIT_MAX || self.bytes >= FRAMES_BYTES_MAX
    }

    /// Takes one frame in. An error only if the configuration says to stop at what cannot be
    /// decoded.
    pub fn take(
        &mut self,
        frame: Frame<'_>,
        plan: &Plan,
        dedup: &[String],
        recent: &mut Recent,
        meter: &Meter,
    ) -> Result<(), RunError> {
        self.since.get_or_insert_with(Instant::now);
        self.frames += 1;
        let Frame { bytes, documents, mqtt_topic } = frame;
        let documents = match documents {
            Ok(documents) => documents,
            Err(error) => return self.refuse(bytes, mqtt_topic, &error, plan, meter),
        };
        if documents.is_empty() {
            meter.ignored();
        }
        for document in documents {
            match record(&document, mqtt_topic, plan, meter.clock().now_ms()) {
                Ok(record) => {
                    let fingerprint = Fingerprint::of(&document, dedup);
                    self.keep(record, fingerprint, recent, meter);
                }
                Err(error) => self.refuse(bytes, mqtt_topic, &error, plan, meter)?,
            }
        }
        Ok(())
    }

    fn keep(
        &mut self,
        record: Record,
        fingerprint: Option<Fingerprint>,
        recent: &mut Recent,
        meter: &Meter,
    ) {
        let key = record.key.clone().unwrap_or_default();
        if fingerprint.is_some_and(|fingerprint| !recent.insert(&key, fingerprint)) {
            meter.duplicates(1);
            return;
        }
        if let Some(newest_ms) = self.newest_ms.get_mut(&key) {
            if record.timestamp_ms < *newest_ms {
                meter.backwards();
            }
            *newest_ms = record.timestamp_ms.max(*newest_ms);
        } else if self.newest_ms.len() < RECENT_KEYS_MAX {
            self.newest_ms.insert(key, record.timestamp_ms);
        }
        self.bytes += record.value.as_ref().map_or(0, Bytes::len);
        self.records.push((record, fingerprint));
    }

    fn refuse(
        &mut self,
        frame: &Bytes,
        mqtt_topic: Option<&str>,
        error: &Undecodable,
        plan: &Plan,
        meter: &Meter,
    ) -> Result<(), RunError> {
        meter.undecodable(error.reason);
        match plan.on_error {
            OnError::Skip => {}
            OnError::Stop => {
                let message = format!("a frame could not be decoded: {}", error.detail);
                return Err(RunError::fatal("decode", message));
            }
            OnError::DeadLetter => {
                let letter = DeadLetter {
                    reason: error.reason,
                    detail: &error.detail,
                    source: &plan.name,
                    line: None,
                };
                let mut record = letter.record(frame.clone(), meter.clock().now_ms());
                record.headers.extend(mqtt_topic.map(topic_header));
                self.bytes += frame.len();
                self.dead_letters.push(record);
            }
        }
        Ok(())
    }

    /// Drops what the rebuilt window says is stored already.
    pub fn sift(&mut self, recent: &mut Recent, meter: &Meter) {
        let before = self.records.len();
        self.records.retain(|(record, fingerprint)| {
            let key = record.key.as_deref().unwrap_or_default();
            fingerprint.is_none_or(|fingerprint| recent.insert(key, fingerprint))
        });
        meter.duplicates(before - self.records.len());
    }

    /// What is to be committed; `None` if nothing is.
    pub fn unit(&self, plan: &Plan) -> Option<(Unit, Tally)> {
        let mut unit = Unit::default();
        if !self.records.is_empty() {
            let records = self.records.iter().map(|(record, _)| record.clone()).collect();
            unit.records.push(TopicRecords { topic: plan.topic.clone(), partition: None, records });
        }
        if let (Some(topic), false) = (&plan.dead_letter_topic, self.dead_letters.is_empty()) {
            let (topic, records) = (topic.clone(), self.dead_letters.clone());
            unit.records.push(TopicRecords { topic, partition: None, records });
        }
        let value_bytes = |(record, _): &(Record, _)| record.value.as_ref().map_or(0, Bytes::len);
        let tally = Tally {
            records: self.records.len(),
            bytes: self.records.iter().map(value_bytes).sum(),
            dead_letters: self.dead_letters.len(),
        };
        (!unit.records.is_empty()).then_some((unit, tally))
    }

    /// The unit is durable.
    pub fn clear(&mut self) {
        self.records.clear();
        self.dead_letters.clear();
        (self.frames, self.bytes, self.since) = (0, 0, None);
    }
}

pub(crate) fn record(
    document: &Map<String, Value>,
    mqtt_topic: Option<&str>,
    plan: &Plan,
    now_ms: i64,
) -> Result<Record, Undecodable> {
    let text = |path: &str| match mqtt_topic {
        Some(topic) if path == MQTT_TOPIC => Some(Cow::Borrowed(topic)),
        _ => field_of(document, path).and_then(text_of),
    };
    let timestamp_ms = plan.time.event_time_ms(now_ms, text).map_err(|error| match error {
        TimeError::Unreadable(detail) => Undecodable { reason: "time", detail },
        TimeError::OutOfRange(ms) => {
            let detail = format!("{ms} ms is outside the years 1990 to 2100");
            Undecodable { reason: "time_range", detail }
        }
    })?;
    let key = plan.key.as_ref().map(|key| key.render(text)).transpose();
    let key = key.map_err(|detail| Undecodable { reason: "key", detail })?;
    let value = serde_json::to_vec(document)
        .map_err(|error| Undecodable { reason: "json", detail: error.to_string() })?;
    let bytes = value.len() + key.as_ref().map_or(0, String::len);
    if mqtt_topic.is_some() && bytes > MQTT_RECORD_BYTES_MAX {
        let detail = format!("written out, it is {bytes} bytes long");
        return Err(Undecodable { reason: "too_large", detail });
    }
    Ok(Record {
        timestamp_ms,
        key: key.map(Bytes::from),
        value: Some(Bytes::from(value)),
        headers: mqtt_topic.map(topic_header).into_iter().collect(),
    })
}

fn topic_header(topic: &str) -> (Bytes, Option<Bytes>) {
    (Bytes::from_static(MQTT_TOPIC.as_bytes()), Some(Bytes::copy_from_slice(topic.as_bytes())))
}

/// A value as text: strings without their quotes. Null and containers have none.
fn text_of(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(truth) => Some(Cow::Borrowed(if *truth { "true" } else { "false" })),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
