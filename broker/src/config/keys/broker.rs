//! The keys of `server.properties` that this broker uses, by section of the sample file.

use super::{Key, Kind, Scope};

const INT: i64 = 2_147_483_647;
const LONG: i64 = i64::MAX;

pub const SECTIONS: &[(&str, &[Key])] = &[
    ("Where clients connect", LISTENERS),
    ("Login (listeners with SASL_PLAINTEXT or SASL_SSL)", LOGIN),
    ("TLS (listeners with SSL or SASL_SSL)", TLS),
    ("Data and durability", DATA),
    ("Topics", TOPICS),
    ("Log compaction (topics with cleanup.policy=compact)", COMPACTION),
    ("Groups and producers", GROUPS),
    ("Consumer groups of KIP-848", CONSUMER_GROUPS),
    ("Share groups", SHARE_GROUPS),
    ("Limits", LIMITS),
];

const LISTENERS: &[Key] = &[
    Key::new(
        "listeners",
        Kind::List,
        "Names, addresses and ports to listen on: NAME://host:port, …",
    )
    .long(
        "An empty host means every address of this machine. Listeners beyond 127.0.0.1 \
               without login (PLAINTEXT, SSL) start, with a warning.",
    )
    .default("PLAINTEXT://127.0.0.1:9092")
    .differs("PLAINTEXT://:9092", "without a configuration nobody else may reach the broker")
    .dynamic(),
    Key::new("advertised.listeners", Kind::List, "Addresses that clients are told to use.").long(
        "Not set: each client is told the address at which it reached the broker, which \
               works on a LAN, in containers and on the machine itself. Set it when a router or \
               proxy stands between.",
    ),
    Key::new(
        "listener.security.protocol.map",
        Kind::List,
        "Protocol of each listener name: NAME:PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL, …",
    )
    .default("PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL")
    .dynamic(),
    Key::new(
        "controller.listener.names",
        Kind::List,
        "Listeners of a Kafka quorum: not opened here.",
    ),
    Key::new(
        "node.id",
        Kind::Int { min: 0, max: INT },
        "Number of this broker in what clients see.",
    )
    .default("1")
    .differs("none", "there is only one"),
    Key::new("broker.id", Kind::Int { min: -1, max: INT }, "Older name of node.id."),
    Key::new("broker.rack", Kind::Text, "Name of the place where this broker stands."),
    Key::new("odradek.cluster.id", Kind::Text, "Id of the cluster that clients see.")
        .long("Not set: made at the first start and kept with the data."),
    Key::new(
        "odradek.http.listen",
        Kind::Text,
        "host:port of the HTTP API and console; empty: none.",
    )
    .default("127.0.0.1:8080"),
    Key::new(
        "odradek.allow.unauthenticated.network",
        Kind::Bool,
        "true: listeners without login beyond 127.0.0.1 are meant; do not warn.",
    )
    .default("false"),
];

