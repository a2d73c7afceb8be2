//! Stored files against plain vectors of bytes, and folders opened with the other store.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::files::Files;
use super::{MARK_NAME, open};
use crate::disk::{CrashMode, Disk, DiskFile, MemoryDisk};
use crate::types::{OpenError, Store};
use crate::view::{MemoryViews, SledViews, Views};

type Contents = BTreeMap<String, Vec<u8>>;

fn files(views: &dyn Views) -> Arc<Files> {
    let map = views.records().expect("a map");
    Files::open(map, Arc::new(MemoryDisk::new(0))).expect("opens")
}

/// One change of a random file, on both sides.
fn change(files: &Arc<Files>, model: &mut Contents, random: &mut StdRng) {
    let path = format!("a-0/{}", random.random_range(0..4));
    if random.random_bool(0.05) {
        let gone = files.delete(&path);
        assert_eq!(gone.is_ok(), model.remove(&path).is_some());
        return;
    }
    let file = files.create(&path).expect("made");
    let bytes = model.entry(path).or_default();
    match random.random_range(0..10) {
        0..=5 => {
            let largest = [40, 1_100, 9_000][random.random_range(0..3)];
            let count = random.random_range(1..largest);
            let new: Vec<u8> = (0..count).map(|_| random.random()).collect();
            // Mostly at the end.
            let at = if random.random_bool(0.7) {
                bytes.len()
            } else {
                random.random_range(0..=bytes.len())
            };
            file.write_all_at(&new, at as u64).expect("written");
            bytes.resize(bytes.len().max(at + count), 0);
            bytes[at..at + count].copy_from_slice(&new);
        }
        6 => {
            let count = random.random_range(0..=bytes.len());
            file.set_len(count as u64).expect("cut");
            bytes.truncate(count);
        }
        _ => {
            let from = random.random_range(0..=bytes.len());
            let to = random.random_range(from..=bytes.len());
            let mut read = vec![0; to - from];
            file.read_exact_at(&mut read, from as u64).expect("read");
            assert!(read == bytes[from..to], "{from}..{to}");
        }
    }
}

fn assert_same(files: &Arc<Files>, model: &Contents) {
    let listed = files.list("a-0").expect("listed");
    let names: Vec<String> = listed.iter().map(|entry| format!("a-0/{}", entry.name)).collect();
    assert_eq!(names, model.keys().cloned().collect::<Vec<_>>());
    for (entry, (path, bytes)) in listed.iter().zip(model) {
        assert_eq!(entry.bytes, bytes.len() as u64);
        let file = files.find(path).expect("there");
        let mut read = vec![0; bytes.len()];
        file.read_exact_at(&mut read, 0).expect("read");
        assert!(read == *bytes, "{path}");
        let beyond = file.read_exact_at(&mut [0], bytes.len() as u64);
        assert_eq!(beyond.map_err(|e| e.kind()), Err(std::io::ErrorKind::UnexpectedEof));
    }
}

#[test]
fn stored_files_are_what_plain_bytes_are_and_come_back_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in 0..6 {
        println!("seed {seed}");
        let memory = MemoryViews::default();
        let sled = SledViews::new(folder.path().join(format!("sled {seed}")), 4 << 20);
        let views: &dyn Views = if seed % 3 == 0 { &sled } else { &memory };
        let mut random = StdRng::seed_from_u64(seed);
        let mut model = Contents::new();
        let mut stored = files(views);
        stored.create_folder("a-0").expect("made");
        for turn in 0..600 {
            change(&stored, &mut model, &mut random);
            if turn % 100 == 99 {
                assert_same(&stored, &model);
                stored.sync().expect("synced");
                memory.power_cut(0.0);
                stored = files(views);
                assert_same(&stored, &model);
            }
        }
    }
}

#[test]
fn after_a_crash_a_file_is_a_prefix_of_what_was_appended() {
    for seed in 0..40 {
        let memory = MemoryViews::default();
        let mut random = StdRng::seed_from_u64(seed);
        let stored = files(&memory);
        stored.create_folder("a-0").expect("made");
        let file = stored.create("a-0/x").expect("made");
        let (mut bytes, mut synced) = (Vec::new(), 0);
        for _ in 0..30 {
            let count = random.random_range(1..9_000);
            let new: Vec<u8> = (0..count).map(|_| random.random()).collect();
            file.write_all_at(&new, bytes.len() as u64).expect("written");
            bytes.extend_from_slice(&new);
            if random.random_bool(0.1) {
                stored.sync().expect("synced");
                synced = bytes.len();
            }
        }
        drop((file, stored));
        memory.power_cut(random.random());
        let stored = files(&memory);
        let Ok(file) = stored.find("a-0/x") else {
            assert_eq!(synced, 0, "seed {seed}");
            continue;
        };
        let count = file.byte_count().expect("counted") as usize;
        assert!((synced..=bytes.len()).contains(&count), "seed {seed}: {synced} {count}");
        let mut read = vec![0; count];
        file.read_exact_at(&mut read, 0).expect("read");
        assert!(read == bytes[..count], "seed {seed}");
    }
}

