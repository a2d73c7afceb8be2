//! Which of the queued units make the next group.
//!
//! In the order of the queue, except that large units give way to small ones of other partitions:
//! a record of a hundred bytes would otherwise wait until megabytes of others that came just before
//! it are written. Each partition's units stay in their order, and the first large unit of the
//! queue is in every group that has room for it, so none waits for ever.

use std::collections::{HashSet, VecDeque};

use crate::group::GroupBuffer;
use crate::types::{PartitionId, Unit};

/// A group takes no further unit beyond this: at 500 MB/s it is 8 ms of waiting for the first.
pub(crate) const GROUP_BYTES_MAX: usize = 4 << 20;
/// A unit of more bytes is a large one. Java's producer makes batches of 16 KiB.
const LARGE_UNIT_BYTES: usize = 64 << 10;
/// So many bytes of large units, or one of them, are in a group that holds small ones: 2 ms.
const LARGE_BYTES_MAX: usize = 1 << 20;

pub(crate) fn unit_bytes(unit: &Unit) -> usize {
    unit.appends.iter().map(GroupBuffer::bytes_of).sum()
}

/// Takes units of at most `bytes_max` together, or one. What is left stays in its order.
pub(crate) fn take_group(queue: &mut VecDeque<Unit>, bytes_max: usize) -> Vec<Unit> {
    let mut taken = Vec::new();
    let mut left = VecDeque::new();
    // Partitions of units that were passed over: whatever comes after those must wait, too.
    let mut passed: HashSet<PartitionId> = HashSet::new();
    let (mut bytes, mut large_bytes) = (0, 0);
    while let Some(unit) = queue.front() {
        let more = unit_bytes(unit);
        let is_large = more > LARGE_UNIT_BYTES;
        let gives_way = is_large && large_bytes > 0 && large_bytes + more > LARGE_BYTES_MAX;
        let follows = unit.appends.iter().any(|append| passed.contains(&append.partition));
        if gives_way || follows {
            passed.extend(unit.appends.iter().map(|append| append.partition));
            left.extend(queue.pop_front());
            continue;
        }
        if bytes > 0 && bytes + more > bytes_max {
            break;
        }
        bytes += more;
        large_bytes += if is_large { more } else { 0 };
        taken.extend(queue.pop_front());
    }
    // Nobody to give way to.
    let all_large = bytes == large_bytes;
    while let Some(unit) = left.front().filter(|_| all_large) {
        bytes += unit_bytes(unit);
        if bytes > bytes_max {
            break;
        }
        taken.extend(left.pop_front());
    }
    left.append(queue);
    *queue = left;
    taken
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::*;
    use crate::types::Append;

    const KIB: usize = 1 << 10;

    /// A unit for these partitions, with so many bytes for each.
    fn unit(partitions: &[i32], bytes: usize, base_offset: i64) -> Unit {
        let append = |partition: &i32| Append {
            partition: PartitionId { topic_id: Uuid::nil(), partition: *partition },
            base_offset,
            leader_epoch: 0,
            batches: Bytes::from(vec![0; bytes]),
        };
        Unit { appends: partitions.iter().map(append).collect(), done: Box::new(|_| ()) }
    }

    /// Partition and base offset of each unit's first append.
    fn shown(units: &[Unit]) -> Vec<(i32, i64)> {
        let first =
            |unit: &Unit| (unit.appends[0].partition.partition, unit.appends[0].base_offset);
        units.iter().map(first).collect()
    }

    #[test]
    fn small_units_do_not_wait_behind_large_ones_of_other_partitions() {
        let mut queue: VecDeque<Unit> = (0..4).map(|at| unit(&[0], 600 * KIB, at)).collect();
        queue.push_back(unit(&[1], 100, 0));
        queue.push_back(unit(&[0], 100, 4));
        queue.push_back(unit(&[2, 0], 100, 0));
        queue.push_back(unit(&[2], 100, 1));
        // Partition 0 has large units that wait; one of 2 goes with 0, and the next follows it.
        let first = take_group(&mut queue, GROUP_BYTES_MAX);
        assert_eq!(shown(&first), [(0, 0), (1, 0)]);
        // Now the large ones are in the way of none but those that must follow them.
        let second = take_group(&mut queue, GROUP_BYTES_MAX);
        assert_eq!(shown(&second), [(0, 1), (0, 2), (0, 3), (0, 4), (2, 0), (2, 1)]);
        assert!(queue.is_empty() && take_group(&mut queue, GROUP_BYTES_MAX).is_empty());
    }

    #[test]
    fn large_units_alone_fill_a_group_and_one_beyond_any_bound_is_taken_alone() {
        let large = || (0..5).map(|at| unit(&[0], 1000 * KIB, at));
        let mut queue: VecDeque<Unit> = large().collect();
        // 4 x 1,000 KiB and their heads are below 4,096 KiB, 5 are above.
        assert_eq!(take_group(&mut queue, GROUP_BYTES_MAX).len(), 4);
        let mut queue: VecDeque<Unit> = [unit(&[1], 9000 * KIB, 0)].into_iter().collect();
        queue.extend(large());
        assert_eq!(shown(&take_group(&mut queue, GROUP_BYTES_MAX)), [(1, 0)]);
        assert_eq!(queue.len(), 5);
    }

    #[test]
    fn without_large_units_the_order_is_that_of_the_queue_and_the_bound_holds() {
        let mut queue: VecDeque<Unit> = (0..100).map(|at| unit(&[0], 50 * KIB, at)).collect();
        let first = take_group(&mut queue, GROUP_BYTES_MAX);
        // 81 x (50 x 1,024 + 40) = 4,150,440 bytes are below 4,194,304; another is not.
        assert_eq!(shown(&first), (0..81).map(|at| (0, at)).collect::<Vec<_>>());
        assert_eq!(take_group(&mut queue, GROUP_BYTES_MAX).len(), 19);
    }
}
