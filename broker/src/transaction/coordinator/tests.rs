//! The driver, over a log that answers when the test says so.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::Now;

const TOPIC: Uuid = Uuid::from_u128(1);
const OFFSETS: PartitionId = PartitionId { topic_id: Uuid::from_u128(2), partition: 0 };
const WAIT_MAX: Duration = Duration::from_secs(20);

#[derive(Default)]
struct HeldLog {
    handed: Mutex<VecDeque<oneshot::Sender<Result<(), CommitError>>>>,
}

#[async_trait]
impl TransactionLog for HeldLog {
    fn hand_over(&self, _transactional_id: &str, _write: &Write) -> Handed {
        let (sender, receiver) = oneshot::channel();
        lock(&self.handed).push_back(sender);
        receiver
    }

    fn show_offsets(&self, _ending: &Ending, _at_ms: i64) {}

    async fn new_producer_id(&self) -> Result<i64, ResponseError> {
        Ok(7)
    }
}

struct World {
    log: Arc<HeldLog>,
    coordinator: Arc<TransactionCoordinator>,
    producer: Producer,
}

impl World {
    /// With the transactional id `a`.
    async fn new() -> Self {
        let log = Arc::new(HeldLog::default());
        let settings = TransactionSettings::default();
        let clock: Clock = Arc::new(Now::default);
        let coordinator = TransactionCoordinator::new(log.clone(), settings, clock);
        let asking = coordinator.clone();
        let init = tokio::spawn(async move { asking.init("a", 60_000, None).await });
        let mut world = Self { log, coordinator, producer: Producer { id: 7, epoch: 0 } };
        world.answer(Ok(())).await;
        world.producer = init.await.unwrap().unwrap();
        world
    }

    /// Waits for the next unit, and lets it become durable or fail.
    async fn answer(&self, result: Result<(), CommitError>) {
        until("a unit is handed over", || !lock(&self.log.handed).is_empty()).await;
        let handed = lock(&self.log.handed).pop_front().unwrap();
        handed.send(result).unwrap();
    }

    /// An offset of the group `g` for this partition, on its way when this returns.
    async fn commit(&self, partition: i32) -> tokio::task::JoinHandle<Result<(), ResponseError>> {
        let offset = PendingOffset {
            group: "g".to_owned(),
            topic_id: TOPIC,
            topic: "t".to_owned(),
            partition,
            offset: 5,
            leader_epoch: None,
            metadata: String::new(),
        };
        let (coordinator, producer) = (self.coordinator.clone(), self.producer);
        let commit = tokio::spawn(async move {
            let offsets = vec![offset];
            coordinator.commit_offsets("a", producer, Support::Adds, OFFSETS, offsets).await
        });
        let slot = self.coordinator.slot("a").unwrap();
        let asked = lock(&slot).next_waiter;
        until("it was asked for", || lock(&slot).next_waiter > asked).await;
        commit
    }

    fn pending(&self) -> Vec<i32> {
        let places = self.coordinator.pending_places("g");
        let mut partitions: Vec<i32> = places.into_iter().map(|(_, partition)| partition).collect();
        partitions.sort_unstable();
        partitions
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}

/// KIP-447: the group's next member asks for offsets that no transaction is about to replace.
#[tokio::test]
async fn an_offset_is_pending_while_it_is_written_and_until_its_transaction_ends() {
    let world = World::new().await;
    let first = world.commit(0).await;
    let second = world.commit(1).await;
    assert_eq!(world.pending(), [0, 1], "one is being written, the other waits for that");
    world.answer(Err(CommitError::Full)).await;
    assert_eq!(first.await.unwrap(), Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(world.pending(), [1], "what could not be written is not pending");
    world.answer(Ok(())).await;
    assert_eq!(second.await.unwrap(), Ok(()));
    assert_eq!(world.pending(), [1]);
    let (coordinator, producer) = (world.coordinator.clone(), world.producer);
    let end = tokio::spawn(async move { coordinator.end("a", producer, true, true).await });
    world.answer(Ok(())).await;
    assert_eq!(end.await.unwrap(), Ok(Producer { id: 7, epoch: 1 }));
    assert_eq!(world.pending(), [0; 0]);
}

#[tokio::test]
async fn whoever_asks_while_the_coordinator_closes_is_answered() {
    let World { coordinator, producer, .. } = World::new().await;
    let slot = coordinator.slot("a").unwrap();
    let holders = Arc::strong_count(&slot);
    let asking = coordinator.clone();
    let asked = {
        let mut guard = lock(&slot);
        let asked = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let asked = async {
                let end = asking.end("a", producer, false, true);
                tokio::time::timeout(WAIT_MAX, end).await
            };
            runtime.unwrap().block_on(asked)
        });
        // It has seen that the coordinator is open, and waits for the id's lock.
        let deadline = Instant::now() + WAIT_MAX;
        while Arc::strong_count(&slot) == holders {
            assert!(Instant::now() < deadline, "nobody asks");
            std::thread::yield_now();
        }
        // As `close` does, which had the lock before it.
        coordinator.closed.store(true, Ordering::Release);
        guard.waiters.clear();
        asked
    };
    let answer = asked.join().unwrap().expect("an answer");
    assert_eq!(answer, Err(ResponseError::CoordinatorNotAvailable));
}
