//! Opening a partition: its folder, its segments' summaries from the view or the side files, the
//! active segment's tail by a walk from the last point that is known, and then what the journal
//! holds beyond that.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::core::Core;
use crate::direct;
use crate::feed::Fed;
use crate::folders::{self, Metadata};
use crate::index::{self, SegmentIndex, Summary};
use crate::keyed::offset_of;
use crate::name::SegmentName;
use crate::partition::{Partition, Segment};
use crate::producers::Producers;
use crate::recover::{Recovered, Recovery};
use crate::transactions;
use crate::types::{AbortedTransaction, AttachError, Damage, Ends, PartitionId, PartitionSpec};
use crate::view::partition_key;
use crate::walk::{self, Walk};
use crate::wire;

/// What the view holds of a partition when it is attached.
#[derive(Default)]
struct Stored {
    summaries: BTreeMap<i64, (Summary, bool)>,
    producers: Option<(i64, Producers, Vec<AbortedTransaction>)>,
    keyed_end: Option<i64>,
    broken: bool,
}

/// The active segment as far as it is known without looking into it.
struct Known {
    index: SegmentIndex,
    producers: Producers,
}

impl Core {
    pub fn attach(&self, spec: PartitionSpec, now_ms: i64) -> Result<Ends, AttachError> {
        if let Some(reason) = self.failed() {
            return Err(AttachError::Failed(reason));
        }
        if self.partition(spec.id).is_some() {
            return Err(AttachError::Twice(spec.id));
        }
        let io = |what: &str| {
            let what = format!("{what} {}", spec.folder);
            move |source: io::Error| AttachError::Io { what, source }
        };
        let placed = self.folders().place(&*self.disk, &spec).map_err(io("placing"))?;
        let partition = Arc::new(Partition::new(&spec, placed.folder));
        partition.sides_unproven.store(self.folders().is_unclean(), Ordering::Release);
        {
            let mut writer = partition.writer();
            writer.created_ms = now_ms;
            match placed.metadata {
                Metadata::Durable => {}
                Metadata::Unproven => writer.metadata_unproven = true,
                Metadata::Written(metadata) => {
                    writer.metadata = Some(metadata);
                    writer.folder_dirty = true;
                    self.segments.root_dirty.store(true, Ordering::Release);
                }
            }
            let mut shared = partition.shared();
            shared.settings = spec.settings;
            shared.log_start_offset = spec.log_start_offset;
            shared.settled_end = spec.log_start_offset;
            shared.max_timestamp_ms = -1;
        }
        self.load(&partition, now_ms).map_err(io("opening"))?;
        self.age_from_files(&partition);
        self.mark_dirty(&partition);
        let ends = partition.ends();
        let mut partitions = self.partitions.write().expect("no holder of the partitions panics");
        if partitions.insert(spec.id, partition).is_some() {
            return Err(AttachError::Twice(spec.id));
        }
        Ok(ends)
    }

    /// The active segment was begun when the one before it was sealed, or with its partition: the
    /// times of their files, which a restart finds again.
    fn age_from_files(&self, partition: &Partition) {
        let path = {
            let shared = partition.shared();
            let sealed = shared.segments.iter().rev().find(|segment| segment.sealed);
            match sealed {
                Some(segment) => partition.side_path(segment.summary.name()),
                None => format!("{}/{}", partition.folder, folders::METADATA_NAME),
            }
        };
        let mut writer = partition.writer();
        if let Ok(begun_ms) = self.disk.modified_ms(&path) {
            writer.created_ms = writer.created_ms.min(begun_ms);
        }
    }

