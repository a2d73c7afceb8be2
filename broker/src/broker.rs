//! The broker as a whole: configuration, the running incarnation, listeners, background work.

use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::auth::Brake;
use crate::budget::Budget;
use crate::client::{Admin, Client, Local, Principal};
use crate::clock::now_ms;
use crate::config::{Config, SecurityProtocol};
use crate::connection::Gate;
use crate::core::{Core, OpenError};
use crate::diagnose::Diary;
use crate::diagnose::near_miss::Looks;
use crate::diagnose::reach_hooks::{self, Reaching};
use crate::fetch_session::FetchSessions;
use crate::file_modes;
use crate::limits;
use crate::listeners::Listeners;
use crate::loggers::Loggers;
use crate::memory::{HttpBudgets, Part};
use crate::metrics::Metrics;
use crate::retention;
use crate::telemetry::Telemetry;
use crate::turns::{self, Turns};

/// Why the broker did not start. `Display` is a sentence for a person.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the data folder could not be opened: {0}")]
    Log(#[from] OpenError),
    #[error(
        "listener {name} cannot bind {address}: {error}. Is another broker (or an Apache Kafka) \
         running there? Choose another port in `listeners`"
    )]
    Bind { name: String, address: String, error: std::io::Error },
    #[error("{0}")]
    Tls(String),
}

/// A listener that is bound.
#[derive(Debug, Clone)]
pub struct BoundListener {
    pub name: String,
    pub protocol: SecurityProtocol,
    pub address: SocketAddr,
}

pub(crate) struct Inner {
    /// The static configuration, from which each incarnation starts; what holds now is
    /// [`Broker::config`].
    pub static_config: Arc<Config>,
    pub core: ArcSwap<Core>,
    pub metrics: Metrics,
    pub telemetry: Telemetry,
    pub diary: Arc<Diary>,
    /// Who does not get to the advertised addresses.
    pub reaching: Reaching,
    /// Which names of topics were compared with those that there are.
    pub topic_looks: Looks,
    pub fetch_sessions: FetchSessions,
    /// Bytes of requests that have not arrived whole, of those who may ask for something.
    pub arriving_bytes: Arc<Budget>,
    /// The same of those who have not logged in yet.
    pub stranger_bytes: Arc<Budget>,
    /// Bytes of requests that are worked on.
    pub working_bytes: Arc<Budget>,
    /// Bytes of replies that were not taken yet.
    pub reply_bytes: Arc<Budget>,
    /// Bytes that readers in this process have unpacked.
    pub unpacked_bytes: Arc<Budget>,
    pub http: HttpBudgets,
    /// Who unpacks them.
    pub unpackers: Arc<Semaphore>,
    /// The one connection that may finish its frame when the budget is used up.
    pub express_frame: Arc<Semaphore>,
    pub turns: Turns,
    /// Threads that read what memory does not hold.
    pub readers: Semaphore,
    pub gate: Gate,
    /// What failed logins cost the address they come from.
    pub logins: Arc<Brake>,
    pub open_connections: AtomicUsize,
    loggers: OnceLock<Arc<dyn Loggers>>,
    pub listeners: Listeners,
    stopping: watch::Sender<bool>,
    tasks: std::sync::Mutex<JoinSet<()>>,
}

/// A running broker. Clones are handles of the same one.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

