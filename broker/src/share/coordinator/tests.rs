//! The driver over a log that can be held and can fail.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use uuid::Uuid;

use super::*;
use crate::clock::Now;
use crate::share::group::{Heartbeat, HeartbeatReply, Refused};
use crate::share::partition::{Acknowledgement, Acquired, Wanted};
use crate::share::records::TopicSeen;
use crate::share::session::SessionKey;

const TOPIC: Uuid = Uuid::from_u128(1);
const PLACE: PartitionId = PartitionId { topic_id: TOPIC, partition: 0 };

/// The latest value of each key, as the state log keeps them.
struct FakeLog {
    kept: Mutex<BTreeMap<Bytes, Option<Bytes>>>,
    puts: AtomicUsize,
    failing: AtomicBool,
    /// One permit lets one write through.
    gate: Semaphore,
}

#[async_trait]
impl StateLog for FakeLog {
    async fn put(&self, records: Vec<(StateKey, Option<Bytes>)>) -> Result<(), ResponseError> {
        let passed = self.gate.acquire().await.map_err(|_| ResponseError::KafkaStorageError)?;
        passed.forget();
        self.puts.fetch_add(1, Ordering::SeqCst);
        if self.failing.load(Ordering::SeqCst) {
            return Err(ResponseError::KafkaStorageError);
        }
        let records = records.into_iter().map(|(key, value)| (key.to_bytes(), value));
        self.kept.lock().unwrap().extend(records);
        Ok(())
    }
}

#[derive(Default)]
struct FakeNames {
    foreign: BTreeSet<String>,
    claimed: Mutex<BTreeSet<String>>,
}

impl GroupNames for FakeNames {
    fn claim(&self, group: &str) -> bool {
        let free = !self.foreign.contains(group);
        if free {
            self.claimed.lock().unwrap().insert(group.to_owned());
        }
        free
    }

    fn release(&self, group: &str) {
        self.claimed.lock().unwrap().remove(group);
    }
}

struct World {
    share: Arc<ShareCoordinator>,
    log: Arc<FakeLog>,
    names: Arc<FakeNames>,
    now_ms: Arc<AtomicI64>,
}

const OPEN: usize = 1_000_000;

impl World {
    fn new() -> Self {
        let log = Arc::new(FakeLog {
            kept: Mutex::default(),
            puts: AtomicUsize::new(0),
            failing: AtomicBool::new(false),
            gate: Semaphore::new(OPEN),
        });
        Self::on(log)
    }

    fn on(log: Arc<FakeLog>) -> Self {
        let foreign = BTreeSet::from(["classic".to_owned()]);
        let names = Arc::new(FakeNames { foreign, ..FakeNames::default() });
        let now_ms = Arc::new(AtomicI64::new(0));
        let time = Arc::clone(&now_ms);
        let clock: Clock = Arc::new(move || {
            let monotonic_ms = time.load(Ordering::SeqCst);
            Now { monotonic_ms, wall_ms: monotonic_ms }
        });
        let settings: SettingsOf = Arc::new(|_| ShareSettings::default());
        let (into_log, into_names) = (Arc::clone(&log), Arc::clone(&names));
        let share = ShareCoordinator::new(into_log, into_names, settings, clock);
        Self { share, log, names, now_ms }
    }

    /// What a broker finds that starts on what is durable now.
    fn restarted(&self) -> Self {
        self.share.close();
        let world = Self::on(Arc::clone(&self.log));
        let mut loaded = Loaded::default();
        for (key, value) in self.log.kept.lock().unwrap().iter() {
            let Some(value) = value else { continue };
            match StateKey::parse(key).unwrap() {
                StateKey::ShareGroup(group) => {
                    loaded.groups.insert(group, serde_json::from_slice(value).unwrap());
                }
                StateKey::SharePartition(group, id) => {
                    let record = serde_json::from_slice(value).unwrap();
                    loaded.partitions.push((group, id, record));
                }
                other => panic!("{other:?}"),
            }
        }
        world.share.load(loaded, |id| id.topic_id == TOPIC);
        world
    }