const LOGIN: &[Key] = &[
    Key::new("sasl.enabled.mechanisms", Kind::List, "Ways to log in.")
        .scope(Scope::Listener)
        .default("PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
        .differs("GSSAPI", "Kerberos is not offered")
        .dynamic(),
    Key::new(
        "sasl.jaas.config",
        Kind::Password,
        "Users in Kafka's form: … required user_NAME=\"PASSWORD\" …;",
    )
    .scope(Scope::Mechanism)
    .long(
        "Also with Kafka's prefix listener.name.NAME.plain. — the class is not looked at. \
               Users hold for all listeners. What is set while the broker runs wins over the \
               file, and is kept as verifiers. Better: `odradek user add NAME`, which keeps no \
               password in a file.",
    )
    .dynamic(),
    Key::new(
        "connections.max.reauth.ms",
        Kind::Long { min: 0, max: LONG },
        "How long a login lasts; 0: as long as its connection.",
    )
    .scope(Scope::Mechanism)
    .default("0")
    .long(
        "Newer clients log in again by themselves in time (KIP-368); the connection of one that \
               does not is closed. Also as listener.name.NAME.scram-sha-256.…",
    ),
    Key::new(
        "connection.failed.authentication.delay.ms",
        Kind::Int { min: 0, max: INT },
        "A failed login is answered so much later.",
    )
    .default("100")
    .long(
        "On top of it comes a delay that grows with the failures from one address, up to 5 \
               seconds, and is forgotten within minutes.",
    ),
    Key::new("odradek.jaas.file", Kind::Text, "Path of a kafka_server_jaas.conf with users.")
        .long("Also taken from KAFKA_OPTS=-Djava.security.auth.login.config=PATH."),
    Key::new("authorizer.class.name", Kind::Text, "Switches access rules (ACLs) on.").long(
        "Write org.apache.kafka.metadata.authorizer.StandardAuthorizer; Kafka's older name, \
               kafka.security.authorizer.AclAuthorizer, means the same. Not set: who can log in \
               may do everything. Rules are made with kafka-acls and kept with the data.",
    ),
    Key::new("super.users", Kind::Text, "Who may do everything: User:alice;User:bob."),
    Key::new(
        "allow.everyone.if.no.acl.found",
        Kind::Bool,
        "With access rules: everybody may do what no rule stands for.",
    )
    .default("false"),
];

const TLS: &[Key] = &[
    Key::new("ssl.keystore.type", Kind::Text, "Only PEM.")
        .scope(Scope::Listener)
        .default("PEM")
        .differs("JKS", "PEM files are what certificate tools write")
        .dynamic(),
    Key::new(
        "ssl.keystore.location",
        Kind::Text,
        "PEM file with the private key and its certificates.",
    )
    .scope(Scope::Listener)
    .dynamic(),
    Key::new("ssl.keystore.key", Kind::Password, "Private key in PEM, instead of a file.")
        .scope(Scope::Listener)
        .dynamic(),
    Key::new(
        "ssl.keystore.certificate.chain",
        Kind::Text,
        "Certificates in PEM, instead of a file.",
    )
    .scope(Scope::Listener)
    .dynamic(),
    Key::new("ssl.key.password", Kind::Password, "Refused: an encrypted private key is not read.")
        .scope(Scope::Listener)
        .dynamic(),
    Key::new("ssl.truststore.type", Kind::Text, "Only PEM.")
        .scope(Scope::Listener)
        .default("PEM")
        .differs("JKS", "PEM files are what certificate tools write")
        .dynamic(),
    Key::new(
        "ssl.truststore.location",
        Kind::Text,
        "PEM file: authorities that sign clients' certificates.",
    )
    .scope(Scope::Listener)
    .dynamic(),
    Key::new("ssl.truststore.certificates", Kind::Text, "The same in PEM, instead of a file.")
        .scope(Scope::Listener)
        .dynamic(),
    Key::new(
        "ssl.client.auth",
        Kind::OneOf(&["none", "requested", "required"]),
        "Whether clients must show a certificate.",
    )
    .scope(Scope::Listener)
    .default("none")
    .dynamic(),
    Key::new(
        "ssl.principal.mapping.rules",
        Kind::Text,
        "How a client certificate's name becomes a user's name.",
    )
    .scope(Scope::Listener)
    .default("DEFAULT")
    .long(
        "RULE:pattern/replacement/[L|U] and DEFAULT, divided by commas; the first that fits \
               counts, and who fits none is not let in. DEFAULT is the whole name.",
    ),
    Key::new("ssl.enabled.protocols", Kind::List, "TLS versions offered: TLSv1.2, TLSv1.3.")
        .scope(Scope::Listener)
        .default("TLSv1.2,TLSv1.3")
        .dynamic(),
];

const DATA: &[Key] = &[
    Key::new("log.dirs", Kind::List, "The folder of all data.")
        .long("One folder. A relative path counts from where the broker is started.")
        .default("odradek-data")
        .differs("/tmp/kafka-logs", "many systems empty /tmp at a restart"),
    Key::new("log.dir", Kind::Text, "Older name of log.dirs, which wins."),
    Key::new(
        "odradek.durability",
        Kind::OneOf(&["sync", "interval"]),
        "When a record counts as stored.",
    )
    .long(
        "sync: producers are answered after the disk has it; it survives a power cut. \
               interval: answered before; a power cut may take up to log.flush.interval.ms, and \
               consumers that had read it are not told.",
    )
    .default("sync")
    .differs("interval", "a home server has no second replica that would save the record"),
    Key::new(
        "log.flush.interval.ms",
        Kind::Long { min: 1, max: LONG },
        "With odradek.durability=interval: longest loss.",
    )
    .default("1000")
    .differs("never", "see odradek.durability")
    .dynamic(),
    Key::new(
        "odradek.log.store",
        Kind::OneOf(&["segments", "sled"]),
        "What keeps the records on the disk.",
    )
    .long(
        "segments: files in a folder a partition, as Kafka's. sled: one database, with few files \
               and several times the bytes written. What is acknowledged is as safe in both until \
               it leaves the journal; after that a power cut may damage the database. A folder \
               keeps the store that it was made with.",
    )
    .default("segments"),
    Key::new(
        "odradek.disk.reserve.bytes",
        Kind::Long { min: 0, max: LONG },
        "Free disk space that records may not use.",
    )
    .long("Below it producers are refused, so that old records can still be removed.")
    .default("268435456"),
    Key::new(
        "odradek.memory.max.bytes",
        Kind::Long { min: 67_108_864, max: LONG },
        "Memory for requests, replies, recent records, indexes and caches together.",
    )
    .long(
        "Each has a fixed share, and who finds no room in it waits. The metrics \
         odradek_memory_part_bytes and odradek_memory_part_max_bytes show them.",
    )
    .default("268435456"),
];

const TOPICS: &[Key] = &[
    Key::new(
        "num.partitions",
        Kind::Int { min: 1, max: 10_000 },
        "Partitions of a topic that does not say.",
    )
    .default("1"),
    Key::new(
        "auto.create.topics.enable",
        Kind::Bool,
        "Create a topic when a client first names it.",
    )
    .default("true"),
    Key::new("delete.topic.enable", Kind::Bool, "Let clients delete topics.").default("true"),
    Key::new(
        "log.retention.hours",
        Kind::Int { min: -1, max: INT },
        "How long records are kept; -1: for ever.",
    )
    .default("168"),
    Key::new(
        "log.retention.minutes",
        Kind::Int { min: -1, max: INT },
        "The same in minutes; wins over hours.",
    ),
    Key::new(
        "log.retention.ms",
        Kind::Long { min: -1, max: LONG },
        "The same in ms; wins over minutes.",
    )
    .dynamic(),
    Key::new(
        "log.retention.bytes",
        Kind::Long { min: -1, max: LONG },
        "How much of each partition is kept; -1: all.",
    )
    .default("-1")
    .dynamic(),
    Key::new(
        "log.retention.check.interval.ms",
        Kind::Long { min: 1, max: LONG },
        "How often old records are looked for.",
    )
    .default("300000"),
    Key::new("log.cleanup.policy", Kind::List, "delete, compact, or both; see cleanup.policy.")
        .default("delete")
        .dynamic(),
    Key::new(
        "log.segment.bytes",
        Kind::Int { min: 14, max: INT },
        "Size of one segment file, at most 128 MiB.",
    )
    .default("1073741824")
    .dynamic(),
    Key::new("log.roll.hours", Kind::Int { min: 1, max: INT }, "Age at which a segment is closed.")
        .default("168"),
    Key::new("log.roll.ms", Kind::Long { min: 1, max: LONG }, "The same in ms; wins over hours.")
        .dynamic(),
    Key::new(
        "log.message.timestamp.type",
        Kind::OneOf(&["CreateTime", "LogAppendTime"]),
        "Whether records keep the producer's time or get the broker's.",
    )
    .default("CreateTime")
    .dynamic(),
    Key::new(
        "log.message.timestamp.before.max.ms",
        Kind::Long { min: 0, max: LONG },
        "How far before the broker's clock a record's time may lie.",
    )
    .default("9223372036854775807")
    .dynamic(),
    Key::new(
        "log.message.timestamp.after.max.ms",
        Kind::Long { min: 0, max: LONG },
        "How far after the broker's clock a record's time may lie.",
    )
    .default("9223372036854775807")
    .differs("3600000", "replays and forecasts carry times that are not now")
    .dynamic(),
    Key::new(
        "compression.type",
        Kind::OneOf(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]),
        "The codec that batches are stored with; producer: as they were sent.",
    )
    .default("producer")
    .dynamic(),
    Key::new(
        "compression.gzip.level",
        Kind::Int { min: -1, max: 9 },
        "Level of gzip, if compression.type asks for it; -1 is gzip's default.",
    )
    .default("-1")
    .dynamic(),
    Key::new(
        "compression.zstd.level",
        Kind::Int { min: -131_072, max: 22 },
        "Level of zstd, if compression.type asks for it.",
    )
    .default("3")
    .dynamic(),
    Key::new("message.max.bytes", Kind::Int { min: 0, max: INT }, "Largest record batch, as sent.")
        .default("1048588")
        .dynamic(),
];

