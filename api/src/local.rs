//! The running process behind the HTTP interface: broker, sources, analytics.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use odradek_analytics::{Analytics, State as ProcessorState};
use odradek_broker::client::{Admin, Client, Principal};
use odradek_broker::memory::{HttpBudgets, Use};
use odradek_broker::{Asking, Broker, Checked, Traffic, diagnose};
use odradek_ingest::{SourceState, Sources};
use prometheus::Registry;
use serde_json::{Value, json};

use crate::http::now_ms;
use crate::operations::instant::rfc3339;
use crate::operations::machine::host_and_port;
use crate::operations::{Failure, Outcome};
use crate::pipeline::Pipeline;
use crate::process;
use crate::services::{
    DiskView, ListenerView, MemoryPartView, MemoryView, OpenFilesView, Overview, ProblemView,
    Rates, Services, SourceVerb,
};

/// Rates are over this much of the past.
const RATE_SAMPLES: usize = 10;
/// A connection problem of the last quarter of an hour is one of now.
const RECENT_MS: i64 = 15 * 60 * 1000;
pub const RATE_INTERVAL: Duration = Duration::from_secs(1);

pub struct Local {
    broker: Broker,
    sources: Sources,
    /// Taken when it is stopped.
    analytics: Mutex<Option<Analytics>>,
    /// What ingest and analytics count.
    registry: Registry,
    demo: bool,
    model_topics: Vec<String>,
    get_kafka_data_topic: Option<String>,
    /// When, and the totals then; oldest first.
    samples: Mutex<VecDeque<(Instant, Traffic)>>,
}

impl Local {
    /// What went wrong with connections lately, one entry a diagnosis, the latest first.
    fn recent_connection_problems(&self) -> Vec<ProblemView> {
        let since_ms = now_ms().saturating_sub(RECENT_MS);
        let mut problems: Vec<ProblemView> = Vec::new();
        for entry in self.broker.diary().entries() {
            if entry.last_ms < since_ms {
                continue;
            }
            if let Some(same) = problems.iter_mut().find(|known| known.id == entry.diagnosis) {
                same.count += entry.count;
                continue;
            }
            let known = diagnose::find(entry.diagnosis);
            problems.push(ProblemView {
                id: entry.diagnosis.to_owned(),
                what: known.map_or(entry.diagnosis, |known| known.title).to_owned(),
                evidence: format!("{} on {}: {}", entry.peer, entry.listener, entry.evidence),
                fix: known.map_or("", |known| known.how_to_fix).to_owned(),
                count: entry.count,
                last: rfc3339(entry.last_ms),
            });
        }
        problems
    }

    /// Starts sources and processors on a running broker.
    pub fn start(broker: Broker, pipeline: Pipeline, demo: bool) -> Result<Self, String> {
        let registry = Registry::new();
        let client = broker.client(Principal::internal());
        let models = &pipeline.analytics.model;
        let mut model_topics: Vec<String> = models.iter().map(|m| m.report.clone()).collect();
        model_topics.sort();
        model_topics.dedup();
        let analytics = Analytics::start(pipeline.analytics, client.clone(), &registry)
            .map_err(|error| error.to_string())?;
        let sources = Sources::start(pipeline.sources, client, &registry);
        Ok(Self {
            broker,
            sources,
            analytics: Mutex::new(Some(analytics)),
            registry,
            demo,
            model_topics,
            get_kafka_data_topic: pipeline.get_kafka_data_topic,
            samples: Mutex::default(),
        })
    }

    /// In the order in which the data flows, so that each finishes what it has.
    pub async fn stop(&self) {
        self.sources.stop().await;
        let analytics = lock(&self.analytics).take();
        if let Some(analytics) = analytics {
            analytics.stop().await;
        }
    }

    /// Called once an interval for as long as the process runs.
    pub fn sample(&self) {
        let mut samples = lock(&self.samples);
        samples.push_back((Instant::now(), self.broker.traffic()));
        if samples.len() > RATE_SAMPLES + 1 {
            samples.pop_front();
        }
    }

