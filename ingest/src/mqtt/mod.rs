//! Messages of an MQTT server (3.1.1): Zigbee2MQTT, Home Assistant, Tasmota, sensors.
//!
//! `plan` (what to do) → `session` (one connection's life, over `packets`) → `message` (a message
//! to documents, by `topics` and `feed::decode`) → `feed::batch` → one unit a commit → PUBACK.

mod login;
pub(crate) mod message;
pub(crate) mod packets;
pub(crate) mod plan;
mod session;
#[cfg(test)]
mod tests;
pub(crate) mod topics;

use async_trait::async_trait;

use self::plan::MqttPlan;
use crate::plan::Plan;
use crate::supervise::{Context, RunError, Runner};

pub(crate) struct MqttRunner {
    pub plan: Plan,
    pub feed: MqttPlan,
}

#[async_trait]
impl Runner for MqttRunner {
    /// One connection; the supervisor backs off and opens the next one.
    async fn run(&self, context: &Context) -> Result<(), RunError> {
        context.ensure_topics(&self.plan).await?;
        Err(session::run(context, &self.plan, &self.feed).await)
    }
}
