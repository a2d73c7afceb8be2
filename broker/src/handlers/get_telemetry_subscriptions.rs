//! GetTelemetrySubscriptions (71), version 0 (KIP-714).
//!
//! - What this client is asked to push: the subscriptions that match it, put together. Without one
//!   nothing, every five minutes. A client without an instance id gets one.
//! - Asked again before its interval is over: THROTTLING_QUOTA_EXCEEDED, unless the last push was
//!   refused for its subscription or compression.
//!
//! Left out: nothing. No permission is needed, as in Kafka.

use kafka_protocol::messages::{
    GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::clock::now_ms;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::partition::lock;
use crate::telemetry::{Client, PUSH_BYTES_MAX};

/// zstd, lz4, gzip, snappy: in Kafka's order of preference.
const COMPRESSIONS: [i8; 4] = [4, 3, 1, 2];

pub(crate) async fn handle(
    context: &Context,
    request: GetTelemetrySubscriptionsRequest,
) -> Result<GetTelemetrySubscriptionsResponse, Close> {
    let response = GetTelemetrySubscriptionsResponse::default();
    let telemetry = &context.broker.inner.telemetry;
    let subscriptions = context.core.configs.subscriptions();
    let id = request.client_instance_id;
    let client = context.telemetry_client();
    let (id, asked) = match telemetry.subscriptions(id, &client, &subscriptions, now_ms()) {
        Ok(asked) => asked,
        Err(error) => return Ok(response.with_error_code(error.code())),
    };
    Ok(response
        .with_client_instance_id(id)
        .with_subscription_id(asked.subscription_id)
        .with_accepted_compression_types(COMPRESSIONS.to_vec())
        .with_push_interval_ms(asked.interval_ms)
        .with_telemetry_max_bytes(i32::try_from(PUSH_BYTES_MAX).unwrap_or(i32::MAX))
        .with_delta_temporality(true)
        .with_requested_metrics(asked.metrics.into_iter().map(StrBytes::from_string).collect()))
}

impl Context {
    pub(super) fn telemetry_client(&self) -> Client {
        let software = lock(&self.session.software).clone();
        let (software_name, software_version) = software.unwrap_or_default();
        Client {
            client_id: self.client_id.clone(),
            software_name,
            software_version,
            peer: self.session.peer,
        }
    }
}
