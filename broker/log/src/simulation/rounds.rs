//! Whole lives of a log, by seed.

use rand::Rng;

use super::each_seed;
use super::world::World;
use crate::core::Step;
use crate::disk::CrashMode;

const STEPS: usize = 600;

#[test]
fn what_was_acknowledged_survives_any_crash_and_nothing_else_is_shown() {
    each_seed("crashes", 8, |seed| live(World::new(seed)));
}

pub fn live(mut world: World) {
    for _ in 0..STEPS {
        match world.random.random_range(0..100) {
            0..=39 => world.append(),
            40..=41 => world.check_now(),
            42..=43 => world.trim_somewhere(),
            44 => world.stop_and_reopen(None),
            45 => {
                let modes = [CrashMode::KeepAll, CrashMode::LoseAll, CrashMode::Tear];
                let mode = modes[world.random.random_range(0..3)];
                world.stop_and_reopen(Some(mode));
            }
            46 => world.close_and_reopen(),
            47 => world.replace_topic(),
            _ => drop(world.step()),
        }
    }
    world.drain();
    world.check();
}

impl World {
    /// With units in flight, everything acknowledged can be read, and no more.
    fn check_now(&mut self) {
        self.collect();
        self.check();
    }

    pub fn close_and_reopen(&mut self) {
        self.land_all();
        self.log.close();
        self.collect();
        assert!(self.pending.is_empty(), "a clean close answers everything");
        self.views.kill();
        self.reopen();
        assert!(!self.last_open.unclean, "closed cleanly");
        assert_eq!(self.last_start.recovered_bytes, 0, "nothing left in the journal");
    }
}

#[test]
fn removing_and_trimming_give_the_space_back() {
    each_seed("space", 3, |seed| give_back(World::new(seed)));
}

/// As DeleteRecords does right behind a producer: what it lets go is in the journal alone.
#[test]
fn what_was_trimmed_before_it_was_settled_gives_its_space_back_too() {
    each_seed("trimmed early", 3, |seed| {
        let mut world = World::new(seed);
        let id = *world.partitions.keys().next().expect("there are some");
        for more_follows in [false, true] {
            // All of them at once, within what may be unsettled.
            for _ in 0..20 {
                world.append_records(id, &[(b"key", Some(&[7; 500]))]);
            }
            while world.commit_step() == Step::Worked {}
            world.collect();
            let end = world.partitions[&id].end_offset();
            world.partitions.get_mut(&id).expect("ours").log_start_offset = end;
            world.log.trim(id, end);
            if more_follows {
                world.append_records(id, &[(b"key", Some(b"value"))]);
            }
            world.drain();
            world.check();
            let left = world.log.ends(id).expect("attached").bytes;
            let segment = world.partitions[&id].segment_bytes_max;
            // What follows may be in the same segment.
            assert!(left <= if more_follows { segment } else { 0 }, "{left} bytes are left");
        }
    });
}

pub fn give_back(mut world: World) {
    for _ in 0..300 {
        world.append();
        world.step();
        world.step();
    }
    world.drain();
    let full = world.used_bytes();
    let ids: Vec<_> = world.partitions.keys().copied().collect();
    for id in &ids[..2] {
        let end = world.partitions[id].end_offset();
        world.partitions.get_mut(id).expect("ours").log_start_offset = end;
        world.log.trim(*id, end);
    }
    world.drain();
    world.check();
    let trimmed = world.used_bytes();
    assert!(trimmed < full - 20_000, "{full} to {trimmed}");
    for id in &ids[..2] {
        assert_eq!(world.log.ends(*id).expect("attached").bytes, 0, "sealed and gone");
    }
    world.log.remove(ids[2]);
    world.partitions.remove(&ids[2]);
    world.drain();
    let removed = world.used_bytes();
    assert!(removed < trimmed, "{trimmed} to {removed}");
    world.stop_and_reopen(Some(CrashMode::Tear));
    world.drain();
    assert!(world.used_bytes() <= removed + 10_000, "a crash brings nothing back for good");
}
