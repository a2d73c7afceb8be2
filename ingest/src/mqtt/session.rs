//! One connection to an MQTT server, from its opening to its loss.
//!
//! Invariants:
//! 1. **An acknowledgement leaves only when the message's records are durable**, and in the order
//!    in which the messages came. A message that makes no record (left out, retained, empty) is
//!    acknowledged with those around it.
//! 2. Nothing is read while a unit is being committed. Memory holds one unit and one message; the
//!    rest waits at the server, which sends only so many messages without an acknowledgement.
//! 3. What was read is committed even when the connection is lost before it can be acknowledged.
//!    The server then sends it again: **at least once**, never less.
//! 4. Any packet is a sign of life; silence of messages alone never drops a connection.

use std::io::ErrorKind;

use futures::{SinkExt, StreamExt};
use odradek_broker::client::ClientError;
use rand::Rng;
use rand::distr::Alphanumeric;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, Publish, SubAck,
    Subscribe, SubscribeFilter, SubscribeReasonCode,
};
use rumqttc::mqttbytes::{Error as MqttError, QoS};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Framed;

use super::packets::{Incoming, Packets};
use super::plan::MqttPlan;
use crate::feed::batch::{Batch, Frame};
use crate::feed::decode::undecodable;
use crate::feed::recent::Recent;
use crate::feed::transport::{self, Transport};
use crate::limits::{self, CONNECT_TIMEOUT};
use crate::meter::SourceState;
use crate::plan::Plan;
use crate::supervise::{Context, RunError};

type Connection = Framed<Box<dyn Transport>, Packets>;

/// The only subscription of a connection.
const SUBSCRIPTION: u16 = 1;

/// Runs until the connection is lost, and says why.
pub(crate) async fn run(context: &Context, plan: &Plan, feed: &MqttPlan) -> RunError {
    let mut session = match Session::open(context, plan, feed).await {
        Ok(session) => session,
        Err(error) => return error,
    };
    let error = match session.pump().await {
        Ok(never) => match never {},
        Err(error) => error,
    };
    match session.store().await {
        Ok(()) => error,
        Err(unstored) => unstored,
    }
}

enum Never {}

struct Session<'a> {
    context: &'a Context,
    plan: &'a Plan,
    feed: &'a MqttPlan,
    connection: Connection,
    batch: Batch,
    /// What answers the messages since the last commit.
    answers: Vec<Packet>,
    /// When the first of them came.
    since: Option<Instant>,
    /// Until when the server must have answered the subscription; `None`: it has.
    subscribed_by: Option<Instant>,
    last_inbound: Instant,
    last_message: Instant,
    /// What the state says: messages come, or none does for a while.
    shown: Shown,
    next_ping: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    Connected,
    Receiving,
    Quiet,
}

impl<'a> Session<'a> {
    async fn open(
        context: &'a Context,
        plan: &'a Plan,
        feed: &'a MqttPlan,
    ) -> Result<Self, RunError> {
        let server = &feed.server;
        context.meter.set_detail(format!("connecting to {}", server.host));
        let connection = match timeout(CONNECT_TIMEOUT, connect(plan, feed)).await {
            Ok(connection) => connection?,
            Err(_) => {
                let message = format!("{} did not answer within {CONNECT_TIMEOUT:?}", server.host);
                return Err(RunError::retry("timeout", message));
            }
        };
        let now = Instant::now();
        Ok(Self {
            context,
            plan,
            feed,
            connection,
            batch: Batch::default(),
            answers: Vec::new(),
            since: None,
            subscribed_by: Some(now + CONNECT_TIMEOUT),
            last_inbound: now,
            last_message: now,
            shown: Shown::Connected,
            next_ping: now + feed.ping,
        })
    }

    async fn pump(&mut self) -> Result<Never, RunError> {
        let filters = self.feed.reader.filters.iter();
        let filters =
            filters.map(|f| SubscribeFilter::new(f.as_str().to_owned(), self.feed.qos)).collect();
        let subscribe = Subscribe { pkid: SUBSCRIPTION, filters };
        self.send([Packet::Subscribe(subscribe)]).await?;
        loop {
            self.do_what_is_due().await?;
            let next = timeout_at(self.next_deadline(), self.connection.next()).await;
            if let Ok(incoming) = next {
                self.receive(incoming).await?;
            }
        }
    }

    async fn receive(
        &mut self,
        incoming: Option<Result<Incoming, MqttError>>,
    ) -> Result<(), RunError> {
        let incoming = match incoming {
            Some(Ok(incoming)) => incoming,
            Some(Err(error)) => return Err(lost(&error)),
            None => return Err(RunError::retry("close", "the server closed the connection")),
        };
        self.last_inbound = Instant::now();
        match incoming {
            Incoming::Packet(Packet::Publish(publish)) => self.take(publish, None).await,
            Incoming::TooLarge(publish, bytes) => self.take(publish, Some(bytes)).await,
            Incoming::Packet(Packet::SubAck(answer)) => self.subscribed(&answer),
            // The second half of QoS 2, which only a subscription of others can have asked for.
            Incoming::Packet(Packet::PubRel(release)) => {
                self.send([Packet::PubComp(PubComp::new(release.pkid))]).await
            }
            Incoming::Packet(Packet::PingResp) => Ok(()),
            Incoming::Packet(other) => {
                let message = format!("the server sent a packet {:?}", other.packet_type());
                Err(RunError::retry("protocol", message))
            }
        }
    }

