//! What the clients know: what they sent, what they were told of it, and so what must be there.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use odradek_log::PartitionId;
use odradek_protocol::batch::{self, BatchBuilder};
use odradek_protocol::compression::Compression;
use uuid::Uuid;

use crate::transaction::record::Producer;

/// Topic and partition.
pub(super) type Place = (String, i32);
/// Offset and metadata, by place.
pub(super) type Offsets = BTreeMap<Place, (i64, String)>;

/// What a client was told of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing that settles it: it may be in the log or not.
    Open,
    Acked(i64),
    /// It must never be seen.
    Refused,
}

#[derive(Debug)]
pub(super) struct Sent {
    pub id: PartitionId,
    pub topic: String,
    pub bytes: Bytes,
    /// In the model's list.
    pub transaction: Option<usize>,
    pub fate: Fate,
    /// An attempt to send it had no answer that settles it.
    pub doubtful: bool,
}

#[derive(Debug)]
pub(super) struct Transaction {
    pub offsets: Offsets,
    /// A commit was asked for and not refused.
    pub may_commit: bool,
    /// An attempt at that had no answer that settles it.
    pub is_doubtful: bool,
    /// As its client was told.
    pub answered: Option<bool>,
    /// As it was seen; it stays so.
    pub decided: Option<bool>,
    /// Its client goes on to the next one, and knows that the broker has done so.
    pub is_closed: bool,
}

/// The states in which a group's offsets may be; more than one while an answer is missing.
#[derive(Debug, Default, Clone)]
pub(super) struct GroupOffsets {
    pub states: Vec<Offsets>,
    /// Transactions whose offsets are not in the states yet, in order: the group's if and only if
    /// they are committed.
    pub undecided: Vec<usize>,
}

#[derive(Debug, Clone)]
pub(super) enum Change {
    Put(Offsets),
    Remove(Vec<Place>),
    RemoveAll,
}

#[derive(Default)]
pub(super) struct Model {
    pub sent: Vec<Sent>,
    pub transactions: Vec<Transaction>,
    pub groups: BTreeMap<String, GroupOffsets>,
    /// Whether a topic may be there: more than one answer while one is missing.
    pub topics: BTreeMap<String, Vec<bool>>,
    /// Whose they are.
    pub producer_ids: BTreeMap<i64, String>,
    /// The highest that anybody was given.
    pub producers: BTreeMap<i64, i16>,
    /// What was read of a partition: base offset and batch, markers as `None`.
    pub seen: BTreeMap<PartitionId, Vec<(i64, Option<usize>)>>,
    counter: i64,
}

impl GroupOffsets {
    pub(super) fn states(&mut self) -> &mut Vec<Offsets> {
        if self.states.is_empty() {
            self.states.push(Offsets::new());
        }
        &mut self.states
    }

    pub(super) fn done(&mut self, change: &Change) {
        self.states().iter_mut().for_each(|state| change.apply(state));
    }

    pub(super) fn maybe_done(&mut self, change: &Change) {
        let mut changed = self.states().clone();
        changed.iter_mut().for_each(|state| change.apply(state));
        self.states.extend(changed);
        self.states.dedup();
    }
}

impl Change {
    fn apply(&self, state: &mut Offsets) {
        match self {
            Self::Put(offsets) => state.extend(offsets.clone()),
            Self::Remove(places) => places.iter().for_each(|place| drop(state.remove(place))),
            Self::RemoveAll => state.clear(),
        }
    }
}

impl Model {
    /// A number that nobody had before.
    pub(super) fn next(&mut self) -> i64 {
        self.counter += 1;
        self.counter
    }

