//! Configuration: from `server.properties`, environment and command line to typed fields.
//!
//! [`Config::load`] gathers values ([`values`]), checks every name against the one table
//! ([`keys`]), applies Kafka's start-up checks and returns either a [`Config`] or *all* problems,
//! each with file, line and what to write instead. Nothing here opens a port or a data file; PEM
//! files are read when a listener opens (`tls`). Passwords are [`Secret`]s and are never printed.

pub mod client_metrics;
pub mod consumer_groups;
mod data_folder;
pub mod describe;
pub mod dynamic;
mod further;
pub mod group;
pub mod jaas;
pub mod keys;
pub mod listeners;
pub mod principal_rules;
pub mod properties;
mod sample;
pub mod topic;
pub mod users;
pub mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use crate::transaction::TransactionSettings;
pub use client_metrics::Subscription;
pub use consumer_groups::ConsumerGroupSettings;
pub use dynamic::{Levels, Overrides, check_change};
pub use further::Further;
pub use group::{GroupConfig, GroupDefaults};
pub use listeners::{ClientAuth, Listener, Pem, SecurityProtocol, TlsSettings};
use odradek_log::{CompactionOptions, Store};
pub use principal_rules::PrincipalRules;
pub use sample::sample_file;
pub use topic::{CleanupPolicy, TimestampType, TopicCompression, TopicSettings};
pub use users::ConfigUser;
pub use values::{ConfigProblem, Sources};
use values::{Reader, Values};

/// A text that never appears in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// When a produced record is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the disk has it.
    Sync,
    /// Before; a power cut takes at most this much.
    Interval(Duration),
}

/// What holds for topics unless they say otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicDefaults {
    pub partitions: i32,
    pub auto_create: bool,
    pub delete_enabled: bool,
    pub settings: TopicSettings,
    pub retention_check_interval_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    pub session_timeout_ms_min: i32,
    pub session_timeout_ms_max: i32,
    pub initial_rebalance_delay_ms: i32,
    pub members_max: usize,
    pub offsets_retention_ms: i64,
    pub offsets_check_interval_ms: i64,
    pub offset_metadata_bytes_max: usize,
    /// Of idempotent producers.
    pub producer_id_expiration_ms: i64,
    pub share_size_max: usize,
    pub share_sessions_max: usize,
    /// What holds for a group unless it says otherwise, and what it may say.
    pub defaults: GroupDefaults,
    pub consumer: ConsumerGroupSettings,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionLimits {
    pub connections_max: usize,
    pub connections_per_address_max: usize,
    pub idle_ms_max: i64,
    pub request_bytes_max: usize,
    /// Before a login on a SASL listener.
    pub login_request_bytes_max: usize,
    pub fetch_bytes_max: usize,
    /// `connection.failed.authentication.delay.ms`.
    pub failed_login_delay: Duration,
}

/// Who is asked for permission, and who is not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessSettings {
    /// Access rules (ACLs) are looked at.
    pub enabled: bool,
    /// What no rule stands for is allowed to everybody.
    pub everyone_without_rule: bool,
    /// Principals that may do everything, as `User:alice`.
    pub super_users: BTreeSet<String>,
}

/// Number and seconds of the windows over which client quotas are measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaWindows {
    pub clients: (i64, i64),
    /// Of `controller_mutation_rate`.
    pub mutations: (i64, i64),
}

/// Everything the broker is told. One value that never changes; see [`dynamic`] for how another one
/// takes its place.
#[derive(Debug, Clone)]
pub struct Config {
    pub node_id: i32,
    /// `None`: made at the first start and kept with the data.
    pub cluster_id: Option<String>,
    pub rack: Option<String>,
    pub log_dir: PathBuf,
    pub store: Store,
    pub durability: Durability,
    pub disk_reserve_bytes: u64,
    pub memory_bytes_max: u64,
    pub listeners: Vec<Listener>,
    /// `host:port`; `None`: no HTTP.
    pub http_listen: Option<String>,
    pub compaction: CompactionOptions,
    pub topics: TopicDefaults,
    pub groups: GroupSettings,
    pub transactions: TransactionSettings,
    pub limits: ConnectionLimits,
    pub access: AccessSettings,
    pub quota_windows: QuotaWindows,
    pub users: Vec<ConfigUser>,
    /// To be said loudly at the start.
    pub warnings: Vec<String>,
    /// To be said once at the start: what was accepted without effect, and why.
    pub notes: Vec<String>,
    /// Of the JAAS file, which is read at the start only.
    users_of_file: Vec<ConfigUser>,
    /// As written, without the dynamic levels.
    values: Values,
    levels: Levels,
}

