//! A disk that loses power: mounts a folder, and cuts it on request. See the README beside it.
//!
//! ```text
//! odradek-powercut FOLDER MOUNTPOINT [--sync-delay-ms N] [--names apart|journal] [--direct]
//!   says `mounted`, then reads lines from standard input, which it ends with:
//!   cut SEED fail|hang REQUESTS   the power goes after so many more changes and syncs; says what
//!                                 was lost, a line each, and `done` once FOLDER is the plain image
//! ```

mod content;
mod cut;
mod disk;
mod layer;
mod plain;
mod power;

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Config, MountOption};
use lexopt::ValueExt;

use disk::{Disk, Names};
use power::{Afterwards, Machine};

struct Arguments {
    folder: PathBuf,
    mountpoint: PathBuf,
    sync_delay: Duration,
    names: Names,
    direct: bool,
}

fn main() -> ExitCode {
    match arguments().and_then(|arguments| run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("odradek-powercut: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn arguments() -> Outcome<Arguments> {
    let mut parser = lexopt::Parser::from_env();
    let mut paths: Vec<OsString> = Vec::new();
    let (mut sync_delay, mut names, mut direct) = (Duration::ZERO, Names::Apart, false);
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Value(path) => paths.push(path),
            lexopt::Arg::Long("sync-delay-ms") => {
                sync_delay = Duration::from_millis(parser.value()?.parse()?);
            }
            lexopt::Arg::Long("names") => {
                names = match parser.value()?.string()?.as_str() {
                    "apart" => Names::Apart,
                    "journal" => Names::Journal,
                    other => return Err(format!("--names is apart or journal, not {other}").into()),
                }
            }
            lexopt::Arg::Long("direct") => direct = true,
            other => return Err(other.unexpected().into()),
        }
    }
    let Ok([folder, mountpoint]) = <[OsString; 2]>::try_from(paths) else {
        return Err("give a folder and where to mount it".into());
    };
    Ok(Arguments {
        folder: folder.into(),
        mountpoint: mountpoint.into(),
        sync_delay,
        names,
        direct,
    })
}

fn run(arguments: &Arguments) -> Outcome<()> {
    let mut disk = Disk::new(&arguments.folder, arguments.names, arguments.direct);
    plain::take_in(&mut disk)?;
    let machine = Arc::new(Machine::new(disk, arguments.sync_delay));
    let flusher = machine.clone();
    std::thread::spawn(move || flusher.run_flushes());
    let mut config = Config::default();
    // The kernel looks at the modes; whoever may enter the mount point may enter.
    config.mount_options =
        vec![MountOption::FSName("powercut".to_owned()), MountOption::DefaultPermissions];
    config.acl = fuser::SessionACL::All;
    let layer = layer::Layer { machine: machine.clone() };
    let session = fuser::spawn_mount(layer, &arguments.mountpoint, &config)?;
    say(&["mounted".to_owned()])?;
    for line in std::io::stdin().lock().lines() {
        let mut said = obey(&machine, &line?)?;
        said.push("done".to_owned());
        say(&said)?;
    }
    drop(session);
    if !machine.is_off() {
        put_back_all(&machine)?;
    }
    Ok(())
}

fn say(lines: &[String]) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

fn obey(machine: &Machine, line: &str) -> Outcome<Vec<String>> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ["cut", seed, afterwards, requests] = words[..] else {
        return Err(format!("`{line}` is no request of this layer").into());
    };
    let afterwards = match afterwards {
        "fail" => Afterwards::Fail,
        "hang" => Afterwards::Hang,
        other => return Err(format!("requests fail or hang after a cut, not {other}").into()),
    };
    let (seed, requests) = (seed.parse()?, requests.parse()?);
    if machine.is_off() {
        return Err("the power is off".into());
    }
    let mut state = machine.switch_off(requests, afterwards);
    if state.disk.direct {
        return Err("with --direct nothing can be cut".into());
    }
    let lost = cut::cut(&mut state.disk, seed)?;
    plain::put_back(&mut state.disk)?;
    Ok(lost)
}

/// The end without a cut: everything that readers saw.
fn put_back_all(machine: &Machine) -> Outcome<()> {
    let mut state = machine.end();
    let disk = &mut state.disk;
    let changes = std::mem::take(&mut disk.name_changes);
    disk.apply_names(changes)?;
    for number in disk.inodes.keys().copied().collect::<Vec<_>>() {
        let moments = disk.moments(number);
        disk.make_durable(number, moments)?;
    }
    Ok(plain::put_back(disk)?)
}
