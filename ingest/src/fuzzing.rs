//! Doors for the fuzz targets (`tests/fuzz`): what takes apart the frames of a feed, the packets
//! and messages of MQTT, and the rows of a file. Nothing in the product calls this. A source is
//! given as its `[[source]]`, so that the settings are checked as at a start.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::Packet;
use serde_json::{Map, Value};
use tokio_util::codec::Decoder;

use crate::config::SourceConfig;
use crate::csv::input::Input;
use crate::csv::rows::Rows;
use crate::feed::batch;
use crate::limits::{CSV_ROW_BYTES_MAX, DOCUMENTS_PER_FRAME_MAX, MQTT_RECORD_BYTES_MAX};
use crate::mqtt::packets::{Incoming, Packets};
use crate::plan::{KindPlan, Plan};

pub const DOCUMENTS_MAX: usize = DOCUMENTS_PER_FRAME_MAX;
pub const VALUE_BYTES_MAX: usize = MQTT_RECORD_BYTES_MAX;
pub const ROW_BYTES_MAX: u64 = CSV_ROW_BYTES_MAX;

/// A source that can be started.
pub struct Source(Plan);

impl Source {
    pub fn new(config: &SourceConfig) -> Option<Self> {
        Plan::of(config).ok().map(Self)
    }

    /// The documents of one frame; `Err` is the label of what is wrong with it. `None`: the source
    /// has no frames.
    pub fn documents(&self, frame: &[u8]) -> Option<Result<Vec<Map<String, Value>>, &'static str>> {
        let KindPlan::Websocket(feed) = &self.0.kind else { return None };
        Some(feed.decoder.decode(frame).map_err(|error| error.reason))
    }

    /// What an MQTT source makes of a message that came at `now_ms`: for each document in it a
    /// record, or the label of what is wrong. `None`: it is not for this source.
    pub fn message(
        &self,
        message: &MqttMessage,
        now_ms: i64,
    ) -> Option<Vec<Result<MqttRecord, &'static str>>> {
        let KindPlan::Mqtt(feed) = &self.0.kind else { return None };
        let MqttMessage { topic, payload, retained } = message;
        if !feed.reader.takes(topic, payload.len(), *retained) {
            return None;
        }
        let documents = match feed.reader.documents(topic, payload, *retained) {
            Ok(documents) => documents,
            Err(error) => return Some(vec![Err(error.reason)]),
        };
        let record = |document| {
            let record = batch::record(document, Some(topic), &self.0, now_ms);
            let record = record.map_err(|error| error.reason)?;
            let value = record.value.unwrap_or_default();
            Ok(MqttRecord { timestamp_ms: record.timestamp_ms, key: record.key, value })
        };
        Some(documents.iter().map(record).collect())
    }

    /// Calls `each` for the rows of a file until its end or an error that ends the reading.
    pub fn rows(&self, file: Bytes, gzip: bool, each: &mut dyn FnMut(Row)) {
        let KindPlan::Csv(csv) = &self.0.kind else { return };
        let Ok(mut rows) = Rows::open(&self.0, csv, Input::memory(file, gzip), None) else {
            return;
        };
        while let Ok(Some(row)) = rows.next() {
            let read = row.content.map(|content| (content.object, content.event_ms));
            each(Row { read: read.map_err(|refused| refused.reason), end: row.after.byte });
        }
    }
}

/// What a server sent to its subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttMessage {
    pub topic: String,
    pub payload: Bytes,
    pub retained: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttRecord {
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Bytes,
}

/// What was read from a connection, up to the first error.
#[derive(Debug, PartialEq, Eq)]
pub struct MqttPackets {
    pub messages: Vec<MqttMessage>,
    /// The other packets, and the messages that were skipped, as a developer would print them.
    pub others: Vec<String>,
    pub failed: bool,
    /// The most that was held of what had not been read yet.
    pub held_bytes_max: usize,
}

/// Reads packets of at most `max` bytes, which come in pieces of `chunk` bytes.
pub fn mqtt_packets(bytes: &[u8], chunk: usize, max: usize) -> MqttPackets {
    let (mut packets, mut source) = (Packets::new(max), BytesMut::new());
    let mut read =
        MqttPackets { messages: Vec::new(), others: Vec::new(), failed: false, held_bytes_max: 0 };
    for piece in bytes.chunks(chunk.max(1)) {
        source.extend_from_slice(piece);
        loop {
            match packets.decode(&mut source) {
                Ok(Some(Incoming::Packet(Packet::Publish(publish)))) => {
                    let Ok(topic) = String::from_utf8(publish.topic.to_vec()) else {
                        read.failed = true;
                        return read;
                    };
                    let (payload, retained) = (publish.payload, publish.retain);
                    read.messages.push(MqttMessage { topic, payload, retained });
                }
                Ok(Some(other)) => read.others.push(format!("{other:?}")),
                Ok(None) => break,
                Err(_) => {
                    read.failed = true;
                    return read;
                }
            }
        }
        read.held_bytes_max = read.held_bytes_max.max(source.len());
    }
    read
}

/// A row of a file.
#[derive(Debug)]
pub struct Row {
    /// Its JSON object without the closing brace and its event time, or the label of what is wrong.
    pub read: Result<(Vec<u8>, Option<i64>), &'static str>,
    /// Where the next row begins, in the bytes of the unpacked file.
    pub end: u64,
}
