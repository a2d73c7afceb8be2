//! Random interleavings of everything that can happen to a group, against clients that behave well,
//! badly, or not at all. The invariants of the machine's header are asserted inside every step;
//! here is what only an observer can tell:
//!
//! - P1. Every request is answered at most once, and, once everybody is gone, exactly once.
//! - P2. In one generation, no two members hold the same assignment, and no member sees two.
//! - P3. One member leads a generation, and all of them are told the same protocol.
//! - P4. A member is told an assignment only after the write of it is durable.
//! - P5. A group of which nobody is heard any more is empty at the end, with nothing due.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::super::exchange::{JoinReply, SyncReply};
use super::*;

#[derive(Debug, Clone)]
enum Act {
    /// `client` joins, with the id it has; 2 to 4 are static members.
    Join {
        client: usize,
        protocols: usize,
        version: i16,
    },
    /// `client` joins as if it had been started anew.
    JoinAnew {
        client: usize,
        protocols: usize,
        version: i16,
    },
    Sync {
        client: usize,
    },
    Heartbeat {
        client: usize,
        generation_off: i32,
    },
    Leave {
        clients: Vec<usize>,
    },
    Commit {
        client: usize,
    },
    Pass {
        ms: i64,
    },
    Written {
        ok: bool,
    },
}

const CLIENTS: usize = 5;

fn act() -> impl Strategy<Value = Act> {
    let version = prop_oneof![Just(3_i16), Just(8), Just(9)];
    let joins = (0..CLIENTS, 0..4_usize, version);
    prop_oneof![
        6 => joins.clone().prop_map(|(client, protocols, version)| {
            Act::Join { client, protocols, version }
        }),
        1 => joins.prop_map(|(client, protocols, version)| {
            Act::JoinAnew { client, protocols, version }
        }),
        6 => (0..CLIENTS).prop_map(|client| Act::Sync { client }),
        4 => (0..CLIENTS, prop_oneof![4 => Just(0), 1 => -1..2]).prop_map(
            |(client, generation_off)| Act::Heartbeat { client, generation_off }
        ),
        1 => prop::collection::vec(0..CLIENTS, 1..3).prop_map(|clients| Act::Leave { clients }),
        1 => (0..CLIENTS).prop_map(|client| Act::Commit { client }),
        4 => prop_oneof![Just(10), Just(1_000), Just(4_000), Just(30_000)]
            .prop_map(|ms| Act::Pass { ms }),
        6 => prop::bool::weighted(0.9).prop_map(|ok| Act::Written { ok }),
    ]
}

/// What a client knows, from its replies.
#[derive(Default, Clone)]
struct Client {
    id: String,
    generation: i32,
    leads: Option<Vec<String>>,
    /// How often it was started.
    starts: usize,
}

/// Who asked, as it was then.
struct Asked {
    client: usize,
    before: Client,
}

struct World {
    group: Group,
    now_ms: i64,
    clients: Vec<Client>,
    asked: BTreeMap<Waiter, Asked>,
    next_waiter: Waiter,
    next_id: usize,
    writes: VecDeque<(Ticket, GroupMetadata)>,
    /// Generation to member to assignment, as members were told.
    shown: BTreeMap<i32, BTreeMap<String, Bytes>>,
    leaders: BTreeMap<i32, (Option<String>, String)>,
    durable: BTreeSet<(i32, Bytes)>,
    given: u64,
}

fn protocols(choice: usize) -> Vec<Protocol> {
    let names: &[&str] = match choice {
        0 => &["range"],
        1 => &["range", "sticky"],
        2 => &["sticky", "range"],
        _ => &["sticky"],
    };
    let named = names.iter().map(|name| Protocol {
        name: (*name).to_owned(),
        metadata: Bytes::from(format!("{name}{choice}")),
    });
    named.collect()
}