#[test]
fn a_removal_that_a_crash_cut_short_is_finished_at_the_next_start() {
    let memory = MemoryViews::default();
    let stored = files(&memory);
    stored.create_folder("a-0").expect("made");
    let empty = memory.records_byte_count();
    let file = stored.create("a-0/x").expect("made");
    file.write_all_at(&[7; 300_000], 0).expect("written");
    assert_eq!(
        stored.delete("a-0/x").map_err(|e| e.kind()),
        Err(std::io::ErrorKind::PermissionDenied),
        "a handle is open"
    );
    drop(file);
    stored.sync().expect("synced");
    stored.delete("a-0/x").expect("deleted");
    drop(stored);
    // The name goes with the first of five batches: 293 chunks follow, at most 100 keys each.
    memory.power_cut(0.3);
    assert!(memory.records_byte_count() > 100_000, "cut short");
    let stored = files(&memory);
    assert!(stored.find("a-0/x").is_err());
    // What is left is the next file's id.
    assert!(memory.records_byte_count() < empty + 20);
}

fn refused(disk: &MemoryDisk, store: Store, views: &dyn Views) -> String {
    match open(Arc::new(disk.clone()), store, views, "/data".as_ref()) {
        Err(OpenError::Unusable(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("opened"),
    }
}

#[test]
fn a_folder_is_opened_with_the_store_it_was_made_with_or_not_at_all() {
    let disk = MemoryDisk::new(1);
    let views = MemoryViews::default();
    let opened = |disk: &MemoryDisk, store| {
        open(Arc::new(disk.clone()), store, &views, "/data".as_ref()).expect("opens")
    };
    opened(&disk, Store::Segments);
    // Nothing is in it: it may still become either.
    opened(&disk, Store::Sled);
    opened(&disk, Store::Sled);
    let why = refused(&disk, Store::Segments, &views);
    assert!(why.contains("made with odradek.log.store=sled"), "{why}");
    assert!(why.contains("Set odradek.log.store=sled; or name an empty folder"), "{why}");
    let lost = refused(&disk, Store::Sled, &MemoryViews::default());
    assert!(lost.contains("/data/sled is not the database"), "{lost}");
    disk.crash(CrashMode::LoseAll);
    views.power_cut(0.0);
    opened(&disk, Store::Sled);

    let old = MemoryDisk::new(2);
    old.create("journal.0").expect("made");
    opened(&old, Store::Segments);
    let why = refused(&old, Store::Sled, &views);
    assert!(why.contains("made with odradek.log.store=segments"), "{why}");
    // What programs of before there were marks in the journal refuse.
    super::mark_marked(&old).expect("marked");
    opened(&old, Store::Segments);
    let why = refused(&old, Store::Sled, &views);
    assert!(why.contains("made with odradek.log.store=segments"), "{why}");
    old.create(MARK_NAME).expect("there").write_all_at(b"?", 0).expect("written");
    let why = refused(&old, Store::Segments, &views);
    assert!(why.contains("does not say which store"), "{why}");
}

#[test]
fn a_database_that_was_cut_while_it_was_made_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sled");
    std::fs::create_dir(&path).expect("made");
    // sled's settings are 62 bytes, the last four a checksum.
    std::fs::write(path.join("conf"), [7; 58]).expect("written");
    let views = SledViews::new(path, 16 << 20);
    assert!(views.records().is_err(), "nothing is opened with such settings");
    let disk = MemoryDisk::new(3);
    let opened = || open(Arc::new(disk.clone()), Store::Sled, &views, "/data".as_ref());
    opened().map(drop).expect("opens");
    opened().map(drop).expect("opens");
}

#[test]
fn a_kill_while_sled_writes_a_snapshot_leaves_a_database_that_opens() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sled");
    let views = SledViews::new(path.clone(), 16 << 20);
    let map = views.records().expect("a map");
    map.apply(vec![(b"key".to_vec(), Some(b"value".to_vec()))]).expect("applied");
    drop(map);
    views.close_records();
    // Of the name that a killed broker left, behind all others, and as empty.
    std::fs::write(path.join("snap.0000000001F8DDF3.generating"), []).expect("written");
    let map = SledViews::new(path, 16 << 20).records().expect("a map");
    assert_eq!(map.value(b"key").expect("read").as_deref(), Some(&b"value"[..]));
}

/// Why this must be so stands at `SledViews`. (On Windows nobody copies a locked file.)
#[cfg(unix)]
#[test]
fn a_batch_is_written_before_the_next_one_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sled");
    let views = SledViews::new(path.clone(), 16 << 20);
    let (map, view) = (views.records().expect("a map"), views.open().expect("a view"));
    for number in 0..20_u8 {
        let batch = |tag| vec![(vec![tag, number], Some(vec![number; 100]))];
        map.apply(batch(b'm')).expect("applied");
        view.apply(batch(b'v')).expect("applied");
        // As a killed process would leave it: nothing flushes in between.
        let copy = folder.path().join(format!("copy{number}"));
        std::fs::create_dir(&copy).expect("made");
        for name in ["conf", "db"] {
            std::fs::copy(path.join(name), copy.join(name)).expect("copied");
        }
        let found = SledViews::new(copy, 16 << 20);
        let (map, view) = (found.records().expect("a map"), found.open().expect("a view"));
        let last = |map: &dyn crate::view::View, tag| map.value(&[tag, number]).expect("read");
        assert_eq!(last(&*map, b'm'), Some(vec![number; 100]));
        assert_eq!(last(&*view, b'v'), Some(vec![number; 100]));
    }
}