    pub(super) fn group(&mut self, name: &str) -> &mut GroupOffsets {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// A batch that no other is like: its first key is its place in the list.
    pub(super) fn new_batch(
        &mut self,
        (id, topic): (PartitionId, &str),
        producer: Option<(Producer, i32)>,
        transaction: Option<usize>,
        sizes: &[usize],
        at_ms: i64,
    ) -> usize {
        let number = self.sent.len();
        let mut builder = BatchBuilder::new(Compression::None);
        if let Some((Producer { id, epoch }, sequence)) = producer {
            builder = builder.producer(id, epoch, sequence);
        }
        if transaction.is_some() {
            builder = builder.transactional();
        }
        for size in sizes {
            let key = (number as u64).to_be_bytes();
            builder.push(at_ms, Some(&key), Some(&vec![size.to_be_bytes()[7]; *size]), &[]);
        }
        let (topic, bytes) = (topic.to_owned(), builder.build(0));
        let (fate, doubtful) = (Fate::Open, false);
        self.sent.push(Sent { id, topic, bytes, transaction, fate, doubtful });
        number
    }

    /// The answer to one batch.
    pub(super) fn answer_batch(&mut self, number: usize, error: i16, base_offset: i64) {
        let sent = &mut self.sent[number];
        match (error, sent.fate) {
            (0, Fate::Acked(before)) => {
                assert_eq!(base_offset, before, "batch {number} sent again is the same one");
            }
            (0, Fate::Refused) => panic!("batch {number} is taken of a producer that is fenced"),
            (0, Fate::Open) => sent.fate = Fate::Acked(base_offset),
            // It may come later.
            (CONCURRENT_TRANSACTIONS, _) => {}
            _ if !settles(error) => sent.doubtful = true,
            (_, Fate::Open) if !sent.doubtful => sent.fate = Fate::Refused,
            _ => {}
        }
    }

    /// What is told apart in the log by this number, checked byte for byte.
    pub(super) fn recognise(&self, id: PartitionId, stored: &Bytes) -> usize {
        let records = batch::records(stored, 1 << 20).expect("a batch that can be read");
        let key = records[0].key.clone().expect("ours have keys");
        let number = u64::from_be_bytes(key[..].try_into().expect("eight bytes"));
        let number = usize::try_from(number).expect("small");
        let sent = self.sent.get(number).expect("a batch that was sent");
        let mut as_sent = BytesMut::from(&stored[..]);
        batch::set_base_offset(&mut as_sent, 0);
        batch::set_leader_epoch(&mut as_sent, 0);
        let mut bytes = BytesMut::from(&sent.bytes[..]);
        batch::set_leader_epoch(&mut bytes, 0);
        assert_eq!((id, as_sent), (sent.id, bytes), "batch {number}, byte for byte");
        number
    }

    /// KIP-98: an id belongs to one producer for ever.
    pub(super) fn give_producer(&mut self, owner: &str, producer: Producer) {
        let known = self.producer_ids.entry(producer.id).or_insert_with(|| owner.to_owned());
        assert_eq!(known, owner, "producer id {} is handed out twice", producer.id);
        let before = self.producers.insert(producer.id, producer.epoch);
        assert!(before.is_none_or(|before| before < producer.epoch), "{producer:?} again");
    }

    /// How much happened, for whoever reads the output.
    pub(super) fn summary(&self) -> String {
        let acked = self.sent.iter().filter(|sent| matches!(sent.fate, Fate::Acked(_))).count();
        let decided = |commit: bool| {
            let transactions = self.transactions.iter();
            transactions.filter(|transaction| transaction.decided == Some(commit)).count()
        };
        let offsets: usize =
            self.groups.values().flat_map(|group| &group.states).map(|s| s.len()).sum();
        format!(
            "{acked} of {} batches acknowledged, {} transactions committed, {} aborted, of {}; \
             offsets at {offsets} places",
            self.sent.len(),
            decided(true),
            decided(false),
            self.transactions.len(),
        )
    }

    pub(super) fn forget_topic(&mut self, topic_id: Uuid) {
        self.seen.retain(|id, _| id.topic_id != topic_id);
    }
}

const CONCURRENT_TRANSACTIONS: i16 = 51;

/// Errors behind which nothing was done, and nothing will be.
pub(super) fn settles(error: i16) -> bool {
    const REFUSALS: [i16; 21] =
        [3, 22, 25, 27, 36, 45, 47, 48, 49, 51, 59, 68, 69, 79, 82, 90, 100, 110, 111, 113, 120];
    error == 0 || REFUSALS.contains(&error)
}
