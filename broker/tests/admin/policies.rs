use bytes::Bytes;
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, ProduceRequest};
use odradek_protocol::batch::{BatchBuilder, BatchHeader};
use odradek_protocol::compression::Compression;

use super::*;

/// Records as pairs of key and time.
fn batch(codec: Compression, records: &[(Option<&str>, i64)]) -> Bytes {
    let mut builder = BatchBuilder::new(codec);
    for (key, time_ms) in records {
        builder.push(*time_ms, key.map(str::as_bytes), Some(&[b'v'; 100]), &[]);
    }
    builder.build(0)
}

impl Wire {
    async fn configure(&mut self, pairs: &[(&str, &str)]) {
        let configs = pairs.iter().map(|(key, value)| {
            AlterableConfig::default().with_name(text(key)).with_value(Some(text(value)))
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text("t"))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(self.call(&request, 1).await.responses[0].error_code, NONE);
    }

    pub(super) async fn produce(&mut self, batch: Bytes, version: i16) -> PartitionProduceResponse {
        let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch));
        let topic =
            TopicProduceData::default().with_name(named("t")).with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![topic]);
        let mut response = self.call(&request, version).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Headers of the batches of `t`, partition 0.
    async fn stored(&self) -> Vec<BatchHeader> {
        let folder = self.node.dir.path().join("t-0");
        self.node.broker.shutdown().await;
        let bytes = Bytes::from(std::fs::read(folder.join("00000000000000000000.log")).unwrap());
        odradek_protocol::batch::split(&bytes).map(|batch| batch.unwrap().0).collect()
    }
}

#[tokio::test]
async fn a_topics_policies_hold_from_the_moment_they_are_set() {
    let mut wire = Wire::new().await;
    let keyless = batch(Compression::None, &[(Some("a"), 1), (None, 1)]);
    assert_eq!(wire.produce(keyless.clone(), 9).await.error_code, NONE);
    wire.configure(&[("cleanup.policy", "compact")]).await;
    for version in [3, 8, 9, 12] {
        let refused = wire.produce(keyless.clone(), version).await;
        assert_eq!(refused.error_code, INVALID_RECORD);
        assert_eq!((refused.base_offset, refused.log_append_time_ms), (-1, -1));
        if version < 8 {
            continue;
        }
        let [error] = refused.record_errors.as_slice() else { panic!("one record is at fault") };
        assert_eq!(error.batch_index, 1);
        assert_eq!(
            error.batch_index_error_message.as_deref(),
            Some("Compacted topic cannot accept message without key in topic partition t-0")
        );
        assert!(refused.error_message.unwrap().contains("1 record errors in total"));
    }
    wire.configure(&[("cleanup.policy", "delete"), ("message.timestamp.before.max.ms", "5")]).await;
    assert_eq!(wire.produce(keyless.clone(), 9).await.error_code, INVALID_TIMESTAMP);
    let large = [("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "150")];
    wire.configure(&large).await;
    assert_eq!(wire.produce(keyless, 9).await.error_code, MESSAGE_TOO_LARGE);
    let small = wire.produce(batch(Compression::Gzip, &[(None, 1)]), 9).await;
    assert_eq!(small.error_code, NONE);
    assert!(small.log_append_time_ms > 1);
}

#[tokio::test]
async fn a_batch_is_stored_under_the_topics_codec() {
    let mut wire = Wire::new().await;
    for wanted in ["producer", "lz4", "uncompressed", "gzip"] {
        wire.configure(&[("compression.type", wanted)]).await;
        let sent = batch(Compression::Zstd, &[(None, 1), (None, 2)]);
        assert_eq!(wire.produce(sent, 9).await.error_code, NONE);
    }
    let codecs: Vec<_> =
        wire.stored().await.iter().map(|header| header.compression().unwrap().name()).collect();
    assert_eq!(codecs, ["zstd", "lz4", "none", "gzip"]);
}

#[tokio::test]
async fn clients_too_old_for_zstd_may_not_send_it() {
    let mut wire = Wire::new().await;
    let sent = batch(Compression::Zstd, &[(None, 1)]);
    assert_eq!(wire.produce(sent.clone(), 6).await.error_code, UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(wire.produce(sent, 7).await.error_code, NONE);
}
