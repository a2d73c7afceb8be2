//! The second store: the same lives as with segments, and both stores side by side over the same
//! operations, with every answer compared. Each world also checks itself against its model, so
//! that the two cannot agree on something wrong unseen.

use std::fmt::Debug;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::each_seed;
use super::world::World;
use super::{compacted, rounds};
use crate::disk::CrashMode;
use crate::types::*;
use crate::wire;

const STEPS: usize = 500;

/// A batch that was read: base offset, length, checksum.
type Seen = (i64, usize, u32);

fn stand_in(seed: u64) -> World {
    World::with_store(seed, Store::Sled, None)
}

#[test]
fn what_was_acknowledged_survives_any_crash_in_the_second_store_too() {
    each_seed("crashes of the second store", 3, |seed| rounds::live(stand_in(seed)));
}

#[test]
fn removing_and_trimming_give_the_space_back_in_the_second_store_too() {
    each_seed("space of the second store", 1, |seed| rounds::give_back(stand_in(seed)));
}

#[test]
fn a_cleaning_of_the_second_store_leaves_the_latest_record_of_each_key() {
    each_seed("cleaned in the second store", 1, |seed| compacted::clean(stand_in(seed)));
}

#[test]
fn an_error_of_the_database_ends_the_incarnation_and_loses_nothing() {
    each_seed("database errors", 3, |seed| {
        let mut world = stand_in(seed);
        for _ in 0..world.random.random_range(1..200) {
            world.append();
            world.step();
        }
        world.views.set_records_broken(true);
        for _ in 0..400 {
            world.append();
            world.step();
            if world.log.failed().is_some() {
                break;
            }
        }
        assert!(world.log.failed().is_some(), "the error was met");
        let power_cut = world.random.random_bool(0.5).then_some(CrashMode::Tear);
        world.stop_and_reopen(power_cut);
        world.drain();
        world.check();
    });
}

#[test]
fn both_stores_give_the_same_answers_over_the_same_operations() {
    each_seed("two stores", 3, |seed| {
        let folder = tempfile::tempdir().expect("a folder");
        let sled = Some(folder.path().join("sled"));
        let mut worlds =
            [World::new(seed), stand_in(seed), World::with_store(seed, Store::Sled, sled)];
        // What a crash leaves of an unfinished group depends on where its bytes were.
        worlds.iter_mut().for_each(|world| {
            world.options.direct_bytes_min = usize::MAX;
            world.stop_and_reopen(None);
        });
        let mut random = StdRng::seed_from_u64(seed ^ 0xd1ff);
        for step in 0..STEPS {
            let operation = random.random_range(0..100);
            // Torn sectors are not the same ones on two disks; what is kept or lost in whole is.
            let crash = [CrashMode::KeepAll, CrashMode::LoseAll][random.random_range(0..2)];
            worlds.iter_mut().for_each(|world| operate(world, operation, crash));
            if operation < 60 && step + 1 < STEPS {
                continue;
            }
            let look: u64 = random.random();
            let [segments, others @ ..] = &worlds;
            let expected = answers(segments, look);
            for world in others {
                let found = answers(world, look);
                let which = if world.sled.is_some() { "sled" } else { "the stand-in" };
                for (wanted, found) in expected.iter().zip(&found) {
                    assert!(wanted == found, "step {step}, {which}: {found} in place of {wanted}");
                }
                assert_eq!(expected.len(), found.len(), "step {step}, {which}");
            }
        }
        worlds.iter_mut().for_each(|world| {
            world.drain();
            world.check();
        });
    });
}

/// The same for each world: what it draws from its own generator is the same, too.
fn operate(world: &mut World, operation: u32, crash: CrashMode) {
    match operation {
        0..=39 => world.append(),
        40..=92 => drop(world.step()),
        93..=94 => world.trim_somewhere(),
        95 => world.replace_topic(),
        96 => world.stop_and_reopen(None),
        97 => world.close_and_reopen(),
        98 => world.stop_and_reopen(Some(crash)),
        _ => {
            world.drain();
            world.log.core().checkpoint_view();
            world.compact_all();
            world.check();
        }
    }
}

/// One line for each question, with its answer.
fn answers(world: &World, look: u64) -> Vec<String> {
    let mut random = StdRng::seed_from_u64(look);
    let mut lines = Vec::new();
    let mut say = |what: &str, answer: &dyn Debug| lines.push(format!("{what}: {answer:?}"));
    for (id, model) in &world.partitions {
        let (log, folder) = (&world.log, &model.folder);
        let ends = log.ends(*id).expect("attached");
        say(&format!("{folder} ends"), &ends);
        say(&format!("{folder} producers"), &log.producers(*id).map_err(|e| e.to_string()));
        say(&format!("{folder} latest"), &log.max_timestamp(*id).map_err(|e| e.to_string()));
        let (low, high) = (ends.log_start_offset - 1, ends.log_end_offset + 1);
        for _ in 0..2 {
            let offset = random.random_range(low..=high);
            let bytes_max = random.random_range(1..10_000);
            let what = format!("{folder} read at {offset}, {bytes_max} bytes");
            say(&what, &read(log, *id, offset, bytes_max));
            let to = random.random_range(offset..=high);
            let aborted = log.aborted(*id, offset, to).map_err(|e| e.to_string());
            say(&format!("{folder} aborted in {offset}..{to}"), &aborted);
            let from_ms = random.random_range(-10..10_010);
            let hit = log.offset_for_time(*id, from_ms).map_err(|e| e.to_string());
            say(&format!("{folder} at {from_ms} ms"), &hit);
            let to_ms = from_ms + random.random_range(0..500);
            let next = log.next_in_time(*id, from_ms, to_ms, offset).map_err(|e| e.to_string());
            say(&format!("{folder} in {from_ms}..{to_ms} ms from {offset}"), &next);
        }
        if model.keyed {
            say(&format!("{folder} keyed"), &log.keyed(*id).map_err(|e| e.to_string()));
        }
    }
    lines
}

/// Where it goes on, and the batches.
fn read(
    log: &crate::Log,
    id: PartitionId,
    offset: i64,
    bytes_max: usize,
) -> Result<(i64, Vec<Seen>), String> {
    let read = log.read(id, offset, bytes_max).map_err(|error| error.to_string())?;
    let batches = read.each_batch().into_iter().map(|batch| {
        let header = wire::header(&batch).expect("whole");
        (header.base_offset, batch.len(), crc32c::crc32c(&batch))
    });
    Ok((read.next_offset, batches.collect()))
}
