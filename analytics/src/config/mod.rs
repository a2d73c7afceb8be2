//! The analytics sections of `pipeline.toml`.
//!
//! One array of tables a kind: `[[window]]`, `[[indicator]]`, `[[count]]`, `[[parquet]]`,
//! `[[model]]`. Each entry is one *processor*: it reads its input as consumer group
//! `odradek.<name>`, so names are unique over all kinds. Unknown keys are refused by serde, with
//! the line; what a type cannot say is checked by [`Config::validate`], with a sentence.

mod span;

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use span::Span;

/// Every analytics section. The pipeline file has other sections too, so the package that reads
/// it lists these five fields in its own struct and fills this one.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub window: Vec<WindowConfig>,
    pub indicator: Vec<IndicatorConfig>,
    pub count: Vec<CountConfig>,
    pub parquet: Vec<ParquetConfig>,
    pub model: Vec<ModelConfig>,
}

/// What a window makes of its volume field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeKind {
    /// A running total of the session, as Yahoo's `dayVolume`: a bar's volume is a difference.
    Cumulative,
    /// The size of this trade: a bar's volume is a sum.
    Delta,
    None,
}

/// `[[window]]`: open, high, low, close, volume and ticks per key and tumbling event-time window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowConfig {
    pub name: String,
    pub input: String,
    pub output: String,
    /// The window's length. Windows are aligned to the epoch.
    #[serde(default = "one_minute")]
    pub every: Span,
    /// `"record"`: the record's key. Else the name of a field of the value.
    #[serde(default = "record")]
    pub key: String,
    /// `"record"`: the record's timestamp. Else a field with epoch milliseconds.
    #[serde(default = "record")]
    pub time: String,
    #[serde(default = "price")]
    pub price: String,
    #[serde(default)]
    pub volume: Option<String>,
    #[serde(default = "no_volume")]
    pub volume_kind: VolumeKind,
    /// The zone whose midnight may reset a cumulative volume.
    #[serde(default = "new_york")]
    pub session_zone: String,
    /// How far the watermark stays behind the newest event time of a partition: a window closes
    /// when an event at least this much later than its end has been seen.
    #[serde(default = "two_seconds")]
    pub watermark: Span,
    /// How long, in event time after its end passed the watermark, a closed bar is still
    /// corrected (written again) by a late record. Later ones are dropped and counted.
    #[serde(default = "five_minutes")]
    pub lateness: Span,
    /// After this much wall-clock time without input, bars still open are written as they are,
    /// with `"final": false`.
    #[serde(default = "five_seconds")]
    pub idle: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Bollinger {
    pub period: usize,
    pub deviations: f64,
}

impl Default for Bollinger {
    fn default() -> Self {
        Self { period: 20, deviations: 2.0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aroon {
    pub period: usize,
}

impl Default for Aroon {
    fn default() -> Self {
        Self { period: 14 }
    }
}

/// `[[indicator]]`: Bollinger bands and Aroon oscillator of a topic of bars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndicatorConfig {
    pub name: String,
    pub input: String,
    pub output: String,
    #[serde(default)]
    pub bollinger: Bollinger,
    #[serde(default)]
    pub aroon: Aroon,
}

/// `[[count]]`: rows per local day and key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CountConfig {
    pub name: String,
    pub input: String,
    pub output: String,
    /// A template over the row's fields, for example `"{carrier}"`.
    pub by: String,
    /// The zone in which the record's timestamp is turned into a day.
    #[serde(default = "utc")]
    pub zone: String,
    /// Instead of the record's timestamp: a template that gives the local day, for example
    /// `"{year}-{month}-{day}"` (needed when one record holds rows of several days).
    #[serde(default)]
    pub day: Option<String>,
}

/// `[[parquet]]`: a topic as Parquet files, each offset exactly once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetConfig {
    pub name: String,
    #[serde(alias = "topic")]
    pub input: String,
    pub dir: PathBuf,
    /// A file is closed after this many rows,
    #[serde(default = "file_rows")]
    pub rows: usize,
    /// or about this many bytes of values,
    #[serde(default = "file_bytes")]
    pub bytes: usize,
    /// or this long after its first row arrived.
    #[serde(default = "ten_minutes")]
    pub every: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Forust,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// `close[t + horizon] / close[t] - 1`.
    Return,
}

