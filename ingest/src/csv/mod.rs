//! Replays files of rows.
//!
//! A blocking reader (`input` → `rows`) decodes ahead, bounded by `CSV_UNITS_AHEAD`; the run takes
//! its rows, waits until they are due (`pace`), collects them (`unit`) and commits.
//!
//! Invariants:
//! 1. The position is committed in the same unit as the records before it, so a restart neither
//!    skips nor repeats a row, wherever the process was killed.
//! 2. Units are committed one after the other; one whose outcome is unknown is looked up in the
//!    log, by its position, before it is sent again.

pub(crate) mod input;
pub(crate) mod pace;
mod position;
mod progress;
pub(crate) mod rows;
#[cfg(test)]
mod tests;
mod unit;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use odradek_broker::client::{ClientError, Unit};
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::input::Input;
use self::pace::Schedule;
use self::position::{Place, Position, checkpoint_name};
use self::progress::Progress;
use self::rows::{Row, Rows};
use self::unit::UnitBuilder;
use crate::limits;
use crate::meter::SourceState;
use crate::plan::{CsvPlan, Plan};
use crate::supervise::{Context, RunError, Runner, Tally};

/// Rows that are due within this time go together: a sync for each row of a fast replay would
/// only wear the disk.
const PACE_GRAIN: Duration = Duration::from_millis(20);

pub(crate) struct CsvRunner {
    pub plan: Plan,
    pub csv: CsvPlan,
}

#[async_trait]
impl Runner for CsvRunner {
    async fn run(&self, context: &Context) -> Result<(), RunError> {
        context.ensure_topics(&self.plan).await?;
        let (input, mut at, mut resume) = self.find_place(context).await?;
        let mut replay = Replay {
            plan: &self.plan,
            csv: &self.csv,
            context,
            progress: Progress::begin(&input, resume.map_or(0, |place| place.row)),
            schedule: Schedule::new(self.csv.pace),
        };
        context.meter.set_state(SourceState::Running, "reading");
        loop {
            let rows = replay.pass(input.clone(), &mut at, resume).await?;
            let resumed = resume.take().is_some();
            if !self.csv.repeat || (rows == 0 && !resumed) {
                break;
            }
            at.passes += 1;
            replay.schedule = Schedule::new(self.csv.pace);
            replay.progress = Progress::begin(&input, 0);
        }
        context.meter.set_detail(replay.progress.ended(at.place.row, at.passes));
        Ok(())
    }
}

impl CsvRunner {
    /// The file, and where the log says the replay was.
    async fn find_place(
        &self,
        context: &Context,
    ) -> Result<(Input, Position, Option<Place>), RunError> {
        let stored = context.client.checkpoint(&checkpoint_name(&self.plan.name)).await?;
        let path = self.csv.path.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let input = Input::of(&path)?;
            let stored = stored.as_deref().and_then(Position::decode);
            let (file, stored) = match stored {
                Some(stored) if input.matches(&stored.file)? => (stored.file.clone(), Some(stored)),
                stored => {
                    if stored.is_some() {
                        tracing::warn!(path = %path.display(), "another file: from its beginning");
                    }
                    (input.fingerprint()?, None)
                }
            };
            std::io::Result::Ok((input, file, stored))
        });
        let opened = opened.await.map_err(|error| RunError::retry("open", error.to_string()))?;
        let (input, file, stored) = opened.map_err(|error| {
            let path = self.csv.path.display();
            RunError::retry("open", format!("{path}: {error}"))
        })?;
        let fresh = Position { file, passes: 0, place: Place::default() };
        let resume = stored.as_ref().map(|position| position.place);
        Ok((input, stored.unwrap_or(fresh), resume))
    }
}

struct Replay<'a> {
    plan: &'a Plan,
    csv: &'a CsvPlan,
    context: &'a Context,
    progress: Progress,
    schedule: Schedule,
}

