//! `odradek check`: is the configuration right? Starts nothing, opens no port and no data.

use std::path::PathBuf;

use clap::Args;
use odradek_broker::config::Config;

use super::{Complaint, ConfigArgs, Done};
use crate::pipeline;

/// Check server.properties and pipeline.toml without starting
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek check\n  \
    odradek check --config /etc/odradek/server.properties --pipeline pipeline.toml\n\n\
    Each problem is a line: file:line: key: what is wrong. Fix: what to write.\n\
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
                config.notes.iter().for_each(|note| println!("note: {note}"));
            }
            Err(found) => problems.extend(found),
        }
        match pipeline::find(self.pipeline.as_deref(), sources.file.as_deref()) {
            Some(file) => {
                println!("{}", file.display());
                problems.extend(pipeline::read(&file).err().into_iter().flatten());
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
