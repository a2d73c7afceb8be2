//! Doors for the fuzz targets (`tests/fuzz`): what takes apart the frames of a feed and the rows of
//! a file. Nothing in the product calls this. A source is given as its `[[source]]`, so that the
//! settings are checked as at a start.

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::config::SourceConfig;
use crate::csv::input::Input;
use crate::csv::rows::Rows;
use crate::limits::{CSV_ROW_BYTES_MAX, DOCUMENTS_PER_FRAME_MAX};
use crate::plan::{KindPlan, Plan};

pub const DOCUMENTS_MAX: usize = DOCUMENTS_PER_FRAME_MAX;
pub const ROW_BYTES_MAX: u64 = CSV_ROW_BYTES_MAX;

/// A source that can be started.
pub struct Source(Plan);

impl Source {
    pub fn new(config: &SourceConfig) -> Option<Self> {
        Plan::of(config).ok().map(Self)
    }

    /// The documents of one frame; `Err` is the label of what is wrong with it. `None`: the source
    /// has no frames.
    pub fn documents(&self, frame: &[u8]) -> Option<Result<Vec<Map<String, Value>>, &'static str>> {
        let KindPlan::Websocket(feed) = &self.0.kind else { return None };
        Some(feed.decoder.decode(frame).map_err(|error| error.reason))
    }

    /// Calls `each` for the rows of a file until its end or an error that ends the reading.
    pub fn rows(&self, file: Bytes, gzip: bool, each: &mut dyn FnMut(Row)) {
        let KindPlan::Csv(csv) = &self.0.kind else { return };
        let Ok(mut rows) = Rows::open(&self.0, csv, Input::memory(file, gzip), None) else {
            return;
        };
        while let Ok(Some(row)) = rows.next() {
            let read = row.content.map(|content| (content.object, content.event_ms));
            each(Row { read: read.map_err(|refused| refused.reason), end: row.after.byte });
        }
    }
}

/// A row of a file.
#[derive(Debug)]
pub struct Row {
    /// Its JSON object without the closing brace and its event time, or the label of what is wrong.
    pub read: Result<(Vec<u8>, Option<i64>), &'static str>,
    /// Where the next row begins, in the bytes of the unpacked file.
    pub end: u64,
}
