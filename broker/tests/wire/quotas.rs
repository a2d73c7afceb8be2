//! Client quotas as clients meet them.

use std::time::{Duration, Instant};

use kafka_protocol::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{
    AlterClientQuotasRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeClientQuotasRequest,
};
use tokio::io::AsyncReadExt;

use super::*;

/// Type, match type and name.
type Filter<'a> = &'a [(&'a str, i8, Option<&'a str>)];
type Parts<'a> = &'a [(&'a str, Option<&'a str>)];

fn entry(parts: Parts<'_>, limits: &[(&str, Option<f64>)]) -> EntryData {
    let parts = parts.iter().map(|(kind, name)| {
        EntityData::default().with_entity_type(text(kind)).with_entity_name(name.map(text))
    });
    let ops = limits.iter().map(|(key, value)| {
        let op = OpData::default().with_key(text(key)).with_remove(value.is_none());
        op.with_value(value.unwrap_or_default())
    });
    EntryData::default().with_entity(parts.collect()).with_ops(ops.collect())
}

async fn alter(wire: &mut Connection, entries: Vec<EntryData>) -> Vec<i16> {
    let request = AlterClientQuotasRequest::default().with_entries(entries);
    wire.call(&request, 1).await.entries.iter().map(|entry| entry.error_code).collect()
}

/// Error, and each entity with its limits, as text.
async fn described(
    wire: &mut Connection,
    components: Filter<'_>,
    strict: bool,
) -> (i16, Vec<String>) {
    let components = components.iter().map(|(kind, match_type, name)| {
        ComponentData::default()
            .with_entity_type(text(kind))
            .with_match_type(*match_type)
            .with_match(name.map(text))
    });
    let request = DescribeClientQuotasRequest::default()
        .with_components(components.collect())
        .with_strict(strict);
    let response = wire.call(&request, 1).await;
    let entries = response.entries.unwrap_or_default().into_iter().map(|entry| {
        let entity = entry.entity.iter().map(|part| {
            let name = part.entity_name.as_ref().map_or("<default>", |name| name.as_str());
            format!("{}={name}", &*part.entity_type)
        });
        let values = entry.values.iter().map(|v| format!("{}:{}", &*v.key, v.value));
        format!("{} {}", entity.collect::<Vec<_>>().join(","), values.collect::<Vec<_>>().join(","))
    });
    (response.error_code, entries.collect())
}

#[tokio::test]
async fn quotas_are_set_described_by_every_filter_removed_and_kept() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    let produce = |value| ("producer_byte_rate", value);
    let entries = vec![
        entry(&[("user", Some("ann"))], &[produce(Some(1e3)), ("request_percentage", Some(12.5))]),
        entry(&[("user", Some("ann")), ("client-id", None)], &[produce(Some(2e3))]),
        entry(&[("client-id", Some("app"))], &[produce(Some(3e3))]),
        entry(&[("ip", Some("192.0.2.1"))], &[("connection_creation_rate", Some(5.0))]),
        entry(&[("user", Some("bob"))], &[("unheard_of", Some(5.0))]),
        entry(&[("ip", Some("192.0.2.1")), ("user", None)], &[produce(Some(5.0))]),
    ];
    assert_eq!(alter(&mut wire, entries).await, [0, 0, 0, 0, 42, 42]);
    let ann = "user=ann producer_byte_rate:1000,request_percentage:12.5";
    let both = "client-id=<default>,user=ann producer_byte_rate:2000";
    let app = "client-id=app producer_byte_rate:3000";
    let address = "ip=192.0.2.1 connection_creation_rate:5";
    // Match types: 0 exact, 1 default, 2 any.
    let cases: [(Filter<'_>, bool, &[&str]); 7] = [
        (&[], false, &[both, app, address, ann]),
        (&[("user", 2, None)], false, &[both, ann]),
        (&[("user", 2, None)], true, &[ann]),
        (&[("user", 0, Some("ann")), ("client-id", 1, None)], true, &[both]),
        (&[("client-id", 0, Some("app"))], true, &[app]),
        (&[("ip", 2, None)], false, &[address]),
        (&[("user", 1, None)], false, &[]),
    ];
    for (components, strict, expected) in cases {
        let found = described(&mut wire, components, strict).await;
        assert_eq!(
            found,
            (0, expected.iter().map(|e| (*e).to_owned()).collect()),
            "{components:?}"
        );
    }
    // INVALID_REQUEST, and UNSUPPORTED_VERSION for a type that Kafka does not know either.
    assert_eq!(described(&mut wire, &[("user", 0, None)], false).await.0, 42);
    assert_eq!(described(&mut wire, &[("group", 2, None)], false).await.0, 35);
    let gone =
        vec![entry(&[("user", Some("ann"))], &[produce(None), ("request_percentage", None)])];
    assert_eq!(alter(&mut wire, gone).await, [0]);

    let running = running.restarted().await;
    let mut wire = running.connect().await;
    assert_eq!(described(&mut wire, &[("user", 2, None)], false).await.1, [both]);
}

