//! On a real disk, with threads and sled: what was acknowledged is there after a clean stop, after
//! a stop without one, and after the view was lost.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use odradek_log::*;
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;
use uuid::Uuid;

fn id(topic: u128, partition: i32) -> PartitionId {
    PartitionId { topic_id: Uuid::from_u128(topic), partition }
}

fn spec(id: PartitionId, folder: &str, keyed: bool) -> PartitionSpec {
    PartitionSpec {
        id,
        folder: folder.to_owned(),
        keyed,
        log_start_offset: 0,
        settings: PartitionSettings { segment_bytes_max: 100_000, ..Default::default() },
    }
}

fn batch(timestamp_ms: i64, keys: &[&str], value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    for (index, key) in keys.iter().enumerate() {
        let value = vec![b'a' + (index % 26) as u8; value_bytes];
        builder.push(timestamp_ms + index as i64, Some(key.as_bytes()), Some(&value), &[]);
    }
    builder.build(0)
}

fn open(dir: &std::path::Path) -> (Log, OpenReport) {
    let mut options = Options::new(dir);
    options.journal_file_bytes = 1 << 20;
    options.disk_reserve_bytes = 0;
    Log::open(options, Arc::new(RealDisk::new(dir))).expect("opens")
}

fn commit(log: &Log, partition: PartitionId, base_offset: i64, batches: Bytes) {
    let (sender, receiver) = mpsc::channel();
    log.commit(Unit {
        appends: vec![Append { partition, base_offset, leader_epoch: 3, batches }],
        done: Box::new(move |result| drop(sender.send(result))),
    });
    receiver.recv_timeout(Duration::from_secs(20)).expect("answered").expect("durable");
}

/// All of a partition, batch by batch, as stored.
fn all(log: &Log, partition: PartitionId) -> Vec<Bytes> {
    let ends = log.ends(partition).expect("attached");
    let (mut offset, mut batches) = (ends.log_start_offset, Vec::new());
    while offset < ends.log_end_offset {
        let read = log.read(partition, offset, 10_000).expect("readable");
        assert!(read.next_offset > offset, "reading goes on at {offset}");
        offset = read.next_offset;
        batches.extend(read.each_batch());
    }
    batches
}

#[test]
fn records_survive_a_clean_stop_a_rude_one_and_the_loss_of_the_view() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("data");
    let (a, b) = (id(1, 0), id(2, 7));
    let mut ends = [0_i64; 2];
    let mut stored: [Vec<Bytes>; 2] = Default::default();
    for round in 0..4 {
        let (log, report) = open(&path);
        assert_eq!(report.unclean, round == 2 || round == 3, "round {round}: {report:?}");
        log.attach(spec(a, "topic.a-0", false)).expect("attached");
        log.attach(spec(b, "topic.b-7", true)).expect("attached");
        log.start().expect("started");
        for (index, partition) in [a, b].into_iter().enumerate() {
            let now = log.ends(partition).expect("attached").log_end_offset;
            assert_eq!(now, ends[index], "round {round}");
            assert_eq!(all(&log, partition), stored[index], "round {round}");
        }
        for turn in 0..60 {
            let keys = ["x", "y", "z"];
            commit(&log, a, ends[0], batch(1000 + turn, &keys, 2000));
            commit(&log, b, ends[1], batch(2000 + turn, &keys[..2], 300));
            ends = [ends[0] + 3, ends[1] + 2];
        }
        stored = [all(&log, a), all(&log, b)];
        assert_eq!(stored[0].len(), 60 * (round + 1));
        let keyed = log.keyed(b).expect("keyed");
        assert_eq!(keyed.keys().map(|key| &key[..]).collect::<Vec<_>>(), [b"x", b"y"]);
        if round == 0 {
            log.close();
        }
        drop(log);
        if round == 2 {
            std::fs::remove_dir_all(path.join("sled")).expect("removed");
        }
    }
    let metadata = path.join("topic.a-0/partition.metadata");
    let text = std::fs::read_to_string(metadata).expect("there");
    assert_eq!(text, "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ\n");
}

#[test]
fn a_second_log_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let (first, _) = open(dir.path());
    let second = Log::open(Options::new(dir.path()), Arc::new(RealDisk::new(dir.path())));
    assert!(matches!(second, Err(OpenError::Locked(_))));
    first.close();
    open(dir.path());
}

#[test]
fn answers_come_in_order_and_after_the_high_watermark_has_moved() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path());
    let log = Arc::new(log);
    let a = id(1, 0);
    log.attach(spec(a, "t-0", false)).expect("attached");
    log.start().expect("started");
    let seen = Arc::new(Mutex::new(Vec::new()));
    for index in 0..500_i64 {
        let (seen, reader) = (seen.clone(), log.clone());
        log.commit(Unit {
            appends: vec![Append {
                partition: a,
                base_offset: index * 2,
                leader_epoch: 0,
                batches: batch(index, &["k", "l"], 50),
            }],
            done: Box::new(move |result| {
                let end = reader.ends(a).expect("attached").log_end_offset;
                seen.lock().expect("lock").push((index, result.is_ok(), end));
            }),
        });
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while seen.lock().expect("lock").len() < 500 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let seen = seen.lock().expect("lock").clone();
    assert_eq!(seen.len(), 500);
    for (index, (answered, ok, end)) in seen.iter().enumerate() {
        assert!(*ok && *answered == index as i64 && *end >= (answered + 1) * 2);
    }
    assert!(log.stats().groups < 500, "units share groups");
    log.close();
}
