//! `odradek serve`: everything, until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use odradek_broker::config::Config;
use odradek_broker::{Broker, StartError};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Complaint, ConfigArgs, Done};
use crate::local::{Local, RATE_INTERVAL};
use crate::logging::{self, LogFormat, Loggers};
use crate::pipeline::{self, Pipeline};
use crate::{demo, http, process};

/// Start the broker, the sources, the analytics and HTTP
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek serve --demo                          (try everything, on this machine only)\n  \
    odradek serve                                 (this machine only, data in ./odradek-data)\n  \
    odradek serve --config /etc/odradek/server.properties\n  \
    odradek serve --override listeners=PLAINTEXT://127.0.0.1:9093 --data /srv/odradek\n\n\
    The configuration has Kafka's own names; `odradek check` tells what is wrong with it.\n\
    Ctrl-C or SIGTERM stops it cleanly.")]
pub struct Serve {
    #[command(flatten)]
    config: ConfigArgs,
    /// The pipeline.toml to read [default: beside server.properties, ./pipeline.toml, the system's]
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
    /// Starts with bundled flights and a synthetic ticker, in ./odradek-data/demo
    #[arg(long, conflicts_with_all = ["config", "overrides"])]
    demo: bool,
    /// With --demo: the port for Kafka clients
    #[arg(long, value_name = "PORT", requires = "demo", default_value_t = 9092)]
    kafka_port: u16,
    /// With --demo: the port for HTTP
    #[arg(long, value_name = "PORT", requires = "demo", default_value_t = 8080)]
    http_port: u16,
    /// How the log, which goes to standard error, is written
    #[arg(long, value_enum, default_value_t = LogFormat::Human, env = "ODRADEK_LOG_FORMAT")]
    log_format: LogFormat,
    /// error, warn, info, debug or trace [default: info, with --demo warn]
    #[arg(long, value_name = "LEVEL", env = "ODRADEK_LOG")]
    log_level: Option<String>,
    /// Lets a crash leave a core file, for debugging. It holds records, keys and passwords
    #[arg(long, env = "ODRADEK_CORE_FILES")]
    core_files: bool,
}

/// What is to be started.
struct Plan {
    config: Config,
    pipeline: Pipeline,
    /// The demo's folder.
    demo: Option<PathBuf>,
}

impl Serve {
    pub fn run(self) -> Done {
        let level = self.log_level.as_deref().unwrap_or(if self.demo { "warn" } else { "info" });
        let loggers = logging::begin(self.log_format, level).map_err(Complaint::wrong_input)?;
        if !self.core_files {
            process::forbid_core_files();
        }
        let plan = if self.demo { self.plan_demo()? } else { self.plan()? };
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Complaint::failed(format!("cannot start: {error}")))?
            .block_on(serve(plan, loggers))
    }

    fn plan(&self) -> Result<Plan, Complaint> {
        let (config, sources) = self.config.load()?;
        let file = pipeline::find(self.pipeline.as_deref(), sources.file.as_deref());
        let pipeline = match file {
            Some(file) => {
                tracing::info!(file = %file.display(), "reading the pipeline");
                pipeline::read(&file).map_err(|problems| {
                    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
                    Complaint::wrong_input(lines.join("\n"))
                })?
            }
            None => Pipeline::default(),
        };
        Ok(Plan { config, pipeline, demo: None })
    }

    fn plan_demo(&self) -> Result<Plan, Complaint> {
        let folder = demo::folder(self.config.data.as_deref()).map_err(|e| {
            Complaint::failed(format!("the demo finds no folder for its data: {e}"))
        })?;
        let config = Config::demo(&demo::log_folder(&folder), self.kafka_port, self.http_port);
        let pipeline = match &self.pipeline {
            Some(file) => pipeline::read(file),
            None => pipeline::parse("the demo's pipeline", &demo::pipeline(&folder)),
        };
        let pipeline = pipeline.map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Complaint::wrong_input(lines.join("\n"))
        })?;
        Ok(Plan { config, pipeline, demo: Some(folder) })
    }
}

