//! The clients: each has one request on its way at most, and goes by what it was told, as the
//! clients of Kafka do.

use std::collections::BTreeMap;

use odradek_log::PartitionId;
use rand::Rng;
use rand::rngs::StdRng;

use super::model::{Change, Fate, Model, Offsets, Place, Transaction, settles};
use super::requests::{Member, Named, Produced, Reply, Request};
use crate::topics::Topics;
use crate::transaction::record::Producer;

/// The topics that stay.
pub(super) const TOPICS: [(&str, i32); 2] = [("a", 2), ("b", 1)];
/// The one that comes and goes.
pub(super) const FLEETING: &str = "c";
const FLEETING_PARTITIONS: i32 = 2;

const FENCED: [i16; 3] = [47, 49, 90];
const CONCURRENT_TRANSACTIONS: i16 = 51;
const MEMBER_ID_REQUIRED: i16 = 79;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// What a client sees when it thinks of its next request.
pub(super) struct Sight<'a> {
    pub random: &'a mut StdRng,
    pub model: &'a mut Model,
    pub topics: &'a Topics,
    pub now_ms: i64,
    /// The fleeting topic may be written to: nobody is making or deleting it.
    pub is_settled: bool,
}

/// A request, and what is noted when the answer comes or does not.
#[derive(Debug, Clone)]
pub(super) struct Planned {
    pub request: Request,
    /// In the model's list, as in the request.
    pub batches: Vec<usize>,
    pub change: Option<(String, Change)>,
}

impl Planned {
    fn of(request: Request) -> Self {
        Self { request, batches: Vec::new(), change: None }
    }
}

#[derive(Debug)]
pub(super) enum Client {
    /// Sends each batch once, whatever becomes of it.
    Plain,
    Idempotent(Box<Idempotent>),
    Transactional(Box<Transactional>),
    /// Commits for a group without members, deletes offsets and the group.
    Simple {
        group: String,
    },
    /// The one member of a group of the classic protocol.
    Classic {
        group: String,
        member_id: String,
        generation: Option<i32>,
        is_synced: bool,
    },
    /// The one member of a group of the consumer protocol.
    Consumer {
        group: String,
        epoch: i32,
    },
    Administrator,
}

/// Sends what may be lost again, until it hears of it.
#[derive(Debug, Default)]
pub(super) struct Idempotent {
    name: String,
    producer: Option<Producer>,
    sequences: BTreeMap<PartitionId, i32>,
    last: BTreeMap<PartitionId, usize>,
    again: Option<Planned>,
}

#[derive(Debug)]
pub(super) struct Transactional {
    id: String,
    group: String,
    is_new: bool,
    producer: Option<Producer>,
    former: Option<Producer>,
    sequences: BTreeMap<PartitionId, i32>,
    /// Of the transaction: partitions that were added by name, and whether the group was.
    added: Vec<Place>,
    is_group_added: bool,
    current: Option<usize>,
    again: Option<Planned>,
    /// It starts anew, with a new epoch.
    starts: bool,
}

fn places_of(sight: &mut Sight<'_>, count: usize) -> Vec<(PartitionId, String)> {
    let mut names: Vec<(&str, i32)> = TOPICS.to_vec();
    if sight.is_settled && sight.topics.by_name(FLEETING).is_some() {
        names.push((FLEETING, FLEETING_PARTITIONS));
    }
    let mut places = BTreeMap::new();
    for _ in 0..count {
        let (name, partitions) = names[sight.random.random_range(0..names.len())];
        let partition = sight.random.random_range(0..partitions);
        let topic = sight.topics.by_name(name).expect("it is there");
        places.insert(PartitionId { topic_id: topic.id, partition }, name.to_owned());
    }
    places.into_iter().collect()
}

fn sizes(random: &mut StdRng) -> Vec<usize> {
    let count = random.random_range(1..4);
    let size = |random: &mut StdRng| match random.random_bool(0.05) {
        true => 3_000,
        false => random.random_range(0..200),
    };
    (0..count).map(|_| size(random)).collect()
}

