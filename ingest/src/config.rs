//! What a `[[source]]` of `pipeline.toml` may say.
//!
//! One flat table for all kinds of source, so that a misspelt key is refused with its line by the
//! TOML reader itself. Which keys mean something for which kind, and whether the values fit
//! together, is decided in `plan`; nothing here has a default that depends on another key.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::span::Span;

/// One `[[source]]`. Absent keys take the preset's value, then the kind's default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Names the source in `/api/v1/sources`, in metrics and in its checkpoint.
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    pub preset: Option<Preset>,
    pub topic: String,
    /// Partitions of the topic if it has to be created. Default 1.
    pub partitions: Option<i32>,
    /// Configurations of the topic if it has to be created, such as `retention.ms`.
    #[serde(default)]
    pub topic_configs: BTreeMap<String, String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Template of the record key, such as `"{id}"`. Default: no key; of `mqtt` the message's
    /// topic, which is `"{mqtt.topic}"`.
    pub key: Option<String>,
    /// Where the record timestamp comes from. Default: the time of arrival.
    pub time: Option<TimeConfig>,
    /// What happens to input that cannot be decoded. Default `dead_letter`.
    pub on_error: Option<OnError>,
    pub backoff: Option<BackoffConfig>,

    /// Of `websocket` a `ws://` or `wss://` address; of `mqtt` one such as
    /// `mqtt://localhost:1883`, or `mqtts://` with TLS.
    pub url: Option<String>,
    /// Of `websocket` and `mqtt`.
    pub keepalive: Option<KeepaliveConfig>,
    /// Of `websocket` and `mqtt`, there by default `{ codec = "json" }`.
    pub decode: Option<DecodeConfig>,
    /// Silence after which the state is `quiet` (a closed market, say). Default `"60s"`.
    pub quiet_after: Option<Span>,

    // websocket
    /// Text messages to send on every open. `{symbols}` becomes a JSON array of all symbols of the
    /// socket; a message with `{symbol}` is sent once for each symbol.
    pub on_open: Option<Vec<String>>,
    /// Also for `synthetic`.
    pub symbols: Option<Vec<String>>,
    /// Default 100: feeds drop sockets that ask for too many.
    pub symbols_per_socket: Option<usize>,
    pub format: Option<Format>,
    /// `"0.3"`: yliveticker's ten keys of 2021 instead of the thirteen of today.
    pub compat: Option<String>,
    pub floats: Option<Floats>,
    /// Fields of the stored document that, with the key, tell a repetition from a new record.
    /// `[]` turns recognition off.
    pub dedup: Option<Vec<String>>,
    pub user_agent: Option<String>,
    pub origin: Option<String>,
    /// Opens a fresh socket so often, before the server closes the old one. `"0s"`: never.
    pub recycle: Option<Span>,

    // mqtt
    /// Topic filters to subscribe to, such as `["zigbee2mqtt/#", "tele/+/SENSOR"]`.
    pub topics: Option<Vec<String>>,
    /// Topic filters of messages that are left out.
    pub ignore_topics: Option<Vec<String>>,
    /// Levels of the topic that become fields: `"home/{room}/{sensor}"`. `{name...}` stands for one
    /// level or several, `+` for one that is left out. They take the place of equal names in the
    /// payload. A topic that does not fit is an input that cannot be decoded.
    pub topic_fields: Option<String>,
    /// 1 (default): a message is acknowledged when its records are durable. 0: it is not
    /// acknowledged, and lost where the connection is.
    pub qos: Option<u8>,
    /// Default: another one at every connection. Two clients with one name disconnect each other.
    pub client_id: Option<String>,
    /// The server keeps what comes while this source is away; needs `client_id`. Default false.
    pub persistent_session: Option<bool>,
    /// What becomes of a message that the server had kept from before. Default `drop`.
    pub retained: Option<Retained>,
    pub user: Option<String>,
    /// A file whose first line is the password; read at every connection.
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds the password.
    pub password_env: Option<String>,
    /// PEM file of the authority that signed the server's certificate. Default: the system's.
    pub tls_ca: Option<PathBuf>,

    // csv
    /// A `.csv` or `.csv.gz` file, or `demo:flights`.
    pub path: Option<PathBuf>,
    /// One ASCII character. Default `","`.
    pub delimiter: Option<String>,
    /// Column names of a file without a header line.
    pub header: Option<Vec<String>>,
    /// New names of columns: `{ carrier = "AIRLINE" }`. Templates use the new names.
    pub rename: Option<BTreeMap<String, String>>,
    pub types: Option<Types>,
    pub shape: Option<Shape>,
    /// Rows of one record when `shape = "array"`. Default 5.
    pub rows_per_record: Option<usize>,
    /// Adds `ts`, the time of sending in epoch seconds, to every object. Default false.
    pub inject_ts: Option<bool>,
    /// `"max"`, `"500/s"` or `"event_time×60"`. Default `max`.
    pub pace: Option<String>,
    /// Begins again at the end of the file. Default false.
    #[serde(rename = "loop")]
    pub repeat: Option<bool>,

    // synthetic
    pub seed: Option<u64>,
    /// Ticks for each symbol, such as `"2/s"`. Default `"1/s"`.
    pub rate: Option<String>,
    /// Filled in at the start if the topic is empty. Default none.
    pub history: Option<Span>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Websocket,
    Mqtt,
    Csv,
    Synthetic,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Websocket => "websocket",
            Self::Mqtt => "mqtt",
            Self::Csv => "csv",
            Self::Synthetic => "synthetic",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    Yahoo,
    Zigbee2mqtt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// To the topic `<topic>.dead-letter`, with the reason in headers.
    DeadLetter,
    /// Counted, then dropped.
    Skip,
    /// The source stops with the state `failed`.
    Stop,
}

