//! Groups of which parts go to segments alone.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;
use rand::Rng;

use super::each_seed;
use super::faults::positions;
use super::world::World;
use crate::clean::Doomed;
use crate::core::{Core, Step};
use crate::disk::{CrashMode, Disk};
use crate::flight::Flight;
use crate::group::{Found, GroupBuffer};
use crate::types::*;

const STEPS: usize = 500;

/// Two partitions that are much written to, in segments that are not full at once.
fn busy(seed: u64) -> (World, [PartitionId; 2]) {
    let mut world = World::new(seed);
    let mut ids = world.partitions.keys().copied();
    let ids = [ids.next(), ids.next()].map(|id| id.expect("there are some"));
    for id in ids {
        let model = world.partitions.get_mut(&id).expect("ours");
        model.segment_bytes_max = [20_000, 100_000][usize::try_from(seed % 2).unwrap_or(0)];
    }
    world.stop_and_reopen(None);
    (world, ids)
}

fn append(world: &mut World, id: PartitionId, bytes: usize) {
    let value: Vec<u8> = (0..bytes).map(|_| world.random.random()).collect();
    world.append_records(id, &[(b"key", Some(&value))]);
}

/// A segment with something in it, of which the journal has a large part.
fn begin(world: &mut World, id: PartitionId) {
    append(world, id, 600);
    while world.commit_step() == Step::Worked {}
    while world.log.core().settle_step(world.now_ms) == Step::Worked {}
    world.collect();
}

fn fly(world: &World) -> Flight {
    world.log.core().take_off().unwrap_or_else(|step| panic!("{step:?} in place of a group"))
}

fn direct_bytes(world: &World) -> u64 {
    world.log.stats().direct_bytes
}

#[test]
fn what_was_acknowledged_survives_whatever_part_of_a_group_is_lost() {
    each_seed("direct", 12, |seed| {
        let (mut world, ids) = busy(seed);
        let (mut bytes, is_small) = (0, seed % 3 == 0);
        for _ in 0..STEPS {
            let id = ids[world.random.random_range(0..2)];
            let direct_before = direct_bytes(&world);
            let choice = world.random.random_range(0..1000);
            if is_small && choice >= 975 {
                // A start needs room; and what was refused is known before others survive.
                world.land_all();
                world.disk.set_capacity(u64::MAX);
            }
            match choice {
                0..=399 => {
                    let bytes = world.random.random_range(0..3_000);
                    append(&mut world, id, bytes);
                }
                400..=459 => world.append(),
                460..=939 => drop(world.step()),
                940..=949 => world.trim_somewhere(),
                // Of a group that fails nobody knows which units were refused: one or the other.
                950..=954 if is_small => world.disk.set_capacity(world.disk.used_bytes() + 2_000),
                950..=974 if is_small => {}
                950..=959 => world.disk.fail_sync_in(world.random.random_range(1..6)),
                960..=964 => world.disk.fail_write_in(world.random.random_range(1..6)),
                _ if choice < 975 => {}
                975..=979 => world.stop_and_reopen(None),
                980..=989 => {
                    let modes = [CrashMode::KeepAll, CrashMode::LoseAll, CrashMode::Tear];
                    let mode = modes[world.random.random_range(0..3)];
                    world.stop_and_reopen(Some(mode));
                }
                990..=994 => {
                    world.land_all();
                    if world.log.failed().is_none() {
                        world.drain();
                        world.check();
                    }
                }
                _ => {}
            }
            bytes += direct_bytes(&world).saturating_sub(direct_before);
            if world.log.failed().is_some() {
                while world.commit_step() == Step::Worked {}
                world.disk.heal();
                world.disk.set_capacity(u64::MAX);
                // The page cache shows what a failed sync has left, until the power goes.
                world.stop_and_reopen(None);
                if world.random.random_bool(0.5) {
                    world.stop_and_reopen(Some(CrashMode::LoseAll));
                }
            }
        }
        world.disk.heal();
        world.disk.set_capacity(u64::MAX);
        world.drain();
        world.check();
        world.stop_and_reopen(Some(CrashMode::Tear));
        println!("{bytes} bytes went to segments only");
        assert!(bytes > 10_000, "a life worth the name");
    });
}