impl Replay<'_> {
    /// Once to the end of the file. Returns how many rows there were.
    async fn pass(
        &mut self,
        input: Input,
        at: &mut Position,
        resume: Option<Place>,
    ) -> Result<u64, RunError> {
        let mut chunks = read_ahead(self.plan.clone(), self.csv.clone(), input, resume);
        let mut unit = UnitBuilder::default();
        let mut rows = 0;
        let meter = &self.context.meter;
        while let Some(chunk) = chunks.recv().await {
            for row in chunk? {
                self.wait_until_due(&row, &mut unit, at).await?;
                rows += 1;
                let pushed = unit.push(row, self.plan, self.csv, meter);
                if pushed.is_err() {
                    // What came before the row that stops the source still counts.
                    self.commit(&mut unit, at).await?;
                }
                pushed?;
                if unit.records() >= limits::CSV_ROWS_PER_UNIT_MAX
                    || unit.bytes() >= limits::CSV_UNIT_BYTES_MAX
                {
                    self.commit(&mut unit, at).await?;
                }
            }
        }
        unit.close(self.csv, meter.clock().now_ms());
        self.commit(&mut unit, at).await?;
        Ok(rows)
    }

    /// What was collected goes out before a wait.
    async fn wait_until_due(
        &mut self,
        row: &Row,
        unit: &mut UnitBuilder,
        at: &mut Position,
    ) -> Result<(), RunError> {
        let event_ms = row.content.as_ref().ok().and_then(|content| content.event_ms);
        let Some(due) = self.schedule.due(event_ms) else { return Ok(()) };
        if due > Instant::now() + PACE_GRAIN {
            self.commit(unit, at).await?;
            tokio::time::sleep_until(due).await;
        }
        Ok(())
    }

    async fn commit(&mut self, unit: &mut UnitBuilder, at: &mut Position) -> Result<(), RunError> {
        let Some((unit, tally)) = unit.take(self.plan, at) else { return Ok(()) };
        let position = at.encode();
        let mut wait = limits::COMMIT_RETRY_MIN;
        loop {
            match self.context.commit(unit.clone(), tally).await {
                Ok(_) => break,
                Err(ClientError::Unavailable(why)) => {
                    let detail = format!("waiting: the log cannot take records now: {why}");
                    tracing::warn!(source = %self.plan.name, "{detail}");
                    self.context.meter.set_state(SourceState::BackingOff, detail);
                    if self.landed(&unit, tally, &position, &mut wait).await {
                        break;
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.context.meter.begin_health();
        self.context.meter.set_state(SourceState::Running, self.progress.line(at.place.row));
        Ok(())
    }

    /// Whether the unit is in the log although its commit failed (invariant 2). Waits until the log
    /// can tell.
    async fn landed(
        &self,
        unit: &Unit,
        tally: Tally,
        position: &Bytes,
        wait: &mut Duration,
    ) -> bool {
        let Some((name, _)) = unit.checkpoints.first() else { return false };
        loop {
            tokio::time::sleep(*wait).await;
            *wait = (*wait * 2).min(limits::COMMIT_RETRY_MAX);
            if let Ok(stored) = self.context.client.checkpoint(name).await {
                let landed = stored.as_ref() == Some(position);
                if landed {
                    let Tally { records, bytes, dead_letters } = tally;
                    self.context.meter.stored(records, bytes, dead_letters);
                }
                return landed;
            }
        }
    }
}

type Chunk = Result<Vec<Row>, RunError>;

/// The reader ends with the file, with an error, or when the receiver is gone.
fn read_ahead(
    plan: Plan,
    csv: CsvPlan,
    input: Input,
    resume: Option<Place>,
) -> mpsc::Receiver<Chunk> {
    let (sender, receiver) = mpsc::channel(limits::CSV_UNITS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let ended = read_chunks(&plan, &csv, input, resume, &sender);
        if let Err(error) = ended {
            sender.blocking_send(Err(error)).ok();
        }
    });
    receiver
}

fn read_chunks(
    plan: &Plan,
    csv: &CsvPlan,
    input: Input,
    resume: Option<Place>,
    sender: &mpsc::Sender<Chunk>,
) -> Result<(), RunError> {
    let mut rows = Rows::open(plan, csv, input, resume)?;
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        bytes += row.content.as_ref().map_or(0, |content| content.object.len());
        chunk.push(row);
        if chunk.len() >= limits::CSV_ROWS_PER_UNIT_MAX || bytes >= limits::CSV_UNIT_BYTES_MAX {
            bytes = 0;
            if sender.blocking_send(Ok(std::mem::take(&mut chunk))).is_err() {
                return Ok(());
            }
        }
    }
    sender.blocking_send(Ok(chunk)).ok();
    Ok(())
}
