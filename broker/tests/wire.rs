//! Bytes on a socket against a running broker. Requests are encoded by the message crate; the bytes
//! that clients are known to trip over are written out.

#[path = "wire/access.rs"]
mod access;
#[path = "wire/credentials.rs"]
mod credentials;
#[path = "wire/login.rs"]
mod login;
mod node;
#[path = "wire/odd.rs"]
mod odd;
#[path = "wire/quotas.rs"]
mod quotas;
#[path = "wire/telemetry.rs"]
mod telemetry;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse,
    FindCoordinatorRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, ProducerId,
};
use kafka_protocol::protocol::{Decodable, StrBytes};
use node::{Connection, Node, named, text};
use odradek_protocol::batch::BatchBuilder;
use odradek_protocol::compression::Compression;
use tokio::io::AsyncWriteExt;

async fn create(wire: &mut Connection, topic: &str) -> MetadataResponse {
    let wanted = MetadataRequestTopic::default().with_name(Some(named(topic)));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![wanted]))
        .with_allow_auto_topic_creation(true);
    wire.call(&request, 12).await
}

fn produce(topic: &str, batch: Bytes, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch));
    ProduceRequest::default().with_acks(acks).with_timeout_ms(5_000).with_topic_data(vec![
        TopicProduceData::default().with_name(named(topic)).with_partition_data(vec![partition]),
    ])
}

fn batch(producer: Option<(i64, i32)>, values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(Compression::None);
    if let Some((id, sequence)) = producer {
        builder = builder.producer(id, 0, sequence);
    }
    for value in values {
        builder.push(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
    }
    builder.build(0)
}

fn placed(response: &ProduceResponse) -> (i16, i64) {
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

fn fetch(topic: &str, offset: i64, session: (i32, i32), name_it: bool) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(named(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_id(session.0)
        .with_session_epoch(session.1)
        .with_topics(if name_it { vec![topic] } else { Vec::new() })
}

fn fetched(response: &FetchResponse) -> Vec<i64> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let records = partitions.filter_map(|p| p.records.clone()).filter(|r| !r.is_empty());
    let batches = records.flat_map(|records| {
        odradek_protocol::batch::split(&records).map(|b| b.unwrap().1).collect::<Vec<_>>()
    });
    batches
        .flat_map(|b| odradek_protocol::batch::records(&b, 1 << 20).unwrap())
        .map(|record| record.offset)
        .collect()
}

#[tokio::test]
async fn the_reply_to_api_versions_3_has_no_tag_byte_in_its_header() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    let request = ApiVersionsRequest::default()
        .with_client_software_name(StrBytes::from_static_str("wire"))
        .with_client_software_version(StrBytes::from_static_str("1.0"));
    wire.send(&request, 3).await;
    let mut frame = wire.frame().await;
    assert_eq!(frame.get_i32(), 1);
    // The next two bytes are the error code; a tag byte here would shift all that follows, and
    // librdkafka would read the count of APIs as about 34 GB.
    assert_eq!(frame.get_i16(), 0);
    // A compact array: the count plus one, as a varint of one byte.
    let count = usize::from(frame.get_u8()) - 1;
    assert!((10..100).contains(&count), "{count} APIs are listed");
    // Each is three 16-bit numbers and a tag byte; Produce, key 0, is listed from version 0.
    assert_eq!(&frame[..4], [0, 0, 0, 0]);
}

#[tokio::test]
async fn an_unknown_version_of_api_versions_is_answered_in_version_0() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    // Header 2 of an ApiVersions request of version 99, then a body nobody knows.
    let mut frame = BytesMut::new();
    frame.put_i16(18);
    frame.put_i16(99);
    frame.put_i32(7);
    frame.put_i16(-1);
    frame.put_slice(&[0, 1, 2, 3]);
    wire.send_frame(&frame).await;
    let mut reply = wire.frame().await;
    assert_eq!(reply.get_i32(), 7);
    let response = ApiVersionsResponse::decode(&mut reply, 0).unwrap();
    assert_eq!(response.error_code, 35);
    let own: Vec<_> = response.api_keys.iter().map(|api| (api.api_key, api.max_version)).collect();
    assert_eq!(own, [(18, 4)]);
}

#[tokio::test]
async fn a_batch_sent_again_gets_its_first_offset_and_is_stored_once() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "once").await;
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let id = wire.call(&request.with_producer_id(ProducerId(-1)), 4).await.producer_id.0;
    assert!(id >= 0);
    let first = produce("once", batch(Some((id, 0)), &["a", "b"]), -1);
    let second = produce("once", batch(Some((id, 2)), &["c"]), -1);
    assert_eq!(placed(&wire.call(&first, 9).await), (0, 0));
    assert_eq!(placed(&wire.call(&second, 9).await), (0, 2));
    assert_eq!(placed(&wire.call(&first, 9).await), (0, 0));
    // A gap: OUT_OF_ORDER_SEQUENCE_NUMBER.
    let gap = produce("once", batch(Some((id, 9)), &["z"]), -1);
    assert_eq!(placed(&wire.call(&gap, 9).await).0, 45);
    let response = wire.call(&fetch("once", 0, (0, -1), true), 12).await;
    assert_eq!(fetched(&response), [0, 1, 2]);
}

#[tokio::test]
async fn requests_sent_ahead_are_appended_and_answered_in_their_order() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "ahead").await;
    let before = wire.correlation_id;
    for _ in 0..200 {
        wire.send(&produce("ahead", batch(None, &["x"]), -1), 9).await;
    }
    for i in 0..200 {
        let response = wire.reply::<ProduceRequest>(9, before + 1 + i).await;
        assert_eq!(placed(&response), (0, i64::from(i)));
    }
}

