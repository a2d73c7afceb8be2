//! The diary over restarts: `diary.json` in the data folder.
//!
//! Written whole beside the old one and renamed over it, a few seconds after something changed, by
//! the one process that holds the data folder. It is not synced: what a power cut takes of it is a
//! few lines about strangers, and a sync would stand in the way of the records'. A file that cannot
//! be read is set aside as `diary.json.damaged`; entries of diagnoses that this version does not
//! know are dropped.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::catalogue;
use super::diary::{Entry, printable};

const NAME: &str = "diary.json";
/// Several times what the entries of a full diary need.
const FILE_BYTES_MAX: u64 = 2 << 20;
const LISTENER_CHARS_MAX: usize = 100;

#[derive(Serialize)]
struct Written<'a> {
    entries: &'a [Entry],
}

#[derive(Deserialize)]
struct Found {
    entries: Vec<FoundEntry>,
}

#[derive(Deserialize)]
struct FoundEntry {
    first_ms: i64,
    last_ms: i64,
    peer: IpAddr,
    listener: String,
    diagnosis: String,
    evidence: String,
    count: u64,
}

/// Replaces what is kept in this folder.
pub(super) fn write(folder: &Path, entries: &[Entry]) -> io::Result<()> {
    let json = serde_json::to_vec(&Written { entries })?;
    let temporary = folder.join(format!("{NAME}.new"));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written = options
        .open(&temporary)
        .and_then(|mut file| file.write_all(&json))
        .and_then(|()| fs::rename(&temporary, folder.join(NAME)));
    if written.is_err() {
        // Half of it is of no use, and may be what fills the disk.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// What was kept, newest first; nothing if there is no file.
pub(super) fn read(folder: &Path) -> Vec<Entry> {
    let path = folder.join(NAME);
    match parse(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => {
            let aside = folder.join(format!("{NAME}.damaged"));
            let moved = fs::rename(&path, &aside);
            let kept_as = moved.map_or_else(|e| e.to_string(), |()| aside.display().to_string());
            tracing::warn!(
                file = %path.display(), %error, %kept_as,
                "the diary of odd connections cannot be read and begins anew"
            );
            Vec::new()
        }
    }
}

fn parse(path: &Path) -> io::Result<Vec<Entry>> {
    let bytes = fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("{bytes} bytes are no diary")));
    }
    let found: Found = serde_json::from_slice(&fs::read(path)?)?;
    let entries = found.entries.into_iter().filter_map(|entry| {
        let diagnosis = catalogue::find(&entry.diagnosis)?.id;
        Some(Entry {
            first_ms: entry.first_ms,
            last_ms: entry.last_ms,
            peer: entry.peer,
            listener: printable(&entry.listener).chars().take(LISTENER_CHARS_MAX).collect(),
            diagnosis,
            evidence: printable(&entry.evidence),
            count: entry.count,
        })
    });
    Ok(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(diagnosis: &'static str) -> Entry {
        Entry {
            first_ms: 1,
            last_ms: 2,
            peer: IpAddr::from([192, 0, 2, 7]),
            listener: "LAN".to_owned(),
            diagnosis,
            evidence: "the first bytes are ü".to_owned(),
            count: 3,
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        assert!(read(folder.path()).is_empty());
        let entries = [entry(catalogue::GARBAGE), entry(catalogue::WRONG_PASSWORD)];
        write(folder.path(), &entries[..1]).unwrap();
        write(folder.path(), &entries).unwrap();
        assert_eq!(read(folder.path()), entries);
        assert!(!folder.path().join("diary.json.new").exists());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = fs::metadata(folder.path().join(NAME)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_file_is_set_aside() {
        for damage in
            [&b""[..], b"{\"entries\":[{", b"\0\0\0\0", b"{\"entries\":[{\"peer\":\"x\"}]}"]
        {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(NAME), damage).unwrap();
            assert!(read(folder.path()).is_empty());
            let aside = folder.path().join("diary.json.damaged");
            assert_eq!(fs::read(aside).unwrap(), damage);
            assert!(!folder.path().join(NAME).exists());
        }
    }

    #[test]
    fn diagnoses_of_a_newer_version_are_dropped_and_texts_made_printable() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"entries":[
            {"first_ms":1,"last_ms":2,"peer":"::1","listener":"A","diagnosis":"from-the-future",
             "evidence":"","count":1},
            {"first_ms":1,"last_ms":2,"peer":"::1","listener":"A","diagnosis":"garbage",
             "evidence":"a\u001b[31m","count":1,"new_field":true}]}"#;
        fs::write(folder.path().join(NAME), text).unwrap();
        let entries = read(folder.path());
        assert_eq!(entries.len(), 1);
        assert_eq!((entries[0].diagnosis, &*entries[0].evidence), ("garbage", "a\u{fffd}[31m"));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_an_error_and_nothing_more() {
        let folder = tempfile::tempdir().unwrap();
        assert!(write(&folder.path().join("none"), &[entry(catalogue::GARBAGE)]).is_err());
    }
}
