//! Giving space back: which segments retention lets go, trimming, removing partitions, and the
//! unlinking itself, which waits for readers and is tried again when it fails.

use std::io;
use std::sync::atomic::Ordering;

use crate::core::{Core, Step};
use crate::folders::METADATA_NAME;
use crate::name::{FileKind, SegmentName};
use crate::partition::{Partition, Segment};
use crate::types::PartitionId;

/// Files that nobody may read any more.
#[derive(Debug, Clone)]
pub(crate) enum Doomed {
    Segment { id: PartitionId, folder: String, name: SegmentName },
    Side { id: PartitionId, folder: String, name: SegmentName },
    Folder { id: Option<PartitionId>, folder: String },
}

impl Core {
    /// The log start offset that whole segments allow, if it is higher than now. An active
    /// segment that has run out in full is asked to be sealed, and goes at a later call.
    pub fn retention(
        &self,
        id: PartitionId,
        now_ms: i64,
        retention_ms: Option<i64>,
        retention_bytes: Option<i64>,
    ) -> Option<i64> {
        let partition = self.partition(id)?;
        let mut shared = partition.shared();
        let limit_ms = retention_ms.filter(|ms| *ms >= 0).map(|ms| now_ms.saturating_sub(ms));
        let limit_bytes = retention_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        let mut left = shared.settled_bytes + shared.unsettled_bytes;
        let mut start = shared.log_start_offset;
        let mut roll = false;
        for segment in &shared.segments {
            let summary = segment.summary;
            let old =
                limit_ms.is_some_and(|limit| self.newest_ms(&partition, segment, now_ms) < limit);
            // As in Kafka: a segment goes if what is left without it still has the size.
            let surplus =
                limit_bytes.is_some_and(|limit| left.saturating_sub(summary.bytes) >= limit);
            if !(old || surplus) || summary.is_empty() && !segment.sealed {
                break;
            }
            if !segment.sealed {
                roll = old;
                break;
            }
            left = left.saturating_sub(summary.bytes);
            start = start.max(summary.end_offset);
        }
        let moved = (start > shared.log_start_offset).then_some(start);
        shared.roll_requested |= roll;
        drop(shared);
        if roll {
            self.progress.rolls_wanted.store(true, Ordering::Release);
            self.progress.notify();
        }
        moved
    }

    /// As in Kafka: of records without any timestamp, when their file was written last.
    fn newest_ms(&self, partition: &Partition, segment: &Segment, now_ms: i64) -> i64 {
        let summary = &segment.summary;
        if summary.max_timestamp_ms >= 0 || summary.is_empty() {
            return summary.max_timestamp_ms;
        }
        let path = partition.segment_path(summary.name());
        self.disk.modified_ms(&path).unwrap_or(now_ms)
    }

    pub fn trim(&self, id: PartitionId, log_start_offset: i64) {
        if let Some(partition) = self.partition(id) {
            self.trim_partition(&partition, log_start_offset);
            self.progress.notify();
        }
    }

    /// Moves the log start; segments wholly below it are on their way out.
    pub fn trim_partition(&self, partition: &Partition, log_start_offset: i64) {
        let mut shared = partition.shared();
        let start = log_start_offset.min(shared.high_watermark).max(shared.log_start_offset);
        shared.log_start_offset = start;
        let below = |segment: &Segment| segment.sealed && segment.summary.end_offset <= start;
        let gone = shared.segments.iter().take_while(|segment| below(segment)).count();
        let gone: Vec<SegmentName> =
            shared.segments.drain(..gone).map(|segment| segment.summary.name()).collect();
        // The newest side file stays: the producers in it outlive their batches.
        let mut sides = gone.clone();
        if !shared.segments.iter().any(|segment| segment.sealed)
            && let Some(newest) = sides.pop()
        {
            sides.extend(shared.kept_side.replace(newest));
        }
        // A first segment that is still being written goes as soon as it is sealed.
        if shared.segments.len() == 1
            && shared.active.as_ref().is_some_and(|active| active.summary.end_offset <= start)
            && !shared.segments[0].summary.is_empty()
        {
            shared.roll_requested = true;
            self.progress.rolls_wanted.store(true, Ordering::Release);
        }
        shared.recount();
        drop(shared);
        if gone.is_empty() {
            return;
        }
        self.due(partition.id);
        for name in gone {
            self.forget_cached(partition.id, Some(name));
            self.doom_log(partition, name);
        }
        // After the segments: without its side file a segment would count as unfinished.
        sides.into_iter().for_each(|name| self.doom_side(partition, name));
    }

    /// What was trimmed before it was settled, or sealed, can go only now, and nobody trims again.
    pub fn trim_settled(&self, partition: &Partition) {
        // A folder that is on its way out may be another topic's before this is done.
        let _writer = partition.writer();
        if partition.is_removed() {
            return;
        }
        let (start, below) = {
            let shared = partition.shared();
            let start = shared.log_start_offset;
            let first = shared.segments.first().map(|segment| &segment.summary);
            (start, first.is_some_and(|summary| summary.end_offset <= start))
        };
        if below {
            self.trim_partition(partition, start);
        }
    }

