//! Random interleavings of everything that can happen to one group in which both protocols are
//! spoken: members come, go, fall silent and lose replies; topics grow; writes fail; the broker
//! starts again. An observer sees what every client believes:
//!
//! - P1. No two clients may read one partition at the same time. A client may read what it was
//!   told, until it was told otherwise, or its session ran out, or it was told that it is no
//!   member.
//! - P2. A committed offset is never lost, and one that was refused never appears.
//! - P3. Once nothing disturbs any more, every partition is read by somebody, if anybody is there.
//! - P4. Every request is answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::consumer::testing::TestTopics;
use super::super::consumer::{TopicShape, protocol};
use super::super::exchange::{Assignment, Commit, LEAVES, NewOffset, Protocol};
use super::tests::TestLog;
use super::*;

const GROUP: &str = "g";
const CLIENTS: usize = 4;
const PARTITIONS_MAX: i32 = 6;
const SESSION_MS: i32 = 10_000;
/// Nobody is taken out for being slow here: the observer could not know when.
const REBALANCE_MS: i32 = 10_000_000;

#[derive(Debug, Clone)]
enum Act {
    /// The client does what is next for it; its reply may be lost.
    Go {
        client: usize,
        lost: bool,
    },
    /// It is started anew, as a member of this protocol, without a word to the group.
    Start {
        client: usize,
        classic: bool,
    },
    Leave {
        client: usize,
    },
    Commit {
        client: usize,
    },
    Pass {
        ms: i64,
    },
    Grow,
    /// The next write fails, with what goes after it.
    Break,
    Mend,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let client = 0..CLIENTS;
    prop_oneof![
        30 => (client.clone(), prop::bool::weighted(0.05))
            .prop_map(|(client, lost)| Act::Go { client, lost }),
        2 => (client.clone(), any::<bool>())
            .prop_map(|(client, classic)| Act::Start { client, classic }),
        1 => client.clone().prop_map(|client| Act::Leave { client }),
        4 => client.prop_map(|client| Act::Commit { client }),
        4 => prop_oneof![Just(10), Just(2_000), Just(4_000)].prop_map(|ms| Act::Pass { ms }),
        1 => Just(Act::Grow),
        1 => Just(Act::Break),
        2 => Just(Act::Mend),
        1 => Just(Act::Restart),
    ]
}

/// What a client waits for.
enum Asked {
    Beat(JoinHandle<Result<MemberReply, Refusal>>),
    Join(JoinHandle<JoinReply>),
    Sync(JoinHandle<SyncReply>),
    ClassicBeat(JoinHandle<Result<(), ResponseError>>),
}

/// What a member of the classic protocol does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Next {
    #[default]
    Join,
    Sync,
    Beat,
}

#[derive(Default)]
struct Client {
    classic: bool,
    id: String,
    epoch: i32,
    /// What it reads, as it believes.
    owned: Assignment,
    next: Next,
    /// Members to assign to, if it leads a classic group.
    leads: Vec<String>,
    /// A reply was lost: it says everything, to be told everything.
    lost_track: bool,
    /// The end of its session, as it knows it.
    valid_until_ms: i64,
    asked: Option<(Asked, bool)>,
}

impl Client {
    fn forget(&mut self) {
        *self = Self { classic: self.classic, id: self.id.clone(), ..Self::default() };
        if self.classic {
            self.id.clear();
        }
    }
}

struct World {
    log: Arc<TestLog>,
    topics: Arc<SharedTopics>,
    now_ms: Arc<AtomicI64>,
    groups: Arc<GroupCoordinator>,
    clients: Vec<Client>,
    committed: BTreeMap<i32, i64>,
    counter: i64,
    starts: usize,
}

struct SharedTopics(Mutex<TestTopics>);

impl SharedTopics {
    fn now(&self) -> TestTopics {
        self.0.lock().expect("no panic").clone()
    }
}

impl TopicSource for SharedTopics {
    fn version(&self) -> u64 {
        self.now().version()
    }

    fn shape(&self, name: &str) -> Option<TopicShape> {
        self.now().shape(name)
    }

    fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        self.now().name_of(id)
    }

    fn names(&self) -> Vec<Arc<str>> {
        self.now().names()
    }
}

