//! Collects rows into one atomic unit: records, dead letters and the position after them.
//!
//! Invariant: the position of a unit is that of the last row whose record is in it. Rows of an
//! array that is not yet full, and what was refused between them, wait for the unit in which the
//! array is completed; after a crash they are read again.

use bytes::Bytes;
use odradek_broker::client::{Record, TopicRecords, Unit};

use super::position::{Place, Position, checkpoint_name};
use super::rows::{Content, Refused, Row};
use crate::config::OnError;
use crate::dead_letter::DeadLetter;
use crate::meter::Meter;
use crate::plan::{CsvPlan, Plan};
use crate::supervise::{RunError, Tally};

#[derive(Debug, Default)]
pub(crate) struct UnitBuilder {
    records: Vec<Record>,
    dead_letters: Vec<Record>,
    bytes: usize,
    /// The place after the last closed row.
    closed: Option<Place>,
    /// The array that is being filled, and what was refused meanwhile.
    open: Vec<Content>,
    open_dead_letters: Vec<Record>,
    open_place: Option<Place>,
}

impl UnitBuilder {
    pub fn push(
        &mut self,
        row: Row,
        plan: &Plan,
        csv: &CsvPlan,
        meter: &Meter,
    ) -> Result<(), RunError> {
        let now_ms = meter.clock().now_ms();
        match row.content {
            Ok(content) => {
                self.open.push(content);
                self.open_place = Some(row.after);
                if self.open.len() >= csv.rows_per_array.unwrap_or(1) {
                    self.close(csv, now_ms);
                }
            }
            Err(refused) => {
                self.refuse(refused, plan, meter)?;
                self.open_place = Some(row.after);
                if self.open.is_empty() {
                    self.close(csv, now_ms);
                }
            }
        }
        Ok(())
    }

    /// Closes the record that is being filled.
    pub fn close(&mut self, csv: &CsvPlan, now_ms: i64) {
        self.dead_letters.append(&mut self.open_dead_letters);
        if let Some(place) = self.open_place.take() {
            self.closed = Some(place);
        }
        let Some(last) = self.open.last() else { return };
        // An array has no time of its own; that of its last row says when it was complete.
        let timestamp_ms = last.event_ms.unwrap_or(now_ms);
        let (array, ts) = (csv.rows_per_array.is_some(), now_ms.div_euclid(1000));
        let mut value = Vec::new();
        let mut key = None;
        for (number, content) in self.open.drain(..).enumerate() {
            match (array, number) {
                (true, 0) => value.push(b'['),
                // The separator of Python's json.dumps, as the old producer wrote it.
                (true, _) => value.extend_from_slice(b", "),
                (false, _) => {}
            }
            if value.is_empty() {
                value = content.object;
            } else {
                value.extend_from_slice(&content.object);
            }
            if csv.inject_ts {
                value.extend_from_slice(format!(",\"ts\":{ts}").as_bytes());
            }
            value.push(b'}');
            key = content.key;
        }
        if array {
            value.push(b']');
        }
        self.bytes += value.len();
        let value = Some(Bytes::from(value));
        self.records.push(Record { timestamp_ms, key, value, headers: Vec::new() });
    }

    fn refuse(&mut self, refused: Refused, plan: &Plan, meter: &Meter) -> Result<(), RunError> {
        meter.undecodable(refused.reason);
        let Refused { reason, detail, text, line } = refused;
        match plan.on_error {
            OnError::Skip => Ok(()),
            OnError::Stop => Err(RunError::fatal("decode", format!("line {line}: {detail}"))),
            OnError::DeadLetter => {
                let (detail, source, line) = (detail.as_str(), plan.name.as_str(), Some(line));
                let letter = DeadLetter { reason, detail, source, line };
                self.open_dead_letters.push(letter.record(text, meter.clock().now_ms()));
                Ok(())
            }
        }
    }

    /// Rows or bytes that the unit would hold.
    pub fn records(&self) -> usize {
        self.records.len() + self.dead_letters.len()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The unit with the position after it; `None` if no row was closed. Empties the builder.
    pub fn take(&mut self, plan: &Plan, at: &mut Position) -> Option<(Unit, Tally)> {
        let place = self.closed.take()?;
        at.place = place;
        let (records, dead_letters) =
            (std::mem::take(&mut self.records), std::mem::take(&mut self.dead_letters));
        let tally = Tally {
            records: records.len(),
            bytes: std::mem::take(&mut self.bytes),
            dead_letters: dead_letters.len(),
        };
        let mut unit = Unit::default();
        if !records.is_empty() {
            unit.records.push(TopicRecords { topic: plan.topic.clone(), partition: None, records });
        }
        if let (Some(topic), false) = (&plan.dead_letter_topic, dead_letters.is_empty()) {
            let topic = topic.clone();
            unit.records.push(TopicRecords { topic, partition: None, records: dead_letters });
        }
        unit.checkpoints.push((checkpoint_name(&plan.name), Some(at.encode())));
        Some((unit, tally))
    }
}