    fn load(&self, partition: &Arc<Partition>, now_ms: i64) -> io::Result<()> {
        let mut recovery = self.recovery.lock().expect("no holder of the recovery panics");
        let entries =
            recovery.as_mut().map(|recovery| recovery.take(partition.id)).unwrap_or_default();
        let careful = recovery.as_ref().is_some_and(|recovery| recovery.careful);
        let stored = self.stored(partition.id);
        let files = self.survey(partition)?;
        if !files.is_empty() {
            // It was synced before the first of them was made.
            partition.writer().metadata_unproven = false;
        }
        let mut damage = Vec::new();
        if let Some(first) = entries.first() {
            // Trimmed before it was settled: its producers count nevertheless.
            let mut shared = partition.shared();
            shared.settled_end = shared.settled_end.min(first.base_offset);
        }
        let cut = recovery.as_ref().and_then(|recovery| recovery.cut_of(partition.id));
        let known = self.load_sealed(partition, &stored, &files)?;
        if let Some((base_offset, bytes)) = known.1 {
            let known = self.known_active(partition, &stored, known.0, base_offset, bytes);
            let limit = match careful {
                true => cut,
                false => first_beyond(&entries, &known.index.summary).or(cut),
            };
            let covered_end = recovery.as_ref().filter(|_| !careful && limit.is_none());
            let covered_end = covered_end.and_then(|all| all.covered_end_of(partition.id));
            let marked_end = marked_end(&entries, base_offset);
            let load = ActiveLoad { bytes, careful, limit, covered_end, marked_end };
            damage.extend(self.load_active(partition, known, load)?);
        } else {
            partition.writer().producers = known.0;
        }
        if let Some(recovery) = recovery.as_mut() {
            self.replay(partition, recovery, &entries, now_ms, &mut damage)?;
            recovery.damage.extend(damage.iter().copied());
        }
        self.cut_behind(partition)?;
        for damage in &damage {
            tracing::error!(?damage, folder = partition.folder, "acknowledged records are lost");
        }
        let open_transactions = partition.writer().producers.open_transactions().clone();
        let mut shared = partition.shared();
        shared.settled_end = shared.settled_end.max(shared.log_start_offset);
        shared.high_watermark = shared.settled_end;
        shared.open_transactions = open_transactions;
        shared.recount();
        let (start, end) = (shared.log_start_offset, shared.high_watermark);
        drop(shared);
        self.trim_partition(partition, start);
        partition.next_offset.store(end, Ordering::Release);
        self.know_fed(partition, stored, end, !damage.is_empty());
        Ok(())
    }

    fn stored(&self, id: PartitionId) -> Stored {
        let Some(view) = self.view() else { return Stored::default() };
        let mut stored = Stored::default();
        let mut broken = false;
        let scanned = view.scan(&partition_key(b'g', id), &mut |_, value| {
            match index::decode_summary(value) {
                Some((summary, sealed)) => {
                    stored.summaries.insert(summary.base_offset, (summary, sealed));
                }
                None => broken = true,
            }
            true
        });
        let producers = view.value(&partition_key(b's', id));
        let keyed_end = view.value(&partition_key(b'e', id));
        match (scanned, producers, keyed_end) {
            (Ok(()), Ok(producers), Ok(keyed_end)) => {
                if let Some(value) = producers {
                    stored.producers = decode_producers(&value);
                    broken |= stored.producers.is_none();
                }
                if let Some(value) = keyed_end {
                    stored.keyed_end = offset_of(&value);
                    broken |= stored.keyed_end.is_none();
                }
            }
            _ => broken = true,
        }
        if broken {
            self.break_view(&"a stored value makes no sense");
            return Stored { broken: true, ..Stored::default() };
        }
        stored
    }

