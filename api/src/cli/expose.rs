//! `odradek expose`: from nothing to a listener for the network, with a password and TLS.
//!
//! Nothing is in place before everything could be made: the certificates and the user first, the
//! configuration last.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use odradek_broker::config::{Config, ConfigProblem, Sources};

use super::paragraph::wrapped;
use super::password::{PasswordArgs, VARIABLE};
use super::tls::{absolute, complaint, day, say_files};
use super::user::{Users, with_users};
use super::{Complaint, Done};
use crate::http::auth::is_loopback_host;
use crate::operations::atomic_file::Draft;
use crate::operations::certificates::{self, Issued, check_host};
use crate::operations::expose::{self, LISTENER, MergeError, Merged};
use crate::operations::machine::Machine;
use crate::operations::snippets::{self, Kind, PASSWORD, Profile, Wanted};

/// Open the broker to the network: a TLS listener with login, a certificate, a user
#[derive(Args)]
#[command(
    group(ArgGroup::new("reach").required(true).multiple(true).args(["lan", "hosts"])),
    after_help = "Examples:\n  \
    odradek expose --lan                        (reached by this machine's names and addresses)\n  \
    odradek expose --host kafka.example.net     (by this name, too: behind a router)\n  \
    odradek expose --lan --user alice --password-file alice.txt\n\n\
    It writes server.properties (what the file says already stays), makes a certificate authority\n\
    and a certificate as `odradek tls init` does, adds a user with a new password, and prints\n\
    programs for Python, Java and kcat that work from another machine. HTTP and the console stay\n\
    on this machine. Run again, it renews the certificate and changes no password."
)]
pub struct Expose {
    /// For programs on the local network
    #[arg(long)]
    lan: bool,
    /// A name (or address) by which clients from elsewhere reach this machine; may be given more
    /// than once
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// The port for Kafka clients
    #[arg(long, default_value_t = 9092, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The user to add
    #[arg(long, value_name = "NAME", default_value = snippets::DEFAULT_USER)]
    user: String,
    /// Reads the user's password from this file's first line [default: from ODRADEK_PASSWORD, else
    /// one is made]
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Asks for the user's password instead of making one
    #[arg(long, conflicts_with = "password_file")]
    ask_password: bool,
    /// The server.properties to write [default: ./server.properties, or the system's if there is
    /// one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the certificates lie [default: tls, beside server.properties]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The data folder of a new server.properties [default: odradek-data, beside it]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Makes lines of server.properties that say otherwise comments (a copy of the file is kept)
    #[arg(long)]
    force: bool,
}

/// What was done, to be told.
struct Exposed {
    file: PathBuf,
    merged: Merged,
    backup: Option<PathBuf>,
    issued: Issued,
    user: UserState,
    server: ServerState,
    config: Config,
    /// What the printed programs are made from.
    profile: Profile,
}

enum ServerState {
    Stopped,
    /// As it was before: not with the listener of this configuration.
    ToBeRestarted,
    Listening,
}

enum UserState {
    /// Whether the password is one that we made, and so to be shown.
    Added(Option<String>),
    PasswordChanged,
    WasThere,
}

impl Expose {
    pub fn run(self) -> Done {
        let machine = Machine::look();
        if self.lan && machine.addresses.is_empty() {
            let text = "this machine has no address that others could reach: it is on no network. \
                        --host NAME goes without one";
            return Err(Complaint::failed(text));
        }
        self.hosts.iter().try_for_each(|host| check_host(host)).map_err(complaint)?;
        let exposed = self.expose(&machine)?;
        self.say(&exposed, &machine);
        Ok(())
    }

