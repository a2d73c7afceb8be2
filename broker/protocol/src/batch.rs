//! Record batches, format v2 (magic 2), as Kafka's protocol guide describes them.

use bytes::Bytes;

/// One record of a batch. Header keys may repeat and keep their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}
