//! One fault at a time: failed syncs and writes, full disks, torn tails, damage, broken views.

use rand::Rng;

use super::each_seed;
use super::world::World;
use crate::core::Step;
use crate::disk::CrashMode;
use crate::types::{CommitError, Durability};

#[test]
fn a_failed_sync_ends_the_incarnation_and_loses_nothing_that_was_answered() {
    each_seed("failed sync", 10, |seed| {
        let mut world = World::new(seed);
        for _ in 0..world.random.random_range(1..200) {
            world.append();
            world.step();
        }
        let after = world.random.random_range(1..20);
        if world.random.random_bool(0.3) {
            world.disk.fail_write_in(after);
        } else {
            world.disk.fail_sync_in(after);
        }
        for _ in 0..400 {
            world.append();
            world.step();
            if world.log.failed().is_some() {
                break;
            }
        }
        assert!(world.log.failed().is_some(), "the fault was met");
        // Whatever was queued is refused, not left waiting.
        while world.commit_step() == Step::Worked {}
        world.collect();
        for unit in &world.pending {
            let answer = unit.answer.lock().expect("lock").clone();
            assert!(matches!(answer, Some(Err(CommitError::Failed(_)))), "{answer:?}");
        }
        world.disk.heal();
        // Either the same machine goes on, with a page cache that looks fine, and the power goes
        // later; or it goes now.
        if world.random.random_bool(0.5) {
            world.stop_and_reopen(None);
            for _ in 0..world.random.random_range(0..60) {
                world.append();
                world.step();
            }
        }
        world.stop_and_reopen(Some(CrashMode::LoseAll));
        world.drain();
        world.check();
    });
}

/// Neither what a failed sync of it left behind, nor what the end of the process did before one.
/// The producers of trimmed records are nowhere else.
#[test]
fn a_start_relies_on_no_side_file_that_may_not_be_durable() {
    each_seed("unproven side file", 4, |seed| {
        for turn in 0..16 {
            let mut world = World::new(seed);
            let id = *world.partitions.keys().next().expect("one without keys");
            (0..20).for_each(|_| world.append());
            world.drain();
            // Sealed is its segment, with a fault on the way.
            world.log.retention(id, i64::MAX, Some(0), None);
            match seed % 2 {
                0 => world.disk.fail_sync_in(turn / 2 + 1),
                _ => world.disk.fail_all_in(turn / 2 + 1),
            }
            while world.log.core().settle_step(world.now_ms) == Step::Worked {}
            world.stop_and_reopen(None);
            let start = world.partitions[&id].end_offset();
            // Another segment begins, and is not sealed.
            (0..4).for_each(|_| world.append());
            world.drain();
            world.partitions.get_mut(&id).expect("ours").log_start_offset = start;
            world.log.trim(id, start);
            // Or the power goes before anything is unlinked.
            if turn % 2 == 0 {
                world.drain();
            }
            let mode = [CrashMode::Tear, CrashMode::LoseAll][world.random.random_range(0..2)];
            world.stop(Some(mode));
            let _ = crate::view::Views::set_aside(&world.views);
            world.reopen();
        }
    });
}

#[test]
fn a_full_disk_refuses_appends_keeps_what_it_has_and_goes_on_when_there_is_room() {
    each_seed("full disk", 10, |seed| {
        let mut world = World::new(seed);
        for _ in 0..40 {
            world.append();
            world.step();
        }
        // The journal's second file is not there yet on some seeds: it must fit, or be refused.
        let room = world.random.random_range(0..120_000);
        world.disk.set_capacity(world.disk.used_bytes() + room);
        world.options.disk_reserve_bytes = 0;
        for _ in 0..400 {
            world.append();
            world.step();
            world.step();
        }
        for _ in 0..2_000 {
            world.step();
        }
        assert_eq!(world.log.failed(), None, "a full disk is no failure");
        assert!(world.pending.is_empty(), "everything is answered");
        assert!(world.log.stats().full);
        world.check();
        world.disk.set_capacity(u64::MAX);
        // What waits for room finds it. Else the first append may be refused, and then those that
        // follow it, as long as some of them are on their way.
        world.drain();
        let before: i64 = world.partitions.values().map(|model| model.end_offset()).sum();
        for _ in 0..50 {
            world.append();
            world.step();
            world.step();
        }
        world.drain();
        let after: i64 = world.partitions.values().map(|model| model.end_offset()).sum();
        assert!(after > before, "appends go on");
        world.check();
        world.stop_and_reopen(Some(CrashMode::Tear));
    });
}

