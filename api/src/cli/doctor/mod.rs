//! `odradek doctor`: looks at a server from outside, as a client would, and says what is wrong.
//!
//! Looking is here (`dial`, `tls`, `kafka`, `view`, `system`), judging in `operations::doctor`. It
//! changes nothing, needs no password, and leaves no trace in the server's diary, but where a
//! listener demands a client certificate.

mod dial;
mod kafka;
mod listeners;
pub mod system;
mod tls;
mod view;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use futures::future::join_all;
use odradek_broker::config::Config;
use serde_json::json;

use super::paragraph::wrapped;
use super::password::PasswordArgs;
use super::remote::{RemoteArgs, reachable};
use super::{Complaint, ConfigArgs, Done, block_on, written};
use crate::http::now_ms;
use crate::operations::doctor::facts::{DiskSeen, Facts, Lock};
use crate::operations::doctor::{Finding, Level, judge};
use crate::operations::machine::Machine;
use listeners::Looking;
use tls::Authorities;
use view::Asked;

/// Look at a running server from outside, as a client would, and say what is wrong
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek doctor\n  \
    odradek doctor --config /etc/odradek/server.properties\n  \
    odradek doctor --server http://192.168.1.10:8080 --user alice\n\n\
    It dials every listener and every advertised address, and looks at certificates, clock, disk,\n\
    memory and files with secrets. It changes nothing. Without a running server it says so, and\n\
    checks what can be checked.\n\
    Exit code 0: no problem, perhaps warnings. 1: there are problems.")]
pub struct Doctor {
    #[command(flatten)]
    config: ConfigArgs,
    /// The running server's HTTP address [default: odradek.http.listen of the configuration]
    #[arg(long, value_name = "URL", env = "ODRADEK_SERVER")]
    server: Option<String>,
    /// The user to ask the server as, if it wants one; its password is taken from
    /// --password-file, ODRADEK_PASSWORD or a prompt
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    #[command(flatten)]
    password: PasswordArgs,
    /// The authority that clients trust [default: ca.pem beside the server's certificate]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub fn run(self) -> Done {
        let findings = block_on(async { Ok(judge(&self.look().await?)) })?;
        let text = if self.json {
            json!({ "findings": findings }).to_string() + "\n"
        } else {
            shown(&findings)
        };
        written(io::stdout().write_all(text.as_bytes()))?;
        match findings.iter().filter(|finding| finding.level == Level::Problem).count() {
            0 => Ok(()),
            count => Err(Complaint::failed(counted(count, "problem"))),
        }
    }

    async fn look(&self) -> Result<Facts, Complaint> {
        let sources = self.config.sources();
        // Where a server is named and no configuration, the defaults are not its configuration.
        let is_its_own =
            self.server.is_none() || sources.file.is_some() || !sources.overrides.is_empty();
        let closed = sources.file.as_deref().filter(|file| system::is_closed(file));
        let closed = closed.map(|file| file.display().to_string());
        let (config, configuration_problems) = match Config::load(&sources) {
            Ok(config) => (Some(config).filter(|_| is_its_own), Vec::new()),
            Err(_) if closed.is_some() => (None, Vec::new()),
            Err(problems) => (None, problems.iter().map(ToString::to_string).collect()),
        };
        let (asked, host) = self.ask(config.as_ref()).await?;
        let is_here = host.as_deref().is_none_or(is_this_machine);
        let here = config.as_ref().filter(|_| is_here);
        let lock = here.map_or(Lock::Unknown, |config| system::lock(&config.log_dir));
        let mut facts = Facts {
            now_s: now_ms() / 1_000,
            is_here,
            configuration_closed: closed,
            configuration_problems: if is_here { configuration_problems } else { Vec::new() },
            lock,
            interfaces: Machine::look().addresses,
            ..Facts::default()
        };
        if let Some(config) = here {
            look_at_machine(&mut facts, config, &asked);
        }
        let beside = here.and_then(listeners::authority_beside);
        let authorities = Authorities::read(self.ca.as_deref(), beside.as_deref());
        let looking = Looking {
            interfaces: &facts.interfaces,
            remote_host: host.as_deref().filter(|_| !is_here),
            authorities: &authorities.map_err(Complaint::wrong_input)?,
            tls: tls::client_config().map_err(Complaint::failed)?,
        };
        // Another server's listeners are not those of this configuration.
        let of = here.filter(|_| asked.listeners.is_empty() || lock != Lock::Free);
        let targets = listeners::targets(of, &asked.listeners);
        let listeners = join_all(targets.into_iter().map(|target| looking.look(target))).await;
        Ok(Facts { http: asked.http, listeners, ..facts })
    }

    /// What the server tells, and the host of its address if one was named.
    async fn ask(&self, config: Option<&Config>) -> Result<(Asked, Option<String>), Complaint> {
        let configured = match config {
            Some(config) => config.http_listen.as_deref().map(reachable),
            None => Some("127.0.0.1:8080".to_owned()),
        };
        let Some(server) = self.server.clone().or(configured) else {
            return Ok((Asked::default(), None));
        };
        let password = self.password.clone();
        let mut remote = RemoteArgs { server, user: self.user.clone(), password }.open()?;
        let address = remote.authority().to_owned();
        let asked = view::ask(&mut remote, &address).await;
        let host = self.server.as_ref().and_then(|_| address.rsplit_once(':'));
        Ok((asked, host.map(|(host, _)| host.trim_matches(['[', ']']).to_owned())))
    }
}

/// The data folder, files, disk, memory and clock of the server's own machine.
fn look_at_machine(facts: &mut Facts, config: &Config, asked: &Asked) {
    let folder: &Path = &config.log_dir;
    facts.folder = system::folder(folder, facts.lock);
    // By path: a file that holds several is one file.
    let secrets: BTreeMap<PathBuf, &str> = config.secret_files().into_iter().collect();
    facts.secret_files =
        secrets.iter().filter_map(|(path, what)| system::secret_file(path, what, folder)).collect();
    facts.clock = system::clock(folder);
    facts.memory_available_bytes = system::memory_available_bytes();
    facts.connections_max = u64::try_from(config.limits.connections_max).ok();
    let reserve_bytes = config.disk_reserve_bytes;
    facts.disk = system::free_bytes(folder)
        .or(asked.disk_free_bytes)
        .map(|free_bytes| DiskSeen { free_bytes, reserve_bytes });
}

fn is_this_machine(host: &str) -> bool {
    match host.parse::<std::net::IpAddr>() {
        Ok(address) => Machine::look().has(address.to_canonical()),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn shown(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut subject = "";
    for finding in findings {
        if finding.subject != subject {
            let _ = writeln!(text, "{}", finding.subject);
        }
        subject = &finding.subject;
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "warning",
            Level::Problem => "PROBLEM",
        };
        let _ = writeln!(text, "  {level:<8} {}", wrapped(&finding.what, 11).trim_start());
        for (label, said) in [("seen:", &finding.evidence), ("do:", &finding.fix)] {
            if !said.is_empty() {
                let said = wrapped(said, 17);
                let _ = writeln!(text, "           {label:<6}{}", said.trim_start());
            }
        }
        if let Some(id) = finding.diagnosis {
            let _ = writeln!(text, "           more: odradek explain {id}");
        }
    }
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let ok = count(Level::Ok);
    let warnings = counted(count(Level::Warning), "warning");
    let problems = counted(count(Level::Problem), "problem");
    let _ = writeln!(text, "\n{ok} ok, {warnings}, {problems}");
    text
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
