//! The one memory budget, `odradek.memory.max.bytes`, and who has which part of it.
//!
//! What grows with requests, records or partitions takes its bound from [`TABLE`] and from nowhere
//! else, in this package, in the log and in the HTTP API. Who comes to the end of a part waits, or
//! writes out early; no part borrows from another. What the table leaves is the program itself, its
//! threads, what there is of topics, groups and connections, and what the allocator has not given
//! back yet.
//!
//! On top come at most, and seldom: one request that is larger than its part, up to half of the
//! budget; twice what a policy unpacks for each spare core and one more; and, for each spare core,
//! what one read unpacks: 8 MiB and its last batch.

use std::sync::Arc;

use crate::broker::Broker;
use crate::budget::Budget;
use crate::config::Config;

/// One request at a time may be larger than its part, but no larger than this.
pub(crate) fn request_bytes_max(config: &Config) -> usize {
    usize::try_from(config.memory_bytes_max / 2).unwrap_or(usize::MAX)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    ArrivingRequests,
    StrangersRequests,
    Requests,
    Replies,
    UnpackedRecords,
    HttpBodies,
    HttpAnswers,
    TailCache,
    CommitGroups,
    ActiveIndexes,
    SealedIndexes,
    CompactionMap,
    Sled,
}

struct Row {
    part: Part,
    /// The label of its metrics.
    name: &'static str,
    /// Of the budget.
    in_64ths: u64,
    holds: &'static str,
}

const fn row(part: Part, name: &'static str, in_64ths: u64, holds: &'static str) -> Row {
    Row { part, name, in_64ths, holds }
}

/// In the order of [`Part`]. A test holds the README's table to it.
const TABLE: [Row; 13] = {
    use Part::*;
    [
        row(ArrivingRequests, "arriving_requests", 4, "requests that have not arrived whole"),
        row(StrangersRequests, "strangers_requests", 1, "the same of who has not logged in"),
        row(
            Requests,
            "requests",
            3,
            "requests that are worked on, until a group has their records",
        ),
        row(Replies, "replies", 8, "reads in flight: replies that were not taken yet"),
        row(UnpackedRecords, "unpacked_records", 6, "records read in this process and by HTTP"),
        row(HttpBodies, "http_bodies", 4, "bodies of HTTP requests"),
        row(HttpAnswers, "http_answers", 3, "answers with large records on their way out"),
        row(TailCache, "tail_cache", 6, "the last batches, for readers that keep up"),
        row(
            CommitGroups,
            "commit_groups",
            4,
            "groups that are being written, and not yet in segments",
        ),
        row(ActiveIndexes, "active_indexes", 3, "indexes of active segments, not yet written"),
        row(SealedIndexes, "sealed_indexes", 2, "indexes of sealed segments, as last looked at"),
        row(CompactionMap, "compaction_map", 2, "keys of what is being compacted"),
        row(Sled, "sled", 4, "sled, its cache a quarter of it"),
    ]
};

impl Part {
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.part)
    }

    fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What is in it, in a few words.
    pub fn holds(self) -> &'static str {
        self.row().holds
    }

    /// Its bound. More than 2 GiB are of no use to any.
    pub fn bytes_max(self, config: &Config) -> usize {
        let bytes = (config.memory_bytes_max / 64).saturating_mul(self.row().in_64ths);
        usize::try_from(bytes.min(1 << 31)).unwrap_or(1 << 31)
    }

    pub(crate) fn budget(self, config: &Config) -> Arc<Budget> {
        Budget::new(self.bytes_max(config))
    }
}

/// A part as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Use {
    pub part: Part,
    pub bytes: usize,
    pub bytes_max: usize,
}

/// The parts of the HTTP API.
#[derive(Debug, Clone)]
pub struct HttpBudgets {
    pub bodies: Arc<Budget>,
    pub answers: Arc<Budget>,
}

impl HttpBudgets {
    pub fn of(config: &Config) -> Self {
        let [bodies, answers] = [Part::HttpBodies, Part::HttpAnswers];
        Self { bodies: bodies.budget(config), answers: answers.budget(config) }
    }
}

impl Broker {
    /// What each part of the budget holds now.
    pub fn memory(&self) -> Vec<Use> {
        let (inner, config) = (&*self.inner, &self.inner.static_config);
        let stats = self.core().log.stats();
        let of = |part: Part| match part {
            Part::ArrivingRequests => inner.arriving_bytes.bytes(),
            Part::StrangersRequests => inner.stranger_bytes.bytes(),
            Part::Requests => inner.working_bytes.bytes(),
            Part::Replies => inner.reply_bytes.bytes(),
            Part::UnpackedRecords => inner.unpacked_bytes.bytes(),
            Part::HttpBodies => inner.http.bodies.bytes(),
            Part::HttpAnswers => inner.http.answers.bytes(),
            Part::TailCache => as_usize(stats.tail_cache_bytes),
            Part::CommitGroups => as_usize(stats.unsettled_bytes),
            Part::ActiveIndexes => as_usize(stats.active_index_bytes),
            Part::SealedIndexes => as_usize(stats.sealed_index_bytes),
            Part::CompactionMap => as_usize(stats.compaction_map_bytes),
            Part::Sled => as_usize(stats.sled_bytes),
        };
        Part::all()
            .map(|part| Use { part, bytes: of(part), bytes_max: part.bytes_max(config) })
            .collect()
    }

    pub fn http_budgets(&self) -> HttpBudgets {
        self.inner.http.clone()
    }
}

fn as_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_together_leave_room_for_the_program() {
        assert!(TABLE.iter().enumerate().all(|(index, row)| row.part as usize == index));
        // 19 MiB resident when idle (tests/bench, `start`), the rest for what the allocator keeps.
        let program_in_64ths = 56 / (256 / 64);
        let parts_in_64ths: u64 = TABLE.iter().map(|row| row.in_64ths).sum();
        assert_eq!(parts_in_64ths + program_in_64ths, 64);
        // `Options::unsettled_bytes_max` says why.
        assert!(Part::CommitGroups.row().in_64ths * 4 <= Part::TailCache.row().in_64ths * 3);
        let mut config = Config::defaults();
        for bytes_max in [64 << 20, (64 << 20) + 63, 256 << 20, u64::MAX] {
            config.memory_bytes_max = bytes_max;
            let sum: usize = Part::all().map(|part| part.bytes_max(&config)).sum();
            assert!(u64::try_from(sum).unwrap() < bytes_max, "{sum} of {bytes_max}");
        }
    }

    #[test]
    fn the_readme_has_the_table() {
        let config = Config::defaults();
        let rows = TABLE.iter().map(|row| {
            let mib = row.part.bytes_max(&config) >> 20;
            format!("| `{}` | {} | {mib} | {} |\n", row.name, row.in_64ths, row.holds)
        });
        let wanted: String = rows.collect();
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap().replace('\r', "");
        assert!(readme.contains(&wanted), "broker/README.md lacks these rows:\n{wanted}");
    }
}
