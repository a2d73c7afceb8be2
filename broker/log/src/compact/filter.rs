//! What compaction leaves of a batch. The rules are Kafka's (`Cleaner`, `RecordFilter`, KIP-534):
//!
//! 1. Of the records below the end of the map, the last of each key stays, and none without a key.
//! 2. A batch that keeps a tombstone gets a delete horizon, if it has none: from then on (and not
//!    before) its tombstones go.
//! 3. Records of aborted transactions go.
//! 4. A marker stays while records of its transaction were met; then it gets a horizon like a
//!    tombstone, and goes behind it.

use std::collections::{HashMap, HashSet, VecDeque};

use bytes::Bytes;
use odradek_protocol::DecodeError;
use odradek_protocol::batch::{self, Record, RecordReader};

use super::map::{KeyMap, Secret};
use crate::transactions;
use crate::types::AbortedTransaction;
use crate::wire::{DECOMPRESSED_BYTES_MAX, Header};

pub(crate) enum Kept {
    Nothing,
    Whole,
    Rewritten(Bytes),
}

pub(crate) enum Marker {
    /// Records of its transaction stand in front of it; if they are aborted, readers must know.
    InUse(Option<AbortedTransaction>),
    Idle,
}

/// The transactions that a walk through the log has met and whose marker it has not.
#[derive(Default)]
pub(crate) struct MetTransactions {
    /// Still to come, by first offset.
    aborted: VecDeque<AbortedTransaction>,
    begun: bool,
    /// By producer, and whether a batch of it was met.
    in_aborted: HashMap<i64, (AbortedTransaction, bool)>,
    in_committed: HashSet<i64>,
}

impl MetTransactions {
    /// Before a segment is walked: the aborted ones that overlap it, by first offset. Those that
    /// began before it came with an earlier segment, unless it is the first.
    pub fn expect(&mut self, aborted: Vec<AbortedTransaction>, base_offset: i64) {
        let first = !std::mem::replace(&mut self.begun, true);
        let new = aborted.into_iter().filter(|one| first || one.first_offset >= base_offset);
        self.aborted.extend(new);
    }

    fn begin_up_to(&mut self, offset: i64) {
        while self.aborted.front().is_some_and(|aborted| aborted.first_offset <= offset) {
            if let Some(aborted) = self.aborted.pop_front() {
                self.in_aborted.entry(aborted.producer_id).or_insert((aborted, false));
            }
        }
    }

    /// True if the batch belongs to an aborted transaction.
    pub fn on_records(&mut self, header: &Header) -> bool {
        self.begin_up_to(header.last_offset());
        if !header.is_transactional() {
            return false;
        }
        if let Some((_, met)) = self.in_aborted.get_mut(&header.producer_id) {
            *met = true;
            return true;
        }
        self.in_committed.insert(header.producer_id);
        false
    }

    /// `None` for a control batch that ends no transaction.
    pub fn on_marker(&mut self, header: &Header, batch: &Bytes) -> Option<Marker> {
        self.begin_up_to(header.last_offset());
        let marker = transactions::marker(header, batch)?;
        if marker.commit {
            let met = self.in_committed.remove(&header.producer_id);
            return Some(if met { Marker::InUse(None) } else { Marker::Idle });
        }
        Some(match self.in_aborted.remove(&header.producer_id) {
            Some((aborted, true)) => Marker::InUse(Some(aborted)),
            _ => Marker::Idle,
        })
    }
}

/// The latest offset of each key below `end_offset`, and what is needed to go by it.
pub(crate) struct Filter<'a> {
    pub map: &'a KeyMap,
    pub secret: &'a Secret,
    pub end_offset: i64,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
}

impl Filter<'_> {
    /// What is left of a batch, and the aborted transaction that its marker still ends.
    pub fn apply(
        &self,
        met: &mut MetTransactions,
        header: &Header,
        batch: &Bytes,
    ) -> Result<(Kept, Option<AbortedTransaction>), DecodeError> {
        if header.is_control() {
            return self.marker(met.on_marker(header, batch), header, batch);
        }
        if met.on_records(header) {
            return Ok((Kept::Nothing, None));
        }
        Ok((self.records(header, batch)?, None))
    }

    fn marker(
        &self,
        marker: Option<Marker>,
        header: &Header,
        batch: &Bytes,
    ) -> Result<(Kept, Option<AbortedTransaction>), DecodeError> {
        match marker {
            None => return Ok((Kept::Whole, None)),
            Some(Marker::InUse(aborted)) => return Ok((Kept::Whole, aborted)),
            Some(Marker::Idle) => {}
        }
        let kept = match header.delete_horizon_ms() {
            Some(horizon_ms) if horizon_ms <= self.now_ms => Kept::Nothing,
            Some(_) => Kept::Whole,
            None => self.rewrite(&RecordReader::new(batch, DECOMPRESSED_BYTES_MAX)?, &|_| true)?,
        };
        Ok((kept, None))
    }

    fn records(&self, header: &Header, batch: &Bytes) -> Result<Kept, DecodeError> {
        let reader = RecordReader::new(batch, DECOMPRESSED_BYTES_MAX)?;
        let horizon_ms = header.delete_horizon_ms();
        let tombstones_go = horizon_ms.is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        let keep = |record: &Record| self.keeps(record, tombstones_go);
        let (mut all, mut any, mut tombstones) = (true, false, false);
        for record in reader.clone() {
            let record = record?;
            let kept = keep(&record);
            all &= kept;
            any |= kept;
            tombstones |= kept && record.value.is_none();
        }
        let horizon_due = tombstones && horizon_ms.is_none();
        match (any, all && !horizon_due) {
            (false, _) => Ok(Kept::Nothing),
            (true, true) => Ok(Kept::Whole),
            (true, false) if horizon_due => self.rewrite(&reader, &keep),
            (true, false) => rewritten(&reader, horizon_ms, &keep),
        }
    }

    /// With a delete horizon, counted from now.
    fn rewrite(
        &self,
        reader: &RecordReader,
        keep: &dyn Fn(&Record) -> bool,
    ) -> Result<Kept, DecodeError> {
        rewritten(reader, Some(self.now_ms.saturating_add(self.delete_retention_ms)), keep)
    }

    fn keeps(&self, record: &Record, tombstones_go: bool) -> bool {
        if record.offset >= self.end_offset {
            return true;
        }
        let Some(key) = &record.key else { return false };
        let latest = self.map.latest(self.secret, key);
        let superseded = latest.is_some_and(|latest| record.offset < latest);
        let ended = tombstones_go && record.value.is_none();
        !(superseded || ended)
    }
}

fn rewritten(
    reader: &RecordReader,
    horizon_ms: Option<i64>,
    keep: &dyn Fn(&Record) -> bool,
) -> Result<Kept, DecodeError> {
    let left = batch::retain(reader.clone(), horizon_ms, &mut |record| keep(record))?;
    Ok(left.map_or(Kept::Nothing, Kept::Rewritten))
}
