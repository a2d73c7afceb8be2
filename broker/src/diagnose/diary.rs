//! The last odd connections, bounded, and kept over restarts (`kept`); counts by diagnosis since
//! the start for the metrics.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;

use serde::Serialize;

use super::{catalogue, kept};
use crate::clock::now_ms;
use crate::partition::lock;

/// Enough for a day of mistakes; about 200 KiB.
const ENTRIES_MAX: usize = 300;
/// What one client may do wrong in several ways at once: a producer that has no rights is refused
/// its topic and its producer id, and both are worth knowing.
const EVIDENCE_TELLS_APART: [&str; 2] =
    [catalogue::NOT_AUTHORISED, catalogue::NEAR_MISS_TOPIC_NAME];
/// Entries of such a kind for one peer and listener.
const EACH_MAX: usize = 8;
/// Evidence comes from the network and is cut.
const EVIDENCE_CHARS_MAX: usize = 300;

/// One mistake of one peer, as often as it was repeated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub first_ms: i64,
    pub last_ms: i64,
    pub peer: IpAddr,
    pub listener: String,
    pub diagnosis: &'static str,
    /// Of the last time.
    pub evidence: String,
    pub count: u64,
}

#[derive(Debug, Default)]
struct Pages {
    /// Latest at the front.
    entries: VecDeque<Entry>,
    counts: BTreeMap<&'static str, u64>,
    /// Since the start.
    changes: u64,
}

#[derive(Debug, Default)]
pub struct Diary {
    pages: Mutex<Pages>,
    /// Number of the change that is on disk; held while that is written.
    saved: Mutex<u64>,
}

impl Diary {
    /// Takes up what an earlier process kept in this folder.
    pub(crate) fn restore(&self, folder: &Path) {
        let found = kept::read(folder);
        let mut pages = lock(&self.pages);
        pages.entries.extend(found);
        pages.entries.truncate(ENTRIES_MAX);
    }

    /// Writes what changed since the last time, if anything did. Blocks on the disk.
    pub(crate) fn save(&self, folder: &Path) -> io::Result<()> {
        let mut saved = lock(&self.saved);
        let (changes, entries) = {
            let pages = lock(&self.pages);
            (pages.changes, pages.entries.iter().cloned().collect::<Vec<_>>())
        };
        if changes == *saved {
            return Ok(());
        }
        kept::write(folder, &entries)?;
        *saved = changes;
        Ok(())
    }

    /// Keeps the event, and logs it: each mistake of a peer the first time, and then each time its
    /// count has doubled, so that a client in a loop does not fill the log.
    pub fn note(&self, peer: SocketAddr, listener: &str, diagnosis: &'static str, evidence: &str) {
        let evidence = printable(evidence);
        let count = self.keep(now_ms(), peer.ip().to_canonical(), listener, diagnosis, &evidence);
        if !count.is_power_of_two() {
            return;
        }
        let known = catalogue::find(diagnosis);
        let title = known.map_or(diagnosis, |known| known.title);
        let fix = known.map_or("", |known| known.how_to_fix);
        tracing::warn!(%peer, listener, diagnosis, count, evidence, fix, "{title}");
    }

    /// Keeps the event; its owner logs it in its own way.
    pub fn note_quietly(
        &self,
        peer: SocketAddr,
        listener: &str,
        diagnosis: &'static str,
        evidence: &str,
    ) {
        let evidence = printable(evidence);
        self.keep(now_ms(), peer.ip().to_canonical(), listener, diagnosis, &evidence);
    }

    fn keep(
        &self,
        now_ms: i64,
        peer: IpAddr,
        listener: &str,
        diagnosis: &'static str,
        evidence: &str,
    ) -> u64 {
        let mut pages = lock(&self.pages);
        *pages.counts.entry(diagnosis).or_default() += 1;
        pages.changes += 1;
        let alike = |entry: &Entry| {
            entry.peer == peer && entry.diagnosis == diagnosis && entry.listener == listener
        };
        let same = if EVIDENCE_TELLS_APART.contains(&diagnosis) {
            let equal = |entry: &Entry| alike(entry) && entry.evidence == evidence;
            let full = pages.entries.iter().filter(|entry| alike(entry)).count() >= EACH_MAX;
            // Then the oldest gives up its place, so that one client does not fill the diary.
            let oldest = || pages.entries.iter().rposition(alike).filter(|_| full);
            pages.entries.iter().position(equal).or_else(oldest)
        } else {
            pages.entries.iter().position(alike)
        };
        let mut entry = match same.and_then(|at| pages.entries.remove(at)) {
            Some(entry) => entry,
            None => Entry {
                first_ms: now_ms,
                last_ms: now_ms,
                peer,
                listener: listener.to_owned(),
                diagnosis,
                evidence: String::new(),
                count: 0,
            },
        };
        entry.last_ms = now_ms;
        entry.count += 1;
        evidence.clone_into(&mut entry.evidence);
        let count = entry.count;
        pages.entries.push_front(entry);
        pages.entries.truncate(ENTRIES_MAX);
        count
    }

