//! The driver, over a log that the test holds up, lets go and breaks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::super::consumer::TopicShape;
use super::super::exchange::{Commit, NewOffset, Protocol};
use super::*;

type Record = (Bytes, Option<Bytes>);

/// Each append waits for a permit.
pub(super) struct TestLog {
    permits: Semaphore,
    appends: Mutex<Vec<Vec<Record>>>,
    error: Mutex<Option<ResponseError>>,
}

impl TestLog {
    pub(super) fn open() -> Arc<Self> {
        let log = Self::held();
        log.permits.add_permits(10_000);
        log
    }

    fn held() -> Arc<Self> {
        Arc::new(Self {
            permits: Semaphore::new(0),
            appends: Mutex::default(),
            error: Mutex::default(),
        })
    }

    fn let_through(&self, appends: usize) {
        self.permits.add_permits(appends);
    }

    pub(super) fn fail_with(&self, error: Option<ResponseError>) {
        *self.error.lock().expect("no panic") = error;
    }

    fn appends(&self) -> Vec<Vec<Record>> {
        self.appends.lock().expect("no panic").clone()
    }

    /// What the keyed view of the partition holds.
    pub(super) fn view(&self) -> BTreeMap<Bytes, Bytes> {
        let mut view = BTreeMap::new();
        for (key, value) in self.appends().into_iter().flatten() {
            match value {
                Some(value) => view.insert(key, value),
                None => view.remove(&key),
            };
        }
        view
    }
}

#[async_trait]
impl OffsetsLog for TestLog {
    async fn append(&self, _group: &str, records: Vec<Record>) -> Result<(), ResponseError> {
        self.permits.acquire().await.expect("never closed").forget();
        if let Some(error) = *self.error.lock().expect("no panic") {
            return Err(error);
        }
        self.appends.lock().expect("no panic").push(records);
        Ok(())
    }
}

struct World {
    log: Arc<TestLog>,
    now_ms: Arc<AtomicI64>,
    groups: Arc<GroupCoordinator>,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

impl World {
    fn new(log: Arc<TestLog>) -> Self {
        let now_ms = Arc::new(AtomicI64::new(1_000));
        let groups = coordinator(&log, &now_ms);
        Self { log, now_ms, groups }
    }

    /// The same log under a new coordinator.
    fn restarted(self) -> Self {
        let groups = coordinator(&self.log, &self.now_ms);
        groups.load(self.log.view());
        Self { groups, ..self }
    }

    fn pass(&self, ms: i64) {
        self.now_ms.fetch_add(ms, Ordering::SeqCst);
        self.groups.tick();
    }

    fn at(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        self.groups.committed(group, topic, partition).map(|committed| committed.offset)
    }

    /// One member, alone in a stable group.
    async fn member(&self, group: &str) -> Caller {
        let join = Join { member_id_required: false, ..join() };
        let joined = self.groups.join(group, join).await;
        assert_eq!(joined.error, None);
        let caller = Caller {
            member_id: joined.member_id.clone(),
            instance_id: None,
            generation: joined.generation,
        };
        let assignments = vec![(joined.member_id, Bytes::from_static(b"all"))];
        let sync = Sync { caller: caller.clone(), assignments, ..Sync::default() };
        assert_eq!(self.groups.sync(group, sync).await.error, None);
        caller
    }
}

fn coordinator(log: &Arc<TestLog>, now_ms: &Arc<AtomicI64>) -> Arc<GroupCoordinator> {
    let now_ms = Arc::clone(now_ms);
    let clock: Clock = Arc::new(move || {
        let now_ms = now_ms.load(Ordering::SeqCst);
        Now { monotonic_ms: now_ms, wall_ms: now_ms }
    });
    let log = Arc::clone(log) as Arc<dyn OffsetsLog>;
    GroupCoordinator::new(log, GroupSettings::default(), surroundings(), clock)
}

/// One topic `t` of two partitions.
struct OneTopic;

impl TopicSource for OneTopic {
    fn version(&self) -> u64 {
        1
    }

    fn shape(&self, name: &str) -> Option<TopicShape> {
        (name == "t").then_some(TopicShape { id: Uuid::from_u128(1), partitions: 2 })
    }

    fn name_of(&self, id: Uuid) -> Option<Arc<str>> {
        (id == Uuid::from_u128(1)).then(|| "t".into())
    }