fn open(
    log: &Arc<TestLog>,
    topics: &Arc<SharedTopics>,
    now_ms: &Arc<AtomicI64>,
) -> Arc<GroupCoordinator> {
    let now_ms = Arc::clone(now_ms);
    let clock: Clock = Arc::new(move || {
        let now_ms = now_ms.load(Ordering::SeqCst);
        Now { monotonic_ms: now_ms, wall_ms: now_ms }
    });
    let timeouts = MemberTimeouts { session_ms: SESSION_MS, heartbeat_ms: 1_000 };
    let surroundings =
        Surroundings { topics: topics.clone(), timeouts: Box::new(move |_| timeouts) };
    let log = Arc::clone(log) as Arc<dyn OffsetsLog>;
    let groups = GroupCoordinator::new(log, GroupSettings::default(), surroundings, clock);
    groups.load(Vec::new());
    groups
}

impl World {
    fn new() -> Self {
        let (log, now_ms) = (TestLog::open(), Arc::new(AtomicI64::new(1_000)));
        let mut topics = TestTopics::default();
        topics.set("t", 3);
        let topics = Arc::new(SharedTopics(Mutex::new(topics)));
        let groups = open(&log, &topics, &now_ms);
        let clients = (0..CLIENTS).map(|at| Client { classic: at % 2 == 1, ..Client::default() });
        let clients = clients.collect();
        let committed = BTreeMap::new();
        Self { log, topics, now_ms, groups, clients, committed, counter: 0, starts: 0 }
    }

