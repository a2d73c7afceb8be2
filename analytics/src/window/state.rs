//! The open windows of one partition, and how they are kept in checkpoints.
//!
//! Keys are spread over [`SHARDS`] checkpoints by a hash, and only shards that changed are
//! written, so a commit costs what changed and the 512 KiB bound of one checkpoint is the bound
//! of a sixteenth of the keys (about 80,000 windows a partition).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::bar::{Bar, Reading};

pub(crate) const SHARDS: usize = 16;

/// A key's last volume reading is forgotten after this much event time without a tick (longer
/// than a weekend with a holiday), so that keys which never come back do not pile up.
const READING_KEPT_MS: i64 = 4 * 24 * 3_600 * 1_000;

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct KeyState {
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<Reading>,
    #[serde(rename = "w")]
    pub bars: Vec<Bar>,
}

#[derive(Debug, Default)]
struct Shard {
    keys: BTreeMap<String, KeyState>,
    dirty: bool,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    generation: String,
    keys: BTreeMap<String, KeyState>,
}

#[derive(Debug)]
pub(crate) struct PartitionState {
    pub event_ms_max: Option<i64>,
    shards: Vec<Shard>,
    /// Closed bars that a late row changed, by start and key.
    pub corrections: BTreeSet<(i64, String)>,
    /// The watermark at which the next sweep has something to do.
    pub sweep_at: i64,
}

impl Default for PartitionState {
    fn default() -> Self {
        Self {
            event_ms_max: None,
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            corrections: BTreeSet::new(),
            sweep_at: i64::MAX,
        }
    }
}

impl PartitionState {
    /// The key's state, to be changed.
    pub(crate) fn key(&mut self, key: &str) -> &mut KeyState {
        let shard = &mut self.shards[shard_of(key)];
        shard.dirty = true;
        if !shard.keys.contains_key(key) {
            shard.keys.insert(key.to_owned(), KeyState::default());
        }
        shard.keys.entry(key.to_owned()).or_default()
    }

    /// Visits every bar; `visit` returns whether it changed the bar, and whether it is kept.
    pub(crate) fn sweep(&mut self, mut visit: impl FnMut(&str, &mut Bar) -> Kept) {
        let event_ms_max = self.event_ms_max.unwrap_or(i64::MIN);
        for shard in &mut self.shards {
            let mut dirty = shard.dirty;
            shard.keys.retain(|key, state| {
                state.bars.retain_mut(|bar| match visit(key, bar) {
                    Kept::AsItWas => true,
                    Kept::Changed => {
                        dirty = true;
                        true
                    }
                    Kept::Dropped => {
                        dirty = true;
                        false
                    }
                });
                let fresh = |r: Reading| event_ms_max.saturating_sub(r.time_ms) < READING_KEPT_MS;
                let kept = !state.bars.is_empty() || state.reading.is_some_and(fresh);
                dirty |= !kept;
                kept
            });
            shard.dirty = dirty;
        }
    }

    pub(crate) fn load(
        &mut self,
        generation: &str,
        shard: usize,
        bytes: &[u8],
    ) -> Result<(), String> {
        let stored: Stored = serde_json::from_slice(bytes)
            .map_err(|e| format!("a checkpoint of open windows cannot be read: {e}"))?;
        if stored.generation == generation {
            self.shards[shard].keys = stored.keys;
        }
        Ok(())
    }

    /// The checkpoints of the shards that changed since the last call.
    pub(crate) fn store(&mut self, generation: &str) -> Result<Vec<(usize, Bytes)>, String> {
        let mut stored = Vec::new();
        for (index, shard) in self.shards.iter_mut().enumerate().filter(|(_, s)| s.dirty) {
            let generation = generation.to_owned();
            let value = Stored { generation, keys: std::mem::take(&mut shard.keys) };
            let bytes = serde_json::to_vec(&value).map_err(|e| e.to_string())?;
            shard.keys = value.keys;
            shard.dirty = false;
            stored.push((index, Bytes::from(bytes)));
        }
        Ok(stored)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    AsItWas,
    Changed,
    Dropped,
}

/// FNV-1a: the same in every build and on every machine, as the stored shards need.
fn shard_of(key: &str) -> usize {
    let hash = key
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    // Below 16, so it fits.
    (hash % SHARDS as u64) as usize
}
