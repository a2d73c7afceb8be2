//! On a real disk, with threads and sled: what was acknowledged is there after a clean stop, after
//! a stop without one, and after the view was lost.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
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
        makes_room: false,
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
    open_store(dir, Store::Segments).expect("opens")
}

fn open_store(dir: &std::path::Path, store: Store) -> Result<(Log, OpenReport), OpenError> {
    let mut options = Options::new(dir);
    options.store = store;
    options.journal_file_bytes = 1 << 20;
    options.disk_reserve_bytes = 0;
    Log::open(options, Arc::new(RealDisk::new(dir)))
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
fn the_second_store_keeps_records_in_sled_alone_and_its_folder_is_no_other_stores() {
    let dir = tempfile::tempdir().expect("a folder");
    let (path, a) = (dir.path(), id(1, 0));
    let mut end = 0;
    let mut stored: Vec<Bytes> = Vec::new();
    for round in 0..4 {
        let (log, report) = open_store(path, Store::Sled).expect("opens");
        assert_eq!(report.unclean, round == 2 || round == 3, "round {round}: {report:?}");
        log.attach(spec(a, "topic.a-0", false)).expect("attached");
        let started = log.start().expect("started");
        assert!(started.damage.is_empty(), "{started:?}");
        assert_eq!(all(&log, a), stored, "round {round}");
        // More than the journal's two files hold, so that some of it is in the database alone.
        for turn in 0..100 {
            commit(&log, a, end, batch(turn, &["x", "y", "z"], 20_000));
            end += 3;
        }
        stored = all(&log, a);
        if round == 0 {
            log.close();
        }
    }
    let mut names: Vec<String> = std::fs::read_dir(path)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
        .collect();
    names.sort();
    assert_eq!(names, [".lock", "journal.0", "journal.1", "sled", "store", "unclean"]);
    let refused = |store| open_store(path, store).map(drop).expect_err("refused").to_string();
    let why = refused(Store::Segments);
    assert!(why.contains("was made with odradek.log.store=sled"), "{why}");
    std::fs::remove_dir_all(path.join("sled")).expect("removed");
    let why = refused(Store::Sled);
    assert!(why.contains("is not the database that holds this folder's records"), "{why}");
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every fourth batch of 20,000 bytes begins an entry of 32 bytes: 64 batches for each of eight
/// partitions make 4,096 bytes. A segment would take a hundred times the records.
#[test]
fn an_index_that_finds_no_room_is_written_out_before_its_segment_is_full() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = Options::new(dir.path());
    options.journal_file_bytes = 1 << 20;
    options.disk_reserve_bytes = 0;
    options.active_index_bytes_max = 2_048;
    let bytes_max = options.active_index_bytes_max as u64;
    let (log, _) = Log::open(options, Arc::new(RealDisk::new(dir.path()))).expect("opens");
    let ids: Vec<PartitionId> = (0..8).map(|number| id(1, number)).collect();
    for id in &ids {
        let mut spec = spec(*id, &format!("topic.a-{}", id.partition), false);
        spec.settings = PartitionSettings::default();
        log.attach(spec).expect("attached");
    }
    log.start().expect("started");
    for turn in 0..64 {
        for id in &ids {
            commit(&log, *id, turn, batch(1_000, &["k"], 20_000));
        }
    }
    wait_until("all is settled", || log.stats().unsettled_bytes == 0);
    wait_until("indexes fit", || log.stats().active_index_bytes <= bytes_max);
    assert!(log.stats().active_index_bytes > 0);
    let segments: usize = ids.iter().map(|id| log.ends(*id).expect("attached").segments).sum();
    assert!(segments > ids.len(), "{segments} segments");
    assert!(ids.iter().all(|id| all(&log, *id).len() == 64));
    ids.iter().for_each(|id| log.remove(*id));
    assert_eq!(log.stats().active_index_bytes, 0, "what is gone counts no more");
}

/// A reader that lets go of nothing makes the others read copies, and the tail shorter.
#[test]
fn what_slow_readers_hold_counts_as_tail_and_stays_within_its_bound() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = Options::new(dir.path());
    options.journal_file_bytes = 1 << 20;
    options.disk_reserve_bytes = 0;
    options.tail_cache_bytes_max = 256 << 10;
    options.unsettled_bytes_max = 128 << 10;
    let (log, _) = Log::open(options, Arc::new(RealDisk::new(dir.path()))).expect("opens");
    let one = id(1, 0);
    log.attach(spec(one, "topic.a-0", false)).expect("attached");
    log.start().expect("started");
    let mut held = Vec::new();
    for turn in 0..200 {
        commit(&log, one, turn, batch(turn, &["k"], 20_000));
        held.push(log.read(one, turn, 1).expect("readable"));
        let stats = log.stats();
        let in_memory = stats.tail_cache_bytes + stats.unsettled_bytes;
        assert!(in_memory <= 384 << 10, "{in_memory} bytes of groups after {turn}");
    }
    // They have 4 MB, of which only what they got as slices counts here.
    let batches = held.iter().flat_map(Read::each_batch).map(|batch| batch.len());
    assert!(batches.sum::<usize>() > 4_000_000);
    wait_until("all is settled", || log.stats().unsettled_bytes == 0);
    let pinned = log.stats().tail_cache_bytes;
    assert!(pinned > 0);
    drop(held);
    assert!(log.stats().tail_cache_bytes < pinned);
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

#[test]
fn readers_beside_a_writer_see_every_batch_once_and_in_order() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = Options::new(dir.path());
    options.journal_file_bytes = 512 << 10;
    options.tail_cache_bytes_max = 64 << 10;
    options.unsettled_bytes_max = 128 << 10;
    options.disk_reserve_bytes = 0;
    let (log, _) = Log::open(options, Arc::new(RealDisk::new(dir.path()))).expect("opens");
    let log = Arc::new(log);
    let ids: Vec<PartitionId> = (0..3).map(|partition| id(1, partition)).collect();
    for id in &ids {
        log.attach(spec(*id, &format!("t-{}", id.partition), false)).expect("attached");
    }
    log.start().expect("started");
    let total: i64 = 1_500;
    let readers: Vec<_> = (0..6)
        .map(|reader| (log.clone(), ids[reader % 3], [900, 50_000][reader / 3]))
        .map(|(log, id, bytes_max)| {
            std::thread::spawn(move || {
                let deadline = Instant::now() + Duration::from_secs(60);
                let (mut offset, mut batches) = (0, 0);
                while offset < total * 2 && Instant::now() < deadline {
                    let read = match log.read_cached(id, offset, bytes_max) {
                        Cached::Hit(read) => read,
                        Cached::Miss => log.read(id, offset, bytes_max).expect("readable"),
                        Cached::AtEnd => {
                            std::thread::yield_now();
                            continue;
                        }
                    };
                    for batch in read.each_batch() {
                        let header = odradek_protocol::batch::validate(&batch).expect("whole");
                        assert_eq!(header.base_offset, offset, "next in order");
                        offset = header.last_offset() + 1;
                        batches += 1;
                    }
                    assert_eq!(read.next_offset, offset);
                }
                assert_eq!(batches, total, "all of them");
            })
        })
        .collect();
    let (sender, receiver) = mpsc::channel();
    for turn in 0..total {
        if turn >= 40 {
            receiver.recv_timeout(Duration::from_secs(60)).expect("answered");
        }
        let sender = sender.clone();
        let appends = ids.iter().map(|id| Append {
            partition: *id,
            base_offset: turn * 2,
            leader_epoch: 1,
            batches: batch(turn, &["a", "b"], (turn % 7) as usize * 150),
        });
        log.commit(Unit {
            appends: appends.collect(),
            done: Box::new(move |result| {
                result.expect("durable");
                let _ = sender.send(());
            }),
        });
    }
    for reader in readers {
        reader.join().expect("a reader's checks hold");
    }
    assert_eq!(log.failed(), None);
    log.close();
}

