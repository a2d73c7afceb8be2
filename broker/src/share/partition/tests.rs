//! Single rules, each as Kafka's `SharePartition` has it.

use super::*;

const BOUNDS: Bounds = Bounds { lock_ms: 30_000, deliveries_max: 5, in_flight_max: 200 };

fn fetch(
    machine: &mut SharePartition,
    member: &str,
    batches: &[(i64, i64)],
    records_max: i64,
) -> Vec<(i64, i64, i16)> {
    let member: Arc<str> = member.into();
    let fetch_offset = machine.next_fetch_offset();
    let (aborted, batch_records) = (&[][..], records_max);
    let wanted =
        Wanted { member: &member, fetch_offset, batches, aborted, records_max, batch_records };
    let acquired = machine.acquire(&wanted, &BOUNDS, 0);
    acquired.into_iter().map(|a| (a.first, a.last, a.deliveries)).collect()
}

fn acknowledge(
    machine: &mut SharePartition,
    member: &str,
    first: i64,
    last: i64,
    kinds: &[i8],
) -> Result<bool, Refusal> {
    let one = Acknowledgement { first, last, kinds: kinds.to_vec() };
    machine.acknowledge(member, &[one], 1, &BOUNDS)
}

fn settle(machine: &mut SharePartition) {
    machine.settle(1, true, &BOUNDS, 0);
}

#[test]
fn a_batch_goes_out_whole_even_if_that_is_more_than_was_asked_for() {
    let mut machine = SharePartition::new(0, 0);
    assert_eq!(fetch(&mut machine, "a", &[(0, 9), (10, 19)], 5), [(0, 9, 1)]);
    assert_eq!(machine.next_fetch_offset(), 10);
}

#[test]
fn what_is_new_is_cut_where_the_logs_batches_end() {
    let mut machine = SharePartition::new(0, 0);
    let batches = [(0, 3), (4, 7), (8, 11), (12, 15)];
    let member: Arc<str> = "a".into();
    let wanted = Wanted {
        member: &member,
        fetch_offset: 0,
        batches: &batches,
        aborted: &[],
        records_max: 100,
        batch_records: 6,
    };
    let acquired = machine.acquire(&wanted, &BOUNDS, 0);
    let ranges: Vec<_> = acquired.iter().map(|a| (a.first, a.last)).collect();
    assert_eq!(ranges, [(0, 7), (8, 15)]);
}

#[test]
fn a_fetch_in_the_middle_of_a_batch_does_not_go_below_the_start() {
    let mut machine = SharePartition::new(5, 0);
    assert_eq!(fetch(&mut machine, "a", &[(0, 9)], 100), [(5, 9, 1)]);
}

#[test]
fn accepted_records_move_the_start_once_they_are_durable() {
    let mut machine = SharePartition::new(0, 0);
    fetch(&mut machine, "a", &[(0, 9)], 100);
    assert_eq!(acknowledge(&mut machine, "a", 0, 4, &[1]), Ok(true));
    assert_eq!(machine.start, 0);
    assert_eq!(machine.record().start, Some(5), "what is written is ahead of memory");
    settle(&mut machine);
    assert_eq!(machine.start, 5);
    assert_eq!(acknowledge(&mut machine, "a", 0, 4, &[1]), Ok(false), "done is done");
    assert_eq!(acknowledge(&mut machine, "a", 5, 9, &[1]), Ok(true));
    settle(&mut machine);
    assert_eq!((machine.start, machine.next), (10, 10));
    assert!(machine.runs.is_empty());
}

#[test]
fn released_records_come_back_first_with_a_higher_count() {
    let mut machine = SharePartition::new(0, 0);
    fetch(&mut machine, "a", &[(0, 9)], 100);
    acknowledge(&mut machine, "a", 2, 4, &[1, 2, 3]).unwrap();
    assert_eq!(machine.next_fetch_offset(), 10, "not before it is durable");
    settle(&mut machine);
    assert_eq!(machine.next_fetch_offset(), 3);
    assert_eq!(fetch(&mut machine, "b", &[(0, 9), (10, 14)], 100), [(3, 3, 2), (10, 14, 1)]);
}

#[test]
fn a_lock_that_runs_out_frees_its_records() {
    let mut machine = SharePartition::new(0, 0);
    fetch(&mut machine, "a", &[(0, 4)], 100);
    assert_eq!(machine.due_ms(), Some(30_000));
    assert!(!machine.expire(&BOUNDS, 29_999));
    assert!(machine.expire(&BOUNDS, 30_000));
    assert_eq!(acknowledge(&mut machine, "a", 0, 4, &[1]), Err(Refusal::NotHeld));
    assert_eq!(fetch(&mut machine, "b", &[(0, 4)], 100), [(0, 4, 2)]);
}

#[test]
fn what_another_member_has_or_nobody_got_cannot_be_acknowledged() {
    let mut machine = SharePartition::new(0, 0);
    assert_eq!(acknowledge(&mut machine, "a", 0, 0, &[1]), Err(Refusal::NotHeld));
    fetch(&mut machine, "a", &[(0, 4)], 100);
    assert_eq!(acknowledge(&mut machine, "b", 0, 4, &[1]), Err(Refusal::NotHeld));
    assert_eq!(acknowledge(&mut machine, "a", 0, 5, &[1]), Err(Refusal::NeverOut));
    assert_eq!(acknowledge(&mut machine, "a", 1, 2, &[3]), Ok(true));
    assert_eq!(acknowledge(&mut machine, "a", 0, 4, &[1]), Err(Refusal::NotHeld), "on its way");
}

