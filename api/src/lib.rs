//! What the binary `odradek` does: read the command line, do the one thing that it asks for.
//!
//! A library, so that the fuzz targets reach the parsers; nobody else builds on it.

mod cli;
mod console;
mod demo;
mod exporter;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod local;
mod logging;
mod operations;
mod pipeline;
mod process;
mod services;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

/// The whole program.
pub fn main() -> ExitCode {
    process::begin();
    process::allow_open_files();
    let cli = Cli::parse();
    let done = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::User(command) => command.run(),
        Command::Acl(command) => command.run(),
        Command::Topic(command) => command.run(),
        Command::Produce(command) => command.run(),
        Command::Consume(command) => command.run(),
        Command::Expose(command) => command.run(),
        Command::ClientConfig(command) => command.run(),
        Command::Tls(command) => command.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(complaint) => {
            eprintln!("odradek: {complaint}");
            complaint.exit_code()
        }
    }
}
