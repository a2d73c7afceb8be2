//! AlterReplicaLogDirs (34), versions 1 to 2 (KIP-113).
//!
//! - There is one folder. To move a partition into it changes nothing; any other folder is
//!   LOG_DIR_NOT_FOUND. Needs Alter on the cluster.
//!
//! Left out: nothing that has a meaning with one folder.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use kafka_protocol::messages::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, TopicName,
};

use crate::acl::Operation;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::handlers::describe_log_dirs::folder;

pub(crate) async fn handle(
    context: &Context,
    request: AlterReplicaLogDirsRequest,
) -> Result<AlterReplicaLogDirsResponse, Close> {
    let allowed = context.allowed_on_cluster(Operation::Alter);
    let own = folder(context);
    let mut topics: BTreeMap<TopicName, Vec<AlterReplicaLogDirPartitionResult>> = BTreeMap::new();
    for dir in request.dirs {
        for topic in dir.topics {
            let found = context.core.topics.by_name(&topic.name);
            let results = topics.entry(topic.name).or_default();
            for index in topic.partitions {
                let known = found.as_ref().is_some_and(|topic| topic.partition(index).is_some());
                let moved = match allowed {
                    Err(error) => Err(error),
                    Ok(()) if *dir.path != *own => Err(ResponseError::LogDirNotFound),
                    Ok(()) if !known => Err(ResponseError::UnknownTopicOrPartition),
                    Ok(()) => Ok(()),
                };
                let code = moved.err().map_or(0, |error| error.code());
                let result = AlterReplicaLogDirPartitionResult::default();
                results.push(result.with_partition_index(index).with_error_code(code));
            }
        }
    }
    let results = topics.into_iter().map(|(name, partitions)| {
        let result = AlterReplicaLogDirTopicResult::default();
        result.with_topic_name(name).with_partitions(partitions)
    });
    Ok(AlterReplicaLogDirsResponse::default().with_results(results.collect()))
}
