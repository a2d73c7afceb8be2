//! Records into a topic, with an answer for each of them.

use std::collections::BTreeMap;

use odradek_broker::client::{Client, ClientError, Placed, Record, TopicRecords};

use super::Outcome;

/// A record to write, or why the text it came from is none.
pub type Draft = Result<(Option<i32>, Record), String>;

/// One for each draft, in their order.
pub type Written = Vec<Result<Placed, String>>;

/// Writes every good draft; a bad one does not keep the others out. Records keep their order within
/// each partition asked for. An error is returned only if nothing at all was written.
pub async fn write(client: &dyn Client, topic: &str, drafts: Vec<Draft>) -> Outcome<Written> {
    let mut written: Written = Vec::with_capacity(drafts.len());
    let mut calls: BTreeMap<Option<i32>, (Vec<usize>, Vec<Record>)> = BTreeMap::new();
    for (index, draft) in drafts.into_iter().enumerate() {
        match draft {
            Ok((partition, record)) => {
                let (places, records) = calls.entry(partition).or_default();
                places.push(index);
                records.push(record);
                written.push(Err("not written".to_owned()));
            }
            Err(why) => written.push(Err(why)),
        }
    }
    let (mut failure, mut any) = (None::<ClientError>, false);
    for (partition, (places, records)) in calls {
        let call = TopicRecords { topic: topic.to_owned(), partition, records };
        match client.produce(call).await {
            Ok(placed) => {
                any = true;
                for (index, placed) in places.into_iter().zip(placed) {
                    written[index] = Ok(placed);
                }
            }
            Err(error) => {
                for index in places {
                    written[index] = Err(error.to_string());
                }
                failure = Some(error);
            }
        }
    }
    match failure {
        Some(error) if !any => Err(error.into()),
        _ => Ok(written),
    }
}