const COMPACTION: &[Key] = &[
    Key::new("log.cleaner.enable", Kind::Bool, "false: compacted topics keep every record.")
        .default("true"),
    Key::new(
        "log.cleaner.min.cleanable.ratio",
        Kind::Ratio,
        "A partition is compacted when more than this share of it was not yet.",
    )
    .default("0.5")
    .dynamic(),
    Key::new(
        "log.cleaner.min.compaction.lag.ms",
        Kind::Long { min: 0, max: LONG },
        "Segments with younger records are left alone.",
    )
    .default("0")
    .dynamic(),
    Key::new(
        "log.cleaner.max.compaction.lag.ms",
        Kind::Long { min: 1, max: LONG },
        "A partition with older records that were never compacted is, whatever its share.",
    )
    .default("9223372036854775807")
    .dynamic(),
    Key::new(
        "log.cleaner.delete.retention.ms",
        Kind::Long { min: 0, max: LONG },
        "How long the record that deletes a key stays once compaction has met it.",
    )
    .default("86400000")
    .dynamic(),
    Key::new(
        "log.cleaner.dedupe.buffer.size",
        Kind::Long { min: 65_536, max: LONG },
        "Memory for the keys of what is being compacted, about 28 bytes each.",
    )
    .long(
        "What does not fit is compacted in the next round. A thirty-second of \
         odradek.memory.max.bytes is the most that is used.",
    )
    .default("8388608")
    .differs("134217728", "200,000 keys a round are many on a home server")
    .dynamic(),
    Key::new(
        "log.cleaner.io.max.bytes.per.second",
        Kind::Long { min: 1, max: LONG },
        "What compaction reads and writes in a second, at most.",
    )
    .default("31457280")
    .differs("no bound", "answers wait for the disk, so background work leaves it free")
    .dynamic(),
    Key::new(
        "log.cleaner.backoff.ms",
        Kind::Long { min: 1, max: LONG },
        "How often something to compact is looked for.",
    )
    .default("15000")
    .dynamic(),
];