/// When and how a model is trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// First training once this many rows (bars with features and a known target) exist.
    pub rows_min: usize,
    /// Again after this many more rows.
    pub retrain_rows: usize,
    /// Trained on the newest this many rows.
    pub rows_max: usize,
    /// Walk-forward folds.
    pub folds: usize,
    pub seed: u64,
    pub trees: usize,
    pub depth: usize,
    pub learning_rate: f64,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            rows_min: 300,
            retrain_rows: 500,
            rows_max: 20_000,
            folds: 5,
            seed: 1,
            trees: 60,
            depth: 3,
            learning_rate: 0.05,
        }
    }
}

/// `[[model]]`: predicts the return of the bar `horizon` windows ahead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    pub name: String,
    /// A topic of bars, as `[[window]]` writes it.
    pub input: String,
    pub predictions: String,
    pub scores: String,
    pub report: String,
    /// The input's window length.
    #[serde(default = "one_minute")]
    pub every: Span,
    #[serde(default = "one")]
    pub horizon: usize,
    #[serde(default = "target_return")]
    pub target: Target,
    #[serde(default = "forust")]
    pub engine: Engine,
    /// Minute-of-day features are local to this zone.
    #[serde(default = "new_york")]
    pub zone: String,
    #[serde(default)]
    pub train: TrainConfig,
}

fn one() -> usize {
    1
}
fn one_minute() -> Span {
    Span::from_ms(60_000)
}
fn two_seconds() -> Span {
    Span::from_ms(2_000)
}
fn five_seconds() -> Span {
    Span::from_ms(5_000)
}
fn five_minutes() -> Span {
    Span::from_ms(300_000)
}
fn ten_minutes() -> Span {
    Span::from_ms(600_000)
}
fn record() -> String {
    "record".to_owned()
}
fn price() -> String {
    "price".to_owned()
}
fn utc() -> String {
    "UTC".to_owned()
}
fn new_york() -> String {
    "America/New_York".to_owned()
}
fn no_volume() -> VolumeKind {
    VolumeKind::None
}
fn target_return() -> Target {
    Target::Return
}
fn forust() -> Engine {
    Engine::Forust
}
fn file_rows() -> usize {
    100_000
}
fn file_bytes() -> usize {
    64 << 20
}

/// A section that cannot work, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[[{section}]] {name:?}: {reason}")]
pub struct ConfigError {
    pub section: &'static str,
    pub name: String,
    pub reason: String,
}

impl Config {
    /// Every check that needs no broker. The first problem found is returned.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let mut names = BTreeSet::new();
        for (section, name) in self.names() {
            let fail = |reason: String| ConfigError { section, name: name.to_owned(), reason };
            check_name(name).map_err(fail)?;
            if !names.insert(name) {
                return Err(fail(
                    "another analytics section has the same name; the name is also the consumer \
                     group (odradek.<name>), so each must be its own"
                        .to_owned(),
                ));
            }
        }
        self.window.iter().try_for_each(WindowConfig::validate)?;
        self.indicator.iter().try_for_each(IndicatorConfig::validate)?;
        self.count.iter().try_for_each(CountConfig::validate)?;
        self.parquet.iter().try_for_each(ParquetConfig::validate)?;
        self.model.iter().try_for_each(ModelConfig::validate)
    }

    pub fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }

    fn names(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let windows = self.window.iter().map(|c| ("window", c.name.as_str()));
        let indicators = self.indicator.iter().map(|c| ("indicator", c.name.as_str()));
        let counts = self.count.iter().map(|c| ("count", c.name.as_str()));
        let parquets = self.parquet.iter().map(|c| ("parquet", c.name.as_str()));
        let models = self.model.iter().map(|c| ("model", c.name.as_str()));
        windows.chain(indicators).chain(counts).chain(parquets).chain(models)
    }
}

impl WindowConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let fail = |reason: &str| Err(error("window", &self.name, reason));
        check_topics("window", &self.name, &self.input, &[("output", &self.output)])?;
        if self.every.ms() < 1_000 {
            return fail("`every` must be at least \"1s\"");
        }
        if self.price.is_empty() {
            return fail("`price` must name a field");
        }
        if self.volume_kind != VolumeKind::None && self.volume.is_none() {
            return fail("`volume_kind` is set, so `volume` must name the field");
        }
        if self.volume_kind == VolumeKind::None && self.volume.is_some() {
            return fail("`volume` is set, so `volume_kind` must be \"cumulative\" or \"delta\"");
        }
        check_zone("window", &self.name, &self.session_zone)
    }
}

