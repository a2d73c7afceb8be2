//! A broker on a memory disk, its clients, and beside them the model of what they were told. One
//! thread: the log's steps are taken by hand, the handlers' tasks run between them in a time that
//! passes only here.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use odradek_log::stepping::{self, InFlight, Work};
use odradek_log::{CrashMode, Log, MemoryDisk, MemoryViews, Options, Views};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::clients::{Client, Idempotent, Planned, Sight, TOPICS};
use super::model::Model;
use super::requests::{Connection, Reply, Request};
use crate::broker::{Broker, begin};
use crate::chance;
use crate::clock::{now_ms, simulate};
use crate::config::Config;
use crate::core::{Core, Drive};
use crate::listener;

/// Some day in 2023.
const BEGIN_MS: i64 = 1_700_000_000_000;
const JOURNAL_BYTES: u64 = 64 << 10;
/// Nobody waits longer for an answer, in simulated time; requests have 30 s.
const ANSWER_MS_MAX: u64 = 120_000;
const WORK: [Work; 7] = [
    Work::Commit,
    Work::Settle,
    Work::Checkpoint,
    Work::Feed,
    Work::CheckpointView,
    Work::Clean,
    Work::Compact,
];

/// The start path takes the log's steps by itself.
const BY_STEPS: Drive = Drive { start: stepping::start, commit: work_off };

fn work_off(log: &Log) {
    let worked = |work| stepping::step(log, work, now_ms());
    loop {
        let settled = worked(Work::Settle);
        // It frees the journal; on a full disk there is always one to make, and nothing gained.
        if !settled {
            worked(Work::Checkpoint);
        }
        if !worked(Work::Commit) && !settled {
            break;
        }
    }
}

pub(super) struct World {
    pub random: StdRng,
    pub disk: MemoryDisk,
    views: MemoryViews,
    pub options: Options,
    config: Arc<Config>,
    pub model: Model,
    clients: Vec<Client>,
    running: Option<Running>,
    now_ms: i64,
    pub starts: usize,
    /// Stops of any kind that found several groups in flight.
    pub stops_among_groups: usize,
    /// Until those stops, not through the journal.
    pub direct_bytes: u64,
}

struct Running {
    runtime: Runtime,
    broker: Broker,
    calls: Vec<Call>,
    /// Of the broker's log, until it is closed or abandoned.
    in_flight: InFlight,
    is_flush_slow: bool,
}

