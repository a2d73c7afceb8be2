//! Compacted partitions: what a reader must still find of all that was ever acknowledged, and what
//! must be gone once the cleaning has come to rest.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use odradek_protocol::batch::{self, BatchHeader, Record};
use rand::Rng;

use super::each_seed;
use super::world::{Model, World};
use crate::core::Step;
use crate::disk::CrashMode;
use crate::types::*;
use crate::wire;

/// Codec, timestamp type, transaction and control bits of the attributes: all but the horizon.
const LASTING_BITS: i16 = 0x3f;

/// A record's place in the history: whether its transaction was aborted.
struct Fate {
    record: Record,
    aborted: bool,
    appended_ms: i64,
}

impl Model {
    /// All records that are no markers, in order.
    fn fates(&self) -> Vec<Fate> {
        let (_, aborted) = self.transactions();
        let mut fates = Vec::new();
        for (base_offset, _, bytes) in &self.acked {
            let header = wire::header(bytes).expect("ours");
            if header.is_control() {
                continue;
            }
            let aborted = aborted.iter().any(|one| belongs(&header, one));
            let appended_ms = self.appended_ms[base_offset];
            let records = batch::records(bytes, 1 << 20).expect("ours").into_iter();
            fates.extend(records.map(|record| Fate { record, aborted, appended_ms }));
        }
        fates
    }
}

fn belongs(header: &BatchHeader, transaction: &AbortedTransaction) -> bool {
    header.is_transactional()
        && !header.is_control()
        && header.producer_id == transaction.producer_id
        && (transaction.first_offset..transaction.last_offset).contains(&header.base_offset)
}

fn is_tombstone(record: &Record) -> bool {
    record.value.is_none()
}

impl World {
    /// What can be read of a compacted partition is a part of the history, with everything in it
    /// that no rule lets go.
    pub fn check_compacted(&mut self, id: PartitionId, model: &Model) {
        let batches = self.read_all(id);
        let sources: BTreeMap<i64, &Bytes> =
            model.acked.iter().map(|(base_offset, _, bytes)| (*base_offset, bytes)).collect();
        let mut found = BTreeMap::new();
        for batch in &batches {
            let header = wire::header(batch).expect("whole");
            let source = sources.get(&header.base_offset).expect("a batch of the history");
            check_against_source(batch, source);
            if !header.is_control() {
                let records = batch::records(batch, 1 << 20).expect("readable");
                found.extend(records.into_iter().map(|record| (record.offset, record)));
            }
        }
        let ends = self.log.ends(id).expect("attached");
        let stable_end = ends.last_stable_offset;
        let mut latest: BTreeMap<Bytes, Fate> = BTreeMap::new();
        for fate in model.fates() {
            let offset = fate.record.offset;
            if offset >= stable_end {
                assert!(found.contains_key(&offset), "{offset} is not decided yet");
            } else if let Some(key) = fate.record.key.clone().filter(|_| !fate.aborted) {
                latest.insert(key, fate);
            }
        }
        let retention_ms = model.compaction.expect("compacted").delete_retention_ms;
        for (key, fate) in latest {
            let offset = fate.record.offset;
            let may_go = is_tombstone(&fate.record)
                && self.now_ms >= fate.appended_ms.saturating_add(retention_ms);
            if offset >= model.log_start_offset && !may_go {
                assert!(found.contains_key(&offset), "{offset} is the latest of {key:?}");
            }
        }
        self.check_aborted_of_compacted(id, model, &batches);
        // Look-ups by time are measured by what there is to read.
        let ends_of = |batch: &Bytes| {
            let header = wire::header(batch).expect("whole");
            (header.base_offset, header.last_offset(), batch.clone())
        };
        let visible = Model { acked: batches.iter().map(ends_of).collect(), ..model.clone() };
        self.check_times(id, &visible);
    }

    /// All batches from the log start, read in pieces of any size; every offset on the way leads to
    /// the batch that holds it, or to the next one.
    fn read_all(&mut self, id: PartitionId) -> Vec<Bytes> {
        // An append in memory that reaches beyond what was cleaned still shows what went.
        self.log.core().partition(id).expect("attached").shared().evict_below(i64::MAX);
        let ends = self.log.ends(id).expect("attached");
        let bytes_max = self.random.random_range(1..20_000);
        let (mut offset, mut batches) = (ends.log_start_offset, Vec::new());
        while offset < ends.log_end_offset {
            let read = self.log.read(id, offset, bytes_max).expect("readable");
            assert!(!read.batches.is_empty(), "nothing read at {offset} of {ends:?}");
            for batch in read.each_batch() {
                let header = wire::header(&batch).expect("whole");
                assert!(header.last_offset() >= offset, "in order");
                offset = header.last_offset() + 1;
                batches.push(batch);
            }
            assert_eq!(read.next_offset, offset);
        }
        for _ in 0..5 {
            let at = self.random.random_range(ends.log_start_offset..=ends.log_end_offset);
            let next = batches.iter().find(|b| wire::header(b).expect("whole").last_offset() >= at);
            let read = self.log.read(id, at, 1).expect("readable");
            assert_eq!(read.each_batch().first(), next, "at {at}");
        }
        batches
    }