#[test]
fn what_goes_to_a_segment_is_written_once() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    let before = world.disk.written_bytes();
    for _ in 0..20 {
        append(&mut world, ids[0], 4_000);
        world.drain();
    }
    // 20 groups of 4,000 bytes and their heads; and for each 64 + 40 + 20 bytes in the journal.
    let written = world.disk.written_bytes() - before;
    assert!((80_000..88_000).contains(&written), "{written} bytes");
    world.check();
}

#[test]
fn a_group_lands_when_its_journal_and_its_segments_are_synced() {
    for part in 1..=2 {
        let (mut world, ids) = busy(1);
        begin(&mut world, ids[0]);
        append(&mut world, ids[0], 2_000);
        let flight = fly(&world);
        assert!(direct_bytes(&world) > 2_000);
        world.disk.fail_sync_in(part);
        world.log.core().land(flight);
        let answer = world.pending[0].answer.lock().expect("lock").clone();
        assert!(matches!(answer, Some(Err(CommitError::Failed(_)))), "{answer:?} for part {part}");
        world.stop_and_reopen(Some(CrashMode::LoseAll));
        assert_eq!(world.partitions[&ids[0]].end_offset(), 1);
    }
}

/// In the middle of three groups in flight, of which the journal holds all.
#[test]
fn a_group_without_its_marked_bytes_is_a_torn_tail_with_all_behind_it() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    let mut flights = Vec::new();
    for bytes in [1_000, 1_200, 1_400] {
        append(&mut world, ids[0], bytes);
        flights.push(fly(&world));
    }
    assert!(direct_bytes(&world) > 3_600);
    drop(flights);
    let path = format!("{}/{:020}.log", world.partitions[&ids[0]].folder, 0);
    let bytes = world.disk.content(&path).expect("there").len();
    world.stop(Some(CrashMode::KeepAll));
    world.disk.damage(&path, bytes - 1_400 - 500, 1);
    world.reopen();
    let torn = world.last_open.torn_tail.clone().expect("told");
    // Group 1 began the segment.
    assert_eq!((torn.sequence, world.partitions[&ids[0]].end_offset()), (3, 2));
    assert!(world.last_open.damaged_groups.is_empty());
    for _ in 0..10 {
        append(&mut world, ids[0], 1_000);
        world.drain();
    }
    world.stop_and_reopen(Some(CrashMode::Tear));
}

#[test]
fn a_flipped_bit_in_marked_bytes_that_had_been_durable_is_told_as_damage() {
    each_seed("rot of marked bytes", 20, |seed| {
        let (mut world, ids) = busy(seed);
        begin(&mut world, ids[0]);
        for bytes in [1_000, 1_200, 1_400, 1_600] {
            append(&mut world, ids[0], bytes);
            while world.commit_step() == Step::Worked {}
        }
        world.collect();
        assert!(direct_bytes(&world) > 5_200);
        let path = format!("{}/{:020}.log", world.partitions[&ids[0]].folder, 0);
        let end = world.disk.content(&path).expect("there").len();
        world.stop(None);
        // Of the second or the third of the four; each has fewer than 100 bytes around its value.
        let hit = usize::try_from(seed % 2).unwrap_or(0);
        let behind = [1_400 + 1_600, 1_600][hit] + 200;
        world.disk.flip_bit(&path, (end - behind - 100) * 8 + world.random.random_range(0..800));
        world.forgive_damage = true;
        world.reopen();
        let from_offset = 2 + hit as i64;
        let damage = Damage { partition: ids[0], from_offset, to_offset: from_offset + 1 };
        assert_eq!(world.last_start.damage, [damage]);
        assert_eq!(world.last_open.torn_tail, None);
        let read = |offset| world.log.read(ids[0], offset, 1).expect("readable").next_offset;
        assert_eq!((read(from_offset - 1), read(from_offset + 1)), (from_offset, from_offset + 2));
        assert_eq!(read(from_offset), from_offset + 2, "what follows it");
    });
}

