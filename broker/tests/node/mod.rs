//! A running broker and connections to it, for all tests that speak to a socket.

#![allow(dead_code, reason = "each file of tests is a program of its own and uses a part of this")]

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::{GroupId, RequestHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use odradek_broker::Broker;
use odradek_broker::client::Principal;
use odradek_broker::config::Config;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A broker with a data folder of its own.
pub struct Node {
    pub broker: Broker,
    pub dir: TempDir,
}

impl Node {
    pub async fn new() -> Self {
        Self::over(tempfile::tempdir().unwrap()).await
    }

    /// With the topic `t` of two partitions.
    pub async fn with_topic() -> Self {
        let node = Self::new().await;
        let client = node.broker.client(Principal::internal());
        client.ensure_topic("t", 2, &[]).await.unwrap();
        node
    }

    async fn over(dir: TempDir) -> Self {
        let broker = Broker::start(Config::demo(dir.path(), 0, 0)).await.unwrap();
        Self { broker, dir }
    }

    /// The same data folder under a new broker, after a clean stop.
    pub async fn restarted(self) -> Self {
        let Self { broker, dir } = self;
        broker.shutdown().await;
        drop(broker);
        Self::over(dir).await
    }

    /// To the first listener.
    pub async fn connect(&self) -> Connection {
        self.connect_to(0).await
    }

    pub async fn connect_to(&self, listener: usize) -> Connection {
        let address = self.broker.listeners()[listener].address;
        Connection { stream: TcpStream::connect(address).await.unwrap(), correlation_id: 0 }
    }
}

pub struct Connection {
    pub stream: TcpStream,
    /// Of the request that was sent last.
    pub correlation_id: i32,
}

impl Connection {
    pub async fn call<T: Request>(&mut self, request: &T, version: i16) -> T::Response {
        self.send(request, version).await;
        self.reply::<T>(version, self.correlation_id).await
    }

    pub async fn send<T: Request>(&mut self, request: &T, version: i16) {
        self.correlation_id += 1;
        let header = RequestHeader::default()
            .with_request_api_key(T::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(text("wire")));
        let mut body = BytesMut::new();
        header.encode(&mut body, T::header_version(version)).unwrap();
        request.encode(&mut body, version).unwrap();
        self.send_frame(&body).await;
    }

    pub async fn send_frame(&mut self, frame: &[u8]) {
        self.stream.write_i32(i32::try_from(frame.len()).unwrap()).await.unwrap();
        self.stream.write_all(frame).await.unwrap();
    }

    pub async fn reply<T: Request>(&mut self, version: i16, correlation_id: i32) -> T::Response {
        let mut frame = self.frame().await;
        assert_eq!(frame.get_i32(), correlation_id);
        if T::Response::header_version(version) >= 1 {
            assert_eq!(frame.get_u8(), 0, "no tagged fields in the header");
        }
        let response = T::Response::decode(&mut frame, version).unwrap();
        assert!(!frame.has_remaining(), "{} bytes too many", frame.remaining());
        response
    }

    /// One reply without its length.
    pub async fn frame(&mut self) -> Bytes {
        let length = self.stream.read_i32().await.unwrap();
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.unwrap();
        frame.into()
    }

    /// Whether the broker closes this connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        !matches!(self.stream.read(&mut byte).await, Ok(1..))
    }
}

/// A broker with the topic `t` of two partitions, and the one connection to it.
pub struct Wire {
    pub node: Node,
    pub connection: Connection,
}

impl Wire {
    pub async fn new() -> Self {
        Self::to(Node::with_topic().await).await
    }

    async fn to(node: Node) -> Self {
        let connection = node.connect().await;
        Self { node, connection }
    }

    pub async fn restarted(self) -> Self {
        Self::to(self.node.restarted().await).await
    }

    pub async fn call<T: Request>(&mut self, request: &T, version: i16) -> T::Response {
        self.connection.call(request, version).await
    }
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn named(topic: &str) -> TopicName {
    TopicName(text(topic))
}

pub fn group(name: &str) -> GroupId {
    GroupId(text(name))
}
