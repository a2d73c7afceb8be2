use super::*;

const DEMO: &str = r#"
[[window]]
name = "bars"
input = "stocks"
output = "stocks.bars.1m"
every = "1m"
price = "price"
volume = "dayVolume"
volume_kind = "cumulative"

[[indicator]]
name = "indicators"
input = "stocks.bars.1m"
output = "stocks.indicators.1m"
bollinger = { period = 20, deviations = 2 }
aroon = { period = 14 }

[[count]]
name = "flights-a-day"
input = "flights"
output = "flights.counts"
by = "{carrier}"
zone = "America/New_York"

[[parquet]]
name = "lake"
topic = "stocks"
dir = "parquet"

[[model]]
name = "next-minute"
input = "stocks.bars.1m"
predictions = "stocks.predictions"
scores = "stocks.scores"
report = "stocks.models"
train = { rows_min = 200, folds = 3 }
"#;

fn parse(text: &str) -> Result<Config, String> {
    let config: Config = toml::from_str(text).map_err(|e| e.to_string())?;
    config.validate().map_err(|e| e.to_string())?;
    Ok(config)
}

#[test]
fn the_demo_sections_parse_with_their_defaults() {
    let config = parse(DEMO).unwrap();
    assert_eq!(config.window[0].every, Span::from_ms(60_000));
    assert_eq!(config.window[0].lateness, Span::from_ms(300_000));
    assert_eq!(config.window[0].volume_kind, VolumeKind::Cumulative);
    assert_eq!(config.indicator[0].aroon.period, 14);
    assert_eq!(config.model[0].horizon, 1);
    assert_eq!(config.model[0].train.trees, 60);
}

#[test]
fn a_wrong_section_is_refused_with_what_is_wrong() {
    let table = [
        ("input = \"stocks\"\nout", "input = \"stocks\"\nmistyped = 1\nout", "mistyped"),
        ("every = \"1m\"", "every = \"60\"", "whole number and a unit"),
        ("name = \"lake\"", "name = \"bars\"", "same name"),
        ("volume = \"dayVolume\"\n", "", "`volume` must name the field"),
        ("\"stocks.bars.1m\"\nevery", "\"stocks\"\nevery", "its own input"),
        ("America/New_York", "America/Gotham", "not a time zone"),
        ("{carrier}", "{carrier", "`by`"),
        ("period = 20", "period = 1", "bollinger.period"),
        ("folds = 3", "folds = 1", "train.folds"),
        ("\"stocks.scores\"", "\"stocks.predictions\"", "two of its outputs"),
    ];
    for (from, to, expected) in table {
        assert!(DEMO.contains(from), "{from}");
        let message = parse(&DEMO.replace(from, to)).unwrap_err();
        assert!(message.contains(expected), "{to}: {message}");
    }
}
