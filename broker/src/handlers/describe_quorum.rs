//! DescribeQuorum (55), versions 0 to 2 (KIP-595).
//!
//! - Answered for `__cluster_metadata`, partition 0, as a quorum of one that is always caught up:
//!   this node leads it and is its only voter. Offsets are those of the state log, which holds here
//!   what Kafka keeps in that topic. Anything else is UNKNOWN_TOPIC_OR_PARTITION.
//! - v1 (KIP-836): times of the last fetch; v2 (KIP-853): the voter's listener, and the id of its
//!   folder, which has none here (zero).
//! - Needs Describe on the cluster.
//!
//! Left out: observers (there are none).

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_quorum_request::TopicData as Asked;
use kafka_protocol::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use kafka_protocol::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use kafka_protocol::protocol::StrBytes;

use crate::acl::Operation;
use crate::clock::now_ms;
use crate::dispatch::Close;
use crate::handlers::Context;

const METADATA_TOPIC: &str = "__cluster_metadata";

pub(crate) async fn handle(
    context: &Context,
    request: DescribeQuorumRequest,
) -> Result<DescribeQuorumResponse, Close> {
    let mut response = DescribeQuorumResponse::default();
    if let Err(error) = context.allowed_on_cluster(Operation::Describe) {
        return Ok(response.with_error_code(error.code()));
    }
    response.topics = request.topics.iter().map(|asked| topic(context, asked)).collect();
    if context.version >= 2 {
        let (host, port) = context.session.advertised();
        let listener = Listener::default()
            .with_name(StrBytes::from_string(context.session.listener.name.clone()))
            .with_host(StrBytes::from_string(host))
            .with_port(port);
        response.nodes =
            vec![Node::default().with_node_id(context.node()).with_listeners(vec![listener])];
    }
    Ok(response)
}

fn topic(context: &Context, asked: &Asked) -> TopicData {
    let partitions = asked.partitions.iter().map(|partition| {
        let data = PartitionData::default().with_partition_index(partition.partition_index);
        if &**asked.topic_name != METADATA_TOPIC || partition.partition_index != 0 {
            let error = ResponseError::UnknownTopicOrPartition;
            let mut data = data.with_error_code(error.code());
            if context.version >= 2 {
                data.error_message = Some(StrBytes::from_string(error.to_string()));
            }
            return data;
        }
        let end = context.core.state_end();
        let mut voter =
            ReplicaState::default().with_replica_id(context.node()).with_log_end_offset(end);
        if context.version >= 1 {
            let now = now_ms();
            voter = voter.with_last_fetch_timestamp(now).with_last_caught_up_timestamp(now);
        }
        data.with_leader_id(context.node())
            .with_leader_epoch(0)
            .with_high_watermark(end)
            .with_current_voters(vec![voter])
    });
    let partitions = partitions.collect();
    TopicData::default().with_topic_name(asked.topic_name.clone()).with_partitions(partitions)
}