impl Broker {
    /// Opens the log, binds every listener and serves. Nothing is served unless everything could
    /// be opened.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        for warning in config.warnings.iter().chain(&file_modes::warnings(&config)) {
            tracing::warn!("{warning}");
        }
        for note in &config.notes {
            tracing::info!("{note}");
        }
        let broker = Self::open_offline(config).await?;
        let login = broker.config().listeners.iter().any(|listener| listener.protocol.sasl());
        if login && broker.core().users.is_empty() {
            tracing::warn!("nobody can log in yet: add a user with `odradek user add NAME`");
        }
        broker.inner.listeners.start(&broker, &broker.config()).await?;
        broker.spawn(Listeners::reload(broker.clone()));
        broker.spawn(retention::run(broker.clone()));
        broker.spawn(keep_diary(broker.clone()));
        broker.spawn(reach_hooks::watch(broker.clone()));
        broker.spawn(watch_incarnation(broker.clone()));
        Ok(broker)
    }

    /// Opens the log without any listener: for commands that work on a stopped broker's data
    /// folder. Fails while another process holds the folder.
    pub async fn open_offline(config: Config) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let core = open_core(config.clone()).await?;
        Ok(Self::over(config, core))
    }

    /// Without listeners and without background work of its own.
    pub(crate) fn over(config: Arc<Config>, core: Arc<Core>) -> Self {
        let telemetry = Telemetry::default();
        let diary = Arc::new(Diary::default());
        // The folder is locked by now: nobody else writes there.
        diary.restore(&config.log_dir);
        let inner = Inner {
            core: ArcSwap::new(core),
            metrics: Metrics::new(&telemetry.metrics),
            telemetry,
            diary,
            reaching: Reaching::default(),
            topic_looks: Looks::default(),
            fetch_sessions: FetchSessions::default(),
            arriving_bytes: Part::ArrivingRequests.budget(&config),
            stranger_bytes: Part::StrangersRequests.budget(&config),
            working_bytes: Part::Requests.budget(&config),
            reply_bytes: Part::Replies.budget(&config),
            unpacked_bytes: Part::UnpackedRecords.budget(&config),
            http: HttpBudgets::of(&config),
            unpackers: Arc::new(Semaphore::new(turns::spare_cores())),
            turns: Turns::default(),
            express_frame: Arc::new(Semaphore::new(1)),
            readers: Semaphore::new(limits::READERS_MAX),
            gate: Gate::default(),
            logins: Arc::default(),
            open_connections: AtomicUsize::new(0),
            loggers: OnceLock::new(),
            listeners: Listeners::default(),
            stopping: watch::channel(false).0,
            tasks: std::sync::Mutex::default(),
            static_config: config,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The seam for this principal: see [`Client`].
    pub fn client(&self, principal: Principal) -> Arc<dyn Client> {
        Arc::new(Local::new(self.clone(), principal))
    }

    pub fn admin(&self, principal: Principal) -> Arc<dyn Admin> {
        Arc::new(Local::new(self.clone(), principal))
    }

    /// Lets administrators ask for and change what the process says; the first call counts.
    pub fn set_loggers(&self, loggers: Arc<dyn Loggers>) {
        let _ = self.inner.loggers.set(loggers);
    }

    pub(crate) fn loggers(&self) -> Option<&dyn Loggers> {
        self.inner.loggers.get().map(|loggers| &**loggers)
    }

    pub fn listeners(&self) -> Vec<BoundListener> {
        self.inner.listeners.shown()
    }

    /// The configuration as it is now, with what was changed while the broker runs.
    pub fn config(&self) -> Arc<Config> {
        self.core().config()
    }

    pub fn cluster_id(&self) -> String {
        self.core().cluster_id.clone()
    }

    /// Everything this broker counts, brought up to date.
    pub fn metrics(&self) -> prometheus::Registry {
        self.inner.telemetry.forget(now_ms());
        self.inner.metrics.refresh(self);
        self.inner.metrics.registry.clone()
    }

    pub fn traffic(&self) -> crate::metrics::Traffic {
        self.inner.metrics.traffic()
    }

    /// Odd and failed connections, newest first.
    pub fn diary(&self) -> Arc<Diary> {
        self.inner.diary.clone()
    }

    /// Bytes of the log on disk, bytes free on its disk.
    pub fn disk(&self) -> (u64, u64) {
        let core = self.core();
        let topics = core.topics.all();
        let used = topics.iter().flat_map(|t| &t.partitions).map(|p| p.ends().bytes).sum();
        (used, core.log.stats().disk_free_bytes)
    }

    /// Why the log takes no records now, if so.
    pub fn storage_problem(&self) -> Option<String> {
        let core = self.core();
        let full = core.log.stats().full.then(|| {
            "the disk has less free space than odradek.disk.reserve.bytes; appends wait".to_owned()
        });
        core.log.failed().or(full)
    }

    pub fn connections(&self) -> usize {
        self.inner.open_connections.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Stops listening, lets connections end, closes the log cleanly.
    pub async fn shutdown(&self) {
        self.inner.stopping.send_replace(true);
        self.core().groups.close();
        self.core().share.close();
        self.core().transactions.close();
        let mut tasks = std::mem::take(&mut *crate::partition::lock(&self.inner.tasks));
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limits::SHUTDOWN_TIME_MAX, ended).await.is_err() {
            tracing::warn!("some connections did not end in time and were cut");
        }
        self.save_diary().await;
        let core = self.core();
        if let Err(e) = tokio::task::spawn_blocking(move || core.log.close()).await {
            tracing::error!(error = %e, "the log did not close cleanly");
        }
    }

    /// Not on a disk that is full or failed: the room there is the records'.
    async fn save_diary(&self) {
        if self.storage_problem().is_some() {
            return;
        }
        let (diary, folder) = (self.diary(), self.inner.static_config.log_dir.clone());
        let saved = tokio::task::spawn_blocking(move || diary.save(&folder)).await;
        if let Ok(Err(error)) = saved {
            tracing::debug!(%error, "the diary of odd connections could not be written");
        }
    }

    pub(crate) fn core(&self) -> Arc<Core> {
        self.inner.core.load_full()
    }

    pub(crate) fn stopping(&self) -> watch::Receiver<bool> {
        self.inner.stopping.subscribe()
    }

    /// Work that ends with the broker.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = crate::partition::lock(&self.inner.tasks);
        // Finished tasks are let go as new ones come, so the set stays as small as what runs.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(work);
    }
}