impl IndicatorConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check_topics("indicator", &self.name, &self.input, &[("output", &self.output)])?;
        // TA-Lib's own lower bound is 2; the upper one bounds the bars kept per key.
        for (field, period) in
            [("bollinger.period", self.bollinger.period), ("aroon.period", self.aroon.period)]
        {
            if !(2..=1_000).contains(&period) {
                let reason = format!("`{field}` is {period}; it must be from 2 to 1000");
                return Err(error("indicator", &self.name, &reason));
            }
        }
        let deviations = self.bollinger.deviations;
        if !(deviations.is_finite() && deviations > 0.0) {
            let reason = format!("`bollinger.deviations` is {deviations}; it must be above 0");
            return Err(error("indicator", &self.name, &reason));
        }
        Ok(())
    }
}

impl CountConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check_topics("count", &self.name, &self.input, &[("output", &self.output)])?;
        check_zone("count", &self.name, &self.zone)?;
        for (field, template) in [("by", Some(&self.by)), ("day", self.day.as_ref())] {
            if let Some(template) = template
                && let Err(reason) = crate::row::Template::parse(template)
            {
                return Err(error("count", &self.name, &format!("`{field}`: {reason}")));
            }
        }
        Ok(())
    }
}

impl ParquetConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        check_topics("parquet", &self.name, &self.input, &[])?;
        if self.dir.as_os_str().is_empty() {
            return Err(error("parquet", &self.name, "`dir` must name a folder"));
        }
        if self.rows == 0 || self.bytes == 0 || self.every.ms() == 0 {
            return Err(error("parquet", &self.name, "`rows`, `bytes`, `every` must be above 0"));
        }
        Ok(())
    }
}

impl ModelConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let outputs = [
            ("predictions", &self.predictions),
            ("scores", &self.scores),
            ("report", &self.report),
        ];
        check_topics("model", &self.name, &self.input, &outputs.map(|(f, t)| (f, t.as_str())))?;
        check_zone("model", &self.name, &self.zone)?;
        let train = &self.train;
        let limits = [
            ("horizon", self.horizon, 1, 60),
            ("train.folds", train.folds, 2, 50),
            ("train.rows_min", train.rows_min, 100, 1_000_000),
            ("train.retrain_rows", train.retrain_rows, 10, 1_000_000),
            ("train.rows_max", train.rows_max, train.rows_min, 1_000_000),
            ("train.trees", train.trees, 1, 2_000),
            ("train.depth", train.depth, 1, 12),
        ];
        for (field, value, least, most) in limits {
            if !(least..=most).contains(&value) {
                let reason = format!("`{field}` is {value}; it must be from {least} to {most}");
                return Err(error("model", &self.name, &reason));
            }
        }
        if !(train.learning_rate > 0.0 && train.learning_rate <= 1.0) {
            return Err(error(
                "model",
                &self.name,
                "`train.learning_rate` must be above 0, and 1 at most",
            ));
        }
        if train.rows_min / (train.folds + 1) <= self.horizon {
            return Err(error(
                "model",
                &self.name,
                "`train.rows_min` is too small for so many folds: each needs more rows than the \
                 horizon",
            ));
        }
        Ok(())
    }
}

fn error(section: &'static str, name: &str, reason: &str) -> ConfigError {
    ConfigError { section, name: name.to_owned(), reason: reason.to_owned() }
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 100 || !name.chars().all(allowed) {
        return Err("a name is 1 to 100 of the characters a-z A-Z 0-9 - _ .".to_owned());
    }
    Ok(())
}

fn check_topics(
    section: &'static str,
    name: &str,
    input: &str,
    outputs: &[(&str, &str)],
) -> Result<(), ConfigError> {
    for (field, topic) in std::iter::once(("input", input)).chain(outputs.iter().copied()) {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let valid = !topic.is_empty() && topic.len() <= 249 && topic.chars().all(allowed);
        if !valid || topic == "." || topic == ".." {
            let reason = format!("`{field}` is {topic:?}, which is not a topic name");
            return Err(error(section, name, &reason));
        }
    }
    if outputs.iter().any(|(_, topic)| *topic == input) {
        return Err(error(section, name, "it writes into its own input"));
    }
    let distinct: BTreeSet<_> = outputs.iter().map(|(_, topic)| topic).collect();
    if distinct.len() != outputs.len() {
        return Err(error(section, name, "two of its outputs are the same topic"));
    }
    Ok(())
}

fn check_zone(section: &'static str, name: &str, zone: &str) -> Result<(), ConfigError> {
    jiff::tz::TimeZone::get(zone).map(|_| ()).map_err(|_| {
        let reason = format!("{zone:?} is not a time zone; write one like \"America/New_York\"");
        error(section, name, &reason)
    })
}

#[cfg(test)]
mod tests;