    fn expose(&self, machine: &Machine) -> Result<Exposed, Complaint> {
        let given = self.given_password()?;
        let sources = Sources::discover(self.config.clone(), Vec::new());
        refuse_environment(&sources)?;
        let file = sources.file.clone().unwrap_or_else(|| PathBuf::from("server.properties"));
        let file = absolute(&file)?;
        let folder = file.parent().unwrap_or(Path::new(".")).to_path_buf();
        let tls = absolute(self.dir.as_deref().unwrap_or(&folder.join("tls")))?;
        let merged = self.merge(&file, &folder, &tls)?;
        let failed = |error| Complaint::failed(format!("{}: {error}", file.display()));
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let draft = expose::draft(&file, &merged.text).map_err(failed)?;
        let config = load(&sources, &draft, &file)?;
        let issued = certificates::server(&tls, &self.hosts, machine).map_err(complaint)?;
        // What may fail comes before there is a password that would then never be shown.
        let profile = self.profile(&config, machine)?;
        let backup =
            if merged.is_changed() { expose::back_up(&file).map_err(failed)? } else { None };
        let (user, server) = self.add_user(config.clone(), given)?;
        if merged.is_changed() {
            draft.put_in_place().map_err(failed)?;
        }
        Ok(Exposed { file, merged, backup, issued, user, server, config, profile })
    }