/// Ten windows of one second at 100 bytes: beyond 1,000 bytes a producer waits.
#[tokio::test]
async fn a_producer_beyond_its_rate_is_told_to_wait_and_its_connection_is_muted() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "t").await;
    let value = "x".repeat(1_400);
    let request = produce("t", batch(None, &[&value]), -1);
    assert_eq!(wire.call(&request, 9).await.throttle_time_ms, 0, "without a quota");
    let limit = entry(&[("client-id", Some("wire"))], &[("producer_byte_rate", Some(1_000.0))]);
    assert_eq!(alter(&mut wire, vec![limit]).await, [0]);
    for _ in 0..6 {
        assert_eq!(wire.call(&request, 9).await.throttle_time_ms, 0, "ten windows are not full");
    }
    let larger = produce("t", batch(None, &[&value, &value]), -1);
    let mut told_ms = wire.call(&larger, 9).await.throttle_time_ms;
    if told_ms == 0 {
        told_ms = wire.call(&larger, 9).await.throttle_time_ms;
    }
    assert!(told_ms > 0);
    let began = Instant::now();
    let metadata = MetadataRequest::default().with_topics(None);
    wire.call(&metadata, 12).await;
    let muted = began.elapsed() + Duration::from_millis(50);
    assert!(muted.as_millis() >= told_ms.unsigned_abs().into(), "{muted:?}, told {told_ms} ms");
    // Others share the client id's meter, but nobody reads what they have not sent.
    let mut other = running.connect().await;
    assert_eq!(other.call(&metadata, 12).await.throttle_time_ms, 0);
    let text = prometheus_text(&running);
    assert!(text.contains("odradek_throttled_total{quota=\"producer_byte_rate\"}"), "{text}");
}

fn prometheus_text(running: &Node) -> String {
    let families = running.broker.metrics().gather();
    prometheus::TextEncoder::new().encode_to_string(&families).unwrap()
}

#[tokio::test]
async fn a_fetch_beyond_the_rate_brings_no_records_until_the_wait_is_over() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    create(&mut wire, "t").await;
    wire.call(&produce("t", batch(None, &[&"x".repeat(10_000)]), -1), 9).await;
    let limit = entry(&[("user", None)], &[("consumer_byte_rate", Some(1_500.0))]);
    assert_eq!(alter(&mut wire, vec![limit]).await, [0]);
    // 15,000 bytes in ten windows: one fetch of 10,000 passes, the next one has to wait.
    let first = wire.call(&fetch("t", 0, (0, 0), true), 12).await;
    assert_eq!((fetched(&first), first.throttle_time_ms), (vec![0], 0));
    let held = wire.call(&fetch("t", 0, (first.session_id, 1), true), 12).await;
    assert!(held.throttle_time_ms > 0 && held.responses.is_empty());
    assert_eq!(held.session_id, first.session_id);
    // The session goes on: what was asked for before is still asked for. The rate comes down as
    // the first window is left behind.
    let mut epoch = 2;
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let next = wire.call(&fetch("t", 0, (first.session_id, epoch), false), 12).await;
        assert_eq!(next.error_code, 0);
        if fetched(&next) == [0] {
            break;
        }
        assert!(next.throttle_time_ms > 0 && Instant::now() < deadline);
        epoch += 1;
    }
}

#[tokio::test]
async fn changes_of_topics_beyond_the_rate_are_refused_or_for_old_versions_slowed() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    let limit = entry(&[("client-id", None)], &[("controller_mutation_rate", Some(1.0))]);
    assert_eq!(alter(&mut wire, vec![limit]).await, [0]);
    let topic = |name: &str, partitions| {
        CreateTopicsRequest::default().with_topics(vec![
            CreatableTopic::default()
                .with_name(named(name))
                .with_num_partitions(partitions)
                .with_replication_factor(1),
        ])
    };
    // Eleven tokens at the start; who finds one may take more.
    let made = wire.call(&topic("many", 20), 7).await;
    assert_eq!((made.topics[0].error_code, made.throttle_time_ms), (0, 0));
    // THROTTLING_QUOTA_EXCEEDED.
    let refused = wire.call(&topic("more", 1), 7).await;
    assert_eq!(refused.topics[0].error_code, 89);
    assert!(refused.throttle_time_ms > 0);
    let mut old = running.connect().await;
    let made = old.call(&topic("more", 1), 5).await;
    assert_eq!(made.topics[0].error_code, 0);
    assert!(made.throttle_time_ms > 0);
    let mut another = running.connect().await;
    let delete = DeleteTopicsRequest::default().with_topic_names(vec![named("many")]);
    let refused = another.call(&delete, 5).await;
    assert_eq!(refused.responses[0].error_code, 89);
    assert!(refused.throttle_time_ms > 0);
}

#[tokio::test]
async fn time_of_threads_is_charged_and_one_window_is_the_longest_wait() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    let limit = entry(&[("user", Some("ANONYMOUS"))], &[("request_percentage", Some(1e-6))]);
    assert_eq!(alter(&mut wire, vec![limit]).await, [0]);
    let metadata = MetadataRequest::default().with_topics(None);
    let told_ms = wire.call(&metadata, 12).await.throttle_time_ms;
    assert!((1..=1_000).contains(&told_ms), "{told_ms}");
}

#[tokio::test]
async fn connections_beyond_the_rate_of_an_address_are_closed_unanswered() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    let limit = entry(&[("ip", Some("127.0.0.1"))], &[("connection_creation_rate", Some(1.0))]);
    assert_eq!(alter(&mut wire, vec![limit]).await, [0]);
    let metadata = MetadataRequest::default().with_topics(None);
    for _ in 0..10 {
        running.connect().await.call(&metadata, 12).await;
    }
    // One of the next ones is too much; on a slow machine a window may have passed.
    let mut closed = false;
    for _ in 0..10 {
        let mut wire = running.connect().await;
        wire.send(&metadata, 12).await;
        closed |= wire.stream.read_i32().await.is_err();
    }
    assert!(closed);
    let limit = entry(&[("ip", Some("127.0.0.1"))], &[("connection_creation_rate", None)]);
    assert_eq!(alter(&mut wire, vec![limit]).await, [0]);
    running.connect().await.call(&metadata, 12).await;
}
