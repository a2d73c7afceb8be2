//! Access rules as clients meet them. Error codes are Kafka's: 29 TOPIC_AUTHORIZATION_FAILED, 30
//! GROUP_AUTHORIZATION_FAILED, 31 CLUSTER_AUTHORIZATION_FAILED, 53 that of transactional ids, 54
//! SECURITY_DISABLED.

use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_share_group_offsets_request as share_offsets;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::share_fetch_request as share;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, CreateAclsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteAclsRequest, DeleteGroupsRequest, DeleteShareGroupOffsetsRequest, DeleteTopicsRequest,
    DescribeAclsRequest, DescribeClusterRequest, DescribeConfigsRequest, DescribeGroupsRequest,
    DescribeShareGroupOffsetsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListOffsetsRequest,
    OffsetCommitRequest, OffsetFetchRequest, SaslAuthenticateRequest, SaslHandshakeRequest,
    ShareAcknowledgeRequest, ShareFetchRequest, ShareGroupDescribeRequest,
    ShareGroupHeartbeatRequest, SyncGroupRequest, TransactionalId,
};
use odradek_broker::acl::{Operation, PatternKind, Permission, ResourceKind};
use odradek_broker::client::{ClientError, Principal, TopicRecords};

use super::login::{with_listener, with_listener_in};
use super::*;

const SETTINGS: &str = "\
sasl.jaas.config=X required user_admin=\"a\" user_alice=\"b\" user_bob=\"c\";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin
";

async fn guarded() -> Node {
    with_listener("SASL_PLAINTEXT", SETTINGS).await
}

async fn login(running: &Node, token: &'static str) -> Connection {
    let mut wire = running.connect().await;
    let plain = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str("PLAIN"));
    assert_eq!(wire.call(&plain, 1).await.error_code, 0);
    let token =
        SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_static(token.as_bytes()));
    assert_eq!(wire.call(&token, 2).await.error_code, 0);
    wire
}

async fn admin(running: &Node) -> Connection {
    login(running, "\0admin\0a").await
}

async fn alice(running: &Node) -> Connection {
    login(running, "\0alice\0b").await
}

fn rule(kind: ResourceKind, pattern: PatternKind, name: &str, operation: Operation) -> AclCreation {
    AclCreation::default()
        .with_resource_type(kind.code())
        .with_resource_pattern_type(pattern.code())
        .with_resource_name(text(name))
        .with_principal(text("User:alice"))
        .with_host(text("*"))
        .with_operation(operation.code())
        .with_permission_type(Permission::Allow.code())
}

fn on_topic(name: &str, operation: Operation) -> AclCreation {
    rule(ResourceKind::Topic, PatternKind::Literal, name, operation)
}

fn on_group(name: &str, operation: Operation) -> AclCreation {
    rule(ResourceKind::Group, PatternKind::Literal, name, operation)
}

async fn add(wire: &mut Connection, rules: Vec<AclCreation>) -> Vec<i16> {
    let response = wire.call(&CreateAclsRequest::default().with_creations(rules), 3).await;
    response.results.iter().map(|result| result.error_code).collect()
}

/// Everything of any kind.
fn any() -> DescribeAclsRequest {
    DescribeAclsRequest::default()
        .with_resource_type_filter(1)
        .with_resource_name_filter(None)
        .with_pattern_type_filter(1)
        .with_principal_filter(None)
        .with_host_filter(None)
        .with_operation(1)
        .with_permission_type(1)
}

/// Name, operation and permission of each rule, in order.
async fn listed(wire: &mut Connection) -> Vec<(String, i8, i8)> {
    let response = wire.call(&any(), 3).await;
    assert_eq!(response.error_code, 0);
    let resources = response.resources.into_iter().flat_map(|resource| {
        let name = resource.resource_name.to_string();
        resource.acls.into_iter().map(move |acl| (name.clone(), acl.operation, acl.permission_type))
    });
    resources.collect()
}

async fn metadata(wire: &mut Connection, topic: &str) -> i16 {
    create(wire, topic).await.topics[0].error_code
}

fn offsets(topic: &str) -> ListOffsetsRequest {
    let partition = ListOffsetsPartition::default().with_timestamp(-1);
    let topic =
        ListOffsetsTopic::default().with_name(named(topic)).with_partitions(vec![partition]);
    ListOffsetsRequest::default().with_replica_id(BrokerId(-1)).with_topics(vec![topic])
}