#[test]
fn a_failed_write_gives_the_records_back_to_their_member() {
    let mut machine = SharePartition::new(0, 0);
    fetch(&mut machine, "a", &[(0, 4)], 100);
    acknowledge(&mut machine, "a", 0, 4, &[1]).unwrap();
    machine.settle(1, false, &BOUNDS, 0);
    assert_eq!(acknowledge(&mut machine, "a", 0, 4, &[1]), Ok(true));
    machine.settle(1, false, &BOUNDS, 40_000);
    assert_eq!(machine.next_fetch_offset(), 0, "the lock ran out meanwhile");
}

/// With a limit of five: whole batches twice, then halves and quarters from the third delivery on,
/// and the fifth delivery one by one. After that the record is archived.
#[test]
fn records_that_keep_coming_back_are_handed_out_in_ever_smaller_parts() {
    let mut machine = SharePartition::new(0, 0);
    let again = |machine: &mut SharePartition| {
        let out = fetch(machine, "a", &[(0, 7)], 100);
        machine.release("a", 1, &BOUNDS);
        settle(machine);
        out
    };
    assert_eq!(again(&mut machine), [(0, 7, 1)]);
    assert_eq!(again(&mut machine), [(0, 7, 2)]);
    assert_eq!(again(&mut machine), [(0, 7, 3)]);
    // Three deliveries are the limit's half: 8 >> 1 = 4 records.
    assert_eq!(again(&mut machine), [(0, 3, 4)]);
    // Four: the last delivery, alone.
    assert_eq!(again(&mut machine), [(0, 0, 5)]);
    assert_eq!(machine.start, 1, "delivered five times, and archived");
    assert_eq!(again(&mut machine), [(1, 1, 5)]);
    assert_eq!(again(&mut machine), [(2, 2, 5)]);
    assert_eq!(again(&mut machine), [(3, 3, 5)]);
    assert_eq!(again(&mut machine), [(4, 7, 4)]);
}

#[test]
fn no_more_is_out_than_may_be_and_what_is_free_among_it_still_goes() {
    let mut machine = SharePartition::new(0, 0);
    let batches: Vec<(i64, i64)> = (0..30).map(|n| (10 * n, 10 * n + 9)).collect();
    fetch(&mut machine, "a", &batches, 1_000);
    assert_eq!(machine.next, 200);
    assert!(!machine.may_acquire(&BOUNDS));
    acknowledge(&mut machine, "a", 50, 54, &[2]).unwrap();
    settle(&mut machine);
    assert!(machine.may_acquire(&BOUNDS));
    assert_eq!(fetch(&mut machine, "b", &batches[5..], 1_000), [(50, 54, 2)]);
}

#[test]
fn offsets_that_the_log_lost_are_done() {
    let mut machine = SharePartition::new(0, 0);
    fetch(&mut machine, "a", &[(0, 9)], 100);
    machine.release("a", 1, &BOUNDS);
    settle(&mut machine);
    // Compaction took the batch.
    assert_eq!(fetch(&mut machine, "a", &[(20, 24)], 100), [(20, 24, 1)]);
    assert_eq!(machine.start, 20);
    // Retention took the rest, though a member has it.
    assert!(machine.log_starts_at(22));
    assert_eq!(acknowledge(&mut machine, "a", 20, 24, &[1]), Ok(true));
    settle(&mut machine);
    assert_eq!(machine.start, 25);
    assert!(!machine.log_starts_at(3));
}

#[test]
fn a_restart_frees_what_was_out_and_keeps_what_is_done_and_the_counts() {
    let mut machine = SharePartition::new(0, 7);
    fetch(&mut machine, "a", &[(0, 9), (10, 19), (20, 29)], 100);
    acknowledge(&mut machine, "a", 10, 14, &[1]).unwrap();
    acknowledge(&mut machine, "a", 15, 19, &[2]).unwrap();
    settle(&mut machine);
    let record = machine.record();
    let runs: Vec<_> = record.runs.iter().map(|r| (r.first, r.last, r.state as u8)).collect();
    assert_eq!(runs, [(10, 14, 2), (15, 19, 0)], "what is out counts as never delivered");
    let mut machine = SharePartition::restored(&record).unwrap();
    assert_eq!(machine.state_epoch, 7);
    assert_eq!(machine.next_fetch_offset(), 0);
    let batches = [(0, 9), (10, 19), (20, 29)];
    assert_eq!(fetch(&mut machine, "b", &batches, 100), [(0, 9, 1), (15, 19, 2), (20, 29, 1)]);
}

#[test]
fn a_hole_is_handed_out_in_parts_too() {
    let record = PartitionRecord {
        start: Some(0),
        state_epoch: 0,
        runs: vec![RunRecord { first: 30, last: 39, state: RunState::Acknowledged, deliveries: 1 }],
    };
    let mut machine = SharePartition::restored(&record).unwrap();
    let batches = [(0, 9), (10, 19), (20, 29), (30, 39)];
    assert_eq!(fetch(&mut machine, "a", &batches, 5), [(0, 9, 1)]);
    assert_eq!(fetch(&mut machine, "a", &batches[1..], 100), [(10, 29, 1)]);
    assert_eq!(machine.next_fetch_offset(), 40);
}

#[test]
fn a_record_that_makes_no_sense_is_not_believed() {
    let run = |first, last| RunRecord { first, last, state: RunState::Available, deliveries: 1 };
    for runs in [vec![run(3, 9)], vec![run(5, 4)], vec![run(5, 9), run(9, 12)]] {
        let record = PartitionRecord { start: Some(5), state_epoch: 0, runs };
        assert_eq!(SharePartition::restored(&record), None);
    }
}