async fn open_core(config: Arc<Config>) -> Result<Arc<Core>, OpenError> {
    let opened = tokio::task::spawn_blocking(move || Core::open(config)).await;
    let core = opened.map_err(|e| OpenError(format!("opening was interrupted: {e}")))??;
    begin(&core).await;
    Ok(core)
}

/// What an open incarnation does by itself.
pub(crate) async fn begin(core: &Arc<Core>) {
    core.groups.start();
    core.share.start();
    core.transactions.start();
    let topics = core.clone();
    // A crash between a topic's deletion and that of its offsets leaves offsets behind.
    core.groups.retain_topics(move |name| topics.topics.by_name(name).is_some()).await;
}

/// Writes the diary to disk when something was noted, soon enough that a crash takes little.
async fn keep_diary(broker: Broker) {
    let mut stopping = broker.stopping();
    loop {
        tokio::select! {
            _ = stopping.changed() => return,
            () = tokio::time::sleep(limits::DIARY_SAVED_EVERY) => broker.save_diary().await,
        }
    }
}

/// When the log's incarnation ends (a failed write or sync), opens it again by the start path, with
/// growing pauses until the disk works.
async fn watch_incarnation(broker: Broker) {
    const LOOK_EVERY: Duration = Duration::from_millis(200);
    const PAUSE_MAX: Duration = Duration::from_secs(30);
    let mut pause = LOOK_EVERY;
    let mut stopping = broker.stopping();
    let mut was_full = false;
    loop {
        tokio::select! {
            _ = stopping.changed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let core = broker.core();
        let stats = core.log.stats();
        match (was_full, stats.full) {
            (false, true) => tracing::error!(
                free_bytes = stats.disk_free_bytes,
                "the disk is full: appends are refused until there is room, reads go on; delete \
                 topics, shorten retention, or lower odradek.disk.reserve.bytes"
            ),
            (true, false) => tracing::info!("the disk has room again; appends go on"),
            _ => {}
        }
        was_full = stats.full;
        let Some(why) = core.log.failed() else {
            pause = LOOK_EVERY;
            continue;
        };
        tracing::error!(reason = %why, "the log failed; opening it again");
        core.groups.close();
        core.share.close();
        core.transactions.close();
        let closing = core.clone();
        // The folder's lock must be free before it can be opened again.
        let _ = tokio::task::spawn_blocking(move || closing.log.close()).await;
        match open_core(broker.inner.static_config.clone()).await {
            Ok(reopened) => {
                tracing::info!(at_ms = now_ms(), "the log is open again");
                for group in core.groups.held() {
                    reopened.groups.hold(&group);
                }
                broker.inner.core.store(reopened);
                pause = LOOK_EVERY;
            }
            Err(e) => {
                tracing::error!(error = %e, "the log cannot be opened yet");
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