#[tokio::test]
async fn acks_0_is_not_answered_and_the_next_reply_is_not_shifted() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "zero").await;
    wire.send(&produce("zero", batch(None, &["x"]), 0), 9).await;
    assert_eq!(placed(&wire.call(&produce("zero", batch(None, &["y"]), 1), 9).await), (0, 1));
}

#[tokio::test]
async fn a_fetch_session_tells_only_what_is_new() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "session").await;
    wire.call(&produce("session", batch(None, &["a", "b"]), -1), 9).await;
    let full = wire.call(&fetch("session", 0, (0, 0), true), 12).await;
    assert_eq!(fetched(&full), [0, 1]);
    let id = full.session_id;
    assert!(id > 0);
    // The position moves; nothing is there yet; the high watermark is known: an empty reply.
    let quiet = wire.call(&fetch("session", 2, (id, 1), true), 12).await;
    assert!(quiet.responses.is_empty());
    wire.call(&produce("session", batch(None, &["c"]), -1), 9).await;
    // The partition need not be named again.
    let news = wire.call(&fetch("session", 2, (id, 2), false), 12).await;
    assert_eq!(fetched(&news), [2]);
    // INVALID_FETCH_SESSION_EPOCH, then FETCH_SESSION_ID_NOT_FOUND.
    assert_eq!(wire.call(&fetch("session", 2, (id, 9), false), 12).await.error_code, 71);
    assert_eq!(wire.call(&fetch("session", 2, (id ^ 1, 3), false), 12).await.error_code, 70);
}

#[tokio::test]
async fn a_fetch_in_the_middle_of_a_batch_gets_the_whole_batch() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "middle").await;
    wire.call(&produce("middle", batch(None, &["a", "b", "c"]), -1), 9).await;
    let response = wire.call(&fetch("middle", 1, (0, -1), true), 12).await;
    assert_eq!(fetched(&response), [0, 1, 2]);
    // Past the end: OFFSET_OUT_OF_RANGE.
    let beyond = wire.call(&fetch("middle", 4, (0, -1), true), 12).await;
    assert_eq!(beyond.responses[0].partitions[0].error_code, 1);
}

#[tokio::test]
async fn a_partition_whose_offsets_are_asked_for_twice_is_answered_once_with_an_error() {
    let running = Node::with_topic().await;
    let mut wire = running.connect().await;
    let latest =
        |index: i32| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
    let topic = ListOffsetsTopic::default().with_name(named("t"));
    let asked = topic.with_partitions(vec![latest(1), latest(0), latest(1), latest(1)]);
    let request = ListOffsetsRequest::default().with_replica_id(BrokerId(-1));
    let reply = wire.call(&request.with_topics(vec![asked]), 7).await;
    let partitions = reply.topics[0].partitions.iter();
    let told: Vec<_> = partitions.map(|it| (it.partition_index, it.error_code)).collect();
    // INVALID_REQUEST
    assert_eq!(told, [(1, 42), (0, 0)]);
}

#[tokio::test]
async fn a_damaged_batch_is_refused_and_a_lying_count_ends_the_connection() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "odd").await;
    let mut damaged = batch(None, &["abc"]).to_vec();
    let last = damaged.len() - 2;
    damaged[last] ^= 1;
    // CORRUPT_MESSAGE.
    assert_eq!(placed(&wire.call(&produce("odd", damaged.into(), -1), 9).await).0, 2);
    // Metadata 1 with an array of two billion topics in a frame of a few bytes.
    let mut frame = BytesMut::new();
    frame.put_i16(3);
    frame.put_i16(1);
    frame.put_i32(9);
    frame.put_i16(-1);
    frame.put_i32(2_000_000_000);
    wire.send_frame(&frame).await;
    assert!(wire.is_closed().await);
    let mut other = running.connect().await;
    assert_eq!(create(&mut other, "odd").await.topics[0].error_code, 0);
}

#[tokio::test]
async fn a_length_of_two_gigabytes_ends_the_connection() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    wire.stream.write_all(&[0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 1]).await.unwrap();
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn half_sent_frames_hold_nobody_up() {
    let running = Node::new().await;
    let mut halves = Vec::new();
    for _ in 0..50 {
        let mut wire = running.connect().await;
        // 100 MiB are announced, four bytes come.
        wire.stream.write_all(&[0x06, 0x40, 0, 0, 0, 0, 0, 9]).await.unwrap();
        halves.push(wire);
    }
    let mut wire = running.connect().await;
    create(&mut wire, "free").await;
    assert_eq!(placed(&wire.call(&produce("free", batch(None, &["x"]), -1), 9).await), (0, 0));
}

#[tokio::test]
async fn frames_that_use_up_the_budget_together_all_get_done() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "large").await;
    // Eight connections begin a produce of 20 MiB to an unknown topic at the same time: together
    // 160 MiB. Each is too large for what requests have of the budget: they come one by one.
    let value = "x".repeat(20 << 20);
    let request = produce("nowhere", batch(None, &[&value]), -1);
    let mut sends = Vec::new();
    for _ in 0..8 {
        let mut wire = running.connect().await;
        let request = request.clone();
        sends.push(tokio::spawn(async move { placed(&wire.call(&request, 9).await).0 }));
    }
    for send in sends {
        // UNKNOWN_TOPIC_OR_PARTITION
        assert_eq!(send.await.unwrap(), 3);
    }
}
