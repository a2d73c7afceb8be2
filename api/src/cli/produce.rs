//! `odradek produce`: lines of standard input into a topic of the running server.

use std::io::{BufRead, IsTerminal};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::remote::{Remote, RemoteArgs, encoded, whole};
use super::{Complaint, Done, block_on};

/// A request holds at most so many lines, or about so many bytes.
const BATCH_LINES_MAX: usize = 2000;
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// What a person typed is sent when no line has come for this long.
const IDLE: Duration = Duration::from_millis(100);
/// Rejected lines that are shown one by one; the rest are counted.
const SHOWN_MAX: u64 = 10;

/// Write standard input to a topic, a record a line
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    echo 'hello' | odradek produce notes\n  \
    odradek produce notes --key-separator : < pairs.txt\n  \
    odradek produce stocks --json --key-field id --timestamp-field timestamp < ticks.ndjson")]
pub struct Produce {
    topic: String,
    /// Splits each line into key and value at the first of these
    #[arg(long, value_name = "TEXT", conflicts_with = "json")]
    key_separator: Option<String>,
    /// Each line must be JSON; a line that is not is reported and left out
    #[arg(long)]
    json: bool,
    /// With --json: the top-level field that is the record's key
    #[arg(long, value_name = "FIELD", requires = "json")]
    key_field: Option<String>,
    /// With --json: the top-level field that is the record's event time (RFC 3339 or epoch)
    #[arg(long, value_name = "FIELD", requires = "json")]
    timestamp_field: Option<String>,
    /// Writes to this partition instead of one chosen by key
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Produce {
    pub fn run(self) -> Done {
        let remote = self.remote.open()?;
        block_on(self.send_all(remote))
    }

    async fn send_all(self, remote: Remote) -> Done {
        let (sender, lines) = mpsc::channel(BATCH_LINES_MAX);
        // Standard input can only be read by waiting; the thread ends with the input, or with us.
        std::thread::spawn(move || read_lines(&sender));
        let mut sending = Sending {
            path: self.path(),
            kind: if self.json { "application/x-ndjson" } else { "application/json" },
            remote,
            progress: progress(),
            accepted: 0,
            rejected: 0,
            lines_sent: 0,
        };
        let done = self.send_lines(&mut sending, lines).await;
        sending.progress.finish_and_clear();
        eprintln!("{} records written to {}", sending.accepted, self.topic);
        done?;
        if sending.rejected > 0 {
            let text = format!("{} lines were not written", sending.rejected);
            return Err(Complaint::failed(text));
        }
        Ok(())
    }

    async fn send_lines(
        &self,
        sending: &mut Sending,
        mut lines: mpsc::Receiver<std::io::Result<Vec<u8>>>,
    ) -> Done {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut batch_bytes = 0;
        loop {
            let next = match timeout(IDLE, lines.recv()).await {
                Ok(next) => next,
                Err(_) if batch.is_empty() => lines.recv().await,
                Err(_) => {
                    sending.send(self.body(&batch), batch.len()).await?;
                    batch.clear();
                    batch_bytes = 0;
                    continue;
                }
            };
            let Some(line) = next else { break };
            let line = line.map_err(|e| Complaint::failed(format!("standard input: {e}")))?;
            batch_bytes += line.len();
            batch.push(line);
            if batch.len() >= BATCH_LINES_MAX || batch_bytes >= BATCH_BYTES_MAX {
                sending.send(self.body(&batch), batch.len()).await?;
                batch.clear();
                batch_bytes = 0;
            }
        }
        if batch.is_empty() {
            return Ok(());
        }
        sending.send(self.body(&batch), batch.len()).await
    }

    fn path(&self) -> String {
        let mut query = Vec::new();
        let mut add = |name: &str, value: Option<&str>| {
            query.extend(value.map(|value| format!("{name}={}", encoded(value))));
        };
        add("key", self.key_field.as_deref());
        add("timestamp", self.timestamp_field.as_deref());
        add("partition", self.partition.map(|partition| partition.to_string()).as_deref());
        format!("/api/v1/topics/{}/records?{}", encoded(&self.topic), query.join("&"))
    }

    /// JSON lines go as they are; other lines in an envelope that keeps their every byte.
    fn body(&self, batch: &[Vec<u8>]) -> Bytes {
        if self.json {
            return batch.join(&b'\n').into();
        }
        let records: Vec<Value> = batch
            .iter()
            .map(|line| {
                let separator = self.key_separator.as_deref().unwrap_or_default().as_bytes();
                let at = if separator.is_empty() {
                    None
                } else {
                    line.windows(separator.len()).position(|window| window == separator)
                };
                match at {
                    Some(at) => json!({
                        "key": text_or_base64(&line[..at]),
                        "value": text_or_base64(&line[at + separator.len()..]),
                    }),
                    None => json!({"value": text_or_base64(line)}),
                }
            })
            .collect();
        json!({ "records": records }).to_string().into()
    }
}

fn text_or_base64(bytes: &[u8]) -> Value {
    use base64::Engine;
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({"$base64": base64::engine::general_purpose::STANDARD.encode(bytes)}),
    }
}

fn read_lines(sender: &mpsc::Sender<std::io::Result<Vec<u8>>>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let message = match input.read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) => {
                if line.last() == Some(&b'\n') {
                    line.pop();
                }
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                Ok(line)
            }
            Err(error) => Err(error),
        };
        let failed = message.is_err();
        if sender.blocking_send(message).is_err() || failed {
            return;
        }
    }
}

struct Sending {
    path: String,
    kind: &'static str,
    remote: Remote,
    progress: ProgressBar,
    accepted: u64,
    rejected: u64,
    lines_sent: u64,
}

impl Sending {
    async fn send(&mut self, body: Bytes, lines: usize) -> Done {
        let kind = [("content-type", self.kind)];
        let response = self.remote.send("POST", &self.path, &kind, body).await?;
        let answer: Value = serde_json::from_slice(&whole(response).await?)
            .map_err(|e| Complaint::failed(format!("the server answers no JSON: {e}")))?;
        let count = |name: &str| answer[name].as_u64().unwrap_or_default();
        let shown = SHOWN_MAX.saturating_sub(self.rejected);
        let errors = answer["results"].as_array().into_iter().flatten().enumerate();
        let errors = errors.filter_map(|(index, result)| Some((index, result["error"].as_str()?)));
        for (index, error) in errors.take(usize::try_from(shown).unwrap_or_default()) {
            let line = self.lines_sent + u64::try_from(index).unwrap_or_default() + 1;
            self.progress.suspend(|| eprintln!("line {line}: {error}"));
        }
        self.accepted += count("accepted");
        self.rejected += count("rejected");
        self.lines_sent += u64::try_from(lines).unwrap_or_default();
        self.progress.set_position(self.accepted);
        Ok(())
    }
}

/// A counter with a rate on a terminal; nothing elsewhere, where the last line tells the sum.
fn progress() -> ProgressBar {
    if !std::io::stderr().is_terminal() || std::io::stdin().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    let style = ProgressStyle::with_template("{spinner} {human_pos} records, {per_sec}, {elapsed}");
    bar.set_style(style.expect("a constant template is valid"));
    bar
}