    /// Takes in all sealed segments. Returns the producers at their end, and the active segment.
    fn load_sealed(
        &self,
        partition: &Arc<Partition>,
        stored: &Stored,
        files: &[(SegmentName, u64)],
    ) -> io::Result<(Producers, Option<(i64, u64)>)> {
        let kept = partition.shared().kept_side;
        let kept = match kept {
            Some(name) => self.segments.read_side(partition, name)?,
            None => None,
        };
        if let Some(side) = &kept {
            partition.shared().settled_end = side.summary.end_offset;
        }
        let mut producers = kept.map(|side| side.producers);
        let count = files.len();
        for (at, (name, bytes)) in files.iter().enumerate() {
            let last = at + 1 == count;
            let next_is_last = at + 2 >= count;
            let known = stored.summaries.get(&name.base_offset).filter(|(summary, sealed)| {
                *sealed && summary.bytes == *bytes && summary.name() == *name
            });
            // The producers are in the side file; only those at the end matter.
            let side = match known {
                Some(_) if !next_is_last => None,
                _ => self.segments.read_side(partition, *name)?,
            };
            let side = side.filter(|side| side.summary.bytes == *bytes);
            let summary = match (known, &side) {
                (Some((summary, _)), _) => *summary,
                (None, Some(side)) => side.summary,
                (None, None) if last && name.generation == 0 => {
                    return Ok((producers.unwrap_or_default(), Some((name.base_offset, *bytes))));
                }
                (None, None) => {
                    let before = producers.take().unwrap_or_default();
                    let (summary, after) = self.seal_anew(partition, *name, *bytes, before)?;
                    producers = Some(after);
                    summary
                }
            };
            if let Some(side) = side {
                producers = Some(side.producers);
            }
            let mut shared = partition.shared();
            shared.settled_end = summary.end_offset;
            shared.segments.push(Segment { summary, sealed: true });
        }
        Ok((producers.unwrap_or_default(), None))
    }

    /// A segment that others follow but that has no side file: taken in from elsewhere.
    fn seal_anew(
        &self,
        partition: &Arc<Partition>,
        name: SegmentName,
        bytes: u64,
        producers: Producers,
    ) -> io::Result<(Summary, Producers)> {
        tracing::warn!(
            folder = partition.folder,
            base_offset = name.base_offset,
            "a segment has no readable side file; its index and producers are made from it anew"
        );
        let mut known = Known { index: SegmentIndex::empty(name.base_offset), producers };
        known.index.summary.generation = name.generation;
        let (known, end) =
            self.walk_on(partition, known, Walk { from: 0, to: bytes, verify: true }, None)?;
        let file = self.disk.create(&partition.segment_path(name))?;
        if end < bytes {
            file.set_len(end)?;
        }
        file.sync()?;
        self.segments.write_side(partition, &known.index, &known.producers)?;
        Ok((known.index.summary, known.producers))
    }

    /// The view's word on the active segment, if it has one and the file bears it out.
    fn known_active(
        &self,
        partition: &Arc<Partition>,
        stored: &Stored,
        producers: Producers,
        base_offset: i64,
        bytes: u64,
    ) -> Known {
        let from_view = || {
            let (summary, sealed) = stored.summaries.get(&base_offset)?;
            let (end_offset, table, aborted) = stored.producers.as_ref()?;
            if *sealed || summary.bytes > bytes || *end_offset != summary.end_offset {
                return None;
            }
            if summary.aborted_count as usize != aborted.len() {
                return None;
            }
            let view = self.view()?;
            let mut entries = crate::read::view_entries(&*view, partition.id, base_offset)?;
            entries.retain(|entry| entry.position < summary.bytes);
            let last = entries.last()?;
            let file = self.segments.reader(partition, summary.name()).ok()?;
            let mut header = [0; wire::HEADER_BYTES];
            file.read_exact_at(&mut header, last.position).ok()?;
            let agrees = wire::header(&header)?.base_offset == last.offset;
            let index = SegmentIndex { summary: *summary, entries, aborted: aborted.clone() };
            agrees.then(|| Known { index, producers: table.clone() })
        };
        let known = from_view();
        known.unwrap_or(Known { index: SegmentIndex::empty(base_offset), producers })
    }

