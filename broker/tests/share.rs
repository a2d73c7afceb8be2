//! The share group APIs on a socket: members, sessions, records and where groups stand. Expected
//! codes are those of Kafka's `KafkaApis`, `SharePartitionManager` and `GroupMetadataManager`.

mod node;

use bytes::Bytes;
use kafka_protocol::messages::alter_share_group_offsets_request as alter;
use kafka_protocol::messages::delete_share_group_offsets_request as delete;
use kafka_protocol::messages::describe_share_group_offsets_request as describe;
use kafka_protocol::messages::incremental_alter_configs_request as configs;
use kafka_protocol::messages::share_acknowledge_request as acknowledge;
use kafka_protocol::messages::share_fetch_request as fetch;
use kafka_protocol::messages::share_fetch_response::PartitionData;
use kafka_protocol::messages::{
    AlterShareGroupOffsetsRequest, ApiVersionsRequest, DeleteGroupsRequest,
    DeleteShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequest,
    IncrementalAlterConfigsRequest, JoinGroupRequest, ListGroupsRequest, ShareAcknowledgeRequest,
    ShareFetchRequest, ShareFetchResponse, ShareGroupDescribeRequest, ShareGroupHeartbeatRequest,
    ShareGroupHeartbeatResponse, TopicName,
};
use kafka_protocol::protocol::Request;
use node::{Connection, Node, group, named, text};
use odradek_broker::client::{Principal, Record, TopicRecords};
use uuid::Uuid;

const NONE: i16 = 0;
const UNKNOWN_SERVER_ERROR: i16 = -1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const UNKNOWN_MEMBER_ID: i16 = 25;
const INVALID_REQUEST: i16 = 42;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_ID_NOT_FOUND: i16 = 69;
const UNKNOWN_TOPIC_ID: i16 = 100;
const FENCED_MEMBER_EPOCH: i16 = 110;
const INVALID_RECORD_STATE: i16 = 121;
const SHARE_SESSION_NOT_FOUND: i16 = 122;
const INVALID_SHARE_SESSION_EPOCH: i16 = 123;

const ACCEPT: i8 = 1;
const RELEASE: i8 = 2;
const REJECT: i8 = 3;

fn topic() -> TopicName {
    named("t")
}

struct World {
    node: Node,
    topic_id: Uuid,
}

