//! What the transcripts of `transaction/testdata/transcripts` say to a transactional id, and what
//! it does.
//!
//! ```text
//! > at 1500                                time, in milliseconds; the timers look
//! > init timeout=60000 expected=9/0 fresh=8
//! > add 7/0 0 1                            partitions of the one topic; `group`: its offsets'
//! > produce 7/0 0 v2                       also: v1, v1.5 (knows TRANSACTION_ABORTABLE)
//! > offsets 7/0 g 0=5 1=9 v2
//! > end 7/0 commit v2 fresh=8              also: abort, v1
//! > drop g
//! > written | > failed                     the write that is under way
//! > restart                                from what was written last
//! > epoch 32766                            as if so many were given out
//! ```

use std::fmt::Write as _;

use uuid::Uuid;

use super::*;
use crate::transcript::{self, error_name};

const TOPIC: Uuid = Uuid::from_u128(1);
const OFFSETS: PartitionId = PartitionId { topic_id: Uuid::from_u128(2), partition: 0 };
const FIRST_PRODUCER_ID: i64 = 7;

struct Run {
    transaction: Transaction,
    durable: Option<TransactionRecord>,
    writing: Option<Write>,
    now_ms: i64,
    waiters: Waiter,
}

fn producer(word: &str) -> Producer {
    let (id, epoch) = word.split_once('/').expect("id/epoch");
    Producer { id: id.parse().expect("an id"), epoch: epoch.parse().expect("an epoch") }
}

fn named<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn support(words: &[&str]) -> Support {
    match *words.last().expect("a version") {
        "v1" => Support::Named,
        "v1.5" => Support::Abortable,
        "v2" => Support::Adds,
        other => panic!("no such version: {other}"),
    }
}

fn partition(word: &str) -> PartitionId {
    match word {
        "group" => OFFSETS,
        index => PartitionId { topic_id: TOPIC, partition: index.parse().expect("an index") },
    }
}

fn pending(group: &str, word: &str) -> Option<PendingOffset> {
    let (index, offset) = word.split_once('=')?;
    Some(PendingOffset {
        group: group.to_owned(),
        topic_id: TOPIC,
        topic: "t".to_owned(),
        partition: index.parse().expect("an index"),
        offset: offset.parse().expect("an offset"),
        leader_epoch: None,
        metadata: String::new(),
    })
}

impl Run {
    fn new() -> Self {
        Self {
            transaction: Transaction::new(FIRST_PRODUCER_ID, 60_000),
            durable: None,
            writing: None,
            now_ms: 0,
            waiters: 0,
        }
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: 1_000_000 + self.now_ms }
    }

    fn say(&mut self, line: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let words: Vec<&str> = rest.split_whitespace().collect();
        let mut out = String::new();
        match verb {
            "at" => {
                self.now_ms = words[0].parse().expect("a time");
                self.give(Event::Tick, &mut out);
            }
            "produce" => self.produce(&words, &mut out),
            "written" | "failed" => self.finish_write(verb, &mut out),
            "restart" => {
                self.writing = None;
                let fresh = || TransactionRecord::new(FIRST_PRODUCER_ID, 60_000);
                let record = self.durable.clone().unwrap_or_else(fresh);
                self.transaction = Transaction::restored(record, self.now());
            }
            "epoch" => self.transaction.record.epoch = words[0].parse().expect("an epoch"),
            _ => {
                let event = self.event(verb, &words);
                self.give(event, &mut out);
            }
        }
        self.state(&mut out);
        out
    }

    fn event(&mut self, verb: &str, words: &[&str]) -> Event {
        self.waiters += 1;
        let waiter = self.waiters;
        let fresh_producer_id = named(words, "fresh").map(|id| id.parse().expect("an id"));
        match verb {
            "init" => Event::Init {
                waiter,
                timeout_ms: named(words, "timeout").map_or(60_000, |ms| ms.parse().expect("ms")),
                expected: named(words, "expected").map(producer),
                fresh_producer_id,
            },
            "add" => Event::AddPartitions {
                waiter,
                producer: producer(words[0]),
                partitions: words[1..].iter().map(|word| partition(word)).collect(),
            },
            "offsets" => Event::CommitOffsets {
                waiter,
                producer: producer(words[0]),
                support: support(words),
                through: OFFSETS,
                offsets: words.iter().filter_map(|word| pending(words[1], word)).collect(),
            },
            "end" => Event::End {
                waiter,
                producer: producer(words[0]),
                commit: words[1] == "commit",
                bumps: words.contains(&"v2"),
                fresh_producer_id,
            },
            "drop" => Event::DropGroup { waiter, group: words[0].to_owned() },
            other => panic!("no such verb: {other}"),
        }
    }

    fn produce(&mut self, words: &[&str], out: &mut String) {
        let (producer, partition) = (producer(words[0]), partition(words[1]));
        let admitted = self.transaction.admit_batch(producer, partition, support(words));
        if admitted.is_ok() {
            self.transaction.produced(partition, self.now());
        }
        let text = admitted.err().map_or("ok".to_owned(), error_name);
        writeln!(out, "  batch: {text}").expect("a string");
    }

    fn finish_write(&mut self, verb: &str, out: &mut String) {
        let write = self.writing.take().expect("a write under way");
        let result = match verb {
            "written" => {
                self.durable = write.record;
                Ok(())
            }
            _ => Err(ResponseError::CoordinatorNotAvailable),
        };
        self.give(Event::Written(result), out);
    }

    fn give(&mut self, event: Event, out: &mut String) {
        let (settings, now) = (TransactionSettings::default(), self.now());
        for effect in step(&mut self.transaction, event, &settings, now) {
            match effect {
                Effect::Note(note) => writeln!(out, "  log: {note}"),
                Effect::Forget => writeln!(out, "  forgotten"),
                Effect::Reply(waiter, reply) => writeln!(out, "  #{waiter} {}", text_of(&reply)),
                Effect::Write(write) => {
                    assert!(self.writing.is_none(), "one write at a time");
                    let text = write_text(&write);
                    self.writing = Some(write);
                    writeln!(out, "  write: {text}")
                }
            }
            .expect("a string");
        }
    }

    fn state(&self, out: &mut String) {
        let transaction = &self.transaction;
        let due = transaction.deadline_ms;
        let due = due.map_or(String::new(), |ms| format!(", times out at {ms}"));
        let record = record_text(transaction.record());
        writeln!(out, "  = {} {record}{due}", transaction.state_name()).expect("a string");
    }
}

