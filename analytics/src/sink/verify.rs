//! Checks a folder of Parquet files: each offset in one file, each row in its file's range, and
//! no hole that retention does not explain.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;

use arrow_array::{Array, Int64Array};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::folder::{self, Finished, FolderError, GAP_BEFORE};

/// Offsets that no file covers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    pub first: i64,
    pub last: i64,
    /// The file after it says that retention had removed these offsets before they were read.
    pub explained: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct VerifiedPartition {
    pub topic: String,
    pub partition: i32,
    pub first: i64,
    pub last: i64,
    pub files: usize,
    pub rows: u64,
    /// Distinct offsets that have rows.
    pub offsets: u64,
    pub gaps: Vec<Gap>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    pub partitions: Vec<VerifiedPartition>,
    /// Each a sentence; empty when all is well.
    pub problems: Vec<String>,
}

/// Reads every file of every topic folder in `dir`.
pub fn verify(dir: &Path) -> Result<VerifyReport, FolderError> {
    let mut report = VerifyReport::default();
    let mut folders = Vec::new();
    for entry in fs::read_dir(dir).map_err(folder::io(dir))? {
        let path = entry.map_err(folder::io(dir))?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    for folder in folders {
        let Some(topic) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        let mut partitions: BTreeMap<i32, Vec<Finished>> = BTreeMap::new();
        for file in folder::finished(&folder, topic)? {
            partitions.entry(file.partition).or_default().push(file);
        }
        for (partition, files) in partitions {
            let verified = verify_partition(topic, partition, &files, &mut report.problems)?;
            report.partitions.push(verified);
        }
    }
    Ok(report)
}

fn verify_partition(
    topic: &str,
    partition: i32,
    files: &[Finished],
    problems: &mut Vec<String>,
) -> Result<VerifiedPartition, FolderError> {
    let mut verified = VerifiedPartition {
        topic: topic.to_owned(),
        partition,
        first: files.first().map_or(0, |file| file.first),
        last: files.last().map_or(0, |file| file.last),
        files: files.len(),
        rows: 0,
        offsets: 0,
        gaps: Vec::new(),
    };
    let mut next = verified.first;
    for file in files {
        let facts = read(file, problems)?;
        verified.rows += facts.rows;
        verified.offsets += facts.offsets;
        let path = file.path.display();
        if file.first < next {
            problems.push(format!("{path} begins before offset {next}, which is covered already"));
        }
        if file.first > next {
            let gap = Gap { first: next, last: file.first - 1, explained: facts.gap_explained };
            if !gap.explained {
                problems.push(format!(
                    "{path}: offsets {next} to {} of {topic}-{partition} are in no file",
                    gap.last
                ));
            }
            verified.gaps.push(gap);
        }
        next = next.max(file.last + 1);
    }
    Ok(verified)
}

struct Facts {
    rows: u64,
    offsets: u64,
    gap_explained: bool,
}

fn read(file: &Finished, problems: &mut Vec<String>) -> Result<Facts, FolderError> {
    let path = &file.path;
    let opened = File::open(path).map_err(folder::io(path))?;
    let builder =
        ParquetRecordBatchReaderBuilder::try_new(opened).map_err(folder::parquet(path))?;
    let explained = folder::footer(builder.metadata(), GAP_BEFORE)
        .is_some_and(|gap| gap.ends_with(&format!("-{}", file.first - 1)));
    let stated = folder::footer(builder.metadata(), "odradek.rows").and_then(|r| r.parse().ok());
    let has_row = builder.schema().field_with_name("row").is_ok();
    let columns = if has_row { vec!["offset", "row"] } else { vec!["offset"] };
    let mask = ProjectionMask::columns(builder.parquet_schema(), columns);
    let reader = builder.with_projection(mask).build().map_err(folder::parquet(path))?;
    let mut facts = Facts { rows: 0, offsets: 0, gap_explained: explained };
    let mut before: Option<(i64, i64)> = None;
    for batch in reader {
        let batch = batch.map_err(|e| folder::parquet(path)(e.into()))?;
        let column = |name: &str| {
            batch.column_by_name(name).and_then(|c| c.as_any().downcast_ref::<Int64Array>())
        };
        let Some(offsets) = column("offset") else {
            problems.push(format!("{} has no column of offsets", path.display()));
            return Ok(facts);
        };
        let rows = column("row");
        for index in 0..offsets.len() {
            let row = rows.filter(|rows| rows.is_valid(index)).map_or(0, |rows| rows.value(index));
            let at = (offsets.value(index), row);
            if at.0 < file.first || at.0 > file.last {
                problems.push(format!("{} holds offset {}", path.display(), at.0));
            }
            if before.is_some_and(|before| before >= at) {
                problems.push(format!("{} holds offset {} twice", path.display(), at.0));
            }
            facts.offsets += u64::from(before.is_none_or(|before| before.0 != at.0));
            facts.rows += 1;
            before = Some(at);
        }
    }
    if stated != Some(facts.rows) {
        problems.push(format!("{} has {} rows and states {stated:?}", path.display(), facts.rows));
    }
    Ok(facts)
}
