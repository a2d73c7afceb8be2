//! Every kept input of every target, on the ordinary compiler: what once reached new code, and what
//! once failed, stays harmless.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use odradek_fuzz::TARGETS;

/// One target at a time: they count what the whole process allocates.
static ALONE: Mutex<()> = Mutex::new(());

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The inputs of `corpus/TARGET.bin`: each its length (32 bits, big-endian) and its bytes.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let path = folder("corpus").join(format!("{target}.bin"));
    let packed = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (mut inputs, mut rest) = (Vec::new(), &packed[..]);
    while let Some((length, behind)) = rest.split_first_chunk::<4>() {
        let (input, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        inputs.push(input.to_vec());
        rest = behind;
    }
    assert!(rest.is_empty(), "{}: {} bytes behind the last input", path.display(), rest.len());
    inputs
}

/// Inputs that once failed, each named after what was wrong.
fn once_failed(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = fs::read_dir(folder("regressions").join(target)) else { return Vec::new() };
    let mut inputs = Vec::new();
    for entry in entries {
        let entry = entry.expect("a folder entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        inputs.push((name, fs::read(entry.path()).expect("a file of the checkout")));
    }
    inputs.sort();
    inputs
}

fn replay(target: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("a target");
    let inputs = kept(target);
    assert!(inputs.len() >= 10, "{target} has {} kept inputs", inputs.len());
    for input in &inputs {
        run(input);
    }
    for (name, input) in once_failed(target) {
        println!("{target}: {name}");
        run(&input);
    }
    // Cut off in the middle, and with a byte changed there, they are harmless too.
    for input in inputs.iter().filter(|input| !input.is_empty()) {
        run(&input[..input.len() / 2]);
        let mut changed = input.clone();
        changed[input.len() / 2] ^= 0x81;
        run(&changed);
    }
}

macro_rules! replays {
    ($($target:ident)*) => {
        $(
            #[test]
            fn $target() {
                replay(stringify!($target));
            }
        )*

        #[test]
        fn every_target_is_replayed_and_fuzzed() {
            let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!([$(stringify!($target)),*][..], names);
            let fuzzed = fs::read_dir(folder("libfuzzer/fuzz_targets")).expect("a folder");
            let stem = |path: PathBuf| path.file_stem().map(|s| s.to_string_lossy().into_owned());
            let mut fuzzed: Vec<String> =
                fuzzed.filter_map(|entry| stem(entry.expect("a folder entry").path())).collect();
            fuzzed.sort();
            assert_eq!(fuzzed, names);
            let manifest = fs::read_to_string(folder("libfuzzer/Cargo.toml")).expect("a manifest");
            for name in names {
                assert!(manifest.contains(&format!("name = \"{name}\"\n")), "no [[bin]] of {name}");
            }
        }
    };
}

replays! {
    batch certificate compression disk feed http mqtt payload pipeline properties request sasl
}
