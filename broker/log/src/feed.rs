//! Keeping the view up, behind everything else: only what a checkpoint has synced, in log order,
//! by absolute writes, so that doing it again does no harm. On any error the view is set aside and
//! built anew from side files and active segments, while the log runs.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crate::core::{Core, Progress, Step};
use crate::index::{self, IndexEntry, Summary, VALUE_ENTRIES};
use crate::keyed::{self, FeedError};
use crate::name::SegmentName;
use crate::partition::Partition;
use crate::segment::synced_entries;
use crate::types::PartitionId;
use crate::view::{
    BATCH_KEYS_MAX, Change, View, ViewError, Views, index_key, partition_key, remove_some,
    segment_key,
};

/// Sealed segments put into the view in one step.
const SEGMENTS_PER_STEP: usize = 4;
const TAGS: [u8; 5] = [b'e', b'g', b'i', b's', b'k'];

pub(crate) struct Feeder {
    views: Arc<dyn Views>,
    /// Shared with readers; `None` while there is no usable view.
    view: Arc<Mutex<Option<Arc<dyn View>>>>,
    fed: HashMap<PartitionId, Fed>,
    /// How far the stored view covers keyed partitions: as of its last checkpoint.
    durable_ends: HashMap<PartitionId, i64>,
    /// Changes since the last checkpoint of the view.
    changed: bool,
}

/// What the view holds of a partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fed {
    pub sealed: BTreeSet<SegmentName>,
    /// The active segment and how many of its entries were in the view.
    pub active: Option<(i64, usize)>,
    pub end_offset: i64,
    /// The view holds more than the log: it must go before anything is added.
    pub purge: bool,
}

impl Feeder {
    pub fn new(views: Arc<dyn Views>) -> Self {
        Feeder {
            views,
            view: Arc::default(),
            fed: HashMap::new(),
            durable_ends: HashMap::new(),
            changed: false,
        }
    }

    pub fn know(&mut self, id: PartitionId, fed: Fed) {
        if !fed.purge {
            self.durable_ends.insert(id, fed.end_offset);
        }
        self.fed.insert(id, fed);
    }

    pub fn view_slot(&self) -> Arc<Mutex<Option<Arc<dyn View>>>> {
        self.view.clone()
    }

    fn current(&self) -> Option<Arc<dyn View>> {
        self.view.lock().expect("no holder of the view panics").clone()
    }

    /// Opens the stored view, or an empty one if it may not be trusted.
    pub fn open(&mut self, trusted: bool) -> Result<(), ViewError> {
        if !trusted {
            self.views.set_aside()?;
        }
        let view = self.views.open()?;
        *self.view.lock().expect("no holder of the view panics") = Some(view);
        Ok(())
    }
}

impl Core {
    pub fn view(&self) -> Option<Arc<dyn View>> {
        self.view_slot.lock().expect("no holder of the view panics").clone()
    }

    /// Nobody reads the view from here on; the feed step sets it aside and begins again.
    pub fn break_view(&self, why: &dyn std::fmt::Display) {
        let mut slot = self.view_slot.lock().expect("no holder of the view panics");
        if slot.take().is_some() {
            tracing::warn!(%why, "the view is set aside and rebuilt");
            self.stats().view_rebuilds += 1;
        }
    }

    /// One partition's news for the view.
    pub fn feed_step(&self) -> Step {
        let mut feeder = self.feeder.lock().expect("no holder of the feeder panics");
        let Some(view) = feeder.current() else { return self.reopen_view(&mut feeder) };
        let due = self.feed_due.lock().expect("no holder of the feed set panics").pop_first();
        let Some(id) = due else { return Step::Idle };
        let result = match self.partition(id) {
            Some(partition) => self.feed_partition(&mut feeder, &*view, &partition),
            None => purge(&*view, id).inspect(|more| {
                if !more {
                    feeder.fed.remove(&id);
                }
            }),
        };
        feeder.changed = true;
        match result {
            Ok(true) => self.due(id),
            Ok(false) => {}
            Err(error) => {
                self.due(id);
                drop(view);
                self.break_view(&error);
            }
        }
        Step::Worked
    }

