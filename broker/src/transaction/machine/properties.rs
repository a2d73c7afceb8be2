//! Random schedules of begin, produce, commit, abort, time-out, fence, full disk and crash over
//! several producers and partitions, on a log that is a list of units of which the first so many
//! are durable. What only an observer can tell:
//!
//! - P1. A reader of committed records sees every record of a transaction whose commit was
//!   answered, and none of one that was aborted, timed out, or fenced.
//! - P2. Of a commit whose answer was lost, it sees all records in all partitions, or none.
//! - P3. No batch comes behind a marker that fences it.
//! - P4. After a crash every open transaction belongs to a transactional id.
//! - P5. Once time has passed, the last stable offset of every partition is its end.
//! - P6. Groups get the offsets of committed transactions only, and all of those.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use uuid::Uuid;

use super::super::recover::{self, Open};
use super::*;

const PARTITIONS: i32 = 3;
const IDS: [&str; 2] = ["a", "b"];
/// Two producers compete for the first id: one of version 1, one of version 2.
const CLIENTS: [(usize, Support); 3] =
    [(0, Support::Named), (0, Support::Adds), (1, Support::Adds)];
const TIMEOUT_MS: i32 = 1_000;
const OFFSETS: PartitionId = PartitionId { topic_id: Uuid::from_u128(2), partition: 0 };

#[derive(Debug, Clone)]
enum Act {
    Init {
        client: usize,
        names: bool,
    },
    Add {
        client: usize,
        partition: i32,
    },
    Produce {
        client: usize,
        partition: i32,
    },
    Offsets {
        client: usize,
    },
    End {
        client: usize,
        commit: bool,
    },
    Pass {
        ms: i64,
    },
    /// So many more units become durable.
    Sync {
        units: usize,
    },
    /// What is not durable yet is refused.
    Full,
    /// The process ends; so many of the units that nobody was answered are there all the same.
    Crash {
        kept: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let client = 0..CLIENTS.len();
    let place = (0..CLIENTS.len(), 0..PARTITIONS);
    prop_oneof![
        3 => (client.clone(), any::<bool>())
            .prop_map(|(client, names)| Act::Init { client, names }),
        3 => place.clone().prop_map(|(client, partition)| Act::Add { client, partition }),
        8 => place.prop_map(|(client, partition)| Act::Produce { client, partition }),
        3 => client.clone().prop_map(|client| Act::Offsets { client }),
        5 => (client, prop::bool::weighted(0.7))
            .prop_map(|(client, commit)| Act::End { client, commit }),
        2 => prop_oneof![Just(10_i64), Just(1_100)].prop_map(|ms| Act::Pass { ms }),
        12 => (1..4_usize).prop_map(|units| Act::Sync { units }),
        1 => Just(Act::Full),
        1 => (0..3_usize).prop_map(|kept| Act::Crash { kept }),
    ]
}

enum Unit {
    Batch { partition: i32, producer: Producer, value: usize },
    Write { id: usize, write: Write },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    /// The end was asked for; its answer has not come.
    Asked {
        commit: bool,
    },
    Committed,
    /// Aborted, fenced or timed out: nothing of it may be seen.
    Gone,
    /// The answer to a commit was lost.
    Unknown,
}

/// What one producer did in one transaction.
struct Doing {
    outcome: Outcome,
    values: Vec<usize>,
    offset: Option<i64>,
    /// A batch or an addition was refused, or lost in a crash: it can only be aborted.
    broken: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Init,
    Add,
    Offsets(i64),
    End,
}

#[derive(Default)]
struct Client {
    producer: Option<Producer>,
    doing: Option<usize>,
    waits: Option<(Waiter, Asked)>,
    unsynced: usize,
}

struct World {
    machines: Vec<Transaction>,
    clients: Vec<Client>,
    doings: Vec<Doing>,
    units: Vec<Unit>,
    durable: usize,
    now_ms: i64,
    next: usize,
    next_producer_id: i64,
}

impl World {
    fn new() -> Self {
        let machines = (0..).zip(IDS).map(|(id, _)| Transaction::new(id, TIMEOUT_MS)).collect();
        Self {
            machines,
            clients: CLIENTS.iter().map(|_| Client::default()).collect(),
            doings: Vec::new(),
            units: Vec::new(),
            durable: 0,
            now_ms: 0,
            next: 0,
            next_producer_id: 100,
        }
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: self.now_ms }
    }

    fn number(&mut self) -> usize {
        self.next += 1;
        self.next
    }

