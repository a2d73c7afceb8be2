//! From one frame to one reply: header, version, authentication gate, decode guard, handler.
//!
//! [`APIS`] is the one table of what this broker serves. The ApiVersions reply, metric labels and
//! the compatibility page are made from it; an API stands here only if it works.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{self, ApiKey};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Request};
use odradek_protocol::frame::RequestHeader;
use odradek_protocol::guard;

use crate::broker::Broker;
use crate::client::Principal;
use crate::diagnose;
use crate::handlers::throttle::Timed;
use crate::handlers::{self, Context, api_versions, sasl_authenticate};
use crate::quota::{Kind, Worked};
use crate::reply::Reply;
use crate::session::{Session, Standing};

/// Why a request gets no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Close {
    /// The connection cannot go on; the sentence goes to the log and the diary.
    Because(String),
    /// Nothing is wrong: a produce request with `acks=0` wants no answer.
    NothingToSay,
    /// The connection cannot go on, and the diary has the reason already.
    Diagnosed,
}

impl Close {
    pub(crate) fn because(why: impl Into<String>) -> Self {
        Self::Because(why.into())
    }
}

pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Reply, Close>> + Send>>;

/// One row of the table of APIs.
pub(crate) struct Api {
    pub key: i16,
    pub name: &'static str,
    pub oldest: i16,
    pub newest: i16,
    /// Served before a SASL login is complete.
    pub before_login: bool,
    /// May be worked on while earlier requests of the connection still wait for their replies.
    /// Only Produce: its appends are handed to the log in the order of the requests, and the
    /// waiting for the sync overlaps.
    pub worked_ahead: bool,
    /// Fields and behaviours of Kafka's that are deliberately not done, each a clause that says
    /// which and why; the page of `compatibility` shows them.
    pub left_out: &'static [&'static str],
    pub handler: fn(Context, Bytes) -> Answer,
    /// Decodes a body and encodes it again, without a handler: what the fuzz targets hold against
    /// the decode guard.
    pub recode: fn(Bytes, i16) -> Result<Recoded, String>,
}

/// A body that was decoded, and encoded again.
pub(crate) struct Recoded {
    /// Of the body, behind the request.
    pub left_bytes: usize,
    pub encoded: Bytes,
}

/// `unthrottled`: the reply has no place for a throttle time.
macro_rules! api {
    (unthrottled $($row:tt)*) => { api!(@row []; $($row)*) };
    (@row [$($throttled:ident)?];
     $module:ident :: $request:ident, $oldest:literal ..= $newest:literal
     $(, $field:ident = $value:expr)*) => {{
        #[allow(unused_mut)]
        let mut api = Api {
            key: <messages::$request as Request>::KEY,
            name: Api::named(stringify!($request)),
            oldest: $oldest,
            newest: $newest,
            before_login: false,
            worked_ahead: false,
            left_out: &[],
            handler: |context, body| {
                Box::pin(async move {
                    let request = decode::<messages::$request>(&context, body)?;
                    #[allow(unused_mut)]
                    let mut response = handlers::$module::handle(&context, request).await?;
                    let _throttle_time_ms = context.throttle_time_ms();
                    $(response.$throttled = _throttle_time_ms;)?
                    response.into_reply(&context)
                })
            },
            recode: recode::<messages::$request>,
        };
        $(api.$field = $value;)*
        api
    }};
    ($($row:tt)*) => { api!(@row [throttle_time_ms]; $($row)*) };
}

