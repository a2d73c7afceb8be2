//! One processor's life: wait for the input, restore, read, absorb, commit, and again from the
//! last commit after any error.
//!
//! A [`Machine`] is the part that differs: it turns records into outputs and state, and does no
//! I/O of its own but reading its state back. The runner owns the input's cursors and the commit.
//!
//! Invariants:
//! 1. Outputs, the group's offsets and the state that has seen exactly the records below those
//!    offsets go into one [`Unit`]. So a crash at any point, and a commit whose outcome is
//!    unknown, leave a consistent triple, and the machine is always rebuilt from it.
//! 2. After an error in-memory state is never used again: the next round starts with `restore`.
//! 3. State belongs to a definition (the configuration), an input topic id and output topic ids.
//!    If one of them changed, the processor starts over from the start of the input.
//! 4. Reading goes on at the offsets in the head checkpoint. The group's offsets are the same, and
//!    there to be seen; if somebody deletes or moves them they are written again, because state
//!    and offset cannot be moved apart.

mod input;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek_broker::client::{
    Client, ClientError, GroupOffset, StoredRecord, TopicInfo, TopicRecords, Unit,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use input::{Input, Step};

use crate::telemetry::{Probe, State};

/// A state that has no output to show is committed at least this often, so that a restart has
/// little to read again.
const COMMIT_AFTER: Duration = Duration::from_millis(500);
/// How long a reader that is at the end waits before it looks again (a record that arrives
/// between the look and the wait is seen this late).
const WATCH_MAX: Duration = Duration::from_millis(250);
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// `Client::commit` takes checkpoints of at most this many bytes.
pub(crate) const CHECKPOINT_BYTES_MAX: usize = 512 * 1024;

pub(crate) fn group(name: &str) -> String {
    format!("odradek.{name}")
}

/// The name of a checkpoint of this processor; `part` may be empty.
pub(crate) fn checkpoint_name(processor: &str, part: &str) -> String {
    match part {
        "" => format!("analytics:{processor}"),
        part => format!("analytics:{processor}/{part}"),
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("{0}")]
    State(String),
    #[error("stopped")]
    Stopped,
}

/// An output topic and how it is created when missing.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub topic: String,
    /// `None`: as many partitions as the input has, so that what is keyed alike lies alike.
    pub partitions: Option<i32>,
    pub configs: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub name: String,
    pub input: String,
    pub outputs: Vec<Output>,
    /// What the state depends on; a change of it starts the processor over.
    pub definition: String,
    /// Wall-clock time without input after which [`Machine::idle`] is called.
    pub idle: Duration,
}

/// What a machine restores itself from.
pub(crate) struct Restore<'a> {
    pub client: &'a dyn Client,
    /// Ties checkpoints beside the head to this start-over; those with another one are old.
    pub generation: &'a str,
    /// What [`Flush::state`] held at the last commit; `None` on a start from the beginning.
    pub state: Option<&'a Value>,
    pub partitions: &'a [i32],
    pub outputs: &'a [TopicInfo],
}

/// What a machine adds to a commit.
#[derive(Default)]
pub(crate) struct Flush {
    pub records: Vec<TopicRecords>,
    pub checkpoints: Vec<(String, Option<Bytes>)>,
    /// Small state, kept in the processor's head checkpoint.
    pub state: Value,
}