    /// No transaction is called aborted that is not; and those whose records can still be read are.
    fn check_aborted_of_compacted(&mut self, id: PartitionId, model: &Model, batches: &[Bytes]) {
        let ends = self.log.ends(id).expect("attached");
        let (start, end) = (ends.log_start_offset, ends.log_end_offset);
        let (_, aborted) = model.transactions();
        for turn in 0..4 {
            let from = if turn == 0 { start } else { self.random.random_range(start..=end) };
            let to = if turn == 0 { end } else { self.random.random_range(from..=end) };
            let found: BTreeSet<AbortedTransaction> =
                self.log.aborted(id, from, to).expect("readable").into_iter().collect();
            for one in &found {
                assert!(aborted.contains(one), "{one:?} was not aborted");
            }
            for one in aborted.iter().filter(|a| a.last_offset >= from && a.first_offset < to) {
                let readable = |batch: &&Bytes| belongs(&wire::header(batch).expect("whole"), one);
                let needed = batches.iter().any(|batch| readable(&batch));
                assert!(!needed || found.contains(one), "{one:?} is aborted in {from}..{to}");
            }
        }
    }

    /// Cleans until nothing is due.
    pub fn compact_all(&mut self) {
        let core = self.log.core().clone();
        for _ in 0..100_000 {
            if core.compact_step(self.now_ms).is_none() {
                return;
            }
        }
        panic!("the cleaning does not come to rest");
    }

    /// Whatever is dirty is cleaned.
    fn be_eager(&mut self, id: PartitionId) {
        let model = self.partitions.get_mut(&id).expect("ours");
        let eager = model.compaction.map(|old| CompactionSettings { min_dirty_ratio: 0.0, ..old });
        model.compaction = eager;
        let partition = self.log.core().partition(id).expect("attached");
        partition.shared().settings.compaction = eager;
    }

    fn compacted_ids(&self) -> Vec<PartitionId> {
        let all = self.partitions.iter().filter(|(_, model)| model.compaction.is_some());
        all.map(|(id, _)| *id).collect()
    }

    /// Of a partition at rest: what was cleaned holds each key once, and nothing that was aborted.
    fn check_cleaned(&mut self, id: PartitionId) -> (i64, Vec<Record>) {
        let model = self.partitions[&id].clone();
        let cleaned_to = {
            let partition = self.log.core().partition(id).expect("attached");
            let shared = partition.shared();
            let summaries = shared.segments.iter().map(|segment| segment.summary);
            let cleaned = summaries.take_while(|summary| summary.cleaned_to == summary.end_offset);
            cleaned.last().map_or(0, |summary| summary.end_offset)
        };
        let fates: BTreeMap<i64, Fate> =
            model.fates().into_iter().map(|fate| (fate.record.offset, fate)).collect();
        let mut keys = BTreeSet::new();
        let mut left = Vec::new();
        for batch in self.read_all(id) {
            if wire::header(&batch).expect("whole").is_control() {
                continue;
            }
            for record in batch::records(&batch, 1 << 20).expect("readable") {
                if record.offset < cleaned_to {
                    assert!(!fates[&record.offset].aborted, "{} was aborted", record.offset);
                    let key = record.key.clone().expect("none without a key is left");
                    assert!(keys.insert(key), "{} is superseded", record.offset);
                    left.push(record);
                }
            }
        }
        (cleaned_to, left)
    }
}

fn check_against_source(batch: &Bytes, source: &Bytes) {
    let (header, before) =
        (wire::header(batch).expect("whole"), wire::header(source).expect("ours"));
    assert!(wire::crc_holds(batch, &header), "a checksum that holds");
    let lasting = |header: &BatchHeader| {
        let ends = (header.base_offset, header.last_offset_delta, header.leader_epoch);
        let producer = (header.producer_id, header.producer_epoch, header.base_sequence);
        (ends, producer, header.attributes & LASTING_BITS)
    };
    assert_eq!(lasting(&header), lasting(&before));
    let sources = batch::records(source, 1 << 20).expect("ours");
    for record in batch::records(batch, 1 << 20).expect("readable") {
        assert!(sources.contains(&record), "{} is as it was", record.offset);
    }
}

