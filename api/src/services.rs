//! What HTTP needs from the process it runs in, as one trait, so that it can be tested without it.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use odradek_broker::Checked;
use odradek_broker::client::{Admin, Client, Principal};
use odradek_broker::memory::HttpBudgets;
use prometheus::Registry;
use serde::Serialize;
use serde_json::Value;

use crate::operations::Outcome;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceVerb {
    Pause,
    Resume,
    Restart,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct ListenerView {
    pub name: String,
    pub protocol: String,
    pub address: String,
    /// `host:port` of `advertised.listeners`, if set: what clients are told whatever they dialled.
    pub advertised: Option<String>,
    /// SASL mechanisms; empty without a login.
    pub mechanisms: Vec<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Rates {
    pub records_in_per_s: f64,
    pub bytes_in_per_s: f64,
    pub bytes_out_per_s: f64,
    pub requests_per_s: f64,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct MemoryView {
    /// Bytes resident, where the system tells.
    pub rss: Option<u64>,
    pub cap: u64,
    pub parts: Vec<MemoryPartView>,
}

/// A part of what is allowed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MemoryPartView {
    pub name: &'static str,
    pub holds: &'static str,
    pub bytes: usize,
    pub bytes_max: usize,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct DiskView {
    /// Bytes of the log.
    pub used: u64,
    pub free: u64,
}

/// Files and sockets of the process, where the system tells.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OpenFilesView {
    pub open: Option<u64>,
    pub max: Option<u64>,
}

/// Something that is wrong now, or was lately, with what to do about it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ProblemView {
    /// Of the catalogue of diagnoses.
    pub id: String,
    pub what: String,
    pub evidence: String,
    pub fix: String,
    pub count: u64,
    /// RFC 3339.
    pub last: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Overview {
    pub version: String,
    pub uptime_s: u64,
    pub listeners: Vec<ListenerView>,
    pub rates: Rates,
    pub memory: MemoryView,
    pub disk: DiskView,
    pub connections: usize,
    pub open_files: OpenFilesView,
    pub problems: Vec<ProblemView>,
    pub demo: bool,
}

#[async_trait]
pub trait Services: Send + Sync + 'static {
    fn client(&self, principal: &Principal) -> Arc<dyn Client>;
    fn admin(&self, principal: &Principal) -> Arc<dyn Admin>;
    /// A wrong password is noted, and answered late.
    async fn check_password(&self, user: &str, password: &str, peer: SocketAddr) -> Checked;
    /// Broker id and `host:port`, as Kafka clients know it.
    fn node(&self) -> (i32, String);
    fn metrics(&self) -> Vec<Registry>;
    /// This interface's parts of the memory.
    fn http_budgets(&self) -> HttpBudgets;
    /// Why records cannot be taken now, if so.
    fn unready(&self) -> Option<String>;
    fn overview(&self) -> Overview;
    /// Odd and failed connections, newest first.
    fn connections(&self) -> Vec<Value>;
    /// How often each diagnosis of a connection was made.
    fn diagnoses(&self) -> Vec<(&'static str, u64)>;
    fn sources(&self) -> Vec<Value>;
    async fn command(&self, source: &str, verb: SourceVerb) -> Outcome<()>;
    fn processors(&self) -> Vec<Value>;
    /// The topics that hold the models' reports.
    fn model_topics(&self) -> Vec<String>;
    /// The topic that `GetKafkaData` serves.
    fn get_kafka_data_topic(&self) -> Option<String>;
}
