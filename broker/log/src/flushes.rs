//! Whether the journal's syncs take long: because this disk's flush does, or because there is much
//! to write. Then syncs had better go together: of several files, and of several groups.

use std::time::Duration;

/// A flush alone takes 5 ms on a consumer SSD, 15 on an SD card, a tenth of one where the disk's
/// cache is protected; a group of 3 MiB takes some milliseconds more anywhere.
const SLOW: Duration = Duration::from_millis(1);
/// The shortest of so many counts: a disk that stood still once is not a slow one.
const FLUSHES: usize = 8;

#[derive(Default)]
pub(crate) struct Flushes {
    recent: [Duration; FLUSHES],
    next: usize,
}

impl Flushes {
    pub fn add(&mut self, took: Duration) {
        self.recent[self.next] = took;
        self.next = (self.next + 1) % FLUSHES;
    }

    pub fn are_slow(&self) -> bool {
        self.recent.iter().all(|took| *took >= SLOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_slow(millis: &[u64]) -> bool {
        let mut flushes = Flushes::default();
        millis.iter().for_each(|millis| flushes.add(Duration::from_millis(*millis)));
        flushes.are_slow()
    }

    #[test]
    fn a_disk_is_slow_if_each_of_the_last_eight_flushes_was() {
        assert!(are_slow(&[5; 8]) && are_slow(&[0, 5, 5, 5, 5, 5, 5, 5, 1]));
        assert!(!are_slow(&[5; 7]) && !are_slow(&[]) && !are_slow(&[900, 900, 0, 900, 5, 5, 5, 5]));
    }
}
