//! Topics: list, find, create, delete.

use odradek_broker::client::{Admin, Client, ClientError, NewTopic, TopicInfo};

use super::{Failure, Outcome};

pub async fn list(client: &dyn Client) -> Outcome<Vec<TopicInfo>> {
    Ok(client.topics().await?)
}

pub async fn find(client: &dyn Client, name: &str) -> Outcome<TopicInfo> {
    let found = client.topic(name).await?;
    found.ok_or_else(|| ClientError::UnknownTopicOrPartition(name.to_owned()).into())
}

pub async fn create(admin: &dyn Admin, topic: NewTopic) -> Outcome<TopicInfo> {
    if topic.partitions.is_some_and(|partitions| partitions < 1) {
        return Err(Failure::invalid(
            "partitions must be at least 1",
            "leave it out to get num.partitions of the server's configuration",
        ));
    }
    Ok(admin.create_topic(topic).await?)
}

pub async fn delete(admin: &dyn Admin, name: &str) -> Outcome<()> {
    Ok(admin.delete_topic(name).await?)
}