#[test]
fn retention_lets_whole_segments_go_by_time_and_by_size() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path());
    let a = id(1, 0);
    log.attach(spec(a, "t-0", false)).expect("attached");
    log.start().expect("started");
    for turn in 0..100 {
        commit(&log, a, turn * 2, batch(turn * 1000, &["k", "l"], 2_500));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    // Settled: all but what is left in the last, unsealed segment.
    while log.ends(a).expect("attached").segments < 6 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let ends = log.ends(a).expect("attached");
    assert!(ends.bytes > 500_000 && ends.segments >= 6, "{ends:?}");
    assert_eq!(ends.max_timestamp_ms, 99_001);
    assert_eq!(log.retention(a, 100_000, Some(-1), Some(-1)), None, "-1 is no limit");
    let by_size = log.retention(a, 100_000, None, Some(250_000)).expect("too large");
    // Two segments of 19 batches: without a third, less than the limit would be left.
    assert_eq!(by_size, 76);
    let by_time = log.retention(a, 100_000, Some(30_000), None).expect("too old");
    // Batches of turns up to 69 are older than 30 s, and a segment holds about 19 of them.
    assert!((100..=140).contains(&by_time), "{by_time}");
    log.trim(a, by_time);
    let ends = log.ends(a).expect("attached");
    assert_eq!(ends.log_start_offset, by_time);
    assert!(ends.bytes < 300_000, "{ends:?}");
    // Everything has run out: the active segment is sealed for it, and goes next time.
    let end = ends.log_end_offset;
    let mut start = None;
    while start != Some(end) && Instant::now() < deadline {
        start = log.retention(a, 10_000_000, Some(1), None).or(start);
        std::thread::yield_now();
    }
    assert_eq!(start, Some(end));
    log.trim(a, end);
    let files = || std::fs::read_dir(dir.path().join("t-0")).expect("there").count();
    while files() > 2 && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(files(), 2, "metadata, and one side file for the producers in it");
    commit(&log, a, end, batch(1, &["k"], 10));
    assert_eq!(all(&log, a).len(), 1);
    log.close();
}