fn offsets(sight: &mut Sight<'_>) -> Offsets {
    let mut offsets = Offsets::new();
    for _ in 0..sight.random.random_range(1..4) {
        let (topic, partitions) = TOPICS[sight.random.random_range(0..TOPICS.len())];
        let partition = sight.random.random_range(0..partitions);
        let offset = sight.model.next();
        let metadata = "m".repeat(sight.random.random_range(0..9));
        offsets.insert((topic.to_owned(), partition), (offset, metadata));
    }
    offsets
}

fn produced(model: &Model, batches: &[usize]) -> Vec<Produced> {
    let of = |number: &usize| {
        let sent = &model.sent[*number];
        let (topic, topic_id) = (sent.topic.clone(), sent.id.topic_id);
        Produced { topic, topic_id, partition: sent.id.partition, bytes: sent.bytes.clone() }
    };
    batches.iter().map(of).collect()
}

fn commit(sight: &mut Sight<'_>, group: &str, member: Member) -> Planned {
    let offsets = offsets(sight);
    let change = Some((group.to_owned(), Change::Put(offsets.clone())));
    let request = Request::Commit { group: group.to_owned(), member, offsets };
    Planned { request, batches: Vec::new(), change }
}

impl Client {
    pub(super) fn transactional(number: usize, is_new: bool) -> Self {
        Self::Transactional(Box::new(Transactional {
            id: format!("transactional {number}"),
            group: format!("group {number}"),
            is_new,
            producer: None,
            former: None,
            sequences: BTreeMap::new(),
            added: Vec::new(),
            is_group_added: false,
            current: None,
            again: None,
            starts: true,
        }))
    }

    pub(super) fn next(&mut self, sight: &mut Sight<'_>) -> Option<Planned> {
        match self {
            Self::Plain => {
                let count = sight.random.random_range(1..3);
                let mut batches = Vec::new();
                for (id, topic) in places_of(sight, count) {
                    let sizes = sizes(sight.random);
                    let at_ms = sight.now_ms;
                    batches.push(sight.model.new_batch((id, &topic), None, None, &sizes, at_ms));
                }
                let sent = produced(sight.model, &batches);
                let request = Request::Produce { transaction: None, batches: sent };
                Some(Planned { request, batches, change: None })
            }
            Self::Idempotent(client) => Some(client.next(sight)),
            Self::Transactional(client) => Some(client.next(sight)),
            Self::Simple { group } => Some(match sight.random.random_range(0..10) {
                0 => {
                    let change = Some((group.clone(), Change::RemoveAll));
                    let request = Request::DeleteGroup { group: group.clone() };
                    Planned { request, batches: Vec::new(), change }
                }
                1 => {
                    let places: Vec<Place> = offsets(sight).into_keys().collect();
                    let change = Some((group.clone(), Change::Remove(places.clone())));
                    let request = Request::DeleteOffsets { group: group.clone(), places };
                    Planned { request, batches: Vec::new(), change }
                }
                _ => commit(sight, group, Member { id: String::new(), generation: -1 }),
            }),
            Self::Classic { group, member_id, generation, is_synced } => {
                let group = group.clone();
                let id = member_id.clone();
                Some(match generation {
                    None => Planned::of(Request::Join { group, member_id: id }),
                    Some(generation) => {
                        let member = Member { id, generation: *generation };
                        match is_synced {
                            false => Planned::of(Request::Sync { group, member }),
                            true => commit(sight, &group, member),
                        }
                    }
                })
            }
            Self::Consumer { group, epoch } => {
                let member = Member { id: "the member".to_owned(), generation: *epoch };
                Some(match *epoch == 0 || sight.random.random_bool(0.3) {
                    true => Planned::of(Request::Heartbeat { group: group.clone(), member }),
                    false => commit(sight, group, member),
                })
            }
            Self::Administrator => {
                let name = FLEETING.to_owned();
                Some(Planned::of(match sight.topics.by_name(FLEETING) {
                    Some(_) => Request::DeleteTopic { name },
                    None => Request::CreateTopic { name, partitions: FLEETING_PARTITIONS },
                }))
            }
        }
    }