/// In the order of their keys.
pub(crate) const APIS: &[Api] = &[
    api!(
        produce::ProduceRequest,
        3..=13,
        worked_ahead = true,
        left_out =
            &["CurrentLeader and NodeEndpoints are never set: the one node leads everything",]
    ),
    api!(
        fetch::FetchRequest,
        4..=18,
        left_out = &[
            "a follower's fetch is NOT_LEADER_OR_FOLLOWER: there are no followers",
            "CurrentLeader, NodeEndpoints and SnapshotId are never set: one node",
            "PreferredReadReplica is always -1: there is one replica",
        ]
    ),
    api!(list_offsets::ListOffsetsRequest, 1..=10),
    api!(metadata::MetadataRequest, 0..=13),
    api!(
        offset_commit::OffsetCommitRequest,
        2..=9,
        left_out = &["version 10 (topic ids): the message library has only its reply"]
    ),
    api!(
        offset_fetch::OffsetFetchRequest,
        1..=9,
        left_out = &["version 10 (topic ids): the message library has only its reply"]
    ),
    api!(
        find_coordinator::FindCoordinatorRequest,
        0..=6,
        left_out = &["coordinators of share state, which brokers ask for, are INVALID_REQUEST"]
    ),
    api!(join_group::JoinGroupRequest, 0..=9),
    api!(heartbeat::HeartbeatRequest, 0..=4),
    api!(leave_group::LeaveGroupRequest, 0..=5),
    api!(sync_group::SyncGroupRequest, 0..=5),
    api!(describe_groups::DescribeGroupsRequest, 0..=6),
    api!(list_groups::ListGroupsRequest, 0..=5),
    api!(
        unthrottled sasl_handshake::SaslHandshakeRequest,
        0..=1,
        before_login = true,
        left_out = &["GSSAPI (Kerberos) and OAUTHBEARER are not offered"]
    ),
    api!(
        api_versions::ApiVersionsRequest,
        0..=4,
        before_login = true,
        left_out = &["metadata.version among the features: there is no KRaft"]
    ),
    api!(create_topics::CreateTopicsRequest, 2..=7),
    api!(delete_topics::DeleteTopicsRequest, 1..=6),
    api!(delete_records::DeleteRecordsRequest, 0..=2),
    api!(
        init_producer_id::InitProducerIdRequest,
        0..=5,
        left_out =
            &["version 6 (two-phase commit, KIP-939): the message library lacks its request"]
    ),
    api!(offset_for_leader_epoch::OffsetForLeaderEpochRequest, 2..=4),
    api!(add_partitions_to_txn::AddPartitionsToTxnRequest, 0..=5),
    api!(add_offsets_to_txn::AddOffsetsToTxnRequest, 0..=4),
    api!(end_txn::EndTxnRequest, 0..=5),
    api!(
        unthrottled write_txn_markers::WriteTxnMarkersRequest,
        1..=1,
        left_out = &["version 2 (KIP-1228): the message library does not have it"]
    ),
    api!(txn_offset_commit::TxnOffsetCommitRequest, 0..=5),
    api!(describe_acls::DescribeAclsRequest, 1..=3),
    api!(create_acls::CreateAclsRequest, 1..=3),
    api!(delete_acls::DeleteAclsRequest, 1..=3),
    api!(describe_configs::DescribeConfigsRequest, 1..=4),
    api!(
        alter_configs::AlterConfigsRequest,
        0..=2,
        left_out = &["an unknown key of a broker is INVALID_REQUEST; Kafka keeps it"]
    ),
    api!(
        alter_replica_log_dirs::AlterReplicaLogDirsRequest,
        1..=2,
        left_out = &["there is one folder, so nothing ever moves"]
    ),
    api!(
        describe_log_dirs::DescribeLogDirsRequest,
        1..=4,
        left_out = &[
            "version 5 (cordoned folders): the message library does not have it",
            "on other systems than Unix TotalBytes and UsableBytes are -1",
        ]
    ),
    api!(unthrottled sasl_authenticate::SaslAuthenticateRequest, 0..=2, before_login = true),
    api!(create_partitions::CreatePartitionsRequest, 0..=3),
    api!(
        delete_groups::DeleteGroupsRequest,
        0..=2,
        left_out = &["version 3 (an error message): the message library does not have it"]
    ),
    api!(elect_leaders::ElectLeadersRequest, 0..=2),
    api!(
        incremental_alter_configs::IncrementalAlterConfigsRequest,
        0..=1,
        left_out = &["an unknown key of a broker is INVALID_REQUEST; Kafka keeps it"]
    ),
    api!(
        alter_partition_reassignments::AlterPartitionReassignmentsRequest,
        0..=1,
        left_out = &["replicas can only stay where they are: there is one broker"]
    ),
    api!(list_partition_reassignments::ListPartitionReassignmentsRequest, 0..=0),
    api!(offset_delete::OffsetDeleteRequest, 0..=0),
    api!(describe_client_quotas::DescribeClientQuotasRequest, 0..=1),
    api!(
        alter_client_quotas::AlterClientQuotasRequest,
        0..=1,
        left_out = &["host names in place of addresses are INVALID_REQUEST"]
    ),
    api!(describe_user_scram_credentials::DescribeUserScramCredentialsRequest, 0..=0),
    api!(
        alter_user_scram_credentials::AlterUserScramCredentialsRequest,
        0..=0,
        left_out = &["users of the configuration file are UNACCEPTABLE_CREDENTIAL"]
    ),
    api!(
        unthrottled describe_quorum::DescribeQuorumRequest,
        0..=2,
        left_out = &["there is no quorum: the one node is leader and voter of its own state log"]
    ),
    api!(describe_cluster::DescribeClusterRequest, 0..=2),
    api!(describe_producers::DescribeProducersRequest, 0..=0),
    api!(describe_transactions::DescribeTransactionsRequest, 0..=0),
    api!(list_transactions::ListTransactionsRequest, 0..=2),
    api!(consumer_group_heartbeat::ConsumerGroupHeartbeatRequest, 0..=1),
    api!(consumer_group_describe::ConsumerGroupDescribeRequest, 0..=1),
    api!(get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest, 0..=0),
    api!(push_telemetry::PushTelemetryRequest, 0..=0, left_out = &["histograms are passed over"]),
    api!(list_config_resources::ListConfigResourcesRequest, 0..=1),
    api!(
        describe_topic_partitions::DescribeTopicPartitionsRequest,
        0..=0,
        left_out = &["EligibleLeaderReplicas and LastKnownElr are always empty: one replica"]
    ),
    api!(share_group_heartbeat::ShareGroupHeartbeatRequest, 1..=1),
    api!(share_group_describe::ShareGroupDescribeRequest, 1..=1),
    api!(
        share_fetch::ShareFetchRequest,
        1..=1,
        left_out = &[
            "version 2 (renewal, record limits): the message library does not have it",
            "CurrentLeader and NodeEndpoints are never set: the one node leads everything",
        ]
    ),
    api!(
        share_acknowledge::ShareAcknowledgeRequest,
        1..=1,
        left_out = &[
            "version 2 (renewal): the message library does not have it",
            "CurrentLeader and NodeEndpoints are never set: the one node leads everything",
        ]
    ),
    api!(
        describe_share_group_offsets::DescribeShareGroupOffsetsRequest,
        0..=0,
        left_out = &["version 1 (the lag): the message library does not have it"]
    ),
    api!(alter_share_group_offsets::AlterShareGroupOffsetsRequest, 0..=0),
    api!(delete_share_group_offsets::DeleteShareGroupOffsetsRequest, 0..=0),
];