    /// Newest first.
    pub fn entries(&self) -> Vec<Entry> {
        let pages = lock(&self.pages);
        pages.entries.iter().cloned().collect()
    }

    /// How often each diagnosis was made since the start; those of the catalogue that never were
    /// stand there with 0, so that a metric exists before its first event.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let pages = lock(&self.pages);
        let of = |id: &'static str| (id, pages.counts.get(id).copied().unwrap_or_default());
        catalogue::CATALOGUE.iter().map(|diagnosis| of(diagnosis.id)).collect()
    }
}

/// Without anything that could forge lines or colours in a log.
pub(super) fn printable(evidence: &str) -> String {
    let safe = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    evidence.chars().take(EVIDENCE_CHARS_MAX).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use catalogue::{GARBAGE, NOT_AUTHORISED, WRONG_PASSWORD};

    fn peer(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn repeats_of_one_peer_are_one_entry_and_the_latest_stands_first() {
        let diary = Diary::default();
        diary.keep(1, peer(1), "A", GARBAGE, "x");
        diary.keep(2, peer(2), "A", GARBAGE, "y");
        diary.keep(3, peer(1), "A", WRONG_PASSWORD, "z");
        assert_eq!(diary.keep(4, peer(1), "A", GARBAGE, "w"), 2);
        let seen: Vec<_> = diary
            .entries()
            .into_iter()
            .map(|e| (e.peer, e.diagnosis, e.count, e.first_ms, e.last_ms, e.evidence))
            .collect();
        let expected = [
            (peer(1), GARBAGE, 2, 1, 4, "w".to_owned()),
            (peer(1), WRONG_PASSWORD, 1, 3, 3, "z".to_owned()),
            (peer(2), GARBAGE, 1, 2, 2, "y".to_owned()),
        ];
        assert_eq!(seen, expected);
        let counts = diary.counts();
        assert!(counts.contains(&(GARBAGE, 3)) && counts.contains(&(WRONG_PASSWORD, 1)));
        assert_eq!(counts.len(), catalogue::CATALOGUE.len());
    }

    #[test]
    fn what_a_client_is_refused_has_an_entry_each_up_to_a_bound() {
        let diary = Diary::default();
        diary.keep(1, peer(1), "A", NOT_AUTHORISED, "topic");
        diary.keep(2, peer(1), "A", NOT_AUTHORISED, "cluster");
        assert_eq!(diary.keep(3, peer(1), "A", NOT_AUTHORISED, "topic"), 2);
        let evidence = |diary: &Diary| -> Vec<String> {
            diary.entries().into_iter().map(|entry| entry.evidence).collect()
        };
        assert_eq!(evidence(&diary), ["topic", "cluster"]);
        for number in 0..100 {
            diary.keep(4, peer(1), "A", NOT_AUTHORISED, &format!("topic {number}"));
        }
        let kept = evidence(&diary);
        assert_eq!((kept.len(), kept[0].as_str()), (EACH_MAX, "topic 99"));
    }

    #[test]
    fn many_peers_do_not_make_it_grow() {
        let diary = Diary::default();
        for number in 0..2_000_u32 {
            diary.keep(0, IpAddr::from(number.to_be_bytes()), "A", GARBAGE, "x");
        }
        let entries = diary.entries();
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert_eq!(entries[0].peer, IpAddr::from(1_999_u32.to_be_bytes()));
    }

    #[test]
    fn another_process_finds_what_was_noted_and_counts_on() {
        let folder = tempfile::tempdir().unwrap();
        let diary = Diary::default();
        diary.save(folder.path()).unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "nothing happened yet");
        diary.keep(1, peer(1), "A", GARBAGE, "x");
        diary.keep(2, peer(2), "A", GARBAGE, "y");
        diary.save(folder.path()).unwrap();
        let next = Diary::default();
        next.restore(folder.path());
        assert_eq!(next.entries(), diary.entries());
        assert_eq!(next.keep(3, peer(1), "A", GARBAGE, "z"), 2);
        assert!(next.counts().contains(&(GARBAGE, 1)), "counts are of this process");
    }

    #[test]
    fn evidence_cannot_forge_a_line_of_the_log() {
        assert_eq!(printable("a\nb\u{1b}[31m"), "a\u{fffd}b\u{fffd}[31m");
        assert_eq!(printable(&"x".repeat(5_000)).len(), EVIDENCE_CHARS_MAX);
    }
}
