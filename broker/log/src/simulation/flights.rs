//! Groups in flight: written while others wait for their sync.

use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;
use uuid::Uuid;

use super::faults::positions;
use super::world::World;
use crate::core::Step;
use crate::disk::{CrashMode, MemoryDisk};
use crate::flight::Flight;
use crate::log::Log;
use crate::types::*;
use crate::view::MemoryViews;

/// Two groups of one batch each, for the same partition, written and not synced.
fn two_in_flight(world: &mut World) -> [Flight; 2] {
    let id = *world.partitions.keys().next().expect("there are some");
    [b"first", b"other"].map(|value| {
        world.append_records(id, &[(b"key", Some(value))]);
        world.log.core().take_off().unwrap_or_else(|step| panic!("{step:?} in place of a group"))
    })
}

fn answers(world: &World) -> Vec<Option<Result<(), CommitError>>> {
    world.pending.iter().map(|unit| unit.answer.lock().expect("lock").clone()).collect()
}

#[test]
fn a_group_whose_sync_ends_first_is_answered_behind_the_one_before() {
    let mut world = World::new(1);
    let [first, other] = two_in_flight(&mut world);
    let syncs = world.disk.sync_count();
    let core = world.log.core().clone();
    let landing = std::thread::spawn(move || core.land(other));
    while world.disk.sync_count() == syncs {
        std::thread::yield_now();
    }
    // It could be answered now; one that did not wait would most likely have been.
    (0..1_000).for_each(|_| std::thread::yield_now());
    assert_eq!(answers(&world), [None, None]);
    assert!(!landing.is_finished());
    world.log.core().land(first);
    landing.join().expect("it lands behind the first");
    assert_eq!(answers(&world), [Some(Ok(())), Some(Ok(()))]);
    world.collect();
    world.check();
    world.stop_and_reopen(Some(CrashMode::LoseAll));
}

#[test]
fn nothing_behind_a_failed_sync_is_acknowledged_though_its_own_worked() {
    let mut world = World::new(1);
    let [first, other] = two_in_flight(&mut world);
    world.disk.fail_sync_in(1);
    world.log.core().land(first);
    world.log.core().land(other);
    for answer in answers(&world) {
        assert!(matches!(answer, Some(Err(CommitError::Failed(_)))), "{answer:?}");
    }
    assert!(world.log.failed().is_some());
    world.stop_and_reopen(Some(CrashMode::KeepAll));
}

#[test]
fn a_torn_group_takes_those_with_it_that_were_written_before_its_sync() {
    let mut world = World::new(1);
    while world.commit_step() == Step::Worked {}
    let flights = two_in_flight(&mut world);
    drop(flights);
    let found = |name: &str| positions(&world.disk.content(name).unwrap_or_default()).len();
    let name = ["journal.0", "journal.1"].into_iter().find(|name| found(name) == 2);
    let name = name.expect("both groups are in the file in use");
    let at = positions(&world.disk.content(name).expect("it is there"))[0];
    world.stop(Some(CrashMode::KeepAll));
    world.disk.damage(name, at + 100, 1);
    // Nothing says that the first had been durable: it is no damage, and neither was acknowledged.
    world.reopen();
    assert!(world.last_open.damaged_groups.is_empty() && world.last_open.torn_tail.is_some());
    let ends = world.partitions.keys().map(|id| world.log.ends(*id).expect("ours").log_end_offset);
    assert_eq!(ends.sum::<i64>(), 0);
    // Nor do the remains come back when the file is used again.
    for _ in 0..20 {
        world.append();
        world.step();
    }
    world.stop_and_reopen(Some(CrashMode::Tear));
}

#[test]
fn a_refusal_does_not_overtake_the_groups_before_it() {
    let mut world = World::new(1);
    let [first, other] = two_in_flight(&mut world);
    world.disk.set_capacity(0);
    let id = *world.partitions.keys().next().expect("there are some");
    world.append_records(id, &[(b"key", Some(b"no room"))]);
    let refusal = world.log.core().take_off().unwrap_or_else(|step| panic!("{step:?}"));
    assert_eq!(answers(&world), [None, None, None]);
    [first, other, refusal].into_iter().for_each(|flight| world.log.core().land(flight));
    assert_eq!(answers(&world), [Some(Ok(())), Some(Ok(())), Some(Err(CommitError::Full))]);
}

#[test]
fn groups_in_flight_count_as_not_settled() {
    let mut world = World::new(1);
    let id = *world.partitions.keys().next().expect("there are some");
    let mut flights = Vec::new();
    let step = loop {
        // Larger than the bound of a group, a quarter of 24 KiB: each is one.
        world.append_records(id, &[(b"key", Some(&[7; 10_000]))]);
        match world.log.core().take_off() {
            Ok(flight) => flights.push(flight),
            Err(step) => break step,
        }
    };
    // 20 KB in two of them leave no room for the 6 KiB that the next may have.
    assert_eq!((step, flights.len()), (Step::Waiting, 2));
    flights.into_iter().for_each(|flight| world.log.core().land(flight));
    world.drain();
    assert!(world.pending.is_empty(), "it goes on when there is room");
}

#[test]
fn threads_sync_several_groups_at_once_where_a_flush_takes_long_and_answer_in_order() {
    let disk = MemoryDisk::new(1);
    let views = Arc::new(MemoryViews::default());
    let opened = Log::open_with(Options::new("/memory"), Arc::new(disk.clone()), views.clone());
    let log = opened.expect("an empty disk opens").0;
    let id = PartitionId { topic_id: Uuid::from_u128(7), partition: 0 };
    let spec = PartitionSpec {
        id,
        folder: "topic-0".to_owned(),
        keyed: false,
        makes_room: false,
        log_start_offset: 0,
        settings: PartitionSettings::default(),
    };
    log.attach(spec.clone()).expect("attaches");
    log.start().expect("starts");
    // Eight of these are a slow flush; the disk's other files share it.
    disk.let_syncs_take(Duration::from_millis(2));
    let (sender, answers) = mpsc::channel();
    let mut offset = 0;
    while disk.syncs_at_once_max() < 2 {
        assert!(offset < 10_000, "one sync at a time");
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1, None, Some(b"value"), &[]);
        let append = Append {
            partition: id,
            base_offset: offset,
            leader_epoch: 0,
            batches: Bytes::copy_from_slice(&builder.build(0)),
        };
        let (sender, at) = (sender.clone(), offset);
        let done = Box::new(move |answer| sender.send((at, answer)).expect("somebody listens"));
        log.commit(Unit { appends: vec![append], done });
        offset += 1;
        std::thread::sleep(Duration::from_micros(200)); // a client's pace: not all in one group
    }
    let expected: Vec<_> = (0..offset).map(|at| (at, Ok(()))).collect();
    assert_eq!(answers.iter().take(expected.len()).collect::<Vec<_>>(), expected);
    // Nothing of it needs what was not synced.
    drop(log);
    disk.crash(CrashMode::LoseAll);
    let opened = Log::open_with(Options::new("/memory"), Arc::new(disk), views);
    let log = opened.expect("opens again").0;
    log.attach(spec).expect("attaches");
    log.start().expect("starts");
    assert_eq!(log.ends(id).expect("attached").log_end_offset, offset);
}
