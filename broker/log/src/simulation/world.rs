//! A log on a memory disk, and beside it the model of what it must hold.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::{Bytes, BytesMut};
use odradek_protocol::batch::{self, BatchBuilder, Record};
use odradek_protocol::compression::Compression;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use super::forgetful::ForgetfulSled;
use crate::core::Step;
use crate::disk::{CrashMode, MemoryDisk};
use crate::flight::{FLIGHTS_MAX, Flight};
use crate::log::Log;
use crate::producers::Producers;
use crate::types::*;
use crate::view::{MemoryViews, Views};
use crate::wire;

/// Base offset, last offset and the bytes as they must be stored.
type Stored = (i64, i64, Bytes);
const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];
/// Keys of control records.
const ABORT: [u8; 4] = [0, 0, 0, 0];
const COMMIT: [u8; 4] = [0, 0, 0, 1];

type Answer = Arc<Mutex<Option<Result<(), CommitError>>>>;

pub struct World {
    pub random: StdRng,
    pub disk: MemoryDisk,
    pub views: MemoryViews,
    /// Where the real database is. Of the stand-in it has then what is left of the view.
    pub sled: Option<PathBuf>,
    pub options: Options,
    pub log: Log,
    /// Groups that were written, and are not synced yet.
    flights: VecDeque<Flight>,
    pub partitions: BTreeMap<PartitionId, Model>,
    pub pending: Vec<PendingUnit>,
    pub last_open: OpenReport,
    pub last_start: StartReport,
    /// Offsets may be missing: the disk was damaged on purpose.
    pub forgive_damage: bool,
    pub now_ms: i64,
    topics: u128,
}

#[derive(Clone)]
pub struct Model {
    pub folder: String,
    pub keyed: bool,
    pub compaction: Option<CompactionSettings>,
    pub log_start_offset: i64,
    /// Acknowledged batches as they must be stored, with base and last offset.
    pub acked: Vec<Stored>,
    /// By base offset: no later than this were they in the log.
    pub appended_ms: BTreeMap<i64, i64>,
    /// Next offset as the broker counts, with what is in flight.
    pub next_offset: i64,
    pub segment_bytes_max: u64,
}

pub struct PendingUnit {
    pub appends: Vec<(PartitionId, Vec<Stored>)>,
    at_ms: i64,
    pub answer: Answer,
}

impl Model {
    pub fn end_offset(&self) -> i64 {
        self.acked.last().map_or(self.log_start_offset, |(_, last, _)| last + 1)
    }

    /// Records that a reader may see.
    pub fn records(&self) -> Vec<Record> {
        let batches = self.acked.iter().filter(|(_, last, bytes)| {
            *last >= self.log_start_offset && !wire::header(bytes).expect("ours").is_control()
        });
        let records =
            batches.flat_map(|(_, _, bytes)| batch::records(bytes, 1 << 20).expect("ours"));
        records.filter(|record| record.offset >= self.log_start_offset).collect()
    }

    pub fn keyed(&self) -> BTreeMap<Bytes, Bytes> {
        let mut latest = BTreeMap::new();
        for record in self.records() {
            let Some(key) = record.key else { continue };
            match record.value {
                Some(value) => latest.insert(key, value),
                None => latest.remove(&key),
            };
        }
        latest
    }

    pub fn producers(&self) -> Vec<ProducerEntry> {
        let mut producers = Producers::default();
        for (_, _, bytes) in &self.acked {
            producers.apply(&wire::header(bytes).expect("ours"), bytes);
        }
        producers.entries()
    }