/// A request on its way.
struct Call {
    client: usize,
    planned: Planned,
    answer: JoinHandle<Option<Reply>>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        chance::seed(seed);
        simulate(BEGIN_MS);
        let mut options = Options::new("/memory");
        options.journal_file_bytes = JOURNAL_BYTES;
        options.tail_cache_bytes_max = 16 << 10;
        options.unsettled_bytes_max = 24 << 10;
        options.disk_reserve_bytes = 0;
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        // Every second life writes to segments at once what it can.
        options.direct_bytes_min = if seed.is_multiple_of(2) { 1 } else { usize::MAX };
        let mut clients = vec![Client::Plain, Client::Administrator];
        for number in 0..2 {
            clients.push(Client::Idempotent(Box::new(Idempotent::new(number))));
        }
        for number in 0..3 {
            clients.push(Client::transactional(number, random.random_bool(0.6)));
        }
        clients.push(Client::Simple { group: "simple".to_owned() });
        let (group, member_id) = ("classic".to_owned(), String::new());
        clients.push(Client::Classic { group, member_id, generation: None, is_synced: false });
        clients.push(Client::Consumer { group: "consumer".to_owned(), epoch: 0 });
        let mut world = Self {
            random,
            disk: MemoryDisk::new(seed),
            views: MemoryViews::default(),
            options,
            config: Arc::new(Config::demo(Path::new("/memory"), 0, 0)),
            model: Model::default(),
            clients,
            running: None,
            now_ms: BEGIN_MS,
            starts: 0,
            stops_among_groups: 0,
            direct_bytes: 0,
        };
        world.start().expect("an empty disk is opened");
        for (name, partitions) in TOPICS {
            let request = Request::CreateTopic { name: name.to_owned(), partitions };
            let reply = world.ask(request).expect("an answer");
            assert_eq!(reply.error(), 0);
            world.model.topics.insert(name.to_owned(), vec![true]);
        }
        world
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("started")
    }

    pub(super) fn core(&self) -> Arc<Core> {
        self.running().broker.core()
    }

    pub(super) fn broker(&self) -> &Broker {
        &self.running().broker
    }

    pub(super) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.running().runtime.block_on(future)
    }

    pub(super) fn connection(&self) -> Connection {
        let broker = self.running().broker.clone();
        let listener = Arc::new(self.config.listeners[0].clone());
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 50_000));
        let session = listener::session(&listener, peer, peer, None, None);
        Connection { broker, session }
    }

    fn open_core(&self) -> Result<Arc<Core>, String> {
        let (disk, views) = (Arc::new(self.disk.clone()), Arc::new(self.views.clone()));
        let (log, report) =
            Log::open_with(self.options.clone(), disk, views).map_err(|error| error.to_string())?;
        let core = Core::open_over(self.config.clone(), log, &report, &BY_STEPS);
        core.map_err(|error| error.to_string())
    }

    /// As far as the disk lets it.
    pub(super) fn start(&mut self) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime of one thread");
        let core = {
            let _entered = runtime.enter();
            self.open_core()?
        };
        let broker = Broker::over(self.config.clone(), core);
        self.running = Some(Running {
            runtime,
            broker,
            calls: Vec::new(),
            in_flight: InFlight::default(),
            is_flush_slow: self.random.random_bool(0.5),
        });
        self.starts += 1;
        self.begin();
        Ok(())
    }

    /// What the broker does at each start, before anybody is served.
    fn begin(&mut self) {
        let core = self.core();
        let begun = self.running().runtime.spawn(async move { begin(&core).await });
        self.until_finished(|| begun.is_finished());
    }

    /// Lets everything run that can run, while so much time passes.
    pub(super) fn pass(&mut self, ms: u64) {
        self.now_ms += i64::try_from(ms).expect("small");
        simulate(self.now_ms);
        // It ends when nothing else is left to do in it.
        self.block_on(async { tokio::time::sleep(Duration::from_millis(ms)).await });
        self.collect();
    }

    fn until_finished(&mut self, is_finished: impl Fn() -> bool) {
        let mut waited_ms = 0;
        while !is_finished() {
            assert!(waited_ms < ANSWER_MS_MAX, "somebody waits for ever");
            self.land_all();
            work_off(&self.core().log);
            self.pass(10);
            waited_ms += 10;
        }
    }

    /// Asks by the way, and waits for the answer.
    pub(super) fn ask(&mut self, request: Request) -> Option<Reply> {
        let answer = self.running().runtime.spawn(self.connection().ask(request));
        self.until_finished(|| answer.is_finished());
        self.block_on(answer).expect("no panic in a handler")
    }

    /// Gives the answers that have come to those who asked.
    fn collect(&mut self) {
        let running = self.running.as_mut().expect("started");
        let calls = std::mem::take(&mut running.calls);
        for call in calls {
            if !call.answer.is_finished() {
                running.calls.push(call);
                continue;
            }
            let reply = running.runtime.block_on(call.answer).expect("no panic in a handler");
            self.clients[call.client].hear(&call.planned, reply.as_ref(), &mut self.model);
        }
    }

    fn is_busy(&self, client: usize) -> bool {
        self.running().calls.iter().any(|call| call.client == client)
    }

    /// A client that waits for nothing asks for something.
    fn ask_something(&mut self) {
        let client = self.random.random_range(0..self.clients.len());
        let is_administrator = |client: &Client| matches!(client, Client::Administrator);
        if self.is_busy(client)
            || is_administrator(&self.clients[client]) && self.random.random_bool(0.8)
        {
            return;
        }
        let administrator = self.clients.iter().position(is_administrator).expect("there is one");
        let core = self.core();
        let mut sight = Sight {
            is_settled: !self.is_busy(administrator),
            random: &mut self.random,
            model: &mut self.model,
            topics: &core.topics,
            now_ms: self.now_ms,
        };
        let Some(planned) = self.clients[client].next(&mut sight) else { return };
        let asking = self.connection().ask(planned.request.clone());
        let running = self.running.as_mut().expect("started");
        let answer = running.runtime.spawn(asking);
        running.calls.push(Call { client, planned, answer });
    }

    /// One thing of many happens.
    pub(super) fn act(&mut self) {
        match self.random.random_range(0..100) {
            0..=39 => self.ask_something(),
            40..=74 => self.commit(),
            75..=84 => drop(self.work(Work::Settle)),
            85..=97 => {
                let work = WORK[self.random.random_range(2..WORK.len())];
                self.work(work);
            }
            98 => {
                let ms = self.random.random_range(1_000..12_000);
                self.pass(ms);
            }
            _ => {}
        }
        self.pass(1);
        self.recover_if_failed();
    }

    fn in_flight(&mut self) -> &mut InFlight {
        &mut self.running.as_mut().expect("started").in_flight
    }

    /// One group after the other; where a flush is slow the next one is written more often than
    /// the oldest one is synced, so that several are in flight.
    fn commit(&mut self) {
        let log = self.core().log.clone();
        match self.running().is_flush_slow && self.random.random_bool(0.7) {
            true => drop(self.in_flight().take_off(&log)),
            false => drop(self.work(Work::Commit)),
        }
    }

    fn land_all(&mut self) {
        let log = self.core().log.clone();
        while self.in_flight().land(&log) {}
    }

    /// A commit lands the oldest group in flight; where there is none, it writes and lands the
    /// next.
    pub(super) fn work(&mut self, work: Work) -> bool {
        let log = self.core().log.clone();
        let has_landed = work == Work::Commit && self.in_flight().land(&log);
        has_landed || stepping::step(&log, work, self.now_ms)
    }

    /// Until everybody has an answer, and the log has come to rest.
    pub(super) fn rest(&mut self) {
        let mut waited_ms = 0;
        while !self.running().calls.is_empty() {
            assert!(waited_ms < ANSWER_MS_MAX, "{:?}", self.running().calls[0].planned.request);
            self.land_all();
            work_off(&self.core().log);
            self.pass(10);
            waited_ms += 10;
            self.recover_if_failed();
        }
        for work in WORK {
            while self.work(work) {}
        }
        self.pass(1);
        self.recover_if_failed();
    }

    /// Either the broker goes on by a new incarnation, or the power goes.
    fn recover_if_failed(&mut self) {
        if self.core().log.failed().is_none() && !self.disk.is_dead() {
            return;
        }
        if self.disk.is_dead() || self.random.random_bool(0.4) {
            if self.random.random_bool(0.7) {
                // The other groups in flight are answered before.
                self.land_all();
                self.pass(1);
            }
            self.crash();
            return;
        }
        self.disk.heal();
        self.close();
        // Nobody waits for what has ended.
        let mut waited_ms = 0;
        while !self.running().calls.is_empty() {
            let calls = &self.running().calls;
            assert!(waited_ms < ANSWER_MS_MAX, "unanswered: {:?}", calls[0].planned.request);
            self.pass(10);
            waited_ms += 10;
        }
        let opened = {
            let _entered = self.running().runtime.enter();
            self.open_core().or_else(|_| {
                // A full disk may keep it closed.
                self.disk.set_capacity(u64::MAX);
                self.open_core()
            })
        };
        self.broker().inner.core.store(opened.expect("it is opened again"));
        self.begin();
        self.check();
    }

    /// The power goes, or the process dies; then a start.
    pub(super) fn crash(&mut self) {
        let modes = [CrashMode::KeepAll, CrashMode::LoseAll, CrashMode::Tear];
        let mode = modes[self.random.random_range(0..3)];
        let is_power = self.disk.is_dead() || self.random.random_bool(0.7);
        self.stop(is_power.then_some(mode));
        // The power may go again at any moment of the start.
        while self.random.random_bool(0.2) {
            let operations = self.random.random_range(1..120);
            self.disk.fail_all_in(operations);
            if self.start().is_ok() {
                if !self.disk.is_dead() {
                    self.disk.heal();
                    self.check();
                }
                self.stop(Some(mode));
            } else {
                self.disk.crash(mode);
                self.age_view();
            }
        }
        self.start_again();
    }

    fn start_again(&mut self) {
        if self.start().is_err() {
            // A full disk may keep it closed.
            self.disk.set_capacity(u64::MAX);
            self.start().expect("it starts again");
        }
        self.check();
    }

    fn stop(&mut self, power_cut: Option<CrashMode>) {
        let running = self.running.take().expect("started");
        let Running { runtime, broker, calls, in_flight, .. } = running;
        self.stops_among_groups += usize::from(in_flight.count() > 1);
        let log = broker.core().log.clone();
        self.direct_bytes += log.stats().direct_bytes;
        for call in calls {
            self.clients[call.client].hear(&call.planned, None, &mut self.model);
        }
        drop((runtime, broker, in_flight));
        stepping::abandon(&log);
        let log = {
            let held = log;
            Arc::downgrade(&held)
        };
        assert_eq!(log.strong_count(), 0, "nobody holds what has ended");
        match power_cut {
            Some(mode) => self.disk.crash(mode),
            None => self.disk.kill(),
        }
        self.age_view();
    }

    /// What the process leaves of the view: all of it, what was flushed, something between the two,
    /// nothing, or nonsense.
    fn age_view(&mut self) {
        let unflushed = self.views.unflushed_count();
        let kept = match self.random.random_range(0..3) {
            0 => 0,
            1 => unflushed,
            _ => self.random.random_range(0..=unflushed),
        };
        self.views.kill_keeping(kept);
        match self.random.random_range(0..6) {
            0 => self.views.corrupt(),
            1 => self.views.set_aside().expect("the stand-in can"),
            _ => {}
        }
    }

    fn close(&mut self) {
        self.land_all();
        let _entered = self.running().runtime.enter();
        let core = self.core();
        core.groups.close();
        core.share.close();
        core.transactions.close();
        core.log.close();
    }

    /// A stop that was asked for, and a start.
    pub(super) fn restart(&mut self) {
        self.close();
        self.pass(1_000);
        self.stop(self.disk.is_dead().then_some(CrashMode::Tear));
        self.start_again();
    }
}
