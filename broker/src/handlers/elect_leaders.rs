//! ElectLeaders (43), versions 0 to 2.
//!
//! - The one broker leads every partition and is its preferred leader, so no election is needed:
//!   each partition asked for is ELECTION_NOT_NEEDED, and asking for all of them names none, as in
//!   Kafka.
//! - v1 (KIP-460): the kind of election, preferred (0) or unclean (1). Needs Alter on the cluster.
//!
//! Left out: nothing.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::topic_changes::{Refusal, refuse};

/// Preferred, unclean.
const KINDS: std::ops::RangeInclusive<i8> = 0..=1;

pub(crate) async fn handle(
    context: &Context,
    request: ElectLeadersRequest,
) -> Result<ElectLeadersResponse, Close> {
    let denied = context.allowed_on_cluster(Operation::Alter).err();
    let malformed = (context.version >= 1 && !KINDS.contains(&request.election_type))
        .then_some(ResponseError::InvalidRequest);
    let mut response = ElectLeadersResponse::default();
    if let Some(error) = denied.or(malformed).filter(|_| context.version >= 1) {
        response.error_code = error.code();
    }
    for asked in request.topic_partitions.unwrap_or_default() {
        let partitions = asked.partitions.iter().map(|partition| {
            let elected = match denied.or(malformed) {
                Some(error) => refuse(error, ""),
                None => elect(context, &asked.topic, *partition),
            };
            let result = PartitionResult::default().with_partition_id(*partition);
            match elected {
                Ok(()) => result,
                Err((error, why)) => result
                    .with_error_code(error.code())
                    .with_error_message(Some(StrBytes::from_string(why))),
            }
        });
        let partitions = partitions.collect();
        response.replica_election_results.push(
            ReplicaElectionResult::default()
                .with_topic(asked.topic.clone())
                .with_partition_result(partitions),
        );
    }
    Ok(response)
}

/// The sentences are Kafka's.
fn elect(context: &Context, topic: &TopicName, partition: i32) -> Result<(), Refusal> {
    let unknown = ResponseError::UnknownTopicOrPartition;
    let Some(found) = context.core.topics.by_name(topic) else {
        return refuse(unknown, format!("No such topic as {}", topic.as_str()));
    };
    if found.partition(partition).is_none() {
        return refuse(unknown, format!("No such partition as {}-{partition}", topic.as_str()));
    }
    refuse(ResponseError::ElectionNotNeeded, "Leader election not needed for topic partition.")
}