    fn merge(&self, file: &Path, folder: &Path, tls: &Path) -> Result<Merged, Complaint> {
        let existing = match std::fs::read_to_string(file) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Complaint::failed(format!("{}: {error}", file.display())));
            }
        };
        if existing.is_some() && self.data.is_some() {
            let text = format!(
                "--data is for a new server.properties; {} is there already, and its log.dirs \
                 stays",
                file.display()
            );
            return Err(Complaint::wrong_input(text));
        }
        let data = self.data.clone().unwrap_or_else(|| folder.join("odradek-data"));
        let data = absolute(&data)?;
        let log_dir = existing.is_none().then_some(data.as_path());
        let settings = expose::settings(self.port, &tls.join("server.pem"), log_dir);
        expose::merge(existing.as_deref(), &settings, self.force).map_err(|why| match why {
            MergeError::Unreadable(error) => {
                Complaint::wrong_input(format!("{}: {error}", file.display()))
            }
            MergeError::Contradicted(lines) => contradiction(file, &lines, &settings),
        })
    }

    fn add_user(
        &self,
        config: Config,
        given: Option<String>,
    ) -> Result<(UserState, ServerState), Complaint> {
        let name = &self.user;
        let configured = config.users.iter().any(|user| user.name == *name);
        with_users(config, async |users| {
            let server = self.server_state(users).await?;
            let there = configured || users.list().await?.iter().any(|user| user.name == *name);
            let state = match (there, given) {
                (true, None) => UserState::WasThere,
                (true, Some(password)) => {
                    users.set(name, &password, false).await?;
                    UserState::PasswordChanged
                }
                (false, Some(password)) => {
                    users.set(name, &password, true).await?;
                    UserState::Added(None)
                }
                (false, None) => {
                    let password = expose::password();
                    users.set(name, &password, true).await?;
                    UserState::Added(Some(password))
                }
            };
            Ok((state, server))
        })
    }

    async fn server_state(&self, users: &mut Users) -> Result<ServerState, Complaint> {
        let Some(overview) = users.overview().await? else { return Ok(ServerState::Stopped) };
        let port = format!(":{}", self.port);
        let mut open = overview["listeners"].as_array().into_iter().flatten();
        let listening = open.any(|one| {
            let address = one["address"].as_str().unwrap_or_default();
            one["protocol"] == LISTENER && address.ends_with(&port)
        });
        Ok(if listening { ServerState::Listening } else { ServerState::ToBeRestarted })
    }

    /// `None`: one is to be made, if the user is new.
    fn given_password(&self) -> Result<Option<String>, Complaint> {
        if self.ask_password {
            return PasswordArgs::ask_new().map(Some);
        }
        let named = self.password_file.is_some() || std::env::var_os(VARIABLE).is_some();
        let password = PasswordArgs { password_file: self.password_file.clone() };
        if named { password.read_new().map(Some) } else { Ok(None) }
    }

    fn say(&self, exposed: &Exposed, machine: &Machine) {
        say_configuration(exposed);
        say_files(&exposed.issued);
        println!();
        for (title, kind) in [("Python", Kind::Python), ("Java", Kind::Java), ("kcat", Kind::Kcat)]
        {
            println!("=== {title} ===\n{}", snippets::snippet(kind, &exposed.profile));
        }
        println!("=== Others ===");
        let file = exposed.file.display();
        println!("odradek client-config --for spark --config {file}");
        println!("    prints one for Spark; there are databricks, dotnet and go, too");
        if let Some(host) = self.hosts.first().filter(|_| self.lan) {
            println!("odradek client-config --for python --host {host} --config {file}");
            println!("    the same for a client that reaches this machine by that name");
        }
        // Last, because it is what a terminal still shows.
        println!("\n=== Now ===");
        self.say_reach(exposed, machine);
        println!();
        self.say_user(exposed);
    }

    fn profile(&self, config: &Config, machine: &Machine) -> Result<Profile, Complaint> {
        let wanted = Wanted {
            listener: Some(LISTENER.to_owned()),
            host: self.printed_host(machine),
            user: Some(self.user.clone()),
            topic: "test".to_owned(),
            authority: None,
        };
        let made = snippets::profile(config, machine, &wanted);
        made.map(|(profile, _)| profile).map_err(|why| Complaint::failed(why.to_string()))
    }

    /// An address of the local network works there without any name service; from elsewhere only a
    /// name does.
    fn printed_host(&self, machine: &Machine) -> Option<String> {
        let address = machine.addresses.first().filter(|_| self.lan);
        address.map(ToString::to_string).or_else(|| self.hosts.first().cloned())
    }

    fn say_user(&self, exposed: &Exposed) {
        let name = &self.user;
        let taken = format!("the programs above take it from {PASSWORD}");
        let (text, password) = match &exposed.user {
            UserState::Added(Some(password)) => {
                let text = format!(
                    "The password of the new user {name}, shown only now (the server keeps what it \
                     needs to check it, not the password):"
                );
                (text, Some(password))
            }
            UserState::Added(None) => {
                (format!("The new user {name} has the given password; {taken}."), None)
            }
            UserState::PasswordChanged => {
                let text = format!(
                    "The user {name} was there already and has the given password now; {taken}."
                );
                (text, None)
            }
            UserState::WasThere => {
                let text = format!(
                    "The user {name} was there already, and the password is what it was (`odradek \
                     user passwd {name}` changes it); {taken}."
                );
                (text, None)
            }
        };
        say(&text);
        match password {
            Some(password) if cfg!(windows) => println!("\n    $env:{PASSWORD} = '{password}'"),
            Some(password) => println!("\n    export {PASSWORD}='{password}'"),
            None => {}
        }
    }

    fn say_reach(&self, exposed: &Exposed, machine: &Machine) {
        let port = self.port;
        match exposed.server {
            ServerState::Stopped => {
                println!("Start it:  odradek serve --config {}", exposed.file.display());
            }
            ServerState::ToBeRestarted => {
                say("The server is running as it was: restart it, and it listens for others.");
            }
            ServerState::Listening => {
                say("The server is running, and takes the new certificate by itself within \
                     seconds.");
            }
        }
        say("Every Kafka client needs TLS and a user then, those on this machine too.");
        let access = &exposed.config.access;
        if access.enabled && !access.super_users.contains(&format!("User:{}", self.user)) {
            let name = &self.user;
            say(&format!(
                "Access rules are on (authorizer.class.name): {name} may do what they allow."
            ));
        }
        match exposed.config.http_listen.as_deref() {
            None => say("There is no HTTP and no console (odradek.http.listen is empty)."),
            Some(http) if is_loopback_host(http) => say(&format!(
                "HTTP and the console stay on this machine, without a password: http://{http}/"
            )),
            Some(http) => say(&format!(
                "HTTP is not touched by this: it listens at {http}, without TLS, as \
                 odradek.http.listen says."
            )),
        }
        say(&format!(
            "Run this again when this machine's address changes, and before {}: the password and \
             what clients trust stay as they are.",
            day(&exposed.issued.certificate)
        ));
        say(&format!(
            "A firewall must let TCP port {port} in (Ubuntu: sudo ufw allow {port}/tcp)."
        ));
        if !self.hosts.is_empty() {
            say(&format!(
                "A router between must forward its TCP port {port} to port {port} of this machine: \
                 the same number, because clients are told the port at which the server listens."
            ));
        }
        let addresses = self.hosts.iter().filter_map(|host| host.parse().ok());
        for address in addresses.filter(|address| !machine.has(*address)) {
            say(&format!(
                "{address} is not an address of this machine. A client that dials an address is \
                 told the one at which it reached this machine, which a router changes: from \
                 outside use a name (--host NAME)."
            ));
        }
    }
}

