//! Asks the running server how it is, over HTTP.

use std::net::IpAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::header;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::dial;
use crate::cli::remote::Remote;
use crate::http::now_ms;
use crate::operations::doctor::facts::{Http, ProblemSeen, View};

const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A listener as the server has opened it.
#[derive(Debug, Clone, Deserialize)]
pub struct OpenListener {
    pub name: String,
    pub protocol: String,
    pub address: String,
    pub advertised: Option<String>,
    #[serde(default)]
    pub mechanisms: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Overview {
    version: String,
    uptime_s: u64,
    #[serde(default)]
    listeners: Vec<OpenListener>,
    rates: Rates,
    memory: Memory,
    disk: Disk,
    #[serde(default)]
    open_files: OpenFiles,
    #[serde(default)]
    problems: Vec<Problem>,
}

#[derive(Debug, Deserialize)]
struct Rates {
    bytes_in_per_s: f64,
}

#[derive(Debug, Deserialize)]
struct Memory {
    rss: Option<u64>,
    cap: u64,
}

#[derive(Debug, Deserialize)]
struct Disk {
    free: u64,
}

#[derive(Debug, Default, Deserialize)]
struct OpenFiles {
    open: Option<u64>,
    max: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    id: String,
    what: String,
    evidence: String,
    fix: String,
    count: u64,
}

#[derive(Debug, Deserialize)]
struct Diary {
    connections: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    peer: IpAddr,
}

/// What the server tells, its listeners, and the free bytes of its disk.
#[derive(Debug, Default)]
pub struct Asked {
    pub http: Http,
    pub listeners: Vec<OpenListener>,
    pub disk_free_bytes: Option<u64>,
}

/// `address` is `host:port`, to be shown.
pub async fn ask(remote: &mut Remote, address: &str) -> Asked {
    if let Err(why) = dial::connect(address).await {
        let http = Http::Silent { address: address.to_owned(), why };
        return Asked { http, ..Asked::default() };
    }
    let (overview, clock_ahead_s) = match json::<Overview>(remote, "/api/v1/overview").await {
        Ok(told) => told,
        Err(why) => {
            let http = Http::Closed { address: address.to_owned(), why };
            return Asked { http, ..Asked::default() };
        }
    };
    let diary = json::<Diary>(remote, "/api/v1/diagnostics/connections").await;
    let peers = diary.map(|(diary, _)| diary.connections).unwrap_or_default();
    let problems = overview.problems.into_iter().map(|problem| ProblemSeen {
        id: problem.id,
        what: problem.what,
        evidence: problem.evidence,
        fix: problem.fix,
        count: problem.count,
    });
    let view = View {
        version: overview.version,
        uptime_s: overview.uptime_s,
        memory_bytes: overview.memory.rss,
        memory_bytes_max: overview.memory.cap,
        bytes_in_per_s: overview.rates.bytes_in_per_s,
        open_files: overview.open_files.open,
        open_files_max: overview.open_files.max,
        problems: problems.collect(),
        peers: peers.into_iter().map(|entry| entry.peer).collect(),
        clock_ahead_s,
    };
    Asked {
        http: Http::Told { address: address.to_owned(), view },
        listeners: overview.listeners,
        disk_free_bytes: Some(overview.disk.free),
    }
}

/// The answer, and how far its `Date` is ahead of this machine's clock.
async fn json<T: DeserializeOwned>(
    remote: &mut Remote,
    path: &str,
) -> Result<(T, Option<i64>), String> {
    let (bytes, ahead_s) = get(remote, path).await?;
    let told = serde_json::from_slice(&bytes);
    Ok((told.map_err(|error| format!("{path} is not what was expected: {error}"))?, ahead_s))
}

async fn get(remote: &mut Remote, path: &str) -> Result<(Vec<u8>, Option<i64>), String> {
    let asking = async {
        let response = remote.send("GET", path, &[], bytes::Bytes::new()).await;
        // Its further lines say what to do, which is said here in another way.
        let first_line = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let response = response.map_err(|complaint| first_line(complaint.to_string()))?;
        let date = response.headers().get(header::DATE).and_then(|date| date.to_str().ok());
        let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
        let ahead_s = theirs.map(|date| date.timestamp().as_second() - now_ms() / 1_000);
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| format!("the answer broke off: {error}"))?;
        Ok((body.to_bytes().to_vec(), ahead_s))
    };
    let late = || format!("no answer in {} seconds", ANSWER_TIME_MAX.as_secs());
    tokio::time::timeout(ANSWER_TIME_MAX, asking).await.map_err(|_| late())?
}