    /// First offsets of open transactions by producer, and what was aborted, told from the batches
    /// alone: what `last_stable_offset` and `aborted` are measured by.
    pub fn transactions(&self) -> (BTreeMap<i64, i64>, Vec<AbortedTransaction>) {
        let mut open: BTreeMap<i64, i64> = BTreeMap::new();
        let mut aborted = Vec::new();
        for (base_offset, last_offset, bytes) in &self.acked {
            let header = wire::header(bytes).expect("ours");
            let producer_id = header.producer_id;
            if !header.is_control() {
                if header.is_transactional() {
                    open.entry(producer_id).or_insert(*base_offset);
                }
                continue;
            }
            let first_offset = open.remove(&producer_id);
            let key = batch::records(bytes, 1 << 20).expect("ours")[0].key.clone();
            let undecided = open.values().min().copied();
            if let Some(first_offset) = first_offset.filter(|_| key.as_deref() == Some(&ABORT)) {
                let last_stable_offset = undecided.unwrap_or(last_offset + 1);
                let last_offset = *last_offset;
                aborted.push(AbortedTransaction {
                    producer_id,
                    first_offset,
                    last_offset,
                    last_stable_offset,
                });
            }
        }
        (open, aborted)
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        World::with_store(seed, Store::Segments, None)
    }

    pub fn with_store(seed: u64, store: Store, sled: Option<PathBuf>) -> World {
        let disk = MemoryDisk::new(seed);
        let views = MemoryViews::default();
        let mut options = Options::new("/memory");
        options.store = store;
        options.journal_file_bytes = 48 << 10;
        options.tail_cache_bytes_max = 12 << 10;
        options.unsettled_bytes_max = 24 << 10;
        options.writers_max = 2;
        options.direct_bytes_min = if seed.is_multiple_of(2) { 100 } else { 600 };
        options.disk_reserve_bytes = 0;
        let opened = open(&options, &disk, &views, sled.as_deref());
        let (log, last_open) = opened.expect("an empty disk opens");
        let mut world = World {
            random: StdRng::seed_from_u64(seed ^ 0x5eed),
            disk,
            views,
            sled,
            options,
            log,
            flights: VecDeque::new(),
            partitions: BTreeMap::new(),
            pending: Vec::new(),
            last_open,
            last_start: StartReport::default(),
            forgive_damage: false,
            now_ms: 1_000,
            topics: 0,
        };
        for index in 0..5 {
            world.add_topic(&format!("topic-{index}"), index == 4, false);
        }
        world.add_topic("topic-5", false, true);
        world.add_topic("topic-6", true, true);
        world.last_start = world.log.prepare().expect("starts");
        world
    }

    /// Of the disk, and of the records where they are not there.
    pub fn used_bytes(&self) -> u64 {
        self.disk.used_bytes() + self.views.records_byte_count()
    }

    pub fn add_topic(&mut self, folder: &str, keyed: bool, compacted: bool) -> PartitionId {
        self.topics += 1;
        // As different from each other as random ones, and still in the order of their making.
        let rest = self.topics.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 32;
        let topic_id = Uuid::from_u128(self.topics << 96 | rest);
        let id = PartitionId { topic_id, partition: 0 };
        let compaction = CompactionSettings {
            min_dirty_ratio: [0.0, 0.3, 0.5][self.random.random_range(0..3)],
            delete_retention_ms: self.random.random_range(0..20_000),
            min_lag_ms: 0,
            max_lag_ms: [100, i64::MAX][self.random.random_range(0..2)],
        };
        let model = Model {
            folder: format!("{folder}-0"),
            keyed,
            compaction: compacted.then_some(compaction),
            log_start_offset: 0,
            acked: Vec::new(),
            appended_ms: BTreeMap::new(),
            next_offset: 0,
            segment_bytes_max: 2_000 * self.random.random_range(1..8),
        };
        self.partitions.insert(id, model);
        self.attach(id);
        id
    }

    fn attach(&mut self, id: PartitionId) {
        self.log.core().attach(self.spec(id), self.now_ms).expect("attaches");
    }

    fn spec(&self, id: PartitionId) -> PartitionSpec {
        let model = &self.partitions[&id];
        PartitionSpec {
            id,
            folder: model.folder.clone(),
            keyed: model.keyed,
            makes_room: model.keyed && model.compaction.is_none(),
            log_start_offset: model.log_start_offset,
            settings: PartitionSettings {
                segment_bytes_max: model.segment_bytes_max,
                segment_ms_max: 5_000,
                compaction: model.compaction,
            },
        }
    }

