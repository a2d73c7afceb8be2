//! A partition on a log whose disk is full for a while.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use odradek_log::{Log, MemoryDisk, MemoryViews, Options, PartitionSettings, PartitionSpec};
use odradek_protocol::batch::{BatchBuilder, BatchHeader};
use odradek_protocol::compression::Compression;
use uuid::Uuid;

use super::*;

const RESERVE_BYTES: u64 = 1 << 20;

fn opened(disk: &MemoryDisk) -> Arc<Partition> {
    let options = Options {
        journal_file_bytes: 1 << 20,
        disk_reserve_bytes: RESERVE_BYTES,
        ..Options::new("unused")
    };
    let views = Arc::new(MemoryViews::default());
    let (log, _) = Log::open_with(options, Arc::new(disk.clone()), views).unwrap();
    let id = PartitionId { topic_id: Uuid::from_u128(1), partition: 0 };
    let spec = PartitionSpec {
        id,
        folder: "t-0".to_owned(),
        keyed: false,
        makes_room: false,
        log_start_offset: 0,
        settings: PartitionSettings::default(),
    };
    log.attach(spec).unwrap();
    log.start().unwrap();
    let log = Arc::new(log);
    Arc::new(Partition::new(id, "t".into(), log, 0, 0, Producers::default()))
}

fn batch(producer_id: i64, base_sequence: i32, records: usize) -> Batch {
    let mut builder = BatchBuilder::new(Compression::None);
    if producer_id >= 0 {
        builder = builder.producer(producer_id, 0, base_sequence);
    }
    for _ in 0..records {
        builder.push(1, None, Some(b"value"), &[]);
    }
    let bytes: Bytes = builder.build(0);
    Batch::new(BatchHeader::parse(&bytes).unwrap(), bytes)
}

async fn answered(appended: Appended) -> Result<i64, CommitError> {
    let Appended::Queued { base_offset, done } = appended else { panic!("{appended:?}") };
    done.await.unwrap().map(|()| base_offset)
}

#[tokio::test]
async fn a_repeat_of_a_batch_that_was_refused_is_not_taken_for_what_got_its_offsets() {
    let disk = MemoryDisk::new(1);
    let partition = opened(&disk);
    disk.set_capacity(disk.used_bytes());
    let first = partition.append(batch(9, 0, 3), 0).unwrap();
    // Sent again before the first was answered. It may have been already: then it is new, and
    // refused as well.
    let again = partition.append(batch(9, 0, 3), 0);
    assert_eq!(answered(first).await, Err(CommitError::Full));
    let again = match again {
        // With room again it would be taken.
        Ok(new @ Appended::Queued { .. }) => {
            assert_eq!(answered(new).await, Err(CommitError::Full));
            None
        }
        again => again.ok(),
    };
    disk.set_capacity(u64::MAX);
    let other = loop {
        match partition.append(batch(-1, -1, 5), 0) {
            Ok(other) => break answered(other).await,
            Err(ResponseError::KafkaStorageError) => tokio::task::yield_now().await,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert_eq!(other, Ok(0), "the offsets of the refused batch are given out again");
    if let Some(Appended::Repeat { last_offset, refusals, .. }) = again {
        let (error, _) = partition.durable_past(last_offset, refusals).await.unwrap_err();
        assert_eq!(error, ResponseError::KafkaStorageError);
    }
    let stored = answered(partition.append(batch(9, 0, 3), 0).unwrap()).await;
    assert_eq!(stored, Ok(5), "what was never stored is new");
}

/// One commit step answers a refusal before it has written what it accepted. Here that is played by
/// hand: a unit in flight, and the refusal of another.
#[tokio::test]
async fn offsets_go_back_only_when_nothing_is_in_flight() {
    let disk = MemoryDisk::new(1);
    let partition = opened(&disk);
    assert_eq!(answered(partition.append(batch(9, 0, 2), 0).unwrap()).await, Ok(0));
    partition.in_flight.fetch_add(1, Ordering::AcqRel);
    partition.ahead.store(true, Ordering::Release);
    let refused = partition.append(batch(9, 2, 1), 0).unwrap_err();
    assert_eq!(refused, ResponseError::KafkaStorageError);
    partition.in_flight.fetch_sub(1, Ordering::AcqRel);
    assert_eq!(answered(partition.append(batch(9, 2, 1), 0).unwrap()).await, Ok(2));
}

#[tokio::test]
async fn whoever_waits_for_a_batch_of_a_topic_that_is_deleted_hears_of_it() {
    let disk = MemoryDisk::new(1);
    let partition = opened(&disk);
    partition.log.remove(partition.id);
    let (error, _) = partition.durable_past(0, 0).await.unwrap_err();
    assert_eq!(error, ResponseError::UnknownTopicOrPartition);
}

/// The commit thread refuses at any point of an append that runs meanwhile.
#[tokio::test]
async fn a_repeat_knows_nothing_of_the_refusal_of_its_original() {
    let disk = MemoryDisk::new(1);
    let partition = opened(&disk);
    disk.set_capacity(disk.used_bytes());
    for _ in 0..2_000 {
        let before = partition.refusals.load(Ordering::Acquire);
        let mut on_their_way = vec![partition.append(batch(9, 0, 3), 0).unwrap()];
        loop {
            match partition.append(batch(9, 0, 3), 0) {
                // Else whoever waits for it would see no refusal, and take for durable what others
                // get the offsets for.
                Ok(Appended::Repeat { refusals, .. }) => assert_eq!(refusals, before),
                Ok(queued) => break on_their_way.push(queued),
                Err(error) => break assert_eq!(error, ResponseError::KafkaStorageError),
            }
        }
        for appended in on_their_way {
            assert_eq!(answered(appended).await, Err(CommitError::Full));
        }
    }
}