const GROUPS: &[Key] = &[
    Key::new(
        "group.initial.rebalance.delay.ms",
        Kind::Int { min: 0, max: INT },
        "Wait for more members of a new group.",
    )
    .default("0")
    .differs("3000", "few consumers, and nobody likes to wait three seconds"),
    Key::new(
        "group.min.session.timeout.ms",
        Kind::Int { min: 0, max: INT },
        "Shortest session a member may ask for.",
    )
    .default("6000"),
    Key::new(
        "group.max.session.timeout.ms",
        Kind::Int { min: 0, max: INT },
        "Longest session a member may ask for.",
    )
    .default("1800000"),
    Key::new("group.max.size", Kind::Int { min: 1, max: INT }, "Members of one group.")
        .default("1000")
        .differs("2147483647", "memory is bounded"),
    Key::new(
        "group.consumer.max.size",
        Kind::Int { min: 1, max: INT },
        "Members of one group of the consumer protocol.",
    )
    .default("1000")
    .differs("2147483647", "memory is bounded"),
    Key::new(
        "group.consumer.assignors",
        Kind::List,
        "Who may divide partitions among members; the first is the default.",
    )
    .default("uniform,range")
    .long(
        "uniform keeps the numbers of partitions equal and moves few; range keeps the same \
           partitions of several topics together.",
    ),
    Key::new(
        "group.consumer.migration.policy",
        Kind::OneOf(&["bidirectional", "upgrade", "downgrade", "disabled"]),
        "Which groups change their protocol while they have members.",
    )
    .default("bidirectional")
    .long(
        "A classic group of consumers is upgraded when a first member of the consumer protocol \
           comes, and downgraded when the last one leaves. Empty groups change in any case.",
    ),
    Key::new(
        "offsets.retention.minutes",
        Kind::Int { min: 1, max: INT },
        "How long an empty group's offsets are kept.",
    )
    .default("10080"),
    Key::new(
        "offsets.retention.check.interval.ms",
        Kind::Long { min: 1, max: LONG },
        "How often such offsets are looked for.",
    )
    .default("600000"),
    Key::new(
        "offset.metadata.max.bytes",
        Kind::Int { min: 0, max: INT },
        "Largest note committed with an offset.",
    )
    .default("4096"),
    Key::new(
        "producer.id.expiration.ms",
        Kind::Int { min: 1, max: INT },
        "How long a silent producer's sequence is remembered.",
    )
    .default("86400000")
    .dynamic(),
    Key::new(
        "transaction.max.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "Longest time-out that a transactional producer may ask for.",
    )
    .default("900000"),
    Key::new(
        "transactional.id.expiration.ms",
        Kind::Int { min: 1, max: INT },
        "How long a transactional id that nobody uses is remembered.",
    )
    .default("604800000"),
    Key::new(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        Kind::Int { min: 1, max: INT },
        "How often transactions past their time-out, and ids past their time, are looked for.",
    )
    .default("10000"),
];

