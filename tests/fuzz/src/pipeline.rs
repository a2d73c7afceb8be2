//! `pipeline.toml`: sources, windows, indicators, counts, Parquet, models.
//!
//! Promise: any text is a valid pipeline or has problems, each at a line that there is.

use odradek::fuzzing;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let lines = text.split('\n').count();
    for line in fuzzing::pipeline_problems(text).into_iter().flatten() {
        assert!((1..=lines).contains(&line), "line {line} of {lines}");
    }
}
