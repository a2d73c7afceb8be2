//! The administrative half of the local seam.

use async_trait::async_trait;
use std::collections::BTreeMap;

use super::local::{Local, refused};
use super::{Admin, ClientError, GroupInfo, GroupPartition, NewTopic, Result, TopicInfo, UserInfo};
use crate::acl::{Operation, Resource, Rule, RuleFilter, changes};
use crate::auth::{UserRecord, may_be_user};
use crate::client::Client;
use crate::core::Core;
use crate::state::StateKey;
use crate::topic_changes::{self, Wanted};

#[async_trait]
impl Admin for Local {
    async fn create_topic(&self, topic: NewTopic) -> Result<TopicInfo> {
        let NewTopic { name, partitions, configs } = topic;
        self.may_create(&self.broker.core(), &name)?;
        let wanted =
            Wanted { name: name.clone(), partitions, configs: configs.into_iter().collect() };
        topic_changes::create(&self.broker.core(), &wanted).await.map_err(refused)?;
        let made = self.topic(&name).await?;
        made.ok_or(ClientError::UnknownTopicOrPartition(name))
    }

    async fn delete_topic(&self, name: &str) -> Result<()> {
        let core = self.broker.core();
        if !self.sees(&core, Operation::Delete, Resource::Cluster) {
            self.may(&core, Operation::Delete, Resource::Topic(name))?;
        }
        self.topic_of(&core, name)?;
        topic_changes::delete(&core, name).await.map_err(refused)
    }

    async fn groups(&self) -> Result<Vec<GroupInfo>> {
        let core = self.broker.core();
        let mut partitions: BTreeMap<String, Vec<GroupPartition>> = BTreeMap::new();
        for line in core.groups.all_offsets() {
            if !self.sees(&core, Operation::Describe, Resource::Topic(&line.topic)) {
                continue;
            }
            let Some(end) = end_of(&core, &line.topic, line.partition) else { continue };
            let committed = line.committed.offset;
            partitions.entry(line.group).or_default().push(GroupPartition {
                topic: line.topic,
                partition: line.partition,
                committed,
                end,
                lag: (end - committed).max(0),
            });
        }
        let sees_all = self.sees(&core, Operation::Describe, Resource::Cluster);
        let seen = core.groups.list().into_iter().filter(|line| {
            sees_all || self.sees(&core, Operation::Describe, Resource::Group(&line.group))
        });
        let groups = seen.map(|line| {
            let partitions = partitions.remove(&line.group).unwrap_or_default();
            GroupInfo {
                lag: partitions.iter().map(|p| p.lag).sum(),
                group: line.group,
                state: line.state.to_owned(),
                members: line.members,
                partitions,
            }
        });
        Ok(groups.collect())
    }

    async fn delete_group(&self, group: &str) -> Result<()> {
        let core = self.broker.core();
        self.may(&core, Operation::Delete, Resource::Group(group))?;
        let deleted = core.delete_group(group).await;
        deleted.map_err(|e| ClientError::Refused(format!("group {group:?}: {e}")))
    }

    async fn users(&self) -> Result<Vec<UserInfo>> {
        let core = self.broker.core();
        self.may(&core, Operation::Describe, Resource::Cluster)?;
        let names = core.users.list().into_iter();
        let users = names.map(|name| {
            let mechanisms = core.users.mechanisms(&name).into_iter();
            UserInfo { mechanisms: mechanisms.map(|m| m.name().to_owned()).collect(), name }
        });
        Ok(users.collect())
    }

    async fn set_user(&self, name: &str, password: &str) -> Result<()> {
        let core = self.broker.core();
        self.may(&core, Operation::Alter, Resource::Cluster)?;
        may_be_user(name, password).map_err(|why| ClientError::Refused(why.to_owned()))?;
        refuse_configured(&core, name)?;
        let secret = password.to_owned();
        // Deriving the verifiers costs milliseconds of CPU.
        let made = tokio::task::spawn_blocking(move || UserRecord::derive(&secret)).await;
        let record = made.map_err(|e| ClientError::Refused(e.to_string()))?;
        let _changing = core.user_changes.lock().await;
        let key = StateKey::User(name.to_owned());
        let written = core.put_state(vec![(key, Some(record.to_json().into()))]).await;
        written.map_err(|e| ClientError::Unavailable(e.to_string()))?;
        core.users.put(name, record);
        Ok(())
    }

    async fn delete_user(&self, name: &str) -> Result<()> {
        let core = self.broker.core();
        self.may(&core, Operation::Alter, Resource::Cluster)?;
        refuse_configured(&core, name)?;
        let _changing = core.user_changes.lock().await;
        if !core.users.contains(name) {
            return Err(ClientError::Refused(format!("there is no user {name:?}")));
        }
        let written = core.put_state(vec![(StateKey::User(name.to_owned()), None)]).await;
        written.map_err(|e| ClientError::Unavailable(e.to_string()))?;
        core.users.remove(name);
        Ok(())
    }

    async fn rules(&self, filter: &RuleFilter) -> Result<Vec<Rule>> {
        let core = self.broker.core();
        self.may_see_rules(&core, Operation::Describe)?;
        let known = core.access.read();
        Ok(known
            .iter()
            .map(|(rule, _)| rule)
            .filter(|rule| filter.matches(rule))
            .cloned()
            .collect())
    }

    async fn add_rules(&self, rules: Vec<Rule>) -> Result<()> {
        let core = self.broker.core();
        self.may_see_rules(&core, Operation::Alter)?;
        rules.iter().try_for_each(changes::check).map_err(refused)?;
        changes::create(&core, rules).await.map_err(refused)
    }

    async fn delete_rules(&self, filter: &RuleFilter) -> Result<Vec<Rule>> {
        let core = self.broker.core();
        self.may_see_rules(&core, Operation::Alter)?;
        let deleted = changes::delete(&core, std::slice::from_ref(filter)).await;
        Ok(deleted.map_err(refused)?.into_iter().flatten().collect())
    }

    async fn may_on_cluster(&self, operation: Operation) -> Result<()> {
        self.may(&self.broker.core(), operation, Resource::Cluster)
    }
}

impl Local {
    /// As the Kafka port has it: the right on the cluster, and an authorizer at all.
    fn may_see_rules(&self, core: &Core, operation: Operation) -> Result<()> {
        self.may(core, operation, Resource::Cluster)?;
        if core.access.enabled() {
            return Ok(());
        }
        let why = "access rules are not in force here: set authorizer.class.name=\
                   org.apache.kafka.metadata.authorizer.StandardAuthorizer, and super.users";
        Err(ClientError::Refused(why.to_owned()))
    }
}

/// Users of the configuration file are changed there.
fn refuse_configured(core: &Core, name: &str) -> Result<()> {
    if core.users.is_configured(name) {
        let why = format!("the user {name:?} stands in the configuration (sasl.jaas.config)");
        return Err(ClientError::Refused(format!("{why}: change it there")));
    }
    Ok(())
}

fn end_of(core: &Core, topic: &str, partition: i32) -> Option<i64> {
    let topic = core.topics.by_name(topic)?;
    Some(topic.partition(partition)?.high_watermark())
}