#[async_trait]
pub(crate) trait Machine: Send {
    /// Forgets everything and loads the state of the last commit.
    async fn restore(&mut self, from: Restore<'_>) -> Result<(), RunError>;

    /// Where reading has to begin again to rebuild what is not in the checkpoint; `None`: nowhere.
    fn replay_from(&self, _partition: i32) -> Option<i64> {
        None
    }

    /// A record below the committed offset, seen again to rebuild state; it makes no output.
    fn replay(&mut self, _partition: i32, _records: &[StoredRecord]) {}

    async fn absorb(&mut self, partition: i32, records: &[StoredRecord]) -> Result<(), RunError>;

    /// The input is at its end and has been silent for [`Spec::idle`]. Called once a silence.
    fn idle(&mut self) {}

    /// Whether there is output that should be visible now.
    fn pending(&self) -> bool;

    /// Outputs and state since the last flush.
    fn flush(&mut self) -> Result<Flush, RunError>;
}

/// The head checkpoint of a processor.
#[derive(Serialize, Deserialize)]
struct Head {
    definition: String,
    input_id: uuid::Uuid,
    output_ids: Vec<uuid::Uuid>,
    generation: String,
    /// The next offset to read, by partition (4).
    offsets: BTreeMap<i32, i64>,
    state: Value,
}

/// Runs until told to stop.
pub(crate) async fn run(
    client: Arc<dyn Client>,
    spec: Spec,
    mut machine: Box<dyn Machine>,
    probe: Probe,
    mut stop: watch::Receiver<bool>,
) {
    let mut retry = RETRY_FIRST;
    loop {
        let commits = probe.commits.get();
        let result = Round::run(&*client, &spec, &mut *machine, &probe, &mut stop).await;
        let error = match result {
            Err(RunError::Stopped) | Ok(()) => break,
            Err(error) => error,
        };
        if probe.commits.get() > commits {
            retry = RETRY_FIRST;
        }
        tracing::warn!(processor = %spec.name, %error, "analytics processor starts again");
        probe.restarts.inc();
        probe.set_error(State::Retrying, &error.to_string());
        if sleep_unless_stopped(retry, &mut stop).await.is_err() {
            break;
        }
        retry = (retry * 2).min(RETRY_MAX);
    }
    probe.set_state(State::Stopped);
}

pub(crate) async fn sleep_unless_stopped(
    length: Duration,
    stop: &mut watch::Receiver<bool>,
) -> Result<(), RunError> {
    tokio::select! {
        () = tokio::time::sleep(length) => Ok(()),
        _ = stop.wait_for(|stop| *stop) => Err(RunError::Stopped),
    }
}

/// Waits until the topic exists.
pub(crate) async fn wait_for_topic(
    client: &dyn Client,
    topic: &str,
    probe: &Probe,
    stop: &mut watch::Receiver<bool>,
) -> Result<TopicInfo, RunError> {
    loop {
        if let Some(info) = client.topic(topic).await? {
            return Ok(info);
        }
        probe.set_state(State::Waiting);
        sleep_unless_stopped(WATCH_MAX, stop).await?;
    }
}

/// From a restore to the first error.
struct Round<'a> {
    client: &'a dyn Client,
    spec: &'a Spec,
    machine: &'a mut dyn Machine,
    probe: &'a Probe,
    stop: &'a mut watch::Receiver<bool>,
    input: Input<'a>,
    head: Head,
    /// The group's offsets as they are in the log.
    committed: BTreeMap<i32, i64>,
    committed_at: Instant,
}

impl<'a> Round<'a> {
    async fn run(
        client: &'a dyn Client,
        spec: &'a Spec,
        machine: &'a mut dyn Machine,
        probe: &'a Probe,
        stop: &'a mut watch::Receiver<bool>,
    ) -> Result<(), RunError> {
        let topic = wait_for_topic(client, &spec.input, probe, stop).await?;
        probe.set_state(State::Restoring);
        let outputs = ensure_outputs(client, spec, &topic).await?;
        let head = load(client, spec, &topic, &outputs).await?;
        let committed = group_offsets(client, spec).await?;
        let partitions: Vec<i32> = topic.partitions.iter().map(|p| p.partition).collect();
        machine
            .restore(Restore {
                client,
                generation: &head.generation,
                state: (!head.state.is_null()).then_some(&head.state),
                partitions: &partitions,
                outputs: &outputs,
            })
            .await?;
        replay(client, spec, machine, &head.offsets, stop).await?;
        let input = Input::open(client, &topic, &head.offsets, probe);
        let committed_at = Instant::now();
        let round =
            Self { client, spec, machine, probe, stop, input, head, committed, committed_at };
        probe.set_state(State::Running);
        round.go().await
    }

    async fn go(mut self) -> Result<(), RunError> {
        let mut last_input = Instant::now();
        let mut idle_told = false;
        loop {
            if *self.stop.borrow() {
                return Err(RunError::Stopped);
            }
            if self.read_all().await? {
                last_input = Instant::now();
                idle_told = false;
                continue;
            }
            if !idle_told && last_input.elapsed() >= self.spec.idle {
                self.machine.idle();
                idle_told = true;
            }
            self.commit_if_due().await?;
            self.input.check_topic().await?;
            let client = self.client;
            tokio::select! {
                () = client.watch(&self.spec.input, WATCH_MAX) => {}
                _ = self.stop.wait_for(|stop| *stop) => return Err(RunError::Stopped),
            }
        }
    }

    /// One fetch of each partition; whether anything came.
    async fn read_all(&mut self) -> Result<bool, RunError> {
        let mut any = false;
        for index in 0..self.input.partition_count() {
            let Step { partition, records, .. } = self.input.fetch(index).await?;
            if !records.is_empty() {
                any = true;
                self.machine.absorb(partition, &records).await?;
            }
            self.commit_if_due().await?;
        }
        self.probe.set_lag(self.input.lag());
        Ok(any)
    }

    async fn commit_if_due(&mut self) -> Result<(), RunError> {
        let moved = self.input.offsets().any(|(p, at)| self.committed.get(&p) != Some(&at));
        let waited = self.committed_at.elapsed() >= COMMIT_AFTER;
        if self.machine.pending() || (moved && waited) {
            self.commit().await?;
        }
        Ok(())
    }

