//! The command line. Each subcommand is a file: its arguments, its help, what it does with them.
//!
//! Exit codes: 0 done, 1 it failed, 2 the command line or the configuration is wrong. What a
//! program may read goes to standard output; all else goes to standard error.

pub mod acl;
pub mod bench;
pub mod check;
pub mod client_config;
pub mod consume;
pub mod doctor;
pub mod explain;
pub mod expose;
pub mod paragraph;
pub mod password;
pub mod produce;
pub mod remote;
pub mod serve;
pub mod tls;
pub mod topic;
pub mod user;

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use odradek_broker::config::{Config, Sources};

/// A Kafka-compatible broker with ingest, analytics and HTTP in one program.
#[derive(Parser)]
#[command(
    name = "odradek",
    version,
    after_help = "Try it:  odradek serve --demo\n\
                  Then:    odradek topic list\n         \
                           odradek consume stocks --max 5"
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    Explain(explain::Explain),
    User(user::User),
    Acl(acl::AclCommand),
    Topic(topic::Topic),
    Produce(produce::Produce),
    Consume(consume::Consume),
    Expose(expose::Expose),
    ClientConfig(client_config::ClientConfig),
    Tls(tls::Tls),
}

/// Where the server's configuration is.
#[derive(Args, Debug, Clone, Default)]
pub struct ConfigArgs {
    /// The server.properties to read [default: ./server.properties, then the system's folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one key over file and environment; may be given more than once
    ///
    /// Not for passwords: every user of the machine can read a command line. Write those in the
    /// file, or in the environment (KAFKA_SASL_JAAS_CONFIG).
    #[arg(long = "override", value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,
    /// The data folder, short for --override log.dirs=DIR
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

impl ConfigArgs {
    pub fn sources(&self) -> Sources {
        let mut overrides = self.overrides.clone();
        overrides.extend(self.data.as_ref().map(|dir| format!("log.dirs={}", dir.display())));
        Sources::discover(self.config.clone(), overrides)
    }

    pub fn load(&self) -> Result<(Config, Sources), Complaint> {
        let sources = self.sources();
        let config = Config::load(&sources).map_err(|problems| {
            let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Complaint::wrong_input(lines.join("\n"))
        })?;
        Ok((config, sources))
    }
}

/// Why a command did not do its work, for a person.
#[derive(Debug)]
pub struct Complaint {
    text: String,
    code: u8,
}

impl Complaint {
    pub fn failed(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 1 }
    }

    pub fn wrong_input(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: 2 }
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

pub type Done = Result<(), Complaint>;

/// Runs a command that is a client: one thread is enough for it.
pub fn block_on<T>(work: impl Future<Output = Result<T, Complaint>>) -> Result<T, Complaint> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Complaint::failed(format!("cannot start: {error}")))?
        .block_on(work)
}

/// A reader of our output that has had enough (`… | head`) is no failure.
pub fn written(result: std::io::Result<()>) -> Result<bool, Complaint> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Complaint::failed(format!("cannot write: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_put_together_soundly() {
        super::Cli::command().debug_assert();
    }
}
