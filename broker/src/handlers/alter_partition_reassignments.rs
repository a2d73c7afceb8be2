//! AlterPartitionReassignments (45), versions 0 to 1 (KIP-455).
//!
//! - A partition may be told to stay where it is, on this broker; any other broker is
//!   INVALID_REPLICA_ASSIGNMENT. Nothing ever moves, so to cancel a move is
//!   NO_REASSIGNMENT_IN_PROGRESS.
//! - Needs Alter on the cluster. v1 (KIP-860): whether the number of replicas may change, which it
//!   never does.
//!
//! Left out: nothing that has a meaning on one node.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_partition_reassignments_request::ReassignablePartition;
use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::topic_changes::{Refusal, check_replicas, refuse};

pub(crate) async fn handle(
    context: &Context,
    request: AlterPartitionReassignmentsRequest,
) -> Result<AlterPartitionReassignmentsResponse, Close> {
    let mut response = AlterPartitionReassignmentsResponse::default().with_error_message(None);
    if context.version >= 1 {
        response.allow_replication_factor_change = request.allow_replication_factor_change;
    }
    if let Err(error) = context.allowed_on_cluster(Operation::Alter) {
        return Ok(response.with_error_code(error.code()));
    }
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|asked| {
            let answer = ReassignablePartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_message(None);
            match reassign(context, &topic.name, asked) {
                Ok(()) => answer,
                Err((error, why)) => answer
                    .with_error_code(error.code())
                    .with_error_message(Some(StrBytes::from_string(why))),
            }
        });
        let partitions = partitions.collect();
        response.responses.push(
            ReassignableTopicResponse::default()
                .with_name(topic.name.clone())
                .with_partitions(partitions),
        );
    }
    Ok(response)
}

/// The sentences are Kafka's.
fn reassign(context: &Context, topic: &str, asked: &ReassignablePartition) -> Result<(), Refusal> {
    let (unknown, index) = (ResponseError::UnknownTopicOrPartition, asked.partition_index);
    let Some(found) = context.core.topics.by_name(topic) else {
        return refuse(unknown, format!("Unable to find a topic named {topic}."));
    };
    if found.partition(index).is_none() {
        return refuse(unknown, format!("Unable to find partition {topic}:{index}."));
    }
    match &asked.replicas {
        Some(replicas) => check_replicas(context.node(), replicas),
        None => {
            let why = "No partition reassignment is in progress.";
            refuse(ResponseError::NoReassignmentInProgress, why)
        }
    }
}