    fn now(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    async fn act(&mut self, act: Act) {
        match act {
            Act::Go { client, lost } => self.go(client, lost),
            Act::Start { client, classic } => {
                self.clients[client] = Client { classic, ..Client::default() };
            }
            Act::Leave { client } => self.leave(client).await,
            Act::Commit { client } => self.commit(client).await,
            Act::Pass { ms } => {
                self.now_ms.fetch_add(ms, Ordering::SeqCst);
                self.groups.tick();
            }
            Act::Grow => {
                let mut topics = self.topics.0.lock().expect("no panic");
                let partitions = topics.shape("t").map_or(0, |shape| shape.partitions);
                topics.set("t", (partitions + 1).min(PARTITIONS_MAX));
            }
            Act::Break => self.log.fail_with(Some(ResponseError::KafkaStorageError)),
            Act::Mend => self.log.fail_with(None),
            Act::Restart => self.restart(),
        }
        self.settle().await;
        self.check();
    }

    fn restart(&mut self) {
        self.groups.close();
        self.groups = open(&self.log, &self.topics, &self.now_ms);
        self.groups.load(self.log.view());
    }

    /// Lets every task run until nothing moves, and clients hear what came.
    async fn settle(&mut self) {
        for _ in 0..30 {
            tokio::task::yield_now().await;
        }
        for client in 0..CLIENTS {
            self.hear(client).await;
        }
    }

    fn go(&mut self, client: usize, lost: bool) {
        if self.clients[client].asked.is_some() {
            return;
        }
        let groups = Arc::clone(&self.groups);
        let asked = match (self.clients[client].classic, self.clients[client].next) {
            (false, _) => {
                let heartbeat = self.heartbeat(client);
                Asked::Beat(tokio::spawn(async move {
                    groups.member_heartbeat(GROUP, heartbeat, &|_| true).await
                }))
            }
            (true, Next::Join) => {
                let join = self.join(client);
                Asked::Join(tokio::spawn(async move { groups.join(GROUP, join).await }))
            }
            (true, Next::Sync) => {
                let sync = self.sync(client);
                Asked::Sync(tokio::spawn(async move { groups.sync(GROUP, sync).await }))
            }
            (true, Next::Beat) => {
                let caller = self.caller(client);
                let beat = async move { groups.heartbeat(GROUP, caller).await };
                Asked::ClassicBeat(tokio::spawn(beat))
            }
        };
        self.clients[client].asked = Some((asked, lost));
    }

    fn heartbeat(&mut self, client: usize) -> MemberHeartbeat {
        let it = &mut self.clients[client];
        if it.id.is_empty() {
            self.starts += 1;
            it.id = format!("m{}", self.starts);
        }
        let says_all = it.epoch == 0 || std::mem::take(&mut it.lost_track);
        MemberHeartbeat {
            member_id: it.id.clone(),
            epoch: it.epoch,
            rebalance_timeout_ms: says_all.then_some(REBALANCE_MS),
            topics: says_all.then(|| BTreeSet::from(["t".to_owned()])),
            owned: Some(it.owned.clone()),
            ..MemberHeartbeat::default()
        }
    }

    /// An eager member: it gives everything back before it joins.
    fn join(&mut self, client: usize) -> Join {
        let it = &mut self.clients[client];
        it.owned.clear();
        Join {
            member_id: it.id.clone(),
            client_id: format!("c{client}"),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: protocol::CONSUMER.to_owned(),
            protocols: vec![Protocol {
                name: "range".to_owned(),
                metadata: Bytes::from_static(b"\x00\x00\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff"),
            }],
            member_id_required: true,
            ..Join::default()
        }
    }

    fn sync(&mut self, client: usize) -> Sync {
        let partitions = self.topics.now().shape("t").map_or(0, |shape| shape.partitions);
        let members = std::mem::take(&mut self.clients[client].leads);
        let mut assignments = Vec::new();
        for (at, member) in (0..).zip(&members) {
            let share =
                (0..partitions).filter(|it| it % i32::try_from(members.len()).unwrap() == at);
            let share = protocol::ByName::from([("t".to_owned(), share.collect())]);
            assignments.push((member.clone(), protocol::assignment(&share, 0)));
        }
        Sync { caller: self.caller(client), assignments, ..Sync::default() }
    }

    fn caller(&self, client: usize) -> Caller {
        let it = &self.clients[client];
        Caller { member_id: it.id.clone(), instance_id: None, generation: it.epoch }
    }

    async fn hear(&mut self, client: usize) {
        let done = match &self.clients[client].asked {
            Some((Asked::Beat(handle), _)) => handle.is_finished(),
            Some((Asked::Join(handle), _)) => handle.is_finished(),
            Some((Asked::Sync(handle), _)) => handle.is_finished(),
            Some((Asked::ClassicBeat(handle), _)) => handle.is_finished(),
            None => false,
        };
        if !done {
            return;
        }
        let valid_until_ms = self.now() + i64::from(SESSION_MS);
        let topic = self.topics.now().shape("t").expect("it is never deleted").id;
        let it = &mut self.clients[client];
        let Some((asked, lost)) = it.asked.take() else { return };
        it.lost_track |= lost;
        match asked {
            Asked::Beat(handle) => {
                let reply = handle.await.expect("no panic");
                if !lost {
                    it.hear_beat(reply, valid_until_ms);
                }
            }
            Asked::Join(handle) => {
                let reply = handle.await.expect("no panic");
                if !lost {
                    it.hear_join(reply, valid_until_ms);
                }
            }
            Asked::Sync(handle) => {
                let reply = handle.await.expect("no panic");
                if !lost {
                    it.hear_sync(reply, topic, valid_until_ms);
                }
            }
            Asked::ClassicBeat(handle) => match handle.await.expect("no panic") {
                _ if lost => {}
                Ok(()) => it.valid_until_ms = valid_until_ms,
                Err(error) => it.hear_error(error),
            },
        }
    }

    async fn leave(&mut self, client: usize) {
        if self.clients[client].asked.is_some() || self.clients[client].id.is_empty() {
            return;
        }
        let it = &mut self.clients[client];
        it.owned.clear();
        let groups = Arc::clone(&self.groups);
        if it.classic {
            let leaving = Leaving { member_id: it.id.clone(), ..Leaving::default() };
            let _ = groups.leave(GROUP, vec![leaving]).await;
        } else {
            let (member_id, epoch) = (it.id.clone(), LEAVES);
            let leaving = MemberHeartbeat { member_id, epoch, ..MemberHeartbeat::default() };
            let _ = groups.member_heartbeat(GROUP, leaving, &|_| true).await;
        }
        self.clients[client] =
            Client { classic: self.clients[client].classic, ..Client::default() };
    }

    async fn commit(&mut self, client: usize) {
        let now_ms = self.now();
        let it = &self.clients[client];
        let partition = it.owned.values().flatten().next().copied();
        let Some(partition) = partition.filter(|_| it.valid_until_ms > now_ms) else { return };
        self.counter += 1;
        let new = NewOffset {
            topic: "t".to_owned(),
            partition,
            offset: self.counter,
            leader_epoch: None,
            metadata: String::new(),
        };
        let commit = Commit {
            caller: self.caller(client),
            names_unknown_group: true,
            offsets: vec![new],
            ..Commit::default()
        };
        if self.groups.commit(GROUP, commit).await.is_ok() {
            self.committed.insert(partition, self.counter);
        }
    }

    fn check(&self) {
        let mut readers: BTreeMap<i32, usize> = BTreeMap::new();
        for (client, it) in self.clients.iter().enumerate() {
            if it.valid_until_ms <= self.now() {
                continue;
            }
            for partition in it.owned.values().flatten() {
                let other = readers.insert(*partition, client);
                assert_eq!(other, None, "P1: {client} and another read partition {partition}");
            }
        }
        for partition in 0..PARTITIONS_MAX {
            let found = self.groups.committed(GROUP, "t", partition).map(|it| it.offset);
            assert_eq!(found, self.committed.get(&partition).copied(), "P2: {partition}");
        }
    }

    /// Nothing disturbs any more.
    async fn end(&mut self) {
        self.log.fail_with(None);
        // That a topic has grown a classic group is told by its members: they look, and join anew.
        for it in self.clients.iter_mut().filter(|it| it.classic && it.next == Next::Beat) {
            if it.asked.is_none() {
                it.owned.clear();
                it.next = Next::Join;
            }
        }
        for _ in 0..80 {
            for client in 0..CLIENTS {
                self.act(Act::Go { client, lost: false }).await;
            }
            self.act(Act::Pass { ms: 500 }).await;
        }
        let read: BTreeSet<i32> =
            self.clients.iter().flat_map(|it| it.owned.values().flatten()).copied().collect();
        let partitions = self.topics.now().shape("t").map_or(0, |shape| shape.partitions);
        assert_eq!(read, (0..partitions).collect(), "P3");
        let waiting = self.groups.lock().waiters.len();
        let asked = self.clients.iter().filter(|it| it.asked.is_some()).count();
        assert!(waiting <= asked, "P4: {waiting} wait, {asked} asked");
    }
}

impl Client {
    fn hear_beat(&mut self, reply: Result<MemberReply, Refusal>, valid_until_ms: i64) {
        match reply {
            Ok(reply) => {
                self.epoch = reply.epoch;
                self.valid_until_ms = valid_until_ms;
                if let Some(assignment) = reply.assignment {
                    self.owned = assignment;
                }
            }
            Err(refusal) => self.hear_error(refusal.error),
        }
    }