impl Config {
    /// Reads, checks and resolves; on failure every problem, not only the first.
    pub fn load(sources: &Sources) -> Result<Self, Vec<ConfigProblem>> {
        Self::resolve(Values::gather(sources)?)
    }

    /// What holds without any configuration: this machine only, `./odradek-data`.
    pub fn defaults() -> Self {
        Self::resolve(Values::default()).expect("the table's defaults are a valid configuration")
    }

    /// Loopback only, in this folder, on these ports (0: any free one).
    pub fn demo(dir: &Path, kafka_port: u16, http_port: u16) -> Self {
        let mut values = Values::default();
        values.set("listeners", &format!("PLAINTEXT://127.0.0.1:{kafka_port}"));
        values.set("odradek.http.listen", &format!("127.0.0.1:{http_port}"));
        let mut config = Self::resolve(values).expect("a loopback listener is valid");
        config.log_dir = dir.to_path_buf();
        config
    }

    /// From the text of a properties file alone, as tests and `check` need it.
    pub fn from_text(path: &str, text: &str) -> Result<Self, Vec<ConfigProblem>> {
        let mut values = Values::default();
        match values.add_file(path, text) {
            Some(problem) => Err(vec![problem]),
            None => Self::resolve(values),
        }
    }

    /// The files named in the configuration that hold secrets, and what kind.
    pub fn secret_files(&self) -> Vec<(PathBuf, &'static str)> {
        let written = self
            .values
            .entries
            .iter()
            .filter(|(key, entry)| !entry.value.is_empty() && keys::is_sensitive(key));
        let mut files: Vec<_> = written
            .filter_map(|(_, entry)| match &entry.origin {
                values::Origin::File { path, .. } => Some((PathBuf::from(path), "a password")),
                _ => None,
            })
            .collect();
        let jaas = self.values.entries.get("odradek.jaas.file").map(|entry| &entry.value);
        files
            .extend(jaas.or(self.values.jaas_file.as_ref()).map(|path| (path.into(), "passwords")));
        let tls = self.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        files.extend(tls.filter_map(|tls| match &tls.key {
            Pem::File(path) => Some((path.clone(), "a private key")),
            Pem::Inline(_) => None,
        }));
        files.dedup();
        files
    }

    fn resolve(values: Values) -> Result<Self, Vec<ConfigProblem>> {
        let reader = Reader::new(&values);
        let resolved = resolve(&reader);
        let mut problems = reader.into_problems();
        if problems.is_empty() {
            return Ok(Self { values, ..resolved });
        }
        problems.sort_by_key(|problem| (problem.file.clone(), problem.line));
        problems.dedup();
        Err(problems)
    }
}

fn resolve(reader: &Reader<'_>) -> Config {
    let (listeners, quorum) = listeners::resolve(reader);
    let mut names: Vec<String> = listeners.iter().map(|listener| listener.name.clone()).collect();
    names.extend(quorum.iter().cloned());
    let mut without_effect = values::check_names(reader, &names);
    without_effect
        .extend(quorum.into_iter().map(|name| (name, "it is a quorum's listener, not opened")));
    let mut config = Config {
        node_id: node_id(reader),
        cluster_id: reader.written("odradek.cluster.id"),
        rack: reader.written("broker.rack"),
        log_dir: data_folder::resolve(reader),
        store: store(reader),
        durability: durability(reader),
        disk_reserve_bytes: reader.number("odradek.disk.reserve.bytes"),
        memory_bytes_max: reader.number("odradek.memory.max.bytes"),
        http_listen: http_listen(reader),
        compaction: compaction(reader),
        topics: TopicDefaults {
            partitions: reader.number("num.partitions"),
            auto_create: reader.bool("auto.create.topics.enable"),
            delete_enabled: reader.bool("delete.topic.enable"),
            settings: topic::broker_settings(reader),
            retention_check_interval_ms: reader.long("log.retention.check.interval.ms"),
        },
        groups: groups(reader),
        transactions: transactions(reader),
        limits: limits(reader),
        access: access(reader),
        quota_windows: quota_windows(reader),
        users: Vec::new(),
        warnings: Vec::new(),
        notes: notes(reader, without_effect),
        users_of_file: Vec::new(),
        values: Values::default(),
        levels: Levels::default(),
        listeners,
    };
    config.warnings.extend(data_folder::slip(&config.log_dir, cfg!(windows)));
    config.warnings.extend((config.store == Store::Sled).then(|| SLED_WARNING.to_owned()));
    config.users_of_file = users::of_file(reader, &mut config.warnings);
    config.users = users::resolve(reader, &config.users_of_file, &mut config.warnings);
    warn_about_open_listeners(reader, &mut config);
    warn_about_visible_secrets(reader, &mut config);
    config
}

