//! What must hold whenever a broker has just started, or everybody has an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use odradek_log::PartitionId;
use odradek_protocol::batch::{self, BatchHeader};

use super::clients::FLEETING;
use super::model::{Change, Fate};
use super::world::World;
use crate::partition::Partition;
use crate::reads;

const READ_BYTES: usize = 1 << 20;
const ABORT: [u8; 4] = [0, 0, 0, 0];

/// What became of a batch in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Of no transaction.
    Plain,
    /// Of one that is not over.
    Undecided,
    Committed,
    Aborted,
}

/// A partition as it can be read, in order.
#[derive(Default)]
struct Contents {
    /// Base offset and batch, markers as `None`.
    batches: Vec<(i64, Option<usize>)>,
    outcomes: BTreeMap<usize, Outcome>,
    /// First offsets of transactions that are not over, by producer.
    undecided: BTreeMap<i64, i64>,
}

impl World {
    pub(super) fn check(&mut self) {
        self.check_topics();
        let mut outcomes = BTreeMap::new();
        let topics = self.core().topics.all();
        let topics = topics.iter().filter(|topic| !topic.internal);
        for partition in topics.flat_map(|topic| topic.partitions.clone()) {
            let contents = self.contents(&partition);
            self.check_committed(&partition, &contents);
            self.check_seen(partition.id, &contents);
            outcomes.extend(contents.outcomes);
        }
        self.check_batches(&outcomes);
        self.check_transactions(&outcomes);
        let groups: Vec<String> = self.model.groups.keys().cloned().collect();
        groups.iter().for_each(|group| self.check_group(group));
    }

    fn check_topics(&mut self) {
        let core = self.core();
        for (name, may_be) in &mut self.model.topics {
            let exists = core.topics.by_name(name).is_some();
            assert!(may_be.contains(&exists), "topic {name} is there: {exists}");
            *may_be = vec![exists];
        }
        let gone: BTreeSet<_> = self.model.seen.keys().map(|id| id.topic_id).collect();
        for topic_id in gone.into_iter().filter(|id| core.topics.by_id(*id).is_none()) {
            self.model.forget_topic(topic_id);
        }
    }

    /// All that is in the log, each batch known again byte for byte, and what markers say of it.
    fn contents(&self, partition: &Arc<Partition>) -> Contents {
        let log = self.core().log.clone();
        let ends = partition.ends();
        let mut contents = Contents::default();
        let mut open: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut offset = ends.log_start_offset;
        while offset < ends.log_end_offset {
            let read = log.read(partition.id, offset, READ_BYTES).expect("it can be read");
            assert_ne!(read.byte_count(), 0, "nothing at {offset} of {:?}", partition.id);
            for bytes in read.each_batch() {
                let header = BatchHeader::parse(&bytes).expect("a batch");
                assert_eq!(header.base_offset, offset, "no gap");
                offset = header.last_offset() + 1;
                let (base_offset, producer_id) = (header.base_offset, header.producer_id);
                if header.is_control() {
                    let records = batch::records(&bytes, READ_BYTES).expect("a marker");
                    let outcome = match records[0].key.as_deref() == Some(&ABORT) {
                        true => Outcome::Aborted,
                        false => Outcome::Committed,
                    };
                    let ended = open.remove(&producer_id).unwrap_or_default();
                    contents.outcomes.extend(ended.into_iter().map(|number| (number, outcome)));
                    contents.undecided.remove(&producer_id);
                    contents.batches.push((base_offset, None));
                    continue;
                }
                let number = self.model.recognise(partition.id, &bytes);
                let mut outcome = Outcome::Plain;
                if header.is_transactional() {
                    outcome = Outcome::Undecided;
                    open.entry(producer_id).or_default().push(number);
                    contents.undecided.entry(producer_id).or_insert(base_offset);
                }
                let before = contents.outcomes.insert(number, outcome);
                assert_eq!(before, None, "batch {number} is there twice");
                contents.batches.push((base_offset, Some(number)));
            }
        }
        contents
    }

    /// What a reader of committed records gets, and where that ends.
    fn check_committed(&self, partition: &Arc<Partition>, contents: &Contents) {
        let ends = partition.ends();
        let stable = contents.undecided.values().min().copied().unwrap_or(ends.log_end_offset);
        let place = (&partition.topic, partition.index());
        assert_eq!(ends.last_stable_offset, stable, "the last stable offset of {place:?}");
        let is_visible = |number: &usize| {
            matches!(contents.outcomes[number], Outcome::Plain | Outcome::Committed)
        };
        let below = contents.batches.iter().take_while(|(base_offset, _)| *base_offset < stable);
        let expected: Vec<usize> =
            below.filter_map(|(_, number)| *number).filter(is_visible).collect();
        let (broker, core) = (self.broker(), self.core());
        let mut found = Vec::new();
        let mut offset = ends.log_start_offset;
        while offset < stable {
            let read = reads::read_committed(broker, &core, partition, offset, READ_BYTES);
            let committed = self.block_on(read).expect("it can be read");
            assert!(committed.read.next_offset > offset, "it goes on");
            offset = committed.read.next_offset;
            let batches = committed.batches();
            found.extend(batches.iter().map(|bytes| self.model.recognise(partition.id, bytes)));
        }
        assert_eq!(found, expected, "committed in {place:?}");
    }

