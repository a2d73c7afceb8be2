//! DescribeCluster (60), versions 0 to 2.
//!
//! - The one broker, at the address that this connection can use, and the cluster id.
//! - v1 (KIP-919): endpoint type; this is a broker (1), so asking a controller (2) is
//!   MISMATCHED_ENDPOINT_TYPE. v2 (KIP-1073): fenced brokers, of which there are none.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use kafka_protocol::protocol::StrBytes;

use crate::dispatch::Close;
use crate::handlers::Context;

/// Kafka's `EndpointType`.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn handle(
    context: &Context,
    request: DescribeClusterRequest,
) -> Result<DescribeClusterResponse, Close> {
    let mut response = DescribeClusterResponse::default();
    if context.version >= 1 && request.endpoint_type != BROKERS {
        let (error, why) = match request.endpoint_type {
            CONTROLLERS => (
                ResponseError::MismatchedEndpointType,
                "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of \
                 type CONTROLLER"
                    .to_owned(),
            ),
            other => (
                ResponseError::UnsupportedEndpointType,
                format!("Unsupported endpoint type {other}"),
            ),
        };
        response.error_code = error.code();
        response.error_message = Some(StrBytes::from_string(why));
        return Ok(response);
    }
    let (host, port) = context.session.advertised();
    let node = context.node();
    response.cluster_id = StrBytes::from_string(context.core.cluster_id.clone());
    response.controller_id = node;
    response.brokers = vec![
        DescribeClusterBroker::default()
            .with_broker_id(node)
            .with_host(StrBytes::from_string(host))
            .with_port(i32::from(port))
            .with_rack(context.rack()),
    ];
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = context.cluster_operations();
    }
    Ok(response)
}
