use kafka_protocol::messages::alter_configs_request as full;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, CreateTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, ListConfigResourcesRequest,
};

use super::*;

const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

pub const SET: i8 = 0;
pub const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// Kafka's `ConfigSource`.
const DYNAMIC_TOPIC: i8 = 1;
pub const DYNAMIC_BROKER: i8 = 2;
const DYNAMIC_DEFAULT: i8 = 3;
const DEFAULT: i8 = 5;
const OF_CLIENT_METRICS: i8 = 7;
const OF_GROUP: i8 = 8;

pub type Op<'a> = (&'a str, i8, Option<&'a str>);

fn resource(kind: i8, name: &str, ops: &[Op<'_>]) -> AlterConfigsResource {
    let configs = ops.iter().map(|(key, operation, value)| {
        AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect())
}

pub type Outcome = (i16, Option<String>);

impl Wire {
    pub async fn alter(&mut self, kind: i8, name: &str, ops: &[Op<'_>]) -> Outcome {
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource(kind, name, ops)]);
        let response = self.call(&request, 1).await;
        let [answer] = response.responses.as_slice() else { panic!("one resource, one answer") };
        assert_eq!((answer.resource_type, &*answer.resource_name), (kind, name));
        (answer.error_code, answer.error_message.as_ref().map(ToString::to_string))
    }

    pub async fn set(&mut self, kind: i8, name: &str, key: &str, value: &str) -> Outcome {
        self.alter(kind, name, &[(key, SET, Some(value))]).await
    }

    async fn replace(&mut self, topic: &str, pairs: &[(&str, &str)], version: i16) -> i16 {
        let configs = pairs.iter().map(|(key, value)| {
            full::AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)))
        });
        let resource = full::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configs(configs.collect());
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        self.call(&request, version).await.responses[0].error_code
    }

    pub async fn describe(
        &mut self,
        kind: i8,
        name: &str,
        keys: Option<&[&str]>,
    ) -> Vec<DescribeConfigsResourceResult> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(keys.map(|keys| keys.iter().map(|k| text(k)).collect()));
        let request = DescribeConfigsRequest::default()
            .with_include_synonyms(true)
            .with_include_documentation(true)
            .with_resources(vec![resource]);
        let mut response = self.call(&request, 4).await;
        assert_eq!(response.results[0].error_code, NONE);
        response.results.remove(0).configs
    }

    /// Value and source of one key.
    pub async fn value(&mut self, kind: i8, name: &str, key: &str) -> (String, i8) {
        let rows = self.describe(kind, name, Some(&[key])).await;
        let [row] = rows.as_slice() else { panic!("{key}: {} rows", rows.len()) };
        (row.value.as_ref().unwrap().to_string(), row.config_source)
    }
}

pub fn value(value: &str, source: i8) -> (String, i8) {
    (value.to_owned(), source)
}

#[tokio::test]
async fn a_topics_keys_are_set_appended_to_subtracted_from_and_deleted() {
    let mut wire = Wire::new().await;
    let ops = [("retention.ms", SET, Some("1000")), ("cleanup.policy", APPEND, Some("compact"))];
    assert_eq!(wire.alter(TOPIC, "t", &ops).await, (NONE, None));
    assert_eq!(wire.value(TOPIC, "t", "retention.ms").await, value("1000", DYNAMIC_TOPIC));
    let policy = wire.value(TOPIC, "t", "cleanup.policy").await;
    assert_eq!(policy, value("delete,compact", DYNAMIC_TOPIC));
    let ops = [("retention.ms", DELETE, None), ("cleanup.policy", SUBTRACT, Some("delete"))];
    assert_eq!(wire.alter(TOPIC, "t", &ops).await, (NONE, None));
    assert_eq!(wire.value(TOPIC, "t", "retention.ms").await, value("604800000", DEFAULT));
    assert_eq!(wire.value(TOPIC, "t", "cleanup.policy").await, value("compact", DYNAMIC_TOPIC));
    let mut wire = wire.restarted().await;
    assert_eq!(wire.value(TOPIC, "t", "cleanup.policy").await, value("compact", DYNAMIC_TOPIC));
}

#[tokio::test]
async fn the_older_request_replaces_everything_in_every_version() {
    let mut wire = Wire::new().await;
    for version in 0..=2 {
        assert_eq!(
            wire.replace("t", &[("retention.ms", "5"), ("segment.ms", "6")], version).await,
            NONE
        );
        assert_eq!(wire.value(TOPIC, "t", "segment.ms").await, value("6", DYNAMIC_TOPIC));
        assert_eq!(wire.replace("t", &[("retention.ms", "7")], version).await, NONE);
        assert_eq!(wire.value(TOPIC, "t", "retention.ms").await, value("7", DYNAMIC_TOPIC));
        assert_eq!(wire.value(TOPIC, "t", "segment.ms").await, value("604800000", DEFAULT));
    }
}

