//! The keys of a topic, with the broker keys that give their defaults.

use super::{Key, Kind};

const LONG: i64 = i64::MAX;

/// Kafka's synonyms (`ServerTopicConfigSynonyms`), in the order in which they win.
pub const TOPIC: &[Key] = &[
    Key::new(
        "cleanup.policy",
        Kind::List,
        "What happens to old records: delete, compact, or both.",
    )
    .long(
        "compact keeps the last record of each key; time and size limits apply only with \
               delete.",
    )
    .default("delete")
    .synonyms(&[("log.cleanup.policy", 1)]),
    Key::new(
        "retention.ms",
        Kind::Long { min: -1, max: LONG },
        "How long records are kept; -1: for ever.",
    )
    .default("604800000")
    .synonyms(&[
        ("log.retention.ms", 1),
        ("log.retention.minutes", 60_000),
        ("log.retention.hours", 3_600_000),
    ]),
    Key::new(
        "retention.bytes",
        Kind::Long { min: -1, max: LONG },
        "How much of a partition is kept; -1: all.",
    )
    .default("-1")
    .synonyms(&[("log.retention.bytes", 1)]),
    Key::new(
        "segment.bytes",
        Kind::Int { min: 14, max: 2_147_483_647 },
        "Size of one segment file.",
    )
    .long("Above 128 MiB it counts as 128 MiB: deletion and recovery work by whole segments.")
    .default("1073741824")
    .synonyms(&[("log.segment.bytes", 1)]),
    Key::new(
        "segment.ms",
        Kind::Long { min: 1, max: LONG },
        "Age at which a segment is closed even if it is not full.",
    )
    .default("604800000")
    .synonyms(&[("log.roll.ms", 1), ("log.roll.hours", 3_600_000)]),
    Key::new(
        "max.message.bytes",
        Kind::Int { min: 0, max: 2_147_483_647 },
        "Largest record batch, as sent.",
    )
    .default("1048588")
    .synonyms(&[("message.max.bytes", 1)]),
    Key::new(
        "message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "Whether records keep the producer's time or get the broker's.",
    )
    .default("CreateTime")
    .synonyms(&[("log.message.timestamp.type", 1)]),
    Key::new(
        "min.insync.replicas",
        Kind::Int { min: 1, max: 2_147_483_647 },
        "Kept and shown; there is one replica, and it is always in sync.",
    )
    .default("1")
    .no_effect("as in Kafka it counts no higher than the number of replicas, and there is one")
    .synonyms(&[("min.insync.replicas", 1)]),
    Key::new(
        "compression.type",
        Kind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "The codec that batches are stored with; producer: as they were sent.",
    )
    .long("A batch is unpacked and packed again only if its own codec is another one.")
    .default("producer")
    .synonyms(&[("compression.type", 1)]),
    Key::new(
        "compression.gzip.level",
        Kind::Int { min: -1, max: 9 },
        "Level of gzip, if compression.type asks for it; -1 is gzip's default.",
    )
    .default("-1")
    .synonyms(&[("compression.gzip.level", 1)]),
    Key::new(
        "compression.zstd.level",
        Kind::Int { min: -131_072, max: 22 },
        "Level of zstd, if compression.type asks for it.",
    )
    .default("3")
    .synonyms(&[("compression.zstd.level", 1)]),
    Key::new("compression.lz4.level", Kind::Int { min: 1, max: 17 }, "Kept and shown.")
        .default("9")
        .no_effect("lz4 is written at one level")
        .synonyms(&[("compression.lz4.level", 1)]),
    Key::new(
        "delete.retention.ms",
        Kind::Long { min: 0, max: LONG },
        "How long the record that deletes a key stays once compaction has met it.",
    )
    .default("86400000")
    .synonyms(&[("log.cleaner.delete.retention.ms", 1)]),
    Key::new(
        "min.compaction.lag.ms",
        Kind::Long { min: 0, max: LONG },
        "Compaction leaves segments with younger records alone.",
    )
    .default("0")
    .synonyms(&[("log.cleaner.min.compaction.lag.ms", 1)]),
    Key::new(
        "max.compaction.lag.ms",
        Kind::Long { min: 1, max: LONG },
        "A partition with older records that were never compacted is due, whatever its share.",
    )
    .long("The newest segment is closed at this age too, as in Kafka when a record comes.")
    .default("9223372036854775807")
    .synonyms(&[("log.cleaner.max.compaction.lag.ms", 1)]),
    Key::new(
        "min.cleanable.dirty.ratio",
        Kind::Ratio,
        "A partition is compacted when more than this share of it was not yet.",
    )
    .default("0.5")
    .synonyms(&[("log.cleaner.min.cleanable.ratio", 1)]),
    Key::new(
        "flush.messages",
        Kind::Long { min: 1, max: LONG },
        "Kept and shown; every answer waits for the disk.",
    )
    .default("9223372036854775807")
    .no_effect("every acknowledged record is on the disk already")
    .synonyms(&[("log.flush.interval.messages", 1)]),
    Key::new(
        "flush.ms",
        Kind::Long { min: 0, max: LONG },
        "Kept and shown; every answer waits for the disk.",
    )
    .default("9223372036854775807")
    .no_effect("every acknowledged record is on the disk already")
    .synonyms(&[("log.flush.interval.ms", 1)]),
    Key::new("file.delete.delay.ms", Kind::Long { min: 0, max: LONG }, "Kept and shown.")
        .default("60000")
        .no_effect("files are removed as soon as nobody reads them")
        .synonyms(&[("log.segment.delete.delay.ms", 1)]),
    Key::new("segment.index.bytes", Kind::Int { min: 4, max: 2_147_483_647 }, "Kept and shown.")
        .default("10485760")
        .no_effect("the index has no fixed size")
        .synonyms(&[("log.index.size.max.bytes", 1)]),
    Key::new("index.interval.bytes", Kind::Int { min: 0, max: 2_147_483_647 }, "Kept and shown.")
        .default("4096")
        .no_effect("the index has an entry about every 64 KiB")
        .synonyms(&[("log.index.interval.bytes", 1)]),
    Key::new("segment.jitter.ms", Kind::Long { min: 0, max: LONG }, "Kept and shown.")
        .default("0")
        .no_effect("segments are closed at their age without jitter")
        .synonyms(&[("log.roll.jitter.ms", 1), ("log.roll.jitter.hours", 3_600_000)]),
    Key::new("preallocate", Kind::Bool, "Kept and shown.")
        .default("false")
        .no_effect("segments grow as they are written")
        .synonyms(&[("log.preallocate", 1)]),
    Key::new("unclean.leader.election.enable", Kind::Bool, "Kept and shown; there is one replica.")
        .default("false")
        .no_effect("there is one replica")
        .synonyms(&[("unclean.leader.election.enable", 1)]),
    Key::new(
        "message.timestamp.before.max.ms",
        Kind::Long { min: 0, max: LONG },
        "How far before the broker's clock a record's time may lie.",
    )
    .long("Only with message.timestamp.type=CreateTime. A record outside is INVALID_TIMESTAMP.")
    .default("9223372036854775807")
    .synonyms(&[("log.message.timestamp.before.max.ms", 1)]),
    Key::new(
        "message.timestamp.after.max.ms",
        Kind::Long { min: 0, max: LONG },
        "How far after the broker's clock a record's time may lie.",
    )
    .long("Only with message.timestamp.type=CreateTime. A record outside is INVALID_TIMESTAMP.")
    .default("9223372036854775807")
    .differs("3600000", "replays and forecasts carry times that are not now")
    .synonyms(&[("log.message.timestamp.after.max.ms", 1)]),
    Key::new("remote.storage.enable", Kind::OneOf(&["false"]), "Kept and shown.")
        .default("false")
        .no_effect("there is no remote storage")
        .synonyms(&[]),
    Key::new("remote.log.copy.disable", Kind::Bool, "Kept and shown.")
        .default("false")
        .no_effect("there is no remote storage")
        .synonyms(&[]),
    Key::new("remote.log.delete.on.disable", Kind::Bool, "Kept and shown.")
        .default("false")
        .no_effect("there is no remote storage")
        .synonyms(&[]),
    Key::new("local.retention.ms", Kind::Long { min: -2, max: LONG }, "Kept and shown.")
        .default("-2")
        .no_effect("there is no remote storage")
        .synonyms(&[("log.local.retention.ms", 1)]),
    Key::new("local.retention.bytes", Kind::Long { min: -2, max: LONG }, "Kept and shown.")
        .default("-2")
        .no_effect("there is no remote storage")
        .synonyms(&[("log.local.retention.bytes", 1)]),
    Key::new("leader.replication.throttled.replicas", Kind::List, "Kept and shown.")
        .default("")
        .no_effect("there is one replica")
        .synonyms(&[]),
    Key::new("follower.replication.throttled.replicas", Kind::List, "Kept and shown.")
        .default("")
        .no_effect("there is one replica")
        .synonyms(&[]),
];