    fn give(&mut self, id: usize, event: Event) {
        let now = self.now();
        for effect in step(&mut self.machines[id], event, &TransactionSettings::default(), now) {
            match effect {
                Effect::Write(write) => self.units.push(Unit::Write { id, write }),
                Effect::Reply(waiter, reply) => self.answered(waiter, &reply),
                Effect::Note(_) => {}
                Effect::Forget => {
                    // Its first write failed; no schedule is seven days long.
                    assert_eq!(self.machines[id].record().epoch, NO_EPOCH);
                    self.next_producer_id += 1;
                    self.machines[id] = Transaction::new(self.next_producer_id, TIMEOUT_MS);
                }
            }
        }
    }

    fn ask(&mut self, client: usize, asked: Asked, event: impl FnOnce(Waiter) -> Event) {
        let waiter = self.number() as Waiter;
        self.clients[client].waits = Some((waiter, asked));
        self.give(CLIENTS[client].0, event(waiter));
    }

    fn answered(&mut self, waiter: Waiter, reply: &Reply) {
        let waits = |client: &Client| client.waits.is_some_and(|(waits, _)| waits == waiter);
        let Some(at) = self.clients.iter().position(waits) else { return };
        let Some((_, asked)) = self.clients[at].waits.take() else { return };
        let doing = self.clients[at].doing;
        match (asked, reply) {
            (Asked::Init, Reply::Producer(Ok(producer))) => {
                self.drop_doing(at);
                self.clients[at].producer = Some(*producer);
            }
            (Asked::End, Reply::Producer(Ok(producer))) => {
                self.clients[at].producer = Some(*producer);
                if let Some(doing) = self.clients[at].doing.take() {
                    let doing = &mut self.doings[doing];
                    let committed = doing.outcome == (Outcome::Asked { commit: true });
                    doing.outcome = if committed { Outcome::Committed } else { Outcome::Gone };
                }
            }
            (Asked::End, Reply::Producer(Err(ResponseError::CoordinatorNotAvailable))) => {
                // Refused for want of space: the transaction is as it was.
                if let Some(doing) = doing {
                    self.doings[doing].outcome = Outcome::Open;
                }
            }
            (Asked::Offsets(offset), Reply::Done(Ok(()))) => {
                if let Some(doing) = doing {
                    self.doings[doing].offset = Some(offset);
                }
            }
            (_, Reply::Done(Ok(())) | Reply::NeedsProducerId) => {}
            (Asked::Init, Reply::Producer(Err(_))) => {}
            (Asked::End, Reply::Producer(Err(ResponseError::ConcurrentTransactions))) => {
                if let Some(doing) = doing {
                    self.doings[doing].outcome = Outcome::Open;
                }
            }
            (_, Reply::Done(Err(_)) | Reply::Producer(_)) => self.give_up(at, asked),
        }
    }

    /// An error that a producer does not come back from: it can only abort, or begin anew.
    fn give_up(&mut self, client: usize, asked: Asked) {
        if let Some(doing) = self.clients[client].doing {
            let doing = &mut self.doings[doing];
            doing.broken = true;
            if asked == Asked::End {
                doing.outcome = Outcome::Open;
            }
        }
    }

    /// What the producer was at is never committed any more.
    fn drop_doing(&mut self, client: usize) {
        if let Some(doing) = self.clients[client].doing.take() {
            self.doings[doing].outcome = Outcome::Gone;
        }
    }