    /// Nothing that was shown is taken back.
    fn check_seen(&mut self, id: PartitionId, contents: &Contents) {
        let seen = self.model.seen.entry(id).or_default();
        let common = seen.len().min(contents.batches.len());
        assert_eq!(seen[..], contents.batches[..common], "what was shown of {id:?}");
        seen.clone_from(&contents.batches);
    }

    fn check_batches(&self, outcomes: &BTreeMap<usize, Outcome>) {
        let core = self.core();
        let mut places = BTreeMap::new();
        for (id, batches) in &self.model.seen {
            for (base_offset, number) in batches {
                places.extend(number.map(|number| (number, (*id, *base_offset))));
            }
        }
        for (number, sent) in self.model.sent.iter().enumerate() {
            if core.topics.by_id(sent.id.topic_id).is_none() {
                continue;
            }
            let found = places.get(&number).copied();
            match sent.fate {
                Fate::Acked(base_offset) => {
                    assert_eq!(found, Some((sent.id, base_offset)), "batch {number} was acked");
                }
                Fate::Refused => assert_eq!(found, None, "batch {number} was refused"),
                Fate::Open => {}
            }
            let is_plain = outcomes.get(&number).is_none_or(|outcome| *outcome == Outcome::Plain);
            assert!(sent.transaction.is_some() || is_plain);
        }
    }

    /// All of a transaction's batches have one outcome, which is the one that its client was told,
    /// and stays.
    fn check_transactions(&mut self, outcomes: &BTreeMap<usize, Outcome>) {
        let mut found: BTreeMap<usize, BTreeSet<Outcome>> = BTreeMap::new();
        for (number, outcome) in outcomes {
            if let Some(transaction) = self.model.sent[*number].transaction {
                found.entry(transaction).or_default().insert(*outcome);
            }
        }
        for (number, transaction) in self.model.transactions.iter_mut().enumerate() {
            let found = found.remove(&number).unwrap_or_default();
            assert!(found.len() <= 1, "transaction {number} is {found:?}");
            let decided = match found.first() {
                Some(Outcome::Committed) => Some(true),
                Some(Outcome::Aborted) => Some(false),
                Some(Outcome::Undecided) => {
                    assert!(transaction.answered.is_none(), "transaction {number} was ended");
                    assert!(transaction.decided.is_none(), "transaction {number} was decided");
                    assert!(!transaction.is_closed, "transaction {number} is open for ever");
                    None
                }
                _ => transaction.answered,
            };
            if decided == Some(true) {
                assert!(transaction.may_commit, "nobody committed transaction {number}");
            }
            if let (Some(decided), Some(answered)) = (decided, transaction.answered) {
                assert_eq!(decided, answered, "transaction {number} is what was answered");
            }
            if let Some(before) = transaction.decided.filter(|_| decided.is_some()) {
                assert_eq!(decided, Some(before), "transaction {number} stays decided");
            }
            transaction.decided = transaction.decided.or(decided);
        }
    }

    /// The group's offsets are in one of the states in which they may be.
    fn check_group(&mut self, name: &str) {
        let transactions = &self.model.transactions;
        let group = self.model.groups.get_mut(name).expect("it is known");
        let mut left = Vec::new();
        for number in std::mem::take(&mut group.undecided) {
            let transaction = &transactions[number];
            let put = Change::Put(transaction.offsets.clone());
            match transaction.decided {
                Some(true) => group.done(&put),
                Some(false) => {}
                None if transaction.may_commit => group.maybe_done(&put),
                None => {}
            }
            if transaction.decided.is_none() && !transaction.is_closed {
                left.push(number);
            }
        }
        group.undecided = left;
        let states = group.states().clone();
        let mut found = self.block_on(self.connection().committed(name.to_owned()));
        found.retain(|(topic, _), _| topic != FLEETING);
        assert!(states.contains(&found), "{name} has {found:?} and not one of {states:?}");
        self.model.group(name).states = vec![found];
    }

    /// At the end of a life: nothing is left open.
    pub(super) fn check_nothing_is_stuck(&self) {
        let core = self.core();
        for line in core.transactions.list() {
            assert_ne!(line.record.state.name(), "Ongoing", "{}", line.transactional_id);
        }
        for topic in core.topics.all() {
            for partition in &topic.partitions {
                let ends = partition.ends();
                assert_eq!(ends.last_stable_offset, ends.log_end_offset, "{}", topic.name);
            }
        }
        for group in self.model.groups.keys() {
            assert!(core.transactions.pending_places(group).is_empty(), "{group}");
        }
    }
}