    fn names(&self) -> Vec<Arc<str>> {
        vec!["t".into()]
    }
}

fn surroundings() -> Surroundings {
    let timeouts = MemberTimeouts { session_ms: 10_000, heartbeat_ms: 1_000 };
    Surroundings { topics: Arc::new(OneTopic), timeouts: Box::new(move |_| timeouts) }
}

/// Subscribed to the topic `t`.
fn join() -> Join {
    Join {
        client_id: "test".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 20_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![Protocol {
            name: "range".to_owned(),
            metadata: Bytes::from_static(b"\x00\x00\x00\x00\x00\x01\x00\x01t\xff\xff\xff\xff"),
        }],
        member_id_required: true,
        ..Join::default()
    }
}

fn new_offset(topic: &str, partition: i32, offset: i64) -> NewOffset {
    NewOffset {
        topic: topic.to_owned(),
        partition,
        offset,
        leader_epoch: Some(0),
        metadata: String::new(),
    }
}

/// As `kafka-consumer-groups --reset-offsets`, or a consumer that assigns itself, commits.
fn simple(offsets: &[(&str, i32, i64)]) -> Commit {
    let offsets = offsets.iter().map(|(topic, partition, at)| new_offset(topic, *partition, *at));
    Commit {
        caller: Caller { generation: -1, ..Caller::default() },
        offsets: offsets.collect(),
        ..Commit::default()
    }
}

/// Waits, with a deadline, until this holds.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn group_state(world: &World, group: &str) -> &'static str {
    world.groups.describe(group).map_or("none", |description| description.state)
}

#[tokio::test]
async fn a_commit_is_answered_and_visible_only_when_it_is_durable() {
    let world = World::new(TestLog::held());
    let groups = Arc::clone(&world.groups);
    let commit = tokio::spawn(async move { groups.commit("g", simple(&[("t", 0, 7)])).await });
    until("the write is under way", || world.groups.lock().groups.contains_key("g")).await;
    assert!(!commit.is_finished());
    assert_eq!(world.at("g", "t", 0), None);
    world.log.let_through(1);
    assert_eq!(commit.await.expect("no panic"), Ok(vec![Ok(())]));
    assert_eq!(world.at("g", "t", 0), Some(7));
}

#[tokio::test]
async fn commits_that_come_during_a_write_share_the_next_one_in_their_order() {
    let world = World::new(TestLog::held());
    let mut commits = Vec::new();
    for offset in 0..20 {
        let groups = Arc::clone(&world.groups);
        commits.push(tokio::spawn(
            async move { groups.commit("g", simple(&[("t", 0, offset)])).await },
        ));
        until("it is queued", || {
            let state = world.groups.lock();
            let queued = state.groups.get("g").map(|slot| slot.queue.len());
            queued == Some(usize::try_from(offset).expect("small"))
        })
        .await;
    }
    world.log.let_through(2);
    for commit in commits {
        assert_eq!(commit.await.expect("no panic"), Ok(vec![Ok(())]));
    }
    let sizes: Vec<usize> = world.log.appends().iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 19]);
    assert_eq!(world.at("g", "t", 0), Some(19));
}

#[tokio::test]
async fn a_failed_write_leaves_the_offset_as_it_was() {
    let world = World::new(TestLog::open());
    assert_eq!(world.groups.commit("g", simple(&[("t", 0, 1)])).await, Ok(vec![Ok(())]));
    world.log.fail_with(Some(ResponseError::KafkaStorageError));
    let failed = world.groups.commit("g", simple(&[("t", 0, 2)])).await;
    assert_eq!(failed, Err(ResponseError::NotCoordinator));
    world.log.fail_with(Some(ResponseError::MessageTooLarge));
    let failed = world.groups.commit("g", simple(&[("t", 0, 3)])).await;
    assert_eq!(failed, Err(ResponseError::InvalidCommitOffsetSize));
    assert_eq!(world.at("g", "t", 0), Some(1));
}

#[tokio::test]
async fn a_commit_outlives_its_request() {
    let world = World::new(TestLog::held());
    let groups = Arc::clone(&world.groups);
    let commit = tokio::spawn(async move { groups.commit("g", simple(&[("t", 0, 7)])).await });
    until("the write is under way", || world.groups.lock().groups.contains_key("g")).await;
    commit.abort();
    assert!(commit.await.expect_err("aborted").is_cancelled());
    world.log.let_through(1);
    until("the offset is there", || world.at("g", "t", 0) == Some(7)).await;
}

#[tokio::test]
async fn metadata_that_is_too_large_is_refused_alone() {
    let world = World::new(TestLog::open());
    let mut commit = simple(&[("t", 0, 1), ("t", 1, 2)]);
    commit.offsets[0].metadata = "x".repeat(4_097);
    let results = world.groups.commit("g", commit).await;
    assert_eq!(results, Ok(vec![Err(ResponseError::OffsetMetadataTooLarge), Ok(())]));
    assert_eq!((world.at("g", "t", 0), world.at("g", "t", 1)), (None, Some(2)));
}

