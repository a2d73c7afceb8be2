//! What must not grow with the number of partitions: open files, and the syncs of a start.

use super::each_seed;
use super::world::World;
use crate::core::Step;
use crate::disk::CrashMode;
use crate::flight::FLIGHTS_MAX;
use crate::types::PartitionId;

const PARTITIONS: usize = 120;
/// 64 for reading; of the world's two writers their segments, those that a checkpoint left open,
/// and the metadata of new folders; the journal's two, to write and to sync them by; and what is
/// looked at in passing.
const OPEN_FILES_MAX: usize = 64 + 3 * 2 + 2 * (1 + FLIGHTS_MAX) + 4;

fn grown(seed: u64) -> (World, Vec<PartitionId>) {
    let mut world = World::new(seed);
    // A single batch is no large part of a group.
    world.options.direct_bytes_min = 600;
    world.stop_and_reopen(None);
    let ids = (0..PARTITIONS).map(|index| world.add_topic(&format!("grown-{index}"), false, false));
    let ids = ids.collect();
    (world, ids)
}

fn write_to_all(world: &mut World, ids: &[PartitionId]) {
    for id in ids {
        world.append_records(*id, &[(b"key", Some(b"value"))]);
    }
}

#[test]
fn a_log_of_many_partitions_has_few_files_open() {
    each_seed("open files", 3, |seed| {
        let (mut world, ids) = grown(seed);
        let few = |world: &World| {
            let open = world.disk.open_count_max();
            assert!(open <= OPEN_FILES_MAX, "{open} files were open");
        };
        few(&world);
        // All in one step between two checkpoints; then a few in each of many.
        write_to_all(&mut world, &ids);
        world.drain();
        few(&world);
        for pair in ids.chunks(2) {
            write_to_all(&mut world, pair);
            world.drain();
            few(&world);
        }
        // What the journal holds of all of them goes to their segments at the start.
        write_to_all(&mut world, &ids);
        while world.commit_step() == Step::Worked {}
        world.stop_and_reopen(None);
        few(&world);
        world.check();
    });
}

#[test]
fn a_start_after_a_kill_syncs_what_the_journal_holds_and_not_each_partition() {
    each_seed("syncs of a start", 3, |seed| {
        let (mut world, ids) = grown(seed);
        // Every second one stays without a segment.
        let written: Vec<_> = ids.iter().copied().step_by(2).collect();
        write_to_all(&mut world, &written);
        world.drain();
        // Only a later group tells a start how far a checkpoint had come.
        write_to_all(&mut world, &written[..1]);
        world.drain();
        world.stop(None);
        let before = world.disk.sync_count();
        world.reopen();
        let syncs = world.disk.sync_count() - before;
        assert!(syncs < written.len() as u64 / 2, "{syncs} syncs");
        // Whose the folders without a segment are is made durable before they have one.
        write_to_all(&mut world, &ids);
        world.drain();
        world.stop_and_reopen(Some(CrashMode::LoseAll));
        world.drain();
        world.check();
    });
}