fn commit(group: &str, topic: &str) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(named(topic))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

fn coordinator(key_type: i8, key: &str) -> FindCoordinatorRequest {
    FindCoordinatorRequest::default().with_key_type(key_type).with_coordinator_keys(vec![text(key)])
}

#[tokio::test]
async fn who_has_no_rule_is_denied_everything_and_sees_nothing() {
    let running = guarded().await;
    assert_eq!(metadata(&mut admin(&running).await, "t").await, 0);
    let mut wire = alice(&running).await;
    assert_eq!(metadata(&mut wire, "t").await, 29);
    assert_eq!(metadata(&mut wire, "not-there").await, 29, "absent and hidden look the same");
    let all = MetadataRequest::default().with_topics(None);
    assert!(wire.call(&all, 12).await.topics.is_empty());
    assert_eq!(placed(&wire.call(&produce("t", batch(None, &["x"]), -1), 9).await).0, 29);
    let response = wire.call(&fetch("t", 0, (0, -1), true), 12).await;
    assert_eq!(response.responses[0].partitions[0].error_code, 29);
    assert_eq!(wire.call(&offsets("t"), 7).await.topics[0].partitions[0].error_code, 29);
    let new = CreateTopicsRequest::default()
        .with_topics(vec![CreatableTopic::default().with_name(named("n")).with_num_partitions(1)]);
    assert_eq!(wire.call(&new, 7).await.topics[0].error_code, 29);
    let gone = DeleteTopicsRequest::default().with_topic_names(vec![named("t")]);
    assert_eq!(wire.call(&gone, 5).await.responses[0].error_code, 29);
    let more = CreatePartitionsRequest::default().with_topics(vec![
        CreatePartitionsTopic::default().with_name(named("t")).with_count(2).with_assignments(None),
    ]);
    assert_eq!(wire.call(&more, 3).await.results[0].error_code, 29);
    for (kind, name, error) in [(2, "t", 29), (4, "1", 31)] {
        let request = DescribeConfigsRequest::default().with_resources(vec![
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None),
        ]);
        assert_eq!(wire.call(&request, 4).await.results[0].error_code, error);
    }
    let id = InitProducerIdRequest::default().with_producer_id(ProducerId(-1));
    let idempotent = id.clone().with_transactional_id(None);
    assert_eq!(wire.call(&idempotent, 4).await.error_code, 31);
    let transactional = id.with_transactional_id(Some(TransactionalId(text("x"))));
    assert_eq!(wire.call(&transactional, 4).await.error_code, 53);
    assert_eq!(wire.call(&any(), 3).await.error_code, 31);
    assert_eq!(add(&mut wire, vec![on_topic("t", Operation::All)]).await, [31]);
    let response = wire
        .call(
            &DescribeClusterRequest::default().with_include_cluster_authorized_operations(true),
            1,
        )
        .await;
    assert_eq!(response.cluster_authorized_operations, 0);
    let entry = &running.broker.diary().entries()[0];
    assert_eq!(entry.diagnosis, "not-authorised");
    assert_eq!(entry.evidence, "User:alice may not Describe the cluster");
}

#[tokio::test]
async fn who_has_no_rule_may_not_touch_groups() {
    let running = guarded().await;
    let mut root = admin(&running).await;
    assert_eq!(metadata(&mut root, "t").await, 0);
    let committed = root.call(&commit("g", "t"), 8).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let mut wire = alice(&running).await;
    let group = || GroupId(text("g"));
    assert_eq!(wire.call(&coordinator(0, "g"), 4).await.coordinators[0].error_code, 30);
    assert_eq!(wire.call(&coordinator(1, "x"), 4).await.coordinators[0].error_code, 53);
    let join = JoinGroupRequest::default().with_group_id(group()).with_session_timeout_ms(10_000);
    assert_eq!(wire.call(&join, 5).await.error_code, 30);
    let sync = SyncGroupRequest::default().with_group_id(group());
    assert_eq!(wire.call(&sync, 3).await.error_code, 30);
    let beat = HeartbeatRequest::default().with_group_id(group());
    assert_eq!(wire.call(&beat, 3).await.error_code, 30);
    let leave = LeaveGroupRequest::default().with_group_id(group());
    assert_eq!(wire.call(&leave, 3).await.error_code, 30);
    let committed = wire.call(&commit("g", "t"), 8).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 30);
    let all = OffsetFetchRequest::default().with_group_id(group()).with_topics(None);
    assert_eq!(wire.call(&all, 5).await.error_code, 30);
    let describe = DescribeGroupsRequest::default().with_groups(vec![group()]);
    assert_eq!(wire.call(&describe, 5).await.groups[0].error_code, 30);
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group()]);
    assert_eq!(wire.call(&delete, 2).await.results[0].error_code, 30);
    assert!(wire.call(&ListGroupsRequest::default(), 4).await.groups.is_empty());
    assert_eq!(root.call(&ListGroupsRequest::default(), 4).await.groups.len(), 1);
}