#[test]
fn a_journal_without_marks_is_read_as_it_was_written_before_there_were_any() {
    let (mut world, ids) = busy(1);
    append(&mut world, ids[0], 100);
    while world.commit_step() == Step::Worked {}
    let found = ["journal.0", "journal.1"].into_iter().find_map(|name| {
        let journal = world.disk.content(name)?;
        let at = *positions(&journal).first()?;
        Some(journal[at..at + crate::group::HEADER_BYTES].to_vec())
    });
    // One entry, and nothing in the 16 bytes that were reserved.
    let header = found.expect("the group");
    assert_eq!((&header[40..44], &header[44..60]), (&[1, 0, 0, 0][..], &[0; 16][..]));
}

/// What of a group is in the segment, and in the journal is not whole, does not count; also where
/// the view says that the segment is known up to the end of what the journal holds.
#[test]
fn a_torn_group_leaves_nothing_in_a_segment_that_the_view_knows_up_to_it() {
    each_seed("torn behind a view", 6, |seed| {
        let (mut world, ids) = busy(seed);
        begin(&mut world, ids[0]);
        append(&mut world, ids[0], 1_000);
        world.drain();
        world.log.core().checkpoint_view();
        append(&mut world, ids[0], 1_200);
        drop(fly(&world));
        assert!(direct_bytes(&world) > 2_200);
        let name = ["journal.0", "journal.1"].into_iter().find(|name| {
            // The other one is of before the start.
            positions(&world.disk.content(name).unwrap_or_default()).len() == 3
        });
        let name = name.expect("in use");
        let at = positions(&world.disk.content(name).expect("there"))[2];
        // The view is believed after a kill, and not when the power went.
        world.stop(None);
        world.disk.damage(name, at + 70, 1);
        world.reopen();
        assert!(world.last_open.torn_tail.is_some());
        assert_eq!(world.log.ends(ids[0]).expect("attached").log_end_offset, 2);
    });
}

/// Carried along by a group in flight, and settled before that has landed.
#[test]
fn what_was_carried_along_is_synced_before_a_checkpoint_speaks_of_it() {
    for a_checkpoint_comes_between in [false, true] {
        let (mut world, ids) = busy(1);
        begin(&mut world, ids[0]);
        let core = world.log.core().clone();
        if a_checkpoint_comes_between {
            assert_eq!(core.checkpoint_step(), Step::Worked);
            begin(&mut world, ids[1]);
        }
        // Below what goes to segments only.
        append(&mut world, ids[0], 100);
        while world.commit_step() == Step::Worked {}
        append(&mut world, ids[0], 2_000);
        let marked = fly(&world);
        assert!(direct_bytes(&world) > 2_000);
        if a_checkpoint_comes_between {
            // It closes what is not dirty.
            assert_eq!(core.checkpoint_step(), Step::Worked);
        }
        while core.settle_step(world.now_ms) == Step::Worked {}
        assert_eq!(core.checkpoint_step(), Step::Worked);
        drop((marked, core));
        tell(&mut world, ids[1]);
        world.stop_and_reopen(Some(CrashMode::LoseAll));
        assert!(world.partitions[&ids[0]].end_offset() >= 2);
    }
}

/// A group that tells of the last checkpoint; what else is not synced yet, the journal has synced.
fn tell(world: &mut World, id: PartitionId) {
    append(world, id, 100);
    drop(fly(world));
    world.collect();
    for name in ["journal.0", "journal.1"] {
        Disk::create(&world.disk, name).expect("there").sync().expect("synced");
    }
}

/// While the disk is at the sync of the partition's segment for this step.
fn during_sync(
    world: &mut World,
    path: &str,
    step: impl FnOnce(&Core) -> Step + Send + 'static,
    meanwhile: impl FnOnce(&mut World),
) {
    world.disk.hold_syncs_of(path);
    let core = world.log.core().clone();
    let stepping = std::thread::spawn(move || step(&core));
    while world.disk.waiting_sync_count() == 0 {
        assert!(!stepping.is_finished(), "it syncs {path}");
        std::thread::yield_now();
    }
    meanwhile(world);
    world.disk.let_syncs_go();
    assert_eq!(stepping.join().expect("no panic"), Step::Worked);
}