fn say(text: &str) {
    println!("{}", wrapped(text, 0));
}

/// The environment wins over the file, which would then be written in vain.
fn refuse_environment(sources: &Sources) -> Done {
    const OURS: [&str; 4] = [
        "KAFKA_LISTENERS",
        "KAFKA_ADVERTISED_LISTENERS",
        "KAFKA_SSL_KEYSTORE_LOCATION",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
    ];
    let found = sources.environment.iter().find(|(name, _)| OURS.contains(&name.as_str()));
    match found {
        None => Ok(()),
        Some((name, _)) => Err(Complaint::wrong_input(format!(
            "the environment sets {name}, which wins over server.properties; unset it, here and \
             where the server is started"
        ))),
    }
}

/// As the server will read it, environment and all; problems are told with the file's own name.
fn load(sources: &Sources, draft: &Draft, file: &Path) -> Result<Config, Complaint> {
    let draft_sources = Sources { file: Some(draft.path().to_path_buf()), ..sources.clone() };
    let drafted = draft.path().display().to_string();
    Config::load(&draft_sources).map_err(|problems| {
        let named = |mut problem: ConfigProblem| {
            if problem.file == drafted {
                problem.file = file.display().to_string();
            }
            problem.to_string()
        };
        let lines: Vec<String> = problems.into_iter().map(named).collect();
        Complaint::wrong_input(lines.join("\n"))
    })
}

fn contradiction(
    file: &Path,
    lines: &[odradek_broker::config::properties::Property],
    settings: &[expose::Setting],
) -> Complaint {
    let mut text = format!("{} says otherwise, and nothing was changed:\n", file.display());
    for property in lines {
        text += &format!("  line {}: {}\n", property.line, property.key);
    }
    text += "Take these lines out, or let --force make them comments (a copy of the file is kept). \
             These are to be there:\n";
    for expose::Setting { key, value } in settings {
        text += &format!("  {key}={}\n", value.replace('\\', "\\\\"));
    }
    Complaint::wrong_input(text.trim_end())
}

fn say_configuration(exposed: &Exposed) {
    println!("{}", exposed.file.display());
    for property in &exposed.merged.commented_out {
        println!("    line {} is a comment now: {}", property.line, property.key);
    }
    for expose::Setting { key, value } in &exposed.merged.added {
        println!("    {key}={value}");
    }
    if !exposed.merged.is_changed() {
        println!("    unchanged: it says all that is needed");
    }
    if let (true, Ok(data)) =
        (exposed.config.log_dir.is_relative(), absolute(&exposed.config.log_dir))
    {
        println!("    log.dirs is no whole path: the data, and with it the user, lies in");
        println!("    {} if the server is started from this folder", data.display());
    }
    if let Some(backup) = &exposed.backup {
        println!("    as it was: {}", backup.display());
    }
}