    /// One batch with records out of time order, some without value, some of a producer, some in
    /// transactions, of which partitions with keys have none.
    fn batch(&mut self, base_offset: i64, keyed: bool) -> Bytes {
        let random = &mut self.random;
        let transactional = !keyed && random.random_bool(0.3);
        if transactional && random.random_bool(0.3) {
            let builder = BatchBuilder::new(Compression::None);
            let id = random.random_range(10..14);
            let mut builder = builder.producer(id, 0, -1).transactional().control();
            let key = if random.random_bool(0.5) { ABORT } else { COMMIT };
            builder.push(random.random_range(0..10_000), Some(&key), Some(&[0; 6]), &[]);
            return stored(builder, base_offset);
        }
        let codec = CODECS[if random.random_bool(0.2) { random.random_range(1..5) } else { 0 }];
        let mut builder = BatchBuilder::new(codec);
        if transactional {
            let id = random.random_range(10..14);
            builder = builder.producer(id, 0, random.random_range(0..90)).transactional();
        } else if random.random_bool(0.3) {
            let id = random.random_range(0..3);
            builder = builder.producer(id, random.random_range(0..2), random.random_range(0..90));
        }
        for _ in 0..random.random_range(1..6) {
            let timestamp_ms = random.random_range(0..10_000);
            let key = format!("key {}", random.random_range(0..9));
            let size = if random.random_bool(0.05) { 5_000 } else { random.random_range(0..400) };
            let value: Vec<u8> = (0..size).map(|_| random.random()).collect();
            let value = random.random_bool(0.9).then_some(&value[..]);
            let key = random.random_bool(0.95).then_some(key.as_bytes());
            builder.push(timestamp_ms, key, value, &[]);
        }
        stored(builder, base_offset)
    }

    /// One batch of these records, alone in its unit.
    pub fn append_records(&mut self, id: PartitionId, records: &[(&[u8], Option<&[u8]>)]) {
        let mut builder = BatchBuilder::new(Compression::None);
        for (key, value) in records {
            builder.push(self.now_ms, Some(key), *value, &[]);
        }
        self.append_batch(id, builder);
    }

    /// Nothing stays undecided but what comes later.
    pub fn end_transactions(&mut self, id: PartitionId) {
        for producer_id in 10..14 {
            let builder = BatchBuilder::new(Compression::None).producer(producer_id, 0, -1);
            let mut builder = builder.transactional().control();
            builder.push(self.now_ms, Some(&COMMIT), Some(&[0; 6]), &[]);
            self.append_batch(id, builder);
        }
    }

    fn append_batch(&mut self, id: PartitionId, builder: BatchBuilder) {
        let base_offset = self.partitions[&id].next_offset;
        let bytes = stored(builder, base_offset);
        let last_offset = wire::header(&bytes).expect("ours").last_offset();
        self.partitions.get_mut(&id).expect("ours").next_offset = last_offset + 1;
        let batches = bytes.clone();
        let appends = vec![Append { partition: id, base_offset, leader_epoch: 5, batches }];
        self.commit(appends, vec![(id, vec![(base_offset, last_offset, bytes)])]);
    }

    fn commit(&mut self, appends: Vec<Append>, model: Vec<(PartitionId, Vec<Stored>)>) {
        let answer = Answer::default();
        let slot = answer.clone();
        self.pending.push(PendingUnit { appends: model, at_ms: self.now_ms, answer });
        self.log.commit(Unit {
            appends,
            done: Box::new(move |result| *slot.lock().expect("lock") = Some(result)),
        });
    }