    fn reopen_view(&self, feeder: &mut Feeder) -> Step {
        feeder.fed.clear();
        feeder.durable_ends.clear();
        if let Err(error) = feeder.open(false) {
            tracing::debug!(%error, "no view yet");
            return Step::Waiting;
        }
        for partition in self.all_partitions() {
            self.due(partition.id);
        }
        Step::Worked
    }

    /// True if there is more to do for this partition.
    fn feed_partition(
        &self,
        feeder: &mut Feeder,
        view: &dyn View,
        partition: &Arc<Partition>,
    ) -> Result<bool, ViewError> {
        let id = partition.id;
        let fed = feeder.fed.entry(id).or_default();
        if fed.purge {
            let more = purge(view, id)?;
            if !more {
                *fed = Fed::default();
            }
            return Ok(true);
        }
        if self.feed_sealed(fed, view, partition)? {
            return Ok(true);
        }
        let end_offset = feed_active(fed, view, partition)?;
        if !partition.keyed {
            return Ok(false);
        }
        match keyed::feed(self, view, partition, &mut fed.end_offset, end_offset) {
            Ok(more) => Ok(more),
            Err(FeedError::View(error)) => Err(error),
            // The log cannot be read there; another view would come no further.
            Err(FeedError::Read(error)) => {
                tracing::error!(folder = partition.folder, %error, "the view ends before that");
                Ok(false)
            }
        }
    }

    fn feed_sealed(
        &self,
        fed: &mut Fed,
        view: &dyn View,
        partition: &Arc<Partition>,
    ) -> Result<bool, ViewError> {
        let sealed: Vec<Summary> = {
            let shared = partition.shared();
            let sealed = shared.segments.iter().filter(|segment| segment.sealed);
            sealed.map(|segment| segment.summary).collect()
        };
        let names: BTreeSet<SegmentName> = sealed.iter().map(Summary::name).collect();
        // One that was rewritten is forgotten before its successor, under the same keys, is put in.
        let gone: Vec<SegmentName> = fed.sealed.difference(&names).copied().collect();
        for name in gone {
            forget_segment(view, partition.id, name.base_offset)?;
            fed.sealed.remove(&name);
        }
        let missing: Vec<&Summary> =
            sealed.iter().filter(|summary| !fed.sealed.contains(&summary.name())).collect();
        let more = missing.len() > SEGMENTS_PER_STEP;
        for summary in missing.into_iter().take(SEGMENTS_PER_STEP) {
            // From the side file, not from the view that is being filled.
            let Ok(Some(side)) = self.segments.read_side(partition, summary.name()) else {
                continue;
            };
            let mut changes = index_changes(partition.id, summary.base_offset, &side.entries, 0);
            let key = segment_key(partition.id, summary.base_offset);
            changes.push((key, Some(index::encode_summary(summary, true))));
            apply(view, changes)?;
            fed.sealed.insert(summary.name());
        }
        Ok(more)
    }

    /// Flush, position, flush, then our own sync: a position never stands for what is not there.
    pub fn checkpoint_view(&self) -> Step {
        let mut feeder = self.feeder.lock().expect("no holder of the feeder panics");
        let Some(view) = feeder.current() else { return Step::Waiting };
        if !feeder.changed {
            return Step::Idle;
        }
        let position = Progress::at(&self.progress.checkpointed);
        let result = view
            .flush()
            .and_then(|()| view.apply(vec![(vec![b'f'], Some(position.to_le_bytes().to_vec()))]))
            .and_then(|()| view.flush())
            .and_then(|()| view.sync());
        feeder.changed = false;
        drop(view);
        match result {
            Ok(()) => {
                let Feeder { fed, durable_ends, .. } = &mut *feeder;
                let whole = fed.iter().filter(|(_, fed)| !fed.purge);
                *durable_ends = whole.map(|(id, fed)| (*id, fed.end_offset)).collect();
                Step::Worked
            }
            Err(error) => {
                self.break_view(&error);
                Step::Waiting
            }
        }
    }