impl World {
    fn new(initial_rebalance_delay_ms: i32, size_max: usize) -> Self {
        let settings =
            GroupSettings { initial_rebalance_delay_ms, size_max, ..GroupSettings::default() };
        Self {
            group: Group::new(settings),
            now_ms: 0,
            clients: vec![Client::default(); CLIENTS],
            asked: BTreeMap::new(),
            next_waiter: 0,
            next_id: 0,
            writes: VecDeque::new(),
            shown: BTreeMap::new(),
            leaders: BTreeMap::new(),
            durable: BTreeSet::new(),
            given: 0,
        }
    }

    fn instance(client: usize) -> Option<String> {
        (client >= 2).then(|| format!("i{client}"))
    }

    fn caller(&self, client: usize) -> Caller {
        Caller {
            member_id: self.clients[client].id.clone(),
            instance_id: Self::instance(client),
            generation: self.clients[client].generation,
        }
    }

    fn waiter(&mut self, client: usize) -> Waiter {
        self.next_waiter += 1;
        let before = self.clients[client].clone();
        self.asked.insert(self.next_waiter, Asked { client, before });
        self.next_waiter
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Join { client, protocols, version } => self.join(client, protocols, version),
            Act::JoinAnew { client, protocols, version } => {
                let starts = self.clients[client].starts + 1;
                self.clients[client] = Client { starts, ..Client::default() };
                self.join(client, protocols, version);
            }
            Act::Sync { client } => self.sync(client),
            Act::Heartbeat { client, generation_off } => {
                let mut caller = self.caller(client);
                caller.generation += generation_off;
                let waiter = self.waiter(client);
                self.give(Event::Heartbeat { waiter, caller });
            }
            Act::Leave { clients } => {
                let waiter = self.waiter(clients[0]);
                let leaving = clients.iter().map(|client| Leaving {
                    member_id: self.clients[*client].id.clone(),
                    instance_id: Self::instance(*client),
                    reason: None,
                });
                let leaving = leaving.collect();
                self.give(Event::Leave { waiter, leaving });
            }
            Act::Commit { client } => {
                let (caller, now) = (self.caller(client), self.now());
                let member = self.group.members.contains_key(&caller.member_id);
                let admitted = self.group.admit_commit(&caller, now).is_ok();
                let current = member && caller.generation == self.group.generation;
                assert!(!admitted || current || self.group.state == State::Empty);
            }
            Act::Pass { ms } => {
                self.now_ms += ms;
                self.give(Event::Tick);
            }
            Act::Written { ok } => self.finish_write(ok),
        }
    }

    fn join(&mut self, client: usize, choice: usize, version: i16) {
        let join = Join {
            member_id: self.clients[client].id.clone(),
            instance_id: Self::instance(client),
            client_id: format!("c{client}"),
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: if client == 0 { 0 } else { 20_000 },
            protocol_type: "consumer".to_owned(),
            protocols: protocols(choice),
            member_id_required: version >= 4,
            may_skip_assignment: version >= 9,
            ..Join::default()
        };
        self.next_id += 1;
        let fresh_member_id = format!("m{}-{client}", self.next_id);
        let waiter = self.waiter(client);
        self.give(Event::Join { waiter, join: Box::new(join), fresh_member_id });
    }

    /// A leader gives everybody something that was never given before.
    fn sync(&mut self, client: usize) {
        let mut assignments = Vec::new();
        for member in self.clients[client].leads.clone().unwrap_or_default() {
            self.given += 1;
            assignments.push((member, Bytes::from(self.given.to_string())));
        }
        let sync = Sync { caller: self.caller(client), assignments, ..Sync::default() };
        let waiter = self.waiter(client);
        self.give(Event::Sync { waiter, sync });
    }

    fn finish_write(&mut self, ok: bool) {
        let Some((ticket, record)) = self.writes.pop_front() else { return };
        let result = match ok {
            true => {
                let members = record.members.into_iter();
                let generation = record.generation;
                self.durable.extend(members.map(|member| (generation, member.assignment)));
                Ok(())
            }
            false => Err(ResponseError::KafkaStorageError),
        };
        self.give(Event::Written { ticket, result });
    }

    fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, wall_ms: self.now_ms }
    }

    fn give(&mut self, event: Event) {
        let now = self.now();
        for effect in step(&mut self.group, event, now) {
            match effect {
                Effect::Note(_) => {}
                Effect::Write { ticket, record } => {
                    self.writes.push_back((ticket, record.expect("nothing is deleted here")));
                }
                Effect::Reply(waiter, reply) => {
                    let asked = self.asked.remove(&waiter).expect("P1: answered once");
                    self.hear(asked, reply);
                }
            }
        }
    }

    fn hear(&mut self, Asked { client, before }: Asked, reply: Reply) {
        // A reply to a process that was ended is heard by nobody.
        let alive = self.clients[client].starts == before.starts;
        match reply {
            Reply::Join(JoinReply { error: Some(error), member_id, .. }) if alive => match error {
                ResponseError::MemberIdRequired => self.clients[client].id = member_id,
                ResponseError::UnknownMemberId | ResponseError::FencedInstanceId => {
                    self.clients[client].id.clear();
                }
                _ => {}
            },
            Reply::Join(reply) if alive && reply.error.is_none() => self.hear_join(client, reply),
            Reply::Sync(SyncReply { error: None, assignment, .. }) => {
                self.hear_assignment(before.id, before.generation, assignment);
            }
            _ => {}
        }
    }

    fn hear_join(&mut self, client: usize, reply: JoinReply) {
        let leads = reply.leader == reply.member_id && !reply.members.is_empty();
        let protocol = reply.protocol.clone().unwrap_or_default();
        let known = self.leaders.entry(reply.generation).or_insert((None, protocol.clone()));
        assert_eq!(known.1, protocol, "P3");
        if leads && !reply.skip_assignment {
            // A static leader that came back leads under its new id; a dynamic one under its own.
            let instance = Self::instance(client).unwrap_or_else(|| reply.member_id.clone());
            let before = known.0.get_or_insert(instance.clone());
            assert_eq!(*before, instance, "P3: two leaders in generation {}", reply.generation);
        }
        let members = reply.members.into_iter().map(|member| member.member_id);
        let heard = &mut self.clients[client];
        heard.id = reply.member_id;
        heard.generation = reply.generation;
        heard.leads = (leads && !reply.skip_assignment).then(|| members.collect());
    }

    fn hear_assignment(&mut self, member: String, generation: i32, assignment: Bytes) {
        let durable = self.durable.contains(&(generation, assignment.clone()));
        assert!(durable, "P4: {member} of {generation} was told {assignment:?}");
        // The client's view may be of before it was fenced; a renamed member keeps its assignment.
        let member = member.rsplit('-').next().unwrap_or_default().to_owned();
        let shown = self.shown.entry(generation).or_default();
        let before = shown.insert(member.clone(), assignment.clone());
        assert!(before.is_none_or(|before| before == assignment), "P2: {member} sees two");
        if !assignment.is_empty() {
            let holders = shown.values().filter(|held| **held == assignment).count();
            assert_eq!(holders, 1, "P2: {assignment:?} of {generation} is held twice");
        }
    }

    /// Nobody speaks any more.
    fn end(&mut self) {
        for _ in 0..200 {
            while !self.writes.is_empty() {
                self.finish_write(true);
            }
            let Some(due_ms) = self.group.due_ms() else { break };
            self.now_ms = self.now_ms.max(due_ms);
            self.give(Event::Tick);
        }
        while !self.writes.is_empty() {
            self.finish_write(true);
        }
        assert_eq!(self.group.state, State::Empty, "P5");
        assert_eq!(self.group.due_ms(), None, "P5");
        let unanswered: Vec<&Waiter> = self.asked.keys().collect();
        assert!(unanswered.is_empty(), "P1: {unanswered:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2_000,
        // The failing input is in the message; a file of them would go stale.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_interleaving_breaks_a_group(
        delay_ms in prop_oneof![2 => Just(0), 1 => Just(3_000)],
        size_max in prop_oneof![3 => Just(100_usize), 1 => Just(2)],
        acts in prop::collection::vec(act(), 1..120),
    ) {
        let mut world = World::new(delay_ms, size_max);
        for act in acts {
            world.act(act);
        }
        world.end();
    }
}