    /// `skipped`: the bytes of a payload that was too long to be taken.
    async fn take(&mut self, publish: Publish, skipped: Option<usize>) -> Result<(), RunError> {
        self.last_message = self.last_inbound;
        let (meter, reader) = (&self.context.meter, &self.feed.reader);
        if self.shown != Shown::Receiving {
            self.shown = Shown::Receiving;
            meter.set_state(SourceState::Running, "receiving");
        }
        let Ok(topic) = std::str::from_utf8(&publish.topic) else {
            return Err(RunError::retry("protocol", "the server sent a topic that is not UTF-8"));
        };
        self.since.get_or_insert(self.last_inbound);
        if reader.takes(topic, skipped.unwrap_or(publish.payload.len()), publish.retain) {
            let documents = match skipped {
                None => reader.documents(topic, &publish.payload, publish.retain),
                Some(bytes) => {
                    let most = limits::MQTT_MESSAGE_BYTES_MAX;
                    let detail = format!("a payload of {bytes} bytes; with its topic {most} fit");
                    Err(undecodable("too_large", detail))
                }
            };
            let frame = Frame { bytes: &publish.payload, documents, mqtt_topic: Some(topic) };
            self.batch.take(frame, self.plan, &[], &mut Recent::new(1), meter)?;
        } else {
            meter.ignored();
        }
        self.answers.extend(match publish.qos {
            QoS::AtMostOnce => None,
            QoS::AtLeastOnce => Some(Packet::PubAck(PubAck::new(publish.pkid))),
            QoS::ExactlyOnce => Some(Packet::PubRec(PubRec::new(publish.pkid))),
        });
        let full = self.batch.full() || self.answers.len() >= limits::FRAMES_PER_UNIT_MAX;
        if full { self.commit().await } else { Ok(()) }
    }

    fn subscribed(&mut self, answer: &SubAck) -> Result<(), RunError> {
        let filters = &self.feed.reader.filters;
        if answer.pkid != SUBSCRIPTION || answer.return_codes.len() != filters.len() {
            return Err(RunError::retry("protocol", "the server answered another subscription"));
        }
        for (filter, code) in filters.iter().zip(&answer.return_codes) {
            let filter = filter.as_str();
            match code {
                SubscribeReasonCode::Failure => {
                    let what = "the server refuses the subscription to";
                    let message = format!("{what} {filter:?}; look at its access rules");
                    return Err(RunError::retry("subscribe", message));
                }
                SubscribeReasonCode::Success(granted) if *granted < self.feed.qos => {
                    let source = &self.plan.name;
                    tracing::warn!(%source, filter, "only QoS 0 is granted: messages may be lost");
                }
                SubscribeReasonCode::Success(_) => {}
            }
        }
        self.subscribed_by = None;
        self.context.meter.begin_health();
        if self.shown == Shown::Connected {
            self.context.meter.set_state(SourceState::Running, "connected, no message yet");
        }
        Ok(())
    }

    fn next_deadline(&self) -> Instant {
        let feed = self.feed;
        let mut next = self.next_ping.min(self.last_inbound + feed.idle_timeout);
        let flush = self.since.map(|since| since + limits::FRAME_LINGER);
        let quiet = (self.shown != Shown::Quiet).then(|| self.last_message + feed.quiet_after);
        for deadline in [flush, quiet, self.subscribed_by].into_iter().flatten() {
            next = next.min(deadline);
        }
        next
    }

    async fn do_what_is_due(&mut self) -> Result<(), RunError> {
        let now = Instant::now();
        let feed = self.feed;
        if self.since.is_some_and(|since| now >= since + limits::FRAME_LINGER) {
            self.commit().await?;
        }
        if now >= self.last_inbound + feed.idle_timeout {
            let message = format!("no packet for {:?}, not even a pong", feed.idle_timeout);
            return Err(RunError::retry("idle", message));
        }
        if self.subscribed_by.is_some_and(|by| now >= by) {
            let message = "the server did not answer the subscription";
            return Err(RunError::retry("timeout", message));
        }
        self.ping_if_due().await?;
        if self.shown != Shown::Quiet && now >= self.last_message + feed.quiet_after {
            self.shown = Shown::Quiet;
            let detail = "connected, but no message comes";
            self.context.meter.set_state(SourceState::Quiet, detail);
        }
        Ok(())
    }

    async fn ping_if_due(&mut self) -> Result<(), RunError> {
        let now = Instant::now();
        if now < self.next_ping {
            return Ok(());
        }
        self.next_ping = now + self.feed.ping;
        self.send([Packet::PingReq]).await
    }

    /// Invariant 1: stores, then answers.
    async fn commit(&mut self) -> Result<(), RunError> {
        self.store().await?;
        self.since = None;
        let answers = std::mem::take(&mut self.answers);
        self.send(answers).await
    }