/// Either `field` with `unit`, or `template` with `zone`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeConfig {
    pub field: Option<String>,
    pub unit: Option<TimeUnit>,
    /// Renders a local date and time: `"{year}-{month}-{day} {sched_dep_time:hhmm}"`.
    pub template: Option<String>,
    /// An IANA name such as `America/New_York`. Default UTC.
    pub zone: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    S,
    Ms,
    Us,
    Ns,
    Rfc3339,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeepaliveConfig {
    /// Default `"15s"`.
    pub ping: Option<Span>,
    /// No frame of any kind for so long: the socket is dropped. Default `"45s"`.
    pub idle_timeout: Option<Span>,
    /// How often the `on_open` messages are sent again. Default `"0s"`: only on open. Of
    /// `websocket` alone.
    pub resend_on_open: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecodeConfig {
    pub codec: Codec,
    /// `"channel == 'trade' && type != 'snapshot'"`: frames that do not match are ignored.
    #[serde(rename = "where")]
    pub filter: Option<String>,
    /// Path of an array; each of its elements becomes a record.
    pub explode: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// Yahoo's `PricingData`: base64 of a protobuf, bare or in a JSON envelope.
    Yahoo,
    Json,
    /// One value, such as `21.5` or `ON`, which becomes `{"value": 21.5}`.
    Scalar,
}

/// Messages that the server had kept before the subscription: the last one of each topic, of an age
/// that nobody knows, and again at every connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retained {
    Drop,
    /// Every record has a field `retained`, true or false.
    Mark,
    Keep,
}

/// The shape of a stored quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// The keys and the order of the Python package yliveticker.
    Yliveticker,
    /// As the Python package yfinance hands them over: snake case, 64-bit integers as strings,
    /// zeros missing.
    Yfinance,
    /// All 33 fields, with yliveticker's names where it has them.
    Full,
}

/// How a 32-bit float is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Floats {
    /// Widened to 64 bits first, as Python does: 33.92 becomes `33.91999816894531`.
    Widened,
    /// The shortest text that reads back as the same 32-bit float: `33.92`.
    Shortest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Types {
    /// Every value a string, as the old flight producer sent them.
    String,
    /// Numbers and booleans are written as such, empty fields as null.
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// One JSON object a record.
    Row,
    /// A JSON array of `rows_per_record` objects a record.
    Array,
}

/// Waiting between attempts: a random time up to `min`, `2·min`, … `max`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackoffConfig {
    /// Default `"1s"`.
    pub min: Option<Span>,
    /// Default `"60s"`.
    pub max: Option<Span>,
    /// After so long in health the waiting starts from `min` again. Default `"30s"`.
    pub reset_after: Option<Span>,
}