    fn hear_join(&mut self, reply: JoinReply, valid_until_ms: i64) {
        match reply.error {
            None => {
                self.id = reply.member_id.clone();
                self.epoch = reply.generation;
                self.valid_until_ms = valid_until_ms;
                self.next = Next::Sync;
                let members = reply.members.into_iter().map(|member| member.member_id);
                self.leads = members.collect();
            }
            Some(ResponseError::MemberIdRequired) => self.id = reply.member_id,
            Some(error) => self.hear_error(error),
        }
    }

    fn hear_sync(&mut self, reply: SyncReply, topic: Uuid, valid_until_ms: i64) {
        match reply.error {
            None => {
                let (assigned, _) = protocol::parse_assignment(&reply.assignment).expect("ours");
                let topics = assigned.into_values().filter(|it| !it.is_empty());
                self.owned = topics.map(|partitions| (topic, partitions)).collect();
                self.valid_until_ms = valid_until_ms;
                self.next = Next::Beat;
            }
            Some(error) => self.hear_error(error),
        }
    }

    fn hear_error(&mut self, error: ResponseError) {
        match error {
            ResponseError::UnknownMemberId
            | ResponseError::FencedMemberEpoch
            | ResponseError::GroupIdNotFound => self.forget(),
            ResponseError::RebalanceInProgress | ResponseError::IllegalGeneration => {
                self.owned.clear();
                self.next = Next::Join;
            }
            // Whatever it asked for may be tried again, and as Java's client it then says all.
            _ => self.lost_track = true,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        // The failing input is in the message; a file of them would go stale.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_interleaving_gives_two_members_one_partition_or_loses_an_offset(
        acts in prop::collection::vec(act(), 1..150),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new();
            for act in acts {
                world.act(act).await;
            }
            world.end().await;
        });
    }
}
