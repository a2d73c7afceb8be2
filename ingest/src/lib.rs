//! Sources that fill topics: live feeds over WebSocket and MQTT, replayed files, synthetic prices.
//!
//! [`SourceConfig`] is one `[[source]]` of `pipeline.toml`; [`validate`] says what is wrong with a
//! list of them; [`Sources`] runs them. Topics are reached through `broker::client::Client` alone.
//!
//! Invariants, each kept by the module named:
//! 1. What a source stores is committed in units that hold all that belongs together: a row and its
//!    position (`csv`), a walk and its state (`synthetic`), a frame's records and its dead letter.
//! 2. A pong leaves only after the frames before it are durable (`websocket::session`), and so does
//!    the acknowledgement of an MQTT message (`mqtt::session`).
//! 3. No queue grows without bound (`limits`); a log that cannot keep up slows the input down.
//! 4. A source's failure, a panic included, stays its own (`supervise`).

mod backoff;
mod clock;
pub mod config;
mod csv;
mod dead_letter;
mod event_time;
mod feed;
#[doc(hidden)]
pub mod fuzzing;
mod limits;
mod meter;
mod mqtt;
mod plan;
mod preset;
mod problem;
pub mod span;
mod supervise;
mod synthetic;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod websocket;

use std::sync::Arc;

use odradek_broker::client::Client;
use prometheus::Registry;
use tokio::time::Instant;

pub use config::SourceConfig;
pub use meter::{SourceState, SourceStatus};
pub use plan::{validate, warnings};
pub use problem::Problem;

use clock::Clock;
use csv::CsvRunner;
use meter::{Families, Gauges};
use mqtt::MqttRunner;
use plan::{KindPlan, Plan};
use supervise::{Context, RunError, Runner, Supervised};
use synthetic::SyntheticRunner;
use websocket::WebsocketRunner;

/// There is no source of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no source {0:?}")]
pub struct UnknownSource(pub String);

/// The running sources. Dropping it stops them; [`Sources::stop`] also waits.
pub struct Sources {
    sources: Vec<(String, Supervised)>,
}

impl Sources {
    /// Starts every enabled source; must be called within a tokio runtime. A source whose
    /// configuration has problems is listed as failed (see [`validate`] to refuse it before).
    pub fn start(configs: Vec<SourceConfig>, client: Arc<dyn Client>, registry: &Registry) -> Self {
        Self::start_with(configs, client, registry, Clock::System)
    }

    fn start_with(
        configs: Vec<SourceConfig>,
        client: Arc<dyn Client>,
        registry: &Registry,
        clock: Clock,
    ) -> Self {
        warnings(&configs).iter().for_each(|warning| tracing::warn!("{warning}"));
        let families = Families::new(registry);
        let sources = configs.into_iter().map(|config| {
            let meter = families.meter(&config.name, config.kind.name(), &config.topic, clock);
            let context = Context::new(Arc::clone(&client), meter);
            let (runner, backoff) = match Plan::of(&config) {
                Ok(plan) => {
                    let backoff = plan.backoff;
                    (runner(plan), backoff)
                }
                Err(problems) => {
                    let refused: Arc<dyn Runner> = Arc::new(Refused(problems));
                    (refused, backoff::BackoffPlan::default())
                }
            };
            let supervised = Supervised::start(runner, context, backoff, config.enabled);
            (config.name, supervised)
        });
        let sources: Vec<_> = sources.collect();
        let meters = sources.iter().map(|(_, source)| Arc::clone(&source.meter)).collect();
        Gauges::register(registry, meters);
        Self { sources }
    }

    /// In the order of the configuration.
    pub fn list(&self) -> Vec<SourceStatus> {
        self.sources.iter().map(|(_, source)| source.meter.status()).collect()
    }

    pub fn pause(&self, name: &str) -> Result<(), UnknownSource> {
        self.find(name).map(Supervised::pause)
    }

    pub fn resume(&self, name: &str) -> Result<(), UnknownSource> {
        self.find(name).map(Supervised::resume)
    }

    /// Begins the source's task again, at the position that the log has.
    pub fn restart(&self, name: &str) -> Result<(), UnknownSource> {
        self.find(name).map(Supervised::restart)
    }

    /// Ends all sources. A unit that was being committed is waited for.
    pub async fn stop(&self) {
        let deadline = Instant::now() + limits::STOP_TIMEOUT;
        for (_, source) in &self.sources {
            source.ask_to_stop();
        }
        for (_, source) in &self.sources {
            source.stopped(deadline).await;
        }
    }

    fn find(&self, name: &str) -> Result<&Supervised, UnknownSource> {
        let found = self.sources.iter().find(|(known, _)| known == name);
        found.map(|(_, source)| source).ok_or_else(|| UnknownSource(name.to_owned()))
    }
}

fn runner(plan: Plan) -> Arc<dyn Runner> {
    match plan.kind.clone() {
        KindPlan::Websocket(feed) => Arc::new(WebsocketRunner { plan, feed: *feed }),
        KindPlan::Mqtt(feed) => Arc::new(MqttRunner { plan, feed: *feed }),
        KindPlan::Csv(csv) => Arc::new(CsvRunner { plan, csv }),
        KindPlan::Synthetic(walk) => Arc::new(SyntheticRunner { plan, walk }),
    }
}

/// Stands in for a source that cannot be configured.
struct Refused(Vec<Problem>);

#[async_trait::async_trait]
impl Runner for Refused {
    async fn run(&self, _: &Context) -> Result<(), RunError> {
        let problems: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        Err(RunError::fatal("config", problems.join("; ")))
    }
}
