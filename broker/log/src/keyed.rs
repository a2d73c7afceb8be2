//! The latest value of each key of a partition: from the view as far as that goes, then from the
//! log. A record without a value takes its key away; records without a key do not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use odradek_protocol::batch::{Record, RecordReader};

use crate::core::Core;
use crate::partition::Partition;
use crate::types::{PartitionId, ReadError};
use crate::view::{BATCH_KEYS_MAX, Change, View, ViewError, partition_key};
use crate::wire::{self, DECOMPRESSED_BYTES_MAX};

const READ_BYTES: usize = 1 << 20;
/// One key stays for the position.
const KEYS_PER_BATCH: usize = BATCH_KEYS_MAX - 1;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error(transparent)]
    View(#[from] ViewError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Core {
    pub fn keyed(&self, id: PartitionId) -> Result<BTreeMap<Bytes, Bytes>, ReadError> {
        let partition = self.partition(id).ok_or(ReadError::UnknownPartition)?;
        let ends = partition.ends();
        let (mut latest, covered) = match self.keyed_in_view(&partition) {
            Ok(stored) => stored,
            Err(error) => {
                self.break_view(&error);
                (BTreeMap::new(), 0)
            }
        };
        let mut offset = covered.max(ends.log_start_offset);
        while offset < ends.log_end_offset {
            let read = self.read_partition(&partition, offset, READ_BYTES)?;
            if read.next_offset <= offset {
                break;
            }
            for run in &read.batches {
                each_keyed(&partition, run, offset, &mut |key, record| {
                    match record.value {
                        Some(value) => latest.insert(key, value),
                        None => latest.remove(&key),
                    };
                })?;
            }
            offset = read.next_offset;
        }
        Ok(latest)
    }

    /// What the view has, and up to which offset that covers the log. The position is read
    /// first: what the feed step adds meanwhile is read again from the log.
    fn keyed_in_view(
        &self,
        partition: &Partition,
    ) -> Result<(BTreeMap<Bytes, Bytes>, i64), ViewError> {
        let nothing = || (BTreeMap::new(), 0);
        let Some(view) = self.view() else { return Ok(nothing()) };
        let stored = view.value(&partition_key(b'e', partition.id))?;
        let Some(covered) = stored.as_deref().and_then(offset_of) else { return Ok(nothing()) };
        let ends = partition.ends();
        if covered > ends.log_end_offset {
            return Ok(nothing());
        }
        let prefix = partition_key(b'k', partition.id);
        let mut latest = BTreeMap::new();
        view.scan(&prefix, &mut |key, value| {
            if let Some(offset) = value.get(..8).and_then(offset_of)
                && offset >= ends.log_start_offset
            {
                let key = Bytes::copy_from_slice(&key[prefix.len()..]);
                latest.insert(key, Bytes::copy_from_slice(&value[8..]));
            }
            true
        })?;
        Ok((latest, covered))
    }
}

pub(crate) fn offset_of(bytes: &[u8]) -> Option<i64> {
    Some(i64::from_le_bytes(bytes.try_into().ok()?))
}

/// Brings the view up to `end_offset`, one read at a time; true if there is more to do.
pub(crate) fn feed(
    core: &Core,
    view: &dyn View,
    partition: &Arc<Partition>,
    fed: &mut i64,
    end_offset: i64,
) -> Result<bool, FeedError> {
    let offset = (*fed).max(partition.ends().log_start_offset);
    if offset >= end_offset {
        return Ok(false);
    }
    let read = core.read_partition(partition, offset, READ_BYTES)?;
    let mut latest: BTreeMap<Bytes, Change> = BTreeMap::new();
    let mut next_offset = offset;
    for (header, batch) in read.batches.iter().flat_map(wire::batches) {
        // Invariant 7: nothing that is not synced.
        if header.last_offset() >= end_offset {
            break;
        }
        each_keyed(partition, &batch, offset, &mut |key, record| {
            let mut stored = partition_key(b'k', partition.id);
            stored.extend_from_slice(&key);
            let value = record.value.map(|value| {
                let mut bytes = record.offset.to_le_bytes().to_vec();
                bytes.extend_from_slice(&value);
                bytes
            });
            latest.insert(key, (stored, value));
        })?;
        next_offset = header.last_offset() + 1;
    }
    if next_offset == offset {
        return Ok(false);
    }
    // The position goes last: before it stands, the same records are simply fed again.
    let mut changes: Vec<Change> = latest.into_values().collect();
    let position = (partition_key(b'e', partition.id), Some(next_offset.to_le_bytes().to_vec()));
    while changes.len() > KEYS_PER_BATCH {
        let rest = changes.split_off(KEYS_PER_BATCH);
        view.apply(std::mem::replace(&mut changes, rest))?;
    }
    changes.push(position);
    view.apply(changes)?;
    *fed = next_offset;
    Ok(next_offset < end_offset)
}

fn each_keyed(
    partition: &Partition,
    run: &Bytes,
    from_offset: i64,
    visit: &mut dyn FnMut(Bytes, Record),
) -> Result<(), ReadError> {
    for (header, batch) in wire::batches(run) {
        if header.is_control() {
            continue;
        }
        let damaged = |reason: String| ReadError::Damaged {
            partition: partition.id,
            offset: header.base_offset,
            reason,
        };
        let records = RecordReader::new(&batch, DECOMPRESSED_BYTES_MAX)
            .map_err(|error| damaged(error.to_string()))?;
        for record in records {
            let mut record = record.map_err(|error| damaged(error.to_string()))?;
            if record.offset < from_offset {
                continue;
            }
            if let Some(key) = record.key.take() {
                visit(key, record);
            }
        }
    }
    Ok(())
}