    /// Walks from the known point to the end, or to where the journal takes over; what lies
    /// behind that is cut, to be written anew: a page that a failed sync left behind clean would
    /// never reach the disk otherwise.
    fn load_active(
        &self,
        partition: &Arc<Partition>,
        known: Known,
        load: ActiveLoad,
    ) -> io::Result<Option<Damage>> {
        let name = known.index.summary.name();
        let from = known.index.summary.bytes;
        let walk = Walk { from, to: load.bytes, verify: load.careful };
        let covered_end = load.covered_end.map(|end| end.max(known.index.summary.end_offset));
        let (known, end) = self.walk_on(partition, known, walk, load.limit.or(covered_end))?;
        let summary = known.index.summary;
        let cut = end < load.bytes;
        // Marked bytes are there and nowhere else: what is behind them is cut later.
        let has_marked = load.marked_end.is_some_and(|end_offset| end_offset > summary.end_offset);
        // After a clean close all of it was synced; after another one what the journal holds none
        // of was, by a checkpoint (invariants 2 and 4). A sync of every partition would make the
        // start slow.
        let is_unclean = self.folders().is_unclean();
        let unproven = is_unclean && (load.careful || load.limit.is_some());
        // That it ends there may be a cut that an earlier start, or a full disk, did not sync.
        let to_sync = cut || unproven || is_unclean && covered_end.is_some();
        let mut file = None;
        if to_sync {
            let made = self.disk.create(&partition.segment_path(name))?;
            if cut && !has_marked {
                made.set_len(end)?;
            }
            if load.careful {
                walk::rewrite(&made, from, end)?;
            }
            file = Some(made);
        }
        let mut writer = partition.writer();
        writer.producers = known.producers;
        writer.in_one_segment_to = load.marked_end.unwrap_or(0);
        writer.dirty |= to_sync;
        writer.folder_dirty |= unproven;
        let mut shared = partition.shared();
        shared.settled_end = shared.settled_end.max(summary.end_offset);
        // One of which the journal tells stays, even while it is empty: of one that is gone, a mark
        // says that it was sealed.
        if summary.is_empty() && load.limit.is_none() {
            drop(shared);
            drop(file);
            self.segments.close_readers(partition.id, Some(name));
            self.disk.delete(&partition.segment_path(name))?;
        } else {
            writer.file = file;
            shared.segments.push(Segment { summary, sealed: false });
            self.segments.change_active(&mut shared, |active| *active = Some(known.index));
        }
        // With the journal whole, all before its first entry was synced once.
        let unknown_end = load.limit.is_none() && end < load.bytes && !load.careful;
        let lost_to = covered_end.or(unknown_end.then_some(i64::MAX));
        let lost_to = lost_to.filter(|to_offset| *to_offset > summary.end_offset);
        Ok(lost_to.map(|to_offset| Damage {
            partition: partition.id,
            from_offset: summary.end_offset,
            to_offset,
        }))
    }

    fn walk_on(
        &self,
        partition: &Arc<Partition>,
        mut known: Known,
        walk: Walk,
        limit: Option<i64>,
    ) -> io::Result<(Known, u64)> {
        let file = self.segments.reader(partition, known.index.summary.name())?;
        let end = walk::walk(&file, walk, &mut |header, batch| {
            let follows = header.base_offset >= known.index.summary.end_offset;
            if !follows || limit.is_some_and(|limit| header.base_offset >= limit) {
                return false;
            }
            let (low, high) = wire::timestamps(header, batch);
            known.index.push(header, low, high);
            if let Some(aborted) = known.producers.apply(header, batch) {
                known.index.abort(aborted);
            }
            true
        })?;
        Ok((known, end))
    }

    fn replay(
        &self,
        partition: &Arc<Partition>,
        recovery: &mut Recovery,
        entries: &[Recovered],
        now_ms: i64,
        damage: &mut Vec<Damage>,
    ) -> io::Result<()> {
        let mut lost_to = 0;
        for entry in entries {
            let end = partition.shared().settled_end;
            if entry.last_offset < end {
                continue;
            }
            // What is trimmed is not missed.
            let from_offset = end.max(partition.shared().log_start_offset);
            if entry.base_offset > from_offset {
                damage.push(Damage {
                    partition: partition.id,
                    from_offset,
                    to_offset: entry.base_offset,
                });
            }
            let batches = match &entry.marked {
                None => recovery.batches(entry)?,
                Some(at) => {
                    let folder = &partition.folder;
                    match direct::marked_bytes(&*self.disk, folder, at, entry.bytes)? {
                        direct::Found::Whole(batches) => batches,
                        direct::Found::Other | direct::Found::NoFile => {
                            lost_to = entry.last_offset + 1;
                            continue;
                        }
                    }
                }
            };
            self.segments.append(partition, &[batches], now_ms)?;
            recovery.recovered_bytes += entry.bytes as u64;
        }
        // What is lost in the middle was told by what follows it.
        let shared = partition.shared();
        let from_offset = shared.settled_end.max(shared.log_start_offset);
        if lost_to > from_offset {
            damage.push(Damage { partition: partition.id, from_offset, to_offset: lost_to });
        }
        Ok(())
    }