#[tokio::test]
async fn rules_open_exactly_what_they_name_and_a_denial_wins() {
    let running = guarded().await;
    let mut root = admin(&running).await;
    for topic in ["orders", "logs.app", "logs.secret", "other"] {
        assert_eq!(metadata(&mut root, topic).await, 0);
    }
    let prefixed =
        |name, operation| rule(ResourceKind::Topic, PatternKind::Prefixed, name, operation);
    let secret = prefixed("logs.s", Operation::Read).with_permission_type(Permission::Deny.code());
    let elsewhere = on_topic("other", Operation::Read).with_host(text("192.0.2.1"));
    let rules = vec![
        on_topic("orders", Operation::Write),
        prefixed("logs.", Operation::Read),
        secret,
        elsewhere,
        on_group("g", Operation::Read),
    ];
    assert_eq!(add(&mut root, rules).await, [0; 5]);
    let mut wire = alice(&running).await;
    let all =
        MetadataRequest::default().with_topics(None).with_include_topic_authorized_operations(true);
    let seen = wire.call(&all, 12).await;
    let seen: Vec<_> = seen
        .topics
        .iter()
        .map(|t| (t.name.as_ref().unwrap().to_string(), t.topic_authorized_operations))
        .collect();
    // A bit for each code: Read 3, Write 4, Describe 8. What may be read or written may be
    // described; a denial of Read denies that alone, so the secret topic's name is seen.
    let (read, write, describe) = (1 << 3, 1 << 4, 1 << 8);
    let expected = [
        ("logs.app".to_owned(), read | describe),
        ("logs.secret".to_owned(), describe),
        ("orders".to_owned(), write | describe),
    ];
    assert_eq!(seen, expected);
    assert_eq!(placed(&wire.call(&produce("orders", batch(None, &["x"]), -1), 9).await), (0, 0));
    assert_eq!(placed(&wire.call(&produce("logs.app", batch(None, &["x"]), -1), 9).await).0, 29);
    for (topic, error) in [("orders", 29), ("logs.app", 0), ("logs.secret", 29), ("other", 29)] {
        let response = wire.call(&fetch(topic, 0, (0, -1), true), 12).await;
        assert_eq!(response.responses[0].partitions[0].error_code, error, "{topic}");
    }
    // KIP-679: who may write somewhere may be an idempotent producer.
    let id = InitProducerIdRequest::default().with_transactional_id(None);
    let id = id.with_producer_id(ProducerId(-1));
    assert_eq!(wire.call(&id, 4).await.error_code, 0);
    let committed = wire.call(&commit("g", "logs.app"), 8).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
    let committed = wire.call(&commit("g", "other"), 8).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 29);
    assert_eq!(root.call(&commit("g", "other"), 8).await.topics[0].partitions[0].error_code, 0);
    let ask = |topics| {
        let group = OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g")));
        OffsetFetchRequest::default().with_groups(vec![group.with_topics(topics)])
    };
    let all = wire.call(&ask(None), 8).await;
    assert_eq!(all.groups[0].topics.len(), 1, "offsets of hidden topics are left out");
    let topic = OffsetFetchRequestTopics::default();
    let topic = topic.with_name(named("other")).with_partition_indexes(vec![0]);
    let one = wire.call(&ask(Some(vec![topic])), 8).await;
    let partition = &one.groups[0].topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.committed_offset), (29, -1));
}

