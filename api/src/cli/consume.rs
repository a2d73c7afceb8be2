//! `odradek consume`: a topic of the running server on standard output.
//!
//! Without `--until-now` it follows the topic until Ctrl-C; a connection that breaks is taken up
//! again after the last record shown.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::remote::{Remote, RemoteArgs, encoded};
use super::{Complaint, Done, block_on, written};

/// A server that restarts is waited for this many times in a row.
const ATTEMPTS_MAX: u32 = 30;
const ATTEMPT_REST: Duration = Duration::from_secs(1);

/// Show a topic's records, as they come
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek consume stocks                              (what comes from now on)\n  \
    odradek consume stocks --from beginning --max 10\n  \
    odradek consume stocks --from -1h --until-now --format value\n  \
    odradek consume flights --from beginning --where 'carrier==UA and dep_delay>=60'")]
pub struct Consume {
    topic: String,
    /// Where to begin: beginning, latest, or a time (2026-11-22T10:00:00Z, epoch, -1h)
    #[arg(long, value_name = "PLACE", default_value = "latest", allow_hyphen_values = true)]
    from: String,
    /// Ends after this many records
    #[arg(long, value_name = "N")]
    max: Option<u64>,
    /// Ends with what is there now
    #[arg(long)]
    until_now: bool,
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Only this partition
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Only records with this key
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only records whose JSON fields compare so: 'price>=10 and id==GM'
    #[arg(long = "where", value_name = "CONDITION")]
    conditions: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The whole record as a line of JSON
    Json,
    /// The value alone
    Value,
    /// The key, a tab, the value
    KeyValue,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    key: &'a RawValue,
    #[serde(borrow)]
    value: &'a RawValue,
    cursor: Option<&'a str>,
}

/// How far it got.
struct Shown {
    records: u64,
    cursor: Option<String>,
}

impl Consume {
    pub fn run(self) -> Done {
        let mut remote = self.remote.open()?;
        block_on(async {
            let mut shown = Shown { records: 0, cursor: None };
            let ended = tokio::select! {
                ended = self.follow(&mut remote, &mut shown) => ended,
                _ = tokio::signal::ctrl_c() => Ok(()),
            };
            eprintln!("{} records", shown.records);
            ended
        })
    }

    async fn follow(&self, remote: &mut Remote, shown: &mut Shown) -> Done {
        let mut attempts = 0;
        loop {
            let before = shown.records;
            let accept = [("accept", "application/x-ndjson")];
            let path = self.path(shown.cursor.as_deref());
            let opened = remote.send("GET", &path, &accept, Bytes::new()).await;
            let ended = match opened {
                Ok(response) => self.show(response, shown).await?,
                Err(complaint) if before == 0 && attempts == 0 => return Err(complaint),
                Err(_) => Ended::Broken,
            };
            match ended {
                Ended::Complete => return Ok(()),
                Ended::Broken if self.until_now => {
                    return Err(Complaint::failed("the answer broke off before its end"));
                }
                Ended::Broken => {}
            }
            attempts = if shown.records > before { 1 } else { attempts + 1 };
            if attempts > ATTEMPTS_MAX {
                return Err(Complaint::failed("the server went away"));
            }
            if attempts == 1 {
                eprintln!("the connection ended; going on after the last record");
            }
            tokio::time::sleep(ATTEMPT_REST).await;
        }
    }

    fn path(&self, cursor: Option<&str>) -> String {
        let mut query = Vec::new();
        let mut add = |name: &str, value: Option<&str>| {
            query.extend(value.map(|value| format!("{name}={}", encoded(value))));
        };
        let from = (!self.until_now || self.from != "beginning").then_some(self.from.as_str());
        let from = if self.until_now && self.from == "latest" { Some("now") } else { from };
        add("from", from);
        add("partition", self.partition.map(|partition| partition.to_string()).as_deref());
        add("key", self.key.as_deref());
        add("where", self.conditions.as_deref());
        add("cursor", cursor);
        let kind = if self.until_now { "records" } else { "stream" };
        format!("/api/v1/topics/{}/{kind}?{}", encoded(&self.topic), query.join("&"))
    }

    async fn show(
        &self,
        response: Response<Incoming>,
        shown: &mut Shown,
    ) -> Result<Ended, Complaint> {
        let mut body = response.into_body();
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Ok(Ended::Broken) };
            let Ok(data) = frame.into_data() else { continue };
            rest.extend_from_slice(&data);
            let Some(end) = rest.iter().rposition(|byte| *byte == b'\n') else { continue };
            let mut out = std::io::stdout().lock();
            for line in rest[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                if self.max.is_some_and(|max| shown.records >= max) {
                    return Ok(Ended::Complete);
                }
                let line: &[u8] = line;
                if !written(self.print(&mut out, line, shown))? {
                    return Ok(Ended::Complete);
                }
            }
            if !written(out.flush())? {
                return Ok(Ended::Complete);
            }
            rest.drain(..=end);
            if self.max.is_some_and(|max| shown.records >= max) {
                return Ok(Ended::Complete);
            }
        }
        Ok(if self.until_now { Ended::Complete } else { Ended::Broken })
    }

    fn print(&self, out: &mut impl Write, text: &[u8], shown: &mut Shown) -> std::io::Result<()> {
        let line: Line = serde_json::from_slice(text).map_err(std::io::Error::other)?;
        match self.format {
            Format::Json => {
                out.write_all(&without_cursor(text, line.cursor))?;
            }
            Format::Value => out.write_all(plain(line.value).as_bytes())?,
            Format::KeyValue => {
                write!(out, "{}\t{}", plain(line.key), plain(line.value))?;
            }
        }
        out.write_all(b"\n")?;
        shown.records += 1;
        shown.cursor = line.cursor.map(ToOwned::to_owned);
        Ok(())
    }
}

enum Ended {
    Complete,
    Broken,
}

/// A string without its quotes, everything else as JSON.
fn plain(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_else(|_| raw.get().to_owned())
}

/// The cursor stands last in a stream's line and is of no use to a reader of this output.
fn without_cursor(text: &[u8], cursor: Option<&str>) -> Vec<u8> {
    let Some(cursor) = cursor else { return text.to_vec() };
    let tail = format!(",\"cursor\":\"{cursor}\"}}");
    match text.strip_suffix(tail.as_bytes()) {
        Some(head) => [head, b"}"].concat(),
        None => text.to_vec(),
    }
}