const CONSUMER_GROUPS: &[Key] = &[
    Key::new(
        "group.consumer.session.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "A member silent for so long is taken for gone.",
    )
    .default("45000"),
    Key::new(
        "group.consumer.min.session.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "Least value of a group's consumer.session.timeout.ms.",
    )
    .default("45000"),
    Key::new(
        "group.consumer.max.session.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "Largest value of a group's consumer.session.timeout.ms.",
    )
    .default("60000"),
    Key::new(
        "group.consumer.heartbeat.interval.ms",
        Kind::Int { min: 1, max: INT },
        "How often a member is asked to say that it lives.",
    )
    .default("5000"),
    Key::new(
        "group.consumer.min.heartbeat.interval.ms",
        Kind::Int { min: 1, max: INT },
        "Least value of a group's consumer.heartbeat.interval.ms.",
    )
    .default("5000"),
    Key::new(
        "group.consumer.max.heartbeat.interval.ms",
        Kind::Int { min: 1, max: INT },
        "Largest value of a group's consumer.heartbeat.interval.ms.",
    )
    .default("15000"),
];

const SHARE_GROUPS: &[Key] = &[
    Key::new(
        "group.share.session.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "A member silent for so long is taken for gone.",
    )
    .default("45000"),
    Key::new(
        "group.share.min.session.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "Least value of a group's share.session.timeout.ms.",
    )
    .default("45000"),
    Key::new(
        "group.share.max.session.timeout.ms",
        Kind::Int { min: 1, max: INT },
        "Largest value of a group's share.session.timeout.ms.",
    )
    .default("60000"),
    Key::new(
        "group.share.heartbeat.interval.ms",
        Kind::Int { min: 1, max: INT },
        "How often a member is asked to say that it lives.",
    )
    .default("5000"),
    Key::new(
        "group.share.min.heartbeat.interval.ms",
        Kind::Int { min: 1, max: INT },
        "Least value of a group's share.heartbeat.interval.ms.",
    )
    .default("5000"),
    Key::new(
        "group.share.max.heartbeat.interval.ms",
        Kind::Int { min: 1, max: INT },
        "Largest value of a group's share.heartbeat.interval.ms.",
    )
    .default("15000"),
    Key::new(
        "group.share.record.lock.duration.ms",
        Kind::Int { min: 1_000, max: 3_600_000 },
        "How long a record handed to a member is kept from the others.",
    )
    .default("30000"),
    Key::new(
        "group.share.min.record.lock.duration.ms",
        Kind::Int { min: 1_000, max: 30_000 },
        "Least value of a group's share.record.lock.duration.ms.",
    )
    .default("15000"),
    Key::new(
        "group.share.max.record.lock.duration.ms",
        Kind::Int { min: 30_000, max: 3_600_000 },
        "Largest value of a group's share.record.lock.duration.ms.",
    )
    .default("60000"),
    Key::new(
        "group.share.delivery.count.limit",
        Kind::Int { min: 2, max: 10 },
        "A record that was handed out so often and never read is not handed out again.",
    )
    .default("5"),
    Key::new(
        "group.share.min.delivery.count.limit",
        Kind::Int { min: 2, max: 5 },
        "Least value of a group's share.delivery.count.limit.",
    )
    .default("2"),
    Key::new(
        "group.share.max.delivery.count.limit",
        Kind::Int { min: 5, max: 25 },
        "Largest value of a group's share.delivery.count.limit.",
    )
    .default("10"),
    Key::new(
        "group.share.partition.max.record.locks",
        Kind::Int { min: 100, max: 10_000 },
        "Records of a partition that a group may have between the first that is not done and the \
         last that was handed out.",
    )
    .default("2000"),
    Key::new(
        "group.share.min.partition.max.record.locks",
        Kind::Int { min: 100, max: 2_000 },
        "Least value of a group's share.partition.max.record.locks.",
    )
    .default("100"),
    Key::new(
        "group.share.max.partition.max.record.locks",
        Kind::Int { min: 2_000, max: 10_000 },
        "Largest value of a group's share.partition.max.record.locks.",
    )
    .default("4000"),
    Key::new(
        "group.share.max.size",
        Kind::Int { min: 1, max: 1_000 },
        "Members of one share group.",
    )
    .default("200"),
    Key::new(
        "group.share.max.share.sessions",
        Kind::Int { min: 1, max: INT },
        "Members of all share groups that may read at a time.",
    )
    .default("2000"),
];

