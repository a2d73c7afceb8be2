//! WriteTxnMarkers (27), version 1.
//!
//! - Ends the transaction of one producer in some partitions, whatever its coordinator thinks of
//!   it: for `kafka-transactions abort` (KIP-664), which takes a hanging transaction out of a
//!   partition. A marker of an older epoch is INVALID_PRODUCER_EPOCH, one of an older coordinator
//!   TRANSACTION_COORDINATOR_FENCED. Durable before the reply.
//! - Needs Alter or ClusterAction on the cluster.
//! - In `__consumer_offsets` there is nothing to end (pending offsets are kept with the
//!   transaction), and a marker there is harmless.
//!
//! Left out: v2 (KIP-1228), which the message crate does not have.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::acl::{Operation, Resource};
use crate::clock::now_ms;
use crate::core::wait_for;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::transaction::marker;
use crate::transaction::record::Producer;

pub(crate) async fn handle(
    context: &Context,
    request: WriteTxnMarkersRequest,
) -> Result<WriteTxnMarkersResponse, Close> {
    let allowed = context.may_see(Operation::Alter, Resource::Cluster)
        || context.allowed(Operation::ClusterAction, Resource::Cluster);
    let mut results = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        let mut topics = Vec::with_capacity(marker.topics.len());
        for topic in &marker.topics {
            let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
            for index in &topic.partition_indexes {
                let written = match allowed {
                    true => write(context, &marker, &topic.name, *index).await,
                    false => Err(ResponseError::ClusterAuthorizationFailed),
                };
                let result = WritableTxnMarkerPartitionResult::default();
                partitions.push(
                    result
                        .with_partition_index(*index)
                        .with_error_code(written.err().map_or(0, |error| error.code())),
                );
            }
            let result = WritableTxnMarkerTopicResult::default();
            topics.push(result.with_name(topic.name.clone()).with_partitions(partitions));
        }
        let result = WritableTxnMarkerResult::default();
        results.push(result.with_producer_id(marker.producer_id).with_topics(topics));
    }
    Ok(WriteTxnMarkersResponse::default().with_markers(results))
}

async fn write(
    context: &Context,
    wanted: &WritableTxnMarker,
    topic: &str,
    index: i32,
) -> Result<(), ResponseError> {
    let topic = context.core.topics.by_name(topic);
    let partition = topic.as_ref().and_then(|topic| topic.partition(index));
    let partition = partition.ok_or(ResponseError::UnknownTopicOrPartition)?;
    let producer = Producer { id: wanted.producer_id.0, epoch: wanted.producer_epoch };
    if producer.id < 0 || producer.epoch < 0 {
        // No batch can say so, and Kafka has no word for it.
        return Err(ResponseError::UnknownServerError);
    }
    let (commit, coordinator_epoch) = (wanted.transaction_result, wanted.coordinator_epoch);
    let marker = marker::batch(producer, commit, coordinator_epoch, now_ms());
    wait_for(partition.append_marker(marker, now_ms())?).await
}
