//! What the process says while it runs: one line an event, to standard error.
//!
//! `human` for eyes (coloured on a terminal), `logfmt` and `json` for machines.

use std::fmt::{self, Write as _};
use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
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
pub fn begin(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| format!("log level {filter:?}: {e}"))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let done = match format {
        LogFormat::Human => subscriber.with_target(false).try_init(),
        LogFormat::Logfmt => subscriber.with_ansi(false).event_format(Logfmt).try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    done.map_err(|e| e.to_string())
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
    fn a_value_is_quoted_when_it_could_be_misread() {
        assert_eq!(quoted("127.0.0.1:9092"), "127.0.0.1:9092");
        assert_eq!(quoted("a b"), "\"a b\"");
        assert_eq!(quoted("a=\"b\"\nc"), r#""a=\"b\"\nc""#);
        assert_eq!(quoted(""), "\"\"");
    }
}
