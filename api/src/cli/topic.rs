//! `odradek topic`: create, list, describe, delete on the running server.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::remote::{RemoteArgs, encoded};
use super::{Complaint, Done, block_on};

/// Create, list, describe and delete topics of the running server
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    odradek topic list\n  \
    odradek topic create stocks --partitions 3 --set retention.ms=604800000\n  \
    odradek topic describe stocks\n  \
    odradek topic delete stocks")]
pub struct Topic {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Create a topic
    Create {
        name: String,
        /// [default: the server's num.partitions]
        #[arg(long, value_name = "N")]
        partitions: Option<i32>,
        /// A topic configuration, such as cleanup.policy=compact; may be given more than once
        #[arg(long = "set", value_name = "KEY=VALUE")]
        configs: Vec<String>,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Name, partitions and number of records of each topic
    List {
        /// Internal topics too
        #[arg(long)]
        all: bool,
        /// The server's JSON as it is
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Offsets and size of each partition
    Describe {
        name: String,
        /// The server's JSON as it is
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        remote: RemoteArgs,
    },
    /// Delete a topic with all its records
    Delete {
        name: String,
        #[command(flatten)]
        remote: RemoteArgs,
    },
}

impl Topic {
    pub fn run(self) -> Done {
        block_on(async {
            match self.verb {
                Verb::Create { name, partitions, configs, remote } => {
                    create(&name, partitions, &configs, &remote).await
                }
                Verb::List { all, json, remote } => list(all, json, &remote).await,
                Verb::Describe { name, json, remote } => describe(&name, json, &remote).await,
                Verb::Delete { name, remote } => {
                    let path = format!("/api/v1/topics/{}", encoded(&name));
                    remote.open()?.json("DELETE", &path, None).await?;
                    println!("deleted {name}");
                    Ok(())
                }
            }
        })
    }
}

async fn create(
    name: &str,
    partitions: Option<i32>,
    configs: &[String],
    remote: &RemoteArgs,
) -> Done {
    let mut set = serde_json::Map::new();
    for config in configs {
        let (key, value) = config
            .split_once('=')
            .ok_or_else(|| Complaint::wrong_input(format!("--set {config}: write KEY=VALUE")))?;
        set.insert(key.trim().to_owned(), value.trim().into());
    }
    let body = json!({"name": name, "partitions": partitions, "configs": set});
    let created = remote.open()?.json("POST", "/api/v1/topics", Some(&body)).await?;
    println!("created {name} with {} partitions", partitions_of(&created).len());
    Ok(())
}

async fn list(all: bool, json: bool, remote: &RemoteArgs) -> Done {
    let answer = remote.open()?.json("GET", "/api/v1/topics", None).await?;
    if json {
        println!("{answer}");
        return Ok(());
    }
    println!("{:<40} {:>10} {:>14} {:>14}", "TOPIC", "PARTITIONS", "RECORDS", "BYTES");
    for topic in answer["topics"].as_array().into_iter().flatten() {
        if topic["internal"] == true && !all {
            continue;
        }
        let partitions = partitions_of(topic);
        let sum = |of: &dyn Fn(&Value) -> i64| partitions.iter().map(of).sum::<i64>();
        let records = sum(&|p| number(p, "end_offset") - number(p, "start_offset"));
        let bytes = sum(&|p| number(p, "bytes"));
        let name = topic["name"].as_str().unwrap_or_default();
        println!("{name:<40} {:>10} {records:>14} {bytes:>14}", partitions.len());
    }
    Ok(())
}

async fn describe(name: &str, json: bool, remote: &RemoteArgs) -> Done {
    let path = format!("/api/v1/topics/{}", encoded(name));
    let topic = remote.open()?.json("GET", &path, None).await?;
    if json {
        println!("{topic}");
        return Ok(());
    }
    println!("{name}, id {}", topic["topic_id"].as_str().unwrap_or_default());
    println!("{:>9} {:>14} {:>14} {:>14}", "PARTITION", "FIRST OFFSET", "END OFFSET", "BYTES");
    for partition in partitions_of(&topic) {
        let column = |name: &str| number(partition, name);
        println!(
            "{:>9} {:>14} {:>14} {:>14}",
            column("partition"),
            column("start_offset"),
            column("end_offset"),
            column("bytes")
        );
    }
    Ok(())
}

fn partitions_of(topic: &Value) -> &[Value] {
    topic["partitions"].as_array().map_or(&[], Vec::as_slice)
}

fn number(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_default()
}