impl World {
    /// A broker with the topic `t` of two partitions, five records in the first. The group `g`
    /// reads from the beginning.
    async fn new() -> Self {
        let node = Node::with_topic().await;
        let client = node.broker.client(Principal::internal());
        let topic_id = client.topic("t").await.unwrap().unwrap().topic_id;
        let world = Self { node, topic_id };
        world.produce(5).await;
        let earliest = configs::AlterableConfig::default()
            .with_name(text("share.auto.offset.reset"))
            .with_value(Some(text("earliest")));
        let resource = configs::AlterConfigsResource::default()
            .with_resource_type(32)
            .with_resource_name(text("g"))
            .with_configs(vec![earliest]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let set = world.connect().await.call(&request, 1).await;
        assert_eq!(set.responses[0].error_code, NONE);
        world
    }

    /// One batch.
    async fn produce(&self, count: usize) {
        let record =
            |n: usize| Record { value: Some(Bytes::from(n.to_string())), ..Record::default() };
        let records = (0..count).map(record).collect();
        let records = TopicRecords { topic: "t".to_owned(), partition: Some(0), records };
        self.node.broker.client(Principal::internal()).produce(records).await.unwrap();
    }

    async fn connect(&self) -> Wire {
        Wire { connection: self.node.connect().await, topic_id: self.topic_id }
    }

    async fn restarted(self) -> Self {
        Self { node: self.node.restarted().await, topic_id: self.topic_id }
    }
}

struct Wire {
    connection: Connection,
    topic_id: Uuid,
}

/// First offset, last offset and kinds.
type Given<'a> = &'a [(i64, i64, &'a [i8])];

impl Wire {
    async fn call<T: Request>(&mut self, request: &T, version: i16) -> T::Response {
        self.connection.call(request, version).await
    }

    async fn beat(&mut self, name: &str, member: &str, epoch: i32) -> ShareGroupHeartbeatResponse {
        let request = ShareGroupHeartbeatRequest::default()
            .with_group_id(group(name))
            .with_member_id(text(member))
            .with_member_epoch(epoch)
            .with_rack_id(None)
            .with_subscribed_topic_names((epoch == 0).then(|| vec![topic()]));
        self.call(&request, 1).await
    }

    fn session(&self, member: &str, epoch: i32, given: Given<'_>) -> ShareFetchRequest {
        let batches = given.iter().map(|(first, last, kinds)| {
            fetch::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(kinds.to_vec())
        });
        let partition = fetch::FetchPartition::default()
            .with_partition_index(0)
            .with_acknowledgement_batches(batches.collect());
        let topic = fetch::FetchTopic::default()
            .with_topic_id(self.topic_id)
            .with_partitions(vec![partition]);
        ShareFetchRequest::default()
            .with_group_id(Some(group("g")))
            .with_member_id(Some(text(member)))
            .with_share_session_epoch(epoch)
            .with_max_wait_ms(200)
            .with_min_bytes(1)
            .with_max_bytes(1 << 20)
            .with_max_records(100)
            .with_batch_size(100)
            .with_topics(vec![topic])
    }

    async fn fetch(&mut self, member: &str, epoch: i32, given: Given<'_>) -> ShareFetchResponse {
        let request = self.session(member, epoch, given);
        self.call(&request, 1).await
    }

    /// Error code of the request, or of the partition.
    async fn acknowledge(&mut self, member: &str, epoch: i32, given: Given<'_>) -> i16 {
        let batches = given.iter().map(|(first, last, kinds)| {
            acknowledge::AcknowledgementBatch::default()
                .with_first_offset(*first)
                .with_last_offset(*last)
                .with_acknowledge_types(kinds.to_vec())
        });
        let partition = acknowledge::AcknowledgePartition::default()
            .with_partition_index(0)
            .with_acknowledgement_batches(batches.collect());
        let topic = acknowledge::AcknowledgeTopic::default()
            .with_topic_id(self.topic_id)
            .with_partitions(vec![partition]);
        let request = ShareAcknowledgeRequest::default()
            .with_group_id(Some(group("g")))
            .with_member_id(Some(text(member)))
            .with_share_session_epoch(epoch)
            .with_topics(if given.is_empty() { Vec::new() } else { vec![topic] });
        let reply = self.call(&request, 1).await;
        match reply.responses.first() {
            Some(topic) => topic.partitions[0].error_code,
            None => reply.error_code,
        }
    }

    async fn start_offset(&mut self, name: &str) -> i64 {
        let wanted = describe::DescribeShareGroupOffsetsRequestTopic::default()
            .with_topic_name(topic())
            .with_partitions(vec![0]);
        let wanted = describe::DescribeShareGroupOffsetsRequestGroup::default()
            .with_group_id(group(name))
            .with_topics(Some(vec![wanted]));
        let request = DescribeShareGroupOffsetsRequest::default().with_groups(vec![wanted]);
        let reply = self.call(&request, 0).await;
        assert_eq!(reply.groups[0].error_code, NONE);
        reply.groups[0].topics[0].partitions[0].start_offset
    }

    async fn alter(&mut self, name: &str, partition: i32, start: i64) -> (i16, Option<i16>) {
        let partition = alter::AlterShareGroupOffsetsRequestPartition::default()
            .with_partition_index(partition)
            .with_start_offset(start);
        let topic = alter::AlterShareGroupOffsetsRequestTopic::default()
            .with_topic_name(topic())
            .with_partitions(vec![partition]);
        let request = AlterShareGroupOffsetsRequest::default()
            .with_group_id(group(name))
            .with_topics(vec![topic]);
        let reply = self.call(&request, 0).await;
        let partitions = reply.responses.first().map(|topic| topic.partitions[0].error_code);
        (reply.error_code, partitions)
    }

    async fn delete_offsets(&mut self, name: &str) -> (i16, Option<i16>) {
        let topic = delete::DeleteShareGroupOffsetsRequestTopic::default().with_topic_name(topic());
        let request = DeleteShareGroupOffsetsRequest::default()
            .with_group_id(group(name))
            .with_topics(vec![topic]);
        let reply = self.call(&request, 0).await;
        (reply.error_code, reply.responses.first().map(|topic| topic.error_code))
    }

    async fn delete_group(&mut self, name: &str) -> i16 {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group(name)]);
        self.call(&request, 2).await.results[0].error_code
    }
}

/// The one partition that a reply tells of.
fn only(reply: &ShareFetchResponse) -> &PartitionData {
    assert_eq!(reply.error_code, NONE);
    assert_eq!((reply.responses.len(), reply.responses[0].partitions.len()), (1, 1), "{reply:?}");
    &reply.responses[0].partitions[0]
}

fn acquired(reply: &ShareFetchResponse) -> Vec<(i64, i64, i16)> {
    let acquired = only(reply).acquired_records.iter();
    acquired.map(|a| (a.first_offset, a.last_offset, a.delivery_count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_joins_takes_gives_back_and_leaves() {
    let world = World::new().await;
    let mut wire = world.connect().await;
    let versions = ApiVersionsRequest::default()
        .with_client_software_name(text("wire"))
        .with_client_software_version(text("1"));
    let features = wire.call(&versions, 4).await.finalized_features;
    let share = features.iter().find(|feature| &feature.name[..] == "share.version");
    assert_eq!(share.map(|feature| feature.max_version_level), Some(1));

    let joined = wire.beat("g", "a", 0).await;
    assert_eq!((joined.error_code, joined.member_epoch), (NONE, 2));
    assert_eq!(joined.heartbeat_interval_ms, 5_000, "Kafka's default");
    let assigned = &joined.assignment.unwrap().topic_partitions[0];
    assert_eq!((assigned.topic_id, &assigned.partitions[..]), (world.topic_id, &[0, 1][..]));

    let first = wire.fetch("a", 0, &[]).await;
    assert_eq!(acquired(&first), [(0, 4, 1)]);
    assert_eq!(first.acquisition_lock_timeout_ms, 30_000, "Kafka's default");
    let records = only(&first).records.clone().unwrap();
    assert_eq!(odradek_protocol::batch::records(&records, 1 << 20).unwrap().len(), 5);

    let given: Given<'_> = &[(0, 2, &[ACCEPT, RELEASE, REJECT]), (3, 3, &[ACCEPT])];
    assert_eq!(wire.acknowledge("a", 1, given).await, NONE);
    assert_eq!(wire.start_offset("g").await, 1);
    // What comes back comes first; the rest is with the member still.
    let again = wire.fetch("a", 2, &[]).await;
    assert_eq!(acquired(&again), [(1, 1, 2)]);
    // Acknowledgements that come with a fetch.
    let last = wire.fetch("a", 3, &[(1, 1, &[ACCEPT]), (4, 4, &[ACCEPT])]).await;
    assert_eq!(only(&last).acknowledge_error_code, NONE);
    assert!(only(&last).acquired_records.is_empty());
    assert_eq!(wire.start_offset("g").await, 5);

    assert_eq!(wire.acknowledge("a", -1, &[]).await, NONE);
    assert_eq!(wire.beat("g", "a", -1).await.member_epoch, -1);
    let described =
        wire.call(&ShareGroupDescribeRequest::default().with_group_ids(vec![group("g")]), 1).await;
    let described = &described.groups[0];
    assert_eq!((described.error_code, &described.group_state[..]), (NONE, "Empty"));
    assert_eq!(described.group_epoch, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_that_make_no_sense_are_refused() {
    let world = World::new().await;
    let mut wire = world.connect().await;
    assert_eq!(wire.beat("g", "a", 3).await.error_code, GROUP_ID_NOT_FOUND);
    assert_eq!(wire.beat("g", "a", -1).await.error_code, GROUP_ID_NOT_FOUND);
    assert_eq!(wire.beat("", "a", 0).await.error_code, INVALID_REQUEST);
    assert_eq!(wire.beat("g", "", 0).await.error_code, INVALID_REQUEST);
    assert_eq!(wire.beat("g", &"x".repeat(37), 0).await.error_code, INVALID_REQUEST);
    assert_eq!(wire.beat("g", "a", -2).await.error_code, INVALID_REQUEST);
    wire.beat("g", "a", 0).await;
    assert_eq!(wire.beat("g", "a", 9).await.error_code, FENCED_MEMBER_EPOCH);
    assert_eq!(wire.beat("g", "b", 1).await.error_code, UNKNOWN_MEMBER_ID);
    assert_eq!(wire.beat("g", "b", -1).await.error_code, UNKNOWN_MEMBER_ID);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_counted_and_acknowledgements_checked() {
    let world = World::new().await;
    let mut wire = world.connect().await;
    assert_eq!(wire.fetch("a", 1, &[]).await.error_code, SHARE_SESSION_NOT_FOUND);
    let early = wire.fetch("a", 0, &[(0, 0, &[ACCEPT])]).await;
    assert_eq!(early.error_code, INVALID_REQUEST, "nobody has anything to acknowledge yet");
    let strange = wire.fetch("a", 0, &[]).await;
    assert_eq!(only(&strange).error_code, UNKNOWN_SERVER_ERROR, "the group was never given it");
    wire.beat("g", "a", 0).await;
    assert_eq!(acquired(&wire.fetch("a", 0, &[]).await), [(0, 4, 1)]);
    assert_eq!(wire.fetch("a", 9, &[]).await.error_code, INVALID_SHARE_SESSION_EPOCH);
    assert_eq!(wire.acknowledge("a", 0, &[]).await, INVALID_SHARE_SESSION_EPOCH);
    assert_eq!(wire.acknowledge("b", 1, &[]).await, SHARE_SESSION_NOT_FOUND);
    let refused: &[(Given<'_>, i16)] = &[
        (&[(3, 2, &[ACCEPT])], INVALID_REQUEST),
        (&[(0, 1, &[])], INVALID_REQUEST),
        (&[(0, 3, &[ACCEPT, ACCEPT])], INVALID_REQUEST),
        (&[(0, 0, &[4])], INVALID_REQUEST),
        (&[(2, 3, &[ACCEPT]), (0, 1, &[ACCEPT])], INVALID_REQUEST),
        (&[(50, 51, &[ACCEPT])], INVALID_REQUEST),
    ];
    for (epoch, (given, error)) in (1..).zip(refused) {
        assert_eq!(wire.acknowledge("a", epoch, given).await, *error, "{given:?}");
    }
    // Another member's records, and records that are not out any more.
    let mut other = world.connect().await;
    other.beat("g", "b", 0).await;
    other.fetch("b", 0, &[]).await;
    assert_eq!(other.acknowledge("b", 1, &[(0, 4, &[ACCEPT])]).await, INVALID_RECORD_STATE);
    assert_eq!(wire.acknowledge("a", 7, &[(0, 4, &[RELEASE])]).await, NONE);
    assert_eq!(wire.acknowledge("a", 8, &[(0, 4, &[ACCEPT])]).await, INVALID_RECORD_STATE);
    let mut unknown = wire.session("a", 9, &[]);
    unknown.topics[0].topic_id = Uuid::from_u128(9);
    let unknown = wire.call(&unknown, 1).await;
    let topics = unknown.responses.iter();
    let codes: Vec<i16> = topics.flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    assert_eq!(codes.iter().filter(|code| **code == UNKNOWN_TOPIC_ID).count(), 1, "{codes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_appends_and_for_what_others_give_back() {
    let world = World::new().await;
    let (mut wire, mut other) = (world.connect().await, world.connect().await);
    wire.beat("g", "a", 0).await;
    other.beat("g", "b", 0).await;
    assert_eq!(acquired(&wire.fetch("a", 0, &[]).await), [(0, 4, 1)]);
    let mut patient = other.session("b", 0, &[]);
    patient.max_wait_ms = 60_000;
    let waiting = tokio::spawn(async move { (other.call(&patient, 1).await, other) });
    assert_eq!(wire.acknowledge("a", 1, &[(2, 3, &[RELEASE])]).await, NONE);
    let (reply, mut other) = waiting.await.unwrap();
    assert_eq!(acquired(&reply), [(2, 3, 2)]);
    let mut patient = other.session("b", 1, &[]);
    patient.max_wait_ms = 60_000;
    let waiting = tokio::spawn(async move { other.call(&patient, 1).await });
    world.produce(3).await;
    assert_eq!(acquired(&waiting.await.unwrap()), [(5, 7, 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_ends_gives_back_what_its_member_has() {
    let world = World::new().await;
    let mut wire = world.connect().await;
    wire.beat("g", "a", 0).await;
    assert_eq!(acquired(&wire.fetch("a", 0, &[]).await), [(0, 4, 1)]);
    drop(wire);
    let mut other = world.connect().await;
    let mut patient = other.session("b", 0, &[]);
    // Well before the lock of thirty seconds runs out.
    patient.max_wait_ms = 20_000;
    assert_eq!(acquired(&other.call(&patient, 1).await), [(0, 4, 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_where_they_stand_outlive_the_broker() {
    let world = World::new().await;
    let mut wire = world.connect().await;
    wire.beat("g", "a", 0).await;
    wire.fetch("a", 0, &[]).await;
    assert_eq!(wire.acknowledge("a", 1, &[(0, 2, &[ACCEPT]), (3, 3, &[RELEASE])]).await, NONE);
    drop(wire);
    let world = world.restarted().await;
    let mut wire = world.connect().await;
    assert_eq!(wire.start_offset("g").await, 3);
    let still = wire.beat("g", "a", 2).await;
    assert_eq!((still.error_code, still.member_epoch), (NONE, 2));
    let mut patient = wire.session("a", 0, &[]);
    patient.max_wait_ms = 20_000;
    let reply = wire.call(&patient, 1).await;
    // The last one was out: given back when its connection ended, or forgotten by the restart.
    let got = acquired(&reply);
    assert_eq!((got[0].0, got[0].2), (3, 2), "{got:?}");
    assert_eq!(got.last().unwrap().1, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_set_and_forgotten_while_nobody_reads() {
    let world = World::new().await;
    let mut wire = world.connect().await;
    assert_eq!(wire.start_offset("g").await, -1, "no such group");
    wire.beat("g", "a", 0).await;
    assert_eq!(wire.start_offset("g").await, -1, "nobody has read");
    assert_eq!(wire.alter("g", 0, 2).await.0, NON_EMPTY_GROUP);
    assert_eq!(wire.delete_offsets("g").await.0, NON_EMPTY_GROUP);
    assert_eq!(wire.delete_group("g").await, NON_EMPTY_GROUP);
    wire.beat("g", "a", -1).await;
    assert_eq!(wire.alter("g", 0, 2).await, (NONE, Some(NONE)));
    assert_eq!(wire.alter("g", 7, 2).await, (NONE, Some(UNKNOWN_TOPIC_OR_PARTITION)));
    assert_eq!(wire.start_offset("g").await, 2);
    assert_eq!(acquired(&wire.fetch("a", 0, &[]).await), [(2, 4, 1)]);
    assert_eq!(wire.delete_offsets("g").await, (NONE, Some(NONE)));
    assert_eq!(wire.delete_offsets("g").await, (NONE, Some(UNKNOWN_TOPIC_OR_PARTITION)));
    assert_eq!(wire.delete_offsets("h").await.0, GROUP_ID_NOT_FOUND);
    assert_eq!(wire.alter("h", 0, 1).await, (NONE, Some(NONE)), "makes the group");
    assert_eq!(wire.delete_group("h").await, NONE);
    assert_eq!(wire.delete_group("g").await, NONE);
    assert_eq!(wire.delete_group("g").await, GROUP_ID_NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_id_belongs_to_one_kind_of_group() {
    let world = World::new().await;
    let mut wire = world.connect().await;
    wire.beat("g", "a", 0).await;
    let join = JoinGroupRequest::default()
        .with_group_id(group("g"))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_protocol_type(text("consumer"));
    assert_eq!(wire.call(&join, 5).await.error_code, INCONSISTENT_GROUP_PROTOCOL);
    let listed = wire.call(&ListGroupsRequest::default(), 5).await;
    let listed: Vec<_> = listed.groups.iter().filter(|one| one.group_id == group("g")).collect();
    assert_eq!(listed.len(), 1);
    assert_eq!((&listed[0].group_type[..], &listed[0].group_state[..]), ("share", "Stable"));
    assert_eq!(&listed[0].protocol_type[..], "share");
    let filtered = ListGroupsRequest::default().with_types_filter(vec![text("classic")]);
    assert!(wire.call(&filtered, 5).await.groups.is_empty());
    // A classic group of one member.
    let mut classic = join.clone().with_group_id(group("c"));
    classic.protocols = vec![
        kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol::default()
            .with_name(text("range")),
    ];
    assert_eq!(wire.call(&classic, 3).await.error_code, NONE);
    assert_eq!(wire.beat("c", "a", 0).await.error_code, GROUP_ID_NOT_FOUND);
    let described =
        ShareGroupDescribeRequest::default().with_group_ids(vec![group("c"), group("nobody")]);
    let described = wire.call(&described, 1).await;
    for one in &described.groups {
        assert_eq!(one.error_code, GROUP_ID_NOT_FOUND);
    }
}