#[tokio::test]
async fn a_topic_is_created_on_demand_only_by_who_may_create_it() {
    let running = guarded().await;
    let mut root = admin(&running).await;
    add(&mut root, vec![on_topic("made", Operation::Write)]).await;
    let mut wire = alice(&running).await;
    assert_eq!(metadata(&mut wire, "made").await, 29);
    add(&mut root, vec![on_topic("made", Operation::Create)]).await;
    assert_eq!(metadata(&mut wire, "made").await, 0);
}

#[tokio::test]
async fn rules_are_listed_removed_and_kept_over_a_restart() {
    let running = guarded().await;
    let mut root = admin(&running).await;
    let twice = on_topic("t", Operation::Read);
    let deny = twice.clone().with_permission_type(Permission::Deny.code());
    let group = on_group("g", Operation::All);
    let added = add(&mut root, vec![twice.clone(), twice, deny, group]).await;
    assert_eq!(added, [0; 4]);
    let kept = [("t".to_owned(), 3, 2), ("t".to_owned(), 3, 3), ("g".to_owned(), 2, 3)];
    assert_eq!(listed(&mut root).await, kept);
    // INVALID_REQUEST, each alone: no name, a cluster of another name, no kind of principal, an
    // operation that is a filter's.
    let invalid = vec![
        on_topic("", Operation::Read),
        rule(ResourceKind::Cluster, PatternKind::Literal, "x", Operation::Alter),
        on_topic("t", Operation::Write).with_principal(text("alice")),
        on_topic("t", Operation::Write).with_operation(1),
        on_topic("valid", Operation::Write),
    ];
    assert_eq!(add(&mut root, invalid).await, [42, 42, 42, 42, 0]);

    running.broker.shutdown().await;
    let running = with_listener_in(running.dir, "SASL_PLAINTEXT", SETTINGS).await;
    let mut root = admin(&running).await;
    assert_eq!(listed(&mut root).await.len(), 4);
    let filter = |name: &str| {
        DeleteAclsFilter::default()
            .with_resource_type_filter(2)
            .with_resource_name_filter(Some(text(name)))
            .with_pattern_type_filter(3)
            .with_principal_filter(None)
            .with_host_filter(None)
            .with_operation(1)
            .with_permission_type(1)
    };
    let delete = DeleteAclsRequest::default().with_filters(vec![filter("t"), filter("nothing")]);
    let deleted = root.call(&delete, 3).await;
    let counts: Vec<_> = deleted.filter_results.iter().map(|f| f.matching_acls.len()).collect();
    assert_eq!(counts, [2, 0]);
    let left = [("valid".to_owned(), 4, 3), ("g".to_owned(), 2, 3)];
    assert_eq!(listed(&mut root).await, left);
}

#[tokio::test]
async fn without_an_authorizer_there_are_no_rules_and_nothing_is_denied() {
    let open = "sasl.jaas.config=X required user_admin=\"a\" user_alice=\"b\";\n";
    let running = with_listener("SASL_PLAINTEXT", open).await;
    let mut wire = alice(&running).await;
    assert_eq!(metadata(&mut wire, "t").await, 0);
    assert_eq!(wire.call(&any(), 3).await.error_code, 54);
    assert_eq!(add(&mut wire, vec![on_topic("t", Operation::Read)]).await, [54]);
}

#[tokio::test]
async fn what_no_rule_stands_for_is_open_where_the_configuration_says_so() {
    let settings = format!("{SETTINGS}allow.everyone.if.no.acl.found=true\n");
    let running = with_listener("SASL_PLAINTEXT", &settings).await;
    let mut root = admin(&running).await;
    let bobs = on_topic("bobs", Operation::All).with_principal(text("User:bob"));
    add(&mut root, vec![bobs]).await;
    let mut wire = alice(&running).await;
    assert_eq!(metadata(&mut wire, "free").await, 0);
    assert_eq!(metadata(&mut wire, "bobs").await, 29);
}