    /// Makes durable what was read, however long it takes. While the log takes nothing, the server
    /// hears pings, so that it keeps the connection and its messages.
    async fn store(&mut self) -> Result<(), RunError> {
        let mut wait = limits::COMMIT_RETRY_MIN;
        while let Some((unit, tally)) = self.batch.unit(self.plan) {
            match self.context.commit(unit, tally).await {
                Ok(_) => break,
                Err(ClientError::Unavailable(why)) => {
                    let detail = format!("waiting: the log cannot take records now: {why}");
                    tracing::warn!(source = %self.plan.name, "{detail}");
                    self.context.meter.set_state(SourceState::BackingOff, detail);
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(limits::COMMIT_RETRY_MAX);
                    // A connection that is gone shows itself when the log works again.
                    self.ping_if_due().await.ok();
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.batch.clear();
        // Nothing was read meanwhile; the server's silence says nothing.
        self.last_inbound = Instant::now();
        if wait > limits::COMMIT_RETRY_MIN {
            self.shown = Shown::Receiving;
            self.context.meter.set_state(SourceState::Running, "receiving");
        }
        Ok(())
    }

    async fn send(&mut self, packets: impl IntoIterator<Item = Packet>) -> Result<(), RunError> {
        send(&mut self.connection, packets).await
    }
}

async fn send(
    connection: &mut Connection,
    packets: impl IntoIterator<Item = Packet>,
) -> Result<(), RunError> {
    let write = async {
        for packet in packets {
            connection.feed(packet).await?;
        }
        connection.flush().await
    };
    match timeout(limits::WRITE_TIMEOUT, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(lost(&error)),
        Err(_) => Err(RunError::retry("idle", "the server takes nothing any more")),
    }
}

/// TCP, TLS, CONNECT and the server's consent.
async fn connect(plan: &Plan, feed: &MqttPlan) -> Result<Connection, RunError> {
    let server = &feed.server;
    let tls = match server.tls {
        true => Some(transport::tls_config(server.authority.clone()).await?),
        false => None,
    };
    let transport = transport::open(&server.host, server.port, tls.as_ref()).await?;
    let mut connection = Framed::new(transport, Packets::new(limits::MQTT_MESSAGE_BYTES_MAX));
    let mut hello = Connect::new(feed.client_id.clone().unwrap_or_else(any_client_id));
    hello.keep_alive = u16::try_from(feed.idle_timeout.as_secs()).unwrap_or(u16::MAX).max(1);
    hello.clean_session = !feed.persistent;
    if let Some(login) = &feed.login {
        match login.password().await? {
            Some(password) => hello.set_credentials(login.user.clone(), password),
            None => hello.set_username(login.user.clone()),
        };
    }
    send(&mut connection, [Packet::Connect(hello)]).await?;
    let closed = |cause, how: String| {
        let host = &server.host;
        let message = format!(
            "{host} closed the connection instead of an answer{how}; does it want TLS (mqtts://)?"
        );
        Err(RunError::retry(cause, message))
    };
    match connection.next().await {
        Some(Ok(Incoming::Packet(Packet::ConnAck(answer)))) => {
            consent(plan, feed, &answer)?;
            Ok(connection)
        }
        // Another kind is no error of the connection: it ended in the middle of what is no packet.
        Some(Err(MqttError::Io(error))) if error.kind() != ErrorKind::Other => {
            closed("reset", format!(" ({error})"))
        }
        Some(_) => {
            let message = format!(
                "{} does not answer as an MQTT server; is the port right, does it want TLS \
                 (mqtts://)?",
                server.host
            );
            Err(RunError::retry("protocol", message))
        }
        None => closed("close", String::new()),
    }
}

fn consent(plan: &Plan, feed: &MqttPlan, answer: &ConnAck) -> Result<(), RunError> {
    let host = &feed.server.host;
    let refused = |cause, why: &str| Err(RunError::retry(cause, format!("{host} {why}")));
    match answer.code {
        ConnectReturnCode::Success => {
            let (source, resumed) = (&plan.name, answer.session_present);
            tracing::info!(%source, resumed, "connected to {host}");
            Ok(())
        }
        ConnectReturnCode::BadUserNamePassword => {
            refused("login", "refuses the user or the password")
        }
        ConnectReturnCode::NotAuthorized => refused(
            "login",
            "lets nobody in without a login, or not with this one; look at user and password",
        ),
        ConnectReturnCode::BadClientId => refused("login", "refuses the client_id"),
        ConnectReturnCode::RefusedProtocolVersion => {
            refused("protocol", "does not speak MQTT 3.1.1")
        }
        ConnectReturnCode::ServiceUnavailable => refused("close", "is not available now"),
    }
}

/// Of the form that every server must take: 23 letters and digits at most.
fn any_client_id() -> String {
    let random = rand::rng().sample_iter(Alphanumeric).take(16).map(char::from);
    "odradek".chars().chain(random).collect()
}

fn lost(error: &MqttError) -> RunError {
    let cause = if matches!(error, MqttError::Io(_)) { "reset" } else { "protocol" };
    RunError::retry(cause, format!("the connection is lost: {error}"))
}
