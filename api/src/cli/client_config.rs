//! `odradek client-config`: a client program for this server.

use std::path::PathBuf;

use clap::Args;

use super::{Complaint, ConfigArgs, Done};
use crate::operations::machine::Machine;
use crate::operations::snippets::{self, Kind, Wanted};

/// Print a client program that works against this server, ready to run
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek client-config --for python > example.py\n  \
    odradek client-config --for kcat --user alice --topic stocks\n  \
    odradek client-config --for spark --host kafka.example.net --topic stocks\n\n\
    It is made from the server's configuration: protocol, port, login, and the certificate of the\n\
    authority, so it runs on another machine as it is. The password comes from KAFKA_PASSWORD.\n\
    Remarks go to standard error.")]
pub struct ClientConfig {
    /// For which client
    #[arg(long = "for", value_name = "CLIENT", value_enum)]
    kind: Kind,
    /// The listener to use [default: the first one that other machines reach]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// The server's name or address as the client knows it [default: from advertised.listeners,
    /// the listener's own address, the certificate, or this machine's addresses]
    #[arg(long, value_name = "NAME_OR_ADDRESS")]
    host: Option<String>,
    /// The user to log in as [default: the first of a JAAS line, else kafka]
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The topic to write and read
    #[arg(long, value_name = "TOPIC", default_value = "test")]
    topic: String,
    /// The certificate of the authority, where the server's PEM file does not hold it
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigArgs,
}

impl ClientConfig {
    pub fn run(self) -> Done {
        let (config, _) = self.config.load()?;
        let wanted = Wanted {
            listener: self.listener,
            host: self.host,
            user: self.user,
            topic: self.topic,
            authority: self.ca,
        };
        let made = snippets::profile(&config, &Machine::look(), &wanted);
        let (profile, remarks) = made.map_err(|why| Complaint::failed(why.to_string()))?;
        for remark in remarks {
            eprintln!("odradek: {remark}");
        }
        print!("{}", snippets::snippet(self.kind, &profile));
        Ok(())
    }
}
