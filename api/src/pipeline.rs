//! `pipeline.toml`: the sources, the processors and the topic that `GetKafkaData` serves.
//!
//! One file, many tables: `[[source]]` belongs to ingest; `[[window]]`, `[[indicator]]`,
//! `[[count]]`, `[[parquet]]` and `[[model]]` to analytics; `[GetKafkaData] topic = "…"` to HTTP.
//! A key that nobody knows stops the start, with its line: a misspelt setting that is silently
//! ignored is the commonest trouble of a home set-up.

use std::path::{Path, PathBuf};

use odradek_analytics::{
    Config as Analytics, CountConfig, IndicatorConfig, ModelConfig, ParquetConfig, WindowConfig,
};
use odradek_broker::config::ConfigProblem;
use odradek_ingest::SourceConfig;
use serde::Deserialize;

pub const FILE_NAME: &str = "pipeline.toml";

#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    pub sources: Vec<SourceConfig>,
    pub analytics: Analytics,
    pub get_kafka_data_topic: Option<String>,
}

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    source: Vec<SourceConfig>,
    window: Vec<WindowConfig>,
    indicator: Vec<IndicatorConfig>,
    count: Vec<CountConfig>,
    parquet: Vec<ParquetConfig>,
    model: Vec<ModelConfig>,
    #[serde(rename = "GetKafkaData")]
    get_kafka_data: Option<GetKafkaData>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct GetKafkaData {
    topic: String,
}

/// The named file, else the one beside `server.properties`, in this folder, or in the system's.
pub fn find(named: Option<&Path>, properties: Option<&Path>) -> Option<PathBuf> {
    if let Some(named) = named {
        return Some(named.to_owned());
    }
    let beside = properties.and_then(Path::parent).map(Path::to_owned);
    let system = if cfg!(windows) {
        std::env::var_os("ProgramData").map(|base| PathBuf::from(base).join("Odradek"))
    } else {
        Some(PathBuf::from("/etc/odradek"))
    };
    let folders = [beside, Some(PathBuf::from(".")), system].into_iter().flatten();
    folders.map(|folder| folder.join(FILE_NAME)).find(|file| file.is_file())
}

pub fn read(path: &Path) -> Result<Pipeline, Vec<ConfigProblem>> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&file, &text),
        Err(error) => {
            let fix = "name a file that can be read".to_owned();
            Err(vec![problem(&file, None, "", &error.to_string(), &fix)])
        }
    }
}

/// On failure every problem that was found, not only the first.
pub fn parse(file: &str, text: &str) -> Result<Pipeline, Vec<ConfigProblem>> {
    let written: Written = toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let (what, fix) = explained(error.message());
        vec![problem(file, line, "", &what, &fix)]
    })?;
    let mut problems: Vec<ConfigProblem> = odradek_ingest::validate(&written.source)
        .into_iter()
        .map(|found| {
            let line = entry_line(text, "source", &found.source, Some(found.key));
            let key = format!("source {:?}: {}", found.source, found.key);
            problem(file, line, &key, &found.what, &found.fix)
        })
        .collect();
    let analytics = Analytics {
        window: written.window,
        indicator: written.indicator,
        count: written.count,
        parquet: written.parquet,
        model: written.model,
    };
    if let Err(found) = analytics.validate() {
        let line = entry_line(text, found.section, &found.name, None);
        let key = format!("{} {:?}", found.section, found.name);
        problems.push(problem(file, line, &key, &found.reason, ""));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(Pipeline {
        sources: written.source,
        analytics,
        get_kafka_data_topic: written.get_kafka_data.map(|named| named.topic),
    })
}

/// A misspelt key with the one that was probably meant, instead of the list of all.
fn explained(message: &str) -> (String, String) {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let unknown = if message.starts_with("unknown field") { quoted.next() } else { None };
    let Some(unknown) = unknown else {
        return (message.to_owned(), "correct it, or take it out".to_owned());
    };
    let nearest = quoted
        .map(|known| (strsim::osa_distance(unknown, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().min(unknown.len()) / 2);
    let what = format!("{unknown:?} is not a key or a section here");
    match nearest {
        Some((_, known)) => (what, format!("is {known:?} meant? Else take it out")),
        None => (what, "take it out".to_owned()),
    }
}

fn problem(file: &str, line: Option<usize>, key: &str, what: &str, fix: &str) -> ConfigProblem {
    ConfigProblem {
        file: file.to_owned(),
        line,
        key: key.to_owned(),
        what: what.trim().replace('\n', "; "),
        fix: fix.to_owned(),
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The line of a key in the `[[section]]` of that name, or the line where the section begins.
fn entry_line(text: &str, section: &str, name: &str, key: Option<&str>) -> Option<usize> {
    let header = format!("[[{section}]]");
    let (mut begins, mut is_ours, mut key_line) = (None, false, None);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("[[") {
            if is_ours {
                break;
            }
            begins = (line == header).then_some(index + 1);
            key_line = None;
        }
        let Some((left, right)) = line.split_once('=') else { continue };
        let left = left.trim();
        if begins.is_some() && left == "name" {
            is_ours = right.trim().trim_matches(['"', '\'']) == name;
        }
        if key.is_some_and(|key| left == key.split('.').next().unwrap_or(key)) {
            key_line = Some(index + 1);
        }
    }
    if is_ours { key_line.or(begins) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[GetKafkaData]
topic = "stocks"

[[source]]
name = "flights"
type = "csv"
path = "flights.csv"
topic = "flights"

[[count]]
name = "a-day"
input = "flights"
output = "flights.counts"
by = "{carrier}"
"#;

    fn problems(text: &str) -> Vec<String> {
        let problems = parse("p.toml", text).expect_err("has problems");
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_section_finds_its_reader() {
        let pipeline = parse("p.toml", GOOD).expect("valid");
        assert_eq!(pipeline.sources[0].topic, "flights");
        assert_eq!(pipeline.analytics.count[0].by, "{carrier}");
        assert_eq!(pipeline.get_kafka_data_topic.as_deref(), Some("stocks"));
        assert!(parse("p.toml", "").expect("an empty file is valid").sources.is_empty());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        for (wrong, line) in [
            (GOOD.replace("topic = \"flights\"", "topic = \"flights\"\ntopik = \"x\""), 10),
            (GOOD.replace("by =", "bye ="), 15),
            (format!("{GOOD}\n[[widow]]\nname = \"x\"\n"), 17),
            (format!("{GOOD}\n[oops\n"), 17),
        ] {
            let found = problems(&wrong);
            let near = (line..=line + 1).any(|at| found[0].starts_with(&format!("p.toml:{at}:")));
            assert!(near, "{line}: {found:?}");
        }
    }

    #[test]
    fn a_misspelt_key_is_told_what_was_probably_meant() {
        let found = problems(&GOOD.replace("path =", "pth ="));
        assert_eq!(
            found,
            ["p.toml:8: \"pth\" is not a key or a section here. Fix: is \"path\" meant? Else \
                 take it out"]
        );
        let found = problems(&format!("{GOOD}\n[[something_else]]\n"));
        assert!(found[0].ends_with("Fix: take it out"), "{found:?}");
    }

    #[test]
    fn a_value_that_makes_no_sense_is_refused_with_its_section() {
        let found = problems(&GOOD.replace("{carrier}", "{carrier"));
        assert!(found[0].starts_with("p.toml:11: count \"a-day\""), "{found:?}");
        let found = problems(&GOOD.replace("path = \"flights.csv\"\n", ""));
        assert!(found[0].starts_with("p.toml:5: source \"flights\""), "{found:?}");
    }
}
