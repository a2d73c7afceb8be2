//! Topics and groups under the names, labels and help texts of kafka_exporter.
//!
//! One node holds everything, so leader, preferred leader, replicas and in-sync replicas are what
//! they must be for a cluster of one; they are there because dashboards and alerts ask for them.

use std::collections::BTreeMap;

use odradek_broker::client::{Admin, Client, GroupInfo, TopicInfo};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts, Registry};

use crate::operations::Outcome;

/// One scrape's gauges, by name.
struct Gauges {
    registry: Registry,
}

impl Gauges {
    fn family(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        let gauge = IntGaugeVec::new(Opts::new(name, help), labels).expect("constant names");
        let registered = self.registry.register(Box::new(gauge.clone()));
        registered.expect("each name is registered once a scrape");
        gauge
    }
}

pub async fn families(
    (node_id, address): (i32, String),
    client: &dyn Client,
    admin: &dyn Admin,
) -> Outcome<Vec<MetricFamily>> {
    let gauges = Gauges { registry: Registry::new() };
    let brokers = gauges.family("kafka_brokers", "Number of Brokers in the Kafka Cluster.", &[]);
    brokers.with_label_values::<&str>(&[]).set(1);
    let help = "Information about the Kafka Broker.";
    let info = gauges.family("kafka_broker_info", help, &["id", "address"]);
    info.with_label_values(&[node_id.to_string(), address]).set(1);
    topic_gauges(&gauges, node_id, &client.topics().await?);
    group_gauges(&gauges, &admin.groups().await?);
    Ok(gauges.registry.gather())
}

fn topic_gauges(gauges: &Gauges, node_id: i32, topics: &[TopicInfo]) {
    let count =
        gauges.family("kafka_topic_partitions", "Number of partitions for this Topic", &["topic"]);
    let of_partition = |name: &str, help: &str| {
        let name = format!("kafka_topic_partition_{name}");
        gauges.family(&name, help, &["topic", "partition"])
    };
    let current = of_partition("current_offset", "Current Offset of a Broker at Topic/Partition");
    let oldest = of_partition("oldest_offset", "Oldest Offset of a Broker at Topic/Partition");
    let constant = [
        ("leader", "Leader Broker ID of this Topic/Partition", i64::from(node_id)),
        ("leader_is_preferred", "1 if Topic/Partition is using the Preferred Broker", 1),
        ("replicas", "Number of Replicas for this Topic/Partition", 1),
        ("in_sync_replica", "Number of In-Sync Replicas for this Topic/Partition", 1),
        ("under_replicated_partition", "1 if Topic/Partition is under Replicated", 0),
    ]
    .map(|(name, help, value)| (of_partition(name, help), value));
    for topic in topics {
        let partitions = i64::try_from(topic.partitions.len()).unwrap_or(i64::MAX);
        count.with_label_values(&[&topic.name]).set(partitions);
        for partition in &topic.partitions {
            let labels = [topic.name.clone(), partition.partition.to_string()];
            current.with_label_values(&labels).set(partition.log_end_offset);
            oldest.with_label_values(&labels).set(partition.start_offset);
            for (gauge, value) in &constant {
                gauge.with_label_values(&labels).set(*value);
            }
        }
    }
}

fn group_gauges(gauges: &Gauges, groups: &[GroupInfo]) {
    let family = |name: &str, help: &str, labels: &[&str]| {
        gauges.family(&format!("kafka_consumergroup_{name}"), help, labels)
    };
    let each = ["consumergroup", "topic", "partition"];
    let sum = ["consumergroup", "topic"];
    let help = "Current Offset of a ConsumerGroup at Topic/Partition";
    let offset = family("current_offset", help, &each);
    let help = "Current Offset of a ConsumerGroup at Topic for all partitions";
    let offset_sum = family("current_offset_sum", help, &sum);
    let help = "Current Approximate Lag of a ConsumerGroup at Topic/Partition";
    let lag = family("lag", help, &each);
    let help = "Current Approximate Lag of a ConsumerGroup at Topic for all partitions";
    let lag_sum = family("lag_sum", help, &sum);
    let members = family("members", "Amount of members in a consumer group", &["consumergroup"]);
    for group in groups {
        let count = i64::try_from(group.members).unwrap_or(i64::MAX);
        members.with_label_values(&[&group.group]).set(count);
        let mut sums: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for partition in group.partitions.iter().filter(|partition| partition.committed >= 0) {
            let index = partition.partition.to_string();
            let labels = [&group.group, &partition.topic, &index];
            offset.with_label_values(&labels).set(partition.committed);
            lag.with_label_values(&labels).set(partition.lag);
            let (offsets, lags) = sums.entry(&partition.topic).or_default();
            *offsets += partition.committed;
            *lags += partition.lag;
        }
        for (topic, (offsets, lags)) in sums {
            offset_sum.with_label_values(&[group.group.as_str(), topic]).set(offsets);
            lag_sum.with_label_values(&[group.group.as_str(), topic]).set(lags);
        }
    }
}