    pub fn append(&mut self) {
        let ids: Vec<PartitionId> = self.partitions.keys().copied().collect();
        let mut appends = Vec::new();
        let mut model = Vec::new();
        for _ in 0..self.random.random_range(1..4) {
            let id = ids[self.random.random_range(0..ids.len())];
            let base_offset = self.partitions[&id].next_offset;
            let mut next_offset = base_offset;
            let (mut sent, mut kept) = (BytesMut::new(), Vec::new());
            for _ in 0..self.random.random_range(1..3) {
                let keyed = self.partitions[&id].keyed;
                let bytes = self.batch(next_offset, keyed);
                let last = wire::header(&bytes).expect("ours").last_offset();
                // The broker sends what the producer sent: any base offset, any epoch.
                let start = sent.len();
                sent.extend_from_slice(&bytes);
                batch::set_base_offset(&mut sent[start..], 77);
                batch::set_leader_epoch(&mut sent[start..], -1);
                kept.push((next_offset, last, bytes));
                next_offset = last + 1;
            }
            self.partitions.get_mut(&id).expect("chosen").next_offset = next_offset;
            appends.push(Append {
                partition: id,
                base_offset,
                leader_epoch: 5,
                batches: sent.freeze(),
            });
            model.push((id, kept));
        }
        self.commit(appends, model);
    }

    /// Takes answered units into the model, in the order of the queue.
    pub fn collect(&mut self) {
        let mut waiting = Vec::new();
        for unit in std::mem::take(&mut self.pending) {
            let answer = unit.answer.lock().expect("lock").clone();
            match answer {
                Some(Ok(())) => self.acknowledge(&unit),
                Some(Err(CommitError::Full | CommitError::Refused(_))) => {}
                _ => waiting.push(unit),
            }
        }
        self.pending = waiting;
        if self.pending.is_empty() {
            for model in self.partitions.values_mut() {
                model.next_offset = model.end_offset();
            }
        }
    }

    fn acknowledge(&mut self, unit: &PendingUnit) {
        for (id, batches) in &unit.appends {
            let Some(model) = self.partitions.get_mut(id) else { continue };
            for batch in batches {
                assert_eq!(batch.0, model.end_offset(), "acknowledged in order");
                model.acked.push(batch.clone());
                model.appended_ms.insert(batch.0, unit.at_ms);
            }
        }
    }

    pub fn step(&mut self) -> Step {
        self.now_ms += self.random.random_range(0..200);
        let core = self.log.core().clone();
        let step = match self.random.random_range(0..15) {
            0..=4 => self.fly_or_land(),
            5..=7 => core.settle_step(self.now_ms),
            8 => core.checkpoint_step(),
            9 => core.feed_step(),
            10 => core.clean_step(),
            11 => core.checkpoint_view(),
            _ => core.compact_step(self.now_ms).map_or(Step::Idle, |_| Step::Worked),
        };
        self.collect();
        step
    }

    /// Writes one more group, or syncs the oldest one that was written.
    fn fly_or_land(&mut self) -> Step {
        let flies = self.random.random_bool(0.5);
        if self.flights.is_empty() || flies && self.flights.len() < FLIGHTS_MAX {
            return match self.log.core().take_off() {
                Ok(flight) => {
                    self.flights.push_back(flight);
                    Step::Worked
                }
                Err(step) => step,
            };
        }
        self.commit_step()
    }

    /// Lands the oldest group in flight; where there is none, writes and lands the next.
    pub fn commit_step(&mut self) -> Step {
        match self.flights.pop_front() {
            Some(flight) => self.log.core().land(flight),
            None => return self.log.core().commit_step(),
        }
        Step::Worked
    }

    /// As the threads do before a log is closed.
    pub fn land_all(&mut self) {
        while !self.flights.is_empty() {
            self.commit_step();
        }
        self.collect();
    }

    /// Everything there is to do, in an order that always gets on.
    pub fn drain(&mut self) {
        let core = self.log.core().clone();
        for _ in 0..10_000 {
            let committed = self.commit_step();
            let settled = core.settle_step(self.now_ms);
            if committed == Step::Waiting {
                core.checkpoint_step();
            }
            if committed == Step::Idle && settled != Step::Worked {
                break;
            }
        }
        while core.checkpoint_step() == Step::Worked {}
        for _ in 0..10_000 {
            if core.feed_step() != Step::Worked {
                break;
            }
        }
        while core.clean_step() == Step::Worked {}
        self.collect();
    }

