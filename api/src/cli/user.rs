//! `odradek user`: on the running server if there is one, else on its data folder.
//!
//! The folder's lock decides: it can only be opened here while no server has it.

use clap::{Args, Subcommand};
use odradek_broker::Broker;
use odradek_broker::client::{Principal, UserInfo};
use odradek_broker::config::Config;
use serde_json::{Value, json};

use super::password::PasswordArgs;
use super::remote::{Remote, RemoteArgs, encoded, reachable};
use super::{Complaint, ConfigArgs, Done, block_on};
use crate::operations::users;

/// Add, change, list and delete users, whether the server is running or not
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek user add alice                          (asks for the password)\n  \
    odradek user add bob --password-file bob.txt\n  \
    ODRADEK_PASSWORD=... odradek user passwd alice\n  \
    odradek user list --config /etc/odradek/server.properties\n  \
    odradek user delete bob\n\n\
    A password is kept only as a verifier and cannot be read back.")]
pub struct User {
    #[command(subcommand)]
    verb: Verb,
}

/// Whose users: of the configuration's data folder, or of a server named outright.
#[derive(Args)]
struct Target {
    #[command(flatten)]
    config: ConfigArgs,
    /// Act on the running server at this address instead of the one of this configuration
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// With --server: whom to sign in as; its password is taken from ODRADEK_PASSWORD, else
    /// asked for (the new one then comes by --password-file)
    #[arg(long = "as", value_name = "NAME", requires = "server")]
    login: Option<String>,
}

#[derive(Subcommand)]
enum Verb {
    /// Add a user
    Add {
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        target: Target,
    },
    /// Change a user's password
    Passwd {
        name: String,
        #[command(flatten)]
        password: PasswordArgs,
        #[command(flatten)]
        target: Target,
    },
    /// List users
    List {
        #[command(flatten)]
        target: Target,
    },
    /// Delete a user
    Delete {
        name: String,
        #[command(flatten)]
        target: Target,
    },
}

/// What is to be done, with the password in hand.
enum Change {
    Set { name: String, password: String, create: bool },
    List,
    Delete { name: String },
}

impl User {
    pub fn run(self) -> Done {
        let (change, target) = match self.verb {
            Verb::Add { name, password, target } => {
                (Change::Set { name, password: password.read_new()?, create: true }, target)
            }
            Verb::Passwd { name, password, target } => {
                (Change::Set { name, password: password.read_new()?, create: false }, target)
            }
            Verb::List { target } => (Change::List, target),
            Verb::Delete { name, target } => (Change::Delete { name }, target),
        };
        if let Some(server) = target.server {
            let password = PasswordArgs::default();
            let remote = RemoteArgs { server, user: target.login, password };
            return block_on(async { apply(&mut Users::Running(remote.open()?), &change).await });
        }
        let (config, _) = target.config.load()?;
        with_users(config, async |users| apply(users, &change).await)
    }
}

async fn apply(users: &mut Users, change: &Change) -> Done {
    match change {
        Change::Set { name, password, create } => {
            users.set(name, password, *create).await?;
            said(name, *create);
        }
        Change::List => {
            for user in users.list().await? {
                println!("{}\t{}", user.name, user.mechanisms.join(","));
            }
        }
        Change::Delete { name } => {
            users.delete(name).await?;
            println!("deleted user {name}");
        }
    }
    Ok(())
}

/// The users of a data folder, or of the server that has it open.
pub enum Users {
    Stopped(Broker),
    Running(Remote),
}

/// Does something with the users of this configuration's data folder.
pub fn with_users<T>(
    config: Config,
    work: impl AsyncFnOnce(&mut Users) -> Result<T, Complaint>,
) -> Result<T, Complaint> {
    // The broker works on its own threads also when nobody can connect to it.
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Complaint::failed(format!("cannot start: {error}")))?;
    runtime.block_on(async {
        let mut users = Users::open(config).await?;
        let done = work(&mut users).await;
        if let Users::Stopped(broker) = users {
            broker.shutdown().await;
        }
        done
    })
}

impl Users {
    async fn open(config: Config) -> Result<Self, Complaint> {
        let http = config.http_listen.clone();
        let closed = match Broker::open_offline(config).await {
            Ok(broker) => return Ok(Self::Stopped(broker)),
            Err(closed) => closed,
        };
        let Some(address) = http else { return Err(Complaint::failed(closed.to_string())) };
        let mut remote = Remote::at(&reachable(&address));
        if remote.send("GET", "/healthz", &[], bytes::Bytes::new()).await.is_err() {
            let text = format!("{closed}; and no server answers at http://{address}");
            return Err(Complaint::failed(text));
        }
        Ok(Self::Running(remote))
    }

    /// What the running server says of itself.
    pub async fn overview(&mut self) -> Result<Option<Value>, Complaint> {
        match self {
            Self::Stopped(_) => Ok(None),
            Self::Running(remote) => remote.json("GET", "/api/v1/overview", None).await.map(Some),
        }
    }

    /// `create`: the user must be new, else must be there.
    pub async fn set(&mut self, name: &str, password: &str, create: bool) -> Done {
        match self {
            Self::Stopped(broker) => {
                let admin = broker.admin(Principal::internal());
                users::set(&*admin, name, password, Some(create)).await.map_err(failed)
            }
            Self::Running(remote) => {
                let body = json!({"password": password, "create": create});
                remote.json("PUT", &user_path(name), Some(&body)).await.map(|_| ())
            }
        }
    }

    pub async fn list(&mut self) -> Result<Vec<UserInfo>, Complaint> {
        match self {
            Self::Stopped(broker) => {
                users::list(&*broker.admin(Principal::internal())).await.map_err(failed)
            }
            Self::Running(remote) => {
                let answer = remote.json("GET", "/api/v1/users", None).await?;
                let users = answer["users"].as_array().into_iter().flatten();
                Ok(users.map(listed).collect())
            }
        }
    }

    pub async fn delete(&mut self, name: &str) -> Done {
        match self {
            Self::Stopped(broker) => {
                let admin = broker.admin(Principal::internal());
                users::delete(&*admin, name).await.map_err(failed)
            }
            Self::Running(remote) => {
                remote.json("DELETE", &user_path(name), None).await.map(|_| ())
            }
        }
    }
}

fn failed(failure: crate::operations::Failure) -> Complaint {
    Complaint::failed(failure.to_string())
}

fn user_path(name: &str) -> String {
    format!("/api/v1/users/{}", encoded(name))
}

fn listed(user: &Value) -> UserInfo {
    let mechanisms = user["mechanisms"].as_array().into_iter().flatten();
    let mechanisms = mechanisms.filter_map(|m| m.as_str()).map(str::to_owned);
    UserInfo {
        name: user["name"].as_str().unwrap_or("?").to_owned(),
        mechanisms: mechanisms.collect(),
    }
}

fn said(name: &str, created: bool) {
    if created {
        println!("added user {name}");
    } else {
        println!("changed the password of {name}");
    }
}