#[test]
fn records_without_time_are_as_old_as_their_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let (log, _) = open(dir.path());
    let timeless = id(1, 0);
    log.attach(spec(timeless, "t-0", false)).expect("attached");
    log.start().expect("started");
    // The second does not fit into the first's segment, which so is sealed.
    for offset in 0..2 {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(-1, Some(b"key"), Some(&[7; 60_000]), &[]);
        commit(&log, timeless, offset, builder.build(0));
    }
    log.close();
    let (log, _) = open(dir.path());
    log.attach(spec(timeless, "t-0", false)).expect("attached");
    log.start().expect("started");
    let an_hour_ms = 3_600_000;
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let now_ms = i64::try_from(since_epoch.as_millis()).expect("before the year 292,278,994");
    assert_eq!(log.retention(timeless, now_ms, Some(an_hour_ms), None), None, "just written");
    let later_ms = now_ms + 2 * an_hour_ms;
    assert_eq!(log.retention(timeless, later_ms, Some(an_hour_ms), None), Some(1));
}

#[test]
fn the_age_of_a_segment_goes_on_through_restarts() {
    let dir = tempfile::tempdir().expect("a folder");
    let (partition, week) = (id(1, 0), Duration::from_secs(7 * 24 * 3600));
    let metadata = dir.path().join("t-0/partition.metadata");
    let sealed = || dir.path().join("t-0/00000000000000000000.side").exists();
    for round in 0..3 {
        let (log, _) = open(dir.path());
        log.attach(spec(partition, "t-0", false)).expect("attached");
        log.start().expect("started");
        commit(&log, partition, round, batch(1_000, &["a"], 10));
        log.close();
        assert_eq!(sealed(), round == 2, "round {round}");
        if round == 1 {
            // As if it had been made a week ago, which is as old as a segment becomes.
            let file = std::fs::File::options().write(true).open(&metadata).expect("there");
            file.set_modified(SystemTime::now() - week).expect("set back");
        }
    }
}

