//! Topics as Parquet files, each offset exactly once through any crash.
//!
//! The set of files is the offset store (see [`folder`]): no second store can disagree with it.
//! The group's offsets are committed after each file only so that its lag can be seen. Schema
//! inference, encoding and disk writes run on blocking threads. A change of the columns closes
//! the file, so one file has one schema.

mod columns;
mod folder;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use odradek_broker::client::{Client, GroupOffset, StoredRecord, Unit};
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;

use self::columns::{Columns, FlatRow};
use self::folder::{FolderError, Identity, Writing};
use crate::config::ParquetConfig;
use crate::run::{Input, RunError, Step, group, sleep_unless_stopped, wait_for_topic};
use crate::telemetry::{Probe, State};

pub use folder::FolderError as ParquetError;
pub use verify::{Gap, VerifiedPartition, VerifyReport, verify};

/// Rows are encoded this many at a time.
const ENCODE_ROWS: usize = 8 * 1024;
/// Bytes of values held back before they are encoded, a partition.
const ENCODE_BYTES: usize = 8 << 20;
const WATCH_MAX: Duration = Duration::from_millis(250);
const RETRY_AFTER: Duration = Duration::from_secs(2);

pub(crate) async fn run(
    client: Arc<dyn Client>,
    config: ParquetConfig,
    probe: Probe,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        match Round::run(&*client, &config, &probe, &mut stop).await {
            Ok(()) | Err(SinkError::Run(RunError::Stopped)) => break,
            Err(error) => {
                tracing::warn!(sink = %config.name, %error, "Parquet sink starts again");
                probe.restarts.inc();
                let needs_person =
                    matches!(error, SinkError::Folder(FolderError::OtherTopic { .. }));
                let state = if needs_person { State::Failed } else { State::Retrying };
                probe.set_error(state, &error.to_string());
            }
        }
        if sleep_unless_stopped(RETRY_AFTER, &mut stop).await.is_err() {
            break;
        }
    }
    probe.set_state(State::Stopped);
}

#[derive(Debug, thiserror::Error)]
enum SinkError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("a Parquet thread panicked: {0}")]
    Thread(#[from] JoinError),
}

impl From<odradek_broker::client::ClientError> for SinkError {
    fn from(error: odradek_broker::client::ClientError) -> Self {
        Self::Run(RunError::Client(error))
    }
}

/// What names the files.
#[derive(Clone)]
struct Place {
    folder: PathBuf,
    topic: String,
    topic_id: String,
}

/// One partition's rows on their way to a file. Moves to a blocking thread and back.
struct Pen {
    place: Place,
    partition: i32,
    /// The first offset that no file covers.
    next: i64,
    /// One past the last offset that `rows` cover.
    covered: i64,
    rows: Vec<FlatRow>,
    bytes: usize,
    columns: Columns,
    writing: Option<Writing>,
    gap_before: Option<(i64, i64)>,
    since: Option<Instant>,
    files_finished: u64,
}

impl Pen {
    fn new(place: Place, partition: i32, next: i64, columns: Columns) -> Self {
        Self {
            place,
            partition,
            next,
            covered: next,
            rows: Vec::new(),
            bytes: 0,
            columns,
            writing: None,
            gap_before: None,
            since: None,
            files_finished: 0,
        }
    }

    fn take(&mut self, records: &[StoredRecord], covered: i64) {
        for record in records {
            self.bytes += record.value.as_ref().map_or(0, bytes::Bytes::len);
            self.rows.extend(columns::flatten(record));
        }
        self.covered = covered;
        if !self.rows.is_empty() && self.since.is_none() {
            self.since = Some(Instant::now());
        }
    }

    fn rows_held(&self) -> usize {
        self.rows.len() + self.writing.as_ref().map_or(0, |w| w.rows)
    }

    fn bytes_held(&self) -> usize {
        self.bytes + self.writing.as_ref().map_or(0, |w| w.value_bytes)
    }

    /// Encodes the rows held back. If they need other columns, the file so far is finished first,
    /// just before them.
    fn encode(&mut self) -> Result<(), FolderError> {
        let Some(first) = self.rows.first().map(|row| row.offset) else { return Ok(()) };
        let columns = self.columns.widened(&self.rows);
        if self.writing.as_ref().is_some_and(|writing| writing.columns != columns) {
            self.finish(first - 1)?;
        }
        self.columns = columns.clone();
        let place = self.place.clone();
        let identity = place.identity(self.partition);
        let mut writing = match self.writing.take() {
            Some(writing) => writing,
            None => Writing::create(&identity, self.next, columns)?,
        };
        for rows in self.rows.chunks(ENCODE_ROWS) {
            writing.write(self.partition, rows, 0)?;
        }
        writing.value_bytes += self.bytes;
        self.writing = Some(writing);
        self.rows.clear();
        self.bytes = 0;
        Ok(())
    }

    /// Finishes the file being written so that it covers everything up to `last`.
    fn finish(&mut self, last: i64) -> Result<(), FolderError> {
        let Some(writing) = self.writing.take() else { return Ok(()) };
        let place = self.place.clone();
        let path = writing.finish(&place.identity(self.partition), last, self.gap_before.take())?;
        tracing::debug!(path = %path.display(), "Parquet file finished");
        self.next = last + 1;
        self.files_finished += 1;
        Ok(())
    }