#[test]
fn a_disk_that_others_filled_is_emptied_by_removing_what_is_ours() {
    each_seed("others fill the disk", 10, |seed| {
        let mut world = World::new(seed);
        for _ in 0..60 {
            world.append();
            world.step();
        }
        world.drain();
        let ids: Vec<_> = world.partitions.keys().copied().collect();
        let (records, state, offsets) = (ids[0], ids[4], ids[6]);
        let only_state_is_taken = |world: &mut World| {
            for (id, taken) in [(records, false), (offsets, false), (state, true)] {
                world.collect();
                let before = world.partitions[&id].end_offset();
                world.append_records(id, &[(b"key", Some(b"value"))]);
                while world.commit_step() == Step::Worked {}
                world.collect();
                let after = world.partitions[&id].end_offset();
                assert_eq!((after > before, world.pending.len()), (taken, 0), "{id:?}");
            }
        };
        // In the journal, and on their way to the segments when the last byte is taken.
        world.append_records(records, &[(b"key", Some(&[7; 3_000]))]);
        while world.commit_step() == Step::Worked {}
        world.disk.set_capacity(world.disk.used_bytes());
        only_state_is_taken(&mut world);
        assert_eq!(world.log.core().settle_step(world.now_ms), Step::Waiting);
        only_state_is_taken(&mut world);
        world.log.remove(ids[1]);
        world.partitions.remove(&ids[1]);
        while world.log.core().clean_step() == Step::Worked {}
        assert_eq!(world.log.core().settle_step(world.now_ms), Step::Worked);
        world.disk.set_capacity(u64::MAX);
        world.drain();
        world.check();
        world.stop_and_reopen(Some(CrashMode::Tear));
        world.check();
    });
}

#[test]
fn an_idle_partition_is_rolled_although_others_never_rest() {
    let mut world = World::new(3);
    let ids: Vec<_> = world.partitions.keys().copied().collect();
    let (idle, busy) = (ids[0], ids[1]);
    world.append_records(idle, &[(b"key", Some(b"value"))]);
    world.drain();
    let end = world.partitions[&idle].end_offset();
    let core = world.log.core().clone();
    assert_eq!(core.retention(idle, world.now_ms + 1_000, Some(10), None), None, "not sealed");
    world.append_records(busy, &[(b"key", Some(b"value"))]);
    while world.commit_step() == Step::Worked {}
    assert_eq!(core.settle_step(world.now_ms), Step::Worked, "that of the busy one");
    assert_eq!(core.retention(idle, world.now_ms + 1_000, Some(10), None), Some(end));
}