fn compaction(reader: &Reader<'_>) -> CompactionOptions {
    CompactionOptions {
        enabled: reader.bool("log.cleaner.enable"),
        map_bytes_max: usize::try_from(reader.long("log.cleaner.dedupe.buffer.size"))
            .unwrap_or(usize::MAX),
        bytes_per_second_max: reader.number("log.cleaner.io.max.bytes.per.second"),
        pause: Duration::from_millis(reader.number("log.cleaner.backoff.ms")),
    }
}

/// The fields that come from keys which can be changed while the broker runs.
fn resolve_dynamic(reader: &Reader<'_>, config: &mut Config) {
    config.topics.settings = topic::broker_settings(reader);
    config.groups = groups(reader);
    config.limits = limits(reader);
    config.compaction = compaction(reader);
    config.durability = durability(reader);
    config.listeners = listeners::resolve(reader).0;
    // What is warned of was said at the start, or refused when it was set.
    config.users = users::resolve(reader, &config.users_of_file, &mut Vec::new());
}

fn node_id(reader: &Reader<'_>) -> i32 {
    let old = reader.written("broker.id").filter(|id| id != "-1");
    match (reader.written("node.id"), old) {
        (Some(new), Some(old)) if new != old => {
            let what = format!("node.id is {new} and broker.id is {old}");
            reader.problem(reader.origin("broker.id"), "broker.id", what, "keep one of the two");
            1
        }
        (None, Some(old)) => old.parse().unwrap_or(1),
        _ => reader.number("node.id"),
    }
}

const SLED_WARNING: &str = "odradek.log.store=sled: a power cut may damage the database that holds \
                            the records, also those that are days old. Where power cuts happen, \
                            begin a new folder with odradek.log.store=segments";

fn store(reader: &Reader<'_>) -> Store {
    match reader.text("odradek.log.store").eq_ignore_ascii_case("sled") {
        true => Store::Sled,
        false => Store::Segments,
    }
}

fn durability(reader: &Reader<'_>) -> Durability {
    let interval_ms: u64 = reader.number("log.flush.interval.ms");
    if reader.text("odradek.durability").eq_ignore_ascii_case("interval") {
        Durability::Interval(Duration::from_millis(interval_ms))
    } else {
        Durability::Sync
    }
}

fn http_listen(reader: &Reader<'_>) -> Option<String> {
    const KEY: &str = "odradek.http.listen";
    let written = reader.values.entries.get(KEY);
    if written.is_some_and(|entry| entry.value.is_empty()) {
        return None;
    }
    let text = reader.text(KEY);
    let valid = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if !valid {
        let what = format!("{text:?} is not of the form host:port");
        reader.problem(reader.origin(KEY), KEY, what, "for example 127.0.0.1:8080");
    }
    Some(text)
}

fn groups(reader: &Reader<'_>) -> GroupSettings {
    let (min, max) = ("group.min.session.timeout.ms", "group.max.session.timeout.ms");
    let settings = GroupSettings {
        session_timeout_ms_min: reader.number(min),
        session_timeout_ms_max: reader.number(max),
        initial_rebalance_delay_ms: reader.number("group.initial.rebalance.delay.ms"),
        members_max: reader.number("group.max.size"),
        offsets_retention_ms: 60_000 * reader.long("offsets.retention.minutes"),
        offsets_check_interval_ms: reader.long("offsets.retention.check.interval.ms"),
        offset_metadata_bytes_max: reader.number("offset.metadata.max.bytes"),
        producer_id_expiration_ms: reader.long("producer.id.expiration.ms"),
        share_size_max: reader.number("group.share.max.size"),
        share_sessions_max: reader.number("group.share.max.share.sessions"),
        defaults: group::defaults(reader),
        consumer: consumer_groups::resolve(reader),
    };
    if settings.session_timeout_ms_min > settings.session_timeout_ms_max {
        let origin = reader.origin(min).or(reader.origin(max));
        reader.problem(origin, min, format!("is above {max}"), "make it the smaller one");
    }
    settings
}

fn transactions(reader: &Reader<'_>) -> TransactionSettings {
    TransactionSettings {
        timeout_ms_max: reader.number("transaction.max.timeout.ms"),
        id_expiration_ms: reader.long("transactional.id.expiration.ms"),
        check_interval_ms: reader
            .long("transaction.abort.timed.out.transaction.cleanup.interval.ms"),
    }
}

