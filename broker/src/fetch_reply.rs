//! The reply to Fetch, encoded here and not by the `kafka-protocol` crate, which would copy every
//! record into its buffer. A test compares the bytes with the crate's own for every version.

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use odradek_log::{AbortedTransaction, Ends};
use uuid::Uuid;

use crate::budget::Held;
use crate::dispatch::{Close, IntoReply};
use crate::fetch_session::Wanted;
use crate::handlers::Context;
use crate::reply::Reply;

/// From this version on: compact lengths and tagged fields.
const FLEXIBLE_FROM: i16 = 12;

/// What there was to read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// Runs of whole batches, as the log keeps them.
    pub batches: Vec<Bytes>,
    /// `None`: the reader did not ask for committed records only.
    pub aborted: Option<Vec<AbortedTransaction>>,
    /// The reader has read further than its epoch goes.
    pub diverging: Option<EpochEnd>,
}

impl Found {
    pub(crate) fn record_bytes(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }
}

/// An epoch of leaders, and the offset behind its last record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EpochEnd {
    pub epoch: i32,
    pub offset: i64,
}

#[derive(Debug)]
pub(crate) struct PartitionReply {
    pub topic: String,
    pub topic_id: Uuid,
    pub partition: i32,
    pub error: Option<ResponseError>,
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub found: Found,
}

impl PartitionReply {
    pub(crate) fn new(
        wanted: &Wanted,
        ends: Option<Ends>,
        read: Result<Found, ResponseError>,
    ) -> Self {
        // An error tells no offsets, as in Kafka: a client asks ListOffsets for them.
        let (found, error, ends) = match read {
            Ok(found) => (found, None, ends),
            Err(error) => (Found { aborted: unread(error), ..Found::default() }, Some(error), None),
        };
        Self {
            topic: wanted.topic.clone(),
            topic_id: wanted.topic_id,
            partition: wanted.partition,
            error,
            high_watermark: ends.map_or(-1, |e| e.log_end_offset),
            last_stable_offset: ends.map_or(-1, |e| e.last_stable_offset),
            log_start_offset: ends.map_or(-1, |e| e.log_start_offset),
            found,
        }
    }

    pub(crate) fn record_bytes(&self) -> usize {
        self.found.record_bytes()
    }
}

/// Kafka's list of aborted transactions is empty, not null, where it had no log to look into.
fn unread(error: ResponseError) -> Option<Vec<AbortedTransaction>> {
    let no_log = matches!(
        error,
        ResponseError::UnknownTopicOrPartition
            | ResponseError::UnknownTopicId
            | ResponseError::TopicAuthorizationFailed
    );
    no_log.then(Vec::new)
}

#[derive(Debug)]
pub(crate) struct FetchReply {
    pub throttle_time_ms: i32,
    error: Option<ResponseError>,
    session_id: i32,
    partitions: Vec<PartitionReply>,
    /// Its place in the replies' budget.
    pub held: Option<Held>,
}

impl FetchReply {
    pub(crate) fn refused(error: ResponseError) -> Self {
        Self { error: Some(error), ..Self::new(0, Vec::new()) }
    }

    pub(crate) fn new(session_id: i32, partitions: Vec<PartitionReply>) -> Self {
        Self { throttle_time_ms: 0, error: None, session_id, partitions, held: None }
    }

    /// The body in pieces: heads, and between them the records, uncopied.
    fn encode(self, version: i16) -> Vec<Bytes> {
        let mut out = Pieces { version, done: Vec::new(), head: BytesMut::new() };
        out.head.put_i32(self.throttle_time_ms);
        if version >= 7 {
            out.head.put_i16(self.error.map_or(0, |e| e.code()));
            out.head.put_i32(self.session_id);
        }
        // Partitions of one topic that follow each other share one topic entry.
        let same =
            |a: &PartitionReply, b: &PartitionReply| a.topic == b.topic && a.topic_id == b.topic_id;
        let mut partitions = self.partitions;
        let topics = partitions.chunk_by(same).count();
        out.count(topics);
        while !partitions.is_empty() {
            let first = &partitions[0];
            let run = partitions.iter().take_while(|p| same(first, p)).count();
            let rest = partitions.split_off(run);
            out.topic(partitions);
            partitions = rest;
        }
        out.no_tags();
        out.finish()
    }
}

struct Pieces {
    version: i16,
    done: Vec<Bytes>,
    head: BytesMut,
}

impl Pieces {
    fn flexible(&self) -> bool {
        self.version >= FLEXIBLE_FROM
    }

    fn topic(&mut self, partitions: Vec<PartitionReply>) {
        let first = &partitions[0];
        match self.version {
            13.. => self.head.put_slice(first.topic_id.as_bytes()),
            FLEXIBLE_FROM.. => {
                self.varint(first.topic.len() + 1);
                self.head.put_slice(first.topic.as_bytes());
            }
            // A topic name has at most 249 bytes.
            _ => {
                self.head.put_u16(u16::try_from(first.topic.len()).unwrap_or(u16::MAX));
                self.head.put_slice(first.topic.as_bytes());
            }
        }
        self.count(partitions.len());
        for partition in partitions {
            self.partition(partition);
        }
        self.no_tags();
    }

