//! Every bound that has no configuration key, with its unit and its reason. Bounds of memory that
//! many share are parts of one budget and stand in `memory`.

use std::time::Duration;

use crate::config::Config;

/// Produce requests of one connection that may wait for their sync at a time. Java's producer has
/// 5 in flight, librdkafka up to 1,000,000 by setting; 64 keeps a commit group full.
pub(crate) const REQUESTS_AHEAD_MAX: usize = 64;

/// A frame of at most so many bytes is read without asking for memory first, so that those who ask
/// for little never wait for those who send much: 16 MiB for `max.connections=1000`.
pub(crate) const SMALL_FRAME_BYTES: usize = 16 * 1024;

/// Memory of a larger frame grows by so much at a time while its bytes arrive.
pub(crate) const READ_STEP_BYTES: usize = 256 * 1024;

/// A fetch gets at most so much of one partition: what one read takes from the disk.
pub(crate) const FETCH_STEP_BYTES: usize = 8 * 1024 * 1024;

/// A request is worked on when so much room is left for its reply.
pub(crate) const REPLY_ROOM_BYTES: usize = 256 * 1024;

/// Pieces of one vectored write; Linux takes at most 1024 (`IOV_MAX`).
pub(crate) const WRITE_SLICES_MAX: usize = 64;

/// A frame of which nothing more comes for so long is given up: its bytes hold budget.
pub(crate) const FRAME_STALL_MAX: Duration = Duration::from_secs(30);

/// A client that takes no byte of a reply for so long is gone or hostile.
pub(crate) const WRITE_STALL_MAX: Duration = Duration::from_secs(60);

/// TLS handshake; first request; whole SASL login: each is over after this time. Clients of every
/// kind ask for something as soon as they are connected.
pub(crate) const LOGIN_TIME_MAX: Duration = Duration::from_secs(30);

/// How often certificate files are looked at for a change.
pub(crate) const CERTIFICATES_LOOK_EVERY: Duration = Duration::from_secs(5);

/// Failed logins of one address that cost only `connection.failed.authentication.delay.ms`: a
/// person mistypes, a program with an old password is restarted.
pub(crate) const LOGIN_FAILURES_FREE: u32 = 3;

/// What the next one costs on top; each further one twice as much.
pub(crate) const LOGIN_DELAY_STEP: Duration = Duration::from_millis(100);

/// The most that a failure costs on top. Far below the 30 s after which Java's clients give up a
/// request, so that they still hear why they were refused.
pub(crate) const LOGIN_DELAY_MAX: Duration = Duration::from_secs(5);

/// Failures beyond it are not counted: the delay has reached its bound, and is to be forgotten
/// within minutes.
pub(crate) const LOGIN_FAILURES_COUNTED_MAX: u32 = 10;

/// After so long without another failure half of an address's failures are forgotten.
pub(crate) const LOGIN_FAILURES_HALVE_AFTER: Duration = Duration::from_secs(60);

/// Logins of one address that are checked, or wait to be answered, at a time. With the delay above
/// it bounds guessing: 8 turns of 5 s are 1.6 guesses a second.
pub(crate) const LOGIN_TURNS: usize = 8;

/// Addresses whose failed logins are remembered; about 200 bytes each.
pub(crate) const LOGIN_ORIGINS_MAX: usize = 1_024;

/// A connection on which nothing was heard is probed after this time, and then so often (nine times
/// on Linux): a peer that vanished without a word is noticed after about four minutes.
pub(crate) const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(120);
pub(crate) const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Fetch sessions kept (Kafka: `max.incremental.fetch.session.cache.slots`).
pub(crate) const FETCH_SESSIONS_MAX: usize = 1_000;

/// Producer ids taken from the state log at a time (Kafka takes 1,000 too).
pub(crate) const PRODUCER_IDS_BLOCK: i64 = 1_000;

/// Partitions of one topic and in all: each costs a folder, a file and some memory.
pub(crate) const PARTITIONS_MAX: usize = 20_000;

/// Partitions that the log may write to before it syncs them: each is an open file, and each new
/// one another. A quarter of what this process may have open leaves room for connections; with more
/// than the largest a sync of all of them would take seconds.
pub(crate) fn writers_max() -> usize {
    const RANGE: (usize, usize) = (64, 16_384);
    #[cfg(unix)]
    let open_files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    #[cfg(not(unix))]
    let open_files: Option<u64> = None;
    let quarter = open_files.and_then(|count| usize::try_from(count / 4).ok());
    quarter.unwrap_or(RANGE.1).clamp(RANGE.0, RANGE.1)
}

/// Access rules. A decision does not get slower with their number; loading and listing them does.
pub(crate) const ACL_RULES_MAX: usize = 20_000;

/// Entities with client quotas. The limit of a request is found by eight look-ups, however many.
pub(crate) const QUOTA_ENTITIES_MAX: usize = 10_000;

/// A user's name or client id in a quota: a part of a key of the state log.
pub(crate) const QUOTA_NAME_BYTES_MAX: usize = 1_024;

/// Length of a topic name (Kafka's own bound: it becomes a folder name).
pub(crate) const TOPIC_NAME_BYTES_MAX: usize = 249;

/// A checkpoint of the pipeline: a value of the state log.
pub(crate) const CHECKPOINT_BYTES_MAX: usize = 512 * 1024;

/// Bytes that one record batch may unpack to where a topic's settings need its records (keys of a
/// compacted topic, times, another codec); see `Turns::at_length`.
pub(crate) const UNPACKED_APPEND_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What unpacks to no more for a topic's settings does so at once: a millisecond or two.
pub(crate) const UNPACKED_AT_ONCE_BYTES_MAX: usize = 1024 * 1024;

/// The same of what is packed anew, which takes ten times as long.
pub(crate) const REPACKED_AT_ONCE_BYTES_MAX: usize = 64 * 1024;

/// The same as `UNPACKED_APPEND_BYTES_MAX` where records are read in this process.
pub(crate) const UNPACKED_BATCH_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The same over HTTP, where a byte may become six of JSON.
pub(crate) const UNPACKED_BATCH_BYTES_MAX_OF_OTHERS: usize = 16 * 1024 * 1024;

/// Memory of a pattern that a client sends, once compiled.
pub(crate) const PATTERN_BYTES_MAX: usize = 256 * 1024;

/// Blocking readers: threads that read what memory does not hold.
pub(crate) const READERS_MAX: usize = 4;

/// The diary is written to disk so often while things happen: a crash takes at most so much of it,
/// and a flood of strange connections costs one small file in this time.
pub(crate) const DIARY_SAVED_EVERY: Duration = Duration::from_secs(5);

/// A stop waits so long for connections to end by themselves.
pub(crate) const SHUTDOWN_TIME_MAX: Duration = Duration::from_secs(5);

/// `connections.max.idle.ms`.
pub(crate) fn idle(config: &Config) -> Duration {
    Duration::from_millis(u64::try_from(config.limits.idle_ms_max).unwrap_or(u64::MAX / 2))
}
