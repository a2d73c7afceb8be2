//! Every bound of the ingest layer, with its unit and its reason.

use std::time::Duration;

/// Rows of a file in one unit. At the measured 2 to 5 ms a sync, 336,776 rows take 337 syncs.
pub const CSV_ROWS_PER_UNIT_MAX: usize = 1_000;
/// Units that are decoded ahead of the commit, so that decoding and syncing overlap.
pub const CSV_UNITS_AHEAD: usize = 2;
/// A unit is sent earlier when its rows reach this, so that wide files make no huge group.
pub const CSV_UNIT_BYTES_MAX: usize = 1 << 20;
/// One row; a file without line ends must not fill the memory.
pub const CSV_ROW_BYTES_MAX: u64 = 4 << 20;
/// How much of a file's beginning tells it from another file.
pub const FINGERPRINT_BYTES: u64 = 64 << 10;
/// An array record holds at most this many rows.
pub const ROWS_PER_RECORD_MAX: usize = 1_000;

/// Frames of a socket in one unit, when no ping asks for a commit before.
pub const FRAMES_PER_UNIT_MAX: usize = 1_000;
/// Bytes of a socket's frames in one unit.
pub const FRAMES_BYTES_MAX: usize = 1 << 20;
/// How long a frame may wait for others before it is committed.
pub const FRAME_LINGER: Duration = Duration::from_millis(5);
/// A ticker's frames have about 100 bytes; an exploded array may have more.
pub const FRAME_BYTES_MAX: usize = 4 << 20;
/// Documents that one frame may explode into.
pub const DOCUMENTS_PER_FRAME_MAX: usize = 10_000;

/// An MQTT message: its topic and its payload. A larger one is skipped and never held in memory.
pub const MQTT_MESSAGE_BYTES_MAX: usize = 256 << 10;
/// Key and value of a record of it, written out: a float such as `1e15` becomes four times as long.
/// With what is in the batch before it (512 KiB at most) it fits into a topic's usual
/// `max.message.bytes` of 1 MiB.
pub const MQTT_RECORD_BYTES_MAX: usize = 500 << 10;
/// A topic's name stands in the key, a header and perhaps a field of each of its records.
pub const MQTT_TOPIC_BYTES_MAX: usize = 1 << 10;
/// Filters of one source: they are sent in one packet, and every message is compared with them.
pub const MQTT_FILTERS_MAX: usize = 100;
/// The standard allows 64 KiB.
pub const PASSWORD_BYTES_MAX: u64 = 64 << 10;

/// Recent records that are remembered to recognise a repetition, for all keys of a socket
/// together. 16 bytes each, about 3 MiB with the tables around them. It must hold what a server
/// may send again after a cut: all frames since the last pong that reached it.
pub const RECENT_RECORDS_MAX: usize = 65_536;
/// Each key keeps at least this many, so that a quiet symbol is not forgotten for a busy one.
pub const RECENT_PER_KEY_MIN: usize = 64;
/// Keys that are told apart; all further ones share one window.
pub const RECENT_KEYS_MAX: usize = 1_024;
/// One step of reading the tail of a topic when the window is rebuilt.
pub const TAIL_FETCH_BYTES: usize = 1 << 20;

/// Sockets of one source.
pub const SOCKETS_MAX: usize = 64;
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A write that the other side does not take up for so long is a dead socket.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Records of the synthetic history in one unit.
pub const SYNTHETIC_RECORDS_PER_UNIT_MAX: usize = 2_000;
/// The longest history: a day, so that a typing error does not fill a disk.
pub const SYNTHETIC_HISTORY_MAX: Duration = Duration::from_secs(24 * 3600);

/// What went wrong, in a dead letter. It may quote the input, which is in the value as a whole.
pub const DEAD_LETTER_DETAIL_BYTES_MAX: usize = 1 << 10;

/// How long `stop` waits for the sources to finish the unit they are at.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Waiting time after the first, second, … refused commit: doubles up to the second value.
pub const COMMIT_RETRY_MIN: Duration = Duration::from_millis(100);
pub const COMMIT_RETRY_MAX: Duration = Duration::from_secs(5);

/// Event times outside this range go to the dead-letter topic: they come from a wrong unit
/// (seconds read as milliseconds, or the reverse), never from a market or a timetable.
pub const EVENT_TIME_MIN_MS: i64 = 631_152_000_000; // 1990-01-01T00:00:00Z
pub const EVENT_TIME_END_MS: i64 = 4_102_444_800_000; // 2100-01-01T00:00:00Z