    fn hold(&self) {
        self.log.gate.forget_permits(OPEN);
    }

    fn let_go(&self) {
        self.log.gate.add_permits(OPEN);
    }

    async fn beat(&self, group: &str, member: &str, epoch: i32) -> Result<HeartbeatReply, Refused> {
        let topics = (epoch == 0).then(|| BTreeSet::from(["t".to_owned()]));
        let heartbeat = Heartbeat {
            member_id: member.to_owned(),
            member_epoch: epoch,
            topics,
            ..Heartbeat::default()
        };
        let seen = |name: &str| (name == "t").then_some(TopicSeen { id: TOPIC, partitions: 2 });
        self.share.heartbeat(group, heartbeat, &seen).await
    }

    /// A group `g` with one member, which begins at 0.
    async fn begun() -> Self {
        let world = Self::new();
        world.beat("g", "a", 0).await.unwrap();
        let Claimed::ToBegin(claim) = world.claim() else { panic!("nobody has read yet") };
        world.share.begin(&claim, 0).await.unwrap();
        world
    }

    fn claim(&self) -> Claimed {
        self.share.claim("g", PLACE, 0, &Arc::new(Notify::new()))
    }

    /// Fetches out of a log of one batch, 0 to 9.
    fn fetch(&self, member: &str) -> Vec<Acquired> {
        let Claimed::Read { claim, offset } = self.claim() else { return Vec::new() };
        if offset > 9 {
            return Vec::new();
        }
        let wanted = Wanted {
            member: &member.into(),
            fetch_offset: offset,
            batches: &[(0, 9)],
            aborted: &[],
            records_max: 100,
            batch_records: 100,
        };
        self.share.acquire(claim, &wanted)
    }

    fn acknowledge(&self, member: &str, first: i64, last: i64, kind: i8) -> Pending {
        let one = Acknowledgement { first, last, kinds: vec![kind] };
        self.share.acknowledge(&key(member), vec![(PLACE, vec![one])])
    }

    fn puts(&self) -> usize {
        self.log.puts.load(Ordering::SeqCst)
    }
}

fn key(member: &str) -> SessionKey {
    ("g".to_owned(), member.to_owned())
}

fn ranges(acquired: &[Acquired]) -> Vec<(i64, i64, i16)> {
    acquired.iter().map(|a| (a.first, a.last, a.deliveries)).collect()
}

/// Lets spawned tasks run until none of them can go on.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_member_hears_its_epoch_after_the_group_and_its_partitions_are_durable() {
    let world = World::new();
    world.hold();
    let mut beat = Box::pin(world.beat("g", "a", 0));
    assert!(futures::poll!(&mut beat).is_pending());
    settle().await;
    assert!(futures::poll!(&mut beat).is_pending(), "S1");
    world.let_go();
    let reply = beat.await.unwrap();
    assert_eq!(reply.member_epoch, 2);
    assert_eq!(reply.assignment.unwrap()[&TOPIC].len(), 2);
    assert_eq!(world.puts(), 1, "all of it in one write");
    assert_eq!(world.log.kept.lock().unwrap().len(), 3);
    world.beat("g", "a", 2).await.unwrap();
    assert_eq!(world.puts(), 1, "a heartbeat that changes nothing writes nothing");
}

