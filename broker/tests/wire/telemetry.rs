//! Client telemetry (KIP-714) on the wire.

use kafka_protocol::messages::{GetTelemetrySubscriptionsRequest, PushTelemetryRequest};
use uuid::Uuid;

use super::*;

#[tokio::test]
async fn without_a_subscription_a_client_is_asked_for_nothing_and_may_say_farewell() {
    let running = Node::new().await;
    let mut wire = running.connect().await;
    let ask = GetTelemetrySubscriptionsRequest::default().with_client_instance_id(Uuid::nil());
    let asked = wire.call(&ask, 0).await;
    assert_eq!((asked.error_code, asked.push_interval_ms), (0, 300_000));
    assert!(asked.requested_metrics.is_empty() && !asked.client_instance_id.is_nil());
    // Kafka's: zstd, lz4, gzip, snappy, and a mebibyte.
    assert_eq!(asked.accepted_compression_types, [4, 3, 1, 2]);
    assert_eq!((asked.telemetry_max_bytes, asked.delta_temporality), (1_048_576, true));
    let ask = ask.with_client_instance_id(asked.client_instance_id);
    // THROTTLING_QUOTA_EXCEEDED
    assert_eq!(wire.call(&ask, 0).await.error_code, 89);
    let last = PushTelemetryRequest::default()
        .with_client_instance_id(asked.client_instance_id)
        .with_subscription_id(asked.subscription_id)
        .with_terminating(true);
    assert_eq!(wire.call(&last, 0).await.error_code, 0);
    // INVALID_REQUEST: it was the last one.
    assert_eq!(wire.call(&last, 0).await.error_code, 42);
}