    fn partition(&mut self, reply: PartitionReply) {
        self.head.put_i32(reply.partition);
        self.head.put_i16(reply.error.map_or(0, |e| e.code()));
        self.head.put_i64(reply.high_watermark);
        self.head.put_i64(reply.last_stable_offset);
        if self.version >= 5 {
            self.head.put_i64(reply.log_start_offset);
        }
        self.aborted(reply.found.aborted.as_deref());
        if self.version >= 11 {
            self.head.put_i32(-1); // preferred read replica
        }
        let bytes = reply.record_bytes();
        if self.flexible() {
            self.varint(bytes + 1);
        } else {
            self.head.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        for run in reply.found.batches {
            self.done.push(self.head.split().freeze());
            self.done.push(run);
        }
        match reply.found.diverging.filter(|_| self.flexible()) {
            Some(ended) => self.diverging(ended),
            None => self.no_tags(),
        }
    }

    /// The one tagged field of a partition: tag 0, of so many bytes.
    fn diverging(&mut self, ended: EpochEnd) {
        const BYTES: u8 = 4 + 8 + 1;
        self.head.put_slice(&[1, 0, BYTES]);
        self.head.put_i32(ended.epoch);
        self.head.put_i64(ended.offset);
        self.no_tags();
    }

    fn aborted(&mut self, aborted: Option<&[AbortedTransaction]>) {
        let Some(aborted) = aborted else {
            if self.flexible() {
                self.varint(0);
            } else {
                self.head.put_i32(-1);
            }
            return;
        };
        self.count(aborted.len());
        for one in aborted {
            self.head.put_i64(one.producer_id);
            self.head.put_i64(one.first_offset);
            self.no_tags();
        }
    }

    fn count(&mut self, count: usize) {
        if self.flexible() {
            self.varint(count + 1);
        } else {
            self.head.put_u32(u32::try_from(count).unwrap_or(u32::MAX));
        }
    }

    fn no_tags(&mut self) {
        if self.flexible() {
            self.head.put_u8(0);
        }
    }

    fn varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.head.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.head.put_u8(value as u8);
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(self.head.freeze());
        self.done
    }
}

impl IntoReply for FetchReply {
    fn into_reply(mut self, context: &Context) -> Result<Reply, Close> {
        let header_version = i16::from(context.version >= FLEXIBLE_FROM);
        let held = self.held.take();
        Ok(Reply::new(context, header_version, self.encode(context.version)).with(held))
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction as Listed, EpochEndOffset, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{BrokerId, FetchResponse, ProducerId, TopicName};
    use kafka_protocol::protocol::{Encodable, StrBytes};

    use super::*;

    fn partition(topic: &str, id: u128, index: i32, records: &[&'static [u8]]) -> PartitionReply {
        PartitionReply {
            topic: topic.to_owned(),
            topic_id: Uuid::from_u128(id),
            partition: index,
            error: (index == 2).then_some(ResponseError::OffsetOutOfRange),
            high_watermark: 77,
            last_stable_offset: 70,
            log_start_offset: 3,
            found: Found {
                batches: records.iter().map(|r| Bytes::from_static(r)).collect(),
                aborted: [None, Some(vec![aborted(9, 5), aborted(8, 6)]), Some(Vec::new())]
                    [usize::try_from(index).expect("small")]
                .clone(),
                diverging: (index == 1).then_some(EpochEnd { epoch: 3, offset: 66 }),
            },
        }
    }

    fn aborted(producer_id: i64, first_offset: i64) -> AbortedTransaction {
        let (last_offset, last_stable_offset) = (first_offset + 1, first_offset + 2);
        AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset }
    }

    fn by_the_crate(partitions: &[&[PartitionReply]], version: i16) -> Vec<u8> {
        let topics = partitions.iter().map(|run| {
            let data = run.iter().map(|p| {
                let mut data = PartitionData::default()
                    .with_partition_index(p.partition)
                    .with_error_code(p.error.map_or(0, |e| e.code()))
                    .with_high_watermark(p.high_watermark)
                    .with_last_stable_offset(p.last_stable_offset)
                    .with_aborted_transactions(p.found.aborted.as_ref().map(|aborted| {
                        let listed = aborted.iter().map(|one| {
                            Listed::default()
                                .with_producer_id(ProducerId(one.producer_id))
                                .with_first_offset(one.first_offset)
                        });
                        listed.collect()
                    }))
                    .with_preferred_read_replica(BrokerId(-1))
                    .with_records(Some(Bytes::from(p.found.batches.concat())));
                if version >= 5 {
                    data.log_start_offset = p.log_start_offset;
                }
                if let Some(ended) = p.found.diverging.filter(|_| version >= FLEXIBLE_FROM) {
                    data.diverging_epoch = EpochEndOffset::default()
                        .with_epoch(ended.epoch)
                        .with_end_offset(ended.offset);
                }
                data
            });
            let topic = FetchableTopicResponse::default().with_partitions(data.collect());
            match version {
                13.. => topic.with_topic_id(run[0].topic_id),
                _ => {
                    let name = StrBytes::from_string(run[0].topic.clone());
                    topic.with_topic(TopicName(name))
                }
            }
        });
        let mut response = FetchResponse::default().with_responses(topics.collect());
        if version >= 7 {
            response.session_id = 5;
        }
        let mut bytes = BytesMut::new();
        response.encode(&mut bytes, version).unwrap();
        bytes.to_vec()
    }

    #[test]
    fn every_version_has_the_bytes_that_the_crates_encoder_makes() {
        let runs = || {
            vec![
                vec![partition("a", 1, 0, &[b"one", b"two"]), partition("a", 1, 1, &[])],
                vec![partition("b", 2, 2, &[])],
                vec![partition("c", 3, 0, &[&[7; 300]])],
            ]
        };
        for version in 4..=18 {
            let expected =
                by_the_crate(&runs().iter().map(Vec::as_slice).collect::<Vec<_>>(), version);
            let reply = FetchReply::new(5, runs().into_iter().flatten().collect());
            assert_eq!(reply.encode(version).concat(), expected, "version {version}");
        }
    }
}
