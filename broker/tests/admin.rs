//! Configurations and administration on a socket, in every version that is served. Error codes and
//! sentences are Kafka's (`ConfigAdminManager`, `ControllerConfigurationValidator`,
//! `ReplicationControlManager`, `LogValidator`).

use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{BrokerId, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use odradek_broker::Broker;
use odradek_broker::client::Principal;
use odradek_broker::config::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[path = "admin/configs.rs"]
mod configs;
#[path = "admin/partitions.rs"]
mod partitions;
#[path = "admin/policies.rs"]
mod policies;

const NONE: i16 = 0;
const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC_EXCEPTION: i16 = 17;
const INVALID_TIMESTAMP: i16 = 32;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const POLICY_VIOLATION: i16 = 44;
const LOG_DIR_NOT_FOUND: i16 = 57;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const UNSUPPORTED_COMPRESSION_TYPE: i16 = 76;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
const INVALID_RECORD: i16 = 87;
const UNKNOWN_TOPIC_ID: i16 = 100;
const MISMATCHED_ENDPOINT_TYPE: i16 = 114;
const UNSUPPORTED_ENDPOINT_TYPE: i16 = 115;

/// The node id of a broker that is not told another one.
const NODE: BrokerId = BrokerId(1);

struct Wire {
    broker: Broker,
    stream: TcpStream,
    dir: tempfile::TempDir,
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn named(topic: &str) -> TopicName {
    TopicName(text(topic))
}

async fn started(dir: &Path) -> (Broker, TcpStream) {
    let broker = Broker::start(Config::demo(dir, 0, 0)).await.unwrap();
    let stream = TcpStream::connect(broker.listeners()[0].address).await.unwrap();
    (broker, stream)
}

impl Wire {
    /// To a broker with the topic `t` of two partitions.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (broker, stream) = started(dir.path()).await;
        let client = broker.client(Principal::internal());
        client.ensure_topic("t", 2, &[]).await.unwrap();
        Self { broker, stream, dir }
    }

    /// The same data folder under a new broker.
    async fn restarted(self) -> Self {
        let Self { broker, dir, .. } = self;
        broker.shutdown().await;
        drop(broker);
        let (broker, stream) = started(dir.path()).await;
        Self { broker, stream, dir }
    }

    async fn call<T: Request>(&mut self, request: &T, version: i16) -> T::Response {
        let header = RequestHeader::default()
            .with_request_api_key(T::KEY)
            .with_request_api_version(version)
            .with_correlation_id(i32::from(version))
            .with_client_id(Some(text("wire")));
        let mut body = BytesMut::new();
        header.encode(&mut body, T::header_version(version)).unwrap();
        request.encode(&mut body, version).unwrap();
        self.stream.write_i32(i32::try_from(body.len()).unwrap()).await.unwrap();
        self.stream.write_all(&body).await.unwrap();
        let length = self.stream.read_i32().await.unwrap();
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.unwrap();
        let mut frame = Bytes::from(frame);
        assert_eq!(frame.get_i32(), i32::from(version));
        if T::Response::header_version(version) >= 1 {
            assert_eq!(frame.get_u8(), 0, "no tagged fields in the header");
        }
        let response = T::Response::decode(&mut frame, version).unwrap();
        assert!(!frame.has_remaining(), "{} bytes too many", frame.remaining());
        response
    }
}
