//! What the process says while it runs: one line an event, to standard error.
//!
//! `human` for eyes (coloured on a terminal), `logfmt` and `json` for machines. What is said is
//! chosen at the start, and while the process runs by `kafka-configs --entity-type broker-loggers`.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::io::IsTerminal;
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use clap::ValueEnum;
use odradek_broker::loggers::{self, ROOT};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::http::now_ms;
use crate::operations::instant::rfc3339;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text for a person
    Human,
    /// key=value pairs
    Logfmt,
    /// A JSON object a line
    Json,
}

/// `filter`: a level (`info`) or directives (`info,odradek_broker=debug`).
pub fn begin(format: LogFormat, filter: &str) -> Result<Arc<Loggers>, String> {
    let parsed = EnvFilter::try_new(filter).map_err(|e| format!("log level {filter:?}: {e}"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // The handles of the three formats are of three types.
    macro_rules! start {
        ($subscriber:expr) => {{
            let subscriber = $subscriber.with_filter_reloading();
            let handle = subscriber.reload_handle();
            let reload: Reload = Box::new(move |filter| handle.reload(filter).map_err(drop));
            subscriber.try_init().map(|()| reload)
        }};
    }
    let reload = match format {
        LogFormat::Human => start!(subscriber.with_target(false)),
        LogFormat::Logfmt => start!(subscriber.with_ansi(false).event_format(Logfmt)),
        LogFormat::Json => start!(subscriber.json().flatten_event(true)),
    };
    let reload = reload.map_err(|e| e.to_string())?;
    Ok(Arc::new(Loggers { at_start: filter.to_owned(), set: Mutex::default(), reload }))
}

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), ()> + Send + Sync>;

/// A package says things under its own name; `odradek` is all of them, `root` the libraries too.
const LOGGERS: [&str; 7] = [
    ROOT,
    "odradek",
    "odradek_analytics",
    "odradek_broker",
    "odradek_ingest",
    "odradek_log",
    "odradek_protocol",
];

/// The levels of this process's log.
pub struct Loggers {
    /// What it was told at the start.
    at_start: String,
    /// What was changed since.
    set: Mutex<BTreeMap<&'static str, LevelFilter>>,
    reload: Reload,
}

impl loggers::Loggers for Loggers {
    fn levels(&self) -> Vec<(&'static str, LevelFilter)> {
        let set = self.set.lock().expect("no holder of the levels panics");
        let directives = directives(&self.at_start, &set);
        LOGGERS.iter().map(|logger| (*logger, level_of(logger, &directives))).collect()
    }

    fn set(&self, changes: &[(&'static str, Option<LevelFilter>)]) -> Result<(), String> {
        let mut set = self.set.lock().expect("no holder of the levels panics");
        let mut after = set.clone();
        for (logger, level) in changes {
            match level {
                Some(level) => after.insert(logger, *level),
                None => after.remove(logger),
            };
        }
        let filter = directives(&self.at_start, &after);
        let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
        (self.reload)(filter).map_err(|()| "the log has ended".to_owned())?;
        *set = after;
        Ok(())
    }
}

/// As `begin` takes them; of two for one name the later one counts.
fn directives(at_start: &str, set: &BTreeMap<&'static str, LevelFilter>) -> String {
    let mut all = at_start.to_owned();
    for (logger, level) in set {
        let _ = match *logger {
            ROOT => write!(all, ",{level}"),
            logger => write!(all, ",{logger}={level}"),
        };
    }
    all
}

/// The level of the longest name that this one begins with. Directives about spans, which levels
/// cannot tell, are passed over.
fn level_of(logger: &str, directives: &str) -> LevelFilter {
    let plain = directives.split(',').filter_map(|one| Targets::from_str(one).ok());
    let mut found = (0, LevelFilter::ERROR);
    for directive in plain {
        let root = directive.default_level().map(|level| ("", level));
        let named = directive.iter().filter(|(name, _)| logger != ROOT && logger.starts_with(name));
        for (name, level) in root.into_iter().chain(named) {
            if name.len() >= found.0 {
                found = (name.len(), level);
            }
        }
    }
    found.1
}

struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        let time = rfc3339(now_ms()).unwrap_or_default();
        write!(writer, "time={time} level={level} target={}", metadata.target())?;
        let mut pairs = Pairs { message: String::new(), rest: String::new() };
        event.record(&mut pairs);
        writeln!(writer, "{}{}", pairs.message, pairs.rest)
    }
}

struct Pairs {
    message: String,
    rest: String,
}

impl Visit for Pairs {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let (name, out) = match field.name() {
            "message" => ("msg", &mut self.message),
            name => (name, &mut self.rest),
        };
        let _ = write!(out, " {name}={}", quoted(value));
    }
}

fn quoted(value: &str) -> String {
    let is_plain = !value.is_empty()
        && value.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '=' | '\\'));
    if is_plain { value.to_owned() } else { format!("{value:?}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logger_has_the_level_of_the_longest_name() {
        let set = BTreeMap::from([("odradek_log", LevelFilter::TRACE), (ROOT, LevelFilter::WARN)]);
        let directives = directives("info,odradek=debug,odradek_log=error", &set);
        let expected = [
            (ROOT, LevelFilter::WARN),
            ("odradek", LevelFilter::DEBUG),
            ("odradek_broker", LevelFilter::DEBUG),
            ("odradek_log", LevelFilter::TRACE),
        ];
        for (logger, level) in expected {
            assert_eq!(level_of(logger, &directives), level, "{logger}");
        }
        assert_eq!(level_of(ROOT, "odradek=info"), LevelFilter::ERROR, "EnvFilter's own default");
    }

    #[test]
    fn a_value_is_quoted_when_it_could_be_misread() {
        assert_eq!(quoted("127.0.0.1:9092"), "127.0.0.1:9092");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("a=\"b\"\nc"), r#""a=\"b\"\nc""#);
        assert_eq!(quoted(""), "\"\"");
    }
}