#[test]
fn what_is_carried_along_during_a_checkpoints_sync_is_the_next_ones_to_sync() {
    let modes = [CrashMode::KeepAll, CrashMode::LoseAll, CrashMode::Tear, CrashMode::Tear];
    for case in 0..16 {
        let (mode, closes, settles) = (modes[case / 4], case % 2 == 1, case % 4 >= 2);
        let (mut world, ids) = busy(1 + 2 * case as u64);
        begin(&mut world, ids[0]);
        let now_ms = world.now_ms;
        if closes {
            // One partition too many for all files to stay open: two before it are dirty.
            let other = world.partitions.keys().copied().nth(2).expect("there are some");
            append(&mut world, ids[1], 100);
            append(&mut world, other, 100);
            while world.commit_step() == Step::Worked {}
        }
        let sync = move |core: &Core| match closes {
            true => core.settle_step(now_ms),
            false => core.checkpoint_step(),
        };
        let path = format!("{}/{:020}.log", world.partitions[&ids[0]].folder, 0);
        during_sync(&mut world, &path, sync, |world| {
            // Below what goes to segments only, and beyond the sector that is being synced.
            append(world, ids[0], 500);
            while world.commit_step() == Step::Worked {}
            append(world, ids[0], 2_000);
            drop(fly(world));
            assert!(direct_bytes(world) > 2_000, "it does not wait for the sync");
        });
        let core = world.log.core().clone();
        if settles {
            while core.settle_step(now_ms) == Step::Worked {}
        }
        if settles || closes {
            assert_eq!(core.checkpoint_step(), Step::Worked);
        }
        drop(core);
        tell(&mut world, ids[1]);
        world.stop_and_reopen(Some(mode));
        let end_offset = world.partitions[&ids[0]].end_offset();
        assert!(end_offset >= 2, "{end_offset} of {mode:?}, {closes}, {settles}");
    }
}

/// It may be another topic's by then.
#[test]
fn a_checkpoint_dooms_nothing_in_the_folder_of_a_partition_removed_during_its_sync() {
    let (mut world, ids) = busy(1);
    let core = world.log.core().clone();
    let partition = core.partition(ids[0]).expect("attached");
    begin(&mut world, ids[0]);
    // Nothing is left but the side file; and another one that may take its place.
    core.trim(ids[0], 1);
    while core.settle_step(world.now_ms) == Step::Worked {}
    begin(&mut world, ids[0]);
    core.trim(ids[0], 1);
    partition.shared().roll_requested = true;
    core.progress.rolls_wanted.store(true, Ordering::Release);
    while core.settle_step(world.now_ms) == Step::Worked {}
    assert!(partition.shared().kept_side.is_some());
    begin(&mut world, ids[0]);
    let path = format!("{}/{:020}.log", world.partitions[&ids[0]].folder, 2);
    during_sync(&mut world, &path, Core::checkpoint_step, |_| core.remove(ids[0]));
    let doomed = core.doomed.lock().expect("lock");
    let sides = doomed.iter().filter(|one| matches!(one, Doomed::Side { .. })).count();
    assert_eq!(sides, 0, "{doomed:?}");
}

/// Groups in the journal, with the file and the position of each.
fn groups(world: &World) -> Vec<(u64, &'static str, usize)> {
    let names = ["journal.0", "journal.1"];
    let groups = names.iter().flat_map(|name| {
        let journal = world.disk.content(name).unwrap_or_default();
        let found = |at: usize| Found::parse(&journal[at..]).expect("a group").seal.sequence;
        positions(&journal).into_iter().map(|at| (found(at), *name, at)).collect::<Vec<_>>()
    });
    groups.collect()
}

impl World {
    fn stop_and_damage_group(&mut self, sequence: u64) {
        let all = groups(self);
        let (_, name, at) = *all.iter().find(|group| group.0 == sequence).expect("it is there");
        self.stop(Some(CrashMode::KeepAll));
        self.disk.damage(name, at + 70, 1);
    }
}

