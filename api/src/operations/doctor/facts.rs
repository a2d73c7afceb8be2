//! What was seen of a server and its machine. Only what was really seen: what could not be looked
//! at is `None` or empty, and nothing is concluded from it.

use std::net::{IpAddr, SocketAddr};

use odradek_broker::config::SecurityProtocol;

#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// By this machine's clock, epoch seconds.
    pub now_s: i64,
    /// The server's machine is this one: files, disk and interfaces are its own.
    pub is_here: bool,
    /// The configuration, if it is there and this user may not read it.
    pub configuration_closed: Option<String>,
    /// What `odradek check` would complain about.
    pub configuration_problems: Vec<String>,
    pub http: Http,
    pub lock: Lock,
    pub listeners: Vec<ListenerSeen>,
    /// Of this machine's interfaces, without loopback.
    pub interfaces: Vec<IpAddr>,
    pub folder: Option<FolderSeen>,
    pub secret_files: Vec<FileSeen>,
    pub clock: ClockSeen,
    pub disk: Option<DiskSeen>,
    /// Bytes that the system would still give to a program here.
    pub memory_available_bytes: Option<u64>,
    pub connections_max: Option<u64>,
}

/// The server's HTTP interface.
#[derive(Debug, Clone, Default)]
pub enum Http {
    /// `odradek.http.listen` is empty.
    #[default]
    Off,
    /// Nothing answers there.
    Silent {
        address: String,
        why: String,
    },
    /// It answers, but does not tell how it is.
    Closed {
        address: String,
        why: String,
    },
    Told {
        address: String,
        view: View,
    },
}

/// What the server says of itself.
#[derive(Debug, Clone, Default)]
pub struct View {
    pub version: String,
    pub uptime_s: u64,
    pub memory_bytes: Option<u64>,
    pub memory_bytes_max: u64,
    pub bytes_in_per_s: f64,
    pub open_files: Option<u64>,
    pub open_files_max: Option<u64>,
    pub problems: Vec<ProblemSeen>,
    /// Addresses whose connections stand in the diary.
    pub peers: Vec<IpAddr>,
    /// By the server's clock less this machine's, seconds.
    pub clock_ahead_s: Option<i64>,
}

/// A problem as the server tells it.
#[derive(Debug, Clone, Default)]
pub struct ProblemSeen {
    pub id: String,
    pub what: String,
    pub evidence: String,
    pub fix: String,
    pub count: u64,
}

/// The data folder's lock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lock {
    #[default]
    Unknown,
    Free,
    Held,
}

#[derive(Debug, Clone)]
pub struct ListenerSeen {
    pub name: String,
    /// As configured.
    pub protocol: SecurityProtocol,
    /// As configured; empty means every address.
    pub host: String,
    pub port: u16,
    /// Others than this machine can reach it.
    pub is_public: bool,
    /// Whoever reaches it may do everything.
    pub is_open: bool,
    /// `odradek.allow.unauthenticated.network`: that is meant.
    pub open_is_meant: bool,
    /// `advertised.listeners`, if set for it.
    pub advertised: Option<(String, u16)>,
    /// As the server has it open, if it tells and the configuration has it too.
    pub running: Option<Running>,
    /// Where it was dialled by its own address.
    pub dialled: Vec<Dialled>,
    /// The advertised host, looked up and dialled.
    pub lookup: Option<Lookup>,
    /// As sent in a handshake, else as it lies in the configured file.
    pub chain: Vec<CertificateSeen>,
    /// Who vouches for the chain, of those whom this machine trusts or was told to.
    pub trust: Trust,
}

#[derive(Debug, Clone)]
pub struct Running {
    pub protocol: SecurityProtocol,
    pub advertised: Option<(String, u16)>,
}

#[derive(Debug, Clone)]
pub struct Lookup {
    /// Or why the name means none.
    pub addresses: Result<Vec<IpAddr>, String>,
    pub dialled: Vec<Dialled>,
}

#[derive(Debug, Clone)]
pub struct Dialled {
    pub address: SocketAddr,
    pub answer: Answer,
}

/// What came of a conversation as a client of this listener's protocol would have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// No connection.
    Unreachable(String),
    /// A connection, and then nothing, or not what the protocol demands.
    Wrong(String),
    /// Kafka's protocol, as configured.
    Kafka(Told),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// `TLSv1_3`
    pub tls: Option<String>,
    /// What SaslHandshake offers.
    pub mechanisms: Vec<String>,
    /// Where Metadata says the broker is; asked only where no login is needed.
    pub broker: Option<(String, u16)>,
    pub cluster_id: Option<String>,
    /// A client certificate is demanded, and this command has none.
    pub wants_certificate: bool,
}

impl Answer {
    pub fn is_kafka(&self) -> bool {
        matches!(self, Self::Kafka(_))
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateSeen {
    pub subject: String,
    pub issuer: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    pub not_before_s: i64,
    pub not_after_s: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Trust {
    /// No handshake, so nothing was verified.
    #[default]
    Unknown,
    /// By the system's roots.
    System,
    /// By the authority in this file.
    File(String),
    /// By none of them, for this reason. `asked` is the file that was named outright.
    Nobody { why: String, asked: Option<String> },
}

#[derive(Debug, Clone)]
pub struct FolderSeen {
    pub path: String,
    /// Why it cannot be used; `None` if it can.
    pub unusable: Option<String>,
    /// Unix permission bits.
    pub mode: Option<u32>,
}

/// A file that holds a secret.
#[derive(Debug, Clone)]
pub struct FileSeen {
    pub path: String,
    /// What secret, in words.
    pub secret: String,
    pub mode: Option<u32>,
    /// Neither the server's user nor root owns it: by its number.
    pub stranger: Option<u32>,
}

#[derive(Debug, Clone, Default)]
pub struct ClockSeen {
    /// What the system says; `None` where it says nothing.
    pub is_synchronised: Option<bool>,
    /// The newest time of a file in the data folder, epoch seconds.
    pub newest_file_s: Option<i64>,
}

#[derive(Debug, Clone)]
pub struct DiskSeen {
    pub free_bytes: u64,
    pub reserve_bytes: u64,
}