/// Produce is listed from version 0 and served from 3: librdkafka switches compression off when it
/// does not see Produce 0 (Kafka does the same since 4.0).
pub(crate) const PRODUCE_LISTED_FROM: i16 = 0;

impl Api {
    /// Kafka's name of the API: that of its request without `Request`.
    const fn named(request: &'static str) -> &'static str {
        request.split_at(request.len() - "Request".len()).0
    }

    pub(crate) fn find(key: i16) -> Option<&'static Self> {
        APIS.iter().find(|api| api.key == key)
    }
}

/// A response that knows how to become bytes.
pub(crate) trait IntoReply {
    fn into_reply(self, context: &Context) -> Result<Reply, Close>;
}

impl<T: Encodable + HeaderVersion> IntoReply for T {
    fn into_reply(self, context: &Context) -> Result<Reply, Close> {
        let mut body = BytesMut::new();
        self.encode(&mut body, context.version)
            .map_err(|e| Close::because(format!("the reply could not be encoded: {e}")))?;
        Ok(Reply::new(context, T::header_version(context.version), vec![body.freeze()]))
    }
}

fn decode<T: Request>(context: &Context, mut body: Bytes) -> Result<T, Close> {
    T::decode(&mut body, context.version).map_err(|e| Close::because(format!("undecodable: {e}")))
}

fn recode<T: Request>(mut body: Bytes, version: i16) -> Result<Recoded, String> {
    let request = T::decode(&mut body, version).map_err(|error| error.to_string())?;
    let mut encoded = BytesMut::new();
    request.encode(&mut encoded, version).map_err(|error| error.to_string())?;
    Ok(Recoded { left_bytes: body.len(), encoded: encoded.freeze() })
}