#[test]
fn a_torn_tail_is_cut_and_reported_and_damage_in_front_of_it_is_not_taken_for_one() {
    each_seed("damage", 16, |seed| {
        let mut world = World::new(seed);
        // Groups only in the journal: nothing is settled.
        for _ in 0..6 {
            world.append();
            while world.commit_step() == Step::Worked {}
        }
        world.collect();
        let acked: i64 = world.partitions.values().map(|model| model.end_offset()).sum();
        let journal = world.disk.content("journal.0").expect("in use");
        let groups: Vec<usize> = positions(&journal);
        if groups.len() < 6 {
            return; // The other file is in use already.
        }
        let tail = world.random.random_bool(0.5);
        let hit = if tail { groups.len() - 1 } else { world.random.random_range(0..4) };
        world.stop(None);
        world.disk.damage("journal.0", groups[hit] + 70, 40);
        world.forgive_damage = true;
        world.reopen();
        let left: i64 = world
            .partitions
            .keys()
            .map(|id| world.log.ends(*id).expect("ours").log_end_offset)
            .sum();
        if tail {
            // The last group cannot be told from one that was never finished.
            assert!(world.last_open.damaged_groups.is_empty());
            let torn = world.last_open.torn_tail.clone().expect("reported");
            assert_eq!(torn.position as usize, groups[hit]);
            assert!(left < acked);
        } else {
            assert!(world.last_open.torn_tail.is_none());
            assert_eq!(world.last_open.damaged_groups.len(), 1);
            assert_eq!(world.last_open.damaged_groups[0].first_sequence, hit as u64 + 1);
        }
        // What is lost in the middle of a partition is named, offset by offset.
        for id in world.partitions.keys() {
            let ends = world.log.ends(*id).expect("attached");
            let damage = world.last_start.damage.iter().filter(|d| d.partition == *id);
            let lost: i64 = damage.map(|d| d.to_offset - d.from_offset).sum();
            let mut read_offsets = 0;
            let mut offset = 0;
            while offset < ends.log_end_offset {
                let read = world.log.read(*id, offset, 1).expect("readable");
                let Some(batch) = read.each_batch().pop() else { break };
                let header = crate::wire::header(&batch).expect("whole");
                read_offsets += i64::from(header.record_count);
                offset = read.next_offset;
            }
            assert_eq!(read_offsets + lost, ends.log_end_offset);
        }
    });
}

/// Where groups begin in a journal file.
pub(super) fn positions(journal: &[u8]) -> Vec<usize> {
    let mut at = crate::journal::HEADER_BYTES as usize;
    let mut all = Vec::new();
    while let Some(found) = crate::group::Found::parse(&journal[at..]) {
        if !found.verify(&journal[at..at + found.byte_count()]) {
            break;
        }
        all.push(at);
        at += crate::group::aligned(found.byte_count() as u64) as usize;
    }
    all
}

#[test]
fn a_producer_cannot_forge_a_group() {
    let mut world = World::new(1);
    world.append();
    while world.commit_step() == Step::Worked {}
    world.collect();
    let journal = world.disk.content("journal.0").expect("in use");
    let group = positions(&journal)[0];
    let bytes = &journal[group..group + crate::group::HEADER_BYTES];
    let found = crate::group::Found::parse(bytes).expect("a header");
    // The same bytes under another salt are no group.
    let mut forged = journal[group..group + found.byte_count()].to_vec();
    forged[8] ^= 1;
    let found = crate::group::Found::parse(&forged).expect("a header");
    assert!(!found.verify(&forged));
}

#[test]
fn an_erring_view_is_set_aside_and_built_anew_behind_the_running_log() {
    each_seed("views", 2, |seed| {
        let mut world = World::new(seed);
        for turn in 0..300 {
            world.append();
            world.step();
            world.step();
            if turn % 50 == 20 {
                world.views.set_broken(true);
            }
            if turn % 50 == 30 {
                world.check();
                world.views.set_broken(false);
            }
        }
        world.views.set_broken(false);
        world.drain();
        world.check();
        assert!(world.views.key_count() > 5, "it is filled again");
        assert!(world.log.stats().view_rebuilds > 0);
        // And what it was filled with is used: no file is walked for it.
        world.stop_and_reopen(None);
        world.check();
    });
}