#[tokio::test]
async fn the_in_process_client_obeys_the_same_rules() {
    let running = guarded().await;
    let mut root = admin(&running).await;
    for topic in ["mine", "theirs"] {
        assert_eq!(metadata(&mut root, topic).await, 0);
    }
    let here = on_topic("mine", Operation::Read).with_host(text("192.0.2.7"));
    add(&mut root, vec![on_topic("mine", Operation::Describe), here]).await;
    let broker = &running.broker;
    let far = Principal::user("alice").at([192, 0, 2, 7].into());
    let client = broker.client(Principal::user("alice"));
    let seen: Vec<String> = client.topics().await.unwrap().into_iter().map(|t| t.name).collect();
    assert_eq!(seen, ["mine"]);
    let read = |client: std::sync::Arc<dyn odradek_broker::client::Client>, topic: &'static str| {
        let wait = std::time::Duration::ZERO;
        async move { client.fetch(topic, 0, 0, 1_000, wait).await.map(|f| f.high_watermark) }
    };
    assert_eq!(read(broker.client(far), "mine").await, Ok(0));
    let denied = |operation, resource: &str| ClientError::NotAuthorised {
        principal: "User:alice".to_owned(),
        operation,
        resource: resource.to_owned(),
    };
    let error = denied("Read", "topic \"mine\"");
    assert_eq!(read(broker.client(Principal::user("alice")), "mine").await, Err(error));
    let records = TopicRecords { topic: "mine".to_owned(), partition: None, records: Vec::new() };
    let error = denied("Write", "topic \"mine\"");
    assert_eq!(client.produce(records).await, Err(error));
    let admin = broker.admin(Principal::user("alice"));
    let error = denied("Delete", "topic \"theirs\"");
    assert_eq!(admin.delete_topic("theirs").await, Err(error));
    assert_eq!(admin.users().await, Err(denied("Describe", "the cluster")));
    assert!(broker.admin(Principal::user("admin")).users().await.is_ok());
}

/// As in Kafka's `KafkaApis`: READ of the group and of topics for members, DESCRIBE for those who
/// look, DELETE for those who make a group forget.
#[tokio::test]
async fn share_groups_are_guarded_as_groups_and_topics() {
    let running = guarded().await;
    let (mut admin, mut alice) = (admin(&running).await, alice(&running).await);
    create(&mut admin, "t").await;
    let beat = ShareGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text("a"))
        .with_subscribed_topic_names(Some(vec![named("t")]));
    assert_eq!(alice.call(&beat, 1).await.error_code, 30);
    let fetch = ShareFetchRequest::default()
        .with_group_id(Some(GroupId(text("g"))))
        .with_member_id(Some(text("a")));
    assert_eq!(alice.call(&fetch, 1).await.error_code, 30);
    let acknowledge = ShareAcknowledgeRequest::default()
        .with_group_id(Some(GroupId(text("g"))))
        .with_member_id(Some(text("a")))
        .with_share_session_epoch(1);
    assert_eq!(alice.call(&acknowledge, 1).await.error_code, 30);
    let describe = ShareGroupDescribeRequest::default().with_group_ids(vec![GroupId(text("g"))]);
    assert_eq!(alice.call(&describe, 1).await.groups[0].error_code, 30);
    let alter = AlterShareGroupOffsetsRequest::default().with_group_id(GroupId(text("g")));
    assert_eq!(alice.call(&alter, 0).await.error_code, 30);
    let delete = DeleteShareGroupOffsetsRequest::default().with_group_id(GroupId(text("g")));
    assert_eq!(alice.call(&delete, 0).await.error_code, 30);
    let group = share_offsets::DescribeShareGroupOffsetsRequestGroup::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(None);
    let offsets = DescribeShareGroupOffsetsRequest::default().with_groups(vec![group]);
    assert_eq!(alice.call(&offsets, 0).await.groups[0].error_code, 30);

    assert_eq!(add(&mut admin, vec![on_group("g", Operation::Read)]).await, [0]);
    assert_eq!(alice.call(&beat, 1).await.error_code, 29, "the topic is hers to see first");
    assert_eq!(add(&mut admin, vec![on_topic("t", Operation::Describe)]).await, [0]);
    assert_eq!(alice.call(&beat, 1).await.error_code, 0);
    assert_eq!(alice.call(&describe, 1).await.groups[0].error_code, 0, "READ implies DESCRIBE");
    assert_eq!(alice.call(&delete, 0).await.error_code, 30, "and not DELETE");
    let topic_id = create(&mut admin, "t").await.topics[0].topic_id;
    let partition = share::FetchTopic::default()
        .with_topic_id(topic_id)
        .with_partitions(vec![share::FetchPartition::default()]);
    let fetched = alice.call(&fetch.with_topics(vec![partition]), 1).await;
    assert_eq!(fetched.responses[0].partitions[0].error_code, 29);
}