/// The power goes, and of the last group nothing can be read: neither that it was, nor what was in
/// it.
fn lose_last_group(world: &mut World) {
    let last = groups(world).into_iter().max().expect("there are some").0;
    world.stop_and_damage_group(last);
    world.reopen();
    assert!(world.last_open.torn_tail.is_some());
}

/// Of the first partition a checkpoint covers all, but for a group in flight that is large.
fn ahead_of_a_checkpoint() -> (World, [PartitionId; 2]) {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    world.drain();
    // Two that tell of the checkpoint.
    for _ in 0..2 {
        append(&mut world, ids[1], 100);
        while world.commit_step() == Step::Worked {}
    }
    append(&mut world, ids[0], 2_000);
    drop(fly(&world));
    assert!(direct_bytes(&world) > 2_000);
    (world, ids)
}

/// What is in a segment and in no group is known to be that.
#[test]
fn what_a_lost_group_left_in_a_segment_is_cut_though_a_checkpoint_covers_all_else_of_it() {
    let (mut world, ids) = ahead_of_a_checkpoint();
    lose_last_group(&mut world);
    assert_eq!(world.log.ends(ids[0]).expect("attached").log_end_offset, 1);
}

/// The journal's entry is covered by a checkpoint; so the segment must have it.
#[test]
fn a_segment_that_ends_before_what_a_checkpoint_covers_is_told_as_damage() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    begin(&mut world, ids[0]);
    let path = format!("{}/{:020}.log", world.partitions[&ids[0]].folder, 0);
    let one = world.disk.content(&path).expect("there").len() as u64 / 2;
    world.drain();
    append(&mut world, ids[1], 100);
    while world.commit_step() == Step::Worked {}
    world.stop(Some(CrashMode::KeepAll));
    // A whole batch of two.
    Disk::create(&world.disk, &path).expect("there").set_len(one).expect("cut");
    world.forgive_damage = true;
    world.reopen();
    let lost = Damage { partition: ids[0], from_offset: 1, to_offset: 2 };
    assert_eq!(world.last_start.damage, [lost]);
}

/// A large part of the partition stays in the journal, and so goes with its group.
fn has_a_group_first(world: &mut World, id: PartitionId) {
    let end_offset = world.log.ends(id).expect("attached").log_end_offset;
    let before = direct_bytes(world);
    append(world, id, 2_000);
    drop(fly(world));
    assert_eq!(direct_bytes(world), before);
    lose_last_group(world);
    assert_eq!(world.log.ends(id).expect("attached").log_end_offset, end_offset);
}

#[test]
fn a_partition_of_which_the_journal_tells_nothing_any_more_has_a_group_there_first() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    // More than both files of 48 KiB hold.
    for _ in 0..200 {
        append(&mut world, ids[1], 500);
        world.drain();
    }
    has_a_group_first(&mut world, ids[0]);
}

/// The journal would tell of bytes in a file that a power cut takes.
#[test]
fn a_segment_that_small_parts_began_takes_no_large_one_before_its_name_is_synced() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    let core = world.log.core().clone();
    core.partition(ids[0]).expect("attached").shared().roll_requested = true;
    core.progress.rolls_wanted.store(true, Ordering::Release);
    for bytes in [100, 2_000] {
        while core.settle_step(world.now_ms) == Step::Worked {}
        append(&mut world, ids[0], bytes);
        while world.commit_step() == Step::Worked {}
    }
    drop(core);
    world.collect();
    assert_eq!(world.log.ends(ids[0]).expect("attached").segments, 2);
    world.stop_and_reopen(Some(CrashMode::LoseAll));
    assert_eq!(world.partitions[&ids[0]].end_offset(), 3);
}

/// A start looks for nothing behind the end of one that has small parts only.
#[test]
fn a_partition_of_small_parts_has_a_large_one_in_the_journal_first() {
    let (mut world, ids) = busy(1);
    for _ in 0..2 {
        append(&mut world, ids[0], 100);
        world.drain();
    }
    has_a_group_first(&mut world, ids[0]);
}