const LIMITS: &[Key] = &[
    Key::new(
        "quota.window.num",
        Kind::Int { min: 1, max: 10_000 },
        "Windows over which client quotas are measured.",
    )
    .long("Quotas themselves are set with kafka-configs, for users, client ids and addresses.")
    .default("11"),
    Key::new(
        "quota.window.size.seconds",
        Kind::Int { min: 1, max: 86_400 },
        "Length of one such window.",
    )
    .default("1"),
    Key::new(
        "controller.quota.window.num",
        Kind::Int { min: 1, max: 10_000 },
        "The same for controller_mutation_rate: the burst that is let through.",
    )
    .default("11"),
    Key::new(
        "controller.quota.window.size.seconds",
        Kind::Int { min: 1, max: 86_400 },
        "Length of one such window.",
    )
    .default("1"),
    Key::new("max.connections", Kind::Int { min: 1, max: INT }, "Connections at once.")
        .default("1000")
        .differs("2147483647", "each costs memory")
        .dynamic(),
    Key::new(
        "max.connections.per.ip",
        Kind::Int { min: 1, max: INT },
        "Connections at once from one address.",
    )
    .default("500")
    .differs("2147483647", "one machine must not lock out the others")
    .dynamic(),
    Key::new(
        "connections.max.idle.ms",
        Kind::Long { min: 1, max: LONG },
        "A connection silent for so long is closed.",
    )
    .default("600000"),
    Key::new("socket.request.max.bytes", Kind::Int { min: 1_024, max: INT }, "Largest request.")
        .long("Half of odradek.memory.max.bytes is the bound where that is less.")
        .default("104857600"),
    Key::new(
        "sasl.server.max.receive.size",
        Kind::Int { min: 1_024, max: INT },
        "Largest request before login.",
    )
    .default("524288"),
    Key::new(
        "fetch.max.bytes",
        Kind::Int { min: 1_024, max: INT },
        "Most bytes in one answer to a fetch.",
    )
    .default("57671680"),
];
