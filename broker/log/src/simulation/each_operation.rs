//! A short life, in which the power goes at each of the disk's operations in turn; a start, for
//! which the same is done; and a start in which each read in turn fails.

use rand::Rng;

use super::each_seed;
use super::world::World;
use crate::disk::CrashMode;

/// Enough for all that a log does: both journal files, checkpoints, sealed segments, a cleaning.
const STEPS: usize = 110;
const MODES: [CrashMode; 3] = [CrashMode::Tear, CrashMode::LoseAll, CrashMode::KeepAll];

/// The same life for the same seed, up to the operation from which on the disk is gone.
fn life(seed: u64, operations_max: Option<u64>) -> World {
    let mut world = World::new(seed);
    if let Some(operations) = operations_max {
        world.disk.fail_all_in(operations);
    }
    for _ in 0..STEPS {
        match world.random.random_range(0..100) {
            0..=34 => world.append(),
            35..=37 => world.trim_somewhere(),
            _ => drop(world.step()),
        }
        if world.disk.is_dead() {
            break;
        }
    }
    world
}

/// On every other seed the start finds rewritten segments beside those they were made from, of
/// which some are gone.
fn clean(world: &mut World) {
    if world.random.random_bool(0.5) {
        world.drain();
        world.log.core().checkpoint_view();
        world.compact_all();
    }
}

#[test]
fn the_power_may_go_at_any_operation_of_the_disk() {
    each_seed("each operation", 1, |seed| {
        for operation in 1.. {
            let mut world = life(seed, Some(operation));
            let is_over = !world.disk.is_dead();
            let mode = MODES[world.random.random_range(0..3)];
            world.stop_and_reopen(Some(mode));
            world.drain();
            world.check();
            if is_over {
                println!("{operation} operations");
                assert!(operation > 40, "a life worth the name");
                break;
            }
        }
    });
}

#[test]
fn the_power_may_go_at_any_operation_of_a_start() {
    each_seed("each operation of a start", 1, |seed| {
        for operation in 1.. {
            let mut world = life(seed, None);
            clean(&mut world);
            let power_cut = world.random.random_bool(0.5).then_some(CrashMode::Tear);
            world.collect();
            world.stop(power_cut);
            world.disk.fail_all_in(operation);
            // It may come through: files that are of no more use go later, if they cannot go now.
            let _ = world.open();
            let is_over = !world.disk.is_dead();
            let mode = MODES[world.random.random_range(0..3)];
            world.stop(Some(mode));
            world.reopen();
            world.drain();
            world.check();
            if is_over {
                println!("{operation} operations");
                assert!(operation > 8, "a start worth the name");
                break;
            }
        }
    });
}

/// Opens, stops in that way and opens again, with all there. Whether the first start came through,
/// and whether what was to fail never came.
fn start_that_fails(world: &mut World, power_cut: CrashMode) -> (bool, bool) {
    let opened = world.open();
    let is_over = world.disk.heal();
    if opened.is_err() {
        world.stop(None);
    }
    world.stop_and_reopen(Some(power_cut));
    world.drain();
    world.check();
    (opened.is_ok(), is_over)
}

#[test]
fn a_read_that_fails_at_the_start_costs_nothing_but_that_start() {
    each_seed("each read of a start", 1, |seed| {
        for read in 1.. {
            let mut world = life(seed, None);
            clean(&mut world);
            let power_cut = world.random.random_bool(0.5).then_some(CrashMode::Tear);
            world.collect();
            world.stop(power_cut);
            world.disk.fail_read_in(read);
            let (_, is_over) = start_that_fails(&mut world, CrashMode::Tear);
            if is_over {
                println!("{read} reads");
                assert!(read > 20, "a start worth the name");
                break;
            }
        }
    });
}

#[test]
fn a_sync_that_fails_at_the_start_costs_nothing_but_that_start() {
    each_seed("each sync of a start", 2, |seed| {
        for sync in 1.. {
            let mut world = life(seed, None);
            let power_cut = world.random.random_bool(0.5).then_some(CrashMode::Tear);
            world.collect();
            world.stop(power_cut);
            world.disk.fail_sync_in(sync);
            let (_, is_over) = start_that_fails(&mut world, CrashMode::LoseAll);
            if is_over {
                println!("{sync} syncs");
                assert!(sync > 5, "a start worth the name");
                break;
            }
        }
    });
}

/// Groups whose sync failed are in the page cache, clean and on no disk, when the next start reads
/// them; and the power goes at each of that start's operations in turn.
#[test]
fn what_a_failed_sync_has_left_in_the_cache_is_whole_or_absent_after_a_start_that_is_cut() {
    each_seed("each operation behind a failed sync", 2, |seed| {
        for operation in 1.. {
            let mut world = life(seed, None);
            world.disk.fail_sync_in(1 + seed % 2);
            for _ in 0..6 {
                world.append();
                world.commit_step();
            }
            world.stop(None);
            world.disk.fail_all_in(operation);
            let (is_open, is_over) = start_that_fails(&mut world, CrashMode::LoseAll);
            assert_eq!(is_open, is_over);
            if is_over {
                println!("{operation} operations");
                assert!(operation > 8, "a start worth the name");
                break;
            }
        }
    });
}