    fn doing(&mut self, client: usize) -> usize {
        if let Some(doing) = self.clients[client].doing {
            return doing;
        }
        let values = Vec::new();
        self.doings.push(Doing { outcome: Outcome::Open, values, offset: None, broken: false });
        self.clients[client].doing = Some(self.doings.len() - 1);
        self.doings.len() - 1
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Pass { ms } => self.pass(ms),
            Act::Sync { units } => (0..units).for_each(|_| self.sync()),
            Act::Full => self.refuse_all(),
            Act::Crash { kept } => self.crash(kept),
            Act::Init { client, .. }
            | Act::Add { client, .. }
            | Act::Produce { client, .. }
            | Act::Offsets { client }
            | Act::End { client, .. } => {
                if self.clients[client].waits.is_none() {
                    self.act_of_client(client, act);
                }
            }
        }
    }

    fn act_of_client(&mut self, client: usize, act: &Act) {
        let (id, support) = CLIENTS[client];
        let bumps = support == Support::Adds;
        if let Act::Init { names, .. } = *act {
            return self.init(client, names);
        }
        let Some(producer) = self.clients[client].producer else { return };
        match *act {
            Act::Add { partition, .. } => {
                let partitions = BTreeSet::from([place(partition), OFFSETS]);
                self.doing(client);
                self.ask(client, Asked::Add, |waiter| Event::AddPartitions {
                    waiter,
                    producer,
                    partitions,
                });
            }
            Act::Produce { partition, .. } => {
                let doing = self.doing(client);
                let value = self.number();
                let admitted = self.machines[id].admit_batch(producer, place(partition), support);
                if admitted.is_err() {
                    self.doings[doing].broken = true;
                    return;
                }
                let now = self.now();
                self.machines[id].produced(place(partition), now);
                self.doings[doing].values.push(value);
                self.clients[client].unsynced = self.units.len() + 1;
                self.units.push(Unit::Batch { partition, producer, value });
            }
            Act::Offsets { .. } => {
                self.doing(client);
                let offset = self.number() as i64;
                let offsets = vec![pending(offset)];
                self.ask(client, Asked::Offsets(offset), |waiter| Event::CommitOffsets {
                    waiter,
                    producer,
                    support,
                    through: OFFSETS,
                    offsets,
                });
            }
            Act::End { commit, .. } => {
                // A producer commits only what it was told is there.
                let Some(doing) = self.clients[client].doing else { return };
                let commit = commit && !self.doings[doing].broken;
                if self.clients[client].unsynced > self.durable {
                    return;
                }
                self.doings[doing].outcome = Outcome::Asked { commit };
                self.next_producer_id += 1;
                let fresh_producer_id = Some(self.next_producer_id);
                self.ask(client, Asked::End, |waiter| Event::End {
                    waiter,
                    producer,
                    commit,
                    bumps,
                    fresh_producer_id,
                });
            }
            _ => {}
        }
    }

    fn init(&mut self, client: usize, names: bool) {
        let expected = self.clients[client].producer.filter(|_| names);
        self.next_producer_id += 1;
        let fresh_producer_id = Some(self.next_producer_id);
        self.ask(client, Asked::Init, |waiter| Event::Init {
            waiter,
            timeout_ms: TIMEOUT_MS,
            expected,
            fresh_producer_id,
        });
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        (0..IDS.len()).for_each(|id| self.give(id, Event::Tick));
    }

    fn sync(&mut self) {
        let Some(unit) = self.units.get(self.durable) else { return };
        let id = match unit {
            Unit::Write { id, .. } => Some(*id),
            Unit::Batch { .. } => None,
        };
        self.durable += 1;
        if let Some(id) = id {
            self.give(id, Event::Written(Ok(())));
        }
    }

    fn refuse_all(&mut self) {
        let refused = self.units.split_off(self.durable);
        self.lose(&refused);
        for unit in refused {
            if let Unit::Write { id, .. } = unit {
                self.give(id, Event::Written(Err(ResponseError::CoordinatorNotAvailable)));
            }
        }
    }

    /// Who sent one of these batches is told, or finds out, that it is not there.
    fn lose(&mut self, units: &[Unit]) {
        for unit in units {
            let Unit::Batch { value: lost, .. } = unit else { continue };
            for doing in &mut self.doings {
                if doing.values.contains(lost) {
                    doing.values.retain(|value| value != lost);
                    doing.broken = true;
                }
            }
        }
        for client in &mut self.clients {
            client.unsynced = 0;
        }
    }

    fn crash(&mut self, kept: usize) {
        let kept = self.units.len().min(self.durable + kept);
        let lost = self.units.split_off(kept);
        self.durable = kept;
        self.lose(&lost);
        for client in &mut self.clients {
            let asked = client.waits.take();
            let Some(doing) = client.doing.map(|doing| &mut self.doings[doing]) else { continue };
            if let Outcome::Asked { commit } = doing.outcome {
                doing.outcome = if commit { Outcome::Unknown } else { Outcome::Gone };
                // It has to begin anew.
                (client.doing, client.producer) = (None, None);
            } else if asked.is_some() {
                doing.broken = true;
            }
        }
        let mut records = BTreeMap::new();
        for unit in &self.units {
            if let Unit::Write { id, write } = unit {
                records.insert(IDS[*id].to_owned(), write.record.clone().expect("no removals"));
            }
        }
        let open = (0..PARTITIONS).flat_map(|partition| self.view(partition).open);
        let orphans = recover::attribute(&mut records, open.collect(), self.now_ms);
        assert!(orphans.is_empty(), "P4: nobody owns {orphans:?}");
        for (at, id) in IDS.iter().enumerate() {
            self.next_producer_id += 1;
            let fresh = || TransactionRecord::new(self.next_producer_id, TIMEOUT_MS);
            let record = records.remove(*id).unwrap_or_else(fresh);
            self.machines[at] = Transaction::restored(record, self.now());
        }
    }

    /// What the durable part of a partition shows.
    fn view(&self, partition: i32) -> View {
        let mut view = View::default();
        let mut epochs: HashMap<i64, i16> = HashMap::new();
        let mut open: BTreeMap<i64, (Producer, Vec<usize>, usize)> = BTreeMap::new();
        for unit in &self.units[..self.durable] {
            match unit {
                Unit::Batch { partition: at, producer, value } if *at == partition => {
                    let fenced = epochs.get(&producer.id).is_some_and(|e| *e > producer.epoch);
                    assert!(!fenced, "P3: a batch of {producer:?} behind a marker that fences it");
                    let begun =
                        open.entry(producer.id).or_insert((*producer, Vec::new(), view.end));
                    begun.1.push(*value);
                    view.end += 1;
                }
                Unit::Write { write: Write { ending: Some(ending), .. }, .. } => {
                    if ending.partitions.contains(&place(partition)) {
                        epochs.insert(ending.producer.id, ending.producer.epoch);
                        let begun = open.remove(&ending.producer.id);
                        if let Some((_, values, _)) = begun.filter(|_| ending.commit) {
                            view.committed.extend(values);
                        }
                        view.end += 1;
                    }
                }
                Unit::Batch { .. } | Unit::Write { .. } => {}
            }
        }
        view.stable = open.values().map(|(_, _, first)| *first).min().unwrap_or(view.end);
        view.open = open
            .into_values()
            .map(|(producer, _, _)| Open { partition: place(partition), producer })
            .collect();
        view
    }

    /// Everything becomes durable, and time passes until nothing is ongoing.
    fn come_to_rest(&mut self) {
        for _ in 0..6 {
            while self.durable < self.units.len() {
                self.sync();
            }
            self.pass(i64::from(TIMEOUT_MS) + 1);
        }
        while self.durable < self.units.len() {
            self.sync();
        }
    }

    fn check(&self) {
        let views: Vec<View> = (0..PARTITIONS).map(|partition| self.view(partition)).collect();
        let seen: BTreeSet<usize> = views.iter().flat_map(|view| view.committed.clone()).collect();
        let shown: BTreeSet<i64> = self
            .units
            .iter()
            .filter_map(|unit| match unit {
                Unit::Write { write: Write { ending: Some(ending), .. }, .. } => Some(ending),
                _ => None,
            })
            .flat_map(|ending| ending.offsets.iter().map(|offset| offset.offset))
            .collect();
        for view in &views {
            assert_eq!(view.stable, view.end, "P5: the last stable offset stalls");
        }
        for doing in &self.doings {
            let visible = doing.values.iter().filter(|value| seen.contains(value)).count();
            let offset = doing.offset.is_some_and(|offset| shown.contains(&offset));
            match doing.outcome {
                Outcome::Committed => {
                    assert_eq!(visible, doing.values.len(), "P1: a committed record is lost");
                    assert_eq!(offset, doing.offset.is_some(), "P6: a committed offset is lost");
                }
                Outcome::Unknown => {
                    let whole = visible == 0 || visible == doing.values.len();
                    assert!(whole, "P2: a part of a transaction is seen");
                }
                Outcome::Open | Outcome::Gone | Outcome::Asked { .. } => {
                    assert_eq!(visible, 0, "P1: a record is seen that nobody committed");
                    assert!(!offset, "P6: an offset is shown that nobody committed");
                }
            }
        }
    }
}

#[derive(Default)]
struct View {
    committed: Vec<usize>,
    open: Vec<Open>,
    stable: usize,
    end: usize,
}

fn place(partition: i32) -> PartitionId {
    PartitionId { topic_id: Uuid::from_u128(1), partition }
}

fn pending(offset: i64) -> PendingOffset {
    PendingOffset {
        group: "g".to_owned(),
        topic_id: Uuid::from_u128(1),
        topic: "t".to_owned(),
        partition: 0,
        offset,
        leader_epoch: None,
        metadata: String::new(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn readers_of_committed_records_see_whole_committed_transactions_and_never_stall(
        acts in prop::collection::vec(act(), 1..120)
    ) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
        }
        world.come_to_rest();
        world.check();
    }
}