    /// Stops without closing, lets the disk and the view suffer, opens again and checks.
    pub fn stop_and_reopen(&mut self, power_cut: Option<CrashMode>) {
        self.collect();
        self.stop(power_cut);
        self.reopen();
    }

    pub fn stop(&mut self, power_cut: Option<CrashMode>) {
        self.flights.clear();
        // A log of its own on an empty disk takes the place while the other one is gone.
        let parked = Log::open_with(
            self.options.clone(),
            Arc::new(MemoryDisk::new(0)),
            Arc::new(MemoryViews::default()),
        );
        self.log = parked.expect("an empty disk opens").0;
        match power_cut {
            Some(mode) => self.cut_power(mode),
            None => {
                self.disk.kill();
                self.kill_views();
            }
        }
        match self.random.random_range(0..6) {
            0 => self.views.corrupt(),
            1 => drop(crate::view::Views::set_aside(&self.views)),
            _ => {}
        }
    }

    /// What the process leaves of the view: all of it, what was flushed, or something between the
    /// two.
    fn kill_views(&mut self) {
        let unflushed = self.views.unflushed_count();
        // Drawn whatever comes of it: logs side by side stay in step.
        let (choice, share): (u32, f64) = (self.random.random_range(0..3), self.random.random());
        let kept = match choice {
            0 => 0,
            1 => unflushed,
            _ => (unflushed as f64 * share) as usize,
        };
        self.views.kill_keeping(kept);
    }

    fn cut_power(&mut self, mode: CrashMode) {
        self.disk.crash(mode);
        self.views.power_cut(match mode {
            CrashMode::KeepAll => 1.0,
            CrashMode::LoseAll => 0.0,
            CrashMode::Tear => self.random.random(),
        });
    }

    /// As far as the disk lets it.
    pub fn open(&mut self) -> Result<(), String> {
        let (log, report) = open(&self.options, &self.disk, &self.views, self.sled.as_deref())
            .map_err(|error| error.to_string())?;
        self.log = log;
        self.last_open = report;
        for id in self.partitions.keys() {
            let spec = self.spec(*id);
            self.log.core().attach(spec, self.now_ms).map_err(|error| error.to_string())?;
        }
        self.last_start = self.log.prepare().map_err(|error| error.to_string())?;
        Ok(())
    }

    pub fn reopen(&mut self) {
        self.open().expect("opens again");
        if !self.forgive_damage {
            assert!(self.last_start.damage.is_empty(), "{:?}", self.last_start.damage);
            self.adopt_survivors();
            self.check();
        }
    }

    /// Units that were never answered may have survived, but only as a prefix of the queue, and
    /// each in whole.
    fn adopt_survivors(&mut self) {
        let mut cut = false;
        for unit in std::mem::take(&mut self.pending) {
            let mut present = Vec::new();
            for (id, batches) in &unit.appends {
                if self.partitions.contains_key(id) {
                    let end = self.log.ends(*id).expect("attached").log_end_offset;
                    present.extend(batches.iter().map(|(_, last, _)| *last < end));
                }
            }
            let all = present.iter().all(|there| *there);
            assert!(all || present.iter().all(|there| !*there), "a unit is whole or absent");
            assert!(!(all && cut) || present.is_empty(), "no unit survives an earlier one");
            if all {
                self.acknowledge(&unit);
            } else {
                cut = true;
            }
        }
        for model in self.partitions.values_mut() {
            model.next_offset = model.end_offset();
        }
    }