    /// How far the stored view covers a keyed partition, come what may: what it has not seen must
    /// not go from the log. Without a view nothing is covered.
    pub fn viewed_end(&self, id: PartitionId) -> i64 {
        let feeder = self.feeder.lock().expect("no holder of the feeder panics");
        let covered = feeder.durable_ends.get(&id).filter(|_| feeder.current().is_some());
        covered.copied().unwrap_or(0)
    }

    /// The view's handle is closed, and the second store's, so that their files are free.
    pub fn close_view(&self) {
        self.view_slot.lock().expect("no holder of the view panics").take();
        self.feeder.lock().expect("no holder of the feeder panics").views.close_records();
        self.stopping.store(true, Ordering::Release);
    }
}

/// The synced part of the active segment, and the producers. Returns the synced end.
fn feed_active(fed: &mut Fed, view: &dyn View, partition: &Partition) -> Result<i64, ViewError> {
    let id = partition.id;
    let (synced, entries) = {
        let shared = partition.shared();
        let synced = shared.synced.clone();
        let entries = match (&shared.active, &synced.active) {
            (Some(active), Some((summary, count, last)))
                if active.summary.base_offset == summary.base_offset =>
            {
                Some((*summary, synced_entries(active, *count, *last)))
            }
            _ => None,
        };
        (synced, entries)
    };
    let mut changes: Vec<Change> = Vec::new();
    if let Some((summary, entries)) = entries {
        let had = match fed.active {
            Some((base_offset, count)) if base_offset == summary.base_offset => count,
            _ => 0,
        };
        let first = had.saturating_sub(1) / VALUE_ENTRIES;
        changes = index_changes(id, summary.base_offset, &entries, first);
        let key = segment_key(id, summary.base_offset);
        changes.push((key, Some(index::encode_summary(&summary, false))));
        fed.active = Some((summary.base_offset, entries.len()));
    }
    let producers = synced.producers.map(|producers| {
        let mut value = synced.end_offset.to_le_bytes().to_vec();
        value.extend_from_slice(&producers);
        value
    });
    changes.push((partition_key(b's', id), producers));
    apply(view, changes)?;
    Ok(synced.end_offset)
}

fn index_changes(
    id: PartitionId,
    base_offset: i64,
    entries: &[IndexEntry],
    first: usize,
) -> Vec<Change> {
    let chunks = entries.chunks(VALUE_ENTRIES).enumerate().skip(first);
    let change = |(number, chunk): (usize, &[IndexEntry])| {
        let number = u32::try_from(number).expect("a segment has a few thousand entries");
        (index_key(id, base_offset, Some(number)), Some(index::encode_entries(chunk)))
    };
    chunks.map(change).collect()
}

pub(crate) fn apply(view: &dyn View, changes: Vec<Change>) -> Result<(), ViewError> {
    let mut changes = changes.into_iter().peekable();
    while changes.peek().is_some() {
        view.apply(changes.by_ref().take(BATCH_KEYS_MAX).collect())?;
    }
    Ok(())
}

fn forget_segment(view: &dyn View, id: PartitionId, base_offset: i64) -> Result<(), ViewError> {
    // The summary first: without it nobody looks at the index.
    view.apply(vec![(segment_key(id, base_offset), None)])?;
    while remove_some(view, &index_key(id, base_offset, None))? {}
    Ok(())
}

/// One batch of everything of a partition; true if there is more.
fn purge(view: &dyn View, id: PartitionId) -> Result<bool, ViewError> {
    for tag in TAGS {
        if remove_some(view, &partition_key(tag, id))? {
            return Ok(true);
        }
    }
    Ok(false)
}