    /// `None`: no answer will come.
    pub(super) fn hear(&mut self, planned: &Planned, reply: Option<&Reply>, model: &mut Model) {
        note(planned, reply, model);
        match self {
            Self::Plain | Self::Simple { .. } | Self::Administrator => {}
            Self::Idempotent(client) => client.hear(planned, reply, model),
            Self::Transactional(client) => client.hear(planned, reply, model),
            Self::Classic { member_id, generation, is_synced, .. } => {
                match (&planned.request, reply) {
                    (Request::Join { .. }, Some(reply)) if reply.error() == 0 => {
                        member_id.clone_from(&reply.member_id);
                        (*generation, *is_synced) = (Some(reply.generation), false);
                    }
                    (Request::Join { .. }, Some(reply)) if reply.error() == MEMBER_ID_REQUIRED => {
                        member_id.clone_from(&reply.member_id);
                    }
                    (_, Some(reply)) if reply.error() == 0 => *is_synced = true,
                    _ => (*member_id, *generation) = (String::new(), None),
                }
            }
            Self::Consumer { epoch, .. } => match (&planned.request, reply) {
                (Request::Heartbeat { .. }, Some(reply)) if reply.error() == 0 => {
                    *epoch = reply.generation;
                }
                (_, Some(reply)) if reply.error() == 0 => {}
                _ => *epoch = 0,
            },
        }
    }
}

/// What every answer, or that there is none, says of batches, offsets and topics.
fn note(planned: &Planned, reply: Option<&Reply>, model: &mut Model) {
    for (at, number) in planned.batches.iter().enumerate() {
        match reply {
            Some(reply) => {
                let base_offset = reply.base_offsets.get(at).copied().unwrap_or(-1);
                model.answer_batch(*number, reply.errors[at], base_offset);
            }
            None => model.sent[*number].doubtful = true,
        }
    }
    if let Some((group, change)) = &planned.change {
        match reply.map(Reply::error) {
            Some(0) => model.group(group).done(change),
            Some(error) if settles(error) => {}
            _ => model.group(group).maybe_done(change),
        }
    }
    let (name, exists) = match &planned.request {
        Request::CreateTopic { name, .. } => (name, true),
        Request::DeleteTopic { name } => (name, false),
        _ => return,
    };
    let may_be = model.topics.entry(name.clone()).or_insert_with(|| vec![false]);
    match reply.map(Reply::error) {
        Some(0) => *may_be = vec![exists],
        Some(error) if settles(error) => {}
        _ => may_be.push(exists),
    }
}

impl Idempotent {
    pub(super) fn new(number: usize) -> Self {
        Self { name: format!("idempotent {number}"), ..Self::default() }
    }

    fn next(&mut self, sight: &mut Sight<'_>) -> Planned {
        if let Some(again) = self.again.clone() {
            return again;
        }
        let Some(producer) = self.producer else { return Planned::of(Request::NewProducer) };
        // What was acknowledged, as after a connection that broke before the answer came.
        if sight.random.random_bool(0.15)
            && let Some(last) = self.last.values().next_back()
            && sight.topics.by_id(sight.model.sent[*last].id.topic_id).is_some()
            && sight.is_settled
        {
            let batches = vec![*last];
            let sent = produced(sight.model, &batches);
            let request = Request::Produce { transaction: None, batches: sent };
            return Planned { request, batches, change: None };
        }
        let (id, topic) = places_of(sight, 1).remove(0);
        let sizes = sizes(sight.random);
        let sequence = self.sequences.get(&id).copied().unwrap_or(0);
        let producer = Some((producer, sequence));
        let number = sight.model.new_batch((id, &topic), producer, None, &sizes, sight.now_ms);
        let records = i32::try_from(sizes.len()).expect("few");
        self.sequences.insert(id, sequence + records);
        let batches = vec![number];
        let sent = produced(sight.model, &batches);
        let request = Request::Produce { transaction: None, batches: sent };
        Planned { request, batches, change: None }
    }

