//! Bit rot: one bit of one file flips while the log is closed. What that bit was a part of is
//! repaired or named; it is never served, and nothing is missing in silence.

use bytes::Bytes;
use rand::Rng;

use super::each_seed;
use super::world::{Model, World};
use crate::disk::CrashMode;
use crate::types::*;
use crate::wire;

#[test]
fn a_flipped_bit_is_repaired_or_named_and_never_served() {
    each_seed("rot", 60, |seed| {
        let mut world = World::new(seed);
        for _ in 0..world.random.random_range(60..200) {
            match world.random.random_range(0..100) {
                0..=39 => world.append(),
                _ => drop(world.step()),
            }
        }
        while world.commit_step() == crate::core::Step::Worked {}
        world.collect();
        let stop = [None, Some(CrashMode::KeepAll), Some(CrashMode::LoseAll)];
        let stop = stop[world.random.random_range(0..3)];
        if world.random.random_bool(0.3) {
            world.drain();
        }
        world.stop(stop);
        let names = world.disk.file_names();
        let name = &names[world.random.random_range(0..names.len())];
        let bits = world.disk.content(name).expect("there").len() * 8;
        if bits == 0 {
            return;
        }
        let bit = world.random.random_range(0..bits);
        println!("bit {} of byte {} of {name}", bit % 8, bit / 8);
        world.disk.flip_bit(name, bit);
        let is_journal = name.starts_with("journal");
        world.forgive_damage = true;
        world.reopen();
        assert!(world.last_start.orphan_folders.is_empty(), "nothing is thrown away");
        let ids: Vec<PartitionId> = world.partitions.keys().copied().collect();
        for id in ids {
            let model = world.partitions[&id].clone();
            world.check_rotten(id, &model, is_journal);
        }
    });
}

/// No checksum covers a batch's leader epoch, and nothing else says what it was: a bit of that may
/// flip unseen.
fn same_but_for_epoch(one: &Bytes, other: &Bytes) -> bool {
    one[..12] == other[..12] && one[16..] == other[16..]
}

impl World {
    /// Each batch that was acknowledged is there, or lies where damage was told; what is read was
    /// acknowledged.
    fn check_rotten(&mut self, id: PartitionId, model: &Model, is_journal: bool) {
        let ends = self.log.ends(id).expect("attached");
        let damage: Vec<Damage> =
            self.last_start.damage.iter().filter(|d| d.partition == id).copied().collect();
        // What nobody can tell from a write that never came to its end, and was told as such, which
        // may be the last group's bytes in a segment, too; and what was at the end of a partition,
        // which nothing else tells than that a group is gone.
        let opened = &self.last_open;
        let torn = opened.torn_tail.is_some() || is_journal && !opened.damaged_groups.is_empty();
        for (base_offset, last_offset, bytes) in &model.acked {
            let named =
                damage.iter().any(|d| d.from_offset <= *last_offset && *base_offset < d.to_offset);
            if *last_offset < ends.log_start_offset {
                continue;
            }
            if *last_offset >= ends.log_end_offset {
                assert!(named || torn, "{base_offset} of {} is missing", model.folder);
                continue;
            }
            match self.log.read(id, *base_offset, 1) {
                Ok(read) => {
                    let batch = read.each_batch().into_iter().next();
                    let Some(batch) = batch else {
                        assert!(named, "nothing read at {base_offset} of {}", model.folder);
                        continue;
                    };
                    let header = wire::header(&batch).expect("whole");
                    self.check_served(model, &batch);
                    let compacted = model.compaction.is_some();
                    let there = header.base_offset == *base_offset;
                    assert!(there || compacted || named, "{base_offset} of {}", model.folder);
                    assert!(!there || compacted || same_but_for_epoch(&batch, bytes));
                }
                Err(ReadError::Damaged { partition, .. }) => assert_eq!(partition, id),
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn check_served(&self, model: &Model, batch: &Bytes) {
        let header = wire::header(batch).expect("whole");
        assert!(wire::crc_holds(batch, &header), "served with a checksum that does not hold");
        let source = model.acked.iter().find(|(base, ..)| *base == header.base_offset);
        let (_, _, source) = source.expect("a batch that was acknowledged");
        if model.compaction.is_none() {
            let same = same_but_for_epoch(batch, source);
            assert!(same, "{} is not what was acknowledged", header.base_offset);
        }
    }
}