async fn serve(plan: Plan, loggers: Arc<Loggers>) -> Done {
    let Plan { config, pipeline, demo } = plan;
    let data = config.log_dir.clone();
    let http = bind_http(config.http_listen.as_deref(), demo.is_some()).await?;
    let broker =
        Broker::start(config).await.map_err(|error| start_complaint(&error, demo.is_some()))?;
    broker.set_loggers(loggers);
    let address = http.as_ref().and_then(|listener| listener.local_addr().ok());
    let http_address = address.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let local = Local::start(broker.clone(), pipeline, demo.is_some());
    let local = match local {
        Ok(local) => Arc::new(local),
        Err(why) => {
            broker.shutdown().await;
            return Err(Complaint::failed(why));
        }
    };
    let (stop, stopping) = watch::channel(false);
    let sampling = tokio::spawn(sample(local.clone()));
    let threads = http::serve::runtime();
    let threads = threads.map_err(|error| Complaint::failed(format!("cannot start: {error}")))?;
    let serving = http.map(|listener| {
        let router = http::router(http::Shared::new(local.clone(), stopping.clone()));
        threads.spawn(http::serve::serve(listener, router, stopping))
    });
    match &demo {
        Some(folder) => say_demo(&broker, http_address, folder),
        None => say(address, &data),
    }
    asked_to_stop().await;
    tracing::info!("stopping");
    // A second signal does not wait for anything.
    tokio::spawn(async {
        asked_to_stop().await;
        std::process::exit(1);
    });
    stop.send_replace(true);
    sampling.abort();
    local.stop().await;
    if let Some(serving) = serving {
        // It ends by itself within its drain time; a panic there was printed already.
        let _ = serving.await;
    }
    broker.shutdown().await;
    // Not before the broker has stopped: what a request began in it may still run there.
    threads.shutdown_background();
    tracing::info!("stopped");
    Ok(())
}

async fn sample(local: Arc<Local>) {
    let mut ticks = tokio::time::interval(RATE_INTERVAL);
    loop {
        ticks.tick().await;
        local.sample();
    }
}

async fn bind_http(listen: Option<&str>, demo: bool) -> Result<Option<TcpListener>, Complaint> {
    let Some(address) = listen else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let fix = if demo {
                "--http-port PORT takes another one"
            } else {
                "odradek.http.listen names another one"
            };
            let text = format!("HTTP cannot use {address}: the port is taken; {fix}");
            Err(Complaint::failed(text))
        }
        Err(error) => {
            let text = format!("HTTP cannot use {address} (odradek.http.listen): {error}");
            Err(Complaint::failed(text))
        }
    }
}

fn start_complaint(error: &StartError, demo: bool) -> Complaint {
    match error {
        StartError::Bind { address, error, .. } if demo => Complaint::failed(format!(
            "Kafka clients cannot be served at {address}: {error}; --kafka-port PORT takes another \
             one"
        )),
        error => Complaint::failed(error.to_string()),
    }
}

/// The four lines that a newcomer needs.
fn say_demo(broker: &Broker, http: SocketAddr, folder: &std::path::Path) {
    let kafka = broker.listeners().first().map(|l| l.address.to_string()).unwrap_or_default();
    let program = std::env::args().next().unwrap_or_else(|| "odradek".to_owned());
    let server =
        if http.port() == 8080 { String::new() } else { format!(" --server http://{http}") };
    println!("Kafka clients connect to  {kafka}   (no password, this machine only)");
    println!("HTTP and the console at   http://{http}/");
    println!("The data lies in          {}", folder.display());
    println!("Try next                  {program} consume stocks --max 5{server}");
}

/// The broker has named its own listeners in the log.
fn say(http: Option<SocketAddr>, data: &std::path::Path) {
    if let Some(address) = http {
        tracing::info!(%address, "listening for HTTP");
        if !address.ip().is_loopback() {
            tracing::warn!(
                %address,
                "HTTP is reachable from other machines and is not encrypted: passwords and records \
                 can be read on the way"
            );
        }
    }
    tracing::info!(data = %data.display(), "ready");
}

/// Ctrl-C, or what a service manager sends.
pub async fn asked_to_stop() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                return;
            }
            Err(error) => tracing::warn!(%error, "SIGTERM cannot be waited for"),
        }
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "Ctrl-C cannot be waited for");
        std::future::pending::<()>().await;
    }
}
