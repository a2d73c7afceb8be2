//! From a configuration to what a source does: presets filled in, defaults applied, text parsed.
//! Everything that can be wrong without opening a file or a socket is found here, and all of it at
//! once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use jiff::tz::TimeZone;
use odradek_broker::file_modes;

use crate::backoff::BackoffPlan;
use crate::config::{Kind, OnError, Preset, Shape, SourceConfig, TimeConfig, Types};
use crate::csv::pace::Pace;
use crate::event_time::TimePlan;
use crate::limits;
use crate::mqtt::plan::MqttPlan;
use crate::preset;
use crate::problem::{Problem, Problems};
use crate::template::Template;
use crate::websocket::plan::WebsocketPlan;

/// What one source does.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub name: String,
    pub topic: String,
    pub partitions: i32,
    pub topic_configs: Vec<(String, String)>,
    pub on_error: OnError,
    /// `<topic>.dead-letter`, if that is where errors go.
    pub dead_letter_topic: Option<String>,
    pub key: Option<Template>,
    pub time: TimePlan,
    pub backoff: BackoffPlan,
    pub kind: KindPlan,
}

#[derive(Debug, Clone)]
pub(crate) enum KindPlan {
    Websocket(Box<WebsocketPlan>),
    Mqtt(Box<MqttPlan>),
    Csv(CsvPlan),
    Synthetic(SyntheticPlan),
}