#[test]
fn a_batch_that_nobody_can_decode_hides_nothing_behind_it_from_look_ups_by_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let partition = id(1, 0);
    let start = || {
        let (log, _) = open(dir.path());
        log.attach(spec(partition, "t-0", false)).expect("attached");
        log.start().expect("started");
        log
    };
    let mut log = start();
    commit(&log, partition, 0, batch(1_000, &["a"], 10));
    // A record that says to be longer than all of its batch, under a checksum that holds.
    let mut broken = BytesMut::from(&batch(5_000, &["b"], 10)[..]);
    broken[61..64].fill(0xff);
    let crc = crc32c::crc32c(&broken[21..]);
    broken[17..21].copy_from_slice(&crc.to_be_bytes());
    commit(&log, partition, 1, broken.freeze());
    commit(&log, partition, 2, batch(9_000, &["c"], 10));
    for round in ["in memory", "on the disk"] {
        let hit = log.offset_for_time(partition, 1_500).expect("found").expect("there");
        assert_eq!((hit.offset, hit.timestamp_ms), (2, 9_000), "{round}");
        let newest = log.max_timestamp(partition).expect("found").expect("there");
        assert_eq!(newest.offset, 2, "{round}");
        log.close();
        log = start();
    }
}

#[test]
fn compaction_beside_a_writer_and_readers_leaves_the_latest_value_of_each_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let a = id(1, 0);
    let compacted = || {
        let mut spec = spec(a, "t-0", true);
        spec.settings.compaction = Some(CompactionSettings {
            min_dirty_ratio: 0.0,
            delete_retention_ms: 0,
            min_lag_ms: 0,
            max_lag_ms: i64::MAX,
        });
        spec
    };
    let open = || {
        let mut options = Options::new(dir.path());
        options.journal_file_bytes = 1 << 20;
        options.disk_reserve_bytes = 0;
        options.compaction.pause = Duration::from_millis(10);
        let (log, _) = Log::open(options, Arc::new(RealDisk::new(dir.path()))).expect("opens");
        log.attach(compacted()).expect("attached");
        log.start().expect("started");
        log
    };
    let log = open();
    let names: Vec<String> = (0..20).map(|index| format!("key {index}")).collect();
    let mut next_offset = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut turn = 0;
    // The view is checkpointed every ten seconds, and nothing goes before that.
    while log.stats().compactions < 2 || turn < 300 {
        assert!(Instant::now() < deadline, "{:?}", log.stats());
        let keys: Vec<&str> = names.iter().map(String::as_str).skip(turn % 10).take(5).collect();
        commit(&log, a, next_offset, batch(turn as i64, &keys, 1_000));
        next_offset += 5;
        turn += 1;
        let mut at = 0;
        while turn % 50 == 0 && at < next_offset {
            let read = log.read(a, at, 1 << 20).expect("readable while segments are swapped");
            assert!(read.next_offset > at);
            at = read.next_offset;
        }
    }
    let stats = log.stats();
    assert!(stats.compaction_removed_records > 0 && log.failed().is_none(), "{stats:?}");
    let latest = log.keyed(a).expect("keyed");
    assert_eq!(latest.len(), 14, "keys 0 to 13 were written");
    log.close();
    drop(log);
    let log = open();
    let stored = all(&log, a);
    let batches = stored.iter().map(|batch| odradek_protocol::batch::records(batch, 1 << 20));
    let records: Vec<_> = batches.flat_map(|records| records.expect("readable")).collect();
    assert!((records.len() as i64) < next_offset, "some are gone");
    let last = |key: &Bytes| records.iter().rfind(|record| record.key.as_ref() == Some(key));
    for (key, value) in &latest {
        assert_eq!(last(key).and_then(|record| record.value.clone()).as_ref(), Some(value));
    }
    log.close();
}