fn fill(world: &mut World, appends: usize) {
    for _ in 0..appends {
        world.append();
        world.step();
        world.step();
    }
    world.drain();
}

#[test]
fn a_cleaning_that_came_to_rest_leaves_the_latest_record_of_each_key() {
    each_seed("cleaned", 4, |seed| clean(World::new(seed)));
}

pub fn clean(mut world: World) {
    for id in world.compacted_ids() {
        world.be_eager(id);
        world.append_records(id, &[(b"gone", Some(b"value")), (b"gone", None)]);
    }
    fill(&mut world, 230);
    world.compacted_ids().into_iter().for_each(|id| world.end_transactions(id));
    fill(&mut world, 20);
    world.log.core().checkpoint_view();
    let full = world.used_bytes();
    world.compact_all();
    world.drain();
    world.check();
    assert!(world.used_bytes() < full, "the old segments are gone");
    for id in world.compacted_ids() {
        let (cleaned_to, _) = world.check_cleaned(id);
        assert!(cleaned_to > 50, "{cleaned_to} offsets");
    }
    // The next cleaning has met all that was there before it, and the one after that comes
    // behind every horizon of those: their tombstones go.
    for _ in 0..2 {
        world.now_ms += 1_000_000;
        world.compacted_ids().into_iter().for_each(|id| world.end_transactions(id));
        fill(&mut world, 60);
        world.log.core().checkpoint_view();
        world.compact_all();
    }
    world.stop_and_reopen(Some(CrashMode::Tear));
    for id in world.compacted_ids() {
        let model = world.partitions[&id].clone();
        let (cleaned_to, left) = world.check_cleaned(id);
        let appended_ms = |record: &Record| {
            let (base_offset, _, _) = model.acked.iter().rfind(|a| a.0 <= record.offset)?;
            Some(model.appended_ms[base_offset])
        };
        let old = left.iter().filter(|record| is_tombstone(record));
        let old = old.filter(|record| appended_ms(record) < Some(world.now_ms - 1_500_000));
        assert_eq!(old.count(), 0, "tombstones below {cleaned_to}");
        assert!(left.iter().all(|record| record.key.as_deref() != Some(b"gone")));
    }
}

#[test]
fn a_crash_at_any_step_of_a_cleaning_leaves_the_old_segments_or_the_new_one() {
    each_seed("steps", 1, |seed| {
        let mut steps = 0;
        // Until the crash comes after the last step.
        for crash_after in 0.. {
            let mut world = World::new(seed);
            fill(&mut world, 60);
            world.log.core().checkpoint_view();
            let core = world.log.core().clone();
            steps = 0;
            while steps < crash_after && core.compact_step(world.now_ms).is_some() {
                steps += 1;
                // What was superseded may be gone already, or be there again after the crash.
                if world.random.random_bool(0.3) {
                    core.clean_step();
                }
            }
            drop(core);
            let modes = [CrashMode::Tear, CrashMode::LoseAll, CrashMode::KeepAll];
            let mode = modes[world.random.random_range(0..3)];
            world.stop_and_reopen(Some(mode));
            world.log.core().checkpoint_view();
            world.compact_all();
            world.drain();
            world.check();
            if steps < crash_after {
                break;
            }
        }
        assert!(steps > 5, "{steps} steps of a cleaning");
    });
}

#[test]
fn a_tombstone_stays_until_the_view_has_seen_it() {
    let mut world = World::new(0);
    let id = world.compacted_ids().into_iter().find(|id| world.partitions[id].keyed);
    let id = id.expect("one is keyed");
    world.be_eager(id);
    let core = world.log.core().clone();
    let settle = |world: &mut World| {
        while world.commit_step() == Step::Worked {}
        while core.settle_step(world.now_ms) == Step::Worked {}
        while core.checkpoint_step() == Step::Worked {}
        world.collect();
    };
    // The view gets as far as this and no further.
    world.append_records(id, &[(b"key", Some(b"value"))]);
    settle(&mut world);
    while core.feed_step() == Step::Worked {}
    core.checkpoint_view();
    world.append_records(id, &[(b"key", None)]);
    for _ in 0..100 {
        world.append_records(id, &[(b"other", Some(&[7; 400]))]);
        settle(&mut world);
        world.now_ms += 100_000;
        world.compact_all();
        world.check();
    }
    assert!(!world.log.keyed(id).expect("readable").contains_key(&b"key"[..]));
    while core.feed_step() == Step::Worked {}
    core.checkpoint_view();
    world.compact_all();
    assert!(world.log.stats().compactions > 0, "what the view has seen is cleaned");
    world.check();
}