fn limits(reader: &Reader<'_>) -> ConnectionLimits {
    ConnectionLimits {
        connections_max: reader.number("max.connections"),
        connections_per_address_max: reader.number("max.connections.per.ip"),
        idle_ms_max: reader.long("connections.max.idle.ms"),
        request_bytes_max: reader.number("socket.request.max.bytes"),
        login_request_bytes_max: reader.number("sasl.server.max.receive.size"),
        fetch_bytes_max: reader.number("fetch.max.bytes"),
        failed_login_delay: Duration::from_millis(
            reader.number("connection.failed.authentication.delay.ms"),
        ),
    }
}

/// Java classes cannot be loaded, so only Kafka's own names are taken, of whichever version.
fn access(reader: &Reader<'_>) -> AccessSettings {
    const KEY: &str = "authorizer.class.name";
    const KNOWN: [&str; 3] = [
        "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "kafka.security.authorizer.AclAuthorizer",
        "kafka.security.auth.SimpleAclAuthorizer",
    ];
    let class = reader.written(KEY);
    if let Some(class) = class.as_ref().filter(|class| !KNOWN.contains(&class.as_str())) {
        let what = format!("{class} cannot be loaded: it is a Java class");
        let fix = format!("for access rules (ACLs) write {KEY}={}", KNOWN[0]);
        reader.problem(reader.origin(KEY), KEY, what, fix);
    }
    AccessSettings {
        enabled: class.is_some(),
        everyone_without_rule: reader.bool("allow.everyone.if.no.acl.found"),
        super_users: super_users(reader),
    }
}

fn quota_windows(reader: &Reader<'_>) -> QuotaWindows {
    QuotaWindows {
        clients: (reader.long("quota.window.num"), reader.long("quota.window.size.seconds")),
        mutations: (
            reader.long("controller.quota.window.num"),
            reader.long("controller.quota.window.size.seconds"),
        ),
    }
}

/// Divided by semicolons, because a certificate's name holds commas.
fn super_users(reader: &Reader<'_>) -> BTreeSet<String> {
    const KEY: &str = "super.users";
    let text = reader.text(KEY);
    let names = text.split(';').map(str::trim).filter(|name| !name.is_empty());
    let mut users = BTreeSet::new();
    for name in names {
        if name.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty()) {
            users.insert(name.to_owned());
        } else {
            let what = format!("{name:?} is not of the form User:NAME");
            let fix = "write super.users=User:alice;User:bob";
            reader.problem(reader.origin(KEY), KEY, what, fix);
        }
    }
    users
}

fn warn_about_open_listeners(reader: &Reader<'_>, config: &mut Config) {
    let meant = reader.bool("odradek.allow.unauthenticated.network");
    let open: Vec<String> = config
        .listeners
        .iter()
        .filter(|listener| listener.is_open())
        .map(|listener| format!("{}://{}:{}", listener.name, listener.host, listener.port))
        .collect();
    if !open.is_empty() {
        let what = format!(
            "anybody who reaches {} can read, write and delete every topic: there is no login on \
             it. For a password use SASL_PLAINTEXT or SASL_SSL in listener.security.protocol.map \
             and `odradek user add NAME`, or let `odradek expose --lan` do it; if this is meant, \
             write odradek.allow.unauthenticated.network=true",
            open.join(" and ")
        );
        if meant { config.notes.push(what) } else { config.warnings.push(what) }
    }
    if reader.origin("listeners").is_none() && !reader.values.entries.is_empty() {
        config.notes.push(
            "listeners is not set: only programs on this machine can connect. For the network \
             `odradek expose --lan` makes a listener with a login; without one it would be \
             listeners=PLAINTEXT://:9092 (Kafka's default)"
                .to_owned(),
        );
    }
}

fn warn_about_visible_secrets(reader: &Reader<'_>, config: &mut Config) {
    let entries = reader.values.entries.iter();
    let visible = entries
        .filter(|(key, entry)| entry.origin == values::Origin::Override && keys::is_sensitive(key));
    config.warnings.extend(visible.map(|(key, _)| {
        format!(
            "{key} was given by --override: every user of this machine can read the command line \
             of a process. Write it in server.properties, or in the environment as \
             KAFKA_{}",
            key.to_uppercase().replace('_', "__").replace('-', "___").replace('.', "_")
        )
    }));
}

fn notes(reader: &Reader<'_>, without_effect: Vec<(String, &'static str)>) -> Vec<String> {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (key, why) in without_effect {
        by_reason.entry(why).or_default().push(key);
    }
    let mut notes: Vec<String> = by_reason
        .into_iter()
        .map(|(why, keys)| format!("accepted, no effect: {} ({why})", keys.join(", ")))
        .collect();
    for (key, line) in &reader.values.repeated {
        notes.push(format!("{key} is written twice; the last one, in line {line}, counts"));
    }
    notes
}

#[cfg(test)]
mod tests;