#[tokio::test]
async fn members_of_unknown_groups_hear_it_in_the_words_of_their_version() {
    let world = World::new(TestLog::open());
    let mut commit = simple(&[("t", 0, 1)]);
    commit.caller.generation = 3;
    let old = world.groups.commit("g", commit.clone()).await;
    assert_eq!(old, Err(ResponseError::IllegalGeneration));
    commit.names_unknown_group = true;
    let new = world.groups.commit("g", commit).await;
    assert_eq!(new, Err(ResponseError::GroupIdNotFound));
    let caller = Caller { member_id: "m".to_owned(), instance_id: None, generation: 1 };
    let unknown = ResponseError::UnknownMemberId;
    assert_eq!(world.groups.heartbeat("g", caller.clone()).await, Err(unknown));
    let sync = Sync { caller, ..Sync::default() };
    assert_eq!(world.groups.sync("g", sync).await.error, Some(unknown));
    let leaving = Leaving { member_id: "m".to_owned(), ..Leaving::default() };
    let left = world.groups.leave("g", vec![leaving]).await.expect("an answer for each");
    assert_eq!(left[0].error, Some(unknown));
    let known = Join { member_id: "m".to_owned(), ..join() };
    assert_eq!(world.groups.join("g", known).await.error, Some(unknown));
    assert!(world.groups.list().is_empty());
}

#[tokio::test]
async fn joins_that_cannot_be_are_refused_and_leave_no_group_behind() {
    let world = World::new(TestLog::open());
    let cases = [
        ("", join(), ResponseError::InvalidGroupId),
        ("g", Join { session_timeout_ms: 5_999, ..join() }, ResponseError::InvalidSessionTimeout),
        (
            "g",
            Join { session_timeout_ms: 1_800_001, ..join() },
            ResponseError::InvalidSessionTimeout,
        ),
        ("g", Join { protocols: Vec::new(), ..join() }, ResponseError::InconsistentGroupProtocol),
        // As ConsumerGroupHeartbeat: no record has room for them.
        (
            "g",
            Join { instance_id: Some("i".repeat(32_768)), ..join() },
            ResponseError::InvalidRequest,
        ),
        ("g", Join { protocol_type: "p".repeat(32_768), ..join() }, ResponseError::InvalidRequest),
    ];
    for (group, join, expected) in cases {
        assert_eq!(world.groups.join(group, join).await.error, Some(expected));
    }
    assert!(world.groups.list().is_empty());
}

#[tokio::test]
async fn a_member_id_begins_with_no_more_than_255_bytes_of_the_clients_name() {
    let world = World::new(TestLog::open());
    // Two bytes each: the 128th would end at 256.
    let client_id = "\u{e9}".repeat(16_000);
    let joined = world.groups.join("g", Join { client_id, ..join() }).await;
    assert_eq!(joined.error, Some(ResponseError::MemberIdRequired));
    let (name, id) = joined.member_id.split_at(254);
    assert_eq!(name, "\u{e9}".repeat(127));
    assert_eq!((id.len(), id.starts_with('-')), (37, true), "a hyphen and a UUID");
}

#[tokio::test]
async fn a_start_on_a_full_disk_hides_offsets_of_topics_that_are_gone() {
    let world = World::new(TestLog::open());
    for (group, topic) in [("f", "gone"), ("g", "gone"), ("g", "t")] {
        let committed = world.groups.commit(group, simple(&[(topic, 0, 1)])).await;
        assert_eq!(committed, Ok(vec![Ok(())]));
    }
    let world = world.restarted();
    world.log.fail_with(Some(ResponseError::KafkaStorageError));
    world.groups.retain_topics(|topic| topic == "t").await;
    assert_eq!(world.at("g", "gone", 0), None);
    assert_eq!(world.at("g", "t", 0), Some(1));
    until("nothing is left of the other group", || group_state(&world, "f") == "none").await;
    world.log.fail_with(None);
    let world = world.restarted();
    assert_eq!(world.at("g", "gone", 0), Some(1), "it is on the disk still");
    world.groups.retain_topics(|topic| topic == "t").await;
    assert_eq!(world.restarted().at("g", "gone", 0), None);
}