#[tokio::test]
async fn what_kafka_refuses_is_refused_and_nothing_of_it_holds() {
    let mut wire = Wire::new().await;
    let cases: &[(i8, &str, &[Op<'_>], i16, &str)] = &[
        (TOPIC, "t", &[("retention.ms", SET, Some("soon"))], INVALID_CONFIG, "retention.ms"),
        (
            TOPIC,
            "t",
            &[("retention.ms", SET, Some("1")), ("no.such", SET, Some("1"))],
            INVALID_CONFIG,
            "Unknown topic config name: no.such",
        ),
        (
            TOPIC,
            "t",
            &[("min.compaction.lag.ms", SET, Some("9")), ("max.compaction.lag.ms", SET, Some("8"))],
            INVALID_CONFIG,
            "conflict topic config setting min.compaction.lag.ms (9) > max.compaction.lag.ms (8)",
        ),
        (
            TOPIC,
            "t",
            &[("retention.ms", APPEND, Some("1"))],
            INVALID_CONFIG,
            "Can't APPEND to key retention.ms because its type is not LIST.",
        ),
        (
            TOPIC,
            "t",
            &[("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)],
            INVALID_REQUEST,
            "Error due to duplicate config keys",
        ),
        (
            TOPIC,
            "t",
            &[("retention.ms", SET, None), ("segment.ms", APPEND, None)],
            INVALID_REQUEST,
            "Null value not supported for : retention.ms, segment.ms",
        ),
        (TOPIC, "t", &[("retention.ms", 9, Some("1"))], INVALID_REQUEST, "Unknown operations type"),
        (TOPIC, "nowhere", &[("retention.ms", SET, Some("1"))], UNKNOWN_TOPIC_OR_PARTITION, ""),
        (TOPIC, "", &[], INVALID_REQUEST, "Default topic resources are not allowed."),
        (TOPIC, "a b", &[], INVALID_TOPIC_EXCEPTION, ""),
        (GROUP, "", &[], INVALID_REQUEST, "Default group resources are not allowed."),
        (GROUP, "g", &[("x", SET, Some("1"))], INVALID_CONFIG, "Unknown group config name: x"),
        (
            BROKER,
            "1",
            &[("log.dirs", SET, Some("/x"))],
            INVALID_REQUEST,
            "Cannot update these configs dynamically: [log.dirs]",
        ),
        (BROKER, "2", &[], INVALID_REQUEST, "Unexpected broker id, expected 1, but received 2"),
        (BROKER, "x", &[], INVALID_REQUEST, "Node id must be an integer, but it is: x"),
        (
            CLIENT_METRICS,
            "m",
            &[("interval.ms", SET, Some("1"))],
            INVALID_REQUEST,
            "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)",
        ),
        (
            BROKER_LOGGER,
            "1",
            &[("root", SET, Some("INFO"))],
            INVALID_CONFIG,
            "this broker has no loggers",
        ),
        (77, "x", &[], INVALID_REQUEST, "Unknown resource type 77"),
    ];
    for (kind, name, ops, code, sentence) in cases {
        let (error, why) = wire.alter(*kind, name, ops).await;
        assert_eq!(error, *code, "{ops:?}: {why:?}");
        assert!(why.unwrap_or_default().contains(sentence), "{sentence}");
    }
    assert_eq!(wire.value(TOPIC, "t", "retention.ms").await, value("604800000", DEFAULT));
}

#[tokio::test]
async fn a_resource_named_twice_is_refused_twice_and_validate_only_changes_nothing() {
    let mut wire = Wire::new().await;
    let one = || resource(TOPIC, "t", &[("retention.ms", SET, Some("1"))]);
    let other = resource(BROKER, "", &[("log.retention.ms", SET, Some("2"))]);
    let request =
        IncrementalAlterConfigsRequest::default().with_resources(vec![one(), other, one()]);
    for version in 0..=1 {
        let response = wire.call(&request, version).await;
        let codes: Vec<i16> = response.responses.iter().map(|r| r.error_code).collect();
        assert_eq!(codes, [INVALID_REQUEST, NONE, INVALID_REQUEST]);
    }
    let request = IncrementalAlterConfigsRequest::default()
        .with_validate_only(true)
        .with_resources(vec![one()]);
    assert_eq!(wire.call(&request, 1).await.responses[0].error_code, NONE);
    assert_eq!(wire.value(TOPIC, "t", "retention.ms").await, value("2", DYNAMIC_DEFAULT));
}

#[tokio::test]
async fn a_broker_wins_over_all_brokers_and_a_topic_over_both() {
    let mut wire = Wire::new().await;
    assert_eq!(wire.set(BROKER, "", "message.max.bytes", "2000").await, (NONE, None));
    assert_eq!(wire.value(TOPIC, "t", "max.message.bytes").await, value("2000", DYNAMIC_DEFAULT));
    assert_eq!(wire.set(BROKER, "1", "message.max.bytes", "3000").await, (NONE, None));
    assert_eq!(wire.set(TOPIC, "t", "max.message.bytes", "4000").await, (NONE, None));
    let mut wire = wire.restarted().await;
    let rows = wire.describe(TOPIC, "t", Some(&["max.message.bytes"])).await;
    let synonyms: Vec<(&str, &str, i8)> = rows[0]
        .synonyms
        .iter()
        .map(|s| (&*s.name, &**s.value.as_ref().unwrap(), s.source))
        .collect();
    assert_eq!(
        synonyms,
        [
            ("max.message.bytes", "4000", DYNAMIC_TOPIC),
            ("message.max.bytes", "3000", DYNAMIC_BROKER),
            ("message.max.bytes", "2000", DYNAMIC_DEFAULT),
            ("message.max.bytes", "1048588", DEFAULT),
        ]
    );
    let rows = wire.describe(BROKER, "", None).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((&*rows[0].name, rows[0].config_source), ("message.max.bytes", DYNAMIC_DEFAULT));
    assert!(!rows[0].read_only);
    let rows = wire.describe(BROKER, "1", Some(&["message.max.bytes", "log.dirs"])).await;
    let read_only = |name: &str| rows.iter().find(|r| *r.name == *name).unwrap().read_only;
    assert!(read_only("log.dirs") && !read_only("message.max.bytes"));
    let back = [("message.max.bytes", DELETE, None)];
    assert_eq!(wire.alter(BROKER, "1", &back).await, (NONE, None));
    assert_eq!(wire.value(BROKER, "1", "message.max.bytes").await, value("2000", DYNAMIC_DEFAULT));
    // Known to Kafka as dynamic, without effect here: kept and shown.
    assert_eq!(wire.set(BROKER, "", "num.io.threads", "16").await, (NONE, None));
    assert_eq!(wire.value(BROKER, "1", "num.io.threads").await, value("16", DYNAMIC_DEFAULT));
}

#[tokio::test]
async fn groups_and_client_metrics_have_configurations_and_are_listed() {
    let mut wire = Wire::new().await;
    let set = wire.set(GROUP, "g", "consumer.session.timeout.ms", "50000").await;
    assert_eq!(set, (NONE, None));
    assert_eq!(wire.set(CLIENT_METRICS, "m", "metrics", "a.,b.").await, (NONE, None));
    let mut wire = wire.restarted().await;
    let session = wire.value(GROUP, "g", "consumer.session.timeout.ms").await;
    assert_eq!(session, value("50000", OF_GROUP));
    let rows = wire.describe(GROUP, "g", Some(&["consumer.session.timeout.ms"])).await;
    let synonyms: Vec<_> = rows[0].synonyms.iter().map(|s| (&*s.name, s.source)).collect();
    let of_broker = ("group.consumer.session.timeout.ms", DEFAULT);
    assert_eq!(synonyms, [("consumer.session.timeout.ms", OF_GROUP), of_broker]);
    let heartbeat = wire.value(GROUP, "g", "consumer.heartbeat.interval.ms").await;
    assert_eq!(heartbeat, value("5000", DEFAULT));
    assert_eq!(wire.value(CLIENT_METRICS, "m", "metrics").await, value("a.,b.", OF_CLIENT_METRICS));
    assert_eq!(wire.value(CLIENT_METRICS, "m", "interval.ms").await, value("300000", DEFAULT));
    let listed = |kinds: Vec<i8>| ListConfigResourcesRequest::default().with_resource_types(kinds);
    let response = wire.call(&listed(Vec::new()), 0).await;
    let names: Vec<_> =
        response.config_resources.iter().map(|r| r.resource_name.to_string()).collect();
    assert_eq!(names, ["m"]);
    let response = wire.call(&listed(Vec::new()), 1).await;
    let all: Vec<_> = response
        .config_resources
        .iter()
        .map(|r| (r.resource_type, r.resource_name.to_string()))
        .collect();
    for known in [(TOPIC, "t"), (BROKER, "1"), (CLIENT_METRICS, "m"), (GROUP, "g")] {
        assert!(all.contains(&(known.0, known.1.to_owned())), "{known:?} in {all:?}");
    }
    let back = [("consumer.session.timeout.ms", DELETE, None)];
    assert_eq!(wire.alter(GROUP, "g", &back).await, (NONE, None));
    let response = wire.call(&listed(vec![GROUP]), 1).await;
    assert!(response.config_resources.is_empty());
}

#[tokio::test]
async fn a_new_topic_names_where_its_configurations_come_from() {
    let mut wire = Wire::new().await;
    assert_eq!(wire.set(BROKER, "", "compression.type", "zstd").await, (NONE, None));
    let config =
        CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("9")));
    let topic = CreatableTopic::default()
        .with_name(named("n"))
        .with_num_partitions(1)
        .with_replication_factor(1)
        .with_configs(vec![config]);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let response = wire.call(&request, 7).await;
    let configs = response.topics[0].configs.as_ref().unwrap();
    let source = |name: &str| configs.iter().find(|c| *c.name == *name).unwrap().config_source;
    assert_eq!(source("retention.ms"), DYNAMIC_TOPIC);
    assert_eq!(source("compression.type"), DYNAMIC_DEFAULT);
    assert_eq!(source("segment.bytes"), DEFAULT);
}
