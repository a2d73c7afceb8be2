//! Groups and transactions under a seed: the real handlers and coordinators over a real log on a
//! disk that tears, loses and fails, with clients that send again what they have no answer for; and
//! a checker that knows what each of them was told.
//!
//! Whatever happens: an acknowledged batch, offset, topic or end of a transaction is there after
//! every start; what was shown is never taken back; a transaction is committed in all its
//! partitions and for its group, or nowhere; nobody who is fenced writes; no producer id comes
//! twice; a batch that is sent again is taken for the same; the last stable offset is right; nobody
//! waits for ever, and no transaction stays open.
//!
//! `ODRADEK_BROKER_SEED=n` runs one seed, `ODRADEK_BROKER_SEEDS=n` so many of them. The same seed
//! makes the same operations of the disk in the same order.

mod check;
mod clients;
mod model;
mod requests;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use odradek_log::Durability;
use rand::Rng;
use requests::Request;
use world::World;

/// Runs the seeds; the one that failed is the last that the output names.
fn each_seed(name: &str, count: u64, run: impl Fn(u64)) {
    let number = |key: &str| std::env::var(key).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("ODRADEK_BROKER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ODRADEK_BROKER_SEEDS").unwrap_or(count),
    };
    for seed in seeds {
        println!("{name}: seed {seed}");
        run(seed);
    }
}

const STEPS: usize = 1_500;
/// Longer than any transaction may take, with the interval in which the broker looks.
const TRANSACTIONS_MS: u64 = 60_000;

/// What may go wrong in a life, beside stops of any kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Faults {
    None,
    Disk,
}

fn live(world: &mut World, faults: Faults) {
    for _ in 0..STEPS {
        world.act();
        match world.random.random_range(0..600) {
            0..=5 => world.crash(),
            6 => world.restart(),
            7..=9 => {
                world.rest();
                world.check();
            }
            10..=12 if faults == Faults::Disk => {
                let operations = world.random.random_range(1..40);
                world.disk.fail_all_in(operations);
            }
            13 | 22 | 23 if faults == Faults::Disk => {
                let syncs = world.random.random_range(1..10);
                world.disk.fail_sync_in(syncs);
            }
            14 if faults == Faults::Disk => {
                let writes = world.random.random_range(1..10);
                world.disk.fail_write_in(writes);
            }
            15..=16 if faults == Faults::Disk => {
                let room = world.random.random_range(0..40_000);
                world.disk.set_capacity(world.disk.used_bytes() + room);
            }
            17..=21 => world.disk.set_capacity(u64::MAX),
            _ => {}
        }
    }
    world.disk.set_capacity(u64::MAX);
    world.disk.heal();
    world.rest();
    world.check();
    // Whoever began something does not come again.
    world.crash();
    for _ in 0..3 {
        world.pass(TRANSACTIONS_MS / 2);
        world.rest();
    }
    world.check();
    world.check_nothing_is_stuck();
    let (starts, among_groups) = (world.starts, world.stops_among_groups);
    let (summary, direct) = (world.model.summary(), world.direct_bytes);
    println!(
        "{starts} starts, {among_groups} stops among groups in flight, {direct} bytes went to \
         segments at once, {summary}"
    );
}

#[test]
fn whatever_was_answered_holds_through_every_stop() {
    each_seed("lives", 3, |seed| live(&mut World::new(seed), Faults::None));
}

#[test]
fn whatever_was_answered_holds_on_a_disk_that_fails() {
    each_seed("lives on a bad disk", 3, |seed| live(&mut World::new(seed), Faults::Disk));
}

/// Of the operations in a short life, one of so many is tried by each seed.
const STRIDE: u64 = 8;
const SHORT_STEPS: usize = 350;

#[test]
fn the_power_may_go_at_any_operation_of_the_disk() {
    each_seed("each operation", 1, |seed| {
        let (life, first) = (seed / STRIDE, seed % STRIDE);
        for operation in (first + 1..).step_by(usize::try_from(STRIDE).expect("small")) {
            let mut world = World::new(life);
            world.disk.fail_all_in(operation);
            let mut steps = 0;
            while steps < SHORT_STEPS && world.starts == 1 {
                world.act();
                steps += 1;
            }
            let is_over = world.starts == 1;
            world.disk.heal();
            world.rest();
            world.check();
            if is_over {
                println!("{operation} operations");
                assert!(operation > 100, "a life worth the name");
                break;
            }
        }
    });
}

#[test]
fn a_seed_tells_everything() {
    let traces = [(); 2].map(|()| {
        let mut world = World::new(1);
        live(&mut world, Faults::Disk);
        (world.disk.operation_count(), world.disk.trace())
    });
    assert_eq!(traces[0], traces[1]);
}

/// How many of the lives the checker finds something wrong in.
fn failures(count: u64, prepare: impl Fn(&mut World)) -> usize {
    let fails = |seed: &u64| {
        let life = || {
            let mut world = World::new(*seed);
            prepare(&mut world);
            live(&mut world, Faults::None);
        };
        catch_unwind(AssertUnwindSafe(life)).is_err()
    };
    (0..count).filter(fails).count()
}

#[test]
fn a_disk_whose_syncs_do_nothing_is_found_out() {
    assert_eq!(failures(3, |world| world.disk.let_syncs_do_nothing()), 3);
}

#[test]
fn a_broker_that_answers_before_the_sync_is_found_out() {
    let answers_early = |world: &mut World| {
        world.options.durability = Durability::Interval(Duration::from_secs(3_600));
        world.restart();
    };
    assert_eq!(failures(3, answers_early), 3);
}

#[test]
fn a_topic_that_could_not_be_made_is_not_there_after_the_next_start_either() {
    let mut world = World::new(1);
    world.disk.set_capacity(world.disk.used_bytes());
    let reply = world.ask(Request::CreateTopic { name: "full".to_owned(), partitions: 1 });
    assert_ne!(reply.expect("an answer").error(), 0, "there is no room for its folder's content");
    world.disk.set_capacity(u64::MAX);
    world.restart();
    assert!(world.core().topics.by_name("full").is_none());
    let reply = world.ask(Request::CreateTopic { name: "full".to_owned(), partitions: 1 });
    assert_eq!(reply.expect("an answer").error(), 0);
    world.crash();
    assert!(world.core().topics.by_name("full").is_some());
}