#[tokio::test]
async fn groups_and_offsets_come_back_after_a_restart_and_members_go_on() {
    let world = World::new(TestLog::open());
    let caller = world.member("g").await;
    let commit = Commit { caller: caller.clone(), ..simple(&[("t", 0, 5), ("t", 1, 6)]) };
    assert_eq!(world.groups.commit("g", commit).await, Ok(vec![Ok(()), Ok(())]));
    let (before, offsets) = (world.groups.describe("g"), world.groups.all_offsets());
    let world = world.restarted();
    assert_eq!(world.groups.describe("g"), before);
    assert_eq!(world.groups.all_offsets(), offsets);
    world.pass(9_000);
    assert_eq!(world.groups.heartbeat("g", caller.clone()).await, Ok(()));
    world.pass(9_000);
    assert_eq!(group_state(&world, "g"), "Stable");
    world.pass(1_000);
    until("the session ended", || group_state(&world, "g") == "Empty").await;
    let unknown = world.groups.heartbeat("g", caller).await;
    assert_eq!(unknown, Err(ResponseError::UnknownMemberId));
}

#[tokio::test]
async fn a_deleted_group_leaves_nothing_in_memory_or_in_the_log() {
    let world = World::new(TestLog::open());
    let caller = world.member("g").await;
    let commit = Commit { caller: caller.clone(), ..simple(&[("t", 0, 5)]) };
    world.groups.commit("g", commit).await.expect("a commit");
    assert_eq!(world.groups.delete("g").await, Err(ResponseError::NonEmptyGroup));
    let leaving = Leaving { member_id: caller.member_id, ..Leaving::default() };
    world.groups.leave("g", vec![leaving]).await.expect("left");
    assert_eq!(world.groups.delete("g").await, Ok(()));
    assert_eq!(world.groups.delete("g").await, Err(ResponseError::GroupIdNotFound));
    assert_eq!(world.log.view(), BTreeMap::new());
    until("it is forgotten", || world.groups.list().is_empty()).await;
    assert!(world.groups.lock().due.is_empty());
}

#[tokio::test]
async fn the_end_of_a_topic_takes_its_offsets_even_those_on_their_way() {
    let world = World::new(TestLog::open());
    world.groups.commit("g", simple(&[("t", 0, 1), ("u", 0, 2)])).await.expect("a commit");
    let world = World { log: TestLog::held(), ..world };
    let world = {
        // The same offsets, over a log that is held up.
        let groups = coordinator(&world.log, &world.now_ms);
        groups.apply_offsets("g", &[new_offset("t", 0, 1), new_offset("u", 0, 2)], 1);
        World { groups, ..world }
    };
    let groups = Arc::clone(&world.groups);
    let commit = tokio::spawn(async move { groups.commit("g", simple(&[("t", 1, 3)])).await });
    until("the write is under way", || world.groups.lock().groups["g"].writing).await;
    let groups = Arc::clone(&world.groups);
    let deleted = tokio::spawn(async move { groups.topic_deleted("t").await });
    until("the drop is queued", || !world.groups.lock().groups["g"].queue.is_empty()).await;
    world.log.let_through(2);
    assert_eq!(commit.await.expect("no panic"), Ok(vec![Ok(())]));
    assert_eq!(deleted.await.expect("no panic"), Ok(()));
    let left: Vec<String> = world.groups.offsets_of("g").into_iter().map(|l| l.topic).collect();
    assert_eq!(left, ["u"]);
    world.log.let_through(1);
    world.groups.retain_topics(|topic| topic != "u").await;
    assert!(world.groups.all_offsets().is_empty());
}

#[tokio::test]
async fn offsets_expire_as_kip_211_says() {
    let world = World::new(TestLog::open());
    let caller = world.member("members").await;
    // Of a topic that is subscribed, and of one that is not.
    let commit = Commit { caller: caller.clone(), ..simple(&[("t", 0, 1), ("old", 0, 2)]) };
    world.groups.commit("members", commit).await.expect("a commit");
    world.groups.commit("simple", simple(&[("t", 0, 3)])).await.expect("a commit");
    let mut own = simple(&[("t", 0, 4)]);
    own.retention_time_ms = Some(DAY_MS);
    world.groups.commit("own", own).await.expect("a commit");

    let left = |world: &World| {
        let lines = world.groups.all_offsets().into_iter();
        lines.map(|line| (line.group, line.topic)).collect::<Vec<_>>()
    };
    let line = |group: &str, topic: &str| (group.to_owned(), topic.to_owned());
    world.now_ms.fetch_add(DAY_MS, Ordering::SeqCst);
    world.groups.expire_offsets().await;
    assert_eq!(left(&world), [line("members", "old"), line("members", "t"), line("simple", "t")]);
    world.now_ms.fetch_add(6 * DAY_MS, Ordering::SeqCst);
    world.groups.expire_offsets().await;
    assert_eq!(left(&world), [line("members", "t")]);
    assert_eq!(world.groups.list().len(), 1, "groups with nothing left are forgotten");

    // The members are gone now; seven days later their offsets are too.
    world.groups.tick();
    until("nobody is there", || group_state(&world, "members") == "Empty").await;
    world.now_ms.fetch_add(7 * DAY_MS - 1, Ordering::SeqCst);
    world.groups.expire_offsets().await;
    assert_eq!(left(&world), [line("members", "t")]);
    world.now_ms.fetch_add(1, Ordering::SeqCst);
    world.groups.expire_offsets().await;
    assert!(world.groups.list().is_empty());
    assert_eq!(world.log.view(), BTreeMap::new());
}