#[test]
fn an_interval_loses_no_more_than_its_time_and_never_a_part_of_a_unit() {
    each_seed("interval", 10, |seed| {
        let mut world = World::new(seed);
        world.options.durability = Durability::Interval(std::time::Duration::from_secs(3600));
        world.stop_and_reopen(None);
        for _ in 0..100 {
            world.append();
            world.step();
        }
        world.drain();
        world.log.core().finish_interval();
        world.collect();
        world.check();
        let durable: Vec<_> =
            world.partitions.iter().map(|(id, model)| (*id, model.end_offset())).collect();
        for _ in 0..world.random.random_range(0..20) {
            world.append();
            world.commit_step();
        }
        world.collect();
        world.forgive_damage = true;
        world.stop(Some(CrashMode::Tear));
        world.reopen();
        assert!(world.last_open.unclean && world.last_start.damage.is_empty());
        for (id, end) in durable {
            assert!(world.log.ends(id).expect("attached").log_end_offset >= end);
        }
    });
}

#[test]
fn a_shorter_interval_holds_from_the_next_step() {
    each_seed("shorter interval", 10, |seed| {
        let mut world = World::new(seed);
        world.options.durability = Durability::Interval(std::time::Duration::from_secs(3600));
        world.stop_and_reopen(None);
        for _ in 0..20 {
            world.append();
            world.commit_step();
        }
        world.log.set_flush_interval(std::time::Duration::ZERO);
        world.commit_step();
        world.collect();
        let answered: Vec<_> =
            world.partitions.iter().map(|(id, model)| (*id, model.end_offset())).collect();
        world.stop(Some(CrashMode::Tear));
        world.reopen();
        for (id, end) in answered {
            assert!(world.log.ends(id).expect("attached").log_end_offset >= end);
        }
    });
}

#[test]
fn a_slow_sync_holds_answers_and_watermarks_back_and_nothing_else() {
    each_seed("slow sync", 4, |seed| {
        let mut world = World::new(seed);
        for _ in 0..30 {
            world.append();
            world.step();
        }
        world.drain();
        let ids: Vec<_> = world.partitions.keys().copied().collect();
        let before: Vec<i64> = ids.iter().map(|id| world.partitions[id].end_offset()).collect();
        // One of the two is in use.
        let path = ["journal.0", "journal.1"][world.random.random_range(0..2)];
        world.disk.hold_syncs_of(path);
        world.append();
        let core = world.log.core().clone();
        let committing = std::thread::spawn(move || while core.commit_step() == Step::Worked {});
        let is_held = || world.disk.waiting_sync_count() > 0;
        while !is_held() && !committing.is_finished() {
            std::thread::yield_now();
        }
        if is_held() {
            // Readers, and whoever works behind the journal, go on.
            world.collect();
            assert_eq!(world.pending.len(), 1, "nothing is answered before the sync");
            for (id, end) in ids.iter().zip(&before) {
                assert_eq!(world.log.ends(*id).expect("attached").log_end_offset, *end);
            }
            world.check();
            while world.log.core().feed_step() == Step::Worked {}
            if world.random.random_bool(0.5) {
                // The power goes in the middle of it.
                world.disk.fail_all_in(1);
                let _ = crate::disk::Disk::create_folder(&world.disk, "the last thing it hears of");
                world.disk.let_syncs_go();
                committing.join().expect("no panic");
                world.stop_and_reopen(Some(CrashMode::Tear));
                return;
            }
        }
        world.disk.let_syncs_go();
        committing.join().expect("no panic");
        world.collect();
        assert!(world.pending.is_empty());
        world.check();
    });
}

#[test]
fn a_closed_log_has_no_file_open_that_the_next_one_deletes() {
    let mut world = World::new(1);
    world.append();
    while world.commit_step() == Step::Worked {}
    world.collect();
    // The segment is made, and then nothing comes into it.
    world.disk.fail_write_in(1);
    world.log.core().settle_step(world.now_ms);
    assert!(world.log.failed().is_some());
    world.disk.heal();
    // Whoever still reads holds it.
    let held = world.log.core().clone();
    world.log.close();
    world.reopen();
    world.check();
    drop(held);
}
