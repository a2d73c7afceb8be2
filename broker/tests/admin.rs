//! Configurations and administration on a socket, in every version that is served. Error codes and
//! sentences are Kafka's (`ConfigAdminManager`, `ControllerConfigurationValidator`,
//! `ReplicationControlManager`, `LogValidator`).

use kafka_protocol::messages::BrokerId;
use node::{Wire, named, text};

#[path = "admin/configs.rs"]
mod configs;
#[path = "admin/listeners.rs"]
mod listeners;
mod node;
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
