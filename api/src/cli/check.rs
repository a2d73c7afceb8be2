//! `odradek check`: is the configuration right? Starts nothing, opens no port and no data; opens
//! the files that the configuration names.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use odradek_broker::config::{Config, ConfigProblem, Further, Listener, Pem};
use odradek_broker::file_modes;

use super::{Complaint, ConfigArgs, Done};
use crate::operations::certificate_facts::{self, EXPIRES_SOON_DAYS};
use crate::pipeline;

/// Check server.properties and pipeline.toml without starting
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek check\n  \
    odradek check --config /etc/odradek/server.properties --pipeline pipeline.toml\n\n\
    Each problem is a line: file:line: key: what is wrong. Fix: what to write.\n\
    Certificates, keys and files with secrets are looked at, too; ports are not opened.\n\
    Exit code 0: all is well. 2: there are problems.")]
pub struct Check {
    #[command(flatten)]
    config: ConfigArgs,
    /// The pipeline.toml to read [default: beside server.properties, ./pipeline.toml, the system's]
    #[arg(long, value_name = "FILE")]
    pipeline: Option<PathBuf>,
}

impl Check {
    pub fn run(self) -> Done {
        let sources = self.config.sources();
        let mut problems = Vec::new();
        match &sources.file {
            Some(file) => println!("{}", file.display()),
            None => println!("no server.properties: the defaults hold (this machine only)"),
        }
        match Config::load(&sources) {
            Ok(config) => {
                config.warnings.iter().for_each(|warning| println!("warning: {warning}"));
                problems.extend(further(&config));
                config.notes.iter().for_each(|note| println!("note: {note}"));
            }
            Err(found) => problems.extend(found),
        }
        match pipeline::find(self.pipeline.as_deref(), sources.file.as_deref()) {
            Some(file) => {
                println!("{}", file.display());
                match pipeline::read(&file) {
                    Ok(pipeline) => odradek_ingest::warnings(&pipeline.sources)
                        .iter()
                        .for_each(|warning| println!("warning: {warning}")),
                    Err(found) => problems.extend(found),
                }
            }
            None => println!("no pipeline.toml: no sources, no analytics"),
        }
        if problems.is_empty() {
            println!("ok");
            return Ok(());
        }
        for problem in &problems {
            println!("{problem}");
        }
        let count = problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        Err(Complaint::wrong_input(format!("{count} {noun}")))
    }
}

/// Prints what will go wrong, and returns what does: in the files that are named, and where
/// settings meet.
fn further(config: &Config) -> Vec<ConfigProblem> {
    let Further { mut problems, mut warnings } = config.check_further();
    for listener in &config.listeners {
        let times = certificate_times(config, listener, Timestamp::now());
        problems.extend(times.problems);
        warnings.extend(times.warnings);
    }
    warnings.dedup();
    warnings.iter().for_each(|warning| println!("warning: {warning}"));
    file_modes::warnings(config).iter().for_each(|warning| println!("warning: {warning}"));
    problems.dedup();
    problems
}

/// Certificates of a listener that are over, or soon will be.
fn certificate_times(config: &Config, listener: &Listener, now: Timestamp) -> Further {
    let mut further = Further::default();
    let Some(tls) = &listener.tls else { return further };
    let key = match &tls.chain {
        Pem::File(_) => "ssl.keystore.location",
        Pem::Inline(_) => "ssl.keystore.certificate.chain",
    };
    // What cannot be read at all was told before.
    let text = tls.chain.read().unwrap_or_default();
    for certificate in certificate_facts::read(&text).unwrap_or_default() {
        let at = |what: String| {
            let fix =
                "`odradek tls init` renews one that it made; else put a new one into the file";
            config.problem_at(&listener.name, key, what, fix)
        };
        let (subject, until) = (&certificate.subject, certificate.not_after.strftime("%Y-%m-%d"));
        let left_days = certificate.not_after.duration_since(now).as_hours() / 24;
        if certificate.not_after < now {
            further.problems.push(at(format!("the certificate of {subject} expired on {until}")));
        } else if certificate.not_before > now {
            let from = certificate.not_before.strftime("%Y-%m-%d");
            let what = format!("the certificate of {subject} is not valid before {from}");
            further.problems.push(at(what));
        } else if left_days < EXPIRES_SOON_DAYS {
            further.warnings.push(at(format!("the certificate of {subject} expires on {until}")));
        }
    }
    further
}