    fn hear(&mut self, planned: &Planned, reply: Option<&Reply>, model: &mut Model) {
        if let Request::NewProducer = planned.request {
            if let Some(reply) = reply.filter(|reply| reply.error() == 0) {
                let producer = reply.producer.expect("told");
                model.give_producer(&format!("{} {}", self.name, producer.id), producer);
                self.producer = Some(producer);
            }
            return;
        }
        let sent = &model.sent[planned.batches[0]];
        self.again = match reply.map(Reply::error) {
            Some(0) => {
                self.last.insert(sent.id, planned.batches[0]);
                None
            }
            // Its topic was deleted.
            Some(UNKNOWN_TOPIC_OR_PARTITION | UNKNOWN_TOPIC_ID) if sent.topic == FLEETING => {
                self.last.remove(&sent.id);
                None
            }
            Some(error) if settles(error) => {
                let (id, topic) = (sent.id, &sent.topic);
                panic!("{} is refused with {error} in {topic} {id:?}, for nothing", self.name)
            }
            _ => Some(planned.clone()),
        };
    }
}

impl Transactional {
    fn named(&self) -> Named {
        let producer = self.producer.expect("it has one before it begins");
        Named { id: self.id.clone(), producer, is_new: self.is_new }
    }

    fn next(&mut self, sight: &mut Sight<'_>) -> Planned {
        if let Some(again) = self.again.take() {
            if sight.random.random_bool(0.5) && !self.is_gone(&again, sight) {
                return again;
            }
            self.starts = true;
        }
        if self.starts || self.producer.is_none() {
            // Some say what they had (KIP-360), some are new programs with the same id.
            let expected = self.producer.filter(|_| sight.random.random_bool(0.3));
            let (id, is_new) = (self.id.clone(), self.is_new);
            return Planned::of(Request::Init { id, expected, is_new });
        }
        if let Some(former) = self.former.filter(|_| sight.random.random_bool(0.05)) {
            return self.as_a_zombie(former, sight);
        }
        let current = *self.current.get_or_insert_with(|| {
            let number = sight.model.transactions.len();
            sight.model.transactions.push(Transaction {
                offsets: Offsets::new(),
                may_commit: false,
                is_doubtful: false,
                answered: None,
                decided: None,
                is_closed: false,
            });
            sight.model.group(&self.group).undecided.push(number);
            number
        });
        match sight.random.random_range(0..100) {
            0..=49 => self.produce(current, sight),
            50..=69 => self.commit_offsets(sight),
            70..=73 => {
                self.starts = true;
                self.next(sight)
            }
            end => {
                let commit = end < 92;
                sight.model.transactions[current].may_commit |= commit;
                Planned::of(Request::End { transaction: self.named(), commit })
            }
        }
    }

    /// Whether it is for a topic that was deleted meanwhile.
    fn is_gone(&self, planned: &Planned, sight: &Sight<'_>) -> bool {
        let mut ids = planned.batches.iter().map(|number| sight.model.sent[*number].id.topic_id);
        !sight.is_settled || ids.any(|id| sight.topics.by_id(id).is_none())
    }

    fn produce(&mut self, current: usize, sight: &mut Sight<'_>) -> Planned {
        let count = sight.random.random_range(1..4);
        let places = places_of(sight, count);
        let names = places.iter().map(|(id, topic)| (topic.clone(), id.partition));
        let missing: Vec<Place> = names.filter(|place| !self.added.contains(place)).collect();
        if !self.is_new && !missing.is_empty() {
            return Planned::of(Request::AddPartitions {
                transaction: self.named(),
                places: missing,
            });
        }
        let mut batches = Vec::new();
        for (id, topic) in places {
            let sizes = sizes(sight.random);
            let sequence = self.sequences.get(&id).copied().unwrap_or(0);
            let producer = self.producer.map(|producer| (producer, sequence));
            let (place, at_ms) = ((id, &topic[..]), sight.now_ms);
            batches.push(sight.model.new_batch(place, producer, Some(current), &sizes, at_ms));
            self.sequences.insert(id, sequence + i32::try_from(sizes.len()).expect("few"));
        }
        let sent = produced(sight.model, &batches);
        let request = Request::Produce { transaction: Some(self.named()), batches: sent };
        Planned { request, batches, change: None }
    }

