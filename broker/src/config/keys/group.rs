//! The keys of a group (KIP-848, KIP-932), with the broker keys that give their defaults.

use super::{Key, Kind};

const INT: i64 = 2_147_483_647;

pub const GROUP: &[Key] = &[
    Key::new(
        "consumer.session.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "A member of a consumer group (KIP-848) silent for so long is taken for gone.",
    )
    .default("45000")
    .of_group(&[("group.consumer.session.timeout.ms", 1)]),
    Key::new(
        "consumer.heartbeat.interval.ms",
        Kind::Int { min: 1, max: INT },
        "How often a member of a consumer group (KIP-848) is asked to say that it lives.",
    )
    .default("5000")
    .of_group(&[("group.consumer.heartbeat.interval.ms", 1)]),
    Key::new(
        "share.session.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "A member of a share group silent for so long is taken for gone.",
    )
    .default("45000")
    .of_group(&[("group.share.session.timeout.ms", 1)]),
    Key::new(
        "share.heartbeat.interval.ms",
        Kind::Int { min: 1, max: INT },
        "How often a member of a share group is asked to say that it lives.",
    )
    .default("5000")
    .of_group(&[("group.share.heartbeat.interval.ms", 1)]),
    Key::new(
        "share.record.lock.duration.ms",
        Kind::Int { min: 1_000, max: INT },
        "How long a record handed to a member of a share group is kept from the others.",
    )
    .default("30000")
    .of_group(&[("group.share.record.lock.duration.ms", 1)]),
    Key::new(
        "share.delivery.count.limit",
        Kind::Int { min: 2, max: INT },
        "A record that was handed out so often and never read is not handed out again.",
    )
    .default("5")
    .of_group(&[("group.share.delivery.count.limit", 1)]),
    Key::new(
        "share.partition.max.record.locks",
        Kind::Int { min: 100, max: INT },
        "Records of a partition that a share group may have between the first that is not done \
         and the last that was handed out.",
    )
    .default("2000")
    .of_group(&[("group.share.partition.max.record.locks", 1)]),
    Key::new(
        "share.auto.offset.reset",
        Kind::Text,
        "Where a share group begins: earliest, latest, or by_duration: and an ISO 8601 duration.",
    )
    .default("latest")
    .of_group(&[]),
    Key::new(
        "share.isolation.level",
        Kind::OneOf(&["read_committed", "read_uncommitted"]),
        "Whether a share group sees records of transactions that are not committed.",
    )
    .default("read_uncommitted")
    .of_group(&[]),
];