    fn rates(&self) -> Rates {
        let samples = lock(&self.samples);
        let (Some((began, then)), Some((ended, now))) = (samples.front(), samples.back()) else {
            return Rates::default();
        };
        let seconds = (*ended - *began).as_secs_f64();
        if seconds <= 0.0 {
            return Rates::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Rates {
            records_in_per_s: rate(now.records_in, then.records_in),
            bytes_in_per_s: rate(now.bytes_in, then.bytes_in),
            bytes_out_per_s: rate(now.bytes_out, then.bytes_out),
            requests_per_s: rate(now.requests, then.requests),
        }
    }

    fn listeners(&self) -> Vec<ListenerView> {
        let config = self.broker.config();
        let kafka = self.broker.listeners().into_iter().map(|bound| {
            let configured = config.listeners.iter().find(|listener| listener.name == bound.name);
            let advertised = configured.and_then(|listener| listener.advertised.as_ref());
            let mechanisms = configured.into_iter().flat_map(|listener| &listener.mechanisms);
            ListenerView {
                protocol: bound.protocol.name().to_owned(),
                address: bound.address.to_string(),
                advertised: advertised.map(|(host, port)| host_and_port(host, *port)),
                mechanisms: mechanisms.map(|mechanism| mechanism.name().to_owned()).collect(),
                name: bound.name,
            }
        });
        kafka.collect()
    }

    fn problems(&self) -> Vec<ProblemView> {
        let problem = |id: &str, what: String, evidence: String, fix: &str| ProblemView {
            id: id.to_owned(),
            what,
            evidence,
            fix: fix.to_owned(),
            count: 1,
            last: None,
        };
        let storage = self.broker.storage_problem().map(|why| {
            let what = "the log takes no records".to_owned();
            problem(
                diagnose::STORAGE_PROBLEM,
                what,
                why,
                "make room on the disk, or look at its health",
            )
        });
        let sources = self.sources.list().into_iter().filter_map(|source| {
            let fix = match source.state {
                SourceState::Failed => "correct the cause, then restart the source",
                SourceState::BackingOff => "it is tried again by itself; check the other side",
                _ => return None,
            };
            let what = format!("source {} does not deliver", source.name);
            Some(problem(diagnose::SOURCE_FAILS, what, source.detail, fix))
        });
        let analytics = lock(&self.analytics);
        let processors = analytics.iter().flat_map(Analytics::status).filter_map(|processor| {
            let fix = match processor.state {
                ProcessorState::Failed => "correct the cause, then restart the server",
                ProcessorState::Retrying => "it starts again by itself from its last commit",
                _ => return None,
            };
            let what = format!("processor {} does not work", processor.name);
            let evidence = processor.last_error.unwrap_or_default();
            Some(problem(diagnose::PROCESSOR_FAILS, what, evidence, fix))
        });
        let connections = self.recent_connection_problems();
        storage.into_iter().chain(sources).chain(processors).chain(connections).collect()
    }
}

#[async_trait]
impl Services for Local {
    fn client(&self, principal: &Principal) -> Arc<dyn Client> {
        self.broker.client(principal.clone())
    }

    fn admin(&self, principal: &Principal) -> Arc<dyn Admin> {
        self.broker.admin(principal.clone())
    }

    async fn check_password(&self, user: &str, password: &str, peer: SocketAddr) -> Checked {
        let (user, password) = (user.to_owned(), password.to_owned());
        self.broker.check_password(Asking { user, password, peer, listener: "HTTP" }).await
    }

    fn node(&self) -> (i32, String) {
        let config = self.broker.config();
        let advertised = config.listeners.iter().find_map(|l| l.advertised.as_ref());
        let bound = self.broker.listeners().first().map(|l| l.address.to_string());
        let address = advertised.map(|(host, port)| host_and_port(host, *port)).or(bound);
        (config.node_id, address.unwrap_or_default())
    }

    fn metrics(&self) -> Vec<Registry> {
        vec![self.broker.metrics(), self.registry.clone()]
    }

    fn http_budgets(&self) -> HttpBudgets {
        self.broker.http_budgets()
    }

    fn unready(&self) -> Option<String> {
        self.broker.storage_problem()
    }

    fn overview(&self) -> Overview {
        let (used, free) = self.broker.disk();
        Overview {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: process::uptime_s(),
            listeners: self.listeners(),
            rates: self.rates(),
            memory: MemoryView {
                rss: process::resident_bytes(),
                cap: self.broker.config().memory_bytes_max,
                parts: self.broker.memory().into_iter().map(memory_part).collect(),
            },
            disk: DiskView { used, free },
            connections: self.broker.connections(),
            open_files: OpenFilesView {
                open: process::open_files(),
                max: process::open_files_max(),
            },
            problems: self.problems(),
            demo: self.demo,
        }
    }

    fn connections(&self) -> Vec<Value> {
        let entries = self.broker.diary().entries().into_iter();
        entries
            .map(|entry| {
                let known = diagnose::find(entry.diagnosis);
                json!({
                    "peer": entry.peer,
                    "listener": entry.listener,
                    "diagnosis": entry.diagnosis,
                    "title": known.map(|known| known.title),
                    "what_happened": known.map(|known| known.what_happened),
                    "how_to_fix": known.map(|known| known.how_to_fix),
                    "evidence": entry.evidence,
                    "count": entry.count,
                    "first": rfc3339(entry.first_ms),
                    "last": rfc3339(entry.last_ms),
                })
            })
            .collect()
    }

    fn diagnoses(&self) -> Vec<(&'static str, u64)> {
        self.broker.diary().counts()
    }

    fn sources(&self) -> Vec<Value> {
        self.sources.list().iter().map(|source| json!(source)).collect()
    }

    async fn command(&self, source: &str, verb: SourceVerb) -> Outcome<()> {
        let done = match verb {
            SourceVerb::Pause => self.sources.pause(source),
            SourceVerb::Resume => self.sources.resume(source),
            SourceVerb::Restart => self.sources.restart(source),
        };
        done.map_err(|unknown| Failure::NotFound(unknown.to_string()))
    }

    fn processors(&self) -> Vec<Value> {
        let analytics = lock(&self.analytics);
        analytics.iter().flat_map(Analytics::status).map(|status| json!(status)).collect()
    }

    fn model_topics(&self) -> Vec<String> {
        self.model_topics.clone()
    }

    fn get_kafka_data_topic(&self) -> Option<String> {
        self.get_kafka_data_topic.clone()
    }
}

fn memory_part(Use { part, bytes, bytes_max }: Use) -> MemoryPartView {
    MemoryPartView { name: part.name(), holds: part.holds(), bytes, bytes_max }
}

/// With brackets around an IPv6 address.
/// What is guarded is valid after every statement, so a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
