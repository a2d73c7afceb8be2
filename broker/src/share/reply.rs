//! The reply to ShareFetch, encoded here and not by the `kafka-protocol` crate, which would copy
//! every record into its buffer. A test compares the bytes with the crate's own.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use odradek_log::PartitionId;

use super::partition::Acquired;
use crate::budget::Held;
use crate::dispatch::{Close, IntoReply};
use crate::handlers::Context;
use crate::reply::Reply;

#[derive(Debug)]
pub(crate) struct PartitionReply {
    pub id: PartitionId,
    pub error: Option<ResponseError>,
    pub acknowledge_error: Option<ResponseError>,
    /// Whole batches, as the log keeps them.
    pub records: Vec<Bytes>,
    pub acquired: Vec<Acquired>,
}

impl PartitionReply {
    pub(crate) fn empty(id: PartitionId, error: Option<ResponseError>) -> Self {
        let (records, acquired) = (Vec::new(), Vec::new());
        Self { id, error, acknowledge_error: None, records, acquired }
    }
}

#[derive(Debug, Default)]
pub(crate) struct ShareFetchReply {
    pub throttle_time_ms: i32,
    pub error: Option<ResponseError>,
    pub lock_ms: i32,
    pub partitions: Vec<PartitionReply>,
    /// Its place in the replies' budget.
    pub held: Option<Held>,
}

impl ShareFetchReply {
    pub(crate) fn refused(error: ResponseError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// The body in pieces: heads, and between them the records, uncopied.
    fn encode(mut self) -> Vec<Bytes> {
        let mut out = Pieces::default();
        out.head.put_i32(self.throttle_time_ms);
        out.head.put_i16(self.error.map_or(0, |e| e.code()));
        out.head.put_u8(0); // no message
        out.head.put_i32(self.lock_ms);
        // One entry a topic, in the order in which topics first come.
        let mut topics: Vec<uuid::Uuid> = Vec::new();
        for partition in &self.partitions {
            if !topics.contains(&partition.id.topic_id) {
                topics.push(partition.id.topic_id);
            }
        }
        out.count(topics.len());
        for topic_id in topics {
            let own = |partition: &mut PartitionReply| partition.id.topic_id == topic_id;
            let partitions: Vec<_> = self.partitions.extract_if(.., own).collect();
            out.head.put_slice(topic_id.as_bytes());
            out.count(partitions.len());
            for partition in partitions {
                out.partition(partition);
            }
            out.head.put_u8(0); // tagged fields of the topic
        }
        out.count(0); // node endpoints
        out.head.put_u8(0); // tagged fields
        out.done.push(out.head.freeze());
        out.done
    }
}

#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    head: BytesMut,
}

impl Pieces {
    fn partition(&mut self, reply: PartitionReply) {
        self.head.put_i32(reply.id.partition);
        self.head.put_i16(reply.error.map_or(0, |e| e.code()));
        self.head.put_u8(0); // no message
        self.head.put_i16(reply.acknowledge_error.map_or(0, |e| e.code()));
        match reply.acknowledge_error.map(|error| error.to_string()) {
            None => self.head.put_u8(0),
            Some(message) => {
                self.varint(message.len() + 1);
                self.head.put_slice(message.as_bytes());
            }
        }
        // The leader is told when it is another one: there is none.
        self.head.put_i32(0);
        self.head.put_i32(0);
        self.head.put_u8(0);
        let bytes: usize = reply.records.iter().map(Bytes::len).sum();
        self.varint(bytes + 1);
        for run in reply.records {
            self.done.push(self.head.split().freeze());
            self.done.push(run);
        }
        self.count(reply.acquired.len());
        for acquired in reply.acquired {
            self.head.put_i64(acquired.first);
            self.head.put_i64(acquired.last);
            self.head.put_i16(acquired.deliveries);
            self.head.put_u8(0);
        }
        self.head.put_u8(0);
    }

    fn count(&mut self, count: usize) {
        self.varint(count + 1);
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.head.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.head.put_u8(value as u8);
    }
}

impl IntoReply for ShareFetchReply {
    fn into_reply(mut self, context: &Context) -> Result<Reply, Close> {
        let held = self.held.take();
        Ok(Reply::new(context, 1, self.encode()).with(held))
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ShareFetchResponse;
    use kafka_protocol::messages::share_fetch_response::{
        AcquiredRecords, PartitionData, ShareFetchableTopicResponse,
    };
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use uuid::Uuid;

    use super::*;

    fn partition(topic: u128, partition: i32, records: &[&'static [u8]]) -> PartitionReply {
        let id = PartitionId { topic_id: Uuid::from_u128(topic), partition };
        let mut reply = PartitionReply::empty(id, None);
        reply.records = records.iter().map(|r| Bytes::from_static(r)).collect();
        if !records.is_empty() {
            reply.acquired.push(Acquired { first: 3, last: 200, deliveries: 2 });
        }
        reply
    }

    fn by_the_crate(partition: &PartitionReply) -> PartitionData {
        let acquired = partition.acquired.iter().map(|acquired| {
            AcquiredRecords::default()
                .with_first_offset(acquired.first)
                .with_last_offset(acquired.last)
                .with_delivery_count(acquired.deliveries)
        });
        let message = partition.acknowledge_error.map(|e| StrBytes::from_string(e.to_string()));
        PartitionData::default()
            .with_partition_index(partition.id.partition)
            .with_error_code(partition.error.map_or(0, |e| e.code()))
            .with_error_message(None)
            .with_acknowledge_error_code(partition.acknowledge_error.map_or(0, |e| e.code()))
            .with_acknowledge_error_message(message)
            .with_records(Some(Bytes::from(partition.records.concat())))
            .with_acquired_records(acquired.collect())
    }

    #[test]
    fn a_reply_has_the_bytes_that_the_crates_encoder_makes() {
        let mut failed = partition(2, 0, &[]);
        failed.error = Some(ResponseError::UnknownTopicId);
        failed.acknowledge_error = Some(ResponseError::InvalidRecordState);
        let long: &[u8] = &[7; 300];
        let first = [partition(1, 0, &[b"one", b"two"]), partition(1, 5, &[long])];
        let topic = |id, partitions: Vec<PartitionData>| {
            ShareFetchableTopicResponse::default()
                .with_topic_id(Uuid::from_u128(id))
                .with_partitions(partitions)
        };
        let expected = ShareFetchResponse::default()
            .with_error_message(None)
            .with_acquisition_lock_timeout_ms(30_000)
            .with_responses(vec![
                topic(1, first.iter().map(by_the_crate).collect()),
                topic(2, vec![by_the_crate(&failed)]),
            ]);
        let mut bytes = BytesMut::new();
        expected.encode(&mut bytes, 1).unwrap();
        // Partitions of one topic need not follow each other.
        let [one, other] = first;
        let partitions = vec![one, failed, other];
        let reply = ShareFetchReply { lock_ms: 30_000, partitions, ..ShareFetchReply::default() };
        assert_eq!(reply.encode().concat(), bytes.to_vec());
    }
}