    fn roll(&mut self) -> Result<(), FolderError> {
        self.encode()?;
        self.finish(self.covered - 1)?;
        self.since = None;
        Ok(())
    }

    /// Retention removed `from..to` before they were read: the file before the gap ends there.
    fn skip_gap(&mut self, from: i64, to: i64) -> Result<(), FolderError> {
        self.covered = from;
        self.roll()?;
        // Rows may never have come since the last file: then the gap begins where that ended.
        self.gap_before = Some((self.next.min(from), to));
        self.next = to;
        self.covered = to;
        Ok(())
    }
}

impl Place {
    fn identity(&self, partition: i32) -> Identity<'_> {
        let Self { folder, topic, topic_id } = self;
        Identity { folder, topic, topic_id, partition }
    }
}

/// From opening the folder to the first error.
struct Round<'a> {
    client: &'a dyn Client,
    config: &'a ParquetConfig,
    probe: &'a Probe,
    stop: &'a mut watch::Receiver<bool>,
    input: Input<'a>,
    pens: BTreeMap<i32, Pen>,
}

impl<'a> Round<'a> {
    async fn run(
        client: &'a dyn Client,
        config: &'a ParquetConfig,
        probe: &'a Probe,
        stop: &'a mut watch::Receiver<bool>,
    ) -> Result<(), SinkError> {
        let topic = wait_for_topic(client, &config.input, probe, stop).await?;
        probe.set_state(State::Restoring);
        let folder = config.dir.join(&topic.name);
        let topic_id = topic.topic_id.to_string();
        let place = Place { folder, topic: topic.name.clone(), topic_id };
        let opening = place.clone();
        let opened = tokio::task::spawn_blocking(move || {
            folder::open(&opening.folder, &opening.topic, &opening.topic_id)
        })
        .await??;
        let input = Input::open(client, &topic, &opened.next, probe);
        let pens = input.offsets().map(|(partition, next)| {
            let columns = opened.columns.get(&partition).cloned().unwrap_or_default();
            let pen = Pen::new(place.clone(), partition, next, columns);
            (partition, pen)
        });
        let pens = pens.collect();
        probe.set_state(State::Running);
        Self { client, config, probe, stop, input, pens }.go().await
    }

    async fn go(mut self) -> Result<(), SinkError> {
        loop {
            let mut any = false;
            for index in 0..self.input.partition_count() {
                if *self.stop.borrow() {
                    return self.close().await;
                }
                let step = self.input.fetch(index).await?;
                any |= !step.records.is_empty();
                self.take(step).await?;
            }
            self.probe.set_lag(self.input.lag());
            if any {
                continue;
            }
            self.input.check_topic().await?;
            let client = self.client;
            tokio::select! {
                () = client.watch(&self.config.input, WATCH_MAX) => {}
                _ = self.stop.wait_for(|stop| *stop) => {}
            }
        }
    }

    async fn take(&mut self, step: Step) -> Result<(), SinkError> {
        let Some(pen) = self.pens.get_mut(&step.partition) else { return Ok(()) };
        let partition = step.partition;
        let gap = step.gap;
        if gap.is_none() {
            pen.take(&step.records, step.next_offset);
        }
        let aged = pen.since.is_some_and(|since| since.elapsed() >= self.config.every.duration());
        let full = pen.rows_held() >= self.config.rows || pen.bytes_held() >= self.config.bytes;
        let encode = pen.rows.len() >= ENCODE_ROWS || pen.bytes >= ENCODE_BYTES;
        if let Some((from, to)) = gap {
            self.off_thread(partition, move |pen| pen.skip_gap(from, to)).await
        } else if full || aged {
            self.off_thread(partition, Pen::roll).await
        } else if encode {
            self.off_thread(partition, Pen::encode).await
        } else {
            Ok(())
        }
    }

    /// Runs a step of the partition's pen on a blocking thread. After an error the pen is gone,
    /// and the round with it.
    async fn off_thread(
        &mut self,
        partition: i32,
        step: impl FnOnce(&mut Pen) -> Result<(), FolderError> + Send + 'static,
    ) -> Result<(), SinkError> {
        let Some(mut pen) = self.pens.remove(&partition) else { return Ok(()) };
        let before = pen.files_finished;
        let (pen, result) = tokio::task::spawn_blocking(move || {
            let result = step(&mut pen);
            (pen, result)
        })
        .await?;
        result?;
        let finished = pen.files_finished - before;
        let next = pen.next;
        self.pens.insert(partition, pen);
        if finished > 0 {
            self.probe.files.inc_by(finished);
            self.probe.set_detail(format!("files in {}", self.config.dir.display()));
            show_offset(self.client, self.config, partition, next).await?;
            self.probe.commits.inc();
        }
        Ok(())
    }

    /// What has been read so far becomes files, so that a stopped broker leaves nothing behind
    /// that only its log has.
    async fn close(mut self) -> Result<(), SinkError> {
        let partitions: Vec<i32> = self.pens.keys().copied().collect();
        for partition in partitions {
            self.off_thread(partition, Pen::roll).await?;
        }
        Ok(())
    }
}

async fn show_offset(
    client: &dyn Client,
    config: &ParquetConfig,
    partition: i32,
    offset: i64,
) -> Result<(), SinkError> {
    let topic = config.input.clone();
    let offsets = vec![GroupOffset { group: group(&config.name), topic, partition, offset }];
    client.commit(Unit { offsets, ..Unit::default() }).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
