//! ListPartitionReassignments (46), version 0 (KIP-455).
//!
//! - The moves that go on. There is one broker, so there are none. Needs Describe on the cluster.
//!
//! Left out: nothing.

use kafka_protocol::messages::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
};

use crate::acl::Operation;
use crate::dispatch::Close;
use crate::handlers::Context;

pub(crate) async fn handle(
    context: &Context,
    _request: ListPartitionReassignmentsRequest,
) -> Result<ListPartitionReassignmentsResponse, Close> {
    let response = ListPartitionReassignmentsResponse::default().with_error_message(None);
    Ok(match context.allowed_on_cluster(Operation::Describe) {
        Ok(()) => response,
        Err(error) => response.with_error_code(error.code()),
    })
}
