//! `odradek tls`: certificates of one's own.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::{Complaint, Done};
use crate::operations::certificate_facts::CertificateFacts;
use crate::operations::certificates::{self, CertificateError, Issued};
use crate::operations::machine::Machine;

/// Make a certificate authority of your own, and certificates for the server and for clients
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek tls init                                (this machine's names and addresses)\n  \
    odradek tls init --host kafka.example.net --dir /etc/odradek/tls\n  \
    odradek tls client laptop\n\n\
    `odradek tls init` run again makes a new server certificate by the same authority, with the\n\
    names of the former one and the addresses that this machine has now. Clients notice nothing.")]
pub struct Tls {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make or renew the server's certificate, and the authority if there is none yet
    Init {
        /// A name or address by which clients reach this server; may be given more than once.
        /// This machine's own names and addresses are always in
        #[arg(long = "host", value_name = "NAME_OR_ADDRESS")]
        hosts: Vec<String>,
        #[command(flatten)]
        folder: Folder,
    },
    /// Make or renew the certificate of a client (for ssl.client.auth)
    Client {
        /// Who the client is; also the name of the file
        name: String,
        #[command(flatten)]
        folder: Folder,
    },
}

#[derive(Args)]
struct Folder {
    /// Where the files lie
    #[arg(long, value_name = "DIR", default_value = "tls")]
    dir: PathBuf,
}

impl Tls {
    pub fn run(self) -> Done {
        let machine = Machine::look();
        match self.verb {
            Verb::Init { hosts, folder } => {
                let folder = absolute(&folder.dir)?;
                say_server(&certificates::server(&folder, &hosts, &machine).map_err(complaint)?);
            }
            Verb::Client { name, folder } => {
                let folder = absolute(&folder.dir)?;
                let issued = certificates::client(&folder, &name, &machine).map_err(complaint)?;
                say_client(&issued, &name);
            }
        }
        Ok(())
    }
}

/// The server may be started from any folder, so whole paths go into its configuration.
pub fn absolute(path: &Path) -> Result<PathBuf, Complaint> {
    std::path::absolute(path)
        .map_err(|error| Complaint::wrong_input(format!("{}: {error}", path.display())))
}

pub fn complaint(error: CertificateError) -> Complaint {
    match error {
        CertificateError::Name { .. } => Complaint::wrong_input(error.to_string()),
        error => Complaint::failed(error.to_string()),
    }
}

/// A path as it is written in a properties file, where a backslash must be doubled.
pub fn property(path: &Path) -> String {
    path.display().to_string().replace('\\', "\\\\")
}

/// What lies where, and what it is for.
pub fn say_files(issued: &Issued) {
    let kept = if issued.authority_is_new { "new" } else { "kept as it was" };
    let made = if issued.renewed { "renewed" } else { "new" };
    println!("{}", issued.authority_path.display());
    println!("    the authority's certificate, {kept}: clients need it, and it is no secret");
    println!("    valid until {}", day(&issued.authority));
    println!("    SHA-256 {}", issued.authority.fingerprint);
    println!("{}", issued.authority_key_path.display());
    println!("    the authority's private key, {kept}: whoever has it can pose as this server");
    println!("{}", issued.path.display());
    println!("    private key, certificate and authority in one file, {made}: a secret, too");
    println!("    valid until {}", day(&issued.certificate));
    println!("    SHA-256 {}", issued.certificate.fingerprint);
    if !issued.certificate.names.is_empty() {
        println!("    for {}", issued.certificate.names.join(", "));
    }
}

fn say_server(issued: &Issued) {
    say_files(issued);
    println!();
    println!("These lines of server.properties go with it (the listener may be named otherwise):");
    println!();
    println!("    listeners=SASL_SSL://:9092");
    println!("    ssl.keystore.type=PEM");
    println!("    ssl.keystore.location={}", property(&issued.path));
    println!();
    println!("Run this again before {}, and when this machine", day(&issued.certificate));
    println!(
        "gets another address: clients go on trusting it, and former names are kept. A running"
    );
    println!("server takes the new file by itself within seconds.");
}

fn say_client(issued: &Issued, name: &str) {
    say_files(issued);
    println!();
    println!(
        "The client needs both .pem files, and these lines (of Java; others name them alike):"
    );
    println!();
    println!("    security.protocol=SSL");
    println!("    ssl.keystore.type=PEM");
    println!("    ssl.keystore.location={name}.pem");
    println!("    ssl.truststore.type=PEM");
    println!("    ssl.truststore.location=ca.pem");
    println!();
    println!("The server lets in whoever shows such a certificate by these lines, and calls this");
    println!("client User:{name}:");
    println!();
    println!("    ssl.client.auth=required");
    println!("    ssl.truststore.type=PEM");
    println!("    ssl.truststore.location={}", property(&issued.authority_path));
    println!("    ssl.principal.mapping.rules=RULE:^CN=(.*?)$/$1/,DEFAULT");
}

pub fn day(facts: &CertificateFacts) -> String {
    facts.not_after.strftime("%F").to_string()
}
