//! The latest report of each model, from the topics that analytics writes them to.

use std::collections::BTreeMap;
use std::sync::Arc;

use odradek_broker::client::Client;
use serde_json::value::RawValue;

use super::Outcome;
use super::range::{self, Range};

/// The last value of each key, over the given topics; topics that do not exist yet count as empty.
pub async fn list(client: Arc<dyn Client>, topics: &[String]) -> Outcome<Vec<Box<RawValue>>> {
    let mut latest = BTreeMap::new();
    for topic in topics {
        if client.topic(topic).await?.is_none() {
            continue;
        }
        let order = super::cursor::Order::Offset;
        let range = Range { order, ..Range::all(topic, i64::MAX) };
        let mut reader = range::open(client.clone(), range).await?;
        while let Some((_, record)) = reader.next().await? {
            let key = (topic.clone(), record.key.unwrap_or_default());
            let report = record.value.and_then(|value| serde_json::from_slice(&value).ok());
            match report {
                Some(report) => latest.insert(key, report),
                None => latest.remove(&key),
            };
        }
    }
    Ok(latest.into_values().collect())
}