#[tokio::test]
async fn a_member_whose_join_could_not_be_written_is_written_with_its_next_try() {
    let world = World::new();
    world.log.failing.store(true, Ordering::SeqCst);
    let (error, _) = world.beat("g", "a", 0).await.unwrap_err();
    assert_eq!(error, ResponseError::CoordinatorNotAvailable);
    world.log.failing.store(false, Ordering::SeqCst);
    assert_eq!(world.beat("g", "a", 0).await.unwrap().member_epoch, 2);
    assert_eq!(world.log.kept.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_acknowledged_is_durable_before_the_answer_and_gone_after_a_restart() {
    let world = World::begun().await;
    assert_eq!(ranges(&world.fetch("a")), [(0, 9, 1)]);
    world.hold();
    let mut first = Box::pin(world.acknowledge("a", 0, 3, 1).wait());
    settle().await;
    let second = world.acknowledge("a", 4, 5, 2);
    let third = world.acknowledge("a", 6, 6, 3);
    let before = world.puts();
    assert!(futures::poll!(&mut first).is_pending());
    world.let_go();
    assert_eq!(first.await, [(PLACE, Ok(()))]);
    assert_eq!(second.wait().await, [(PLACE, Ok(()))]);
    assert_eq!(third.wait().await, [(PLACE, Ok(()))]);
    assert_eq!(world.puts() - before, 2, "what came during the first write shares the second");
    let world = world.restarted();
    assert_eq!(ranges(&world.fetch("b")), [(4, 5, 2), (7, 9, 1)]);
    assert_eq!(world.beat("g", "a", 2).await.unwrap().member_epoch, 2, "it is still a member");
}

#[tokio::test]
async fn a_failed_write_leaves_the_records_with_their_member() {
    let world = World::begun().await;
    world.fetch("a");
    world.log.failing.store(true, Ordering::SeqCst);
    let failed = world.acknowledge("a", 0, 9, 1).wait().await;
    assert_eq!(failed, [(PLACE, Err(ResponseError::CoordinatorNotAvailable))]);
    world.log.failing.store(false, Ordering::SeqCst);
    assert_eq!(world.acknowledge("a", 0, 9, 1).wait().await, [(PLACE, Ok(()))]);
    let seen = world.share.offsets_of("g");
    assert_eq!(seen[0].summary.unwrap().start_offset, 10);
}

#[tokio::test]
async fn one_fetch_reads_at_a_time_and_the_others_hear_of_its_end() {
    let world = World::begun().await;
    let Claimed::Read { claim, .. } = world.claim() else { panic!() };
    let waiter = Arc::new(Notify::new());
    let other = world.share.claim("g", PLACE, 0, &waiter);
    assert!(matches!(other, Claimed::NotNow));
    drop(claim);
    let heard = tokio::time::timeout(std::time::Duration::from_secs(5), waiter.notified());
    heard.await.unwrap();
    // A fetch that found nothing wakes nobody: they would find nothing either.
    let Claimed::Read { claim, .. } = world.claim() else { panic!() };
    let waiter = Arc::new(Notify::new());
    assert!(matches!(world.share.claim("g", PLACE, 0, &waiter), Claimed::NotNow));
    claim.put_back();
    settle().await;
    assert!(futures::poll!(Box::pin(waiter.notified())).is_pending());
}

#[tokio::test]
async fn locks_and_sessions_run_out_by_the_clock() {
    let world = World::begun().await;
    world.fetch("a");
    world.now_ms.store(29_999, Ordering::SeqCst);
    world.share.tick();
    assert!(world.fetch("b").is_empty());
    world.now_ms.store(30_000, Ordering::SeqCst);
    world.share.tick();
    assert_eq!(ranges(&world.fetch("b")), [(0, 9, 2)]);
    assert_eq!(world.share.describe("g").unwrap().members.len(), 1);
    world.now_ms.store(45_000, Ordering::SeqCst);
    world.share.tick();
    settle().await;
    assert_eq!(world.share.list()[0].state, "Empty");
    let late = world.beat("g", "a", 2).await.unwrap_err();
    assert_eq!(late.0, ResponseError::UnknownMemberId);
    let world = world.restarted();
    assert_eq!(world.share.describe("g").unwrap().epoch, 3, "epochs do not go back");
}

#[tokio::test]
async fn the_end_of_a_session_gives_back_what_its_member_has() {
    let world = World::begun().await;
    let opening = crate::share::session::Opening { named: vec![PLACE], ..Default::default() };
    world.share.sessions().open(&key("a"), opening, 10).unwrap();
    world.fetch("a");
    world.share.disconnected(&key("a"), 7);
    settle().await;
    assert!(world.fetch("b").is_empty(), "that was another connection's session");
    world.share.disconnected(&key("a"), 1);
    settle().await;
    assert_eq!(ranges(&world.fetch("b")), [(0, 9, 2)]);
}

#[tokio::test]
async fn a_group_without_members_can_be_moved_and_deleted_and_one_with_members_cannot() {
    let world = World::begun().await;
    let moved = world.share.alter_offsets("g", &[(PLACE, 5)]).await;
    assert_eq!(moved.unwrap_err().0, ResponseError::NonEmptyGroup);
    assert_eq!(world.share.delete("g").await, Err(ResponseError::NonEmptyGroup));
    assert_eq!(world.share.delete("h").await, Err(ResponseError::GroupIdNotFound));
    world.beat("g", "a", -1).await.unwrap();
    world.share.alter_offsets("g", &[(PLACE, 5)]).await.unwrap();
    assert_eq!(ranges(&world.fetch("b")), [(5, 9, 1)]);
    let found = world.share.delete_offsets("g", &[vec![PLACE], vec![PLACE]]).await.unwrap();
    assert_eq!(found, [true, false]);
    assert!(matches!(world.claim(), Claimed::Unknown));
    world.share.delete("g").await.unwrap();
    assert!(!world.names.claimed.lock().unwrap().contains("g"));
    assert!(world.log.kept.lock().unwrap().values().all(Option::is_none), "nothing is left");
    assert!(!world.share.exists("g"));
    // Setting a start makes a group.
    world.share.alter_offsets("n", &[(PLACE, 3)]).await.unwrap();
    assert_eq!(world.restarted().share.offsets_of("n")[0].summary.unwrap().start_offset, 3);
}

#[tokio::test]
async fn a_deleted_topic_leaves_nothing_in_any_group() {
    let world = World::begun().await;
    let both = [PLACE, PartitionId { partition: 1, ..PLACE }];
    world.share.topic_deleted(&both).await.unwrap();
    assert!(world.share.offsets_of("g").is_empty());
    assert!(world.restarted().share.offsets_of("g").is_empty());
}

#[tokio::test]
async fn a_name_of_another_kind_of_group_is_not_taken() {
    let world = World::new();
    let (error, why) = world.beat("classic", "a", 0).await.unwrap_err();
    assert_eq!(error, ResponseError::GroupIdNotFound);
    assert_eq!(why, "Group classic is not a share group.");
    let (error, why) = world.beat("g", "a", 4).await.unwrap_err();
    assert_eq!(error, ResponseError::GroupIdNotFound);
    assert_eq!(why, "Share group g not found.");
}

#[tokio::test]
async fn whoever_waits_when_the_log_ends_hears_of_it() {
    let world = World::begun().await;
    world.fetch("a");
    world.hold();
    let pending = world.acknowledge("a", 0, 9, 1);
    settle().await;
    world.share.close();
    let results = pending.wait().await;
    assert_eq!(results, [(PLACE, Err(ResponseError::CoordinatorNotAvailable))]);
    let closed = world.beat("g", "a", 2).await.unwrap_err();
    assert_eq!(closed.0, ResponseError::CoordinatorNotAvailable);
    assert!(matches!(world.claim(), Claimed::Unknown));
}

#[tokio::test]
async fn whoever_comes_after_the_end_is_answered() {
    let world = World::new();
    world.beat("g", "a", 0).await.unwrap();
    let Claimed::ToBegin(claim) = world.claim() else { panic!("nobody has read yet") };
    world.share.close();
    let gone = std::task::Poll::Ready(Err(ResponseError::CoordinatorNotAvailable));
    let mut begun = Box::pin(world.share.begin(&claim, 0));
    assert_eq!(futures::poll!(&mut begun), gone);
    let mut deleted = Box::pin(world.share.topic_deleted(&[PLACE]));
    assert_eq!(futures::poll!(&mut deleted), gone);
}