    /// Everything that was acknowledged is there, byte for byte, in order, and nothing else.
    pub fn check(&mut self) {
        let ids: Vec<PartitionId> = self.partitions.keys().copied().collect();
        for id in ids {
            let model = self.partitions[&id].clone();
            let ends = self.log.ends(id).expect("attached");
            assert_eq!(ends.log_end_offset, model.end_offset(), "end of {}", model.folder);
            assert_eq!(ends.log_start_offset, model.log_start_offset, "start of {}", model.folder);
            if model.compaction.is_none() {
                let bytes_max = self.random.random_range(1..20_000);
                self.check_reading(id, &model, ends.log_start_offset, bytes_max);
            }
            let producers = self.log.producers(id).expect("attached");
            assert_eq!(producers, model.producers(), "producers of {}", model.folder);
            self.check_transactions(id, &model, &producers);
            if model.keyed {
                let keyed = self.log.keyed(id).expect("readable");
                assert!(keyed == model.keyed(), "keyed view of {}", model.folder);
            }
            match model.compaction {
                Some(_) => self.check_compacted(id, &model),
                None => self.check_times(id, &model),
            }
        }
    }

    fn check_transactions(&mut self, id: PartitionId, model: &Model, producers: &[ProducerEntry]) {
        let ends = self.log.ends(id).expect("attached");
        let (start, end) = (ends.log_start_offset, ends.log_end_offset);
        let (open, aborted) = model.transactions();
        let known =
            producers.iter().filter_map(|p| Some((p.producer_id, p.transaction_first_offset?)));
        assert_eq!(known.collect::<BTreeMap<_, _>>(), open, "open in {}", model.folder);
        let undecided = open.values().min().map_or(end, |first| *first.max(&start));
        assert_eq!(ends.last_stable_offset, undecided, "stable end of {}", model.folder);
        // Of a compacted one, not all are needed any more.
        for turn in 0..if model.compaction.is_some() { 0 } else { 4 } {
            let from = if turn == 0 { start } else { self.random.random_range(start..=end) };
            let to = if turn == 0 { end } else { self.random.random_range(from..=end) };
            let overlaps = |a: &&AbortedTransaction| a.last_offset >= from && a.first_offset < to;
            let mut expected: Vec<_> = aborted.iter().filter(overlaps).copied().collect();
            expected.sort_by_key(|a| a.first_offset);
            let found = self.log.aborted(id, from, to).expect("readable");
            assert_eq!(found, expected, "aborted in {from}..{to} of {}", model.folder);
        }
    }

    pub fn check_reading(&self, id: PartitionId, model: &Model, from: i64, bytes_max: usize) {
        let end = model.end_offset();
        let mut offset = from;
        let expected = model.acked.iter().filter(|(_, last, _)| *last >= from);
        let mut expected = expected.map(|(_, _, bytes)| bytes);
        while offset < end {
            let read = self.log.read(id, offset, bytes_max).expect("readable");
            assert!(!read.batches.is_empty(), "nothing read at {offset} of {end}");
            let mut bytes = 0;
            for batch in read.each_batch() {
                bytes += batch.len();
                let wanted = expected.next().expect("no more than was acknowledged");
                assert!(
                    batch == wanted,
                    "at {offset}: {} in place of {}",
                    name(&batch),
                    name(wanted)
                );
                let first = bytes == batch.len();
                assert!(first || bytes <= bytes_max, "no more than asked for");
            }
            offset = read.next_offset;
        }
        assert!(expected.next().is_none(), "all is read");
        assert!(matches!(self.log.read_cached(id, end, 100), Cached::AtEnd));
        assert!(self.log.read(id, end + 1, 100).is_err());
    }

    pub fn check_times(&mut self, id: PartitionId, model: &Model) {
        let records = model.records();
        let hit =
            |record: &Record| TimeHit { offset: record.offset, timestamp_ms: record.timestamp_ms };
        let latest = records.iter().map(hit).min_by_key(|h| (-h.timestamp_ms, h.offset));
        assert_eq!(self.log.max_timestamp(id).expect("readable"), latest);
        for _ in 0..4 {
            let from_ms = self.random.random_range(-10..10_010);
            let first = records.iter().find(|record| record.timestamp_ms >= from_ms).map(hit);
            let found = self.log.offset_for_time(id, from_ms).expect("readable");
            assert_eq!(found, first, "first at or after {from_ms}");
            let to_ms = from_ms + self.random.random_range(0..500);
            self.check_range(id, &records, from_ms, to_ms);
        }
    }

