//! Metadata (3), versions 0 to 13.
//!
//! - One broker, which leads every partition. Its address is the one that this connection can use:
//!   see `Session::advertised`.
//! - Named topics that do not exist are created where both `auto.create.topics.enable` and, from
//!   version 4 on, the request allow it.
//! - v10 (KIP-516): topic ids; v12: asking by id. v8 to v10 carry authorised operations.
//! - Topics need Describe: one that is named and denied is TOPIC_AUTHORIZATION_FAILED whether it
//!   exists or not, an unnamed one is left out. Auto-creation needs Create on the cluster or topic.
//! - A name that is nearly another topic's is noted in the diary.
//! - `__odradek_state` holds the users' verifiers and is never shown.
//!
//! Left out: nothing.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::acl::{Operation, Resource};
use crate::diagnose::reach::Asked;
use crate::dispatch::Close;
use crate::handlers::Context;
use crate::topic_changes::{self, Wanted};
use crate::topics::Topic;

pub(crate) async fn handle(
    context: &Context,
    request: MetadataRequest,
) -> Result<MetadataResponse, Close> {
    if context.version < 12 && request.topics.iter().flatten().any(asks_by_id) {
        return Ok(invalid(&request));
    }
    let mut topics = Vec::new();
    match &request.topics {
        Some(wanted) if !(wanted.is_empty() && context.version == 0) => {
            context.told_address(Asked::Metadata);
            let mut seen = HashSet::new();
            for topic in wanted.iter().filter(|topic| seen.insert((&topic.name, topic.topic_id))) {
                topics.push(named(context, &request, topic).await);
            }
        }
        // Version 0 says "all" with an empty list, later ones with null.
        _ => {
            context.told_address(Asked::AllTopics);
            let all = context.core.topics.all();
            let seen = all
                .iter()
                .filter(|topic| context.may_see(Operation::Describe, Resource::Topic(&topic.name)));
            topics.extend(seen.map(|topic| describe(context, &request, topic)));
        }
    }
    let (host, port) = context.session.advertised();
    let node = context.node();
    let mut response = MetadataResponse::default()
        .with_brokers(vec![
            MetadataResponseBroker::default()
                .with_node_id(node)
                .with_host(StrBytes::from_string(host))
                .with_port(i32::from(port))
                .with_rack(if context.version >= 1 { context.rack() } else { None }),
        ])
        .with_controller_id(node)
        .with_topics(topics);
    if context.version >= 2 {
        let id = context.core.cluster_id.clone();
        response.cluster_id = Some(StrBytes::from_string(id));
    }
    if (8..=10).contains(&context.version) && request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = context.cluster_operations();
    }
    Ok(response)
}

fn asks_by_id(topic: &MetadataRequestTopic) -> bool {
    topic.name.is_none() || topic.topic_id != Uuid::nil()
}

/// Versions 10 and 11 have a field for the id, but as a way to ask it came with version 12.
fn invalid(request: &MetadataRequest) -> MetadataResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        MetadataResponseTopic::default()
            .with_error_code(ResponseError::InvalidRequest.code())
            .with_name(Some(topic.name.clone().unwrap_or_default()))
            .with_topic_id(topic.topic_id)
    });
    MetadataResponse::default().with_cluster_id(None).with_topics(topics.collect())
}

async fn named(
    context: &Context,
    request: &MetadataRequest,
    wanted: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let Some(name) = wanted.name.as_ref().filter(|_| wanted.topic_id == Uuid::nil()) else {
        return by_id(context, request, wanted.topic_id);
    };
    if !context.allowed(Operation::Describe, Resource::Topic(name)) {
        return refused(name, ResponseError::TopicAuthorizationFailed);
    }
    if let Some(topic) = context.core.topics.by_name(name) {
        return describe(context, request, &topic);
    }
    let allowed = context.core.config().topics.auto_create
        && (context.version < 4 || request.allow_auto_topic_creation);
    let error = if allowed && !context.may_create(name) {
        ResponseError::TopicAuthorizationFailed
    } else if allowed {
        let wanted =
            Wanted { name: name.to_string(), partitions: None, configs: Default::default() };
        context.mutate_for_new(&wanted);
        match topic_changes::create(&context.core, &wanted).await {
            Ok(topic) => {
                context.near_miss(name, true);
                return describe(context, request, &topic);
            }
            Err((ResponseError::TopicAlreadyExists, _)) => {
                // Another client was faster.
                if let Some(topic) = context.core.topics.by_name(name) {
                    return describe(context, request, &topic);
                }
                ResponseError::UnknownTopicOrPartition
            }
            Err((error, _)) => error,
        }
    } else if let Err((error, _)) = crate::topics::check_name(name) {
        error
    } else {
        ResponseError::UnknownTopicOrPartition
    };
    if error != ResponseError::TopicAuthorizationFailed {
        context.near_miss(name, false);
    }
    let mut response = refused(name, error);
    if context.version >= 8 && request.include_topic_authorized_operations {
        response.topic_authorized_operations = context.authorised_operations(Resource::Topic(name));
    }
    response
}

fn refused(name: &TopicName, error: ResponseError) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(error.code())
        .with_name(Some(TopicName(name.0.clone())))
}

/// The name of a topic that the caller may not describe is not told.
fn by_id(context: &Context, request: &MetadataRequest, id: Uuid) -> MetadataResponseTopic {
    let error = match context.core.topics.by_id(id) {
        Some(topic) if context.allowed(Operation::Describe, Resource::Topic(&topic.name)) => {
            return describe(context, request, &topic);
        }
        Some(_) => ResponseError::TopicAuthorizationFailed,
        None => ResponseError::UnknownTopicId,
    };
    MetadataResponseTopic::default().with_error_code(error.code()).with_name(None).with_topic_id(id)
}

fn describe(
    context: &Context,
    request: &MetadataRequest,
    topic: &Arc<Topic>,
) -> MetadataResponseTopic {
    let node = context.node();
    let partitions = topic.partitions.iter().map(|partition| {
        MetadataResponsePartition::default()
            .with_partition_index(partition.index())
            .with_leader_id(node)
            .with_leader_epoch(leader_epoch(context.version, partition.leader_epoch()))
            .with_replica_nodes(vec![node])
            .with_isr_nodes(vec![node])
    });
    let mut response = MetadataResponseTopic::default()
        .with_name(Some(TopicName(StrBytes::from_string(topic.name.to_string()))))
        .with_partitions(partitions.collect());
    if context.version >= 1 {
        response.is_internal = topic.internal;
    }
    if context.version >= 10 {
        response.topic_id = topic.id;
    }
    if context.version >= 8 && request.include_topic_authorized_operations {
        let resource = Resource::Topic(&topic.name);
        response.topic_authorized_operations = context.authorised_operations(resource);
    }
    response
}

/// The field came with version 7.
fn leader_epoch(version: i16, epoch: i32) -> i32 {
    if version >= 7 { epoch } else { -1 }
}

impl Context {
    pub(crate) fn node(&self) -> BrokerId {
        BrokerId(self.core.config().node_id)
    }

    pub(crate) fn rack(&self) -> Option<StrBytes> {
        self.core.config().rack.clone().map(StrBytes::from_string)
    }
}