fn text_of(reply: &Reply) -> String {
    match reply {
        Reply::Producer(Ok(Producer { id, epoch })) => format!("ok {id}/{epoch}"),
        Reply::Producer(Err(error)) | Reply::Done(Err(error)) => error_name(*error),
        Reply::Done(Ok(())) => "ok".to_owned(),
        Reply::NeedsProducerId => "needs a producer id".to_owned(),
    }
}

fn partitions_text(partitions: impl Iterator<Item = PartitionId>) -> String {
    let names = partitions.map(|id| match id {
        OFFSETS => "group".to_owned(),
        id => id.partition.to_string(),
    });
    names.collect::<Vec<_>>().join(" ")
}

fn offsets_text(offsets: &[PendingOffset]) -> String {
    let texts = offsets.iter().map(|it| format!("{}:{}={}", it.group, it.partition, it.offset));
    texts.collect::<Vec<_>>().join(" ")
}

fn record_text(record: &TransactionRecord) -> String {
    let Producer { id, epoch } = record.producer();
    let mut text = format!("{id}/{epoch}");
    if record.last_epoch != NO_EPOCH {
        let _ = write!(text, " after {}", record.last_epoch);
    }
    if !record.partitions.is_empty() {
        let _ = write!(text, " [{}]", partitions_text(record.each_partition()));
    }
    if !record.offsets.is_empty() {
        let _ = write!(text, " {{{}}}", offsets_text(&record.offsets));
    }
    text
}

fn write_text(write: &Write) -> String {
    let Some(record) = &write.record else { return "deletion".to_owned() };
    let mut text = format!("{} {}", record.state.name(), record_text(record));
    if let Some(ending) = &write.ending {
        let Producer { id, epoch } = ending.producer;
        let kind = if ending.commit { "commit" } else { "abort" };
        let partitions = partitions_text(ending.partitions.iter().copied());
        let _ = write!(text, "; {kind} markers {id}/{epoch} into [{partitions}]");
        if !ending.offsets.is_empty() {
            let _ = write!(text, "; offsets {}", offsets_text(&ending.offsets));
        }
    }
    text
}

#[test]
fn offsets_beyond_the_bound_are_refused_and_nothing_is_written() {
    let (mut run, mut out) = (Run::new(), String::new());
    run.say("init");
    run.say("written");
    let most = crate::transaction::PENDING_OFFSETS_MAX;
    let one = |index: usize| pending("g", &format!("{index}=0"));
    let mut commit = |offsets: Vec<PendingOffset>| {
        let producer = Producer { id: FIRST_PRODUCER_ID, epoch: 0 };
        let (waiter, support, through) = (99, Support::Adds, OFFSETS);
        let event = Event::CommitOffsets { waiter, producer, support, through, offsets };
        out.clear();
        run.give(event, &mut out);
        (run.writing.is_some(), run.transaction.record.state, out.clone())
    };
    let refused = "  #99 INVALID_REQUEST\n".to_owned();
    let beyond = commit((0..=most).filter_map(one).collect());
    assert_eq!(beyond, (false, State::Empty, refused));
    let (is_written, ..) = commit((0..most).filter_map(one).collect());
    assert!(is_written);
    // While that is on its way the next one waits, and is refused for what came before it.
    let (_, _, waiting) = commit(one(most).into_iter().collect());
    assert_eq!(waiting, "");
    let heard = run.say("written");
    assert!(heard.contains("  #99 INVALID_REQUEST\n"), "the second is refused");
    assert!(run.writing.is_none());
}

/// Transcripts have one clock that never goes back.
#[test]
fn a_clock_that_was_set_back_leaves_no_more_than_the_whole_time_out() {
    let mut record = TransactionRecord::new(FIRST_PRODUCER_ID, 60_000);
    record.begin(1_000_000);
    let left = |wall_ms| {
        let now = Now { monotonic_ms: 5, wall_ms };
        Transaction::restored(record.clone(), now).deadline_ms
    };
    assert_eq!(left(1_020_000), Some(5 + 40_000));
    assert_eq!(left(0), Some(5 + 60_000));
}

#[test]
fn transactions_behave_as_their_transcripts_say() {
    transcript::check("src/transaction/testdata/transcripts", Run::new, Run::say);
}