    /// Walking by `next_in_time` and reading what it names finds every record of the range.
    fn check_range(&self, id: PartitionId, records: &[Record], from_ms: i64, to_ms: i64) {
        let inside = |record: &&Record| (from_ms..to_ms).contains(&record.timestamp_ms);
        let expected: Vec<i64> = records.iter().filter(inside).map(|r| r.offset).collect();
        let mut found = Vec::new();
        let mut offset = 0;
        while let Some(next) = self.log.next_in_time(id, from_ms, to_ms, offset).expect("readable")
        {
            assert!(next >= offset);
            let read = self.log.read(id, next, 1).expect("readable");
            let batches = read.each_batch().into_iter();
            // No client sees the records of markers.
            for batch in batches.filter(|b| !wire::header(b).expect("whole").is_control()) {
                let all = batch::records(&batch, 1 << 20).expect("ours");
                let all = all.iter().filter(|record| record.offset >= next).filter(inside);
                found.extend(all.map(|record| record.offset));
            }
            offset = read.next_offset;
        }
        assert_eq!(found, expected, "records in {from_ms}..{to_ms}");
    }

    pub fn trim_somewhere(&mut self) {
        let ids: Vec<PartitionId> = self.partitions.keys().copied().collect();
        let id = ids[self.random.random_range(0..ids.len())];
        let model = self.partitions.get_mut(&id).expect("chosen");
        if model.keyed {
            return;
        }
        let wanted = if self.random.random_bool(0.5) {
            let bytes = self.random.random_range(0..20_000);
            self.log.retention(id, self.now_ms, None, Some(bytes))
        } else {
            Some(self.random.random_range(model.log_start_offset..=model.end_offset()))
        };
        if let Some(offset) = wanted {
            assert!(offset > model.log_start_offset || offset <= model.end_offset());
            model.log_start_offset = offset.max(model.log_start_offset);
            self.log.trim(id, offset);
        }
    }

    /// The topic is deleted and made again under its name: another one.
    pub fn replace_topic(&mut self) {
        if !self.pending.is_empty() {
            return;
        }
        let ids: Vec<PartitionId> = self.partitions.keys().copied().collect();
        let id = ids[self.random.random_range(0..ids.len())];
        let model = self.partitions.remove(&id).expect("chosen");
        self.log.remove(id);
        assert!(self.log.ends(id).is_none());
        let folder = model.folder.trim_end_matches("-0").to_owned();
        self.add_topic(&folder, model.keyed, model.compaction.is_some());
    }
}

fn open(
    options: &Options,
    disk: &MemoryDisk,
    views: &MemoryViews,
    sled: Option<&Path>,
) -> Result<(Log, OpenReport), OpenError> {
    let views: Arc<dyn Views> = match sled {
        Some(path) => Arc::new(ForgetfulSled::new(path, views)),
        None => Arc::new(views.clone()),
    };
    Log::open_with(options.clone(), Arc::new(disk.clone()), views)
}

/// The batch as it must be on the disk.
fn stored(builder: BatchBuilder, base_offset: i64) -> Bytes {
    let mut bytes = BytesMut::from(&builder.build(0)[..]);
    batch::set_base_offset(&mut bytes, base_offset);
    batch::set_leader_epoch(&mut bytes, 5);
    bytes.freeze()
}

/// A batch, short enough for a failure's text.
fn name(batch: &Bytes) -> String {
    wire::header(batch).map_or("nonsense".to_owned(), |header| {
        format!("{}..={} of {} bytes", header.base_offset, header.last_offset(), batch.len())
    })
}