/// A request that is being worked on.
pub(crate) struct Accepted {
    pub api: &'static Api,
    pub answer: Answer,
}

/// What a refused frame looked like, for the log and the diary.
#[derive(Debug)]
pub(crate) struct Rejected {
    pub diagnosis: &'static str,
    pub evidence: String,
}

fn rejected<T>(diagnosis: &'static str, evidence: String) -> Result<T, Rejected> {
    Err(Rejected { diagnosis, evidence })
}

/// `frame`: one request without its length.
pub(crate) fn dispatch(
    broker: &Broker,
    session: &Arc<Session>,
    frame: Bytes,
) -> Result<Accepted, Rejected> {
    if let Some(answer) = sasl_authenticate::bare_token(broker, session, &frame) {
        let key = ApiKey::SaslAuthenticate as i16;
        let api = Api::find(key).expect("it stands in the table above");
        return Ok(Accepted { api, answer });
    }
    let Some((key, version)) = peek(&frame) else {
        let evidence = format!("a frame of {} bytes is too short for a header", frame.len());
        return rejected(diagnose::UNDECODABLE_REQUEST, evidence);
    };
    let Some(api) = Api::find(key) else {
        let evidence = format!("API key {key} is not served here (version {version} was sent)");
        return rejected(diagnose::UNSUPPORTED_VERSION, evidence);
    };
    let known = (api.oldest..=api.newest).contains(&version);
    if !known && key != ApiKey::ApiVersions as i16 {
        let (name, oldest, newest) = (api.name, api.oldest, api.newest);
        let evidence = format!("{name} {version} was sent; {oldest} to {newest} are served");
        return rejected(diagnose::UNSUPPORTED_VERSION, evidence);
    }
    let principal = caller(session, api)?;
    let (header, body) = RequestHeader::parse(&frame).or_else(|e| {
        rejected(diagnose::UNDECODABLE_REQUEST, format!("the header of {}: {e}", api.name))
    })?;
    let client_id = header.client_id.unwrap_or_default();
    diagnose::reach_hooks::came(broker, session, key, &client_id);
    let core = broker.core();
    let context = Context {
        broker: broker.clone(),
        session: session.clone(),
        principal,
        client_id,
        correlation_id: header.correlation_id,
        version: if known { version } else { 0 },
        request_bytes: frame.len(),
        worked: core.quotas.is_limited(Kind::Request).then(Worked::new),
        throttle_ms: AtomicI64::new(0),
        core,
    };
    if !known {
        let answer = Box::pin(async move { api_versions::unsupported().into_reply(&context) });
        return Ok(Accepted { api, answer });
    }
    if let Err(e) = guard::check(key, version, &body) {
        return rejected(diagnose::UNDECODABLE_REQUEST, format!("{} {version}: {e}", api.name));
    }
    let worked = context.worked.clone();
    let answer = (api.handler)(context, body);
    let answer = match worked {
        None => answer,
        Some(worked) => Box::pin(Timed { answer, worked }),
    };
    Ok(Accepted { api, answer })
}

/// Who asks, if this may be asked now.
fn caller(session: &Session, api: &Api) -> Result<Principal, Rejected> {
    let logs_in = [ApiKey::SaslHandshake as i16, ApiKey::SaslAuthenticate as i16];
    match session.standing() {
        Standing::LoggedIn(principal) => Ok(principal),
        Standing::NotYet if api.before_login => Ok(Principal::anonymous()),
        Standing::NotYet => {
            let evidence = format!("{} came before a SASL login was complete", api.name);
            rejected(diagnose::NO_SASL_ON_SASL_LISTENER, evidence)
        }
        Standing::Expired if logs_in.contains(&api.key) => Ok(Principal::anonymous()),
        Standing::Expired => {
            let evidence = format!("{} came when the login had expired", api.name);
            rejected(diagnose::SESSION_EXPIRED, evidence)
        }
    }
}

fn peek(frame: &[u8]) -> Option<(i16, i16)> {
    let key = frame.get(0..2)?.try_into().ok()?;
    let version = frame.get(2..4)?.try_into().ok()?;
    Some((i16::from_be_bytes(key), i16::from_be_bytes(version)))
}