#[derive(Debug, Clone)]
pub(crate) struct CsvPlan {
    pub path: PathBuf,
    pub delimiter: u8,
    pub header: Option<Vec<String>>,
    pub rename: BTreeMap<String, String>,
    pub types: Types,
    /// `None`: one object a record. Otherwise an array of so many.
    pub rows_per_array: Option<usize>,
    pub inject_ts: bool,
    pub pace: Pace,
    pub repeat: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct SyntheticPlan {
    pub symbols: Vec<String>,
    pub seed: u64,
    pub ticks_per_s: f64,
    pub history: Duration,
}

/// All problems of all sources; empty if they can be started.
pub fn validate(configs: &[SourceConfig]) -> Vec<Problem> {
    let mut found = Vec::new();
    for (index, config) in configs.iter().enumerate() {
        if configs[..index].iter().any(|other| other.name == config.name) {
            let mut problems = Problems::new(&config.name);
            problems.add("name", "another source has this name too", "choose a different name");
            found.extend(problems.into_vec());
        }
        if let Err(problems) = Plan::of(config) {
            found.extend(problems);
        }
    }
    found
}

/// Files with passwords that other users of this machine may read, with the command that mends it.
pub fn warnings(configs: &[SourceConfig]) -> Vec<String> {
    let files = configs.iter().filter_map(|config| {
        let what = format!("the password of source {}", config.name);
        file_modes::warning(config.password_file.as_ref()?, &what)
    });
    files.collect()
}

impl Plan {
    pub fn of(config: &SourceConfig) -> Result<Self, Vec<Problem>> {
        let config = preset::filled(config.clone());
        let mut problems = Problems::new(&config.name);
        check_keys(&config, &mut problems);
        check_names(&config, &mut problems);
        let on_error = config.on_error.unwrap_or(OnError::DeadLetter);
        let usual_key = (config.kind == Kind::Mqtt).then_some("{mqtt.topic}");
        let key = config.key.as_deref().or(usual_key);
        let key = key.and_then(|key| template("key", key, &mut problems));
        let time = time_plan(config.time.as_ref(), &mut problems);
        let partitions = config.partitions.unwrap_or(1);
        if partitions < 1 {
            problems.add("partitions", format!("{partitions} is below 1"), "write 1 or more");
        }
        let kind = match config.kind {
            Kind::Websocket => WebsocketPlan::of(&config, &mut problems)
                .map(|feed| KindPlan::Websocket(Box::new(feed))),
            Kind::Mqtt => {
                MqttPlan::of(&config, &mut problems).map(|feed| KindPlan::Mqtt(Box::new(feed)))
            }
            Kind::Csv => csv_plan(&config, &mut problems).map(KindPlan::Csv),
            Kind::Synthetic => synthetic_plan(&config, &mut problems).map(KindPlan::Synthetic),
        };
        let backoff = backoff_plan(&config, &mut problems);
        let dead_letter_topic =
            (on_error == OnError::DeadLetter).then(|| format!("{}.dead-letter", config.topic));
        match kind {
            Some(kind) if problems.none() => Ok(Self {
                name: config.name,
                topic: config.topic,
                partitions,
                topic_configs: config.topic_configs.into_iter().collect(),
                on_error,
                dead_letter_topic,
                key,
                time,
                backoff,
                kind,
            }),
            _ => Err(problems.into_vec()),
        }
    }
}

/// A key that means nothing for this kind of source is refused rather than ignored.
fn check_keys(config: &SourceConfig, problems: &mut Problems) {
    use Kind::{Csv, Mqtt, Synthetic, Websocket};
    let keys: &[(&'static str, bool, &[Kind])] = &[
        ("preset", config.preset.is_some(), &[Websocket, Mqtt]),
        ("key", config.key.is_some(), &[Websocket, Mqtt, Csv]),
        ("time", config.time.is_some(), &[Websocket, Mqtt, Csv]),
        ("on_error", config.on_error.is_some(), &[Websocket, Mqtt, Csv]),
        ("url", config.url.is_some(), &[Websocket, Mqtt]),
        ("keepalive", config.keepalive.is_some(), &[Websocket, Mqtt]),
        ("decode", config.decode.is_some(), &[Websocket, Mqtt]),
        ("quiet_after", config.quiet_after.is_some(), &[Websocket, Mqtt]),
        ("on_open", config.on_open.is_some(), &[Websocket]),
        ("symbols", config.symbols.is_some(), &[Websocket, Synthetic]),
        ("symbols_per_socket", config.symbols_per_socket.is_some(), &[Websocket]),
        ("format", config.format.is_some(), &[Websocket]),
        ("compat", config.compat.is_some(), &[Websocket]),
        ("floats", config.floats.is_some(), &[Websocket]),
        ("dedup", config.dedup.is_some(), &[Websocket]),
        ("user_agent", config.user_agent.is_some(), &[Websocket]),
        ("origin", config.origin.is_some(), &[Websocket]),
        ("recycle", config.recycle.is_some(), &[Websocket]),
        ("topics", config.topics.is_some(), &[Mqtt]),
        ("ignore_topics", config.ignore_topics.is_some(), &[Mqtt]),
        ("topic_fields", config.topic_fields.is_some(), &[Mqtt]),
        ("qos", config.qos.is_some(), &[Mqtt]),
        ("client_id", config.client_id.is_some(), &[Mqtt]),
        ("persistent_session", config.persistent_session.is_some(), &[Mqtt]),
        ("retained", config.retained.is_some(), &[Mqtt]),
        ("user", config.user.is_some(), &[Mqtt]),
        ("password_file", config.password_file.is_some(), &[Mqtt]),
        ("password_env", config.password_env.is_some(), &[Mqtt]),
        ("tls_ca", config.tls_ca.is_some(), &[Mqtt]),
        ("path", config.path.is_some(), &[Csv]),
        ("delimiter", config.delimiter.is_some(), &[Csv]),
        ("header", config.header.is_some(), &[Csv]),
        ("rename", config.rename.is_some(), &[Csv]),
        ("types", config.types.is_some(), &[Csv]),
        ("shape", config.shape.is_some(), &[Csv]),
        ("rows_per_record", config.rows_per_record.is_some(), &[Csv]),
        ("inject_ts", config.inject_ts.is_some(), &[Csv]),
        ("pace", config.pace.is_some(), &[Csv]),
        ("loop", config.repeat.is_some(), &[Csv]),
        ("seed", config.seed.is_some(), &[Synthetic]),
        ("rate", config.rate.is_some(), &[Synthetic]),
        ("history", config.history.is_some(), &[Synthetic]),
    ];
    for &(key, set, kinds) in keys {
        if set && !kinds.contains(&config.kind) {
            let kind = config.kind.name();
            problems.add(key, format!("means nothing for type = {kind:?}"), "remove the key");
        }
    }
    let (preset, kind) = match config.preset {
        None => return,
        Some(Preset::Yahoo) => ("yahoo", Websocket),
        Some(Preset::Zigbee2mqtt) => ("zigbee2mqtt", Mqtt),
    };
    if config.kind != kind {
        let what = format!("{preset} is for type = {:?}", kind.name());
        problems.add("preset", what, "write that type, or remove the preset");
    }
}

fn check_names(config: &SourceConfig, problems: &mut Problems) {
    let legal = |text: &str| {
        let bytes = text.bytes();
        !matches!(text, "." | "..")
            && !text.is_empty()
            && bytes.into_iter().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let fix = "use letters, digits, dots, dashes and underscores";
    if !legal(&config.name) || config.name.len() > 100 {
        problems.add("name", format!("{:?} is no name for a source", config.name), fix);
    }
    // Kafka's limit is 249; the name of the dead-letter topic must fit too.
    if !legal(&config.topic) || config.topic.len() > 249 - ".dead-letter".len() {
        problems.add("topic", format!("{:?} is no name for a topic", config.topic), fix);
    }
}

fn template(key: &'static str, text: &str, problems: &mut Problems) -> Option<Template> {
    match Template::parse(text) {
        Ok(template) => Some(template),
        Err(what) => {
            problems.add(key, what, "write fields as \"{name}\"");
            None
        }
    }
}

fn time_plan(config: Option<&TimeConfig>, problems: &mut Problems) -> TimePlan {
    let Some(config) = config else { return TimePlan::Arrival };
    match (&config.field, config.unit, &config.template) {
        (Some(field), Some(unit), None) => {
            if config.zone.is_some() {
                problems.add("time.zone", "an epoch time has no zone", "remove the key");
            }
            return TimePlan::Field { field: field.clone(), unit };
        }
        (Some(_), None, None) => problems.add(
            "time.unit",
            "the unit of the time field is missing",
            "write one of s, ms, us, ns, rfc3339; it is never guessed",
        ),
        (None, None, Some(text)) => {
            let template = template("time.template", text, problems);
            let zone = zone(config.zone.as_deref().unwrap_or("UTC"), problems);
            if let (Some(template), Some(zone)) = (template, zone) {
                return TimePlan::Local { template, zone };
            }
        }
        _ => problems.add(
            "time",
            "needs either field and unit, or template and zone",
            "write for example { field = \"timestamp\", unit = \"ms\" }",
        ),
    }
    TimePlan::Arrival
}

fn zone(name: &str, problems: &mut Problems) -> Option<TimeZone> {
    let zone = TimeZone::get(name).ok();
    if zone.is_none() {
        problems.add(
            "time.zone",
            format!("{name:?} is no time zone"),
            "write an IANA name such as \"America/New_York\"",
        );
    }
    zone
}

fn backoff_plan(config: &SourceConfig, problems: &mut Problems) -> BackoffPlan {
    let mut plan = BackoffPlan::default();
    let Some(config) = &config.backoff else { return plan };
    plan.min = config.min.map_or(plan.min, |span| span.0);
    plan.max = config.max.map_or(plan.max.max(plan.min), |span| span.0);
    plan.reset_after = config.reset_after.map_or(plan.reset_after, |span| span.0);
    if plan.min.is_zero() || plan.max < plan.min {
        problems.add("backoff", "needs 0s < min <= max", "write for example { min = \"1s\" }");
    }
    plan
}

fn csv_plan(config: &SourceConfig, problems: &mut Problems) -> Option<CsvPlan> {
    let Some(path) = config.path.clone() else {
        problems.add("path", "is missing", "name a .csv or .csv.gz file");
        return None;
    };
    let delimiter = config.delimiter.as_deref().unwrap_or(",").as_bytes().to_vec();
    if delimiter.len() != 1 {
        problems.add("delimiter", "is not one ASCII character", "write \",\" or \";\" or \"\\t\"");
    }
    let rows = config.rows_per_record.unwrap_or(5);
    if !(1..=limits::ROWS_PER_RECORD_MAX).contains(&rows) {
        let most = limits::ROWS_PER_RECORD_MAX;
        problems.add("rows_per_record", format!("{rows} is not in 1..={most}"), "change it");
    }
    let array = config.shape == Some(Shape::Array);
    if array && config.key.is_some() {
        problems.add(
            "key",
            "a record with an array of rows has no single key",
            "remove the key, or write shape = \"row\"",
        );
    }
    if !array && config.rows_per_record.is_some() {
        problems.add("rows_per_record", "needs shape = \"array\"", "add it, or remove this key");
    }
    let pace = config.pace.as_deref().unwrap_or("max").parse();
    if let Err(what) = &pace {
        let fix = "write \"max\", \"500/s\" or \"event_time×60\"";
        problems.add("pace", Clone::clone(what), fix);
    }
    if matches!(pace, Ok(Pace::EventTime(_))) && config.time.is_none() {
        problems.add("pace", "event_time needs an event time", "add time = { … }");
    }
    Some(CsvPlan {
        path,
        delimiter: delimiter.first().copied().unwrap_or(b','),
        header: config.header.clone(),
        rename: config.rename.clone().unwrap_or_default(),
        types: config.types.unwrap_or(Types::String),
        rows_per_array: array.then_some(rows),
        inject_ts: config.inject_ts.unwrap_or(false),
        pace: pace.unwrap_or(Pace::Max),
        repeat: config.repeat.unwrap_or(false),
    })
}

fn synthetic_plan(config: &SourceConfig, problems: &mut Problems) -> Option<SyntheticPlan> {
    let symbols = config
        .symbols
        .clone()
        .unwrap_or_else(|| ["GM", "AAPL", "MSFT", "F", "BTC-USD"].map(str::to_owned).to_vec());
    if symbols.is_empty() || symbols.len() > 100 {
        problems.add("symbols", "needs 1 to 100 symbols", "name some");
    }
    let rate: Result<Pace, String> = config.rate.as_deref().unwrap_or("1/s").parse();
    let Ok(Pace::Rate(ticks_per_s)) = rate else {
        problems.add("rate", "is not a rate", "write for example \"1/s\"");
        return None;
    };
    if ticks_per_s > 50.0 {
        problems.add("rate", "is above 50/s for each symbol", "lower it");
    }
    let history = config.history.map_or(Duration::ZERO, |span| span.0);
    if history > limits::SYNTHETIC_HISTORY_MAX {
        problems.add("history", "is longer than a day", "write at most \"1d\"");
    }
    Some(SyntheticPlan { symbols, seed: config.seed.unwrap_or(1), ticks_per_s, history })
}
