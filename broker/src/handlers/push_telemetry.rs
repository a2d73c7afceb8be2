//! PushTelemetry (72), version 0 (KIP-714).
//!
//! - OpenTelemetry metrics of a client, shown at /metrics as `odradek_client_…`: gauges as they
//!   are, deltas added up. Bounded in bytes (packed and unpacked), series and lengths.
//! - Before the interval is over THROTTLING_QUOTA_EXCEEDED; after the last, terminating one
//!   INVALID_REQUEST; for another subscription UNKNOWN_SUBSCRIPTION_ID; unreadable INVALID_RECORD.
//!
//! Left out: histograms (clients send none today). No permission is needed, as in Kafka.

use kafka_protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};

use crate::clock::now_ms;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::telemetry::Push;

pub(crate) async fn handle(
    context: &Context,
    request: PushTelemetryRequest,
) -> Result<PushTelemetryResponse, Close> {
    let push = Push {
        id: request.client_instance_id,
        subscription_id: request.subscription_id,
        terminating: request.terminating,
        compression: request.compression_type,
        metrics: request.metrics,
    };
    let (broker, client) = (context.broker.clone(), context.telemetry_client());
    let subscriptions = context.core.configs.subscriptions();
    // Unpacking and decoding may take milliseconds.
    let work = tokio::task::spawn_blocking(move || {
        broker.inner.telemetry.push(&push, &client, &subscriptions, now_ms())
    });
    let pushed = work.await.map_err(|e| Close::because(format!("a push was not read: {e}")))?;
    let error_code = pushed.err().map_or(0, |error| error.code());
    Ok(PushTelemetryResponse::default().with_error_code(error_code))
}