    /// Invariant 1: one unit.
    async fn commit(&mut self) -> Result<(), RunError> {
        let flush = self.machine.flush()?;
        self.head.state = flush.state;
        self.head.offsets = self.input.offsets().collect();
        let head = serde_json::to_vec(&self.head).map_err(|e| RunError::State(e.to_string()))?;
        let mut checkpoints = flush.checkpoints;
        checkpoints.push((checkpoint_name(&self.spec.name, ""), Some(Bytes::from(head))));
        for (name, value) in &checkpoints {
            let bytes = value.as_ref().map_or(0, Bytes::len);
            if bytes > CHECKPOINT_BYTES_MAX {
                return Err(RunError::State(format!(
                    "the state {name} has grown to {bytes} bytes, more than the \
                     {CHECKPOINT_BYTES_MAX} a checkpoint may have: too many keys are open at once"
                )));
            }
        }
        let offsets = self
            .head
            .offsets
            .iter()
            .filter(|(partition, offset)| self.committed.get(*partition) != Some(*offset))
            .map(|(partition, offset)| GroupOffset {
                group: group(&self.spec.name),
                topic: self.spec.input.clone(),
                partition: *partition,
                offset: *offset,
            })
            .collect();
        let emitted: usize = flush.records.iter().map(|r| r.records.len()).sum();
        let records = flush.records.into_iter().filter(|r| !r.records.is_empty()).collect();
        self.client.commit(Unit { records, offsets, checkpoints }).await?;
        self.probe.commits.inc();
        self.probe.emitted.inc_by(emitted as u64);
        self.committed = self.head.offsets.clone();
        self.committed_at = Instant::now();
        Ok(())
    }
}

async fn ensure_outputs(
    client: &dyn Client,
    spec: &Spec,
    input: &TopicInfo,
) -> Result<Vec<TopicInfo>, RunError> {
    let same = i32::try_from(input.partitions.len()).unwrap_or(1);
    let mut outputs = Vec::new();
    for output in &spec.outputs {
        let partitions = output.partitions.unwrap_or(same);
        client.ensure_topic(&output.topic, partitions, &output.configs).await?;
        let info = client.topic(&output.topic).await?;
        outputs.push(info.ok_or(ClientError::UnknownTopicOrPartition(output.topic.clone()))?);
    }
    Ok(outputs)
}

async fn group_offsets(
    client: &dyn Client,
    spec: &Spec,
) -> Result<BTreeMap<i32, i64>, ClientError> {
    let offsets = client.committed(&group(&spec.name)).await?.into_iter();
    let of_input = offsets.filter(|offset| offset.topic == spec.input);
    Ok(of_input.map(|offset| (offset.partition, offset.offset)).collect())
}

/// The head of the last commit, or one for a start from the beginning (invariant 3).
async fn load(
    client: &dyn Client,
    spec: &Spec,
    input: &TopicInfo,
    outputs: &[TopicInfo],
) -> Result<Head, RunError> {
    let output_ids: Vec<uuid::Uuid> = outputs.iter().map(|o| o.topic_id).collect();
    let stored = client.checkpoint(&checkpoint_name(&spec.name, "")).await?;
    let head = stored.as_deref().and_then(|bytes| serde_json::from_slice::<Head>(bytes).ok());
    let changed = match &head {
        None => None,
        Some(head) if head.input_id != input.topic_id => Some("the input topic is another one"),
        Some(head) if head.output_ids != output_ids => Some("an output topic is another one"),
        Some(head) if head.definition != spec.definition => Some("its configuration changed"),
        Some(_) => None,
    };
    match (head, changed) {
        (Some(head), None) => Ok(head),
        (_, why) => {
            if let Some(why) = why {
                tracing::warn!(
                    processor = %spec.name,
                    why,
                    "analytics processor starts over from the start of its input"
                );
            }
            let generation = format!("{:016x}", rand::random::<u64>());
            let head = Head {
                definition: spec.definition.clone(),
                input_id: input.topic_id,
                output_ids,
                generation,
                offsets: BTreeMap::new(),
                state: Value::Null,
            };
            Ok(head)
        }
    }
}

/// Feeds the records that a checkpoint leaves out, up to its offsets.
async fn replay(
    client: &dyn Client,
    spec: &Spec,
    machine: &mut dyn Machine,
    offsets: &BTreeMap<i32, i64>,
    stop: &watch::Receiver<bool>,
) -> Result<(), RunError> {
    for (&partition, &end) in offsets {
        let Some(mut at) = machine.replay_from(partition) else { continue };
        while at < end {
            if *stop.borrow() {
                return Err(RunError::Stopped);
            }
            let fetched = input::fetch(client, &spec.input, partition, at).await;
            let mut fetched = match fetched {
                // Retention took what the state was made of; what is left has to do.
                Err(ClientError::OffsetOutOfRange { start, .. }) if start > at => {
                    at = start;
                    continue;
                }
                other => other?,
            };
            fetched.records.retain(|record| record.offset < end && record.offset >= at);
            machine.replay(partition, &fetched.records);
            if fetched.next_offset <= at {
                break;
            }
            at = fetched.next_offset;
        }
    }
    Ok(())
}