    fn commit_offsets(&mut self, sight: &mut Sight<'_>) -> Planned {
        let (transaction, group) = (self.named(), self.group.clone());
        if !self.is_new && !self.is_group_added {
            return Planned::of(Request::AddOffsets { transaction, group });
        }
        let offsets = offsets(sight);
        Planned::of(Request::CommitInTransaction { transaction, group, offsets })
    }

    /// With an epoch that another producer has fenced.
    fn as_a_zombie(&self, former: Producer, sight: &mut Sight<'_>) -> Planned {
        let (id, topic) = places_of(sight, 1).remove(0);
        let sequence = self.sequences.get(&id).copied().unwrap_or(0);
        let producer = Some((former, sequence));
        let current = Some(usize::MAX);
        let at_ms = sight.now_ms;
        let number = sight.model.new_batch((id, &topic), producer, current, &[7], at_ms);
        sight.model.sent[number].fate = Fate::Refused;
        let batches = vec![number];
        let sent = produced(sight.model, &batches);
        let transaction = Named { producer: former, ..self.named() };
        let request = Request::Produce { transaction: Some(transaction), batches: sent };
        Planned { request, batches, change: None }
    }

    fn hear(&mut self, planned: &Planned, reply: Option<&Reply>, model: &mut Model) {
        let error = reply.map(Reply::error);
        if let (Request::End { commit: true, .. }, Some(current)) = (&planned.request, self.current)
        {
            let transaction = &mut model.transactions[current];
            let is_settled = error.is_some_and(settles);
            transaction.is_doubtful |= !is_settled;
            transaction.may_commit = !is_settled || error == Some(0) || transaction.is_doubtful;
        }
        if planned.batches.iter().any(|number| model.sent[*number].fate == Fate::Refused)
            && matches!(&planned.request, Request::Produce { transaction: Some(named), .. }
                if Some(named.producer) != self.producer)
        {
            return;
        }
        match (&planned.request, error) {
            (Request::Init { .. }, Some(0)) => {
                let producer = reply.and_then(|reply| reply.producer).expect("told");
                model.give_producer(&self.id, producer);
                self.close(model);
                self.former = self.producer.replace(producer);
                self.sequences.clear();
                self.starts = false;
            }
            (Request::End { commit, .. }, Some(0)) => {
                let producer = reply.and_then(|reply| reply.producer).expect("told");
                if let Some(current) = self.current {
                    model.transactions[current].answered = Some(*commit);
                }
                self.close(model);
                if self.is_new {
                    model.give_producer(&self.id, producer);
                    self.former = self.producer.replace(producer);
                    self.sequences.clear();
                }
            }
            // Nothing was in it.
            (Request::End { .. }, Some(48)) => self.starts = true,
            (Request::AddPartitions { places, .. }, Some(0)) => self.added.extend(places.clone()),
            (Request::AddOffsets { .. }, Some(0)) => self.is_group_added = true,
            (Request::CommitInTransaction { offsets, .. }, Some(0)) => {
                if let Some(current) = self.current {
                    model.transactions[current].offsets.extend(offsets.clone());
                }
            }
            (_, Some(0)) => {}
            (_, Some(CONCURRENT_TRANSACTIONS)) => self.again = Some(planned.clone()),
            (_, Some(error)) if FENCED.contains(&error) => {
                self.starts = true;
                // Another one has it; what it says it had would not be believed.
                self.producer = None;
            }
            // What is certain to be refused is not asked again.
            (_, Some(error)) if settles(error) => self.starts = true,
            (Request::Produce { .. } | Request::End { .. }, _) => {
                self.again = Some(planned.clone());
            }
            _ => self.starts = true,
        }
    }

    /// The transaction is behind it.
    fn close(&mut self, model: &mut Model) {
        if let Some(current) = self.current.take() {
            model.transactions[current].is_closed = true;
        }
        self.added.clear();
        self.is_group_added = false;
    }
}