    /// What the active segment holds beyond all that counts.
    fn cut_behind(&self, partition: &Partition) -> io::Result<()> {
        let mut writer = partition.writer();
        writer.in_one_segment_to = 0;
        let active = partition.shared().active.as_ref().map(|active| active.summary);
        let (Some(summary), Some(file)) = (active, writer.file.clone()) else { return Ok(()) };
        if file.byte_count()? > summary.bytes {
            file.set_len(summary.bytes)?;
            writer.dirty = true;
        }
        if summary.is_empty() {
            // All that was to be in it is damaged.
            drop(file);
            writer.file = None;
            let mut shared = partition.shared();
            self.segments.change_active(&mut shared, |active| *active = None);
            shared.segments.pop();
            drop(shared);
            self.segments.close_readers(partition.id, Some(summary.name()));
            self.disk.delete(&partition.segment_path(summary.name()))?;
        }
        Ok(())
    }

    fn know_fed(&self, partition: &Partition, stored: Stored, end: i64, damaged: bool) {
        if stored.broken {
            return;
        }
        let (sealed, active): (Vec<_>, Vec<_>) =
            stored.summaries.values().partition(|(_, sealed)| *sealed);
        let newer = stored.keyed_end.is_some_and(|covered| covered > end)
            || stored.summaries.values().any(|(summary, _)| summary.end_offset > end);
        let mut fed = Fed {
            sealed: sealed.iter().map(|(summary, _)| summary.name()).collect(),
            active: None,
            end_offset: stored.keyed_end.unwrap_or(0),
            purge: newer || damaged,
        };
        // An active segment that is none any more would be forgotten as a sealed one.
        fed.sealed.extend(
            active.iter().map(|(summary, _)| summary.name()).filter(|name| {
                !partition.shared().segments.iter().any(|s| s.summary.name() == *name)
            }),
        );
        let mut feeder = self.feeder.lock().expect("no holder of the feeder panics");
        feeder.know(partition.id, fed);
    }

    pub fn folders(&self) -> std::sync::MutexGuard<'_, folders::Folders> {
        self.folders.lock().expect("no holder of the folders panics")
    }
}

/// End offset, producers and the active segment's aborted transactions, as `settle` put them
/// together.
fn decode_producers(value: &[u8]) -> Option<(i64, Producers, Vec<AbortedTransaction>)> {
    let end_offset = value.get(..8).and_then(offset_of)?;
    let mut rest = value.get(8..)?;
    let producers = Producers::decode_front(&mut rest)?;
    Some((end_offset, producers, transactions::decode_aborted(rest)?))
}

struct ActiveLoad {
    bytes: u64,
    careful: bool,
    /// Where the journal takes over, or what does not count begins.
    limit: Option<i64>,
    /// Else where its last entry ended, which a checkpoint covers.
    covered_end: Option<i64>,
    /// Of the last marked bytes in it.
    marked_end: Option<i64>,
}

fn marked_end(entries: &[Recovered], segment: i64) -> Option<i64> {
    let here = |entry: &&Recovered| entry.marked.is_some_and(|at| at.segment == segment);
    entries.iter().rfind(here).map(|entry| entry.last_offset + 1)
}

/// The first offset that the journal holds and that is not known to be synced; where all of it is,
/// the first that it does not hold. A segment may end within an entry, so this may lie in the
/// middle of one.
fn first_beyond(entries: &[Recovered], known: &Summary) -> Option<i64> {
    let beyond = entries.iter().find(|entry| entry.last_offset >= known.end_offset);
    let beyond = beyond.map(|entry| entry.base_offset.max(known.end_offset));
    beyond.or(entries.last().map(|entry| entry.last_offset + 1))
}