#[tokio::test]
async fn offsets_of_readers_inside_this_process_do_not_expire_while_it_runs() {
    let world = World::new(TestLog::open());
    world.groups.commit("job", simple(&[("t", 0, 1)])).await.expect("a commit");
    world.groups.hold("job");
    world.groups.apply_offsets("new job", &[new_offset("t", 0, 2)], 1_000);
    world.now_ms.fetch_add(30 * DAY_MS, Ordering::SeqCst);
    world.groups.expire_offsets().await;
    assert_eq!(world.groups.all_offsets().len(), 2);
    assert_eq!(world.groups.held(), ["job", "new job"]);
    let world = world.restarted();
    assert!(world.groups.held().is_empty());
    world.groups.expire_offsets().await;
    assert!(world.groups.all_offsets().is_empty(), "the job is gone: its offsets expire");
}

#[tokio::test]
async fn offsets_of_an_atomic_unit_are_the_same_as_those_of_a_commit() {
    let world = World::new(TestLog::open());
    let offsets = [new_offset("t", 0, 1), new_offset("t", 1, 2)];
    let now_ms = world.now_ms.load(Ordering::SeqCst);
    let records = world.groups.offset_records("g", &offsets, now_ms);
    assert!(world.groups.all_offsets().is_empty());
    world.groups.apply_offsets("g", &offsets, now_ms);
    let of_unit = world.groups.all_offsets();
    let other = World::new(TestLog::open());
    other.groups.commit("g", simple(&[("t", 0, 1), ("t", 1, 2)])).await.expect("a commit");
    assert_eq!(other.groups.all_offsets(), of_unit);
    assert_eq!(other.log.appends(), [records]);
}

#[tokio::test]
async fn the_timers_run_by_themselves_and_end_with_the_coordinator() {
    let log = TestLog::open();
    let settings = GroupSettings {
        session_timeout_ms_min: 10,
        initial_rebalance_delay_ms: 10,
        ..GroupSettings::default()
    };
    let clock = crate::clock::system_clock();
    let groups = GroupCoordinator::new(log, settings, surroundings(), clock);
    groups.start();
    let join = Join { session_timeout_ms: 20, member_id_required: false, ..join() };
    // The initial delay ends by a timer, and so does the session afterwards.
    assert_eq!(groups.join("g", join).await.generation, 1);
    let state = || groups.describe("g").map(|description| description.state);
    until("the session ended", || state() == Some("Empty")).await;
    let weak = Arc::downgrade(&groups);
    drop(groups);
    until("nothing holds the coordinator", || weak.upgrade().is_none()).await;
}

#[tokio::test]
async fn the_end_of_the_log_answers_whoever_waits_and_whoever_comes() {
    let world = World::new(TestLog::held());
    // One waits for a write, one for a rebalance.
    let groups = Arc::clone(&world.groups);
    let commit = tokio::spawn(async move { groups.commit("g", simple(&[("t", 0, 7)])).await });
    let second = Join { member_id_required: false, ..join() };
    let first = world.groups.join("h", second.clone()).await;
    assert_eq!(first.error, None);
    let groups = Arc::clone(&world.groups);
    let joining = tokio::spawn(async move { groups.join("h", second).await });
    until("both wait", || {
        let state = world.groups.lock();
        state.groups.get("g").is_some_and(|slot| slot.writing) && !state.waiters.is_empty()
    })
    .await;
    world.log.fail_with(Some(ResponseError::KafkaStorageError));
    world.groups.close();
    world.log.let_through(1);
    let unavailable = ResponseError::CoordinatorNotAvailable;
    assert_eq!(joining.await.expect("no panic").error, Some(unavailable));
    assert!(commit.await.expect("no panic").is_err());
    let caller = Caller { member_id: first.member_id, instance_id: None, generation: 1 };
    assert_eq!(world.groups.heartbeat("h", caller).await, Err(unavailable));
    let late = world.groups.commit("g", simple(&[("t", 0, 8)])).await;
    assert_eq!(late, Err(unavailable));
}