/// The file that was left tells of it; a start does not read that.
#[test]
fn a_partition_has_a_group_first_in_a_journal_file_begun_behind_a_checkpoint_of_all() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    let core = world.log.core().clone();
    let salt = || core.committer.lock().expect("lock").journal().salt();
    let left = salt();
    while salt() == left {
        world.drain();
        append(&mut world, ids[1], 500);
        while world.commit_step() == Step::Worked {}
    }
    drop(core);
    has_a_group_first(&mut world, ids[0]);
}

/// Its loss does no harm: segments hold all of it.
#[test]
fn a_damaged_group_that_a_checkpoint_covers_takes_nothing_from_a_segment() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    begin(&mut world, ids[0]);
    world.drain();
    for _ in 0..2 {
        append(&mut world, ids[1], 100);
        while world.commit_step() == Step::Worked {}
    }
    world.stop_and_damage_group(2);
    world.reopen();
    assert_eq!(world.log.ends(ids[0]).expect("attached").log_end_offset, 2);
}

/// A start cuts it, and ends before that is synced; the next one finds it cut.
#[test]
fn what_a_lost_group_left_in_a_segment_does_not_come_back_behind_a_start_that_ends_early() {
    for operation in 1.. {
        let (mut world, ids) = ahead_of_a_checkpoint();
        world.collect();
        // Groups 1 to 3 are those before it.
        world.stop_and_damage_group(4);
        world.disk.fail_all_in(operation);
        let is_open = world.open().is_ok();
        world.stop(None);
        world.reopen();
        world.stop_and_reopen(Some(CrashMode::LoseAll));
        let end_offset = world.log.ends(ids[0]).expect("attached").log_end_offset;
        assert_eq!(end_offset, 1, "the first start ended at operation {operation}");
        if is_open {
            assert!(operation > 8, "a start worth the name");
            break;
        }
    }
}

/// The journal finds no room for the group; its parts are cut off again.
#[test]
fn what_was_carried_along_and_has_settled_meanwhile_stays_when_the_group_is_taken_back() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    // Below what goes to segments only.
    append(&mut world, ids[0], 100);
    while world.commit_step() == Step::Worked {}
    let core = world.log.core().clone();
    let partition = core.partition(ids[0]).expect("attached");
    let mut buffer = GroupBuffer::with_capacity(4_000);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(world.now_ms, Some(b"key"), Some(&[7; 2_000]), &[]);
    let append = Append {
        partition: ids[0],
        base_offset: 2,
        leader_epoch: 0,
        batches: Bytes::copy_from_slice(&builder.build(0)),
    };
    buffer.push(&partition, &append).expect("whole batches");
    let direct = core.write_directly(&buffer, 0).expect("room");
    assert_eq!(direct.marks.len(), 1);
    while core.settle_step(world.now_ms) == Step::Worked {}
    core.undo_direct(direct).expect("cut");
    let path = format!("{}/{:020}.log", world.partitions[&ids[0]].folder, 0);
    let settled = partition.shared().active.as_ref().expect("there").summary.bytes;
    assert_eq!(world.disk.content(&path).expect("there").len() as u64, settled);
    assert_eq!(core.checkpoint_step(), Step::Worked);
    drop((buffer, partition, core));
    world.collect();
    world.stop_and_reopen(Some(CrashMode::LoseAll));
    world.check();
    assert_eq!(world.partitions[&ids[0]].end_offset(), 2);
}

#[test]
fn a_segment_of_which_all_is_written_ahead_is_sealed_by_age() {
    let (mut world, ids) = busy(1);
    begin(&mut world, ids[0]);
    for _ in 0..4 {
        append(&mut world, ids[0], 2_000);
        while world.commit_step() == Step::Worked {}
        while world.log.core().settle_step(world.now_ms) == Step::Worked {}
        // Beyond the age of a segment, which is 5 s.
        world.now_ms += 6_000;
    }
    world.collect();
    assert!(direct_bytes(&world) > 2_000);
    assert!(world.log.ends(ids[0]).expect("attached").segments > 1);
}