    /// The partition is gone for readers and writers at once; its folder follows.
    pub fn remove(&self, id: PartitionId) {
        let removed =
            self.partitions.write().expect("no holder of the partitions panics").remove(&id);
        let Some(partition) = removed else { return };
        partition.removed.store(true, Ordering::Release);
        partition.shared().tail.clear();
        self.forget_cached(id, None);
        // Whoever is writing has the lock; once it is ours, nobody begins again.
        let mut writer = partition.writer();
        (writer.file, writer.metadata) = (None, None);
        self.segments.change_active(&mut partition.shared(), |active| *active = None);
        drop(writer);
        let folder = partition.folder.clone();
        let mut doomed = self.doomed.lock().expect("no holder of the doomed list panics");
        doomed.push(Doomed::Folder { id: Some(id), folder });
        drop(doomed);
        self.due(id);
        self.progress.notify();
    }

    /// After the last write: the next incarnation may have to delete what this one has open, while
    /// somebody still holds this one.
    pub fn close_files(&self) {
        for partition in self.all_partitions() {
            let mut writer = partition.writer();
            (writer.file, writer.metadata) = (None, None);
        }
        self.segments.close_all_readers();
    }

    /// Unlinks what is doomed and can go; the rest is tried again next time.
    pub fn clean_step(&self) -> Step {
        let doomed = {
            let mut doomed = self.doomed.lock().expect("no holder of the doomed list panics");
            std::mem::take(&mut *doomed)
        };
        if doomed.is_empty() {
            return Step::Idle;
        }
        let count = doomed.len();
        let mut again = Vec::new();
        for one in doomed {
            match self.unlink(&one) {
                Ok(true) => {}
                Ok(false) => again.push(one),
                Err(error) => {
                    tracing::warn!(?one, %error, "could not remove files, will try again");
                    again.push(one);
                }
            }
        }
        let step = if again.len() < count { Step::Worked } else { Step::Waiting };
        self.doomed.lock().expect("no holder of the doomed list panics").extend(again);
        step
    }

    fn unlink(&self, doomed: &Doomed) -> io::Result<bool> {
        match doomed {
            Doomed::Segment { id, folder, name } => {
                if !self.segments.close_readers(*id, Some(*name)) {
                    return Ok(false);
                }
                self.prove_sides(*id)?;
                self.delete(&name.path(folder, FileKind::Log))?;
            }
            Doomed::Side { id, folder, name } => {
                self.prove_sides(*id)?;
                self.delete(&name.path(folder, FileKind::Side))?;
            }
            Doomed::Folder { id, folder } => {
                if id.is_some_and(|id| !self.segments.close_readers(id, None)) {
                    return Ok(false);
                }
                let entries = match self.disk.list(folder) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
                    entries => entries?,
                };
                // What says whose the folder is goes last, and behind a sync: segments in a folder
                // that is nobody's would be taken for those of the next topic of that name.
                let files = entries.iter().filter(|entry| !entry.is_folder);
                let rest = files.filter(|entry| entry.name != METADATA_NAME);
                for entry in rest {
                    self.delete(&format!("{folder}/{}", entry.name))?;
                }
                self.disk.sync_folder(folder)?;
                self.delete(&format!("{folder}/{METADATA_NAME}"))?;
                self.disk.delete_folder(folder)?;
                self.disk.sync_folder("")?;
                self.folders().forget(folder);
            }
        }
        Ok(true)
    }

    /// Before anything goes of which a side file could be made again. One that an unclean stop left
    /// behind may never have been synced; where that failed, it is whole only until the power goes.
    /// So those that count are written anew, once.
    fn prove_sides(&self, id: PartitionId) -> io::Result<()> {
        let Some(partition) = self.partition(id) else { return Ok(()) };
        if !partition.sides_unproven.load(Ordering::Acquire) {
            return Ok(());
        }
        let names: Vec<SegmentName> = {
            let shared = partition.shared();
            let sealed = shared.segments.iter().filter(|segment| segment.sealed);
            sealed.map(|segment| segment.summary.name()).chain(shared.kept_side).collect()
        };
        for name in names {
            self.segments.rewrite_side(&partition, name)?;
        }
        self.disk.sync_folder(&partition.folder)?;
        partition.sides_unproven.store(false, Ordering::Release);
        Ok(())
    }

    pub fn delete(&self, path: &str) -> io::Result<()> {
        match self.disk.delete(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    pub fn doom_folder(&self, folder: &str) {
        let mut doomed = self.doomed.lock().expect("no holder of the doomed list panics");
        doomed.push(Doomed::Folder { id: None, folder: folder.to_owned() });
    }

    pub fn doom_log(&self, partition: &Partition, name: SegmentName) {
        let folder = partition.folder.clone();
        let mut doomed = self.doomed.lock().expect("no holder of the doomed list panics");
        doomed.push(Doomed::Segment { id: partition.id, folder, name });
    }

    pub fn doom_side(&self, partition: &Partition, name: SegmentName) {
        let folder = partition.folder.clone();
        let mut doomed = self.doomed.lock().expect("no holder of the doomed list panics");
        doomed.push(Doomed::Side { id: partition.id, folder, name });
    }

    /// A newer segment is sealed: the side file that was kept for its producers may go.
    pub fn release_kept_side(&self, partition: &Partition) {
        let mut shared = partition.shared();
        if !shared.segments.iter().any(|segment| segment.sealed) {
            return;
        }
        let Some(name) = shared.kept_side.take() else { return };
        drop(shared);
        self.doom_side(partition, name);
    }
}
